//! Live membership is the truth: for random conditions and lives, on a clock that is moved by hand, the members of every audience are at
//! any instant those of a full evaluation at that instant, which are those of the plainest reference; and the transitions add up to them.

mod draw;
mod naive;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, ensure};
use chrono_tz::Tz;
use segue_model::ManualClock;
use segue_node::client::{Authorized, Gateway};
use segue_node::process::Process;
use segue_node::settings::Settings;
use segue_proto::analytics::v1::{SelectPersonsRequest, select_persons_request::Who};
use segue_proto::audience::v1::audience_service_client::AudienceServiceClient;
use segue_proto::audience::v1::{
    Audience, CreateAudienceRequest, EvaluateAudienceRequest, GetLiveStatusRequest, ListAudiencesRequest, ListMembersRequest, Transition,
    WatchTransitionsRequest,
};
use segue_proto::events::v1::{Event, EventKind, TransitionKind, TransitionReason, Value, value::Kind};
use segue_proto::identity::v1::{GetPersonRequest, MergePersonsRequest, get_person_request};
use segue_proto::ingest::v1::TrackRequest;
use segue_proto::query::v1::{Behavior, Condition, EventSelector, Span, TimeUnit, Window, condition::Node, window};
use segue_proto::tenancy::v1 as tenancy;
use segue_tests::events::{event, identifier, text, timestamp};
use tempfile::TempDir;

use crate::audience::tenant::micros;
use draw::Draw;
use naive::Done;

/// 2026-02-26 00:00 UTC: the month ends, and is short.
const START_US: i64 = 1_772_064_000_000_000;
const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// One process with everything in it, whose clock stands still.
pub(crate) struct Stage {
    pub(crate) clock: ManualClock,
    pub(crate) process: Process,
    operator: Gateway,
    pub(crate) url: String,
    _folder: TempDir,
}

impl Stage {
    async fn start() -> anyhow::Result<Self> {
        Self::start_with(|_| {}).await
    }

    /// With other settings than the usual ones.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> anyhow::Result<Self> {
        segue_runtime::install_tls_provider();
        let folder = TempDir::with_prefix("segue-truth-")?;
        let mut settings = Settings::default();
        settings.server.data_dir = folder.path().display().to_string();
        settings.server.listen = "127.0.0.1:0".to_owned();
        // Nobody else is there whom short rounds could disturb.
        settings.audience.live.round_ms_min = 5;
        settings.campaign.flow.round_ms_min = 5;
        change(&mut settings);
        let clock = ManualClock::new(START_US);
        let process = Process::start(&settings, Arc::new(clock.clone())).await?;
        let url = format!("http://{}", process.edge.context("the gateway runs here")?);
        let key = std::fs::read_to_string(folder.path().join("operator.key"))?;
        let operator = Gateway::connect(&url, key.trim(), None).await?;
        Ok(Self { clock, process, operator, url, _folder: folder })
    }

    async fn tenant(&self, id: &str) -> anyhow::Result<Gateway> {
        let gateway = self.tenant_with(id, tenancy::Module::Audience).await?;
        // Services hear of it a moment later.
        crate::modules::eventually(true, async || Ok(gateway.audience().list_audiences(ListAudiencesRequest::default()).await.is_ok()))
            .await?;
        Ok(gateway)
    }

    /// A tenant with a module on, and whatever it needs; as its administrator.
    pub(crate) async fn tenant_with(&self, id: &str, module: tenancy::Module) -> anyhow::Result<Gateway> {
        let tenant = tenancy::Tenant { id: id.to_owned(), ..Default::default() };
        self.operator.tenancy().create_tenant(tenancy::CreateTenantRequest { tenant: Some(tenant) }).await?;
        let key = tenancy::Key {
            tenant: id.to_owned(),
            kind: tenancy::KeyKind::Secret.into(),
            role: tenancy::Role::Admin.into(),
            source: "test".to_owned(),
            ..Default::default()
        };
        let request = tenancy::EnableModuleRequest { tenant: id.to_owned(), module: module.into(), with_dependencies: true };
        self.operator.tenancy().enable_module(request).await?;
        let key = self.operator.tenancy().create_key(tenancy::CreateKeyRequest { key: Some(key) }).await?.into_inner();
        Gateway::connect(&self.url, &key.secret, None).await
    }

    pub(crate) fn now_us(&self) -> i64 {
        segue_model::Clock::now_us(&self.clock)
    }
}

fn audiences(gateway: &Gateway) -> AudienceServiceClient<Authorized> {
    gateway.audience()
}

/// A tenant's life.
struct Life<'s> {
    stage: &'s Stage,
    gateway: Gateway,
    id: String,
    draw: Draw,
    users: usize,
    done: Vec<Done>,
    audiences: BTreeMap<String, (Condition, Tz)>,
    /// Transitions so far, and who they leave in.
    replayed: BTreeMap<String, BTreeSet<u32>>,
    cursor: String,
    sequence: u64,
}

impl Life<'_> {
    async fn create(&mut self, id: String, condition: Condition, zone: Tz) -> anyhow::Result<()> {
        let audience = Audience {
            id: id.clone(),
            name: id.clone(),
            condition: Some(condition.clone()),
            time_zone: zone.name().to_owned(),
            ..Audience::default()
        };
        audiences(&self.gateway).create_audience(CreateAudienceRequest { audience: Some(audience) }).await?;
        self.audiences.insert(id, (condition, zone));
        Ok(())
    }

    async fn happen(&mut self, count: usize) -> anyhow::Result<()> {
        let from = self.done.len();
        for number in from..from + count {
            let done = self.draw.done(self.users, self.stage.now_us(), number);
            self.done.push(done);
        }
        let sent = |(number, done): (usize, &Done)| {
            let user = user(&self.id, done.user);
            let mut sent: Event = event(&format!("m{}", from + number), done.name, done.time_us, &[("user_id", user.as_str())]);
            sent.kind = EventKind::Track.into();
            sent.properties.insert("n".to_owned(), Value { kind: Some(Kind::IntValue(done.number)) });
            if let Some(tier) = done.tier {
                sent.traits.insert("tier".to_owned(), text(tier));
            }
            sent
        };
        let events: Vec<Event> = self.done[from..].iter().enumerate().map(sent).collect();
        let answer = self.gateway.ingest().track(TrackRequest { events }).await?.into_inner();
        ensure!(answer.accepted as usize == count, "{answer:?}");
        Ok(())
    }

    async fn number_of(&self, at: usize) -> anyhow::Result<Option<u32>> {
        let who = Some(get_person_request::Who::Identifier(identifier("user_id", &user(&self.id, at))));
        match self.gateway.identity().get_person(GetPersonRequest { who }).await {
            Ok(found) => Ok(Some(found.into_inner().number)),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    async fn merge(&mut self) -> anyhow::Result<()> {
        let (one, other) = (self.draw.below(self.users as u64) as usize, self.draw.below(self.users as u64) as usize);
        self.gateway.wait_until_indexed().await?;
        let (Some(from), Some(into)) = (self.number_of(one).await?, self.number_of(other).await?) else { return Ok(()) };
        if from != into {
            let request = MergePersonsRequest { from, into, force: true, reason: "drawn".to_owned(), request_id: String::new() };
            self.gateway.identity().merge_persons(request).await?;
        }
        Ok(())
    }

    /// Everything by now is dealt with.
    async fn settle(&self) -> anyhow::Result<()> {
        self.gateway.wait_until_indexed().await?;
        loop {
            let status = audiences(&self.gateway).get_live_status(GetLiveStatusRequest {}).await?.into_inner();
            if status.as_of.is_some_and(|as_of| micros(as_of) >= self.stage.now_us()) && status.audiences as usize == self.audiences.len() {
                ensure!(status.repaired == 0, "{status:?}");
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Takes the transitions up to the one that the status names.
    async fn replay(&mut self) -> anyhow::Result<Vec<Transition>> {
        let until = audiences(&self.gateway).get_live_status(GetLiveStatusRequest {}).await?.into_inner().sequence;
        let mut came = Vec::new();
        if until == self.sequence {
            return Ok(came);
        }
        let from_beginning = self.cursor.is_empty();
        let request = WatchTransitionsRequest { cursor: self.cursor.clone(), from_beginning, ..WatchTransitionsRequest::default() };
        let mut stream = audiences(&self.gateway).watch_transitions(request).await?.into_inner();
        while self.sequence < until {
            let message = stream.message().await?.context("the stream goes on")?;
            for transition in message.transitions {
                ensure!(transition.sequence == self.sequence + 1, "{transition:?} comes behind {}", self.sequence);
                self.sequence = transition.sequence;
                let of = self.replayed.entry(transition.audience.clone()).or_default();
                let is_change =
                    if transition.kind() == TransitionKind::Entered { of.insert(transition.person) } else { of.remove(&transition.person) };
                ensure!(is_change, "{transition:?} changes nothing");
                came.push(transition);
            }
            self.cursor = message.cursor;
        }
        Ok(came)
    }

    async fn check(&mut self) -> anyhow::Result<Vec<Transition>> {
        self.settle().await?;
        let came = self.replay().await?;
        let persons = self.persons().await?;
        for (id, (condition, zone)) in &self.audiences {
            let request = ListMembersRequest { audience: id.clone(), page_size: 10_000, ..ListMembersRequest::default() };
            let members: BTreeSet<u32> = audiences(&self.gateway).list_members(request).await?.into_inner().persons.into_iter().collect();
            let request = SelectPersonsRequest {
                who: Some(Who::Condition(condition.clone())),
                as_of: Some(timestamp(self.stage.now_us())),
                time_zone: zone.name().to_owned(),
                page_size: 10_000,
                ..SelectPersonsRequest::default()
            };
            let full: BTreeSet<u32> = self.gateway.analytics().select_persons(request).await?.into_inner().persons.into_iter().collect();
            let plain: BTreeSet<u32> = persons
                .iter()
                .filter(|(person, events)| naive::meets(condition, **person, events, self.stage.now_us(), *zone))
                .map(|(person, _)| *person)
                .collect();
            let replayed = self.replayed.get(id).cloned().unwrap_or_default();
            let said = format!("{id} at {} in {zone}: {condition:?}\n{:?}", timestamp(self.stage.now_us()), self.done);
            ensure!(full == plain, "a full evaluation gives {full:?}, the reference {plain:?}: {said}");
            ensure!(members == full, "live {members:?}, in full {full:?}: {said}");
            ensure!(replayed == members, "transitions come to {replayed:?}, members are {members:?}: {said}");
        }
        Ok(came)
    }

    /// Events by person as persons are now.
    async fn persons(&self) -> anyhow::Result<BTreeMap<u32, Vec<&Done>>> {
        let mut persons: BTreeMap<u32, Vec<&Done>> = BTreeMap::new();
        for at in 0..self.users {
            let Some(number) = self.number_of(at).await? else { continue };
            persons.entry(number).or_default().extend(self.done.iter().filter(|done| done.user == at));
        }
        Ok(persons)
    }

    /// While only time passed: each change happened at the very moment at which the reference changes.
    async fn check_moments(&self, came: &[Transition]) -> anyhow::Result<()> {
        let persons = self.persons().await?;
        for transition in came {
            let (condition, zone) = &self.audiences[&transition.audience];
            let time_us = micros(transition.time.context("a time")?);
            let events = persons.get(&transition.person).context("somebody known")?;
            let at = |now_us: i64| naive::meets(condition, transition.person, events, now_us, *zone);
            let entered = transition.kind() == TransitionKind::Entered;
            ensure!(transition.reason() == TransitionReason::Time, "{transition:?}");
            ensure!(at(time_us) == entered && at(time_us - 1) != entered, "{transition:?} of {condition:?} in {zone}: {events:?}");
        }
        Ok(())
    }
}

fn user(tenant: &str, at: usize) -> String {
    format!("{tenant}-u{at}")
}

async fn live_a_life(stage: &Stage, seed: u64) -> anyhow::Result<()> {
    let id = format!("life{seed}");
    let gateway = stage.tenant(&id).await?;
    let mut life = Life {
        stage,
        gateway,
        id,
        draw: Draw::new(seed),
        users: 6,
        done: Vec::new(),
        audiences: BTreeMap::new(),
        replayed: BTreeMap::new(),
        cursor: String::new(),
        sequence: 0,
    };
    life.happen(12).await?;
    for at in 0..12 {
        let condition = life.draw.condition(2, START_US);
        let zone = [chrono_tz::UTC, chrono_tz::Asia::Seoul][life.draw.below(2) as usize];
        life.create(format!("a{at}"), condition, zone).await?;
    }
    life.check().await?;
    for _ in 0..8 {
        if life.draw.chance(7) {
            let count = 1 + life.draw.below(8) as usize;
            life.happen(count).await?;
        }
        if life.draw.chance(2) {
            life.merge().await?;
        }
        life.check().await?;
        let seconds = [90, 7_200, 86_400, 3 * 86_400][life.draw.below(4) as usize];
        stage.clock.advance_us((1 + life.draw.below(seconds) as i64) * SECOND_US);
        let came = life.check().await?;
        life.check_moments(&came).await?;
    }
    for audience in life.audiences.keys() {
        let request = EvaluateAudienceRequest { audience: audience.clone() };
        let audited = audiences(&life.gateway).evaluate_audience(request).await?.into_inner();
        ensure!(audited.repaired == 0, "{audience}: {audited:?}");
    }
    Ok(())
}

#[tokio::test]
async fn members_are_at_every_instant_who_meets_the_condition() {
    let stage = Stage::start().await.expect("the process starts");
    for seed in 0..lives() {
        live_a_life(&stage, seed).await.unwrap_or_else(|error| panic!("life {seed}: {error:#}"));
    }
    stage.process.stop().await.expect("the process stops");
}

/// How many lives: `SEGUE_TEST_LIVES`, for a longer look.
#[allow(clippy::disallowed_methods, reason = "a test's own setting")]
fn lives() -> u64 {
    std::env::var("SEGUE_TEST_LIVES").ok().and_then(|lives| lives.parse().ok()).unwrap_or(6)
}

#[tokio::test]
async fn who_opened_once_in_seven_days_leaves_after_seven_days_by_itself() {
    let stage = Stage::start().await.expect("the process starts");
    leaves_by_itself(&stage).await.expect("as the semantics say");
    stage.process.stop().await.expect("the process stops");
}

async fn leaves_by_itself(stage: &Stage) -> anyhow::Result<()> {
    let gateway = stage.tenant("seven").await?;
    let t0_us = START_US + 5 * SECOND_US;
    let on = Some(EventSelector { events: vec!["df_app_open".to_owned()], filter: None });
    let last = Span { count: 7, unit: TimeUnit::Day.into() };
    let window = Some(Window { window: Some(window::Window::Last(last)) });
    let condition = Condition { node: Some(Node::Behavior(Behavior { on, window, ..Behavior::default() })) };
    let audience = Audience { id: "active".to_owned(), name: "Active".to_owned(), condition: Some(condition), ..Audience::default() };
    audiences(&gateway).create_audience(CreateAudienceRequest { audience: Some(audience) }).await?;
    // Or who opens would be there already when it is evaluated for the first time, and enter by its definition.
    let is_evaluated = async || {
        let listed = audiences(&gateway).list_audiences(ListAudiencesRequest::default()).await?.into_inner().audiences;
        Ok(listed.iter().all(|audience| audience.evaluated_version == audience.version))
    };
    crate::modules::eventually(true, is_evaluated).await?;
    stage.clock.set_us(t0_us);
    gateway.ingest().track(TrackRequest { events: vec![event("m", "df_app_open", t0_us, &[("user_id", "u")])] }).await?;
    gateway.wait_until_indexed().await?;
    let members = async |at_us: i64| {
        stage.clock.set_us(at_us);
        loop {
            let status = audiences(&gateway).get_live_status(GetLiveStatusRequest {}).await?.into_inner();
            if status.as_of.is_some_and(|as_of| micros(as_of) >= at_us) && status.audiences == 1 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let request = ListMembersRequest { audience: "active".to_owned(), ..ListMembersRequest::default() };
        anyhow::Ok(audiences(&gateway).list_members(request).await?.into_inner().size)
    };
    ensure!(members(t0_us).await? == 1, "a member from the first moment");
    ensure!(members(t0_us + 3 * DAY_US).await? == 1, "and for days");
    ensure!(members(t0_us + 7 * DAY_US - SECOND_US).await? == 1, "up to the last second");
    ensure!(members(t0_us + 7 * DAY_US - 1).await? == 1, "and microsecond");
    ensure!(members(t0_us + 7 * DAY_US).await? == 0, "and then no more");
    let request = WatchTransitionsRequest { from_beginning: true, ..WatchTransitionsRequest::default() };
    let mut stream = audiences(&gateway).watch_transitions(request).await?.into_inner();
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(stream.message().await?.context("the stream goes on")?.transitions);
    }
    let told: Vec<_> = came.iter().map(|transition| (transition.kind(), transition.reason(), transition.time)).collect();
    let expected = [
        (TransitionKind::Entered, TransitionReason::Event, Some(timestamp(t0_us))),
        (TransitionKind::Left, TransitionReason::Time, Some(timestamp(t0_us + 7 * DAY_US))),
    ];
    ensure!(told == expected, "{came:?}");
    Ok(())
}
