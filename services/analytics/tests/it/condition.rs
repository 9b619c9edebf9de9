//! Conditions: the cases of the semantics document, boundaries, validation, and a comparison with a plain reference; all through what
//! `SelectPersons` and `CountPersons` answer.

mod attributes;
mod cases;
mod on_the_index;
mod reference;
pub mod same_as_reference;
mod sequences;
mod validation;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use segue_analytics::persons;
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::scan::Snapshot;
use segue_model::dimension;
use segue_proto::analytics::v1::select_persons_request::Who;
use segue_proto::analytics::v1::{CountPersonsRequest, CountPersonsResponse, SelectPersonsRequest, SelectPersonsResponse};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{DimensionValue, Item, ResolvedEvent, Value};
use segue_proto::query::v1 as query;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Acquisition, Behavior, BehaviorAggregate, Comparison, Condition, ConditionList, EventSelector, Field, Filter, FilterList, ItemMatch,
    Operator, Span, TimeRange, TimeUnit, Touch, Window, field, filter, window,
};
use tokio_util::sync::CancellationToken;

/// *Now* where a test names no other.
pub const NOW: &str = "2026-11-22T12:00:00Z";

pub fn us(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().expect("a time").timestamp_micros()
}

pub fn timestamp(us: i64) -> Timestamp {
    Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

pub fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

pub fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

pub fn event(name: &str, time: &str, person: u32) -> ResolvedEvent {
    ResolvedEvent { name: name.to_owned(), time_us: us(time), person, ..ResolvedEvent::default() }
}

pub fn with_dimension(mut event: ResolvedEvent, name: &str, value: &str) -> ResolvedEvent {
    let code = dimension::by_name(name).expect("a dimension").code;
    event.dimensions.push(DimensionValue { code, value: value.to_owned() });
    event.dimensions.sort_by_key(|dimension| dimension.code);
    event
}

pub fn with_property(mut event: ResolvedEvent, name: &str, kind: Kind) -> ResolvedEvent {
    event.properties.insert(name.to_owned(), value(kind));
    event
}

pub fn with_items(mut event: ResolvedEvent, items: Vec<Item>) -> ResolvedEvent {
    event.items = items;
    event
}

/// An item with price (in whole units) and quantity.
pub fn item(category: &str, price: i64, quantity: i64) -> Item {
    Item { price_e4: Some(price * 10_000), quantity: Some(quantity), categories: vec![category.to_owned()], ..Item::default() }
}

pub fn of_dimension(name: &str) -> Field {
    Field { field: Some(field::Field::Dimension(name.to_owned())) }
}

pub fn of_property(name: &str) -> Field {
    Field { field: Some(field::Field::Property(name.to_owned())) }
}

pub fn of_item(name: &str) -> Field {
    Field { field: Some(field::Field::ItemProperty(name.to_owned())) }
}

pub fn compare_items(field: Field, operator: Operator, values: Vec<Kind>, items: ItemMatch) -> Filter {
    let values = values.into_iter().map(value).collect();
    let comparison = Comparison { field: Some(field), operator: operator as i32, values, item_match: items as i32 };
    Filter { node: Some(filter::Node::Compare(comparison)) }
}

pub fn compare(field: Field, operator: Operator, values: Vec<Kind>) -> Filter {
    compare_items(field, operator, values, ItemMatch::Unspecified)
}

pub fn is_in(field: Field, texts: &[&str]) -> Filter {
    compare(field, Operator::In, texts.iter().map(|one| text(one)).collect())
}

pub fn condition(node: Node) -> Condition {
    Condition { node: Some(node) }
}

pub fn all_of(conditions: Vec<Condition>) -> Condition {
    condition(Node::All(ConditionList { conditions }))
}

pub fn any_of(conditions: Vec<Condition>) -> Condition {
    condition(Node::Any(ConditionList { conditions }))
}

pub fn not(inner: Condition) -> Condition {
    condition(Node::Not(Box::new(inner)))
}

pub fn on(name: &str) -> EventSelector {
    EventSelector { events: vec![name.to_owned()], filter: None }
}

pub fn on_filtered(name: &str, filter: Filter) -> EventSelector {
    EventSelector { filter: Some(filter), ..on(name) }
}

/// COUNT ≥ 1 of one event, ever, until changed.
pub fn behavior(name: &str) -> Behavior {
    Behavior { on: Some(on(name)), ..Behavior::default() }
}

pub fn did(behavior: Behavior) -> Condition {
    condition(Node::Behavior(behavior))
}

pub fn last(count: u32, unit: TimeUnit) -> Option<Window> {
    Some(Window { window: Some(window::Window::Last(Span { count, unit: unit as i32 })) })
}

pub fn between(start: &str, end: &str) -> Option<Window> {
    let range = TimeRange { start: Some(timestamp(us(start))), end: Some(timestamp(us(end))) };
    Some(Window { window: Some(window::Window::Absolute(range)) })
}

pub fn aggregate(behavior: Behavior, aggregate: BehaviorAggregate, operator: Operator, values: Vec<Kind>) -> Behavior {
    let values = values.into_iter().map(value).collect();
    Behavior { aggregate: aggregate as i32, operator: operator as i32, values, ..behavior }
}

pub fn acquired(touch: Touch, window: Option<Window>, filter: Filter) -> Condition {
    condition(Node::Acquisition(Acquisition { touch: touch as i32, window, filter: Some(filter) }))
}

pub fn snapshot(events: &[ResolvedEvent]) -> Snapshot {
    Snapshot::of_events(&"shop".parse().expect("a tenant id"), us(NOW), events).expect("a snapshot")
}

pub fn select_of(snapshot: &Snapshot, request: &SelectPersonsRequest) -> Result<SelectPersonsResponse, QueryError> {
    let cancel = CancellationToken::new();
    persons::select(&Context { snapshot, zone: chrono_tz::Tz::UTC, limits: QueryLimits::default(), cancel: &cancel }, request)
}

pub fn count_of(snapshot: &Snapshot, request: &CountPersonsRequest) -> Result<CountPersonsResponse, QueryError> {
    let cancel = CancellationToken::new();
    persons::count(&Context { snapshot, zone: chrono_tz::Tz::UTC, limits: QueryLimits::default(), cancel: &cancel }, request)
}

pub fn request(condition: &Condition) -> SelectPersonsRequest {
    SelectPersonsRequest { who: Some(Who::Condition(condition.clone())), page_size: 10_000, ..SelectPersonsRequest::default() }
}

/// Who meets the condition at [`NOW`], which is the watermark.
pub fn who(events: &[ResolvedEvent], condition: &Condition) -> Vec<u32> {
    select_of(&snapshot(events), &request(condition)).expect("an answer").persons
}

pub fn who_at(events: &[ResolvedEvent], condition: &Condition, now_us: i64) -> Vec<u32> {
    let request = SelectPersonsRequest { as_of: Some(timestamp(now_us)), ..request(condition) };
    select_of(&snapshot(events), &request).expect("an answer").persons
}
