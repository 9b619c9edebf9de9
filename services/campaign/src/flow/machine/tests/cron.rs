//! Schedules, read and held against a plain search minute by minute.

use chrono::{DateTime, Datelike, TimeZone, Timelike};
use proptest::prelude::*;

use super::super::cron::Cron;
use super::*;

#[test]
fn what_is_no_schedule_says_why() {
    for (text, part) in [
        ("", "there are 0"),
        ("* * * *", "there are 4"),
        ("* * * * * *", "there are 6"),
        ("60 * * * *", "`60` is no minute"),
        ("* 24 * * *", "`24` is no hour"),
        ("* * 0 * *", "`0` is no day of the month"),
        ("* * * 13 *", "`13` is no month"),
        ("* * * * 8", "`8` is no day of the week"),
        ("* * * foo *", "`foo` is no month"),
        ("5-1 * * * *", "`5-1` is no minute"),
        ("*/0 * * * *", "`*/0` is no minute"),
        ("+5 * * * *", "`+5` is no minute"),
        ("1,,2 * * * *", "`` is no minute"),
        ("@daily * * * *", "`@daily` is no minute"),
        ("0 0 30 2 *", "would never happen"),
        ("0 0 31 4,6,9,11 *", "would never happen"),
    ] {
        let error = text.parse::<Cron>().expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    for text in ["* * * * *", "0-59/7 */3 1,15 jan-MAR,12 Sun", "0 0 31 2,3 *", "0 0 30 2 mon", "5/10 0 1 1 7"] {
        assert!(text.parse::<Cron>().is_ok(), "{text}");
    }
}

fn numbers(least: u32, most: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    prop_oneof![
        2 => Just(("*".to_owned(), (least..=most).collect::<Vec<u32>>())),
        2 => (least..=most).prop_map(|n| (n.to_string(), vec![n])),
        1 => (1..=most.min(6)).prop_map(move |step| (format!("*/{step}"), (least..=most).step_by(step as usize).collect())),
        1 => (least..=most, least..=most).prop_map(|(a, b)| {
            let (a, b) = (a.min(b), a.max(b));
            (format!("{a}-{b}"), (a..=b).collect())
        }),
        1 => (least..=most, least..=most).prop_map(|(a, b)| (format!("{a},{b}"), vec![a, b])),
    ]
}

proptest! {
    #[test]
    fn the_next_time_is_the_first_minute_whose_clock_shows_it_or_that_stands_for_one(
        minute in numbers(0, 59), hour in numbers(0, 23), day in numbers(1, 31), weekday in numbers(0, 6),
        zone in proptest::sample::select(vec!["Asia/Seoul", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        // Before the clocks are moved, and an ordinary day.
        start in proptest::sample::select(
            vec!["2026-03-27", "2026-10-23", "2026-03-06", "2026-10-30", "2026-10-02", "2026-04-03", "2026-06-01"],
        ),
        offset in 0..4_000_i64,
    ) {
        let cron: Cron = format!("{} {} {} * {}", minute.0, hour.0, day.0, weekday.0).parse().expect("a schedule");
        let zone: Tz = zone.parse().expect("a zone");
        let after = us(&format!("{start}T00:00:00Z")) + offset * 60 * SECOND;
        let stars = day.0.starts_with('*') || weekday.0.starts_with('*');
        let shows = |at: chrono::NaiveDateTime| {
            let (d, w) = (day.1.contains(&at.day()), weekday.1.contains(&at.weekday().num_days_from_sunday()));
            minute.1.contains(&at.minute()) && hour.1.contains(&at.hour()) && if stars { d && w } else { d || w }
        };
        let meant = |us: i64| {
            let local = DateTime::from_timestamp_micros(us).expect("a time").with_timezone(&zone).naive_local();
            let before = DateTime::from_timestamp_micros(us - 1).expect("a time").with_timezone(&zone).naive_local();
            // The first of two.
            let is_first = zone.from_local_datetime(&local).earliest().is_some_and(|first| first.timestamp_micros() == us);
            // Minutes that were left out right before.
            let gap = (local - before).num_minutes();
            let stands_for = (1..=gap).any(|minutes| shows(local - chrono::TimeDelta::minutes(minutes)));
            (shows(local) && is_first) || stands_for
        };
        let expected = (1..=3 * 24 * 60).map(|minutes| after + minutes * 60 * SECOND).find(|us| meant(*us));
        let found = cron.next_us(after, zone).expect("it comes again");
        match expected {
            Some(expected) => prop_assert_eq!(found, expected),
            None => prop_assert!(found > after + 3 * DAY),
        }
    }
}
