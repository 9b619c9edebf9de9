//! Tests of one event or item, as text.

use segue_proto::query::v1::filter::Node;
use segue_proto::query::v1::{Comparison, Filter, FilterList, ItemMatch, field};

use super::value::{compared, operator_of};
use super::{Place, Written};
use crate::error::{FormatError, FormatFault};
use crate::names::{is_bare_dimension, name};

#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Events,
    Items,
}

/// ` where …`; nothing without a filter.
pub(super) fn filter(asked: Option<&Filter>) -> Written {
    match asked {
        None => Ok(String::new()),
        Some(asked) => {
            let tests = tests(asked, Place::Joined, Scope::Events);
            tests.map(|tests| format!(" where {tests}")).map_err(|error| error.under("filter"))
        }
    }
}

/// ` of items where …`; nothing without a filter.
pub(super) fn items(asked: Option<&Filter>) -> Written {
    match asked {
        None => Ok(String::new()),
        Some(asked) => Ok(format!(" of items where {}", tests(asked, Place::Joined, Scope::Items)?)),
    }
}

fn tests(asked: &Filter, place: Place, scope: Scope) -> Written {
    match &asked.node {
        None => Err(FormatError::here(FormatFault::Unset("one of all, any, not and compare"))),
        Some(Node::All(list)) => {
            let operands = operands(list, scope).map_err(|error| error.under("all"))?;
            Ok(if operands.len() < 2 { format!("all of ({})", operands.concat()) } else { place.joined(operands.join(" and ")) })
        }
        Some(Node::Any(list)) => {
            let operands = operands(list, scope).map_err(|error| error.under("any"))?;
            Ok(if operands.len() < 2 { format!("any of ({})", operands.concat()) } else { place.joined(operands.join(" or ")) })
        }
        Some(Node::Not(operand)) => {
            let operand = tests(operand, Place::Alone, scope).map_err(|error| error.under("not"))?;
            Ok(format!("not ({operand})"))
        }
        Some(Node::Compare(comparison)) => comparison_text(comparison, scope).map_err(|error| error.under("compare")),
    }
}

fn operands(list: &FilterList, scope: Scope) -> Result<Vec<String>, FormatError> {
    let place = Place::among(list.filters.len());
    let operand = |(at, filter)| tests(filter, place, scope).map_err(|error| error.under(format!("filters[{at}]")));
    list.filters.iter().enumerate().map(operand).collect()
}

fn comparison_text(comparison: &Comparison, scope: Scope) -> Written {
    let item_match = |description| Err(FormatError::at("item_match", FormatFault::Misplaced(description)));
    let Ok(which) = ItemMatch::try_from(comparison.item_match) else { return Err(FormatError::at("item_match", FormatFault::Unknown)) };
    let Some(asked) = comparison.field.as_ref().and_then(|field| field.field.as_ref()) else {
        return Err(FormatError::at("field", FormatFault::Unset("one of dimension, property and item_property")));
    };
    let field = match (asked, scope) {
        (field::Field::ItemProperty(property), Scope::Events) => {
            let which = match which {
                ItemMatch::Unspecified | ItemMatch::Any => "any",
                ItemMatch::All => "every",
                ItemMatch::None => "no",
            };
            format!("{which} item {}", name(property))
        }
        (field::Field::ItemProperty(property), Scope::Items) => match which {
            ItemMatch::Unspecified | ItemMatch::Any => name(property),
            ItemMatch::All | ItemMatch::None => return item_match("each item is tested by itself here: leave it out"),
        },
        (field::Field::Property(_) | field::Field::Dimension(_), Scope::Items) => {
            return Err(FormatError::at("field", FormatFault::Misplaced("items are tested one by one here: set item_property")));
        }
        (field @ (field::Field::Property(_) | field::Field::Dimension(_)), Scope::Events) => match which {
            ItemMatch::Unspecified => field_of_event(field)?,
            ItemMatch::Any | ItemMatch::All | ItemMatch::None => return item_match("only for item properties: leave it out"),
        },
    };
    Ok(format!("{field} {}", compared(operator_of(comparison.operator)?, &comparison.values, "is ")?))
}

/// A dimension or property: with its prefix where the name alone would be taken for the other.
pub(super) fn field_of_event(asked: &field::Field) -> Written {
    Ok(match asked {
        field::Field::Dimension(dimension) if is_bare_dimension(dimension) => name(dimension),
        field::Field::Dimension(dimension) => format!("dimension {}", name(dimension)),
        field::Field::Property(property) if is_bare_dimension(property) => format!("property {}", name(property)),
        field::Field::Property(property) => name(property),
        field::Field::ItemProperty(_) => return Err(FormatError::here(FormatFault::Misplaced("set dimension or property"))),
    })
}
