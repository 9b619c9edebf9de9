//! The pipeline: exactly once whatever dies when, duplicates, modules, leases, and what a resolved event looks like.
//!
//! Identity is played by [`Registry`], which holds every repeated question against the first one: a worker that asks
//! something else under the same sequence fails the test.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use prost::Message;
use segue_ingest::accept::partition_of;
use segue_ingest::accept::time::timestamp;
use segue_ingest::config::TaxonomyConfig;
use segue_ingest::pipeline::{Faults, MarksConfig, Pipeline, PipelineConfig, PipelineDeps, Point};
use segue_ingest::taxonomy::Taxonomies;
use segue_ingest::{ACCEPTED, RESOLVED, store};
use segue_log::{Log, NewBatch, ReadLimits};
use segue_model::module::ModuleSet;
use segue_model::{Module, SystemClock, TenantId, dimension};
use segue_proto::events::v1::{
    AcceptedBatch, AcceptedEvent, AcceptedGroup, Context, Event, EventKind, ResolvedBatch, ResolvedEvent, Value,
};
use segue_proto::identity::v1::identity_service_server::{IdentityService, IdentityServiceServer};
use segue_proto::identity::v1::*;
use segue_runtime::caller::Caller;
use segue_runtime::tasks::Tasks;
use segue_runtime::tenants::{Tenant, TenantDirectory};
use segue_runtime::transport::{PeerChannel, local};
use segue_store::Db;
use tonic::{Request, Response, Status};
use tonic_types::StatusExt;

use crate::harness::*;

const LONG: Duration = Duration::from_secs(60);

/// Persons by their first identifier, and the questions that were answered.
#[derive(Default)]
struct Registry {
    persons: HashMap<(String, String), u32>,
    answered: HashMap<(String, String), (u64, ResolveBatchRequest, ResolveBatchResponse)>,
    calls: usize,
}

/// Stands for identity.
#[derive(Clone)]
struct Identity {
    registry: Arc<Mutex<Registry>>,
    is_down: Arc<AtomicBool>,
    /// Questions, also those that were not answered.
    asked: Arc<AtomicUsize>,
    /// Keeps no questions; for measuring.
    forgets: Arc<AtomicBool>,
    tenants: TenantDirectory,
}

impl Identity {
    fn answer(&self, tenant: &TenantId, request: ResolveBatchRequest) -> Result<ResolveBatchResponse, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            return Err(Status::unavailable("down"));
        }
        if !self.tenants.is_on(tenant, Module::Identity) {
            let details = tonic_types::ErrorDetails::with_error_info("MODULE_DISABLED", "segue", HashMap::new());
            return Err(Status::with_error_details(tonic::Code::FailedPrecondition, "off", details));
        }
        let mut registry = self.registry.lock();
        registry.calls += 1;
        let key = (tenant.to_string(), request.source.clone());
        match registry.answered.get(&key) {
            Some((sequence, asked, answer)) if *sequence == request.sequence => {
                assert_eq!(*asked, request, "a repeated question differs");
                return Ok(answer.clone());
            }
            Some((sequence, ..)) if *sequence > request.sequence => return Err(Status::failed_precondition("a later batch was resolved")),
            Some(_) | None => {}
        }
        let mut answer = ResolveBatchResponse::default();
        for subject in &request.subjects {
            let Some(first) = subject.identifiers.first().filter(|first| first.value != "nobody") else {
                answer.resolutions.push(Resolution::default());
                continue;
            };
            let next = registry.persons.len() as u32 + 1;
            let mut is_new = false;
            let person = *registry.persons.entry((tenant.to_string(), first.value.clone())).or_insert_with(|| {
                is_new = true;
                next
            });
            answer.resolutions.push(Resolution { person, device: 0, first: is_new });
            let traits = [("df_gender", text("F")), ("df_birth", text("1990-01-01"))].map(|(name, value)| (name.to_owned(), value));
            answer.profiles.push(PersonProfile { person, traits: traits.into() });
        }
        if !self.forgets.load(Ordering::SeqCst) {
            registry.answered.insert(key, (request.sequence, request, answer.clone()));
        }
        Ok(answer)
    }
}

impl Identity {
    /// A later batch of the partition was answered for.
    fn answered_later(&self, tenant: &TenantId, partition: u16) {
        let source = format!("ingest.accepted.{partition}");
        let answer = (99, ResolveBatchRequest::default(), ResolveBatchResponse::default());
        self.registry.lock().answered.insert((tenant.to_string(), source), answer);
    }
}

#[tonic::async_trait]
impl IdentityService for Identity {
    async fn resolve_batch(&self, request: Request<ResolveBatchRequest>) -> Result<Response<ResolveBatchResponse>, Status> {
        let caller = Caller::of(&request).expect("a caller");
        let tenant = caller.tenant().expect("a tenant").clone();
        self.answer(&tenant, request.into_inner()).map(Response::new)
    }
    async fn get_person(&self, _: Request<GetPersonRequest>) -> Result<Response<Person>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_account(&self, _: Request<GetAccountRequest>) -> Result<Response<Account>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn batch_get_persons(&self, _: Request<BatchGetPersonsRequest>) -> Result<Response<BatchGetPersonsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn lookup_identifiers(&self, _: Request<LookupIdentifiersRequest>) -> Result<Response<LookupIdentifiersResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn select_identified(&self, _: Request<SelectIdentifiedRequest>) -> Result<Response<SelectIdentifiedResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn select_survivors(&self, _: Request<SelectSurvivorsRequest>) -> Result<Response<SelectSurvivorsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_persons(&self, _: Request<ListPersonsRequest>) -> Result<Response<ListPersonsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_link_records(&self, _: Request<ListLinkRecordsRequest>) -> Result<Response<ListLinkRecordsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn merge_persons(&self, _: Request<MergePersonsRequest>) -> Result<Response<MergePersonsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn set_consents(&self, _: Request<SetConsentsRequest>) -> Result<Response<SetConsentsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn list_consents(&self, _: Request<ListConsentsRequest>) -> Result<Response<ListConsentsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn unlink_identifier(&self, _: Request<UnlinkIdentifierRequest>) -> Result<Response<UnlinkIdentifierResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_identity_status(&self, _: Request<GetIdentityStatusRequest>) -> Result<Response<GetIdentityStatusResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// What outlives a process.
struct World {
    backends: Backends,
    db: Db,
    log: Log,
    tenants: TenantDirectory,
    identity: Identity,
    config: PipelineConfig,
}

/// One process's pipeline.
struct Process {
    pipeline: Pipeline,
    tasks: Tasks,
}

impl World {
    async fn new(backends: Backends) -> World {
        let db = backends.store.open("ingest", store::MIGRATIONS).await.expect("the store opens");
        let log = backends.log.open().await.expect("the log opens");
        let tenants = TenantDirectory::fixed(Vec::new());
        let identity = Identity {
            registry: Arc::default(),
            is_down: Arc::default(),
            asked: Arc::default(),
            forgets: Arc::default(),
            tenants: tenants.clone(),
        };
        let marks = MarksConfig { recent_max: 16, merge_fan_in: 2, ..MarksConfig::default() };
        let config = PipelineConfig {
            node: "one".into(),
            lease_ms: 500,
            retry_ms_max: 50,
            group_events_max: 20,
            marks,
            ..PipelineConfig::default()
        };
        World { backends, db, log, tenants, identity, config }
    }

    /// A tenant with or without identity; the others stay.
    fn switch(&self, tenant: &TenantId, on: bool) {
        let modules: ModuleSet =
            if on { [Module::Ingest, Module::Identity].into_iter().collect() } else { [Module::Ingest].into_iter().collect() };
        let mut tenants: Vec<Tenant> =
            self.tenants.all().iter().map(|tenant| (**tenant).clone()).filter(|other| other.id != *tenant).collect();
        tenants.push(Tenant::new(tenant.clone(), modules));
        self.tenants.replace(tenants);
    }

    fn tenant(&self) -> TenantId {
        let tenant = new_tenant();
        self.switch(&tenant, true);
        tenant
    }

    async fn start(&self) -> Process {
        self.start_with(self.config.clone(), Faults::default()).await
    }

    async fn start_with(&self, config: PipelineConfig, faults: Faults) -> Process {
        let tasks = Tasks::new();
        let clock = Arc::new(SystemClock);
        let identity: PeerChannel = local(tonic::service::Routes::new(IdentityServiceServer::new(self.identity.clone())));
        let deps = PipelineDeps {
            config,
            db: self.db.clone(),
            log: self.log.clone(),
            clock: clock.clone(),
            tenants: self.tenants.clone(),
            tasks: tasks.clone(),
            taxonomies: Taxonomies::new(self.db.clone(), clock, TaxonomyConfig::default()),
            identity,
        };
        Process { pipeline: Pipeline::start_with_faults(deps, faults).await.expect("the pipeline starts"), tasks }
    }

    /// Appends one batch per partition that the events fall into.
    async fn append(&self, events: Vec<(TenantId, AcceptedEvent)>) {
        let mut batches: BTreeMap<u16, AcceptedBatch> = BTreeMap::new();
        for (tenant, accepted) in events {
            let partition = partition_of(&tenant, accepted.event.as_ref().expect("an event"), self.log.partitions());
            let groups = &mut batches.entry(partition).or_default().groups;
            match groups.iter_mut().find(|group| group.tenant == tenant.as_str()) {
                Some(group) => group.events.push(accepted),
                None => groups.push(AcceptedGroup { tenant: tenant.to_string(), events: vec![accepted] }),
            }
        }
        for (partition, batch) in batches {
            let events = batch.groups.iter().map(|group| group.events.len() as u32).sum();
            let batch = NewBatch { payload: batch.encode_to_vec().into(), events, ..NewBatch::default() };
            self.log.append(ACCEPTED, partition, batch).await.expect("appended");
        }
    }

    /// Waits until everything accepted is worked.
    async fn settle(&self, process: &Process) {
        wait("everything is resolved", async || {
            let status = process.pipeline.status(&new_tenant()).await.expect("a status");
            status.partitions.iter().all(|partition| partition.accepted_position == partition.resolved_position)
        })
        .await;
    }

    /// Every resolved event: of each partition in order.
    async fn resolved(&self) -> Vec<(String, ResolvedEvent)> {
        let mut events = Vec::new();
        for partition in 0..self.log.partitions() {
            let limits = ReadLimits { wait: Duration::ZERO, batches_max: 10_000, bytes_max: 256 << 20 };
            for batch in self.log.read(RESOLVED, partition, 0, limits).await.expect("read") {
                for group in ResolvedBatch::decode(batch.payload).expect("a batch").groups {
                    events.extend(group.events.into_iter().map(|event| (group.tenant.clone(), event)));
                }
            }
        }
        events
    }

    /// Holds what was resolved of a tenant against what should have been: each once, in order per person.
    async fn assert_resolved(&self, tenant: &TenantId, expected: &[String]) {
        let mut ids = Vec::new();
        let mut last: HashMap<u32, String> = HashMap::new();
        for (_, event) in self.resolved().await.into_iter().filter(|(of, _)| of == tenant.as_str()) {
            if let Some(before) = last.insert(event.person, event.message_id.clone()) {
                assert!(before < event.message_id, "{} came after {before}", event.message_id);
            }
            ids.push(event.message_id);
        }
        ids.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(ids, expected);
    }
}

impl Process {
    async fn stop(self) {
        self.tasks.stop(LONG).await.expect("it stops");
    }

    async fn fail(&self) -> String {
        tokio::time::timeout(LONG, self.tasks.failed()).await.expect("it fails in time").to_string()
    }
}

async fn wait(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let look = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, look).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

fn accepted(id: &str, who: &str) -> AcceptedEvent {
    let event = Event { message_id: id.to_owned(), source: "s".into(), identifiers: vec![identifier("user_id", who)], ..event("Looked") };
    AcceptedEvent { event: Some(event), received_at_us: NOW_US, ..AcceptedEvent::default() }
}

/// So many batches of a few events of a few users each, every third event sent before.
fn batches(tenant: &TenantId, count: usize) -> (Vec<Vec<(TenantId, AcceptedEvent)>>, Vec<String>) {
    let (mut batches, mut ids) = (Vec::new(), Vec::new());
    for batch in 0..count {
        let mut events = Vec::new();
        for n in 0..7 {
            let (id, who) = (format!("{batch:03}-{n}"), format!("u{n}"));
            events.push((tenant.clone(), accepted(&id, &who)));
            if n % 3 == 0 && batch > 0 {
                let again = batch / 2;
                events.push((tenant.clone(), accepted(&format!("{again:03}-{n}"), &who)));
            }
            ids.push(id);
        }
        batches.push(events);
    }
    (batches, ids)
}

/// Fails the `skip`-th time that the point is reached.
fn fault(point: Point, in_catch_up: bool, skip: usize) -> Faults {
    let count = AtomicUsize::new(0);
    Faults::new(move |_, at, catch_up| at == point && catch_up == in_catch_up && count.fetch_add(1, Ordering::SeqCst) == skip)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_between_any_two_steps_resolves_everything_once() {
    for backends in backends() {
        let world = World::new(backends).await;
        let tenant = world.tenant();
        let (batches, ids) = batches(&tenant, 60);
        for batch in batches {
            world.append(batch).await;
        }
        let mut died = HashSet::new();
        for (n, point) in Point::ALL.into_iter().cycle().take(24).enumerate() {
            let process = world.start_with(world.config.clone(), fault(point, false, n % 3)).await;
            tokio::select! {
                failure = process.fail() => {
                    assert!(failure.contains("injected"), "{failure}");
                    died.insert(point);
                }
                () = world.settle(&process) => {}
            }
            process.stop().await;
        }
        assert_eq!(died.len(), Point::ALL.len(), "it died at every step");
        let process = world.start().await;
        world.settle(&process).await;
        world.assert_resolved(&tenant, &ids).await;
        let status = process.pipeline.status(&tenant).await.expect("a status");
        assert_eq!((status.resolved, status.duplicates), (ids.len() as u64, 59 * 3));
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_sent_again_counts_once_per_tenant_and_source() {
    for backends in backends() {
        let world = World::new(backends).await;
        let (one, other) = (world.tenant(), world.tenant());
        let from = |source: &str| {
            let mut accepted = accepted("1", "u");
            accepted.event.as_mut().expect("an event").source = source.to_owned();
            accepted
        };
        let process = world.start().await;
        world.append(vec![(one.clone(), from("a")), (one.clone(), from("a")), (one.clone(), from("b"))]).await;
        world.append(vec![(other.clone(), from("a")), (one.clone(), from("a"))]).await;
        world.settle(&process).await;
        process.stop().await;
        let process = world.start().await;
        world.append(vec![(one.clone(), from("b")), (other.clone(), from("a"))]).await;
        world.settle(&process).await;
        let count = async |tenant: &TenantId| {
            let status = process.pipeline.status(tenant).await.expect("a status");
            (status.resolved, status.duplicates)
        };
        assert_eq!((count(&one).await, count(&other).await), ((2, 3), (1, 1)));
        assert_eq!(world.resolved().await.len(), 3);
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_identity_is_away_events_wait_and_nothing_is_skipped() {
    let world = World::new(backends().remove(0)).await;
    let tenant = world.tenant();
    world.identity.is_down.store(true, Ordering::SeqCst);
    let process = world.start().await;
    let (batches, ids) = batches(&tenant, 10);
    for batch in batches {
        world.append(batch).await;
    }
    tokio::time::timeout(Duration::from_millis(300), world.settle(&process)).await.expect_err("nothing can be resolved");
    assert!(world.resolved().await.is_empty());
    world.identity.is_down.store(false, Ordering::SeqCst);
    world.settle(&process).await;
    world.assert_resolved(&tenant, &ids).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_without_identity_is_caught_up_in_order_when_it_is_switched_on() {
    for backends in backends() {
        let world = World::new(backends).await;
        let (on, off) = (world.tenant(), world.tenant());
        let ((ours, our_ids), (theirs, their_ids)) = (batches(&on, 40), batches(&off, 40));
        let mut rounds = ours.into_iter().zip(theirs).map(|(ours, theirs)| ours.into_iter().chain(theirs).collect::<Vec<_>>());
        for round in rounds.by_ref().take(10) {
            world.append(round).await;
        }
        let process = world.start().await;
        world.settle(&process).await;
        world.switch(&off, false);
        for round in rounds.by_ref().take(20) {
            world.append(round).await;
        }
        world.settle(&process).await;
        world.assert_resolved(&on, &our_ids[..30 * 7]).await;
        world.assert_resolved(&off, &their_ids[..10 * 7]).await;
        world.switch(&off, true);
        for round in rounds {
            world.append(round).await;
        }
        wait("the tenant is level", async || process.pipeline.status(&off).await.expect("a status").resolved == their_ids.len() as u64)
            .await;
        world.settle(&process).await;
        world.assert_resolved(&on, &our_ids).await;
        world.assert_resolved(&off, &their_ids).await;
        assert_eq!(process.pipeline.status(&off).await.expect("a status").duplicates, 39 * 3);
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_while_it_catches_up_resolves_everything_once() {
    for backends in backends() {
        let world = World::new(backends).await;
        let (one, two) = (world.tenant(), world.tenant());
        let ((ones, one_ids), (twos, two_ids)) = (batches(&one, 30), batches(&two, 30));
        world.switch(&one, false);
        world.switch(&two, false);
        for round in ones.into_iter().zip(twos).map(|(one, two)| one.into_iter().chain(two).collect::<Vec<_>>()) {
            world.append(round).await;
        }
        let process = world.start().await;
        world.settle(&process).await;
        process.stop().await;
        assert!(world.resolved().await.is_empty());
        world.switch(&one, true);
        world.switch(&two, true);
        let mut died = 0;
        for point in Point::ALL {
            let process = world.start_with(world.config.clone(), fault(point, true, 0)).await;
            let all = async {
                wait("all are level", async || {
                    process.pipeline.status(&one).await.expect("a status").resolved == one_ids.len() as u64
                        && process.pipeline.status(&two).await.expect("a status").resolved == two_ids.len() as u64
                })
                .await;
            };
            tokio::select! {
                failure = process.fail() => {
                    assert!(failure.contains("injected"), "{failure}");
                    died += 1;
                }
                () = all => {}
            }
            process.stop().await;
        }
        assert!(died >= 5, "it died {died} times");
        let process = world.start().await;
        wait("all are level", async || {
            process.pipeline.status(&one).await.expect("a status").resolved == one_ids.len() as u64
                && process.pipeline.status(&two).await.expect("a status").resolved == two_ids.len() as u64
        })
        .await;
        world.assert_resolved(&one, &one_ids).await;
        world.assert_resolved(&two, &two_ids).await;
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_removed_before_it_was_caught_up_is_passed_over() {
    let world = World::new(backends().remove(0)).await;
    let tenant = world.tenant();
    world.switch(&tenant, false);
    let process = world.start().await;
    world.append(vec![(tenant.clone(), accepted("1", "u"))]).await;
    world.settle(&process).await;
    // The consumer's positions are written about once a second; retention goes by those.
    let later = segue_model::Clock::now_us(&SystemClock) + 30 * 86_400 * SECOND_US;
    wait("retention removes it", async || world.log.trim_now(later).await.expect("trimmed").batches > 0).await;
    world.append(vec![(tenant.clone(), accepted("2", "u"))]).await;
    world.settle(&process).await;
    world.switch(&tenant, true);
    wait("the rest is caught up", async || process.pipeline.status(&tenant).await.expect("a status").resolved == 1).await;
    world.assert_resolved(&tenant, &["2".to_owned()]).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_takes_its_share_and_what_the_first_leaves() {
    for backends in backends().into_iter().filter(|backends| backends.store.kind() == segue_store::DbKind::Postgres) {
        let world = World::new(backends).await;
        let tenant = world.tenant();
        let first = world.start().await;
        let second = world.start_with(PipelineConfig { node: "two".into(), ..world.config.clone() }, Faults::default()).await;
        let (batches, ids) = batches(&tenant, 80);
        let owners = async || {
            let owners: Vec<String> = segue_store::on_db!(world.db, pool => sqlx::query_scalar(
                "SELECT DISTINCT owner FROM pipeline_partition WHERE until_us > 0").fetch_all(pool).await)
            .expect("owners");
            owners.into_iter().collect::<HashSet<_>>()
        };
        let mut batches = batches.into_iter();
        for batch in batches.by_ref().take(40) {
            world.append(batch).await;
        }
        wait("both have some", async || owners().await.len() == 2).await;
        first.stop().await;
        for batch in batches {
            world.append(batch).await;
        }
        world.settle(&second).await;
        world.assert_resolved(&tenant, &ids).await;
        second.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_partition_was_taken_commits_nothing_more() {
    for backends in backends() {
        let world = World::new(backends).await;
        let tenant = world.tenant();
        let (batches, ids) = batches(&tenant, 30);
        let process = world.start().await;
        for (n, batch) in batches.into_iter().enumerate() {
            world.append(batch).await;
            if n % 5 == 0 {
                // Somebody else was here for a moment, and is gone again.
                segue_store::on_writer!(world.db, pool => sqlx::query("UPDATE pipeline_partition SET epoch = epoch + 1, until_us = 0, owner = 'x'")
                    .execute(pool).await.map(drop))
                .expect("taken");
            }
        }
        world.settle(&process).await;
        world.assert_resolved(&tenant, &ids).await;
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_for_a_later_batch_stops_the_process_and_says_why() {
    let world = World::new(backends().remove(0)).await;
    let tenant = world.tenant();
    let event = accepted("1", "u");
    let partition = partition_of(&tenant, event.event.as_ref().expect("an event"), world.log.partitions());
    let later = ResolveBatchRequest { source: format!("ingest.accepted.{partition}"), sequence: 99, subjects: vec![] };
    world.identity.answer(&tenant, later).expect("answered");
    world.append(vec![(tenant, event)]).await;
    let process = world.start().await;
    let failure = process.fail().await;
    assert!(failure.contains("restored from an older copy"), "{failure}");
    process.stop().await;
    assert!(world.resolved().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_for_a_later_batch_ends_only_the_worker_whose_partition_was_taken() {
    let world = World::new(backends().remove(0)).await;
    let tenant = world.tenant();
    let event = accepted("1", "u");
    let partition = partition_of(&tenant, event.event.as_ref().expect("an event"), world.log.partitions());
    world.identity.is_down.store(true, Ordering::SeqCst);
    // Its lease is not looked at again before the test is over, so that identity is the first to say it.
    let process = world.start_with(PipelineConfig { lease_ms: 600_000, ..world.config.clone() }, Faults::default()).await;
    world.append(vec![(tenant.clone(), event)]).await;
    wait("identity is asked", async || world.identity.asked.load(Ordering::SeqCst) > 0).await;
    segue_store::on_writer!(world.db, pool => sqlx::query("UPDATE pipeline_partition SET epoch = epoch + 1, owner = 'x'")
        .execute(pool).await.map(drop))
    .expect("taken");
    world.identity.answered_later(&tenant, partition);
    world.identity.is_down.store(false, Ordering::SeqCst);
    let asked = world.identity.asked.load(Ordering::SeqCst);
    wait("identity refuses", async || world.identity.asked.load(Ordering::SeqCst) > asked).await;
    let tasks = process.tasks.clone();
    process.stop().await;
    assert!(tasks.failed().now_or_never().is_none(), "the process goes on");
    assert!(world.resolved().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catching_up_asks_under_a_name_of_its_own() {
    let world = World::new(backends().remove(0)).await;
    let tenant = world.tenant();
    world.switch(&tenant, false);
    let event = accepted("1", "u");
    let partition = partition_of(&tenant, event.event.as_ref().expect("an event"), world.log.partitions());
    let process = world.start().await;
    world.append(vec![(tenant.clone(), event)]).await;
    world.settle(&process).await;
    // Of a group that identity answered just before it was switched off.
    world.identity.answered_later(&tenant, partition);
    world.switch(&tenant, true);
    wait("it is caught up", async || process.pipeline.status(&tenant).await.expect("a status").resolved == 1).await;
    world.assert_resolved(&tenant, &["1".to_owned()]).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_cannot_load_its_state_again_tries_until_it_can() {
    for backends in backends() {
        let world = World::new(backends).await;
        let tenant = world.tenant();
        let (batches, ids) = batches(&tenant, 30);
        for batch in batches {
            world.append(batch).await;
        }
        let (lost, reloads) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let counted = reloads.clone();
        let faults = Faults::new(move |_, at, _| match at {
            Point::StoreLost => lost.fetch_add(1, Ordering::SeqCst) == 0,
            Point::Reload => counted.fetch_add(1, Ordering::SeqCst) < 3,
            _ => false,
        });
        let process = world.start_with(world.config.clone(), faults).await;
        world.settle(&process).await;
        world.assert_resolved(&tenant, &ids).await;
        assert_eq!(reloads.load(Ordering::SeqCst), 4);
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_leapt_ahead_neither_forgets_what_was_seen_nor_holds_the_day() {
    for backends in backends() {
        let world = World::new(backends).await;
        let tenant = world.tenant();
        let process = world.start().await;
        world.append(vec![(tenant.clone(), accepted("1", "u"))]).await;
        world.settle(&process).await;
        process.stop().await;
        let day_us = 86_400 * SECOND_US;
        for sql in ["UPDATE pipeline_partition SET high_water_us = high_water_us + $1", "UPDATE mark_row SET day = day + $1 / 86400000000"]
        {
            segue_store::on_writer!(world.db, pool => sqlx::query(sql).bind(3_650 * day_us).execute(pool).await.map(drop)).expect("leapt");
        }
        let process = world.start().await;
        for id in ["2", "1", "3"] {
            world.append(vec![(tenant.clone(), accepted(id, "u"))]).await;
            world.settle(&process).await;
        }
        process.stop().await;
        world.assert_resolved(&tenant, &["1", "2", "3"].map(str::to_owned)).await;
        let latest =
            async |sql| -> i64 { segue_store::on_db!(world.db, pool => sqlx::query_scalar(sql).fetch_one(pool).await).expect("asked") };
        let most = segue_model::Clock::now_us(&SystemClock) + day_us;
        assert!(latest("SELECT max(high_water_us) FROM pipeline_partition WHERE position > 0").await <= most);
        assert!(latest("SELECT max(day) FROM mark_segment").await <= most / day_us);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_nobody_is_set_aside_and_can_come_again() {
    for backends in backends() {
        let world = World::new(backends).await;
        let tenant = world.tenant();
        let process = world.start().await;
        world.append(vec![(tenant.clone(), accepted("1", "nobody")), (tenant.clone(), accepted("2", "u"))]).await;
        world.settle(&process).await;
        world.assert_resolved(&tenant, &["2".to_owned()]).await;
        let ids: Vec<String> =
            segue_store::on_db!(world.db, pool => sqlx::query_scalar("SELECT message_id FROM quarantine WHERE tenant = $1")
            .bind(tenant.as_str()).fetch_all(pool).await)
            .expect("listed");
        assert_eq!(ids, ["1"]);
        world.append(vec![(tenant.clone(), accepted("1", "somebody"))]).await;
        world.settle(&process).await;
        world.assert_resolved(&tenant, &["1".to_owned(), "2".to_owned()]).await;
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resolved_event_has_four_times_two_names_typed_properties_and_dimensions() {
    let world = World::new(backends().remove(0)).await;
    let tenant = world.tenant();
    let hour = 3_600 * SECOND_US;
    let mut sent = accepted("1", "u");
    sent.unregistered = vec!["odd".to_owned()];
    let event = sent.event.as_mut().expect("an event");
    event.name = "Order Completed".to_owned();
    event.time = Some(timestamp(NOW_US + hour - 5 * SECOND_US));
    event.sent_at = Some(timestamp(NOW_US + hour));
    event.properties = [("df_order_id", text("o1")), ("odd", int(7))].map(|(name, value)| (name.to_owned(), value)).into();
    event.context = Some(Context {
        platform: "web".into(),
        session_id: "s1".into(),
        account_id: "a1".into(),
        page_url: "https://shop.example/cart?utm_source=mail".into(),
        ..Context::default()
    });
    let mut last = accepted("2", "u");
    last.time_is_final = true;
    let event = last.event.as_mut().expect("an event");
    event.sent_at = Some(timestamp(NOW_US + hour));
    let mut identify = accepted("3", "u");
    identify.event.as_mut().expect("an event").kind = EventKind::Identify.into();
    world.append(vec![(tenant.clone(), sent), (tenant.clone(), last), (tenant.clone(), identify)]).await;
    let process = world.start().await;
    world.settle(&process).await;
    process.stop().await;
    let resolved: Vec<ResolvedEvent> = world.resolved().await.into_iter().map(|(_, event)| event).collect();
    let first = &resolved[0];
    assert_eq!(
        (first.time_us, first.received_at_us, first.original_time_us, first.sent_at_us),
        (NOW_US - 5 * SECOND_US, NOW_US, NOW_US + hour - 5 * SECOND_US, NOW_US + hour)
    );
    assert_eq!((first.name.as_str(), first.original_name.as_str()), ("df_purchase", "Order Completed"));
    assert_eq!((first.session_id.as_str(), first.account_id.as_str(), first.source.as_str()), ("s1", "a1", "s"));
    let keys = |values: &HashMap<String, Value>| values.keys().cloned().collect::<Vec<_>>();
    assert_eq!((keys(&first.properties), keys(&first.unregistered)), (vec!["df_order_id".to_owned()], vec!["odd".to_owned()]));
    let dimensions: Vec<(&str, &str)> =
        first.dimensions.iter().map(|value| (dimension::by_code(value.code).expect("a dimension").name, value.value.as_str())).collect();
    let expected = [
        ("platform", "web"),
        ("first_or_returning", "first"),
        ("gender", "F"),
        ("age_band", "30-39"),
        ("order_id", "o1"),
        ("utm_source", "mail"),
        ("page_path", "/cart"),
    ];
    assert_eq!(dimensions, expected);
    assert_eq!((resolved[1].time_us, resolved[1].original_time_us), (NOW_US, NOW_US), "the time of a replay is final");
    assert_eq!(resolved[2].kind(), EventKind::Identify);
    let _ = &world.backends;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_is_told_the_account_of_group_events_alone() {
    let world = World::new(backends().remove(0)).await;
    let tenant = world.tenant();
    let of_account = |id: &str, kind: EventKind| {
        let mut accepted = accepted(id, "u");
        let event = accepted.event.as_mut().expect("an event");
        event.kind = kind.into();
        event.context = Some(Context { account_id: "acme".into(), ..Context::default() });
        event.traits = [("plan".to_owned(), text("pro"))].into();
        (tenant.clone(), accepted)
    };
    world.append(vec![of_account("1", EventKind::Group), of_account("2", EventKind::Identify)]).await;
    let process = world.start().await;
    world.settle(&process).await;
    process.stop().await;
    let subjects: Vec<Subject> =
        world.identity.registry.lock().answered.values().flat_map(|(_, asked, _)| asked.subjects.clone()).collect();
    let told: Vec<(EventKind, &str, usize)> =
        subjects.iter().map(|subject| (subject.kind(), subject.account_id.as_str(), subject.traits.len())).collect();
    assert_eq!(told, [(EventKind::Group, "acme", 1), (EventKind::Identify, "", 1)]);
    let resolved: Vec<(String, usize)> =
        world.resolved().await.into_iter().map(|(_, event)| (event.account_id, event.traits.len())).collect();
    assert_eq!(resolved, [("acme".to_owned(), 0), ("acme".to_owned(), 1)], "the events themselves keep it, and traits of persons");
}

/// Prints events per second through the pipeline, with an identity that costs little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput_of_the_pipeline() {
    let world = World::new(backends().remove(0)).await;
    let tenant = world.tenant();
    world.identity.forgets.store(true, Ordering::SeqCst);
    let total = 400_000;
    for batch in 0..total / 4_000 {
        let events = (0..4_000).map(|n| {
            let mut accepted = accepted(&format!("01890a5d-ac96-774b-bcce-{:012}", batch * 4_000 + n), &format!("user-{}", (batch * 31 + n) % 20_000));
            let event = accepted.event.as_mut().expect("an event");
            event.properties = [("df_order_id", text("o1")), ("price", int(n)), ("color", text("red"))].map(|(name, value)| (name.to_owned(), value)).into();
            event.context = Some(Context {
                platform: "web".into(),
                session_id: format!("s{}", n % 100),
                page_url: "https://shop.example/cart/a/b?utm_source=mail&utm_medium=m".into(),
                user_agent: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1".into(),
                ..Context::default()
            });
            (tenant.clone(), accepted)
        });
        world.append(events.collect()).await;
    }
    let begun = std::time::Instant::now();
    let config = PipelineConfig { node: "one".into(), ..PipelineConfig::default() };
    let process = world.start_with(config, Faults::default()).await;
    world.settle(&process).await;
    let spent = begun.elapsed();
    println!("{total} events in {spent:?}: {:.0} events/s", f64::from(total as u32) / spent.as_secs_f64());
    process.stop().await;
}
