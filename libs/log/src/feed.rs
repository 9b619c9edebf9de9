//! A log followed for many tenants at once: one reader per partition of each topic, which hands what is a tenant's to the tenant's inbox.
//!
//! A service says which topics ([`Followed`]), what an inbox is ([`Inbox`]), and how a batch is taken apart into them (`hand_out` of
//! [`Feed::follow`]). An inbox that overflows is the service's to deal with: no tenant may hold up a reader. Readers begin at the end of
//! the log; what a tenant lacks from before, it reads by itself, behind its own [`Positions`].

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use segue_model::{Clock, TenantId};
use tokio_util::sync::CancellationToken;

use crate::{Log, LogError, ReadLimits, StoredBatch, Topic};

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

/// The topics that a service follows, as an enum.
pub trait Followed: Copy + Ord + Debug + Send + Sync + 'static {
    /// All of them.
    const EVERY: &'static [Self];

    /// Its topic.
    fn topic(self) -> Topic;

    /// The one whose topic has this name.
    fn named(topic: &str) -> Option<Self> {
        Self::EVERY.iter().copied().find(|followed| followed.topic().name() == topic)
    }
}

/// Per topic and partition, the last batch that was dealt with.
pub type Positions<S> = BTreeMap<(S, u16), u64>;

/// Moves `positions` forward to `others` where these are ahead.
pub fn advance<S: Followed>(positions: &mut Positions<S>, others: &Positions<S>) {
    for (at, position) in others {
        let known = positions.entry(*at).or_default();
        *known = (*known).max(*position);
    }
}

/// Moves `positions` back to `others` where these are behind.
pub fn hold_back<S: Followed>(positions: &mut Positions<S>, others: &Positions<S>) {
    for (at, position) in positions {
        *position = (*position).min(others.get(at).copied().unwrap_or(*position));
    }
}

/// Whether everything up to `until` is behind `positions`.
pub fn has_reached<S: Followed>(positions: &Positions<S>, until: &Positions<S>) -> bool {
    until.iter().all(|(at, position)| positions.get(at).copied().unwrap_or_default() >= *position)
}

/// Positions as they are stored: topic, partition, position.
pub fn entries<S: Followed>(positions: &Positions<S>) -> Vec<(&'static str, u16, u64)> {
    positions.iter().map(|((stream, partition), position)| (stream.topic().name(), *partition, *position)).collect()
}

/// Reads [`entries`]. None: one is of a topic that is not followed.
pub fn of_entries<S: Followed>(entries: Vec<(String, u16, u64)>) -> Option<Positions<S>> {
    entries.into_iter().map(|(topic, partition, position)| Some(((S::named(&topic)?, partition), position))).collect()
}

/// Where readers put what is a tenant's.
pub trait Inbox: Send + Sync + 'static {
    /// Batches were removed before a reader had come to them: something of the tenant may have been among them.
    fn lose(&self);
}

/// The inboxes of the tenants that are subscribed.
#[derive(Debug)]
pub struct Inboxes<I>(HashMap<TenantId, Arc<I>>);

impl<I> Inboxes<I> {
    /// The inbox of a tenant, if it is subscribed.
    pub fn of(&self, tenant: &str) -> Option<&I> {
        let tenant: TenantId = tenant.parse().ok()?;
        self.0.get(&tenant).map(Arc::as_ref)
    }
}

/// The readers' common state.
#[derive(Debug)]
pub struct Feed<S, I> {
    log: Log,
    clock: Arc<dyn Clock>,
    /// Read-locked while a batch is handed out and its position noted: who writes sees every batch whole or not at all.
    inboxes: RwLock<Inboxes<I>>,
    /// Where each reader is.
    at: BTreeMap<(S, u16), AtomicU64>,
    /// Everything appended to the log before this moment was handed out; and when that was seen.
    passed: tokio::sync::Mutex<Option<(i64, Instant)>>,
}

/// A barrier was not passed.
#[derive(Debug, thiserror::Error)]
pub enum BarrierError {
    /// The readers do not keep up.
    #[error("reading the log is behind")]
    Behind,
    /// The log cannot be asked where it ends.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A partition cannot be followed any further.
#[derive(Debug, thiserror::Error)]
pub enum FollowError<E: Error + 'static> {
    /// The log failed, for good.
    #[error("`{topic}` cannot be read")]
    Log {
        /// Of what.
        topic: Topic,
        /// How.
        source: LogError,
    },
    /// A batch is none.
    #[error("batch {position} of `{topic}` partition {partition} cannot be read: restore the log")]
    Batch {
        /// Where.
        topic: Topic,
        /// Where.
        partition: u16,
        /// Where.
        position: u64,
        /// What is wrong with it.
        source: E,
    },
}

impl<S: Followed, I: Inbox> Feed<S, I> {
    /// A feed whose readers begin at the end of the log.
    pub async fn open(log: Log, clock: Arc<dyn Clock>) -> Result<Self, LogError> {
        let mut at = BTreeMap::new();
        for stream in S::EVERY {
            for partition in 0..log.partitions() {
                let position = log.bounds(stream.topic(), partition).await?.last;
                at.insert((*stream, partition), AtomicU64::new(position));
            }
        }
        let inboxes = RwLock::new(Inboxes(HashMap::new()));
        Ok(Self { log, clock, inboxes, at, passed: tokio::sync::Mutex::default() })
    }

    /// The same, waiting for the log to be reachable. None: told to stop meanwhile.
    pub async fn open_once_reachable(log: &Log, clock: &Arc<dyn Clock>, stopping: &CancellationToken) -> Result<Option<Self>, LogError> {
        loop {
            match Self::open(log.clone(), clock.clone()).await {
                Ok(feed) => return Ok(Some(feed)),
                Err(error) if error.is_retryable() => tracing::warn!(%error, "the log cannot be reached; trying again"),
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_PAUSE) => {}
                () = stopping.cancelled() => return Ok(None),
            }
        }
    }

    /// The log that is read.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What there is to [`follow`](Self::follow).
    pub fn partitions(&self) -> impl Iterator<Item = (S, u16)> {
        self.at.keys().copied()
    }

    /// From now on, what is the tenant's is put into the inbox: everything behind the positions that are given. An inbox that it had before
    /// gets nothing any more.
    pub fn subscribe(&self, tenant: &TenantId, inbox: I) -> (Arc<I>, Positions<S>) {
        let inbox = Arc::new(inbox);
        let mut inboxes = self.inboxes.write();
        inboxes.0.insert(tenant.clone(), inbox.clone());
        (inbox, self.positions())
    }

    /// Nothing is put into the tenant's inbox any more.
    pub fn unsubscribe(&self, tenant: &TenantId) {
        self.inboxes.write().0.remove(tenant);
    }

    /// Where the readers are. What they put into an inbox up to there is in it, if the inbox is looked at later than this.
    pub fn positions(&self) -> Positions<S> {
        self.at.iter().map(|(at, position)| (*at, position.load(Ordering::Acquire))).collect()
    }

    /// Waits until everything that is on the log now was handed out. Answers the moment before which all that was appended is in the
    /// inboxes: a little ago if another tenant has just waited for it, yet never before `not_before`, when somebody asked.
    pub async fn barrier(&self, not_before: Option<Instant>) -> Result<i64, BarrierError> {
        let mut passed = self.passed.lock().await;
        let now_us = self.clock.now_us();
        if let Some((passed_us, at)) = *passed {
            // By either clock: one that jumps makes a moment ago a long time ago.
            let age = Duration::from_micros(now_us.abs_diff(passed_us)).max(at.elapsed());
            if age < BARRIER_AGE_MAX && not_before.is_none_or(|asked| at >= asked) {
                return Ok(passed_us);
            }
        }
        let now = Instant::now();
        for ((stream, partition), position) in &self.at {
            let last = self.log.bounds(stream.topic(), *partition).await?.last;
            let mut looks = 0;
            while position.load(Ordering::Acquire) < last {
                looks += 1;
                if looks > BARRIER_LOOKS {
                    return Err(BarrierError::Behind);
                }
                tokio::time::sleep(BARRIER_PAUSE).await;
            }
        }
        *passed = Some((now_us, now));
        Ok(now_us)
    }

    /// The positions behind which everything was appended at or after this moment, by the clock of the log.
    pub async fn positions_at(&self, time_us: i64) -> Result<Positions<S>, LogError> {
        let mut positions = Positions::new();
        for (stream, partition) in self.partitions() {
            positions.insert((stream, partition), self.position_at(stream, partition, time_us).await?);
        }
        Ok(positions)
    }

    async fn position_at(&self, stream: S, partition: u16, time_us: i64) -> Result<u64, LogError> {
        let bounds = self.log.bounds(stream.topic(), partition).await?;
        // Everything up to `before` is older; what follows `after` is not.
        let (mut before, mut after) = (bounds.first.saturating_sub(1), bounds.last);
        while before < after {
            let middle = before + (after - before) / 2;
            let limits = ReadLimits { wait: Duration::ZERO, batches_max: 1, bytes_max: 1 };
            match self.log.read(stream.topic(), partition, middle, limits).await {
                Err(LogError::Trimmed { first_available, .. }) => before = first_available.saturating_sub(1).max(middle + 1).min(after),
                Err(error) => return Err(error),
                Ok(batches) => match batches.first() {
                    Some(batch) if batch.appended_at_us < time_us => before = middle + 1,
                    Some(_) | None => after = middle,
                },
            }
        }
        Ok(before)
    }

    /// Follows a partition until told to stop. `hand_out` puts what a batch holds into the inboxes.
    pub async fn follow<E: Error + 'static>(
        &self,
        stream: S,
        partition: u16,
        mut hand_out: impl FnMut(&StoredBatch, &Inboxes<I>) -> Result<(), E>,
        stopping: &CancellationToken,
    ) -> Result<(), FollowError<E>> {
        let Some(at) = self.at.get(&(stream, partition)) else { return Ok(()) };
        let topic = stream.topic();
        let mut position = at.load(Ordering::Acquire);
        while !stopping.is_cancelled() {
            let limits = ReadLimits { wait: READ_WAIT, ..ReadLimits::default() };
            let read = tokio::select! {
                read = self.log.read(topic, partition, position, limits) => read,
                () = stopping.cancelled() => break,
            };
            match read {
                Ok(batches) => {
                    for batch in &batches {
                        position = batch.position;
                        {
                            let inboxes = self.inboxes.read();
                            hand_out(batch, &inboxes).map_err(|source| FollowError::Batch { topic, partition, position, source })?;
                            at.store(position, Ordering::Release);
                        }
                        tokio::task::yield_now().await;
                    }
                }
                Err(LogError::Trimmed { first_available, .. }) => {
                    tracing::warn!(%topic, partition, "batches were removed from the log before they were read here");
                    let inboxes = self.inboxes.write();
                    inboxes.0.values().for_each(|inbox| inbox.lose());
                    position = first_available.saturating_sub(1);
                    at.store(position, Ordering::Release);
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%topic, partition, %error, "the log cannot be read; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY_PAUSE) => {}
                        () = stopping.cancelled() => {}
                    }
                }
                Err(source) => return Err(FollowError::Log { topic, source }),
            }
        }
        Ok(())
    }

    /// Tells the log that `consumer` needs nothing up to these positions any more.
    pub async fn hold(&self, consumer: &str, positions: &Positions<S>) -> Result<(), LogError> {
        for ((stream, partition), position) in positions {
            self.log.hold(stream.topic(), *partition, consumer, *position).await?;
        }
        Ok(())
    }
}
