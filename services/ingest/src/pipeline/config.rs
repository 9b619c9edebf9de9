//! The section `ingest.pipeline` of the configuration.

use std::path::PathBuf;

use segue_model::FieldViolation;
use serde::{Deserialize, Serialize};

/// Resolving accepted events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineConfig {
    /// Partitions that this process may work; empty: all. Several processes share them by leases either way.
    pub partitions: Vec<u16>,
    /// Name of this process among those that share the partitions; empty: a random one. With a lasting name a process that
    /// was restarted continues at once instead of waiting for its old lease to run out.
    pub node: String,
    /// How long a process that died keeps its partitions.
    pub lease_ms: u32,
    /// Events that are worked together, as far as batches allow.
    pub group_events_max: u32,
    /// Uncompressed bytes that are worked together, as far as batches allow.
    pub group_bytes_max: u32,
    /// A MaxMind database (GeoLite2-City or alike) for country, region and city by IP; empty: none.
    pub place_database: PathBuf,
    /// Longest wait for one answer of identity.
    pub identity_timeout_ms: u32,
    /// Longest pause between attempts while identity, the log or the store is away.
    pub retry_ms_max: u32,
    /// Seen message ids.
    pub marks: MarksConfig,
}

/// Seen message ids: how long and in how much memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MarksConfig {
    /// An event sent again within so many days counts once; at least 7.
    pub days: u32,
    /// Bytes for filters, over all partitions. Beyond it the filters of the oldest marks are dropped: each new event is then looked
    /// up in those on disk, which costs some 10 µs per event and segment instead of some 20 ns.
    pub memory_bytes_max: u64,
    /// Marks of a partition that are kept in memory exactly before they are moved into a sorted segment.
    pub recent_max: u32,
    /// Segments of a size that are merged into one of the next size.
    pub merge_fan_in: u32,
    /// Bits of filter per mark; 20 give about one false alarm in ten thousand, each of which costs one look-up.
    pub filter_bits_per_mark: f64,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            partitions: Vec::new(),
            node: String::new(),
            lease_ms: 10_000,
            group_events_max: 4_000,
            group_bytes_max: 4 << 20,
            place_database: PathBuf::new(),
            identity_timeout_ms: 30_000,
            retry_ms_max: 5_000,
            marks: MarksConfig::default(),
        }
    }
}

impl Default for MarksConfig {
    fn default() -> Self {
        Self { days: 7, memory_bytes_max: 256 << 20, recent_max: 32_768, merge_fan_in: 8, filter_bits_per_mark: 20.0 }
    }
}

impl PipelineConfig {
    /// All faults.
    pub fn validate(&self) -> Vec<FieldViolation> {
        let mut faults = Vec::new();
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                faults.push(FieldViolation::new(format!("pipeline.{field}"), format!("is {value}: use {least} to {most}")));
            }
        };
        within("lease_ms", self.lease_ms.into(), 100, 600_000);
        within("group_events_max", self.group_events_max.into(), 1, 1_000_000);
        within("group_bytes_max", self.group_bytes_max.into(), 1 << 10, 16 << 20);
        within("identity_timeout_ms", self.identity_timeout_ms.into(), 10, 600_000);
        within("retry_ms_max", self.retry_ms_max.into(), 10, 60_000);
        within("marks.days", self.marks.days.into(), 7, 365);
        within("marks.recent_max", self.marks.recent_max.into(), 16, 1 << 20);
        within("marks.merge_fan_in", self.marks.merge_fan_in.into(), 2, 64);
        if !(0.0..=64.0).contains(&self.marks.filter_bits_per_mark) {
            faults.push(FieldViolation::new("pipeline.marks.filter_bits_per_mark", "use 0 to 64; 20 is a good value"));
        }
        if self.node.len() > 64 {
            faults.push(FieldViolation::new("pipeline.node", "use at most 64 characters"));
        }
        faults
    }
}
