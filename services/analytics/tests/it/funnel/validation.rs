//! What is refused, with the path of the faulty field.

use segue_model::Code;
use segue_proto::analytics::v1::{BreakdownTouch, FunnelCounting, FunnelOrder};
use segue_proto::query::v1::{Comparison, Condition, Filter, filter};
use segue_runtime::status::ServiceError;

use super::*;

fn item_property(name: &str) -> Field {
    Field { field: Some(field::Field::ItemProperty(name.to_owned())) }
}

/// Paths of the faults, in order.
fn faults(request: &QueryFunnelRequest) -> Vec<String> {
    let mut event = with(event("a", 1, 0), "label", "x");
    event.properties.insert("list".to_owned(), Value { kind: Some(Kind::JsonValue("[]".to_owned())) });
    let error = ask(&snapshot(&[event], LATE), request).expect_err("a fault");
    assert_eq!(error.code(), Code::InvalidArgument);
    error.field_violations().into_iter().map(|violation| violation.field).collect()
}

fn breakdown(breakdown: FunnelBreakdown) -> QueryFunnelRequest {
    QueryFunnelRequest { breakdown: Some(breakdown), ..funnel(&["a", "b"], 10) }
}

fn exclusion(from_step: u32, to_step: u32) -> FunnelExclusion {
    FunnelExclusion { on: Some(on(&["x"])), from_step, to_step, scope: 0 }
}

fn optional(steps: &[&str], at: usize) -> QueryFunnelRequest {
    let mut request = funnel(steps, 10);
    request.steps[at].optional = true;
    request
}

#[test]
fn faults_are_found_at_their_fields() {
    let plain = || funnel(&["a", "b", "c"], 10);
    let unknown = || Filter {
        node: Some(filter::Node::Compare(Comparison { field: Some(dimension("nowhere")), operator: 99, ..Comparison::default() })),
    };
    let mut filtered = plain();
    filtered.steps[1].on = Some(EventSelector { events: vec![String::new()], filter: Some(unknown()) });
    let mut named = plain();
    named.steps[2].name = "n".repeat(129);
    let by = |field| breakdown(FunnelBreakdown { field: Some(field), ..FunnelBreakdown::default() });
    for (request, expected) in [
        (QueryFunnelRequest { range: None, ..plain() }, vec!["range.start", "range.end"]),
        (QueryFunnelRequest { steps: vec![], ..plain() }, vec!["steps"]),
        (funnel(&["a"; 21], 10), vec!["steps"]),
        (funnel(&["a"; 2_000], 10), vec!["steps"]),
        (filtered, vec!["steps[1].on.events[0]", "steps[1].on.filter.compare.field.dimension", "steps[1].on.filter.compare.operator"]),
        (named, vec!["steps[2].name"]),
        (QueryFunnelRequest { window: Some(seconds(-1)), ..plain() }, vec!["window"]),
        (QueryFunnelRequest { window: Some(seconds(366 * 86_400 + 1)), ..plain() }, vec!["window"]),
        (QueryFunnelRequest { order: 9, entry: 9, counting: 9, ..plain() }, vec!["order", "entry", "counting"]),
        (QueryFunnelRequest { session_gap: Some(seconds(60)), ..plain() }, vec!["session_gap"]),
        (QueryFunnelRequest { session_gap: Some(seconds(-1)), counting: FunnelCounting::Sessions as i32, ..plain() }, vec!["session_gap"]),
        (
            QueryFunnelRequest {
                exclusions: vec![exclusion(1, 1), exclusion(0, 1), exclusion(2, 4), exclusion(3, 2), exclusion(1, 3)],
                ..plain()
            },
            vec!["exclusions[0].from_step", "exclusions[1].from_step", "exclusions[2].to_step", "exclusions[3].from_step"],
        ),
        (QueryFunnelRequest { exclusions: vec![exclusion(1, 2); 11], ..plain() }, vec!["exclusions"]),
        (QueryFunnelRequest { exclusions: vec![FunnelExclusion { scope: 7, ..exclusion(1, 2) }], ..plain() }, vec!["exclusions[0].scope"]),
        (
            QueryFunnelRequest { exclusions: vec![exclusion(1, 2)], order: FunnelOrder::Any as i32, ..plain() },
            vec!["exclusions[0].from_step"],
        ),
        (optional(&["a", "b"], 0), vec!["steps[0].optional"]),
        (QueryFunnelRequest { order: FunnelOrder::Any as i32, ..optional(&["a", "b"], 1) }, vec!["steps[1].optional"]),
        (
            QueryFunnelRequest { hold_constant: vec![property("label"), property("label"), item_property("brand")], ..plain() },
            vec!["hold_constant[1]", "hold_constant[2].item_property"],
        ),
        (QueryFunnelRequest { hold_constant: vec![property("label"); 4], ..plain() }, vec!["hold_constant"]),
        (
            QueryFunnelRequest { hold_constant: vec![property("list"), property("none")], ..plain() },
            vec!["hold_constant[0]", "hold_constant[1].property"],
        ),
        (by(item_property("brand")), vec!["breakdown.field.item_property"]),
        (by(property("list")), vec!["breakdown.field"]),
        (breakdown(FunnelBreakdown::default()), vec!["breakdown.field"]),
        (
            breakdown(FunnelBreakdown { field: Some(property("label")), step: 3, top: 1_001, touch: 0 }),
            vec!["breakdown.top", "breakdown.step"],
        ),
        (
            breakdown(FunnelBreakdown { field: Some(property("label")), step: 1, top: 0, touch: BreakdownTouch::Last as i32 }),
            vec!["breakdown.step"],
        ),
        (breakdown(FunnelBreakdown { field: Some(property("label")), touch: 9, ..FunnelBreakdown::default() }), vec!["breakdown.touch"]),
        (QueryFunnelRequest { filter: Some(unknown()), ..plain() }, vec!["filter.compare.field.dimension", "filter.compare.operator"]),
        (QueryFunnelRequest { among: Some(Condition::default()), ..plain() }, vec!["among"]),
    ] {
        assert_eq!(faults(&request), expected, "{request:?}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let request = QueryFunnelRequest {
        range: None,
        order: 9,
        exclusions: vec![exclusion(2, 1)],
        hold_constant: vec![property("none")],
        breakdown: Some(FunnelBreakdown::default()),
        ..optional(&["a", "b"], 0)
    };
    let expected = [
        "range.start",
        "range.end",
        "order",
        "hold_constant[0].property",
        "breakdown.field",
        "steps[0].optional",
        "exclusions[0].from_step",
    ];
    assert_eq!(faults(&request), expected);
}

#[test]
fn the_options_of_an_answer_can_be_asked_again() {
    let names: Vec<String> = (0..6).map(|number| format!("an_event_of_20_chars{number}")).collect();
    let long = on(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let steps = vec![FunnelStep { on: Some(long), ..FunnelStep::default() }; 2];
    let snapshot = snapshot(&[event("a", 1, 0)], LATE);
    let first = ask(&snapshot, &QueryFunnelRequest { steps, ..funnel(&["a"], 10) }).expect("an answer");
    let again = ask(&snapshot, first.options.as_ref().expect("options")).expect("an answer");
    assert_eq!(again.options, first.options);
}

#[test]
fn traits_are_no_events() {
    assert_eq!(faults(&funnel(&["$traits", "a"], 10)), ["steps[0].on.events[0]"]);
}
