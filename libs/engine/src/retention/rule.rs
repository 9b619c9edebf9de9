//! [`Retention`]: which entries a person has, and which cells each reaches.

use std::ops::Range;

use super::buckets::{Buckets, Length};
use super::{Alignment, CohortEntry, Marks, Mode, Options, RETURN, RetentionError, START, START_BY_NAME};
use crate::Hit;

/// A question of retention with its buckets laid out. Made once per report, read by every person.
#[derive(Debug, Clone)]
pub struct Retention {
    pub(super) options: Options,
    pub(super) buckets: Buckets,
    length: Length,
    /// Where the cells of each row begin in a table; one more than there are rows.
    offsets: Vec<usize>,
}

/// A person's way into a cohort.
#[derive(Debug)]
pub struct Entry<'a, P> {
    /// Which cohort.
    pub row: usize,
    /// The start event.
    pub start: &'a Hit<P>,
    /// The cells reached, ascending; cell 0 is always one of them, unless cells are brackets.
    pub cells: &'a [u32],
}

/// Memory that one person leaves to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Times of the return events, ascending.
    returns: Vec<i64>,
    /// Per entry: row, position of its start among the hits, how many return events there are up to it (itself included).
    entries: Vec<(usize, usize, usize)>,
    /// With the calendar, for each bucket that has return events, ascending: its number and how many events there are up to its end.
    filled: Vec<(usize, usize)>,
    /// Of one entry, for each bucket with returns, ascending: bucket, returns.
    counts: Vec<(usize, u64)>,
    /// Of one entry: cells reached.
    cells: Vec<u32>,
}

impl Retention {
    /// Lays the buckets out.
    pub fn new(options: Options) -> Result<Retention, RetentionError> {
        let buckets = Buckets::new(options.range_us.start, options.range_us.end, options.grain, options.zone)?;
        if let Mode::Brackets(brackets) = &options.mode {
            let mut free = 0;
            for (index, bracket) in brackets.iter().enumerate() {
                if bracket.start < free || bracket.start >= bracket.end {
                    return Err(RetentionError::Brackets { index });
                }
                free = bracket.end;
            }
            if brackets.is_empty() {
                return Err(RetentionError::Brackets { index: 0 });
            }
        }
        let length = Length::of(options.grain, options.zone);
        let mut retention = Retention { options, buckets, length, offsets: Vec::new() };
        let mut offset = 0;
        for row in 0..retention.buckets.len() {
            retention.offsets.push(offset);
            offset += retention.cells_of(row);
        }
        retention.offsets.push(offset);
        Ok(retention)
    }

    /// Number of cohorts.
    pub fn rows(&self) -> usize {
        self.buckets.len()
    }

    /// Cells of all rows together: what one group of a [`Tally`](super::Tally) keeps, beside the sizes.
    pub fn cells(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Number of cells of row `row`.
    pub fn cells_of(&self, row: usize) -> usize {
        let buckets = self.buckets_of(row);
        match &self.options.mode {
            Mode::On | Mode::OnOrAfter => buckets.min(self.options.cells_max),
            Mode::Brackets(brackets) => brackets.iter().take_while(|bracket| (bracket.start as usize) < buckets).count(),
        }
    }

    /// First moment of a row's entries: its bucket's, or the range's.
    pub fn row_start_us(&self, row: usize) -> i64 {
        self.buckets.bound(row).max(self.options.range_us.start)
    }

    /// The row whose entries a moment of the range belongs to.
    pub fn row_of(&self, time_us: i64) -> Option<usize> {
        self.options.range_us.contains(&time_us).then(|| self.buckets.index_of(time_us)).flatten()
    }

    /// Which events have to be given: those that match [`START`] in the range and [`RETURN`] in this. With
    /// [`CohortEntry::FirstEver`] also all those before that match [`START_BY_NAME`].
    pub fn scan_us(&self) -> Range<i64> {
        let end = match self.options.alignment {
            Alignment::Calendar => self.buckets.bound(self.rows()),
            Alignment::Rolling => (0..self.rows()).map(|row| self.end_of(row, self.buckets_of(row))).max().unwrap_or(i64::MAX),
        };
        self.options.range_us.start..end.max(self.options.range_us.end)
    }

    /// The entries of a person, in order of time, given the person's hits in order of time.
    pub fn entries<P>(&self, hits: &[Hit<P>], scratch: &mut Scratch, mut visit: impl FnMut(&Entry<'_, P>)) {
        self.collect(hits, scratch);
        if self.options.alignment == Alignment::Calendar {
            self.fill(scratch);
        }
        let Scratch { returns, entries, filled, counts, cells } = scratch;
        for &(row, at, before) in entries.iter() {
            let Some(start) = hits.get(at) else { continue };
            counts.clear();
            match self.options.alignment {
                Alignment::Calendar => {
                    let from = filled.partition_point(|(bucket, _)| *bucket < row);
                    let mut seen = before;
                    for (bucket, until) in filled.iter().skip(from) {
                        if *until > seen {
                            counts.push((bucket - row, (until - seen) as u64));
                            seen = *until;
                        }
                    }
                }
                Alignment::Rolling => self.roll(start.ts, self.buckets_of(row), returns.get(before..).unwrap_or_default(), counts),
            }
            cells.clear();
            self.reach(row, counts, cells);
            visit(&Entry { row, start, cells });
        }
    }

    /// Whether it may matter which of two events of the same time comes first, apart from what is read of the first start.
    pub fn ties_matter(&self) -> bool {
        let looks_at_first = match &self.options.mode {
            Mode::On | Mode::OnOrAfter => false,
            Mode::Brackets(brackets) => brackets.first().is_some_and(|bracket| bracket.start == 0),
        };
        looks_at_first || self.options.entry == CohortEntry::FirstEver
    }

    /// The way that needs no order of events, where the question allows it: see [`Marks`].
    pub fn marks(&self) -> Option<Marks<'_>> {
        Marks::of(self)
    }

    pub(super) fn buckets_of(&self, row: usize) -> usize {
        self.buckets.len() - row
    }

    /// Where a row's cells lie in a table.
    pub(super) fn cells_at(&self, row: usize) -> Range<usize> {
        let bound = |row| self.offsets.get(row).copied().unwrap_or_default();
        bound(row)..bound(row + 1)
    }

    /// When bucket `number - 1` of a row has ended for everybody of the row.
    pub(super) fn end_of(&self, row: usize, number: usize) -> i64 {
        match self.options.alignment {
            Alignment::Calendar => self.buckets.bound(row + number),
            // Nobody starts after the end of the row's own bucket.
            Alignment::Rolling => self.length.bound(self.buckets.bound(row + 1), number),
        }
    }

    /// Finds entries and return events.
    fn collect<P>(&self, hits: &[Hit<P>], scratch: &mut Scratch) {
        let Scratch { returns, entries, .. } = scratch;
        returns.clear();
        entries.clear();
        let mut ever = false;
        for (at, hit) in hits.iter().enumerate() {
            if hit.is(RETURN) && hit.ts >= self.options.range_us.start {
                returns.push(hit.ts);
            }
            let first_ever = hit.is(START_BY_NAME) && !ever;
            ever |= first_ever;
            if !hit.is(START) {
                continue;
            }
            let Some(row) = self.row_of(hit.ts) else { continue };
            let enters = match self.options.entry {
                CohortEntry::Recurring => entries.last().is_none_or(|(last, ..)| *last != row),
                CohortEntry::FirstMatching => entries.is_empty(),
                CohortEntry::FirstEver => first_ever,
            };
            if enters {
                entries.push((row, at, returns.len()));
            }
        }
    }

    /// Counts return events by calendar bucket.
    fn fill(&self, scratch: &mut Scratch) {
        let Scratch { returns, filled, .. } = scratch;
        filled.clear();
        let mut end = i64::MIN;
        for (at, ts) in returns.iter().enumerate() {
            if *ts < end {
                if let Some(last) = filled.last_mut() {
                    last.1 = at + 1;
                }
                continue;
            }
            let Some(bucket) = self.buckets.index_of(*ts) else { break };
            end = self.buckets.bound(bucket + 1);
            filled.push((bucket, at + 1));
        }
    }

    /// Counts the returns of one entry by rolling bucket.
    fn roll(&self, start: i64, buckets: usize, mut returns: &[i64], counts: &mut Vec<(usize, u64)>) {
        let mut from = 0;
        while let Some(first) = returns.first() {
            let bucket = self.length.index_of(start, *first, from);
            if bucket >= buckets {
                return;
            }
            let end = self.length.bound(start, bucket + 1);
            let (inside, rest) = returns.split_at(count_below(returns, end));
            counts.push((bucket, inside.len() as u64));
            (returns, from) = (rest, bucket);
        }
    }

    /// Which cells an entry reaches with so many returns in its buckets.
    fn reach(&self, row: usize, counts: &[(usize, u64)], cells: &mut Vec<u32>) {
        let min = u64::from(self.options.returns_min.max(1));
        let len = self.cells_of(row);
        match &self.options.mode {
            Mode::On => {
                cells.extend((len > 0).then_some(0));
                let enough = counts.iter().filter(|(bucket, count)| *bucket > 0 && *bucket < len && *count >= min);
                cells.extend(enough.map(|(bucket, _)| *bucket as u32));
            }
            Mode::OnOrAfter => {
                cells.extend((len > 0).then_some(0));
                let mut sum = 0;
                let last = counts.iter().rev().find(|(_, count)| {
                    sum += count;
                    sum >= min
                });
                let last = last.map_or(0, |(bucket, _)| *bucket);
                cells.extend((1..len).take(last).map(|cell| cell as u32));
            }
            Mode::Brackets(brackets) => {
                let mut rest = counts;
                for (cell, bracket) in brackets.iter().take(len).enumerate() {
                    rest = rest.split_at(rest.partition_point(|(bucket, _)| *bucket < bracket.start as usize)).1;
                    let (inside, after) = rest.split_at(rest.partition_point(|(bucket, _)| *bucket < bracket.end as usize));
                    if inside.iter().map(|(_, count)| count).sum::<u64>() >= min {
                        cells.push(cell as u32);
                    }
                    rest = after;
                }
            }
        }
    }
}

/// How many of the ascending times are before `end`: doubling steps, since the next bucket is near.
fn count_below(times: &[i64], end: i64) -> usize {
    let mut step = 1;
    while times.get(step).is_some_and(|time| *time < end) {
        step *= 2;
    }
    times.get(..step).unwrap_or(times).partition_point(|time| *time < end)
}
