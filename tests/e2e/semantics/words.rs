//! Fields, selectors, filters, ranges and conditions of questions in few words.

use prost_types::Duration;
use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Acquisition, Behavior, BehaviorAggregate, Comparison, Condition, ConditionList, EventSelector, Field, Filter, ItemMatch, Operator,
    Span, TimeRange, TimeUnit, Touch, Window, field, filter, window,
};
use segue_tests::events::timestamp;

use super::story::offset_us;

/// From one moment to another; both count from the start of the case, which is added when the question is asked.
pub fn span(start: &str, end: &str) -> Option<TimeRange> {
    let time = |text| Some(timestamp(offset_us(text).expect("a length of time")));
    Some(TimeRange { start: time(start), end: time(end) })
}

pub fn length(text: &str) -> Option<Duration> {
    let time = timestamp(offset_us(text).expect("a length of time"));
    Some(Duration { seconds: time.seconds, nanos: time.nanos })
}

pub fn property(name: &str) -> Field {
    Field { field: Some(field::Field::Property(name.to_owned())) }
}

pub fn item_property(name: &str) -> Field {
    Field { field: Some(field::Field::ItemProperty(name.to_owned())) }
}

/// Events of these names, separated by spaces; none: every event.
pub fn on(names: &str) -> EventSelector {
    EventSelector { events: names.split_whitespace().map(str::to_owned).collect(), filter: None }
}

pub fn on_filtered(names: &str, filter: Filter) -> EventSelector {
    EventSelector { filter: Some(filter), ..on(names) }
}

pub fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

pub fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

pub fn compare_items(field: Field, operator: Operator, values: Vec<Kind>, items: ItemMatch) -> Filter {
    let values = values.into_iter().map(value).collect();
    let comparison = Comparison { field: Some(field), operator: operator as i32, values, item_match: items as i32 };
    Filter { node: Some(filter::Node::Compare(comparison)) }
}

pub fn compare(field: Field, operator: Operator, values: Vec<Kind>) -> Filter {
    compare_items(field, operator, values, ItemMatch::Unspecified)
}

/// The field is one of these texts, separated by spaces.
pub fn is(field: Field, texts: &str) -> Filter {
    compare(field, Operator::In, texts.split_whitespace().map(text).collect())
}

pub fn condition(node: Node) -> Condition {
    Condition { node: Some(node) }
}

pub fn all<const N: usize>(conditions: [Condition; N]) -> Condition {
    condition(Node::All(ConditionList { conditions: conditions.to_vec() }))
}

pub fn any<const N: usize>(conditions: [Condition; N]) -> Condition {
    condition(Node::Any(ConditionList { conditions: conditions.to_vec() }))
}

pub fn not(inner: Condition) -> Condition {
    condition(Node::Not(Box::new(inner)))
}

pub fn behavior(events: &str) -> Behavior {
    Behavior { on: Some(on(events)), ..Default::default() }
}

pub fn did(behavior: Behavior) -> Condition {
    condition(Node::Behavior(behavior))
}

pub fn within(behavior: Behavior, count: u32, unit: TimeUnit) -> Behavior {
    Behavior { window: last(count, unit), ..behavior }
}

pub fn last(count: u32, unit: TimeUnit) -> Option<Window> {
    Some(Window { window: Some(window::Window::Last(Span { count, unit: unit.into() })) })
}

pub fn time(text: &str) -> prost_types::Timestamp {
    text.parse().expect("a time")
}

pub fn absolute(start: &str, end: &str) -> Option<Window> {
    let range = TimeRange { start: Some(time(start)), end: Some(time(end)) };
    Some(Window { window: Some(window::Window::Absolute(range)) })
}

pub fn compared(behavior: Behavior, aggregate: BehaviorAggregate, operator: Operator, values: &[Kind]) -> Condition {
    let values = values.iter().cloned().map(value).collect();
    did(Behavior { aggregate: aggregate.into(), operator: operator.into(), values, ..behavior })
}

pub fn acquired(touch: Touch, window: Option<Window>, filter: Filter) -> Condition {
    condition(Node::Acquisition(Acquisition { touch: touch.into(), window, filter: Some(filter) }))
}
