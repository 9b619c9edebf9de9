//! Funnels.

use segue_proto::analytics::v1::{
    BreakdownTouch, ExclusionScope, FunnelBreakdown, FunnelCounting, FunnelEntry, FunnelExclusion, FunnelGroup, FunnelOrder, FunnelStep,
    QueryFunnelRequest, QueryFunnelResponse,
};
use segue_proto::query::v1::Filter;
use segue_tests::events::dimension;

use super::case::Question::{Depths, Funnel};
use super::case::{Case, case, joined};
use super::words::{is, length, on, on_filtered, property, span};
use super::{group_key, now_less};

/// These steps in order, in this window.
fn steps(names: &str, window: &str) -> QueryFunnelRequest {
    let steps = names.split_whitespace().map(|name| FunnelStep { on: Some(on(name)), ..Default::default() });
    QueryFunnelRequest { steps: steps.collect(), window: length(window), ..Default::default() }
}

fn strict(names: &str) -> QueryFunnelRequest {
    QueryFunnelRequest { order: FunnelOrder::Strict.into(), ..steps(names, "1h") }
}

fn any(names: &str, window: &str) -> QueryFunnelRequest {
    QueryFunnelRequest { order: FunnelOrder::Any.into(), ..steps(names, window) }
}

fn without(request: QueryFunnelRequest, name: &str, from_step: u32, to_step: u32, scope: ExclusionScope) -> QueryFunnelRequest {
    let exclusion = FunnelExclusion { on: Some(on(name)), from_step, to_step, scope: scope.into() };
    QueryFunnelRequest { exclusions: vec![exclusion], ..request }
}

fn held(request: QueryFunnelRequest, names: &str) -> QueryFunnelRequest {
    QueryFunnelRequest { hold_constant: names.split_whitespace().map(property).collect(), ..request }
}

fn by(touch: BreakdownTouch, step: u32, top: u32) -> QueryFunnelRequest {
    let breakdown = FunnelBreakdown { field: Some(property("route")), touch: touch.into(), step, top };
    QueryFunnelRequest { breakdown: Some(breakdown), ..steps("a b", "100s") }
}

fn counted(request: QueryFunnelRequest, counting: FunnelCounting) -> QueryFunnelRequest {
    QueryFunnelRequest { counting: counting.into(), ..request }
}

/// `3 3 2`: how many reached each step.
fn counts(answer: &QueryFunnelResponse) -> String {
    answer.total.as_ref().map(of_group).unwrap_or_default()
}

fn of_group(group: &FunnelGroup) -> String {
    joined(&group.steps.iter().map(|step| step.count).collect::<Vec<_>>())
}

/// How many can still go on from each step.
fn open(answer: &QueryFunnelResponse) -> String {
    joined(&answer.total.iter().flat_map(|total| &total.steps).map(|step| step.still_open).collect::<Vec<_>>())
}

/// `2: mean 6000 s, median 7200 s; …`: from the step before.
fn times(answer: &QueryFunnelResponse) -> String {
    let steps = answer.total.iter().flat_map(|total| &total.steps).zip(1..);
    let shown = steps.filter_map(|(step, number)| {
        let time = step.time_from_previous.as_ref()?;
        let in_all: u64 = time.distribution.iter().map(|bucket| bucket.count).sum();
        Some(format!("{number}: mean {} s, median {} s of {in_all}", time.mean_seconds, time.median_seconds))
    });
    shown.collect::<Vec<_>>().join("; ")
}

fn groups(answer: &QueryFunnelResponse) -> String {
    let shown = answer.groups.iter().map(|group| format!("{}: {}", group_key(group.key.as_ref()), of_group(group)));
    shown.collect::<Vec<_>>().join("; ")
}

pub fn cases() -> Vec<Case> {
    [order_of_steps(), windows_and_exclusions(), options()].into_iter().flatten().collect()
}

fn order_of_steps() -> Vec<Case> {
    let (e, spi, abc) = ("e1003 e1004 e1005 e1006 e1007", "signup pageview insight", "a b c");
    vec![
        case("depths in order and strictly in order", &["a b c", "a d b c", "a a b b c c"])
            .asks(Depths(steps(abc, "1h")), "3 3 3")
            .asks(Depths(strict(abc)), "3 1 2"),
        case("the wrong way round", &["c c b b a a", "a c b"]).asks(Depths(steps(abc, "1h")), "1 2").asks(Depths(strict(abc)), "1 1"),
        case("the window is inclusive", &["e1003@3 e1004@4 e1005@5 e1006@6 e1007@7"])
            .asks(Depths(steps(e, "2s")), "3")
            .asks(Depths(steps(e, "3s")), "4")
            .asks(Depths(steps(e, "4s")), "5"),
        case("one event never fills two steps", &["x"]).asks(Depths(steps("x x x", "1h")), "1"),
        case("neighbours among all events", &["blah signup pageview insight blah", "pageview signup blah pageview insight"])
            .asks(Depths(strict(spi)), "3 1"),
        case("events of equal time in either order", &["A@2 B@2", "B@2 A@2"]).asks(Depths(steps("A B", "1h")), "2 2"),
        case("events of equal time stand strictly as the log has them", &["a@2 b@2 c@2", "c@2 b@2 a@2", "a@1 c@2 b@2"])
            .asks(Depths(strict(abc)), "3 1 1"),
        case("one step three times", &["A@1 A@2 A@2"]).asks(Depths(steps("A A A", "1h")), "3"),
        case("a step twice needs two events", &["A B"]).asks(Depths(steps("A A B", "1h")), "1"),
        case("any order", &["c@1 a@2 b@3"]).asks(Depths(any(abc, "1h")), "3").asks(Depths(any(abc, "1s")), "2"),
        case("any order counts how many are done", &["c a b", "b", "z"]).asks(Funnel(any(abc, "1h"), counts), "2 1 1"),
        case("twenty steps", &["a@5 ".repeat(25).as_str(), "a@5 ".repeat(19).as_str()]).asks(Depths(steps(&"a ".repeat(20), "0")), "20 19"),
    ]
}

fn windows_and_exclusions() -> Vec<Case> {
    let day = || steps("signup paid", "1d");
    vec![
        case(
            "an exclusion ends the attempt or removes the person",
            &["signup@1h paid@2h", "signup@3h x@3h30m paid@4h", "signup@5h x@6h", "signup@0 x@25h"],
        )
        .asks(Funnel(without(day(), "x", 1, 2, ExclusionScope::Attempt), counts), "4 1")
        .asks(Funnel(without(day(), "x", 1, 2, ExclusionScope::Person), counts), "2 1"),
        case("a second try counts", &["s@0 x@10 s@20 p@30"])
            .asks(Depths(without(steps("s p", "1h"), "x", 1, 2, ExclusionScope::Attempt)), "2"),
        case("an exclusion between later steps", &["a b x c", "a x b c", "a b c x"])
            .asks(Depths(without(steps("a b c", "1h"), "x", 2, 3, ExclusionScope::Attempt)), "2 3 3"),
        case("converts at the end of the window and not after it", &["s@0 p@300", "s@0 p@300s1us"])
            .asks(Depths(steps("s p", "300s")), "2 1"),
        case("attempts start in the range and may end after it", &["a@9 b@15", "a@10 b@15", "a@19 b@119", "a@19 b@120", "a@20 b@25"])
            .asks(Depths(QueryFunnelRequest { range: span("10", "20"), ..steps("a b", "100s") }), "0 2 2 1 0"),
        case("time to convert", &["signup@12h play@13h buy@15h", "signup@14h play@16h", "signup@14h play@16h buy@17h"])
            .asks(Funnel(steps("signup play buy", "1d"), counts), "3 3 2")
            .asks(Funnel(steps("signup play buy", "1d"), times), "2: mean 6000 s, median 7200 s of 3; 3: mean 5400 s, median 5400 s of 2"),
        case("the deepest attempt or the first one", &["A@1h A@1h30m B@1h45m C@2h15m"])
            .asks(Depths(steps("A B C", "1h")), "3")
            .asks(Depths(QueryFunnelRequest { entry: FunnelEntry::First.into(), ..steps("A B C", "1h") }), "2"),
        case("a window that is open at the watermark", &["still-a@6d", "still-a@0", "still-a@6d still-b@6d1h"])
            .at(now_less("10d"))
            .asks(Funnel(steps("still-a still-b", "7d"), counts), "3 1")
            .asks(Funnel(steps("still-a still-b", "7d"), open), "1 0"),
    ]
}

fn options() -> Vec<Case> {
    let holding = || steps("view add purchase", "1h");
    let mut optional = steps("a b c", "1h");
    optional.steps[1].optional = true;
    let mut several = steps("a b", "1h");
    several.steps[1].on = Some(on_filtered("b c", is(property("route"), "ads mail")));
    let of = |route: &str| -> Option<Filter> { Some(is(property("route"), route)) };
    let sessions = |gap| QueryFunnelRequest { session_gap: gap, ..counted(steps("a b", "1h"), FunnelCounting::Sessions) };
    vec![
        case(
            "held properties are the same in all steps",
            &[
                "view{product=p1} add{product=p1} purchase{product=p2}",
                "view add{product=p1}",
                "view{product=p1,plan=x} add{product=p1,plan=y}",
            ],
        )
        .asks(Depths(holding()), "3 2 2")
        .asks(Depths(held(holding(), "product")), "2 0 2")
        .asks(Depths(held(holding(), "product plan")), "0 0 1")
        .asks(Depths(held(holding(), "product plan route")), "0 0 0"),
        case(
            "groups have the value at a step, the first or the last of the attempt",
            &["a{route=ads} b{route=mail}", "a{route=ads}", "a{route=mail} b", "a b{route=push}", "a{route=}"],
        )
        .asks(Funnel(by(BreakdownTouch::Unspecified, 0, 0), groups), "ads: 2 1; ∅: 1 1; : 1 0; mail: 1 1")
        .asks(Funnel(by(BreakdownTouch::Step, 2, 0), groups), "∅: 3 1; mail: 1 1; push: 1 1")
        .asks(Funnel(by(BreakdownTouch::First, 0, 0), groups), "ads: 2 1; : 1 0; mail: 1 1; push: 1 1")
        .asks(Funnel(by(BreakdownTouch::Last, 0, 0), groups), "mail: 2 2; : 1 0; ads: 1 0; push: 1 1")
        .asks(Funnel(by(BreakdownTouch::Step, 1, 1), groups), "ads: 2 1; …: 3 2"),
        case("each session once", &["a@0 b@30", "a@0 b@31", "a@0 z@20 b@40", "a@0 b@10 a@100 a@120 b@130 a@500"])
            .asks(Funnel(sessions(length("30s")), counts), "6 4")
            .asks(Funnel(sessions(None), counts), "4 4"),
        case("attempts do not overlap", &["a@0 b@10 a@20 b@30", "a@0 a@10 b@20 b@30", "a@0 a@100 a@101"])
            .asks(Funnel(counted(steps("a b", "100s"), FunnelCounting::Totals), counts), "5 3"),
        case("a step may be left out", &["a b c", "a c", "a b", "a c b"]).asks(Funnel(optional, counts), "4 2 3"),
        case("a step is one or more events with a filter", &["a b{route=ads}", "a c{route=mail}", "a c{route=push}", "a b"])
            .asks(Depths(several), "2 2 1 1"),
        case("strictly in order, events that the filter keeps out are not there", &["a{route=in} z{route=out} b{route=in}"])
            .asks(Depths(strict("a b")), "1")
            .asks(Depths(QueryFunnelRequest { filter: of("in"), ..strict("a b") }), "2"),
        case("options come back as they were used", &["a b"]).asks(
            Funnel(
                QueryFunnelRequest {
                    breakdown: Some(FunnelBreakdown { field: Some(dimension("platform")), ..Default::default() }),
                    window: None,
                    ..steps("a b", "0")
                },
                options_used,
            ),
            "window 604800 s, ordered, deepest, persons, at step 1, top 20",
        ),
    ]
}

fn options_used(answer: &QueryFunnelResponse) -> String {
    let Some(options) = &answer.options else { return String::new() };
    let window = options.window.map_or(0, |window| window.seconds);
    let named = (options.order(), options.entry(), options.counting());
    let known = named == (FunnelOrder::Ordered, FunnelEntry::Deepest, FunnelCounting::Persons);
    let breakdown = options.breakdown.clone().unwrap_or_default();
    let names = if known { "ordered, deepest, persons".to_owned() } else { format!("{named:?}") };
    format!("window {window} s, {names}, at step {}, top {}", breakdown.step, breakdown.top)
}
