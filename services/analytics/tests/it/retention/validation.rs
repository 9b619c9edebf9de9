//! What is wrong with a request is said, all of it, with paths; what was left out is filled in.

use super::*;
use segue_runtime::status::ServiceError;

fn faults(request: &QueryRetentionRequest) -> Vec<String> {
    match ask(&snapshot(&opens(1, &[0]), "2026-12-01T00:00:00Z"), request) {
        Err(error @ QueryError::Invalid(_)) => error.field_violations().into_iter().map(|violation| violation.field).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn every_fault_is_named_with_its_path_at_once() {
    let item = Field { field: Some(field::Field::ItemProperty("price".to_owned())) };
    let request = QueryRetentionRequest {
        range: None,
        time_zone: "Mars".to_owned(),
        start: Some(selector(&[""])),
        returning: Some(EventSelector { filter: Some(platform_is("x")), ..selector(&["", "b"]) }),
        grain: 9,
        alignment: 9,
        entry: 9,
        mode: RetentionMode::Bracket as i32,
        brackets: [(1, 1), (3, 5), (4, 6)].map(|(start, end)| RetentionBracket { start, end }).to_vec(),
        cells: 401,
        breakdown: Some(RetentionBreakdown { field: Some(item), top: 1001 }),
        filter: Some(Filter { node: Some(filter::Node::Compare(Comparison::default())) }),
        ..QueryRetentionRequest::default()
    };
    let mut found = faults(&request);
    found.sort();
    let expected = [
        "alignment",
        "brackets[0].end",
        "brackets[2].start",
        "breakdown.field.item_property",
        "breakdown.top",
        "cells",
        "cells",
        "entry",
        "filter.compare.operator",
        "grain",
        "range.end",
        "range.start",
        "returning.events[0]",
        "start.events[0]",
        "time_zone",
    ];
    let found: Vec<&str> = found.iter().map(String::as_str).filter(|path| *path != "filter.compare.field").collect();
    assert_eq!(found, expected);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let bracket = |start, end| vec![RetentionBracket { start, end }];
    for (request, path) in [
        (QueryRetentionRequest { mode: 9, ..november(1) }, "mode"),
        (QueryRetentionRequest { brackets: bracket(0, 1), ..november(1) }, "brackets"),
        (QueryRetentionRequest { mode: RetentionMode::Bracket as i32, ..november(1) }, "brackets"),
        (
            QueryRetentionRequest {
                mode: RetentionMode::Bracket as i32,
                brackets: vec![RetentionBracket { start: 0, end: 1 }; 51],
                ..november(1)
            },
            "brackets",
        ),
        (QueryRetentionRequest { mode: RetentionMode::Bracket as i32, brackets: bracket(0, 1), cells: 3, ..november(1) }, "cells"),
        (QueryRetentionRequest { breakdown: Some(RetentionBreakdown::default()), ..november(1) }, "breakdown.field"),
        (november(0), "range.end"),
        (november(10_001), "grain"),
    ] {
        assert_eq!(faults(&request).first().map(String::as_str), Some(path), "{request:?}");
    }
}

#[test]
fn the_answer_names_everything_that_it_depends_on_and_asking_that_again_gives_it_again() {
    let events = opens(1, &[0, 1]);
    let snapshot = snapshot(&events, "2026-12-01T00:00:00Z");
    let request = QueryRetentionRequest {
        start: Some(selector(&["Order Completed", "open", "df_purchase"])),
        breakdown: Some(RetentionBreakdown { field: Some(platform()), top: 0 }),
        ..november(3)
    };
    let response = ask(&snapshot, &request).expect("an answer");
    let start = Some(selector(&["df_purchase", "open"]));
    let expected = QueryRetentionRequest {
        range: request.range,
        time_zone: "UTC".to_owned(),
        start: start.clone(),
        returning: start,
        grain: Grain::Day as i32,
        alignment: RetentionAlignment::Calendar as i32,
        entry: CohortEntry::Recurring as i32,
        mode: RetentionMode::On as i32,
        brackets: Vec::new(),
        returns_min: 1,
        breakdown: Some(RetentionBreakdown { field: Some(platform()), top: 20 }),
        cells: 3,
        filter: None,
        among: None,
    };
    assert_eq!(response.options.as_ref(), Some(&expected));
    assert!(!response.persons_token.is_empty());
    let again = ask(&snapshot, &expected).expect("an answer");
    assert_eq!(
        (again.total, again.groups, again.options, again.persons_token),
        (response.total, response.groups, response.options, response.persons_token)
    );
    let brackets =
        QueryRetentionRequest { mode: RetentionMode::Bracket as i32, brackets: vec![RetentionBracket { start: 1, end: 2 }], ..november(3) };
    let resolved = ask(&snapshot, &brackets).expect("an answer").options.expect("options");
    assert_eq!(ask(&snapshot, &resolved).expect("an answer").options, Some(resolved));
}

#[test]
fn numbers_that_are_not_in_the_answer_have_no_persons() {
    let snapshot = snapshot(&opens(1, &[0]), "2026-12-01T00:00:00Z");
    let first = Some(timestamp(us("2026-11-01T00:00:00Z")));
    let key = |other| Some(segue_proto::analytics::v1::GroupKey { values: Vec::new(), other });
    for (cell, path) in [
        (RetentionCellReference::default(), "report.retention.cohort"),
        (RetentionCellReference { cohort: Some(timestamp(0)), ..Default::default() }, "report.retention.cohort"),
        (RetentionCellReference { cohort: first, cell: 2, ..Default::default() }, "report.retention.cell"),
        (RetentionCellReference { cohort: first, group: key(true), ..Default::default() }, "report.retention.group"),
    ] {
        let Err(error) = persons(&snapshot, &november(2), &cell) else { panic!("not refused: {cell:?}") };
        assert_eq!(error.field_violations().first().map(|violation| violation.field.as_str()), Some(path));
    }
    let everybody = RetentionCellReference { cohort: first, group: key(false), ..Default::default() };
    assert_eq!(persons(&snapshot, &november(2), &everybody).expect("persons").len(), 1);
}

#[test]
fn a_breakdown_with_more_values_than_the_limit_is_refused_with_advice() {
    let events: Vec<ResolvedEvent> =
        (0..50).map(|person| with_platform(event("open", us("2026-11-01T12:00:00Z"), person), &person.to_string())).collect();
    let snapshot = snapshot(&events, "2026-12-01T00:00:00Z");
    let request = QueryRetentionRequest { breakdown: Some(RetentionBreakdown { field: Some(platform()), top: 0 }), ..november(2) };
    let cancel = CancellationToken::new();
    let mut limits = QueryLimits::default();
    for (cells_max, refused) in [(49, true), (50, true), (62, true), (66, false)] {
        limits.report.cells_max = cells_max;
        let context = Context { snapshot: &snapshot, zone: Tz::UTC, limits, cancel: &cancel };
        let answer = retention::query(&context, &request);
        assert_eq!(matches!(answer, Err(QueryError::TooManyGroups { .. })), refused, "{cells_max}");
    }
}
