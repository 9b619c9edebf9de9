//! How deep a condition is nested: what the text form bounds, since reading and writing recurse.

use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, EventSelector, Filter, filter};

/// Levels below the root, those of the tests within included.
pub(crate) fn depth(condition: &Condition) -> usize {
    match &condition.node {
        Some(Node::All(list) | Node::Any(list)) => list.conditions.iter().map(|operand| depth(operand) + 1).max().unwrap_or_default(),
        Some(Node::Not(operand)) => depth(operand) + 1,
        Some(Node::Behavior(asked)) => of_selectors(&asked.on).max(of_filter(asked.items.as_ref())),
        Some(Node::Sequence(asked)) => of_selectors(&asked.steps).max(of_selectors(&asked.not_between)),
        Some(Node::Acquisition(asked)) => of_filter(asked.filter.as_ref()),
        Some(Node::Attribute(_) | Node::RandomBucket(_) | Node::Persons(_) | Node::MemberOf(_) | Node::HasIdentifier(_)) | None => 0,
    }
}

fn of_selectors<'s>(selectors: impl IntoIterator<Item = &'s EventSelector>) -> usize {
    selectors.into_iter().map(|selector| of_filter(selector.filter.as_ref())).max().unwrap_or_default()
}

/// Of a leaf with this filter.
fn of_filter(asked: Option<&Filter>) -> usize {
    asked.map_or(0, |filter| of_tests(filter) + 1)
}

fn of_tests(asked: &Filter) -> usize {
    match &asked.node {
        Some(filter::Node::All(list) | filter::Node::Any(list)) => {
            list.filters.iter().map(|operand| of_tests(operand) + 1).max().unwrap_or_default()
        }
        Some(filter::Node::Not(operand)) => of_tests(operand) + 1,
        Some(filter::Node::Compare(_)) | None => 0,
    }
}
