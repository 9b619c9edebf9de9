//! The funnel's partial results as rows, and the answer from their sum.

use segue_engine::funnel::{Since, Tally};
use segue_proto::analytics::v1 as pb;

use super::answer;
use super::collect::{Groups, Tallies};
use super::pass::FunnelQuestion;
use super::plan::Plan;
use crate::leaves::key::{Cell, FunnelCell, FunnelFigure, ValueProto};
use crate::leaves::{Cost, Row, Rows, selection};
use crate::pass::{KeyValue, NOBODY, Values, Within};
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;
use crate::sql::selection::Selection;

/// What a request reads.
pub(crate) fn reads(context: &Context<'_>, request: &pb::QueryFunnelRequest) -> Result<Selection, QueryError> {
    let plan = Plan::new(context, request, NOBODY)?;
    Ok(selection(&plan.selectors, plan.others))
}

/// Counts the attempts of some persons.
pub(crate) fn write(
    context: &Context<'_>,
    request: &pb::QueryFunnelRequest,
    within: Within<'_>,
    out: &mut Rows,
) -> Result<ScanStats, QueryError> {
    let plan = Plan::new(context, request, within)?;
    let tallies = Tallies::new(&plan, context.limits.report);
    let question = FunnelQuestion::new(&plan, &tallies, context.limits.report.bytes_max);
    let (found, stats) = question.run(context, within)?;
    let found = tallies.checked(found)?;
    for (code, tally) in found.iter() {
        let value = ValueProto::of(&question.values().value(code));
        write_tally(&value, tally, plan.rule.steps(), out)?;
    }
    Ok(stats)
}

fn write_tally(value: &ValueProto, tally: &Tally, steps: usize, out: &mut Rows) -> Result<(), QueryError> {
    let key = |figure: FunnelFigure, number: usize| {
        Cell::Funnel(FunnelCell { value: Some(value.clone()), figure: figure.into(), step: number as u32 }).key()
    };
    for number in 1..=steps {
        out.add(&key(FunnelFigure::Reached, number), None, tally.reached(number))?;
        out.add(&key(FunnelFigure::StillOpen, number), None, tally.still_open(number))?;
    }
    for number in 2..=steps {
        // From the first step to the second is from the one before.
        let sinces = [(FunnelFigure::SincePrevious, Since::Previous), (FunnelFigure::SinceFirst, Since::First)];
        for (figure, since) in sinces.into_iter().take(if number == 2 { 1 } else { 2 }) {
            let key = key(figure, number);
            for duration_us in tally.durations(number, since) {
                out.add(&key, Some(duration_us.cast_signed()), 1)?;
            }
        }
    }
    Ok(())
}

/// The answer from the sum over everybody.
pub(crate) fn answer(
    context: &Context<'_>,
    request: &pb::QueryFunnelRequest,
    sum: Vec<Row>,
    cost: Cost,
) -> Result<pb::QueryFunnelResponse, QueryError> {
    let plan = Plan::new(context, request, NOBODY)?;
    let tallies = Tallies::new(&plan, context.limits.report);
    let values = Values::default();
    let mut groups = Groups::default();
    for row in sum {
        let (duration_us, amount) = (row.duration_us(), row.amount);
        let Cell::Funnel(cell) = row.cell else { return Err(QueryError::BrokeOff) };
        let number = cell.step as usize;
        let code = values.code(cell.value.map_or(KeyValue::Missing, ValueProto::value));
        let tally = groups.tally(code, plan.rule.steps());
        match FunnelFigure::try_from(cell.figure) {
            Ok(FunnelFigure::Reached) => tally.add_reached(number, amount),
            Ok(FunnelFigure::StillOpen) => tally.add_still_open(number, amount),
            Ok(FunnelFigure::SincePrevious) => {
                tally.add_durations(number, Since::Previous, duration_us, amount);
                groups.note(amount);
            }
            Ok(FunnelFigure::SinceFirst) => {
                tally.add_durations(number, Since::First, duration_us, amount);
                groups.note(amount);
            }
            Ok(FunnelFigure::Unspecified) | Err(_) => return Err(QueryError::BrokeOff),
        }
    }
    let found = tallies.checked(groups)?;
    let answer = answer::answer(&plan, &found, &values);
    Ok(super::respond(context, plan, answer, cost))
}
