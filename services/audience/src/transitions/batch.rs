//! A batch of transitions as the log holds it, and its transitions one by one. Batches may hold millions: they are unfolded a part at a
//! time, and their bitmaps are never turned into lists.

use prost::Message;
use roaring::RoaringBitmap;
use segue_proto::audience::v1::Transition;
use segue_proto::events::v1::{TransitionBatch, TransitionGroup};

use crate::error::AudienceError;
use crate::store::timestamp;

/// The transitions of one tenant in one batch of the log.
#[derive(Debug)]
pub(crate) struct Batch {
    first_sequence: u64,
    evaluated_at_us: i64,
    groups: Vec<Group>,
    len: u64,
}

/// Persons who did the same.
#[derive(Debug)]
pub(crate) struct Group {
    /// Without the persons.
    pub(crate) head: TransitionGroup,
    /// How many transitions of the batch come before.
    begins: u64,
    persons: Persons,
}

#[derive(Debug)]
enum Persons {
    Few(Vec<u32>),
    Many(RoaringBitmap),
}

impl Batch {
    /// Reads a payload; `None` if it is another tenant's.
    pub(crate) fn of(tenant: &str, payload: &[u8]) -> Result<Option<Batch>, AudienceError> {
        const CORRUPT: AudienceError = AudienceError::Corrupt { what: "transitions on the log" };
        // Most batches of a partition are others': they are told by their first field.
        if tenant_of(payload).is_some_and(|other| other != tenant.as_bytes()) {
            return Ok(None);
        }
        let batch = TransitionBatch::decode(payload).map_err(|_| CORRUPT)?;
        if batch.tenant != tenant {
            return Ok(None);
        }
        let (mut groups, mut len) = (Vec::with_capacity(batch.groups.len()), 0);
        for mut head in batch.groups {
            let (few, many) = (std::mem::take(&mut head.persons), std::mem::take(&mut head.persons_bitmap));
            let persons = if many.is_empty() {
                Persons::Few(few)
            } else {
                Persons::Many(RoaringBitmap::deserialize_from(many.as_slice()).map_err(|_| CORRUPT)?)
            };
            let group = Group { head, begins: len, persons };
            len += group.len();
            groups.push(group);
        }
        Ok(Some(Batch { first_sequence: batch.first_sequence, evaluated_at_us: batch.evaluated_at_us, groups, len }))
    }

    /// How many transitions there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Number of the first one.
    pub(crate) fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// Number of the last one; before the first one when there is none.
    pub(crate) fn last_sequence(&self) -> u64 {
        (self.first_sequence + self.len).saturating_sub(1)
    }

    /// How many of them have numbers up to `sequence`.
    pub(crate) fn up_to(&self, sequence: u64) -> u64 {
        (sequence + 1).saturating_sub(self.first_sequence).min(self.len)
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Adds to `into` what follows the first `offset` transitions, of audiences that `wanted` says, until `into` has `most`. Answers up to
    /// where it came: [`Batch::len`] at the end.
    pub(crate) fn unfold(&self, offset: u64, most: usize, wanted: impl Fn(&str) -> bool, into: &mut Vec<Transition>) -> u64 {
        let mut offset = offset;
        for group in &self.groups {
            let ends = group.ends();
            if ends <= offset {
                continue;
            }
            if wanted(&group.head.audience) {
                let before = into.len();
                let first = self.first_sequence + offset;
                let persons = group.persons_from(offset - group.begins).take(most.saturating_sub(before));
                into.extend(persons.zip(first..).map(|(person, sequence)| self.transition(&group.head, sequence, person)));
                offset += (into.len() - before) as u64;
                if offset < ends {
                    return offset;
                }
            } else {
                offset = ends;
            }
        }
        self.len
    }

    fn transition(&self, head: &TransitionGroup, sequence: u64, person: u32) -> Transition {
        Transition {
            sequence,
            audience: head.audience.clone(),
            version: head.version,
            person,
            kind: head.kind,
            time: Some(timestamp(head.time_us)),
            evaluated_at: Some(timestamp(self.evaluated_at_us)),
            reason: head.reason,
            event_name: head.event_name.clone(),
            message_id: head.message_id.clone(),
            held_out: head.held_out,
        }
    }
}

impl Group {
    fn len(&self) -> u64 {
        match &self.persons {
            Persons::Few(persons) => persons.len() as u64,
            Persons::Many(persons) => persons.len(),
        }
    }

    /// How many transitions of the batch come before those of the group.
    pub(crate) fn begins(&self) -> u64 {
        self.begins
    }

    /// The same with those of the group.
    pub(crate) fn ends(&self) -> u64 {
        self.begins + self.len()
    }

    /// The persons but the first `skip`.
    pub(crate) fn persons_from(&self, skip: u64) -> Box<dyn Iterator<Item = u32> + '_> {
        match &self.persons {
            Persons::Few(persons) => Box::new(persons.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).copied()),
            Persons::Many(persons) => {
                let mut rest = persons.iter();
                match u32::try_from(skip).ok().and_then(|skip| persons.select(skip)) {
                    Some(first) => rest.advance_to(first),
                    None => return Box::new(std::iter::empty()),
                }
                Box::new(rest)
            }
        }
    }
}

/// The tenant, if it stands where encoders put it.
fn tenant_of(payload: &[u8]) -> Option<&[u8]> {
    let mut rest = payload.strip_prefix(&[0x0a])?; // field 1, length-delimited
    let length = prost::decode_length_delimiter(&mut rest).ok()?;
    rest.get(..length)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use segue_proto::events::v1::{TransitionKind, TransitionReason};

    use super::*;

    /// A group of an audience; beyond three persons as a bitmap.
    pub(crate) fn group(audience: &str, kind: TransitionKind, persons: impl IntoIterator<Item = u32>) -> TransitionGroup {
        let bitmap: RoaringBitmap = persons.into_iter().collect();
        let mut group = TransitionGroup {
            audience: audience.to_owned(),
            version: 2,
            kind: kind.into(),
            time_us: 1_000_001,
            reason: TransitionReason::Event.into(),
            event_name: "df_purchase".to_owned(),
            message_id: "m1".to_owned(),
            ..TransitionGroup::default()
        };
        if bitmap.len() > 3 {
            bitmap.serialize_into(&mut group.persons_bitmap).expect("a vector takes everything");
        } else {
            group.persons = bitmap.iter().collect();
        }
        group
    }

    /// The payload of a batch.
    pub(crate) fn payload(tenant: &str, first_sequence: u64, groups: Vec<TransitionGroup>) -> Vec<u8> {
        TransitionBatch { tenant: tenant.to_owned(), first_sequence, groups, evaluated_at_us: 2_000_000 }.encode_to_vec()
    }

    fn read(tenant: &str, payload: &[u8]) -> Batch {
        Batch::of(tenant, payload).expect("it is readable").expect("it is the tenant's")
    }

    #[test]
    fn each_transition_says_what_its_group_says_and_has_a_number_of_its_own() {
        let groups = vec![group("buyers", TransitionKind::Entered, [7, 9]), group("lapsed", TransitionKind::Left, 10..15)];
        let batch = read("shop", &payload("shop", 40, groups));
        let mut all = Vec::new();
        assert_eq!(batch.unfold(0, 100, |_| true, &mut all), 7);
        let found: Vec<(u64, &str, u32)> = all.iter().map(|one| (one.sequence, one.audience.as_str(), one.person)).collect();
        let lapsed = (42..).zip(10..15).map(|(sequence, person)| (sequence, "lapsed", person));
        assert_eq!(found, [(40, "buyers", 7), (41, "buyers", 9)].into_iter().chain(lapsed).collect::<Vec<_>>());
        assert_eq!((all[0].version, all[0].kind(), all[0].reason()), (2, TransitionKind::Entered, TransitionReason::Event));
        assert_eq!((all[0].event_name.as_str(), all[0].message_id.as_str(), all[0].held_out), ("df_purchase", "m1", false));
        assert_eq!(all[0].time, Some(prost_types::Timestamp { seconds: 1, nanos: 1_000 }));
        assert_eq!(all[0].evaluated_at, Some(prost_types::Timestamp { seconds: 2, nanos: 0 }));
        assert_eq!((batch.first_sequence(), batch.last_sequence()), (40, 46));
        assert_eq!([0, 39, 40, 43, 46, 99].map(|sequence| batch.up_to(sequence)), [0, 0, 1, 4, 7, 7]);
    }

    #[test]
    fn batches_of_other_tenants_are_none_and_damaged_ones_are_told() {
        let shop = payload("shop", 1, vec![group("a", TransitionKind::Entered, [1])]);
        assert!(Batch::of("shop2", &shop).expect("readable").is_none());
        assert!(Batch::of("sho", &shop).expect("readable").is_none());
        assert!(Batch::of("shop", &shop[..shop.len() - 1]).is_err());
        let damaged = TransitionGroup { persons_bitmap: vec![1, 2, 3], ..TransitionGroup::default() };
        assert!(Batch::of("shop", &payload("shop", 1, vec![damaged])).is_err());
    }

    proptest! {
        #[test]
        fn parts_of_any_size_add_up_to_the_whole(
            groups in prop::collection::vec((0_u8..3, prop::collection::btree_set(1_u32..200_000, 0..40)), 0..8),
            sizes in prop::collection::vec(1_usize..30, 1..5),
            filter in prop::option::of(0_u8..3),
        ) {
            let made = groups.iter().map(|(audience, persons)| group(&audience.to_string(), TransitionKind::Entered, persons.clone()));
            let batch = read("shop", &payload("shop", 100, made.collect()));
            let wanted = |audience: &str| filter.is_none_or(|only| only.to_string() == audience);
            let mut expected = Vec::new();
            for (audience, persons) in &groups {
                for person in persons {
                    expected.push((100 + expected.len() as u64, audience.to_string(), *person));
                }
            }
            prop_assert_eq!(batch.len(), expected.len() as u64);
            expected.retain(|(_, audience, _)| wanted(audience));
            let (mut found, mut offset) = (Vec::new(), 0);
            for size in sizes.iter().cycle() {
                let mut part = Vec::new();
                offset = batch.unfold(offset, *size, wanted, &mut part);
                prop_assert!(part.len() <= *size && (part.len() == *size || offset == batch.len()));
                found.extend(part.into_iter().map(|one| (one.sequence, one.audience, one.person)));
                if offset == batch.len() {
                    break;
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
