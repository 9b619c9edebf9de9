//! [`Asked`]: the questions that can be answered in parts, and what each does with a part and with the sum.
//!
//! To add one: a variant with a number of its own, a cell in `key`, and in its folder a `rows.rs` with `reads`, `write` and `answer`.

use segue_proto::analytics::v1 as pb;

use super::rows::{Row, Rows};
use crate::pass::{Selector, Within};
use crate::question::time::RangeUs;
use crate::question::{Context, QueryError};
use crate::scan::ScanStats;
use crate::sql::selection::Selection;
use crate::{funnel, path, persons, retention, sessions};

/// A question, as its request. Numbers are those of the wire.
#[derive(Clone, PartialEq, prost::Oneof)]
#[allow(clippy::large_enum_variant, reason = "one is made per query")]
pub enum Asked {
    /// How far persons get through steps.
    #[prost(message, tag = "10")]
    Funnel(pb::QueryFunnelRequest),
    /// Who comes back, and when.
    #[prost(message, tag = "11")]
    Retention(pb::QueryRetentionRequest),
    /// Which way sessions take.
    #[prost(message, tag = "12")]
    Path(pb::QueryPathRequest),
    /// How many sessions, how long, how deep.
    #[prost(message, tag = "13")]
    Sessions(pb::QuerySessionsRequest),
    /// How many persons meet a condition.
    #[prost(message, tag = "14")]
    Count(pb::CountPersonsRequest),
    /// Which persons meet a condition. Those behind a number of a report are not selected in parts.
    #[prost(message, tag = "15")]
    Select(pb::SelectPersonsRequest),
}

/// What is asked of the persons of a leaf, besides the request: which of several rounds it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum Round {
    /// The only one.
    #[default]
    Only,
    /// Of paths, with nodes by their names.
    Path(path::Round),
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one is made per query")]
pub enum Answer {
    /// To [`Asked::Funnel`].
    Funnel(pb::QueryFunnelResponse),
    /// To [`Asked::Retention`].
    Retention(pb::QueryRetentionResponse),
    /// To [`Asked::Path`].
    Path(pb::QueryPathResponse),
    /// To [`Asked::Sessions`].
    Sessions(pb::QuerySessionsResponse),
    /// To [`Asked::Count`].
    Count(pb::CountPersonsResponse),
    /// To [`Asked::Select`].
    Select(pb::SelectPersonsResponse),
}

/// What comes of the sum over all parts.
pub(crate) enum Next<A, R> {
    Answer(A),
    /// All persons have to be asked once more.
    Again(R),
}

impl Asked {
    /// The question's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Asked::Funnel(_) => "funnel",
            Asked::Retention(_) => "retention",
            Asked::Path(_) => "path",
            Asked::Sessions(_) => "sessions",
            Asked::Count(_) => "count",
            Asked::Select(_) => "select",
        }
    }

    /// Checks the request and says what it reads, and how it begins.
    pub(super) fn begin(&self, context: &Context<'_>) -> Result<(Selection, Round), QueryError> {
        Ok(match self {
            Asked::Funnel(request) => (funnel::rows::reads(context, request)?, Round::Only),
            Asked::Retention(request) => (retention::rows::reads(context, request)?, Round::Only),
            Asked::Path(request) => {
                let (selection, round) = path::rows::begin(context, request)?;
                (selection, Round::Path(round))
            }
            Asked::Sessions(request) => (sessions::rows::reads(context, request)?, Round::Only),
            // Conditions look at anything, also at what is stated about persons.
            Asked::Count(request) => (Selection::default(), persons::rows::check_count(context, request).map(|()| Round::Only)?),
            Asked::Select(request) => (Selection::default(), persons::rows::check_select(context, request).map(|()| Round::Only)?),
        })
    }

    /// Asks some persons.
    pub(super) fn write(&self, context: &Context<'_>, round: &Round, within: Within<'_>, out: &mut Rows) -> Result<ScanStats, QueryError> {
        match (self, round) {
            (Asked::Funnel(request), _) => funnel::rows::write(context, request, within, out),
            (Asked::Retention(request), _) => retention::rows::write(context, request, within, out),
            (Asked::Path(request), Round::Path(round)) => path::rows::write(context, request, round, within, out),
            (Asked::Path(_), Round::Only) => Err(QueryError::BrokeOff),
            (Asked::Sessions(request), _) => sessions::rows::write(context, request, within, out),
            (Asked::Count(request), _) => persons::rows::write_count(context, request, within, out),
            (Asked::Select(request), _) => persons::rows::write_select(context, request, within, out),
        }
    }

    /// Answers from the sum over all parts.
    pub(super) fn answer(
        &self,
        context: &Context<'_>,
        round: &Round,
        sum: Vec<Row>,
        cost: Cost,
    ) -> Result<Next<Answer, Round>, QueryError> {
        let answer = match self {
            Asked::Funnel(request) => Answer::Funnel(funnel::rows::answer(context, request, sum, cost)?),
            Asked::Retention(request) => Answer::Retention(retention::rows::answer(context, request, sum, cost)?),
            Asked::Path(request) => {
                let Round::Path(round) = round else { return Err(QueryError::BrokeOff) };
                match path::rows::answer(context, request, round, sum, cost)? {
                    Next::Answer(answer) => Answer::Path(answer),
                    Next::Again(round) => return Ok(Next::Again(Round::Path(round))),
                }
            }
            Asked::Sessions(request) => Answer::Sessions(sessions::rows::answer(context, request, sum, cost)?),
            Asked::Count(request) => Answer::Count(persons::rows::answer_count(context, request, sum, cost)?),
            Asked::Select(request) => Answer::Select(persons::rows::answer_select(context, request, sum, cost)?),
        };
        Ok(Next::Answer(answer))
    }
}

/// What an answer has cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) stats: ScanStats,
    pub(crate) seconds: f64,
}

impl Cost {
    /// As answers have it.
    pub(crate) fn message(self) -> pb::ExecutionStats {
        let Cost { stats, seconds } = self;
        pb::ExecutionStats { rows_scanned: stats.rows, files: stats.files, tail_rows: stats.tail_rows, seconds }
    }
}

/// What these selectors read, by which work is cut into equal parts.
pub(crate) fn selection(selectors: &[Selector], others: Option<RangeUs>) -> Selection {
    let mut events = Vec::new();
    let mut is_every = others.is_some();
    for selector in selectors {
        match &selector.events {
            Some(names) => events.extend(names.iter().cloned()),
            None => is_every = true,
        }
    }
    events.sort_unstable();
    events.dedup();
    let ranges = selectors.iter().map(|selector| selector.range).chain(others);
    let range = ranges.reduce(|one, other| RangeUs { start: one.start.min(other.start), end: one.end.max(other.end) });
    let all = Selection::default();
    let range_us = range.map_or(all.range_us, |range| (range.start, range.end));
    Selection { events: (!is_every).then_some(events), range_us, ..all }
}
