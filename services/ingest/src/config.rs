//! The section `ingest` of the configuration. Every limit has its unit in its name.

use segue_model::FieldViolation;
use serde::{Deserialize, Serialize};

use crate::import::ImportConfig;
use crate::pipeline::PipelineConfig;

/// Everything that can be set about taking events in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Accepting events.
    pub accept: AcceptConfig,
    /// The taxonomy's cache.
    pub taxonomy: TaxonomyConfig,
    /// Events set aside.
    pub quarantine: QuarantineConfig,
    /// Resolving accepted events.
    pub pipeline: PipelineConfig,
    /// Files of events.
    pub import: ImportConfig,
}

impl Config {
    /// All faults at once, with paths relative to this section.
    pub fn validate(&self) -> Vec<FieldViolation> {
        let mut faults = Vec::new();
        self.accept.validate(&mut faults);
        self.taxonomy.validate(&mut faults);
        self.quarantine.validate(&mut faults);
        faults.extend(self.pipeline.validate());
        faults.extend(self.import.validate());
        faults
    }
}

/// Accepting events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcceptConfig {
    /// Bytes of events that wait to be written, over all callers; beyond it calls are answered RESOURCE_EXHAUSTED and
    /// streams are not read.
    pub pending_bytes_max: u32,
    /// Uncompressed bytes of one batch on the log. On NATS the compressed batch must fit the server's `max_payload`.
    pub batch_bytes_max: u32,
    /// Batches of one stream that are under way at once.
    pub stream_batches_in_flight_max: u32,
    /// What a caller is told to wait when too much is waiting.
    pub busy_retry_ms: u32,
}

impl Default for AcceptConfig {
    fn default() -> Self {
        Self { pending_bytes_max: 64 << 20, batch_bytes_max: 4 << 20, stream_batches_in_flight_max: 8, busy_retry_ms: 500 }
    }
}

impl AcceptConfig {
    fn validate(&self, faults: &mut Vec<FieldViolation>) {
        within(faults, "accept.pending_bytes_max", self.pending_bytes_max, 16 << 20, 1 << 30);
        within(faults, "accept.batch_bytes_max", self.batch_bytes_max, 64 << 10, 16 << 20);
        within(faults, "accept.stream_batches_in_flight_max", self.stream_batches_in_flight_max, 1, 256);
        within(faults, "accept.busy_retry_ms", self.busy_retry_ms, 1, 60_000);
    }
}

/// The taxonomy's cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaxonomyConfig {
    /// How old a tenant's cached taxonomy may get before changes of other processes are looked for.
    pub refresh_ms: u32,
    /// Tenants whose taxonomy is cached.
    pub cached_tenants_max: u32,
}

impl Default for TaxonomyConfig {
    fn default() -> Self {
        Self { refresh_ms: 3_000, cached_tenants_max: 10_000 }
    }
}

impl TaxonomyConfig {
    fn validate(&self, faults: &mut Vec<FieldViolation>) {
        within(faults, "taxonomy.refresh_ms", self.refresh_ms, 0, 5_000);
        within(faults, "taxonomy.cached_tenants_max", self.cached_tenants_max, 1, 1_000_000);
    }
}

/// Events set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuarantineConfig {
    /// Entries per tenant; faulty events beyond it are rejected, with a reason that says so, and not kept.
    pub entries_max: u32,
    /// Correction rules per tenant.
    pub rules_max: u32,
}

impl Default for QuarantineConfig {
    fn default() -> Self {
        Self { entries_max: 1_000_000, rules_max: 100 }
    }
}

impl QuarantineConfig {
    fn validate(&self, faults: &mut Vec<FieldViolation>) {
        within(faults, "quarantine.entries_max", self.entries_max, 1, 100_000_000);
        within(faults, "quarantine.rules_max", self.rules_max, 1, 1_000);
    }
}

fn within(faults: &mut Vec<FieldViolation>, field: &str, value: u32, least: u32, most: u32) {
    if !(least..=most).contains(&value) {
        faults.push(FieldViolation::new(field, format!("is {value}: use {least} to {most}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_all_faults_are_told_at_once() {
        assert_eq!(Config::default().validate(), []);
        let config = Config {
            accept: AcceptConfig { batch_bytes_max: 1, ..AcceptConfig::default() },
            quarantine: QuarantineConfig { rules_max: 0, ..QuarantineConfig::default() },
            ..Config::default()
        };
        let fields: Vec<String> = config.validate().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["accept.batch_bytes_max", "quarantine.rules_max"]);
    }
}
