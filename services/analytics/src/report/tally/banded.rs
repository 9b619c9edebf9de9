//! Distinct units of persons, band by band: a person is in one band only, so that counts of bands add up, and nobody has to be
//! remembered beyond a band.

use std::collections::HashMap;
use std::ops::Range;

use super::counts::{BandMarks, Counts};
use super::numbers::NumberList;
use super::{CellMap, Which};
use crate::question::hashing::Fold;

/// Memory of one list that is kept from band to band.
const LIST_KEPT_MAX: usize = 4_096;

/// Distinct numbers per cell, group and period, and in all. Numbers of different bands are different.
#[derive(Debug)]
pub(in crate::report) struct Banded {
    /// Numbers of the band in hand.
    open: Vec<NumberList>,
    /// Cells that have some.
    touched: Vec<u32>,
    /// What the bands before came to.
    counts: Counts,
}

impl Banded {
    pub(super) fn new(periods: usize) -> Banded {
        Banded { open: Vec::new(), touched: Vec::new(), counts: Counts::new(periods) }
    }

    pub(super) fn grow(&mut self, cells: usize) {
        if self.open.len() < cells {
            self.open.resize(cells, NumberList::default());
            self.counts.grow(cells);
        }
    }

    /// A number in a cell.
    #[inline]
    pub(super) fn insert(&mut self, cell: u32, number: u32) {
        let list = &mut self.open[cell as usize];
        if list.is_empty() {
            self.touched.push(cell);
        }
        list.push(number);
    }

    /// Counts what the band in hand has, whose numbers lie in `range`, and forgets it.
    pub(super) fn settle(&mut self, range: Range<u32>, marks: &mut BandMarks) {
        let mut touched = std::mem::take(&mut self.touched);
        self.counts.add(&mut self.open, &mut touched, range, marks, false);
        for cell in touched.drain(..) {
            self.open[cell as usize].clear(LIST_KEPT_MAX);
        }
        self.touched = touched;
    }

    /// How many; none for several groups that are not all, which their counts do not tell.
    pub(super) fn count(&self, which: Which<'_>) -> Option<u64> {
        self.counts.get(which)
    }

    /// Takes in what another thread settled.
    pub(super) fn merge(&mut self, other: Banded, map: &CellMap<'_>) {
        self.counts.merge(other.counts, map);
    }

    /// Bytes of one cell.
    pub(super) const CELL_BYTES: usize = size_of::<NumberList>() + 2 * size_of::<u64>();
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
        self.banded.settle(0..self.numbers.len() as u32 + 1, marks);
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
        ) {
            rows.iter_mut().for_each(|row| row.3 %= periods);
            rows.sort_by_key(|row| (row.0, row.1, row.4));
            let mut banded = Banded::new(periods);
            banded.grow(4 * periods);
            let mut marks = BandMarks::default();
            for of_band in rows.chunk_by(|a, b| a.0 == b.0) {
                let start = 1 + of_band[0].0 * 70;
                for (_, _, group, period, person) in of_band {
                    banded.insert(group * periods as u32 + *period as u32, start + person);
                }
                banded.settle(start..start + 70, &mut marks);
            }
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
