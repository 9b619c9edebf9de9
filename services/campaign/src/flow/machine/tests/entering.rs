//! Who may enter, and when.

use segue_proto::campaign::v1::reentry::Rule;
use segue_proto::campaign::v1::schedule_entry::When;
use segue_proto::campaign::v1::{AudienceEntry, Reentry, ScheduleEntry};

use super::*;

fn scheduled(when: When, in_person_zone: bool) -> Compiled {
    let schedule = ScheduleEntry { when: Some(when), audience: "all".to_owned(), in_person_zone, ..ScheduleEntry::default() };
    let entry = Entry { on: Some(On::Schedule(schedule)), only_if: None };
    compiled(&ScenarioDefinition { entry: Some(entry), ..by_call(vec![message("m", "")]) })
}

/// The next so many entries after a moment.
fn entries(scenario: &Compiled, zone: Tz, after: &str, count: usize) -> Vec<String> {
    let mut after = us(after);
    let mut found = Vec::new();
    while found.len() < count {
        let Some(next) = next_entry_us(scenario, after, zone) else { break };
        assert!(next > after);
        found.push(chrono::DateTime::from_timestamp_micros(next).expect("a time").format("%FT%TZ").to_string());
        after = next;
    }
    found
}

#[test]
fn schedules_come_when_the_zone_says() {
    use chrono_tz::{America::New_York, Asia::Seoul, Europe::Berlin, UTC};
    for (cron, zone, after, expected) in [
        ("0 9 * * *", Seoul, "2026-11-21T23:59:59Z", ["2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"]),
        ("0 9 * * *", Seoul, "2026-11-22T00:00:00Z", ["2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"]),
        ("0 9 * * mon-fri", Seoul, "2026-11-20T01:00:00Z", ["2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"]),
        ("*/20 8-9 1 JAN *", UTC, "2026-01-01T09:00:00Z", ["2026-01-01T09:20:00Z", "2026-01-01T09:40:00Z", "2027-01-01T08:00:00Z"]),
        // Either of the days; with a star, both.
        ("0 0 13 * fri", UTC, "2026-11-01T00:00:00Z", ["2026-11-06T00:00:00Z", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"]),
        ("0 0 */2 * fri", UTC, "2026-11-01T00:00:00Z", ["2026-11-13T00:00:00Z", "2026-11-27T00:00:00Z", "2026-12-11T00:00:00Z"]),
        ("0 0 29 2 *", UTC, "2096-03-01T00:00:00Z", ["2104-02-29T00:00:00Z", "2108-02-29T00:00:00Z", "2112-02-29T00:00:00Z"]),
        ("0 12 * * 7", UTC, "2026-11-22T00:00:00Z", ["2026-11-22T12:00:00Z", "2026-11-29T12:00:00Z", "2026-12-06T12:00:00Z"]),
        ("0 12 * * fri-sun", UTC, "2026-11-22T00:00:00Z", ["2026-11-22T12:00:00Z", "2026-11-27T12:00:00Z", "2026-11-28T12:00:00Z"]),
        ("50/5 23 31 12 *", UTC, "2026-11-22T00:00:00Z", ["2026-12-31T23:50:00Z", "2026-12-31T23:55:00Z", "2027-12-31T23:50:00Z"]),
        // 02:00 to 03:00 is skipped: once, at 03:00.
        ("*/30 2 * * *", Berlin, "2026-03-28T12:00:00Z", ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"]),
        ("30 2,3 * * *", New_York, "2026-03-08T06:00:00Z", ["2026-03-08T07:00:00Z", "2026-03-08T07:30:00Z", "2026-03-09T06:30:00Z"]),
        // It comes twice: the first.
        ("*/30 2 * * *", Berlin, "2026-10-25T00:10:00Z", ["2026-10-25T00:30:00Z", "2026-10-26T01:00:00Z", "2026-10-26T01:30:00Z"]),
        ("30 1 * * *", New_York, "2026-11-01T05:00:00Z", ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z", "2026-11-03T06:30:00Z"]),
    ] {
        let scenario = scheduled(When::Cron(cron.to_owned()), true);
        assert_eq!(entries(&scenario, zone, after, 3), expected, "{cron} {zone} {after}");
    }
}

#[test]
fn a_schedule_of_one_moment_comes_once_and_a_local_time_in_each_zone() {
    let at = |seconds, nanos| scheduled(When::At(prost_types::Timestamp { seconds, nanos }), false);
    assert_eq!(next_entry_us(&at(1, 1), 0, Tz::UTC), Some(SECOND + 1));
    assert_eq!(next_entry_us(&at(1, 0), SECOND - 1, Tz::UTC), Some(SECOND));
    assert_eq!(next_entry_us(&at(1, 0), SECOND, Tz::UTC), None);
    let local = scheduled(When::LocalTime("02:20".to_owned()), false);
    for (zone, after, expected) in [
        (chrono_tz::Asia::Seoul, "2026-11-22T00:00:00Z", "2026-11-22T17:20:00Z"),
        (chrono_tz::Asia::Seoul, "2026-11-22T17:20:00Z", "2026-11-23T17:20:00Z"),
        (chrono_tz::Europe::Berlin, "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
        (chrono_tz::Europe::Berlin, "2026-10-24T12:00:00Z", "2026-10-25T00:20:00Z"),
    ] {
        assert_eq!(next_entry_us(&local, us(after), zone), Some(us(expected)), "{zone} {after}");
    }
    assert_eq!(next_entry_us(&compiled(&by_call(vec![message("m", "")])), 0, Tz::UTC), None);
}

#[test]
fn who_may_enter_again_depends_on_the_last_time() {
    let ruled = |rule: Rule, pause: Option<Span>| {
        let reentry = Some(Reentry { rule: rule.into(), pause });
        compiled(&ScenarioDefinition { reentry, ..by_call(vec![message("m", "")]) })
    };
    let never = ruled(Rule::Never, None);
    let after_end = ruled(Rule::AfterEnd, None);
    let unset = compiled(&by_call(vec![message("m", "")]));
    let pause = ruled(Rule::AfterPause, Some(seconds(60)));
    for (last, active, now, expected) in [
        (None, false, 0, [true, true, true, true]),
        (Some(0), true, DAY, [false, false, false, false]),
        (Some(0), false, 1, [false, true, true, false]),
        (Some(0), false, 60 * SECOND - 1, [false, true, true, false]),
        (Some(0), false, 60 * SECOND, [false, true, true, true]),
    ] {
        let found = [&never, &after_end, &unset, &pause].map(|scenario| may_enter(scenario, last, active, now));
        assert_eq!(found, expected, "{last:?} {active} {now}");
    }
}

#[test]
fn events_of_interest_are_those_that_something_in_the_scenario_asks_for() {
    let steps = vec![event_wait("w", &[("page_view", "", ""), ("b", "", "")], seconds(9), "")];
    let mut definition = by_event("Order Completed", "", steps);
    definition.exits = vec![exit_on("x", "")];
    definition.goals = vec![goal("g", "df_purchase", seconds(9))];
    let names = ["b", "df_purchase", "df_view_home", "x"].map(str::to_owned).to_vec();
    assert_eq!(interest(&compiled(&definition)), Some(names));
    definition.goals[0].on = Some(EventSelector::default());
    assert_eq!(interest(&compiled(&definition)), None);
    assert_eq!(interest(&compiled(&by_call(vec![message("m", "")]))), Some(vec![]));
}

#[test]
fn only_the_entry_event_enters() {
    let scenario = compiled(&by_event("Order Completed", "", vec![message("m", "")]));
    assert_eq!(enters(&scenario, &event("df_purchase", "m1", 0, &[])), Some(String::new()));
    assert_eq!(enters(&scenario, &event("df_login", "m1", 0, &[])), None);
    let identify = ResolvedEvent { kind: EventKind::Identify.into(), ..event("df_purchase", "m1", 0, &[]) };
    assert_eq!(enters(&scenario, &identify), None);
    let audience = Entry { on: Some(On::Audience(AudienceEntry { audience: "a".to_owned(), on_leaving: false })), only_if: None };
    let scenario = compiled(&ScenarioDefinition { entry: Some(audience), ..by_call(vec![message("m", "")]) });
    assert_eq!(enters(&scenario, &event("df_purchase", "m1", 0, &[])), None);
}
