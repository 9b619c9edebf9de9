//! [`Marks`]: plain retention without sorting a person's events.
//!
//! Where cells only ask whether there is a return in a later calendar bucket, the order of events inside a bucket does not
//! matter: sets of buckets say all. They can be filled from several sorted runs in any order, one bit per event.

use super::rule::Retention;
use super::tally::Counts;
use super::{Alignment, CohortEntry, Mode};

/// Retention over sets of buckets, each of [`words`](Self::words) × 64 bits, bucket b at bit b % 64 of word b / 64.
#[derive(Debug, Clone, Copy)]
pub struct Marks<'a> {
    retention: &'a Retention,
}

impl<'a> Marks<'a> {
    /// None if the question needs the order of events: a rolling alignment, several returns, a bracket that looks at bucket 0.
    pub(super) fn of(retention: &'a Retention) -> Option<Marks<'a>> {
        let options = &retention.options;
        let plain = match &options.mode {
            Mode::On | Mode::OnOrAfter => true,
            Mode::Brackets(brackets) => brackets.first().is_none_or(|bracket| bracket.start > 0),
        };
        (plain && options.alignment == Alignment::Calendar && options.returns_min <= 1).then_some(Marks { retention })
    }

    /// Words of one set.
    pub fn words(&self) -> usize {
        self.retention.rows().div_ceil(64)
    }

    /// The bucket of a return event. A start event in the range has the same as its row.
    #[inline]
    pub fn bucket_of(&self, time_us: i64) -> Option<usize> {
        self.retention.buckets.index_of(time_us)
    }

    /// Start of bucket `index`; of [`Retention::rows`] the end of the last. For rows that come in order of time, comparing with
    /// the next bucket's start is cheaper than [`bucket_of`](Self::bucket_of).
    pub fn bound_us(&self, index: usize) -> i64 {
        self.retention.buckets.bound(index)
    }

    /// Adds a person with start events in the buckets `starts` of the range, and return events in the buckets `returns`. Of
    /// [`CohortEntry::FirstEver`] the caller leaves that one start only which is the first of all history.
    pub fn add(&self, starts: &[u64], returns: &[u64], counts: &mut Counts) {
        for row in bits(starts, 0) {
            self.add_entry(row, returns, counts);
            if self.retention.options.entry != CohortEntry::Recurring {
                return;
            }
        }
    }

    /// Adds one entry to row `row`.
    #[inline]
    pub fn add_entry(&self, row: usize, returns: &[u64], counts: &mut Counts) {
        let range = self.retention.cells_at(row);
        let (sizes, cells) = counts.dense_mut(self.retention);
        if let Some(size) = sizes.get_mut(row) {
            *size += 1;
        }
        let Some(cells) = cells.get_mut(range) else { return };
        match &self.retention.options.mode {
            Mode::On => {
                add_first(cells);
                for bucket in bits(returns, row + 1) {
                    // Ascending, so that the first one beyond the cells ends it.
                    let Some(cell) = cells.get_mut(bucket - row) else { return };
                    *cell += 1;
                }
            }
            Mode::OnOrAfter => {
                add_first(cells);
                let last = last_bit(returns).map_or(0, |bucket| bucket.saturating_sub(row));
                cells.iter_mut().skip(1).take(last).for_each(|cell| *cell += 1);
            }
            Mode::Brackets(brackets) => {
                let mut returned = bits(returns, row).map(|bucket| bucket - row).peekable();
                for (cell, bracket) in cells.iter_mut().zip(brackets) {
                    while returned.next_if(|bucket| *bucket < bracket.start as usize).is_some() {}
                    *cell += u64::from(returned.peek().is_some_and(|bucket| *bucket < bracket.end as usize));
                }
            }
        }
    }
}

fn add_first(cells: &mut [u64]) {
    if let Some(cell) = cells.first_mut() {
        *cell += 1;
    }
}

/// Positions of the bits that are set, from `from` on, ascending.
#[inline]
fn bits(words: &[u64], from: usize) -> impl Iterator<Item = usize> {
    let (first, shift) = (from / 64, from % 64);
    words.iter().enumerate().skip(first).flat_map(move |(at, word)| {
        let mut rest = if at == first { word >> shift << shift } else { *word };
        std::iter::from_fn(move || {
            let bit = rest.trailing_zeros() as usize;
            (rest != 0).then(|| {
                rest &= rest - 1;
                at * 64 + bit
            })
        })
    })
}

fn last_bit(words: &[u64]) -> Option<usize> {
    let (at, word) = words.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
    Some(at * 64 + 63 - word.leading_zeros() as usize)
}
