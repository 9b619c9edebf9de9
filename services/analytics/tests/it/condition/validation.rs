//! Every fault of a request at once, each with the path of what is wrong.

use super::*;
use segue_proto::query::v1::{Attribute, EventSequence, PersonSet, RandomBucket};

fn faults(condition: Condition) -> Vec<(String, String)> {
    let events = [with_property(event("a", "2026-11-01T00:00:00Z", 1), "label", text("x"))];
    match select_of(&snapshot(&events), &request(&condition)) {
        Err(QueryError::Invalid(faults)) => faults.into_iter().map(|fault| (fault.field, fault.description)).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

fn paths(condition: Condition) -> Vec<String> {
    faults(condition).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn all_faults_of_a_tree_are_listed_with_their_paths() {
    let wrong_filter = compare(of_property("colour"), Operator::In, vec![text("x")]);
    let tree = all_of(vec![
        Condition::default(),
        any_of(vec![not(did(Behavior { on: Some(on_filtered("a", wrong_filter)), ..Behavior::default() }))]),
        did(Behavior { window: last(0, TimeUnit::Day), ..behavior("a") }),
        did(Behavior { window: last(1, TimeUnit::Unspecified), ..behavior("a") }),
        did(Behavior { window: between("2026-11-02T00:00:00Z", "2026-11-02T00:00:00Z"), ..behavior("a") }),
        condition(Node::RandomBucket(RandomBucket { salt: String::new(), from: 5, to: 5 })),
        condition(Node::Persons(PersonSet { numbers: vec![1, 2, 3], label: String::new() })),
        condition(Node::Sequence(EventSequence { steps: vec![on("a")], ..EventSequence::default() })),
        condition(Node::Attribute(Attribute { r#trait: String::new(), ..Attribute::default() })),
        acquired(Touch::First, None, compare(of_property("label"), Operator::Exists, vec![])),
    ]);
    assert_eq!(
        paths(tree),
        [
            "condition.all.conditions[0]",
            "condition.all.conditions[1].any.conditions[0].not.behavior.on.filter.compare.field.property",
            "condition.all.conditions[2].behavior.window.last.count",
            "condition.all.conditions[3].behavior.window.last.unit",
            "condition.all.conditions[4].behavior.window.absolute.end",
            "condition.all.conditions[5].random_bucket.salt",
            "condition.all.conditions[5].random_bucket.to",
            "condition.all.conditions[6].persons.numbers",
            "condition.all.conditions[7].sequence.steps",
            "condition.all.conditions[7].sequence.within",
            "condition.all.conditions[8].attribute.trait",
            "condition.all.conditions[8].attribute.operator",
            "condition.all.conditions[9].acquisition.filter.compare.field",
        ]
    );
}

#[test]
fn aggregates_that_make_no_sense_are_refused() {
    use BehaviorAggregate::{Count, DistinctCount, DistinctDays, FirstTime, LastValue, Max, Min, Sum};
    let one = || vec![Kind::IntValue(1)];
    let label = || Some(of_property("label"));
    for (field, of, operator, values, path) in [
        (label(), Count, Operator::GreaterOrEqual, one(), "field"),
        (None, Count, Operator::GreaterOrEqual, vec![], "values"),
        (None, Count, Operator::Unspecified, one(), "operator"),
        (None, Count, Operator::Exists, vec![], "operator"),
        (None, Count, Operator::Contains, vec![text("x")], "operator"),
        (None, Count, Operator::In, vec![text("x")], "values[0]"),
        (None, Sum, Operator::Unspecified, vec![], "operator"),
        (None, Sum, Operator::NotExists, vec![], "operator"),
        (label(), Sum, Operator::Less, one(), "field"),
        (label(), Min, Operator::Less, one(), "field"),
        (None, Max, Operator::Between, one(), "values"),
        (None, DistinctDays, Operator::Unspecified, vec![], "operator"),
        (None, FirstTime, Operator::Less, one(), "values[0]"),
        (None, LastValue, Operator::Exists, vec![], "field"),
        (label(), LastValue, Operator::Less, vec![text("x")], "operator"),
        (None, DistinctCount, Operator::Less, one(), "field"),
    ] {
        let asked = aggregate(Behavior { field, ..behavior("a") }, of, operator, values.clone());
        assert_eq!(paths(did(asked)), [format!("condition.behavior.{path}")], "{of:?} {operator:?} {values:?}");
    }
    let unknown = Behavior { aggregate: 99, ..behavior("a") };
    assert_eq!(paths(did(unknown)), ["condition.behavior.aggregate"]);
}

#[test]
fn items_are_tested_with_item_properties_one_by_one() {
    let of = |items| did(Behavior { items: Some(items), ..behavior("a") });
    let nested = Filter { node: Some(filter::Node::All(FilterList { filters: vec![is_in(of_dimension("platform"), &["ios"])] })) };
    assert_eq!(paths(of(nested)), ["condition.behavior.items.all.filters[0].compare.field"]);
    let every = compare_items(of_item("brand"), Operator::In, vec![text("x")], ItemMatch::All);
    assert_eq!(paths(of(every)), ["condition.behavior.items.compare.item_match"]);
}

#[test]
fn conditions_have_limits() {
    let wide = all_of((0..100).map(|_| all_of(vec![])).collect());
    assert_eq!(paths(wide), ["condition.all.conditions[99]"]);
    let deep = (0..8).fold(did(behavior("a")), |inner, _| not(inner));
    let (path, why) = faults(deep).pop().expect("a fault");
    assert_eq!(path, format!("condition{}", ".not".repeat(8)));
    assert!(why.contains("8 levels"), "{why}");
    let events = [event("a", "2026-11-01T00:00:00Z", 1)];
    let deep_enough = (0..7).fold(did(behavior("a")), |inner, _| not(inner));
    assert_eq!(who(&events, &deep_enough), [] as [u32; 0]);
    assert_eq!(who(&events, &all_of((0..99).map(|_| all_of(vec![])).collect())), [1]);
}

#[test]
fn requests_without_a_condition_or_with_wrong_frames_are_refused() {
    let snapshot = snapshot(&[event("a", "2026-11-01T00:00:00Z", 1)]);
    let asked = SelectPersonsRequest {
        as_of: Some(Timestamp { seconds: 0, nanos: -1 }),
        time_zone: "Mars/Olympus".to_owned(),
        within: vec![9],
        page_size: 10_001,
        page_token: "x".to_owned(),
        ..SelectPersonsRequest::default()
    };
    let Err(QueryError::Invalid(faults)) = select_of(&snapshot, &asked) else { panic!("not refused") };
    let paths: Vec<String> = faults.into_iter().map(|fault| fault.field).collect();
    assert_eq!(paths, ["page_size", "page_token", "as_of", "within", "time_zone", "condition"]);
    let Err(QueryError::Invalid(faults)) = count_of(&snapshot, &CountPersonsRequest::default()) else { panic!("not refused") };
    assert_eq!(faults.into_iter().map(|fault| fault.field).collect::<Vec<_>>(), ["condition"]);
}
