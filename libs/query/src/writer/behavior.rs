//! What a person did, as text.

use segue_proto::events::v1::{Value, value};
use segue_proto::query::v1::{Behavior, BehaviorAggregate as Aggregate, EventSelector, EventSequence, Field, Operator, field};

use super::tests_of_events::{field_of_event, filter, items};
use super::value::{compared, operator_of, span};
use super::{Written, in_window};
use crate::error::{FormatError, FormatFault};
use crate::names::{AMOUNTS, name};

pub(super) fn behavior(asked: &Behavior) -> Written {
    let on = match &asked.on {
        Some(on) => selector(on).map_err(|error| error.under("on"))?,
        None => "anything".to_owned(),
    };
    let items = items(asked.items.as_ref()).map_err(|error| error.under("items"))?;
    let measure = measure(asked)?;
    let window = in_window(asked.window.as_ref(), "within")?;
    Ok(match measure {
        Measured::Never => format!("never did {on}{items}{window}"),
        Measured::Once => format!("did {on}{items}{window}"),
        Measured::By(measure) => format!("did {on}{items} {measure}{window}"),
    })
}

/// How the aggregate and its comparison are said.
enum Measured {
    Never,
    Once,
    By(String),
}

fn measure(asked: &Behavior) -> Result<Measured, FormatError> {
    let Ok(aggregate) = Aggregate::try_from(asked.aggregate) else { return Err(FormatError::at("aggregate", FormatFault::Unknown)) };
    let operator = operator_of(asked.operator)?;
    let of = match aggregate {
        Aggregate::Unspecified | Aggregate::Count => match (operator, whole(&asked.values)) {
            (Operator::GreaterOrEqual, Some(1)) if asked.field.is_none() => return Ok(Measured::Once),
            (Operator::Less, Some(1)) if asked.field.is_none() => return Ok(Measured::Never),
            (_, Some(times)) if amount(operator).is_some() => {
                without_field(asked)?;
                let times = match times {
                    1 => "once".to_owned(),
                    2 => "twice".to_owned(),
                    _ => format!("{times} times"),
                };
                return Ok(Measured::By(format!("{} {times}", amount(operator).unwrap_or_default())));
            }
            _ => without_field(asked).map(|()| "number of times".to_owned())?,
        },
        Aggregate::DistinctDays => match (amount(operator), whole(&asked.values)) {
            (Some(amount), Some(days)) => {
                without_field(asked)?;
                let unit = if days == 1 { "day" } else { "different days" };
                return Ok(Measured::By(format!("on {amount} {days} {unit}")));
            }
            _ => without_field(asked).map(|()| "number of days".to_owned())?,
        },
        Aggregate::FirstTime => without_field(asked).map(|()| "first time".to_owned())?,
        Aggregate::LastTime => without_field(asked).map(|()| "last time".to_owned())?,
        Aggregate::Sum => format!("sum of {}", product_or(asked.field.as_ref())?),
        Aggregate::Min => format!("smallest {}", product_or(asked.field.as_ref())?),
        Aggregate::Max => format!("largest {}", product_or(asked.field.as_ref())?),
        Aggregate::FirstValue => format!("first value of {}", field_of(asked.field.as_ref())?),
        Aggregate::LastValue => format!("last value of {}", field_of(asked.field.as_ref())?),
        Aggregate::DistinctCount => format!("number of different {}", field_of(asked.field.as_ref())?),
    };
    Ok(Measured::By(format!("with {of} {}", compared(operator, &asked.values, "")?)))
}

fn amount(operator: Operator) -> Option<&'static str> {
    AMOUNTS.iter().find(|(known, _)| *known == operator).and_then(|(_, phrases)| phrases.first().copied())
}

/// The only value, if it is one whole number.
fn whole(values: &[Value]) -> Option<i64> {
    match values {
        [Value { kind: Some(value::Kind::IntValue(number)) }] => Some(*number),
        _ => None,
    }
}

fn without_field(asked: &Behavior) -> Result<(), FormatError> {
    match asked.field {
        None => Ok(()),
        Some(_) => Err(FormatError::at("field", FormatFault::Misplaced("the aggregate is of events, not of a field: leave it out"))),
    }
}

fn product_or(field: Option<&Field>) -> Written {
    if field.is_none() { Ok("price × quantity".to_owned()) } else { field_of(field) }
}

fn field_of(asked: Option<&Field>) -> Written {
    let field = match asked.and_then(|field| field.field.as_ref()) {
        None => Err(FormatError::here(FormatFault::Unset("one of dimension, property and item_property"))),
        Some(field::Field::ItemProperty(property)) => Ok(format!("item {}", name(property))),
        Some(field @ (field::Field::Property(_) | field::Field::Dimension(_))) => field_of_event(field),
    };
    field.map_err(|error| error.under("field"))
}

pub(super) fn sequence(asked: &EventSequence) -> Written {
    if asked.steps.len() < 2 {
        return Err(FormatError::at("steps", FormatFault::Steps));
    }
    let step = |(at, on)| selector(on).map_err(|error| error.under(format!("steps[{at}]")));
    let steps: Vec<String> = asked.steps.iter().enumerate().map(step).collect::<Result<_, _>>()?;
    let within = match &asked.within {
        Some(within) => span(within),
        None => Err(FormatError::here(FormatFault::Unset("how long after the first step the last may come"))),
    };
    let within = within.map_err(|error| error.under("within"))?;
    let without = match &asked.not_between {
        Some(on) => format!(" without {} between", selector(on).map_err(|error| error.under("not_between"))?),
        None => String::new(),
    };
    let window = in_window(asked.window.as_ref(), "in the last")?;
    let window = if window.is_empty() { window } else { format!(",{window}") };
    Ok(format!("did {} within {within}{without}{window}", steps.join(" then ")))
}

fn selector(on: &EventSelector) -> Written {
    let events = match on.events.as_slice() {
        [] => "anything".to_owned(),
        [only] => name(only),
        several => format!("one of ({})", several.iter().map(|event| name(event)).collect::<Vec<_>>().join(", ")),
    };
    Ok(events + &filter(on.filter.as_ref())?)
}
