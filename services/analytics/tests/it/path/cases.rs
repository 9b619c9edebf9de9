//! What the numbers mean, case by case.

use segue_analytics::question::QueryLimits;
use segue_model::Code;
use segue_proto::query::v1::{Comparison, Filter, Operator, filter};
use segue_runtime::status::ServiceError;

use super::*;
use crate::events::did;

/// Pages of person 1, each so many minutes after midnight.
fn walk(pages: &[(&str, i64)]) -> Vec<ResolvedEvent> {
    pages.iter().map(|(path, minute)| page(path, 1, minute * MINUTE)).collect()
}

/// The same, one a minute.
fn minutes(pages: &[&str]) -> Vec<ResolvedEvent> {
    pages.iter().zip(0..).map(|(path, minute)| page(path, 1, minute * MINUTE)).collect()
}

#[test]
fn edges_are_indexed_by_step_and_carry_the_mean_time() {
    let events = walk(&[("/1", 0), ("/2", 1), ("/3", 3), ("/4", 6)]);
    let found = answer(&events, &QueryPathRequest { nodes_max: 4, ..by_page() });
    assert_eq!(edges(&found), "1:/1→/2 (1, 60 s); 2:/2→/3 (1, 120 s); 3:/3→/4 (1, 180 s)");
    assert_eq!(steps(&found), "1:/1 1; 2:/2 1; 3:/3 1; 4:/4 1");
    assert_eq!(found.entrants, 1);
}

#[test]
fn two_sessions_of_one_person_are_two_paths_and_one_person() {
    let day = |day: i64| (1..4).map(move |at| page(&format!("/{at}"), 1, day * DAY + at * MINUTE));
    let events: Vec<ResolvedEvent> = day(0).chain(day(1)).collect();
    let by_session = QueryPathRequest { nodes_max: 3, ..by_page() };
    let found = answer(&events, &by_session);
    assert_eq!((edges(&found).as_str(), found.entrants), ("1:/1→/2 (2, 60 s); 2:/2→/3 (2, 60 s)", 2));
    let found = answer(&events, &QueryPathRequest { counting: PathCounting::Persons as i32, ..by_session });
    assert_eq!((edges(&found).as_str(), found.entrants), ("1:/1→/2 (1, 60 s); 2:/2→/3 (1, 60 s)", 1));
    assert_eq!(steps(&found), "1:/1 1; 2:/2 1; 3:/3 1");
}

#[test]
fn a_path_with_both_anchors_keeps_its_beginning_and_its_end() {
    let request = QueryPathRequest { start: "/2".to_owned(), end: "/about".to_owned(), nodes_max: 4, ..by_page() };
    let found = answer(&minutes(&["/1", "/2", "/3", "/4", "/5", "/about"]), &request);
    assert_eq!(edges(&found), "1:/2→/3 (1, 60 s); 2:/3→... (1, 60 s); 3:...→/5 (1, 60 s); 4:/5→/about (1, 60 s)");
    assert_eq!(steps(&found), "1:/2 1; 2:/3 1; 3:... 1; 4:/5 1; 5:/about 1");
}

#[test]
fn a_session_breaks_where_the_pause_is_longer_than_the_gap_and_not_where_it_is_as_long() {
    let pause = |us: i64| vec![page("/a", 1, 0), page("/b", 1, 30 * MINUTE + us)];
    assert_eq!(edges(&answer(&pause(0), &by_page())), "1:/a→/b (1, 1800 s); 2:/b→$exit (1)");
    assert_eq!(edges(&answer(&pause(1), &by_page())), "1:/a→$exit (1); 1:/b→$exit (1)");
    let shorter = QueryPathRequest { session_gap: Some(Duration { seconds: 60, nanos: 0 }), ..by_page() };
    assert_eq!(edges(&answer(&walk(&[("/a", 0), ("/b", 1), ("/c", 3)]), &shorter)), "1:/a→/b (1, 60 s); 1:/c→$exit (1); 2:/b→$exit (1)");
}

#[test]
fn what_is_not_shown_and_what_ends_add_up_to_the_entrants() {
    let mut events = Vec::new();
    for person in 1..=10 {
        events.push(event("a", person, 0));
        match person {
            1..=5 => events.push(event("b", person, MINUTE)),
            6..=8 => events.push(event("c", person, MINUTE)),
            _ => {}
        }
    }
    let request = QueryPathRequest { top: 1, nodes_max: 2, ..november() };
    let found = answer(&events, &request);
    assert_eq!(edges(&found), "1:a→b (5, 60 s); 1:a→$other (3, 60 s); 1:a→$exit (2)");
    assert_eq!(steps(&found), "1:a 10; 2:b 5, $other 3");
}

#[test]
fn start_cuts_to_its_first_visit_and_after_and_end_to_its_first_visit_and_before() {
    let events = minutes(&["/1", "/s", "/2", "/s", "/e", "/3", "/e"]);
    let from = QueryPathRequest { start: "/s".to_owned(), ..by_page() };
    assert_eq!(edges(&answer(&events, &from)), "1:/s→/2 (1, 60 s); 2:/2→/s (1, 60 s); 3:/s→/e (1, 60 s); 4:/e→/3 (1, 60 s)");
    let to = QueryPathRequest { end: "/e".to_owned(), nodes_max: 3, ..by_page() };
    assert_eq!(edges(&answer(&events, &to)), "1:/2→/s (1, 60 s); 2:/s→/e (1, 60 s)");
    // The end is looked for behind the start.
    let both = QueryPathRequest { start: "/e".to_owned(), end: "/e".to_owned(), ..by_page() };
    assert_eq!(edges(&answer(&events, &both)), "1:/e→$exit (1)");
    for (start, end) in [("/none", ""), ("", "/none"), ("/none", "/e"), ("/3", "/s")] {
        let request = QueryPathRequest { start: start.to_owned(), end: end.to_owned(), ..by_page() };
        let found = answer(&events, &request);
        assert_eq!((edges(&found).as_str(), found.entrants), ("", 0), "{start} {end}");
    }
}

#[test]
fn equal_neighbours_are_one_node_with_the_last_time_unless_repeats_are_kept() {
    let events = minutes(&["/a", "/b", "/b", "/b", "/c"]);
    let request = QueryPathRequest { nodes_max: 3, ..by_page() };
    assert_eq!(edges(&answer(&events, &request)), "1:/a→/b (1, 180 s); 2:/b→/c (1, 60 s)");
    let kept = QueryPathRequest { keep_repeats: true, ..request };
    assert_eq!(edges(&answer(&events, &kept)), "1:/a→/b (1, 60 s); 2:/b→/b (1, 60 s)");
}

#[test]
fn events_without_a_node_are_hidden_but_hold_a_session_together() {
    let events = [page("/a", 1, 0), event("df_login", 1, 25 * MINUTE), page("/b", 1, 50 * MINUTE)];
    assert_eq!(edges(&answer(&events, &by_page())), "1:/a→/b (1, 3000 s); 2:/b→$exit (1)");
    // Of what `on` does not select, sessions know nothing.
    let on = EventSelector { events: vec!["df_view_page".to_owned()], filter: None };
    assert_eq!(edges(&answer(&events, &QueryPathRequest { on: Some(on), ..by_page() })), "1:/a→$exit (1); 1:/b→$exit (1)");
}

#[test]
fn pages_become_nodes_by_the_first_rule_that_matches() {
    let pages = ["/?utm_source=x", "/product/1?color=red", "/product/2/", "/health", "/cart/", "/cart#top", "/Cart"];
    let rules = vec![
        rule("/health*", Some(Then::Hide(true))),
        rule("/", called("home")),
        rule("/product/*", None),
        rule("/product/1", called("never")),
        rule("/c*", Some(Then::Hide(false))),
    ];
    let request = QueryPathRequest { strip_query: true, strip_trailing_slash: true, rules, ..by_page() };
    let found = answer(&minutes(&pages), &request);
    assert_eq!(edges(&found), "1:home→/product/* (1, 120 s); 2:/product/*→/c* (1, 180 s); 3:/c*→/Cart (1, 60 s); 4:/Cart→$exit (1)");
    // Anchors are names of nodes.
    let found = answer(&minutes(&pages), &QueryPathRequest { start: "/product/*".to_owned(), end: "/c*".to_owned(), ..request });
    assert_eq!(edges(&found), "1:/product/*→/c* (1, 180 s); 2:/c*→$exit (1)");
}

#[test]
fn event_names_take_rules_too_and_several_may_be_one_node() {
    let events = [event("a1", 1, 0), event("a2", 1, MINUTE), event("b", 1, 2 * MINUTE), event("noise", 1, 3 * MINUTE)];
    let rules = vec![rule("a*", called("any a")), rule("noise", Some(Then::Hide(true)))];
    let found = answer(&events, &QueryPathRequest { rules, nodes_max: 3, ..november() });
    assert_eq!(edges(&found), "1:any a→b (1, 60 s); 2:b→$exit (1)");
}

#[test]
fn values_of_every_type_are_nodes() {
    let kinds = [
        (Kind::StringValue(String::new()), "(empty)"),
        (Kind::IntValue(-5), "-5"),
        (Kind::DecimalE4Value(125_000), "12.5000"),
        (Kind::DoubleValue(0.25), "0.25"),
        (Kind::BoolValue(true), "true"),
        (Kind::TimestampValue(timestamp(us("2026-11-10T12:00:00Z"))), "2026-11-10T12:00:00Z"),
    ];
    for (kind, name) in kinds {
        let events = [with_property(event("x", 1, 0), "value", kind.clone()), event("x", 1, MINUTE)];
        let found = answer(&events, &QueryPathRequest { node: Some(property("value")), ..november() });
        assert_eq!(edges(&found), format!("1:{name}→$exit (1)"), "{kind:?}");
    }
    // Known by the taxonomy, but nobody sent it.
    let found = answer(&[event("x", 1, 0)], &QueryPathRequest { node: Some(property("df_keyword")), ..november() });
    assert_eq!((found.entrants, edges(&found).as_str()), (0, ""));
}

#[test]
fn only_selected_events_of_the_range_take_part() {
    let of_size = |size: i64, name: &str, after: i64| with_property(event(name, 1, after), "size", Kind::IntValue(size));
    let events =
        [of_size(1, "early", -1), of_size(1, "a", 0), of_size(2, "b", MINUTE), of_size(1, "c", 2 * MINUTE), of_size(1, "late", DAY)];
    let range = TimeRange { start: Some(timestamp(midnight())), end: Some(timestamp(midnight() + DAY)) };
    let request = QueryPathRequest { range: Some(range), ..november() };
    assert_eq!(edges(&answer(&events, &request)), "1:a→b (1, 60 s); 2:b→c (1, 60 s); 3:c→$exit (1)");
    let small = Comparison {
        field: Some(property("size")),
        operator: Operator::Less as i32,
        values: vec![Value { kind: Some(Kind::IntValue(2)) }],
        ..Comparison::default()
    };
    let filter = Some(Filter { node: Some(filter::Node::Compare(small)) });
    let on = EventSelector { events: vec!["a".to_owned(), "b".to_owned(), "c".to_owned(), "late".to_owned()], filter };
    let found = answer(&events, &QueryPathRequest { on: Some(on.clone()), ..request });
    assert_eq!(edges(&found), "1:a→c (1, 120 s); 2:c→$exit (1)");
    assert_eq!(found.options.and_then(|options| options.on), Some(on));
}

#[test]
fn events_of_one_moment_are_in_the_order_in_which_they_came() {
    // Also where the names, and so the runs that hold the events, say otherwise.
    for names in [["a", "b", "c"], ["c", "a", "b"], ["b", "c", "a"]] {
        let mut events: Vec<ResolvedEvent> = names.iter().map(|name| event(name, 1, 0)).collect();
        // Enough persons of whom it has to be found out.
        events.extend((2..40).flat_map(|person| names.map(|name| event(name, person, 0))));
        let [one, two, three] = names;
        let found = answer(&events, &QueryPathRequest { nodes_max: 3, ..november() });
        assert_eq!(edges(&found), format!("1:{one}→{two} (39, 0 s); 2:{two}→{three} (39, 0 s)"));
    }
}

#[test]
fn persons_are_distinct_in_every_number() {
    // Person 1 went on to b, c and d in three sessions, person 2 to b in two.
    let session = |person, day: i64, to: &str| [event("a", person, day * DAY), event(to, person, day * DAY + MINUTE)];
    let events = [session(1, 0, "b"), session(1, 1, "c"), session(1, 2, "d"), session(2, 0, "b"), session(2, 1, "b")].concat();
    let request = QueryPathRequest { counting: PathCounting::Persons as i32, nodes_max: 2, top: 1, ..november() };
    let found = answer(&events, &request);
    assert_eq!(edges(&found), "1:a→b (2, 60 s); 1:a→$other (1, 60 s)");
    assert_eq!((steps(&found).as_str(), found.entrants), ("1:a 2; 2:b 2, $other 1", 2));
}

#[test]
fn numbers_stand_by_value_and_then_by_name() {
    let events: Vec<ResolvedEvent> = ["y", "x", "z", "z", "w"].iter().zip(1..).map(|(name, person)| event(name, person, 0)).collect();
    let found = answer(&events, &QueryPathRequest { top: 2, ..november() });
    assert_eq!(steps(&found), "1:z 2, w 1, $other 2");
    assert_eq!(edges(&found), "1:$other→$exit (2); 1:z→$exit (2); 1:w→$exit (1)");
}

#[test]
fn options_come_back_complete() {
    let on = EventSelector { events: vec!["Order Completed".to_owned()], filter: None };
    let request = QueryPathRequest { on: Some(on), ..november() };
    let found = answer(&[event("df_purchase", 1, 0)], &request);
    let expected = QueryPathRequest {
        on: Some(EventSelector { events: vec!["df_purchase".to_owned()], filter: None }),
        session_gap: Some(Duration { seconds: 1800, nanos: 0 }),
        node: Some(dimension("event")),
        nodes_max: 5,
        counting: PathCounting::Sessions as i32,
        top: 10,
        ..november()
    };
    assert_eq!(found.options.as_ref(), Some(&expected));
    assert_eq!(found.watermark, Some(timestamp(us(WATERMARK))));
    assert_eq!(found.stats.map(|stats| (stats.rows_scanned, stats.tail_rows, stats.files)), Some((1, 1, 0)));
    assert!(!found.persons_token.is_empty());
    // What came back asks the same.
    let again = answer(&[event("df_purchase", 1, 0)], &expected);
    assert_eq!((again.persons_token, again.edges), (found.persons_token, found.edges));
}

#[test]
fn many_nodes_are_ranked_and_too_many_are_refused() {
    let many = |count: i64| -> Vec<ResolvedEvent> {
        (0..count).flat_map(|at| [page(&format!("/{}", at % 4_000), at as u32 + 1, at), page("/end", at as u32 + 1, at + MINUTE)]).collect()
    };
    let found = answer(&many(6_000), &QueryPathRequest { top: 1, nodes_max: 2, ..by_page() });
    assert_eq!(edges(&found), "1:$other→/end (5998, 60 s); 1:/0→/end (2, 60 s)");
    let endless: Vec<ResolvedEvent> = (0..100_001).map(|at| page(&format!("/{at}"), 1, at)).collect();
    let error = run(&endless, &by_page()).expect_err("too many");
    assert_eq!((error.code(), error.reason()), (Code::ResourceExhausted, "TOO_MANY_NODES"));
    let grouped = QueryPathRequest { rules: vec![rule("*", None)], ..by_page() };
    assert_eq!(edges(&answer(&endless, &grouped)), "1:*→$exit (1)");
}

#[test]
fn an_answer_does_not_depend_on_threads_or_memory() {
    let events: Vec<ResolvedEvent> = (0..900)
        .map(|at: i64| event(["a", "b", "c", "d"][(at * at % 7 % 4) as usize], (at % 30 * 9_000) as u32 + 1, at * MINUTE))
        .collect();
    let request = QueryPathRequest { top: 2, ..november() };
    let expected = answer(&events, &request);
    for (threads, hits_bytes_max) in [(1, 1 << 30), (3, 1 << 30), (2, 2_000)] {
        let limits = QueryLimits { threads, hits_bytes_max, ..QueryLimits::default() };
        let found = in_context(&snapshot(&events), limits, |context| path::query(context, &request)).expect("an answer");
        assert_eq!((found.steps, found.edges), (expected.steps.clone(), expected.edges.clone()));
    }
}

#[test]
fn only_paths_of_persons_who_meet_the_condition_are_counted() {
    let mut events = walk(&[("/a", 0), ("/b", 1)]);
    events.extend([page("/a", 2, 0), page("/c", 2, MINUTE), event("vip", 2, -DAY)]);
    let found = |among| edges(&answer(&events, &QueryPathRequest { among, ..by_page() }));
    assert_eq!(found(Some(did("vip"))), "1:/a→/c (1, 60 s); 2:/c→$exit (1)");
    assert_eq!(found(Some(did("nothing"))), "");
}
