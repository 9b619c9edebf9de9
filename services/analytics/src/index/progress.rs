//! How far the topics are read, and waiting for it.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use segue_model::TenantId;
use tokio::sync::watch;

use super::{IDENTITY, Index, RESOLVED, Shared};

/// How far `identity` is, per partition, and who waits for either topic.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Last batch whose changes every tenant in memory shows.
    identity: BTreeMap<u16, Mutex<u64>>,
    changed: watch::Sender<()>,
}

impl Progress {
    pub(super) fn new(identity: impl Iterator<Item = (u16, u64)>) -> Self {
        Self { identity: identity.map(|(number, position)| (number, Mutex::new(position))).collect(), changed: watch::Sender::new(()) }
    }

    /// A partition of `resolved` has moved.
    pub(super) fn notify(&self) {
        self.changed.send_replace(());
    }

    /// All changes up to this batch are shown.
    pub(super) fn identity_is_at(&self, number: u16, position: u64) {
        if let Some(known) = self.identity.get(&number) {
            let mut known = known.lock();
            *known = position.max(*known);
        }
        self.notify();
    }
}

/// A batch of one of the topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) topic: &'static str,
    pub(crate) partition: u16,
    pub(crate) position: u64,
}

/// What a snapshot has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) positions: Vec<Position>,
    pub(crate) watermark_us: i64,
}

/// What is not in the index yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// A batch of the log.
    #[error("partition {partition} of `{topic}` is indexed up to batch {reached}, and {wanted} was asked for")]
    Position {
        /// `resolved` or `identity`.
        topic: &'static str,
        /// Which.
        partition: u16,
        /// Last batch that is indexed.
        reached: u64,
        /// What was asked for.
        wanted: u64,
    },
    /// Time.
    #[error("the watermark is at {reached_us} µs, and {wanted_us} µs was asked for")]
    Watermark {
        /// Where it is.
        reached_us: i64,
        /// What was asked for.
        wanted_us: i64,
    },
    /// What passed by while the tenant's analytics was off, or since the process started.
    #[error("the tenant's index is catching up with the log")]
    CatchingUp,
}

impl Index {
    /// The name of a topic and the number of a partition that is followed here.
    pub(crate) fn followed(&self, topic: &str, partition: u32) -> Option<(&'static str, u16)> {
        let number = u16::try_from(partition).ok()?;
        let resolved = || topic == RESOLVED.name() && self.shared.partitions.contains_key(&number);
        let identity = || topic == IDENTITY.name() && self.shared.progress.identity.contains_key(&number);
        if resolved() { Some((RESOLVED.name(), number)) } else { identity().then_some((IDENTITY.name(), number)) }
    }

    /// Waits until a snapshot holds what is wanted, for so long.
    pub(crate) async fn wait_until(&self, tenant: &TenantId, wanted: &Wanted, wait: Duration) -> Result<(), NotYet> {
        let mut changed = self.shared.progress.changed.subscribe();
        let reached = async {
            loop {
                changed.mark_unchanged();
                // The sender lives as long as the index.
                if self.shared.lacks(tenant, wanted).is_none() || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(wait, reached).await;
        self.shared.lacks(tenant, wanted).map_or(Ok(()), Err)
    }

    /// Last batches that are indexed: whatever snapshot is taken after this holds them.
    pub(crate) fn positions(&self) -> Vec<Position> {
        let of = |topic: &'static str, partition: u16, position: u64| Position { topic, partition, position };
        let shared = &self.shared;
        let resolved = shared.partitions.iter().map(|(number, partition)| of(RESOLVED.name(), *number, partition.lock().consumed));
        let identity = shared.progress.identity.iter().map(|(number, position)| of(IDENTITY.name(), *number, *position.lock()));
        resolved.chain(identity).collect()
    }
}

impl Shared {
    /// What of it is not in the index yet.
    fn lacks(&self, tenant: &TenantId, wanted: &Wanted) -> Option<NotYet> {
        let reached_us = self.watermark_us(tenant);
        if reached_us == 0 {
            return Some(NotYet::CatchingUp);
        }
        if reached_us < wanted.watermark_us {
            return Some(NotYet::Watermark { reached_us, wanted_us: wanted.watermark_us });
        }
        wanted.positions.iter().find_map(|Position { topic, partition, position }| {
            let resolved = || self.partitions.get(partition).map_or(0, |partition| partition.lock().consumed);
            let identity = || self.progress.identity.get(partition).map_or(0, |position| *position.lock());
            let reached = if *topic == RESOLVED.name() { resolved() } else { identity() };
            let lacking = NotYet::Position { topic, partition: *partition, reached, wanted: *position };
            (reached < *position).then_some(lacking)
        })
    }
}
