//! How stored rows are to be read: which person numbers have become part of which, which merges were undone, and whose rows are
//! deleted. Applied on every read, and written into files when they are written anew.
//!
//! A row is stored under the number that its person had when the row was written, and keeps its origin, the number that it was
//! first resolved to. Who it belongs to now is where the chain of merges leads from its origin. For most rows this is the number
//! that they are stored under. The exceptions are found by that number, so that all other rows cost nothing:
//!
//! - A *merged* number's rows all belong to its survivor.
//! - A *mixed* number's rows are judged one by one, by their origins: some may belong to a person that was split off, or be deleted.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use roaring::RoaringBitmap;

/// What was recorded of a tenant's persons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PersonChanges {
    /// The first is part of the second, which may itself be part of another.
    pub(crate) steps: HashMap<u32, u32>,
    /// The first was part of the second and is no longer (with the number of the record in identity's link log that says so); rows
    /// of the first may be stored under the second.
    pub(crate) undone: BTreeMap<(u32, u32), u64>,
    /// Rows of this origin that were received up to this moment are deleted.
    pub(crate) deleted: BTreeMap<u32, i64>,
}

impl PersonChanges {
    /// `from` has become part of `into`.
    pub(crate) fn merge(&mut self, from: u32, into: u32, link: u64) {
        // One that is part of another already leaves it.
        if let Some(before) = self.steps.insert(from, into).filter(|before| *before != into) {
            self.undone.insert((from, before), link);
        }
        self.undone.remove(&(from, into));
    }

    /// `from` is no longer part of `into`; nothing happens if it was not.
    pub(crate) fn unmerge(&mut self, from: u32, into: u32, link: u64) {
        if self.steps.get(&from) == Some(&into) {
            self.steps.remove(&from);
            self.undone.insert((from, into), link);
        }
    }

    /// What these say is no longer true of any row: forgets it, where nothing was added to it since.
    pub(crate) fn forget(&mut self, settled: &Settled) {
        for (origin, until_us) in &settled.deleted {
            if let Entry::Occupied(known) = self.deleted.entry(*origin)
                && known.get() == until_us
            {
                known.remove();
            }
        }
        for (merge, link) in &settled.undone {
            if let Entry::Occupied(known) = self.undone.entry(*merge)
                && known.get() == link
            {
                known.remove();
            }
        }
    }

    /// Rows of this origin that were received up to this moment are deleted.
    pub(crate) fn delete(&mut self, origin: u32, until_us: i64) {
        let known = self.deleted.entry(origin).or_insert(until_us);
        *known = until_us.max(*known);
    }

    /// Where the chain of merges leads.
    pub(crate) fn survivor(&self, person: u32) -> u32 {
        let mut survivor = person;
        // A chain is never longer than there are steps; the bound guards against a circle.
        for _ in 0..=self.steps.len() {
            match self.steps.get(&survivor) {
                Some(next) if *next != survivor => survivor = *next,
                Some(_) | None => break,
            }
        }
        survivor
    }

    /// The person and everybody who is part of it.
    pub(crate) fn parts_of(&self, person: u32) -> BTreeSet<u32> {
        let mut by_into: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (from, into) in &self.steps {
            by_into.entry(*into).or_default().push(*from);
        }
        let mut parts = BTreeSet::from([person]);
        let mut open = vec![person];
        while let Some(number) = open.pop() {
            open.extend(by_into.get(&number).into_iter().flatten().filter(|from| parts.insert(**from)));
        }
        parts
    }

    /// Every number that rows of `origin` may be stored under.
    pub(crate) fn reach(&self, origin: u32) -> BTreeSet<u32> {
        let mut reached = BTreeSet::from([origin]);
        let mut open = vec![origin];
        while let Some(number) = open.pop() {
            let left = self.undone.range((number, 0)..=(number, u32::MAX)).map(|((_, into), _)| *into);
            for into in self.steps.get(&number).copied().into_iter().chain(left) {
                if reached.insert(into) {
                    open.push(into);
                }
            }
        }
        reached
    }
}

/// Changes that no row in files is concerned by any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) deleted: Vec<(u32, i64)>,
    pub(crate) undone: Vec<((u32, u32), u64)>,
}

/// The changes of one tenant, resolved. Immutable; a change makes another.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    /// (from, survivor), by from.
    by_from: Vec<(u32, u32)>,
    /// (mixed number, person whose rows may lie under it), sorted.
    mixed: Vec<(u32, u32)>,
    /// (origin, until when its rows are deleted), sorted.
    deleted: Vec<(u32, i64)>,
    /// All merged and mixed numbers.
    special: RoaringBitmap,
    /// All merged numbers.
    merged: RoaringBitmap,
}

/// The merged and mixed numbers among the persons of some rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Specials {
    /// Ascending.
    pub(crate) numbers: Vec<u32>,
    /// (person whose rows may lie under it, number), sorted.
    pub(crate) by_person: Vec<(u32, u32)>,
}

impl Specials {
    /// Numbers in `from..to`.
    pub(crate) fn within(&self, from: u64, to: u64) -> &[u32] {
        let start = self.numbers.partition_point(|number| u64::from(*number) < from);
        let end = self.numbers.partition_point(|number| u64::from(*number) < to);
        self.numbers.get(start..end).unwrap_or_default()
    }

    /// (person, number) of the persons in `from..to`.
    pub(crate) fn of_persons(&self, from: u64, to: u64) -> &[(u32, u32)] {
        let start = self.by_person.partition_point(|(person, _)| u64::from(*person) < from);
        let end = self.by_person.partition_point(|(person, _)| u64::from(*person) < to);
        self.by_person.get(start..end).unwrap_or_default()
    }
}

impl Redirects {
    /// Follows the chains of merges to their ends.
    pub(crate) fn resolve(changes: &PersonChanges) -> Self {
        let mut by_from: Vec<(u32, u32)> = Vec::with_capacity(changes.steps.len());
        for &from in changes.steps.keys() {
            let survivor = changes.survivor(from);
            if survivor != from {
                by_from.push((from, survivor));
            }
        }
        by_from.sort_unstable();
        let mut redirects = Self { by_from, ..Self::default() };
        // Of a row under another number than its own, the first step of its chain that is undone tells whose it is: up to there the
        // chain holds, and behind it lie all numbers that the row may be under.
        let mut mixed = BTreeSet::new();
        for (from, into) in changes.undone.keys() {
            let person = redirects.survivor(*from);
            mixed.extend(changes.reach(*into).into_iter().flat_map(|number| [(number, person), (number, redirects.survivor(number))]));
        }
        for origin in changes.deleted.keys() {
            mixed.extend(changes.reach(*origin).into_iter().map(|number| (number, redirects.survivor(number))));
        }
        redirects.mixed = mixed.into_iter().collect();
        redirects.deleted = changes.deleted.iter().map(|(origin, until_us)| (*origin, *until_us)).collect();
        redirects.merged = redirects.by_from.iter().map(|(from, _)| *from).collect();
        redirects.special = redirects.by_from.iter().chain(&redirects.mixed).map(|(number, _)| *number).collect();
        redirects
    }

    /// All rows are read as they are stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.special.is_empty()
    }

    /// Whether any number in this span, both ends inclusive, is special.
    pub(crate) fn may_concern(&self, (least, most): (u32, u32)) -> bool {
        self.special.range_cardinality(least..=most) > 0
    }

    /// The number under which this person lives on: its own, unless it was merged.
    pub(crate) fn survivor(&self, person: u32) -> u32 {
        match self.by_from.binary_search_by_key(&person, |(from, _)| *from) {
            Ok(at) => self.by_from[at].1,
            Err(_) => person,
        }
    }

    /// Whether none of these was merged into another.
    pub(crate) fn are_survivors(&self, persons: &RoaringBitmap) -> bool {
        self.merged.is_disjoint(persons)
    }

    /// Persons as they may have been known once, made persons as they are now.
    pub(crate) fn survivors(&self, persons: &mut RoaringBitmap) {
        if self.are_survivors(persons) {
            return;
        }
        let merged: Vec<(u32, u32)> = if persons.len() < self.by_from.len() as u64 {
            persons.iter().map(|person| (person, self.survivor(person))).filter(|(person, survivor)| person != survivor).collect()
        } else {
            self.by_from.iter().copied().filter(|(from, _)| persons.contains(*from)).collect()
        };
        for (from, _) in &merged {
            persons.remove(*from);
        }
        persons.extend(merged.into_iter().map(|(_, survivor)| survivor));
    }

    /// Whether rows under this number are judged one by one.
    pub(crate) fn is_mixed(&self, number: u32) -> bool {
        !self.persons_under(number).is_empty()
    }

    /// Whether any rows are deleted.
    pub(crate) fn deletes(&self) -> bool {
        !self.deleted.is_empty()
    }

    /// Origins of which rows were deleted after this moment.
    pub(crate) fn deleted_since(&self, since_us: i64) -> impl Iterator<Item = u32> {
        self.deleted.iter().filter(move |(_, until_us)| *until_us > since_us).map(|(origin, _)| *origin)
    }

    /// Whether a row is deleted.
    pub(crate) fn is_deleted(&self, origin: u32, received_us: i64) -> bool {
        match self.deleted.binary_search_by_key(&origin, |(origin, _)| *origin) {
            Ok(at) => received_us <= self.deleted[at].1,
            Err(_) => false,
        }
    }

    fn persons_under(&self, number: u32) -> &[(u32, u32)] {
        let start = self.mixed.partition_point(|(mixed, _)| *mixed < number);
        let end = self.mixed.partition_point(|(mixed, _)| *mixed <= number);
        self.mixed.get(start..end).unwrap_or_default()
    }

    /// What is special among rows that are stored under these numbers.
    pub(crate) fn among(&self, stored: &RoaringBitmap) -> Specials {
        let mut specials = Specials::default();
        if self.special.is_disjoint(stored) {
            return specials;
        }
        for number in (&self.special & stored).iter() {
            specials.numbers.push(number);
            match self.persons_under(number) {
                [] => specials.by_person.push((self.survivor(number), number)),
                persons => specials.by_person.extend(persons.iter().map(|(_, person)| (*person, number))),
            }
        }
        specials.by_person.sort_unstable();
        specials
    }

    /// The largest number that rows may be given.
    pub(crate) fn most(&self) -> u32 {
        self.by_from.iter().chain(&self.mixed).map(|(_, person)| *person).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(steps: &[(u32, u32)]) -> PersonChanges {
        let mut changes = PersonChanges::default();
        steps.iter().for_each(|(from, into)| changes.merge(*from, *into, 0));
        changes
    }

    #[test]
    fn chains_lead_to_their_end_and_circles_end() {
        let redirects = Redirects::resolve(&changes(&[(1, 2), (2, 5), (9, 5), (7, 7), (20, 21), (21, 20)]));
        assert_eq!([1, 2, 9, 5, 7, 3].map(|person| redirects.survivor(person)), [5, 5, 5, 5, 7, 3]);
        assert_eq!(redirects.most(), 21);
        let specials = redirects.among(&RoaringBitmap::from([1, 3, 5, 7, 9]));
        assert_eq!(specials, Specials { numbers: vec![1, 9], by_person: vec![(5, 1), (5, 9)] });
        assert_eq!((specials.within(2, 10), specials.of_persons(5, 6)), (&[9][..], &[(5, 1), (5, 9)][..]));
        assert_eq!(redirects.among(&RoaringBitmap::from([3, 5])), Specials::default());
    }

    #[test]
    fn of_an_undone_merge_the_numbers_behind_it_are_mixed() {
        let mut merged = changes(&[(1, 2), (2, 5), (5, 6)]);
        merged.unmerge(2, 5, 8);
        merged.unmerge(9, 5, 9);
        let redirects = Redirects::resolve(&merged);
        assert_eq!([1, 2, 5, 6].map(|person| redirects.survivor(person)), [2, 2, 6, 6]);
        let specials = redirects.among(&RoaringBitmap::from([1, 2, 5, 6]));
        assert_eq!(specials.numbers, [1, 5, 6]);
        assert_eq!(specials.by_person, [(2, 1), (2, 5), (2, 6), (6, 5), (6, 6)]);
        // Merged once more, it is as if nothing had been undone.
        merged.merge(2, 5, 10);
        assert_eq!(merged, changes(&[(1, 2), (2, 5), (5, 6)]));
        // One that goes over to another person leaves the one that it was part of.
        merged.merge(2, 7, 11);
        assert_eq!(merged.undone, BTreeMap::from([((2, 5), 11)]));
        // Only what was seen is forgotten.
        merged.forget(&Settled { undone: vec![((2, 5), 10)], ..Settled::default() });
        assert_eq!(merged.undone.len(), 1);
        merged.forget(&Settled { undone: vec![((2, 5), 11)], ..Settled::default() });
        assert!(merged.undone.is_empty());
    }

    #[test]
    fn deleted_rows_are_looked_for_wherever_their_origin_led() {
        let mut merged = changes(&[(1, 2), (2, 5)]);
        merged.unmerge(2, 5, 8);
        merged.delete(1, 7);
        merged.delete(1, 3);
        assert_eq!(merged.reach(1), BTreeSet::from([1, 2, 5]));
        let redirects = Redirects::resolve(&merged);
        assert!([1, 2, 5].into_iter().all(|number| redirects.is_mixed(number)));
        assert_eq!([(1, 7), (1, 8), (2, 1)].map(|(origin, received)| redirects.is_deleted(origin, received)), [true, false, false]);
        assert_eq!(changes(&[(1, 2), (2, 5), (3, 5), (4, 9)]).parts_of(5), BTreeSet::from([1, 2, 3, 5]));
    }
}
