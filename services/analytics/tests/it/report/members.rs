//! The persons behind a number.

use chrono_tz::Tz;
use proptest::prelude::*;
use segue_model::Code;
use segue_proto::analytics::v1::Grain;
use segue_runtime::status::ServiceError;

use super::same_as_reference::{any_event, any_request, knows_all};
use super::*;

fn cell() -> EventCell {
    EventCell::default()
}

#[test]
fn a_number_gives_the_persons_whose_events_it_counts() {
    let on = |time: &str, person, platform: &str| with_dimension(event("buy", time, person, person), "platform", platform);
    let mut without_device = on("2026-11-03T10:00:00Z", 5, "web");
    without_device.device = 0;
    let events = [
        on("2026-11-02T10:00:00Z", 1, "web"),
        on("2026-11-03T10:00:00Z", 1, "web"),
        on("2026-11-03T10:00:00Z", 2, "web"),
        on("2026-11-03T10:00:00Z", 3, "ios"),
        on("2026-11-04T10:00:00Z", 4, "tv"),
        on("2026-10-20T10:00:00Z", 7, "web"),
        without_device,
    ];
    let request = QueryEventsRequest {
        grain: Grain::Day as i32,
        group_by: vec![dimension("platform")],
        top: 1,
        compare_start: Some(timestamp(us("2026-10-02T00:00:00Z"))),
        ..november(vec![metric(Aggregation::Total, &["buy"]), unique(Unit::Device, &["buy"])])
    };
    let third = Some(timestamp(us("2026-11-03T00:00:00Z")));
    let web = || Some(group_key(&[Some("web")], false));
    let other = || Some(group_key(&[], true));
    for (cell, expected) in [
        (cell(), vec![1, 2, 3, 4, 5]),
        (EventCell { group: web(), ..cell() }, vec![1, 2, 5]),
        (EventCell { group: web(), metric: 1, ..cell() }, vec![1, 2]),
        (EventCell { group: web(), period: third, ..cell() }, vec![1, 2, 5]),
        (EventCell { period: third, ..cell() }, vec![1, 2, 3, 5]),
        (EventCell { group: other(), ..cell() }, vec![3, 4]),
        (EventCell { group: other(), period: third, ..cell() }, vec![3]),
        (EventCell { group: Some(group_key(&[None], false)), ..cell() }, vec![]),
        (EventCell { group: web(), comparison: true, ..cell() }, vec![7]),
        (EventCell { group: other(), comparison: true, ..cell() }, vec![]),
    ] {
        assert_eq!(persons_of(&events, &request, &cell).expect("persons"), expected, "{cell:?}");
    }
    assert!(!report(&events, &request).persons_token.is_empty());
}

#[test]
fn cells_that_the_answer_does_not_have_are_refused() {
    let request = QueryEventsRequest { group_by: vec![dimension("platform")], ..november(vec![metric(Aggregation::Total, &[])]) };
    for (cell, path) in [
        (EventCell { metric: 1, ..cell() }, "report.event.metric"),
        (EventCell { comparison: true, ..cell() }, "report.event.comparison"),
        (EventCell { period: Some(timestamp(us("2026-11-01T00:00:00Z"))), ..cell() }, "report.event.period"),
        (EventCell { group: Some(group_key(&[], false)), ..cell() }, "report.event.group.values"),
    ] {
        let error = persons_of(&[event("buy", "2026-11-02T10:00:00Z", 1, 1)], &request, &cell).expect_err("a fault");
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.field_violations().into_iter().map(|violation| violation.field).collect::<Vec<_>>(), [path]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn persons_behind_every_number_are_those_of_the_plain_reference(
        mut events in prop::collection::vec(any_event(), 0..30),
        request in any_request(),
        metric in any::<prop::sample::Index>(),
    ) {
        events.insert(0, knows_all());
        let zone: Tz = if request.time_zone.is_empty() { Tz::UTC } else { request.time_zone.parse().expect("a zone") };
        let answer = report(&events, &request);
        let metric = metric.index(request.metrics.len()) as u32;
        let of = |comparison: bool, group: &Group| {
            let key = Some(GroupKey { values: group.values.clone(), other: group.other });
            let periods = group.periods.iter().map(|period| period.start).filter(|_| !group.periods.is_empty());
            let periods: Vec<Option<Timestamp>> = std::iter::once(None).chain(periods.take(2)).collect();
            periods.into_iter().map(move |period| EventCell { group: key.clone(), period, metric, comparison }).collect::<Vec<_>>()
        };
        let mut cells = vec![EventCell { metric, ..EventCell::default() }];
        cells.extend(answer.groups.iter().take(3).flat_map(|group| of(false, group)));
        cells.extend(answer.groups.iter().filter(|group| group.other).flat_map(|group| of(false, group)));
        cells.extend(answer.comparison.iter().filter(|group| group.other).flat_map(|group| of(true, group)));
        cells.extend(answer.comparison.iter().take(2).flat_map(|group| of(true, group)));
        for cell in cells {
            let found = persons_of(&events, &request, &cell).expect("persons");
            let wanted: Vec<u32> = reference::persons(&events, &request, zone, &cell).into_iter().collect();
            prop_assert_eq!(found, wanted, "{:?}", cell);
        }
    }
}
