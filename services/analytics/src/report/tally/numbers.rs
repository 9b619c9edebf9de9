//! Sets of numbers from 1: lists that are cheap to append to, and marks that take lists together.

use std::ops::Range;

/// Numbers as they came; equal neighbours are one. Rows of a person are adjacent in a run, so that the list of a person metric
/// usually ascends and holds nobody twice.
#[derive(Debug, Clone, Default)]
pub(super) struct NumberList {
    numbers: Vec<u32>,
    last: u32,
    is_unordered: bool,
}

impl NumberList {
    /// Appends a number unless it was the last one; whether it was appended.
    #[inline]
    pub(super) fn push(&mut self, number: u32) -> bool {
        if number == self.last {
            return false;
        }
        self.is_unordered |= number < self.last;
        self.last = number;
        self.numbers.push(number);
        true
    }

    /// Appends another list.
    pub(super) fn append(&mut self, other: &NumberList) {
        self.is_unordered |= other.is_unordered || other.numbers.first().is_some_and(|first| *first <= self.last);
        self.numbers.extend_from_slice(&other.numbers);
        if !other.numbers.is_empty() {
            self.last = other.last;
        }
    }

    /// Makes the list ascend without repetition.
    pub(super) fn tidy(&mut self) {
        if self.is_unordered {
            // The list is a few ascending stretches, one per run, which a stable sort merges.
            self.numbers.sort();
            self.numbers.dedup();
            self.is_unordered = false;
            self.last = self.numbers.last().copied().unwrap_or_default();
        }
    }

    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Empties the list, and gives its memory back if that is more than so many numbers'.
    pub(super) fn clear(&mut self, keep_max: usize) {
        self.numbers.clear();
        self.numbers.shrink_to(keep_max);
        self.last = 0;
        self.is_unordered = false;
    }
}

/// One bit per number of a range: which were seen.
#[derive(Debug, Default)]
pub(super) struct Marks {
    words: Vec<u64>,
    first: u32,
    /// Numbers marked since the marks were clear.
    marked: usize,
}

impl Marks {
    /// Clears the marks, over another range.
    pub(super) fn over(&mut self, range: Range<u32>) {
        self.first = range.start & !63;
        self.words.clear();
        self.words.resize((range.end.saturating_sub(self.first) as usize).div_ceil(64), 0);
        self.marked = 0;
    }

    /// Marks a number of the range; whether it was not marked before.
    #[inline]
    fn mark(&mut self, number: u32) -> bool {
        let at = number - self.first;
        let word = &mut self.words[(at / 64) as usize];
        let bit = 1 << (at % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// How many of these numbers were not marked before; they are now.
    #[inline]
    pub(super) fn mark_all(&mut self, numbers: &[u32]) -> u64 {
        self.marked += numbers.len();
        numbers.iter().map(|number| u64::from(self.mark(*number))).sum()
    }

    /// How many of these numbers were not marked before, here and, of those, in `wider`, which has all that was ever marked here.
    pub(super) fn mark_both(&mut self, numbers: &[u32], wider: &mut Marks) -> (u64, u64) {
        self.marked += numbers.len();
        let mut new = (0, 0);
        for number in numbers {
            let is_new = self.mark(*number);
            new.0 += u64::from(is_new);
            new.1 += u64::from(is_new && wider.mark(*number));
        }
        new
    }

    /// Clears the marks, which are of these numbers.
    pub(super) fn clear<'n>(&mut self, numbers: impl Iterator<Item = &'n [u32]>) {
        // A word is cleared in bulk some thirty times as fast as one by one.
        if self.marked > self.words.len() / 32 {
            self.words.fill(0);
        } else {
            for number in numbers.flatten() {
                self.words[((number - self.first) / 64) as usize] = 0;
            }
        }
        self.marked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_equal_neighbours_once_and_tidy_up_what_comes_twice() {
        let mut list = NumberList::default();
        assert_eq!([3, 3, 5, 5, 3].map(|number| list.push(number)), [true, false, true, false, true]);
        assert_eq!(list.numbers(), [3, 5, 3]);
        list.tidy();
        assert_eq!(list.numbers(), [3, 5]);
        assert!(!list.push(5));
        let mut other = NumberList::default();
        other.push(5);
        other.push(9);
        list.append(&other);
        list.tidy();
        assert_eq!(list.numbers(), [3, 5, 9]);
    }

    #[test]
    fn marks_count_what_is_new() {
        let mut marks = Marks::default();
        marks.over(1_000..1_200);
        assert_eq!(marks.mark_all(&[1_000, 1_063, 1_199]), 3);
        assert_eq!(marks.mark_all(&[1_063, 1_064]), 1);
        marks.clear([[1_000, 1_063, 1_199].as_slice(), &[1_063, 1_064]].into_iter());
        assert_eq!(marks.mark_all(&[1_000, 1_063, 1_064, 1_199]), 4);
    }
}
