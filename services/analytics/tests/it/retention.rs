//! Retention: the cases of the semantics document, validation, and a comparison with a plain reference.

mod cases;
mod on_the_index;
#[path = "../../../../libs/engine/tests/reference/retention.rs"]
mod reference;
pub mod same_as_reference;
mod validation;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use prost_types::Timestamp;
use roaring::RoaringBitmap;
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::retention;
use segue_analytics::scan::Snapshot;
use segue_model::dimension;
use segue_proto::analytics::v1::{
    CohortEntry, Grain, QueryRetentionRequest, QueryRetentionResponse, RetentionAlignment, RetentionBracket, RetentionBreakdown,
    RetentionCellReference, RetentionGroup, RetentionMode,
};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{DimensionValue, ResolvedEvent, Value};
use segue_proto::query::v1::{Comparison, EventSelector, Field, Filter, Operator, TimeRange, field, filter};
use tokio_util::sync::CancellationToken;

use crate::events::did;

const DAY: i64 = 24 * 3_600_000_000;

/// Microseconds of a time like `2026-11-22T00:00:00Z`.
fn us(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().expect("a time").timestamp_micros()
}

fn timestamp(us: i64) -> Timestamp {
    Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

fn event(name: &str, time_us: i64, person: u32) -> ResolvedEvent {
    ResolvedEvent { name: name.to_owned(), time_us, person, device: person, ..ResolvedEvent::default() }
}

fn with_platform(mut event: ResolvedEvent, value: &str) -> ResolvedEvent {
    let code = dimension::by_name("platform").expect("a dimension").code;
    event.dimensions.push(DimensionValue { code, value: value.to_owned() });
    event
}

fn platform() -> Field {
    Field { field: Some(field::Field::Dimension("platform".to_owned())) }
}

fn platform_is(value: &str) -> Filter {
    let values = vec![Value { kind: Some(Kind::StringValue(value.to_owned())) }];
    let comparison = Comparison { field: Some(platform()), operator: Operator::In as i32, values, ..Comparison::default() };
    Filter { node: Some(filter::Node::Compare(comparison)) }
}

fn selector(names: &[&str]) -> EventSelector {
    EventSelector { events: names.iter().map(|name| (*name).to_owned()).collect(), filter: None }
}

fn range(start_us: i64, end_us: i64) -> Option<TimeRange> {
    Some(TimeRange { start: Some(timestamp(start_us)), end: Some(timestamp(end_us)) })
}

/// Days of November 2026 from the first on; `open` starts and returns.
fn november(days: i64) -> QueryRetentionRequest {
    let first = us("2026-11-01T00:00:00Z");
    QueryRetentionRequest { range: range(first, first + days * DAY), start: Some(selector(&["open"])), ..QueryRetentionRequest::default() }
}

/// `open` at noon of these days of November, counted from 0.
fn opens(person: u32, days: &[i64]) -> Vec<ResolvedEvent> {
    days.iter().map(|day| event("open", us("2026-11-01T12:00:00Z") + day * DAY, person)).collect()
}

fn snapshot(events: &[ResolvedEvent], watermark: &str) -> Snapshot {
    Snapshot::of_events(&"shop".parse().expect("a tenant id"), us(watermark), events).expect("a snapshot")
}

fn with_context<A>(snapshot: &Snapshot, threads: usize, ask: impl FnOnce(&Context<'_>) -> A) -> A {
    let cancel = CancellationToken::new();
    ask(&Context { snapshot, zone: Tz::UTC, limits: QueryLimits { threads, ..QueryLimits::default() }, cancel: &cancel })
}

fn ask(snapshot: &Snapshot, request: &QueryRetentionRequest) -> Result<QueryRetentionResponse, QueryError> {
    with_context(snapshot, 2, |context| retention::query(context, request))
}

fn persons(snapshot: &Snapshot, request: &QueryRetentionRequest, cell: &RetentionCellReference) -> Result<RoaringBitmap, QueryError> {
    with_context(snapshot, 2, |context| retention::persons(context, request, cell))
}

/// The answer with everything over.
fn answer(events: &[ResolvedEvent], request: &QueryRetentionRequest) -> QueryRetentionResponse {
    ask(&snapshot(events, "2027-06-01T00:00:00Z"), request).expect("an answer")
}

/// Cells by cohort; those that are not complete are −1 − (what is known so far).
fn cells(group: &RetentionGroup) -> Vec<Vec<i64>> {
    let cell = |cell: &segue_proto::analytics::v1::RetentionCell| match cell.returned {
        Some(returned) => {
            assert_eq!(returned, cell.provisional);
            returned as i64
        }
        None => {
            assert_eq!(cell.rate, None);
            -1 - cell.provisional as i64
        }
    };
    group.cohorts.iter().map(|cohort| cohort.cells.iter().map(cell).collect()).collect()
}

fn total(response: &QueryRetentionResponse) -> &RetentionGroup {
    response.total.as_ref().expect("a total")
}
