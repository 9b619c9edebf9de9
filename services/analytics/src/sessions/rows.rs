//! The partial results of sessions as rows, and the answer from their sum.
//!
//! Distinct persons of several groups or periods together are no sum: each cell lists its persons, a row per chunk.

use roaring::RoaringBitmap;
use segue_engine::session::{Counts, Figures, Tally};
use segue_proto::analytics::v1 as pb;

use super::count::{self, SESSION_BYTES};
use super::plan::Plan;
use crate::leaves::key::{Cell, SessionCell, SessionFigure, ValueProto};
use crate::leaves::{Cost, Row, Rows, persons_by_chunk, selection};
use crate::pass::{NOBODY, Selector, Within};
use crate::question::time::RangeUs;
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;
use crate::sql::selection::Selection;

/// What a request reads, but for the ends of sessions that go on after the range.
pub(crate) fn reads(context: &Context<'_>, request: &pb::QuerySessionsRequest) -> Result<Selection, QueryError> {
    let plan = Plan::new(context, request, NOBODY)?;
    let RangeUs { start, end } = plan.range;
    let range = RangeUs { start: start.saturating_sub(plan.gap_us), end: end.saturating_add(plan.gap_us) };
    Ok(selection(&[Selector { events: plan.events.names, filter: plan.events.filter, range }], None))
}

/// Counts the sessions of some persons.
pub(crate) fn write(
    context: &Context<'_>,
    request: &pb::QuerySessionsRequest,
    within: Within<'_>,
    out: &mut Rows,
) -> Result<ScanStats, QueryError> {
    let plan = Plan::new(context, request, within)?;
    let groups = plan.groups(context);
    let (counted, stats) = count::count(context, &plan, &groups, within)?;
    for (group, period, figures) in counted.cells() {
        let key = groups.key(&plan, *group);
        write_figures(&key.iter().map(ValueProto::of).collect::<Vec<_>>(), period, figures, out)?;
    }
    Ok(stats)
}

fn write_figures(group: &[ValueProto], period: u32, figures: &Figures, out: &mut Rows) -> Result<(), QueryError> {
    let key = |figure: SessionFigure, persons: Vec<u8>| {
        Cell::Sessions(SessionCell { group: group.to_vec(), period, figure: figure.into(), persons }).key()
    };
    let Counts { sessions, events, bounces, still_open } = figures.counts();
    let counts = [
        (SessionFigure::Sessions, sessions),
        (SessionFigure::Events, events),
        (SessionFigure::Bounces, bounces),
        (SessionFigure::StillOpen, still_open),
    ];
    for (figure, count) in counts {
        out.add(&key(figure, Vec::new()), None, count)?;
    }
    let durations = key(SessionFigure::Durations, Vec::new());
    for duration_us in figures.durations_us() {
        out.add(&durations, Some(duration_us.cast_signed()), 1)?;
    }
    for (bytes, count) in persons_by_chunk(figures.persons().iter().copied().collect()) {
        out.add(&key(SessionFigure::Persons, bytes), None, count)?;
    }
    Ok(())
}

/// The answer from the sum over everybody.
pub(crate) fn answer(
    context: &Context<'_>,
    request: &pb::QuerySessionsRequest,
    sum: Vec<Row>,
    cost: Cost,
) -> Result<pb::QuerySessionsResponse, QueryError> {
    let plan = Plan::new(context, request, NOBODY)?;
    let groups = plan.groups(context);
    let mut tally: Tally<u32> = Tally::default();
    let mut kept = 0_u64;
    for row in sum {
        let (duration_us, amount) = (row.duration_us(), row.amount);
        let Cell::Sessions(cell) = row.cell else { return Err(QueryError::BrokeOff) };
        let group = groups.number(cell.group.into_iter().map(ValueProto::value));
        let figures = tally.figures_mut(group, cell.period);
        match SessionFigure::try_from(cell.figure) {
            Ok(SessionFigure::Sessions) => {
                kept = kept.saturating_add(amount);
                figures.add_counts(Counts { sessions: amount, ..Counts::default() });
            }
            Ok(SessionFigure::Events) => figures.add_counts(Counts { events: amount, ..Counts::default() }),
            Ok(SessionFigure::Bounces) => figures.add_counts(Counts { bounces: amount, ..Counts::default() }),
            Ok(SessionFigure::StillOpen) => figures.add_counts(Counts { still_open: amount, ..Counts::default() }),
            Ok(SessionFigure::Durations) => figures.add_durations(duration_us, amount),
            Ok(SessionFigure::Persons) => {
                let persons = RoaringBitmap::deserialize_from(cell.persons.as_slice()).map_err(|_| QueryError::BrokeOff)?;
                figures.add_persons(persons);
            }
            Ok(SessionFigure::Unspecified) | Err(_) => return Err(QueryError::BrokeOff),
        }
    }
    let bytes_max = context.limits.report.bytes_max;
    if kept.saturating_mul(SESSION_BYTES as u64) > bytes_max as u64 {
        return Err(QueryError::TooMuchMemory { what: "the lengths of its sessions", bytes_max });
    }
    let response = super::respond(context, plan, &groups, &tally)?;
    Ok(pb::QuerySessionsResponse { stats: Some(cost.message()), ..response })
}
