//! The plainest evaluation of a condition that there is: over a list of one person's events, by the words of the semantics. It knows the
//! conditions that `draw` makes.

use std::collections::BTreeSet;

use chrono::{DateTime, Months, TimeZone};
use chrono_tz::Tz;
use segue_model::bucket::Buckets;
use segue_proto::events::v1::value::Kind;
use segue_proto::query::v1::condition::Node;
use segue_proto::query::v1::window::Window as OneWindow;
use segue_proto::query::v1::{Behavior, BehaviorAggregate as Aggregate, Condition, EventSequence, Operator, Span, TimeUnit, Window};

/// Something that a person did, or stated.
#[derive(Debug, Clone)]
pub struct Done {
    pub user: usize,
    pub name: &'static str,
    pub time_us: i64,
    /// The value of the property `n`.
    pub number: i64,
    /// The trait `tier`, if it states that.
    pub tier: Option<&'static str>,
}

/// Whether the person with these events meets the condition at `now_us`.
pub fn meets(condition: &Condition, person: u32, events: &[&Done], now_us: i64, zone: Tz) -> bool {
    let of = |condition: &Condition| meets(condition, person, events, now_us, zone);
    match condition.node.as_ref().expect("a node") {
        Node::All(list) => list.conditions.iter().all(of),
        Node::Any(list) => list.conditions.iter().any(of),
        Node::Not(inner) => !of(inner),
        Node::Behavior(behavior) => did(behavior, events, now_us, zone),
        Node::Sequence(sequence) => one_after_the_other(sequence, events, now_us, zone),
        Node::Attribute(attribute) => {
            let stated = events.iter().filter(|done| done.tier.is_some() && done.time_us <= now_us).max_by_key(|done| done.time_us);
            let wanted: Vec<&Kind> = attribute.values.iter().filter_map(|value| value.kind.as_ref()).collect();
            let holds = stated.and_then(|done| done.tier).is_some_and(|tier| wanted.contains(&&Kind::StringValue(tier.to_owned())));
            holds == (attribute.operator == i32::from(Operator::In))
        }
        Node::RandomBucket(bucket) => (bucket.from..bucket.to).contains(&Buckets::new(&bucket.salt).bucket(person)),
        node => panic!("not drawn: {node:?}"),
    }
}

fn micros(span: &Span) -> i64 {
    let unit = match span.unit() {
        TimeUnit::Second => 1,
        TimeUnit::Minute => 60,
        TimeUnit::Hour => 3_600,
        TimeUnit::Day => 86_400,
        TimeUnit::Week => 7 * 86_400,
        TimeUnit::Month | TimeUnit::Unspecified => panic!("not of fixed length"),
    };
    i64::from(span.count) * unit * 1_000_000
}

/// Whether an event of this time counts.
fn is_within(window: Option<&Window>, time_us: i64, now_us: i64, zone: Tz) -> bool {
    if time_us > now_us {
        return false;
    }
    match window.and_then(|window| window.window.as_ref()) {
        None => true,
        Some(OneWindow::Last(span)) if span.unit() == TimeUnit::Month => {
            let now = DateTime::from_timestamp_micros(now_us).expect("a time").with_timezone(&zone).naive_local();
            let date = now.date().checked_sub_months(Months::new(span.count)).expect("a date");
            let is_same_day = chrono::Datelike::day(&date) == chrono::Datelike::day(&now.date());
            // No such day: the last moment of that month, which is the one before the next month begins.
            let start = if is_same_day {
                date.and_time(now.time())
            } else {
                date.succ_opt().expect("a date").and_hms_opt(0, 0, 0).expect("midnight")
            };
            let start_us = zone.from_local_datetime(&start).earliest().expect("no clock skips it").timestamp_micros();
            if is_same_day { time_us > start_us } else { time_us >= start_us }
        }
        Some(OneWindow::Last(span)) => time_us > now_us - micros(span),
        Some(OneWindow::Absolute(range)) => {
            let us = |timestamp: &prost_types::Timestamp| timestamp.seconds * 1_000_000 + i64::from(timestamp.nanos) / 1_000;
            (us(range.start.as_ref().expect("a start"))..us(range.end.as_ref().expect("an end"))).contains(&time_us)
        }
    }
}

fn did(behavior: &Behavior, events: &[&Done], now_us: i64, zone: Tz) -> bool {
    let names = &behavior.on.as_ref().expect("events").events;
    let counting = events.iter().filter(|done| !done.name.is_empty() && (names.is_empty() || names.iter().any(|name| name == done.name)));
    let counting: Vec<&&Done> = counting.filter(|done| is_within(behavior.window.as_ref(), done.time_us, now_us, zone)).collect();
    let found = match behavior.aggregate() {
        Aggregate::Count => counting.len() as i64,
        Aggregate::Sum => counting.iter().map(|done| done.number).sum(),
        Aggregate::DistinctDays => {
            let day = |done: &&&Done| DateTime::from_timestamp_micros(done.time_us).expect("a time").with_timezone(&zone).date_naive();
            counting.iter().map(day).collect::<BTreeSet<_>>().len() as i64
        }
        aggregate => panic!("not drawn: {aggregate:?}"),
    };
    let Some(Kind::IntValue(bound)) = behavior.values[0].kind else { panic!("not drawn: {:?}", behavior.values) };
    match behavior.operator() {
        Operator::GreaterOrEqual => found >= bound,
        Operator::Less => found < bound,
        Operator::In => found == bound,
        operator => panic!("not drawn: {operator:?}"),
    }
}

/// Tries every pair of a first and a second step; no two events are of one time.
fn one_after_the_other(sequence: &EventSequence, events: &[&Done], now_us: i64, zone: Tz) -> bool {
    let is = |done: &Done, names: &[String]| names.iter().any(|name| name == done.name);
    let counts = |done: &&&Done| is_within(sequence.window.as_ref(), done.time_us, now_us, zone);
    let within_us = micros(sequence.within.as_ref().expect("required"));
    let counting: Vec<&&Done> = events.iter().filter(counts).collect();
    let [first, second] = sequence.steps.as_slice() else { panic!("not drawn: {sequence:?}") };
    counting.iter().filter(|done| is(done, &first.events)).any(|from| {
        counting.iter().filter(|done| is(done, &second.events)).any(|to| {
            let is_between = |done: &&&&Done| done.time_us > from.time_us && done.time_us < to.time_us;
            let barred = |not: &segue_proto::query::v1::EventSelector| counting.iter().filter(is_between).any(|done| is(done, &not.events));
            to.time_us > from.time_us && to.time_us - from.time_us <= within_us && !sequence.not_between.as_ref().is_some_and(barred)
        })
    })
}
