//! The gateway's section of the configuration.

use segue_model::FieldViolation;
use serde::{Deserialize, Serialize};

/// `[gateway]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// An operator key that holds beside the stored ones, at least 32 characters. Empty: the one made at the first start.
    pub operator_key: String,
    /// How many proxies that append to `X-Forwarded-For` stand in front. 0: the header is ignored.
    pub trusted_proxies: u32,
    /// How long a checked key holds before it is looked up again; a revocation by another process takes this long. At most 4,500: with the half second between looks at open streams, five seconds everywhere.
    pub key_cache_ms: u64,
    /// Most keys kept in memory.
    pub key_cache_entries_max: u64,
    /// Most unknown keys remembered, so that a client with a wrong key does not ask the store each time.
    pub unknown_key_cache_entries_max: u64,
    /// Most time for looking up a key before the call answers that keys cannot be checked.
    pub key_lookup_timeout_ms: u64,
    /// How often changes made by other gateways are looked for. At most 2,000.
    pub tenants_poll_ms: u64,
    /// Calls per second and tenant, where the tenant's own limit is 0.
    pub requests_per_second: u32,
    /// Bytes of ingestion per second and tenant (before decompression), where the tenant's own limit is 0.
    pub ingest_bytes_per_second: u64,
    /// Longest that a gRPC call without streams may take; an earlier deadline of the client holds.
    pub call_timeout_ms: u64,
    /// Most streams open at once per tenant in this process.
    pub streams_per_tenant_max: u32,
    /// Most streams open at once in this process.
    pub streams_max: u32,
    /// How long a client may send nothing on a stream of requests before it is ended.
    pub stream_idle_ms: u64,
    /// HTTP API: most bytes of a body as sent.
    pub http_body_bytes_max: u64,
    /// HTTP API: most bytes of a body after decompression.
    pub http_decompressed_bytes_max: u64,
    /// HTTP API: most time for a client to send its body.
    pub http_body_timeout_ms: u64,
    /// HTTP API: most time for ingest to make a batch durable.
    pub http_collect_timeout_ms: u64,
    /// HTTP API: most requests under way at once; more are answered 429.
    pub http_requests_max: u32,
    /// HTTP API: most bytes of bodies in memory at once, over all requests; beyond it they are answered 429.
    pub http_buffered_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            operator_key: String::new(),
            trusted_proxies: 0,
            key_cache_ms: 4_000,
            key_cache_entries_max: 100_000,
            unknown_key_cache_entries_max: 10_000,
            key_lookup_timeout_ms: 3_000,
            tenants_poll_ms: 1_000,
            requests_per_second: 10_000,
            ingest_bytes_per_second: 256 << 20,
            call_timeout_ms: 120_000,
            streams_per_tenant_max: 200,
            streams_max: 5_000,
            stream_idle_ms: 300_000,
            // The published SDKs keep batches within 500 KB.
            http_body_bytes_max: 512_000,
            http_decompressed_bytes_max: 512_000,
            http_body_timeout_ms: 30_000,
            http_collect_timeout_ms: 20_000,
            http_requests_max: 2_048,
            http_buffered_bytes_max: 128 << 20,
        }
    }
}

impl Config {
    /// Faults that types cannot rule out.
    pub fn validate(&self) -> Vec<FieldViolation> {
        let mut faults = Vec::new();
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                faults.push(FieldViolation::new(field, format!("is {value}; use {least} to {most}")));
            }
        };
        within("key_cache_ms", self.key_cache_ms, 1, 4_500);
        within("key_cache_entries_max", self.key_cache_entries_max, 1, 10_000_000);
        within("unknown_key_cache_entries_max", self.unknown_key_cache_entries_max, 1, 10_000_000);
        within("key_lookup_timeout_ms", self.key_lookup_timeout_ms, 1, 60_000);
        within("tenants_poll_ms", self.tenants_poll_ms, 10, 2_000);
        within("requests_per_second", self.requests_per_second.into(), 1, u32::MAX.into());
        within("ingest_bytes_per_second", self.ingest_bytes_per_second, 1, INGEST_BYTES_PER_SECOND_MAX);
        within("call_timeout_ms", self.call_timeout_ms, 1, 3_600_000);
        within("streams_per_tenant_max", self.streams_per_tenant_max.into(), 1, 1_000_000);
        within("streams_max", self.streams_max.into(), 1, 1_000_000);
        within("stream_idle_ms", self.stream_idle_ms, 1, 86_400_000);
        within("http_body_bytes_max", self.http_body_bytes_max, 1_024, 64 << 20);
        within("http_decompressed_bytes_max", self.http_decompressed_bytes_max, 1_024, 64 << 20);
        within("http_body_timeout_ms", self.http_body_timeout_ms, 1, 600_000);
        within("http_collect_timeout_ms", self.http_collect_timeout_ms, 1, 600_000);
        within("http_requests_max", self.http_requests_max.into(), 1, 1_000_000);
        // One body of the largest size must fit.
        let body_bytes_max = self.http_body_bytes_max.max(self.http_decompressed_bytes_max);
        within("http_buffered_bytes_max", self.http_buffered_bytes_max, body_bytes_max, 1 << 40);
        within("trusted_proxies", self.trusted_proxies.into(), 0, 16);
        if !self.operator_key.is_empty() && self.operator_key.len() < 32 {
            faults.push(FieldViolation::new("operator_key", "is shorter than 32 characters; use a long random one"));
        }
        if !self.operator_key.bytes().all(|b| b.is_ascii_graphic()) {
            faults.push(FieldViolation::new("operator_key", "has characters that cannot stand in a header; use letters and digits"));
        }
        faults
    }
}

/// Largest quota that can be asked for: a terabyte per second means none.
pub(crate) const INGEST_BYTES_PER_SECOND_MAX: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_faults_are_all_named() {
        assert_eq!(Config::default().validate(), Vec::new());
        let faulty = Config { key_cache_ms: 6_000, tenants_poll_ms: 0, operator_key: "short and spaced".into(), ..Config::default() };
        let fields: Vec<_> = faulty.validate().into_iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["key_cache_ms", "tenants_poll_ms", "operator_key", "operator_key"]);
    }
}
