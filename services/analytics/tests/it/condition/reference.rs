//! A plain reference of conditions: one person after the other, events one by one, no columns, no bitmaps. It shares no code with the
//! product but the calendar of windows and the draws of buckets, which are tested where they are.

use std::collections::BTreeSet;

use chrono_tz::Tz;
use segue_engine::condition::{Buckets, Span as EngineSpan};
use segue_model::catalogue;
use segue_proto::events::v1::EventKind;
use segue_proto::query::v1::{Attribute, EventSequence};

use super::*;

/// Everything that is known, in the order of the log; persons are survivors.
pub struct World<'w> {
    pub events: &'w [ResolvedEvent],
    pub now_us: i64,
    pub zone: Tz,
}

impl World<'_> {
    /// Who meets the condition.
    pub fn who(&self, condition: &Condition) -> Vec<u32> {
        let known: BTreeSet<u32> = self.events.iter().map(|event| event.person).collect();
        known.into_iter().filter(|person| self.holds(condition, *person)).collect()
    }

    fn holds(&self, condition: &Condition, person: u32) -> bool {
        match condition.node.as_ref().expect("a node") {
            Node::All(list) => list.conditions.iter().all(|operand| self.holds(operand, person)),
            Node::Any(list) => list.conditions.iter().any(|operand| self.holds(operand, person)),
            Node::Not(inner) => !self.holds(inner, person),
            Node::Behavior(behavior) => self.behavior(behavior, person),
            Node::Sequence(sequence) => self.sequence(sequence, person),
            Node::Attribute(attribute) => self.attribute(attribute, person),
            Node::Acquisition(acquisition) => self.acquisition(acquisition, person),
            Node::RandomBucket(bucket) => (bucket.from..bucket.to).contains(&Buckets::new(&bucket.salt).bucket(person)),
            Node::Persons(set) => roaring::RoaringBitmap::deserialize_from(set.numbers.as_slice()).expect("a bitmap").contains(person),
            Node::MemberOf(_) | Node::HasIdentifier(_) => unreachable!("the audience service replaces them"),
        }
    }

    /// All that happened to the person until now, by time and then by the order of the log.
    fn events_of(&self, person: u32) -> Vec<&ResolvedEvent> {
        let mut events: Vec<&ResolvedEvent> =
            self.events.iter().filter(|event| event.person == person && event.time_us <= self.now_us).collect();
        events.sort_by_key(|event| event.time_us);
        events
    }

    fn matching(&self, on: &EventSelector, window: Option<&Window>, person: u32) -> Vec<&ResolvedEvent> {
        let named = |event: &ResolvedEvent| {
            on.events.is_empty() || on.events.iter().any(|name| catalogue::canonical_event(name).unwrap_or(name) == event.name)
        };
        let mut events = self.events_of(person);
        events.retain(|event| event.kind() != EventKind::Identify && named(event) && self.in_window(event.time_us, window));
        events.retain(|event| on.filter.as_ref().is_none_or(|filter| passes(filter, event)));
        events
    }

    fn in_window(&self, time_us: i64, window: Option<&Window>) -> bool {
        match window.and_then(|window| window.window.as_ref()) {
            None => true,
            Some(window::Window::Last(last)) => span(last).before(self.now_us, self.zone) < time_us,
            Some(window::Window::Absolute(range)) => {
                let bound = |time: Option<Timestamp>| time.map_or(0, |time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000);
                bound(range.start) <= time_us && time_us < bound(range.end)
            }
        }
    }

    fn behavior(&self, behavior: &Behavior, person: u32) -> bool {
        let all = EventSelector::default();
        let mut events = self.matching(behavior.on.as_ref().unwrap_or(&all), behavior.window.as_ref(), person);
        let counts = |item: &Item| behavior.items.as_ref().is_none_or(|filter| item_passes(filter, item));
        events.retain(|event| behavior.items.is_none() || event.items.iter().any(counts));
        let values: Vec<&Kind> = behavior.values.iter().filter_map(|value| value.kind.as_ref()).collect();
        let operator = behavior.operator();
        let values_of = |event: &ResolvedEvent| -> Vec<Kind> {
            match behavior.field.as_ref().and_then(|field| field.field.as_ref()) {
                Some(field::Field::ItemProperty(name)) => {
                    event.items.iter().filter(|item| counts(item)).filter_map(|item| value_of_item(item, name)).collect()
                }
                Some(field) => value_of(event, field).into_iter().collect(),
                None => {
                    let of_item = |item: &Item| Some(i128::from(item.price_e4?) * i128::from(item.quantity?));
                    let terms: Vec<i128> = event.items.iter().filter(|item| counts(item)).filter_map(of_item).collect();
                    if terms.is_empty() { vec![] } else { vec![Kind::DecimalE4Value(terms.iter().sum::<i128>() as i64)] }
                }
            }
        };
        let all_values = || events.iter().flat_map(|event| values_of(event)).collect::<Vec<Kind>>();
        let int = |count: usize| Some(Kind::IntValue(count as i64));
        let found = match behavior.aggregate() {
            BehaviorAggregate::Unspecified | BehaviorAggregate::Count => {
                if operator == Operator::Unspecified {
                    return !events.is_empty();
                }
                int(events.len())
            }
            BehaviorAggregate::Sum => {
                Some(Kind::DecimalE4Value(all_values().iter().map(|value| exact_e4(value).expect("a number")).sum::<i128>() as i64))
            }
            BehaviorAggregate::Min => all_values().into_iter().min_by_key(exact_e4),
            BehaviorAggregate::Max => all_values().into_iter().max_by_key(exact_e4),
            BehaviorAggregate::DistinctDays => {
                let day = |event: &&ResolvedEvent| {
                    DateTime::from_timestamp_micros(event.time_us).expect("a time").with_timezone(&self.zone).date_naive()
                };
                int(events.iter().map(day).collect::<BTreeSet<_>>().len())
            }
            BehaviorAggregate::FirstTime => events.first().map(|event| Kind::TimestampValue(timestamp(event.time_us))),
            BehaviorAggregate::LastTime => events.last().map(|event| Kind::TimestampValue(timestamp(event.time_us))),
            BehaviorAggregate::FirstValue => events.iter().find_map(|event| values_of(event).into_iter().next()),
            BehaviorAggregate::LastValue => events.iter().rev().find_map(|event| values_of(event).into_iter().next_back()),
            BehaviorAggregate::DistinctCount => int(all_values().iter().map(|value| format!("{value:?}")).collect::<BTreeSet<_>>().len()),
        };
        let operator = if operator == Operator::Unspecified { Operator::Exists } else { operator };
        test(found.as_ref(), operator, &values)
    }

    fn sequence(&self, sequence: &EventSequence, person: u32) -> bool {
        let window = sequence.window.as_ref();
        let steps: Vec<Vec<&ResolvedEvent>> = sequence.steps.iter().map(|on| self.matching(on, window, person)).collect();
        let forbidden = sequence.not_between.as_ref().map(|on| self.matching(on, window, person)).unwrap_or_default();
        let within = span(sequence.within.as_ref().expect("a span"));
        let in_time = |chosen: &[&ResolvedEvent]| {
            let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else { return false };
            within.before(last.time_us, self.zone) <= first.time_us
        };
        let mut chosen = Vec::new();
        go(&steps, &forbidden, &in_time, &mut chosen)
    }

    fn attribute(&self, attribute: &Attribute, person: u32) -> bool {
        let as_of = attribute.as_of.map_or(i64::MAX, |time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000);
        let events = self.events_of(person);
        let stated = events.iter().rev().filter(|event| event.time_us <= as_of);
        let found = stated.filter_map(|event| event.traits.get(&attribute.r#trait)).find_map(|value| value.kind.as_ref());
        test(found, attribute.operator(), &attribute.values.iter().filter_map(|value| value.kind.as_ref()).collect::<Vec<_>>())
    }

    fn acquisition(&self, acquisition: &Acquisition, person: u32) -> bool {
        let of_touch = |code: u32| {
            let known = dimension::by_code(code).expect("a dimension");
            known.attribution_dependent || known.name.starts_with("utm_")
        };
        let mut touches = self.matching(&EventSelector::default(), acquisition.window.as_ref(), person);
        touches.retain(|event| event.dimensions.iter().any(|dimension| of_touch(dimension.code)));
        let touch = if acquisition.touch() == Touch::First { touches.first() } else { touches.last() };
        touch.is_some_and(|touch| acquisition.filter.as_ref().is_none_or(|filter| passes(filter, touch)))
    }
}

/// Tries every choice of distinct events, one per step.
fn go<'e>(
    steps: &[Vec<&'e ResolvedEvent>],
    forbidden: &[&ResolvedEvent],
    in_time: &dyn Fn(&[&ResolvedEvent]) -> bool,
    chosen: &mut Vec<&'e ResolvedEvent>,
) -> bool {
    let Some(candidates) = steps.get(chosen.len()) else { return in_time(chosen) };
    for event in candidates {
        let may_follow = chosen.last().is_none_or(|before| {
            before.time_us <= event.time_us
                && !forbidden.iter().any(|other| before.time_us < other.time_us && other.time_us < event.time_us)
        });
        if may_follow && !chosen.iter().any(|other| std::ptr::eq(*other, *event)) {
            chosen.push(event);
            if go(steps, forbidden, in_time, chosen) {
                return true;
            }
            chosen.pop();
        }
    }
    false
}

fn span(span: &Span) -> EngineSpan {
    let seconds = |seconds: i64| EngineSpan::Fixed(i64::from(span.count) * seconds * 1_000_000);
    match span.unit() {
        TimeUnit::Second => seconds(1),
        TimeUnit::Minute => seconds(60),
        TimeUnit::Hour => seconds(3_600),
        TimeUnit::Day => seconds(86_400),
        TimeUnit::Week => seconds(7 * 86_400),
        TimeUnit::Month => EngineSpan::Months(span.count),
        TimeUnit::Unspecified => panic!("a unit"),
    }
}

fn said(text: &str) -> Option<Kind> {
    (!text.is_empty()).then(|| Kind::StringValue(text.to_owned()))
}

fn value_of(event: &ResolvedEvent, field: &field::Field) -> Option<Kind> {
    match field {
        field::Field::Dimension(name) if name == "event" => said(&event.name),
        field::Field::Dimension(name) => {
            let code = dimension::by_name(name).expect("a dimension").code;
            event.dimensions.iter().find(|dimension| dimension.code == code).map(|dimension| Kind::StringValue(dimension.value.clone()))
        }
        field::Field::Property(name) => event.properties.get(name).and_then(|value| value.kind.clone()),
        field::Field::ItemProperty(_) => panic!("not a field of events"),
    }
}

fn value_of_item(item: &Item, name: &str) -> Option<Kind> {
    match name {
        "category1" => item.categories.first().and_then(|text| said(text)),
        "brand" => said(&item.brand),
        "price" => item.price_e4.map(Kind::DecimalE4Value),
        "quantity" => item.quantity.map(Kind::IntValue),
        other => panic!("`{other}` is not read here"),
    }
}

/// Ten-thousandths; times in hundreds of picoseconds, so that all numbers compare as whole ones.
fn exact_e4(kind: &Kind) -> Option<i128> {
    Some(match kind {
        Kind::IntValue(number) => i128::from(*number) * 10_000,
        Kind::DecimalE4Value(e4) => i128::from(*e4),
        Kind::TimestampValue(time) => (i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)) * 10_000,
        _ => return None,
    })
}

fn test(found: Option<&Kind>, operator: Operator, values: &[&Kind]) -> bool {
    let equal = |wanted: &Kind| match found {
        Some(found) => match (exact_e4(found), exact_e4(wanted)) {
            (Some(found), Some(wanted)) => found == wanted,
            _ => found == wanted,
        },
        None => false,
    };
    let number = found.and_then(exact_e4);
    let compared = |holds: &dyn Fn(i128, i128) -> bool| number.is_some_and(|number| holds(number, exact_e4(values[0]).expect("a number")));
    let texts = |holds: &dyn Fn(&str, &str) -> bool| match found {
        Some(Kind::StringValue(found)) => values.iter().any(|wanted| matches!(wanted, Kind::StringValue(wanted) if holds(found, wanted))),
        _ => false,
    };
    match operator {
        Operator::In => values.iter().any(|wanted| equal(wanted)),
        Operator::NotIn => !values.iter().any(|wanted| equal(wanted)),
        Operator::Less => compared(&|found, wanted| found < wanted),
        Operator::LessOrEqual => compared(&|found, wanted| found <= wanted),
        Operator::Greater => compared(&|found, wanted| found > wanted),
        Operator::GreaterOrEqual => compared(&|found, wanted| found >= wanted),
        Operator::Between => compared(&|found, low| low <= found && found < exact_e4(values[1]).expect("a number")),
        Operator::Contains => texts(&|found, wanted| found.contains(wanted)),
        Operator::NotContains => !texts(&|found, wanted| found.contains(wanted)),
        Operator::StartsWith => texts(&|found, wanted| found.starts_with(wanted)),
        Operator::EndsWith => texts(&|found, wanted| found.ends_with(wanted)),
        Operator::Exists => found.is_some(),
        Operator::NotExists => found.is_none(),
        Operator::Unspecified => panic!("an operator"),
    }
}

fn passes(filter: &Filter, event: &ResolvedEvent) -> bool {
    match filter.node.as_ref() {
        None => true,
        Some(filter::Node::All(list)) => list.filters.iter().all(|filter| passes(filter, event)),
        Some(filter::Node::Any(list)) => list.filters.iter().any(|filter| passes(filter, event)),
        Some(filter::Node::Not(inner)) => !passes(inner, event),
        Some(filter::Node::Compare(comparison)) => {
            let values: Vec<&Kind> = comparison.values.iter().filter_map(|value| value.kind.as_ref()).collect();
            match comparison.field.as_ref().and_then(|field| field.field.as_ref()).expect("a field") {
                field::Field::ItemProperty(name) => {
                    let matched = |item: &Item| test(value_of_item(item, name).as_ref(), comparison.operator(), &values);
                    match comparison.item_match() {
                        ItemMatch::Unspecified | ItemMatch::Any => event.items.iter().any(matched),
                        ItemMatch::All => !event.items.is_empty() && event.items.iter().all(matched),
                        ItemMatch::None => !event.items.iter().any(matched),
                    }
                }
                field => test(value_of(event, field).as_ref(), comparison.operator(), &values),
            }
        }
    }
}

fn item_passes(filter: &Filter, item: &Item) -> bool {
    match filter.node.as_ref() {
        None => true,
        Some(filter::Node::All(list)) => list.filters.iter().all(|filter| item_passes(filter, item)),
        Some(filter::Node::Any(list)) => list.filters.iter().any(|filter| item_passes(filter, item)),
        Some(filter::Node::Not(inner)) => !item_passes(inner, item),
        Some(filter::Node::Compare(comparison)) => {
            let Some(field::Field::ItemProperty(name)) = comparison.field.as_ref().and_then(|field| field.field.as_ref()) else {
                panic!("a field of items")
            };
            let values: Vec<&Kind> = comparison.values.iter().filter_map(|value| value.kind.as_ref()).collect();
            test(value_of_item(item, name).as_ref(), comparison.operator(), &values)
        }
    }
}
