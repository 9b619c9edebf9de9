//! What the log brings a tenant, as far as its scenarios are interested in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use roaring::RoaringBitmap;
use segue_log::StoredBatch;
use segue_proto::events::v1::identity_change::Change;
use segue_proto::events::v1::{IdentityChangeBatch, ResolvedEvent, TransitionBatch, TransitionGroup, TransitionKind};

use super::feed::Stream;

/// What matters to the scenarios of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Canonical names of events; None: all.
    pub(crate) events: Option<BTreeSet<String>>,
    pub(crate) audiences: BTreeSet<String>,
}

impl Default for Interest {
    fn default() -> Self {
        Self { events: Some(BTreeSet::new()), audiences: BTreeSet::new() }
    }
}

impl Interest {
    pub(crate) fn wants_event(&self, name: &str) -> bool {
        self.events.as_ref().is_none_or(|events| events.contains(name))
    }

    /// Whether everything that the other wants is wanted here too.
    pub(crate) fn covers(&self, other: &Interest) -> bool {
        let events = match (&self.events, &other.events) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(events), Some(others)) => others.is_subset(events),
        };
        events && other.audiences.is_subset(&self.audiences)
    }
}

/// Persons who entered or left an audience at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moved {
    pub(crate) audience: Arc<str>,
    pub(crate) entered: bool,
    pub(crate) held_out: bool,
    pub(crate) time_us: i64,
    pub(crate) persons: RoaringBitmap,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Incoming {
    Event(Arc<ResolvedEvent>),
    Merged {
        from: u32,
        into: u32,
    },
    /// The number is a person of its own again.
    Unmerged {
        from: u32,
    },
    Moved(Moved),
}

/// A batch of the log is damaged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is not a message of the contract")]
    Message(#[from] prost::DecodeError),
    #[error("its persons are not a bitmap")]
    Bitmap,
}

/// Reads a batch as far as it is of tenants that are wanted, and as far as they want it.
pub(crate) fn decode<'i>(
    stream: Stream,
    batch: &StoredBatch,
    wanted: impl Fn(&str) -> Option<&'i Interest>,
) -> Result<Vec<(String, Vec<Incoming>)>, Unreadable> {
    match stream {
        Stream::Resolved => {
            let decoded = slim::Batch::decode(batch.payload.clone())?;
            let mut found = Vec::new();
            for group in decoded.groups {
                let Some(interest) = wanted(&group.tenant) else { continue };
                let mut incoming = Vec::new();
                for event in group.events {
                    incoming.extend(event_of(event, interest)?.map(|event| Incoming::Event(Arc::new(event))));
                }
                found.push((group.tenant, incoming));
            }
            Ok(found)
        }
        Stream::Identity => {
            let decoded = IdentityChangeBatch::decode(batch.payload.clone())?;
            if wanted(&decoded.tenant).is_none() {
                return Ok(Vec::new());
            }
            let changes = decoded.changes.into_iter().filter_map(|change| match change.change {
                Some(Change::Merged(merged)) => Some(Incoming::Merged { from: merged.from, into: merged.into }),
                Some(Change::Unmerged(unmerged)) => Some(Incoming::Unmerged { from: unmerged.from }),
                // A change that a later version writes.
                None => None,
            });
            Ok(vec![(decoded.tenant, changes.collect())])
        }
        Stream::Transitions => {
            let decoded = TransitionBatch::decode(batch.payload.clone())?;
            let Some(interest) = wanted(&decoded.tenant) else { return Ok(Vec::new()) };
            let groups = decoded.groups.into_iter().filter(|group| interest.audiences.contains(&group.audience));
            let moved = groups.map(moved_of).collect::<Result<Vec<_>, _>>()?;
            Ok(vec![(decoded.tenant, moved)])
        }
    }
}

/// The event, if it is somebody's and wanted.
fn event_of(payload: Bytes, interest: &Interest) -> Result<Option<ResolvedEvent>, Unreadable> {
    let slim = slim::Event::decode(payload.clone())?;
    if slim.person == 0 || !interest.wants_event(&slim.name) {
        return Ok(None);
    }
    Ok(Some(ResolvedEvent::decode(payload)?))
}

fn moved_of(group: TransitionGroup) -> Result<Incoming, Unreadable> {
    let mut persons: RoaringBitmap = group.persons.iter().copied().collect();
    if !group.persons_bitmap.is_empty() {
        persons |= RoaringBitmap::deserialize_from(&*group.persons_bitmap).map_err(|_| Unreadable::Bitmap)?;
    }
    Ok(Incoming::Moved(Moved {
        entered: group.kind == i32::from(TransitionKind::Entered),
        audience: group.audience.into(),
        held_out: group.held_out,
        time_us: group.time_us,
        persons,
    }))
}

/// `segue.events.v1.ResolvedBatch` with its events left as they are: most are not wanted.
mod slim {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Batch {
        #[prost(message, repeated, tag = "1")]
        pub(super) groups: Vec<Group>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Group {
        #[prost(string, tag = "1")]
        pub(super) tenant: String,
        #[prost(bytes = "bytes", repeated, tag = "2")]
        pub(super) events: Vec<Bytes>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Event {
        #[prost(uint32, tag = "1")]
        pub(super) person: u32,
        #[prost(string, tag = "7")]
        pub(super) name: String,
    }
}

#[cfg(test)]
mod tests {
    use segue_proto::events::v1::{IdentityChange, PersonMerged, PersonUnmerged, ResolvedBatch, ResolvedGroup, Value};

    use super::*;

    fn batch(payload: Vec<u8>) -> StoredBatch {
        StoredBatch { position: 5, appended_at_us: 1, events: 1, payload: payload.into(), traceparent: None }
    }

    fn interest(events: &[&str], audiences: &[&str]) -> Interest {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Interest { events: Some(owned(events)), audiences: owned(audiences) }
    }

    #[test]
    fn of_the_log_only_what_a_tenant_wants_is_read_and_that_in_full() {
        let event = |person: u32, name: &str| ResolvedEvent {
            person,
            name: name.to_owned(),
            message_id: "m".to_owned(),
            properties: [("a".to_owned(), Value::default())].into(),
            ..ResolvedEvent::default()
        };
        let groups = vec![
            ResolvedGroup { tenant: "shop".to_owned(), events: vec![event(7, "buy"), event(0, "buy"), event(7, "look")] },
            ResolvedGroup { tenant: "other".to_owned(), events: vec![event(1, "buy")] },
        ];
        let payload = batch(ResolvedBatch { groups }.encode_to_vec());
        let wants = interest(&["buy"], &[]);
        let found = decode(Stream::Resolved, &payload, |tenant| (tenant == "shop").then_some(&wants)).expect("readable");
        assert_eq!(found, [("shop".to_owned(), vec![Incoming::Event(Arc::new(event(7, "buy")))])]);
        let everything = Interest { events: None, ..Interest::default() };
        let found = decode(Stream::Resolved, &payload, |tenant| (tenant == "shop").then_some(&everything)).expect("readable");
        assert_eq!(found.first().map(|(_, incoming)| incoming.len()), Some(2), "an event of nobody is of no use");
    }

    #[test]
    fn merges_and_transitions_are_read_from_lists_and_bitmaps() {
        let changes = vec![
            IdentityChange { change: Some(Change::Merged(PersonMerged { from: 3, into: 2 })), ..IdentityChange::default() },
            IdentityChange { change: Some(Change::Unmerged(PersonUnmerged { from: 3, into: 2 })), ..IdentityChange::default() },
            IdentityChange::default(),
        ];
        let payload = batch(IdentityChangeBatch { tenant: "shop".to_owned(), changes }.encode_to_vec());
        let nothing = Interest::default();
        let found = decode(Stream::Identity, &payload, |_| Some(&nothing)).expect("readable");
        assert_eq!(found, [("shop".to_owned(), vec![Incoming::Merged { from: 3, into: 2 }, Incoming::Unmerged { from: 3 }])]);

        let mut bitmap = Vec::new();
        RoaringBitmap::from_iter([8, 9]).serialize_into(&mut bitmap).expect("memory");
        let group = TransitionGroup {
            audience: "a".to_owned(),
            kind: TransitionKind::Entered.into(),
            time_us: 4,
            persons: vec![7],
            persons_bitmap: bitmap,
            ..TransitionGroup::default()
        };
        let other = TransitionGroup { audience: "b".to_owned(), ..group.clone() };
        let groups = vec![group.clone(), other];
        let payload = batch(TransitionBatch { tenant: "shop".to_owned(), groups, ..TransitionBatch::default() }.encode_to_vec());
        let wants = interest(&[], &["a"]);
        let found = decode(Stream::Transitions, &payload, |_| Some(&wants)).expect("readable");
        let moved =
            Moved { audience: "a".into(), entered: true, held_out: false, time_us: 4, persons: RoaringBitmap::from_iter([7, 8, 9]) };
        assert_eq!(found, [("shop".to_owned(), vec![Incoming::Moved(moved)])]);

        let groups = vec![TransitionGroup { persons_bitmap: vec![1, 2, 3], ..group }];
        let payload = batch(TransitionBatch { tenant: "shop".to_owned(), groups, ..TransitionBatch::default() }.encode_to_vec());
        assert!(decode(Stream::Transitions, &payload, |_| Some(&wants)).is_err(), "a damaged bitmap is not an empty one");
    }

    #[test]
    fn an_interest_covers_another_that_wants_no_more() {
        let everything = Interest { events: None, ..Interest::default() };
        assert!(interest(&["a", "b"], &["x"]).covers(&interest(&["a"], &["x"])));
        assert!(!interest(&["a"], &["x"]).covers(&interest(&["a", "b"], &[])));
        assert!(!interest(&["a"], &[]).covers(&interest(&[], &["x"])));
        assert!(everything.covers(&interest(&["a"], &[])));
        assert!(!interest(&["a"], &[]).covers(&everything));
    }
}
