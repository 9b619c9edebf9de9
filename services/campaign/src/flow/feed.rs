//! What scenarios read of the log. The feed of `segue_log` hands each tenant's share to the tenant's [`Inbox`].
//!
//! A tenant that is slow holds up nobody: an inbox that overflows is emptied and takes nothing in any more; the tenant then reads the log by
//! itself, from where it is ([`gap`]), and takes an inbox again when it has caught up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use segue_log::feed::{self, Followed, Inboxes, has_reached};
use segue_log::{LogError, ReadLimits, StoredBatch, Topic};
use segue_model::TenantId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::incoming::{Incoming, Interest, Unreadable, decode};
use crate::error::CampaignError;

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

impl Followed for Stream {
    /// Merges come first, so that what is read with them is known to be the survivor's.
    const EVERY: &'static [Stream] = &[Stream::Identity, Stream::Resolved, Stream::Transitions];

    fn topic(self) -> Topic {
        match self {
            Stream::Resolved => Topic::new("resolved"),
            Stream::Identity => Topic::new("identity"),
            Stream::Transitions => Topic::new("transitions"),
        }
    }
}

/// Per stream and partition, the last batch that was dealt with.
pub(crate) type Positions = feed::Positions<Stream>;

/// The readers.
pub(crate) type Feed = feed::Feed<Stream, Inbox>;

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
    /// Of a tenant that is interested in this; overflows when more than so many inputs wait.
    pub(crate) fn new(interest: Arc<Interest>, inputs_max: usize) -> Self {
        Self { waiting: Mutex::default(), interest, inputs_max, rung: Notify::new() }
    }

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

    /// Whether nothing waits in it.
    pub(crate) fn is_empty(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.portions.is_empty() && !waiting.overflowed
    }

    pub(crate) fn has_overflowed(&self) -> bool {
        self.waiting.lock().overflowed
    }

    /// Takes whole batches out until there are so many inputs. None: it has overflowed. `positions` are those of the feed, read before:
    /// there may be more in it, never less.
    pub(crate) fn take(&self, positions: &Positions, inputs_max: usize) -> Option<Delivery> {
        let mut waiting = self.waiting.lock();
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
            true => feed::advance(&mut delivery.positions, positions),
            false => delivery.is_cut = true,
        }
        Some(delivery)
    }
}

impl feed::Inbox for Inbox {
    /// The tenant finds out for itself whether it had read them.
    fn lose(&self) {
        *self.waiting.lock() = Waiting { overflowed: true, ..Waiting::default() };
        self.rung.notify_one();
    }
}

/// Follows a partition until told to stop.
pub(crate) async fn follow(feed: Arc<Feed>, stream: Stream, partition: u16, stopping: CancellationToken) -> anyhow::Result<()> {
    let hand_out = |batch: &StoredBatch, inboxes: &Inboxes<Inbox>| {
        let wanted = |tenant: &str| inboxes.of(tenant).filter(|inbox| !inbox.has_overflowed()).map(|inbox| &*inbox.interest);
        for (tenant, incoming) in decode(stream, batch, wanted)? {
            if let Some(inbox) = inboxes.of(&tenant) {
                inbox.put((stream, partition), batch.position, incoming);
            }
        }
        Ok::<(), Unreadable>(())
    };
    Ok(feed.follow(stream, partition, hand_out, &stopping).await?)
}

/// What a tenant has behind `from`, up to and including `to`: whole batches until there are so many inputs.
pub(crate) async fn gap(
    feed: &Feed,
    tenant: &TenantId,
    interest: &Interest,
    from: &Positions,
    to: &Positions,
    inputs_max: usize,
) -> Result<Delivery, CampaignError> {
    let mut delivery = Delivery { positions: from.clone(), ..Delivery::default() };
    for stream in Stream::EVERY.iter().copied() {
        for ((_, partition), until) in to.iter().filter(|((of, _), _)| *of == stream) {
            gap_of(feed, tenant, interest, (stream, *partition), *until, &mut delivery, inputs_max).await?;
        }
    }
    delivery.is_cut = !has_reached(&delivery.positions, to);
    Ok(delivery)
}

async fn gap_of(
    feed: &Feed,
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
        let batches = match feed.log().read(stream.topic(), partition, position, limits).await {
            Err(LogError::Trimmed { first_available, .. }) => {
                note_lost(stream, partition, position, first_available);
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
