//! Sessions against the cases of the contract and against a plain reference.

use std::collections::HashSet;

use proptest::prelude::*;

use super::tally::median;
use super::*;

const MINUTE: i64 = 60_000_000;

#[test]
fn a_pause_of_exactly_the_gap_stays_and_a_longer_one_cuts() {
    for (times, lengths) in [
        (vec![0, 30 * MINUTE], vec![2]),
        (vec![0, 30 * MINUTE + 1], vec![1, 1]),
        (vec![0, 30 * MINUTE + 1_000_000], vec![1, 1]),
        (vec![0, 30 * MINUTE, 60 * MINUTE, 91 * MINUTE], vec![3, 1]),
        (vec![5, 5, 5], vec![3]),
        (vec![i64::MIN, i64::MAX], vec![1, 1]),
        (vec![], vec![]),
    ] {
        let found: Vec<usize> = sessions(times.clone(), GAP_DEFAULT_US).map(|session| session.events).collect();
        assert_eq!(found, lengths, "{times:?}");
    }
}

#[test]
fn figures_of_a_session_come_from_its_first_and_last_event() {
    let times = [0, 10 * MINUTE, 40 * MINUTE, 71 * MINUTE, 200 * MINUTE, 200 * MINUTE];
    let found: Vec<Session> = sessions(times, GAP_DEFAULT_US).collect();
    let figures: Vec<_> = found.iter().map(|s| (s.first, s.start_us, s.duration_us(), s.events, s.is_bounce())).collect();
    let minute = MINUTE as u64;
    assert_eq!(figures, [(0, 0, 40 * minute, 3, false), (3, 71 * MINUTE, 0, 1, true), (4, 200 * MINUTE, 0, 2, false)]);
    assert!(found[2].may_go_on(230 * MINUTE, GAP_DEFAULT_US));
    assert!(!found[2].may_go_on(230 * MINUTE + 1, GAP_DEFAULT_US));
}

#[test]
fn a_median_counts_bounces_as_zero_and_halves_between_the_middle_two() {
    for (zeros, mut values, expected) in [
        (0, vec![], None),
        (1, vec![], Some(0.0)),
        (0, vec![7], Some(7.0)),
        (1, vec![7], Some(3.5)),
        (2, vec![7], Some(0.0)),
        (2, vec![9, 7], Some(3.5)),
        (1, vec![9, 7], Some(7.0)),
        (1, vec![9, 7, 8], Some(7.5)),
        (0, vec![u64::MAX, u64::MAX], Some(u64::MAX as f64)),
    ] {
        assert_eq!(median(zeros, &mut values), expected, "{zeros} zeros and {values:?}");
    }
}

/// Every event against every earlier one: the session of an event starts at the first event that a chain of short pauses leads back to.
fn reference(times: &[i64], gap: i64) -> Vec<(i64, Vec<i64>)> {
    let mut found: Vec<(i64, Vec<i64>)> = Vec::new();
    for ts in times {
        match found.iter_mut().find(|(_, members)| members.iter().any(|member| ts - member <= gap)) {
            Some((_, members)) => members.push(*ts),
            None => found.push((*ts, vec![*ts])),
        }
    }
    found
}

proptest! {
    #[test]
    fn sessions_and_their_sums_equal_a_plain_reference(
        persons in prop::collection::vec(prop::collection::vec(0i64..60, 0..12), 0..6),
        gap in 0i64..8,
        split in 0usize..6,
        range in (0i64..40, 0i64..30),
    ) {
        let (start, end) = (range.0, range.0 + range.1);
        let mut parts = [Tally::<(bool, u8)>::default(), Tally::default()];
        let mut expected: Vec<(u32, i64, Vec<i64>)> = Vec::new();
        for (person, times) in persons.iter().enumerate() {
            let mut times = times.clone();
            times.sort_unstable();
            expected.extend(reference(&times, gap).into_iter().filter(|(at, _)| (start..end).contains(at)).map(|(at, all)| (person as u32, at, all)));
            // Only what the look-back says is read.
            times.retain(|ts| *ts >= look_back(start, gap));
            for session in sessions(times.iter().copied(), gap).filter(|session| (start..end).contains(&session.start_us)) {
                let at = session.start_us;
                let part = &mut parts[usize::from(person < split)];
                part.figures_mut((at % 2 == 0, (at % 3) as u8), (at / 10) as u32).add(person as u32, &session, session.may_go_on(45, gap));
            }
        }
        let [mut tally, other] = parts;
        tally.merge(other, |group| group);
        for (by_group, by_period) in [(true, true), (true, false), (false, true), (false, false)] {
            let keys: HashSet<Option<(bool, u32)>> = expected.iter().map(|(_, at, _)| Some((by_group && at % 2 == 0, if by_period { (at / 10) as u32 } else { 0 }))).collect();
            for (group, period) in keys.into_iter().flatten() {
                let mine: Vec<_> = expected.iter().filter(|(_, at, _)| {
                    (!by_group || (at % 2 == 0) == group) && (!by_period || (at / 10) as u32 == period)
                }).collect();
                let mut figures = Figures::default();
                for ((even, _), at, part) in tally.cells() {
                    if (!by_group || *even == group) && (!by_period || at == period) {
                        figures.merge(part);
                    }
                }
                let mut durations: Vec<i64> = mine.iter().map(|(_, at, all)| all.iter().max().unwrap_or(at) - at).collect();
                durations.sort_unstable();
                let n = durations.len();
                let summary = figures.summary();
                prop_assert_eq!(summary.sessions, n as u64);
                prop_assert_eq!(summary.persons, mine.iter().map(|(person, ..)| person).collect::<HashSet<_>>().len() as u64);
                prop_assert_eq!(summary.events, mine.iter().map(|(_, _, all)| all.len() as u64).sum::<u64>());
                prop_assert_eq!(summary.bounces, mine.iter().filter(|(_, _, all)| all.len() == 1).count() as u64);
                prop_assert_eq!(summary.still_open, mine.iter().filter(|(_, _, all)| all.iter().any(|ts| ts + gap >= 45)).count() as u64);
                prop_assert_eq!(summary.duration_us, durations.iter().sum::<i64>() as u128);
                prop_assert_eq!(summary.median_us, Some((durations[(n - 1) / 2] + durations[n / 2]) as f64 / 2.0));
            }
        }
    }
}
