//! The normal form of a condition: of several messages that mean the same, the one that [`parse`](crate::parse) gives.
//!
//! Only what the contract documents as the same is brought together:
//!
//! | as it may be | normal form |
//! |---|---|
//! | aggregate unset | COUNT |
//! | COUNT without an operator and values | GREATER_OR_EQUAL 1 |
//! | FIRST_VALUE, LAST_VALUE without an operator | EXISTS |
//! | touch unset | LAST |
//! | window with nothing set | no window |
//! | `on` of a behavior unset | a selector of every event |
//! | a filter with nothing set: of events or of a touch; as `items` or an operand | no filter; `all` of nothing |
//! | item match of an item property unset | ANY |
//! | item match ANY within `items`, where each item is tested by itself | unset |

use segue_proto::events::v1::{Value, value};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Behavior, BehaviorAggregate as Aggregate, Comparison, Condition, ConditionList, EventSelector, Filter, FilterList, ItemMatch, Operator,
    Touch, Window, field, filter,
};

/// The condition in its normal form, which means the same.
pub fn normalise(condition: &Condition) -> Condition {
    let list = |list: &ConditionList| ConditionList { conditions: list.conditions.iter().map(normalise).collect() };
    let node = condition.node.as_ref().map(|node| match node {
        Node::All(all) => Node::All(list(all)),
        Node::Any(any) => Node::Any(list(any)),
        Node::Not(operand) => Node::Not(Box::new(normalise(operand))),
        Node::Behavior(asked) => Node::Behavior(behavior(asked)),
        Node::Sequence(sequence) => {
            let mut sequence = sequence.clone();
            sequence.steps.iter_mut().chain(&mut sequence.not_between).for_each(selector);
            window(&mut sequence.window);
            Node::Sequence(sequence)
        }
        Node::Acquisition(acquisition) => {
            let mut acquisition = acquisition.clone();
            if acquisition.touch == Touch::Unspecified as i32 {
                acquisition.touch = Touch::Last.into();
            }
            window(&mut acquisition.window);
            filter_of_events(&mut acquisition.filter);
            Node::Acquisition(acquisition)
        }
        Node::Attribute(_) | Node::RandomBucket(_) | Node::Persons(_) | Node::MemberOf(_) | Node::HasIdentifier(_) => node.clone(),
    });
    Condition { node }
}

fn behavior(asked: &Behavior) -> Behavior {
    let mut behavior = asked.clone();
    selector(behavior.on.get_or_insert_default());
    if let Some(items) = &mut behavior.items {
        operand(items, Scope::Items);
    }
    window(&mut behavior.window);
    if behavior.aggregate == Aggregate::Unspecified as i32 {
        behavior.aggregate = Aggregate::Count.into();
    }
    if behavior.operator == Operator::Unspecified as i32 {
        let is = |aggregate: Aggregate| behavior.aggregate == aggregate as i32;
        if is(Aggregate::Count) && behavior.values.is_empty() {
            behavior.operator = Operator::GreaterOrEqual.into();
            behavior.values = vec![Value { kind: Some(value::Kind::IntValue(1)) }];
        } else if is(Aggregate::FirstValue) || is(Aggregate::LastValue) {
            behavior.operator = Operator::Exists.into();
        }
    }
    behavior
}

fn window(window: &mut Option<Window>) {
    if window.as_ref().is_some_and(|window| window.window.is_none()) {
        *window = None;
    }
}

fn selector(selector: &mut EventSelector) {
    filter_of_events(&mut selector.filter);
}

fn filter_of_events(filter: &mut Option<Filter>) {
    match filter {
        Some(set) if set.node.is_some() => operand(set, Scope::Events),
        _ => *filter = None,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Events,
    Items,
}

fn operand(filter: &mut Filter, scope: Scope) {
    match filter.node.get_or_insert_with(|| filter::Node::All(FilterList::default())) {
        filter::Node::All(list) | filter::Node::Any(list) => list.filters.iter_mut().for_each(|filter| operand(filter, scope)),
        filter::Node::Not(inner) => operand(inner, scope),
        filter::Node::Compare(comparison) => item_match(comparison, scope),
    }
}

fn item_match(comparison: &mut Comparison, scope: Scope) {
    let is_of_item = matches!(comparison.field.as_ref().and_then(|field| field.field.as_ref()), Some(field::Field::ItemProperty(_)));
    let (unset, any) = (ItemMatch::Unspecified as i32, ItemMatch::Any as i32);
    match scope {
        Scope::Events if is_of_item && comparison.item_match == unset => comparison.item_match = any,
        Scope::Items if is_of_item && comparison.item_match == any => comparison.item_match = unset,
        Scope::Events | Scope::Items => {}
    }
}
