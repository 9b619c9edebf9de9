//! Carrying a script out: what happens, in order, while processes run; then until nothing is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use segue_log::{NewBatch, ProducerSequence, Topic};
use segue_model::Clock;
use segue_proto::campaign::v1::{EnterScenarioRequest, Entrant, entrant};
use segue_proto::events::v1::value::Kind as ValueKind;
use segue_proto::events::v1::{ResolvedBatch, ResolvedEvent, ResolvedGroup, Value};
use segue_proto::identity::v1::{ConsentState, MergePersonsRequest};
use segue_runtime::Tenant;
use segue_runtime::transport::for_tenant;
use segue_store::on_db;
use tokio::task::JoinHandle;

use super::process::{self, Watch};
use super::provider::Mood;
use super::script::{By, Happening, PERSONS, PROCESSES, Script, Why};
use super::world::World;
use super::{NOW_US, SECOND_US, messages, steps};
use crate::flow::machine::Run;
use crate::flow::{Standing, all_runs};
use crate::sends::{Report, ReportKind};

/// A worker reads the log again for what is due once its last look is so old.
const LOOK_AGE: Duration = Duration::from_millis(12);
/// Longer than the lease of a worker.
const LEASE_US: i64 = 20 * SECOND_US;
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// An event that came in, or a call.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) id: String,
    /// None: an event for all; else a call for this scenario.
    pub(super) scenario: Option<usize>,
    pub(super) is_cart: bool,
    pub(super) person: u32,
    pub(super) key: u8,
    pub(super) time_us: i64,
    /// The latest that the clock had shown when it was durable.
    pub(super) known_us: i64,
}

/// Since when somebody is not to be messaged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Withdrawn {
    pub(super) advertising: Option<Instant>,
    pub(super) all: Option<Instant>,
    /// For which reasons a send may say so.
    pub(super) refused: bool,
    pub(super) unsubscribed: bool,
}

pub(super) struct Case<'w> {
    pub(super) world: &'w World,
    pub(super) script: &'w Script,
    pub(super) tenant: Tenant,
    pub(super) watch: Watch,
    /// In the order in which it came in.
    pub(super) seen: Vec<Seen>,
    pub(super) withdrawn: BTreeMap<(u32, By), Withdrawn>,
    /// By person, who they are now.
    pub(super) survivor: BTreeMap<u32, u32>,
    max_us: i64,
    appended: Option<Instant>,
}

impl<'w> Case<'w> {
    pub(super) async fn run(world: &'w World, id: &str, script: &'w Script) -> Result<()> {
        let tenant = world.tenant(id, &script.policy).await.context("the tenant")?;
        world.provider.be(id, Mood { seed: script.provider_seed, trouble: script.trouble });
        for (at, plan) in script.scenarios.iter().enumerate() {
            crate::scenarios::put_started(&world.service().db, &tenant.id, &format!("s{at}"), plan.definition(), NOW_US).await?;
        }
        let mut case = Case {
            world,
            script,
            tenant,
            watch: Watch::default(),
            seen: Vec::new(),
            withdrawn: BTreeMap::new(),
            survivor: (1..=PERSONS).map(|person| (person, person)).collect(),
            max_us: NOW_US,
            appended: None,
        };
        case.jump(3_600 * SECOND_US).await;
        let processes = case.start();
        let done = case.go().await;
        processes.iter().for_each(JoinHandle::abort);
        futures::future::join_all(processes).await;
        done?;
        let runs = case.runs().await?;
        let planned = steps::check(&case, &runs)?;
        messages::check(&case, &runs, &planned).await
    }

    async fn runs(&self) -> Result<Vec<Run>> {
        let scenarios: Vec<String> = (0..self.script.scenarios.len()).map(|at| format!("s{at}")).collect();
        Ok(all_runs(&self.world.service().db, &self.tenant.id, &scenarios).await?)
    }

    fn start(&self) -> Vec<JoinHandle<()>> {
        let start = |number: usize| {
            let lives = self.script.lives.get(number).cloned().unwrap_or_default();
            let one = process::run(self.world.services[number].clone(), self.tenant.id.clone(), number, lives, self.watch.clone());
            #[allow(clippy::disallowed_methods, reason = "aborted before the case ends")]
            tokio::spawn(one)
        };
        (0..PROCESSES).map(start).collect()
    }

    async fn go(&mut self) -> Result<()> {
        for happening in &self.script.happenings {
            self.happen(happening).await.with_context(|| format!("{happening:?}"))?;
        }
        self.settle().await
    }

    async fn happen(&mut self, happening: &Happening) -> Result<()> {
        match happening {
            Happening::Cart { person, key, age_s } => self.event(true, *person, *key, *age_s).await,
            Happening::Buy { person, key, age_s } => self.event(false, *person, *key, *age_s).await,
            Happening::Again { which } => self.again(*which).await,
            Happening::Call { person, key } => {
                let Some(scenario) = self.script.scenarios.iter().position(|plan| plan.by_call) else { return Ok(()) };
                let (id, now_us) = (format!("c{}", self.seen.len()), self.world.service().clock.now_us());
                self.seen.push(Seen {
                    id,
                    scenario: Some(scenario),
                    is_cart: true,
                    person: *person,
                    key: *key,
                    time_us: now_us,
                    known_us: self.max_us,
                });
                self.call(self.seen.len() - 1).await
            }
            Happening::CallAgain { which } => {
                let calls: Vec<usize> = (0..self.seen.len()).filter(|at| self.seen[*at].scenario.is_some()).collect();
                if calls.is_empty() { Ok(()) } else { self.call(calls[which % calls.len()]).await }
            }
            Happening::Jump { seconds } => {
                self.jump(seconds * SECOND_US).await;
                Ok(())
            }
            Happening::Back { seconds } => {
                let least_us = self.max_us - 5 * SECOND_US;
                self.world.clock.set_us((self.world.clock.now_us() - seconds * SECOND_US).max(least_us));
                Ok(())
            }
            Happening::Skew { process, seconds } => {
                self.world.skew(*process, seconds * SECOND_US);
                Ok(())
            }
            Happening::Withdraw { person, by, why } => self.withdraw(*person, *by, *why).await,
            Happening::Merge { from, into } => self.merge(*from, *into).await,
            Happening::Run { ms } => {
                tokio::time::sleep(Duration::from_millis(*ms)).await;
                Ok(())
            }
        }
    }

    async fn jump(&mut self, by_us: i64) {
        // As much time as passes on this clock passes on workers' watches, too: at least until they look at the log again.
        if let Some(appended) = self.appended.take() {
            tokio::time::sleep_until((appended + LOOK_AGE).into()).await;
        }
        let shut = if self.script.jumps_between_rounds { Some(self.watch.gate.write().await) } else { None };
        self.world.clock.advance_us(by_us);
        self.max_us = self.max_us.max(self.world.clock.now_us());
        drop(shut);
    }

    async fn event(&mut self, is_cart: bool, person: u32, key: u8, age_s: i64) -> Result<()> {
        let time_us = self.world.clock.now_us() - age_s * SECOND_US;
        let id = format!("e{}", self.seen.len());
        self.append(&Seen { id: id.clone(), scenario: None, is_cart, person, key, time_us, known_us: 0 }).await?;
        self.seen.push(Seen { id, scenario: None, is_cart, person, key, time_us, known_us: self.max_us });
        Ok(())
    }

    /// The log takes a batch of a producer once.
    async fn append(&mut self, seen: &Seen) -> Result<()> {
        let sequence: u64 = seen.id.trim_start_matches('e').parse::<u64>()? + 1;
        let producer = Some(ProducerSequence { producer: format!("pipeline-{}", self.tenant.id), sequence });
        self.append_by(seen, producer).await
    }

    async fn append_by(&mut self, seen: &Seen, producer: Option<ProducerSequence>) -> Result<()> {
        let text = |text: String| Value { kind: Some(ValueKind::StringValue(text)) };
        let event = ResolvedEvent {
            person: seen.person,
            time_us: seen.time_us,
            name: if seen.is_cart { "cart" } else { "buy" }.to_owned(),
            message_id: seen.id.clone(),
            properties: [("cart".to_owned(), text(format!("k{}", seen.key)))].into(),
            ..ResolvedEvent::default()
        };
        let batch = ResolvedBatch { groups: vec![ResolvedGroup { tenant: self.tenant.id.to_string(), events: vec![event] }] };
        let batch = NewBatch { payload: batch.encode_to_vec().into(), events: 1, producer, ..NewBatch::default() };
        self.world.log.append(Topic::new("resolved"), 0, batch).await?;
        self.appended = Some(Instant::now());
        Ok(())
    }

    async fn again(&mut self, which: usize) -> Result<()> {
        let events: Vec<usize> = (0..self.seen.len()).filter(|at| self.seen[*at].scenario.is_none()).collect();
        if events.is_empty() {
            return Ok(());
        }
        let seen = self.seen[events[which % events.len()]].clone();
        // Ingest and the log see to it that an event comes once. Where a second one could do harm, it is they who are asked to.
        let lets_enter_again = seen.is_cart && self.script.scenarios.iter().any(|plan| plan.again && !plan.by_call);
        if lets_enter_again { self.append(&seen).await } else { self.append_by(&seen, None).await }
    }

    async fn call(&self, at: usize) -> Result<()> {
        let Seen { id, scenario, person, key, .. } = &self.seen[at];
        let scenario = scenario.context("a call")?;
        let entry_key = if self.script.scenarios[scenario].is_keyed { format!("k{key}") } else { String::new() };
        let entrant = Entrant { who: Some(entrant::Who::Person(*person)), entry_key, ..Entrant::default() };
        let request = EnterScenarioRequest { id: format!("s{scenario}"), entrants: vec![entrant], request_id: id.clone() };
        let answer = self.world.service().enter_scenario_of(&self.tenant, request).await?;
        ensure!(answer.known == [true], "{id} is for nobody");
        Ok(())
    }

    /// Everybody who is this person by now.
    pub(super) fn selves(&self, person: u32) -> BTreeSet<u32> {
        let survivor = self.survivor[&person];
        self.survivor.iter().filter(|(_, now)| **now == survivor).map(|(person, _)| *person).collect()
    }

    async fn withdraw(&mut self, person: u32, by: By, why: Why) -> Result<()> {
        let now_us = self.world.clock.now_us();
        match why {
            Why::Advertising => {
                self.world.consents(&self.tenant, vec![(person, by, "advertising", ConsentState::Refused, now_us)]).await?;
            }
            Why::All => self.world.consents(&self.tenant, vec![(person, by, "all", ConsentState::Refused, now_us)]).await?,
            Why::Link => {
                let Some(send) = self.gone_out(person, by).await? else { return Ok(()) };
                let report = Report { send, address: 0, kind: ReportKind::Unsubscribed, time_us: now_us, detail: "link".to_owned() };
                if !self.world.service().report(&self.tenant.id, &report).await? {
                    return Ok(());
                }
            }
        }
        let at = Instant::now();
        for person in self.selves(person) {
            let withdrawn = self.withdrawn.entry((person, by)).or_default();
            match why {
                Why::Advertising | Why::Link => withdrawn.advertising.get_or_insert(at),
                Why::All => withdrawn.all.get_or_insert(at),
            };
            withdrawn.unsubscribed |= why == Why::Link;
            withdrawn.refused |= why != Why::Link;
        }
        Ok(())
    }

    /// A message that somebody may have got.
    async fn gone_out(&self, person: u32, by: By) -> Result<Option<String>> {
        const GONE_OUT: &str = "SELECT id FROM send WHERE tenant = $1 AND person = $2 AND channel = $3 AND state IN (2, 3) LIMIT 1";
        Ok(on_db!(&self.world.service().db, pool => sqlx::query_scalar(GONE_OUT)
            .bind(self.tenant.id.as_str()).bind(i64::from(self.survivor[&person])).bind(by.name()).fetch_optional(pool).await)?)
    }

    async fn merge(&mut self, from: u32, into: u32) -> Result<()> {
        let (from, into) = (self.survivor[&from], self.survivor[&into]);
        if from == into {
            return Ok(());
        }
        let request = MergePersonsRequest {
            from,
            into,
            force: true,
            reason: "a test".to_owned(),
            request_id: format!("{}-{from}-{into}", self.tenant.id),
        };
        let merged = self.world.identity.clone().merge_persons(for_tenant(&self.tenant.id, request)).await?.into_inner();
        let number = merged.person.context("a person")?.number;
        ensure!(number == into || number == from, "{number}");
        let at = Instant::now();
        for survivor in self.survivor.values_mut().filter(|survivor| **survivor == from || **survivor == into) {
            *survivor = number;
        }
        // What one of them said holds for all of them now.
        let selves = self.selves(number);
        for by in [By::Sms, By::Kakao] {
            let said: Vec<Withdrawn> = selves.iter().filter_map(|person| self.withdrawn.get(&(*person, by)).copied()).collect();
            for person in &selves {
                let withdrawn = self.withdrawn.entry((*person, by)).or_default();
                for other in &said {
                    withdrawn.advertising = withdrawn.advertising.or(other.advertising.map(|_| at));
                    withdrawn.all = withdrawn.all.or(other.all.map(|_| at));
                    withdrawn.refused |= other.refused;
                    withdrawn.unsubscribed |= other.unsubscribed;
                }
            }
        }
        Ok(())
    }

    /// Lets time pass until everything that is to happen has: from one moment at which something is due to the next.
    async fn settle(&mut self) -> Result<()> {
        (0..PROCESSES).for_each(|process| self.world.skew(process, 0));
        self.jump(LEASE_US).await;
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            if Instant::now() > deadline {
                bail!("it never comes to rest: {}", self.standing().await?);
            }
            if !self.rests().await? {
                // A claim of a process that has ended, or a provider that is left alone for a while.
                self.jump(5 * SECOND_US).await;
                continue;
            }
            let Some(next_us) = self.next_us().await? else { return Ok(()) };
            let now_us = self.world.clock.now_us();
            self.jump((next_us - now_us).max(SECOND_US)).await;
        }
    }

    /// Whether everything that is due now is done within a while.
    async fn rests(&self) -> Result<bool> {
        const DUE: &str = "SELECT count(*) FROM send WHERE tenant = $1 AND due_us <= $2";
        const MERGED: &str = "SELECT count(*) FROM flow_merged WHERE tenant = $1";
        let (db, tenant) = (&self.world.service().db, &self.tenant.id);
        let merged = self.survivor.iter().filter(|(person, now)| person != now).count();
        let standing = Standing::ask(db, tenant).await?;
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if !standing.is_done(db, tenant).await? || !self.watch.is_quiet() {
                continue;
            }
            let now_us = self.world.clock.now_us();
            let due: i64 = on_db!(db, pool => sqlx::query_scalar(DUE).bind(tenant.as_str()).bind(now_us).fetch_one(pool).await)?;
            let known: i64 = on_db!(db, pool => sqlx::query_scalar(MERGED).bind(tenant.as_str()).fetch_one(pool).await)?;
            if due == 0 && known == i64::try_from(merged)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// When something is due next. None: never again.
    async fn next_us(&self) -> Result<Option<i64>> {
        const RUNS: &str = "SELECT min(due_us) FROM flow_run WHERE tenant = $1 AND slot = 0";
        const SENDS: &str = "SELECT min(due_us) FROM send WHERE tenant = $1 AND due_us IS NOT NULL";
        let (db, tenant) = (&self.world.service().db, self.tenant.id.as_str());
        let runs: Option<i64> = on_db!(db, pool => sqlx::query_scalar(RUNS).bind(tenant).fetch_one(pool).await)?;
        let sends: Option<i64> = on_db!(db, pool => sqlx::query_scalar(SENDS).bind(tenant).fetch_one(pool).await)?;
        Ok(runs.into_iter().chain(sends).min())
    }

    /// For people.
    async fn standing(&self) -> Result<String> {
        const TENANT: &str = "SELECT problem FROM flow_tenant WHERE tenant = $1";
        const SENDS: &str = "SELECT id, state, due_us, attempts FROM send WHERE tenant = $1 AND due_us IS NOT NULL";
        let (db, tenant) = (&self.world.service().db, self.tenant.id.as_str());
        let problem: Option<String> = on_db!(db, pool => sqlx::query_scalar(TENANT).bind(tenant).fetch_optional(pool).await)?;
        let sends: Vec<(String, i64, i64, i64)> = on_db!(db, pool => sqlx::query_as(SENDS).bind(tenant).fetch_all(pool).await)?;
        let runs = self.runs().await?;
        let active: Vec<_> = runs.iter().filter(|run| run.ended.is_none()).map(|run| (run.id, run.due_us)).collect();
        Ok(format!("at {}: problem {problem:?}, active {active:?}, sends {sends:?}", self.world.clock.now_us()))
    }
}
