//! The tenants in memory: complete, loaded before the first call, kept current by local changes at once and by looking at
//! the store's version for those of other gateways. While the store is away the last state holds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use segue_model::TenantId;
use segue_runtime::Tasks;
use segue_store::StoreError;
use tokio::sync::{Mutex, watch};

use crate::record::TenantRecord;
use crate::store::Store;

/// The tenants as of now. Cheap to clone; reading takes no lock.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    tenants: ArcSwap<HashMap<TenantId, Arc<TenantRecord>>>,
    /// Number of the last change that is in `tenants`.
    version: watch::Sender<i64>,
    /// One refresh at a time, so that an older state never replaces a newer one.
    refreshing: Mutex<()>,
}

impl Directory {
    /// Loads all tenants.
    pub(crate) async fn load(store: Store) -> Result<Self, StoreError> {
        let inner = Inner { store, tenants: ArcSwap::default(), version: watch::Sender::new(-1), refreshing: Mutex::new(()) };
        let directory = Self { inner: Arc::new(inner) };
        directory.refresh().await?;
        Ok(directory)
    }

    /// Takes over what changed in the store since the last time.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.inner.refreshing.lock().await;
        let known = *self.inner.version.borrow();
        let (version, changed) = self.inner.store.tenants_after(known).await?;
        if version == known {
            return Ok(());
        }
        if !changed.is_empty() {
            let mut tenants = (**self.inner.tenants.load()).clone();
            tenants.extend(changed.into_iter().map(|tenant| (tenant.id.clone(), Arc::new(tenant))));
            self.inner.tenants.store(Arc::new(tenants));
        }
        self.inner.version.send_replace(version);
        Ok(())
    }

    /// The tenant with this id.
    pub(crate) fn get(&self, id: &TenantId) -> Option<Arc<TenantRecord>> {
        self.inner.tenants.load().get(id).cloned()
    }

    /// The tenant, after asking the store once more if it is not known: a key of a new tenant may arrive before its tenant.
    pub(crate) async fn get_or_refresh(&self, id: &TenantId) -> Result<Option<Arc<TenantRecord>>, StoreError> {
        if let Some(tenant) = self.get(id) {
            return Ok(Some(tenant));
        }
        self.refresh().await?;
        Ok(self.get(id))
    }

    /// Tenants that changed after `version`, in the order of their changes.
    pub(crate) fn changed_after(&self, version: i64) -> Vec<Arc<TenantRecord>> {
        let tenants = self.inner.tenants.load();
        let mut changed: Vec<_> = tenants.values().filter(|tenant| tenant.version > version).cloned().collect();
        changed.sort_unstable_by_key(|tenant| tenant.version);
        changed
    }

    /// All tenants after `after`, by id.
    pub(crate) fn page(&self, after: &str, limit: usize) -> Vec<Arc<TenantRecord>> {
        let tenants = self.inner.tenants.load();
        let mut page: Vec<_> = tenants.values().filter(|tenant| tenant.id.as_str() > after).cloned().collect();
        page.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        page.truncate(limit);
        page
    }

    /// Follows the number of the last change.
    pub(crate) fn versions(&self) -> watch::Receiver<i64> {
        self.inner.version.subscribe()
    }

    /// Looks for changes of other gateways, every `period`, until the process stops.
    pub(crate) fn follow(&self, period: Duration, tasks: &Tasks) {
        let (directory, stopping) = (self.clone(), tasks.stopping());
        tasks.spawn("gateway-tenants", async move {
            let mut failing = false;
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = tokio::time::sleep(period) => {}
                }
                match directory.refresh().await {
                    Ok(()) => failing = false,
                    // Once per outage; the tenants as last seen hold meanwhile.
                    Err(error) if !failing => {
                        failing = true;
                        tracing::warn!(error = segue_runtime::status::chain(&error), "changes of tenants cannot be read");
                    }
                    Err(_) => {}
                }
            }
        });
    }
}
