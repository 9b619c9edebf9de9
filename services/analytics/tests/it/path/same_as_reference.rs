//! On random events and random requests, the answer says what the plain reference says.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::reference::{Expected, expected, shown};
use super::who::{cell, persons};
use super::*;

const PAGES: [&str; 8] = ["/", "/?a=1", "/p/1", "/p/2/", "/p/2?x#y", "/cart", "/cart/", ""];

/// Few persons, times that often coincide, pauses around half an hour.
pub fn any_events() -> impl Strategy<Value = Vec<ResolvedEvent>> {
    let one = (
        select(&["a", "b", "c"][..]),
        1_u32..6,
        0_i64..90,
        prop::option::weighted(0.8, select(&PAGES[..])),
        prop::option::weighted(0.8, 0_i64..4),
    );
    prop::collection::vec(one, 0..60).prop_map(|all| {
        let make = |(name, person, slot, path, size): (&str, u32, i64, Option<&str>, Option<i64>)| {
            // Persons of several chunks.
            let after = slot * 10 * MINUTE;
            let person = person * 30_000;
            let mut event = path.map_or_else(|| event(name, person, after), |path| page(path, person, after));
            event.name = name.to_owned();
            match size {
                Some(size) => with_property(event, "size", Kind::IntValue(size)),
                None => event,
            }
        };
        let mut events: Vec<ResolvedEvent> = all.into_iter().map(make).collect();
        // So that the property is known.
        events.push(with_property(event("a", 9, -300 * DAY), "size", Kind::IntValue(1)));
        events
    })
}

pub fn any_request() -> impl Strategy<Value = QueryPathRequest> {
    let nodes = select(vec![None, Some(dimension("page_path")), Some(property("size")), Some(dimension("event"))]);
    let rules = subsequence(
        vec![rule("/p/1", called("one")), rule("/p/*", None), rule("/cart", Some(Then::Hide(true))), rule("b", called("a"))],
        0..4,
    );
    let anchors = || select(vec!["", "", "", "a", "b", "/", "/p/*", "/cart", "1"]);
    let numbers = (select(vec![0_u32, 2, 3, 4, 6]), 0_i32..3, 0_u32..4, select(vec![None, Some(600_i64), Some(1_800)]));
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2));
    let on = select(vec![None, Some(vec!["a"]), Some(vec!["a", "c"])]);
    (nodes, rules, (anchors(), anchors()), numbers, flags, on, 0_i64..40).prop_map(
        |(node, rules, (start, end), (nodes_max, counting, top, gap), (strip_query, strip_trailing_slash, keep_repeats), on, from)| {
            let start_us = midnight() + from * 10 * MINUTE;
            QueryPathRequest {
                range: Some(TimeRange { start: Some(timestamp(start_us)), end: Some(timestamp(start_us + 60 * 10 * MINUTE)) }),
                on: on.map(|names| EventSelector { events: names.into_iter().map(str::to_owned).collect(), filter: None }),
                session_gap: gap.map(|seconds| Duration { seconds, nanos: 0 }),
                node,
                strip_query,
                strip_trailing_slash,
                rules,
                start: start.to_owned(),
                end: end.to_owned(),
                nodes_max,
                counting,
                top,
                keep_repeats,
                among: None,
            }
        },
    )
}

pub(super) fn numbers(answer: QueryPathResponse) -> Expected {
    Expected { entrants: answer.entrants, steps: answer.steps, edges: answer.edges }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_answer_is_what_the_reference_says(events in any_events(), request in any_request()) {
        prop_assert_eq!(numbers(answer(&events, &request)), expected(&events, &request));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_persons_behind_a_number_are_those_whose_paths_it_counts(events in any_events(), request in any_request()) {
        let paths = shown(&events, &request);
        let found = answer(&events, &request);
        for edge in &found.edges {
            let at = edge.step as usize - 1;
            let leads = |names: &[String]| names.get(at) == Some(&edge.from) && names.get(at + 1) == Some(&edge.to);
            let wanted: BTreeSet<u32> = paths.iter().filter(|path| leads(&path.names)).map(|path| path.person).collect();
            let behind = persons(&events, &request, &cell(edge.step, &edge.from, &edge.to)).expect("persons");
            prop_assert_eq!(behind, wanted.into_iter().collect::<Vec<u32>>(), "{:?}", edge);
        }
        for (step, node) in found.steps.iter().flat_map(|step| step.nodes.iter().map(move |node| (step.step, node))) {
            let is_there = |names: &[String]| names.get(step as usize - 1) == Some(&node.name);
            let wanted: BTreeSet<u32> = paths.iter().filter(|path| is_there(&path.names)).map(|path| path.person).collect();
            let behind = persons(&events, &request, &cell(step, &node.name, "")).expect("persons");
            prop_assert_eq!(behind, wanted.into_iter().collect::<Vec<u32>>(), "{} {:?}", step, node);
        }
    }
}
