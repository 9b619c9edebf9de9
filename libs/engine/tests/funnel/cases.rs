//! The cases of the semantics, row by row, and those that its words leave open.

use segue_engine::Hit;
use segue_engine::funnel::{Breakdown, Counting, Entry, Exclusion, FunnelSpec, NO_VALUE, Order, Scope, Since, Step, Tally, Touch};

use crate::{ask, everything, hit, stream};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn depth(spec: &FunnelSpec, text: &str) -> usize {
    ask(spec, &stream(text)).attempts.iter().map(|attempt| attempt.depth).max().unwrap_or(0)
}

fn tally(spec: &FunnelSpec, units: &[&str]) -> Tally {
    let mut tally = Tally::new(spec.steps.len());
    for unit in units {
        ask(spec, &stream(unit)).attempts.iter().for_each(|attempt| tally.add(attempt));
    }
    tally
}

fn counts(spec: &FunnelSpec, units: &[&str]) -> Vec<u64> {
    let tally = tally(spec, units);
    (1..=spec.steps.len()).map(|number| tally.reached(number)).collect()
}

fn excluded(selector: u32, from_step: usize, to_step: usize, scope: Scope) -> Exclusion {
    Exclusion { selector, from_step, to_step, scope }
}

/// Makes steps, from 1, optional.
fn optional(spec: FunnelSpec, numbers: &[usize]) -> FunnelSpec {
    let mut spec = spec;
    for number in numbers {
        spec.steps[number - 1].optional = true;
    }
    spec
}

#[test]
fn depths_are_those_of_the_semantics() {
    let (ordered, strict, any) = (Order::Ordered, Order::Strict, Order::Any);
    for (text, steps, window, order, expected) in [
        ("a b c", &[0, 1, 2][..], 100, ordered, 3),
        ("a d b c", &[0, 1, 2], 100, ordered, 3),
        ("a a b b c c", &[0, 1, 2], 100, ordered, 3),
        ("a b c", &[0, 1, 2], 100, strict, 3),
        ("a d b c", &[0, 1, 2], 100, strict, 1),
        ("a a b b c c", &[0, 1, 2], 100, strict, 2),
        ("c c b b a a", &[0, 1, 2], 100, ordered, 1),
        ("a c b", &[0, 1, 2], 100, ordered, 2),
        ("c c b b a a", &[0, 1, 2], 100, strict, 1),
        ("a c b", &[0, 1, 2], 100, strict, 1),
        // The window is inclusive.
        ("a@1 b@2 c@3 d@4 e@5", &[0, 1, 2, 3, 4], 2, ordered, 3),
        ("a@1 b@2 c@3 d@4 e@5", &[0, 1, 2, 3, 4], 3, ordered, 4),
        ("a@1 b@2 c@3 d@4 e@5", &[0, 1, 2, 3, 4], 4, ordered, 5),
        ("a@0 b@300", &[0, 1], 300, ordered, 2),
        ("a@0 b@301", &[0, 1], 300, ordered, 1),
        // One event never does two steps.
        ("a", &[0, 0, 0], 100, ordered, 1),
        ("a", &[0, 0, 0], 100, any, 1),
        ("a", &[0, 0, 0], 100, strict, 1),
        ("ab", &[0, 1], 100, ordered, 1),
        ("a b", &[0, 0, 1], 100, ordered, 1),
        ("a a b", &[0, 0, 1], 100, ordered, 3),
        // blah signup pageview insight blah; pageview signup blah pageview insight
        ("z a b c z", &[0, 1, 2], 100, strict, 3),
        ("b a z b c", &[0, 1, 2], 100, strict, 1),
        // Equal times count in either order.
        ("a@2 b@2", &[0, 1], 0, ordered, 2),
        ("b@2 a@2", &[0, 1], 0, ordered, 2),
        ("a@1 a@2 a@2", &[0, 0, 0], 100, ordered, 3),
        ("c@2 b@2 a@2", &[0, 1, 2], 0, ordered, 3),
        ("c@2 b@2 a@2", &[0, 1, 2], 0, any, 3),
        // In strict order they stand as the log has them.
        ("c@2 b@2 a@2", &[0, 1, 2], 0, strict, 1),
        ("a@2 b@2 c@2", &[0, 1, 2], 0, strict, 3),
        ("a@1 c@2 b@2", &[0, 1, 2], 100, strict, 1),
        ("a@1 b@2 z@2 c@2", &[0, 1, 2], 100, strict, 2),
        // The event at 2 that only does step 2 must leave the other one to step 3.
        ("a@1 bc@2 b@2", &[0, 1, 2], 100, ordered, 3),
        ("a@1 b@2 bc@2", &[0, 1, 2], 100, ordered, 3),
        ("abc@2 ab@2 a@2", &[2, 1, 0], 0, ordered, 3),
        // Any order.
        ("c@1 a@2 b@3", &[0, 1, 2], 100, any, 3),
        ("c@1 a@2 b@3", &[0, 1, 2], 1, any, 2),
        ("c@1 a@2 b@3 c@4", &[0, 1, 2], 2, any, 3),
        ("ab@1 a@2", &[0, 1], 100, any, 2),
        ("ab@1 ab@2 a@3", &[0, 1, 2], 100, any, 2),
        ("z@1", &[0, 1, 2], 100, any, 0),
        ("", &[0], 100, ordered, 0),
        ("z b c", &[0, 1, 2], 100, ordered, 0),
    ] {
        let spec = FunnelSpec { order, ..everything(steps, window) };
        assert_eq!(depth(&spec, text), expected, "{text} {steps:?} {window} {order:?}");
    }
}

#[test]
fn an_exclusion_ends_an_attempt_or_removes_the_unit() {
    // signup a, paid b, x
    let units = [
        format!("a@{HOUR} b@{}", 2 * HOUR),
        format!("a@{} x@{} b@{}", 3 * HOUR, 3 * HOUR + 1_800, 4 * HOUR),
        format!("a@{} x@{}", 5 * HOUR, 6 * HOUR),
        format!("a@0 x@{}", 25 * HOUR),
    ];
    let units: Vec<String> = units.iter().map(|unit| unit.replace('x', "d")).collect();
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    for (scope, expected) in [(Scope::Attempt, [4, 1]), (Scope::Unit, [2, 1])] {
        let spec = FunnelSpec { exclusions: vec![excluded(3, 1, 2, scope)], ..everything(&[0, 1], DAY) };
        assert_eq!(counts(&spec, &units), expected, "{scope:?}");
    }
}

#[test]
fn exclusions_count_only_strictly_between_their_steps() {
    use Scope::{Attempt, Unit};
    for (text, (from, to), attempt, unit) in [
        // A second try counts; with the scope of the unit it does not come to that.
        ("a@0 d@10 a@20 b@30 c@40", (1, 2), 3, 0),
        // Before and after.
        ("d@0 a@10 b@20 d@30 c@40", (1, 2), 3, 3),
        ("d@0 a@10 b@20 d@30 c@40", (2, 3), 2, 0),
        ("d@0 a@10 b@20 d@30 c@40", (1, 3), 2, 0),
        // At the very time of a step it may be before or after it.
        ("a@10 d@10 b@20 c@30", (1, 2), 3, 3),
        ("a@10 d@20 b@20 c@30", (1, 2), 3, 3),
        ("a@10 b@20 d@20 c@30", (1, 3), 2, 0),
        ("a@10 b@20 d@20 c@30", (2, 3), 3, 3),
        ("a@10 b@20 d@20 c@20", (1, 3), 3, 3),
        // Step 2 is done again after the exclusion.
        ("a@0 b@10 d@15 b@20 c@30", (2, 3), 3, 0),
        // An event may do a step and be an exclusion.
        ("a@0 bd@10 c@20", (1, 3), 2, 0),
        ("a@0 bd@10 c@20", (1, 2), 3, 3),
        ("a@0 bd@10 c@20", (2, 3), 3, 3),
        ("ad@0 ad@10 b@20 c@30", (1, 2), 3, 0),
        // After all is done nothing removes the unit.
        ("a@0 b@10 c@20 a@30 d@40", (1, 2), 3, 3),
        ("a@0 b@10 a@30 d@40 c@50", (1, 2), 3, 0),
    ] {
        for (scope, expected) in [(Attempt, attempt), (Unit, unit)] {
            let spec = FunnelSpec { exclusions: vec![excluded(3, from, to, scope)], ..everything(&[0, 1, 2], 100) };
            assert_eq!(depth(&spec, text), expected, "{text} {from} to {to} {scope:?}");
        }
    }
    // Out of the window nothing is ended.
    let spec = FunnelSpec { exclusions: vec![excluded(3, 1, 2, Unit)], ..everything(&[0, 1], 100) };
    assert_eq!(depth(&spec, "a@0 d@101"), 1);
    assert!(ask(&spec, &stream("a@0 d@100")).removed);
}

#[test]
fn exclusions_hold_in_strict_and_in_any_order() {
    for (text, order, scope, expected) in [
        ("a b c", Order::Strict, Scope::Unit, 3),
        ("a d b c", Order::Strict, Scope::Attempt, 1),
        ("a d b c", Order::Strict, Scope::Unit, 0),
        // What comes between first has ended the attempt before the exclusion.
        ("a z d b c", Order::Strict, Scope::Unit, 1),
        ("a bd c", Order::Strict, Scope::Attempt, 2),
        ("c d a b", Order::Any, Scope::Attempt, 2),
        ("c d a b", Order::Any, Scope::Unit, 0),
        ("c@1 d@1 a@2 b@3 d@3", Order::Any, Scope::Attempt, 3),
        ("c@1 d@1 a@2 b@3 d@3", Order::Any, Scope::Unit, 3),
        ("c a b d", Order::Any, Scope::Unit, 3),
    ] {
        let spec = FunnelSpec { order, exclusions: vec![excluded(3, 1, 3, scope)], ..everything(&[0, 1, 2], 100) };
        assert_eq!(depth(&spec, text), expected, "{text} {order:?} {scope:?}");
    }
}

#[test]
fn times_to_convert_come_from_the_attempt_that_gives_the_depth() {
    // signup a, play b, buy c
    let units = [
        format!("a@{} b@{} c@{}", 12 * HOUR, 13 * HOUR, 15 * HOUR),
        format!("a@{} b@{}", 14 * HOUR, 16 * HOUR),
        format!("a@{} b@{} c@{}", 14 * HOUR, 16 * HOUR, 17 * HOUR),
    ];
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    let spec = everything(&[0, 1, 2], DAY);
    let tally = tally(&spec, &units);
    assert_eq!(counts(&spec, &units), [3, 3, 2]);
    let conversion = |number, since| Tally::conversion([&tally], number, since);
    // The tests' seconds are the rules' microseconds.
    let figures = |number| conversion(number, Since::Previous).map(|found| (found.mean_seconds() * 1e6, found.median_seconds() * 1e6));
    assert_eq!(figures(2), Some((6_000.0, 7_200.0)));
    assert_eq!(figures(3), Some((5_400.0, 5_400.0)));
    assert_eq!(conversion(2, Since::First), conversion(2, Since::Previous));
    assert_eq!(conversion(3, Since::First).map(|found| found.sum_us), Some(6 * HOUR as u128));
    assert_eq!(conversion(1, Since::Previous), None);
}

#[test]
fn the_attempt_that_counts_is_the_first_to_get_there_and_of_those_the_last_to_start() {
    for (text, expected) in [
        ("a@0 a@10 b@20 b@30 c@40 c@50", [10, 20, 40]),
        ("a@0 b@10 a@20 c@30", [0, 10, 30]),
        ("a@0 b@10 c@20 a@30 b@31 c@32", [0, 10, 20]),
        ("a@0 b@80 a@90 b@95 c@120", [90, 95, 120]),
    ] {
        let attempts = ask(&everything(&[0, 1, 2], 100), &stream(text)).attempts;
        let times: Vec<i64> = attempts.iter().flat_map(|attempt| attempt.times()).map(|(_, ts)| ts).collect();
        assert_eq!(times, expected, "{text}");
    }
}

#[test]
fn the_first_entry_is_the_first_attempt_only() {
    let deepest = everything(&[0, 1, 2], HOUR);
    let first = FunnelSpec { entry: Entry::First, ..deepest.clone() };
    let text = format!("a@{} a@{} b@{} c@{}", HOUR, HOUR + 1_800, HOUR + 2_700, 2 * HOUR + 900);
    assert_eq!((depth(&deepest, &text), depth(&first, &text)), (3, 2));
    // The range decides which is first.
    let later = FunnelSpec { range_us: HOUR + 1..DAY, ..first };
    assert_eq!(depth(&later, &text), 3);
    let excluding = FunnelSpec { exclusions: vec![excluded(3, 1, 2, Scope::Attempt)], ..everything(&[0, 1], 100) };
    assert_eq!(depth(&excluding, "a@0 d@10 a@20 b@30"), 2);
    assert_eq!(depth(&FunnelSpec { entry: Entry::First, ..excluding }, "a@0 d@10 a@20 b@30"), 1);
}

#[test]
fn attempts_start_in_the_range_and_may_end_after_it() {
    let spec = FunnelSpec { range_us: 10..20, ..everything(&[0, 1], 100) };
    for (text, expected) in [("a@9 b@15", 0), ("a@10 b@15", 2), ("a@19 b@119", 2), ("a@20 b@25", 0), ("a@19 a@20 b@120", 1)] {
        assert_eq!(depth(&spec, text), expected, "{text}");
        let any = FunnelSpec { order: Order::Any, ..spec.clone() };
        let expected = if text == "a@9 b@15" { 1 } else { expected };
        assert_eq!(depth(&any, text), expected, "{text} in any order");
    }
}

fn holding(items: &[(&str, u32)]) -> Vec<Hit<Touch>> {
    let mut hits = Vec::new();
    for (at, (letter, held)) in items.iter().enumerate() {
        for found in stream(letter) {
            hits.push(Hit { ts: at as i64 * 10, sequence: at as u64, payload: Touch { held: *held, value: 0 }, ..found });
        }
    }
    hits
}

#[test]
fn held_properties_are_the_same_in_all_steps() {
    // view a, add b, purchase c; p1 is 1, p2 is 2
    let split = holding(&[("a", 1), ("b", 1), ("c", 2)]);
    let held = FunnelSpec { hold: true, ..everything(&[0, 1, 2], 1_000) };
    let free = everything(&[0, 1, 2], 1_000);
    let deepest = |spec: &FunnelSpec, hits: &[Hit<Touch>]| ask(spec, hits).attempts.first().map_or(0, |attempt| attempt.depth);
    assert_eq!((deepest(&held, &split), deepest(&free, &split)), (2, 3));
    // Without the property an event takes no part.
    assert_eq!(deepest(&held, &holding(&[("a", 1), ("b", NO_VALUE), ("c", 1)])), 1);
    assert_eq!(deepest(&held, &holding(&[("a", NO_VALUE), ("b", NO_VALUE)])), 0);
    // The same for exclusions.
    let excluding = FunnelSpec { exclusions: vec![excluded(3, 1, 2, Scope::Unit)], ..held.clone() };
    for (held, expected) in [(1, 0), (2, 3), (NO_VALUE, 3)] {
        assert_eq!(deepest(&excluding, &holding(&[("a", 1), ("d", held), ("b", 1), ("c", 1)])), expected, "{held}");
    }
    // Strict order means all events of the unit.
    let strict = FunnelSpec { order: Order::Strict, ..held.clone() };
    for other in [2, NO_VALUE] {
        assert_eq!(deepest(&strict, &holding(&[("a", 1), ("b", other), ("b", 1)])), 1);
    }
    // Totals: each value has attempts of its own.
    let totals = FunnelSpec { counting: Counting::Totals, hold: true, ..everything(&[0, 1], 1_000) };
    let depths = |hits: &[Hit<Touch>]| ask(&totals, hits).attempts.iter().map(|attempt| attempt.depth).collect::<Vec<_>>();
    assert_eq!(depths(&holding(&[("a", 1), ("a", 2), ("b", 1), ("b", 2)])), [2, 2]);
}

#[test]
fn breakdown_values_come_from_the_attempt() {
    let valued = |items: &[(i64, u32, u32)]| -> Vec<Hit<Touch>> {
        items
            .iter()
            .enumerate()
            .map(|(at, (second, selector, value))| Hit {
                payload: Touch { held: 0, value: *value },
                ..hit(*second, at as u64, 1 << selector)
            })
            .collect()
    };
    let hits = valued(&[(0, 0, 9), (10, 0, 0), (20, 1, 5), (30, 2, 6), (40, 0, 8)]);
    for (breakdown, expected) in [
        (Breakdown::AtStep(1), NO_VALUE),
        (Breakdown::AtStep(2), 5),
        (Breakdown::AtStep(3), 6),
        (Breakdown::AtStep(4), NO_VALUE),
        (Breakdown::FirstTouch, 5),
        (Breakdown::LastTouch, 6),
    ] {
        let spec = FunnelSpec { breakdown, ..everything(&[0, 1, 2, 3], 100) };
        let values: Vec<u32> = ask(&spec, &hits).attempts.iter().map(|attempt| attempt.value).collect();
        assert_eq!(values, [expected], "{breakdown:?}");
    }
}

#[test]
fn sessions_are_asked_by_themselves() {
    let spec = FunnelSpec { counting: Counting::Sessions { gap_us: 30 }, ..everything(&[0, 1], 1_000) };
    for (text, expected) in [
        ("a@0 b@30", [1, 1]),
        // A gap over the limit ends the session.
        ("a@0 b@31", [1, 0]),
        // Any event keeps it going.
        ("a@0 z@20 b@40", [1, 1]),
        ("a@0 b@10 a@100 a@120 b@130 a@500", [3, 2]),
    ] {
        assert_eq!(counts(&spec, &[text]), expected, "{text}");
    }
    let open = |text: &str, watermark: i64| {
        ask(&FunnelSpec { watermark_us: Some(watermark), ..spec.clone() }, &stream(text)).attempts[0].still_open
    };
    assert!(open("a@0", 30));
    assert!(!open("a@0", 31));
    assert!(open("a@0 z@30", 60));
}

#[test]
fn totals_are_attempts_one_after_another() {
    for (text, first, deepest) in [
        ("a@0 b@10 a@20 b@30", [2, 2], [2, 2]),
        // While an attempt lasts none begins.
        ("a@0 a@10 b@20 b@30", [1, 1], [1, 1]),
        ("a@0 a@60 b@110", [1, 0], [1, 1]),
        // It lasts until its window has passed, inclusively.
        ("a@0 a@100 a@101", [2, 0], [2, 0]),
        // Events of one moment that an attempt does not need may begin the next. (The deepest attempt starts as late as it can.)
        ("a@0 b@10 a@10 b@20", [2, 2], [1, 1]),
    ] {
        for (entry, expected) in [(Entry::First, first), (Entry::Deepest, deepest)] {
            let spec = FunnelSpec { counting: Counting::Totals, entry, ..everything(&[0, 1], 100) };
            assert_eq!(counts(&spec, &[text]), expected, "{text} {entry:?}");
        }
    }
    let single = FunnelSpec { counting: Counting::Totals, ..everything(&[0], 100) };
    assert_eq!(counts(&single, &["a@0 a@0 a@1 z@2 a@3"]), [4]);
    let excluding =
        FunnelSpec { counting: Counting::Totals, exclusions: vec![excluded(3, 1, 2, Scope::Attempt)], ..everything(&[0, 1], 100) };
    assert_eq!(counts(&excluding, &["a@0 d@10 a@20 b@30"]), [2, 1]);
    assert_eq!(counts(&excluding, &["a@0 d@10 a@10 b@30"]), [2, 1]);
    let strict = FunnelSpec { counting: Counting::Totals, order: Order::Strict, ..everything(&[0, 1], 100) };
    assert_eq!(counts(&strict, &["a a b z b a b"]), [3, 2]);
    let any = FunnelSpec { counting: Counting::Totals, order: Order::Any, ..everything(&[0, 1], 100) };
    assert_eq!(counts(&any, &["b a a b a"]), [3, 2]);
}

#[test]
fn optional_steps_may_be_left_out() {
    let spec = optional(everything(&[0, 1, 2], 100), &[2]);
    for (text, expected) in [
        ("a b c", [1, 1, 1]),
        ("a c", [1, 0, 1]),
        ("a b", [1, 1, 0]),
        // Not on the way: the step after it is done already.
        ("a c b", [1, 0, 1]),
        // Of attempts that get there at the same time the one that does more steps counts, though another one starts later.
        ("a b a c", [1, 1, 1]),
        ("a c b c", [1, 0, 1]),
        ("b c", [0, 0, 0]),
    ] {
        assert_eq!(counts(&spec, &[text]), expected, "{text}");
    }
    let strict = FunnelSpec { order: Order::Strict, ..spec };
    for (text, expected) in [("a c", [1, 0, 1]), ("a b c", [1, 1, 1]), ("a z c", [1, 0, 0]), ("a b b c", [1, 1, 0])] {
        assert_eq!(counts(&strict, &[text]), expected, "strict {text}");
    }
    let two = optional(everything(&[0, 1, 2, 3], 100), &[2, 3]);
    for (text, expected) in [("a d", [1, 0, 0, 1]), ("a c b d", [1, 0, 1, 1]), ("a@0 d@10 c@10 b@10", [1, 1, 1, 1])] {
        assert_eq!(counts(&two, &[text]), expected, "{text}");
    }
    // The time to a step counts from the step that was done before it.
    let tally = tally(&two, &["a@0 d@50", "a@0 b@10 d@50"]);
    assert_eq!(Tally::conversion([&tally], 4, Since::Previous).map(|found| found.sum_us), Some(90));
    assert_eq!(Tally::conversion([&tally], 4, Since::First).map(|found| found.sum_us), Some(100));
}

#[test]
fn an_exclusion_from_a_step_that_was_left_out_begins_with_the_next_one() {
    let spec = optional(everything(&[0, 1, 2, 4], 100), &[2, 3]);
    for (text, (from, to), expected) in [
        ("a d e", (2, 4), 4),
        // The attempt that leaves the step out is not met.
        ("a c d e", (2, 4), 4),
        ("a b d e", (2, 4), 4),
        ("a b d c e", (2, 3), 4),
        ("a d e", (1, 2), 1),
        ("a d c e", (1, 3), 1),
        ("a b e", (1, 4), 4),
    ] {
        let spec = FunnelSpec { exclusions: vec![excluded(3, from, to, Scope::Attempt)], ..spec.clone() };
        assert_eq!(depth(&spec, text), expected, "{text} {from} to {to}");
    }
}

#[test]
fn units_whose_window_reaches_the_watermark_are_still_open() {
    let open = |spec: &FunnelSpec, text: &str, watermark: i64| {
        ask(&FunnelSpec { watermark_us: Some(watermark), ..spec.clone() }, &stream(text)).attempts.iter().any(|attempt| attempt.still_open)
    };
    let spec = everything(&[0, 1, 2], 7 * DAY);
    assert!(open(&spec, "a@0", 4 * DAY));
    assert!(open(&spec, "a@0", 7 * DAY));
    assert!(!open(&spec, "a@0", 7 * DAY + 1));
    assert!(!open(&spec, "a@0 b@10 c@20", DAY));
    // A later attempt may get further than the one that counts so far.
    let later = format!("a@0 b@10 a@{}", 100 * DAY);
    assert!(open(&spec, &later, 101 * DAY));
    assert!(ask(&spec, &stream("a@0")).attempts.iter().all(|attempt| !attempt.still_open));
    // What has been ended cannot go on.
    let excluding = FunnelSpec { exclusions: vec![excluded(3, 1, 2, Scope::Attempt)], ..spec.clone() };
    assert!(!open(&excluding, "a@0 d@10", DAY));
    assert!(open(&excluding, "a@0 b@5 d@10", DAY));
    let strict = FunnelSpec { order: Order::Strict, ..spec.clone() };
    assert!(open(&strict, "a@0 b@10", DAY));
    assert!(!open(&strict, "a@0 b@10 z@20", DAY));
    let any = FunnelSpec { order: Order::Any, ..spec };
    assert!(open(&any, "b@0", 7 * DAY));
    assert!(!open(&any, "b@0", 7 * DAY + 1));
}

#[test]
fn twenty_steps_at_one_moment_are_done_by_twenty_events() {
    let spec = everything(&[0; 20], 0);
    let text = vec!["a@5"; 25].join(" ");
    assert_eq!(depth(&spec, &text), 20);
    assert_eq!(depth(&spec, &vec!["a@5"; 19].join(" ")), 19);
    let mut optional = spec;
    optional.steps[1..].iter_mut().for_each(|step: &mut Step| step.optional = true);
    assert_eq!(counts(&optional, &["a@5 a@5 a@5"]).iter().sum::<u64>(), 3);
}
