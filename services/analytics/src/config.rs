//! The `analytics` section of the configuration.

use segue_model::FieldViolation;
use serde::{Deserialize, Serialize};

use crate::question::QueryLimits;
use crate::report::ReportLimits;
use crate::sql::SqlConfig;

/// How analytics indexes and answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Partitions of `resolved` that this process indexes; empty: all.
    pub partitions: Vec<u16>,
    /// A tenant's tail is written to files when it has so many events,
    pub flush_rows_max: usize,
    /// or takes so many bytes,
    pub flush_bytes_max: usize,
    /// or its oldest event is so old.
    pub flush_age_ms_max: u64,
    /// Memory of all tails together; beyond it the largest is written, and beyond one and a half of it reading stops.
    pub tail_bytes_max: usize,
    /// A snapshot is reused for so long, so that many queries at once do not cut the tail into many small runs.
    pub snapshot_age_ms_max: u64,
    /// How often positions are stored while nothing is written to files.
    pub checkpoint_interval_ms: u64,
    /// Memory of decoded columns.
    pub cache_bytes_max: u64,
    /// Memory of decoded columns that one query holds on to while it goes through the persons, where the cache is too small.
    pub pass_bytes_max: u64,
    /// How often files are looked through for merges.
    pub merge_interval_ms: u64,
    /// So many files of about one size and day are merged.
    pub merge_files_min: usize,
    /// A merged file has at most so many events,
    pub merge_rows_max: u64,
    /// and is made of at most so many bytes.
    pub merge_bytes_max: u64,
    /// Files of one month are merged when the month has been over for so many days.
    pub month_after_days: u32,
    /// How often files are looked through for rows of deleted persons and events that are kept no longer: unseen at once, they are
    /// gone from files after this time at most (events that are kept no longer, a day later).
    pub purge_interval_ms: u64,
    /// Files in the lake that the catalogue does not know are deleted at start when they are older than this: another process
    /// may be writing younger ones. 0 where one process alone uses the lake.
    pub sweep_age_ms_min: u64,
    /// Queries at once.
    pub queries_max: usize,
    /// Queries that wait for their turn; more are refused.
    pub queries_waiting_max: usize,
    /// How long a query waits for its turn before it is refused.
    pub query_wait_ms_max: u64,
    /// How long a query runs.
    pub query_ms_max: u64,
    /// Threads of one query; 0: one per core.
    pub query_threads: usize,
    /// Memory that one query may take for the events that it gathers.
    pub query_bytes_max: usize,
    /// Groups × periods of one event report.
    pub report_cells_max: usize,
    /// SQL statements.
    pub sql: SqlConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            partitions: Vec::new(),
            flush_rows_max: 1_000_000,
            flush_bytes_max: 256 << 20,
            flush_age_ms_max: 60_000,
            tail_bytes_max: 768 << 20,
            snapshot_age_ms_max: 20,
            checkpoint_interval_ms: 1_000,
            cache_bytes_max: 1 << 30,
            pass_bytes_max: 256 << 20,
            merge_interval_ms: 5_000,
            merge_files_min: 8,
            merge_rows_max: 64_000_000,
            merge_bytes_max: 4 << 30,
            month_after_days: 7,
            purge_interval_ms: 3_600_000,
            sweep_age_ms_min: 3_600_000,
            queries_max: 4,
            queries_waiting_max: 64,
            query_wait_ms_max: 10_000,
            query_ms_max: 60_000,
            query_threads: 0,
            query_bytes_max: 1 << 30,
            report_cells_max: 2_000_000,
            sql: SqlConfig::default(),
        }
    }
}

impl Config {
    /// What one query may take.
    pub(crate) fn query_limits(&self) -> QueryLimits {
        let defaults = QueryLimits::default();
        let threads = if self.query_threads == 0 { defaults.threads } else { self.query_threads };
        let report = ReportLimits { cells_max: self.report_cells_max, bytes_max: self.query_bytes_max, ..defaults.report };
        QueryLimits { threads, hits_bytes_max: self.query_bytes_max, report }
    }

    /// Everything that is wrong with it.
    pub fn validate(&self) -> Vec<FieldViolation> {
        let positive = [
            ("flush_rows_max", self.flush_rows_max as u64),
            ("flush_bytes_max", self.flush_bytes_max as u64),
            ("flush_age_ms_max", self.flush_age_ms_max),
            ("tail_bytes_max", self.tail_bytes_max as u64),
            ("checkpoint_interval_ms", self.checkpoint_interval_ms),
            ("merge_interval_ms", self.merge_interval_ms),
            ("merge_rows_max", self.merge_rows_max),
            ("purge_interval_ms", self.purge_interval_ms),
            ("merge_bytes_max", self.merge_bytes_max),
            ("queries_max", self.queries_max as u64),
            ("query_ms_max", self.query_ms_max),
            ("query_bytes_max", self.query_bytes_max as u64),
            ("report_cells_max", self.report_cells_max as u64),
        ];
        let mut violations: Vec<FieldViolation> = positive
            .into_iter()
            .filter(|(_, value)| *value == 0)
            .map(|(field, _)| FieldViolation::new(format!("analytics.{field}"), "must be above zero"))
            .collect();
        if self.merge_files_min < 2 {
            violations.push(FieldViolation::new("analytics.merge_files_min", "must be at least 2"));
        }
        if self.report_cells_max > 1 << 30 {
            violations.push(FieldViolation::new("analytics.report_cells_max", "must be at most 1,073,741,824"));
        }
        if self.merge_rows_max > u64::from(u32::MAX) / 2 {
            violations.push(FieldViolation::new("analytics.merge_rows_max", "must be at most 2,147,483,647"));
        }
        violations.extend(self.sql.validate());
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_faults_are_reported_at_once() {
        assert_eq!(Config::default().validate(), []);
        let faulty = Config { flush_rows_max: 0, merge_files_min: 1, ..Config::default() };
        assert_eq!(faulty.validate().len(), 2);
    }
}
