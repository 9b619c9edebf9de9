//! The worker of one partition: takes groups of accepted batches through to the `resolved` topic.
//!
//! # Exactly once
//!
//! Whatever a group does is a function of what is committed before it starts: which batches it has (`planned_until`,
//! else one batch), which tenants it skips (`pipeline_skip`), which messages were seen (marks). So a group that was cut
//! short by a crash is repeated exactly: identity answers the same for the same `(source, sequence)`, the log drops a batch
//! whose producer sequence it has, and position, marks and counters commit in one transaction, refused to a worker that has
//! lost its lease. The plan of the next group is written with the commit of this one, from what was read ahead.
//!
//! # Tenants without identity
//!
//! Events of a tenant whose module is off stay on the log; a row says from where. Switched on, the tenant is caught up from
//! there in groups of its own (`catch_up.rs`), in between the others, and skipped until it is level.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use segue_log::{Log, LogError, ReadLimits, StoredBatch};
use segue_model::{Clock, Module, TenantId};
use segue_runtime::tasks::Tasks;
use segue_runtime::tenants::TenantDirectory;
use segue_runtime::trace;
use segue_store::Db;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::config::PipelineConfig;
use super::emit::PARTS_MAX;
use super::enrich::Enricher;
use super::error::PipelineError;
use super::fault::{Faults, Point};
use super::marks::{MarkIndex, Owner, day_of};
use super::prepare::{Preparer, decode};
use super::resolve::{NoAnswer, Resolver};
use super::retry::Backoff;
use super::steps::{Done, Turn};
use crate::store::pipeline::{self as sql, Counts, PartitionRow, SkipRow};
use crate::taxonomy::Taxonomies;
use crate::{ACCEPTED, RESOLVED};

/// Name under which the log keeps what was not resolved yet.
pub const CONSUMER: &str = "ingest";
/// Longest wait for new batches before looking at other duties.
const READ_WAIT: Duration = Duration::from_secs(1);
/// The same while marks are merged or removed.
const DUTY_WAIT: Duration = Duration::from_millis(20);
/// How far the log's time may be ahead of the clock.
const AHEAD_US_MAX: i64 = 86_400_000_000;
/// A clock before 2026 is one that was never set.
const CLOCK_US_MIN: i64 = 1_767_225_600_000_000;
/// Batches that one read returns.
const READ_BATCHES_MAX: usize = 256;

/// What all workers of a process share.
pub struct Shared {
    /// Configuration.
    pub config: PipelineConfig,
    /// Ingest's store.
    pub db: Db,
    /// The log.
    pub log: Log,
    /// The time, for leases.
    pub clock: Arc<dyn Clock>,
    /// Switches.
    pub tenants: TenantDirectory,
    /// Where merges run.
    pub tasks: Tasks,
    /// Names.
    pub taxonomies: Taxonomies,
    /// Dimensions.
    pub enricher: Enricher,
    /// Identity.
    pub resolver: Resolver,
    /// Faults, in tests.
    pub faults: Faults,
}

/// The worker of one partition.
pub struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) partition: u16,
    pub(super) owner: Owner,
    pub(super) row: PartitionRow,
    pub(super) marks: MarkIndex,
    pub(super) skips: BTreeMap<String, SkipRow>,
    /// Read, and not worked yet.
    ahead: VecDeque<StoredBatch>,
    pub(super) stop: CancellationToken,
    /// A group was committed since the state was loaded; until then the next one may have been begun before.
    has_committed: bool,
    /// The planned group of catching up was planned here, so nobody has begun it before.
    pub(super) has_planned_catch_up: bool,
    /// The log's time is ahead of the clock, and that was said.
    is_ahead: bool,
}

impl Worker {
    /// Loads the state of a partition that this process has just acquired.
    pub async fn load(shared: Arc<Shared>, row: PartitionRow, stop: CancellationToken) -> Result<Self, PipelineError> {
        let owner = Owner { partition: row.partition, epoch: row.epoch };
        let partition = row.partition as u16;
        let memory = shared.config.marks.memory_bytes_max / u64::from(shared.log.partitions());
        let marks = MarkIndex::load(shared.db.clone(), owner, shared.config.marks.clone(), memory as usize, row.high_water_us).await?;
        let skips = sql::list_skips(&shared.db, row.partition).await?.into_iter().map(|skip| (skip.tenant.clone(), skip)).collect();
        shared.log.hold(ACCEPTED, partition, CONSUMER, row.position as u64).await?;
        Ok(Self {
            shared,
            partition,
            owner,
            row,
            marks,
            skips,
            ahead: VecDeque::new(),
            stop,
            has_committed: false,
            has_planned_catch_up: false,
            is_ahead: false,
        })
    }

    /// Works until told to stop or fenced off.
    pub async fn run(mut self) -> Result<(), PipelineError> {
        // Before the tenants are known, every switch would look off.
        tokio::select! {
            () = self.shared.tenants.ready() => {}
            () = self.stop.cancelled() => return Ok(()),
        }
        let mut backoff = Backoff::new(self.pause_max());
        loop {
            match self.step().await {
                Ok(()) if self.stop.is_cancelled() => return Ok(()),
                Ok(()) => backoff = Backoff::new(self.pause_max()),
                Err(PipelineError::Stopping) => return Ok(()),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(
                        partition = self.partition,
                        error = segue_runtime::status::chain(&error),
                        "a group could not be worked; trying again"
                    );
                    match self.reload_when_possible(&mut backoff).await {
                        Ok(()) => {}
                        Err(PipelineError::Stopping) => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Pauses and loads the state again until that succeeds. What is in memory after an error is of no use: a group may
    /// have been taken from what was read ahead.
    async fn reload_when_possible(&mut self, backoff: &mut Backoff) -> Result<(), PipelineError> {
        loop {
            backoff.pause(&self.stop).await?;
            match self.reload().await {
                Err(error) if error.is_retryable() => tracing::warn!(
                    partition = self.partition,
                    error = segue_runtime::status::chain(&error),
                    "the state of the partition cannot be loaded; trying again"
                ),
                done => return done,
            }
        }
    }

    /// What the store did last is unknown: takes its word for everything.
    async fn reload(&mut self) -> Result<(), PipelineError> {
        // Before the new index looks at what there is, so that nothing is written behind its back.
        self.marks.give_up_merge();
        self.fault(Point::Reload, false)?;
        let found = sql::find_partition(&self.shared.db, self.owner.partition).await?;
        let row = found.filter(|row| row.epoch == self.owner.epoch).ok_or(PipelineError::Fenced { partition: self.owner.partition })?;
        *self = Self::load(self.shared.clone(), row, self.stop.clone()).await?;
        Ok(())
    }

    async fn step(&mut self) -> Result<(), PipelineError> {
        self.marks.maintain(&self.shared.tasks).await?;
        let caught_up = self.catch_up().await?;
        let wait = match (caught_up, self.marks.is_settled()) {
            (true, _) => Duration::ZERO,
            (false, false) => DUTY_WAIT,
            (false, true) => READ_WAIT,
        };
        let batches = self.take_group(wait).await?;
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(()) };
        let span = tracing::info_span!("resolve", partition = self.partition, first = first.position, last = last.position);
        trace::continue_from(&span, first.traceparent.as_deref());
        self.work(batches).instrument(span).await
    }

    /// The next group: the planned one, or one batch. Empty when there is nothing yet.
    async fn take_group(&mut self, wait: Duration) -> Result<Vec<StoredBatch>, PipelineError> {
        let position = self.row.position as u64;
        let until = (self.row.planned_until as u64).max(position + 1);
        while self.ahead.back().is_none_or(|batch| batch.position < until) {
            // A planned group is on the log: no need to wait for it.
            if !self.read_ahead(position, if self.ahead.is_empty() { wait } else { READ_WAIT }).await? {
                return Ok(Vec::new());
            }
        }
        let count = self.ahead.iter().take_while(|batch| batch.position <= until).count();
        Ok(self.ahead.drain(..count).collect())
    }

    /// Reads what follows what was read, or `worked` when nothing was. False when there is nothing (yet).
    async fn read_ahead(&mut self, worked: u64, wait: Duration) -> Result<bool, PipelineError> {
        let after = self.ahead.back().map_or(worked, |batch| batch.position);
        let limits = ReadLimits { batches_max: READ_BATCHES_MAX, bytes_max: self.shared.config.group_bytes_max as usize * 2, wait };
        let mut changes = self.shared.tenants.changes();
        let read = tokio::select! {
            read = self.shared.log.read(ACCEPTED, self.partition, after, limits) => read,
            // A tenant that was switched on wants to be caught up.
            _ = changes.changed(), if !self.skips.is_empty() && !wait.is_zero() => return Ok(false),
            () = self.stop.cancelled() => return Err(PipelineError::Stopping),
        };
        match read {
            Ok(batches) => {
                let some = !batches.is_empty();
                self.ahead.extend(batches);
                Ok(some)
            }
            Err(LogError::Trimmed { first_available, .. }) => {
                self.go_on_after_loss(first_available).await?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Retention removed batches that were not resolved, although they were held. Says so, and goes on with what is there.
    async fn go_on_after_loss(&mut self, first_available: u64) -> Result<(), PipelineError> {
        tracing::error!(
            partition = self.partition,
            resolved_until = self.row.position,
            first_available,
            "accepted batches were removed from the log before they were resolved; their events are lost"
        );
        self.ahead.clear();
        let to = PartitionRow { position: first_available as i64 - 1, planned_until: 0, ..self.row.clone() };
        let mut tx = self.shared.db.begin().await?;
        if !sql::advance(&mut tx, self.owner, self.row.position, &to).await? {
            return Err(PipelineError::Fenced { partition: self.owner.partition });
        }
        tx.commit().await?;
        self.row = to;
        Ok(())
    }

    /// Takes a group through.
    async fn work(&mut self, batches: Vec<StoredBatch>) -> Result<(), PipelineError> {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(()) };
        let (start, end) = (first.position, last.position);
        let mut decoded = decode(self.partition, &batches, |_| true)?;
        let tenants: BTreeSet<&str> = decoded.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let off: Vec<String> =
            tenants.into_iter().filter(|tenant| !self.skips.contains_key(*tenant) && !self.is_on(tenant)).map(str::to_owned).collect();
        if !off.is_empty() && self.may_decide(self.has_committed, &self.producer(), end).await? {
            self.skip_from(start, off).await?;
        }
        decoded.retain(|(tenant, _)| !self.skips.contains_key(tenant));
        self.fault(Point::Read, false)?;

        let appended_at_us = batches.iter().map(|batch| batch.appended_at_us).max().unwrap_or(0);
        // What counts as seen is a matter of what is committed, so that a repeated group sees the same; the clock has a say
        // only in the day that its own marks get, with the commit.
        let group = self.preparer().prepare(decoded, day_of(self.row.high_water_us)).await?;
        let high_water_us = self.high_water_after(appended_at_us);
        let day = day_of(high_water_us);
        let traceparent = trace::current_traceparent().or_else(|| first.traceparent.clone());
        let turn = Turn { source: format!("ingest.accepted.{}", self.partition), producer: self.producer(), sequence: end };
        let done = match self.resolve(group, day, &turn, traceparent.as_deref()).await {
            Ok(done) => done,
            Err(NoAnswer::Failed(error)) => return Err(error),
            Err(NoAnswer::SwitchedOff(tenant)) => {
                if self.may_decide(self.has_committed, &self.producer(), end).await? {
                    self.skip_from(start, vec![tenant]).await?;
                } else {
                    // A part of the group is written with this tenant in it: it can only be finished with it. Identity
                    // repeats the answer to its last question even while its module is off, so this lasts only where it
                    // never answered: a group of more subjects than one call takes, of which a part was asked.
                    tracing::warn!(
                        partition = self.partition,
                        tenant,
                        "identity was switched off in the middle of a group; the partition waits until it is on"
                    );
                    Backoff::new(self.pause_max()).pause(&self.stop).await?;
                }
                self.ahead = batches.into_iter().chain(std::mem::take(&mut self.ahead)).collect();
                return Ok(());
            }
        };
        self.fault(Point::Resolved, false)?;
        self.append(&done.output.batches, false).await?;
        self.fault(Point::Appended, false)?;
        self.set_aside(&batches, &done.output).await?;
        self.commit(end, high_water_us, done).await
    }

    /// The log's time after a batch of `appended_at_us`. Not far ahead of this machine's clock: a log whose clock once leapt
    /// forward must not make all marks look expired, nor keep those of the years until then.
    fn high_water_after(&mut self, appended_at_us: i64) -> i64 {
        let now_us = self.shared.clock.now_us();
        let most = now_us.saturating_add(AHEAD_US_MAX);
        let latest = self.row.high_water_us.max(appended_at_us);
        // A machine that has just started may not know the time yet; it has no say then.
        let is_ahead = latest > most && now_us > CLOCK_US_MIN;
        if is_ahead && !self.is_ahead {
            tracing::warn!(
                partition = self.partition,
                latest_us = latest,
                taken_as_us = most,
                "batches were appended at a time that is yet to come; check the clocks of the machines"
            );
        }
        self.is_ahead = is_ahead;
        if is_ahead { most } else { latest }
    }

    async fn commit(&mut self, end: u64, high_water_us: i64, done: Done) -> Result<(), PipelineError> {
        if self.ahead.len() < 2 {
            // The group is not committed yet, but it must not be read again.
            self.read_ahead(end, Duration::ZERO).await?;
        }
        let to = PartitionRow { position: end as i64, planned_until: self.plan(), high_water_us, ..self.row.clone() };
        let mut tx = self.shared.db.begin().await?;
        if !sql::advance(&mut tx, self.owner, self.row.position, &to).await? {
            return Err(PipelineError::Fenced { partition: self.owner.partition });
        }
        self.marks.write(&mut tx, done.day, &done.marks).await?;
        let counts: Vec<(&str, Counts)> = done.counts.iter().map(|(tenant, counts)| (tenant.as_str(), *counts)).collect();
        sql::add_counts(&mut tx, self.owner.partition, &counts).await?;
        self.fault(Point::BeforeCommit, false)?;
        self.fault(Point::StoreLost, false)?;
        tx.commit().await?;
        self.fault(Point::Committed, false)?;
        self.row = to;
        self.has_committed = true;
        self.marks.remember(done.day, done.marks);
        self.shared.log.hold(ACCEPTED, self.partition, CONSUMER, end).await?;
        Ok(())
    }

    /// Where the next group ends, by what was read ahead; 0 for a single batch.
    fn plan(&self) -> i64 {
        let (mut events, mut bytes) = (0u64, 0usize);
        let mut until = None;
        for (at, batch) in self.ahead.iter().enumerate() {
            events += u64::from(batch.events);
            bytes += batch.payload.len();
            let fits = events <= u64::from(self.shared.config.group_events_max) && bytes <= self.shared.config.group_bytes_max as usize;
            if !fits {
                break;
            }
            // One batch is what a group without a plan is.
            until = (at > 0).then_some(batch.position);
        }
        until.map_or(0, |until| until as i64)
    }

    /// Whether what a group does may still be decided: not when a worker before this one may have written a part of it.
    pub(super) async fn may_decide(&self, is_ours: bool, producer: &str, sequence: u64) -> Result<bool, PipelineError> {
        if is_ours {
            return Ok(true);
        }
        for partition in 0..self.shared.log.partitions() {
            let last = self.shared.log.last_sequence(RESOLVED, partition, producer).await?;
            if last.is_some_and(|last| last >= sequence * PARTS_MAX) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Leaves the events of these tenants on the log from `start` on.
    async fn skip_from(&mut self, start: u64, tenants: Vec<String>) -> Result<(), PipelineError> {
        let skips: Vec<SkipRow> = tenants.into_iter().map(|tenant| SkipRow { tenant, reached: start as i64 - 1, lost: 0 }).collect();
        let mut tx = self.shared.db.begin().await?;
        sql::fence(&mut tx, self.owner).await?;
        for skip in &skips {
            sql::put_skip(&mut tx, self.owner.partition, skip).await?;
        }
        tx.commit().await?;
        for skip in skips {
            tracing::info!(partition = self.partition, tenant = skip.tenant, from = start, "identity is off: events wait on the log");
            self.skips.insert(skip.tenant.clone(), skip);
        }
        Ok(())
    }

    pub(super) fn is_on(&self, tenant: &str) -> bool {
        tenant.parse::<TenantId>().is_ok_and(|tenant| self.shared.tenants.is_on(&tenant, Module::Identity))
    }

    pub(super) fn preparer(&self) -> Preparer<'_> {
        Preparer { marks: &self.marks, taxonomies: &self.shared.taxonomies, enricher: &self.shared.enricher }
    }

    fn producer(&self) -> String {
        format!("ingest-{}", self.partition)
    }

    pub(super) fn fault(&self, point: Point, catch_up: bool) -> Result<(), PipelineError> {
        self.shared.faults.hit(self.partition, point, catch_up)
    }

    pub(super) fn pause_max(&self) -> Duration {
        Duration::from_millis(self.shared.config.retry_ms_max.into())
    }
}
