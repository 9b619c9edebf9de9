//! Reading the log for scenarios: one reader per partition and topic, which hands each tenant's share to the tenant's [`Inbox`].
//!
//! A tenant that is slow holds up nobody: an inbox that overflows is emptied and takes nothing in any more; the tenant then reads the log by
//! itself, from where it is ([`Feed::gap`]), and takes an inbox again when it has caught up. Readers begin at the end of the log.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::{Mutex, RwLock};
use segue_log::{Log, LogError, ReadLimits, StoredBatch, Topic};
use segue_model::{Clock, TenantId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::incoming::{Incoming, Interest, decode};
use crate::error::CampaignError;

/// How long a read waits for something to come.
const READ_WAIT: Duration = Duration::from_secs(5);
/// How old a barrier may be that another tenant passed.
const BARRIER_AGE_MAX: Duration = Duration::from_millis(10);
/// How long a barrier may take, in looks at the readers.
const BARRIER_LOOKS: u32 = 1_000;
/// Between two of them.
const BARRIER_PAUSE: Duration = Duration::from_millis(2);
/// Between attempts when the log cannot be reached.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Batches that one read of a gap takes at most.
const GAP_BATCHES: usize = 64;
/// Who we are to the log.
pub(crate) const CONSUMER: &str = "campaign";

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stream {
    /// Events with persons.
    Resolved,
    /// Persons merged.
    Identity,
    /// Persons who entered or left audiences.
    Transitions,
}

impl Stream {
    /// Merges come first, so that what is read with them is known to be the survivor's.
    pub(crate) const ALL: [Stream; 3] = [Stream::Identity, Stream::Resolved, Stream::Transitions];

    pub(crate) fn topic(self) -> Topic {
        match self {
            Stream::Resolved => Topic::new("resolved"),
            Stream::Identity => Topic::new("identity"),
            Stream::Transitions => Topic::new("transitions"),
        }
    }
}

/// Per stream and partition, the last batch that was dealt with.
pub(crate) type Positions = BTreeMap<(Stream, u16), u64>;

/// Moves `positions` forward to `others` where these are ahead.
pub(crate) fn advance(positions: &mut Positions, others: &Positions) {
    for (at, position) in others {
        let known = positions.entry(*at).or_default();
        *known = (*known).max(*position);
    }
}

/// Whether everything up to `until` is behind `positions`.
pub(crate) fn has_reached(positions: &Positions, until: &Positions) -> bool {
    until.iter().all(|(at, position)| positions.get(at).copied().unwrap_or_default() >= *position)
}

/// What came in for a tenant: whole batches.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) incoming: Vec<Incoming>,
    /// Up to where this is everything.
    pub(crate) positions: Positions,
    /// There is more.
    pub(crate) is_cut: bool,
}

/// What one batch brought a tenant.
#[derive(Debug)]
struct Portion {
    at: (Stream, u16),
    position: u64,
    incoming: Vec<Incoming>,
}

#[derive(Debug, Default)]
struct Waiting {
    portions: VecDeque<Portion>,
    inputs: usize,
    overflowed: bool,
}

/// Where readers put what is a tenant's.
#[derive(Debug)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    interest: Arc<Interest>,
    inputs_max: usize,
    /// Rung when something was put in.
    pub(crate) rung: Notify,
}

impl Inbox {
    fn put(&self, at: (Stream, u16), position: u64, incoming: Vec<Incoming>) {
        let mut waiting = self.waiting.lock();
        if waiting.overflowed || incoming.is_empty() {
            return;
        }
        waiting.inputs += incoming.len();
        waiting.portions.push_back(Portion { at, position, incoming });
        if waiting.inputs > self.inputs_max {
            *waiting = Waiting { overflowed: true, ..Waiting::default() };
        }
        drop(waiting);
        self.rung.notify_one();
    }

    fn lose(&self) {
        *self.waiting.lock() = Waiting { overflowed: true, ..Waiting::default() };
        self.rung.notify_one();
    }

    /// Whether nothing waits in it.
    pub(crate) fn is_empty(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.portions.is_empty() && !waiting.overflowed
    }

    pub(crate) fn has_overflowed(&self) -> bool {
        self.waiting.lock().overflowed
    }
}

/// The readers' common state.
pub(crate) struct Feed {
    log: Log,
    clock: Arc<dyn Clock>,
    /// Read-locked while a batch is handed out and its position noted: who writes sees every batch whole or not at all.
    inboxes: RwLock<HashMap<TenantId, Arc<Inbox>>>,
    /// Where each reader is.
    at: BTreeMap<(Stream, u16), AtomicU64>,
    /// Everything appended to the log before this moment was handed out; and when that was seen.
    passed: tokio::sync::Mutex<Option<(i64, Instant)>>,
    inputs_max: usize,
}

impl Feed {
    /// A feed whose readers begin at the end of the log.
    pub(crate) async fn open(log: Log, clock: Arc<dyn Clock>, inputs_max: usize) -> Result<Self, LogError> {
        let mut at = BTreeMap::new();
        for stream in Stream::ALL {
            for partition in 0..log.partitions() {
                let position = log.bounds(stream.topic(), partition).await?.last;
                at.insert((stream, partition), AtomicU64::new(position));
            }
        }
        Ok(Self { log, clock, inboxes: RwLock::default(), at, passed: tokio::sync::Mutex::default(), inputs_max })
    }

    /// From now on, what is the tenant's is put into the inbox: everything behind the positions that are given. An inbox that it had before
    /// gets nothing any more.
    pub(crate) fn subscribe(&self, tenant: &TenantId, interest: Arc<Interest>) -> (Arc<Inbox>, Positions) {
        let inbox = Arc::new(Inbox { waiting: Mutex::default(), interest, inputs_max: self.inputs_max, rung: Notify::new() });
        let mut inboxes = self.inboxes.write();
        inboxes.insert(tenant.clone(), inbox.clone());
        (inbox, self.positions())
    }

    /// Nothing is put into the tenant's inbox any more.
    pub(crate) fn unsubscribe(&self, tenant: &TenantId) {
        self.inboxes.write().remove(tenant);
    }

    /// Where the readers are.
    pub(crate) fn positions(&self) -> Positions {
        self.at.iter().map(|(at, position)| (*at, position.load(Ordering::Acquire))).collect()
    }

    /// Waits until everything that is on the log now was handed out. Answers the moment before which all that was appended is in the
    /// inboxes: a little ago if another tenant has just waited for it, yet never before `not_before`, when somebody asked.
    pub(crate) async fn barrier(&self, not_before: Option<Instant>) -> Result<i64, CampaignError> {
        let mut passed = self.passed.lock().await;
        let is_enough = |at: Instant| at.elapsed() < BARRIER_AGE_MAX && not_before.is_none_or(|asked| at >= asked);
        if let Some((passed_us, _)) = passed.filter(|(_, at)| is_enough(*at)) {
            return Ok(passed_us);
        }
        let (now_us, now) = (self.clock.now_us(), Instant::now());
        for ((stream, partition), position) in &self.at {
            let last = self.log.bounds(stream.topic(), *partition).await?.last;
            let mut looks = 0;
            while position.load(Ordering::Acquire) < last {
                looks += 1;
                if looks > BARRIER_LOOKS {
                    return Err(CampaignError::NotReady { why: "reading the log is behind".to_owned() });
                }
                tokio::time::sleep(BARRIER_PAUSE).await;
            }
        }
        *passed = Some((now_us, now));
        Ok(now_us)
    }

    /// Takes whole batches out of an inbox until there are so many inputs. None: it has overflowed.
    pub(crate) fn take(&self, inbox: &Inbox, inputs_max: usize) -> Option<Delivery> {
        // First what was read, then what was put in: there may be more in it, never less.
        let positions = self.positions();
        let mut waiting = inbox.waiting.lock();
        if waiting.overflowed {
            return None;
        }
        let mut delivery = Delivery::default();
        while delivery.incoming.len() < inputs_max {
            let Some(portion) = waiting.portions.pop_front() else { break };
            waiting.inputs -= portion.incoming.len();
            delivery.incoming.extend(portion.incoming);
            delivery.positions.insert(portion.at, portion.position);
        }
        match waiting.portions.is_empty() {
            true => advance(&mut delivery.positions, &positions),
            false => delivery.is_cut = true,
        }
        Some(delivery)
    }

    /// What a tenant has behind `from`, up to and including `to`: whole batches until there are so many inputs.
    pub(crate) async fn gap(
        &self,
        tenant: &TenantId,
        interest: &Interest,
        from: &Positions,
        to: &Positions,
        inputs_max: usize,
    ) -> Result<Delivery, CampaignError> {
        let mut delivery = Delivery { positions: from.clone(), ..Delivery::default() };
        for stream in Stream::ALL {
            for ((_, partition), until) in to.iter().filter(|((of, _), _)| *of == stream) {
                self.gap_of(tenant, interest, (stream, *partition), *until, &mut delivery, inputs_max).await?;
            }
        }
        delivery.is_cut = !has_reached(&delivery.positions, to);
        Ok(delivery)
    }

    async fn gap_of(
        &self,
        tenant: &TenantId,
        interest: &Interest,
        (stream, partition): (Stream, u16),
        until: u64,
        delivery: &mut Delivery,
        inputs_max: usize,
    ) -> Result<(), CampaignError> {
        let mut position = delivery.positions.get(&(stream, partition)).copied().unwrap_or(until);
        while position < until && delivery.incoming.len() < inputs_max {
            let limits = ReadLimits { wait: Duration::ZERO, batches_max: GAP_BATCHES, ..ReadLimits::default() };
            let batches = match self.log.read(stream.topic(), partition, position, limits).await {
                Err(LogError::Trimmed { first_available, .. }) => {
                    Self::note_lost(stream, partition, position, first_available);
                    position = first_available.saturating_sub(1);
                    continue;
                }
                read => read?,
            };
            if batches.is_empty() {
                break;
            }
            for batch in batches.iter().take_while(|batch| batch.position <= until) {
                if delivery.incoming.len() >= inputs_max {
                    break;
                }
                let is_ours = |name: &str| (name == tenant.as_str()).then_some(interest);
                let found = decode(stream, batch, is_ours).map_err(|_| CampaignError::Corrupt { what: "a batch of the log" })?;
                delivery.incoming.extend(found.into_iter().flat_map(|(_, incoming)| incoming));
                position = batch.position;
            }
            if batches.last().is_some_and(|batch| batch.position > until) && delivery.incoming.len() < inputs_max {
                position = until;
            }
        }
        delivery.positions.insert((stream, partition), position);
        Ok(())
    }

    fn note_lost(stream: Stream, partition: u16, position: u64, first_available: u64) {
        let batches = first_available.saturating_sub(position).saturating_sub(1);
        tracing::warn!(topic = %stream.topic(), partition, batches, "batches were removed from the log before scenarios had read them: \
            whoever was to enter by them does not; keep more of the log");
    }

    /// The positions from which on everything was appended at or after this moment, by the clock of the log.
    pub(crate) async fn positions_at(&self, time_us: i64) -> Result<Positions, CampaignError> {
        let mut positions = Positions::new();
        for (stream, partition) in self.at.keys() {
            positions.insert((*stream, *partition), self.position_at(*stream, *partition, time_us).await?);
        }
        Ok(positions)
    }

    async fn position_at(&self, stream: Stream, partition: u16, time_us: i64) -> Result<u64, CampaignError> {
        let bounds = self.log.bounds(stream.topic(), partition).await?;
        // Everything up to `before` is older; what follows `after` is not.
        let (mut before, mut after) = (bounds.first.saturating_sub(1), bounds.last);
        while before < after {
            let middle = before + (after - before) / 2;
            let limits = ReadLimits { wait: Duration::ZERO, batches_max: 1, bytes_max: 1 };
            match self.log.read(stream.topic(), partition, middle, limits).await {
                Err(LogError::Trimmed { first_available, .. }) => before = first_available.saturating_sub(1).max(middle + 1).min(after),
                Err(error) => return Err(error.into()),
                Ok(batches) => match batches.first() {
                    Some(batch) if batch.appended_at_us < time_us => before = middle + 1,
                    Some(_) | None => after = middle,
                },
            }
        }
        Ok(before)
    }

    /// Follows a partition until told to stop.
    pub(crate) async fn follow(self: Arc<Self>, stream: Stream, partition: u16, stopping: CancellationToken) -> anyhow::Result<()> {
        let Some(at) = self.at.get(&(stream, partition)) else { return Ok(()) };
        let mut position = at.load(Ordering::Acquire);
        while !stopping.is_cancelled() {
            let limits = ReadLimits { wait: READ_WAIT, ..ReadLimits::default() };
            let read = tokio::select! {
                read = self.log.read(stream.topic(), partition, position, limits) => read,
                () = stopping.cancelled() => break,
            };
            match read {
                Ok(batches) => {
                    for batch in &batches {
                        self.hand_out(stream, partition, at, batch)?;
                        position = batch.position;
                        tokio::task::yield_now().await;
                    }
                }
                Err(LogError::Trimmed { first_available, .. }) => {
                    // Each tenant finds out for itself whether it had read them.
                    let inboxes = self.inboxes.write();
                    inboxes.values().for_each(|inbox| inbox.lose());
                    position = first_available.saturating_sub(1);
                    at.store(position, Ordering::Release);
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(topic = %stream.topic(), partition, %error, "the log cannot be read; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY_PAUSE) => {}
                        () = stopping.cancelled() => {}
                    }
                }
                Err(error) => return Err(error).with_context(|| format!("`{}` cannot be read", stream.topic())),
            }
        }
        Ok(())
    }

    fn hand_out(&self, stream: Stream, partition: u16, at: &AtomicU64, batch: &StoredBatch) -> anyhow::Result<()> {
        let inboxes = self.inboxes.read();
        let inbox_of = |tenant: &str| tenant.parse::<TenantId>().ok().and_then(|tenant| inboxes.get(&tenant));
        let found = decode(stream, batch, |tenant| inbox_of(tenant).filter(|inbox| !inbox.has_overflowed()).map(|inbox| &*inbox.interest));
        let found = found.with_context(|| {
            format!("batch {} of `{}` partition {partition} cannot be read: restore the log", batch.position, stream.topic())
        })?;
        for (tenant, incoming) in found {
            if let Some(inbox) = inbox_of(&tenant) {
                inbox.put((stream, partition), batch.position, incoming);
            }
        }
        at.store(batch.position, Ordering::Release);
        Ok(())
    }
}
