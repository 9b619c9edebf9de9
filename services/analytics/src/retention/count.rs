//! Taking persons in: [`Count`] for the pass, and what it comes to.

use std::ops::Range;

use segue_engine::Hit;
use segue_engine::retention::{Counts, MarkTally, Marks, RETURN, START, START_BY_NAME, Scratch, Tally};

use super::plan::Plan;
use crate::filter::cells::BatchCells;
use crate::pass::{Packing, Part, Question, Values};
use crate::question::{Context, QueryError};

/// Of a packed hit: which selectors it matches.
const BITS: u32 = 3;

/// Counts cohorts and cells by group.
pub(super) struct Count<'c> {
    plan: &'c Plan,
    values: &'c Values,
    /// Set where the order of events does not matter.
    marks: Option<Marks<'c>>,
    /// Set where events are known by their times and what they match.
    packing: Option<Packing>,
    /// Different values of the breakdown.
    groups_max: usize,
    /// Numbers kept by one thread.
    kept_max: usize,
}

/// What some persons come to.
#[derive(Default)]
pub(super) struct Counted {
    /// Without a breakdown, everybody.
    pub(super) total: Counts,
    /// With one, everybody by the code of the group's value.
    pub(super) groups: Tally<u32>,
    /// Who was taken in by sets of buckets and is not in `total` yet.
    marks: Option<MarkTally>,
    scratch: Scratch,
    hits: Vec<Hit<()>>,
    /// Sets of buckets of the persons at hand.
    starts: Vec<u64>,
    returns: Vec<u64>,
    /// Persons until memory is looked at again.
    unchecked: usize,
    too_much: bool,
}

impl Counted {
    /// Everybody is in.
    fn settle(&mut self, count: &Count<'_>) {
        if let Some((marks, tally)) = count.marks.as_ref().zip(self.marks.take()) {
            self.total.merge(&count.plan.retention, &marks.finish(tally));
        }
    }

    /// Adds to a number of everybody, or of the group with this code.
    pub(super) fn add(&mut self, plan: &Plan, code: Option<u32>, place: u32, count: u64) {
        let counts = match code {
            Some(code) => self.groups.counts_mut(code),
            None => &mut self.total,
        };
        counts.add_number(&plan.retention, place, count);
    }

    /// Fails if not everybody could be counted.
    pub(super) fn check(&self, context: &Context<'_>) -> Result<(), QueryError> {
        if self.too_much {
            let bytes_max = context.limits.report.bytes_max;
            return Err(QueryError::TooMuchMemory { what: "the groups of its breakdown", bytes_max });
        }
        Ok(())
    }
}

impl<'c> Count<'c> {
    pub(super) fn new(context: &Context<'_>, plan: &'c Plan, values: &'c Values) -> Self {
        // The first event of all history may be at any time, and which of two at the same moment it is matters.
        let anywhere = plan.selectors.get(START_BY_NAME).is_some();
        let marks = plan.retention.marks().filter(|_| plan.breakdown.is_none() && !anywhere);
        let ranges = plan.selectors.iter().map(|selector| (selector.range.start, selector.range.end));
        let range = ranges.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        let packing = range.filter(|_| plan.breakdown.is_none()).and_then(|range| Packing::of(range, BITS));
        let limits = context.limits;
        Count {
            plan,
            values,
            marks,
            packing,
            groups_max: limits.report.cells_max,
            kept_max: limits.report.bytes_max / limits.threads.max(1) / size_of::<u64>(),
        }
    }

    /// Fills the sets of buckets of all persons, then takes in person by person.
    fn add_marks(&self, marks: &Marks<'_>, counted: &mut Counted, persons: Range<u32>, parts: &[Part<u32>]) {
        let words = marks.words();
        let Counted { marks: Some(tally), starts, returns, .. } = counted else { return };
        // Of start events that are return events as well, one set says both.
        let both = 1 << START | 1 << RETURN;
        let one = parts.iter().all(|part| part.same_matches() == Some(both));
        starts.clear();
        starts.resize(persons.len() * words, 0);
        returns.clear();
        returns.resize(if one { 0 } else { starts.len() }, 0);
        for part in parts {
            part.each(|person, ts, matches| {
                let Some(bucket) = marks.bucket_of(ts) else { return };
                let at = (person.wrapping_sub(persons.start)) as usize * words + bucket / 64;
                let bit = |selector: usize| u64::from(matches >> selector & 1) << (bucket % 64);
                if let Some(word) = starts.get_mut(at) {
                    *word |= bit(START);
                }
                if let Some(word) = returns.get_mut(at) {
                    *word |= bit(RETURN);
                }
            });
        }
        let returns: &[u64] = if one { starts } else { returns };
        for (starts, returns) in starts.chunks_exact(words).zip(returns.chunks_exact(words)) {
            marks.add(starts, returns, tally);
        }
    }

    /// Looks now and then at what is kept.
    fn check(&self, counted: &mut Counted) {
        counted.unchecked += 1;
        if counted.unchecked > 1024.max(counted.groups.len()) {
            counted.unchecked = 0;
            counted.too_much |= counted.groups.kept() > self.kept_max;
        }
    }
}

impl Question for Count<'_> {
    type Payload = u32;
    type Partial = Counted;

    fn partial(&self) -> Counted {
        Counted { marks: self.marks.as_ref().map(Marks::tally), ..Counted::default() }
    }

    fn payload(&self, batch: &BatchCells<'_>, rows: &[u32], out: &mut Vec<u32>) -> Result<(), QueryError> {
        codes(self.plan, self.values, self.groups_max, batch, rows, out)
    }

    fn has_payload(&self) -> bool {
        self.plan.breakdown.is_some()
    }

    fn person(&self, partial: &mut Counted, _person: u32, hits: &[Hit<u32>]) {
        let retention = &self.plan.retention;
        if self.plan.breakdown.is_none() {
            let Counted { total, scratch, .. } = partial;
            retention.entries(hits, scratch, |entry| total.add(retention, entry));
            return;
        }
        if partial.too_much {
            return;
        }
        let Counted { groups, scratch, .. } = partial;
        retention.entries(hits, scratch, |entry| groups.counts_mut(entry.start.payload).add(retention, entry));
        self.check(partial);
    }

    fn packing(&self) -> Option<Packing> {
        self.packing
    }

    fn pack(&self, matches: u32, _payload: u32) -> u64 {
        u64::from(matches)
    }

    fn packed(&self, partial: &mut Counted, _person: u32, packed: &[u64]) -> bool {
        let (retention, Some(packing)) = (&self.plan.retention, self.packing) else { return false };
        // Of events that match the same, any order is the same.
        let is_tie = |pair: &[u64]| matches!(pair, [one, other] if one != other && one >> BITS == other >> BITS);
        if retention.ties_matter() && packed.windows(2).any(is_tie) {
            return false;
        }
        let Counted { total, scratch, hits, .. } = partial;
        hits.clear();
        hits.extend((0..).zip(packed).map(|(sequence, hit)| Hit {
            ts: packing.base_us.wrapping_add((hit >> BITS) as i64),
            sequence,
            matches: (hit & ((1 << BITS) - 1)) as u32,
            payload: (),
        }));
        retention.entries(hits, scratch, |entry| total.add(retention, entry));
        true
    }

    fn is_unordered(&self) -> bool {
        self.marks.is_some()
    }

    fn unordered(&self, partial: &mut Counted, persons: Range<u32>, parts: &[Part<u32>]) {
        if let Some(marks) = &self.marks
            && !parts.is_empty()
        {
            self.add_marks(marks, partial, persons, parts);
        }
    }

    fn merge(&self, into: &mut Counted, mut from: Counted) {
        into.settle(self);
        from.settle(self);
        into.total.merge(&self.plan.retention, &from.total);
        into.groups.merge(&self.plan.retention, from.groups, |group| group);
        into.too_much |= from.too_much;
    }
}

/// The codes of the breakdown's values. Only a start event's is looked at.
pub(super) fn codes(
    plan: &Plan,
    values: &Values,
    groups_max: usize,
    batch: &BatchCells<'_>,
    rows: &[u32],
    out: &mut Vec<u32>,
) -> Result<(), QueryError> {
    let start = plan.selectors.get(START).and_then(|selector| selector.events.as_ref());
    match plan.breakdown.filter(|_| start.is_none_or(|names| names.iter().any(|name| name == batch.event))) {
        Some(place) => values.codes(place, batch, rows, out),
        None => out.resize(out.len() + rows.len(), 0),
    }
    if values.len() > groups_max {
        return Err(QueryError::TooManyGroups { groups: values.len(), periods: 1, cells_max: groups_max });
    }
    Ok(())
}
