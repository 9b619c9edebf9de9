//! Sessions: the cases of the semantics document, validation, and a comparison with a plain reference.

mod cases;
mod on_the_index;
pub mod same_as_reference;
mod validation;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use prost_types::{Duration, Timestamp};
use roaring::RoaringBitmap;
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::scan::Snapshot;
use segue_analytics::sessions;
use segue_model::dimension;
use segue_proto::analytics::v1::{Grain, GroupKey, QuerySessionsRequest, QuerySessionsResponse, SessionCell, SessionFigures, SessionGroup};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{DimensionValue, ResolvedEvent, Value};
use segue_proto::query::v1::{EventSelector, Field, TimeRange, field};
use tokio_util::sync::CancellationToken;

use crate::events::did;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

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

fn with_dimension(mut event: ResolvedEvent, name: &str, value: &str) -> ResolvedEvent {
    let code = dimension::by_name(name).expect("a dimension").code;
    event.dimensions.push(DimensionValue { code, value: value.to_owned() });
    event.dimensions.sort_by_key(|dimension| dimension.code);
    event
}

fn dimension(name: &str) -> Field {
    Field { field: Some(field::Field::Dimension(name.to_owned())) }
}

/// Views by one person at these times after noon of 10 November 2026.
fn views(person: u32, offsets: &[i64]) -> Vec<ResolvedEvent> {
    offsets.iter().map(|offset| event("view", us("2026-11-10T12:00:00Z") + offset, person)).collect()
}

fn over(start: &str, end: &str) -> QuerySessionsRequest {
    let range = TimeRange { start: Some(timestamp(us(start))), end: Some(timestamp(us(end))) };
    QuerySessionsRequest { range: Some(range), ..QuerySessionsRequest::default() }
}

fn november() -> QuerySessionsRequest {
    over("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
}

fn snapshot(events: &[ResolvedEvent], watermark: &str) -> Snapshot {
    Snapshot::of_events(&"shop".parse().expect("a tenant id"), us(watermark), events).expect("a snapshot")
}

fn with_context<A>(snapshot: &Snapshot, threads: usize, ask: impl FnOnce(&Context<'_>) -> A) -> A {
    let cancel = CancellationToken::new();
    ask(&Context { snapshot, zone: Tz::UTC, limits: QueryLimits { threads, ..QueryLimits::default() }, cancel: &cancel })
}

fn ask(snapshot: &Snapshot, request: &QuerySessionsRequest) -> Result<QuerySessionsResponse, QueryError> {
    with_context(snapshot, 2, |context| sessions::query(context, request))
}

fn persons(snapshot: &Snapshot, request: &QuerySessionsRequest, cell: &SessionCell) -> Result<RoaringBitmap, QueryError> {
    with_context(snapshot, 2, |context| sessions::persons(context, request, cell))
}

/// The answer with everything over.
fn answer(events: &[ResolvedEvent], request: &QuerySessionsRequest) -> QuerySessionsResponse {
    ask(&snapshot(events, "2027-06-01T00:00:00Z"), request).expect("an answer")
}

fn total(response: &QuerySessionsResponse) -> &SessionFigures {
    response.total.as_ref().and_then(|total| total.total.as_ref()).expect("a total")
}

/// Sessions, persons, events, bounces.
fn counts(figures: &SessionFigures) -> [u64; 4] {
    [figures.sessions, figures.persons, figures.events, figures.bounces]
}
