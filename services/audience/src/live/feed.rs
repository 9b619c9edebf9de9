//! Reading the log for live membership: one reader per partition and topic, which hands each tenant's share to the tenant's [`Inbox`].
//!
//! A tenant that is slow holds up nobody: an inbox that overflows is emptied and says so, and the tenant is then evaluated in full.
//! Readers begin at the end of the log; what a tenant lacks from before, it reads by itself ([`Feed::gap`]).
//!
//! Of an event only what live membership needs is decoded; the rest is passed over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use segue_log::{Log, LogError, ReadLimits, StoredBatch, Topic};
use segue_model::{Clock, TenantId};
use segue_proto::events::v1::IdentityChangeBatch;
use segue_proto::events::v1::identity_change::Change;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::interest::is_of_touch;
use crate::error::AudienceError;

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
/// Who we are to the log.
pub(crate) const CONSUMER: &str = "audience";
/// Texts that a reader keeps to share them.
const NAMES_MAX: usize = 10_000;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stream {
    /// Events with persons.
    Resolved,
    /// Persons merged.
    Identity,
}

impl Stream {
    pub(crate) const ALL: [Stream; 2] = [Stream::Resolved, Stream::Identity];

    pub(crate) fn topic(self) -> Topic {
        match self {
            Stream::Resolved => Topic::new("resolved"),
            Stream::Identity => Topic::new("identity"),
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

/// An event, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) person: u32,
    pub(crate) time_us: i64,
    /// Canonical.
    pub(crate) name: Arc<str>,
    pub(crate) message_id: Box<str>,
    /// Carries a dimension of acquisition.
    pub(crate) is_touch: bool,
    /// Names of the traits that it states.
    pub(crate) traits: Box<[Arc<str>]>,
}

/// What came in for a tenant since it looked last.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) seen: Vec<Seen>,
    /// Persons whose being one or two has changed.
    pub(crate) merged: Vec<(u32, u32)>,
    /// Up to where this is everything.
    pub(crate) positions: Positions,
    /// Something was thrown away: only a full evaluation helps.
    pub(crate) overflowed: bool,
}

/// Where readers put what is a tenant's.
#[derive(Debug)]
pub(crate) struct Inbox {
    delivery: Mutex<Delivery>,
    events_max: usize,
    /// Rung when something was put in.
    pub(crate) rung: Notify,
}

impl Inbox {
    fn put(&self, at: (Stream, u16), position: u64, seen: impl Iterator<Item = Seen>, merged: &[(u32, u32)]) {
        let mut delivery = self.delivery.lock();
        delivery.seen.extend(seen);
        delivery.merged.extend_from_slice(merged);
        delivery.positions.insert(at, position);
        if delivery.seen.len() + delivery.merged.len() > self.events_max {
            delivery.seen = Vec::new();
            delivery.merged = Vec::new();
            delivery.overflowed = true;
        }
        drop(delivery);
        self.rung.notify_one();
    }

    fn lose(&self) {
        self.delivery.lock().overflowed = true;
        self.rung.notify_one();
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
    events_max: usize,
}

impl Feed {
    /// A feed whose readers begin at the end of the log.
    pub(crate) async fn open(log: Log, clock: Arc<dyn Clock>, events_max: usize) -> Result<Self, LogError> {
        let mut at = BTreeMap::new();
        for stream in Stream::ALL {
            for partition in 0..log.partitions() {
                let position = log.bounds(stream.topic(), partition).await?.last;
                at.insert((stream, partition), AtomicU64::new(position));
            }
        }
        Ok(Self { log, clock, inboxes: RwLock::default(), at, passed: tokio::sync::Mutex::default(), events_max })
    }

    /// From now on, what is the tenant's is put into the inbox: everything behind the positions that are given.
    pub(crate) fn subscribe(&self, tenant: &TenantId) -> (Arc<Inbox>, Positions) {
        let inbox = Arc::new(Inbox { delivery: Mutex::default(), events_max: self.events_max, rung: Notify::new() });
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
    /// inboxes.
    pub(crate) async fn barrier(&self) -> Result<i64, AudienceError> {
        let mut passed = self.passed.lock().await;
        if let Some((passed_us, _)) = passed.filter(|(_, at)| at.elapsed() < BARRIER_AGE_MAX) {
            return Ok(passed_us);
        }
        let (now_us, now) = (self.clock.now_us(), Instant::now());
        for ((stream, partition), position) in &self.at {
            let last = self.log.bounds(stream.topic(), *partition).await?.last;
            let mut looks = 0;
            while position.load(Ordering::Acquire) < last {
                looks += 1;
                if looks > BARRIER_LOOKS {
                    return Err(AudienceError::NotReady { why: "reading the log is behind".to_owned() });
                }
                tokio::time::sleep(BARRIER_PAUSE).await;
            }
        }
        *passed = Some((now_us, now));
        Ok(now_us)
    }

    /// Empties an inbox. What was put in before is in it, and maybe more.
    pub(crate) fn take(&self, inbox: &Inbox) -> Delivery {
        // First what was read, then what was put in: there may be more in it, never less.
        let positions = self.positions();
        let mut delivery = std::mem::take(&mut *inbox.delivery.lock());
        advance(&mut delivery.positions, &positions);
        delivery
    }

    /// What a tenant has behind `from`, up to and including `to`. None: it is more than so many batches, or the log does not have it any
    /// more.
    pub(crate) async fn gap(
        &self,
        tenant: &TenantId,
        from: &Positions,
        to: &Positions,
        batches_max: u64,
    ) -> Result<Option<Delivery>, AudienceError> {
        let mut behind = 0_u64;
        for (at, until) in to {
            let Some(position) = from.get(at) else { return Ok(None) };
            behind = behind.saturating_add(until.saturating_sub(*position));
        }
        if behind > batches_max {
            return Ok(None);
        }
        let mut delivery = Delivery { positions: to.clone(), ..Delivery::default() };
        let mut names = Names::default();
        for ((stream, partition), until) in to {
            let mut position = from.get(&(*stream, *partition)).copied().unwrap_or(*until);
            while position < *until {
                let limits = ReadLimits { wait: Duration::ZERO, ..ReadLimits::default() };
                let batches = match self.log.read(stream.topic(), *partition, position, limits).await {
                    Err(LogError::Trimmed { .. }) => return Ok(None),
                    read => read?,
                };
                if batches.is_empty() {
                    break;
                }
                for batch in batches.iter().take_while(|batch| batch.position <= *until) {
                    let found = decode(*stream, batch, &mut names, |name| name == tenant.as_str());
                    for (_, seen, merged) in found.map_err(|_| AudienceError::Corrupt { what: "a batch of the log" })? {
                        delivery.seen.extend(seen);
                        delivery.merged.extend(merged);
                    }
                }
                position = batches.last().map_or(*until, |batch| batch.position);
                if delivery.seen.len() > self.events_max {
                    return Ok(None);
                }
            }
        }
        Ok(Some(delivery))
    }

    /// Follows a partition until told to stop.
    pub(crate) async fn follow(self: Arc<Self>, stream: Stream, partition: u16, stopping: CancellationToken) -> anyhow::Result<()> {
        let Some(at) = self.at.get(&(stream, partition)) else { return Ok(()) };
        let mut position = at.load(Ordering::Acquire);
        let mut names = Names::default();
        while !stopping.is_cancelled() {
            let limits = ReadLimits { wait: READ_WAIT, ..ReadLimits::default() };
            let read = tokio::select! {
                read = self.log.read(stream.topic(), partition, position, limits) => read,
                () = stopping.cancelled() => break,
            };
            match read {
                Ok(batches) => {
                    for batch in &batches {
                        self.hand_out(stream, partition, at, batch, &mut names)?;
                        position = batch.position;
                        tokio::task::yield_now().await;
                    }
                }
                Err(LogError::Trimmed { first_available, .. }) => {
                    tracing::warn!(topic = %stream.topic(), partition, "batches were removed from the log unread: audiences are evaluated in full");
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

    fn hand_out(&self, stream: Stream, partition: u16, at: &AtomicU64, batch: &StoredBatch, names: &mut Names) -> anyhow::Result<()> {
        let inboxes = self.inboxes.read();
        let wanted = |tenant: &str| tenant.parse::<TenantId>().is_ok_and(|tenant| inboxes.contains_key(&tenant));
        let found = decode(stream, batch, names, wanted).with_context(|| {
            format!("batch {} of `{}` partition {partition} cannot be read: restore the log", batch.position, stream.topic())
        })?;
        for (tenant, seen, merged) in found {
            let inbox = tenant.parse::<TenantId>().ok().and_then(|tenant| inboxes.get(&tenant));
            if let Some(inbox) = inbox {
                inbox.put((stream, partition), batch.position, seen.into_iter(), &merged);
            }
        }
        at.store(batch.position, Ordering::Release);
        Ok(())
    }
}

/// What a batch holds of one tenant.
type OfTenant = (String, Vec<Seen>, Vec<(u32, u32)>);

/// Reads a batch as far as it is of tenants that are wanted.
fn decode(
    stream: Stream,
    batch: &StoredBatch,
    names: &mut Names,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<OfTenant>, prost::DecodeError> {
    match stream {
        Stream::Resolved => {
            let decoded = slim::Batch::decode(batch.payload.clone())?;
            let groups = decoded.groups.into_iter().filter(|group| wanted(&group.tenant));
            Ok(groups
                .map(|group| (group.tenant, group.events.into_iter().filter_map(|event| seen(event, names)).collect(), Vec::new()))
                .collect())
        }
        Stream::Identity => {
            let decoded = IdentityChangeBatch::decode(batch.payload.clone())?;
            if !wanted(&decoded.tenant) {
                return Ok(Vec::new());
            }
            let pairs = decoded.changes.into_iter().filter_map(|change| match change.change {
                Some(Change::Merged(merged)) => Some((merged.from, merged.into)),
                Some(Change::Unmerged(unmerged)) => Some((unmerged.from, unmerged.into)),
                // A change that a later version writes.
                None => None,
            });
            Ok(vec![(decoded.tenant, Vec::new(), pairs.collect())])
        }
    }
}

/// An event of nobody changes nobody.
fn seen(event: slim::Event, names: &mut Names) -> Option<Seen> {
    (event.person != 0).then(|| Seen {
        person: event.person,
        time_us: event.time_us,
        name: names.share(event.name),
        message_id: event.message_id.into_boxed_str(),
        is_touch: event.dimensions.iter().any(|dimension| is_of_touch(dimension.code)),
        traits: event.traits.into_iter().map(|stated| names.share(stated.name)).collect(),
    })
}

/// Texts that come again and again.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn share(&mut self, name: String) -> Arc<str> {
        if let Some(known) = self.0.get(name.as_str()) {
            return known.clone();
        }
        if self.0.len() >= NAMES_MAX {
            self.0.clear();
        }
        let name: Arc<str> = name.into();
        self.0.insert(name.clone());
        name
    }
}

/// `segue.events.v1.ResolvedBatch`, the fields that are needed: prost passes over all others.
mod slim {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Batch {
        #[prost(message, repeated, tag = "1")]
        pub(super) groups: Vec<Group>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Group {
        #[prost(string, tag = "1")]
        pub(super) tenant: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) events: Vec<Event>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Event {
        #[prost(uint32, tag = "1")]
        pub(super) person: u32,
        #[prost(int64, tag = "3")]
        pub(super) time_us: i64,
        #[prost(string, tag = "7")]
        pub(super) name: String,
        #[prost(string, tag = "9")]
        pub(super) message_id: String,
        #[prost(message, repeated, tag = "13")]
        pub(super) dimensions: Vec<Dimension>,
        /// Entries of a map: their keys.
        #[prost(message, repeated, tag = "18")]
        pub(super) traits: Vec<Stated>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Dimension {
        #[prost(uint32, tag = "1")]
        pub(super) code: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Stated {
        #[prost(string, tag = "1")]
        pub(super) name: String,
    }
}

#[cfg(test)]
mod tests {
    use segue_proto::events::v1 as pb;

    use super::*;

    #[test]
    fn the_slim_form_reads_what_the_contract_writes() {
        let ad_partner = segue_model::dimension::by_name("ad_partner").expect("a dimension").code;
        let event = pb::ResolvedEvent {
            person: 7,
            device: 3,
            time_us: 11,
            received_at_us: 12,
            name: "df_purchase".to_owned(),
            message_id: "m".to_owned(),
            properties: [("a".to_owned(), pb::Value::default())].into(),
            items: vec![pb::Item::default()],
            dimensions: vec![pb::DimensionValue { code: ad_partner, value: "x".to_owned() }],
            traits: [("df_membership".to_owned(), pb::Value::default())].into(),
            ..pb::ResolvedEvent::default()
        };
        let nobody = pb::ResolvedEvent::default();
        let groups = vec![
            pb::ResolvedGroup { tenant: "shop".to_owned(), events: vec![event, nobody] },
            pb::ResolvedGroup { tenant: "other".to_owned(), events: vec![] },
        ];
        let payload = pb::ResolvedBatch { groups }.encode_to_vec().into();
        let batch = StoredBatch { position: 5, appended_at_us: 1, events: 2, payload, traceparent: None };
        let found = decode(Stream::Resolved, &batch, &mut Names::default(), |tenant| tenant == "shop").expect("readable");
        let seen = Seen {
            person: 7,
            time_us: 11,
            name: "df_purchase".into(),
            message_id: "m".into(),
            is_touch: true,
            traits: ["df_membership".into()].into(),
        };
        assert_eq!(found, vec![("shop".to_owned(), vec![seen], vec![])]);
    }
}
