//! Quotas per tenant and process: calls per second, and bytes of ingestion per second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use segue_model::{Clock, TenantId};

use crate::bucket::Bucket;
use crate::config::Config;
use crate::record::TenantRecord;

/// The quotas of all tenants. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// One entry per tenant that called: as many as there are tenants at most.
    tenants: Arc<RwLock<HashMap<TenantId, Arc<Buckets>>>>,
    clock: Arc<dyn Clock>,
    requests_per_second: u32,
    ingest_bytes_per_second: u64,
}

#[derive(Debug, Default)]
struct Buckets {
    requests: Mutex<Bucket>,
    ingest_bytes: Mutex<Bucket>,
}

/// One tenant's quotas, as of one call.
#[derive(Debug, Clone)]
pub(crate) struct TenantLimits {
    buckets: Arc<Buckets>,
    clock: Arc<dyn Clock>,
    requests_per_second: u64,
    ingest_bytes_per_second: u64,
}

impl Limits {
    pub(crate) fn new(config: &Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            tenants: Arc::default(),
            clock,
            requests_per_second: config.requests_per_second,
            ingest_bytes_per_second: config.ingest_bytes_per_second,
        }
    }

    pub(crate) fn of(&self, tenant: &TenantRecord) -> TenantLimits {
        let known = self.tenants.read().get(&tenant.id).cloned();
        let buckets = known.unwrap_or_else(|| self.tenants.write().entry(tenant.id.clone()).or_default().clone());
        let or_default = |own: u64, default: u64| if own == 0 { default } else { own };
        TenantLimits {
            buckets,
            clock: self.clock.clone(),
            requests_per_second: or_default(tenant.requests_per_second.into(), self.requests_per_second.into()),
            ingest_bytes_per_second: or_default(tenant.ingest_bytes_per_second, self.ingest_bytes_per_second),
        }
    }
}

impl TenantLimits {
    /// Takes one call, or says how long until there is one.
    pub(crate) fn take_request(&self) -> Result<(), Duration> {
        self.buckets.requests.lock().take(1, self.requests_per_second, self.clock.now_us())
    }

    /// Takes bytes of ingestion if there is any credit; it may end in debt.
    pub(crate) fn take_bytes(&self, bytes: u64) -> Result<(), Duration> {
        self.buckets.ingest_bytes.lock().take(bytes, self.ingest_bytes_per_second, self.clock.now_us())
    }

    /// Takes bytes that have been read already.
    pub(crate) fn charge_bytes(&self, bytes: u64) {
        self.buckets.ingest_bytes.lock().charge(bytes, self.ingest_bytes_per_second, self.clock.now_us());
    }
}
