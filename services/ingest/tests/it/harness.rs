//! Ingest as a service in this process, called as its peers call it; events and helpers to make them.
//!
//! Tests run on a runtime of several threads: dropping the store waits for the transactions of background work, which on a
//! runtime of one thread would wait for the drop.

use std::sync::Arc;

use prost::Message;
use segue_ingest::{ACCEPTED, Config, Deps, start};
use segue_log::{Log, ReadLimits};
use segue_model::{ManualClock, TenantId};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{AcceptedBatch, AcceptedEvent, Event, EventKind, Identifier, Value};
use segue_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use segue_proto::ingest::v1::quarantine_service_client::QuarantineServiceClient;
use segue_proto::ingest::v1::taxonomy_service_client::TaxonomyServiceClient;
use segue_proto::ingest::v1::{CollectRequest, CollectResponse, EventOutcome, Outcome, ReasonCode, TrackRequest};
use segue_runtime::caller::{Caller, Role};
use segue_runtime::tasks::Tasks;
use segue_runtime::tenants::TenantDirectory;
use segue_runtime::transport::{PeerChannel, deferred, local};
use segue_testkit::{TempLog, TempStore, logs, stores};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

/// 2026-11-22T09:00:00Z.
pub const NOW_US: i64 = 1_795_338_000_000_000;
pub const SECOND_US: i64 = 1_000_000;

/// Backends of one test; the data go when it is dropped.
pub struct Backends {
    pub store: TempStore,
    pub log: TempLog,
}

/// Every store with a log beside it: both kinds of each are used, without testing every pair.
pub fn backends() -> Vec<Backends> {
    stores()
        .into_iter()
        .map(|store| {
            let log = logs().pop().expect("the embedded log is always there");
            Backends { store, log }
        })
        .collect()
}

/// A running service.
pub struct Service {
    pub ingest: IngestServiceClient<PeerChannel>,
    pub taxonomy: TaxonomyServiceClient<PeerChannel>,
    pub quarantine: QuarantineServiceClient<PeerChannel>,
    pub accept: segue_ingest::Accept,
    pub log: Log,
    pub clock: ManualClock,
    pub tasks: Tasks,
    pub tenant: TenantId,
    _data: tempfile::TempDir,
}

impl Service {
    pub async fn start(backends: &Backends) -> Service {
        let log = backends.log.open().await.expect("the log opens");
        Self::start_with(backends, log, ManualClock::new(NOW_US), Config::default()).await
    }

    pub async fn start_with(backends: &Backends, log: Log, clock: ManualClock, config: Config) -> Service {
        let tasks = Tasks::new();
        let data = tempfile::tempdir().expect("a folder");
        // Nothing answers for identity: the pipeline waits, accepting goes on.
        let (identity, _never) = deferred();
        let started = start(Deps {
            config,
            store_url: backends.store.url().to_owned(),
            log: log.clone(),
            clock: Arc::new(clock.clone()),
            tenants: TenantDirectory::fixed(Vec::new()),
            tasks: tasks.clone(),
            data_dir: data.path().to_owned(),
            identity,
        })
        .await
        .expect("ingest starts");
        let channel = local(started.routes);
        Service {
            ingest: IngestServiceClient::new(channel.clone()),
            taxonomy: TaxonomyServiceClient::new(channel.clone()),
            quarantine: QuarantineServiceClient::new(channel),
            accept: started.accept,
            log,
            clock,
            tasks,
            tenant: new_tenant(),
            _data: data,
        }
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        request_as(Role::Editor, &self.tenant, message)
    }

    pub async fn track(&mut self, events: Vec<Event>) -> Result<Vec<EventOutcome>, Status> {
        let request = self.request(TrackRequest { events });
        Ok(self.ingest.track(request).await?.into_inner().outcomes)
    }

    pub async fn track_one(&mut self, event: Event) -> EventOutcome {
        self.track(vec![event]).await.expect("an answer").remove(0)
    }

    pub async fn collect(&mut self, route: &str, body: &str) -> (CollectResponse, serde_json::Value) {
        let request = CollectRequest {
            route: route.to_owned(),
            body: body.to_owned().into(),
            ip: "203.0.113.9".to_owned(),
            user_agent: "test/1".to_owned(),
        };
        let response = self.ingest.collect(self.request(request)).await.expect("an answer").into_inner();
        let json = serde_json::from_slice(&response.body).expect("JSON");
        (response, json)
    }

    /// Everything on the `accepted` topic, partition after partition.
    pub async fn accepted(&self) -> Vec<AcceptedEvent> {
        let mut events = Vec::new();
        for partition in 0..self.log.partitions() {
            let limits = ReadLimits { wait: std::time::Duration::ZERO, batches_max: 10_000, ..ReadLimits::default() };
            for batch in self.log.read(ACCEPTED, partition, 0, limits).await.expect("the log is read") {
                let batch = AcceptedBatch::decode(batch.payload).expect("a batch");
                events.extend(batch.groups.into_iter().filter(|group| group.tenant == self.tenant.as_str()).flat_map(|group| group.events));
            }
        }
        events
    }
}

pub fn new_tenant() -> TenantId {
    segue_testkit::unique_name().replace('_', "-").parse().expect("a tenant id")
}

pub fn request_as<T>(role: Role, tenant: &TenantId, message: T) -> Request<T> {
    let caller = Caller { tenant: Some(tenant.clone()), role, key: "keys/1".to_owned(), source: "shop".to_owned() };
    let mut headers = Default::default();
    caller.attach(&mut headers);
    let mut request = Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    request
}

pub fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

pub fn int(whole: i64) -> Value {
    Value { kind: Some(Kind::IntValue(whole)) }
}

pub fn double(number: f64) -> Value {
    Value { kind: Some(Kind::DoubleValue(number)) }
}

pub fn identifier(kind: &str, value: &str) -> Identifier {
    Identifier { kind: kind.to_owned(), value: value.to_owned() }
}

/// A good event of user `u1`.
pub fn event(name: &str) -> Event {
    Event {
        kind: EventKind::Track.into(),
        name: name.to_owned(),
        time: Some(segue_ingest::accept::time::timestamp(NOW_US)),
        identifiers: vec![identifier("user_id", "u1")],
        ..Event::default()
    }
}

pub fn with(mut event: Event, properties: &[(&str, Value)]) -> Event {
    event.properties.extend(properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    event
}

/// Outcome, reason codes and fields, for comparing.
pub fn told(outcome: &EventOutcome) -> (Outcome, Vec<(ReasonCode, &str)>) {
    (outcome.outcome(), outcome.reasons.iter().map(|reason| (reason.code(), reason.field.as_str())).collect())
}
