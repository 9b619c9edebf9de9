//! Persons who were merged: what the survivor gets, and which runs end because the survivor has one already.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::incoming::Incoming;
use super::machine::Run;

/// What merges and their undoing come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Merges {
    /// By merged person, the survivor. No survivor is merged itself.
    pub(crate) into: BTreeMap<u32, u32>,
    /// Who is their own again.
    pub(crate) unmerged: BTreeSet<u32>,
}

impl Merges {
    /// In the order in which they happened.
    pub(crate) fn of(incoming: &[Incoming]) -> Self {
        let mut merges = Merges::default();
        for happened in incoming {
            match happened {
                Incoming::Merged { from, into } => merges.merge(*from, *into),
                Incoming::Unmerged { from } => {
                    merges.into.remove(from);
                    merges.unmerged.insert(*from);
                }
                Incoming::Event(_) | Incoming::Moved(_) => {}
            }
        }
        merges
    }

    fn merge(&mut self, from: u32, into: u32) {
        let into = self.into.get(&into).copied().unwrap_or(into);
        if from == into {
            return;
        }
        self.unmerged.remove(&from);
        for survivor in self.into.values_mut().filter(|survivor| **survivor == from) {
            *survivor = into;
        }
        self.into.insert(from, into);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.into.is_empty() && self.unmerged.is_empty()
    }

    pub(crate) fn pairs(&self) -> Vec<(u32, u32)> {
        self.into.iter().map(|(from, into)| (*from, *into)).collect()
    }

    /// Everyone whose runs may get into each other's way.
    pub(crate) fn persons(&self) -> BTreeSet<u32> {
        self.into.iter().flat_map(|(from, into)| [*from, *into]).collect()
    }

    /// Active runs that end: of several of one survivor, scenario and entry key the one that was entered first stays.
    pub(crate) fn losers(&self, runs: &[Run]) -> BTreeSet<u64> {
        let mut first: HashMap<(u32, &str, &str), &Run> = HashMap::new();
        let mut losers = BTreeSet::new();
        for run in runs.iter().filter(|run| run.ended.is_none()) {
            let survivor = self.into.get(&run.person).copied().unwrap_or(run.person);
            match first.entry((survivor, &run.scenario, &run.entry_key)) {
                std::collections::hash_map::Entry::Vacant(place) => drop(place.insert(run)),
                std::collections::hash_map::Entry::Occupied(mut place) => {
                    let known = *place.get();
                    let is_earlier = (run.entered_us, run.id) < (known.entered_us, known.id);
                    losers.insert(if is_earlier { known.id } else { run.id });
                    if is_earlier {
                        place.insert(run);
                    }
                }
            }
        }
        losers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::machine::State;

    fn run(id: u64, person: u32, key: &str, entered_us: i64) -> Run {
        Run {
            id,
            scenario: "s".to_owned(),
            version: 1,
            person,
            entry_key: key.to_owned(),
            entry: 1,
            entered_us,
            held_out: false,
            state: State::default(),
            due_us: None,
            ended: None,
        }
    }

    #[test]
    fn of_two_runs_the_one_entered_first_stays_and_another_key_is_another_run() {
        let merges = Merges::of(&[Incoming::Merged { from: 2, into: 1 }]);
        let runs = [run(1, 1, "a", 20), run(2, 2, "a", 10), run(3, 2, "b", 30), run(4, 9, "a", 5)];
        assert_eq!(merges.losers(&runs), BTreeSet::from([1]));
    }

    #[test]
    fn who_was_merged_and_is_their_own_again_keeps_nothing_of_it() {
        let merges = Merges::of(&[Incoming::Merged { from: 2, into: 1 }, Incoming::Unmerged { from: 2 }]);
        assert_eq!(merges, Merges { into: BTreeMap::new(), unmerged: BTreeSet::from([2]) });
        let again = Merges::of(&[Incoming::Unmerged { from: 2 }, Incoming::Merged { from: 2, into: 1 }]);
        assert_eq!(again, Merges { into: BTreeMap::from([(2, 1)]), unmerged: BTreeSet::new() });
    }

    proptest! {
        #[test]
        fn chains_of_merges_end_at_the_last_survivor(order in Just((1_u32..12).collect::<Vec<_>>()).prop_shuffle(), picks in proptest::collection::vec(0_usize..100, 11)) {
            // Everyone but the last of the order is merged into somebody who stands behind them.
            let mut incoming = Vec::new();
            let mut root: BTreeMap<u32, u32> = BTreeMap::new();
            for (at, from) in order.iter().enumerate().take(order.len() - 1) {
                let behind = &order[at + 1..];
                let into = behind[picks[at] % behind.len()];
                incoming.push(Incoming::Merged { from: *from, into });
                for survivor in root.values_mut().filter(|survivor| **survivor == *from) {
                    *survivor = into;
                }
                root.insert(*from, into);
            }
            let merges = Merges::of(&incoming);
            prop_assert_eq!(&merges.into, &root);
            prop_assert!(merges.into.values().all(|survivor| !merges.into.contains_key(survivor)));
        }
    }
}
