//! [`Marks`]: plain retention without sorting a person's events.
//!
//! Where cells only ask whether there is a return in a later calendar bucket, the order of events inside a bucket does not
//! matter: sets of buckets say all. They can be filled from several sorted runs in any order, one bit per event. How many persons of a cohort
//! returned in each bucket is then how often each bit is set, which is added up for 64 buckets at a time.

use super::rule::Retention;
use super::tally::Counts;
use super::{Alignment, CohortEntry, Mode};

/// Rows up to which sets are used: beyond, they would take more memory than the events do.
const ROWS_MAX: usize = 1024;

/// Retention over sets of buckets, each of [`words`](Self::words) × 64 bits, bucket b at bit b % 64 of word b / 64.
#[derive(Debug, Clone, Copy)]
pub struct Marks<'a> {
    retention: &'a Retention,
    words: usize,
}

/// Persons taken in by their sets.
#[derive(Debug, Clone)]
pub struct MarkTally {
    /// Sizes by row, then cells by row. [`Mode::OnOrAfter`] counts an entry in its last cell alone until the end.
    counts: Vec<u64>,
    /// For [`Mode::On`]: by row and word, how often each bit is set in entries that `counts` lacks.
    piles: Vec<Pile>,
    /// By row, how many entries `counts` lacks.
    pending: Vec<u8>,
}

/// How often each of 64 bits is set: plane p holds bit p of all 64 numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Pile([u64; 8]);

impl Pile {
    /// At most 255 times.
    #[inline]
    fn add(&mut self, word: u64) {
        // All planes, though the carry is mostly gone before the last: ending earlier is a branch that nothing predicts.
        let mut carry = word;
        for plane in &mut self.0 {
            (*plane, carry) = (*plane ^ carry, *plane & carry);
        }
    }

    fn count(&self, bit: usize) -> u64 {
        self.0.iter().enumerate().map(|(number, plane)| (plane >> bit & 1) << number).sum()
    }
}

impl<'a> Marks<'a> {
    /// None if the question needs the order of events (a rolling alignment, several returns, a bracket that looks at bucket 0) or has
    /// very many buckets.
    pub(super) fn of(retention: &'a Retention) -> Option<Marks<'a>> {
        let options = &retention.options;
        let plain = match &options.mode {
            Mode::On | Mode::OnOrAfter => true,
            Mode::Brackets(brackets) => brackets.first().is_none_or(|bracket| bracket.start > 0),
        };
        let plain = plain && options.alignment == Alignment::Calendar && options.returns_min <= 1;
        (plain && retention.rows() <= ROWS_MAX).then(|| Marks { retention, words: retention.rows().div_ceil(64) })
    }

    /// Words of one set.
    pub fn words(&self) -> usize {
        self.words
    }

    /// The bucket of a return event. A start event in the range has the same as its row.
    #[inline]
    pub fn bucket_of(&self, time_us: i64) -> Option<usize> {
        self.retention.buckets.index_of(time_us)
    }

    /// Nobody yet.
    pub fn tally(&self) -> MarkTally {
        let rows = self.retention.rows();
        let on = self.retention.options.mode == Mode::On;
        MarkTally {
            counts: vec![0; rows + self.retention.cells()],
            piles: if on { vec![Pile::default(); rows * self.words] } else { Vec::new() },
            pending: vec![0; rows],
        }
    }

    /// Adds a person with start events in the buckets `starts` of the range, and return events in the buckets `returns`. Of
    /// [`CohortEntry::FirstEver`] the caller leaves that one start only which is the first of all history.
    #[inline]
    pub fn add(&self, starts: &[u64], returns: &[u64], tally: &mut MarkTally) {
        if self.retention.options.entry == CohortEntry::Recurring {
            Bits::of(starts, 0).for_each(|row| self.add_entry(row, returns, tally));
        } else if let Some(row) = Bits::of(starts, 0).next() {
            self.add_entry(row, returns, tally);
        }
    }

    /// Adds one entry to row `row`.
    #[inline]
    fn add_entry(&self, row: usize, returns: &[u64], tally: &mut MarkTally) {
        if let Some(size) = tally.counts.get_mut(row) {
            *size += 1;
        }
        match &self.retention.options.mode {
            Mode::On => {
                // Words before the row's own hold no later bucket.
                let words = row / 64..self.words;
                let piles = tally.piles.get_mut(row * self.words..).and_then(|piles| piles.get_mut(words.clone()));
                for (pile, word) in piles.into_iter().flatten().zip(returns.get(words).unwrap_or_default()) {
                    pile.add(*word);
                }
                if let Some(pending) = tally.pending.get_mut(row) {
                    *pending += 1;
                    if *pending == u8::MAX {
                        self.settle(row, tally);
                    }
                }
            }
            Mode::OnOrAfter => {
                let last = last_bit(returns).map_or(0, |bucket| bucket.saturating_sub(row));
                let cells = self.cells_of(row, &mut tally.counts);
                let cell = last.min(cells.len().saturating_sub(1));
                if let Some(cell) = cells.get_mut(cell) {
                    *cell += 1;
                }
            }
            Mode::Brackets(brackets) => {
                let mut returned = Bits::of(returns, row).map(|bucket| bucket - row).peekable();
                for (cell, bracket) in self.cells_of(row, &mut tally.counts).iter_mut().zip(brackets) {
                    while returned.next_if(|bucket| *bucket < bracket.start as usize).is_some() {}
                    *cell += u64::from(returned.peek().is_some_and(|bucket| *bucket < bracket.end as usize));
                }
            }
        }
    }

    /// Everybody who was added.
    pub fn finish(&self, mut tally: MarkTally) -> Counts {
        for row in 0..self.retention.rows() {
            match &self.retention.options.mode {
                Mode::On => self.settle(row, &mut tally),
                Mode::OnOrAfter => {
                    let mut later = 0;
                    for cell in self.cells_of(row, &mut tally.counts).iter_mut().rev() {
                        later += *cell;
                        *cell = later;
                    }
                }
                Mode::Brackets(_) => {}
            }
        }
        Counts::dense(tally.counts)
    }

    /// Moves what is piled up of a row to its cells.
    fn settle(&self, row: usize, tally: &mut MarkTally) {
        let Some(pending) = tally.pending.get_mut(row) else { return };
        let entries = u64::from(std::mem::take(pending));
        let piles = tally.piles.get_mut(row * self.words..(row + 1) * self.words).unwrap_or_default();
        for (cell, count) in self.cells_of(row, &mut tally.counts).iter_mut().enumerate() {
            let bucket = row + cell;
            *count += match cell {
                0 => entries,
                _ => piles.get(bucket / 64).map_or(0, |pile| pile.count(bucket % 64)),
            };
        }
        piles.fill(Pile::default());
    }

    fn cells_of<'c>(&self, row: usize, counts: &'c mut [u64]) -> &'c mut [u64] {
        let (rows, range) = (self.retention.rows(), self.retention.cells_at(row));
        counts.get_mut(rows + range.start..rows + range.end).unwrap_or_default()
    }
}

/// Positions of the bits that are set, ascending.
struct Bits<'a> {
    /// Rest of the word at hand.
    word: u64,
    base: usize,
    rest: std::slice::Iter<'a, u64>,
}

impl<'a> Bits<'a> {
    /// Those from position `from` on.
    fn of(words: &'a [u64], from: usize) -> Self {
        let mut rest = words.get(from / 64..).unwrap_or_default().iter();
        let word = rest.next().map_or(0, |word| word >> (from % 64) << (from % 64));
        Bits { word, base: from / 64 * 64, rest }
    }
}

impl Iterator for Bits<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.word == 0 {
            self.word = *self.rest.next()?;
            self.base += 64;
        }
        let at = self.base + self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some(at)
    }
}

fn last_bit(words: &[u64]) -> Option<usize> {
    let (at, word) = words.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
    Some(at * 64 + 63 - word.leading_zeros() as usize)
}
