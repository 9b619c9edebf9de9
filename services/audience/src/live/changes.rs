//! Who enters and leaves: changes of a round, grouped, numbered, and cut into batches of the log.

use std::collections::BTreeMap;

use prost::Message;
use roaring::RoaringBitmap;
use segue_proto::events::v1::{TransitionBatch, TransitionGroup, TransitionKind, TransitionReason};

/// Persons up to which a group lists them by number.
const LISTED_MAX: u64 = 256;
/// A batch is closed beyond so many bytes.
const BATCH_BYTES: usize = 256 << 10;

/// What all persons of a group have in common. Groups are told in this order: by time; who leaves before who enters, so that somebody who
/// goes from the members to those held out is in afterwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    pub(crate) time_us: i64,
    pub(crate) entered: bool,
    pub(crate) audience: String,
    pub(crate) held_out: bool,
    pub(crate) version: u32,
    pub(crate) reason: i32,
    pub(crate) event_name: String,
    pub(crate) message_id: String,
}

/// The changes of a round.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Changes(BTreeMap<GroupKey, RoaringBitmap>);

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn add(&mut self, key: GroupKey, persons: RoaringBitmap) {
        if !persons.is_empty() {
            *self.0.entry(key).or_default() |= persons;
        }
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = (&GroupKey, &RoaringBitmap)> {
        self.0.iter()
    }

    /// How many transitions it is.
    pub(crate) fn len(&self) -> u64 {
        self.0.values().map(RoaringBitmap::len).sum()
    }

    /// Batches for the log, numbered from behind `sequence`.
    pub(crate) fn batches(&self, tenant: &str, mut sequence: u64, evaluated_at_us: i64) -> Vec<Numbered> {
        let mut batches = Vec::new();
        let empty =
            |first_sequence: u64| TransitionBatch { tenant: tenant.to_owned(), first_sequence, groups: Vec::new(), evaluated_at_us };
        let (mut open, mut bytes) = (empty(sequence + 1), 0_usize);
        for (key, persons) in &self.0 {
            let group = group(key, persons);
            bytes += group.encoded_len();
            open.groups.push(group);
            sequence += persons.len();
            if bytes > BATCH_BYTES {
                batches.push(Numbered::new(std::mem::replace(&mut open, empty(sequence + 1)), sequence));
                bytes = 0;
            }
        }
        if !open.groups.is_empty() {
            batches.push(Numbered::new(open, sequence));
        }
        batches
    }
}

fn group(key: &GroupKey, persons: &RoaringBitmap) -> TransitionGroup {
    let kind = if key.entered { TransitionKind::Entered } else { TransitionKind::Left };
    let (listed, bitmap) =
        if persons.len() <= LISTED_MAX { (persons.iter().collect(), Vec::new()) } else { (Vec::new(), bytes_of(persons)) };
    TransitionGroup {
        audience: key.audience.clone(),
        version: key.version,
        kind: kind.into(),
        time_us: key.time_us,
        reason: key.reason,
        event_name: key.event_name.clone(),
        message_id: key.message_id.clone(),
        held_out: key.held_out,
        persons: listed,
        persons_bitmap: bitmap,
    }
}

/// The persons of a group.
pub(crate) fn persons_of(group: &TransitionGroup) -> Option<RoaringBitmap> {
    let mut persons: RoaringBitmap = group.persons.iter().copied().collect();
    if !group.persons_bitmap.is_empty() {
        persons |= bitmap_of(&group.persons_bitmap)?;
    }
    Some(persons)
}

/// A set of persons in its portable serialisation.
pub(crate) fn bytes_of(persons: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(persons.serialized_size());
    // Writing to memory does not fail.
    let _ = persons.serialize_into(&mut bytes);
    bytes
}

/// The set of persons that was serialised; none when it was not one.
pub(crate) fn bitmap_of(bytes: &[u8]) -> Option<RoaringBitmap> {
    RoaringBitmap::deserialize_from(bytes).ok()
}

/// Whether somebody who is in such a group left because of an event, a merge, …; what is stored as `reason`.
pub(crate) fn reason(reason: TransitionReason) -> i32 {
    reason.into()
}

/// A batch with what the store keeps beside it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Numbered {
    pub(crate) last_sequence: u64,
    pub(crate) transitions: u64,
    pub(crate) payload: Vec<u8>,
}

impl Numbered {
    fn new(batch: TransitionBatch, last_sequence: u64) -> Self {
        Self { last_sequence, transitions: last_sequence + 1 - batch.first_sequence, payload: batch.encode_to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(time_us: i64, entered: bool, audience: &str) -> GroupKey {
        GroupKey {
            time_us,
            entered,
            audience: audience.to_owned(),
            held_out: false,
            version: 1,
            reason: reason(TransitionReason::Event),
            event_name: "x".repeat(100),
            message_id: String::new(),
        }
    }

    #[test]
    fn batches_number_every_transition_once_and_give_back_the_groups() {
        let mut changes = Changes::default();
        changes.add(key(5, true, "b"), (1..=100_000).collect());
        changes.add(key(5, false, "b"), RoaringBitmap::from([200_000, 7]));
        for at in 0..9_000 {
            changes.add(key(at, true, "a"), RoaringBitmap::from([at as u32]));
        }
        changes.add(key(9, true, "nobody"), RoaringBitmap::new());
        let batches = changes.batches("shop", 41, 77);
        assert!(batches.len() > 2);
        let (mut next, mut back) = (42, Changes::default());
        for numbered in &batches {
            assert!(numbered.payload.len() < 2 * BATCH_BYTES);
            let batch = TransitionBatch::decode(numbered.payload.as_slice()).expect("readable");
            assert_eq!((batch.first_sequence, batch.tenant.as_str(), batch.evaluated_at_us), (next, "shop", 77));
            for group in batch.groups {
                let persons = persons_of(&group).expect("persons");
                next += persons.len();
                back.add(key(group.time_us, group.kind == i32::from(TransitionKind::Entered), &group.audience), persons);
            }
            assert_eq!(numbered.last_sequence, next - 1);
        }
        assert_eq!(next, 42 + changes.len());
        assert_eq!(back, changes);
    }
}
