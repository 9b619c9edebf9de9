//! The section `identity` of the configuration.

use std::collections::BTreeMap;

use segue_model::FieldViolation;
use serde::{Deserialize, Serialize};

/// How identity resolves and what it may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many identifiers of one kind a person may have, for kinds that `identifiers_per_kind_max_of` does not name.
    pub identifiers_per_kind_max: u32,
    /// The same for single kinds. A person has one user id unless an alias or a forced merge gives it more.
    pub identifiers_per_kind_max_of: BTreeMap<String, u32>,
    /// Values that name nobody, besides the empty text and texts of zeros only; case does not matter.
    pub blocked_values: Vec<String>,
    /// When a person was last seen is stored to this precision, so that not every event writes.
    pub last_seen_precision_ms: u64,
    /// Memory for identifiers and persons seen lately, over all tenants.
    pub cache_bytes_max: u64,
    /// Calls that may wait to be resolved; more are told to come back later.
    pub queue_calls_max: usize,
    /// Events resolved in one transaction, over all callers (one call is never split).
    pub transaction_events_max: usize,
    /// Subjects of one call.
    pub subjects_max: usize,
    /// Size of one message.
    pub message_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            identifiers_per_kind_max: 5,
            identifiers_per_kind_max_of: BTreeMap::from([("user_id".to_owned(), 1)]),
            blocked_values: ["0000", "null", "-1", "anonymous"].map(str::to_owned).to_vec(),
            last_seen_precision_ms: 600_000,
            cache_bytes_max: 128 << 20,
            queue_calls_max: 1_024,
            transaction_events_max: 20_000,
            subjects_max: 20_000,
            message_bytes_max: 64 << 20,
        }
    }
}

impl Config {
    /// All faults, with the path of each field inside the section.
    pub fn validate(&self) -> Vec<FieldViolation> {
        let mut faults = Vec::new();
        let mut at_least_one = |field: &str, value: u64| {
            if value == 0 {
                faults.push(FieldViolation::new(field, "must be at least 1"));
            }
        };
        at_least_one("identifiers_per_kind_max", u64::from(self.identifiers_per_kind_max));
        at_least_one("queue_calls_max", self.queue_calls_max as u64);
        at_least_one("transaction_events_max", self.transaction_events_max as u64);
        at_least_one("subjects_max", self.subjects_max as u64);
        at_least_one("message_bytes_max", self.message_bytes_max as u64);
        for (kind, limit) in &self.identifiers_per_kind_max_of {
            at_least_one(&format!("identifiers_per_kind_max_of.{kind}"), u64::from(*limit));
        }
        if self.cache_bytes_max < 1 << 20 {
            faults.push(FieldViolation::new("cache_bytes_max", "must be at least 1048576 (1 MiB)"));
        }
        if self.last_seen_precision_ms > 86_400_000 {
            faults.push(FieldViolation::new("last_seen_precision_ms", "must be at most 86400000 (a day)"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_all_faults_are_reported_at_once() {
        assert!(Config::default().validate().is_empty());
        let config = Config {
            identifiers_per_kind_max: 0,
            identifiers_per_kind_max_of: BTreeMap::from([("email".to_owned(), 0)]),
            cache_bytes_max: 0,
            ..Config::default()
        };
        let fields: Vec<String> = config.validate().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["identifiers_per_kind_max", "identifiers_per_kind_max_of.email", "cache_bytes_max"]);
    }
}
