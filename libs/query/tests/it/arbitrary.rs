//! Arbitrary conditions: every node, operator, aggregate, window, unit, item match and kind of value, with names of any characters.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost_types::Timestamp;
use segue_model::dimension::DIMENSIONS;
use segue_proto::events::v1::{Value, value::Kind};
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::{
    Acquisition, Attribute, Behavior, BehaviorAggregate as Aggregate, Comparison, Condition, ConditionList, EventSelector, EventSequence,
    Field, Filter, FilterList, HasIdentifier, ItemMatch, Membership, Operator, PersonSet, RandomBucket, Span, TimeRange, TimeUnit, Touch,
    Window, field, filter, membership, window,
};

/// Words that mean something somewhere in the grammar.
const WORDS: &str = "all and any anything as at audience base64 before below between bucket contain contains day days did different \
    dimension does ends ever every everyone exactly exist exists false fewer first from has in infinity is item items json labelled largest \
    last least list month more most never no nobody not number of on once one or persons price property quantity segment smallest starts \
    sum than the then time times to touch trait true twice value where with within without x × within2 a-b abx:purchase $ _ 1a -";

pub fn name() -> impl Strategy<Value = String> {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let dimensions: Vec<&str> = DIMENSIONS.iter().map(|dimension| dimension.name).chain(["event", "source"]).collect();
    prop_oneof![
        2 => "[a-z][a-z0-9_]{0,8}",
        1 => "[A-Za-z0-9_$.:-]{0,8}",
        2 => proptest::sample::select(words).prop_map(str::to_owned),
        2 => proptest::sample::select(dimensions).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => vec(proptest::sample::select(vec!['"', '\\', '\n', '\u{202e}', '\u{0}', '한', '😀', ' ', 'u', '{', '}']), 0..6)
            .prop_map(|characters| characters.into_iter().collect()),
    ]
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    let nanos = prop_oneof![Just(0), (0..1_000).prop_map(|ms| ms * 1_000_000), 0..1_000_000_000];
    (-62_135_596_800_i64..=253_402_300_799, nanos).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

pub fn value() -> impl Strategy<Value = Value> {
    let double = any::<f64>().prop_filter("NaN has no text", |number| !number.is_nan());
    let kind = prop_oneof![
        name().prop_map(Kind::StringValue),
        prop_oneof![Just(1), Just(2), any::<i64>()].prop_map(Kind::IntValue),
        prop_oneof![Just(0.1), Just(-0.0), Just(f64::INFINITY), double].prop_map(Kind::DoubleValue),
        any::<bool>().prop_map(Kind::BoolValue),
        prop_oneof![-100_000..100_000_i64, any::<i64>()].prop_map(Kind::DecimalE4Value),
        timestamp().prop_map(Kind::TimestampValue),
        name().prop_map(Kind::JsonValue),
    ];
    kind.prop_map(|kind| Value { kind: Some(kind) })
}

/// Operators with as many values as they take.
fn compared() -> impl Strategy<Value = (Operator, Vec<Value>)> {
    use Operator::*;
    let of_several = proptest::sample::select(vec![In, NotIn, Contains, NotContains, StartsWith, EndsWith]);
    let of_one = proptest::sample::select(vec![Less, LessOrEqual, Greater, GreaterOrEqual]);
    prop_oneof![
        (of_several, vec(value(), 1..4)),
        (of_one, vec(value(), 1..=1)),
        (Just(Between), vec(value(), 2..=2)),
        (proptest::sample::select(vec![Exists, NotExists]), Just(Vec::new())),
    ]
}

pub fn span() -> impl Strategy<Value = Span> {
    use TimeUnit::*;
    let unit = proptest::sample::select(vec![Second, Minute, Hour, Day, Week, Month]);
    (prop_oneof![Just(1), any::<u32>()], unit).prop_map(|(count, unit)| Span { count, unit: unit.into() })
}

fn window() -> impl Strategy<Value = Option<Window>> {
    let absolute = (timestamp(), timestamp()).prop_map(|(start, end)| TimeRange { start: Some(start), end: Some(end) });
    option::of(prop_oneof![
        Just(Window { window: None }),
        span().prop_map(|span| Window { window: Some(window::Window::Last(span)) }),
        absolute.prop_map(|range| Window { window: Some(window::Window::Absolute(range)) }),
    ])
}

fn field_of_event() -> impl Strategy<Value = field::Field> {
    prop_oneof![name().prop_map(field::Field::Dimension), name().prop_map(field::Field::Property)]
}

fn comparison(field: impl Strategy<Value = (field::Field, ItemMatch)>) -> impl Strategy<Value = Filter> {
    (field, compared()).prop_map(|((field, item_match), (operator, values))| {
        let field = Some(Field { field: Some(field) });
        let comparison = Comparison { field, operator: operator.into(), values, item_match: item_match.into() };
        Filter { node: Some(filter::Node::Compare(comparison)) }
    })
}

fn tree_of_tests(leaf: impl Strategy<Value = Filter> + 'static) -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![8 => leaf, 1 => Just(Filter { node: None })];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let list = || vec(inner.clone(), 0..4).prop_map(|filters| FilterList { filters });
        let node = prop_oneof![
            list().prop_map(filter::Node::All),
            list().prop_map(filter::Node::Any),
            inner.clone().prop_map(|inner| filter::Node::Not(Box::new(inner))),
        ];
        node.prop_map(|node| Filter { node: Some(node) })
    })
}

fn filter_of_events() -> impl Strategy<Value = Filter> {
    let which = || proptest::sample::select(vec![ItemMatch::Unspecified, ItemMatch::Any, ItemMatch::All, ItemMatch::None]);
    tree_of_tests(comparison(prop_oneof![
        field_of_event().prop_map(|field| (field, ItemMatch::Unspecified)),
        (name().prop_map(field::Field::ItemProperty), which()),
    ]))
}

fn filter_of_items() -> impl Strategy<Value = Filter> {
    let which = proptest::sample::select(vec![ItemMatch::Unspecified, ItemMatch::Any]);
    tree_of_tests(comparison((name().prop_map(field::Field::ItemProperty), which)))
}

fn selector() -> impl Strategy<Value = EventSelector> {
    (vec(name(), 0..4), option::of(filter_of_events())).prop_map(|(events, filter)| EventSelector { events, filter })
}

/// Aggregates with a field where they take one.
fn measure() -> impl Strategy<Value = (Aggregate, Option<Field>)> {
    use Aggregate::*;
    let field = || prop_oneof![field_of_event(), name().prop_map(field::Field::ItemProperty)];
    let field = move || field().prop_map(|field| Some(Field { field: Some(field) }));
    prop_oneof![
        (proptest::sample::select(vec![Unspecified, Count, DistinctDays, FirstTime, LastTime]), Just(None)),
        (proptest::sample::select(vec![Sum, Min, Max]), prop_oneof![Just(None), field()]),
        (proptest::sample::select(vec![FirstValue, LastValue, DistinctCount]), field()),
    ]
}

fn behavior() -> impl Strategy<Value = Behavior> {
    let small = (0..3_i64).prop_map(|number| Value { kind: Some(Kind::IntValue(number)) });
    let orders = proptest::sample::select(vec![Operator::GreaterOrEqual, Operator::Less, Operator::In, Operator::Greater]);
    let compared = prop_oneof![2 => compared(), 1 => (orders, vec(small, 1..=1))];
    let asked = (option::of(selector()), option::of(filter_of_items()), window(), measure(), compared, any::<bool>());
    asked.prop_map(|(on, items, window, (aggregate, field), (operator, values), is_compared)| {
        let may_be_left_out = matches!(aggregate, Aggregate::Unspecified | Aggregate::Count | Aggregate::FirstValue | Aggregate::LastValue);
        let (operator, values) = if is_compared || !may_be_left_out { (operator, values) } else { (Operator::Unspecified, vec![]) };
        Behavior { on, items, window, aggregate: aggregate.into(), field, operator: operator.into(), values }
    })
}

fn sequence() -> impl Strategy<Value = EventSequence> {
    (vec(selector(), 2..5), span(), option::of(selector()), window()).prop_map(|(steps, within, not_between, window)| EventSequence {
        steps,
        within: Some(within),
        not_between,
        window,
    })
}

fn leaf() -> impl Strategy<Value = Node> {
    let attribute = (name(), compared(), option::of(timestamp())).prop_map(|(name, (operator, values), as_of)| Attribute {
        r#trait: name,
        operator: operator.into(),
        values,
        as_of,
    });
    let touch = proptest::sample::select(vec![Touch::Unspecified, Touch::First, Touch::Last]);
    let acquisition = (touch, window(), option::of(filter_of_events())).prop_map(|(touch, window, filter)| Acquisition {
        touch: touch.into(),
        window,
        filter,
    });
    let bucket = (name(), any::<u32>(), any::<u32>()).prop_map(|(salt, from, to)| RandomBucket { salt, from, to });
    let persons = (vec(any::<u8>(), 0..20), name()).prop_map(|(numbers, label)| PersonSet { numbers, label });
    let group = prop_oneof![
        name().prop_map(membership::Of::Segment),
        name().prop_map(membership::Of::Audience),
        name().prop_map(membership::Of::List),
    ];
    prop_oneof![
        4 => behavior().prop_map(Node::Behavior),
        2 => sequence().prop_map(Node::Sequence),
        1 => attribute.prop_map(Node::Attribute),
        1 => acquisition.prop_map(Node::Acquisition),
        1 => bucket.prop_map(Node::RandomBucket),
        1 => persons.prop_map(Node::Persons),
        1 => group.prop_map(|group| Node::MemberOf(Membership { of: Some(group) })),
        1 => name().prop_map(|kind| Node::HasIdentifier(HasIdentifier { kind })),
    ]
}

pub fn condition() -> impl Strategy<Value = Condition> {
    let leaf = leaf().prop_map(|node| Condition { node: Some(node) });
    leaf.prop_recursive(4, 16, 4, |inner| {
        let list = || vec(inner.clone(), 0..4).prop_map(|conditions| ConditionList { conditions });
        let node = prop_oneof![
            list().prop_map(Node::All),
            list().prop_map(Node::Any),
            inner.clone().prop_map(|inner| Node::Not(Box::new(inner))),
        ];
        node.prop_map(|node| Condition { node: Some(node) })
    })
}
