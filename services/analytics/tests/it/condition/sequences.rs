//! One thing after the other.

use super::*;
use segue_proto::query::v1::EventSequence;

fn sequence(steps: Vec<EventSelector>, count: u32, unit: TimeUnit) -> EventSequence {
    EventSequence { steps, within: Some(Span { count, unit: unit as i32 }), ..EventSequence::default() }
}

fn in_order(sequence: EventSequence) -> Condition {
    condition(Node::Sequence(sequence))
}

#[test]
fn the_last_step_may_come_exactly_as_long_after_the_first_as_is_said() {
    let events = [
        event("view", "2026-11-01T00:00:00Z", 1),
        event("buy", "2026-11-02T00:00:00Z", 1),
        event("view", "2026-11-01T00:00:00Z", 2),
        event("buy", "2026-11-02T00:00:00.000001Z", 2),
        event("buy", "2026-11-01T00:00:00Z", 3),
        event("view", "2026-11-01T00:00:01Z", 3),
        // At one time, in either order.
        event("buy", "2026-11-01T00:00:00Z", 4),
        event("view", "2026-11-01T00:00:00Z", 4),
    ];
    let bought = sequence(vec![on("view"), on("buy")], 1, TimeUnit::Day);
    assert_eq!(who(&events, &in_order(bought.clone())), [1, 4]);
    assert_eq!(who(&events, &not(in_order(bought.clone()))), [2, 3]);
    let recently = EventSequence { window: last(21, TimeUnit::Day), ..bought };
    assert_eq!(who(&events, &in_order(recently.clone())), [] as [u32; 0], "the first step has left the window");
    assert_eq!(who_at(&events, &in_order(recently), us("2026-11-21T23:59:59.999999Z")), [1, 4]);
}

#[test]
fn months_within_are_those_of_the_calendar() {
    let events = [
        event("view", "2026-01-31T10:00:00Z", 1),
        event("buy", "2026-02-28T23:00:00Z", 1),
        event("view", "2026-01-28T10:00:00Z", 2),
        event("buy", "2026-02-28T10:00:00.000001Z", 2),
    ];
    assert_eq!(who(&events, &in_order(sequence(vec![on("view"), on("buy")], 1, TimeUnit::Month))), [1]);
}

#[test]
fn a_forbidden_event_between_two_steps_spoils_that_attempt_alone() {
    let events = [
        event("cart", "2026-11-01T00:00:00Z", 1),
        event("remove", "2026-11-01T00:01:00Z", 1),
        event("buy", "2026-11-01T00:02:00Z", 1),
        event("cart", "2026-11-01T00:00:00Z", 2),
        event("remove", "2026-11-01T00:01:00Z", 2),
        event("cart", "2026-11-01T00:01:30Z", 2),
        event("buy", "2026-11-01T00:02:00Z", 2),
        event("cart", "2026-11-01T00:00:00Z", 3),
        event("buy", "2026-11-01T00:02:00Z", 3),
        event("remove", "2026-11-01T00:02:00Z", 3),
    ];
    let kept = EventSequence { not_between: Some(on("remove")), ..sequence(vec![on("cart"), on("buy")], 1, TimeUnit::Hour) };
    assert_eq!(who(&events, &in_order(kept)), [2, 3]);
}

#[test]
fn steps_are_distinct_events_with_filters_of_their_own() {
    let view = |time, person, page: &str| with_dimension(event("view", time, person), "page_path", page);
    let events = [
        view("2026-11-01T00:00:00Z", 1, "/a"),
        view("2026-11-01T00:01:00Z", 1, "/b"),
        view("2026-11-01T00:00:00Z", 2, "/a"),
        view("2026-11-01T00:00:00Z", 3, "/b"),
        view("2026-11-01T00:01:00Z", 3, "/a"),
    ];
    let page = |path: &str| on_filtered("view", is_in(of_dimension("page_path"), &[path]));
    assert_eq!(who(&events, &in_order(sequence(vec![page("/a"), page("/b")], 1, TimeUnit::Hour))), [1]);
    assert_eq!(who(&events, &in_order(sequence(vec![on("view"), on("view")], 1, TimeUnit::Hour))), [1, 3]);
    let anything = EventSelector::default();
    assert_eq!(who(&events, &in_order(sequence(vec![anything, page("/b")], 1, TimeUnit::Hour))), [1]);
}
