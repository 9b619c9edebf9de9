//! Selectors, filters and conditions of a definition: their shape. Whether a condition's names exist is for analytics to say.

use segue_model::catalogue::{PROPERTIES, ValueType};
use segue_model::dimension;
use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::query::v1::condition::Node as ConditionNode;
use segue_proto::query::v1::field::Field;
use segue_proto::query::v1::filter::Node;
use segue_proto::query::v1::{Comparison, Condition, EventSelector, Filter, ItemMatch, Operator};

use super::compile::{Faults, check_name, is_moment};

const EVENTS_MAX: usize = 100;
const NODES_MAX: usize = 100;
const LEVELS_MAX: usize = 8;
const VALUES_MAX: usize = 1_000;

/// What values can be compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Text,
    Number,
    Truth,
    Time,
    Json,
}

/// A selector that is required at `path`.
pub(super) fn check(faults: &mut Faults, path: &str, selector: Option<&EventSelector>) {
    let Some(selector) = selector else { return faults.add(path, "required: which events; one without names means every event") };
    if selector.events.len() > EVENTS_MAX {
        faults.add(format!("{path}.events"), format!("at most {EVENTS_MAX} names; none means every event"));
    }
    for (at, name) in selector.events.iter().enumerate().take(EVENTS_MAX) {
        check_name(faults, &format!("{path}.events[{at}]"), name);
    }
    if let Some(filter) = &selector.filter {
        let mut nodes = 0;
        check_filter(faults, &format!("{path}.filter"), filter, 1, &mut nodes);
        if nodes > NODES_MAX {
            faults.add(format!("{path}.filter"), format!("more than {NODES_MAX} nodes"));
        }
    }
}

fn check_filter(faults: &mut Faults, path: &str, filter: &Filter, level: usize, nodes: &mut usize) {
    *nodes += 1;
    if *nodes > NODES_MAX {
        return;
    }
    if level > LEVELS_MAX {
        return faults.add(path, format!("nested deeper than {LEVELS_MAX} levels"));
    }
    match &filter.node {
        None => {}
        Some(Node::All(list)) => {
            for (at, operand) in list.filters.iter().enumerate() {
                check_filter(faults, &format!("{path}.all.filters[{at}]"), operand, level + 1, nodes);
            }
        }
        Some(Node::Any(list)) => {
            for (at, operand) in list.filters.iter().enumerate() {
                check_filter(faults, &format!("{path}.any.filters[{at}]"), operand, level + 1, nodes);
            }
        }
        Some(Node::Not(operand)) => check_filter(faults, &format!("{path}.not"), operand, level + 1, nodes),
        Some(Node::Compare(comparison)) => check_comparison(faults, &format!("{path}.compare"), comparison),
    }
}

fn check_comparison(faults: &mut Faults, path: &str, comparison: &Comparison) {
    let field = comparison.field.as_ref().and_then(|field| field.field.as_ref());
    match field {
        None => faults.add(format!("{path}.field"), "set one of dimension, property and item_property"),
        Some(Field::Dimension(name)) if !is_dimension(name) => {
            faults.add(format!("{path}.field.dimension"), format!("`{name}` is not a dimension; ListDimensions lists all"));
        }
        Some(Field::Dimension(_)) => {}
        Some(Field::Property(name)) => check_name(faults, &format!("{path}.field.property"), name),
        Some(Field::ItemProperty(name)) => check_name(faults, &format!("{path}.field.item_property"), name),
    }
    match ItemMatch::try_from(comparison.item_match) {
        Err(_) => faults.add(format!("{path}.item_match"), "one of ANY, ALL and NONE"),
        Ok(ItemMatch::Unspecified) => {}
        Ok(ItemMatch::Any | ItemMatch::All | ItemMatch::None) => {
            if !matches!(field, Some(Field::ItemProperty(_)) | None) {
                faults.add(format!("{path}.item_match"), "only for item properties: an event has one value of any other field");
            }
        }
    }
    let operator = match Operator::try_from(comparison.operator) {
        Ok(Operator::Unspecified) | Err(_) => return faults.add(format!("{path}.operator"), "set the operator"),
        Ok(operator) => operator,
    };
    check_values(faults, path, operator, &comparison.values, field.and_then(class_of_field));
}

fn check_values(faults: &mut Faults, path: &str, operator: Operator, values: &[Value], class: Option<Class>) {
    let is_text = matches!(operator, Operator::Contains | Operator::NotContains | Operator::StartsWith | Operator::EndsWith);
    let is_set = matches!(operator, Operator::In | Operator::NotIn);
    let wanted = match operator {
        Operator::Unspecified | Operator::Exists | Operator::NotExists => 0..=0,
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => 1..=1,
        Operator::Between => 2..=2,
        Operator::In | Operator::NotIn | Operator::Contains | Operator::NotContains | Operator::StartsWith | Operator::EndsWith => {
            1..=VALUES_MAX
        }
    };
    if !wanted.contains(&values.len()) {
        let name = operator.as_str_name().trim_start_matches("OPERATOR_");
        let wanted = if is_text || is_set { format!("1 to {VALUES_MAX}") } else { wanted.start().to_string() };
        return faults.add(format!("{path}.values"), format!("{name} takes {wanted} value(s), {} given", values.len()));
    }
    let mut class = class;
    for (at, value) in values.iter().enumerate() {
        let path = format!("{path}.values[{at}]");
        let found = match &value.kind {
            None => {
                faults.add(path, "set a value");
                continue;
            }
            Some(Kind::DoubleValue(number)) if number.is_nan() => {
                faults.add(path, "a number, NaN is none");
                continue;
            }
            Some(Kind::TimestampValue(time)) if !is_moment(time) => {
                faults.add(path, "not a timestamp between the years 1 and 9999");
                continue;
            }
            Some(kind) => class_of(kind),
        };
        let fits_operator = match found {
            Class::Text => is_text || is_set,
            Class::Number | Class::Time => !is_text,
            Class::Truth => is_set,
            Class::Json => false,
        };
        if !fits_operator {
            faults.add(path, format!("{} does not go with this operator", describe(found)));
        } else if *class.get_or_insert(found) != found {
            faults.add(path, format!("{} cannot be compared with {}", describe(found), class.map_or("it", describe)));
        }
    }
    if let (Operator::Between, [first, second]) = (operator, values)
        && segue_query::value_order(first, second).is_some_and(|order| order.is_ge())
    {
        faults.add(format!("{path}.values[1]"), "the second value of BETWEEN is exclusive and must be above the first");
    }
}

fn is_dimension(name: &str) -> bool {
    matches!(name, "event" | "source") || dimension::by_name(name).is_some()
}

/// What is known of a field by its name alone.
fn class_of_field(field: &Field) -> Option<Class> {
    match field {
        Field::Dimension(_) => Some(Class::Text),
        Field::Property(name) => PROPERTIES.iter().find(|known| known.name == name).map(|known| match known.value_type {
            ValueType::String => Class::Text,
            ValueType::Int | ValueType::Double | ValueType::Decimal => Class::Number,
            ValueType::Bool => Class::Truth,
            ValueType::Timestamp => Class::Time,
            ValueType::Json => Class::Json,
        }),
        Field::ItemProperty(name) => match name.as_str() {
            "price" | "quantity" | "discount" => Some(Class::Number),
            "item_id" | "item_name" | "category1" | "category2" | "category3" | "category4" | "category5" | "brand" | "variant"
            | "coupon" => Some(Class::Text),
            _ => None,
        },
    }
}

fn class_of(kind: &Kind) -> Class {
    match kind {
        Kind::StringValue(_) => Class::Text,
        Kind::IntValue(_) | Kind::DoubleValue(_) | Kind::DecimalE4Value(_) => Class::Number,
        Kind::BoolValue(_) => Class::Truth,
        Kind::TimestampValue(_) => Class::Time,
        Kind::JsonValue(_) => Class::Json,
    }
}

fn describe(class: Class) -> &'static str {
    match class {
        Class::Text => "text",
        Class::Number => "a number",
        Class::Truth => "true or false",
        Class::Time => "a time",
        Class::Json => "an array or object",
    }
}

/// A condition that is required at `path`: every node says something, within the limits.
pub(super) fn check_condition(faults: &mut Faults, path: &str, condition: Option<&Condition>) {
    let Some(condition) = condition else { return faults.add(path, "required: who") };
    let mut nodes = 0;
    segue_query::walk_from(condition, path, &mut |at, node| {
        nodes += 1;
        if node.node.is_none() && nodes <= NODES_MAX {
            faults.add(at, "set one of all, any, not, behavior, sequence, attribute, acquisition, random_bucket, member_of, …");
        }
    });
    if nodes > NODES_MAX {
        faults.add(path, format!("more than {NODES_MAX} nodes"));
    }
    if levels(condition) > LEVELS_MAX {
        faults.add(path, format!("nested deeper than {LEVELS_MAX} levels"));
    }
}

fn levels(condition: &Condition) -> usize {
    match &condition.node {
        Some(ConditionNode::All(list) | ConditionNode::Any(list)) => 1 + list.conditions.iter().map(levels).max().unwrap_or_default(),
        Some(ConditionNode::Not(operand)) => 1 + levels(operand),
        Some(_) | None => 1,
    }
}
