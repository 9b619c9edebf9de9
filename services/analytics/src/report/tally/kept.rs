//! Distinct values that persons may share, so that they have to be kept until the end: devices, accounts, texts, other values.

use std::collections::HashSet;

use roaring::{MultiOps, RoaringBitmap};

use super::counts::{BandMarks, Counts};
use super::numbers::NumberList;
use super::{CellMap, Which};
use crate::filter::cells::{At, TextCells};
use crate::question::hashing::Fold;
use crate::report::grouping::{Interner, MISSING};

/// Entries of all lists that are kept before they are packed into bitmaps.
const ENTRIES_MAX: usize = 4 << 20;

/// Distinct numbers per cell: appended to lists, which are packed into bitmaps when they get long.
#[derive(Debug)]
pub(in crate::report) struct Kept {
    lists: Vec<NumberList>,
    /// Empty until anything is packed, then as many as lists.
    packed: Vec<RoaringBitmap>,
    /// In all lists.
    entries: usize,
    /// Bytes of all bitmaps.
    packed_bytes: usize,
    /// The largest number.
    most: u32,
    periods: usize,
    /// Of lists, once all are there.
    counts: Option<Counts>,
}

impl Kept {
    pub(super) fn new(periods: usize) -> Kept {
        Kept { lists: Vec::new(), packed: Vec::new(), entries: 0, packed_bytes: 0, most: 0, periods, counts: None }
    }

    pub(super) fn grow(&mut self, cells: usize) {
        if self.lists.len() < cells {
            self.lists.resize(cells, NumberList::default());
            if !self.packed.is_empty() {
                self.packed.resize(cells, RoaringBitmap::new());
            }
        }
    }

    /// A number in a cell.
    #[inline]
    pub(super) fn insert(&mut self, cell: u32, number: u32) {
        if self.lists[cell as usize].push(number) {
            self.entries += 1;
            self.most = self.most.max(number);
        }
    }

    /// Packs the lists when they have become long.
    pub(super) fn settle(&mut self) {
        if self.entries > ENTRIES_MAX {
            self.pack();
        }
    }

    fn pack(&mut self) {
        self.packed.resize(self.lists.len(), RoaringBitmap::new());
        for (list, packed) in self.lists.iter_mut().zip(&mut self.packed).filter(|(list, _)| !list.is_empty()) {
            list.tidy();
            match RoaringBitmap::from_sorted_iter(list.numbers().iter().copied()) {
                Ok(further) => *packed |= further,
                // The list ascends by now.
                Err(_) => packed.extend(list.numbers()),
            }
            list.clear(0);
        }
        self.entries = 0;
        self.packed_bytes = self.packed.iter().map(RoaringBitmap::serialized_size).sum();
    }

    /// Counts what can be asked for, when everything is there.
    pub(super) fn finish(&mut self, marks: &mut BandMarks) {
        if !self.packed.is_empty() {
            self.pack();
            return;
        }
        let mut counts = Counts::new(self.periods);
        counts.grow(self.lists.len());
        let mut cells: Vec<u32> = (0..).zip(&self.lists).filter(|(_, list)| !list.is_empty()).map(|(cell, _)| cell).collect();
        counts.add(&mut self.lists, &mut cells, 0..self.most.saturating_add(1), marks, true);
        self.counts = Some(counts);
    }

    /// How many different numbers these cells have.
    pub(super) fn count(&self, which: Which<'_>) -> u64 {
        if let Some(count) = self.counts.as_ref().and_then(|counts| counts.get(which)) {
            return count;
        }
        let mut numbers: Vec<u32> = Vec::new();
        let mut packed: Vec<&RoaringBitmap> = Vec::new();
        which.each_cell(self.periods, self.lists.len(), |cell| {
            numbers.extend_from_slice(self.lists[cell].numbers());
            packed.extend(self.packed.get(cell).filter(|packed| !packed.is_empty()));
        });
        numbers.sort_unstable();
        numbers.dedup();
        match packed.as_slice() {
            [] => numbers.len() as u64,
            // With bitmaps, there are no lists left.
            [only] => only.len(),
            packed => packed.iter().copied().union().len(),
        }
    }

    /// All numbers of all cells.
    pub(super) fn union(mut self) -> RoaringBitmap {
        self.pack();
        self.packed.into_iter().union()
    }

    /// Takes in what another thread has, its numbers translated.
    pub(super) fn merge(&mut self, mut other: Kept, map: &CellMap<'_>, translate: Option<&[u32]>) {
        if let Some(numbers) = translate {
            other.translate(numbers);
        }
        if !other.packed.is_empty() && self.packed.is_empty() {
            self.packed.resize(self.lists.len(), RoaringBitmap::new());
        }
        for (cell, theirs) in other.lists.into_iter().enumerate().filter(|(_, list)| !list.is_empty()) {
            self.lists[map.cell(cell)].append(&theirs);
        }
        for (cell, theirs) in other.packed.into_iter().enumerate().filter(|(_, packed)| !packed.is_empty()) {
            self.packed[map.cell(cell)] |= theirs;
        }
        self.most = self.most.max(other.most);
        self.entries += other.entries;
        self.packed_bytes += other.packed_bytes;
        self.settle();
    }

    /// Makes lists of other numbers.
    fn translate(&mut self, numbers: &[u32]) {
        let mut most = 0;
        for (cell, list) in self.lists.iter_mut().enumerate() {
            let mut translated = NumberList::default();
            let packed = self.packed.get(cell).into_iter().flatten();
            for number in list.numbers().iter().copied().chain(packed) {
                translated.push(numbers[number as usize]);
                most = most.max(numbers[number as usize]);
            }
            *list = translated;
        }
        self.packed = Vec::new();
        self.packed_bytes = 0;
        self.entries = self.lists.iter().map(|list| list.numbers().len()).sum();
        self.most = most;
    }

    /// Bytes of the numbers.
    pub(super) fn bytes(&self) -> usize {
        self.entries * size_of::<u32>() + self.packed_bytes
    }

    /// Bytes of one cell.
    pub(super) const CELL_BYTES: usize = size_of::<NumberList>() + size_of::<RoaringBitmap>();
}

/// Distinct texts per cell, by codes.
#[derive(Debug)]
pub(in crate::report) struct Texts {
    interner: Interner,
    kept: Kept,
    codes: Vec<u32>,
}

impl Texts {
    pub(super) fn new(periods: usize) -> Texts {
        Texts { interner: Interner::default(), kept: Kept::new(periods), codes: Vec::new() }
    }

    pub(super) fn grow(&mut self, cells: usize) {
        self.kept.grow(cells);
    }

    /// Texts in the cells beside them; missing ones are none.
    pub(super) fn insert(&mut self, cells: &[u32], at: At<'_>, texts: &TextCells) {
        self.interner.codes(texts, at, &mut self.codes);
        for (cell, code) in cells.iter().zip(&self.codes) {
            if *code != MISSING {
                self.kept.insert(*cell, *code);
            }
        }
    }

    pub(super) fn settle(&mut self) {
        self.kept.settle();
    }

    pub(super) fn finish(&mut self, marks: &mut BandMarks) {
        self.kept.finish(marks);
    }

    pub(super) fn count(&self, which: Which<'_>) -> u64 {
        self.kept.count(which)
    }

    pub(super) fn merge(&mut self, other: Texts, map: &CellMap<'_>) {
        let translate = self.interner.merge(&other.interner);
        self.kept.merge(other.kept, map, Some(&translate));
    }

    pub(super) fn bytes(&self) -> usize {
        self.interner.bytes() + self.kept.bytes()
    }
}

/// Distinct values of any other kind per cell, by keys that are equal for equal values.
#[derive(Debug, Default)]
pub(in crate::report) struct Keys {
    sets: Vec<HashSet<u128, Fold>>,
    entries: usize,
}

impl Keys {
    pub(super) fn grow(&mut self, cells: usize) {
        if self.sets.len() < cells {
            self.sets.resize(cells, HashSet::default());
        }
    }

    #[inline]
    pub(super) fn insert(&mut self, cell: u32, key: u128) {
        self.entries += usize::from(self.sets[cell as usize].insert(key));
    }

    pub(super) fn count(&self, which: Which<'_>, periods: usize) -> u64 {
        let mut filled: Vec<&HashSet<u128, Fold>> = Vec::new();
        which.each_cell(periods, self.sets.len(), |cell| {
            if !self.sets[cell].is_empty() {
                filled.push(&self.sets[cell]);
            }
        });
        match filled.as_slice() {
            [] => 0,
            [only] => only.len() as u64,
            [first, further @ ..] => {
                let mut union = (*first).clone();
                further.iter().for_each(|keys| union.extend(*keys));
                union.len() as u64
            }
        }
    }

    pub(super) fn merge(&mut self, other: Keys, map: &CellMap<'_>) {
        for (cell, theirs) in other.sets.into_iter().enumerate() {
            let mine = &mut self.sets[map.cell(cell)];
            if mine.is_empty() {
                *mine = theirs;
            } else {
                mine.extend(theirs);
            }
        }
        self.entries = self.sets.iter().map(HashSet::len).sum();
    }

    /// Bytes of the keys; a hash table is at most seven eighths full, and half of that after it has grown.
    pub(super) fn bytes(&self) -> usize {
        self.entries * 2 * (size_of::<u128>() + 1)
    }

    /// Bytes of one cell.
    pub(super) const CELL_BYTES: usize = size_of::<HashSet<u128, Fold>>();
}
