//! The service among real neighbours, for tests: identity and ingest in the same process, ingest away until it is let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use segue_log::Log;
use segue_model::{ManualClock, Module, SystemClock, TenantId};
use segue_proto::events::v1::{EventKind, Identifier};
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::identity::v1::{ResolveBatchRequest, Subject};
use segue_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use segue_proto::ingest::v1::{GetPipelineStatusRequest, GetPipelineStatusResponse};
use segue_runtime::transport::{Deferred, PeerChannel, deferred, for_tenant, local};
use segue_runtime::{Tasks, Tenant, TenantDirectory};
use segue_testkit::{TempLog, TempStore};

use crate::channels::Channels;
use crate::config::Config;
use crate::links::Links;
use crate::peers::Peers;
use crate::policies::Policies;
use crate::service::Service;
use crate::store::{MIGRATIONS, NAMESPACE};
use crate::templates::Templates;

pub(crate) const NOW_US: i64 = 1_748_426_400_000_000;
const LONG: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) clock: ManualClock,
    pub(crate) tasks: Tasks,
    pub(crate) shop: Tenant,
    pub(crate) rival: Tenant,
    pub(crate) identity: IdentityServiceClient<PeerChannel>,
    ingest: PeerChannel,
    door: Deferred,
    sequence: AtomicU64,
    _log: TempLog,
    _data: tempfile::TempDir,
    _place: TempStore,
}

impl World {
    pub(crate) async fn new(place: TempStore) -> Self {
        let (log_place, data, tasks) = (TempLog::embedded(), tempfile::tempdir().expect("a folder"), Tasks::new());
        let log: Log = log_place.open().await.expect("opens");
        let tenant = |id: &str| Tenant::new(id.parse().expect("an id"), Module::ALL.into_iter().collect());
        let (shop, rival) = (tenant("shop"), tenant("rival"));
        let tenants = TenantDirectory::fixed(vec![shop.clone(), rival.clone()]);
        let identity = segue_identity::start(segue_identity::Deps {
            config: segue_identity::Config::default(),
            store_url: place.url().to_owned(),
            log: log.clone(),
            clock: Arc::new(SystemClock),
            tenants: tenants.clone(),
            tasks: tasks.clone(),
        });
        let identity = local(identity.await.expect("identity starts").routes);
        let ingest = segue_ingest::start(segue_ingest::Deps {
            config: segue_ingest::Config::default(),
            store_url: place.url().to_owned(),
            log: log.clone(),
            clock: Arc::new(SystemClock),
            tenants: tenants.clone(),
            tasks: tasks.clone(),
            data_dir: data.path().to_owned(),
            identity: identity.clone(),
        });
        let ingest = local(ingest.await.expect("ingest starts").routes);
        let ((away, door), (nobody, _)) = (deferred(), deferred());
        let config = Arc::new(Config { public_url: "https://segue.example/".to_owned(), ..Config::default() });
        let db = place.open(NAMESPACE, MIGRATIONS).await.expect("opens");
        let clock = ManualClock::new(NOW_US);
        let service = Service {
            links: Links::new(config.clone(), db.clone()),
            policies: Policies::new(db.clone()),
            templates: Templates::new(config.clone(), db.clone()),
            channels: Channels::new(config.clone(), db.clone(), Arc::new(clock.clone())),
            config,
            db,
            log,
            clock: Arc::new(clock.clone()),
            tenants,
            peers: Peers { ingest: away, identity: identity.clone(), analytics: nobody.clone(), audience: nobody },
            bells: Arc::default(),
        };
        let identity = IdentityServiceClient::new(identity);
        let sequence = AtomicU64::new(1);
        Self { service, clock, tasks, shop, rival, identity, ingest, door, sequence, _log: log_place, _data: data, _place: place }
    }

    /// Ingest can be reached from now on.
    pub(crate) fn let_ingest_in(&self) {
        self.door.resolve(self.ingest.clone());
    }

    /// Persons with these user ids.
    pub(crate) async fn persons(&self, tenant: &TenantId, users: &[&str]) -> Vec<u32> {
        let subject = |user: &&str| Subject {
            identifiers: vec![Identifier { kind: "user_id".to_owned(), value: (*user).to_owned() }],
            time_us: NOW_US,
            kind: EventKind::Track.into(),
            ..Subject::default()
        };
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst);
        let request = ResolveBatchRequest { source: "test".to_owned(), sequence, subjects: users.iter().map(subject).collect() };
        let resolved = self.identity.clone().resolve_batch(for_tenant(tenant, request)).await.expect("resolved").into_inner();
        resolved.resolutions.iter().map(|resolution| resolution.person).collect()
    }

    pub(crate) async fn ingested(&self, tenant: &TenantId) -> GetPipelineStatusResponse {
        let request = for_tenant(tenant, GetPipelineStatusRequest {});
        IngestServiceClient::new(self.ingest.clone()).get_pipeline_status(request).await.expect("a status").into_inner()
    }

    pub(crate) async fn stop(self) {
        self.tasks.stop(LONG).await.expect("it stops");
    }
}

/// Waits for something that is to happen soon.
pub(crate) async fn wait(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let look = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, look).await.is_ok(), "in vain: {what}");
}
