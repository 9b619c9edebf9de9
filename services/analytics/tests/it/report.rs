//! The general event report: the cases of the semantics document, validation, and a comparison with a plain reference.
//!
//! Reports run over snapshots of a few events, which are the same runs that the index keeps in memory.

mod attribution;
mod cases;
mod members;
mod on_the_index;
pub mod reference;
pub mod same_as_reference;
mod validation;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::report::{ReportLimits, persons, query};
use segue_analytics::scan::Snapshot;
use segue_model::dimension;
use segue_proto::analytics::v1::number::Kind as NumberKind;
use segue_proto::analytics::v1::{
    Aggregation, EventCell, Group, GroupKey, GroupValue, Metric, Number, QueryEventsRequest, QueryEventsResponse, Unit,
};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{DimensionValue, Item, ResolvedEvent, Value};
use segue_proto::query::v1::{Comparison, Field, Filter, FilterList, ItemMatch, Operator, TimeRange, field, filter};
use tokio_util::sync::CancellationToken;

/// Microseconds of a time like `2026-11-22T00:00:00Z`.
fn us(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().expect("a time").timestamp_micros()
}

fn timestamp(us: i64) -> Timestamp {
    Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

fn event(name: &str, time: &str, person: u32, device: u32) -> ResolvedEvent {
    ResolvedEvent { name: name.to_owned(), time_us: us(time), person, device, ..ResolvedEvent::default() }
}

fn with_dimension(mut event: ResolvedEvent, name: &str, value: &str) -> ResolvedEvent {
    let code = dimension::by_name(name).expect("a dimension").code;
    event.dimensions.push(DimensionValue { code, value: value.to_owned() });
    event.dimensions.sort_by_key(|dimension| dimension.code);
    event
}

fn with_property(mut event: ResolvedEvent, name: &str, kind: Kind) -> ResolvedEvent {
    event.properties.insert(name.to_owned(), value(kind));
    event
}

fn with_items(mut event: ResolvedEvent, items: Vec<Item>) -> ResolvedEvent {
    event.items = items;
    event
}

/// An item with price (in whole units) and quantity.
fn item(category: &str, price: Option<i64>, quantity: Option<i64>) -> Item {
    let categories = if category.is_empty() { Vec::new() } else { vec![category.to_owned()] };
    Item { price_e4: price.map(|price| price * 10_000), quantity, categories, ..Item::default() }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

fn dimension(name: &str) -> Field {
    Field { field: Some(field::Field::Dimension(name.to_owned())) }
}

fn property(name: &str) -> Field {
    Field { field: Some(field::Field::Property(name.to_owned())) }
}

fn item_property(name: &str) -> Field {
    Field { field: Some(field::Field::ItemProperty(name.to_owned())) }
}

fn compare(field: Field, operator: Operator, values: Vec<Kind>) -> Filter {
    compare_items(field, operator, values, ItemMatch::Unspecified)
}

fn compare_items(field: Field, operator: Operator, values: Vec<Kind>, items: ItemMatch) -> Filter {
    let values = values.into_iter().map(value).collect();
    let comparison = Comparison { field: Some(field), operator: operator as i32, values, item_match: items as i32 };
    Filter { node: Some(filter::Node::Compare(comparison)) }
}

fn all_of(filters: Vec<Filter>) -> Filter {
    Filter { node: Some(filter::Node::All(FilterList { filters })) }
}

fn any_of(filters: Vec<Filter>) -> Filter {
    Filter { node: Some(filter::Node::Any(FilterList { filters })) }
}

fn not(inner: Filter) -> Filter {
    Filter { node: Some(filter::Node::Not(Box::new(inner))) }
}

fn metric(aggregation: Aggregation, events: &[&str]) -> Metric {
    Metric { events: events.iter().map(|name| (*name).to_owned()).collect(), aggregation: aggregation as i32, ..Metric::default() }
}

fn unique(unit: Unit, events: &[&str]) -> Metric {
    Metric { unit: unit as i32, ..metric(Aggregation::Unique, events) }
}

fn of_field(aggregation: Aggregation, field: Field) -> Metric {
    Metric { field: Some(field), ..metric(aggregation, &[]) }
}

fn request(start: &str, end: &str, metrics: Vec<Metric>) -> QueryEventsRequest {
    let range = TimeRange { start: Some(timestamp(us(start))), end: Some(timestamp(us(end))) };
    QueryEventsRequest { range: Some(range), metrics, ..QueryEventsRequest::default() }
}

/// November 2026, UTC.
fn november(metrics: Vec<Metric>) -> QueryEventsRequest {
    request("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", metrics)
}

fn snapshot(events: &[ResolvedEvent]) -> Snapshot {
    Snapshot::of_events(&"shop".parse().expect("a tenant id"), us("2026-12-31T00:00:00Z"), events).expect("a snapshot")
}

/// Runs a request over a snapshot, in UTC.
fn query_snapshot(snapshot: &Snapshot, limits: QueryLimits, request: &QueryEventsRequest) -> Result<QueryEventsResponse, QueryError> {
    let cancel = CancellationToken::new();
    query(&Context { snapshot, zone: chrono_tz::Tz::UTC, limits, cancel: &cancel }, request)
}

/// The persons behind a number.
fn persons_of(events: &[ResolvedEvent], request: &QueryEventsRequest, cell: &EventCell) -> Result<Vec<u32>, QueryError> {
    let cancel = CancellationToken::new();
    let snapshot = snapshot(events);
    let context = Context { snapshot: &snapshot, zone: chrono_tz::Tz::UTC, limits: QueryLimits::default(), cancel: &cancel };
    persons(&context, request, cell).map(|persons| persons.into_iter().collect())
}

fn run(events: &[ResolvedEvent], request: &QueryEventsRequest) -> Result<QueryEventsResponse, QueryError> {
    query_snapshot(&snapshot(events), QueryLimits::default(), request)
}

fn report(events: &[ResolvedEvent], request: &QueryEventsRequest) -> QueryEventsResponse {
    run(events, request).expect("a report")
}

fn count(count: u64) -> Number {
    Number { kind: Some(NumberKind::Count(count)) }
}

fn decimal(text: &str) -> Number {
    Number { kind: Some(NumberKind::Decimal(text.to_owned())) }
}

fn double(value: f64) -> Number {
    Number { kind: Some(NumberKind::Double(value)) }
}

fn int(value: i64) -> Number {
    Number { kind: Some(NumberKind::Int(value)) }
}

const NOTHING: Number = Number { kind: None };

/// A group of the answer.
fn group_key(values: &[Option<&str>], other: bool) -> GroupKey {
    let values = values.iter().map(|found| GroupValue { value: found.map(|found| value(text(found))) }).collect();
    GroupKey { values, other }
}

/// Groups as (values, totals), for short comparisons: a missing value is `∅`, `other` is `…`.
fn summary(groups: &[Group]) -> Vec<(String, Vec<Number>)> {
    let shown = |group: &Group| {
        if group.other {
            return "…".to_owned();
        }
        let values = group.values.iter().map(|value| match value.value.as_ref().and_then(|value| value.kind.as_ref()) {
            None => "∅".to_owned(),
            Some(Kind::StringValue(text)) => text.clone(),
            Some(Kind::IntValue(number)) => number.to_string(),
            Some(Kind::DecimalE4Value(number)) => format!("{number}e4"),
            Some(other) => format!("{other:?}"),
        });
        values.collect::<Vec<_>>().join("|")
    };
    groups.iter().map(|group| (shown(group), group.totals.clone())).collect()
}
