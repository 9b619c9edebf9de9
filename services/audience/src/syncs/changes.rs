//! Who entered and who left between two places in the transitions of an audience, net.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use segue_proto::events::v1::TransitionKind;

use crate::transitions::batch::Batch;

/// Persons who came or went, once each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    persons: BTreeMap<u32, Course>,
}

/// What a person did first and last: whoever left first had been a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Course {
    first: TransitionKind,
    last: TransitionKind,
}

impl Changes {
    /// Persons, also those who are back where they were.
    pub(super) fn len(&self) -> usize {
        self.persons.len()
    }

    /// Adds what follows the first `offset` transitions of the batch and is about members of the audience, as long as no more than
    /// `persons_max` persons are concerned. Answers up to where it came: [`Batch::len`] at the end.
    pub(super) fn gather(&mut self, batch: &Batch, offset: u64, audience: &str, persons_max: usize) -> u64 {
        let mut offset = offset;
        for group in batch.groups() {
            let kind = group.head.kind();
            // Who is held out is no member, and to be left alone.
            let counts = group.head.audience == audience && !group.head.held_out && kind != TransitionKind::Unspecified;
            if !counts || group.ends() <= offset {
                offset = offset.max(group.ends());
                continue;
            }
            for person in group.persons_from(offset - group.begins()) {
                let known = self.persons.len();
                match self.persons.entry(person) {
                    Entry::Occupied(mut course) => course.get_mut().last = kind,
                    Entry::Vacant(_) if known >= persons_max => return offset,
                    Entry::Vacant(unknown) => {
                        unknown.insert(Course { first: kind, last: kind });
                    }
                }
                offset += 1;
            }
        }
        batch.len()
    }

    /// Who is a member and was none, ascending.
    pub(super) fn entered(&self) -> Vec<u32> {
        self.net(TransitionKind::Entered)
    }

    /// Who was a member and is none, ascending.
    pub(super) fn left(&self) -> Vec<u32> {
        self.net(TransitionKind::Left)
    }

    fn net(&self, kind: TransitionKind) -> Vec<u32> {
        let kept = self.persons.iter().filter(|(_, course)| course.first == kind && course.last == kind);
        kept.map(|(person, _)| *person).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use segue_proto::events::v1::TransitionGroup;

    use super::*;
    use crate::transitions::batch::tests::{group, payload};

    fn batch(groups: Vec<TransitionGroup>) -> Batch {
        Batch::of("shop", &payload("shop", 1, groups)).expect("readable").expect("its own")
    }

    #[test]
    fn persons_who_are_back_where_they_were_and_those_held_out_are_not_told() {
        let (entered, left) = (TransitionKind::Entered, TransitionKind::Left);
        let batch = batch(vec![
            group("a", entered, [1, 2]),
            group("b", left, [1, 9]),
            TransitionGroup { held_out: true, ..group("a", entered, [3]) },
            group("a", left, [2, 4, 5]),
            group("a", entered, [5]),
            group("a", left, [5]),
        ]);
        let mut changes = Changes::default();
        assert_eq!(changes.gather(&batch, 0, "a", 100), batch.len());
        assert_eq!((changes.entered(), changes.left(), changes.len()), (vec![1], vec![4, 5], 4));
        let mut none = Changes::default();
        assert_eq!(none.gather(&batch, 0, "c", 100), batch.len());
        assert_eq!(none, Changes::default());
    }

    proptest! {
        /// Whatever the parts in which it is told, who applies them ends with the members.
        #[test]
        fn parts_applied_one_after_the_other_give_the_members(
            flips in prop::collection::vec((any::<bool>(), 0_u8..3, prop::collection::btree_set(1_u32..40, 1..12)), 1..20),
            persons_max in 1_usize..8,
        ) {
            let mut members: [BTreeSet<u32>; 3] = Default::default();
            let mut groups = Vec::new();
            for (enter, audience, persons) in &flips {
                // Only who is out can enter, only who is in can leave.
                let own = &mut members[*audience as usize];
                let moving: Vec<u32> = persons.iter().copied().filter(|person| own.contains(person) != *enter).collect();
                for person in &moving {
                    if *enter { own.insert(*person); } else { own.remove(person); }
                }
                if !moving.is_empty() {
                    let kind = if *enter { TransitionKind::Entered } else { TransitionKind::Left };
                    groups.push(group(&audience.to_string(), kind, moving));
                }
            }
            let batch = batch(groups);
            let (mut told, mut offset) = (BTreeSet::new(), 0);
            while offset < batch.len() {
                let mut changes = Changes::default();
                let next = changes.gather(&batch, offset, "1", persons_max);
                prop_assert!(next > offset && changes.len() <= persons_max);
                offset = next;
                for person in changes.entered() {
                    prop_assert!(told.insert(person), "{person} was in already");
                }
                for person in changes.left() {
                    prop_assert!(told.remove(&person), "{person} was not in");
                }
            }
            prop_assert_eq!(&told, &members[1]);
        }
    }
}
