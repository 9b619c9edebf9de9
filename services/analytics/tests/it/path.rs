//! Paths: the cases of the semantics document, validation, the persons behind numbers, and a comparison with a plain reference.

mod cases;
mod on_the_index;
mod reference;
pub mod same_as_reference;
mod validation;
mod who;

use chrono::{DateTime, Utc};
use prost_types::{Duration, Timestamp};
use segue_analytics::path;
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::scan::Snapshot;
use segue_model::dimension;
use segue_proto::analytics::v1::{
    NodeRule, PathCell, PathCounting, PathEdge, PathNode, PathStep, QueryPathRequest, QueryPathResponse, node_rule::Then,
};
use segue_proto::events::v1::{DimensionValue, ResolvedEvent, Value, value::Kind};
use segue_proto::query::v1::{EventSelector, Field, TimeRange, field};
use tokio_util::sync::CancellationToken;

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 24 * 60 * MINUTE;
const WATERMARK: &str = "2026-12-31T00:00:00Z";

fn us(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().expect("a time").timestamp_micros()
}

/// Midnight of the day on which most of it happens.
fn midnight() -> i64 {
    us("2026-11-10T00:00:00Z")
}

fn timestamp(us: i64) -> Timestamp {
    Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

/// So long after midnight.
fn event(name: &str, person: u32, after_us: i64) -> ResolvedEvent {
    ResolvedEvent { name: name.to_owned(), time_us: midnight() + after_us, person, ..ResolvedEvent::default() }
}

/// The view of a page.
fn page(path: &str, person: u32, after_us: i64) -> ResolvedEvent {
    let code = dimension::by_name("page_path").expect("a dimension").code;
    let dimensions = vec![DimensionValue { code, value: path.to_owned() }];
    ResolvedEvent { dimensions, ..event("df_view_page", person, after_us) }
}

fn with_property(mut event: ResolvedEvent, name: &str, kind: Kind) -> ResolvedEvent {
    event.properties.insert(name.to_owned(), Value { kind: Some(kind) });
    event
}

fn dimension(name: &str) -> Field {
    Field { field: Some(field::Field::Dimension(name.to_owned())) }
}

fn property(name: &str) -> Field {
    Field { field: Some(field::Field::Property(name.to_owned())) }
}

fn rule(pattern: &str, then: Option<Then>) -> NodeRule {
    NodeRule { pattern: pattern.to_owned(), then }
}

fn called(name: &str) -> Option<Then> {
    Some(Then::Name(name.to_owned()))
}

/// November 2026, nodes are events.
fn november() -> QueryPathRequest {
    let range = TimeRange { start: Some(timestamp(us("2026-11-01T00:00:00Z"))), end: Some(timestamp(us("2026-12-01T00:00:00Z"))) };
    QueryPathRequest { range: Some(range), ..QueryPathRequest::default() }
}

/// The same, nodes are pages.
fn by_page() -> QueryPathRequest {
    QueryPathRequest { node: Some(dimension("page_path")), ..november() }
}

fn snapshot(events: &[ResolvedEvent]) -> Snapshot {
    Snapshot::of_events(&"shop".parse().expect("a tenant id"), us(WATERMARK), events).expect("a snapshot")
}

fn in_context<T>(snapshot: &Snapshot, limits: QueryLimits, ask: impl FnOnce(&Context<'_>) -> T) -> T {
    let cancel = CancellationToken::new();
    ask(&Context { snapshot, zone: chrono_tz::Tz::UTC, limits, cancel: &cancel })
}

fn run(events: &[ResolvedEvent], request: &QueryPathRequest) -> Result<QueryPathResponse, QueryError> {
    in_context(&snapshot(events), QueryLimits::default(), |context| path::query(context, request))
}

fn answer(events: &[ResolvedEvent], request: &QueryPathRequest) -> QueryPathResponse {
    run(events, request).expect("an answer")
}

/// The edges in short: `1:/a→/b (2, 60 s)`.
fn edges(answer: &QueryPathResponse) -> String {
    let show = |edge: &PathEdge| {
        let time = edge.mean_seconds.map(|seconds| format!(", {seconds} s")).unwrap_or_default();
        format!("{}:{}→{} ({}{time})", edge.step, edge.from, edge.to, edge.value)
    };
    answer.edges.iter().map(show).collect::<Vec<String>>().join("; ")
}

/// The steps in short: `1:/a 2, /b 1; 2:/c 1`.
fn steps(answer: &QueryPathResponse) -> String {
    let show = |step: &PathStep| {
        let nodes: Vec<String> = step.nodes.iter().map(|PathNode { name, value }| format!("{name} {value}")).collect();
        format!("{}:{}", step.step, nodes.join(", "))
    };
    answer.steps.iter().map(show).collect::<Vec<String>>().join("; ")
}
