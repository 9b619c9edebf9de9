//! What live membership reads of the log. The feed of `segue_log` hands each tenant's share to the tenant's [`Inbox`].
//!
//! A tenant that is slow holds up nobody: an inbox that overflows is emptied and says so, and the tenant is then evaluated in full. What a
//! tenant lacks from before the feed began, it reads by itself ([`gap`]).
//!
//! Of an event only what live membership needs is decoded; the rest is passed over.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use segue_log::feed::{self, Followed, Inboxes};
use segue_log::{LogError, ReadLimits, StoredBatch, Topic};
use segue_model::TenantId;
use segue_proto::events::v1::IdentityChangeBatch;
use segue_proto::events::v1::identity_change::Change;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::interest::is_of_touch;
use crate::error::AudienceError;

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

impl Followed for Stream {
    const EVERY: &'static [Stream] = &[Stream::Resolved, Stream::Identity];

    fn topic(self) -> Topic {
        match self {
            Stream::Resolved => Topic::new("resolved"),
            Stream::Identity => Topic::new("identity"),
        }
    }
}

/// Per stream and partition, the last batch that was dealt with.
pub(crate) type Positions = feed::Positions<Stream>;

/// The readers.
pub(crate) type Feed = feed::Feed<Stream, Inbox>;

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
    /// Overflows when more than so many events wait.
    pub(crate) fn new(events_max: usize) -> Self {
        Self { delivery: Mutex::default(), events_max, rung: Notify::new() }
    }

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

    /// Empties it. What was put in before is in the answer, and maybe more. `positions` are those of the feed, read before: there may be
    /// more in it, never less.
    pub(crate) fn take(&self, positions: &Positions) -> Delivery {
        let mut delivery = std::mem::take(&mut *self.delivery.lock());
        feed::advance(&mut delivery.positions, positions);
        delivery
    }
}

impl feed::Inbox for Inbox {
    /// The tenant is evaluated in full.
    fn lose(&self) {
        self.delivery.lock().overflowed = true;
        self.rung.notify_one();
    }
}

/// Follows a partition until told to stop.
pub(crate) async fn follow(feed: Arc<Feed>, stream: Stream, partition: u16, stopping: CancellationToken) -> anyhow::Result<()> {
    let mut names = Names::default();
    let hand_out = |batch: &StoredBatch, inboxes: &Inboxes<Inbox>| {
        for (tenant, seen, merged) in decode(stream, batch, &mut names, |tenant| inboxes.of(tenant).is_some())? {
            if let Some(inbox) = inboxes.of(&tenant) {
                inbox.put((stream, partition), batch.position, seen.into_iter(), &merged);
            }
        }
        Ok::<(), prost::DecodeError>(())
    };
    Ok(feed.follow(stream, partition, hand_out, &stopping).await?)
}

/// What a tenant has behind `from`, up to and including `to`. None: it is more than so many batches or events, or the log does not have it any
/// more.
pub(crate) async fn gap(
    feed: &Feed,
    tenant: &TenantId,
    from: &Positions,
    to: &Positions,
    batches_max: u64,
    events_max: usize,
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
            let batches = match feed.log().read(stream.topic(), *partition, position, limits).await {
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
            if delivery.seen.len() > events_max {
                return Ok(None);
            }
        }
    }
    Ok(Some(delivery))
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
