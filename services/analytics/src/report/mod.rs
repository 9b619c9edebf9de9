//! The general event report: how often, by how many, how much, per period and group.
//!
//! The way of a request: `plan` checks it and resolves its names (`frame`, `metric`, `formula`, `attribution`, and the filters of
//! `crate::filter`); `bands` spreads it over threads; `execute` passes once over the rows of each range, batch by batch (`touches`
//! credits rows, `rows` picks them, `grouping` finds groups, `gather` adds to the tallies of `tally`, `plain` does all of that at once for the most frequent reports); `answer` ranks the groups and
//! writes the numbers. `members` finds the persons behind one of them.
//!
//! # What the numbers mean
//!
//! - Ranges are half-open. Periods are calendar buckets of the zone; the first and the last are cut by the range, and the
//!   first starts with it. Without a grain a group has totals and no periods.
//! - The row is the event, or, as soon as a group-by is an item property, the item: an event without items is then in no group,
//!   an event's own field counts once per item, and all item fields of one row are of the same item. Filters test events in
//!   either case: one on an item property chooses events, not items.
//! - A metric of an item's field (`sum` of `quantity`) takes every item of the event when the row is the event.
//! - A group is there if any metric counted a row in it in the main range. The comparison range has the same groups; what
//!   only occurs there is in its `other`.
//! - Averages, percentiles and quotients are floating point; counts and sums of whole numbers and decimals are exact. Sums of
//!   floating-point numbers are rounded once, so that they do not depend on the order of rows.
//! - An attribution-dependent dimension has the values of the touch that its model credits, missing without one. All such
//!   dimensions of a row are of the same touch. Where a model shares credit, a row stands in the group of every touch with its
//!   share: totals, counts, revenue and sums of whole numbers and decimals of the whole report are then decimals (also where a
//!   metric's rows were not shared, so that a report's columns are of one kind), sums of floating-point numbers stay so.
//!
//! To add an aggregation: a `tally::Finish`, its tally, and a line in `metric`.

use std::time::Instant;

use roaring::RoaringBitmap;
use segue_proto::analytics::v1 as pb;

use crate::pass::KeyValue;
use crate::question::time::timestamp;
use crate::question::token::Asked;
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;

mod answer;
mod attribution;
mod bands;
mod dimensions;
mod execute;
mod figure;
mod formula;
mod frame;
mod gather;
mod grouping;
mod members;
mod metric;
mod plain;
mod plan;
mod rows;
mod tally;
mod touches;

pub use plan::ReportLimits;

use answer::{Rest, answer, rank};
use execute::{Choice, Execution};
use plan::Plan;

/// Computes the report.
pub fn query(context: &Context<'_>, request: &pb::QueryEventsRequest) -> Result<pb::QueryEventsResponse, QueryError> {
    let started = Instant::now();
    let plan = Plan::new(context, request)?;
    let (execution, stats) = bands::run(context, &plan, Choice::Each)?;
    let ranking = rank(&execution);
    let shown = ranking.shown_keys(&execution);
    let not_shown = |keys: &[KeyValue]| !shown.contains(keys);
    let banded = banded(&execution);
    let (answer, of_rest) = if ranking.has_rest() && banded.iter().any(Option::is_some) {
        let of = |(metric, banded): (_, &Option<usize>)| banded.map(|_| metric);
        let metrics = plan.metrics.iter().cloned().zip(&banded).filter_map(of).collect();
        let plan = Plan { metrics, ..plan.clone() };
        let (rest, stats) = bands::run(context, &plan, Choice::Together(&not_shown))?;
        (answer(&execution, &ranking, Some(&Rest { execution: &rest, metrics: banded })), stats)
    } else {
        (answer(&execution, &ranking, None), ScanStats::default())
    };
    let (without_unit, skipped_items) = execution.passes.first().map_or((0, 0), |main| (main.without_unit, main.skipped_items));
    let watermark = Some(timestamp(context.snapshot.watermark_us()));
    Ok(pb::QueryEventsResponse {
        options: Some(pb::ResolvedOptions { watermark, ..plan.resolved.clone() }),
        groups: answer.groups,
        comparison: answer.comparison,
        total: Some(answer.total),
        groups_total: answer.groups_total,
        skipped_items,
        without_unit,
        stats: Some(pb::ExecutionStats {
            rows_scanned: stats.rows + of_rest.rows,
            files: stats.files,
            tail_rows: stats.tail_rows + of_rest.tail_rows,
            seconds: started.elapsed().as_secs_f64(),
        }),
        persons_token: Asked::Events(plan.asked(request)).token(),
    })
}

/// Metrics whose figure of several groups is not that of their cells: their numbers among such metrics.
fn banded(execution: &Execution<'_>) -> Vec<Option<usize>> {
    let tallies = execution.passes.first().map_or(&[][..], |main| &main.tallies);
    let mut count = 0;
    let number = |is_banded: bool| {
        is_banded.then(|| {
            count += 1;
            count - 1
        })
    };
    tallies.iter().map(|tally| tally.is_banded()).map(number).collect()
}

/// The persons behind a number of the answer to `request`, over what is indexed by now.
pub fn persons(context: &Context<'_>, request: &pb::QueryEventsRequest, cell: &pb::EventCell) -> Result<RoaringBitmap, QueryError> {
    members::find(context, request, cell)
}

/// Every dimension and property that reports can name.
pub fn list_dimensions(context: &Context<'_>) -> pb::ListDimensionsResponse {
    pb::ListDimensionsResponse { dimensions: dimensions::list(&context.vocabulary()) }
}
