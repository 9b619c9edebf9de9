//! The section `audience` of the configuration.

use segue_model::FieldViolation;
use segue_runtime::outgoing::Rules;
use serde::{Deserialize, Serialize};

/// Limits per tenant, how live membership works, and what syncs may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Audiences of one tenant that are not archived.
    pub audiences_max: u32,
    /// Segments of one tenant that are not archived.
    pub segments_max: u32,
    /// Static lists of one tenant that are not archived.
    pub lists_max: u32,
    /// Nodes of one condition, everything that it refers to put in place. Analytics takes at most 100.
    pub condition_nodes_max: u32,
    /// Levels of one condition, everything that it refers to put in place. Analytics takes at most 8.
    pub condition_depth_max: u32,
    /// Syncs of one tenant.
    pub syncs_max: u32,
    /// How membership is kept.
    pub live: LiveConfig,
    /// What syncs may reach.
    pub sync: SyncConfig,
}

/// Section `[audience.live]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveConfig {
    /// Least time from the beginning of one round of a tenant to the next: what comes in meanwhile is dealt with together.
    pub round_ms_min: u64,
    /// Events of a tenant that one round deals with at most.
    pub round_events_max: usize,
    /// Rounds at once, over all tenants; others wait their turn.
    pub rounds_max: usize,
    /// How far ahead it is known when events leave windows.
    pub horizon_ms: u64,
    /// How often bitmaps are written; a restart replays the transitions since.
    pub checkpoint_ms: u64,
    /// How often each audience is evaluated in full and compared; 0: never.
    pub audit_ms: u64,
    /// Beyond so many batches of the log behind, a tenant is evaluated in full instead of event by event.
    pub catch_up_batches_max: u64,
    /// How long the claim of a process on a tenant lasts; renewed at a third of it.
    pub lease_ms: u64,
}

/// Section `[audience.sync]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncConfig {
    /// Whether destinations may be `http://…`.
    pub allow_http: bool,
    /// Whether destinations may have addresses of private networks, of this machine, or of the link.
    pub allow_private_addresses: bool,
    /// Persons of one request.
    pub batch_persons_max: u32,
    /// How long a request may take.
    pub timeout_ms: u64,
    /// Longest pause between two attempts.
    pub retry_pause_ms_max: u64,
    /// A sync whose batch does not get through for so long is paused.
    pub give_up_hours: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            audiences_max: 1_000,
            segments_max: 5_000,
            lists_max: 1_000,
            condition_nodes_max: 100,
            condition_depth_max: 8,
            syncs_max: 100,
            live: LiveConfig::default(),
            sync: SyncConfig::default(),
        }
    }
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            round_ms_min: 100,
            round_events_max: 50_000,
            rounds_max: 2,
            horizon_ms: 600_000,
            checkpoint_ms: 30_000,
            audit_ms: 6 * 3_600_000,
            catch_up_batches_max: 20_000,
            lease_ms: 15_000,
        }
    }
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            allow_http: false,
            allow_private_addresses: false,
            batch_persons_max: 1_000,
            timeout_ms: 15_000,
            retry_pause_ms_max: 600_000,
            give_up_hours: 72,
        }
    }
}

impl SyncConfig {
    /// What destinations may be.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            allow_insecure: self.allow_http,
            allow_private: self.allow_private_addresses,
            insecure_setting: "audience.sync.allow_http",
            private_setting: "audience.sync.allow_private_addresses",
        }
    }
}

impl Config {
    /// All faults, with the path of each field inside the section.
    pub fn validate(&self) -> Vec<FieldViolation> {
        let mut faults = Vec::new();
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                faults.push(FieldViolation::new(field, format!("must be between {least} and {most}")));
            }
        };
        within("audiences_max", self.audiences_max.into(), 1, 100_000);
        within("segments_max", self.segments_max.into(), 1, 100_000);
        within("lists_max", self.lists_max.into(), 1, 100_000);
        within("condition_nodes_max", self.condition_nodes_max.into(), 1, 100);
        within("condition_depth_max", self.condition_depth_max.into(), 1, 8);
        within("syncs_max", self.syncs_max.into(), 1, 10_000);
        let live = &self.live;
        within("live.round_ms_min", live.round_ms_min, 1, 60_000);
        within("live.round_events_max", live.round_events_max as u64, 1, 10_000_000);
        within("live.rounds_max", live.rounds_max as u64, 1, 1_000);
        within("live.horizon_ms", live.horizon_ms, 1_000, 86_400_000);
        within("live.checkpoint_ms", live.checkpoint_ms, 100, 3_600_000);
        within("live.lease_ms", live.lease_ms, 1_000, 600_000);
        let sync = &self.sync;
        within("sync.batch_persons_max", sync.batch_persons_max.into(), 1, 10_000);
        within("sync.timeout_ms", sync.timeout_ms, 100, 300_000);
        within("sync.retry_pause_ms_max", sync.retry_pause_ms_max, 100, 86_400_000);
        within("sync.give_up_hours", sync.give_up_hours, 1, 8_760);
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_all_faults_are_reported_at_once() {
        assert!(Config::default().validate().is_empty());
        let live = LiveConfig { rounds_max: 0, ..LiveConfig::default() };
        let config = Config { condition_depth_max: 9, live, ..Config::default() };
        let fields: Vec<String> = config.validate().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["condition_depth_max", "live.rounds_max"]);
    }
}
