//! Tests of workers on every store, with a log and a clock moved by hand.

mod contending;
mod converting;
mod entering;
mod going;
pub(super) mod process;

use std::sync::Arc;

use anyhow::{Context, Result};
use prost::Message;
use roaring::RoaringBitmap;
use segue_log::{Log, NewBatch, Topic};
use segue_model::{ManualClock, Module, TenantId};
use segue_proto::campaign::v1::step::Kind;
use segue_proto::campaign::v1::wait_step::Wait;
use segue_proto::campaign::v1::{
    AudienceEntry, CallEntry, EndStep, Entry, EventArm, EventEntry, EventWait, ScenarioDefinition, Step, WaitStep, entry,
};
use segue_proto::events::v1::value::Kind as ValueKind;
use segue_proto::events::v1::{
    IdentityChange, IdentityChangeBatch, PersonMerged, ResolvedBatch, ResolvedEvent, ResolvedGroup, TransitionBatch, TransitionGroup,
    TransitionKind, Value, identity_change,
};
use segue_proto::query::v1::{EventSelector, Span, TimeUnit};
use segue_runtime::transport::{ClusterToken, remote};
use segue_runtime::{Tasks, Tenant, TenantDirectory};
use segue_store::Db;
use segue_testkit::{TempLog, TempStore};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::feed::{Feed, follow};
use super::machine::Run;
use super::store::runs::{self, Shown};
use super::worker::{Failure, Shared, Worker};
use crate::config::{Config, FlowConfig};
use crate::error::CampaignError;
use crate::peers::Peers;
use crate::scenarios::Started;
use crate::start::Bells;
use crate::store::{MIGRATIONS, NAMESPACE};

/// When tests begin.
const NOW_US: i64 = 1_748_426_400_000_000;
const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;

/// A definition whose runs end at once.
pub(crate) fn one_step() -> ScenarioDefinition {
    ScenarioDefinition {
        entry: Some(Entry { on: Some(entry::On::Call(CallEntry {})), only_if: None }),
        steps: vec![Step { id: "end".to_owned(), next: String::new(), kind: Some(Kind::End(EndStep {})) }],
        ..ScenarioDefinition::default()
    }
}

/// A scenario that runs.
pub(crate) fn started(id: &str, definition: ScenarioDefinition, started_us: i64) -> Started {
    Started {
        id: id.to_owned(),
        name: id.to_owned(),
        version: 1,
        versions: [(1, definition)].into(),
        paused: false,
        ended: false,
        started_us,
        starts: 1,
        enter_present_members: false,
    }
}

fn on(name: &str) -> Option<EventSelector> {
    Some(EventSelector { events: vec![name.to_owned()], filter: None })
}

fn hours(count: u32) -> Option<Span> {
    Some(Span { count, unit: TimeUnit::Hour.into() })
}

fn by_event(name: &str) -> Option<Entry> {
    let entry = EventEntry { on: on(name), entry_key_property: String::new() };
    Some(Entry { on: Some(entry::On::Event(entry)), only_if: None })
}

fn by_audience(audience: &str) -> Option<Entry> {
    let entry = AudienceEntry { audience: audience.to_owned(), on_leaving: false };
    Some(Entry { on: Some(entry::On::Audience(entry)), only_if: None })
}

fn step(id: &str, next: &str, kind: Kind) -> Step {
    Step { id: id.to_owned(), next: next.to_owned(), kind: Some(kind) }
}

fn wait_hours(count: u32) -> Kind {
    Kind::Wait(WaitStep { wait: hours(count).map(Wait::Duration) })
}

/// Who carts waits an hour for buying.
fn cart() -> ScenarioDefinition {
    let arms = vec![EventArm { on: on("buy"), entry_key_property: String::new(), next: "bought".to_owned() }];
    let wait = Kind::Wait(WaitStep { wait: Some(Wait::ForEvent(EventWait { arms, timeout: hours(1) })) });
    ScenarioDefinition {
        entry: by_event("cart"),
        steps: vec![step("wait", "left", wait), step("bought", "", Kind::End(EndStep {})), step("left", "", Kind::End(EndStep {}))],
        ..ScenarioDefinition::default()
    }
}

/// A tenant with its log, clock and store.
struct Shop {
    db: Db,
    log: Log,
    clock: ManualClock,
    tenant: TenantId,
    tasks: Tasks,
    config: FlowConfig,
    messages: std::sync::atomic::AtomicU64,
}

impl Shop {
    async fn open(store: &TempStore, log: &TempLog) -> Result<Shop> {
        Ok(Shop {
            db: store.open(NAMESPACE, MIGRATIONS).await?,
            log: log.open().await?,
            clock: ManualClock::new(NOW_US),
            tenant: "shop".parse()?,
            tasks: Tasks::new(),
            config: FlowConfig::default(),
            messages: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// A process that may work on the tenant; nobody whom it asks answers.
    async fn process(&self, owner: &str) -> Result<Arc<Shared>> {
        let feed = Arc::new(Feed::open(self.log.clone(), Arc::new(self.clock.clone())).await?);
        for (stream, partition) in feed.partitions() {
            self.tasks.spawn("reader", follow(feed.clone(), stream, partition, self.tasks.stopping()));
        }
        let nobody = || remote("http://127.0.0.1:9", &ClusterToken::new("t"));
        let modules = [Module::Campaign].into_iter().collect();
        Ok(Arc::new(Shared {
            config: self.config.clone(),
            whole_config: Arc::new(Config::default()),
            db: self.db.clone(),
            clock: Arc::new(self.clock.clone()),
            tenants: TenantDirectory::fixed(vec![Tenant::new(self.tenant.clone(), modules)]),
            peers: Peers { ingest: nobody()?, identity: nobody()?, analytics: nobody()?, audience: nobody()? },
            bells: Arc::new(Bells::default()),
            feed,
            waiting_max: self.config.round_inputs_max * 2,
            rounds: Semaphore::new(2),
            owner: owner.to_owned(),
        }))
    }

    async fn worker(&self, owner: &str, scenarios: Vec<Started>) -> Result<Worker> {
        let loaded = Worker::load(self.process(owner).await?, self.tenant.clone(), Arc::new(Notify::new())).await?;
        let mut worker = loaded.context("nobody else has the tenant")?;
        worker.define(scenarios);
        Ok(worker)
    }

    /// Events of persons, a second after each other from a moment.
    async fn events(&self, name: &str, from_us: i64, persons: &[u32]) -> Result<()> {
        let event = |person: u32, time_us: i64| ResolvedEvent {
            person,
            time_us,
            name: name.to_owned(),
            message_id: format!("m{}", self.messages.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
            properties: [("n".to_owned(), Value { kind: Some(ValueKind::IntValue(1)) })].into(),
            ..ResolvedEvent::default()
        };
        let events = persons.iter().zip(0..).map(|(person, at)| event(*person, from_us + at)).collect();
        let batch = ResolvedBatch { groups: vec![ResolvedGroup { tenant: self.tenant.to_string(), events }] };
        self.append("resolved", batch.encode_to_vec()).await
    }

    async fn merged(&self, from: u32, into: u32) -> Result<()> {
        let change = identity_change::Change::Merged(PersonMerged { from, into });
        let changes = vec![IdentityChange { sequence: 1, time_us: NOW_US, change: Some(change) }];
        self.append("identity", IdentityChangeBatch { tenant: self.tenant.to_string(), changes }.encode_to_vec()).await
    }

    async fn entered(&self, audience: &str, time_us: i64, persons: &RoaringBitmap) -> Result<()> {
        let mut persons_bitmap = Vec::new();
        persons.serialize_into(&mut persons_bitmap)?;
        let kind = TransitionKind::Entered.into();
        let group = TransitionGroup { audience: audience.to_owned(), kind, time_us, persons_bitmap, ..TransitionGroup::default() };
        let batch = TransitionBatch { tenant: self.tenant.to_string(), groups: vec![group], ..TransitionBatch::default() };
        self.append("transitions", batch.encode_to_vec()).await
    }

    async fn append(&self, topic: &'static str, payload: Vec<u8>) -> Result<()> {
        self.log.append(Topic::new(topic), 0, NewBatch { payload: payload.into(), events: 1, ..NewBatch::default() }).await?;
        Ok(())
    }

    /// Runs of a scenario, the oldest first.
    async fn runs(&self, scenario: &str) -> Result<Vec<Run>> {
        let shown = Shown { scenario, person: 0, active_only: false, before: i64::MAX };
        let rows = runs::page(&self.db, &self.tenant, shown, 1_000_000).await?;
        let runs = rows.into_iter().rev().map(|row| row.read().map(|(run, _)| run));
        Ok(runs.collect::<Result<_, _>>()?)
    }

    async fn close(self) -> Result<()> {
        self.tasks.stop(std::time::Duration::from_secs(10)).await?;
        self.log.close().await?;
        Ok(())
    }
}

async fn settle(worker: &mut Worker) -> Result<()> {
    match worker.settle().await {
        Ok(()) => Ok(()),
        Err(Failure::Repeat(error) | Failure::Reload(error)) => Err(error.into()),
    }
}
