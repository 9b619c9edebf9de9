//! What is said of texts that are no conditions, and of conditions that have no text.

use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Acquisition, Attribute, Behavior, BehaviorAggregate as Aggregate, Comparison, Condition, ConditionList, EventSelector, EventSequence,
    Field, Filter, ItemMatch, Membership, Operator, Span, TimeRange, Window, field, filter, window,
};
use segue_query::{format, parse};

#[test]
fn a_fault_is_drawn_below_its_line() {
    let error = parse("did df_app_open\n  and nevr did df_sign_up").expect_err("a fault");
    let drawn = error.to_string();
    let lines: Vec<&str> = drawn.lines().skip(1).collect();
    assert_eq!(lines, ["  and nevr did df_sign_up", "      ^^^^"]);
    assert_eq!((error.byte(), error.character(), error.found()), (22, 23, "`nevr`"));
    assert!(error.expected().contains(&"`never did`".to_owned()), "{drawn}");
    // Characters are counted, not bytes; of a long line, a part is shown.
    let long = format!("{} and", vec!["has 회원"; 30].join(" and "));
    let error = parse(&long).expect_err("a fault");
    assert_eq!((error.byte(), error.character(), error.found()), (long.len(), long.chars().count() + 1, "the end of the text"));
    let drawn = error.to_string();
    let lines: Vec<&str> = drawn.lines().collect();
    assert_eq!(lines[2].chars().count(), 61, "{drawn}");
}

/// The text, what it is pointed at, and what is said.
#[test]
fn faults_say_what_could_stand_there_or_what_to_do() {
    for (text, found, said) in [
        ("", "the end of the text", "`did`"),
        ("did", "the end of the text", "the name of an event"),
        ("did where x exists", "`where`", "a name that is the same stands in quotes"),
        ("did A and B", "`B`", "`one of (a, b)`"),
        ("df_membership is \"gold\"", "`df_membership`", "begins with `trait`"),
        ("did A where a is 1 and b is 2", "`b`", "stand in parentheses behind `where`"),
        ("did A where a is gold", "`gold`", "texts stand in double quotes"),
        ("did A where a is 'gold'", "`'`", "straight double quotes"),
        ("did A where a between 1 and 2", "`between`", "`from 10 to below 20`"),
        ("did A where a from 1 to 2", "`2`", "the second value is not included"),
        ("did A where (any item b is 1 and item a is 1)", "`item`", "`any item`, `every item` or `no item`"),
        ("did A then B", "the end of the text", "like `within 2 hours`"),
        ("did A within 2 days then B within 1 hour", "`then`", "directly behind an event"),
        ("did A within 2 days within 3 days", "`within`", "is said already"),
        ("did A then B within 2 days within 3 days", "`within`", "is said already"),
        ("last touch where a exists where b exists", "`where`", "is said already"),
        ("never did A at least 3 times", "`at`", "`never did` says how often already"),
        ("did A at lest 3 times", "`lest`", "`least`"),
        ("did A with sum of price times quantity at least 3", "`times`", "`×`"),
        ("did A 3 times", "`3`", "`at least`"),
        ("did A within 1.5 days", "`1.5`", "is not a whole number"),
        ("did A within 4294967296 days", "`4294967296`", "is not a whole number from 0 to 4294967295"),
        ("did A at least 2.5 times", "`2.5`", "is not a whole number"),
        ("did A where a is 1.23456", "`1.23456`", "more than four digits after the decimal point"),
        ("did A where a is 9223372036854775808", "`9223372036854775808`", "beyond 64 bits"),
        ("did A where a is 1e999", "`1e999`", "write `infinity`"),
        ("did A from 2026-01-01 to before 2026-02-01", "`2026-01-01`", "has a date, a time and a zone"),
        ("did A from 2026-01-01T00:00:60Z to 2026-02-01T00:00:00Z", "`2026-01-01T00:00:60Z`", "has a date, a time and a zone"),
        ("did A from 0001-01-01T00:00:00+09:00 to 2026-02-01T00:00:00Z", "`0001-01-01T00:00:00+09:00`", "has a date"),
        ("did A where a is \"b", "`\"`", "the quotes are not closed"),
        ("did A where a is \"\\q\"", "`\\`", "a backslash is written"),
        ("persons base64 \"OjA\"", "`\"OjA\"`", "not base64"),
        ("has email & has phone", "`&`", "write `and`"),
        ("(has email", "the end of the text", "`)`"),
        ("any of (has email has phone)", "`has`", "`,`"),
        ("has email)", "`)`", "the end"),
        ("did one of ()", "`)`", "the name of an event"),
        ("did A where a is one of ()", "`)`", "a number"),
        ("in group x", "`group`", "`segment`"),
        ("first touch where", "the end of the text", "`any item`"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.found(), found, "{text}: {error}");
        assert!(error.summary().contains(said), "{text}: {error}");
    }
}

fn no_text(node: Option<Node>) -> String {
    format(&Condition { node }).expect_err("no text").to_string()
}

#[test]
fn conditions_without_a_text_say_where_and_why() {
    let not = Node::Not(Box::default());
    let all = Node::All(ConditionList { conditions: vec![Condition { node: Some(not) }] });
    assert_eq!(no_text(Some(all)), "condition.all.conditions[0].not: nothing is set; set one of the kinds of conditions");
    assert_eq!(no_text(None), "condition: nothing is set; set one of the kinds of conditions");
    assert_eq!(
        no_text(Some(Node::MemberOf(Membership::default()))),
        "condition.member_of: nothing is set; set one of segment, audience and list"
    );
    assert_eq!(
        no_text(Some(Node::Acquisition(Acquisition { touch: 9, ..Acquisition::default() }))),
        "condition.acquisition.touch: not known to this version"
    );
    let range = Some(Window { window: Some(window::Window::Absolute(TimeRange::default())) });
    assert_eq!(
        no_text(Some(Node::Acquisition(Acquisition { window: range, ..Acquisition::default() }))),
        "condition.acquisition.window.absolute.start: nothing is set; set both ends of the range"
    );
    assert_eq!(no_text(Some(Node::Sequence(EventSequence::default()))), "condition.sequence.steps: a sequence has at least two steps");
    let steps = vec![EventSelector::default(), EventSelector::default()];
    let within = Some(Span { count: 1, unit: 0 });
    assert_eq!(
        no_text(Some(Node::Sequence(EventSequence { steps, within, ..EventSequence::default() }))),
        "condition.sequence.within.unit: nothing is set; set one of SECOND, MINUTE, HOUR, DAY, WEEK and MONTH"
    );
}

fn attribute(operator: Operator, kinds: Vec<Option<Kind>>) -> Option<Node> {
    let values = kinds.into_iter().map(|kind| Value { kind }).collect();
    Some(Node::Attribute(Attribute { operator: operator.into(), values, ..Attribute::default() }))
}

#[test]
fn comparisons_without_a_text_say_where_and_why() {
    let one = || Some(Kind::IntValue(1));
    for (node, said) in [
        (attribute(Operator::Unspecified, vec![one()]), "operator: nothing is set; set the operator"),
        (attribute(Operator::In, vec![]), "values: the operator takes at least one value, 0 given"),
        (attribute(Operator::Between, vec![one()]), "values: the operator takes two values, 1 given"),
        (attribute(Operator::Exists, vec![one()]), "values: the operator takes no value, 1 given"),
        (attribute(Operator::In, vec![one(), None]), "values[1]: nothing is set; set a value"),
        (attribute(Operator::In, vec![Some(Kind::DoubleValue(f64::NAN))]), "values[0]: NaN is not a number to compare with"),
        (
            attribute(Operator::Less, vec![Some(Kind::TimestampValue(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }))]),
            "values[0]: not a timestamp between the years 1 and 9999",
        ),
    ] {
        assert_eq!(no_text(node), format!("condition.attribute.{said}"));
    }
}

#[test]
fn behaviors_without_a_text_say_where_and_why() {
    let of_field = |field| Some(Field { field: Some(field) });
    let price = || field::Field::ItemProperty("price".to_owned());
    let platform = || field::Field::Dimension("platform".to_owned());
    let test = |field, item_match: ItemMatch| {
        let comparison = Comparison {
            field: of_field(field),
            operator: Operator::Exists.into(),
            item_match: item_match.into(),
            ..Comparison::default()
        };
        Some(Filter { node: Some(filter::Node::Compare(comparison)) })
    };
    let behavior = |behavior| no_text(Some(Node::Behavior(behavior)));
    let count = Behavior { field: of_field(price()), ..Behavior::default() };
    assert_eq!(behavior(count), "condition.behavior.field: the aggregate is of events, not of a field: leave it out");
    let different = Behavior { aggregate: Aggregate::DistinctCount.into(), ..Behavior::default() };
    assert_eq!(behavior(different), "condition.behavior.field: nothing is set; set one of dimension, property and item_property");
    let days = Behavior { aggregate: Aggregate::DistinctDays.into(), ..Behavior::default() };
    assert_eq!(behavior(days), "condition.behavior.operator: nothing is set; set the operator");
    let items = Behavior { items: test(platform(), ItemMatch::Unspecified), ..Behavior::default() };
    assert_eq!(behavior(items), "condition.behavior.items.compare.field: items are tested one by one here: set item_property");
    let items = Behavior { items: test(price(), ItemMatch::None), ..Behavior::default() };
    assert_eq!(behavior(items), "condition.behavior.items.compare.item_match: each item is tested by itself here: leave it out");
    let on = Some(EventSelector { filter: test(platform(), ItemMatch::Any), ..EventSelector::default() });
    let events = Behavior { on, ..Behavior::default() };
    assert_eq!(behavior(events), "condition.behavior.on.filter.compare.item_match: only for item properties: leave it out");
}
