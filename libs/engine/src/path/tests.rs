//! Paths: the contract's cases as a table, and the tally against the plain reference.

use proptest::prelude::*;

use super::*;
use crate::Hit;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

fn rules(nodes_max: u32) -> Rules {
    Rules { session_gap_us: 30 * MINUTE as u64, nodes_max, start: None, end: None, keep_repeats: false, counting: Counting::Sessions }
}

/// Asks the question over persons, each given as (time, code); half of them in a tally of their own.
fn ask(rules: Rules, nodes: u32, top: usize, persons: &[Vec<(i64, u32)>]) -> Paths {
    ask_question(Question::new(rules, nodes, top), persons).0
}

fn ask_question(mut question: Question, persons: &[Vec<(i64, u32)>]) -> (Paths, usize) {
    for passes in 1.. {
        let (mut tally, mut other) = (question.tally(), question.tally());
        for (number, person) in persons.iter().enumerate() {
            let hits: Vec<Hit<u32>> =
                person.iter().zip(0..).map(|((ts, payload), sequence)| Hit { ts: *ts, sequence, matches: 1, payload: *payload }).collect();
            if number % 2 == 0 { tally.person(&hits) } else { other.person(&hits) }
        }
        tally.merge(other);
        if let Some(paths) = question.take(tally, |a, b| a.cmp(&b)) {
            return (paths, passes);
        }
    }
    unreachable!("a question ends")
}

/// An edge in short: `1:0→1 (2, 60 s)`.
fn show(paths: &Paths) -> String {
    let node = |node: Node| match node {
        Node::Is(code) => code.to_string(),
        Node::Cut => "...".to_owned(),
        Node::Other => "$other".to_owned(),
        Node::Exit => "$exit".to_owned(),
    };
    let edges = paths.edges.iter().map(|edge| {
        let seconds = edge.time_us / u128::from(edge.sessions) / SECOND as u128;
        format!("{}:{}→{} ({}, {seconds} s)", edge.step, node(edge.from), node(edge.to), edge.value())
    });
    edges.collect::<Vec<String>>().join("; ")
}

#[test]
fn the_cases_of_the_contract_hold() {
    let seconds = |hits: &[(i64, u32)]| hits.iter().map(|(ts, node)| (ts * SECOND, *node)).collect::<Vec<_>>();
    // /1@0 /2@1m /3@3m /4@6m
    let walk = vec![seconds(&[(0, 1), (60, 2), (180, 3), (360, 4)])];
    assert_eq!(show(&ask(rules(4), 5, 10, &walk)), "1:1→2 (1, 60 s); 2:2→3 (1, 120 s); 3:3→4 (1, 180 s)");

    // One user, /1 /2 /3 on two days.
    let day = |day: i64| [(day * DAY, 1), (day * DAY + MINUTE, 2), (day * DAY + 2 * MINUTE, 3)];
    let days = vec![[day(0), day(1)].concat()];
    assert_eq!(show(&ask(rules(3), 4, 10, &days)), "1:1→2 (2, 60 s); 2:2→3 (2, 60 s)");
    let by_profile = Rules { counting: Counting::Profiles, ..rules(3) };
    assert_eq!(show(&ask(by_profile, 4, 10, &days)), "1:1→2 (1, 60 s); 2:2→3 (1, 60 s)");

    // /1 /2 /3 /4 /5 /about, start /2, end /about, N = 4
    let about = vec![seconds(&[(0, 1), (60, 2), (120, 3), (180, 4), (240, 5), (300, 0)])];
    let both = Rules { start: Some(2), end: Some(0), ..rules(4) };
    assert_eq!(show(&ask(both, 6, 10, &about)), "1:2→3 (1, 60 s); 2:3→... (1, 60 s); 3:...→5 (1, 60 s); 4:5→0 (1, 60 s)");

    // A gap of exactly 30 min; of 30 min and one second.
    let gap = |seconds| vec![vec![(0, 0), (30 * MINUTE + seconds * SECOND, 1)]];
    assert_eq!(show(&ask(rules(2), 2, 10, &gap(0))), "1:0→1 (1, 1800 s)");
    assert_eq!(show(&ask(rules(2), 2, 10, &gap(1))), "1:0→$exit (1, 0 s); 1:1→$exit (1, 0 s)");

    // a→b 5, a→c 3, a ends 2, top 1
    let [a, b, c] = [0, 1, 2];
    let mut persons = vec![seconds(&[(0, a), (60, b)]); 5];
    persons.extend(vec![seconds(&[(0, a), (60, c)]); 3]);
    persons.extend(vec![seconds(&[(0, a)]); 2]);
    assert_eq!(show(&ask(rules(2), 3, 1, &persons)), "1:0→1 (5, 60 s); 1:0→$other (3, 60 s); 1:0→$exit (2, 0 s)");
}

#[test]
fn what_the_contract_leaves_open_is_as_documented() {
    let anchored = |nodes_max, start, end| Rules { start, end, ..rules(nodes_max) };
    let (x, y) = (8, 9);
    // (rules, nodes of one session at one per minute, its edges)
    let cases: &[(Rules, &[u32], &str)] = &[
        // Equal neighbours are one, and keep the last time, also when they lie at the limit.
        (rules(5), &[0, 0, 1, 1, 1, 2], "1:0→1 (1, 180 s); 2:1→2 (1, 60 s); 3:2→$exit (1, 0 s)"),
        (rules(2), &[0, 1, 1, 2, 1], "1:0→1 (1, 120 s)"),
        // Hidden hits are gone before that.
        (rules(5), &[0, HIDDEN, 0, HIDDEN, 1, HIDDEN], "1:0→1 (1, 120 s); 2:1→$exit (1, 0 s)"),
        (rules(5), &[HIDDEN, HIDDEN], ""),
        (rules(2), &[], ""),
        // Nothing is said about what follows the last column.
        (rules(3), &[0, 1, 2, 3], "1:0→1 (1, 60 s); 2:1→2 (1, 60 s)"),
        (rules(3), &[0, 1, 2], "1:0→1 (1, 60 s); 2:1→2 (1, 60 s)"),
        (rules(3), &[0, 1], "1:0→1 (1, 60 s); 2:1→$exit (1, 0 s)"),
        // The first visit of an anchor counts.
        (anchored(5, Some(x), None), &[0, x, 1, x, 2], "1:8→1 (1, 60 s); 2:1→8 (1, 60 s); 3:8→2 (1, 60 s); 4:2→$exit (1, 0 s)"),
        (anchored(5, None, Some(y)), &[0, y, 1, y], "1:0→9 (1, 60 s); 2:9→$exit (1, 0 s)"),
        (anchored(5, None, Some(y)), &[0, y, y, 1], "1:0→9 (1, 120 s); 2:9→$exit (1, 0 s)"),
        // The end is looked for behind the start.
        (anchored(5, Some(x), Some(y)), &[y, x, 0, y, 1], "1:8→0 (1, 60 s); 2:0→9 (1, 60 s); 3:9→$exit (1, 0 s)"),
        (anchored(5, Some(x), Some(x)), &[0, x, 1, x], "1:8→$exit (1, 0 s)"),
        // Without its anchors a session takes no part.
        (anchored(5, Some(x), None), &[0, 1, 2], ""),
        (anchored(5, None, Some(y)), &[0, 1, 2], ""),
        (anchored(5, Some(x), Some(y)), &[y, 0, x], ""),
        (anchored(5, Some(x), Some(y)), &[0, y], ""),
        (anchored(5, Some(HIDDEN), None), &[0, HIDDEN, 1], ""),
        // With an end alone the last visits stay.
        (anchored(3, None, Some(y)), &[0, 1, 2, y], "1:1→2 (1, 60 s); 2:2→9 (1, 60 s)"),
        // With both: an odd limit leaves a place for the cut, an even one adds a column.
        (anchored(5, Some(x), Some(y)), &[x, 0, 1, 2, y], "1:8→0 (1, 60 s); 2:0→1 (1, 60 s); 3:1→2 (1, 60 s); 4:2→9 (1, 60 s)"),
        (anchored(5, Some(x), Some(y)), &[x, 0, 1, 2, 3, y], "1:8→0 (1, 60 s); 2:0→... (1, 60 s); 3:...→3 (1, 120 s); 4:3→9 (1, 60 s)"),
        (anchored(2, Some(x), Some(y)), &[x, 0, 1, y], "1:8→... (1, 60 s); 2:...→9 (1, 120 s)"),
        (anchored(2, Some(x), Some(y)), &[x, y], "1:8→9 (1, 60 s); 2:9→$exit (1, 0 s)"),
        (anchored(3, Some(x), Some(y)), &[x, 0, 1, y], "1:8→... (1, 60 s); 2:...→9 (1, 120 s)"),
    ];
    for (rules, nodes, expected) in cases {
        let person: Vec<(i64, u32)> = nodes.iter().zip(0..).map(|(node, minute)| (minute * MINUTE, *node)).collect();
        assert_eq!(&show(&ask(*rules, 10, 10, &[person])), expected, "{rules:?} {nodes:?}");
    }
}

#[test]
fn hidden_events_keep_a_session_together_and_break_it_too() {
    let tally = |hits: &[(i64, u32)]| show(&ask(rules(2), 2, 10, &[hits.to_vec()]));
    let minutes = |hits: &[(i64, u32)]| hits.iter().map(|(minute, node)| (minute * MINUTE, *node)).collect::<Vec<_>>();
    assert_eq!(tally(&minutes(&[(0, 0), (25, HIDDEN), (50, 1)])), "1:0→1 (1, 3000 s)");
    assert_eq!(tally(&minutes(&[(0, 0), (31, HIDDEN), (32, 1)])), "1:0→$exit (1, 0 s); 1:1→$exit (1, 0 s)");
    // The same node on both sides of a break is two sessions.
    assert_eq!(tally(&minutes(&[(0, 0), (31, HIDDEN), (32, 0)])), "1:0→$exit (2, 0 s)");
}

#[test]
fn a_profile_counts_once_per_edge_also_among_what_is_not_shown() {
    let [a, b, c, d] = [0, 1, 2, 3];
    let session = |day: i64, to: u32| [(day * DAY, a), (day * DAY + MINUTE, to)];
    // One person went to c and to d, which are not shown: it is one person there.
    let persons = [vec![session(0, b)], vec![session(0, b)], vec![session(0, c), session(1, d)], vec![session(0, b), session(1, b)]];
    let persons: Vec<Vec<(i64, u32)>> = persons.iter().map(|sessions| sessions.concat()).collect();
    let rules = Rules { counting: Counting::Profiles, ..rules(2) };
    let (paths, passes) = ask_question(Question::new(rules, 4, 1), &persons);
    assert_eq!(show(&paths), "1:0→1 (3, 60 s); 1:0→$other (1, 60 s)");
    assert_eq!((paths.sessions, paths.profiles, passes), (6, Some(4), 2));
    let (_, passes) = ask_question(Question::new(rules, 4, 3), &persons);
    assert_eq!(passes, 1, "nothing is merged");
}

#[test]
fn a_question_over_many_nodes_ranks_them_first() {
    let persons: Vec<Vec<(i64, u32)>> = (0..2000).map(|node| vec![(0, node % 500), (MINUTE, 3 * node % 7)]).collect();
    // As many as there might ever be: only those that occur take room.
    let (paths, passes) = ask_question(Question::new(rules(3), 1 << 30, 2), &persons);
    assert_eq!(passes, 2);
    let expected = reference::answer(&rules(3), 1 << 30, 2, &persons);
    assert_eq!((paths.entrants, paths.edges), (expected.entrants, expected.edges));
}

#[test]
fn sums_of_time_pass_64_bits() {
    let long = i64::MAX / 2;
    let rules = Rules { session_gap_us: u64::MAX, ..rules(2) };
    let persons = vec![vec![(-long, 0), (long, 1)]; 7];
    assert_eq!(ask(rules, 2, 2, &persons).edges[0].time_us, 7 * 2 * long as u128);
}

#[test]
fn packed_hits_come_apart_as_they_were() {
    let pack = |us: u64, node: u64| us << 5 | node;
    let keys = [pack(0, 0), pack(1, 31), pack((1 << 58) - 1, 7)];
    let hits: Vec<(i64, u32)> = Packed { keys: &keys, bits: 5 }.hits().collect();
    assert_eq!(hits, [(0, 0), (1, 31), ((1 << 58) - 1, 7)]);

    let ambiguous = |keys: &[u64]| Packed { keys, bits: 5 }.is_ambiguous(6);
    assert!(ambiguous(&[pack(0, 5), pack(1, 3), pack(1, 4)]));
    assert!(ambiguous(&[pack(1, 3), pack(1, 4), pack(1, 6)]));
    assert!(!ambiguous(&[pack(0, 5), pack(1, 3), pack(1, 3), pack(2, 0)]), "the same node twice");
    assert!(!ambiguous(&[pack(1, 3), pack(1, 6), pack(1, 31)]), "the others are hidden");
    let mut tally = Question::new(rules(2), 6, 3).tally();
    assert!(!tally.person_packed(Packed { keys: &[pack(1, 3), pack(1, 4)], bits: 5 }));
    assert!(tally.person_packed(Packed { keys: &[pack(1, 3), pack(2, 4)], bits: 5 }));
}

#[test]
fn repeats_are_kept_on_request() {
    let keep = |start| Rules { keep_repeats: true, start, ..rules(4) };
    let person = vec![vec![(0, 0), (MINUTE, 1), (2 * MINUTE, 1), (3 * MINUTE, 0)]];
    assert_eq!(show(&ask(keep(None), 2, 9, &person)), "1:0→1 (1, 60 s); 2:1→1 (1, 60 s); 3:1→0 (1, 60 s)");
    assert_eq!(show(&ask(keep(Some(1)), 2, 9, &person)), "1:1→1 (1, 60 s); 2:1→0 (1, 60 s); 3:0→$exit (1, 0 s)");
}

#[test]
fn equally_frequent_nodes_stand_in_the_order_given() {
    let persons = vec![vec![(0, 0)], vec![(0, 1)], vec![(0, 2)], vec![(0, 2)]];
    let mut question = Question::new(rules(2), 3, 2);
    let mut tally = question.tally();
    for person in &persons {
        tally.person(&person.iter().map(|(ts, payload)| Hit { ts: *ts, sequence: 0, matches: 1, payload: *payload }).collect::<Vec<_>>());
    }
    let paths = question.take(tally, |a, b| b.cmp(&a)).expect("one pass");
    let nodes: Vec<Node> = paths.entrants.iter().map(|entrants| entrants.node).collect();
    assert_eq!(nodes, [Node::Is(2), Node::Is(1), Node::Other]);
}

#[test]
fn a_path_is_shown_as_its_edges_say() {
    let rules = Rules { start: Some(0), end: Some(3), ..rules(2) };
    let person = |middle: &[u32]| {
        let nodes = [&[0], middle, &[3]].concat();
        nodes.into_iter().zip(0..).map(|(node, second)| (second * SECOND, node)).collect::<Vec<(i64, u32)>>()
    };
    let persons = vec![person(&[1]), person(&[]), person(&[2, 1])];
    let paths = ask(rules, 4, 1, &persons);
    let mut walk = Walk::new(rules, 4);
    let mut shown = Vec::new();
    for person in &persons {
        walk.person(person.iter().copied(), |path| {
            shown.push((1..).zip(path).map(|(step, visit)| paths.top.shown_as(step, visit)).collect::<Vec<_>>());
        });
    }
    let (start, end) = (Node::Is(0), Node::Is(3));
    assert_eq!(shown, [vec![start, Node::Cut, end], vec![start, end], vec![start, Node::Cut, end]]);
    let other = Visit { node: 2, ts: 0 };
    assert_eq!(paths.top.shown_as(2, &other), Node::Other);
}

/// A few nodes, some of them hidden, gaps around the limit.
fn persons() -> impl Strategy<Value = Vec<Vec<(i64, u32)>>> {
    let gap = prop_oneof![4 => 0..5i64, 1 => 9..12i64];
    let node = prop_oneof![8 => 0..6u32, 1 => Just(HIDDEN), 1 => Just(6u32)];
    let person = prop::collection::vec((gap, node), 0..24).prop_map(|steps| {
        let mut ts = -50;
        let mut hit = |(gap, node)| {
            ts += gap;
            (ts, node)
        };
        steps.into_iter().map(&mut hit).collect()
    });
    prop::collection::vec(person, 0..12)
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let anchor = || prop_oneof![Just(None), (0..6u32).prop_map(Some)];
    let counting = prop_oneof![Just(Counting::Sessions), Just(Counting::Profiles)];
    (2..7u32, anchor(), anchor(), counting, prop::bool::weighted(0.2)).prop_map(|(nodes_max, start, end, counting, keep_repeats)| Rules {
        session_gap_us: 10,
        nodes_max,
        start,
        end,
        keep_repeats,
        counting,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_tally_is_what_the_reference_says(rules in any_rules(), top in 0..7usize, persons in persons(), many in any::<bool>()) {
        // Enough nodes that they have to be ranked first; those behind the sixth do not occur, except that 6 is not hidden then.
        let nodes = if many { 400 } else { 6 };
        let expected = reference::answer(&rules, nodes, top, &persons);
        let paths = ask(rules, nodes, top, &persons);
        prop_assert_eq!(paths.sessions, expected.sessions);
        prop_assert_eq!(paths.profiles, expected.profiles);
        prop_assert_eq!(&paths.entrants, &expected.entrants);
        prop_assert_eq!(&paths.edges, &expected.edges);
        if rules.counting == Counting::Sessions {
            for node in paths.entrants.iter().filter(|node| node.step < rules.columns()) {
                let left: u64 = paths.edges.iter().filter(|edge| (edge.step, edge.from) == (node.step, node.node)).map(|edge| edge.sessions).sum();
                prop_assert_eq!(left, node.sessions, "what enters {:?} leaves it", node);
            }
        }
    }

    #[test]
    fn packed_hits_give_the_same_tally(rules in any_rules(), persons in persons()) {
        let order = |a: u32, b: u32| a.cmp(&b);
        let (mut plain, mut packed) = (Question::new(rules, 6, 3), Question::new(rules, 6, 3));
        loop {
            let (mut hits, mut keys) = (plain.tally(), packed.tally());
            for person in &persons {
                let person: Vec<Hit<u32>> =
                    person.iter().map(|(ts, payload)| Hit { ts: *ts, sequence: 0, matches: 1, payload: *payload }).collect();
                hits.person(&person);
                let mut packed: Vec<u64> = person.iter().map(|hit| ((hit.ts + 50) as u64) << 3 | u64::from(hit.payload.min(7))).collect();
                packed.sort_unstable();
                if !keys.person_packed(Packed { keys: &packed, bits: 3 }) {
                    keys.person(&person);
                }
            }
            match (plain.take(hits, order), packed.take(keys, order)) {
                (Some(plain), Some(packed)) => {
                    prop_assert_eq!(plain, packed);
                    break;
                }
                (plain, packed) => prop_assert!(plain.is_none() && packed.is_none()),
            }
        }
    }

    #[test]
    fn a_walk_gives_the_paths_of_the_reference(rules in any_rules(), persons in persons()) {
        let mut walk = Walk::new(rules, 6);
        for person in &persons {
            let mut paths = Vec::new();
            walk.person(person.iter().copied(), |path| {
                let node = |code| if code == 6 { Node::Cut } else { Node::Is(code) };
                paths.push(path.iter().map(|visit| (node(visit.node), visit.ts)).collect::<Vec<_>>());
            });
            prop_assert_eq!(paths, reference::paths_of(&rules, 6, person));
        }
    }
}
