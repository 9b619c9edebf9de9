//! The worker of a tenant: loads its state, goes from round to round, writes checkpoints, and gives the tenant back.
//!
//! What a round deals with stays pending until the round is committed. A failure before the commit repeats the round with what came in
//! since; a failure of the commit itself, whose outcome is unknown, drops the state and loads it anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use prost::Message;
use roaring::RoaringBitmap;
use segue_log::feed::advance;
use segue_model::TenantId;
use segue_proto::events::v1::{TransitionBatch, TransitionKind};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::LiveDeps;
use super::audience::{Audience, Reply, Standing};
use super::changes::{Changes, persons_of};
use super::feed::{Delivery, Feed, Inbox, Positions, gap};
use super::store::{self, TenantRow};
use super::view::{Dirty, Holdout, View, chunk_of};
use super::whom::Pending;
use crate::error::AudienceError;

/// Between looks at the clock: moments become due without anything coming in.
const CLOCK_PAUSE: Duration = Duration::from_millis(200);
/// After a failure that may pass.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// After one that will not pass by itself soon.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// What a worker is told.
pub(crate) enum Command {
    /// Evaluate an audience in full.
    Evaluate {
        /// Which.
        audience: String,
        /// Who waits.
        reply: Reply,
    },
    /// Make a round and say when it is done.
    Poke(oneshot::Sender<()>),
}

/// Why a worker cannot go on as it is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The round may be repeated.
    Repeat(AudienceError),
    /// The state in memory may not be that of the store.
    Reload(AudienceError),
}

impl From<AudienceError> for Failure {
    fn from(error: AudienceError) -> Self {
        Failure::Repeat(error)
    }
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) deps: Arc<LiveDeps>,
    pub(crate) feed: Arc<Feed>,
    /// Events that may wait in an inbox.
    pub(crate) waiting_max: usize,
    /// Rounds at once: those who wait get their turn in order, so that no tenant starves another.
    pub(crate) rounds: Semaphore,
    /// Names this process in claims.
    pub(crate) owner: String,
    /// Rung when transitions were committed.
    pub(crate) committed: Arc<Notify>,
}

/// The worker of one tenant.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tenant: TenantId,
    pub(crate) row: TenantRow,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) pending: Pending,
    /// Lists whose changes are pending, with their revisions.
    pub(crate) list_marks: Vec<(String, u64)>,
    /// Up to where what came in is pending or dealt with.
    pub(crate) delivered: Positions,
    /// Everything appended to the log before this moment is.
    pub(crate) delivered_us: i64,
    pub(crate) audiences: BTreeMap<String, Audience>,
    /// Changes that follow from definitions, to be committed with the next round.
    pub(crate) redefined: Changes,
    /// Who is held out from now on, where that was redefined.
    pub(crate) holdouts: BTreeMap<String, Holdout>,
    /// Audiences that are gone.
    pub(crate) gone: Vec<String>,
    /// Persons whose events were removed lately, and who were dealt with.
    pub(crate) removed: RoaringBitmap,
    /// Persons who have been seen.
    pub(crate) known: RoaringBitmap,
    /// Before this is dealt with, whoever comes may be new.
    pub(crate) known_at: Positions,
    pub(crate) view: Arc<RwLock<View>>,
    pub(crate) dirty: Dirty,
    pub(crate) committed_at: Instant,
    pub(crate) asked_at: Instant,
    checkpoint_at: Instant,
    /// Definitions or lists were changed.
    pub(crate) wake: Arc<Notify>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) pokes: Vec<oneshot::Sender<()>>,
    pub(crate) redefine: bool,
}

/// How a worker is reached.
pub(crate) struct Reached {
    pub(crate) view: Arc<RwLock<View>>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) commands: mpsc::Receiver<Command>,
}

impl Worker {
    /// Claims the tenant and loads its state. None: another process has it.
    pub(crate) async fn load(shared: Arc<Shared>, tenant: TenantId, reached: Reached) -> Result<Option<Worker>, AudienceError> {
        let deps = shared.deps.clone();
        let now_us = deps.clock.now_us();
        let until_us = now_us.saturating_add(i64::try_from(deps.config.live.lease_ms).unwrap_or(i64::MAX).saturating_mul(1_000));
        let Some(row) = store::claim(&deps.db, &tenant, &shared.owner, now_us, until_us).await? else { return Ok(None) };
        // From here on nothing is missed; what lies before is read now.
        let (inbox, from) = shared.feed.subscribe(&tenant, Inbox::new(shared.waiting_max));
        let batches_max = deps.config.live.catch_up_batches_max;
        let missed = gap(&shared.feed, &tenant, &row.positions, &from, batches_max, shared.waiting_max).await?;
        let caught_up = missed.is_some() && !row.positions.is_empty();
        let (stored, dirty) = load_members(&shared, &tenant, &row).await?;
        let now = Instant::now();
        let mut worker = Worker {
            pending: Pending::default(),
            list_marks: Vec::new(),
            delivered: from,
            delivered_us: 0,
            audiences: BTreeMap::new(),
            redefined: Changes::default(),
            holdouts: BTreeMap::new(),
            gone: Vec::new(),
            removed: RoaringBitmap::new(),
            known: RoaringBitmap::new(),
            known_at: Positions::new(),
            view: reached.view,
            dirty,
            committed_at: now,
            asked_at: now,
            checkpoint_at: now,
            wake: reached.wake,
            commands: reached.commands,
            pokes: Vec::new(),
            redefine: true,
            shared,
            tenant,
            row,
            inbox,
        };
        worker.take(missed.unwrap_or_default());
        worker.adopt(stored, caught_up).await?;
        worker.learn_known().await?;
        tracing::info!(tenant = %worker.tenant, audiences = worker.audiences.len(), caught_up, "audiences are live");
        Ok(Some(worker))
    }

    /// Goes from round to round until cancelled.
    pub(crate) async fn run(&mut self, stopping: CancellationToken) -> Result<(), Failure> {
        let round_min = Duration::from_millis(self.shared.deps.config.live.round_ms_min);
        while !stopping.is_cancelled() {
            let begun = Instant::now();
            let shared = self.shared.clone();
            let turn = tokio::select! {
                turn = shared.rounds.acquire() => turn.map_err(|_| AudienceError::Stopping)?,
                () = stopping.cancelled() => break,
            };
            let done = super::steps::round(self).await;
            drop(turn);
            let mut pause = round_min.saturating_sub(begun.elapsed());
            match done {
                Ok(()) => self.view.write().status.problem.clear(),
                Err(Failure::Repeat(error)) => {
                    pause = if error.is_retryable() { RETRY_PAUSE } else { FAILURE_PAUSE };
                    tracing::debug!(tenant = %self.tenant, %error, "a round of audiences is repeated");
                    self.view.write().status.problem = segue_runtime::status::chain(&error);
                }
                Err(reload) => return Err(reload),
            }
            self.checkpoint(false).await.map_err(Failure::Reload)?;
            self.wait(pause, &stopping).await;
        }
        self.checkpoint(true).await.map_err(Failure::Reload)
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
                () = self.wake.notified() => {
                    self.redefine = true;
                    return;
                }
                Some(command) = self.commands.recv() => {
                    self.told(command);
                    return;
                }
                () = tokio::time::sleep(CLOCK_PAUSE) => if self.is_due() { return },
                () = stopping.cancelled() => return,
            }
        }
    }

    fn told(&mut self, command: Command) {
        match command {
            Command::Poke(done) => {
                self.redefine = true;
                self.pokes.push(done);
            }
            Command::Evaluate { audience, reply } => match self.audiences.get_mut(&audience) {
                Some(found) => found.ask(reply),
                None => {
                    let hint = "it was changed a moment ago: retry";
                    // Whoever asked may have gone away.
                    let _ = reply.send(Err(AudienceError::NotEvaluated { id: audience, hint }));
                }
            },
        }
    }

    /// Whether a moment has come at which somebody may enter or leave, or at which something is to be looked up.
    fn is_due(&self) -> bool {
        let now_us = self.shared.deps.clock.now_us();
        let audit_us = i64::try_from(self.shared.deps.config.live.audit_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        let is_due = |audience: &Audience| {
            audience.timers.next_us().is_some_and(|next| next <= now_us)
                || audience.timers.wanted_until(now_us).is_some()
                || audience.audit.is_open
                || (audit_us > 0 && now_us.saturating_sub(audience.audit.audited_us) >= audit_us)
        };
        self.audiences.values().any(|audience| audience.is_followed() && is_due(audience))
            || self.asked_at.elapsed() > super::steps::QUIET_MAX
    }

    /// Whether there is something to do at once.
    fn has_work(&self) -> bool {
        let has_work = |audience: &Audience| matches!(audience.standing, Standing::ToEvaluate(_)) || audience.audit.is_wanted;
        self.redefine
            || !self.pokes.is_empty()
            || !self.pending.is_empty()
            || !self.redefined.is_empty()
            || !self.gone.is_empty()
            || self.audiences.values().any(has_work)
    }

    /// Takes in what came in.
    pub(crate) fn take(&mut self, delivery: Delivery) {
        advance(&mut self.delivered, &delivery.positions);
        self.pending.seen.extend(delivery.seen);
        for (from, into) in delivery.merged {
            self.pending.merged.insert(from);
            self.pending.merged.insert(into);
        }
    }

    /// Writes what has changed of the members, when it is time to.
    pub(crate) async fn checkpoint(&mut self, now: bool) -> Result<(), AudienceError> {
        let every = Duration::from_millis(self.shared.deps.config.live.checkpoint_ms);
        if self.dirty.is_empty() || (!now && self.checkpoint_at.elapsed() < every) {
            return Ok(());
        }
        let dirty = std::mem::take(&mut self.dirty);
        let chunks: Vec<_> = {
            let view = self.view.read();
            let chunk = |audience: &String, chunk: u16| view.members.get(audience).and_then(|members| chunk_of(&members.matched, chunk));
            dirty.iter().flat_map(|(audience, chunks)| chunks.iter().map(|at| (audience.clone(), *at, chunk(audience, *at)))).collect()
        };
        store::checkpoint(&self.shared.deps.db, &self.tenant, self.row.epoch, self.row.sequence, &chunks).await?;
        self.row.checkpoint = self.row.sequence;
        self.checkpoint_at = Instant::now();
        Ok(())
    }

    /// Gives the tenant back.
    pub(crate) async fn release(&self) {
        self.shared.feed.unsubscribe(&self.tenant);
        if let Err(error) = store::release(&self.shared.deps.db, &self.tenant, self.row.epoch).await {
            tracing::warn!(tenant = %self.tenant, %error, "the claim on a tenant's audiences could not be given back; it runs out by itself");
        }
    }
}

/// Members by audience.
pub(crate) type Stored = BTreeMap<String, RoaringBitmap>;

/// The members as of the last transition: those of the checkpoint, and the transitions since.
async fn load_members(shared: &Shared, tenant: &TenantId, row: &TenantRow) -> Result<(Stored, Dirty), AudienceError> {
    let mut members = store::members(&shared.deps.db, tenant).await?;
    let mut dirty = Dirty::new();
    for payload in store::batches(&shared.deps.db, tenant, row.checkpoint).await? {
        replay(&payload, &mut members, &mut dirty)?;
    }
    Ok((members, dirty))
}

/// Puts a batch of transitions into members.
pub(crate) fn replay(payload: &[u8], members: &mut Stored, dirty: &mut Dirty) -> Result<(), AudienceError> {
    let corrupt = AudienceError::Corrupt { what: "transitions" };
    let batch = TransitionBatch::decode(payload).map_err(|_| corrupt.clone())?;
    for group in batch.groups {
        let persons = persons_of(&group).ok_or_else(|| corrupt.clone())?;
        let of = members.entry(group.audience.clone()).or_default();
        if group.kind == i32::from(TransitionKind::Entered) {
            *of |= &persons
        } else {
            *of -= &persons
        }
        let chunks = dirty.entry(group.audience).or_default();
        for person in persons {
            chunks.insert((person >> 16) as u16);
        }
    }
    Ok(())
}
