//! Windows at their boundaries, in zones that change their clocks; sequences against trying every choice of events.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::Hit;

const SEOUL: Tz = chrono_tz::Asia::Seoul;
const BERLIN: Tz = chrono_tz::Europe::Berlin;

fn us(text: &str) -> i64 {
    text.parse::<DateTime<Utc>>().expect("a time").timestamp_micros()
}

#[test]
fn fixed_windows_are_open_at_their_begin_and_closed_at_now() {
    let window = Window::Last(Span::Fixed(7 * 86_400_000_000));
    let opened = us("2026-03-01T09:00:00Z");
    let counts = |now: i64| {
        let (from, to) = window.bounds(now, SEOUL);
        from <= opened && opened < to
    };
    let leaves = window.leaves_at(opened, SEOUL).expect("it leaves");
    assert_eq!(leaves, us("2026-03-08T09:00:00Z"));
    assert_eq!([opened - 1, opened, leaves - 1, leaves].map(counts), [false, true, true, false]);
}

#[test]
fn absolute_windows_end_with_their_end_or_with_now() {
    let window = Window::Absolute(10, 20);
    assert_eq!(window.bounds(15, SEOUL), (10, 16));
    assert_eq!(window.bounds(30, SEOUL), (10, 20));
    assert_eq!(window.bounds(5, SEOUL), (10, 6));
    assert_eq!(window.leaves_at(12, SEOUL), None);
    assert_eq!(Window::Ever.bounds(i64::MAX, SEOUL), (i64::MIN, i64::MAX));
}

#[test]
fn months_go_back_by_the_calendar_of_the_zone() {
    for (zone, months, now, begin) in [
        (Tz::UTC, 3, "2026-05-28T10:00:00Z", "2026-02-28T10:00:00Z"),
        // February has no 29th to 31st: its last moment.
        (Tz::UTC, 3, "2026-05-29T00:00:00Z", "2026-02-28T23:59:59.999999Z"),
        (Tz::UTC, 3, "2026-05-31T10:00:00Z", "2026-02-28T23:59:59.999999Z"),
        (Tz::UTC, 3, "2024-05-29T10:00:00Z", "2024-02-29T10:00:00Z"),
        (Tz::UTC, 3, "2026-06-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        // 00:30 on 1 March in Seoul is still February in UTC.
        (SEOUL, 1, "2026-03-31T15:30:00Z", "2026-02-28T15:30:00Z"),
        (SEOUL, 1, "2026-02-28T15:30:00Z", "2026-01-31T15:30:00Z"),
        (SEOUL, 12, "2026-02-28T15:30:00Z", "2025-02-28T15:30:00Z"),
        // Berlin sets its clock forward on 29 March 2026: 02:30 is skipped, the window begins right before 03:00.
        (BERLIN, 1, "2026-04-29T00:30:00Z", "2026-03-29T00:59:59.999999Z"),
        (BERLIN, 1, "2026-04-29T01:00:00Z", "2026-03-29T01:00:00Z"),
        // And back on 25 October: 02:30 comes twice, and the begin waits through the second hour.
        (BERLIN, 1, "2026-10-25T00:30:00Z", "2026-09-25T00:30:00Z"),
        (BERLIN, 1, "2026-10-25T01:00:00Z", "2026-09-25T00:59:59.999999Z"),
        (BERLIN, 1, "2026-10-25T01:59:59Z", "2026-09-25T00:59:59.999999Z"),
        (BERLIN, 1, "2026-10-25T02:00:00Z", "2026-09-25T01:00:00Z"),
        // A time that came twice in the month before: its first pass.
        (BERLIN, 1, "2026-11-25T01:30:00Z", "2026-10-25T00:30:00Z"),
        (BERLIN, 1, "2026-11-25T02:00:00Z", "2026-10-25T02:00:00Z"),
    ] {
        let found = Span::Months(months).before(us(now), zone);
        assert_eq!(DateTime::from_timestamp_micros(found), DateTime::from_timestamp_micros(us(begin)), "{months} before {now} in {zone}");
    }
}

#[test]
fn events_leave_month_windows_at_the_moment_that_the_begin_reaches_them() {
    for (zone, months, event, leaves) in [
        (Tz::UTC, 3, "2026-02-28T10:00:00Z", "2026-05-28T10:00:00Z"),
        (Tz::UTC, 3, "2026-02-28T23:59:59.999999Z", "2026-05-28T23:59:59.999999Z"),
        (Tz::UTC, 3, "2026-03-01T00:00:00Z", "2026-06-01T00:00:00Z"),
        // 31 January + 1 month: February ends first.
        (Tz::UTC, 1, "2026-01-31T10:00:00Z", "2026-03-01T00:00:00Z"),
        (Tz::UTC, 1, "2026-01-29T10:00:00Z", "2026-03-01T00:00:00Z"),
        // 02:30 is skipped on 29 March.
        (BERLIN, 3, "2025-12-29T01:30:00Z", "2026-03-29T01:00:00Z"),
        (BERLIN, 1, "2026-09-25T01:00:00Z", "2026-10-25T02:00:00Z"),
        (BERLIN, 1, "2026-10-25T01:30:00Z", "2026-11-25T01:59:59.999999Z"),
    ] {
        let found = Window::Last(Span::Months(months)).leaves_at(us(event), zone);
        assert_eq!(found.and_then(DateTime::from_timestamp_micros), DateTime::from_timestamp_micros(us(leaves)), "{event} in {zone}");
    }
}

#[test]
fn the_calendar_may_end() {
    // Before there were zones, Seoul was 8:27:52 ahead.
    assert_eq!(Span::Months(100_000).before(us("2026-01-01T00:00:00Z"), SEOUL), us("-6308-09-01T00:32:08Z"));
    assert_eq!(Span::Months(u32::MAX).before(0, SEOUL), i64::MIN);
    assert_eq!(Span::Fixed(i64::MAX).before(-5, SEOUL), i64::MIN);
    assert_eq!(Span::Fixed(i64::MAX).after(5, SEOUL), None);
}

#[test]
fn days_are_those_of_the_zone() {
    let mut days = Days::new(SEOUL);
    let [one, same, next] = ["2026-01-31T15:00:00Z", "2026-02-01T14:59:59.999999Z", "2026-02-01T15:00:00Z"].map(|at| days.number(us(at)));
    assert_eq!((same, next), (one, one + 1));
    // Back to a day before the one that was looked up last.
    assert_eq!(days.number(us("2026-01-31T14:59:59.999999Z")), one - 1);
    assert_eq!(days.number(i64::MAX), i32::MIN);
}

#[test]
fn buckets_are_stable_and_even() {
    // The formula is part of the contract: these must never change.
    let mut holdout = Buckets::new("holdout");
    assert_eq!([1, 2, 3, 4_000_000_000].map(|person| holdout.bucket(person)), [2_206, 3_268, 1_701, 8_131]);
    let mut tenths = [0_u32; 10];
    let mut split = Buckets::new("split");
    for person in 1..=100_000 {
        tenths[(split.bucket(person) / 1_000) as usize] += 1;
    }
    // Ten thousand expected in each; five standard deviations are 474.
    assert!(tenths.iter().all(|tenth| tenth.abs_diff(10_000) < 474), "{tenths:?}");
    let (mut a, mut b) = (Buckets::new("a"), Buckets::new("b"));
    let both = (1..=100_000).filter(|person| a.bucket(*person) < 5_000 && b.bucket(*person) < 5_000).count();
    assert!(both.abs_diff(25_000) < 685, "salts draw independently: {both}");
}

/// Hits from a text: `ab` at one moment are one event that matches both, `a+b` are two events.
fn hits(moments: &[(i64, &str)]) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (ts, events) in moments {
        for event in events.split('+') {
            let matches = event.bytes().fold(0, |bits, letter| bits | 1 << (letter - b'a'));
            hits.push(Hit { ts: *ts, sequence: hits.len() as u64, matches, payload: () });
        }
    }
    hits
}

#[test]
fn sequences_follow_their_rules() {
    // Steps a, b; c must not come between. Within 10.
    for (moments, latest, why) in [
        (vec![(0, "a"), (10, "b")], Some(0), "the bound is inclusive"),
        (vec![(0, "a"), (11, "b")], None, "too late"),
        (vec![(0, "b"), (1, "a")], None, "the wrong way round"),
        (vec![(0, "b+a")], Some(0), "events of equal time count in either order"),
        (vec![(0, "ab")], None, "one event is not two"),
        (vec![(0, "ab+a")], Some(0), "the other event is the first step"),
        (vec![(0, "ab"), (3, "ab")], Some(0), "two events that could be either"),
        (vec![(0, "a"), (1, "c"), (2, "b")], None, "c came between"),
        (vec![(0, "a"), (1, "c"), (2, "a"), (3, "b")], Some(2), "a later attempt is free of c"),
        (vec![(0, "a"), (2, "c+b")], Some(0), "c at the time of b is not between"),
        (vec![(0, "a+c"), (2, "b")], Some(0), "c at the time of a is not between"),
        (vec![(0, "a"), (2, "cb"), (3, "b")], Some(0), "an event may be a step and forbidden between others"),
        (vec![(0, "ac"), (2, "ac"), (3, "b")], Some(2), "c ends the first attempt and begins the second"),
        (vec![(0, "a"), (4, "a"), (9, "b"), (20, "a")], Some(4), "the latest begin that got through"),
        (vec![(0, "a"), (4, "b"), (20, "a"), (40, "b")], Some(0), "a failed attempt does not hide an earlier one"),
    ] {
        assert_eq!(latest_sequence(&hits(&moments), 2, |t| t - 10), latest, "{why}: {moments:?}");
    }
    assert_eq!(latest_sequence(&hits(&[(0, "c+ab+a")]), 3, |t| t), Some(0), "three steps at one moment");
    assert_eq!(latest_sequence(&hits(&[(0, "ab+abc")]), 3, |t| t), None, "two events are not three steps");
    assert_eq!(latest_sequence(&[], 2, |t| t), None);
}

/// Tries every choice of distinct events.
fn naive(hits: &[Hit], steps: usize, within: i64) -> Option<i64> {
    fn go(hits: &[Hit], steps: usize, within: i64, chosen: &mut Vec<usize>) -> Option<i64> {
        if chosen.len() == steps {
            let (first, last) = (hits[chosen[0]].ts, hits[chosen[steps - 1]].ts);
            let forbidden = |pair: &[usize]| hits.iter().any(|hit| hit.is(steps) && hits[pair[0]].ts < hit.ts && hit.ts < hits[pair[1]].ts);
            return (last - first <= within && !chosen.windows(2).any(forbidden)).then_some(first);
        }
        let mut latest = None;
        for at in 0..hits.len() {
            let in_order = chosen.last().is_none_or(|before| hits[*before].ts <= hits[at].ts);
            if hits[at].is(chosen.len()) && in_order && !chosen.contains(&at) {
                chosen.push(at);
                latest = latest.max(go(hits, steps, within, chosen));
                chosen.pop();
            }
        }
        latest
    }
    go(hits, steps, within, &mut Vec::new())
}

fn zones() -> impl Strategy<Value = Tz> {
    use chrono_tz::{America::Sao_Paulo, Australia::Lord_Howe, Pacific::Apia};
    // Lord Howe changes by half an hour; Apia skipped a whole day in 2011.
    prop::sample::select(vec![Tz::UTC, SEOUL, BERLIN, Sao_Paulo, Lord_Howe, Apia])
}

proptest! {
    #[test]
    fn sequences_equal_trying_every_choice(
        events in prop::collection::vec((0_i64..8, 0_u32..16), 0..8),
        steps in 2_usize..=3,
        within in 0_i64..8,
    ) {
        let mut events = events;
        events.sort_by_key(|(ts, _)| *ts);
        let hits: Vec<Hit> =
            events.iter().zip(0..).map(|((ts, matches), sequence)| Hit { ts: *ts, sequence, matches: *matches, payload: () }).collect();
        let latest = latest_sequence(&hits, steps, |t| t - within);
        prop_assert_eq!(latest, naive(&hits, steps, within));
        for begin in 0..8 {
            let found = sequence_from(&hits, steps, begin, |t| t - within);
            prop_assert!(found.is_some() || latest != Some(begin), "there is one that began at {}", begin);
            prop_assert!(found.is_none() || latest >= Some(begin), "none began at {} or later", begin);
            let Some(places) = found else { continue };
            // Taken by themselves, with whatever is forbidden, the events are such a sequence.
            let chosen: Vec<Hit> = places.iter().map(|place| hits[*place]).collect();
            prop_assert_eq!(chosen.len(), steps);
            prop_assert!(chosen.is_sorted_by_key(|hit| hit.ts) && chosen[0].ts == begin && chosen[steps - 1].ts - begin <= within);
            prop_assert!(chosen.iter().enumerate().all(|(step, hit)| hit.is(step)));
            prop_assert_eq!(places.iter().collect::<std::collections::BTreeSet<_>>().len(), steps, "distinct events");
            let forbidden = |pair: &[Hit]| hits.iter().any(|hit| hit.is(steps) && pair[0].ts < hit.ts && hit.ts < pair[1].ts);
            prop_assert!(!chosen.windows(2).any(forbidden));
        }
    }

    #[test]
    fn an_event_is_in_a_month_window_until_it_leaves_and_never_again(
        zone in zones(),
        months in 1_u32..30,
        // 2005 to 2027.
        event in 1_104_537_600_i64..1_800_000_000,
        near in -7_200_000_000_i64..7_200_000_000,
        far in 0_i64..200_000_000_000_000,
    ) {
        let event = event * 1_000_000 + 123_456;
        let window = Window::Last(Span::Months(months));
        let leaves = window.leaves_at(event, zone).expect("within the calendar");
        prop_assert!(leaves > event);
        for now in [event, event + far, leaves - 1, leaves, leaves + 1, leaves + near, leaves + far] {
            let (from, to) = window.bounds(now, zone);
            prop_assert_eq!(from <= event && event < to, event <= now && now < leaves, "now {}", now);
        }
    }

    #[test]
    fn the_begin_of_a_window_never_goes_back(zone in zones(), months in 1_u32..30, at in 1_104_537_600_i64..1_800_000_000, step in 1_i64..200_000) {
        let (one, two) = (at * 1_000_000, (at + step) * 1_000_000);
        prop_assert!(Span::Months(months).before(one, zone) <= Span::Months(months).before(two, zone));
        prop_assert!(Span::Months(months).before(one, zone) < one);
    }
}
