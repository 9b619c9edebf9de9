//! Which events a selector means, decided for one event at a time: for whoever acts on events as they come in.
//!
//! The meaning is that of analytics' filters over stored events. There is no third truth value: a comparison with a missing value is false,
//! its negation (NOT_IN, NOT_CONTAINS, NOT_EXISTS or a `not`) is true. What analytics refuses to ask (text below a number, an unknown
//! dimension) is a missing value here.
//!
//! Analytics knows a property by the one type that it has for the tenant; here the values asked about say which type that is. So a number
//! asked about as text is its text, and numbers of different types compare by value: exactly, but for what is compared with a double, which
//! is taken as the nearest double.

use segue_model::{Decimal4, catalogue, decimal, dimension};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{EventKind, Item, ResolvedEvent, Value};
use segue_proto::query::v1::field::Field as FieldKind;
use segue_proto::query::v1::filter::Node;
use segue_proto::query::v1::{Comparison, EventSelector, Field, Filter, ItemMatch, Operator};

use crate::exact::Exact;

/// What a field of an event holds, where it holds something.
#[derive(Debug, Clone, Copy)]
enum Held<'e> {
    Text(&'e str),
    Int(i64),
    Decimal(i64),
    Of(&'e Kind),
}

/// Whether the selector means the event. IDENTIFY, GROUP and ALIAS are nothing that happened: no selector means them.
pub fn matches(selector: &EventSelector, event: &ResolvedEvent) -> bool {
    let happened = match event.kind() {
        EventKind::Unspecified | EventKind::Track | EventKind::Page | EventKind::Screen => !event.name.is_empty(),
        EventKind::Identify | EventKind::Group | EventKind::Alias => false,
    };
    let is_named = || selector.events.iter().any(|name| *name == event.name || canonical(name) == event.name);
    happened && (selector.events.is_empty() || is_named()) && selector.filter.as_ref().is_none_or(|filter| passes(filter, event))
}

/// What an event holds in a field, as text: texts as they are, numbers in plain notation without zeros at the end (so that equal numbers of
/// different types are equal texts), times as RFC 3339. None: nothing, or the field is one of items, of which there may be many.
pub fn field_text(event: &ResolvedEvent, field: &Field) -> Option<String> {
    match field.field.as_ref()? {
        FieldKind::Dimension(name) => dimension_of(event, name).map(str::to_owned),
        FieldKind::Property(name) => property_text(event, name),
        FieldKind::ItemProperty(_) => None,
    }
}

/// [`field_text`] of a property.
pub fn property_text(event: &ResolvedEvent, name: &str) -> Option<String> {
    property_of(event, name).map(value_text)
}

/// A value as [`field_text`] says it.
pub fn value_text(value: &Kind) -> String {
    match value {
        Kind::StringValue(text) | Kind::JsonValue(text) => text.clone(),
        Kind::IntValue(number) => number.to_string(),
        Kind::DecimalE4Value(e4) => {
            let text = decimal::format_e4(i128::from(*e4));
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Kind::DoubleValue(number) => (number + 0.0).to_string(),
        Kind::BoolValue(truth) => truth.to_string(),
        Kind::TimestampValue(time) => time.to_string(),
    }
}

/// What an event holds in a property: of those of the taxonomy, else of the others.
pub fn property_of<'e>(event: &'e ResolvedEvent, name: &str) -> Option<&'e Kind> {
    let of = |value: &'e Value| value.kind.as_ref();
    event.properties.get(name).and_then(of).or_else(|| event.unregistered.get(name).and_then(of))
}

fn canonical(name: &str) -> &str {
    catalogue::canonical_event(name).unwrap_or(name)
}

fn passes(filter: &Filter, event: &ResolvedEvent) -> bool {
    match &filter.node {
        None => true,
        Some(Node::All(list)) => list.filters.iter().all(|operand| passes(operand, event)),
        Some(Node::Any(list)) => list.filters.iter().any(|operand| passes(operand, event)),
        Some(Node::Not(operand)) => !passes(operand, event),
        Some(Node::Compare(comparison)) => compares(comparison, event),
    }
}

fn compares(comparison: &Comparison, event: &ResolvedEvent) -> bool {
    let Some(field) = comparison.field.as_ref().and_then(|field| field.field.as_ref()) else { return false };
    match field {
        FieldKind::Dimension(name) if name == "event" => {
            // An alias means the event that it is an alias of, as in a selector's names.
            let is_set = matches!(comparison.operator(), Operator::In | Operator::NotIn);
            let is_meant = |value: &Value| matches!(&value.kind, Some(Kind::StringValue(text)) if canonical(text) == event.name);
            if is_set {
                return comparison.values.iter().any(is_meant) == (comparison.operator() == Operator::In);
            }
            holds(comparison, Some(Held::Text(&event.name)))
        }
        FieldKind::Dimension(name) => holds(comparison, dimension_of(event, name).map(Held::Text)),
        FieldKind::Property(name) => holds(comparison, property_of(event, name).map(Held::Of)),
        FieldKind::ItemProperty(name) => {
            let mut items = event.items.iter().map(|item| holds(comparison, item_field(item, name)));
            match comparison.item_match() {
                ItemMatch::Unspecified | ItemMatch::Any => items.any(|passes| passes),
                ItemMatch::All => !event.items.is_empty() && items.all(|passes| passes),
                ItemMatch::None => !items.any(|passes| passes),
            }
        }
    }
}

fn dimension_of<'e>(event: &'e ResolvedEvent, name: &str) -> Option<&'e str> {
    match name {
        "event" => Some(&event.name),
        "source" => (!event.source.is_empty()).then_some(&event.source),
        _ => {
            let code = dimension::by_name(name)?.code;
            event.dimensions.iter().find(|held| held.code == code).map(|held| held.value.as_str())
        }
    }
}

/// The contract cannot tell an item's missing text from an empty one: both are missing.
fn item_field<'e>(item: &'e Item, name: &str) -> Option<Held<'e>> {
    let text = |text: &'e str| (!text.is_empty()).then_some(Held::Text(text));
    let category = |at: usize| text(item.categories.get(at)?);
    match name {
        "item_id" => text(&item.item_id),
        "item_name" => text(&item.name),
        "price" => item.price_e4.map(Held::Decimal),
        "quantity" => item.quantity.map(Held::Int),
        "discount" => item.discount_e4.map(Held::Decimal),
        "category1" => category(0),
        "category2" => category(1),
        "category3" => category(2),
        "category4" => category(3),
        "category5" => category(4),
        "brand" => text(&item.brand),
        "variant" => text(&item.variant),
        "coupon" => text(&item.coupon),
        _ => item.properties.get(name)?.kind.as_ref().map(Held::Of),
    }
}

/// Whether the comparison is true of what a field holds.
fn holds(comparison: &Comparison, held: Option<Held<'_>>) -> bool {
    let values = &comparison.values;
    let any = |test: &dyn Fn(Held<'_>, &Kind) -> bool| {
        held.is_some_and(|held| values.iter().any(|value| value.kind.as_ref().is_some_and(|value| test(held, value))))
    };
    let order = |at: usize| {
        let value = values.get(at)?.kind.as_ref()?;
        held.and_then(|held| held.order(value))
    };
    match comparison.operator() {
        Operator::Unspecified => false,
        Operator::In => any(&|held, value| held.equals(value)),
        Operator::NotIn => !any(&|held, value| held.equals(value)),
        Operator::Less => order(0).is_some_and(|order| order.is_lt()),
        Operator::LessOrEqual => order(0).is_some_and(|order| order.is_le()),
        Operator::Greater => order(0).is_some_and(|order| order.is_gt()),
        Operator::GreaterOrEqual => order(0).is_some_and(|order| order.is_ge()),
        Operator::Between => order(0).is_some_and(|order| order.is_ge()) && order(1).is_some_and(|order| order.is_lt()),
        Operator::Contains => any(&|held, value| held.has(value, |text, part| text.contains(part))),
        Operator::NotContains => !any(&|held, value| held.has(value, |text, part| text.contains(part))),
        Operator::StartsWith => any(&|held, value| held.has(value, |text, part| text.starts_with(part))),
        Operator::EndsWith => any(&|held, value| held.has(value, |text, part| text.ends_with(part))),
        Operator::Exists => held.is_some(),
        Operator::NotExists => held.is_none(),
    }
}

impl Held<'_> {
    fn equals(self, value: &Kind) -> bool {
        match value {
            Kind::StringValue(_) => self.has(value, |text, wanted| text == wanted),
            Kind::BoolValue(wanted) => matches!(self, Held::Of(Kind::BoolValue(truth)) if truth == wanted),
            Kind::IntValue(_) | Kind::DoubleValue(_) | Kind::DecimalE4Value(_) | Kind::TimestampValue(_) => {
                self.order(value).is_some_and(|order| order.is_eq())
            }
            Kind::JsonValue(_) => false,
        }
    }

    /// Whether it is a text that stands so to the text asked about. What is no text but can be written down is as analytics writes it.
    fn has(self, value: &Kind, test: impl Fn(&str, &str) -> bool) -> bool {
        let Kind::StringValue(wanted) = value else { return false };
        match self {
            Held::Text(text) => test(text, wanted),
            Held::Of(Kind::StringValue(text) | Kind::JsonValue(text)) => test(text, wanted),
            Held::Int(number) | Held::Of(&Kind::IntValue(number)) => test(&number.to_string(), wanted),
            Held::Decimal(e4) | Held::Of(&Kind::DecimalE4Value(e4)) => test(&decimal::format_e4(i128::from(e4)), wanted),
            Held::Of(Kind::DoubleValue(number)) => test(&number.to_string(), wanted),
            Held::Of(Kind::BoolValue(truth)) => test(&truth.to_string(), wanted),
            Held::Of(Kind::TimestampValue(_)) => false,
        }
    }

    /// How it stands to the value, if both are numbers or both are times.
    fn order(self, value: &Kind) -> Option<std::cmp::Ordering> {
        let held = match self {
            Held::Text(_) => None,
            Held::Int(number) => Some(Exact::of_int(number)),
            Held::Decimal(e4) => Some(Exact::of_e4(e4)),
            Held::Of(Kind::TimestampValue(time)) => {
                let Kind::TimestampValue(wanted) = value else { return None };
                // Analytics keeps whole microseconds of an event's values.
                let kept = |nanos: i32| nanos - nanos.rem_euclid(1_000);
                return Some((time.seconds, kept(time.nanos)).cmp(&(wanted.seconds, wanted.nanos)));
            }
            Held::Of(Kind::DoubleValue(number)) => return number.partial_cmp(&double_of(value)?),
            Held::Of(kind) => Exact::of(kind),
        };
        Some(held?.cmp(&Exact::of(value)?))
    }
}

/// The number as a property of doubles is asked about it.
fn double_of(value: &Kind) -> Option<f64> {
    match value {
        Kind::IntValue(number) => Some(*number as f64),
        Kind::DecimalE4Value(e4) => Some(Decimal4(*e4).to_f64()),
        Kind::DoubleValue(number) => Some(*number),
        Kind::StringValue(_) | Kind::BoolValue(_) | Kind::TimestampValue(_) | Kind::JsonValue(_) => None,
    }
}

/// How a value that is held stands to one that is asked about, if both are numbers or both are times.
pub fn value_order(held: &Value, asked: &Value) -> Option<std::cmp::Ordering> {
    Held::Of(held.kind.as_ref()?).order(asked.kind.as_ref()?)
}
