//! From events to sessions: the pass, as often as it takes to see every session of the range to its end.

use std::collections::HashMap;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use segue_engine::Hit;
use segue_engine::session::{Session, look_back, sessions};

use super::plan::{GROUP_BY_MAX, Plan};
use crate::filter::cells::BatchCells;
use crate::filter::predicate::Predicate;
use crate::pass::{self, Gather, KeyValue, Packing, Question, Selector, Values, Within};
use crate::question::time::RangeUs;
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;

/// How far after the range the first pass reads. Whose sessions are not over by then are read to the end of all events.
const FIRST_LOOK_US: i64 = 24 * 3_600_000_000;

/// Of a packed hit; a time alone would not need them.
const UNUSED_BITS: u32 = 1;

/// What lets everything pass.
static ALL: Predicate = Predicate::Always(true);

/// What is done with the sessions that start in the range.
pub(super) trait Sink: Sync {
    /// What becomes of some persons' sessions; additive over persons.
    type Partial: Send;

    /// Nothing yet.
    fn partial(&self) -> Self::Partial;

    /// Whether groups are worth reading.
    fn has_groups(&self) -> bool;

    /// Takes in the sessions of a person, in order.
    fn person(&self, partial: &mut Self::Partial, person: u32, sessions: impl Iterator<Item = Filed>);

    /// Puts the persons of the one to those of the other.
    fn merge(&self, into: &mut Self::Partial, from: Self::Partial);
}

/// A session that starts in the range.
pub(super) struct Filed {
    /// Position of its period.
    pub(super) period: u32,
    /// Number of its group.
    pub(super) group: u32,
    pub(super) session: Session,
}

/// Combinations of values that sessions are grouped by, as dense numbers.
pub(super) struct Groups {
    pub(super) values: Values,
    pub(super) known: Mutex<Known>,
    pub(super) groups_max: usize,
}

/// Codes of a combination's values; unused ones are 0.
type Codes = [u32; GROUP_BY_MAX];

#[derive(Default)]
pub(super) struct Known {
    numbers: HashMap<Codes, u32>,
    groups: Vec<Codes>,
}

impl Groups {
    /// The values of group `number`.
    pub(super) fn key(&self, plan: &Plan, number: u32) -> Vec<KeyValue> {
        let codes = self.known.lock().groups.get(number as usize).copied().unwrap_or_default();
        codes.iter().take(plan.group_by.len()).map(|code| self.values.value(*code)).collect()
    }

    /// The number of the group with these values.
    pub(super) fn number(&self, key: impl Iterator<Item = KeyValue>) -> u32 {
        let mut codes = Codes::default();
        for (code, value) in codes.iter_mut().zip(key) {
            *code = self.values.code(value);
        }
        self.known.lock().number(codes)
    }

    /// The groups of these rows of a batch.
    fn read(&self, plan: &Plan, batch: &BatchCells<'_>, rows: &[u32], out: &mut Vec<u32>) -> Result<(), QueryError> {
        let mut columns: [Vec<u32>; GROUP_BY_MAX] = Default::default();
        for (column, place) in columns.iter_mut().zip(&plan.group_by) {
            self.values.codes(*place, batch, rows, column);
        }
        let mut known = self.known.lock();
        let mut last: Option<(Codes, u32)> = None;
        out.extend((0..rows.len()).map(|row| {
            let mut codes = Codes::default();
            for (code, column) in codes.iter_mut().zip(&columns) {
                *code = column.get(row).copied().unwrap_or_default();
            }
            match last.filter(|(before, _)| *before == codes) {
                Some((_, number)) => number,
                None => {
                    let number = known.number(codes);
                    last = Some((codes, number));
                    number
                }
            }
        }));
        let groups = known.groups.len();
        if groups > self.groups_max {
            return Err(QueryError::TooManyGroups { groups, periods: 1, cells_max: self.groups_max });
        }
        Ok(())
    }
}

impl Known {
    fn number(&mut self, codes: Codes) -> u32 {
        *self.numbers.entry(codes).or_insert_with(|| {
            self.groups.push(codes);
            self.groups.len() as u32 - 1
        })
    }
}

/// Hands every session of these persons that starts in the range to the sink.
pub(super) fn run<S: Sink>(
    context: &Context<'_>,
    plan: &Plan,
    groups: &Groups,
    sink: &S,
    within: Within<'_>,
) -> Result<(S::Partial, ScanStats), QueryError> {
    let end_us = plan.range.end.saturating_add(plan.gap_us).saturating_add(FIRST_LOOK_US);
    let first = Cut { plan, groups, sink, end_us, within };
    let ((mut found, unfinished), mut stats) = first.pass(context, plan.among.as_ref())?;
    if !unfinished.is_empty() {
        let rest = Cut { end_us: i64::MAX, ..first };
        let ((of_rest, _), more) = rest.pass(context, Some(&unfinished))?;
        sink.merge(&mut found, of_rest);
        stats.rows += more.rows;
        stats.tail_rows += more.tail_rows;
        stats.files = stats.files.max(more.files);
    }
    Ok((found, stats))
}

/// One pass over events before `end_us`.
struct Cut<'c, S> {
    plan: &'c Plan,
    groups: &'c Groups,
    sink: &'c S,
    end_us: i64,
    within: Within<'c>,
}

/// What is found, and the persons who were left out: a session of theirs may go on after what was read.
type Found<P> = (P, RoaringBitmap);

impl<S: Sink> Cut<'_, S> {
    fn start_us(&self) -> i64 {
        look_back(self.plan.range.start, self.plan.gap_us)
    }

    fn cut(
        &self,
        (partial, unfinished): &mut Found<S::Partial>,
        person: u32,
        times: impl DoubleEndedIterator<Item = i64> + Clone,
        group: impl Fn(usize) -> u32,
    ) {
        let plan = self.plan;
        let range = plan.range.start..plan.range.end;
        let in_range = || sessions(times.clone(), plan.gap_us).filter(|session| range.contains(&session.start_us));
        // Most ranges end with what there is.
        let ends = times.clone().next_back().is_none_or(|last| last < range.end);
        if !ends && self.end_us != i64::MAX && in_range().last().is_some_and(|last| last.may_go_on(self.end_us, plan.gap_us)) {
            unfinished.insert(person);
            return;
        }
        let filed =
            in_range().map(|session| Filed { period: plan.periods.index_of(session.start_us), group: group(session.first), session });
        self.sink.person(partial, person, filed);
    }

    fn pass(&self, context: &Context<'_>, persons: Option<&RoaringBitmap>) -> Result<(Found<S::Partial>, ScanStats), QueryError> {
        let selector = Selector {
            events: self.plan.events.names.clone(),
            filter: self.plan.events.filter.clone(),
            range: RangeUs { start: self.start_us(), end: self.end_us },
        };
        let gather = Gather {
            selectors: &[selector],
            others: None,
            filter: &ALL,
            columns: &self.plan.columns,
            items: &self.plan.items,
            payload: &self.plan.payload,
            persons,
        };
        pass::run_within(context, &gather, self, self.within)
    }
}

impl<S: Sink> Question for Cut<'_, S> {
    type Payload = u32;
    type Partial = Found<S::Partial>;

    fn partial(&self) -> Self::Partial {
        (self.sink.partial(), RoaringBitmap::new())
    }

    fn payload(&self, batch: &BatchCells<'_>, rows: &[u32], out: &mut Vec<u32>) -> Result<(), QueryError> {
        self.groups.read(self.plan, batch, rows, out)
    }

    fn has_payload(&self) -> bool {
        !self.plan.group_by.is_empty() && self.sink.has_groups()
    }

    fn person(&self, partial: &mut Self::Partial, person: u32, hits: &[Hit<u32>]) {
        let group = |first: usize| hits.get(first).map_or(0, |hit| hit.payload);
        self.cut(partial, person, hits.iter().map(|hit| hit.ts), group);
    }

    fn packing(&self) -> Option<Packing> {
        // Without groups a hit is its time, and the order of equal ones does not matter.
        Packing::of((self.start_us(), self.end_us), UNUSED_BITS).filter(|_| !self.has_payload())
    }

    fn packed(&self, partial: &mut Self::Partial, person: u32, hits: &[u64]) -> bool {
        let start_us = self.start_us();
        self.cut(partial, person, hits.iter().map(|hit| start_us.wrapping_add((*hit >> UNUSED_BITS) as i64)), |_| 0);
        true
    }

    fn merge(&self, into: &mut Self::Partial, from: Self::Partial) {
        self.sink.merge(&mut into.0, from.0);
        into.1 |= from.1;
    }
}
