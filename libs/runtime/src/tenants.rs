//! The tenants' directory: every service's view of tenants and their modules, kept current by the gateway's `WatchTenants`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use segue_model::module::ModuleSet;
use segue_model::{Module, TenantId};
use segue_proto::tenancy::v1 as proto;
use segue_proto::tenancy::v1::tenancy_service_client::TenancyServiceClient;
use tokio::sync::watch;

use crate::caller::{Caller, Role};
use crate::tasks::Tasks;
use crate::transport::{MESSAGE_BYTES_MAX, PeerChannel};

/// What services need to know of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Zone of calendars and reports.
    pub time_zone: chrono_tz::Tz,
    /// ISO 4217.
    pub currency: String,
    /// What is on.
    pub modules: ModuleSet,
    /// Calls per second; 0: the default.
    pub requests_per_second: u32,
    /// Bytes per second of ingestion; 0: the default.
    pub ingest_bytes_per_second: u64,
    /// For how many days events are kept; 0: forever.
    pub event_retention_days: u32,
}

impl Tenant {
    /// A tenant with the modules on that exist for everybody, in UTC.
    pub fn new(id: TenantId, modules: ModuleSet) -> Self {
        Self {
            id,
            time_zone: chrono_tz::UTC,
            currency: "USD".to_owned(),
            modules,
            requests_per_second: 0,
            ingest_bytes_per_second: 0,
            event_retention_days: 0,
        }
    }
}

type Snapshot = HashMap<TenantId, Arc<Tenant>>;

/// The tenants as of now. Cheap to clone; reading takes no lock.
#[derive(Debug, Clone)]
pub struct TenantDirectory {
    tenants: Arc<ArcSwap<Snapshot>>,
    /// Counts changes; 0 until the first snapshot.
    version: Arc<watch::Sender<u64>>,
}

impl TenantDirectory {
    fn empty() -> Self {
        Self { tenants: Arc::new(ArcSwap::from_pointee(HashMap::new())), version: Arc::new(watch::Sender::new(0)) }
    }

    /// A directory that changes only by [`TenantDirectory::replace`].
    pub fn fixed(tenants: Vec<Tenant>) -> Self {
        let directory = Self::empty();
        directory.replace(tenants);
        directory
    }

    /// Puts other tenants in place of all.
    pub fn replace(&self, tenants: Vec<Tenant>) {
        self.tenants.store(Arc::new(tenants.into_iter().map(|tenant| (tenant.id.clone(), Arc::new(tenant))).collect()));
        self.version.send_modify(|version| *version += 1);
    }

    /// A directory that follows the gateway. While the gateway is away, the last state holds.
    pub fn watching(tenancy: PeerChannel, tasks: &Tasks) -> Self {
        let directory = Self::empty();
        let (following, stopping) = (directory.clone(), tasks.stopping());
        tasks.spawn("tenants", async move {
            let mut pause = Duration::from_millis(50);
            while !stopping.is_cancelled() {
                let followed = tokio::select! {
                    followed = following.follow(tenancy.clone()) => followed,
                    () = stopping.cancelled() => return Ok(()),
                };
                match followed {
                    Ok(()) => pause = Duration::from_millis(50),
                    Err(status) => tracing::debug!(code = ?status.code(), message = status.message(), "the gateway's tenants cannot be watched; trying again"),
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(2)),
                    () = stopping.cancelled() => {}
                }
            }
            Ok(())
        });
        directory
    }

    async fn follow(&self, tenancy: PeerChannel) -> Result<(), tonic::Status> {
        let mut request = tonic::Request::new(proto::WatchTenantsRequest {});
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        Caller { tenant: None, role: Role::Service, key: String::new(), source: String::new() }.attach(&mut headers);
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        let mut client = TenancyServiceClient::new(tenancy).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let mut changes = client.watch_tenants(request).await?.into_inner();
        while let Some(change) = changes.message().await? {
            self.apply(change);
        }
        Ok(())
    }

    fn apply(&self, change: proto::WatchTenantsResponse) {
        let mut tenants = if change.snapshot { HashMap::new() } else { (**self.tenants.load()).clone() };
        for tenant in change.tenants {
            match from_proto(&tenant) {
                Some(tenant) => {
                    tenants.insert(tenant.id.clone(), Arc::new(tenant));
                }
                None => tracing::error!(tenant = tenant.id, "the gateway sent a tenant that cannot be read; it is left out"),
            }
        }
        self.tenants.store(Arc::new(tenants));
        self.version.send_modify(|version| *version += 1);
    }

    /// The tenant with this id.
    pub fn get(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.tenants.load().get(id).cloned()
    }

    /// Whether the tenant exists and has the module on.
    pub fn is_on(&self, id: &TenantId, module: Module) -> bool {
        self.tenants.load().get(id).is_some_and(|tenant| tenant.modules.contains(module))
    }

    /// All tenants, in no order.
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        self.tenants.load().values().cloned().collect()
    }

    /// Changes whenever a tenant does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits until the tenants are known.
    pub async fn ready(&self) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.version.subscribe().wait_for(|version| *version > 0).await;
    }
}

/// Module of the contract as ours.
pub fn module_from_proto(module: proto::Module) -> Option<Module> {
    match module {
        proto::Module::Unspecified => None,
        proto::Module::Ingest => Some(Module::Ingest),
        proto::Module::Identity => Some(Module::Identity),
        proto::Module::Analytics => Some(Module::Analytics),
        proto::Module::Audience => Some(Module::Audience),
        proto::Module::Campaign => Some(Module::Campaign),
    }
}

/// Our module as the contract's.
pub fn module_to_proto(module: Module) -> proto::Module {
    match module {
        Module::Ingest => proto::Module::Ingest,
        Module::Identity => proto::Module::Identity,
        Module::Analytics => proto::Module::Analytics,
        Module::Audience => proto::Module::Audience,
        Module::Campaign => proto::Module::Campaign,
    }
}

fn from_proto(tenant: &proto::Tenant) -> Option<Tenant> {
    let limits = tenant.limits.unwrap_or_default();
    Some(Tenant {
        id: tenant.id.parse().ok()?,
        time_zone: if tenant.time_zone.is_empty() { chrono_tz::UTC } else { tenant.time_zone.parse().ok()? },
        currency: tenant.currency.clone(),
        modules: tenant.modules().filter_map(module_from_proto).collect(),
        requests_per_second: limits.requests_per_second,
        ingest_bytes_per_second: limits.ingest_bytes_per_second,
        event_retention_days: tenant.event_retention_days,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_merged_into_the_snapshot_and_announced() {
        let directory = TenantDirectory::empty();
        let mut changes = directory.changes();
        let tenant = |id: &str, modules: &[proto::Module]| proto::Tenant {
            id: id.into(),
            event_retention_days: 30,
            modules: modules.iter().map(|m| *m as i32).collect(),
            ..Default::default()
        };
        directory
            .apply(proto::WatchTenantsResponse { snapshot: true, tenants: vec![tenant("a", &[proto::Module::Ingest]), tenant("b", &[])] });
        directory.ready().await;
        directory.apply(proto::WatchTenantsResponse { snapshot: false, tenants: vec![tenant("b", &[proto::Module::Ingest])] });
        assert!(changes.has_changed().expect("the directory lives"));
        changes.mark_unchanged();
        let on = |id: &str| directory.is_on(&id.parse().expect("an id"), Module::Ingest);
        assert!(on("a") && on("b") && !on("c"));
        assert_eq!(directory.all().len(), 2);
        assert!(directory.all().iter().all(|tenant| tenant.event_retention_days == 30));
    }
}
