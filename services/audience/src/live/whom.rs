//! Who has to be looked at: from what came in, the persons whom each audience's condition may now be true or false of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::feed::Seen;
use super::interest::Interest;

/// What came in and was not dealt with yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) seen: Vec<Seen>,
    /// Persons on either side of a merge, or of one that was undone.
    pub(crate) merged: RoaringBitmap,
    /// Persons whose events were removed.
    pub(crate) removed: RoaringBitmap,
    /// Persons put on or taken off lists.
    pub(crate) listed: BTreeMap<String, RoaringBitmap>,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.merged.is_empty() && self.removed.is_empty() && self.listed.is_empty()
    }
}

/// The persons of a round, by what they may matter for.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    by_name: HashMap<Arc<str>, RoaringBitmap>,
    by_trait: HashMap<Arc<str>, RoaringBitmap>,
    touches: RoaringBitmap,
    everybody: RoaringBitmap,
    /// Whom every audience has to look at: persons not known before, merged ones, those whose events were removed.
    always: RoaringBitmap,
}

impl Touched {
    /// Sorts what came in. `is_new` says who was not known before.
    pub(crate) fn of(pending: &Pending, is_new: impl Fn(u32) -> bool) -> Self {
        let mut touched = Self { always: &pending.merged | &pending.removed, ..Self::default() };
        for seen in &pending.seen {
            touched.everybody.insert(seen.person);
            match touched.by_name.get_mut(&seen.name) {
                Some(persons) => {
                    persons.insert(seen.person);
                }
                None => {
                    touched.by_name.insert(seen.name.clone(), RoaringBitmap::from([seen.person]));
                }
            }
            for name in &seen.traits {
                touched.by_trait.entry(name.clone()).or_default().insert(seen.person);
            }
            if seen.is_touch {
                touched.touches.insert(seen.person);
            }
        }
        for person in &touched.everybody {
            if is_new(person) {
                touched.always.insert(person);
            }
        }
        touched
    }

    /// All persons of events.
    pub(crate) fn everybody(&self) -> &RoaringBitmap {
        &self.everybody
    }

    /// Who matters for a condition of this interest.
    pub(crate) fn whom(&self, interest: &Interest, pending: &Pending) -> RoaringBitmap {
        let mut whom = self.always.clone();
        if interest.every_event {
            whom |= &self.everybody;
        } else {
            for name in &interest.names {
                if let Some(persons) = self.by_name.get(name.as_str()) {
                    whom |= persons;
                }
            }
            if interest.touches {
                whom |= &self.touches;
            }
        }
        for name in &interest.traits {
            if let Some(persons) = self.by_trait.get(name.as_str()) {
                whom |= persons;
            }
        }
        for list in &interest.lists {
            if let Some(persons) = pending.listed.get(list) {
                whom |= persons;
            }
        }
        whom
    }
}

/// Whether an event may matter for a condition of this interest.
pub(crate) fn matters(interest: &Interest, seen: &Seen) -> bool {
    interest.every_event
        || (interest.touches && seen.is_touch)
        || interest.names.contains(&*seen.name)
        || seen.traits.iter().any(|name| interest.traits.contains(&**name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn seen(person: u32, name: &str) -> Seen {
        Seen { person, time_us: i64::from(person), name: name.into(), message_id: "".into(), is_touch: person == 3, traits: [].into() }
    }

    #[test]
    fn only_those_are_looked_at_whom_it_may_concern() {
        let mut stated = seen(4, "");
        stated.traits = ["df_gender".into()].into();
        let pending = Pending {
            seen: vec![seen(1, "a"), seen(2, "b"), seen(3, "c"), stated, seen(9, "z")],
            merged: RoaringBitmap::from([7, 8]),
            removed: RoaringBitmap::from([6]),
            listed: [("vips".to_owned(), RoaringBitmap::from([5]))].into(),
        };
        let touched = Touched::of(&pending, |person| person == 9);
        let name = |name: &str| BTreeSet::from([name.to_owned()]);
        let whom = |interest: Interest| touched.whom(&interest, &pending).iter().collect::<Vec<_>>();
        assert_eq!(whom(Interest::default()), [6, 7, 8, 9]);
        assert_eq!(whom(Interest { names: name("a"), ..Interest::default() }), [1, 6, 7, 8, 9]);
        assert_eq!(whom(Interest { touches: true, ..Interest::default() }), [3, 6, 7, 8, 9]);
        assert_eq!(whom(Interest { traits: name("df_gender"), ..Interest::default() }), [4, 6, 7, 8, 9]);
        assert_eq!(whom(Interest { lists: name("vips"), ..Interest::default() }), [5, 6, 7, 8, 9]);
        assert_eq!(whom(Interest { every_event: true, ..Interest::default() }), [1, 2, 3, 4, 6, 7, 8, 9]);
        let interest = Interest { names: name("a"), ..Interest::default() };
        assert_eq!(pending.seen.iter().filter(|seen| matters(&interest, seen)).count(), 1);
    }
}
