//! The persons behind a number of the report: of those who had an event (with item groups: an item) that its metric counted.

use std::collections::HashSet;

use arrow::buffer::BooleanBuffer;
use roaring::RoaringBitmap;
use segue_proto::analytics::v1 as pb;
use segue_proto::query::v1::TimeRange;

use super::execute::Choice;
use super::gather::cells_of;
use super::metric::{Measure, MetricPlan};
use super::plan::Plan;
use super::rows::{Batch, Rows};
use super::tally::{Finish, Tally};
use super::{answer, bands};
use crate::filter::cells::{At, Cells};
use crate::filter::fields::Place;
use crate::pass::KeyValue;
use crate::question::time::{Periods, RangeUs, bound_us, timestamp};
use crate::question::{Context, QueryError};
use crate::scan::Column;

/// Finds the persons behind a number of the answer to `request`, over what is indexed by now.
pub(super) fn find(context: &Context<'_>, request: &pb::QueryEventsRequest, cell: &pb::EventCell) -> Result<RoaringBitmap, QueryError> {
    let plan = Plan::new(context, request)?;
    let Some(metric) = request.metrics.get(cell.metric as usize) else {
        let fault = format!("the report has {} metric(s), counted from 0", request.metrics.len());
        return Err(QueryError::invalid("report.event.metric", fault));
    };
    let periods = match (cell.comparison, &plan.comparison) {
        (false, _) => &plan.periods,
        (true, Some(comparison)) => comparison,
        (true, None) => return Err(QueryError::invalid("report.event.comparison", "the report compares with no other range")),
    };
    let range = range_of(&plan, periods, cell)?;
    let group = Wanted::of(context, request, &plan, cell)?;
    let narrowed = pb::QueryEventsRequest {
        range: Some(TimeRange { start: Some(timestamp(range.start)), end: Some(timestamp(range.end)) }),
        grain: pb::Grain::Unspecified as i32,
        metrics: vec![metric.clone()],
        formulas: Vec::new(),
        compare_start: None,
        among: None,
        ..request.clone()
    };
    let among = plan.among.map(|(_, persons)| persons);
    let mut plan = Plan::new(context, &narrowed)?;
    let person = plan.read(Column::Person);
    plan.among = among.map(|persons| (person, persons));
    plan.metrics.iter_mut().for_each(|metric| metric.members = Some(person));
    let accepts = |keys: &[KeyValue]| group.accepts(keys);
    let (execution, _) = bands::run(context, &plan, Choice::Together(&accepts))?;
    let tally = execution.passes.into_iter().next().and_then(|pass| pass.tallies.into_iter().next());
    Ok(tally.map(Tally::into_numbers).unwrap_or_default())
}

/// The period that the cell is of.
fn range_of(plan: &Plan, periods: &Periods, cell: &pb::EventCell) -> Result<RangeUs, QueryError> {
    let Some(period) = &cell.period else { return Ok(periods.range()) };
    let place = || periods.starts().iter().position(|start| Some(*start) == bound_us(period));
    match plan.has_grain.then(place).flatten() {
        Some(at) => {
            let end = periods.starts().get(at + 1).copied().unwrap_or(periods.range().end);
            Ok(RangeUs { start: periods.starts()[at], end })
        }
        None => Err(QueryError::invalid("report.event.period", "not the start of a period of the answer")),
    }
}

/// The groups that the cell is of.
enum Wanted {
    All,
    /// The one with these values.
    One(Vec<KeyValue>),
    /// All but those that are shown.
    Other(HashSet<Vec<KeyValue>>),
}

impl Wanted {
    fn of(context: &Context<'_>, request: &pb::QueryEventsRequest, plan: &Plan, cell: &pb::EventCell) -> Result<Wanted, QueryError> {
        let Some(group) = &cell.group else { return Ok(Wanted::All) };
        if group.other {
            // Which groups are shown depends on all of the main range, but not on its periods.
            let whole = pb::QueryEventsRequest {
                grain: pb::Grain::Unspecified as i32,
                formulas: Vec::new(),
                compare_start: None,
                among: None,
                ..request.clone()
            };
            let among = plan.among.as_ref().map(|(_, persons)| persons.clone());
            let mut plan = Plan::new(context, &whole)?;
            plan.among = among.map(|persons| (plan.read(Column::Person), persons));
            let (execution, _) = bands::run(context, &plan, Choice::Each)?;
            return Ok(Wanted::Other(answer::rank(&execution).shown_keys(&execution)));
        }
        if group.values.len() != plan.group_by.len() {
            let fault = format!("the report groups by {} field(s): give a value for each", plan.group_by.len());
            return Err(QueryError::invalid("report.event.group.values", fault));
        }
        let keys = group.values.iter().map(KeyValue::of_group_value).collect::<Option<Vec<_>>>();
        keys.map(Wanted::One).ok_or_else(|| QueryError::invalid("report.event.group.values", "not values of groups"))
    }

    fn accepts(&self, keys: &[KeyValue]) -> bool {
        match self {
            Wanted::All => true,
            Wanted::One(wanted) => wanted == keys,
            Wanted::Other(shown) => !shown.contains(keys),
        }
    }
}

/// Which of the rows a metric counts.
enum Counted {
    All,
    /// By row of the batch.
    Rows(BooleanBuffer),
    /// By item, where the row is the item.
    Items(BooleanBuffer),
    /// By item: any of the row's.
    AnyItem(BooleanBuffer),
}

/// Adds the persons of those of the rows that the metric counts.
pub(super) fn add(tally: &mut Tally, metric: &MetricPlan, persons: usize, batch: &Batch<'_>, rows: &Rows) {
    let Cells::Number(persons) = &batch.cells.columns[persons] else { return };
    let counted = counted(metric, batch, !rows.items.is_empty());
    let items = batch.cells.items.as_ref();
    let (mut taken, mut cells) = (Vec::new(), Vec::new());
    rows.at().each(|k, row| {
        let is_counted = match &counted {
            Counted::All => true,
            Counted::Rows(valid) => valid.value(row),
            Counted::Items(valid) => rows.items.get(k).is_some_and(|item| valid.value(*item as usize)),
            Counted::AnyItem(valid) => {
                items.is_some_and(|items| (items.starts[row]..items.ends[row]).any(|item| valid.value(item as usize)))
            }
        };
        if is_counted {
            taken.push(row as u32);
            cells.push(rows.cells[k]);
        }
    });
    tally.add_numbers(persons.values(), At::These(&taken), &cells, |_| {});
}

fn counted(metric: &MetricPlan, batch: &Batch<'_>, is_item_level: bool) -> Counted {
    let (len, columns) = (batch.cells.len, &batch.cells.columns);
    match metric.measure {
        Measure::Total => Counted::All,
        Measure::Numbers(column) => match &columns[column] {
            Cells::Number(numbers) => Counted::Rows(BooleanBuffer::collect_bool(len, |row| numbers.value(row) != 0)),
            _ => Counted::Rows(BooleanBuffer::new_unset(len)),
        },
        Measure::Accounts(column) | Measure::Sessions { session: column, .. } => Counted::Rows(columns[column].present(len)),
        Measure::EventRevenue { value, .. } => Counted::Rows(columns[value].present(len)),
        Measure::ItemRevenue { price, quantity } => match &batch.cells.items {
            Some(items) => Counted::Items(&items.fields[price].present(items.len) & &items.fields[quantity].present(items.len)),
            None => Counted::Rows(BooleanBuffer::new_unset(len)),
        },
        Measure::Field(place) => {
            let values = cells_of(&batch.cells, place);
            let of_items = matches!(place, Place::Item(_));
            let len = if of_items { batch.cells.items.as_ref().map_or(0, |items| items.len) } else { len };
            let mut valid = values.present(len);
            // What is not a number is no value of an aggregation of numbers.
            if let (Cells::Double(numbers), false) = (&*values, matches!(metric.finish, Finish::Count | Finish::Keys)) {
                valid = &valid & &BooleanBuffer::collect_bool(len, |at| !numbers.value(at).is_nan());
            }
            match (of_items, is_item_level) {
                (false, _) => Counted::Rows(valid),
                (true, true) => Counted::Items(valid),
                (true, false) => Counted::AnyItem(valid),
            }
        }
    }
}
