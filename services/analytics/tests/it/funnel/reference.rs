//! A plain reference of the whole funnel: events one by one, sorted lists, no columns, no packing. The attempts of a person are found by
//! the rules, which have a plain reference of their own in `segue-engine`.

use std::collections::BTreeMap;

use segue_engine::Hit;
use segue_engine::funnel::{
    Attempt, Breakdown, Counting, Entry, Evaluator, Exclusion, FunnelRule, FunnelSpec, Order, Outcome, Scope, Step, Touch,
};
use segue_model::catalogue;
use segue_proto::analytics::v1::{BreakdownTouch, ExclusionScope, FunnelCounting, FunnelEntry, FunnelOrder};

use super::*;
use crate::report::reference::{own_value, passes_itself};

/// Of one group: counts, still open, and all durations from the step before and from the start, sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expected {
    pub counts: Vec<u64>,
    pub still_open: Vec<u64>,
    pub from_previous: Vec<Vec<i64>>,
    pub from_start: Vec<Vec<i64>>,
}

impl Expected {
    fn new(steps: usize) -> Expected {
        let none = vec![Vec::new(); steps];
        Expected { counts: vec![0; steps], still_open: vec![0; steps], from_previous: none.clone(), from_start: none }
    }

    fn add(&mut self, attempt: &Attempt) {
        self.still_open[attempt.depth - 1] += u64::from(attempt.still_open);
        let times: Vec<(usize, i64)> = attempt.times().collect();
        for (at, (number, ts)) in times.iter().enumerate() {
            self.counts[number - 1] += 1;
            if at > 0 {
                self.from_previous[number - 1].push(ts - times[at - 1].1);
                self.from_start[number - 1].push(ts - times[0].1);
            }
        }
    }
}

/// A duration in microseconds, with the default.
fn micros(duration: Option<&Duration>, default_seconds: i64) -> i64 {
    duration.map_or(default_seconds * 1_000_000, |duration| duration.seconds * 1_000_000 + i64::from(duration.nanos) / 1_000)
}

fn bound(time: Option<Timestamp>) -> i64 {
    let time = time.expect("a bound");
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
}

/// The rules of a request; selectors are numbered as they stand, steps first.
fn spec(request: &QueryFunnelRequest, watermark_us: i64) -> FunnelSpec {
    let range = request.range.as_ref().expect("a range");
    let step = |(at, step): (usize, &FunnelStep)| Step { selector: at as u32, optional: step.optional };
    let exclusion = |(at, exclusion): (usize, &FunnelExclusion)| Exclusion {
        selector: (request.steps.len() + at) as u32,
        from_step: exclusion.from_step as usize,
        to_step: exclusion.to_step as usize,
        scope: if exclusion.scope() == ExclusionScope::Person { Scope::Unit } else { Scope::Attempt },
    };
    FunnelSpec {
        steps: request.steps.iter().enumerate().map(step).collect(),
        order: match request.order() {
            FunnelOrder::Unspecified | FunnelOrder::Ordered => Order::Ordered,
            FunnelOrder::Strict => Order::Strict,
            FunnelOrder::Any => Order::Any,
        },
        window_us: micros(request.window.as_ref(), 7 * 86_400),
        exclusions: request.exclusions.iter().enumerate().map(exclusion).collect(),
        entry: if request.entry() == FunnelEntry::First { Entry::First } else { Entry::Deepest },
        counting: match request.counting() {
            FunnelCounting::Unspecified | FunnelCounting::Persons => Counting::Units,
            FunnelCounting::Sessions => Counting::Sessions { gap_us: micros(request.session_gap.as_ref(), 1_800) },
            FunnelCounting::Totals => Counting::Totals,
        },
        hold: !request.hold_constant.is_empty(),
        breakdown: match request.breakdown.as_ref().map(|breakdown| (breakdown.touch(), breakdown.step)) {
            None => Breakdown::default(),
            Some((BreakdownTouch::Unspecified | BreakdownTouch::Step, step)) => Breakdown::AtStep(step.max(1) as usize),
            Some((BreakdownTouch::First, _)) => Breakdown::FirstTouch,
            Some((BreakdownTouch::Last, _)) => Breakdown::LastTouch,
        },
        range_us: bound(range.start)..bound(range.end),
        watermark_us: Some(watermark_us),
    }
}

/// Codes of values in the order in which they are met.
#[derive(Default)]
struct Codes(Vec<String>);

impl Codes {
    fn code(&mut self, value: String) -> u32 {
        let at = self.0.iter().position(|known| *known == value).unwrap_or_else(|| {
            self.0.push(value);
            self.0.len() - 1
        });
        at as u32 + 1
    }
}

fn selects(on: Option<&EventSelector>, event: &ResolvedEvent) -> bool {
    let Some(on) = on else { return true };
    let named = |name: &String| catalogue::canonical_event(name).unwrap_or(name) == event.name;
    (on.events.is_empty() || on.events.iter().any(named)) && passes_itself(event, on.filter.as_ref())
}

fn value(event: &ResolvedEvent, field: &Field) -> Option<Kind> {
    own_value(event, field.field.as_ref().expect("a field"))
}

/// Per group (as shown), what the answer must hold; everything is under `None`. Events take their sequence from their place.
pub fn expected(events: &[ResolvedEvent], request: &QueryFunnelRequest, watermark_us: i64) -> BTreeMap<Option<String>, Expected> {
    let spec = spec(request, watermark_us);
    let steps = spec.steps.len();
    let strict = spec.order == Order::Strict;
    let rule = FunnelRule::new(spec).expect("a valid funnel");
    let (mut values, mut held) = (Codes::default(), Codes::default());
    let mut people: BTreeMap<u32, Vec<Hit<Touch>>> = BTreeMap::new();
    for (sequence, event) in (0..).zip(events) {
        let kept = passes_itself(event, request.filter.as_ref());
        if strict && !kept {
            continue;
        }
        let selectors =
            request.steps.iter().map(|step| step.on.as_ref()).chain(request.exclusions.iter().map(|exclusion| exclusion.on.as_ref()));
        let matches = selectors.enumerate().fold(0, |bits, (at, on)| bits | (u32::from(kept && selects(on, event)) << at));
        let parts: Option<Vec<String>> =
            request.hold_constant.iter().map(|field| value(event, field).map(|value| format!("{value:?}"))).collect();
        let breakdown = request.breakdown.as_ref().and_then(|breakdown| breakdown.field.as_ref());
        let payload = Touch {
            held: parts.map_or(0, |parts| held.code(parts.join("|"))),
            value: breakdown.and_then(|field| value(event, field)).map_or(0, |value| values.code(shown_value(&value))),
        };
        people.entry(event.person).or_default().push(Hit { ts: event.time_us, sequence, matches, payload });
    }
    let mut found = BTreeMap::from([(None, Expected::new(steps))]);
    let mut evaluator = Evaluator::new(&rule);
    let mut outcome = Outcome::default();
    for hits in people.values_mut() {
        hits.sort_by_key(|hit| (hit.ts, hit.sequence));
        hits.retain(|hit| hit.ts >= rule.spec().range_us.start);
        evaluator.evaluate(hits, &mut outcome);
        for attempt in &outcome.attempts {
            let group = (attempt.value as usize).checked_sub(1).map_or("∅".to_owned(), |at| values.0[at].clone());
            let group = request.breakdown.as_ref().map(|_| group);
            for group in [None].into_iter().chain(group.map(Some)) {
                found.entry(group).or_insert_with(|| Expected::new(steps)).add(attempt);
            }
        }
    }
    for group in found.values_mut() {
        group.from_previous.iter_mut().chain(&mut group.from_start).for_each(|durations| durations.sort_unstable());
    }
    found
}

fn shown_value(kind: &Kind) -> String {
    match kind {
        Kind::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    }
}
