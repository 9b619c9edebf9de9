//! The partial results of retention as rows, and the answer from their sum.

use segue_engine::retention::Counts;
use segue_proto::analytics::v1 as pb;

use super::count::Counted;
use super::plan::Plan;
use crate::leaves::key::{Cell, RetentionCell, ValueProto};
use crate::leaves::{Cost, Row, Rows, selection};
use crate::pass::{NOBODY, Values, Within};
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;
use crate::sql::selection::Selection;

/// What a request reads.
pub(crate) fn reads(context: &Context<'_>, request: &pb::QueryRetentionRequest) -> Result<Selection, QueryError> {
    let plan = Plan::new(context, request, NOBODY)?;
    Ok(selection(&plan.selectors, None))
}

/// Counts the cohorts of some persons.
pub(crate) fn write(
    context: &Context<'_>,
    request: &pb::QueryRetentionRequest,
    within: Within<'_>,
    out: &mut Rows,
) -> Result<ScanStats, QueryError> {
    let plan = Plan::new(context, request, within)?;
    let values = Values::default();
    let (counted, stats) = super::count(context, &plan, &values, within)?;
    write_counts(None, &counted.total, out)?;
    for (code, counts) in counted.groups.groups() {
        write_counts(Some(ValueProto::of(&values.value(*code))), counts, out)?;
    }
    Ok(stats)
}

fn write_counts(group: Option<ValueProto>, counts: &Counts, out: &mut Rows) -> Result<(), QueryError> {
    for (place, count) in counts.numbers() {
        out.add(&Cell::Retention(RetentionCell { group: group.clone(), place }).key(), None, count)?;
    }
    Ok(())
}

/// The answer from the sum over everybody.
pub(crate) fn answer(
    context: &Context<'_>,
    request: &pb::QueryRetentionRequest,
    sum: Vec<Row>,
    cost: Cost,
) -> Result<pb::QueryRetentionResponse, QueryError> {
    let plan = Plan::new(context, request, NOBODY)?;
    let values = Values::default();
    let mut counted = Counted::default();
    for row in sum {
        let Cell::Retention(cell) = row.cell else { return Err(QueryError::BrokeOff) };
        let code = cell.group.map(|group| values.code(group.value()));
        counted.add(&plan, code, cell.place, row.amount);
    }
    let bytes_max = context.limits.report.bytes_max;
    if counted.groups.kept().saturating_mul(size_of::<u64>()) > bytes_max {
        return Err(QueryError::TooMuchMemory { what: "the groups of its breakdown", bytes_max });
    }
    let response = super::respond(context, plan, &values, &counted)?;
    Ok(pb::QueryRetentionResponse { stats: Some(cost.message()), ..response })
}
