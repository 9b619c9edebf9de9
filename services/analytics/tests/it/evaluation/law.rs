//! Random conditions on random events: the same as `SelectPersons`, and nothing changes between edges.

use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use segue_proto::query::v1::TimeUnit;

use super::*;
use crate::condition::same_as_reference::{PERSONS, any_condition, any_event, any_now, knows_all};
use crate::condition::{behavior, did, event, last, us};

pub const ZONES: [Tz; 4] = [Tz::UTC, chrono_tz::Europe::Berlin, chrono_tz::Asia::Seoul, chrono_tz::Australia::Lord_Howe];

fn snapshot(events: &[segue_proto::events::v1::ResolvedEvent]) -> Snapshot {
    Snapshot::of_events(&"shop".parse().expect("a tenant id"), us("2027-01-01T00:00:00Z"), events).expect("a snapshot")
}

/// Which condition, on whom, when and in which zone.
fn any_asked() -> impl Strategy<Value = (usize, Vec<u32>, bool, usize, usize)> {
    (0_usize..5, subsequence(PERSONS.to_vec(), 0..8), prop::bool::weighted(0.2), 0_usize..2, 0_usize..2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_item_is_what_select_persons_says(
        events in prop::collection::vec(any_event(), 0..60),
        conditions in prop::collection::vec(any_condition(), 5),
        asked in prop::collection::vec(any_asked(), 0..12),
        moments in [any_now(), any_now()],
        zones in [select(&ZONES[..]), select(&ZONES[..])],
    ) {
        let mut events = events;
        events.push(knows_all());
        let snapshot = snapshot(&events);
        let items: Vec<EvaluationItem> = asked
            .iter()
            .map(|(condition, persons, everyone, moment, zone)| {
                let condition = &conditions[*condition];
                let item = if *everyone { of_everyone(condition) } else { item(condition, persons) };
                EvaluationItem { as_of_us: moments[*moment], time_zone: zones[*zone].name().to_owned(), ..item }
            })
            .collect();
        let answer = run(&snapshot, &of(items.clone())).expect("an answer");
        let wanted: Vec<Vec<u32>> = items.iter().map(|item| selected(&snapshot, item)).collect();
        prop_assert_eq!(met(&answer), wanted, "{:#?}", conditions);
        prop_assert!(answer.items.iter().all(|item| item.survivors.is_empty()));
    }

    #[test]
    fn nobody_changes_between_edges(
        events in prop::collection::vec(any_event(), 0..60),
        conditions in prop::collection::vec(any_condition(), 4),
        (one, two) in (any_now(), any_now()),
        zone in select(&ZONES[..]),
    ) {
        let mut events = events;
        events.push(knows_all());
        let snapshot = snapshot(&events);
        for condition in &conditions {
            check_law(&snapshot, condition, zone, (one.min(two), one.max(two)));
        }
    }

    #[test]
    fn edges_of_some_are_those_of_everybody_that_are_theirs(
        events in prop::collection::vec(any_event(), 0..60),
        conditions in prop::collection::vec(any_condition(), 3),
        asked in prop::collection::vec((0_usize..3, subsequence(PERSONS.to_vec(), 0..8)), 1..6),
        (after, until) in (any_now(), any_now()),
    ) {
        let mut events = events;
        events.push(knows_all());
        let snapshot = snapshot(&events);
        let with_edges = |item: EvaluationItem| EvaluationItem { edges_until_us: until, edges_after_us: after, ..item };
        let mut items: Vec<EvaluationItem> = asked.iter().map(|(condition, persons)| with_edges(item(&conditions[*condition], persons))).collect();
        items.extend(asked.iter().map(|(condition, _)| EvaluationItem { edges_of_everyone: true, ..with_edges(item(&conditions[*condition], &[])) }));
        let answer = run(&snapshot, &of(items)).expect("an answer");
        let (of_some, of_all) = answer.items.split_at(asked.len());
        for (((_, persons), of_some), of_all) in asked.iter().zip(of_some).zip(of_all) {
            let wanted: Vec<(i64, u32)> = edges(of_all).into_iter().filter(|(_, person)| persons.contains(person)).collect();
            prop_assert_eq!(edges(of_some), wanted);
            prop_assert_eq!((of_some.edges_until_us, of_all.edges_until_us), (until, until));
            prop_assert!(set(&of_all.met).is_empty());
        }
    }
}

#[test]
fn an_event_enters_at_its_time_and_leaves_after_the_window() {
    let hour = 3_600_000_000;
    let (done, now) = (us("2026-11-01T00:00:00Z"), us("2026-11-01T06:00:00Z"));
    let events = [event("a", "2026-11-01T00:00:00Z", 1), event("a", "2026-11-02T00:00:00Z", 2), event("b", "2026-11-01T12:00:00Z", 3)];
    let snapshot = snapshot(&events);
    let recent = did(segue_proto::query::v1::Behavior { window: last(12, TimeUnit::Hour), ..behavior("a") });
    let asked = EvaluationItem { as_of_us: now, edges_until_us: now + 48 * hour, ..of_everyone(&recent) };
    let answer = run(&snapshot, &of(vec![asked.clone(), EvaluationItem { edges_until_us: now, ..asked.clone() }])).expect("an answer");
    let wanted = [(done + 12 * hour, 1), (done + 24 * hour, 2), (done + 36 * hour, 2)];
    assert_eq!((set(&answer.items[0].met), edges(&answer.items[0])), (vec![1], wanted.to_vec()));
    assert_eq!((edges(&answer.items[1]), answer.items[1].edges_until_us), (vec![], now));
    // The first as it is, each further one as the difference.
    assert_eq!(answer.items[0].edge_times_us, [done + 12 * hour, 12 * hour, 12 * hour]);
}

#[test]
fn many_edges_are_cut_between_moments() {
    let events: Vec<_> = (0..250_000_u32)
        .map(|number| {
            // Twelve persons at each moment of the first stretch, then very many at once.
            let time_us = us("2026-11-01T00:00:00Z") + i64::from(number.min(150_000) / 12);
            segue_proto::events::v1::ResolvedEvent { person: number + 1, time_us, ..event("a", "2026-11-01T00:00:00Z", 1) }
        })
        .collect();
    let snapshot = snapshot(&events);
    let start = us("2026-11-01T00:00:00Z") - 1;
    let ever = did(behavior("a"));
    let ask = |after: i64| {
        let until = us("2026-12-01T00:00:00Z");
        let item = EvaluationItem { edges_of_everyone: true, edges_after_us: after, edges_until_us: until, ..item(&ever, &[]) };
        run(&snapshot, &of(vec![item])).expect("an answer").items.remove(0)
    };
    let first = ask(start);
    assert_eq!((first.edge_persons.len(), first.edges_until_us), (150_000, start + 12_500));
    let second = ask(first.edges_until_us);
    assert_eq!((second.edge_persons.len(), second.edges_until_us), (100_000, us("2026-12-01T00:00:00Z")));

    // One moment alone has too many: all of it.
    let crowd: Vec<_> = (0..210_000_u32).map(|number| event("a", if number < 5 { NOW_LATER } else { NOW }, number + 1)).collect();
    let snapshot = Snapshot::of_events(&"shop".parse().expect("a tenant id"), us("2027-01-01T00:00:00Z"), &crowd).expect("a snapshot");
    let item = EvaluationItem { as_of_us: start, edges_until_us: us("2026-12-01T00:00:00Z"), ..of_everyone(&ever) };
    let answer = run(&snapshot, &of(vec![item])).expect("an answer").items.remove(0);
    assert_eq!((answer.edge_persons.len(), answer.edges_until_us), (209_995, us(NOW_LATER) - 1));
}

const NOW: &str = "2026-11-05T00:00:00Z";
const NOW_LATER: &str = "2026-11-06T00:00:00Z";
