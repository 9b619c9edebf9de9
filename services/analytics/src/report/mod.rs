//! The general event report: how often, by how many, how much, per period and group.
//!
//! The way of a request: `plan` checks it and resolves its names (`metric`, `formula`, and the filters of `crate::filter`);
//! `execute` passes once over the rows of each range, batch by batch (`grouping`
//! finds groups, `gather` adds to the tallies of `tally`); `answer` ranks the groups and writes the numbers.
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
//! - Averages, percentiles and quotients are floating point; counts and sums of whole numbers and decimals are exact.
//!
//! To add an aggregation: a `tally::Finish`, its tally, and a line in `metric`.

use std::time::Instant;

use segue_proto::analytics::v1 as pb;
use tokio_util::sync::CancellationToken;

use crate::scan::{ScanStats, Snapshot};

mod answer;
mod dimensions;
mod execute;
mod figure;
mod formula;
mod gather;
mod grouping;
mod metric;
mod plan;
mod tally;

pub use plan::{ReportDefaults, ReportLimits};

use crate::filter::fields::Vocabulary;
use crate::question::time;
use crate::question::token::Asked;
use crate::question::{Context, QueryError};
use plan::Plan;

/// Computes the report over a snapshot. Plain, blocking work: call it on a blocking thread. `cancel` is looked at before every
/// batch.
pub fn query_events(
    snapshot: &Snapshot,
    defaults: &ReportDefaults,
    request: &pb::QueryEventsRequest,
    cancel: &CancellationToken,
) -> Result<pb::QueryEventsResponse, QueryError> {
    let started = Instant::now();
    let plan = Plan::new(request, &vocabulary(snapshot), defaults)?;
    let mut execution = execute::Execution::new(&plan);
    let mut stats = ScanStats::default();
    for pass in 0..execution.passes.len() {
        let mut scan = snapshot.scan(plan.scan(execution.range(pass)));
        for batch in scan.by_ref() {
            if cancel.is_cancelled() {
                return Err(QueryError::Cancelled);
            }
            execution.push(pass, &batch?)?;
        }
        let of_pass = scan.stats();
        stats.rows += of_pass.rows;
        stats.tail_rows += of_pass.tail_rows;
        // Both ranges may read the same file; it is counted for each.
        stats.files += of_pass.files;
    }
    let answer = answer::answer(&execution);
    let (without_unit, skipped_items) = execution.passes.first().map_or((0, 0), |main| (main.without_unit, main.skipped_items));
    let watermark = Some(time::timestamp(snapshot.watermark_us()));
    Ok(pb::QueryEventsResponse {
        options: Some(pb::ResolvedOptions { watermark, ..plan.resolved.clone() }),
        groups: answer.groups,
        comparison: answer.comparison,
        total: Some(answer.total),
        groups_total: answer.groups_total,
        skipped_items,
        without_unit,
        stats: Some(pb::ExecutionStats {
            rows_scanned: stats.rows,
            files: stats.files,
            tail_rows: stats.tail_rows,
            seconds: started.elapsed().as_secs_f64(),
        }),
        persons_token: Asked::Events(request.clone()).token(),
    })
}

/// Answers the question in its context.
pub(crate) fn query(context: &Context<'_>, request: &pb::QueryEventsRequest) -> Result<pb::QueryEventsResponse, QueryError> {
    let defaults = ReportDefaults { zone: context.zone, limits: context.limits.report };
    query_events(context.snapshot, &defaults, request, context.cancel)
}

/// Every dimension and property that reports can name.
pub fn list_dimensions(snapshot: &Snapshot) -> pb::ListDimensionsResponse {
    pb::ListDimensionsResponse { dimensions: dimensions::list(&vocabulary(snapshot)) }
}

fn vocabulary(snapshot: &Snapshot) -> Vocabulary {
    Vocabulary::new(snapshot.properties().iter().cloned(), snapshot.event_names().is_empty())
}
