//! Quotas per tenant and process: calls per second, bytes of ingestion per second, and open streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use segue_model::{Clock, TenantId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bucket::Bucket;
use crate::config::Config;
use crate::error::AccessError;
use crate::record::TenantRecord;

/// When streams are to be tried again that found no place; others end when they end, so this is a guess.
const STREAM_DELAY: Duration = Duration::from_secs(1);

/// The quotas of all tenants. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// One entry per tenant that called: as many as there are tenants at most.
    tenants: Arc<RwLock<HashMap<TenantId, Arc<Buckets>>>>,
    clock: Arc<dyn Clock>,
    /// Places of all tenants together.
    streams: Arc<Semaphore>,
    requests_per_second: u32,
    ingest_bytes_per_second: u64,
    streams_per_tenant_max: u32,
    streams_max: u32,
}

#[derive(Debug)]
struct Buckets {
    requests: Mutex<Bucket>,
    /// Of whoever has a link: everybody may make one up, and must not use up what those with keys have.
    links: Mutex<Bucket>,
    ingest_bytes: Mutex<Bucket>,
    streams: Arc<Semaphore>,
}

/// The right to keep a stream open, until it is dropped.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    _of_tenant: OwnedSemaphorePermit,
    _of_process: OwnedSemaphorePermit,
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
            streams: Arc::new(places(config.streams_max)),
            streams_per_tenant_max: config.streams_per_tenant_max,
            streams_max: config.streams_max,
        }
    }

    pub(crate) fn of(&self, tenant: &TenantRecord) -> TenantLimits {
        let known = self.tenants.read().get(&tenant.id).cloned();
        let buckets = known.unwrap_or_else(|| {
            let new = || {
                let streams = Arc::new(places(self.streams_per_tenant_max));
                Arc::new(Buckets { requests: Mutex::default(), links: Mutex::default(), ingest_bytes: Mutex::default(), streams })
            };
            self.tenants.write().entry(tenant.id.clone()).or_insert_with(new).clone()
        });
        let or_default = |own: u64, default: u64| if own == 0 { default } else { own };
        TenantLimits {
            buckets,
            clock: self.clock.clone(),
            requests_per_second: or_default(tenant.requests_per_second.into(), self.requests_per_second.into()),
            ingest_bytes_per_second: or_default(tenant.ingest_bytes_per_second, self.ingest_bytes_per_second),
        }
    }

    /// Takes a place for a stream of the tenant whose quotas these are.
    pub(crate) fn take_stream(&self, tenant: &TenantLimits) -> Result<StreamPlace, AccessError> {
        let full = |whose, max| move |_| AccessError::TooManyStreams { whose, max, retry_after: STREAM_DELAY };
        let of_tenant = tenant.buckets.streams.clone().try_acquire_owned();
        let of_tenant = of_tenant.map_err(full("the tenant", self.streams_per_tenant_max))?;
        let of_process = self.streams.clone().try_acquire_owned().map_err(full("this process", self.streams_max))?;
        Ok(StreamPlace { _of_tenant: of_tenant, _of_process: of_process })
    }
}

fn places(count: u32) -> Semaphore {
    Semaphore::new(usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS))
}

impl TenantLimits {
    /// Takes one call, or says how long until there is one.
    pub(crate) fn take_request(&self) -> Result<(), Duration> {
        self.buckets.requests.lock().take(1, self.requests_per_second, self.clock.now_us())
    }

    /// Takes one request without a key, of which there are as many as of calls; or says how long until there is one.
    pub(crate) fn take_link(&self) -> Result<(), Duration> {
        self.buckets.links.lock().take(1, self.requests_per_second, self.clock.now_us())
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
