//! The pass over the rows: batch by batch, filter, group, find periods, add to the tallies. Column at a time, nothing is
//! allocated per row, and what a batch does not need is not looked at.

use std::borrow::Cow;

use arrow::array::StringArray;
use arrow::buffer::BooleanBuffer;

use super::gather::{LeftOut, Rows, add_field, add_measure};
use super::grouping::Grouper;
use super::metric::{Measure, MetricPlan};
use super::plan::Plan;
use super::tally::{Additions, Tally};
use crate::filter::cells::{BatchCells, Cells, TextCells};
use crate::filter::fields::Place;
use crate::filter::matching::mask;
use crate::filter::predicate::Predicate;
use crate::question::QueryError;
use crate::question::time::{Periods, RangeUs};
use crate::scan::ScanBatch;

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
    kept: usize,
}

/// A report being computed: both ranges share their groups.
#[derive(Debug)]
pub(super) struct Execution<'p> {
    /// The question.
    pub(super) plan: &'p Plan,
    /// The groups so far.
    pub(super) grouper: Grouper,
    /// The range, then the comparison range if there is one.
    pub(super) passes: Vec<Pass>,
    scratch: Scratch,
}

/// Rows in hand; kept between batches for their memory.
#[derive(Debug, Default)]
struct Scratch {
    all: Rows,
    some: Rows,
    groups: Vec<u32>,
    field_at: Vec<u32>,
    field_cells: Vec<u32>,
}

impl<'p> Execution<'p> {
    /// Nothing seen yet.
    pub(super) fn new(plan: &'p Plan) -> Self {
        let pass = |periods: &Periods| Pass {
            periods: periods.clone(),
            tallies: plan.metrics.iter().map(empty_tally).collect(),
            seen: Vec::new(),
            without_unit: 0,
            skipped_items: 0,
            kept: 0,
        };
        let passes = [&plan.periods].into_iter().chain(&plan.comparison).map(pass).collect();
        let grouper = Grouper::new(plan.group_by.iter().map(|field| field.kind));
        let mut execution = Execution { plan, grouper, passes, scratch: Scratch::default() };
        execution.fit();
        execution
    }

    /// The range of a pass.
    pub(super) fn range(&self, pass: usize) -> RangeUs {
        self.passes[pass].periods.range()
    }

    /// Takes rows of the range of pass `pass`; the batch holds the plan's columns.
    pub(super) fn push(&mut self, pass: usize, batch: &ScanBatch) -> Result<(), QueryError> {
        let applies = |metric: &MetricPlan| metric.events.as_ref().is_none_or(|events| events.iter().any(|name| **name == *batch.event));
        if batch.batch.num_rows() == 0 || !self.plan.metrics.iter().any(applies) {
            return Ok(());
        }
        let cells = BatchCells::new(batch, &self.plan.columns, &self.plan.items)?;
        let passing = mask(&self.plan.filter, &cells);
        if passing.count_set_bits() == 0 {
            return Ok(());
        }
        let mut masks: Vec<(usize, BooleanBuffer)> = Vec::new();
        let mut union = BooleanBuffer::new_unset(cells.len);
        for (at, metric) in self.plan.metrics.iter().enumerate().filter(|(_, metric)| applies(metric)) {
            let own = match metric.filter {
                Predicate::Always(true) => passing.clone(),
                _ => &passing & &mask(&metric.filter, &cells),
            };
            union = &union | &own;
            masks.push((at, own));
        }
        self.place_rows(pass, &cells, &union)?;
        self.add(pass, &cells, &union, &masks)
    }

    /// Finds the group and the period, so the cell, of every row that any metric counts.
    fn place_rows(&mut self, pass: usize, batch: &BatchCells<'_>, union: &BooleanBuffer) -> Result<(), QueryError> {
        let Scratch { all, groups, .. } = &mut self.scratch;
        all.clear();
        match (&batch.items, self.plan.item_level) {
            (Some(items), true) => {
                for row in union.set_indices_u32() {
                    for item in items.starts[row as usize]..items.ends[row as usize] {
                        all.rows.push(row);
                        all.items.push(item);
                    }
                }
            }
            (None, true) => {}
            (_, false) => all.rows.extend(union.set_indices_u32()),
        }
        let fields: Vec<Cow<'_, Cells>> = self.plan.group_by.iter().map(|field| cells_of(batch, field.place)).collect();
        let at: Vec<(&Cells, &[u32])> = fields
            .iter()
            .zip(&self.plan.group_by)
            .map(|(cells, field)| match field.place {
                Place::Item(_) => (&**cells, all.items.as_slice()),
                Place::EventName | Place::Column(_) | Place::Absent => (&**cells, all.rows.as_slice()),
            })
            .collect();
        self.grouper.assign(&at, all.rows.len(), groups);
        self.fit_checked()?;
        let Scratch { all, groups, .. } = &mut self.scratch;
        let Pass { periods, seen, .. } = &mut self.passes[pass];
        for group in groups.iter() {
            seen[*group as usize] = true;
        }
        let count = periods.len() as u32;
        match self.plan.time.map(|column| &batch.columns[column]) {
            Some(Cells::Int(times)) if count > 1 => {
                let times = times.values();
                let mut near = 0;
                all.cells.extend(all.rows.iter().zip(groups.iter()).map(|(row, group)| {
                    near = periods.index_of(times[*row as usize], near);
                    group * count + near as u32
                }));
            }
            // With one period the cell is the group.
            Some(_) | None => all.cells.extend_from_slice(groups),
        }
        Ok(())
    }

    /// Makes room for all groups found so far.
    fn fit(&mut self) {
        let groups = self.grouper.len();
        for pass in &mut self.passes {
            pass.seen.resize(groups, false);
            for tally in &mut pass.tallies {
                tally.grow(groups * pass.periods.len());
            }
        }
    }

    fn fit_checked(&mut self) -> Result<(), QueryError> {
        let groups = self.grouper.len();
        let periods = self.passes.iter().map(|pass| pass.periods.len()).sum::<usize>();
        let cells_max = self.plan.limits.cells_max;
        // A report without groups always has an answer: its periods are bounded by themselves.
        if !self.plan.group_by.is_empty() && groups.saturating_mul(periods) > cells_max {
            return Err(QueryError::TooManyGroups { groups, periods, cells_max });
        }
        self.fit();
        Ok(())
    }

    fn add(
        &mut self,
        pass: usize,
        batch: &BatchCells<'_>,
        union: &BooleanBuffer,
        masks: &[(usize, BooleanBuffer)],
    ) -> Result<(), QueryError> {
        let everything = union.count_set_bits();
        let Scratch { all, some, field_at, field_cells, .. } = &mut self.scratch;
        let pass = &mut self.passes[pass];
        let mut left_out = LeftOut::default();
        let mut additions = Additions::default();
        for (at, own) in masks {
            let rows: &Rows = if own.count_set_bits() == everything {
                all
            } else {
                some.clear();
                for (k, row) in all.rows.iter().enumerate() {
                    if own.value(*row as usize) {
                        some.rows.push(*row);
                        some.cells.push(all.cells[k]);
                        some.items.extend(all.items.get(k));
                    }
                }
                some
            };
            let metric = &self.plan.metrics[*at];
            let tally = &mut pass.tallies[*at];
            match metric.measure {
                Measure::Field { place, .. } => {
                    let (at, cells) = observations(batch, place, rows, self.plan.item_level, field_at, field_cells);
                    add_field(tally, metric.finish, &cells_of(batch, place), at, cells, &mut additions);
                }
                measure => add_measure(tally, measure, batch, rows, &mut left_out, &mut additions),
            }
        }
        pass.without_unit += left_out.units.iter().filter(|out| **out).count() as u64;
        pass.skipped_items += left_out.skipped(batch);
        pass.kept += additions.kept;
        if additions.overflow {
            return Err(QueryError::Overflow);
        }
        let values_max = self.plan.limits.values_max;
        if pass.kept > values_max {
            return Err(QueryError::TooManyValues { values_max });
        }
        Ok(())
    }
}

fn empty_tally(metric: &MetricPlan) -> Tally {
    let text = match metric.measure {
        Measure::Field { text, .. } => text,
        Measure::Accounts(_) => true,
        Measure::Total
        | Measure::Persons(_)
        | Measure::Devices(_)
        | Measure::Sessions { .. }
        | Measure::EventRevenue { .. }
        | Measure::ItemRevenue { .. } => false,
    };
    Tally::new(metric.finish, text)
}

/// The values of a field. The event's name is a column of one text.
fn cells_of<'b>(batch: &'b BatchCells<'_>, place: Place) -> Cow<'b, Cells> {
    match place {
        Place::Column(at) => Cow::Borrowed(&batch.columns[at]),
        Place::Item(at) => batch.items.as_ref().map_or(Cow::Owned(Cells::Missing), |items| Cow::Borrowed(&items.fields[at])),
        Place::Absent => Cow::Owned(Cells::Missing),
        Place::EventName => {
            Cow::Owned(Cells::Text(TextCells { codes: vec![0; batch.len].into(), values: StringArray::from(vec![batch.event]) }))
        }
    }
}

/// Where the values of a metric's field stand, and the cell that each counts in: one per row, or, for an item's field in a report
/// of events, one per item of each row.
fn observations<'s>(
    batch: &BatchCells<'_>,
    place: Place,
    rows: &'s Rows,
    item_level: bool,
    at: &'s mut Vec<u32>,
    cells: &'s mut Vec<u32>,
) -> (&'s [u32], &'s [u32]) {
    match (place, &batch.items) {
        (Place::Item(_), _) if item_level => (&rows.items, &rows.cells),
        (Place::Item(_), Some(items)) => {
            at.clear();
            cells.clear();
            for (row, cell) in rows.rows.iter().zip(&rows.cells) {
                let own = items.starts[*row as usize]..items.ends[*row as usize];
                cells.extend(own.clone().map(|_| *cell));
                at.extend(own);
            }
            (at, cells)
        }
        (Place::Item(_), None) => (&[], &[]),
        (Place::EventName | Place::Column(_) | Place::Absent, _) => (&rows.rows, &rows.cells),
    }
}
