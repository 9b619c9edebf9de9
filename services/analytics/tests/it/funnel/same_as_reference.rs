//! On random events and random requests, the funnel says what the plain reference says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use segue_proto::analytics::v1::{BreakdownTouch, ConversionTime, ExclusionScope, FunnelCounting, FunnelEntry, FunnelOrder};

use super::reference::{Expected, expected};
use super::*;
use crate::report::same_as_reference::{any_event, any_filter, knows_all};

const NAMES: [&str; 3] = ["df_purchase", "df_view_home", "other"];
/// When the events of `any_event` begin.
const FROM: &str = "2026-10-18T00:00:00Z";
const DAY: i64 = 86_400;

fn any_selector() -> impl Strategy<Value = EventSelector> {
    let filter = prop::option::weighted(0.2, any_filter());
    (subsequence(NAMES.to_vec(), 0..3), filter).prop_map(|(names, filter)| EventSelector { filter, ..on(&names) })
}

fn any_exclusion(steps: usize, any_order: bool) -> impl Strategy<Value = FunnelExclusion> {
    let scope = select(vec![ExclusionScope::Attempt, ExclusionScope::Attempt, ExclusionScope::Person]);
    (any_selector(), 1..steps.max(2), 1..steps.max(2), scope).prop_map(move |(on, one, other, scope)| {
        let (from, to) = if any_order { (1, steps) } else { (one.min(other), one.max(other) + 1) };
        FunnelExclusion { on: Some(on), from_step: from as u32, to_step: to as u32, scope: scope as i32 }
    })
}

fn any_breakdown(steps: usize) -> impl Strategy<Value = FunnelBreakdown> {
    let fields = vec![
        property("label"),
        property("size"),
        property("amount"),
        property("score"),
        property("vip"),
        dimension("platform"),
        dimension("event"),
    ];
    let touch = select(vec![BreakdownTouch::Unspecified, BreakdownTouch::Step, BreakdownTouch::First, BreakdownTouch::Last]);
    (select(fields), touch, 1..=steps, 0_u32..4).prop_map(|(field, touch, step, top)| {
        let at_step = matches!(touch, BreakdownTouch::Unspecified | BreakdownTouch::Step);
        FunnelBreakdown { field: Some(field), touch: touch as i32, step: if at_step { step as u32 } else { 0 }, top }
    })
}

pub fn any_request() -> impl Strategy<Value = QueryFunnelRequest> {
    let order = select(vec![FunnelOrder::Ordered, FunnelOrder::Ordered, FunnelOrder::Strict, FunnelOrder::Any]);
    let steps = prop::collection::vec((any_selector(), prop::bool::weighted(0.2)), 1..5);
    (order, steps).prop_flat_map(|(order, steps)| {
        let count = steps.len();
        let any_order = order == FunnelOrder::Any;
        let steps: Vec<FunnelStep> = steps
            .into_iter()
            .enumerate()
            .map(|(at, (on, optional))| FunnelStep { on: Some(on), optional: optional && at > 0 && !any_order, ..FunnelStep::default() })
            .collect();
        let exclusions = prop::collection::vec(any_exclusion(count, any_order), if count > 1 { 0..3 } else { 0..1 });
        let held = prop::option::weighted(0.3, subsequence(vec![property("label"), dimension("platform"), property("vip")], 1..4));
        let counting = select(vec![FunnelCounting::Persons, FunnelCounting::Persons, FunnelCounting::Sessions, FunnelCounting::Totals]);
        let frame = (0_i64..30, 1_i64..20, 0_i64..12, 0_i64..72);
        let rest = (
            exclusions,
            held,
            counting,
            any::<bool>(),
            prop::option::weighted(0.4, any_breakdown(count)),
            prop::option::weighted(0.3, any_filter()),
        );
        (Just(steps), Just(order), rest, frame).prop_map(|(steps, order, rest, (start, length, window, gap))| {
            let (exclusions, held, counting, first, breakdown, filter) = rest;
            let day = |day: i64| Some(timestamp(us(FROM) + day * DAY * 1_000_000));
            QueryFunnelRequest {
                range: Some(TimeRange { start: day(start), end: day(start + length) }),
                steps,
                window: Some(seconds(window * DAY / 2)),
                order: order as i32,
                exclusions,
                hold_constant: held.unwrap_or_default(),
                breakdown,
                entry: if first { FunnelEntry::First as i32 } else { FunnelEntry::Deepest as i32 },
                counting: counting as i32,
                session_gap: (counting == FunnelCounting::Sessions).then(|| seconds(gap * 1_200)),
                filter,
                among: None,
            }
        })
    })
}

/// Plain funnels over few events, which take the fast way.
pub fn any_plain_request() -> impl Strategy<Value = QueryFunnelRequest> {
    (any_request(), 1_usize..4, any::<bool>()).prop_map(|(request, count, named)| QueryFunnelRequest {
        steps: NAMES[..count]
            .iter()
            .zip(request.steps.iter().cycle())
            .map(|(name, step)| FunnelStep {
                on: Some(EventSelector {
                    // Without names, events may match several steps.
                    events: if named { vec![(*name).to_owned()] } else { step.on.clone().unwrap_or_default().events },
                    ..step.on.clone().unwrap_or_default()
                }),
                ..FunnelStep::default()
            })
            .collect(),
        order: FunnelOrder::Ordered as i32,
        exclusions: Vec::new(),
        hold_constant: Vec::new(),
        breakdown: None,
        entry: FunnelEntry::Deepest as i32,
        counting: FunnelCounting::Persons as i32,
        session_gap: None,
        ..request
    })
}

fn check_time(found: Option<&ConversionTime>, durations: &[i64]) -> Result<(), String> {
    let count = durations.len();
    let expected = (count > 0).then(|| {
        let seconds = |us: i64| us as f64 / 1e6;
        let middle = (durations[(count - 1) / 2] + durations[count / 2]) as f64 / 2e6;
        (
            durations.iter().sum::<i64>() as f64 / count as f64 / 1e6,
            middle,
            seconds(durations[0]),
            seconds(durations[count - 1]),
            count as u64,
        )
    });
    let found = found.map(|time| {
        let all = time.distribution.iter().map(|bucket| bucket.count).sum::<u64>();
        (time.mean_seconds, time.median_seconds, time.min_seconds, time.max_seconds, all)
    });
    if found == expected { Ok(()) } else { Err(format!("times {found:?}, not {expected:?}")) }
}

fn check_group(found: &FunnelGroup, expected: &Expected) -> Result<(), String> {
    if counts(found) != expected.counts {
        return Err(format!("counts {:?}, not {:?}", counts(found), expected.counts));
    }
    for (at, step) in found.steps.iter().enumerate() {
        if step.still_open != expected.still_open[at] {
            return Err(format!("{} still open at step {}, not {}", step.still_open, at + 1, expected.still_open[at]));
        }
        check_time(step.time_from_previous.as_ref(), &expected.from_previous[at])?;
        check_time(step.time_from_start.as_ref(), &expected.from_start[at])?;
    }
    Ok(())
}

/// Compares an answer with the reference.
pub fn check(found: &QueryFunnelResponse, events: &[ResolvedEvent], request: &QueryFunnelRequest) -> Result<(), String> {
    let watermark = found.watermark.map(|time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000).ok_or("no watermark")?;
    let mut wanted: BTreeMap<Option<String>, Expected> = expected(events, request, watermark);
    let total = wanted.remove(&None).ok_or("no total")?;
    check_group(found.total.as_ref().ok_or("no total")?, &total).map_err(|difference| format!("total: {difference}"))?;
    if found.groups_total != wanted.len() as u64 {
        return Err(format!("{} groups, not {}", found.groups_total, wanted.len()));
    }
    let top = request.breakdown.as_ref().map_or(0, |breakdown| if breakdown.top == 0 { 20 } else { breakdown.top as usize });
    let mut before = u64::MAX;
    for group in &found.groups {
        let name = shown(group.key.as_ref());
        if name == "…" {
            let rest: u64 = wanted.values().map(|group| group.counts[0]).sum();
            if counts(group)[0] != rest || wanted.is_empty() {
                return Err(format!("other has {:?}, not {rest}", counts(group)));
            }
            wanted.clear();
            continue;
        }
        let expected = wanted.remove(&Some(name.clone())).ok_or_else(|| format!("no group {name}"))?;
        check_group(group, &expected).map_err(|difference| format!("{name}: {difference}"))?;
        if expected.counts[0] > before || wanted.values().any(|rest| rest.counts[0] > expected.counts[0]) {
            return Err(format!("{name} stands in the wrong place"));
        }
        before = expected.counts[0];
    }
    let shown = found.groups.iter().filter(|group| group.key.as_ref().is_some_and(|key| !key.other)).count();
    if !wanted.is_empty() || shown > top {
        return Err(format!("{shown} groups are shown, {} are missing", wanted.len()));
    }
    Ok(())
}

fn any_events() -> impl Strategy<Value = Vec<ResolvedEvent>> {
    prop::collection::vec(any_event(), 0..80).prop_map(|mut events| {
        events.insert(0, knows_all());
        events
    })
}

fn compare(events: &[ResolvedEvent], request: &QueryFunnelRequest, watermark: i64) -> Result<(), TestCaseError> {
    let snapshot =
        Snapshot::of_events(&"shop".parse().expect("a tenant id"), us(FROM) + watermark * DAY * 1_000_000, events).expect("a snapshot");
    let found = ask(&snapshot, request).expect("an answer");
    check(&found, events, request).map_err(TestCaseError::fail)?;
    // In small pieces and on one thread it is the same.
    let cancel = CancellationToken::new();
    let limits = QueryLimits { threads: 1, hits_bytes_max: 2_000, ..QueryLimits::default() };
    let context = Context { snapshot: &snapshot, zone: chrono_tz::Tz::UTC, limits, cancel: &cancel };
    match query(&context, request) {
        Ok(pieces) => prop_assert_eq!((pieces.total, pieces.groups), (found.total, found.groups)),
        Err(QueryError::TooMuchMemory { .. }) => {}
        Err(error) => return Err(TestCaseError::fail(error.to_string())),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn funnels_are_those_of_the_reference(events in any_events(), request in any_request(), watermark in 0_i64..60) {
        compare(&events, &request, watermark)?;
    }

    #[test]
    fn plain_funnels_are_those_of_the_reference(events in any_events(), request in any_plain_request(), watermark in 0_i64..60) {
        compare(&events, &request, watermark)?;
    }
}
