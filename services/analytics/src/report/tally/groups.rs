//! Distinct persons of groups over all periods, and of all groups, one band at a time.

use std::ops::Range;

use super::CellMap;
use super::banded::LIST_KEPT_MAX;
use super::numbers::{Marks, NumberList};

/// Words of marks that are worth a row: a word is looked at twice when the band ends.
const WORDS_PER_ROW_MAX: usize = 2;
/// Words of all groups' marks: four megabytes.
const WORDS_MAX: usize = 1 << 19;

/// Who is in which group.
#[derive(Debug, Default)]
pub(super) struct GroupSets {
    counts: Vec<u64>,
    total: u64,
    first: u32,
    /// One bit per group and person of the band; empty where there are too many groups for the band's rows.
    words: Vec<u64>,
    /// Words of one group; 0 where persons are listed.
    stride: usize,
    words_max: usize,
    lists: Vec<NumberList>,
    /// Groups that have a list.
    touched: Vec<u32>,
}

impl GroupSets {
    /// Starts a band of at most so many rows.
    pub(super) fn begin(&mut self, persons: Range<u32>, rows: usize) {
        self.first = persons.start & !63;
        self.stride = (persons.end.saturating_sub(self.first) as usize).div_ceil(64).max(1);
        self.words_max = rows.saturating_mul(WORDS_PER_ROW_MAX).min(WORDS_MAX);
        self.words.clear();
        self.fit();
    }

    pub(super) fn grow(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
        self.lists.resize(groups, NumberList::default());
        self.fit();
    }

    /// Makes room for the marks of all groups, or lists persons from now on.
    fn fit(&mut self) {
        let wanted = self.counts.len() * self.stride;
        if wanted <= self.words_max {
            self.words.resize(wanted, 0);
            return;
        }
        for (group, words) in self.words.chunks_exact(self.stride.max(1)).enumerate() {
            for (at, word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
                if self.lists[group].is_empty() {
                    self.touched.push(group as u32);
                }
                let first = self.first + 64 * at as u32;
                (0..64).filter(|bit| word >> bit & 1 == 1).for_each(|bit| {
                    self.lists[group].push(first + bit);
                });
            }
        }
        self.words = Vec::new();
        self.stride = 0;
    }

    /// The marks, the words of one group, and the person of the first bit; none where persons are listed.
    pub(super) fn marks(&mut self) -> Option<(&mut [u64], usize, u32)> {
        (self.stride > 0).then_some((self.words.as_mut_slice(), self.stride, self.first))
    }

    /// A person in a group.
    #[inline]
    pub(super) fn insert(&mut self, group: u32, person: u32) {
        if self.stride > 0 {
            let at = person - self.first;
            self.words[group as usize * self.stride + (at / 64) as usize] |= 1 << (at % 64);
            return;
        }
        let list = &mut self.lists[group as usize];
        if list.is_empty() {
            self.touched.push(group);
        }
        list.push(person);
    }

    /// Counts the band's persons and forgets them.
    pub(super) fn settle(&mut self, persons: Range<u32>, marks: &mut Marks) {
        if self.stride > 0 {
            let mut all = vec![0_u64; self.stride];
            for (count, words) in self.counts.iter_mut().zip(self.words.chunks_exact(self.stride)) {
                *count += ones(words);
                all.iter_mut().zip(words).for_each(|(all, word)| *all |= word);
            }
            self.total += ones(&all);
            self.words.fill(0);
            return;
        }
        if let [only] = self.touched.as_slice() {
            let list = &mut self.lists[*only as usize];
            list.tidy();
            self.counts[*only as usize] += list.numbers().len() as u64;
            self.total += list.numbers().len() as u64;
        } else if !self.touched.is_empty() {
            marks.over(persons);
            for group in &self.touched {
                let list = &mut self.lists[*group as usize];
                list.tidy();
                self.counts[*group as usize] += list.numbers().len() as u64;
                self.total += marks.mark_all(list.numbers());
            }
        }
        for group in self.touched.drain(..) {
            self.lists[group as usize].clear(LIST_KEPT_MAX);
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn count(&self, group: u32) -> Option<u64> {
        self.counts.get(group as usize).copied()
    }

    /// Takes in what another thread settled.
    pub(super) fn merge(&mut self, other: GroupSets, map: &CellMap<'_>) {
        for (group, count) in other.counts.into_iter().enumerate() {
            self.counts[map.group(group)] += count;
        }
        self.total += other.total;
    }

    /// Bytes of the marks.
    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

fn ones(words: &[u64]) -> u64 {
    words.iter().map(|word| u64::from(word.count_ones())).sum()
}
