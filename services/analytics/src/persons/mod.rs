//! Persons behind conditions and numbers: `SelectPersons` and `CountPersons`.

pub(crate) mod rows;

use std::time::Instant;

use prost_types::Timestamp;
use roaring::RoaringBitmap;
use segue_model::FieldViolation;
use segue_proto::analytics::v1 as pb;
use segue_proto::analytics::v1::report_cell::Cell;
use segue_proto::query::v1::Condition;

use crate::condition::{self, Evaluated, Plan, persons_of_bytes};
use crate::leaves::Cost;
use crate::question::time::{last_us, timestamp};
use crate::question::token::Asked as Reported;
use crate::question::{Context, QueryError, parse};
use crate::{funnel, path, report, retention, sessions};

/// Persons on one page.
const PAGE_SIZE_MAX: i32 = 10_000;
/// Where the request does not say.
const PAGE_SIZE_DEFAULT: i32 = 100;

/// Who meets a condition, or who is behind a number of a report.
pub fn select(context: &Context<'_>, request: &pb::SelectPersonsRequest) -> Result<pb::SelectPersonsResponse, QueryError> {
    let started = Instant::now();
    let mut faults = Vec::new();
    let page = Page::parse(request, &mut faults);
    let asked = Asked::parse(context, request.as_of.as_ref(), &request.time_zone, &request.within, &mut faults)?;
    let Evaluated { persons, stats, .. } = match &request.who {
        Some(pb::select_persons_request::Who::Condition(condition)) => {
            let plan = asked.plan(context, Some(condition), &mut faults);
            let plan = all_right(plan, faults)?;
            condition::evaluate(context, &plan, asked.now_us, asked.within.as_ref())?
        }
        Some(pb::select_persons_request::Who::Report(cell)) => {
            if request.as_of.is_some() {
                faults.push(FieldViolation::new("as_of", "leave it out: a report is computed over what is indexed by now"));
            }
            if !faults.is_empty() {
                return Err(QueryError::Invalid(faults));
            }
            let persons = of_report(context, cell)?;
            let persons = asked.within.as_ref().map_or_else(|| persons.clone(), |within| &persons & within);
            Evaluated { persons, ..Evaluated::default() }
        }
        None => {
            faults.push(FieldViolation::new("condition", "set the condition or the report"));
            return Err(QueryError::Invalid(faults));
        }
    };
    let cost = Cost { stats, seconds: started.elapsed().as_secs_f64() };
    Ok(selected(context, &persons, asked.now_us, (!request.bitmap).then_some(&page), cost))
}

/// The answer: a page of persons, or without one all of them as a bitmap.
fn selected(context: &Context<'_>, persons: &RoaringBitmap, now_us: i64, page: Option<&Page>, cost: Cost) -> pb::SelectPersonsResponse {
    let (bitmap, page, next_page_token) = match page {
        None => (bytes_of(persons), Vec::new(), String::new()),
        Some(page) => {
            let (page, next) = page.of(persons);
            (Vec::new(), page, next)
        }
    };
    pb::SelectPersonsResponse {
        count: persons.len(),
        persons: page,
        next_page_token,
        bitmap,
        as_of: Some(timestamp(now_us)),
        watermark: Some(timestamp(context.snapshot.watermark_us())),
        stats: Some(cost.message()),
    }
}

/// Who is behind a number of a report's answer.
fn of_report(context: &Context<'_>, cell: &pb::ReportCell) -> Result<RoaringBitmap, QueryError> {
    match (Reported::of_token(&cell.persons_token)?, &cell.cell) {
        (Reported::Events(request), Some(Cell::Event(cell))) => report::persons(context, &request, cell),
        (Reported::Funnel(request), Some(Cell::Funnel(cell))) => funnel::persons(context, &request, cell),
        (Reported::Retention(request), Some(Cell::Retention(cell))) => retention::persons(context, &request, cell),
        (Reported::Sessions(request), Some(Cell::Session(cell))) => sessions::persons(context, &request, cell),
        (Reported::Path(request), Some(Cell::Path(cell))) => path::persons(context, &request, cell),
        (
            Reported::Events(_) | Reported::Funnel(_) | Reported::Retention(_) | Reported::Sessions(_) | Reported::Path(_),
            Some(Cell::Event(_) | Cell::Funnel(_) | Cell::Retention(_) | Cell::Session(_) | Cell::Path(_)) | None,
        ) => Err(QueryError::invalid("report.cell", "set the cell of the kind of report that the token is from")),
    }
}

/// How many meet a condition, and each of its nodes.
pub fn count(context: &Context<'_>, request: &pb::CountPersonsRequest) -> Result<pb::CountPersonsResponse, QueryError> {
    let started = Instant::now();
    let (asked, plan) = Asked::of_count(context, request)?;
    let evaluated = condition::count(context, &plan, asked.now_us, asked.within.as_ref())?;
    Ok(pb::CountPersonsResponse {
        count: evaluated.persons.len(),
        persons_total: evaluated.known,
        node_counts: evaluated.node_counts,
        as_of: Some(timestamp(asked.now_us)),
        watermark: Some(timestamp(context.snapshot.watermark_us())),
        stats: Some(Cost { stats: evaluated.stats, seconds: started.elapsed().as_secs_f64() }.message()),
    })
}

/// What calls are asked besides the condition.
pub(crate) struct Asked {
    pub(crate) now_us: i64,
    zone: chrono_tz::Tz,
    within: Option<RoaringBitmap>,
}

impl Asked {
    /// A count and its condition.
    fn of_count(context: &Context<'_>, request: &pb::CountPersonsRequest) -> Result<(Asked, Plan), QueryError> {
        let mut faults = Vec::new();
        let asked = Asked::parse(context, request.as_of.as_ref(), &request.time_zone, &request.within, &mut faults)?;
        let plan = asked.plan(context, request.condition.as_ref(), &mut faults);
        Ok((asked, all_right(plan, faults)?))
    }

    pub(crate) fn parse(
        context: &Context<'_>,
        as_of: Option<&Timestamp>,
        zone: &str,
        within: &[u8],
        faults: &mut Vec<FieldViolation>,
    ) -> Result<Self, QueryError> {
        let now_us = match as_of.map(last_us) {
            None => context.known_until_us()?,
            Some(Some(now_us)) => now_us,
            Some(None) => {
                faults.push(FieldViolation::new("as_of", "not a timestamp between the years 1 and 9999"));
                0
            }
        };
        let within = if within.is_empty() { None } else { persons_of_bytes(within, "within", faults) };
        let within = within.map(|mut persons| {
            context.snapshot.survivors(&mut persons);
            persons
        });
        Ok(Asked { now_us, zone: parse::zone(zone, context.zone, "time_zone", faults), within })
    }

    pub(crate) fn plan(&self, context: &Context<'_>, condition: Option<&Condition>, faults: &mut Vec<FieldViolation>) -> Option<Plan> {
        match condition {
            Some(condition) => Some(Plan::parse(condition, "condition", &context.vocabulary(), self.zone, faults)),
            None => {
                faults.push(FieldViolation::new("condition", "required"));
                None
            }
        }
    }
}

pub(crate) fn all_right(plan: Option<Plan>, faults: Vec<FieldViolation>) -> Result<Plan, QueryError> {
    match plan {
        Some(plan) if faults.is_empty() => Ok(plan),
        Some(_) | None => Err(QueryError::Invalid(faults)),
    }
}

/// A page of persons by their numbers.
struct Page {
    after: Option<u32>,
    size: usize,
}

impl Page {
    fn parse(request: &pb::SelectPersonsRequest, faults: &mut Vec<FieldViolation>) -> Self {
        if !(0..=PAGE_SIZE_MAX).contains(&request.page_size) {
            faults.push(FieldViolation::new("page_size", format!("must be between 1 and {PAGE_SIZE_MAX}, or 0 for {PAGE_SIZE_DEFAULT}")));
        }
        let after = match request.page_token.as_str() {
            "" => None,
            token => token.parse().map(Some).unwrap_or_else(|_| {
                faults.push(FieldViolation::new("page_token", "not a token of an answer: take `next_page_token` as it came"));
                None
            }),
        };
        let size = if request.page_size == 0 { PAGE_SIZE_DEFAULT } else { request.page_size };
        Page { after, size: usize::try_from(size).unwrap_or_default() }
    }

    fn of(&self, persons: &RoaringBitmap) -> (Vec<u32>, String) {
        let mut behind = match self.after {
            Some(after) => persons.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded)),
            None => persons.iter(),
        };
        let page: Vec<u32> = behind.by_ref().take(self.size).collect();
        let next = match (behind.next(), page.last()) {
            (Some(_), Some(last)) => last.to_string(),
            (Some(_) | None, _) => String::new(),
        };
        (page, next)
    }
}

/// As messages have them.
pub(crate) fn bytes_of(persons: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(persons.serialized_size());
    // Writing to memory does not fail.
    let _ = persons.serialize_into(&mut bytes);
    bytes
}
