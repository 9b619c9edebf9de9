//! Whether messages did what they had to: each that a step planned is in the ledger once and ended for a reason that there is; the provider
//! got what the ledger says and nothing else; no cap was exceeded; nobody got anything that was begun after they said no; and what is told
//! of it is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use segue_proto::campaign::v1::{SendReason, SendState};
use segue_proto::events::v1::{Event, EventKind};
use segue_store::on_db;

use super::HOUR_US;
use super::case::{Case, Withdrawn};
use super::process::Batch;
use super::provider::Request;
use super::script::{By, Node};
use super::steps::{Planned, PlannedSend};
use crate::flow::machine::{EndReason, Run};

const DAY_US: i64 = 24 * HOUR_US;
/// How long a request may take to reach the provider after the process that made it has ended.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

const SENDS: &str = "SELECT id, run, person, state, reason, counted, expires_us, decisions FROM send WHERE tenant = $1 ORDER BY id";
const TOLD: &str = "SELECT payload FROM outbox WHERE tenant = $1 AND destination = 'ingest' ORDER BY id";
const LISTED: &str = "SELECT count(*) FROM outbox WHERE tenant = $1 AND destination = 'audience'";

#[derive(Debug, sqlx::FromRow)]
struct Row {
    id: String,
    run: i64,
    person: i64,
    state: i64,
    reason: i64,
    counted: bool,
    expires_us: i64,
    decisions: String,
}

/// Time, check, outcome, detail.
type Decision = (i64, String, String, String);

/// A send with everything that there is about it.
struct Sent<'c> {
    case: &'c Case<'c>,
    row: Row,
    state: SendState,
    decisions: Vec<Decision>,
    planned: &'c PlannedSend,
    requests: Vec<&'c Request>,
}

pub(super) async fn check(case: &Case<'_>, runs: &[Run], planned: &Planned) -> Result<()> {
    let (db, tenant) = (&case.world.service().db, case.tenant.id.as_str());
    let rows: Vec<Row> = on_db!(db, pool => sqlx::query_as(SENDS).bind(tenant).fetch_all(pool).await)?;
    let got = case.world.provider.got(tenant);
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let wanted: BTreeSet<&str> = planned.sends.keys().map(String::as_str).collect();
    ensure!(
        ids == wanted,
        "the ledger has other sends than runs have planned: {:?}",
        ids.symmetric_difference(&wanted).collect::<Vec<_>>()
    );
    if let Some(stray) = got.iter().find(|request| !ids.contains(request.key.as_str())) {
        bail!("the provider got what is not in the ledger: {stray:?}");
    }
    let mut sends = Vec::new();
    for row in rows {
        let planned = planned.sends.get(&row.id).context("looked up before")?;
        let one = Sent::new(case, row, planned, &got)?;
        one.check().with_context(|| format!("send {:?}, planned {:?}", one.row, one.planned))?;
        sends.push(one);
    }
    caps(case, &sends)?;
    told(case, runs, planned, &sends).await
}

impl<'c> Sent<'c> {
    fn new(case: &'c Case<'c>, row: Row, planned: &'c PlannedSend, got: &'c [Request]) -> Result<Self> {
        let lines = row.decisions.lines().filter(|line| !line.is_empty());
        let decisions = lines.map(serde_json::from_str).collect::<Result<Vec<Decision>, _>>()?;
        let state = SendState::try_from(i32::try_from(row.state)?)?;
        let requests = got.iter().filter(|request| request.key == row.id).collect();
        Ok(Self { case, row, state, decisions, planned, requests })
    }

    /// By which channel it is advertising; None: it is not.
    fn advertised(&self) -> Option<By> {
        match self.planned.node {
            Node::Message { by, is_transactional: false, .. } => Some(by),
            _ => None,
        }
    }

    fn by(&self) -> Option<By> {
        match self.planned.node {
            Node::Message { by, .. } => Some(by),
            _ => None,
        }
    }

    fn withdrawn(&self) -> Withdrawn {
        self.by().and_then(|by| self.case.withdrawn.get(&(self.planned.person, by)).copied()).unwrap_or_default()
    }

    fn check(&self) -> Result<()> {
        ensure!(self.row.run == i64::try_from(self.planned.run)?, "it is of another run");
        ensure!(self.row.person == i64::from(self.case.survivor[&self.planned.person]), "it is somebody else's");
        let bodies: BTreeSet<(&str, &[u8])> = self.requests.iter().map(|one| (one.channel.as_str(), &*one.body)).collect();
        ensure!(bodies.len() <= 1, "its provider got different things: {bodies:?}");
        let took = self.requests.iter().any(|request| request.answered == 200);
        let reason = SendReason::try_from(i32::try_from(self.row.reason)?)?;
        match self.state {
            SendState::Sent => ensure!(took, "its provider did not take it"),
            SendState::Failed => ensure!(
                reason == SendReason::ProviderFailed && self.requests.iter().any(|request| request.answered != 200),
                "its provider refused nothing"
            ),
            SendState::Suppressed => self.suppressed(reason)?,
            SendState::Unspecified | SendState::Planned | SendState::Sending => bail!("it is not done with"),
        }
        self.begun_in_time()
    }

    /// There is a reason not to send it, and it is this one.
    fn suppressed(&self, reason: SendReason) -> Result<()> {
        let (withdrawn, policy) = (self.withdrawn(), &self.case.script.policy);
        let last_us = self.decisions.last().map_or(i64::MIN, |decision| decision.0);
        let is_advertising = self.advertised().is_some();
        let is_right = match reason {
            SendReason::NoConsent => withdrawn.refused && (is_advertising || withdrawn.all.is_some()),
            SendReason::Unsubscribed => withdrawn.unsubscribed && is_advertising,
            SendReason::Exited => matches!(self.planned.end, EndReason::ExitRule | EndReason::Merged),
            SendReason::TooLate => last_us > self.row.expires_us,
            SendReason::QuietHours => is_advertising && policy.quiet == Some(true) && is_night(last_us),
            // How many there were is looked at for all of them.
            SendReason::Capped => is_advertising,
            _ => false,
        };
        ensure!(is_right, "there is no reason for {reason:?}");
        Ok(())
    }

    /// No attempt was begun after they had said no: whatever reached the provider since is of a batch that was at work then.
    fn begun_in_time(&self) -> Result<()> {
        let withdrawn = self.withdrawn();
        let advertising = withdrawn.advertising.filter(|_| self.advertised().is_some());
        let Some(since) = advertising.into_iter().chain(withdrawn.all).min() else { return Ok(()) };
        let batches = self.case.watch.batches.lock();
        let mine: Vec<&Batch> = batches.iter().filter(|batch| batch.sends.contains(&self.row.id)).collect();
        for request in self.requests.iter().filter(|request| request.at > since) {
            let is_of = |one: &&Batch| match one.ended {
                _ if one.begun > since => false,
                None => true,
                Some(ended) => ended + if one.is_cut { ON_ITS_WAY } else { Duration::ZERO } >= request.at,
            };
            ensure!(mine.iter().any(is_of), "they had said no at {since:?}, and got {request:?}; batches {mine:?}");
        }
        Ok(())
    }

    /// The day on which it was counted.
    fn counted_on(&self) -> Option<i64> {
        let counted = self.decisions.iter().find(|decision| decision.1 == "cap" && decision.2 == "passed");
        counted.filter(|_| self.row.counted).map(|decision| decision.0.div_euclid(DAY_US))
    }
}

fn is_night(time_us: i64) -> bool {
    let hour = time_us.rem_euclid(DAY_US) / HOUR_US;
    !(6..22).contains(&hour)
}

/// In no window of days anybody had more than a cap allows; and where a message was held back, there were so many.
fn caps(case: &Case<'_>, sends: &[Sent<'_>]) -> Result<()> {
    let policy = &case.script.policy;
    let caps: Vec<(Option<By>, u32, u32)> = policy
        .cap
        .map(|(count, days)| (None, count, days))
        .into_iter()
        .chain(policy.sms_cap.map(|(count, days)| (Some(By::Sms), count, days)))
        .collect();
    for one in sends {
        let is_counted = one.counted_on().is_some();
        let has_gone = !one.requests.is_empty();
        let by = one.advertised();
        let is_capped = by.is_some_and(|by| caps.iter().any(|cap| cap.0.is_none_or(|only| only == by)));
        ensure!(is_counted || !(has_gone && is_capped), "it went out uncounted: {:?}", one.row);
        ensure!(!is_counted || is_capped, "it was counted for no cap: {:?}", one.row);
    }
    // By person, channel and day.
    let mut counted: BTreeMap<u32, Vec<(By, i64)>> = BTreeMap::new();
    for one in sends {
        if let (Some(by), Some(day)) = (one.advertised(), one.counted_on()) {
            counted.entry(one.planned.person).or_default().push((by, day));
        }
    }
    let within = |person: u32, (only, _, days): (Option<By>, u32, u32), day: i64| {
        let window = day - i64::from(days) + 1..=day;
        let of = counted.get(&person).into_iter().flatten();
        of.filter(|(by, at)| only.is_none_or(|only| only == *by) && window.contains(at)).count()
    };
    for (person, all) in &counted {
        for (_, day) in all {
            for cap in &caps {
                let count = within(*person, *cap, *day);
                ensure!(count <= cap.1 as usize, "{person} got {count} messages up to day {day}, of {cap:?}: {all:?}");
            }
        }
    }
    let capped = i64::from(i32::from(SendReason::Capped));
    for one in sends.iter().filter(|one| one.row.reason == capped) {
        let day = one.decisions.last().map_or(0, |decision| decision.0.div_euclid(DAY_US));
        let selves = case.selves(one.planned.person);
        let is_full = |cap: &&(Option<By>, u32, u32)| {
            let is_about = cap.0.is_none_or(|only| Some(only) == one.advertised());
            // Clocks differ, also by a day around midnight.
            let held = (day - 1..=day + 1).map(|day| selves.iter().map(|person| within(*person, **cap, day)).sum::<usize>()).max();
            is_about && held.unwrap_or_default() >= cap.1 as usize
        };
        ensure!(caps.iter().find(is_full).is_some(), "nothing was full on day {day}: {:?}; {counted:?}", one.row);
    }
    Ok(())
}

/// What is told of sends and steps is told once each.
async fn told(case: &Case<'_>, runs: &[Run], planned: &Planned, sends: &[Sent<'_>]) -> Result<()> {
    let (db, tenant) = (&case.world.service().db, case.tenant.id.as_str());
    let rows: Vec<Vec<u8>> = on_db!(db, pool => sqlx::query_scalar(TOLD).bind(tenant).fetch_all(pool).await)?;
    let events = rows.iter().map(|row| Event::decode(row.as_slice())).collect::<Result<Vec<_>, _>>()?;
    let mut ids: BTreeSet<&str> = BTreeSet::new();
    for event in &events {
        ensure!(ids.insert(&event.message_id), "it is told twice: {event:?}");
    }
    for (name, state) in [("sent", SendState::Sent), ("suppressed", SendState::Suppressed), ("failed", SendState::Failed)] {
        let named = format!("df_message_{name}");
        let told: BTreeSet<String> = events.iter().filter(|event| event.name == named).map(|event| event.message_id.clone()).collect();
        let wanted: BTreeSet<String> = sends.iter().filter(|one| one.state == state).map(|one| format!("{}:{name}", one.row.id)).collect();
        ensure!(told == wanted, "{named}: {:?}", told.symmetric_difference(&wanted).collect::<Vec<_>>());
    }
    let traits = events.iter().filter(|event| event.kind() == EventKind::Identify).count();
    ensure!(traits == planned.traits, "{traits} traits were set in {} steps of {} runs", planned.traits, runs.len());
    let lists: i64 = on_db!(db, pool => sqlx::query_scalar(LISTED).bind(tenant).fetch_one(pool).await)?;
    ensure!(lists == i64::try_from(planned.lists)?, "{lists} changes of lists in {} steps", planned.lists);
    Ok(())
}
