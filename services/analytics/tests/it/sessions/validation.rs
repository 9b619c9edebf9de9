//! What is wrong with a request is said, all of it, with paths; what was left out is filled in.

use segue_proto::query::v1::Filter;
use segue_runtime::status::ServiceError;

use super::*;

fn faults(request: &QuerySessionsRequest) -> Vec<String> {
    match ask(&snapshot(&views(1, &[0]), "2026-12-01T00:00:00Z"), request) {
        Err(error @ QueryError::Invalid(_)) => error.field_violations().into_iter().map(|violation| violation.field).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn every_fault_is_named_with_its_path_at_once() {
    let item = Field { field: Some(field::Field::ItemProperty("price".to_owned())) };
    let request = QuerySessionsRequest {
        range: None,
        grain: 9,
        time_zone: "Mars".to_owned(),
        on: Some(EventSelector { events: vec![String::new()], filter: Some(Filter::default()) }),
        gap: Some(Duration { seconds: 86_401, nanos: 0 }),
        group_by: vec![item, dimension("platform"), dimension("platform")],
        top: 1001,
        among: None,
    };
    let mut found = faults(&request);
    found.sort();
    let expected =
        ["gap", "grain", "group_by[0].item_property", "group_by[2]", "on.events[0]", "range.end", "range.start", "time_zone", "top"];
    assert_eq!(found, expected);
}

#[test]
fn bounds_are_kept() {
    let dimensions = ["platform", "event", "source", "utm_source"];
    for (request, path) in [
        (QuerySessionsRequest { gap: Some(Duration::default()), ..november() }, "gap"),
        (QuerySessionsRequest { gap: Some(Duration { seconds: -1, nanos: 0 }), ..november() }, "gap"),
        (QuerySessionsRequest { group_by: dimensions.map(dimension).to_vec(), ..november() }, "group_by"),
        (QuerySessionsRequest { grain: Grain::Hour as i32, ..over("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z") }, "grain"),
        (over("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), "range.end"),
    ] {
        assert_eq!(faults(&request).first().map(String::as_str), Some(path), "{request:?}");
    }
}

#[test]
fn the_answer_names_everything_that_it_depends_on_and_asking_that_again_gives_it_again() {
    let snapshot = snapshot(&views(1, &[0, HOUR]), "2026-12-01T00:00:00Z");
    let request = QuerySessionsRequest {
        on: Some(EventSelector { events: vec!["view".to_owned(), "Order Completed".to_owned()], filter: None }),
        ..november()
    };
    let response = ask(&snapshot, &request).expect("an answer");
    let expected = QuerySessionsRequest {
        range: request.range,
        grain: Grain::Unspecified as i32,
        time_zone: "UTC".to_owned(),
        on: Some(EventSelector { events: vec!["view".to_owned(), "df_purchase".to_owned()], filter: None }),
        gap: Some(Duration { seconds: 1800, nanos: 0 }),
        group_by: Vec::new(),
        top: 20,
        among: None,
    };
    assert_eq!(response.options.as_ref(), Some(&expected));
    assert!(!response.persons_token.is_empty());
    assert!(response.total.as_ref().is_some_and(|total| total.periods.is_empty()));
    let again = ask(&snapshot, &expected).expect("an answer");
    assert_eq!((again.total, again.options, again.persons_token), (response.total, response.options, response.persons_token));
}

#[test]
fn numbers_that_are_not_in_the_answer_have_no_persons() {
    let snapshot = snapshot(&views(1, &[0]), "2026-12-01T00:00:00Z");
    let start = Some(timestamp(us("2026-11-01T00:00:00Z")));
    let daily = || QuerySessionsRequest { grain: Grain::Day as i32, ..november() };
    for (request, cell, path) in [
        (november(), SessionCell { period: start, ..Default::default() }, "report.session.period"),
        (daily(), SessionCell { period: Some(timestamp(0)), ..Default::default() }, "report.session.period"),
        (daily(), SessionCell { group: Some(GroupKey { values: Vec::new(), other: true }), ..Default::default() }, "report.session.group"),
    ] {
        let Err(error) = persons(&snapshot, &request, &cell) else { panic!("not refused: {cell:?}") };
        assert_eq!(error.field_violations().first().map(|violation| violation.field.as_str()), Some(path));
    }
    assert_eq!(persons(&snapshot, &daily(), &SessionCell::default()).expect("persons").len(), 1);
}

#[test]
fn more_sessions_or_groups_than_the_limits_are_refused_with_advice() {
    let events: Vec<ResolvedEvent> =
        (0..50).map(|person| with_dimension(views(person, &[0]).remove(0), "platform", &person.to_string())).collect();
    let snapshot = snapshot(&events, "2026-12-01T00:00:00Z");
    let request = QuerySessionsRequest { group_by: vec![dimension("platform")], ..november() };
    let cancel = CancellationToken::new();
    let ask = |sessions_max: usize, cells_max: usize| {
        let mut limits = QueryLimits { threads: 1, ..QueryLimits::default() };
        (limits.report.bytes_max, limits.report.cells_max) = (sessions_max * 12, cells_max);
        sessions::query(&Context { snapshot: &snapshot, zone: Tz::UTC, limits, cancel: &cancel }, &request)
    };
    assert!(matches!(ask(49, 1000), Err(QueryError::TooMuchMemory { .. })));
    assert!(matches!(ask(50, 49), Err(QueryError::TooManyGroups { .. })));
    assert!(ask(50, 50).is_ok());
}
