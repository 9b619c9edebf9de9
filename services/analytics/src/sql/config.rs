//! The `analytics.sql` section of the configuration.

use segue_model::FieldViolation;
use serde::{Deserialize, Serialize};

use super::run::SqlLimits;

/// What SQL statements may take. How many wait at once, and how long, is `analytics.queries_waiting_max` and `query_wait_ms_max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqlConfig {
    /// How many run at once, besides `analytics.queries_max` other queries.
    pub queries_max: usize,
    /// Most rows of an answer; a longer one is cut there, and says so.
    pub rows_max: u32,
    /// Most bytes of an answer; a larger one is cut there, and says so.
    pub bytes_max: u64,
    /// How long a statement runs.
    pub ms_max: u64,
    /// Memory that one statement may keep for its groups, sorts and joins.
    pub memory_bytes_max: u64,
    /// Threads for all statements together; 0: one per core.
    pub threads: usize,
}

impl Default for SqlConfig {
    fn default() -> Self {
        Self { queries_max: 2, rows_max: 100_000, bytes_max: 16 << 20, ms_max: 60_000, memory_bytes_max: 512 << 20, threads: 0 }
    }
}

impl SqlConfig {
    /// Threads, with 0 resolved.
    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }

    /// The limits of a statement that asks for so many rows.
    pub(crate) fn limits(&self, rows_max: u32) -> SqlLimits {
        SqlLimits {
            rows_max: u64::from(rows_max.min(self.rows_max)),
            bytes_max: self.bytes_max,
            ms_max: self.ms_max,
            memory_bytes_max: self.memory_bytes_max,
            partitions: self.threads(),
        }
    }

    /// Everything that is wrong with it.
    pub(crate) fn validate(&self) -> Vec<FieldViolation> {
        // An answer has to fit into a message, whose encoding adds to each value.
        const BYTES_MAX: u64 = 32 << 20;
        let positive = [
            ("queries_max", self.queries_max as u64),
            ("rows_max", u64::from(self.rows_max)),
            ("bytes_max", self.bytes_max),
            ("ms_max", self.ms_max),
            ("memory_bytes_max", self.memory_bytes_max),
        ];
        let mut violations: Vec<FieldViolation> = positive
            .into_iter()
            .filter(|(_, value)| *value == 0)
            .map(|(field, _)| FieldViolation::new(format!("analytics.sql.{field}"), "must be above zero"))
            .collect();
        if self.bytes_max > BYTES_MAX {
            violations.push(FieldViolation::new("analytics.sql.bytes_max", format!("must be at most {BYTES_MAX}")));
        }
        violations
    }
}
