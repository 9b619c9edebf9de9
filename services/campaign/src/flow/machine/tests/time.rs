//! Waits across clock changes and calendars.

use segue_proto::campaign::v1::{LocalTime, TraitDate};

use super::*;

fn until(time: &str, days: &[u32]) -> Compiled {
    let local = LocalTime { time: time.to_owned(), days_of_week: days.to_vec() };
    compiled(&by_call(vec![wait("w", Wait::UntilLocalTime(local), "")]))
}

/// Until when a run that gets there now waits; None: not at all.
fn due(scenario: &Compiled, person: &Profile, now: &str) -> Option<i64> {
    let mut run = run_at(us(now));
    assert_eq!(put(scenario, &mut run, Input::Go, &Facts::default(), us(now)).0, Next::Ask(Ask::Person));
    assert_eq!(put(scenario, &mut run, Input::Go, &knowing(person), us(now)).0, Next::Rest);
    assert_eq!(run.ended.is_none(), run.due_us.is_some());
    run.due_us
}

#[test]
fn a_local_time_is_the_next_that_the_persons_clock_shows() {
    let any: &[u32] = &[];
    for (zone, time, days, now, expected) in [
        ("Asia/Seoul", "09:00", any, "2026-11-22T00:00:00Z", None),
        ("Asia/Seoul", "09:00", any, "2026-11-22T00:00:59.999999Z", None),
        ("Asia/Seoul", "09:00", any, "2026-11-22T00:01:00Z", Some("2026-11-23T00:00:00Z")),
        ("Asia/Seoul", "09:00", any, "2026-11-21T23:59:59.999999Z", Some("2026-11-22T00:00:00Z")),
        // A Sunday in Seoul.
        ("Asia/Seoul", "09:00", &[7], "2026-11-22T00:00:30Z", None),
        ("Asia/Seoul", "09:00", &[6], "2026-11-22T00:00:30Z", Some("2026-11-28T00:00:00Z")),
        ("Asia/Seoul", "09:00", &[1, 3], "2026-11-22T00:00:30Z", Some("2026-11-23T00:00:00Z")),
        ("Asia/Seoul", "09:00", &[7], "2026-11-22T00:01:00Z", Some("2026-11-29T00:00:00Z")),
        // 29 March: 02:00 becomes 03:00.
        ("Europe/Berlin", "02:20", any, "2026-03-28T12:00:00Z", Some("2026-03-29T01:00:00Z")),
        ("Europe/Berlin", "02:20", any, "2026-03-29T01:00:30Z", None),
        ("Europe/Berlin", "02:20", any, "2026-03-29T01:01:00Z", Some("2026-03-30T00:20:00Z")),
        ("Europe/Berlin", "03:00", any, "2026-03-29T00:30:00Z", Some("2026-03-29T01:00:00Z")),
        // 25 October: 03:00 becomes 02:00.
        ("Europe/Berlin", "02:30", any, "2026-10-24T12:00:00Z", Some("2026-10-25T00:30:00Z")),
        ("Europe/Berlin", "02:30", any, "2026-10-25T00:31:00Z", Some("2026-10-26T01:30:00Z")),
        ("Europe/Berlin", "02:30", any, "2026-10-25T01:30:10Z", None),
        // 8 March and 1 November.
        ("America/New_York", "02:30", any, "2026-03-08T05:00:00Z", Some("2026-03-08T07:00:00Z")),
        ("America/New_York", "01:30", any, "2026-11-01T04:00:00Z", Some("2026-11-01T05:30:00Z")),
        ("America/New_York", "01:30", any, "2026-11-01T05:31:00Z", Some("2026-11-02T06:30:00Z")),
        // Samoa left out 30 December 2011.
        ("Pacific/Apia", "12:00", any, "2011-12-30T00:00:00Z", Some("2011-12-30T10:00:00Z")),
        // Nobody knows such a zone: that of the scenario, here UTC.
        ("Mars/Olympus", "09:00", any, "2026-11-22T00:00:00Z", Some("2026-11-22T09:00:00Z")),
        ("", "09:00", any, "2026-11-22T09:00:00Z", None),
    ] {
        let scenario = until(time, days);
        assert_eq!(due(&scenario, &profile(zone, &[]), now), expected.map(us), "{zone} {time} {days:?} {now}");
    }
}

#[test]
fn a_daily_loop_goes_round_once_a_day() {
    let local = LocalTime { time: "09:00".to_owned(), days_of_week: vec![] };
    let scenario = compiled(&by_call(vec![wait("w", Wait::UntilLocalTime(local), "m"), message("m", "w")]));
    let person = profile("", &[]);
    let mut run = run_at(0);
    let mut sent = Vec::new();
    let mut now = us("2026-11-22T09:00:10Z");
    for _ in 0..4 {
        let (_, effects) = put(&scenario, &mut run, Input::Go, &knowing(&person), now);
        assert_eq!(effects.len(), 1, "{now}");
        sent.push(now);
        now = run.due_us.expect("it waits");
        // A clock that was put back does not make it that day again.
        assert_eq!(put(&scenario, &mut run, Input::Go, &knowing(&person), now - DAY).1, []);
    }
    let days = ["2026-11-22T09:00:10Z", "2026-11-23T09:00:00Z", "2026-11-24T09:00:00Z", "2026-11-25T09:00:00Z"];
    assert_eq!(sent, days.map(us));
}

#[test]
fn a_time_that_was_met_is_not_met_again_by_a_clock_put_back() {
    let local = LocalTime { time: "09:00".to_owned(), days_of_week: vec![] };
    let scenario =
        compiled(&by_call(vec![wait("w", Wait::UntilLocalTime(local), "x"), event_wait("x", &[("a", "", "w")], seconds(99_999), "")]));
    let person = profile("", &[]);
    let mut run = run_at(0);
    put(&scenario, &mut run, Input::Go, &knowing(&person), us("2026-11-22T09:00:10Z"));
    let back = us("2026-11-22T08:50:00Z");
    put(&scenario, &mut run, Input::Event(&event("a", "m2", back, &[])), &knowing(&person), back);
    assert_eq!(run.due_us, Some(us("2026-11-23T09:00:00Z")));
}

#[test]
fn spans_of_months_are_of_the_persons_calendar() {
    let scenario = compiled(&by_call(vec![wait("w", Wait::Duration(span(1, TimeUnit::Month)), "")]));
    for (zone, now, expected) in [
        // Already 1 February in Seoul.
        ("Asia/Seoul", "2026-01-31T20:00:00Z", "2026-02-28T20:00:00Z"),
        ("America/New_York", "2026-01-31T20:00:00Z", "2026-02-28T20:00:00Z"),
        ("Asia/Seoul", "2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z"),
        ("Europe/Berlin", "2026-03-01T10:00:00Z", "2026-04-01T09:00:00Z"),
        ("Europe/Berlin", "2026-02-28T23:30:00Z", "2026-03-31T22:30:00Z"),
    ] {
        assert_eq!(due(&scenario, &profile(zone, &[]), now), Some(us(expected)), "{zone} {now}");
    }
    // Others need no person.
    let scenario = compiled(&by_call(vec![wait("w", Wait::Duration(span(2, TimeUnit::Week)), "")]));
    let mut run = run_at(0);
    go(&scenario, &mut run, 0);
    assert_eq!(run.due_us, Some(14 * DAY));
    // What lies beyond the calendar never comes.
    let scenario = compiled(&by_call(vec![wait("w", Wait::Duration(span(100_000, TimeUnit::Month)), "")]));
    let mut run = run_at(us("2026-01-01T00:00:00Z"));
    put(&scenario, &mut run, Input::Go, &knowing(&profile("", &[])), us("2026-01-01T00:00:00Z"));
    assert!(run.due_us.is_some_and(|due| due > us("9999-01-01T00:00:00Z")));
}

fn on_date(time: &str, offset_days: i32, every_year: bool) -> Compiled {
    let date = TraitDate { r#trait: "day".to_owned(), offset_days, time: time.to_owned(), every_year, otherwise: "o".to_owned() };
    compiled(&by_call(vec![wait("w", Wait::UntilTraitDate(date), "e"), end("e"), end("o")]))
}

/// Until when a run waits for the date: a moment, `now` or `otherwise`.
fn date_due(scenario: &Compiled, zone: &str, value: Option<Value>, now: &str) -> String {
    let traits: Vec<(&str, Value)> = value.into_iter().map(|value| ("day", value)).collect();
    let person = profile(zone, &traits);
    let mut run = run_at(us(now));
    put(scenario, &mut run, Input::Go, &knowing(&person), us(now));
    match (run.due_us, run.state.history.first()) {
        (Some(due), None) => chrono::DateTime::from_timestamp_micros(due).expect("a time").to_rfc3339(),
        (None, Some(visited)) if visited.decision == "waited" => "now".to_owned(),
        (None, Some(visited)) => visited.decision.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn dates_of_a_person_are_waited_for_in_their_zone() {
    let at = |text: &str| {
        let us = us(text);
        let time = prost_types::Timestamp { seconds: us.div_euclid(SECOND), nanos: (us.rem_euclid(SECOND) * 1_000) as i32 };
        Some(Value { kind: Some(ValueKind::TimestampValue(time)) })
    };
    let day = |day: &str| Some(text(day));
    for (zone, value, time, offset, every_year, now, expected) in [
        ("Asia/Seoul", day("2026-12-01"), "", 0, false, "2026-11-22T00:00:00Z", "2026-11-30T15:00:00+00:00"),
        ("Asia/Seoul", day("2026-12-01"), "09:30", -3, false, "2026-11-22T00:00:00Z", "2026-11-28T00:30:00+00:00"),
        ("Asia/Seoul", day("2026-12-01"), "", 0, false, "2026-11-30T15:00:00Z", "now"),
        ("Asia/Seoul", day("2026-12-01"), "", 0, false, "2026-11-30T15:00:00.000001Z", "otherwise"),
        ("Europe/Berlin", day("2026-03-29"), "02:20", 0, false, "2026-03-01T00:00:00Z", "2026-03-29T01:00:00+00:00"),
        ("Europe/Berlin", day("2026-10-25"), "02:20", 0, false, "2026-03-01T00:00:00Z", "2026-10-25T00:20:00+00:00"),
        ("America/New_York", day("2026-03-07"), "02:30", 1, false, "2026-03-01T00:00:00Z", "2026-03-08T07:00:00+00:00"),
        // A timestamp has its own time, on the day of the person's zone.
        ("Asia/Seoul", at("2026-12-01T20:15:30Z"), "", 0, false, "2026-11-22T00:00:00Z", "2026-12-01T20:15:30+00:00"),
        ("Asia/Seoul", at("2026-12-01T20:15:30Z"), "08:00", 0, false, "2026-11-22T00:00:00Z", "2026-12-01T23:00:00+00:00"),
        ("Europe/Berlin", at("2026-03-28T01:20:30Z"), "", 1, false, "2026-03-01T00:00:00Z", "2026-03-29T01:00:00+00:00"),
        // Birthdays.
        ("Asia/Seoul", day("1990-12-24"), "10:00", 0, true, "2026-11-22T00:00:00Z", "2026-12-24T01:00:00+00:00"),
        ("Asia/Seoul", day("1990-12-24"), "10:00", 0, true, "2026-12-24T01:00:00Z", "now"),
        ("Asia/Seoul", day("1990-12-24"), "10:00", 0, true, "2026-12-24T01:00:01Z", "2027-12-24T01:00:00+00:00"),
        ("", day("2000-02-29"), "", 0, true, "2026-11-22T00:00:00Z", "2027-02-28T00:00:00+00:00"),
        ("", day("2000-02-29"), "", 0, true, "2027-11-22T00:00:00Z", "2028-02-29T00:00:00+00:00"),
        ("", day("1990-01-02"), "", -7, true, "2026-12-01T00:00:00Z", "2026-12-26T00:00:00+00:00"),
        ("", day("1990-01-02"), "", -400, true, "2026-12-01T00:00:00Z", "2027-11-29T00:00:00+00:00"),
        ("", day("1990-12-30"), "", 7, true, "2026-01-01T00:00:00Z", "2026-01-06T00:00:00+00:00"),
        // Nothing to wait for.
        ("", None, "", 0, true, "2026-01-01T00:00:00Z", "otherwise"),
        ("", day("2026-1-1"), "", 0, false, "2025-01-01T00:00:00Z", "otherwise"),
        ("", day("2026-02-30"), "", 0, false, "2025-01-01T00:00:00Z", "otherwise"),
        ("", day("2026-01-01"), "", i32::MAX, false, "2025-01-01T00:00:00Z", "otherwise"),
        ("", day("2026-01-01"), "", i32::MIN, true, "2025-01-01T00:00:00Z", "otherwise"),
    ] {
        let scenario = on_date(time, offset, every_year);
        assert_eq!(date_due(&scenario, zone, value.clone(), now), expected, "{zone} {value:?} {time} {offset} {now}");
    }
}

#[test]
fn a_birthday_loop_greets_once_a_year() {
    let date = TraitDate { r#trait: "day".to_owned(), every_year: true, otherwise: "e".to_owned(), ..TraitDate::default() };
    let steps = vec![wait("w", Wait::UntilTraitDate(date), "m"), message("m", "w"), end("e")];
    let scenario = compiled(&by_call(steps));
    let person = profile("Asia/Seoul", &[("day", text("1990-12-24"))]);
    let mut run = run_at(0);
    put(&scenario, &mut run, Input::Go, &knowing(&person), us("2026-12-01T00:00:00Z"));
    for year in 2026..2030 {
        let due = us(&format!("{year}-12-23T15:00:00Z"));
        assert_eq!(run.due_us, Some(due));
        assert_eq!(put(&scenario, &mut run, Input::Go, &knowing(&person), due).1.len(), 1);
    }
}
