//! What the numbers mean, case by case.

use super::*;

fn two_persons() -> Vec<ResolvedEvent> {
    [opens(1, &[0, 1, 2, 5, 5, 6]), opens(2, &[1, 2, 3, 6])].concat()
}

#[test]
fn recurring_cohorts_by_day_count_who_came_back_on_each_day() {
    let one: [&[i64]; 7] = [&[1, 1, 1, 0, 0, 1, 1], &[2, 2, 1, 0, 1, 2], &[2, 1, 0, 1, 2], &[1, 0, 0, 1], &[0, 0, 0], &[1, 1], &[2]];
    let two: [&[i64]; 7] = [&[1, 0, 0, 0, 0, 1, 0], &[2, 0, 0, 0, 1, 0], &[2, 0, 0, 1, 0], &[1, 0, 0, 0], &[0, 0, 0], &[1, 0], &[2]];
    for (returns_min, expected) in [(0, one), (1, one), (2, two)] {
        let response = answer(&two_persons(), &QueryRetentionRequest { returns_min, ..november(7) });
        assert_eq!(cells(total(&response)), expected, "at least {returns_min}");
        assert_eq!((response.groups.len(), response.groups_total), (0, 0));
    }
}

#[test]
fn on_or_after_counts_who_came_back_on_a_day_or_later() {
    let events = [opens(1, &[0, 3, 4]), opens(2, &[0, 1]), opens(3, &[1, 2, 3]), opens(4, &[3, 4]), opens(5, &[4])].concat();
    let response = answer(&events, &QueryRetentionRequest { mode: RetentionMode::OnOrAfter as i32, ..november(6) });
    let expected: [&[i64]; 6] = [&[2, 2, 1, 1, 1, 0], &[2, 1, 1, 0, 0], &[1, 1, 0, 0], &[3, 2, 0], &[3, 0], &[0]];
    assert_eq!(cells(total(&response)), expected);
}

#[test]
fn the_alignment_decides_into_which_bucket_a_return_falls() {
    for (start, returning, end, grain, zone, calendar, rolling) in [
        ("2026-11-02T23:45:00Z", "2026-11-03T00:01:00Z", "2026-11-04T00:00:00Z", Grain::Day, "", [1, 1], [1, 0]),
        // In Seoul both are the same day.
        ("2026-11-02T23:45:00Z", "2026-11-03T00:01:00Z", "2026-11-04T15:00:00Z", Grain::Day, "Asia/Seoul", [1, 0], [1, 0]),
        // Monday and Tuesday.
        ("2026-11-02T20:00:00Z", "2026-11-03T06:00:00Z", "2026-11-04T00:00:00Z", Grain::Day, "", [1, 1], [1, 0]),
        // Friday and Monday.
        ("2026-11-06T10:00:00Z", "2026-11-09T10:00:00Z", "2026-11-16T00:00:00Z", Grain::Week, "", [1, 1], [1, 0]),
        ("2026-02-25T10:00:00Z", "2026-03-03T10:00:00Z", "2026-04-01T00:00:00Z", Grain::Month, "", [1, 1], [1, 0]),
        ("2026-11-02T23:45:00Z", "2026-11-03T00:01:00Z", "2026-11-03T01:00:00Z", Grain::Hour, "", [1, 1], [1, 0]),
    ] {
        let events = [event("open", us(start), 1), event("buy", us(returning), 1)];
        for (alignment, expected) in [(RetentionAlignment::Calendar, calendar), (RetentionAlignment::Rolling, rolling)] {
            let request = QueryRetentionRequest {
                range: range(us(start), us(end)),
                time_zone: zone.to_owned(),
                grain: grain as i32,
                alignment: alignment as i32,
                returning: Some(selector(&["buy"])),
                cells: 2,
                ..november(1)
            };
            let response = answer(&events, &request);
            assert_eq!(cells(total(&response)).first().map(Vec::as_slice), Some(&expected[..]), "{start} {zone} {alignment:?}");
        }
    }
}

#[test]
fn the_average_pools_complete_cells_and_leaves_the_others_out() {
    let mut events = Vec::new();
    for person in 0..1000 {
        events.extend(opens(person, if person < 500 { &[0, 1] } else { &[0] }));
    }
    for person in 1000..1500 {
        events.extend(opens(person, if person < 1400 { &[1, 2] } else { &[1] }));
    }
    for person in 1500..2200 {
        events.extend(opens(person, &[2]));
        if person < 1600 {
            events.push(event("open", us("2026-11-04T01:00:00Z"), person));
        }
    }
    let request = QueryRetentionRequest { entry: CohortEntry::FirstMatching as i32, ..november(4) };
    let response = ask(&snapshot(&events, "2026-11-04T12:00:00Z"), &request).expect("an answer");
    let expected: [&[i64]; 4] = [&[1000, 500, 0, -1], &[500, 400, -1], &[700, -101], &[-1]];
    assert_eq!(cells(total(&response)), expected);
    let average = &total(&response).average;
    let sums: Vec<(u64, u64)> = average.iter().map(|average| (average.returned, average.size)).collect();
    assert_eq!(sums, [(2200, 2200), (900, 1500), (0, 1000), (0, 0)]);
    let rates: Vec<Option<f64>> = average.iter().map(|average| average.rate).collect();
    assert_eq!(rates, [Some(1.0), Some(0.6), Some(0.0), None]);
    assert_eq!(total(&response).cohorts[0].cells[1].rate, Some(0.5));
    assert_eq!(response.watermark, Some(timestamp(us("2026-11-04T12:00:00Z"))));
}

#[test]
fn the_entry_says_which_start_makes_somebody_a_member() {
    let mut events = vec![with_platform(event("open", us("2026-11-01T12:00:00Z"), 1), "web")];
    events.extend(opens(1, &[1, 3]).into_iter().map(|event| with_platform(event, "ios")));
    // Long before the range, or first on its third day.
    events.extend(opens(2, &[-40, 2]).into_iter().map(|event| with_platform(event, "ios")));
    events.extend(opens(3, &[2, 3]).into_iter().map(|event| with_platform(event, "ios")));
    let start = EventSelector { filter: Some(platform_is("ios")), ..selector(&["open"]) };
    for (entry, by_filter, sizes) in [
        (CohortEntry::Unspecified, false, [0, 1, 2, 2]),
        (CohortEntry::Recurring, false, [0, 1, 2, 2]),
        (CohortEntry::FirstMatching, false, [0, 1, 2, 0]),
        (CohortEntry::FirstEver, false, [0, 0, 1, 0]),
        // The report's filter chooses as the start's own does.
        (CohortEntry::FirstEver, true, [0, 0, 1, 0]),
    ] {
        let request = match by_filter {
            false => QueryRetentionRequest { start: Some(start.clone()), ..november(4) },
            true => QueryRetentionRequest { filter: Some(platform_is("ios")), ..november(4) },
        };
        let response = answer(&events, &QueryRetentionRequest { entry: entry as i32, ..request });
        let found: Vec<u64> = total(&response).cohorts.iter().map(|cohort| cohort.size).collect();
        assert_eq!(found, sizes, "{entry:?}");
    }
}

#[test]
fn brackets_sum_the_returns_of_their_buckets() {
    let brackets = [(0, 1), (1, 3), (3, 6), (6, 9)].map(|(start, end)| RetentionBracket { start, end }).to_vec();
    for (returns_min, first) in [(1, [0, 1, 1]), (2, [0, 1, 0]), (3, [0, 0, 0])] {
        let request = QueryRetentionRequest { mode: RetentionMode::Bracket as i32, brackets: brackets.clone(), returns_min, ..november(6) };
        let response = answer(&opens(1, &[0, 1, 2, 4]), &request);
        let cohort = &total(&response).cohorts[0];
        assert_eq!((cohort.size, cells(total(&response))[0].as_slice()), (1, &first[..]), "at least {returns_min}");
    }
}

#[test]
fn a_breakdown_takes_the_value_at_cohort_entry() {
    let on = |person, day, value: &str| {
        let event = event("open", us("2026-11-01T12:00:00Z") + day * DAY, person);
        if value.is_empty() { event } else { with_platform(event, value) }
    };
    let events = vec![
        on(1, 0, "ios"),
        on(1, 1, "web"),
        on(2, 0, "web"),
        on(2, 1, "web"),
        on(3, 0, "web"),
        on(4, 1, ""),
        on(5, 0, "android"),
        on(5, 2, "android"),
    ];
    let request = QueryRetentionRequest {
        entry: CohortEntry::FirstMatching as i32,
        breakdown: Some(RetentionBreakdown { field: Some(platform()), top: 2 }),
        ..november(3)
    };
    let response = answer(&events, &request);
    let summary = |group: &RetentionGroup| {
        let key = group.key.as_ref().expect("a key");
        let value = key.values.first().map(|value| value.value.as_ref().and_then(|value| value.kind.clone()));
        (key.other, value, cells(group))
    };
    let text = |text: &str| Some(Some(Kind::StringValue(text.to_owned())));
    let found: Vec<_> = response.groups.iter().map(summary).collect();
    let expected = [
        (false, text("web"), vec![vec![2, 1, 0], vec![0, 0], vec![0]]),
        (false, text("android"), vec![vec![1, 0, 1], vec![0, 0], vec![0]]),
        (true, None, vec![vec![1, 1, 0], vec![1, 0], vec![0]]),
    ];
    assert_eq!(found, expected);
    assert_eq!(response.groups_total, 4);
    assert_eq!(cells(total(&response)), [vec![4, 2, 1], vec![1, 0], vec![0]]);
    // With recurring cohorts each entry has the value that it comes with.
    let response = answer(&events, &QueryRetentionRequest { entry: CohortEntry::Recurring as i32, ..request });
    assert_eq!(summary(&response.groups[0]), (false, text("web"), vec![vec![2, 1, 0], vec![2, 0], vec![0]]));
}

#[test]
fn every_number_turns_into_its_persons() {
    let events = [opens(1, &[0, 1]), opens(2, &[0]), opens(3, &[0, 2]), opens(4, &[1, 2])].concat();
    let events: Vec<ResolvedEvent> =
        events.into_iter().zip(["ios", "ios", "web", "web", "web", "a", "b"]).map(|(event, value)| with_platform(event, value)).collect();
    let breakdown = Some(RetentionBreakdown { field: Some(platform()), top: 1 });
    let request = QueryRetentionRequest { breakdown, entry: CohortEntry::FirstMatching as i32, ..november(3) };
    let snapshot = snapshot(&events, "2026-12-01T00:00:00Z");
    let response = ask(&snapshot, &request).expect("an answer");
    let groups: Vec<_> = response.groups.iter().map(|group| group.key.clone()).collect();
    let first = total(&response).cohorts[0].start;
    for (group, cell, missing, expected) in [
        (None, 0, false, vec![1, 2, 3]),
        (None, 1, false, vec![1]),
        (None, 1, true, vec![2, 3]),
        (None, 2, false, vec![3]),
        (groups[0].clone(), 0, false, vec![2, 3]),
        (groups[0].clone(), 2, false, vec![3]),
        (groups[1].clone(), 0, false, vec![1]),
    ] {
        let reference = RetentionCellReference { group, cohort: first, cell, missing, size: false };
        let found = persons(&snapshot, response.options.as_ref().expect("options"), &reference).expect("persons");
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{reference:?}");
    }
    // The key of the total is everybody, and so is a cohort without cells one that can be listed.
    let everybody = total(&response).key.clone();
    let cohort = RetentionCellReference { group: everybody, cohort: first, size: true, ..RetentionCellReference::default() };
    let bracketed = QueryRetentionRequest {
        mode: RetentionMode::Bracket as i32,
        brackets: vec![RetentionBracket { start: 2, end: 3 }],
        cells: 0,
        ..response.options.clone().expect("options")
    };
    for request in [response.options.as_ref().expect("options"), &bracketed] {
        let found = persons(&snapshot, request, &cohort).expect("persons");
        assert_eq!(found.iter().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(persons(&snapshot, request, &RetentionCellReference { missing: true, ..cohort.clone() }).is_err());
    }
}
