//! Events and selectors, drawn at random.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use segue_model::dimension;
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{DimensionValue, EventKind, Item, ResolvedEvent, Value};
use segue_proto::query::v1::{Comparison, EventSelector, Field, Filter, FilterList, ItemMatch, Operator, field, filter};

/// Of a property, over all of the tenant's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Int,
    Double,
    Bool,
    Decimal,
    Time,
    Json,
}

use Type::{Bool, Decimal, Double, Int, Json, Text, Time};

/// Registered; events carry values under these names among the unregistered ones, too.
const REGISTERED: [(&str, Type); 7] =
    [("label", Text), ("size", Int), ("score", Double), ("vip", Bool), ("amount", Decimal), ("when", Time), ("extra", Json)];
const UNREGISTERED: [(&str, Type); 7] =
    [("note", Text), ("level", Int), ("rate", Double), ("odd", Bool), ("cost", Decimal), ("seen", Time), ("list", Json)];
/// Of items, further ones.
const CUSTOM: [(&str, Type); 7] =
    [("color", Text), ("weight", Int), ("ratio", Double), ("gift", Bool), ("paid", Decimal), ("made", Time), ("tags", Json)];
/// Of items, built in.
const BUILT_IN: [(&str, Type); 13] = [
    ("item_id", Text),
    ("item_name", Text),
    ("price", Decimal),
    ("quantity", Int),
    ("discount", Decimal),
    ("category1", Text),
    ("category2", Text),
    ("category3", Text),
    ("category4", Text),
    ("category5", Text),
    ("brand", Text),
    ("variant", Text),
    ("coupon", Text),
];
/// Known to every tenant, and carried by no event here.
const NOBODYS: [(&str, Type); 2] = [("df_order_id", Text), ("df_total_purchase_amount", Decimal)];
const DIMENSIONS: [&str; 5] = ["event", "source", "platform", "ad_partner", "utm_source"];
const NAMES: [&str; 4] = ["df_purchase", "df_view_home", "opened", "홍"];

const TEXTS: [&str; 20] = [
    "",
    "a",
    "ab",
    "b",
    "홍",
    "길동홍",
    "opened",
    "df_purchase",
    "purchase",
    "Order Completed",
    "0",
    "-0",
    "5",
    "1.25",
    "5.0000",
    "-0.0001",
    "true",
    "inf",
    "[1]",
    "9007199254740993",
];
const INTS: [i64; 13] =
    [0, 1, -1, 5, 6, 12, -12, 9_007_199_254_740_991, 9_007_199_254_740_992, 9_007_199_254_740_993, 922_337_203_685_477, i64::MAX, i64::MIN];
const E4S: [i64; 13] = [
    0,
    1,
    -1,
    10_000,
    12_500,
    50_000,
    50_001,
    -120_000,
    9_007_199_254_740_992,
    9_007_199_254_740_993,
    9_223_372_036_854_770_000,
    i64::MAX,
    i64::MIN,
];
const DOUBLES: [f64; 24] = [
    0.0,
    -0.0,
    1.0,
    5.0,
    5.0001,
    1.25,
    -12.0,
    0.1,
    0.300_000_000_000_000_04,
    0.000_01,
    -0.000_01,
    5e-324,
    9_007_199_254_740_991.0,
    9_007_199_254_740_992.0,
    9_007_199_254_740_994.0,
    900_719_925_474.099_2,
    900_719_925_474.099_3,
    922_337_203_685_477.0,
    9_223_372_036_854_775_807.0,
    1e300,
    -1e300,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];
/// Around a second, before and after 1970, with and without parts of microseconds.
const TIMES: [(i64, i32); 9] = [
    (0, 0),
    (0, 1),
    (0, 999),
    (0, 1_000),
    (0, 1_500),
    (-1, 999_999_999),
    (1_790_000_000, 500_000_000),
    (-62_135_596_800, 0),
    (253_402_300_799, 999_999_999),
];

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn int() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => select(&INTS[..]), 1 => -20_i64..20, 1 => any::<i64>()].prop_map(Kind::IntValue)
}

fn decimal() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => select(&E4S[..]), 1 => (-8_i64..8).prop_map(|n| n * 12_500), 1 => any::<i64>()].prop_map(Kind::DecimalE4Value)
}

fn double() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => select(&DOUBLES[..]), 1 => (-8_i32..8).prop_map(|n| f64::from(n) * 1.25), 1 => any::<f64>()]
        .prop_map(Kind::DoubleValue)
}

fn text() -> impl Strategy<Value = Kind> {
    select(&TEXTS[..]).prop_map(|text| Kind::StringValue(text.to_owned()))
}

fn time() -> impl Strategy<Value = Kind> {
    let any = (-100_i64..100, 0_i32..1_000_000_000);
    prop_oneof![4 => select(&TIMES[..]), 1 => any]
        .prop_map(|(seconds, nanos)| Kind::TimestampValue(prost_types::Timestamp { seconds, nanos }))
}

fn json() -> impl Strategy<Value = Kind> {
    select(&["[1]", "{\"a\":null}", "[]"][..]).prop_map(|text| Kind::JsonValue(text.to_owned()))
}

/// The type's own value, for the event that makes all names known.
fn typical(kind: Type) -> Value {
    value(match kind {
        Text => Kind::StringValue("x".to_owned()),
        Int => Kind::IntValue(1),
        Double => Kind::DoubleValue(0.5),
        Bool => Kind::BoolValue(true),
        Decimal => Kind::DecimalE4Value(1),
        Time => Kind::TimestampValue(prost_types::Timestamp::default()),
        Json => Kind::JsonValue("[]".to_owned()),
    })
}

/// Something that a property of this type holds without loss.
fn held(kind: Type) -> BoxedStrategy<Kind> {
    // Beyond 2^53 not every whole number is a double.
    let exact_double = prop_oneof![-20_i64..20, select(&INTS[..9])].prop_map(Kind::IntValue);
    let whole = prop_oneof![-20_i64..20, Just(922_337_203_685_477)].prop_map(|n| Kind::DecimalE4Value(n * 10_000));
    let in_range = prop_oneof![-20_i64..20, Just(922_337_203_685_477), Just(-922_337_203_685_477)].prop_map(Kind::IntValue);
    let truth = || any::<bool>().prop_map(Kind::BoolValue);
    match kind {
        Text => prop_oneof![6 => text(), 1 => int(), 1 => double(), 1 => truth(), 1 => decimal(), 1 => json()].boxed(),
        Int => prop_oneof![4 => int(), 1 => whole].boxed(),
        Double => prop_oneof![4 => double(), 1 => exact_double].boxed(),
        Bool => truth().boxed(),
        Decimal => prop_oneof![4 => decimal(), 1 => in_range].boxed(),
        Time => time().boxed(),
        Json => json().boxed(),
    }
}

/// Something that can mostly be asked about a property of this type.
fn asked(kind: Type) -> BoxedStrategy<Kind> {
    let number = || prop_oneof![int(), decimal(), double()];
    match kind {
        Text => text().boxed(),
        Int | Double | Decimal => number().boxed(),
        Bool => any::<bool>().prop_map(Kind::BoolValue).boxed(),
        Time => time().boxed(),
        Json => prop_oneof![text(), number()].boxed(),
    }
}

/// Some of these properties, some of them as unset values.
fn some_of(all: &[(&'static str, Type)]) -> impl Strategy<Value = Vec<(String, Value)>> + use<> {
    let one = |(name, kind): &(&'static str, Type)| {
        let name = (*name).to_owned();
        let held = prop_oneof![5 => held(*kind).prop_map(Some), 1 => Just(None)];
        prop::option::weighted(0.4, held).prop_map(move |found| found.map(|kind| (name.clone(), Value { kind })))
    };
    all.iter().map(one).collect::<Vec<_>>().prop_map(|found| found.into_iter().flatten().collect())
}

fn any_text() -> impl Strategy<Value = String> {
    select(&TEXTS[..]).prop_map(str::to_owned)
}

fn any_item() -> impl Strategy<Value = Item> {
    let texts = (any_text(), any_text(), any_text(), any_text(), any_text());
    let numbers = (prop::option::of(select(&E4S[..])), prop::option::of(select(&INTS[..])), prop::option::of(select(&E4S[..])));
    (texts, numbers, prop::collection::vec(any_text(), 0..6), some_of(&CUSTOM)).prop_map(
        |((item_id, name, brand, variant, coupon), (price_e4, quantity, discount_e4), categories, properties)| Item {
            item_id,
            name,
            brand,
            variant,
            coupon,
            price_e4,
            quantity,
            discount_e4,
            categories,
            properties: properties.into_iter().collect(),
        },
    )
}

/// One of the person 1: something that happened, or what tells of a person.
pub fn any_event() -> impl Strategy<Value = ResolvedEvent> {
    let kinds = [
        EventKind::Unspecified,
        EventKind::Track,
        EventKind::Track,
        EventKind::Page,
        EventKind::Screen,
        EventKind::Identify,
        EventKind::Group,
        EventKind::Alias,
    ];
    let dimensions = DIMENSIONS[2..].iter().map(|name| {
        let code = dimension::by_name(name).expect("a dimension").code;
        prop::option::of(any_text()).prop_map(move |value| value.map(|value| DimensionValue { code, value }))
    });
    let fixed = (select(kinds.to_vec()), select(&NAMES[..]), any_text(), dimensions.collect::<Vec<_>>());
    let loose = (some_of(&UNREGISTERED), some_of(&REGISTERED));
    (fixed, some_of(&REGISTERED), loose, prop::collection::vec(any_item(), 0..4)).prop_map(
        |((kind, name, source, dimensions), properties, (unregistered, more), items)| ResolvedEvent {
            person: 1,
            kind: kind.into(),
            name: name.to_owned(),
            source,
            dimensions: dimensions.into_iter().flatten().collect(),
            properties: properties.into_iter().collect(),
            unregistered: unregistered.into_iter().chain(more).collect(),
            items,
            ..ResolvedEvent::default()
        },
    )
}

/// Somebody else's event that carries every property, so that all names are known with their types.
pub fn knows_all() -> ResolvedEvent {
    let all = |names: &[(&str, Type)]| names.iter().map(|(name, kind)| ((*name).to_owned(), typical(*kind))).collect();
    let items = vec![Item { properties: all(&CUSTOM), ..Item::default() }];
    let (properties, unregistered) = (all(&REGISTERED), all(&UNREGISTERED));
    ResolvedEvent { person: 2, name: "opened".to_owned(), properties, unregistered, items, ..ResolvedEvent::default() }
}

fn any_field() -> impl Strategy<Value = (field::Field, Type)> {
    let of = |names: &[(&'static str, Type)], field: fn(String) -> field::Field| {
        select(names.to_vec()).prop_map(move |(name, kind)| (field(name.to_owned()), kind)).boxed()
    };
    prop_oneof![
        2 => select(&DIMENSIONS[..]).prop_map(|name| (field::Field::Dimension(name.to_owned()), Text)),
        4 => of(&REGISTERED, field::Field::Property),
        3 => of(&UNREGISTERED, field::Field::Property),
        1 => of(&NOBODYS, field::Field::Property),
        3 => of(&BUILT_IN, field::Field::ItemProperty),
        3 => of(&CUSTOM, field::Field::ItemProperty),
    ]
}

fn any_operator(kind: Type) -> impl Strategy<Value = Operator> {
    use Operator as Op;
    let sets = [Op::In, Op::NotIn, Op::Exists, Op::NotExists];
    let orders = [Op::Less, Op::LessOrEqual, Op::Greater, Op::GreaterOrEqual, Op::Between];
    let texts = [Op::Contains, Op::NotContains, Op::StartsWith, Op::EndsWith];
    let fitting = match kind {
        Text => [&sets[..], &texts[..]].concat(),
        Int | Double | Decimal | Time => [&sets[..], &orders[..]].concat(),
        Bool => sets.to_vec(),
        Json => vec![Op::Exists, Op::NotExists],
    };
    prop_oneof![15 => select(fitting), 1 => select([&sets[..], &orders[..], &texts[..]].concat())]
}

fn any_comparison() -> impl Strategy<Value = Filter> {
    let drawn = any_field().prop_flat_map(|(field, kind)| {
        let values = prop::collection::vec(asked(kind), 4);
        (
            Just(field),
            any_operator(kind),
            values,
            1_usize..4,
            select(vec![ItemMatch::Unspecified, ItemMatch::Any, ItemMatch::All, ItemMatch::None]),
        )
    });
    drawn.prop_map(|(field, operator, mut values, several, items)| {
        values.truncate(match operator {
            Operator::Unspecified | Operator::Exists | Operator::NotExists => 0,
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => 1,
            Operator::Between => 2,
            Operator::In | Operator::NotIn | Operator::Contains | Operator::NotContains | Operator::StartsWith | Operator::EndsWith => {
                several
            }
        });
        let items = if matches!(field, field::Field::ItemProperty(_)) { items } else { ItemMatch::Unspecified };
        let comparison = Comparison {
            field: Some(Field { field: Some(field) }),
            operator: operator.into(),
            values: values.into_iter().map(value).collect(),
            item_match: items.into(),
        };
        Filter { node: Some(filter::Node::Compare(comparison)) }
    })
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let node = |node| Filter { node: Some(node) };
    let leaf = prop_oneof![15 => any_comparison(), 1 => Just(Filter::default())];
    leaf.prop_recursive(3, 8, 3, move |inner| {
        let list = || prop::collection::vec(inner.clone(), 0..3).prop_map(|filters| FilterList { filters });
        prop_oneof![
            list().prop_map(move |list| node(filter::Node::All(list))),
            list().prop_map(move |list| node(filter::Node::Any(list))),
            inner.clone().prop_map(move |operand| node(filter::Node::Not(Box::new(operand)))),
        ]
    })
}

/// Mostly such as can be asked.
pub fn any_selector() -> impl Strategy<Value = EventSelector> {
    let names = vec!["df_purchase", "Order Completed", "page_view", "opened", "홍", "nobodys"];
    let events = prop_oneof![3 => Just(Vec::new()), 1 => subsequence(names, 1..4)];
    (events, prop::option::weighted(0.95, any_filter()))
        .prop_map(|(events, filter)| EventSelector { events: events.into_iter().map(str::to_owned).collect(), filter })
}
