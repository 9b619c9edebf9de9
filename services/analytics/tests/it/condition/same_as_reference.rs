//! On random events and random conditions, the answer is what the plain reference says; node by node, and with `within` its part.

use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use segue_proto::events::v1::EventKind;
use segue_proto::query::v1::{Attribute, EventSequence, PersonSet, RandomBucket};

use super::reference::World;
use super::*;

/// Numbers of one chunk, of neighbouring ones and of distant ones.
pub const PERSONS: [u32; 8] = [1, 2, 3, 65_535, 65_536, 70_001, 300_000, 3_000_000_000];
const NAMES: [&str; 3] = ["df_app_open", "df_purchase", "other"];
/// Both sides of a change of clocks in Berlin.
const FROM: &str = "2026-09-15T00:00:00Z";
const HOUR_US: i64 = 3_600_000_000;

fn maybe<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.6, select(values))
}

fn any_item() -> impl Strategy<Value = Item> {
    let texts = (maybe(vec!["a", "b"]), maybe(vec!["p", "q"]));
    let numbers = (prop::option::weighted(0.8, 0_i64..5), prop::option::weighted(0.8, 0_i64..4));
    (texts, numbers).prop_map(|((category, brand), (price, quantity))| Item {
        price_e4: price.map(|price| price * 2_500),
        quantity,
        categories: category.map(str::to_owned).into_iter().collect(),
        brand: brand.unwrap_or("").to_owned(),
        ..Item::default()
    })
}

pub fn any_event() -> impl Strategy<Value = ResolvedEvent> {
    let said =
        (maybe(vec!["x", "y"]), maybe(vec![1_i64, 2]), maybe(vec![10_000_i64, 25_000]), maybe(vec!["web", ""]), maybe(vec!["s", "t"]));
    let traits =
        (prop::option::weighted(0.2, select(vec!["gold", "silver"])), prop::option::weighted(0.2, 0_i64..3), prop::bool::weighted(0.1));
    let items = prop::collection::vec(any_item(), 0..3);
    (select(&NAMES[..]), select(&PERSONS[..]), 0_i64..1_680, said, traits, items).prop_map(
        |(name, person, hour, (label, size, amount, platform, source), (grade, points, is_identify), items)| {
            let mut event = with_items(event(name, FROM, person), items);
            event.time_us += hour * HOUR_US;
            for (name, kind) in
                [("label", label.map(text)), ("size", size.map(Kind::IntValue)), ("amount", amount.map(Kind::DecimalE4Value))]
            {
                if let Some(kind) = kind {
                    event = with_property(event, name, kind);
                }
            }
            for (name, said) in [("platform", platform), ("utm_source", source)] {
                if let Some(said) = said {
                    event = with_dimension(event, name, said);
                }
            }
            event.traits.extend(grade.map(|grade| ("grade".to_owned(), value(text(grade)))));
            event.traits.extend(points.map(|points| ("points".to_owned(), value(Kind::IntValue(points)))));
            if is_identify {
                event.kind = EventKind::Identify as i32;
            }
            event
        },
    )
}

/// An event long ago that carries everything, so that all names are known.
pub fn knows_all() -> ResolvedEvent {
    let known = Item { brand: "p".to_owned(), ..item("a", 1, 1) };
    let event = with_items(event("other", "2020-01-01T00:00:00Z", 9), vec![known]);
    let event = with_property(with_property(event, "label", text("x")), "size", Kind::IntValue(1));
    let mut event = with_property(event, "amount", Kind::DecimalE4Value(1));
    event.traits.insert("grade".to_owned(), value(text("gold")));
    event.traits.insert("points".to_owned(), value(Kind::IntValue(1)));
    event
}

fn texts() -> impl Strategy<Value = (Operator, Vec<Kind>)> {
    let operators = vec![Operator::In, Operator::NotIn, Operator::Contains, Operator::NotContains, Operator::Exists, Operator::NotExists];
    let values = subsequence(vec!["x", "web", "", "a", "s", "p", "gold"], 1..4);
    (select(operators), values).prop_map(|(operator, values)| {
        let exists = matches!(operator, Operator::Exists | Operator::NotExists);
        (operator, if exists { vec![] } else { values.into_iter().map(text).collect() })
    })
}

fn numbers() -> impl Strategy<Value = (Operator, Vec<Kind>)> {
    let operators = vec![
        Operator::In,
        Operator::NotIn,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
        Operator::Between,
    ];
    let values =
        subsequence(vec![Kind::IntValue(0), Kind::DecimalE4Value(7_500), Kind::IntValue(1), Kind::IntValue(2), Kind::IntValue(3)], 2);
    (select(operators), values).prop_map(|(operator, mut values)| {
        if !matches!(operator, Operator::Between | Operator::In | Operator::NotIn) {
            values.truncate(1);
        }
        (operator, values)
    })
}

fn event_filter() -> impl Strategy<Value = Filter> {
    let by_text = (select(vec![of_dimension("platform"), of_dimension("utm_source"), of_property("label")]), texts())
        .prop_map(|(field, (operator, values))| compare(field, operator, values));
    let by_number = (select(vec![of_property("size"), of_property("amount")]), numbers())
        .prop_map(|(field, (operator, values))| compare(field, operator, values));
    let items = select(vec![ItemMatch::Any, ItemMatch::All, ItemMatch::None]);
    let by_item = (select(vec![of_item("category1"), of_item("brand")]), texts(), items)
        .prop_map(|(field, (operator, values), items)| compare_items(field, operator, values, items));
    prop_oneof![by_text, by_number, by_item]
}

fn item_filter() -> impl Strategy<Value = Filter> {
    let by_text = (select(vec![of_item("category1"), of_item("brand")]), texts())
        .prop_map(|(field, (operator, values))| compare(field, operator, values));
    let by_number = (select(vec![of_item("price"), of_item("quantity")]), numbers())
        .prop_map(|(field, (operator, values))| compare(field, operator, values));
    let one = prop_oneof![by_text, by_number].boxed();
    let list = prop::collection::vec(one.clone(), 0..3);
    prop_oneof![
        3 => one.clone(),
        1 => list.clone().prop_map(|filters| Filter { node: Some(filter::Node::All(FilterList { filters })) }),
        1 => list.prop_map(|filters| Filter { node: Some(filter::Node::Any(FilterList { filters })) }),
        1 => one.prop_map(|inner| Filter { node: Some(filter::Node::Not(Box::new(inner))) }),
    ]
}

fn selector() -> impl Strategy<Value = EventSelector> {
    (subsequence(NAMES.to_vec(), 0..3), prop::option::weighted(0.4, event_filter()))
        .prop_map(|(names, filter)| EventSelector { events: names.into_iter().map(str::to_owned).collect(), filter })
}

fn any_window() -> impl Strategy<Value = Option<Window>> {
    let recent = (1_u32..40, select(vec![TimeUnit::Day, TimeUnit::Hour, TimeUnit::Week, TimeUnit::Month]));
    let absolute = (0_i64..1_680, 1_i64..1_000);
    prop_oneof![
        2 => recent.prop_map(|(count, unit)| last(count, unit)),
        1 => absolute.prop_map(|(start, hours)| {
            let at = |hour: i64| Some(timestamp(us(FROM) + hour * HOUR_US));
            Some(Window { window: Some(window::Window::Absolute(TimeRange { start: at(start), end: at(start + hours) })) })
        }),
        1 => Just(None),
    ]
}

fn any_measure() -> impl Strategy<Value = (BehaviorAggregate, Option<Field>, Operator, Vec<Kind>)> {
    use BehaviorAggregate::{Count, DistinctCount, DistinctDays, FirstTime, FirstValue, LastTime, LastValue, Max, Min, Sum, Unspecified};
    let of_numbers =
        || select(vec![None, Some(of_property("size")), Some(of_property("amount")), Some(of_item("price")), Some(of_item("quantity"))]);
    let of_texts =
        || select(vec![of_property("label"), of_dimension("platform"), of_dimension("event"), of_item("category1"), of_item("brand")]);
    let distinct = select(vec![of_property("size"), of_property("label"), of_dimension("event"), of_item("brand"), of_item("price")]);
    let of_time =
        (select(vec![FirstTime, LastTime]), select(vec![Operator::Less, Operator::GreaterOrEqual, Operator::NotIn]), 0_i64..1_680);
    let edges = || select(vec![FirstValue, LastValue]);
    prop_oneof![
        2 => Just((Unspecified, None, Operator::Unspecified, vec![])),
        3 => (select(vec![Count, DistinctDays]), numbers()).prop_map(|(of, (operator, values))| (of, None, operator, values)),
        3 => (select(vec![Sum, Min, Max]), of_numbers(), numbers()).prop_map(|(of, field, (operator, values))| (of, field, operator, values)),
        2 => (distinct, numbers()).prop_map(|(field, (operator, values))| (DistinctCount, Some(field), operator, values)),
        1 => of_time.prop_map(|(of, operator, hour)| (of, None, operator, vec![Kind::TimestampValue(timestamp(us(FROM) + hour * HOUR_US))])),
        2 => (edges(), of_texts(), texts()).prop_map(|(of, field, (operator, values))| (of, Some(field), operator, values)),
        1 => (edges(), of_numbers(), numbers())
            .prop_filter_map("a value needs a field", |(of, field, (operator, values))| field.map(|field| (of, Some(field), operator, values))),
    ]
}

fn any_behavior() -> impl Strategy<Value = Condition> {
    (selector(), prop::option::weighted(0.4, item_filter()), any_window(), any_measure()).prop_map(
        |(on, items, window, (of, field, operator, values))| {
            did(aggregate(Behavior { on: Some(on), items, window, field, ..Behavior::default() }, of, operator, values))
        },
    )
}

fn any_sequence() -> impl Strategy<Value = Condition> {
    let within = (1_u32..20, select(vec![TimeUnit::Day, TimeUnit::Hour, TimeUnit::Month]));
    let steps = prop::collection::vec(selector(), 2..4);
    (steps, prop::option::of(selector()), within, any_window()).prop_map(|(steps, not_between, (count, unit), window)| {
        let within = Some(Span { count, unit: unit as i32 });
        condition(Node::Sequence(EventSequence { steps, within, not_between, window }))
    })
}

fn any_attribute() -> impl Strategy<Value = Condition> {
    let by_text = texts().prop_map(|(operator, values)| ("grade", operator, values));
    let by_number = numbers().prop_map(|(operator, values)| ("points", operator, values));
    (prop_oneof![by_text, by_number], prop::option::of(0_i64..1_680)).prop_map(|((name, operator, values), as_of)| {
        let values = values.into_iter().map(value).collect();
        let as_of = as_of.map(|hour| timestamp(us(FROM) + hour * HOUR_US));
        condition(Node::Attribute(Attribute { r#trait: name.to_owned(), operator: operator as i32, values, as_of }))
    })
}

fn any_leaf() -> impl Strategy<Value = Condition> {
    let by_dimension = (select(vec![of_dimension("platform"), of_dimension("utm_source")]), texts())
        .prop_map(|(field, (operator, values))| compare(field, operator, values));
    let acquisition = (select(vec![Touch::First, Touch::Last]), any_window(), by_dimension)
        .prop_map(|(touch, window, filter)| acquired(touch, window, filter));
    let bucket = (0_u32..9_999, 1_u32..10_000).prop_map(|(from, length)| {
        condition(Node::RandomBucket(RandomBucket { salt: "salt".to_owned(), from, to: (from + length).min(10_000) }))
    });
    let set = subsequence(PERSONS.to_vec(), 0..6)
        .prop_map(|numbers| condition(Node::Persons(PersonSet { numbers: bytes_of(&numbers), label: String::new() })));
    prop_oneof![8 => any_behavior(), 2 => any_sequence(), 2 => any_attribute(), 1 => acquisition, 1 => bucket, 1 => set]
}

pub fn any_condition() -> impl Strategy<Value = Condition> {
    any_leaf().prop_recursive(3, 8, 3, |inner| {
        let list = || prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![list().prop_map(all_of), list().prop_map(any_of), inner.clone().prop_map(not)]
    })
}

pub fn bytes_of(persons: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    roaring::RoaringBitmap::from_iter(persons).serialize_into(&mut bytes).expect("bytes");
    bytes
}

/// The nodes of a tree, parents before children.
fn nodes(condition: &Condition) -> Vec<&Condition> {
    let below: Vec<&Condition> = match condition.node.as_ref().expect("a node") {
        Node::All(list) | Node::Any(list) => list.conditions.iter().flat_map(nodes).collect(),
        Node::Not(inner) => nodes(inner),
        _ => Vec::new(),
    };
    std::iter::once(condition).chain(below).collect()
}

/// Holds both calls against the reference.
pub fn check(snapshot: &Snapshot, world: &World<'_>, condition: &Condition, within: &[u32]) -> Result<(), String> {
    let (as_of, time_zone) = (Some(timestamp(world.now_us)), world.zone.name().to_owned());
    let wanted = world.who(condition);
    let asked = SelectPersonsRequest { as_of, time_zone: time_zone.clone(), ..request(condition) };
    let found = select_of(snapshot, &asked).map_err(|error| format!("{error:?}"))?;
    if found.persons != wanted || found.count != wanted.len() as u64 {
        return Err(format!("found {:?} ({}), wanted {wanted:?}", found.persons, found.count));
    }
    let some: Vec<u32> = wanted.iter().copied().filter(|person| within.contains(person)).collect();
    let bytes = bytes_of(within);
    let found = select_of(snapshot, &SelectPersonsRequest { within: bytes.clone(), ..asked }).map_err(|error| format!("{error:?}"))?;
    if found.persons != some {
        return Err(format!("within {within:?}: found {:?}, wanted {some:?}", found.persons));
    }
    let counted = CountPersonsRequest { condition: Some(condition.clone()), as_of, time_zone, within: bytes };
    let counted = count_of(snapshot, &counted).map_err(|error| format!("{error:?}"))?;
    let of_node = |node: &&Condition| world.who(node).iter().filter(|person| within.contains(person)).count() as u64;
    let wanted: Vec<u64> = nodes(condition).iter().map(of_node).collect();
    if counted.node_counts != wanted || counted.count != some.len() as u64 {
        return Err(format!("within {within:?}: counted {:?}, wanted {wanted:?}", counted.node_counts));
    }
    Ok(())
}

/// Moments on the hour, where events are, and right before.
pub fn any_now() -> impl Strategy<Value = i64> {
    (0_i64..1_800, 0_i64..2).prop_map(|(hour, before)| us(FROM) + hour * HOUR_US - before)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn random_conditions_on_random_events_give_what_the_reference_gives(
        events in prop::collection::vec(any_event(), 0..60),
        conditions in prop::collection::vec(any_condition(), 4),
        within in subsequence(PERSONS.to_vec(), 0..8),
        now_us in any_now(),
        zone in select(vec![Tz::UTC, chrono_tz::Europe::Berlin, chrono_tz::Asia::Seoul]),
    ) {
        let mut events = events;
        events.push(knows_all());
        let snapshot = snapshot(&events);
        let world = World { events: &events, now_us, zone };
        for condition in &conditions {
            let checked = check(&snapshot, &world, condition, if within.is_empty() { &PERSONS } else { &within });
            prop_assert!(checked.is_ok(), "{}\n{:#?}", checked.unwrap_err(), condition);
        }
    }
}
