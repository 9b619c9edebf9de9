//! The pass over the rows: batch by batch, filter, group, find periods, add to the tallies. Column at a time, nothing is
//! allocated per row, and what a batch does not need is not looked at.

use std::borrow::Cow;
use std::ops::Range;

use arrow::array::AsArray;
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::UInt32Type;

use super::gather::{LeftOut, Observations, add, cells_of};
use super::grouping::Grouper;
use super::members;
use super::metric::{Measure, MetricPlan};
use super::plain::{self, ByText, Overflow};
use super::plan::Plan;
use super::rows::{Batch, Rows};
use super::tally::{Band, BandMarks, CellMap, Finish, Tally};
use super::touches::Credited;
use crate::filter::cells::{At, BatchCells, Cells};
use crate::filter::fields::Place;
use crate::filter::matching::mask;
use crate::filter::predicate::Predicate;
use crate::pass::{KeyValue, members as members_of};
use crate::question::QueryError;
use crate::question::time::Periods;
use crate::scan::{Column, ScanBatch};

/// One range of a report being computed.
#[derive(Debug)]
pub(super) struct Pass {
    /// Its periods.
    pub(super) periods: Periods,
    /// One per metric; the cell of a group and period is group × periods + period.
    pub(super) tallies: Vec<Tally>,
    /// Which groups had a row.
    pub(super) seen: Vec<bool>,
    /// Events that a UNIQUE metric left out.
    pub(super) without_unit: u64,
    /// Items that a REVENUE metric left out.
    pub(super) skipped_items: u64,
}

/// Which groups are computed.
#[derive(Clone, Copy)]
pub(super) enum Choice<'c> {
    /// Each by itself.
    Each,
    /// Those whose values this accepts, all as one.
    Together(&'c (dyn Fn(&[KeyValue]) -> bool + Sync)),
}

/// A report being computed by one thread: both ranges share their groups.
pub(super) struct Execution<'p> {
    /// The question.
    pub(super) plan: &'p Plan,
    /// The groups so far.
    pub(super) grouper: Grouper,
    /// The range, then the comparison range if there is one.
    pub(super) passes: Vec<Pass>,
    choice: Choice<'p>,
    /// With `Choice::Together`, by group: whether it was accepted.
    accepted: Vec<Option<bool>>,
    scratch: Scratch,
    marks: BandMarks,
    /// Values so far, for their numbers.
    values: u64,
}

/// Rows in hand; kept between batches for their memory.
#[derive(Debug, Default)]
struct Scratch {
    all: Rows,
    some: Rows,
    groups: Vec<u32>,
    seen: Observations,
    sums: plain::Sums,
}

impl<'p> Execution<'p> {
    /// Nothing seen yet. `number` differs between the threads of a report.
    pub(super) fn new(plan: &'p Plan, choice: Choice<'p>, number: usize) -> Self {
        let pass = |periods: &Periods| Pass {
            tallies: plan.metrics.iter().map(|metric| empty_tally(metric, periods.len(), plan.is_shared())).collect(),
            periods: periods.clone(),
            seen: Vec::new(),
            without_unit: 0,
            skipped_items: 0,
        };
        let mut execution = Execution {
            plan,
            grouper: Grouper::new(plan.group_by.iter().map(|field| field.kind)),
            passes: plan.ranges().map(pass).collect(),
            choice,
            accepted: Vec::new(),
            scratch: Scratch::default(),
            marks: BandMarks::default(),
            values: (number as u64) << 48,
        };
        execution.fit();
        execution
    }

    /// Takes rows of the range of pass `pass`, credited if the plan wants that.
    pub(super) fn push(&mut self, pass: usize, batch: &ScanBatch, credited: Option<Credited>) -> Result<(), QueryError> {
        let plan = self.plan;
        let (columns, shared) = credited.map_or((Vec::new(), None), |credited| (credited.columns, credited.shares));
        let (repeated, shares) = shared.unzip();
        let batch = repeated.as_ref().unwrap_or(batch);
        if batch.batch.num_rows() == 0 || !plan.metrics.iter().any(|metric| metric.applies(&batch.event)) {
            return Ok(());
        }
        let mut cells = BatchCells::sparse(batch, &plan.columns, &plan.reads, &plan.items)?;
        for ((place, _), texts) in plan.attributed.iter().flat_map(|attributed| &attributed.columns).zip(columns) {
            cells.columns[*place] = Cells::Text(texts);
        }
        let of_persons = plan.among.as_ref().and_then(|(column, persons)| match &cells.columns[*column] {
            Cells::Number(numbers) => Some(members_of(persons, numbers)),
            _ => None,
        });
        let passing = narrowed(of_persons, &plan.filter, &cells);
        let mut masks: Vec<(usize, Option<BooleanBuffer>)> = Vec::new();
        for (at, metric) in plan.metrics.iter().enumerate().filter(|(_, metric)| metric.applies(&batch.event)) {
            masks.push((at, narrowed(passing.clone(), &metric.filter, &cells)));
        }
        let union = match masks.iter().map(|(_, own)| own.as_ref()).collect::<Option<Vec<_>>>() {
            Some(all) => {
                all.into_iter().fold(None, |union: Option<BooleanBuffer>, own| Some(union.map_or(own.clone(), |union| &union | own)))
            }
            None => None,
        };
        if union.as_ref().is_some_and(|union| union.count_set_bits() == 0) {
            return Ok(());
        }
        if union.is_none() && masks.iter().all(|(_, own)| own.is_none()) && self.add_plainly(pass, &cells, batch.span_us, &masks)? {
            return Ok(());
        }
        let further = cells.len.max(cells.items.as_ref().map_or(0, |items| items.len)) as u64;
        let batch = Batch { cells, shares, number: self.values };
        self.values += further;
        self.place_rows(pass, &batch.cells, union.as_ref())?;
        self.add(pass, &batch, union.as_ref(), &masks)
    }

    /// Adds all rows of a batch in one loop; false where that loop does not do.
    fn add_plainly(
        &mut self,
        pass: usize,
        cells: &BatchCells<'_>,
        span_us: (i64, i64),
        masks: &[(usize, Option<BooleanBuffer>)],
    ) -> Result<bool, QueryError> {
        let plan = self.plan;
        let periods = self.passes.iter().map(|pass| pass.periods.len()).sum();
        let (Choice::Each, Some(texts)) = (self.choice, plain::texts(plan, cells, &mut self.grouper, periods)) else { return Ok(false) };
        self.fit_checked()?;
        let metrics: Vec<usize> = masks.iter().map(|(metric, _)| *metric).collect();
        let by_text = texts.map(|texts| ByText::new(texts, &self.grouper));
        let pass = &mut self.passes[pass];
        if !plain::add(plan, &metrics, pass, cells, span_us, by_text, &mut self.scratch.sums).map_err(|_: Overflow| QueryError::Overflow)? {
            return Ok(false);
        }
        for metric in metrics {
            if let Measure::EventRevenue { skipped, .. } = plan.metrics[metric].measure
                && let Cells::Small(counts) = &cells.columns[skipped]
            {
                pass.skipped_items += counts.values().iter().map(|count| u64::from(*count)).sum::<u64>();
            }
        }
        Ok(true)
    }

    /// Finds the group and the period, so the cell, of every row that any metric counts.
    fn place_rows(&mut self, pass: usize, batch: &BatchCells<'_>, union: Option<&BooleanBuffer>) -> Result<(), QueryError> {
        let all = &mut self.scratch.all;
        match (&batch.items, self.plan.item_level) {
            (Some(items), true) => all.pick_items(batch.len, items, union),
            (None, true) => {
                all.clear();
            }
            (_, false) => all.pick(batch.len, union),
        }
        self.group(batch);
        if let Choice::Together(accepts) = self.choice {
            self.accept(accepts);
        }
        self.fit_checked()?;
        let Scratch { all, groups, .. } = &mut self.scratch;
        let Pass { periods, seen, .. } = &mut self.passes[pass];
        for group in groups.iter() {
            seen[*group as usize] = true;
        }
        let count = periods.len() as u32;
        let mut cells = std::mem::take(&mut all.cells);
        match (self.plan.time.map(|column| &batch.columns[column]), all.at()) {
            (Some(Cells::Int(times)), At::All(_)) if count > 1 => {
                cells.extend(groups.iter().zip(times.values()).map(|(group, time)| group * count + periods.index_of(*time)));
            }
            (Some(Cells::Int(times)), At::These(rows)) if count > 1 => {
                let times = times.values();
                cells.extend(groups.iter().zip(rows).map(|(group, row)| group * count + periods.index_of(times[*row as usize])));
            }
            // With one period the cell is the group.
            (_, _) => cells.extend_from_slice(groups),
        }
        all.cells = cells;
        Ok(())
    }

    /// Finds the group of every row.
    fn group(&mut self, batch: &BatchCells<'_>) {
        let Scratch { all, groups, .. } = &mut self.scratch;
        let fields: Vec<Cow<'_, Cells>> = self.plan.group_by.iter().map(|field| cells_of(batch, field.place)).collect();
        let at: Vec<(&Cells, At<'_>)> = fields
            .iter()
            .zip(&self.plan.group_by)
            .map(|(cells, field)| match field.place {
                Place::Item(_) => (&**cells, all.items()),
                Place::EventName | Place::Column(_) | Place::Absent => (&**cells, all.at()),
            })
            .collect();
        self.grouper.assign(&at, all.len(), groups);
    }

    /// Keeps the rows of accepted groups, as one group.
    fn accept(&mut self, accepts: &(dyn Fn(&[KeyValue]) -> bool + Sync)) {
        let (grouper, accepted) = (&self.grouper, &mut self.accepted);
        accepted.resize(grouper.len(), None);
        let Scratch { all, some, groups, .. } = &mut self.scratch;
        some.pick_from(all, |k, _| {
            let group = groups[k];
            *accepted[group as usize].get_or_insert_with(|| accepts(&grouper.keys(group)))
        });
        std::mem::swap(all, some);
        groups.clear();
        groups.resize(all.len(), 0);
    }

    /// Groups that have cells.
    fn groups(&self) -> usize {
        match self.choice {
            Choice::Each => self.grouper.len(),
            Choice::Together(_) => 1,
        }
    }

    /// Makes room for all groups found so far.
    fn fit(&mut self) {
        let groups = self.groups();
        for pass in &mut self.passes {
            if pass.seen.len() < groups {
                pass.seen.resize(groups, false);
                pass.tallies.iter_mut().for_each(|tally| tally.grow(groups * pass.periods.len()));
            }
        }
    }

    fn fit_checked(&mut self) -> Result<(), QueryError> {
        let groups = self.groups();
        let periods = self.passes.iter().map(|pass| pass.periods.len()).sum::<usize>();
        let cells_max = self.plan.limits.cells_max;
        // A report without groups always has an answer: its periods are bounded by themselves.
        if !self.plan.group_by.is_empty() && groups > 1 && groups.saturating_mul(periods) > cells_max {
            return Err(QueryError::TooManyGroups { groups, periods, cells_max });
        }
        self.fit();
        Ok(())
    }

    fn add(
        &mut self,
        pass: usize,
        batch: &Batch<'_>,
        union: Option<&BooleanBuffer>,
        masks: &[(usize, Option<BooleanBuffer>)],
    ) -> Result<(), QueryError> {
        let everything = union.map_or(batch.cells.len, BooleanBuffer::count_set_bits);
        let Scratch { all, some, seen, .. } = &mut self.scratch;
        let pass = &mut self.passes[pass];
        let mut left_out = LeftOut::default();
        for (at, own) in masks {
            let rows: &Rows = match own {
                Some(own) if own.count_set_bits() < everything => {
                    some.pick_from(all, |_, row| own.value(row));
                    some
                }
                Some(_) | None => all,
            };
            let metric = &self.plan.metrics[*at];
            let tally = &mut pass.tallies[*at];
            match metric.members {
                Some(persons) => members::add(tally, metric, persons, batch, rows),
                None => add(tally, metric, batch, rows, seen, &mut left_out),
            }
            if tally.has_overflown {
                return Err(QueryError::Overflow);
            }
        }
        pass.without_unit += left_out.without_unit();
        pass.skipped_items += left_out.skipped(batch);
        Ok(())
    }

    /// Starts a band of persons with these batches.
    pub(super) fn begin(&mut self, pass: usize, persons: Range<u32>, batches: &[ScanBatch]) {
        let Pass { periods, tallies, .. } = &mut self.passes[pass];
        for (metric, tally) in self.plan.metrics.iter().zip(tallies) {
            let mut of_metric = batches.iter().filter(|batch| metric.applies(&batch.event));
            let shared = shared_periods(periods, stretches(self.plan, of_metric.clone()).into_iter());
            let rows = of_metric.by_ref().map(|batch| batch.batch.num_rows()).sum();
            tally.begin(&Band { persons: persons.clone(), rows, shared: &shared });
        }
    }

    /// Ends a band of persons.
    pub(super) fn settle(&mut self, pass: usize) {
        for tally in &mut self.passes[pass].tallies {
            tally.settle(&mut self.marks);
        }
    }

    /// Ends the computation, when everything was taken in.
    pub(super) fn finish(&mut self) {
        for tally in self.passes.iter_mut().flat_map(|pass| &mut pass.tallies) {
            tally.finish(&mut self.marks);
        }
    }

    /// Takes in what another thread has computed of the same report.
    pub(super) fn merge(&mut self, other: Execution<'_>) -> Result<(), QueryError> {
        let groups = match self.choice {
            Choice::Each => self.grouper.merge(&other.grouper),
            Choice::Together(_) => vec![0],
        };
        self.fit_checked()?;
        for (mine, theirs) in self.passes.iter_mut().zip(other.passes) {
            let map = CellMap { groups: &groups, periods: mine.periods.len() };
            for (group, seen) in theirs.seen.into_iter().enumerate().filter(|(_, seen)| *seen) {
                mine.seen[groups[group] as usize] |= seen;
            }
            for (mine, theirs) in mine.tallies.iter_mut().zip(theirs.tallies) {
                mine.merge(theirs, &map);
                if mine.has_overflown {
                    return Err(QueryError::Overflow);
                }
            }
            mine.without_unit += theirs.without_unit;
            mine.skipped_items += theirs.skipped_items;
        }
        Ok(())
    }

    /// Bytes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.grouper.bytes() + self.passes.iter().flat_map(|pass| &pass.tallies).map(Tally::bytes).sum::<usize>()
    }
}

/// The times of batches, one after the other. Batches whose persons all come after those of the batch before are one stretch with it, as
/// the row groups of one file are: no person is in two of them.
fn stretches<'b>(plan: &Plan, batches: impl Iterator<Item = &'b ScanBatch>) -> Vec<(i64, i64)> {
    let person = plan.reads.iter().position(|place| plan.columns[*place] == Column::Person);
    let bounds = |batch: &ScanBatch| {
        let persons = batch.batch.columns().get(person?)?.as_primitive_opt::<UInt32Type>()?.values();
        Some((*persons.first()?, *persons.last()?))
    };
    let mut stretches: Vec<(i64, i64)> = Vec::new();
    let mut last_person = None;
    for batch in batches {
        let persons = bounds(batch);
        match (stretches.last_mut(), persons.zip(last_person)) {
            (Some(span), Some(((first, _), before))) if first > before => {
                *span = (span.0.min(batch.span_us.0), span.1.max(batch.span_us.1));
            }
            _ => stretches.push(batch.span_us),
        }
        last_person = persons.map(|(_, last)| last);
    }
    stretches
}

/// By period, whether more than one of these stretches of time touches it.
fn shared_periods(periods: &Periods, spans_us: impl Iterator<Item = (i64, i64)>) -> Vec<bool> {
    let range = periods.range();
    let mut starts_minus_ends = vec![0_i32; periods.len() + 1];
    for (first, last) in spans_us {
        let at = |time: i64| periods.index_of(time.clamp(range.start, range.end - 1)) as usize;
        starts_minus_ends[at(first)] += 1;
        starts_minus_ends[at(last) + 1] -= 1;
    }
    let mut open = 0;
    let is_shared = |change: &i32| {
        open += change;
        open > 1
    };
    starts_minus_ends.iter().take(periods.len()).map(is_shared).collect()
}

fn empty_tally(metric: &MetricPlan, periods: usize, is_shared: bool) -> Tally {
    let finish = if metric.members.is_some() { Finish::Numbers } else { metric.finish };
    Tally::new(finish, periods, is_shared)
}

/// Those of the rows that pass the filter; none is all rows.
fn narrowed(rows: Option<BooleanBuffer>, filter: &Predicate, batch: &BatchCells<'_>) -> Option<BooleanBuffer> {
    match (rows, filter) {
        (rows, Predicate::Always(true)) => rows,
        (None, filter) => Some(mask(filter, batch)),
        (Some(rows), filter) => Some(&rows & &mask(filter, batch)),
    }
}
