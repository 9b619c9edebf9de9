//! The cases of the semantics, row by row.

use segue_proto::analytics::v1::{BreakdownTouch, ConversionTime, ExclusionScope, FunnelCounting, FunnelEntry, FunnelOrder};
use segue_proto::query::v1::{Comparison, Filter, Operator, filter};

use super::*;
use crate::events::did;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn ordered(order: FunnelOrder, steps: &[&str], window: i64) -> QueryFunnelRequest {
    QueryFunnelRequest { order: order as i32, ..funnel(steps, window) }
}

fn excluded(name: &str, from_step: u32, to_step: u32, scope: ExclusionScope) -> FunnelExclusion {
    FunnelExclusion { on: Some(on(&[name])), from_step, to_step, scope: scope as i32 }
}

/// How many of these steps one person gets to.
fn depth(request: &QueryFunnelRequest, text: &str) -> u64 {
    total(&answer(&persons(&[text]), request)).iter().sum()
}

#[test]
fn depths_are_those_of_the_semantics() {
    use FunnelOrder::{Any, Ordered, Strict};
    let abc = &["a", "b", "c"][..];
    for (text, steps, window, order, expected) in [
        ("a b c", abc, 100, Ordered, 3),
        ("a d b c", abc, 100, Ordered, 3),
        ("a a b b c c", abc, 100, Ordered, 3),
        ("a b c", abc, 100, Strict, 3),
        ("a d b c", abc, 100, Strict, 1),
        ("a a b b c c", abc, 100, Strict, 2),
        ("c c b b a a", abc, 100, Ordered, 1),
        ("a c b", abc, 100, Ordered, 2),
        ("c c b b a a", abc, 100, Strict, 1),
        ("a c b", abc, 100, Strict, 1),
        ("e1@3 e2@4 e3@5 e4@6 e5@7", &["e1", "e2", "e3", "e4", "e5"], 2, Ordered, 3),
        ("e1@3 e2@4 e3@5 e4@6 e5@7", &["e1", "e2", "e3", "e4", "e5"], 3, Ordered, 4),
        ("e1@3 e2@4 e3@5 e4@6 e5@7", &["e1", "e2", "e3", "e4", "e5"], 4, Ordered, 5),
        ("x", &["x", "x", "x"], 100, Ordered, 1),
        ("blah signup pageview insight blah", &["signup", "pageview", "insight"], 100, Strict, 3),
        ("pageview signup blah pageview insight", &["signup", "pageview", "insight"], 100, Strict, 1),
        ("s@0 p@300", &["s", "p"], 300, Ordered, 2),
        ("s@0 p@301", &["s", "p"], 300, Ordered, 1),
        ("A@2 B@2", &["A", "B"], 100, Ordered, 2),
        ("B@2 A@2", &["A", "B"], 100, Ordered, 2),
        ("A@1 A@2 A@2", &["A", "A", "A"], 100, Ordered, 3),
        ("A B", &["A", "A", "B"], 100, Ordered, 1),
        ("c@1 a@2 b@3", abc, 100, Any, 3),
    ] {
        assert_eq!(depth(&ordered(order, steps, window), text), expected, "{text} {steps:?} {window} {order:?}");
    }
}

#[test]
fn exclusions_end_attempts_or_remove_persons() {
    let people = [
        format!("signup@{HOUR} paid@{}", 2 * HOUR),
        format!("signup@{} x@{} paid@{}", 3 * HOUR, 3 * HOUR + 1_800, 4 * HOUR),
        format!("signup@{} x@{}", 5 * HOUR, 6 * HOUR),
        format!("signup@0 x@{}", 25 * HOUR),
    ];
    let people = persons(&people.each_ref().map(String::as_str));
    for (scope, expected) in [(ExclusionScope::Unspecified, [4, 1]), (ExclusionScope::Attempt, [4, 1]), (ExclusionScope::Person, [2, 1])] {
        let request = QueryFunnelRequest { exclusions: vec![excluded("x", 1, 2, scope)], ..funnel(&["signup", "paid"], DAY) };
        assert_eq!(total(&answer(&people, &request)), expected, "{scope:?}");
    }
    let again = QueryFunnelRequest { exclusions: vec![excluded("x", 1, 2, ExclusionScope::Attempt)], ..funnel(&["s", "p"], 100) };
    assert_eq!(depth(&again, "s@0 x@10 s@20 p@30"), 2);
}

fn time(response: &QueryFunnelResponse, step: usize) -> ConversionTime {
    response.total.as_ref().and_then(|total| total.steps[step - 1].time_from_previous.clone()).expect("a time")
}

#[test]
fn times_to_convert_come_from_the_attempt_that_gives_the_depth() {
    let people = [
        format!("signup@{} play@{} buy@{}", 12 * HOUR, 13 * HOUR, 15 * HOUR),
        format!("signup@{} play@{}", 14 * HOUR, 16 * HOUR),
        format!("signup@{} play@{} buy@{}", 14 * HOUR, 16 * HOUR, 17 * HOUR),
    ];
    let response = answer(&persons(&people.each_ref().map(String::as_str)), &funnel(&["signup", "play", "buy"], DAY));
    assert_eq!(total(&response), [3, 3, 2]);
    let figures = |time: ConversionTime| (time.mean_seconds, time.median_seconds, time.min_seconds, time.max_seconds);
    assert_eq!(figures(time(&response, 2)), (6_000.0, 7_200.0, 3_600.0, 7_200.0));
    assert_eq!(figures(time(&response, 3)), (5_400.0, 5_400.0, 3_600.0, 7_200.0));
    let steps = &response.total.as_ref().expect("a total").steps;
    assert_eq!((&steps[0].time_from_previous, &steps[0].time_from_start), (&None, &None));
    assert_eq!(steps[1].time_from_start, steps[1].time_from_previous);
    assert_eq!(steps[2].time_from_start.as_ref().map(|time| time.mean_seconds), Some(10_800.0));
    assert_eq!(steps.iter().map(|step| step.conversion).collect::<Vec<_>>(), [Some(1.0), Some(1.0), Some(2.0 / 3.0)]);
    assert_eq!(steps.iter().map(|step| step.conversion_from_previous).collect::<Vec<_>>(), [None, Some(1.0), Some(2.0 / 3.0)]);
    assert_eq!(time(&response, 2).distribution.iter().map(|bucket| bucket.count).sum::<u64>(), 3);
}

#[test]
fn the_first_entry_is_the_first_attempt_only() {
    let text = format!("A@{} A@{} B@{} C@{}", HOUR, HOUR + 1_800, HOUR + 2_700, 2 * HOUR + 900);
    let deepest = funnel(&["A", "B", "C"], HOUR);
    assert_eq!(depth(&deepest, &text), 3);
    assert_eq!(depth(&QueryFunnelRequest { entry: FunnelEntry::First as i32, ..deepest }, &text), 2);
}

#[test]
fn held_properties_are_the_same_in_all_steps() {
    let item = |event, id| with(event, "item", id);
    let events = [
        item(event("view", 1, 0), "p1"),
        item(event("add", 1, 10), "p1"),
        item(event("bought", 1, 20), "p2"),
        // Without a value events take no part.
        event("view", 2, 0),
        item(event("add", 2, 10), "p1"),
    ];
    let free = funnel(&["view", "add", "bought"], 1_000);
    assert_eq!(total(&answer(&events, &free)), [2, 2, 1]);
    let held = QueryFunnelRequest { hold_constant: vec![property("item")], ..free };
    assert_eq!(total(&answer(&events, &held)), [1, 1, 0]);
    let both = QueryFunnelRequest { hold_constant: vec![property("item"), dimension("platform")], ..held };
    assert_eq!(total(&answer(&events, &both)), [0, 0, 0], "no event has a platform");
}

#[test]
fn persons_whose_window_reaches_the_watermark_are_still_open() {
    let open = |response: &QueryFunnelResponse| -> Vec<u64> {
        response.total.as_ref().expect("a total").steps.iter().map(|step| step.still_open).collect()
    };
    let request = funnel(&["a", "b"], 7 * DAY);
    let people = persons(&["a@0", "a@0 b@10"]);
    for (watermark, expected) in [(4 * DAY, [1, 0]), (7 * DAY, [1, 0]), (7 * DAY + 1, [0, 0])] {
        let response = ask(&snapshot(&people, watermark), &request).expect("an answer");
        assert_eq!((total(&response), open(&response)), (vec![2, 1], expected.to_vec()), "{watermark}");
        assert_eq!(response.watermark, Some(timestamp(second(watermark))));
    }
}

#[test]
fn attempts_start_in_the_range_and_may_end_after_it() {
    let ranged = |request: QueryFunnelRequest| QueryFunnelRequest {
        range: Some(TimeRange { start: Some(timestamp(second(10))), end: Some(timestamp(second(20))) }),
        ..request
    };
    for (text, expected) in [("a@9 b@15", 0), ("a@10 b@15", 2), ("a@19 b@119", 2), ("a@19 b@120", 1), ("a@20 b@25", 0)] {
        assert_eq!(depth(&ranged(funnel(&["a", "b"], 100)), text), expected, "{text}");
    }
    // The same event as a later step counts also after the range.
    assert_eq!(depth(&ranged(funnel(&["a", "a"], 100)), "a@19 a@119"), 2);
    assert_eq!(depth(&ranged(funnel(&["a", "a"], 100)), "a@20 a@25"), 0);
}

#[test]
fn sessions_and_totals_are_counted() {
    let by_sessions =
        QueryFunnelRequest { counting: FunnelCounting::Sessions as i32, session_gap: Some(seconds(30)), ..funnel(&["a", "b"], 1_000) };
    for (text, expected) in
        [("a@0 b@30", [1, 1]), ("a@0 b@31", [1, 0]), ("a@0 z@20 b@40", [1, 1]), ("a@0 b@10 a@100 a@120 b@130 a@500", [3, 2])]
    {
        assert_eq!(total(&answer(&persons(&[text]), &by_sessions)), expected, "{text}");
    }
    let default_gap = QueryFunnelRequest { session_gap: None, ..by_sessions };
    assert_eq!(
        total(&answer(&persons(&["a@0 z@1800 b@3600 a@7000 b@8801"]), &QueryFunnelRequest { window: Some(seconds(DAY)), ..default_gap })),
        [2, 1]
    );
    let totals = QueryFunnelRequest { counting: FunnelCounting::Totals as i32, ..funnel(&["a", "b"], 100) };
    for (text, expected) in [("a@0 b@10 a@20 b@30", [2, 2]), ("a@0 a@10 b@20 b@30", [1, 1]), ("a@0 a@100 a@101", [2, 0])] {
        assert_eq!(total(&answer(&persons(&[text]), &totals)), expected, "{text}");
    }
}

#[test]
fn sessions_are_cut_over_events_that_the_filter_keeps_out() {
    let is = |value: &str| Filter {
        node: Some(filter::Node::Compare(Comparison {
            field: Some(property("kind")),
            operator: Operator::In as i32,
            values: vec![Value { kind: Some(Kind::StringValue(value.to_owned())) }],
            item_match: 0,
        })),
    };
    let kind = |event, value| with(event, "kind", value);
    let events =
        [kind(event("a", 1, 0), "in"), kind(event("z", 1, 20), "out"), kind(event("b", 1, 40), "in"), kind(event("b", 1, 45), "out")];
    let request = QueryFunnelRequest {
        counting: FunnelCounting::Sessions as i32,
        session_gap: Some(seconds(30)),
        filter: Some(is("in")),
        ..funnel(&["a", "b"], 1_000)
    };
    assert_eq!(total(&answer(&events, &request)), [1, 1]);
    // Under strict order they are not there at all, so that the two events are neighbours, but not in one session.
    let strict = QueryFunnelRequest { order: FunnelOrder::Strict as i32, ..request };
    assert_eq!(total(&answer(&events, &strict)), [1, 0]);
    let persons = QueryFunnelRequest { counting: FunnelCounting::Persons as i32, session_gap: None, ..strict };
    assert_eq!(total(&answer(&events, &persons)), [1, 1]);
    assert_eq!(total(&answer(&events, &QueryFunnelRequest { filter: None, ..persons })), [1, 0]);
}

#[test]
fn optional_steps_count_those_who_did_them_on_the_way() {
    let mut request = funnel(&["a", "b", "c"], 1_000);
    request.steps[1].optional = true;
    let response = answer(&persons(&["a b c", "a c", "a b", "a c b"]), &request);
    assert_eq!(total(&response), [4, 2, 3]);
    let steps = &response.total.as_ref().expect("a total").steps;
    // The step after an optional one is divided by the last required one.
    assert_eq!(steps.iter().map(|step| step.conversion_from_previous).collect::<Vec<_>>(), [None, Some(0.5), Some(0.75)]);
}

#[test]
fn groups_have_the_values_of_the_attempt() {
    let channel = |event, value| with(event, "channel", value);
    let events = [
        channel(event("a", 1, 0), "ads"),
        channel(event("b", 1, 10), "mail"),
        channel(event("a", 2, 0), "ads"),
        channel(event("a", 3, 0), "mail"),
        event("b", 3, 5),
        event("a", 4, 0),
        channel(event("b", 4, 5), "push"),
        channel(event("a", 5, 0), ""),
    ];
    let by = |touch: BreakdownTouch, step, top| QueryFunnelRequest {
        breakdown: Some(FunnelBreakdown { field: Some(property("channel")), touch: touch as i32, step, top }),
        ..funnel(&["a", "b"], 100)
    };
    let named = |expected: &[(&str, [u64; 2])]| -> Vec<(String, Vec<u64>)> {
        expected.iter().map(|(name, counts)| ((*name).to_owned(), counts.to_vec())).collect()
    };
    use BreakdownTouch::{First, Last, Step, Unspecified};
    for (touch, step, expected) in [
        (Unspecified, 0, &[("ads", [2, 1]), ("∅", [1, 1]), ("", [1, 0]), ("mail", [1, 1])][..]),
        (Step, 1, &[("ads", [2, 1]), ("∅", [1, 1]), ("", [1, 0]), ("mail", [1, 1])]),
        (Step, 2, &[("∅", [3, 1]), ("mail", [1, 1]), ("push", [1, 1])]),
        (First, 0, &[("ads", [2, 1]), ("", [1, 0]), ("mail", [1, 1]), ("push", [1, 1])]),
        (Last, 0, &[("mail", [2, 2]), ("", [1, 0]), ("ads", [1, 0]), ("push", [1, 1])]),
    ] {
        let response = answer(&events, &by(touch, step, 0));
        assert_eq!(groups(&response), named(expected), "{touch:?} {step}");
        assert_eq!(response.groups_total, expected.len() as u64);
        assert_eq!(total(&response), [5, 3]);
    }
    let cut = answer(&events, &by(Step, 1, 1));
    assert_eq!(groups(&cut), named(&[("ads", [2, 1]), ("…", [3, 2])]));
    assert_eq!((cut.groups_total, total(&cut)), (4, vec![5, 3]));
}

#[test]
fn answers_state_their_options() {
    let request = QueryFunnelRequest { window: None, ..funnel(&["app_open", "df_purchase"], 0) };
    let options = answer(&persons(&["df_app_open df_purchase"]), &request).options.expect("options");
    assert_eq!(options.window, Some(seconds(7 * DAY)));
    assert_eq!(options.order, FunnelOrder::Ordered as i32);
    assert_eq!(options.entry, FunnelEntry::Deepest as i32);
    assert_eq!(options.counting, FunnelCounting::Persons as i32);
    assert_eq!(options.session_gap, None);
    assert_eq!(options.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["app_open", "df_purchase"]);
    let events = persons(&["a b"]);
    let request = QueryFunnelRequest {
        breakdown: Some(FunnelBreakdown { field: Some(dimension("platform")), ..FunnelBreakdown::default() }),
        counting: FunnelCounting::Sessions as i32,
        ..funnel(&["a", "b"], 10)
    };
    let first = answer(&events, &request);
    let options = first.options.clone().expect("options");
    assert_eq!(options.session_gap, Some(seconds(1_800)));
    let breakdown = options.breakdown.clone().expect("a breakdown");
    assert_eq!((breakdown.touch, breakdown.step, breakdown.top), (BreakdownTouch::Step as i32, 1, 20));
    // Asked again with its own options, the answer is the same.
    let again = answer(&events, &options);
    assert_eq!(
        (again.options, again.groups, again.total, again.persons_token),
        (first.options, first.groups, first.total, first.persons_token)
    );
}

#[test]
fn in_any_order_steps_are_counted_by_how_many_are_done() {
    let response = answer(&persons(&["c a b", "b", "z"]), &ordered(FunnelOrder::Any, &["a", "b", "c"], 100));
    assert_eq!(total(&response), [2, 1, 1]);
    let names: Vec<String> = response.total.expect("a total").steps.into_iter().map(|step| step.name).collect();
    assert_eq!(names, ["any 1 of 3", "any 2 of 3", "any 3 of 3"]);
}

#[test]
fn only_persons_who_meet_the_condition_are_counted() {
    let events = persons(&["a b vip", "a b", "a vip", "b"]);
    for (among, expected) in [(None, [3, 2]), (Some(did("vip")), [2, 1]), (Some(did("nothing")), [0, 0])] {
        let request = QueryFunnelRequest { among, ..funnel(&["a", "b"], 100) };
        assert_eq!(total(&answer(&events, &request)), expected);
        let strict = QueryFunnelRequest { order: FunnelOrder::Strict as i32, ..request };
        assert_eq!(total(&answer(&events, &strict)), expected);
    }
}

#[test]
fn without_events_there_is_an_answer_of_zeros() {
    let response = answer(&[], &funnel(&["a", "b"], 100));
    assert_eq!(total(&response), [0, 0]);
    let steps = response.total.expect("a total").steps;
    assert!(steps.iter().all(|step| step.conversion.is_none() && step.time_from_start.is_none()));
}
