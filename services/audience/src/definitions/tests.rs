//! Expansion against a plain reference, and what it refuses.

use proptest::prelude::*;
use segue_model::FieldViolation;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{Condition, ConditionList, HasIdentifier, Membership, PersonSet, RandomBucket, membership::Of};

use super::expand::{Limits, expand};
use super::graph::{Definition, Graph};
use super::{Expanded, Mode};
use crate::error::Kind;

const LIMITS: Limits = Limits { nodes_max: 100, depth_max: 8 };

fn node(node: Node) -> Condition {
    Condition { node: Some(node) }
}

pub(crate) fn all(conditions: Vec<Condition>) -> Condition {
    node(Node::All(ConditionList { conditions }))
}

pub(crate) fn any(conditions: Vec<Condition>) -> Condition {
    node(Node::Any(ConditionList { conditions }))
}

pub(crate) fn not(condition: Condition) -> Condition {
    node(Node::Not(Box::new(condition)))
}

pub(crate) fn bucket(salt: &str, from: u32, to: u32) -> Condition {
    node(Node::RandomBucket(RandomBucket { salt: salt.to_owned(), from, to }))
}

pub(crate) fn segment(id: &str) -> Condition {
    node(Node::MemberOf(Membership { of: Some(Of::Segment(id.to_owned())) }))
}

pub(crate) fn audience(id: &str) -> Condition {
    node(Node::MemberOf(Membership { of: Some(Of::Audience(id.to_owned())) }))
}

pub(crate) fn list(id: &str) -> Condition {
    node(Node::MemberOf(Membership { of: Some(Of::List(id.to_owned())) }))
}

pub(crate) fn has(kind: &str) -> Condition {
    node(Node::HasIdentifier(HasIdentifier { kind: kind.to_owned() }))
}

fn definition(condition: Condition, holdout: u32) -> Definition {
    Definition { archived: false, version: 1, condition, mode: Mode::Live, holdout, time_zone: String::new() }
}

fn graph(segments: Vec<(&str, Condition)>) -> Graph {
    let mut graph = Graph::default();
    for (id, condition) in segments {
        graph.definitions.insert((Kind::Segment, id.to_owned()), definition(condition, 0));
    }
    graph
}

fn faults(graph: &Graph, condition: &Condition) -> Vec<(String, String)> {
    told(expand(graph, LIMITS, condition, "c", None).expect_err("faults"))
}

fn told(faults: Vec<FieldViolation>) -> Vec<(String, String)> {
    faults.into_iter().map(|fault| (fault.field, fault.description)).collect()
}

#[test]
fn an_audience_is_its_condition_without_whom_it_holds_out() {
    let mut graph = graph(vec![("s", any(vec![bucket("a", 0, 1), list("l")]))]);
    graph.lists.insert("l".to_owned(), false);
    graph.definitions.insert((Kind::Audience, "a".to_owned()), definition(segment("s"), 500));
    graph.definitions.insert((Kind::Audience, "b".to_owned()), definition(has("email"), 0));
    let condition = all(vec![not(audience("a")), audience("b")]);
    let expanded = expand(&graph, LIMITS, &condition, "c", None).expect("in order");
    let of_a = all(vec![any(vec![bucket("a", 0, 1), list("l")]), not(bucket("holdout:a", 0, 500))]);
    assert_eq!(expanded.condition, all(vec![not(of_a), has("email")]));
    assert_eq!(expanded.lists.into_iter().collect::<Vec<_>>(), ["l"]);
    assert_eq!(expanded.identifier_kinds.into_iter().collect::<Vec<_>>(), ["email"]);
    assert_eq!(expanded.nodes, 9);
}

#[test]
fn faults_are_at_the_reference_in_the_condition_as_given() {
    let mut graph = graph(vec![("broken", all(vec![bucket("a", 0, 1), list("gone")])), ("old", all(vec![]))]);
    graph.definitions.get_mut(&(Kind::Segment, "old".to_owned())).expect("there").archived = true;
    graph.lists.insert("closed".to_owned(), true);
    let nothing = node(Node::MemberOf(Membership::default()));
    let odd = vec![segment("broken"), not(segment("old")), audience("none"), list("closed"), nothing, has("E-Mail"), Condition::default()];
    let found = faults(&graph, &all(odd));
    let fields: Vec<&str> = found.iter().map(|(field, _)| field.as_str()).collect();
    let expected = [
        "c.all.conditions[0].member_of.segment",
        "c.all.conditions[1].not.member_of.segment",
        "c.all.conditions[2].member_of.audience",
        "c.all.conditions[3].member_of.list",
        "c.all.conditions[4].member_of",
        "c.all.conditions[5].has_identifier.kind",
        "c.all.conditions[6]",
    ];
    assert_eq!(fields, expected);
    assert_eq!(found[0].1, "there is no list `gone`");
    assert_eq!(found[1].1, "the segment `old` is archived");
}

#[test]
fn a_cycle_is_refused_with_its_way() {
    let mut graph = graph(vec![("a", all(vec![segment("b")])), ("b", not(audience("c"))), ("self", segment("self"))]);
    graph.definitions.insert((Kind::Audience, "c".to_owned()), definition(segment("a"), 10));
    assert_eq!(
        faults(&graph, &any(vec![segment("a")])),
        [(
            "c.any.conditions[0].member_of.segment".to_owned(),
            "refers to itself: segment `a` → segment `b` → audience `c` → segment `a`".to_owned()
        )]
    );
    assert_eq!(faults(&graph, &segment("self"))[0].1, "refers to itself: segment `self` → segment `self`");
    // Of a definition that is about to be changed, what it is now is not asked.
    let new = all(vec![segment("b")]);
    let found = told(expand(&graph, LIMITS, &new, "c", Some((Kind::Segment, "a"))).expect_err("a cycle"));
    assert_eq!(found[0].0, "c.all.conditions[0].member_of.segment");
    assert_eq!(found[0].1, "refers to itself: segment `a` → segment `b` → audience `c` → segment `a`");
}

#[test]
fn conditions_that_double_with_each_reference_end_at_the_limit() {
    let mut segments = vec![("s0".to_owned(), bucket("a", 0, 1))];
    for at in 1..28 {
        let before = format!("s{}", at - 1);
        segments.push((format!("s{at}"), segment(&before)));
        if at % 4 == 0 {
            segments[at].1 = all(vec![segment(&before); 1_000]);
        }
    }
    let graph = graph(segments.iter().map(|(id, condition)| (id.as_str(), condition.clone())).collect());
    let found = faults(&graph, &segment("s27"));
    let expected = "with everything that it refers to in place, the condition has more than 100 nodes";
    assert_eq!(found, [("c.member_of.segment".to_owned(), expected.to_owned())]);
}

#[test]
fn a_long_row_of_references_is_refused_before_it_fills_the_stack() {
    let ids: Vec<String> = (0..5_000).map(|at| format!("s{at}")).collect();
    let mut row: Vec<(&str, Condition)> = ids.windows(2).map(|pair| (pair[0].as_str(), segment(&pair[1]))).collect();
    row.push((ids[4_999].as_str(), bucket("a", 0, 1)));
    let graph = graph(row);
    assert!(expand(&graph, LIMITS, &segment("s4968"), "c", None).is_ok(), "32 in a row");
    let found = faults(&graph, &segment("s4967"));
    assert_eq!(found[0].1, "more than 32 segments and audiences refer to one another in a row");
}

#[test]
fn a_condition_of_a_million_nodes_costs_no_more_than_the_limit() {
    let many = all(vec![segment("none"); 1_000_000]);
    assert_eq!(faults(&Graph::default(), &many).len(), 50);
    let many = any(vec![all(vec![]); 1_000_000]);
    assert_eq!(faults(&Graph::default(), &many).len(), 1);
    let deep = (0..9).fold(bucket("a", 0, 1), |inner, _| not(inner));
    let found = faults(&Graph::default(), &deep);
    assert_eq!(found[0].0, "c.not.not.not.not.not.not.not.not");
}

/// Nodes and levels, plainly.
fn measure(condition: &Condition) -> (u32, u32) {
    let inner: Vec<&Condition> = match &condition.node {
        Some(Node::All(list) | Node::Any(list)) => list.conditions.iter().collect(),
        Some(Node::Not(inner)) => vec![&**inner],
        _ => Vec::new(),
    };
    inner.into_iter().map(measure).fold((1, 1), |(nodes, depth), (more, below)| (nodes + more, depth.max(below + 1)))
}

/// The expansion as one would write it first; nothing where it meets a cycle or something unknown or archived.
fn naive(graph: &Graph, condition: &Condition, above: &[(Kind, String)]) -> Option<Condition> {
    let list = |list: &ConditionList| list.conditions.iter().map(|inner| naive(graph, inner, above)).collect::<Option<Vec<_>>>();
    Some(match &condition.node {
        Some(Node::All(inner)) => all(list(inner)?),
        Some(Node::Any(inner)) => any(list(inner)?),
        Some(Node::Not(inner)) => not(naive(graph, inner, above)?),
        Some(Node::MemberOf(Membership { of: Some(Of::List(id)) })) => (graph.lists.get(id) == Some(&false)).then(|| condition.clone())?,
        Some(Node::MemberOf(Membership { of: Some(of) })) => {
            let key = match of {
                Of::Segment(id) => (Kind::Segment, id.clone()),
                Of::Audience(id) => (Kind::Audience, id.clone()),
                Of::List(id) => (Kind::List, id.clone()),
            };
            let found = graph.definitions.get(&key).filter(|found| !found.archived && !above.contains(&key))?;
            let inner = naive(graph, &found.condition, &[above, std::slice::from_ref(&key)].concat())?;
            match found.holdout {
                0 => inner,
                holdout => all(vec![inner, not(bucket(&format!("holdout:{}", key.1), 0, holdout))]),
            }
        }
        _ => condition.clone(),
    })
}

/// A condition that mostly refers to definitions below a number, so that cycles are there but seldom.
fn some_condition(below: u8) -> impl Strategy<Value = Condition> {
    let id = prop_oneof![20 => 0..below.max(1), 1 => 0..7u8].prop_map(|id| format!("d{id}"));
    let leaf = prop_oneof![
        3 => Just(bucket("a", 0, 1)),
        1 => Just(has("email")),
        1 => Just(node(Node::Persons(PersonSet::default()))),
        3 => id.clone().prop_map(|id| segment(&id)),
        3 => id.clone().prop_map(|id| audience(&id)),
        1 => id.prop_map(|id| list(&id)),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(all),
            prop::collection::vec(inner.clone(), 0..4).prop_map(any),
            inner.prop_map(not),
        ]
    })
}

fn some_graph() -> impl Strategy<Value = Graph> {
    let one = |id: u8| {
        let holdout = prop_oneof![4 => Just(0u32), 1 => 1..=10_000u32];
        let made = prop::option::weighted(0.97, (some_condition(id), holdout, prop::bool::weighted(0.03))).boxed();
        (made.clone(), made, prop::option::weighted(0.97, prop::bool::weighted(0.03)))
    };
    (one(0), one(1), one(2), one(3), one(4), one(5)).prop_map(|(zero, one, two, three, four, five)| {
        let mut graph = Graph::default();
        for (at, (segment, audience, list)) in [zero, one, two, three, four, five].into_iter().enumerate() {
            let id = format!("d{at}");
            for (kind, made) in [(Kind::Segment, segment), (Kind::Audience, audience)] {
                if let Some((condition, holdout, archived)) = made {
                    let holdout = if kind == Kind::Audience { holdout } else { 0 };
                    graph.definitions.insert((kind, id.clone()), Definition { archived, ..definition(condition, holdout) });
                }
            }
            graph.lists.extend(list.map(|archived| (id, archived)));
        }
        graph
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn expansion_is_that_of_the_plain_reference(graph in some_graph(), condition in some_condition(6)) {
        let expected = naive(&graph, &condition, &[]);
        let found = expand(&graph, LIMITS, &condition, "c", None);
        match expected {
            None => prop_assert!(found.is_err()),
            Some(expected) => {
                let (nodes, depth) = measure(&expected);
                if nodes > LIMITS.nodes_max || depth > LIMITS.depth_max {
                    prop_assert!(found.is_err());
                } else {
                    let Expanded { condition, nodes: counted, .. } = found.expect("in order");
                    prop_assert_eq!(counted, nodes);
                    prop_assert_eq!(condition, expected);
                }
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_depends_on_a_definition_is_whoever_s_expansion_comes_by_it(graph in some_graph()) {
        for ((kind, id), definition) in &graph.definitions {
            for (user_kind, user) in graph.definitions.keys() {
                let depends = graph.dependents_of(*kind, id).contains(&(*user_kind, user.as_str()));
                // Without what it depends on, the user does not expand; and if it does, it does not depend on it.
                let mut without = graph.clone();
                without.definitions.insert((*kind, id.clone()), Definition { archived: true, ..definition.clone() });
                let of_user = &graph.definitions[&(*user_kind, user.clone())];
                if !of_user.archived && depends {
                    prop_assert!(naive(&without, &of_user.condition, &[]).is_none());
                }
                if !of_user.archived && !depends && (*user_kind, user) != (*kind, id) {
                    let before = naive(&graph, &of_user.condition, &[]);
                    prop_assert_eq!(before, naive(&without, &of_user.condition, &[]));
                }
            }
        }
    }
}
