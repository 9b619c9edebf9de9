//! What the numbers mean, case by case.

use super::*;

#[test]
fn a_pause_of_exactly_the_gap_is_inside_a_session_and_a_longer_one_ends_it() {
    for (gap, pause, sessions) in [
        (None, 30 * MINUTE, 1),
        (None, 30 * MINUTE + SECOND, 2),
        (None, 30 * MINUTE + 1, 2),
        (Some(60), MINUTE, 1),
        (Some(60), MINUTE + 1, 2),
    ] {
        let gap = gap.map(|seconds| Duration { seconds, nanos: 0 });
        let response = answer(&views(1, &[0, pause]), &QuerySessionsRequest { gap, ..november() });
        assert_eq!(total(&response).sessions, sessions, "{gap:?} {pause}");
    }
}

#[test]
fn figures_are_over_the_sessions() {
    let events = [views(1, &[0, 10 * SECOND, 40 * SECOND, 2 * HOUR]), views(2, &[0, 0]), views(3, &[HOUR, HOUR + 20 * SECOND])].concat();
    let response = answer(&events, &november());
    let expected = SessionFigures {
        sessions: 4,
        persons: 3,
        events: 8,
        bounces: 1,
        bounce_rate: Some(0.25),
        duration_mean_seconds: Some(15.0),
        // Of 0, 0, 20 and 40 seconds.
        duration_median_seconds: Some(10.0),
        events_mean: Some(2.0),
        sessions_per_person: Some(4.0 / 3.0),
        still_open: 0,
    };
    assert_eq!(total(&response), &expected);
    assert_eq!((response.groups.len(), response.groups_total), (0, 0));
    assert_eq!(total(&answer(&events, &over("2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z"))), &SessionFigures::default());
}

#[test]
fn a_session_belongs_to_where_it_starts_with_all_its_events() {
    let quarter = 15 * MINUTE;
    // From 11:00 to 13:00, a view every quarter of an hour, and one at 14:00.
    let mut offsets: Vec<i64> = (-4..=4).map(|step| step * quarter).collect();
    offsets.push(2 * HOUR);
    let events = views(1, &offsets);
    for (start, end, expected) in [
        ("2026-11-10T11:00:00Z", "2026-11-10T11:00:01Z", [1, 1, 9, 0]),
        ("2026-11-10T11:00:01Z", "2026-11-10T14:00:00Z", [0, 0, 0, 0]),
        ("2026-11-10T11:10:00Z", "2026-11-10T14:00:01Z", [1, 1, 1, 1]),
        ("2026-11-10T13:31:00Z", "2026-11-10T15:00:00Z", [1, 1, 1, 1]),
        ("2026-11-10T10:00:00Z", "2026-11-10T15:00:00Z", [2, 1, 10, 1]),
    ] {
        assert_eq!(counts(total(&answer(&events, &over(start, end)))), expected, "{start} {end}");
    }
}

#[test]
fn a_session_that_goes_on_for_days_is_seen_to_its_end() {
    // Three days without a pause, from a minute before the end of the range on; and another who stopped.
    let events = [views(1, &(0..220).map(|step| step * 20 * MINUTE).collect::<Vec<_>>()), views(2, &[0, MINUTE])].concat();
    let response = answer(&events, &over("2026-11-10T11:00:00Z", "2026-11-10T12:01:00Z"));
    assert_eq!(counts(total(&response)), [2, 2, 222, 0]);
    assert_eq!(total(&response).duration_median_seconds, Some(((219 * 20 + 1) * 60) as f64 / 2.0));
}

#[test]
fn a_session_may_be_open_at_the_watermark() {
    let events = [views(1, &[0]), views(2, &[-MINUTE]), views(3, &[-HOUR, 0])].concat();
    for (watermark, open) in [("2026-11-10T12:20:00Z", 3), ("2026-11-10T12:29:30Z", 2), ("2026-11-10T12:31:00Z", 0)] {
        let response = ask(&snapshot(&events, watermark), &november()).expect("an answer");
        assert_eq!(total(&response).still_open, open, "{watermark}");
        assert_eq!(response.watermark, Some(timestamp(us(watermark))));
    }
}

#[test]
fn only_the_selected_events_make_up_sessions() {
    let mut events = views(1, &[0, 50 * MINUTE]);
    events.push(event("ping", us("2026-11-10T12:25:00Z"), 1));
    let on = EventSelector { events: vec!["view".to_owned()], filter: None };
    assert_eq!(counts(total(&answer(&events, &november()))), [1, 1, 3, 0]);
    assert_eq!(counts(total(&answer(&events, &QuerySessionsRequest { on: Some(on), ..november() }))), [2, 1, 2, 2]);
}

#[test]
fn groups_are_by_the_first_event_and_the_others_count_persons_once() {
    let mut events = Vec::new();
    // Person, hour, platforms of the events.
    for (person, hour, platforms) in [
        (1, 0, vec!["web", "ios"]),
        (1, 2, vec!["ios"]),
        (1, 4, vec!["tv"]),
        (2, 0, vec!["web"]),
        (2, 2, vec!["", "web"]),
        (3, 0, vec!["tv"]),
    ] {
        for (step, platform) in platforms.into_iter().enumerate() {
            let view = views(person, &[hour * HOUR + step as i64]).remove(0);
            events.push(if platform.is_empty() { view } else { with_dimension(view, "platform", platform) });
        }
    }
    let request = QuerySessionsRequest {
        group_by: vec![dimension("platform")],
        top: 2,
        grain: Grain::Hour as i32,
        ..over("2026-11-10T12:00:00Z", "2026-11-10T17:00:00Z")
    };
    let response = answer(&events, &request);
    let summary = |group: &SessionGroup| {
        let key = group.key.as_ref().expect("a key");
        let value = key.values.first().and_then(|value| value.value.as_ref()).and_then(|value| value.kind.clone());
        let figures = |figures: &Option<SessionFigures>| counts(figures.as_ref().expect("figures"));
        (key.other, value, figures(&group.total), group.periods.iter().map(|period| figures(&period.figures)[0]).collect::<Vec<_>>())
    };
    let text = |text: &str| Some(Kind::StringValue(text.to_owned()));
    let found: Vec<_> = response.groups.iter().map(summary).collect();
    let expected = [
        (false, text("tv"), [2, 2, 2, 2], vec![1, 0, 0, 0, 1]),
        (false, text("web"), [2, 2, 3, 1], vec![2, 0, 0, 0, 0]),
        (true, None, [2, 2, 3, 1], vec![0, 0, 2, 0, 0]),
    ];
    assert_eq!(found, expected);
    assert_eq!(response.groups_total, 4);
    assert_eq!(summary(response.total.as_ref().expect("a total")), (false, None, [6, 3, 8, 4], vec![3, 0, 2, 0, 1]));
    let two = QuerySessionsRequest { group_by: vec![dimension("event"), dimension("platform")], top: 1, ..request };
    let response = answer(&events, &two);
    // Sessions of one person in two of the other groups are of one person.
    assert_eq!(summary(&response.groups[1]), (true, None, [4, 2, 6, 2], vec![2, 0, 2, 0, 0]));
    let key = response.groups[0].key.clone().expect("a key");
    assert_eq!(key.values.len(), 2);
}

#[test]
fn every_number_turns_into_its_persons() {
    let platform = |events: Vec<ResolvedEvent>, platform: &str| -> Vec<ResolvedEvent> {
        events.into_iter().map(|event| with_dimension(event, "platform", platform)).collect()
    };
    let events =
        [platform(views(1, &[0, 2 * HOUR, 2 * HOUR + 1]), "web"), platform(views(2, &[0, 1]), "web"), platform(views(3, &[0]), "ios")]
            .concat();
    let request = QuerySessionsRequest {
        group_by: vec![dimension("platform")],
        top: 1,
        grain: Grain::Hour as i32,
        ..over("2026-11-10T12:00:00Z", "2026-11-10T15:00:00Z")
    };
    let snapshot = snapshot(&events, "2026-12-01T00:00:00Z");
    let response = ask(&snapshot, &request).expect("an answer");
    let key = |at: usize| response.groups[at].key.clone();
    let period = |at: usize| response.groups[0].periods[at].start;
    for (group, period, bounced, expected) in [
        (None, None, false, vec![1, 2, 3]),
        (response.total.as_ref().and_then(|total| total.key.clone()), None, false, vec![1, 2, 3]),
        (None, None, true, vec![1, 3]),
        (None, period(2), false, vec![1]),
        (None, period(2), true, vec![]),
        (key(0), None, false, vec![1, 2]),
        (key(0), period(0), true, vec![1]),
        (key(1), None, false, vec![3]),
    ] {
        let cell = SessionCell { group, period, bounced };
        let found = persons(&snapshot, response.options.as_ref().expect("options"), &cell).expect("persons");
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{cell:?}");
    }
}
