//! Distinct units of persons, band by band: a person is in one band only, so that counts of bands add up, and nobody has to be
//! remembered beyond a band.

use std::collections::HashMap;
use std::ops::Range;

use super::counts::{BandMarks, count_periods};
use super::groups::GroupSets;
use super::numbers::NumberList;
use super::{CellMap, Groups, Which};
use crate::question::hashing::Fold;

/// Memory of one list that is kept from band to band.
pub(super) const LIST_KEPT_MAX: usize = 4_096;

/// A band of persons that is about to be counted.
#[derive(Debug, Clone)]
pub(in crate::report) struct Band<'b> {
    pub(in crate::report) persons: Range<u32>,
    /// At most so many rows.
    pub(in crate::report) rows: usize,
    /// By period: whether rows in it may come in batches that have persons in common. Within a batch the rows of a person are
    /// adjacent, and persons ascend.
    pub(in crate::report) shared: &'b [bool],
}

/// A count that knows who was counted last.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::report) struct Slot {
    last: u32,
    /// There are no more persons than that.
    count: u32,
}

impl Slot {
    /// Counts a person, whose rows come together.
    #[inline]
    pub(in crate::report) fn add(&mut self, person: u32) {
        self.count += u32::from(self.last != person);
        self.last = person;
    }

    /// Puts a count of other persons, who come later, to this one.
    #[inline]
    pub(in crate::report) fn follow(&mut self, other: Slot) {
        if other.count > 0 {
            *self = Slot { last: other.last, count: self.count + other.count };
        }
    }
}

/// Distinct persons per cell, group and period, and in all.
///
/// Where only one batch has rows of a period, remembering the last person counts them. Where several have, their persons are
/// listed, and counted when the band ends; so are those of groups over all periods, since these are of several batches anyway.
#[derive(Debug)]
pub(in crate::report) struct Banded {
    periods: usize,
    persons: Range<u32>,
    shared: Vec<bool>,
    cells: Vec<Slot>,
    by_period: Vec<Slot>,
    /// Per cell, its group.
    group_of: Vec<u32>,
    /// Persons of cells in shared periods.
    open: Vec<NumberList>,
    /// Cells that have some.
    touched: Vec<u32>,
    groups: GroupSets,
}

/// What a loop of its own adds persons to: see [`Banded::exclusive`].
pub(in crate::report) struct Exclusive<'b> {
    pub(in crate::report) cells: &'b mut [Slot],
    pub(in crate::report) by_period: &'b mut [Slot],
    /// One bit per group and person: see [`Exclusive::mark`].
    words: &'b mut [u64],
    stride: usize,
    first: u32,
}

impl Exclusive<'_> {
    /// Notes that a person is in a group.
    #[inline]
    pub(in crate::report) fn mark(&mut self, group: u32, person: u32) {
        let at = person.wrapping_sub(self.first);
        self.words[group as usize * self.stride + (at / 64) as usize] |= 1 << (at % 64);
    }
}

impl Banded {
    pub(super) fn new(periods: usize) -> Banded {
        Banded {
            periods,
            persons: 0..0,
            shared: vec![true; periods],
            cells: Vec::new(),
            by_period: vec![Slot::default(); periods],
            group_of: Vec::new(),
            open: Vec::new(),
            touched: Vec::new(),
            groups: GroupSets::default(),
        }
    }

    pub(super) fn grow(&mut self, cells: usize) {
        if self.cells.len() < cells {
            self.cells.resize(cells, Slot::default());
            self.open.resize(cells, NumberList::default());
            let known = self.group_of.len() / self.periods;
            self.group_of.extend((known..cells / self.periods).flat_map(|group| std::iter::repeat_n(group as u32, self.periods)));
            self.groups.grow(cells / self.periods);
        }
    }

    /// Starts a band.
    pub(super) fn begin(&mut self, band: &Band<'_>) {
        self.persons = band.persons.clone();
        self.shared.clear();
        self.shared.extend_from_slice(band.shared);
        self.groups.begin(band.persons.clone(), band.rows);
    }

    /// What a loop of its own adds to that sees only rows of these periods, none of which is shared; none where persons have to be
    /// listed.
    pub(super) fn exclusive(&mut self, periods: std::ops::RangeInclusive<usize>) -> Option<Exclusive<'_>> {
        if self.periods > 1 && self.shared.get(periods)?.iter().any(|shared| *shared) {
            return None;
        }
        let (words, stride, first) = self.groups.marks()?;
        Some(Exclusive { cells: &mut self.cells, by_period: &mut self.by_period, words, stride, first })
    }

    /// A person (or another unit of persons) in a cell.
    #[inline]
    pub(super) fn insert(&mut self, cell: u32, number: u32) {
        let group = self.group_of[cell as usize];
        if self.periods > 1 {
            let period = cell as usize - group as usize * self.periods;
            if self.shared[period] {
                let list = &mut self.open[cell as usize];
                if list.is_empty() {
                    self.touched.push(cell);
                }
                list.push(number);
            } else {
                self.cells[cell as usize].add(number);
                self.by_period[period].add(number);
            }
        }
        self.groups.insert(group, number);
    }

    /// Counts what the band in hand has and forgets it.
    pub(super) fn settle(&mut self, marks: &mut BandMarks) {
        let persons = self.persons.clone();
        self.groups.settle(persons.clone(), &mut marks.all);
        if self.touched.is_empty() {
            return;
        }
        for cell in &self.touched {
            let list = &mut self.open[*cell as usize];
            list.tidy();
            self.cells[*cell as usize].count += list.numbers().len() as u32;
        }
        let by_period = &mut self.by_period;
        let add = |period: usize, count: u64| by_period[period].count += count as u32;
        count_periods(self.periods, &self.open, &self.touched, persons, &mut marks.period, add);
        for cell in self.touched.drain(..) {
            self.open[cell as usize].clear(LIST_KEPT_MAX);
        }
    }

    /// How many; none for several groups that are not all, which their counts do not tell.
    pub(super) fn count(&self, which: Which<'_>) -> Option<u64> {
        let period = which.period.filter(|_| self.periods > 1);
        match (which.groups, period) {
            (Groups::All, None) => Some(self.groups.total()),
            (Groups::All, Some(period)) => self.by_period.get(period).map(|slot| u64::from(slot.count)),
            (Groups::One(group), None) => self.groups.count(group),
            (Groups::One(group), Some(period)) => self.cells.get(group as usize * self.periods + period).map(|slot| u64::from(slot.count)),
            (Groups::These(_), _) => None,
        }
    }

    /// Takes in what another thread settled.
    pub(super) fn merge(&mut self, other: Banded, map: &CellMap<'_>) {
        for (cell, slot) in other.cells.into_iter().enumerate().filter(|(_, slot)| slot.count > 0) {
            self.cells[map.cell(cell)].count += slot.count;
        }
        for (mine, theirs) in self.by_period.iter_mut().zip(other.by_period) {
            mine.count += theirs.count;
        }
        self.groups.merge(other.groups, map);
    }

    /// Bytes of the groups' sets.
    pub(super) fn bytes(&self) -> usize {
        self.groups.bytes()
    }

    /// Bytes of one cell.
    pub(super) const CELL_BYTES: usize = size_of::<NumberList>() + size_of::<Slot>() + size_of::<u32>();
}

/// Distinct sessions: pairs of person and session id, numbered within a band.
#[derive(Debug)]
pub(in crate::report) struct Sessions {
    /// By a 128-bit hash: among 2^32 sessions of a band, two would have to share a hash with a probability below 2^-64.
    numbers: HashMap<u128, u32, Fold>,
    banded: Banded,
}

impl Sessions {
    pub(super) fn new(periods: usize) -> Sessions {
        Sessions { numbers: HashMap::default(), banded: Banded::new(periods) }
    }

    pub(super) fn grow(&mut self, cells: usize) {
        self.banded.grow(cells);
    }

    /// A session in a cell.
    pub(super) fn insert(&mut self, cell: u32, person: u32, session: &str) {
        let key = xxhash_rust::xxh3::xxh3_128_with_seed(session.as_bytes(), u64::from(person));
        let next = self.numbers.len() as u32 + 1;
        self.banded.insert(cell, *self.numbers.entry(key).or_insert(next));
    }

    pub(super) fn settle(&mut self, marks: &mut BandMarks) {
        self.banded.persons = 0..self.numbers.len() as u32 + 1;
        self.banded.settle(marks);
        self.numbers.clear();
    }

    pub(super) fn count(&self, which: Which<'_>) -> Option<u64> {
        self.banded.count(which)
    }

    pub(super) fn merge(&mut self, other: Sessions, map: &CellMap<'_>) {
        self.banded.merge(other.banded, map);
    }

    /// Bytes of the band in hand.
    pub(super) fn bytes(&self) -> usize {
        self.numbers.capacity() * size_of::<(u128, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::Groups;
    use super::*;

    proptest! {
        #[test]
        fn counts_of_bands_are_those_of_sets(
            // (band, run, group, period, person of the band), in the order of runs and persons.
            mut rows in prop::collection::vec((0_u32..3, 0_u32..3, 0_u32..4, 0_usize..3, 0_u32..70), 0..300),
            periods in 1_usize..4,
            rows_said in prop::sample::select(vec![0_usize, 1 << 20]),
        ) {
            rows.iter_mut().for_each(|row| row.3 %= periods);
            rows.sort_by_key(|row| (row.0, row.1, row.4));
            let mut banded = Banded::new(periods);
            let mut marks = BandMarks::default();
            for of_band in rows.chunk_by(|a, b| a.0 == b.0) {
                let start = 1 + of_band[0].0 * 70;
                let runs_of = |period: usize| of_band.iter().filter(|row| row.3 == period).map(|row| row.1).collect::<BTreeSet<_>>();
                let shared: Vec<bool> = (0..periods).map(|period| runs_of(period).len() > 1).collect();
                banded.begin(&Band { persons: start..start + 70, rows: rows_said, shared: &shared });
                for (_, _, group, period, person) in of_band {
                    banded.grow((*group as usize + 1) * periods);
                    banded.insert(group * periods as u32 + *period as u32, start + person);
                }
                banded.settle(&mut marks);
            }
            banded.grow(4 * periods);
            let distinct = |group: Option<u32>, period: Option<usize>| {
                let fits = |row: &&(u32, u32, u32, usize, u32)| group.is_none_or(|group| group == row.2) && period.is_none_or(|period| period == row.3);
                Some(rows.iter().filter(fits).map(|row| (row.0, row.4)).collect::<BTreeSet<_>>().len() as u64)
            };
            for period in std::iter::once(None).chain((0..periods).map(Some)) {
                prop_assert_eq!(banded.count(Which { groups: Groups::All, period }), distinct(None, period));
                for group in 0..4 {
                    prop_assert_eq!(banded.count(Which { groups: Groups::One(group), period }), distinct(Some(group), period));
                }
            }
        }
    }
}
