//! [`LogConfig`]: where the log is and how much it keeps.

use std::sync::Arc;
use std::time::Duration;

use segue_model::{Clock, SystemClock};

use crate::LogError;

/// No payload is larger than this, whatever the configuration says; readers refuse to decompress beyond it.
pub(crate) const PAYLOAD_BYTES_CAP: usize = 64 << 20;
/// Highest number of partitions.
const PARTITIONS_MAX: u16 = 1024;

/// Where the log is and how much it keeps.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `embedded:<folder>` (files go to `<folder>/log`) or `nats://[user:password@]host:port[,host:port…]`.
    pub url: String,
    /// Partitions per topic. Fixed when the log is created.
    pub partitions: u16,
    /// Batches older than this are removed once every consumer has passed them.
    pub retention_age: Duration,
    /// Compressed bytes per topic, over all partitions. Beyond it the oldest batches that every consumer has passed are
    /// removed; if there are none, appends fail with [`LogError::Full`].
    pub retention_bytes: u64,
    /// Largest uncompressed payload; at most 64 MiB.
    pub payload_bytes_max: usize,
    /// How often retention runs.
    pub trim_interval: Duration,
    /// How often the positions of [`Log::hold`](crate::Log::hold) are written.
    pub hold_interval: Duration,
    /// NATS only: copies of each stream, 1 to 5.
    pub replicas: u8,
    /// NATS only: first part of every subject and stream name; lets several logs share one server.
    pub prefix: String,
    /// NATS only: how long an append waits for the server's acknowledgement.
    pub append_timeout: Duration,
    /// Where the time of appending comes from (embedded; NATS stamps by the server's clock).
    pub clock: Arc<dyn Clock>,
}

impl LogConfig {
    /// The defaults with this URL.
    pub fn new(url: impl Into<String>) -> LogConfig {
        LogConfig { url: url.into(), ..LogConfig::default() }
    }

    /// Checks every value.
    pub(crate) fn validate(&self) -> Result<(), LogError> {
        let invalid = |reason: String| Err(LogError::InvalidConfig { reason });
        if self.partitions == 0 || self.partitions > PARTITIONS_MAX {
            return invalid(format!("log.partitions is {}: use 1 to {PARTITIONS_MAX}", self.partitions));
        }
        if self.payload_bytes_max == 0 || self.payload_bytes_max > PAYLOAD_BYTES_CAP {
            return invalid(format!("log.payload_bytes_max is {}: use 1 to {PAYLOAD_BYTES_CAP}", self.payload_bytes_max));
        }
        if self.trim_interval.is_zero() || self.hold_interval.is_zero() {
            return invalid("log.trim_interval and log.hold_interval must be above zero".to_owned());
        }
        if !(1..=5).contains(&self.replicas) {
            return invalid(format!("log.replicas is {}: use 1, 3 or 5", self.replicas));
        }
        if !crate::types::is_party_name(&self.prefix) {
            return invalid(format!("log.prefix is `{}`: use letters, digits, - and _", self.prefix));
        }
        Ok(())
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            url: "embedded:data".to_owned(),
            partitions: 16,
            retention_age: Duration::from_secs(14 * 24 * 3600),
            retention_bytes: 50 << 30,
            payload_bytes_max: 16 << 20,
            trim_interval: Duration::from_secs(30),
            hold_interval: Duration::from_secs(1),
            replicas: 1,
            prefix: "segue".to_owned(),
            append_timeout: Duration::from_secs(10),
            clock: Arc::new(SystemClock),
        }
    }
}
