//! Selectors held against single events: every operator on every type, missing values, items.

use proptest::prelude::*;
use prost_types::Timestamp;
use segue_model::dimension;
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{DimensionValue, EventKind, Item, ResolvedEvent, Value};
use segue_proto::query::v1::{Comparison, EventSelector, Field, Filter, FilterList, ItemMatch, Operator, field, filter};
use segue_query::{field_text, matches, property_text, value_order};

use crate::arbitrary;

fn of(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Value {
    of(Kind::StringValue(text.to_owned()))
}

fn int(number: i64) -> Value {
    of(Kind::IntValue(number))
}

fn e4(e4: i64) -> Value {
    of(Kind::DecimalE4Value(e4))
}

fn double(number: f64) -> Value {
    of(Kind::DoubleValue(number))
}

fn truth(truth: bool) -> Value {
    of(Kind::BoolValue(truth))
}

fn time(seconds: i64, nanos: i32) -> Value {
    of(Kind::TimestampValue(Timestamp { seconds, nanos }))
}

fn json(text: &str) -> Value {
    of(Kind::JsonValue(text.to_owned()))
}

fn compare(field: field::Field, operator: Operator, values: &[Value], item_match: ItemMatch) -> Filter {
    let field = Some(Field { field: Some(field) });
    let comparison = Comparison { field, operator: operator.into(), values: values.to_vec(), item_match: item_match.into() };
    Filter { node: Some(filter::Node::Compare(comparison)) }
}

fn event() -> ResolvedEvent {
    ResolvedEvent { name: "df_purchase".to_owned(), kind: EventKind::Track.into(), ..ResolvedEvent::default() }
}

fn passes(filter: Filter, event: &ResolvedEvent) -> bool {
    matches(&EventSelector { events: vec![], filter: Some(filter) }, event)
}

/// Whether the comparison is true of an event whose property holds this.
fn holds(held: Option<&Value>, operator: Operator, values: &[Value]) -> bool {
    let mut event = event();
    event.properties.extend(held.map(|value| ("p".to_owned(), value.clone())));
    passes(compare(field::Field::Property("p".to_owned()), operator, values, ItemMatch::Unspecified), &event)
}

#[test]
fn operators_mean_the_same_whatever_type_a_number_has() {
    use Operator::*;
    for five in [int(5), e4(50_000), double(5.0)] {
        for (operator, values, expected) in [
            (In, [int(5)].to_vec(), true),
            (In, [e4(50_000)].to_vec(), true),
            (In, [double(5.0)].to_vec(), true),
            (In, [int(4), double(5.0001)].to_vec(), false),
            (NotIn, [int(5)].to_vec(), false),
            (NotIn, [double(5.0001)].to_vec(), true),
            (Less, [int(5)].to_vec(), false),
            (Less, [double(5.00001)].to_vec(), true),
            (LessOrEqual, [e4(50_000)].to_vec(), true),
            (LessOrEqual, [double(4.99999)].to_vec(), false),
            (Greater, [int(5)].to_vec(), false),
            (Greater, [e4(49_999)].to_vec(), true),
            (GreaterOrEqual, [double(5.0)].to_vec(), true),
            (GreaterOrEqual, [e4(50_001)].to_vec(), false),
            (Between, [int(5), int(6)].to_vec(), true),
            (Between, [int(4), int(5)].to_vec(), false),
            (Exists, [].to_vec(), true),
            (NotExists, [].to_vec(), false),
            (Less, [double(f64::NAN)].to_vec(), false),
            (In, [double(f64::NAN)].to_vec(), false),
        ] {
            assert_eq!(holds(Some(&five), operator, &values), expected, "{five:?} {operator:?} {values:?}");
        }
    }
    assert!(!holds(Some(&double(f64::NAN)), In, &[double(f64::NAN)]));
    assert!(holds(Some(&double(f64::INFINITY)), Greater, &[int(i64::MAX)]));
    assert!(holds(Some(&double(-0.0)), In, &[int(0)]));
    // What a double is compared with is a double; what is exact stays so.
    assert!(holds(Some(&double(9_007_199_254_740_992.0)), In, &[int(9_007_199_254_740_993)]));
    assert!(!holds(Some(&int(9_007_199_254_740_993)), In, &[double(9_007_199_254_740_992.0)]));
    assert!(holds(Some(&double(900_719_925_474.099_3)), In, &[e4(9_007_199_254_740_993)]));
    assert!(holds(Some(&double(0.1)), In, &[e4(1_000)]));
}

#[test]
fn operators_on_other_types_than_numbers() {
    use Operator::*;
    for (held, operator, values, expected) in [
        (text("gold"), In, vec![text("silver"), text("gold")], true),
        (text("gold"), In, vec![text("Gold")], false),
        (text(""), In, vec![text("")], true),
        (text(""), Exists, vec![], true),
        (text("gold"), NotIn, vec![text("gold")], false),
        (text("gold member"), Contains, vec![text("x"), text("d m")], true),
        (text("gold"), Contains, vec![text("D")], false),
        (text("gold"), NotContains, vec![text("x")], true),
        (text("gold"), NotContains, vec![text("ol")], false),
        (text("gold"), StartsWith, vec![text("go")], true),
        (text("gold"), StartsWith, vec![text("ol")], false),
        (text("gold"), EndsWith, vec![text("ld")], true),
        (text("gold"), EndsWith, vec![text("go")], false),
        // Text has no order.
        (text("5"), Less, vec![text("6")], false),
        (text("5"), Less, vec![int(6)], false),
        (text("5"), In, vec![int(5)], false),
        // Where numbers are asked about as text, the property is a text to the tenant.
        (int(5), In, vec![text("5")], true),
        (e4(125_000), In, vec![text("12.5000")], true),
        (double(12.5), StartsWith, vec![text("12.")], true),
        (truth(true), In, vec![text("true")], true),
        (truth(true), In, vec![truth(false), truth(true)], true),
        (truth(true), NotIn, vec![truth(false)], true),
        (truth(true), Less, vec![truth(false)], false),
        (time(10, 1_000), In, vec![time(10, 1_000)], true),
        // Of an event's value, whole microseconds are kept.
        (time(10, 1_999), In, vec![time(10, 1_000)], true),
        (time(10, 1_000), Less, vec![time(10, 1_001)], true),
        (time(10, 0), Between, vec![time(10, 0), time(11, 0)], true),
        (time(11, 0), Between, vec![time(10, 0), time(11, 0)], false),
        (time(10, 0), In, vec![int(10)], false),
        (json("[1]"), Exists, vec![], true),
        (json("[1]"), In, vec![json("[1]")], false),
        (json("[1]"), NotIn, vec![json("[1]")], true),
        (json("[1]"), Contains, vec![text("1")], true),
    ] {
        assert_eq!(holds(Some(&held), operator, &values), expected, "{held:?} {operator:?} {values:?}");
    }
}

#[test]
fn what_is_missing_passes_negations_alone() {
    use Operator::*;
    let one = [int(1)];
    for (operator, values, expected) in [
        (In, &one[..], false),
        (NotIn, &one, true),
        (Less, &one, false),
        (LessOrEqual, &one, false),
        (Greater, &one, false),
        (GreaterOrEqual, &one, false),
        (Between, &[int(0), int(2)], false),
        (Contains, &[text("x")], false),
        (NotContains, &[text("x")], true),
        (StartsWith, &[text("x")], false),
        (EndsWith, &[text("x")], false),
        (Exists, &[], false),
        (NotExists, &[], true),
    ] {
        assert_eq!(holds(None, operator, values), expected, "{operator:?}");
        assert_eq!(holds(Some(&Value::default()), operator, values), expected, "{operator:?}, a value that is not set");
    }
}

#[test]
fn names_and_kinds_of_events() {
    let named = |names: &[&str]| EventSelector { events: names.iter().map(|name| (*name).to_owned()).collect(), filter: None };
    for (names, expected) in [
        (&[][..], true),
        (&["df_purchase"], true),
        (&["df_login", "Order Completed"], true),
        (&["order completed"], false),
        (&["df_login"], false),
    ] {
        assert_eq!(matches(&named(names), &event()), expected, "{names:?}");
    }
    for (kind, expected) in [
        (EventKind::Unspecified, true),
        (EventKind::Track, true),
        (EventKind::Page, true),
        (EventKind::Screen, true),
        (EventKind::Identify, false),
        (EventKind::Group, false),
        (EventKind::Alias, false),
    ] {
        assert_eq!(matches(&named(&[]), &ResolvedEvent { kind: kind.into(), ..event() }), expected, "{kind:?}");
    }
    let of_name = |operator, value: &str| {
        passes(compare(field::Field::Dimension("event".to_owned()), operator, &[text(value)], ItemMatch::Unspecified), &event())
    };
    assert!(of_name(Operator::In, "Order Completed") && !of_name(Operator::NotIn, "abx:purchase") && of_name(Operator::NotIn, "df_login"));
    assert!(of_name(Operator::StartsWith, "df_") && !of_name(Operator::StartsWith, "Order"));
}

#[test]
fn dimensions_properties_and_the_rest_are_found_where_they_are() {
    let mut event = event();
    let platform = dimension::by_name("platform").expect("a dimension").code;
    event.dimensions = vec![DimensionValue { code: platform, value: "ios".to_owned() }];
    event.source = "shop".to_owned();
    event.properties.insert("both".to_owned(), text("known"));
    event.unregistered = [("both".to_owned(), text("other")), ("free".to_owned(), int(5))].into_iter().collect();
    let dimension = |name: &str| Field { field: Some(field::Field::Dimension(name.to_owned())) };
    let property = |name: &str| Field { field: Some(field::Field::Property(name.to_owned())) };
    for (field, expected) in [
        (dimension("platform"), Some("ios")),
        (dimension("event"), Some("df_purchase")),
        (dimension("source"), Some("shop")),
        (dimension("country"), None),
        (dimension("nope"), None),
        (property("both"), Some("known")),
        (property("free"), Some("5")),
        (property("platform"), None),
        (Field { field: Some(field::Field::ItemProperty("item_id".to_owned())) }, None),
        (Field::default(), None),
    ] {
        assert_eq!(field_text(&event, &field).as_deref(), expected, "{field:?}");
        let exists = field.field.is_some_and(|field| passes(compare(field, Operator::Exists, &[], ItemMatch::Unspecified), &event));
        assert_eq!(exists, expected.is_some());
    }
}

#[test]
fn texts_of_equal_numbers_are_equal() {
    for (value, expected) in [
        (int(5), "5"),
        (e4(50_000), "5"),
        (double(5.0), "5"),
        (e4(125_000), "12.5"),
        (double(12.5), "12.5"),
        (e4(-1), "-0.0001"),
        (e4(1_000_000), "100"),
        (double(-0.0), "0"),
        (truth(true), "true"),
        (time(0, 0), "1970-01-01T00:00:00Z"),
        (text(" a "), " a "),
    ] {
        let mut event = event();
        event.properties.insert("p".to_owned(), value);
        assert_eq!(property_text(&event, "p").as_deref(), Some(expected));
    }
}

#[test]
fn items_match_any_all_or_none() {
    let named = |category: &str, price: Option<i64>| Item {
        categories: if category.is_empty() { vec![] } else { vec!["shop".to_owned(), category.to_owned()] },
        price_e4: price,
        properties: [("colour".to_owned(), text("red"))].into_iter().collect(),
        ..Item::default()
    };
    let baby = || named("baby", Some(10_000));
    let toys = || named("toys", Some(20_000));
    let bare = || named("", None);
    let category = |operator| (field::Field::ItemProperty("category2".to_owned()), operator, vec![text("baby")]);
    let price = |operator, value| (field::Field::ItemProperty("price".to_owned()), operator, vec![value]);
    let has = |name: &str| (field::Field::ItemProperty(name.to_owned()), Operator::Exists, vec![]);
    for (items, (field, operator, values), expected) in [
        // Any, all, none.
        (vec![baby(), toys()], category(Operator::In), [true, false, false]),
        (vec![baby(), baby()], category(Operator::In), [true, true, false]),
        (vec![toys()], category(Operator::In), [false, false, true]),
        (vec![], category(Operator::In), [false, false, true]),
        // ANY item ≠ baby differs from NONE = baby.
        (vec![baby(), toys()], category(Operator::NotIn), [true, false, false]),
        (vec![baby()], category(Operator::NotIn), [false, false, true]),
        (vec![bare()], category(Operator::NotIn), [true, true, false]),
        (vec![], category(Operator::NotIn), [false, false, true]),
        (vec![baby(), toys()], price(Operator::Less, int(2)), [true, false, false]),
        (vec![baby(), bare()], price(Operator::GreaterOrEqual, double(1.0)), [true, false, false]),
        (vec![baby(), toys()], has("price"), [true, true, false]),
        (vec![baby(), bare()], has("category1"), [true, false, false]),
        (vec![baby(), bare()], has("colour"), [true, true, false]),
        // An empty text is a missing one.
        (vec![baby()], has("brand"), [false, false, true]),
        (vec![baby()], has("nope"), [false, false, true]),
    ] {
        let event = ResolvedEvent { items, ..event() };
        let found =
            [ItemMatch::Any, ItemMatch::All, ItemMatch::None].map(|which| passes(compare(field.clone(), operator, &values, which), &event));
        assert_eq!(found, expected, "{field:?} {operator:?} {:?}", event.items);
        assert_eq!(passes(compare(field, operator, &values, ItemMatch::Unspecified), &event), found[0]);
    }
}

#[test]
fn trees_of_tests() {
    let list = |filters: &[bool]| FilterList { filters: filters.iter().map(|truth| constant(*truth)).collect() };
    let of = |node| Filter { node: Some(node) };
    for (filter, expected) in [
        (Filter::default(), true),
        (of(filter::Node::All(list(&[]))), true),
        (of(filter::Node::Any(list(&[]))), false),
        (of(filter::Node::All(list(&[true, false]))), false),
        (of(filter::Node::Any(list(&[true, false]))), true),
        (of(filter::Node::Not(Box::new(constant(true)))), false),
        (of(filter::Node::Not(Box::new(constant(false)))), true),
    ] {
        assert_eq!(passes(filter.clone(), &event()), expected, "{filter:?}");
    }
}

fn constant(truth: bool) -> Filter {
    let operator = if truth { Operator::Exists } else { Operator::NotExists };
    compare(field::Field::Dimension("event".to_owned()), operator, &[], ItemMatch::Unspecified)
}

proptest! {
    #[test]
    fn negative_operators_are_the_others_turned_round(held in arbitrary::value(), asked in arbitrary::value()) {
        let (held, asked) = (Some(&held), [asked]);
        prop_assert_ne!(holds(held, Operator::In, &asked), holds(held, Operator::NotIn, &asked));
        prop_assert_ne!(holds(held, Operator::Contains, &asked), holds(held, Operator::NotContains, &asked));
        prop_assert_ne!(holds(held, Operator::Exists, &[]), holds(held, Operator::NotExists, &[]));
    }

    #[test]
    fn what_can_be_ordered_is_below_equal_or_above(a in arbitrary::value(), b in arbitrary::value()) {
        let asked = [b.clone()];
        let (less, greater) = (holds(Some(&a), Operator::Less, &asked), holds(Some(&a), Operator::Greater, &asked));
        let (at_most, at_least) = (holds(Some(&a), Operator::LessOrEqual, &asked), holds(Some(&a), Operator::GreaterOrEqual, &asked));
        let equal = at_most && at_least;
        let is_ordered = value_order(&a, &b).is_some();
        prop_assert_eq!(usize::from(less) + usize::from(equal) + usize::from(greater), usize::from(is_ordered));
        prop_assert_eq!(at_most, less || equal);
        if is_ordered {
            prop_assert_eq!(holds(Some(&a), Operator::In, &asked), equal);
        }
    }
}
