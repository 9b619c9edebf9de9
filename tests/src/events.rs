//! Events and report requests in few words.

use prost_types::Timestamp;
use segue_proto::analytics::v1::{Aggregation, Grain, Metric, QueryEventsRequest, QueryEventsResponse, Unit, number};
use segue_proto::events::v1::{Event, EventKind, Identifier, Value, value};
use segue_proto::query::v1::{Field, TimeRange, field};

/// Microseconds as a timestamp.
pub fn timestamp(time_us: i64) -> Timestamp {
    Timestamp { seconds: time_us.div_euclid(1_000_000), nanos: (time_us.rem_euclid(1_000_000) * 1_000) as i32 }
}

/// A text value.
pub fn text(text: &str) -> Value {
    Value { kind: Some(value::Kind::StringValue(text.to_owned())) }
}

/// An identifier.
pub fn identifier(kind: &str, value: &str) -> Identifier {
    Identifier { kind: kind.to_owned(), value: value.to_owned() }
}

/// An event `name` of whoever has these identifiers.
pub fn event(message_id: &str, name: &str, time_us: i64, identifiers: &[(&str, &str)]) -> Event {
    Event {
        message_id: message_id.to_owned(),
        kind: EventKind::Track as i32,
        name: name.to_owned(),
        time: Some(timestamp(time_us)),
        identifiers: identifiers.iter().map(|(kind, value)| identifier(kind, value)).collect(),
        ..Default::default()
    }
}

/// A metric called after its aggregation.
pub fn metric(name: &str, events: &[&str], aggregation: Aggregation, unit: Unit) -> Metric {
    Metric {
        name: name.to_owned(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        aggregation: aggregation as i32,
        unit: unit as i32,
        ..Default::default()
    }
}

/// The built-in dimension `name`.
pub fn dimension(name: &str) -> Field {
    Field { field: Some(field::Field::Dimension(name.to_owned())) }
}

/// Totals and unique profiles per event name, from 2000 to 2100.
pub fn by_event() -> QueryEventsRequest {
    QueryEventsRequest {
        range: Some(TimeRange { start: Some(timestamp(946_684_800_000_000)), end: Some(timestamp(4_102_444_800_000_000)) }),
        grain: Grain::Unspecified as i32,
        metrics: vec![
            metric("total", &[], Aggregation::Total, Unit::Unspecified),
            metric("profiles", &[], Aggregation::Unique, Unit::Profile),
        ],
        group_by: vec![dimension("event")],
        top: 10_000,
        ..Default::default()
    }
}

/// The answer of [`by_event`] as (event, total, profiles).
pub fn counts(answer: &QueryEventsResponse) -> std::collections::BTreeMap<String, (u64, u64)> {
    let count = |at: usize, totals: &[segue_proto::analytics::v1::Number]| match totals.get(at).and_then(|number| number.kind.as_ref()) {
        Some(number::Kind::Count(count)) => *count,
        other => panic!("a count was expected, not {other:?}"),
    };
    let name = |group: &segue_proto::analytics::v1::Group| match group
        .values
        .first()
        .and_then(|value| value.value.as_ref())
        .and_then(|value| value.kind.as_ref())
    {
        Some(value::Kind::StringValue(text)) => text.clone(),
        other => format!("{other:?}"),
    };
    answer.groups.iter().map(|group| (name(group), (count(0, &group.totals), count(1, &group.totals)))).collect()
}
