//! How attribution-dependent dimensions are read.

use segue_model::Code;
use segue_proto::analytics::v1::{Attribution, AttributionModel, Grain};
use segue_runtime::status::ServiceError;

use super::*;

const DAY: i64 = 86_400;

fn attributed(model: AttributionModel) -> Attribution {
    Attribution { model: model as i32, ..Attribution::default() }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn click(time: &str, person: u32, campaign: &str) -> ResolvedEvent {
    with_dimension(event("df_ad_response", time, person, person), "ad_campaign", campaign)
}

fn purchase(time: &str, person: u32, price: i64) -> ResolvedEvent {
    with_items(event("df_purchase", time, person, person), vec![item("", Some(price), Some(1))])
}

/// Purchases of November by campaign.
fn by_campaign(attribution: Option<Attribution>, metrics: Vec<Metric>) -> QueryEventsRequest {
    QueryEventsRequest { group_by: vec![dimension("ad_campaign")], attribution, ..november(metrics) }
}

fn purchases() -> Metric {
    metric(Aggregation::Total, &["df_purchase"])
}

/// A person who touched a, b and c on three days, and bought on the day after for 90.
fn journey() -> Vec<ResolvedEvent> {
    vec![
        click("2026-11-10T00:00:00Z", 1, "a"),
        click("2026-11-11T00:00:00Z", 1, "b"),
        click("2026-11-12T00:00:00Z", 1, "c"),
        purchase("2026-11-13T00:00:00Z", 1, 90),
    ]
}

fn group(name: &str, number: Number) -> (String, Vec<Number>) {
    (name.to_owned(), vec![number])
}

#[test]
fn each_model_puts_a_purchase_in_the_groups_that_it_credits() {
    let thirds = || [("a", "0.3333"), ("b", "0.3333"), ("c", "0.3333")].map(|(name, share)| group(name, decimal(share))).to_vec();
    let shares = |shares: [(&str, &str); 3]| shares.map(|(name, share)| group(name, decimal(share))).to_vec();
    for (attribution, expected) in [
        (None, vec![group("c", count(1))]),
        (Some(attributed(AttributionModel::Unspecified)), vec![group("c", count(1))]),
        (Some(attributed(AttributionModel::LastTouch)), vec![group("c", count(1))]),
        (Some(attributed(AttributionModel::FirstTouch)), vec![group("a", count(1))]),
        (Some(attributed(AttributionModel::Event)), vec![group("∅", count(1))]),
        (Some(attributed(AttributionModel::Linear)), thirds()),
        (Some(attributed(AttributionModel::Position)), shares([("a", "0.4000"), ("c", "0.4000"), ("b", "0.2000")])),
        // Half-life one day, ages 3, 2 and 1: weights 1, 2 and 4.
        (
            Some(Attribution { half_life: seconds(DAY), ..attributed(AttributionModel::TimeDecay) }),
            shares([("c", "0.5714"), ("b", "0.2857"), ("a", "0.1429")]),
        ),
        // Two touches in the window: half each.
        (
            Some(Attribution { look_back: seconds(5 * DAY / 2), ..attributed(AttributionModel::Position) }),
            vec![group("b", decimal("0.5000")), group("c", decimal("0.5000"))],
        ),
    ] {
        let answer = report(&journey(), &by_campaign(attribution, vec![purchases()]));
        assert_eq!(summary(&answer.groups), expected, "{attribution:?}");
    }
}

#[test]
fn the_default_is_the_last_touch_within_seven_days_and_the_answer_says_so() {
    let of = |touch: &str| {
        let events = [click(touch, 1, "a"), purchase("2026-11-20T12:00:00Z", 1, 1)];
        let answer = report(&events, &by_campaign(None, vec![purchases()]));
        let said = answer.options.expect("options").attribution.expect("an attribution");
        assert_eq!((said.model(), said.look_back, said.half_life), (AttributionModel::LastTouch, seconds(7 * DAY), None));
        summary(&answer.groups)
    };
    // Exactly seven days ago is outside the half-open window.
    assert_eq!(of("2026-11-13T12:00:00Z"), [group("∅", count(1))]);
    assert_eq!(of("2026-11-13T12:00:01Z"), [group("a", count(1))]);
    // What comes later is no touch.
    assert_eq!(of("2026-11-20T12:00:01Z"), [group("∅", count(1))]);
}

#[test]
fn touches_before_the_range_count_and_periods_are_those_of_the_event() {
    let events = [click("2026-10-30T00:00:00Z", 1, "a"), purchase("2026-11-02T00:00:00Z", 1, 1)];
    let request = QueryEventsRequest { grain: Grain::Day as i32, ..by_campaign(None, vec![purchases()]) };
    let answer = report(&events, &request);
    assert_eq!(summary(&answer.groups), [group("a", count(1))]);
    let days: Vec<&Number> = answer.groups[0].periods.iter().map(|period| &period.values[0]).collect();
    assert_eq!(days[..3], [&count(0), &count(1), &count(0)]);
}

#[test]
fn an_event_that_carries_values_is_its_own_last_touch() {
    let own = with_dimension(purchase("2026-11-20T12:00:00Z", 1, 1), "ad_campaign", "own");
    let at_once = [click("2026-11-20T12:00:00Z", 1, "before"), own.clone(), click("2026-11-20T12:00:00Z", 1, "after")];
    assert_eq!(summary(&report(&at_once, &by_campaign(None, vec![purchases()])).groups), [group("own", count(1))]);
    let first = Some(attributed(AttributionModel::FirstTouch));
    assert_eq!(summary(&report(&at_once, &by_campaign(first, vec![purchases()])).groups), [group("before", count(1))]);
    // Of two events at one time, the one that came in later is not before the other.
    let reversed = [purchase("2026-11-20T12:00:00Z", 1, 1), click("2026-11-20T12:00:00Z", 1, "after")];
    assert_eq!(summary(&report(&reversed, &by_campaign(None, vec![purchases()])).groups), [group("∅", count(1))]);
}

#[test]
fn all_dimensions_of_an_event_are_of_one_touch() {
    let events = [
        with_dimension(click("2026-11-10T00:00:00Z", 1, "a"), "channel_group", "search"),
        with_dimension(event("df_app_open", "2026-11-11T00:00:00Z", 1, 1), "tracking_link", "t1"),
        purchase("2026-11-12T00:00:00Z", 1, 1),
    ];
    // The last touch carries neither campaign nor channel, so that both are missing.
    let fields = vec![dimension("ad_campaign"), dimension("channel_group")];
    let request = |attribution| QueryEventsRequest { group_by: fields.clone(), attribution, ..november(vec![purchases()]) };
    assert_eq!(summary(&report(&events, &request(None)).groups), [group("∅|∅", count(1))]);
    let first = Some(attributed(AttributionModel::FirstTouch));
    assert_eq!(summary(&report(&events, &request(first)).groups), [group("a|search", count(1))]);
    let link = QueryEventsRequest { group_by: vec![dimension("tracking_link")], ..november(vec![purchases()]) };
    assert_eq!(summary(&report(&events, &link).groups), [group("t1", count(1))]);
}

#[test]
fn touches_are_those_of_the_person_and_not_of_others() {
    let events = [click("2026-11-10T00:00:00Z", 1, "a"), purchase("2026-11-11T00:00:00Z", 2, 1), purchase("2026-11-11T00:00:00Z", 3, 1)];
    assert_eq!(summary(&report(&events, &by_campaign(None, vec![purchases()])).groups), [group("∅", count(2))]);
}

#[test]
fn shared_credit_makes_decimals_of_counts_and_sums_and_leaves_distinct_counts_whole() {
    let events: Vec<ResolvedEvent> = journey()
        .into_iter()
        .map(|event| with_property(event, "size", Kind::IntValue(7)))
        .map(|mut event| {
            event.session_id = "s".to_owned();
            event
        })
        .collect();
    let of = |aggregation| Metric { events: vec!["df_purchase".to_owned()], ..of_field(aggregation, property("size")) };
    let metrics = vec![
        purchases(),
        metric(Aggregation::Revenue, &["df_purchase"]),
        unique(Unit::Profile, &["df_purchase"]),
        unique(Unit::Device, &["df_purchase"]),
        unique(Unit::Session, &["df_purchase"]),
        of(Aggregation::Count),
        of(Aggregation::Sum),
        of(Aggregation::Average),
        of(Aggregation::Min),
        Metric { percentile: 50.0, ..of(Aggregation::Percentile) },
    ];
    let answer = report(&events, &by_campaign(Some(attributed(AttributionModel::Position)), metrics));
    let row = |share: &str, money: &str, sum: &str| {
        vec![decimal(share), decimal(money), count(1), count(1), count(1), decimal(share), decimal(sum), double(7.0), int(7), double(7.0)]
    };
    assert_eq!(
        summary(&answer.groups),
        [
            ("a".to_owned(), row("0.4000", "36.0000", "2.8000")),
            ("c".to_owned(), row("0.4000", "36.0000", "2.8000")),
            ("b".to_owned(), row("0.2000", "18.0000", "1.4000")),
        ]
    );
    assert_eq!(answer.total.expect("a total").totals, row("1.0000", "90.0000", "7.0000"));
}

#[test]
fn shares_of_many_events_add_up_to_them() {
    let mut events = Vec::new();
    for person in 1..=30 {
        events.push(click("2026-11-10T00:00:00Z", person, "a"));
        events.push(click("2026-11-10T00:00:01Z", person, "b"));
        events.push(click("2026-11-10T00:00:02Z", person, "c"));
        events.push(purchase("2026-11-11T00:00:00Z", person, 10));
    }
    let request =
        by_campaign(Some(attributed(AttributionModel::Linear)), vec![purchases(), metric(Aggregation::Revenue, &["df_purchase"])]);
    let answer = report(&events, &request);
    let tenth = || vec![decimal("10.0000"), decimal("100.0000")];
    assert_eq!(summary(&answer.groups), ["a", "b", "c"].map(|name| (name.to_owned(), tenth())));
    assert_eq!(answer.total.expect("a total").totals, [decimal("30.0000"), decimal("300.0000")]);
}

#[test]
fn filters_keep_the_share_of_the_touches_that_pass() {
    let on_b = compare(dimension("ad_campaign"), Operator::In, vec![text("b")]);
    let no_group = QueryEventsRequest {
        filter: Some(on_b.clone()),
        attribution: Some(attributed(AttributionModel::Position)),
        ..november(vec![purchases(), unique(Unit::Profile, &["df_purchase"])])
    };
    assert_eq!(report(&journey(), &no_group).groups[0].totals, [decimal("0.2000"), count(1)]);
    // Of one metric alone; the other's rows are not shared, yet all columns are of one kind.
    let of_metric = QueryEventsRequest {
        attribution: Some(attributed(AttributionModel::Position)),
        ..november(vec![Metric { filter: Some(on_b), ..purchases() }, Metric { name: "all".to_owned(), ..purchases() }])
    };
    assert_eq!(report(&journey(), &of_metric).groups[0].totals, [decimal("0.2000"), decimal("1.0000")]);
    // The last touch is c, so that nothing passes.
    let last = QueryEventsRequest { attribution: None, ..no_group };
    assert_eq!(report(&journey(), &last).groups[0].totals, [count(0), count(0)]);
}

#[test]
fn metrics_of_a_dimension_count_the_values_of_touches() {
    let of = |aggregation| Metric { events: vec!["df_purchase".to_owned()], ..of_field(aggregation, dimension("ad_campaign")) };
    let request =
        |attribution| QueryEventsRequest { attribution, ..november(vec![of(Aggregation::Count), of(Aggregation::DistinctCount)]) };
    assert_eq!(report(&journey(), &request(None)).groups[0].totals, [count(1), count(1)]);
    let linear = Some(attributed(AttributionModel::Linear));
    assert_eq!(report(&journey(), &request(linear)).groups[0].totals, [decimal("1.0000"), count(3)]);
    let event = Some(attributed(AttributionModel::Event));
    assert_eq!(report(&journey(), &request(event)).groups[0].totals, [count(0), count(0)]);
}

#[test]
fn equal_values_of_several_touches_are_one_group_with_all_their_shares() {
    let events = [
        click("2026-11-10T00:00:00Z", 1, "a"),
        click("2026-11-11T00:00:00Z", 1, "b"),
        click("2026-11-12T00:00:00Z", 1, "a"),
        purchase("2026-11-13T00:00:00Z", 1, 1),
    ];
    let median =
        Metric { percentile: 50.0, events: vec!["df_purchase".to_owned()], ..of_field(Aggregation::Percentile, item_property("price")) };
    let answer = report(&events, &by_campaign(Some(attributed(AttributionModel::Position)), vec![purchases(), median]));
    assert_eq!(
        summary(&answer.groups),
        [("a".to_owned(), vec![decimal("0.8000"), double(1.0)]), ("b".to_owned(), vec![decimal("0.2000"), double(1.0)])]
    );
}

#[test]
fn events_left_out_are_counted_once_whatever_their_shares() {
    let mut events = journey();
    let bought = events.last_mut().expect("a purchase");
    bought.device = 0;
    bought.items.push(item("", None, Some(1)));
    let metrics = vec![metric(Aggregation::Revenue, &["df_purchase"]), unique(Unit::Device, &["df_purchase"])];
    let linear = Some(attributed(AttributionModel::Linear));
    let answer = report(&events, &by_campaign(linear, metrics.clone()));
    assert_eq!((answer.skipped_items, answer.without_unit), (1, 1));
    let by_item =
        QueryEventsRequest { group_by: vec![item_property("category1"), dimension("ad_campaign")], ..by_campaign(linear, metrics) };
    let answer = report(&events, &by_item);
    assert_eq!((answer.skipped_items, answer.without_unit), (1, 1));
}

#[test]
fn reports_that_name_no_such_dimension_say_nothing_of_attribution_and_count_whole_events() {
    let request = QueryEventsRequest { attribution: Some(attributed(AttributionModel::Linear)), ..november(vec![purchases()]) };
    let answer = report(&journey(), &request);
    assert_eq!(answer.options.expect("options").attribution, None);
    assert_eq!(answer.groups[0].totals, [count(1)]);
}

#[test]
fn persons_behind_a_credited_number_are_those_with_a_share() {
    let mut events = journey();
    events.push(purchase("2026-11-13T00:00:00Z", 2, 1));
    let of = |model, campaign| {
        let cell = EventCell { group: Some(group_key(&[campaign], false)), ..EventCell::default() };
        persons_of(&events, &by_campaign(Some(attributed(model)), vec![purchases()]), &cell).expect("persons")
    };
    assert_eq!(of(AttributionModel::LastTouch, Some("c")), [1]);
    assert_eq!(of(AttributionModel::LastTouch, Some("a")), [] as [u32; 0]);
    assert_eq!(of(AttributionModel::Linear, Some("a")), [1]);
    assert_eq!(of(AttributionModel::Linear, None), [2]);
}

#[test]
fn faulty_attributions_are_refused() {
    let of = |attribution| run(&journey(), &by_campaign(Some(attribution), vec![purchases()])).expect_err("a fault");
    for (attribution, path) in [
        (Attribution { model: 99, ..Attribution::default() }, "attribution.model"),
        (Attribution { look_back: seconds(0), ..Attribution::default() }, "attribution.look_back"),
        (Attribution { look_back: seconds(181 * DAY), ..Attribution::default() }, "attribution.look_back"),
        (Attribution { look_back: seconds(DAY), ..attributed(AttributionModel::Event) }, "attribution.look_back"),
        (Attribution { half_life: seconds(DAY), ..Attribution::default() }, "attribution.half_life"),
        (Attribution { half_life: seconds(-1), ..attributed(AttributionModel::TimeDecay) }, "attribution.half_life"),
    ] {
        let error = of(attribution);
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.field_violations().into_iter().map(|violation| violation.field).collect::<Vec<_>>(), [path], "{attribution:?}");
    }
}
