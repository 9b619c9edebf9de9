//! The section `ingest.import` of the configuration.

use segue_model::FieldViolation;
use serde::{Deserialize, Serialize};

/// Files of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImportConfig {
    /// Largest uploaded file.
    pub file_bytes_max: u64,
    /// Most bytes that a file may have decompressed.
    pub content_bytes_max: u64,
    /// Most bytes that uploaded files may have together until they are imported; at least `file_bytes_max`.
    pub spool_bytes_max: u64,
    /// Imports that run at once in this process; more wait.
    pub running_max: u32,
    /// Rows that are accepted together.
    pub batch_rows: u32,
}

impl Default for ImportConfig {
    fn default() -> Self {
        Self { file_bytes_max: 20 << 30, content_bytes_max: 200 << 30, spool_bytes_max: 50 << 30, running_max: 2, batch_rows: 1_000 }
    }
}

impl ImportConfig {
    /// All faults.
    pub fn validate(&self) -> Vec<FieldViolation> {
        let mut faults = Vec::new();
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                faults.push(FieldViolation::new(format!("import.{field}"), format!("is {value}: use {least} to {most}")));
            }
        };
        within("file_bytes_max", self.file_bytes_max, 1 << 10, 1 << 50);
        within("content_bytes_max", self.content_bytes_max, 1 << 10, 1 << 50);
        within("spool_bytes_max", self.spool_bytes_max, self.file_bytes_max, 1 << 50);
        within("running_max", self.running_max.into(), 1, 64);
        within("batch_rows", self.batch_rows.into(), 1, 5_000);
        faults
    }
}
