//! What texts mean, by example.

use prost_types::Timestamp;
use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Acquisition, Attribute, Behavior, BehaviorAggregate as Aggregate, Comparison, Condition, ConditionList, EventSelector, EventSequence,
    Field, Filter, FilterList, HasIdentifier, ItemMatch, Membership, Operator, PersonSet, RandomBucket, Span, TimeRange, TimeUnit, Touch,
    Window, field, filter, membership, window,
};
use segue_query::{format, parse};

fn of(node: Node) -> Condition {
    Condition { node: Some(node) }
}

fn on(event: &str) -> EventSelector {
    EventSelector { events: vec![event.to_owned()], filter: None }
}

fn counted(event: &str, operator: Operator, times: i64) -> Behavior {
    Behavior {
        on: Some(on(event)),
        aggregate: Aggregate::Count.into(),
        operator: operator.into(),
        values: vec![value(Kind::IntValue(times))],
        ..Behavior::default()
    }
}

fn did(event: &str) -> Behavior {
    counted(event, Operator::GreaterOrEqual, 1)
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Value {
    value(Kind::StringValue(text.to_owned()))
}

fn span(count: u32, unit: TimeUnit) -> Span {
    Span { count, unit: unit.into() }
}

fn last(count: u32, unit: TimeUnit) -> Option<Window> {
    Some(Window { window: Some(window::Window::Last(span(count, unit))) })
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn compare(field: field::Field, operator: Operator, values: Vec<Value>, item_match: ItemMatch) -> Filter {
    let field = Some(Field { field: Some(field) });
    let comparison = Comparison { field, operator: operator.into(), values, item_match: item_match.into() };
    Filter { node: Some(filter::Node::Compare(comparison)) }
}

fn item(name: &str) -> field::Field {
    field::Field::ItemProperty(name.to_owned())
}

fn property(name: &str) -> field::Field {
    field::Field::Property(name.to_owned())
}

fn dimension(name: &str) -> field::Field {
    field::Field::Dimension(name.to_owned())
}

/// The text means this, and is its usual form.
fn usual(text: &str, condition: Condition) {
    assert_eq!(parse(text).unwrap_or_else(|error| panic!("{error}")), condition, "{text}");
    assert_eq!(format(&condition).as_deref(), Ok(text));
}

/// Both mean the same; the second is the usual form.
fn same(text: &str, usual: &str) {
    let condition = parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(format(&condition).as_deref(), Ok(usual), "{text}");
    assert_eq!(parse(usual), Ok(condition));
}

#[test]
fn the_example_of_the_contract_reads_as_meant() {
    let opened = Behavior { window: last(90, TimeUnit::Day), ..did("df_app_open") };
    let never = counted("df_sign_up", Operator::Less, 1);
    let conditions = vec![of(Node::Behavior(opened)), of(Node::Behavior(never))];
    usual("did df_app_open within 90 days and never did df_sign_up", of(Node::All(ConditionList { conditions })));
}

#[test]
fn tests_of_items_select_items_and_tests_of_events_select_events() {
    let spent = Behavior {
        window: last(6, TimeUnit::Month),
        aggregate: Aggregate::Sum.into(),
        operator: Operator::GreaterOrEqual.into(),
        values: vec![value(Kind::IntValue(1_000_000))],
        ..did("df_purchase")
    };
    let category = |which| compare(item("category1"), Operator::In, vec![text("childcare")], which);
    let of_items = Behavior { items: Some(category(ItemMatch::Unspecified)), ..spent.clone() };
    let childcare =
        r#"did df_purchase of items where category1 is "childcare" with sum of price × quantity at least 1000000 within 6 months"#;
    usual(childcare, of(Node::Behavior(of_items)));
    for other in [
        r#"did df_purchase where item category1 is "childcare" with sum of price × quantity at least 1000000 within 6 months"#,
        r#"did df_purchase within 6 months with sum of price x quantity >= 1_000_000 of items where item category1 = "childcare""#,
        "DID df_purchase, in the last 6 months,\n with sum of price * quantity at least 1000000, where items (category1 is any of (\"childcare\"))",
    ] {
        same(other, childcare);
    }
    let with_any = Behavior { on: Some(EventSelector { filter: Some(category(ItemMatch::Any)), ..on("df_purchase") }), ..spent };
    usual(
        r#"did df_purchase where any item category1 is "childcare" with sum of price × quantity at least 1000000 within 6 months"#,
        of(Node::Behavior(with_any)),
    );
    for (text, which) in [("every", ItemMatch::All), ("no", ItemMatch::None)] {
        let on = EventSelector { filter: Some(category(which)), ..on("df_purchase") };
        let behavior = Behavior { on: Some(on), ..did("df_purchase") };
        usual(&format!(r#"did df_purchase where {text} item category1 is "childcare""#), of(Node::Behavior(behavior)));
    }
}

#[test]
fn sequences_have_their_own_within_and_a_window() {
    let sequence = EventSequence {
        steps: vec![on("A"), on("B")],
        within: Some(span(2, TimeUnit::Hour)),
        not_between: Some(on("C")),
        window: last(30, TimeUnit::Day),
    };
    let usual_text = "did A then B within 2 hours without C between, in the last 30 days";
    usual(usual_text, of(Node::Sequence(sequence.clone())));
    same("did A then B in the last 30 days, without C between within 2 hours", usual_text);
    let anything = EventSequence { not_between: Some(EventSelector::default()), window: None, ..sequence };
    usual("did A then B within 2 hours without anything between", of(Node::Sequence(anything)));
    same(
        r#"any of (did A where (a is 1 or b is 2) then B within 2 hours, in the last 1 day, has email)"#,
        "did A where (a is 1 or b is 2) then B within 2 hours, in the last 1 day or has email",
    );
}

#[test]
fn how_often_and_on_how_many_days_are_said_in_words() {
    for (text, operator, times) in [
        ("at least 3 times", Operator::GreaterOrEqual, 3),
        ("exactly once", Operator::In, 1),
        ("more than twice", Operator::Greater, 2),
        ("fewer than 5 times", Operator::Less, 5),
        ("at most -1 times", Operator::LessOrEqual, -1),
    ] {
        usual(&format!("did A {text}"), of(Node::Behavior(counted("A", operator, times))));
    }
    same("did A at least 1 time", "did A");
    same("did A fewer than once ever", "never did A");
    let days = |operator: Operator, values: Vec<Value>| {
        of(Node::Behavior(Behavior { aggregate: Aggregate::DistinctDays.into(), operator: operator.into(), values, ..did("A") }))
    };
    let three = || value(Kind::IntValue(3));
    usual("did A on at least 3 different days", days(Operator::GreaterOrEqual, vec![three()]));
    usual("did A on exactly 1 day", days(Operator::In, vec![value(Kind::IntValue(1))]));
    usual("did A with number of days from 3 to below 7", days(Operator::Between, vec![three(), value(Kind::IntValue(7))]));
    same("did A with number of times is 3", "did A exactly 3 times");
    same("did A with number of times is not 3", "did A with number of times is not 3");
}

#[test]
fn aggregates_name_their_field() {
    let of_field = |aggregate: Aggregate, field, operator: Operator, values| {
        let field = Some(Field { field: Some(field) });
        of(Node::Behavior(Behavior { aggregate: aggregate.into(), field, operator: operator.into(), values, ..did("A") }))
    };
    let one = || vec![value(Kind::IntValue(1))];
    usual("did A with sum of df_discount less than 1", of_field(Aggregate::Sum, property("df_discount"), Operator::Less, one()));
    usual("did A with sum of price less than 1", of_field(Aggregate::Sum, property("price"), Operator::Less, one()));
    usual("did A with smallest item price more than 1", of_field(Aggregate::Min, item("price"), Operator::Greater, one()));
    usual("did A with largest property platform exists", of_field(Aggregate::Max, property("platform"), Operator::Exists, vec![]));
    usual(
        "did A with number of different platform at most 1",
        of_field(Aggregate::DistinctCount, dimension("platform"), Operator::LessOrEqual, one()),
    );
    usual(
        "did A with first value of dimension later does not exist",
        of_field(Aggregate::FirstValue, dimension("later"), Operator::NotExists, vec![]),
    );
    let gold = vec![text("gold"), text("vip")];
    usual(
        r#"did A with last value of plan is not one of ("gold", "vip")"#,
        of_field(Aggregate::LastValue, property("plan"), Operator::NotIn, gold),
    );
    let moment = value(Kind::TimestampValue(time("2026-01-01T00:00:00Z")));
    let first = Behavior { aggregate: Aggregate::FirstTime.into(), operator: Operator::Less.into(), values: vec![moment], ..did("A") };
    usual("did A with first time before 2026-01-01T00:00:00Z", of(Node::Behavior(first)));
}

#[test]
fn leaves_about_persons_read_as_meant() {
    let attribute = |operator: Operator, values, as_of| {
        of(Node::Attribute(Attribute { r#trait: "df_membership".to_owned(), operator: operator.into(), values, as_of }))
    };
    usual(r#"trait df_membership is "gold""#, attribute(Operator::In, vec![text("gold")], None));
    usual(
        r#"trait df_membership starts with any of ("g", "v") as of 2026-01-01T00:00:00.5Z"#.replace(".5Z", ".500Z").as_str(),
        attribute(Operator::StartsWith, vec![text("g"), text("v")], Some(time("2026-01-01T00:00:00.5Z"))),
    );
    let touch = |touch: Touch, window, filter| of(Node::Acquisition(Acquisition { touch: touch.into(), window, filter }));
    let partner = compare(dimension("ad_partner"), Operator::Exists, vec![], ItemMatch::Unspecified);
    usual("first touch within 30 days where ad_partner exists", touch(Touch::First, last(30, TimeUnit::Day), Some(partner)));
    usual("last touch", touch(Touch::Last, None, None));
    let range = TimeRange { start: Some(time("2026-01-01T00:00:00Z")), end: Some(time("2026-02-01T00:00:00Z")) };
    let absolute = Some(Window { window: Some(window::Window::Absolute(range)) });
    usual("last touch from 2026-01-01T00:00:00Z to before 2026-02-01T00:00:00Z", touch(Touch::Last, absolute, None));
    same(
        "last touch from 2026-01-01T09:00:00+09:00 to 2026-02-01T00:00:00Z",
        "last touch from 2026-01-01T00:00:00Z to before 2026-02-01T00:00:00Z",
    );
    let bucket = RandomBucket { salt: "salt".to_owned(), from: 0, to: 5000 };
    usual(r#"bucket "salt" from 0 to below 5000"#, of(Node::RandomBucket(bucket)));
    same("bucket salt from 0 to 5000", r#"bucket "salt" from 0 to below 5000"#);
    let member = |of_what| of(Node::MemberOf(Membership { of: Some(of_what) }));
    usual("in segment big_spenders", member(membership::Of::Segment("big_spenders".to_owned())));
    usual("in audience x", member(membership::Of::Audience("x".to_owned())));
    usual("on list y", member(membership::Of::List("y".to_owned())));
    usual("has email", of(Node::HasIdentifier(HasIdentifier { kind: "email".to_owned() })));
    let set = PersonSet { numbers: vec![0x3a, 0x30, 0, 0], label: "audience big_spenders".to_owned() };
    usual(r#"persons base64 "OjAAAA==" labelled "audience big_spenders""#, of(Node::Persons(set)));
}

#[test]
fn trees_keep_their_shape() {
    let leaf = || of(Node::HasIdentifier(HasIdentifier { kind: "a".to_owned() }));
    let all = |conditions| of(Node::All(ConditionList { conditions }));
    let any = |conditions| of(Node::Any(ConditionList { conditions }));
    let not = |operand| of(Node::Not(Box::new(operand)));
    usual("everyone", all(vec![]));
    usual("nobody", any(vec![]));
    usual("all of (has a)", all(vec![leaf()]));
    usual("any of (has a or has a)", any(vec![any(vec![leaf(), leaf()])]));
    usual("(has a and has a) and has a", all(vec![all(vec![leaf(), leaf()]), leaf()]));
    usual("has a or (has a and not (has a))", any(vec![leaf(), all(vec![leaf(), not(leaf())])]));
    usual("not (has a or has a)", not(any(vec![leaf(), leaf()])));
    same("has a or has a and not has a", "has a or (has a and not (has a))");
    same("all of (has a, has a, not not ((has a)))", "has a and has a and not (not (has a))");
    same("all of ()", "everyone");
}

#[test]
fn tests_of_events_keep_their_shape() {
    let test = |name: &str| compare(property(name), Operator::Exists, vec![], ItemMatch::Unspecified);
    let all = |filters| Filter { node: Some(filter::Node::All(FilterList { filters })) };
    let any = |filters| Filter { node: Some(filter::Node::Any(FilterList { filters })) };
    let not = |filter| Filter { node: Some(filter::Node::Not(Box::new(filter))) };
    let asked = |filter| of(Node::Behavior(Behavior { on: Some(EventSelector { filter: Some(filter), ..on("A") }), ..did("A") }));
    usual("did A where (a exists and b exists)", asked(all(vec![test("a"), test("b")])));
    usual("did A where all of ()", asked(all(vec![])));
    usual("did A where any of (a exists)", asked(any(vec![test("a")])));
    usual("did A where not (a exists or b exists)", asked(not(any(vec![test("a"), test("b")]))));
    usual("did A where (a exists and (b exists or c exists))", asked(all(vec![test("a"), any(vec![test("b"), test("c")])])));
    same("did A where (a exists or b exists and c exists)", "did A where (a exists or (b exists and c exists))");
    same("did A where ((a exists)) and has b", "did A where a exists and has b");
}

#[test]
fn values_keep_their_kind() {
    for (text, kind) in [
        (r#""gold \"x\" \\ \n \u{202e}""#, Kind::StringValue("gold \"x\" \\ \n \u{202e}".to_owned())),
        ("5", Kind::IntValue(5)),
        ("-9223372036854775808", Kind::IntValue(i64::MIN)),
        ("12.5", Kind::DecimalE4Value(125_000)),
        ("5.0", Kind::DecimalE4Value(50_000)),
        ("-0.0001", Kind::DecimalE4Value(-1)),
        ("-922337203685477.5808", Kind::DecimalE4Value(i64::MIN)),
        ("12.5e0", Kind::DoubleValue(12.5)),
        ("1e300", Kind::DoubleValue(1e300)),
        ("0.1e0", Kind::DoubleValue(0.1)),
        ("-infinity", Kind::DoubleValue(f64::NEG_INFINITY)),
        ("infinity", Kind::DoubleValue(f64::INFINITY)),
        ("true", Kind::BoolValue(true)),
        ("2026-11-22T12:00:00.000000001Z", Kind::TimestampValue(time("2026-11-22T12:00:00.000000001Z"))),
        (r#"json "{\"a\":1}""#, Kind::JsonValue(r#"{"a":1}"#.to_owned())),
    ] {
        let attribute = Attribute { r#trait: "t".to_owned(), operator: Operator::In.into(), values: vec![value(kind)], as_of: None };
        usual(&format!("trait t is {text}"), of(Node::Attribute(attribute)));
    }
}
