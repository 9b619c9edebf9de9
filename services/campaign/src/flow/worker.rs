//! The worker of a tenant: loads where it is, goes from round to round, and gives the tenant back.
//!
//! What came in stays pending until the round that deals with it is committed. A failure before the commit repeats the round; a failure of
//! the commit itself, whose outcome is unknown, drops the state and loads it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use segue_log::feed::advance;
use segue_model::{Clock, TenantId};
use segue_runtime::TenantDirectory;
use segue_store::Db;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::definitions::Definitions;
use super::due::{DueRuns, FAILURE_PAUSE, RETRY_PAUSE};
use super::facts::Sources;
use super::feed::{Delivery, Feed, Inbox, Positions, gap};
use super::incoming::Incoming;
use super::schedules;
use super::store::work::ScenarioRow;
use super::store::{self, TenantRow, runs};
use crate::config::FlowConfig;
use crate::error::CampaignError;
use crate::peers::Peers;
use crate::scenarios;
use crate::start::Bells;

/// Between looks at the clock: moments come without anything coming in.
const CLOCK_PAUSE: Duration = Duration::from_millis(100);
/// How long what is due waits for a worker that has to catch up with the log.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// Before the first start of a scenario: by the clock of the log and ours.
const MARGIN_US: i64 = 60_000_000;

/// Why a worker cannot go on as it is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The round may be repeated.
    Repeat(CampaignError),
    /// The state in memory may not be that of the store.
    Reload(CampaignError),
}

impl From<CampaignError> for Failure {
    fn from(error: CampaignError) -> Self {
        Failure::Repeat(error)
    }
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: FlowConfig,
    pub(crate) whole_config: Arc<crate::config::Config>,
    pub(crate) db: Db,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tenants: TenantDirectory,
    pub(crate) peers: Peers,
    pub(crate) bells: Arc<Bells>,
    pub(crate) feed: Arc<Feed>,
    /// Inputs that may wait in an inbox.
    pub(crate) waiting_max: usize,
    /// Rounds at once: those who wait get their turn in order, so that no tenant starves another.
    pub(crate) rounds: Semaphore,
    /// Names this process in claims.
    pub(crate) owner: String,
}

/// The worker of one tenant.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tenant: TenantId,
    pub(crate) row: TenantRow,
    inbox: Arc<Inbox>,
    /// What the log has up to there is read by the worker itself, since then.
    catching_up: Option<(Positions, Instant)>,
    pub(crate) pending: Vec<Incoming>,
    /// Up to where what came in is pending or dealt with.
    pub(crate) read: Positions,
    /// There was more than a round takes.
    pub(crate) is_cut: bool,
    /// There has been ever since.
    cut_since: Option<Instant>,
    /// Where the readers were when everything before `as_of_us` had been handed out.
    handed_out: Positions,
    pub(crate) as_of_us: i64,
    pub(crate) definitions: Arc<Definitions>,
    changes: Option<i64>,
    pub(crate) scenario_rows: BTreeMap<String, ScenarioRow>,
    schedule_next: BTreeMap<String, Option<i64>>,
    pub(crate) due: DueRuns,
    to_end: BTreeSet<String>,
    pub(crate) has_waves: bool,
    pub(crate) has_held: bool,
    pub(crate) held_after: u64,
    /// There is something to do at once.
    pub(crate) is_more: bool,
    /// None: the store does not know yet where the tenant began.
    pub(crate) written_at: Option<Instant>,
    pub(crate) swept_at: Instant,
    wake: Arc<Notify>,
}

impl Worker {
    /// Claims the tenant and loads where it is. None: another process has it.
    pub(crate) async fn load(shared: Arc<Shared>, tenant: TenantId, wake: Arc<Notify>) -> Result<Option<Worker>, CampaignError> {
        let now_us = shared.clock.now_us();
        let lease_us = i64::try_from(shared.config.lease_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        let claimed = store::claim(&shared.db, &tenant, &shared.owner, now_us, now_us.saturating_add(lease_us)).await?;
        let Some(row) = claimed else { return Ok(None) };
        let (inbox, until) = shared.feed.subscribe(&tenant, Inbox::new(Arc::default(), shared.waiting_max));
        let now = Instant::now();
        let mut worker = Worker {
            inbox,
            catching_up: Some((until, now)),
            pending: Vec::new(),
            read: row.positions.clone(),
            is_cut: false,
            cut_since: None,
            handed_out: Positions::new(),
            as_of_us: 0,
            definitions: Arc::default(),
            changes: None,
            scenario_rows: store::work::scenario_rows(&shared.db, &tenant).await?,
            schedule_next: BTreeMap::new(),
            due: DueRuns::default(),
            to_end: BTreeSet::new(),
            has_waves: true,
            has_held: true,
            held_after: 0,
            is_more: true,
            written_at: (!row.positions.is_empty()).then_some(now),
            swept_at: now,
            wake,
            shared,
            tenant,
            row,
        };
        worker.follow_definitions().await?;
        worker.begin_reading().await?;
        let scenarios = worker.definitions.scenarios.len();
        tracing::info!(tenant = %worker.tenant, scenarios, "scenarios are worked on");
        Ok(Some(worker))
    }

    /// Where a tenant that was never worked on begins to read: before anything that lets somebody enter.
    async fn begin_reading(&mut self) -> Result<(), CampaignError> {
        let known = self.shared.feed.positions();
        if known.keys().all(|at| self.row.positions.contains_key(at)) {
            return Ok(());
        }
        let first_us = self.definitions.scenarios.values().map(|scenario| scenario.started.started_us).min();
        let begin = match first_us {
            Some(first_us) => self.shared.feed.positions_at(first_us.saturating_sub(MARGIN_US)).await?,
            None => known,
        };
        for (at, position) in begin {
            self.row.positions.entry(at).or_insert(position);
        }
        self.read = self.row.positions.clone();
        Ok(())
    }

    /// Goes from round to round until cancelled.
    pub(crate) async fn run(&mut self, stopping: CancellationToken) -> Result<(), Failure> {
        let round_min = Duration::from_millis(self.shared.config.round_ms_min);
        while !stopping.is_cancelled() {
            let begun = Instant::now();
            let shared = self.shared.clone();
            let turn = tokio::select! {
                turn = shared.rounds.acquire() => turn.map_err(|_| CampaignError::Stopping)?,
                () = stopping.cancelled() => break,
            };
            let done = super::round::round(self).await;
            drop(turn);
            let mut pause = round_min.saturating_sub(begun.elapsed());
            match done {
                Ok(()) => {}
                Err(Failure::Repeat(error)) => {
                    pause = if error.is_retryable() { RETRY_PAUSE } else { FAILURE_PAUSE };
                    tracing::debug!(tenant = %self.tenant, %error, "a round of scenarios is repeated");
                    self.row.problem = segue_runtime::status::chain(&error);
                    self.is_more = true;
                    // What was held back may have been looked at, and was not dealt with.
                    self.held_after = 0;
                }
                Err(reload) => return Err(reload),
            }
            self.wait(pause, &stopping).await;
        }
        Ok(())
    }

    /// Waits for something to do, at least so long.
    async fn wait(&mut self, pause: Duration, stopping: &CancellationToken) {
        if !pause.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopping.cancelled() => return,
            }
        }
        while !self.has_work() {
            tokio::select! {
                () = self.inbox.rung.notified() => return,
                () = self.wake.notified() => return,
                () = tokio::time::sleep(CLOCK_PAUSE) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Whether there is something to do at once, by now.
    fn has_work(&self) -> bool {
        let now_us = self.shared.clock.now_us();
        self.is_more
            || !self.pending.is_empty()
            || self.catching_up.is_some()
            || !self.inbox.is_empty()
            || (self.due.is_stuck() && self.due.may_try())
            || self.due.is_any(now_us, |scenario| self.is_going(scenario))
            || (self.is_any_schedule_due(now_us) && self.due.may_try())
            || self.is_to_be_written()
            || self.swept_at.elapsed() >= super::round::SWEEP_INTERVAL
    }

    /// Whether the log was followed further than the store says, for a while.
    pub(crate) fn is_to_be_written(&self) -> bool {
        self.written_at.is_none_or(|at| self.read != self.row.positions && at.elapsed() >= super::round::WRITE_INTERVAL)
    }

    /// Takes in what came in, unless there is something to deal with already: everything that was there when somebody asked.
    pub(crate) async fn take_in(&mut self, asked: Option<Instant>) -> Result<(), CampaignError> {
        if !self.pending.is_empty() {
            // The round is repeated. What came meanwhile is taken in by the next.
            self.is_cut = true;
            return Ok(());
        }
        self.as_of_us = self.shared.feed.barrier(asked).await?;
        self.handed_out = self.shared.feed.positions();
        self.take_more().await?;
        self.cut_since = self.is_cut.then(|| self.cut_since.unwrap_or_else(Instant::now));
        Ok(())
    }

    async fn take_more(&mut self) -> Result<(), CampaignError> {
        let most = self.shared.config.round_inputs_max;
        if self.catching_up.is_none() {
            match self.inbox.take(&self.shared.feed.positions(), most) {
                Some(delivery) => {
                    self.take(delivery);
                    return Ok(());
                }
                None => self.catch_up(),
            }
        }
        let Some((until, _)) = &self.catching_up else { return Ok(()) };
        let delivery = gap(&self.shared.feed, &self.tenant, &self.definitions.interest, &self.read, until, most).await?;
        if !delivery.is_cut {
            self.catching_up = None;
        }
        self.take(delivery);
        // What came in meanwhile is in the inbox.
        self.is_cut |= self.catching_up.is_none() && !self.inbox.is_empty();
        Ok(())
    }

    fn take(&mut self, delivery: Delivery) {
        advance(&mut self.read, &delivery.positions);
        self.is_cut = delivery.is_cut;
        self.pending = delivery.incoming;
    }

    /// Takes a new inbox, and reads by itself what comes before it.
    fn catch_up(&mut self) {
        let since = self.catching_up.as_ref().map_or_else(Instant::now, |(_, since)| *since);
        let inbox = Inbox::new(self.definitions.interest.clone(), self.shared.waiting_max);
        let (inbox, until) = self.shared.feed.subscribe(&self.tenant, inbox);
        self.inbox = inbox;
        self.catching_up = Some((until, since));
    }

    /// Whether what is due may happen: not before events that came before it were read, unless that takes long.
    pub(crate) fn may_follow_time(&self) -> bool {
        let since = self.catching_up.as_ref().map(|(_, since)| *since).or(self.cut_since);
        since.is_none_or(|since| since.elapsed() >= CATCH_UP_MAX)
    }

    /// Loads definitions again if they have changed. What was taken in meanwhile was of another interest maybe: then it is read again.
    pub(crate) async fn follow_definitions(&mut self) -> Result<(), CampaignError> {
        let all = scenarios::changes(&self.shared.db).await?;
        let changes = all.into_iter().find(|(tenant, _)| *tenant == self.tenant).map_or(0, |(_, changes)| changes);
        if self.changes == Some(changes) {
            return Ok(());
        }
        let zone = self.shared.tenants.get(&self.tenant).map_or(chrono_tz::UTC, |tenant| tenant.time_zone);
        let definitions = Definitions::new(scenarios::started(&self.shared.db, &self.tenant).await?, zone);
        let is_wider = !self.definitions.interest.covers(&definitions.interest);
        self.definitions = Arc::new(definitions);
        self.changes = Some(changes);
        self.to_end = self.definitions.scenarios.values().filter(|of| of.started.ended).map(|of| of.started.id.clone()).collect();
        self.due.keep(self.definitions.scenarios.values().filter(|of| !of.started.ended).map(|of| of.started.id.as_str()));
        self.look_at_schedules();
        if is_wider {
            self.pending.clear();
            self.read = self.row.positions.clone();
            self.catch_up();
            self.is_cut = true;
        }
        Ok(())
    }

    /// Finds out when schedules are due next.
    pub(crate) fn look_at_schedules(&mut self) {
        let next = |id: &String| {
            let scenario = self.definitions.get(id)?;
            let plan = scenario.open()?;
            let row = schedules::row_of(scenario, self.scenario_rows.get(id));
            let is_present_due = scenario.started.enter_present_members && row.present != scenario.started.starts;
            if is_present_due && schedules::present_members(plan).is_some() { Some(i64::MIN) } else { schedules::next_us(plan, &row) }
        };
        self.schedule_next = self.definitions.scenarios.keys().map(|id| (id.clone(), next(id))).collect();
    }

    pub(crate) fn is_schedule_due(&self, scenario: &str, now_us: i64) -> bool {
        self.schedule_next.get(scenario).copied().flatten().is_some_and(|next| next <= now_us)
    }

    /// Whether any scenario lets persons enter by time now.
    pub(crate) fn is_any_schedule_due(&self, now_us: i64) -> bool {
        self.schedule_next.values().flatten().any(|next| *next <= now_us)
    }

    /// Scenarios that have ended and may have active runs.
    pub(crate) fn to_end(&self) -> impl Iterator<Item = String> {
        self.to_end.iter().cloned()
    }

    /// Whether runs of a scenario go on by time.
    fn is_going(&self, scenario: &str) -> bool {
        self.definitions.get(scenario).is_some_and(|of| !of.started.paused && !of.started.ended)
    }

    /// Scenarios with runs that may be due, the earliest first, and behind which of them to look.
    pub(crate) fn due_scenarios(&self, now_us: i64) -> Vec<(String, (i64, u64))> {
        self.due.of(now_us, |scenario| self.is_going(scenario))
    }

    /// Looks up when the next runs of scenarios are due of which all due ones were dealt with.
    pub(crate) async fn look_ahead(&mut self, scenarios: &BTreeSet<String>) -> Result<(), CampaignError> {
        for scenario in scenarios {
            let next = runs::next_due(&self.shared.db, &self.tenant, scenario, self.due.after(scenario)).await?;
            self.due.set_next(scenario, next);
        }
        Ok(())
    }

    /// These scenarios have no active runs any more.
    pub(crate) fn note_ended(&mut self, scenarios: &BTreeSet<String>) {
        self.to_end.retain(|scenario| !scenarios.contains(scenario));
    }

    /// Tries again those who could not go on, if it is time to.
    pub(crate) fn retry(&mut self) {
        if self.due.retry() {
            self.held_after = 0;
        }
    }

    /// Whether everything that came in was taken.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.catching_up.is_none() && !self.is_cut
    }

    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            db: &self.shared.db,
            peers: &self.shared.peers,
            tenant: &self.tenant,
            positions: &self.handed_out,
            as_of_us: self.as_of_us,
        }
    }

    /// Gives the tenant back.
    pub(crate) async fn release(&self) {
        self.shared.feed.unsubscribe(&self.tenant);
        if let Err(error) = store::release(&self.shared.db, &self.tenant, self.row.epoch).await {
            tracing::warn!(tenant = %self.tenant, %error, "the claim on a tenant's scenarios could not be given back; it runs out by itself");
        }
    }
}

#[cfg(test)]
impl Worker {
    /// Works with these scenarios rather than those of the store.
    pub(crate) fn define(&mut self, started: Vec<scenarios::Started>) {
        self.definitions = Arc::new(Definitions::new(started, chrono_tz::UTC));
        self.changes = Some(0);
        self.to_end = self.definitions.scenarios.values().filter(|of| of.started.ended).map(|of| of.started.id.clone()).collect();
        self.due = DueRuns::default();
        self.due.keep(self.definitions.scenarios.values().filter(|of| !of.started.ended).map(|of| of.started.id.as_str()));
        self.look_at_schedules();
        self.catch_up();
    }

    /// Makes rounds until everything that is there now was dealt with, or somebody is stuck.
    pub(crate) async fn settle(&mut self) -> Result<(), Failure> {
        store::ask(&self.shared.db, &self.tenant).await?;
        super::round::round(self).await?;
        while self.has_work() && !self.due.is_stuck() {
            super::round::round(self).await?;
        }
        Ok(())
    }
}
