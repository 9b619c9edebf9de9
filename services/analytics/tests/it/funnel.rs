//! Funnels: the cases of the semantics through the public function, validation, and a comparison with a plain reference.

mod cases;
mod on_the_index;
mod reference;
pub mod same_as_reference;
mod validation;

use chrono::{DateTime, Utc};
use prost_types::{Duration, Timestamp};
use segue_analytics::funnel::query;
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::scan::Snapshot;
use segue_proto::analytics::v1::{
    FunnelBreakdown, FunnelExclusion, FunnelGroup, FunnelStep, GroupKey, QueryFunnelRequest, QueryFunnelResponse,
};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{ResolvedEvent, Value};
use segue_proto::query::v1::{EventSelector, Field, TimeRange, field};
use tokio_util::sync::CancellationToken;

/// Second 0 of the tests.
const START: &str = "2026-11-01T00:00:00Z";

fn us(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().expect("a time").timestamp_micros()
}

fn timestamp(us: i64) -> Timestamp {
    Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

/// Seconds after the start.
fn second(second: i64) -> i64 {
    us(START) + second * 1_000_000
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

fn event(name: &str, person: u32, at: i64) -> ResolvedEvent {
    ResolvedEvent { name: name.to_owned(), time_us: second(at), person, ..ResolvedEvent::default() }
}

fn with(mut event: ResolvedEvent, name: &str, value: &str) -> ResolvedEvent {
    event.properties.insert(name.to_owned(), Value { kind: Some(Kind::StringValue(value.to_owned())) });
    event
}

/// The events of persons 1, 2, …: `a@10` is event `a` at second 10, `a` alone ten seconds after the one before.
fn persons(texts: &[&str]) -> Vec<ResolvedEvent> {
    let mut events = Vec::new();
    for (text, person) in texts.iter().zip(1..) {
        let mut now = -10;
        for word in text.split_whitespace() {
            let (name, at) = match word.split_once('@') {
                Some((name, at)) => (name, at.parse().expect("a second")),
                None => (word, now + 10),
            };
            now = at;
            events.push(event(name, person, at));
        }
    }
    events
}

fn on(names: &[&str]) -> EventSelector {
    EventSelector { events: names.iter().map(|name| (*name).to_owned()).collect(), filter: None }
}

fn property(name: &str) -> Field {
    Field { field: Some(field::Field::Property(name.to_owned())) }
}

fn dimension(name: &str) -> Field {
    Field { field: Some(field::Field::Dimension(name.to_owned())) }
}

/// A funnel over these events, with a window in seconds, over thirty days.
fn funnel(steps: &[&str], window: i64) -> QueryFunnelRequest {
    QueryFunnelRequest {
        range: Some(TimeRange { start: Some(timestamp(second(0))), end: Some(timestamp(second(30 * 86_400))) }),
        steps: steps.iter().map(|name| FunnelStep { on: Some(on(&[name])), ..FunnelStep::default() }).collect(),
        window: Some(seconds(window)),
        ..QueryFunnelRequest::default()
    }
}

/// A snapshot whose watermark is at second `watermark`.
fn snapshot(events: &[ResolvedEvent], watermark: i64) -> Snapshot {
    Snapshot::of_events(&"shop".parse().expect("a tenant id"), second(watermark), events).expect("a snapshot")
}

fn ask(snapshot: &Snapshot, request: &QueryFunnelRequest) -> Result<QueryFunnelResponse, QueryError> {
    let cancel = CancellationToken::new();
    let context = Context { snapshot, zone: chrono_tz::Tz::UTC, limits: QueryLimits::default(), cancel: &cancel };
    query(&context, request)
}

/// After everything has been settled.
const LATE: i64 = 1_000 * 86_400;

fn answer(events: &[ResolvedEvent], request: &QueryFunnelRequest) -> QueryFunnelResponse {
    ask(&snapshot(events, LATE), request).expect("an answer")
}

fn counts(group: &FunnelGroup) -> Vec<u64> {
    group.steps.iter().map(|step| step.count).collect()
}

fn total(response: &QueryFunnelResponse) -> Vec<u64> {
    counts(response.total.as_ref().expect("a total"))
}

/// A key as text: a missing value is `∅`, `other` is `…`.
fn shown(key: Option<&GroupKey>) -> String {
    let key = key.expect("a key");
    if key.other {
        return "…".to_owned();
    }
    let value = key.values.first().and_then(|value| value.value.as_ref()).and_then(|value| value.kind.as_ref());
    match value {
        None => "∅".to_owned(),
        Some(Kind::StringValue(text)) => text.clone(),
        Some(other) => format!("{other:?}"),
    }
}

fn groups(response: &QueryFunnelResponse) -> Vec<(String, Vec<u64>)> {
    response.groups.iter().map(|group| (shown(group.key.as_ref()), counts(group))).collect()
}
