//! What the numbers mean, case by case.

use segue_proto::analytics::v1::{Formula, Grain};

use super::*;
use crate::events::did;

const NOON: &str = "2026-11-10T12:00:00Z";

fn totals(events: &[ResolvedEvent], metrics: Vec<Metric>) -> Vec<Number> {
    report(events, &november(metrics)).groups[0].totals.clone()
}

#[test]
fn one_device_that_buys_three_times_is_total_three_and_unique_one() {
    let events = vec![event("df_purchase", NOON, 1, 1); 3];
    let metrics = vec![metric(Aggregation::Total, &["df_purchase"]), unique(Unit::Unspecified, &["df_purchase"])];
    assert_eq!(totals(&events, metrics), [count(3), count(1)]);
}

#[test]
fn revenue_is_the_sum_of_price_times_quantity() {
    let events = [with_items(event("df_purchase", NOON, 1, 1), vec![item("", Some(1000), Some(2)), item("", Some(500), Some(1))])];
    assert_eq!(totals(&events, vec![metric(Aggregation::Revenue, &["df_purchase"])]), [decimal("2500.0000")]);
}

#[test]
fn two_devices_of_one_profile_are_unique_two_by_device_and_one_by_profile() {
    let events = [event("df_purchase", NOON, 1, 1), event("df_purchase", NOON, 1, 2)];
    assert_eq!(totals(&events, vec![unique(Unit::Device, &[]), unique(Unit::Profile, &[])]), [count(2), count(1)]);
}

#[test]
fn an_item_without_quantity_is_skipped_and_counted_as_skipped() {
    let items = vec![item("a", Some(100), None), item("a", None, Some(3)), item("b", Some(7), Some(2))];
    let events = [with_items(event("df_purchase", NOON, 1, 1), items)];
    let revenue = || metric(Aggregation::Revenue, &[]);
    let second = Metric { name: "again".to_owned(), ..revenue() };
    let answer = report(&events, &november(vec![revenue(), second]));
    assert_eq!((answer.groups[0].totals[0].clone(), answer.skipped_items), (decimal("14.0000"), 2));
    let grouped = QueryEventsRequest { group_by: vec![item_property("category1")], ..november(vec![revenue()]) };
    let answer = report(&events, &grouped);
    assert_eq!(summary(&answer.groups), [("b".to_owned(), vec![decimal("14.0000")]), ("a".to_owned(), vec![decimal("0.0000")])]);
    assert_eq!(answer.skipped_items, 2);
}

#[test]
fn sessions_are_pairs_of_person_and_session_and_accounts_are_accounts() {
    let of = |person, session: &str, account: &str| ResolvedEvent {
        session_id: session.to_owned(),
        account_id: account.to_owned(),
        ..event("x", NOON, person, 0)
    };
    let events = [of(1, "s", "a"), of(1, "s", "a"), of(2, "s", "a"), of(2, "t", ""), of(2, "", "b")];
    let answer = report(&events, &november(vec![unique(Unit::Session, &[]), unique(Unit::Account, &[]), unique(Unit::Device, &[])]));
    assert_eq!(answer.groups[0].totals, [count(3), count(2), count(0)]);
    // Every event lacks at least the device; each is counted once.
    assert_eq!(answer.without_unit, 5);
}

#[test]
fn aliases_and_several_names_count_as_one_metric() {
    let events = [event("df_purchase", NOON, 1, 1), event("df_refund", NOON, 1, 1), event("other", NOON, 1, 1)];
    let request = november(vec![
        metric(Aggregation::Total, &["Order Completed", "abx:purchase", "df_refund"]),
        metric(Aggregation::Total, &[]),
        metric(Aggregation::Total, &["never seen"]),
    ]);
    let answer = report(&events, &request);
    assert_eq!(answer.groups[0].totals, [count(2), count(3), count(0)]);
    let resolved = answer.options.expect("options").metrics;
    assert_eq!(resolved[0].events, ["df_purchase", "df_refund"]);
    let names: Vec<&str> = resolved.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["total_df_purchase_df_refund", "total", "total_never_seen"]);
}

#[test]
fn missing_is_a_group_of_its_own_and_differs_from_the_empty_string() {
    let on = |platform: &str| with_dimension(event("x", NOON, 1, 1), "platform", platform);
    let events = [on("web"), on("web"), on(""), event("x", NOON, 1, 1)];
    let request = QueryEventsRequest { group_by: vec![dimension("platform")], ..november(vec![metric(Aggregation::Total, &[])]) };
    let answer = report(&events, &request);
    let expected = [("web", 2), ("", 1), ("∅", 1)].map(|(name, total)| (name.to_owned(), vec![count(total)]));
    assert_eq!(summary(&answer.groups), expected);
    assert_eq!(answer.groups_total, 3);
}

#[test]
fn the_other_group_and_the_total_count_distinct_units_once() {
    let on = |platform: &str, device| with_dimension(event("x", NOON, 1, device), "platform", platform);
    let events = [on("a", 1), on("a", 2), on("a", 3), on("b", 1), on("b", 2), on("c", 1), on("d", 1)];
    let request = QueryEventsRequest { group_by: vec![dimension("platform")], top: 1, ..november(vec![unique(Unit::Device, &[])]) };
    let answer = report(&events, &request);
    let expected = [("a", 3), ("…", 2)].map(|(name, total)| (name.to_owned(), vec![count(total)]));
    assert_eq!(summary(&answer.groups), expected);
    assert_eq!((answer.total.expect("a total").totals, answer.groups_total), (vec![count(3)], 4));
}

#[test]
fn grouping_by_an_item_property_makes_the_row_the_item() {
    let items =
        vec![item("baby", Some(1000), Some(2)), item("baby", Some(500), Some(1)), item("food", Some(10), Some(1)), item("", None, None)];
    let events = [with_items(event("df_purchase", NOON, 1, 1), items), event("df_purchase", NOON, 2, 2)];
    let quantity = Metric { name: "pieces".to_owned(), ..of_field(Aggregation::Sum, item_property("quantity")) };
    let metrics = vec![metric(Aggregation::Total, &[]), metric(Aggregation::Revenue, &[]), unique(Unit::Device, &[]), quantity];
    let request = QueryEventsRequest { group_by: vec![item_property("category1")], ..november(metrics) };
    let answer = report(&events, &request);
    let expected = [
        ("baby".to_owned(), vec![count(2), decimal("2500.0000"), count(1), int(3)]),
        ("food".to_owned(), vec![count(1), decimal("10.0000"), count(1), int(1)]),
        ("∅".to_owned(), vec![count(1), decimal("0.0000"), count(1), int(0)]),
    ];
    assert_eq!(summary(&answer.groups), expected);
    assert!(answer.options.expect("options").item_level);
}

#[test]
fn several_item_group_bys_refer_to_the_same_item() {
    let with = |category: &str, brand: &str| Item { brand: brand.to_owned(), ..item(category, Some(1), Some(1)) };
    let events = [with_items(event("x", NOON, 1, 1), vec![with("a", "p"), with("b", "q")])];
    let group_by = vec![item_property("category1"), item_property("brand")];
    let answer = report(&events, &QueryEventsRequest { group_by, ..november(vec![metric(Aggregation::Total, &[])]) });
    assert_eq!(summary(&answer.groups), ["a|p", "b|q"].map(|name| (name.to_owned(), vec![count(1)])));
}

#[test]
fn any_all_and_none_say_which_items_must_match() {
    let bought = |categories: &[&str]| {
        with_items(event("df_purchase", NOON, 1, 1), categories.iter().map(|category| item(category, Some(1), Some(1))).collect())
    };
    let events = [bought(&["jewel"]), bought(&["jewel", "food"]), bought(&["food"]), bought(&[])];
    for (operator, items, expected) in [
        (Operator::In, ItemMatch::Unspecified, 2),
        (Operator::In, ItemMatch::Any, 2),
        (Operator::In, ItemMatch::All, 1),
        (Operator::In, ItemMatch::None, 2),
        // "bought something else" is not "bought no jewellery".
        (Operator::NotIn, ItemMatch::Any, 2),
        (Operator::NotIn, ItemMatch::All, 1),
        (Operator::NotIn, ItemMatch::None, 2),
    ] {
        let filter = compare_items(item_property("category1"), operator, vec![text("jewel")], items);
        let request = QueryEventsRequest { filter: Some(filter), ..november(vec![metric(Aggregation::Total, &[])]) };
        assert_eq!(report(&events, &request).groups[0].totals, [count(expected)], "{operator:?} {items:?}");
    }
}

#[test]
fn every_operator_treats_missing_as_the_contract_says() {
    let plain = || event("x", NOON, 1, 1);
    let rich = |number: i64, label: &str| {
        let event = with_property(plain(), "size", Kind::IntValue(number));
        let event = with_property(event, "price", Kind::DecimalE4Value(number * 5_000));
        let event = with_property(event, "when", Kind::TimestampValue(timestamp(us(NOON) + number)));
        let event = with_property(event, "vip", Kind::BoolValue(number > 1));
        let event = with_property(event, "score", Kind::DoubleValue(number as f64 / 2.0));
        with_property(with_property(event, "label", text(label)), "list", Kind::JsonValue("[1]".to_owned()))
    };
    let events = [rich(1, ""), rich(2, "abc"), rich(3, "bcd"), plain()];
    let at = |number: i64| Kind::TimestampValue(timestamp(us(NOON) + number));
    for (name, operator, values, expected) in [
        ("label", Operator::In, vec![text(""), text("abc")], 2),
        ("label", Operator::NotIn, vec![text(""), text("abc")], 2),
        ("label", Operator::Contains, vec![text("bc")], 2),
        ("label", Operator::NotContains, vec![text("bc")], 2),
        ("label", Operator::StartsWith, vec![text("a"), text("z")], 1),
        ("label", Operator::EndsWith, vec![text("d")], 1),
        ("label", Operator::Exists, vec![], 3),
        ("label", Operator::NotExists, vec![], 1),
        ("list", Operator::Exists, vec![], 3),
        ("size", Operator::Less, vec![Kind::IntValue(2)], 1),
        ("size", Operator::LessOrEqual, vec![Kind::DoubleValue(2.5)], 2),
        ("size", Operator::Greater, vec![Kind::DecimalE4Value(25_000)], 1),
        ("size", Operator::GreaterOrEqual, vec![Kind::IntValue(2)], 2),
        ("size", Operator::Between, vec![Kind::IntValue(1), Kind::IntValue(3)], 2),
        ("size", Operator::NotIn, vec![Kind::IntValue(1)], 3),
        ("price", Operator::In, vec![Kind::DoubleValue(1.5), Kind::IntValue(1)], 2),
        ("price", Operator::Less, vec![Kind::DecimalE4Value(10_000)], 1),
        ("score", Operator::In, vec![Kind::DoubleValue(0.5), Kind::IntValue(1)], 2),
        ("score", Operator::Greater, vec![Kind::DecimalE4Value(9_999)], 2),
        ("when", Operator::Between, vec![at(2), at(3)], 1),
        ("when", Operator::In, vec![at(3)], 1),
        ("vip", Operator::In, vec![Kind::BoolValue(true)], 2),
        ("vip", Operator::NotIn, vec![Kind::BoolValue(true)], 2),
        // Known to the catalogue, never seen.
        ("df_order_id", Operator::NotExists, vec![], 4),
        ("df_order_id", Operator::In, vec![text("1")], 0),
    ] {
        let filter = compare(property(name), operator, values);
        let run = |filter| {
            let request = QueryEventsRequest { filter: Some(filter), ..november(vec![metric(Aggregation::Total, &[])]) };
            report(&events, &request).groups[0].totals.clone()
        };
        assert_eq!(run(filter.clone()), [count(expected)], "{name} {operator:?}");
        assert_eq!(run(not(filter)), [count(4 - expected)], "not {name} {operator:?}");
    }
}

#[test]
fn empty_lists_and_unset_filters_mean_what_the_contract_says() {
    let events = [event("x", NOON, 1, 1)];
    for (filter, expected) in [(all_of(vec![]), 1), (any_of(vec![]), 0), (Filter::default(), 1), (not(Filter::default()), 0)] {
        let request = QueryEventsRequest { filter: Some(filter), ..november(vec![metric(Aggregation::Total, &[])]) };
        assert_eq!(report(&events, &request).groups[0].totals, [count(expected)]);
    }
}

#[test]
fn aggregations_of_fields_keep_their_types() {
    let of = |size: i64, price: i64, score: f64| {
        let event = with_property(event("x", NOON, 1, 1), "size", Kind::IntValue(size));
        let event = with_property(event, "price", Kind::DecimalE4Value(price));
        with_property(with_property(event, "score", Kind::DoubleValue(score)), "when", Kind::TimestampValue(timestamp(us(NOON) + size)))
    };
    let events = [of(1, 10_001, 0.5), of(2, 20_000, 1.5), of(4, 20_000, -1.0), event("x", NOON, 1, 1)];
    let time = |offset: i64| Number { kind: Some(NumberKind::Time(timestamp(us(NOON) + offset))) };
    let median = |field| Metric { percentile: 50.0, ..of_field(Aggregation::Percentile, field) };
    for (metric, expected) in [
        (of_field(Aggregation::Count, property("size")), count(3)),
        (of_field(Aggregation::Count, dimension("platform")), count(0)),
        (of_field(Aggregation::DistinctCount, property("price")), count(2)),
        (of_field(Aggregation::DistinctCount, dimension("event")), count(1)),
        (of_field(Aggregation::Sum, property("size")), int(7)),
        (of_field(Aggregation::Sum, property("price")), decimal("5.0001")),
        (of_field(Aggregation::Sum, property("score")), double(1.0)),
        (of_field(Aggregation::Average, property("size")), double(7.0 / 3.0)),
        (of_field(Aggregation::Min, property("price")), decimal("1.0001")),
        (of_field(Aggregation::Max, property("price")), decimal("2.0000")),
        (of_field(Aggregation::Min, property("score")), double(-1.0)),
        (of_field(Aggregation::Max, property("size")), int(4)),
        (of_field(Aggregation::Min, property("when")), time(1)),
        (of_field(Aggregation::Max, property("when")), time(4)),
        (median(property("size")), double(2.0)),
        (median(property("score")), double(0.5)),
        (of_field(Aggregation::Average, property("df_total_purchase_amount")), NOTHING),
        (of_field(Aggregation::Sum, property("df_total_purchase_amount")), decimal("0.0000")),
    ] {
        assert_eq!(totals(&events, vec![metric.clone()]), [expected], "{metric:?}");
    }
}

#[test]
fn item_fields_of_an_event_report_take_every_item() {
    let items = vec![item("a", Some(3), Some(2)), item("b", Some(1), None), item("b", None, Some(5))];
    let events = [with_items(event("x", NOON, 1, 1), items), event("x", NOON, 1, 1)];
    let metrics = vec![
        of_field(Aggregation::Count, item_property("quantity")),
        of_field(Aggregation::Sum, item_property("quantity")),
        of_field(Aggregation::Max, item_property("price")),
        of_field(Aggregation::DistinctCount, item_property("category1")),
    ];
    assert_eq!(totals(&events, metrics), [count(2), int(7), decimal("3.0000"), count(2)]);
}

#[test]
fn periods_are_cut_by_the_range_and_empty_ones_are_there() {
    let events =
        [event("x", "2026-11-04T10:00:00Z", 1, 1), event("x", "2026-11-17T09:00:00Z", 1, 1), event("x", "2026-11-17T10:00:00Z", 1, 1)];
    let average = of_field(Aggregation::Average, item_property("quantity"));
    let request = QueryEventsRequest {
        grain: Grain::Week as i32,
        ..request("2026-11-04T10:00:00Z", "2026-11-17T10:00:00Z", vec![metric(Aggregation::Total, &[]), average])
    };
    let answer = report(&events, &request);
    let periods: Vec<_> =
        answer.groups[0].periods.iter().map(|period| (period.start.expect("a start"), period.values[0].clone())).collect();
    let at = |text: &str, n: u64| (timestamp(us(text)), count(n));
    assert_eq!(periods, [at("2026-11-04T10:00:00Z", 1), at("2026-11-09T00:00:00Z", 0), at("2026-11-16T00:00:00Z", 1)]);
    assert_eq!(answer.groups[0].periods[1].values[1], NOTHING);
    assert_eq!(answer.groups[0].totals[0], count(2), "the range is half-open");
}

#[test]
fn days_follow_the_zone_and_its_summer_time() {
    let events =
        [event("x", "2026-10-24T22:30:00Z", 1, 1), event("x", "2026-10-25T22:30:00Z", 1, 1), event("x", "2026-10-25T23:30:00Z", 1, 1)];
    let request = QueryEventsRequest {
        grain: Grain::Day as i32,
        time_zone: "Europe/Berlin".to_owned(),
        ..request("2026-10-24T22:00:00Z", "2026-10-27T23:00:00Z", vec![metric(Aggregation::Total, &[])])
    };
    let answer = report(&events, &request);
    let counts: Vec<_> = answer.groups[0].periods.iter().map(|period| period.values[0].clone()).collect();
    assert_eq!(counts, [count(2), count(1), count(0)]);
}

#[test]
fn a_comparison_has_the_groups_of_the_main_range_and_the_rest_as_other() {
    let on = |platform: &str, time: &str| with_dimension(event("x", time, 1, 1), "platform", platform);
    let events = [
        on("web", "2026-11-02T00:00:00Z"),
        on("ios", "2026-11-02T00:00:00Z"),
        on("web", "2026-10-02T00:00:00Z"),
        on("old", "2026-10-03T00:00:00Z"),
    ];
    let request = QueryEventsRequest {
        group_by: vec![dimension("platform")],
        compare_start: Some(timestamp(us("2026-10-01T00:00:00Z"))),
        ..november(vec![metric(Aggregation::Total, &[])])
    };
    let answer = report(&events, &request);
    let named = |list: &[(&str, u64)]| list.iter().map(|(name, n)| ((*name).to_owned(), vec![count(*n)])).collect::<Vec<_>>();
    assert_eq!(summary(&answer.groups), named(&[("ios", 1), ("web", 1)]));
    assert_eq!(summary(&answer.comparison), named(&[("ios", 0), ("web", 1), ("…", 1)]));
}

#[test]
fn formulas_are_computed_per_row_after_the_metrics() {
    let events = [with_items(event("df_purchase", NOON, 1, 1), vec![item("", Some(1000), Some(2))]), event("df_purchase", NOON, 2, 2)];
    let mut request = november(vec![metric(Aggregation::Revenue, &[]), unique(Unit::Profile, &[]), metric(Aggregation::Total, &["none"])]);
    request.metrics[1].name = "buyers".to_owned();
    request.formulas = ["revenue / buyers", "revenue / total_none", "revenue - 1"]
        .map(|expression| Formula { name: String::new(), expression: expression.to_owned() })
        .to_vec();
    let answer = report(&events, &request);
    assert_eq!(answer.groups[0].totals[3..], [double(1000.0), NOTHING, decimal("1999.0000")]);
}

#[test]
fn a_tenant_without_events_gets_an_empty_report_whatever_it_names() {
    let mut request = november(vec![of_field(Aggregation::Sum, property("unheard_of"))]);
    request.filter = Some(compare(property("also_unknown"), Operator::In, vec![Kind::IntValue(1)]));
    request.group_by = vec![item_property("color")];
    let answer = report(&[], &request);
    assert_eq!((answer.groups.len(), answer.groups_total), (0, 0));
    assert!(answer.options.expect("options").watermark.is_some());
}

#[test]
fn the_event_the_source_and_custom_item_properties_are_dimensions() {
    let mut custom = item("a", Some(1), Some(1));
    custom.properties.insert("color".to_owned(), value(text("red")));
    let first = ResolvedEvent { source: "pos".to_owned(), ..with_items(event("buy", NOON, 1, 1), vec![custom, item("b", None, None)]) };
    let events = [first, event("view", NOON, 1, 1)];
    for (field, expected) in [
        (dimension("event"), vec![("buy", 1), ("view", 1)]),
        (dimension("source"), vec![("pos", 1), ("∅", 1)]),
        (item_property("color"), vec![("red", 1), ("∅", 1)]),
    ] {
        let request = QueryEventsRequest { group_by: vec![field], ..november(vec![metric(Aggregation::Total, &[])]) };
        let expected: Vec<_> = expected.into_iter().map(|(name, n)| (name.to_owned(), vec![count(n)])).collect();
        assert_eq!(summary(&report(&events, &request).groups), expected);
    }
    let filter = compare(dimension("event"), Operator::In, vec![text("buy")]);
    let request = QueryEventsRequest { filter: Some(filter), ..november(vec![metric(Aggregation::Total, &[])]) };
    assert_eq!(report(&events, &request).groups[0].totals, [count(1)]);
}

#[test]
fn among_keeps_the_events_of_persons_who_meet_a_condition() {
    let events = [
        event("df_purchase", NOON, 1, 1),
        event("df_purchase", NOON, 2, 2),
        event("df_purchase", NOON, 2, 2),
        event("df_refund", "2026-10-01T00:00:00Z", 2, 2),
        event("df_purchase", NOON, 3, 3),
    ];
    let refunded = did("df_refund");
    let others = segue_proto::query::v1::Condition { node: Some(segue_proto::query::v1::condition::Node::Not(Box::new(refunded.clone()))) };
    let of = |among: segue_proto::query::v1::Condition| {
        let metrics = vec![metric(Aggregation::Total, &["df_purchase"]), unique(Unit::Profile, &["df_purchase"])];
        let answer = report(&events, &QueryEventsRequest { among: Some(among.clone()), ..november(metrics) });
        assert_eq!(answer.options.expect("options").among, Some(among));
        answer.groups[0].totals.clone()
    };
    assert_eq!(of(refunded), [count(2), count(1)]);
    assert_eq!(of(others), [count(2), count(2)]);
}
