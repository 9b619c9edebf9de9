//! Who meets a condition, and how many, as rows of parts of the persons; and the answers from their sum.

use roaring::RoaringBitmap;
use segue_proto::analytics::v1 as pb;
use segue_proto::analytics::v1::select_persons_request::Who;

use super::{Asked, Page, all_right, selected};
use crate::condition::{self, Plan};
use crate::leaves::key::{Cell, ConditionCell, ConditionFigure};
use crate::leaves::{Cost, Row, Rows, persons_by_chunk};
use crate::pass::{Within, persons_of};
use crate::question::time::timestamp;
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;

fn key(figure: ConditionFigure, node: usize, persons: Vec<u8>) -> Vec<u8> {
    Cell::Condition(ConditionCell { figure: figure.into(), node: node as u32, persons }).key()
}

/// Those of the persons of a part who are asked about.
fn asked_of(asked: &Asked, part: &RoaringBitmap) -> RoaringBitmap {
    asked.within.as_ref().map_or_else(|| part.clone(), |within| within & part)
}

/// The persons of a part.
fn part_of(context: &Context<'_>, within: Within<'_>) -> Result<RoaringBitmap, QueryError> {
    let known = context.snapshot.persons()?;
    Ok(within.map_or_else(|| (*known).clone(), |ranges| persons_of(ranges) & &*known))
}

/// Checks a count.
pub(crate) fn check_count(context: &Context<'_>, request: &pb::CountPersonsRequest) -> Result<(), QueryError> {
    Asked::of_count(context, request).map(|_| ())
}

/// Counts those of some persons who meet each node of the condition.
pub(crate) fn write_count(
    context: &Context<'_>,
    request: &pb::CountPersonsRequest,
    within: Within<'_>,
    out: &mut Rows,
) -> Result<ScanStats, QueryError> {
    let (asked, plan) = Asked::of_count(context, request)?;
    let part = part_of(context, within)?;
    let evaluated = condition::count(context, &plan, asked.now_us, Some(&asked_of(&asked, &part)))?;
    out.add(&key(ConditionFigure::Known, 0, Vec::new()), None, part.len())?;
    out.add(&key(ConditionFigure::Met, 0, Vec::new()), None, evaluated.persons.len())?;
    for (node, count) in evaluated.node_counts.iter().enumerate() {
        out.add(&key(ConditionFigure::Node, node, Vec::new()), None, *count)?;
    }
    Ok(evaluated.stats)
}

/// The counts from the sum over everybody.
pub(crate) fn answer_count(
    context: &Context<'_>,
    request: &pb::CountPersonsRequest,
    sum: Vec<Row>,
    cost: Cost,
) -> Result<pb::CountPersonsResponse, QueryError> {
    let (asked, plan) = Asked::of_count(context, request)?;
    let mut response = pb::CountPersonsResponse {
        node_counts: vec![0; plan.nodes()],
        as_of: Some(timestamp(asked.now_us)),
        watermark: Some(timestamp(context.snapshot.watermark_us())),
        stats: Some(cost.message()),
        ..pb::CountPersonsResponse::default()
    };
    for row in sum {
        let Cell::Condition(cell) = row.cell else { return Err(QueryError::BrokeOff) };
        let count = match ConditionFigure::try_from(cell.figure) {
            Ok(ConditionFigure::Met) => Some(&mut response.count),
            Ok(ConditionFigure::Known) => Some(&mut response.persons_total),
            Ok(ConditionFigure::Node) => response.node_counts.get_mut(cell.node as usize),
            Ok(ConditionFigure::Persons | ConditionFigure::Unspecified) | Err(_) => None,
        };
        *count.ok_or(QueryError::BrokeOff)? += row.amount;
    }
    Ok(response)
}

/// Checks a selection, which has to be by a condition.
fn selection(context: &Context<'_>, request: &pb::SelectPersonsRequest) -> Result<(Asked, Page, Plan), QueryError> {
    let mut faults = Vec::new();
    let page = Page::parse(request, &mut faults);
    let asked = Asked::parse(context, request.as_of.as_ref(), &request.time_zone, &request.within, &mut faults)?;
    let condition = match &request.who {
        Some(Who::Condition(condition)) => Some(condition),
        Some(Who::Report(_)) => {
            return Err(QueryError::invalid("report", "the persons behind a report are not selected in parts: take a condition"));
        }
        None => None,
    };
    let plan = asked.plan(context, condition, &mut faults);
    Ok((asked, page, all_right(plan, faults)?))
}

/// Checks a selection.
pub(crate) fn check_select(context: &Context<'_>, request: &pb::SelectPersonsRequest) -> Result<(), QueryError> {
    selection(context, request).map(|_| ())
}

/// Lists those of some persons who meet the condition.
pub(crate) fn write_select(
    context: &Context<'_>,
    request: &pb::SelectPersonsRequest,
    within: Within<'_>,
    out: &mut Rows,
) -> Result<ScanStats, QueryError> {
    let (asked, _, plan) = selection(context, request)?;
    let part = part_of(context, within)?;
    let evaluated = condition::evaluate(context, &plan, asked.now_us, Some(&asked_of(&asked, &part)))?;
    for (bytes, count) in persons_by_chunk(evaluated.persons) {
        out.add(&key(ConditionFigure::Persons, 0, bytes), None, count)?;
    }
    Ok(evaluated.stats)
}

/// The persons from the sum over everybody.
pub(crate) fn answer_select(
    context: &Context<'_>,
    request: &pb::SelectPersonsRequest,
    sum: Vec<Row>,
    cost: Cost,
) -> Result<pb::SelectPersonsResponse, QueryError> {
    let (asked, page, _) = selection(context, request)?;
    let mut persons = RoaringBitmap::new();
    for row in sum {
        let Cell::Condition(cell) = row.cell else { return Err(QueryError::BrokeOff) };
        persons |= RoaringBitmap::deserialize_from(cell.persons.as_slice()).map_err(|_| QueryError::BrokeOff)?;
    }
    Ok(selected(context, &persons, asked.now_us, (!request.bitmap).then_some(&page), cost))
}
