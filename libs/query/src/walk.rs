//! Visiting every node of a condition.

use segue_proto::query::v1::Condition;
use segue_proto::query::v1::condition::Node;

/// Calls `visit` with every node and its path, operands after the node that holds them. Paths are those of faults and explanations, for
/// example `condition.all.conditions[0].behavior`; that of a node with nothing set ends where its kind would stand.
pub fn walk(condition: &Condition, mut visit: impl FnMut(&str, &Condition)) {
    walk_from(condition, "condition", &mut visit);
}

/// [`walk`] over a condition that stands at `path` instead of `condition`.
pub fn walk_from(condition: &Condition, path: &str, visit: &mut impl FnMut(&str, &Condition)) {
    let Some(node) = &condition.node else { return visit(path, condition) };
    let path = format!("{path}.{}", kind(node));
    visit(&path, condition);
    match node {
        Node::All(list) | Node::Any(list) => {
            for (at, operand) in list.conditions.iter().enumerate() {
                walk_from(operand, &format!("{path}.conditions[{at}]"), visit);
            }
        }
        Node::Not(operand) => walk_from(operand, &path, visit),
        Node::Behavior(_)
        | Node::Sequence(_)
        | Node::Attribute(_)
        | Node::Acquisition(_)
        | Node::RandomBucket(_)
        | Node::Persons(_)
        | Node::MemberOf(_)
        | Node::HasIdentifier(_) => {}
    }
}

/// The field that the node is.
pub(crate) fn kind(node: &Node) -> &'static str {
    match node {
        Node::All(_) => "all",
        Node::Any(_) => "any",
        Node::Not(_) => "not",
        Node::Behavior(_) => "behavior",
        Node::Sequence(_) => "sequence",
        Node::Attribute(_) => "attribute",
        Node::Acquisition(_) => "acquisition",
        Node::RandomBucket(_) => "random_bucket",
        Node::Persons(_) => "persons",
        Node::MemberOf(_) => "member_of",
        Node::HasIdentifier(_) => "has_identifier",
    }
}

#[cfg(test)]
mod tests {
    use segue_proto::query::v1::{ConditionList, HasIdentifier};

    use super::*;

    #[test]
    fn every_node_is_visited_under_its_path() {
        let leaf = || Condition { node: Some(Node::HasIdentifier(HasIdentifier { kind: "email".to_owned() })) };
        let not = Condition { node: Some(Node::Not(Box::new(leaf()))) };
        let all = Condition { node: Some(Node::All(ConditionList { conditions: vec![leaf(), not, Condition::default()] })) };
        let mut paths = Vec::new();
        walk(&all, |path, _| paths.push(path.to_owned()));
        let expected = [
            "condition.all",
            "condition.all.conditions[0].has_identifier",
            "condition.all.conditions[1].not",
            "condition.all.conditions[1].not.has_identifier",
            "condition.all.conditions[2]",
        ];
        assert_eq!(paths, expected);
    }
}
