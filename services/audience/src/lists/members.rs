//! What a change makes of a list: sets of numbers, no I/O.
//!
//! A list may hold numbers that were merged since they were put on it. A change that concerns somebody puts the survivor's number in place
//! of all that they have on the list, so that they are counted once.

use roaring::RoaringBitmap;

use crate::definitions::numbers::Persons;

/// Who is put on a list and who is taken off. Who is in both is taken off.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    /// Survivors.
    pub(crate) add: RoaringBitmap,
    /// Survivors.
    pub(crate) remove: RoaringBitmap,
    /// Whoever is not put on it is taken off.
    pub(crate) replace: bool,
    /// Everybody concerned, with all numbers.
    pub(crate) persons: Persons,
}

/// What came of it, of the part of a list that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Changed {
    pub(crate) after: RoaringBitmap,
    /// Persons who were not on the list.
    pub(crate) added: u64,
    /// Persons who are no longer on the list.
    pub(crate) removed: u64,
    /// Numbers that were put on or taken off.
    pub(crate) numbers: RoaringBitmap,
}

impl Change {
    /// Applies it to all numbers of a list, or to those in the chunks of the persons concerned.
    pub(crate) fn apply(&self, before: &RoaringBitmap) -> Changed {
        let mut known = before.clone();
        for (merged, survivor) in &self.persons.merged {
            if known.remove(*merged) {
                known.insert(*survivor);
            }
        }
        let mut after = &self.add - &self.remove;
        if !self.replace {
            after |= &known - &self.remove;
        }
        Changed { added: after.difference_len(&known), removed: known.difference_len(&after), numbers: before ^ &after, after }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn set(numbers: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        numbers.into_iter().collect()
    }

    fn change(add: &[u32], remove: &[u32], merged: &[(u32, u32)]) -> Change {
        let (add, remove) = (set(add.iter().copied()), set(remove.iter().copied()));
        let persons = Persons { survivors: &add | &remove, merged: merged.iter().copied().collect() };
        Change { add, remove, replace: false, persons }
    }

    #[test]
    fn who_is_on_the_list_under_a_merged_number_is_not_added_again() {
        let outcome = change(&[5, 6], &[], &[(9, 5), (8, 5)]).apply(&set([8, 9, 20]));
        assert_eq!(outcome, Changed { after: set([5, 6, 20]), added: 1, removed: 0, numbers: set([5, 6, 8, 9]) });
    }

    #[test]
    fn who_is_taken_off_is_off_under_every_number() {
        let outcome = change(&[5], &[5, 7], &[(9, 5)]).apply(&set([5, 9, 20]));
        assert_eq!(outcome, Changed { after: set([20]), added: 0, removed: 1, numbers: set([5, 9]) });
    }

    #[test]
    fn what_changes_nothing_says_so() {
        let outcome = change(&[5], &[7], &[]).apply(&set([5, 20]));
        assert_eq!((outcome.added, outcome.removed, outcome.numbers.is_empty()), (0, 0, true));
        let replaced = Change { replace: true, ..change(&[5], &[], &[(9, 5)]) }.apply(&set([9, 20]));
        assert_eq!(replaced, Changed { after: set([5]), added: 0, removed: 1, numbers: set([5, 9, 20]) });
    }

    proptest! {
        #[test]
        fn a_list_is_that_of_persons_one_by_one(
            before in prop::collection::btree_set(0..40u32, 0..20),
            add in prop::collection::btree_set(0..10u32, 0..8),
            remove in prop::collection::btree_set(0..10u32, 0..8),
            merged in prop::collection::btree_map(10..20u32, 0..10u32, 0..8),
            replace in prop::bool::ANY,
        ) {
            let concerned: BTreeSet<u32> = add.union(&remove).copied().collect();
            let merged: BTreeMap<u32, u32> = merged.into_iter().filter(|(_, survivor)| concerned.contains(survivor)).collect();
            let persons = Persons { survivors: set(concerned), merged: merged.clone() };
            let change = Change { add: set(add.iter().copied()), remove: set(remove.iter().copied()), replace, persons };
            let outcome = change.apply(&set(before.iter().copied()));

            let mut people: BTreeSet<u32> = before.iter().map(|number| merged.get(number).copied().unwrap_or(*number)).collect();
            let at_first = people.clone();
            if replace {
                people.clear();
            }
            people.extend(&add);
            people.retain(|person| !remove.contains(person));
            prop_assert_eq!(&outcome.after, &set(people.iter().copied()));
            prop_assert_eq!(outcome.added, people.difference(&at_first).count() as u64);
            prop_assert_eq!(outcome.removed, at_first.difference(&people).count() as u64);
            prop_assert_eq!(outcome.numbers, set(before.symmetric_difference(&people).copied()));
        }
    }
}
