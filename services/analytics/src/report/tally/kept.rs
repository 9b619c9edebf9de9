//! Distinct values that persons may share, so that they have to be kept until the end: devices, accounts, texts, other values.

use std::collections::HashSet;

use roaring::{MultiOps, RoaringBitmap};

use super::numbers::{Marks, NumberList};
use super::{CellMap, Which};
use crate::filter::cells::{At, TextCells};
use crate::question::hashing::Fold;
use crate::report::grouping::{Interner, MISSING};

/// Entries of all lists that are kept before they are packed into bitmaps.
const ENTRIES_MAX: usize = 4 << 20;

/// Distinct numbers of one cell: appended to a list, and packed into a bitmap when lists get long.
#[derive(Debug, Clone, Default)]
struct NumberSet {
    list: NumberList,
    packed: RoaringBitmap,
}

impl NumberSet {
    /// Moves the list into the bitmap.
    fn pack(&mut self) {
        if self.list.is_empty() {
            return;
        }
        self.list.tidy();
        match RoaringBitmap::from_sorted_iter(self.list.numbers().iter().copied()) {
            Ok(further) => self.packed |= further,
            // The list ascends by now.
            Err(_) => self.packed.extend(self.list.numbers()),
        }
        self.list.clear(0);
    }
}

/// Distinct numbers per cell.
#[derive(Debug, Default)]
pub(in crate::report) struct Kept {
    sets: Vec<NumberSet>,
    /// In all lists.
    entries: usize,
    /// Bytes of all bitmaps.
    packed_bytes: usize,
    /// The largest number.
    most: u32,
}

impl Kept {
    pub(super) fn grow(&mut self, cells: usize) {
        if self.sets.len() < cells {
            self.sets.resize(cells, NumberSet::default());
        }
    }

    /// A number in a cell.
    #[inline]
    pub(super) fn insert(&mut self, cell: u32, number: u32) {
        if self.sets[cell as usize].list.push(number) {
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
        self.sets.iter_mut().for_each(NumberSet::pack);
        self.entries = 0;
        self.packed_bytes = self.sets.iter().map(|set| set.packed.serialized_size()).sum();
    }

    /// How many different numbers these cells have.
    pub(super) fn count(&self, which: Which<'_>, periods: usize, marks: &mut Marks) -> u64 {
        let mut lists: Vec<&NumberList> = Vec::new();
        let mut packed: Vec<&RoaringBitmap> = Vec::new();
        which.each_cell(periods, self.sets.len(), |cell| {
            let set = &self.sets[cell];
            if !set.list.is_empty() {
                lists.push(&set.list);
            }
            if !set.packed.is_empty() {
                packed.push(&set.packed);
            }
        });
        match (lists.as_slice(), packed.as_slice()) {
            ([], []) => 0,
            ([], [only]) => only.len(),
            ([], packed) => packed.iter().copied().union().len(),
            (lists, []) => {
                marks.over(0..self.most.saturating_add(1));
                lists.iter().map(|list| marks.mark_all(list.numbers())).sum()
            }
            (lists, packed) => {
                let mut all = packed.iter().copied().union();
                lists.iter().for_each(|list| all.extend(list.numbers()));
                all.len()
            }
        }
    }

    /// All numbers of all cells.
    pub(super) fn union(mut self) -> RoaringBitmap {
        self.pack();
        self.sets.into_iter().map(|set| set.packed).union()
    }

    /// Takes in what another thread has, its numbers translated.
    pub(super) fn merge(&mut self, other: Kept, map: &CellMap<'_>, translate: Option<&[u32]>) {
        for (cell, mut theirs) in other.sets.into_iter().enumerate() {
            let mine = &mut self.sets[map.cell(cell)];
            match translate {
                None => {
                    mine.list.append(&theirs.list);
                    mine.packed |= theirs.packed;
                }
                Some(numbers) => {
                    theirs.pack();
                    for number in theirs.packed {
                        mine.list.push(numbers[number as usize]);
                    }
                }
            }
        }
        let highest = translate.map_or(other.most, |numbers| numbers.iter().copied().max().unwrap_or_default());
        self.most = self.most.max(highest);
        self.entries = self.sets.iter().map(|set| set.list.numbers().len()).sum();
        self.packed_bytes += other.packed_bytes;
        self.settle();
    }

    /// Bytes of the numbers.
    pub(super) fn bytes(&self) -> usize {
        self.entries * size_of::<u32>() + self.packed_bytes
    }

    /// Bytes of one cell.
    pub(super) const CELL_BYTES: usize = size_of::<NumberSet>();
}

/// Distinct texts per cell, by codes.
#[derive(Debug, Default)]
pub(in crate::report) struct Texts {
    interner: Interner,
    kept: Kept,
    codes: Vec<u32>,
}

impl Texts {
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

    pub(super) fn count(&self, which: Which<'_>, periods: usize, marks: &mut Marks) -> u64 {
        self.kept.count(which, periods, marks)
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
