//! The taxonomy: which events and properties a tenant has, and of which types.
//!
//! A tenant's taxonomy is read as an immutable [`Snapshot`], cached per process. Every change bumps the tenant's revision in
//! the transaction that makes it (which also makes changes of one tenant wait for each other, so limits hold and the first
//! type wins, whichever process sees a name first); a cached snapshot is compared with the revision every few seconds.
//! To add an operation: its SQL in `store/taxonomy.rs`, its work in [`definitions`].

pub mod coerce;
pub mod definitions;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwapOption;
use moka::sync::Cache;
use segue_model::catalogue::ValueType;
use segue_model::{Clock, TenantId};
use segue_store::Db;

use crate::IngestError;
use crate::config::TaxonomyConfig;
use crate::store::taxonomy as store;

pub use snapshot::{EventEntry, ITEM_PROPERTIES, Mode, PropertyEntry, Scope, Settings, Snapshot};
pub(crate) use snapshot::{type_from_name, type_from_proto, type_to_proto};

/// The taxonomies of all tenants. Cheap to clone.
#[derive(Clone)]
pub struct Taxonomies {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    refresh_us: i64,
    tenants: Cache<TenantId, Arc<Cached>>,
}

#[derive(Default)]
struct Cached {
    snapshot: ArcSwapOption<Snapshot>,
    checked_at_us: AtomicI64,
    /// Held while the store is asked or changed: one at a time per tenant and process is enough.
    busy: tokio::sync::Mutex<()>,
}

/// Names that an accepted event has and the taxonomy has not, to be registered.
#[derive(Debug, Default)]
pub struct NewNames {
    events: Vec<String>,
    properties: Vec<(Scope, String, ValueType)>,
}

impl NewNames {
    /// Adds an event.
    pub fn event(&mut self, name: &str) {
        if !self.events.iter().any(|known| known == name) {
            self.events.push(name.to_owned());
        }
    }

    /// Adds a property. The first type wins.
    pub fn property(&mut self, scope: Scope, name: &str, value_type: ValueType) {
        if !self.properties.iter().any(|(known_scope, known, _)| *known_scope == scope && known == name) {
            self.properties.push((scope, name.to_owned(), value_type));
        }
    }

    /// Whether there is nothing to register.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.properties.is_empty()
    }

    fn without_known(mut self, snapshot: &Snapshot) -> NewNames {
        self.events.retain(|name| snapshot.event(name).is_none());
        self.properties.retain(|(scope, name, _)| snapshot.property(*scope, name).is_none());
        self
    }
}

impl Taxonomies {
    /// Over ingest's store.
    pub fn new(db: Db, clock: Arc<dyn Clock>, config: TaxonomyConfig) -> Taxonomies {
        let tenants = Cache::new(u64::from(config.cached_tenants_max));
        Taxonomies { inner: Arc::new(Inner { db, clock, refresh_us: i64::from(config.refresh_ms) * 1_000, tenants }) }
    }

    /// The tenant's taxonomy, at most a few seconds old. While the store cannot be reached, the one that is cached stays in
    /// use: accepting events does not need the store.
    pub async fn snapshot(&self, tenant: &TenantId) -> Result<Arc<Snapshot>, IngestError> {
        let cached = self.cached(tenant);
        let Some(snapshot) = cached.snapshot.load_full() else {
            let _busy = cached.busy.lock().await;
            // Somebody else may have loaded it meanwhile.
            return match cached.snapshot.load_full() {
                Some(snapshot) => Ok(snapshot),
                None => self.load(tenant, &cached).await,
            };
        };
        let age_us = self.inner.clock.now_us().saturating_sub(cached.checked_at_us.load(Ordering::Relaxed));
        if (0..self.inner.refresh_us).contains(&age_us) {
            return Ok(snapshot);
        }
        // One looks; the others go on with what they have.
        let Ok(_busy) = cached.busy.try_lock() else { return Ok(snapshot) };
        match self.refresh(tenant, &cached, &snapshot).await {
            Ok(fresh) => Ok(fresh),
            Err(IngestError::Store(error)) if error.is_retryable() => {
                tracing::warn!(%tenant, error = &error as &dyn std::error::Error, "the taxonomy could not be refreshed; the cached one stays in use");
                Ok(snapshot)
            }
            Err(error) => Err(error),
        }
    }

    async fn refresh(&self, tenant: &TenantId, cached: &Cached, old: &Arc<Snapshot>) -> Result<Arc<Snapshot>, IngestError> {
        let asked_at_us = self.inner.clock.now_us();
        if store::revision(&self.inner.db, tenant).await? != old.revision() {
            return self.load(tenant, cached).await;
        }
        cached.checked_at_us.store(asked_at_us, Ordering::Relaxed);
        Ok(old.clone())
    }

    async fn load(&self, tenant: &TenantId, cached: &Cached) -> Result<Arc<Snapshot>, IngestError> {
        let asked_at_us = self.inner.clock.now_us();
        let snapshot = Arc::new(store::load(&self.inner.db, tenant).await?);
        cached.snapshot.store(Some(snapshot.clone()));
        cached.checked_at_us.store(asked_at_us, Ordering::Relaxed);
        Ok(snapshot)
    }

    /// Registers names seen for the first time, as far as the tenant's limits allow, and answers with the taxonomy that has
    /// them. Names that another process registered meanwhile keep the type they got there.
    pub async fn register(&self, tenant: &TenantId, new: NewNames) -> Result<Arc<Snapshot>, IngestError> {
        let cached = self.cached(tenant);
        let _busy = cached.busy.lock().await;
        if let Some(snapshot) = cached.snapshot.load_full() {
            let new = new.without_known(&snapshot);
            if new.is_empty() {
                return Ok(snapshot);
            }
            store::register(&self.inner.db, tenant, &new.events, &new.properties, self.inner.clock.now_us()).await?;
        } else {
            store::register(&self.inner.db, tenant, &new.events, &new.properties, self.inner.clock.now_us()).await?;
        }
        self.load(tenant, &cached).await
    }

    /// The taxonomy as the store has it now; for operations that answer with it, and after changes.
    pub(crate) async fn reload(&self, tenant: &TenantId) -> Result<Arc<Snapshot>, IngestError> {
        let cached = self.cached(tenant);
        let _busy = cached.busy.lock().await;
        self.load(tenant, &cached).await
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    pub(crate) fn now_us(&self) -> i64 {
        self.inner.clock.now_us()
    }

    fn cached(&self, tenant: &TenantId) -> Arc<Cached> {
        self.inner.tenants.get_with_by_ref(tenant, Arc::default)
    }
}
