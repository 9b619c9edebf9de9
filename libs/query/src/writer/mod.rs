//! Conditions to text, in the usual form: what [`parse`](crate::parse) reads back as the same condition. Everything here writes messages in
//! their normal form.

mod behavior;
mod tests_of_events;
mod value;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Acquisition, Attribute, Condition, ConditionList, Membership, PersonSet, Span, Touch, Window, membership, window,
};

use crate::NESTING_MAX;
use crate::depth::depth;
use crate::error::{FormatError, FormatFault};
use crate::names::{name, quoted};
use crate::normal::normalise;
use crate::walk::kind;
use value::{compared, operator_of, span, time};

type Written = Result<String, FormatError>;

/// Writes a condition. Every valid one has a text; [`FormatFault`] says which others have none. The text may be longer than what
/// [`parse`](crate::parse) takes if the condition lists very many values or persons.
pub fn format(condition: &Condition) -> Written {
    if depth(condition) > NESTING_MAX {
        return Err(FormatError::at("condition", FormatFault::TooDeep));
    }
    tree(&normalise(condition), Place::Alone).map_err(|error| error.under("condition"))
}

/// Writes a value, so that its kind can be read back.
pub fn format_value(value: &segue_proto::events::v1::Value) -> Written {
    value::value(value)
}

/// Writes a span, for example `3 months`.
pub fn format_span(length: &Span) -> Written {
    span(length)
}

/// Where a condition or test stands, which decides whether one that is joined by `and` or `or` needs parentheses.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// By itself, or between parentheses or commas.
    Alone,
    /// Beside `and`, `or` or `where`.
    Joined,
}

impl Place {
    /// Of an operand of so many.
    fn among(operands: usize) -> Place {
        if operands < 2 { Place::Alone } else { Place::Joined }
    }

    /// A text of operands joined by words.
    fn joined(self, text: String) -> String {
        match self {
            Place::Alone => text,
            Place::Joined => format!("({text})"),
        }
    }
}

fn tree(condition: &Condition, place: Place) -> Written {
    let Some(node) = &condition.node else {
        return Err(FormatError::here(FormatFault::Unset("one of the kinds of conditions")));
    };
    let text = match node {
        Node::All(list) => operands(list).map(|operands| match operands.as_slice() {
            [] => "everyone".to_owned(),
            [only] => format!("all of ({only})"),
            several => place.joined(several.join(" and ")),
        }),
        Node::Any(list) => operands(list).map(|operands| match operands.as_slice() {
            [] => "nobody".to_owned(),
            [only] => format!("any of ({only})"),
            several => place.joined(several.join(" or ")),
        }),
        Node::Not(operand) => tree(operand, Place::Alone).map(|operand| format!("not ({operand})")),
        Node::Behavior(asked) => behavior::behavior(asked),
        Node::Sequence(asked) => behavior::sequence(asked),
        Node::Attribute(attribute) => trait_of_person(attribute),
        Node::Acquisition(acquisition) => touch(acquisition),
        Node::RandomBucket(bucket) => Ok(format!("bucket {} from {} to below {}", quoted(&bucket.salt), bucket.from, bucket.to)),
        Node::Persons(set) => Ok(persons(set)),
        Node::MemberOf(membership) => member_of(membership),
        Node::HasIdentifier(identifier) => Ok(format!("has {}", name(&identifier.kind))),
    };
    text.map_err(|error| error.under(kind(node)))
}

fn operands(list: &ConditionList) -> Result<Vec<String>, FormatError> {
    let place = Place::among(list.conditions.len());
    let operand = |(at, condition)| tree(condition, place).map_err(|error| error.under(format!("conditions[{at}]")));
    list.conditions.iter().enumerate().map(operand).collect()
}

fn trait_of_person(attribute: &Attribute) -> Written {
    let operator = operator_of(attribute.operator)?;
    let compared = compared(operator, &attribute.values, "is ")?;
    let as_of = match &attribute.as_of {
        Some(moment) => format!(" as of {}", time(moment).map_err(|error| error.under("as_of"))?),
        None => String::new(),
    };
    Ok(format!("trait {} {compared}{as_of}", name(&attribute.r#trait)))
}

fn touch(acquisition: &Acquisition) -> Written {
    let which = match Touch::try_from(acquisition.touch) {
        Ok(Touch::First) => "first",
        Ok(Touch::Last | Touch::Unspecified) => "last",
        Err(_) => return Err(FormatError::at("touch", FormatFault::Unknown)),
    };
    let window = in_window(acquisition.window.as_ref(), "within")?;
    let filter = tests_of_events::filter(acquisition.filter.as_ref())?;
    Ok(format!("{which} touch{window}{filter}"))
}

fn persons(set: &PersonSet) -> String {
    let label = if set.label.is_empty() { String::new() } else { format!(" labelled {}", quoted(&set.label)) };
    format!("persons base64 \"{}\"{label}", BASE64.encode(&set.numbers))
}

fn member_of(membership: &Membership) -> Written {
    match &membership.of {
        Some(membership::Of::Segment(id)) => Ok(format!("in segment {}", name(id))),
        Some(membership::Of::Audience(id)) => Ok(format!("in audience {}", name(id))),
        Some(membership::Of::List(id)) => Ok(format!("on list {}", name(id))),
        None => Err(FormatError::here(FormatFault::Unset("one of segment, audience and list"))),
    }
}

/// The window with a space before it; nothing if it is ever. `last` are the words before a span.
fn in_window(asked: Option<&Window>, last: &str) -> Written {
    let text = match asked.and_then(|window| window.window.as_ref()) {
        None => Ok(String::new()),
        Some(window::Window::Last(length)) => span(length).map(|text| format!(" {last} {text}")).map_err(|error| error.under("last")),
        Some(window::Window::Absolute(range)) => {
            let bound = |field: &str, bound: Option<&prost_types::Timestamp>| match bound {
                Some(moment) => time(moment).map_err(|error| error.under(field)),
                None => Err(FormatError::at(field, FormatFault::Unset("both ends of the range"))),
            };
            bound("start", range.start.as_ref())
                .and_then(|start| Ok(format!(" from {start} to before {}", bound("end", range.end.as_ref())?)))
                .map_err(|error| error.under("absolute"))
        }
    };
    text.map_err(|error| error.under("window"))
}
