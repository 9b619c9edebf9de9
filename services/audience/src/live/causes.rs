//! Why and when somebody entered or left: which event, or which moment, made the difference.
//!
//! A change happened at the time of a relevant event of the person, or at an edge, that lies in the round. Where there are several, the
//! condition is evaluated at each of them: the change happened at the first one from which on the answer is the final one. What made it
//! lies in the past where none lies in the round: then the change happens when it becomes known.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;
use segue_proto::events::v1::TransitionReason;

use super::feed::Seen;
use super::interest::Interest;
use super::whom::{Pending, matters};

/// Why somebody changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) reason: TransitionReason,
    pub(crate) time_us: i64,
    /// Place of the event in what was pending.
    pub(crate) event: Option<usize>,
}

/// The moments at which a change may have happened, ascending: at each, the event, or none if it is an edge.
pub(crate) type Candidates = BTreeMap<i64, Option<usize>>;

/// What is known of the round's persons who changed.
pub(crate) struct Causes<'r> {
    pending: &'r Pending,
    events: HashMap<u32, Vec<usize>>,
    /// Moments of the round: after the first, up to and including the second.
    within_us: (i64, i64),
}

impl<'r> Causes<'r> {
    /// For these persons, in a round over these moments.
    pub(crate) fn new(pending: &'r Pending, changed: &RoaringBitmap, within_us: (i64, i64)) -> Self {
        let mut events: HashMap<u32, Vec<usize>> = HashMap::new();
        for (at, seen) in pending.seen.iter().enumerate() {
            if changed.contains(seen.person) {
                events.entry(seen.person).or_default().push(at);
            }
        }
        Self { pending, events, within_us }
    }

    fn of_person(&self, person: u32) -> impl DoubleEndedIterator<Item = (usize, &'r Seen)> {
        let at = self.events.get(&person).map_or(&[][..], Vec::as_slice);
        at.iter().filter_map(|at| Some((*at, self.pending.seen.get(*at)?)))
    }

    /// When the person may have changed, as far as it lies in the round. `edges` are those of the person that were due.
    pub(crate) fn candidates(&self, interest: &Interest, person: u32, edges: &[i64]) -> Candidates {
        let (after, until) = self.within_us;
        let lies = |time: i64| time > after && time <= until;
        if self.pending.merged.contains(person) || self.pending.removed.contains(person) {
            return Candidates::new();
        }
        let mut candidates: Candidates = edges.iter().filter(|time| lies(**time)).map(|time| (*time, None)).collect();
        for (at, seen) in self.of_person(person) {
            if matters(interest, seen) && lies(seen.time_us) {
                candidates.insert(seen.time_us, Some(at));
            }
        }
        candidates
    }

    /// The cause that lies at one of the candidates.
    pub(crate) fn at(&self, time_us: i64, event: Option<usize>) -> Cause {
        let reason = if event.is_some() { TransitionReason::Event } else { TransitionReason::Time };
        Cause { reason, time_us, event }
    }

    /// The cause where there is no candidate: it becomes known now.
    pub(crate) fn otherwise(&self, interest: &Interest, person: u32, is_suspect: bool) -> Cause {
        let known = |reason: TransitionReason, event: Option<usize>| Cause { reason, time_us: self.within_us.1, event };
        if self.pending.merged.contains(person) {
            return known(TransitionReason::Merge, None);
        }
        if self.pending.removed.contains(person) {
            return known(TransitionReason::Deletion, None);
        }
        let relevant = self.of_person(person).rfind(|(_, seen)| matters(interest, seen));
        if let Some((at, _)) = relevant {
            return known(TransitionReason::Event, Some(at));
        }
        let is_listed = |list: &String| self.pending.listed.get(list).is_some_and(|persons| persons.contains(person));
        if interest.lists.iter().any(is_listed) {
            return known(TransitionReason::Definition, None);
        }
        // Somebody who was not known before meets what is true of those without events.
        match self.of_person(person).next() {
            Some((at, _)) => known(TransitionReason::Event, Some(at)),
            None if is_suspect => known(TransitionReason::Repair, None),
            None => known(TransitionReason::Time, None),
        }
    }
}

/// The moment of a change, by what the condition was at each candidate but the last: the first one from which on it is `finally`.
pub(crate) fn moment_of(candidates: &Candidates, finally: bool, was: impl Fn(i64) -> bool) -> Option<(i64, Option<usize>)> {
    let mut found = None;
    for (at, (time, event)) in candidates.iter().rev().enumerate() {
        // The last candidate decides: from there on nothing changes any more.
        if at > 0 && was(*time) != finally {
            break;
        }
        found = Some((*time, *event));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn seen(person: u32, name: &str, time_us: i64) -> Seen {
        Seen { person, time_us, name: name.into(), message_id: "".into(), is_touch: false, traits: [].into() }
    }

    #[test]
    fn the_cause_is_what_lies_in_the_round_or_else_what_became_known() {
        let pending = Pending {
            seen: vec![seen(1, "a", 15), seen(1, "b", 16), seen(2, "a", 5), seen(2, "b", 18), seen(3, "b", 17), seen(1, "a", 25)],
            merged: RoaringBitmap::from([4]),
            removed: RoaringBitmap::from([5]),
            listed: [("vips".to_owned(), RoaringBitmap::from([6]))].into(),
        };
        let causes = Causes::new(&pending, &(1..=9).collect(), (10, 20));
        let names = BTreeSet::from(["a".to_owned()]);
        let interest = Interest { names, lists: BTreeSet::from(["vips".to_owned()]), ..Interest::default() };
        assert_eq!(causes.candidates(&interest, 1, &[12, 9]), Candidates::from([(12, None), (15, Some(0))]));
        assert_eq!(causes.candidates(&interest, 2, &[]), Candidates::new());
        let otherwise = |person: u32| {
            let cause = causes.otherwise(&interest, person, person == 7);
            (cause.reason, cause.time_us, cause.event)
        };
        assert_eq!(otherwise(2), (TransitionReason::Event, 20, Some(2)));
        assert_eq!(otherwise(3), (TransitionReason::Event, 20, Some(4)));
        assert_eq!(otherwise(4), (TransitionReason::Merge, 20, None));
        assert_eq!(otherwise(5), (TransitionReason::Deletion, 20, None));
        assert_eq!(otherwise(6), (TransitionReason::Definition, 20, None));
        assert_eq!(otherwise(7), (TransitionReason::Repair, 20, None));
    }

    #[test]
    fn of_several_moments_the_first_from_which_on_nothing_changed_is_the_one() {
        let candidates = Candidates::from([(1, None), (2, Some(0)), (3, None), (4, Some(1))]);
        let at = |was: [bool; 3]| moment_of(&candidates, true, |time| was[(time - 1) as usize]).map(|(time, _)| time);
        assert_eq!(at([false, false, false]), Some(4));
        assert_eq!(at([false, true, true]), Some(2));
        assert_eq!(at([true, false, true]), Some(3));
        assert_eq!(at([true, true, true]), Some(1));
        assert_eq!(moment_of(&Candidates::new(), true, |_| true), None);
    }
}
