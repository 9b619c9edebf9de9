//! The general event report.

use segue_proto::analytics::v1::{
    Aggregation, Formula, Grain, Group, Metric, Number, QueryEventsRequest, QueryEventsResponse, Unit, number,
};
use segue_proto::query::v1::{Condition, Field, ItemMatch, Operator, condition::Node};
use segue_proto::{analytics::v1::GroupKey, query::v1::Behavior};
use segue_tests::events::{dimension, metric, timestamp};

use super::case::Question::Events;
use super::case::{Case, case};
use super::group_key;
use super::story::offset_us;
use super::words::{compare_items, is, item_property, on, property, span, text};

fn report(metrics: Vec<Metric>) -> QueryEventsRequest {
    QueryEventsRequest { metrics, ..Default::default() }
}

fn total(events: &str) -> Metric {
    of(Aggregation::Total, events)
}

fn unique(unit: Unit) -> Metric {
    metric(&format!("unique_{unit:?}"), &[], Aggregation::Unique, unit)
}

fn of(aggregation: Aggregation, events: &str) -> Metric {
    let names: Vec<&str> = events.split_whitespace().collect();
    metric(&format!("{aggregation:?}_{}", names.join("_")), &names, aggregation, Unit::Unspecified)
}

fn of_field(aggregation: Aggregation, field: Field) -> Metric {
    Metric { field: Some(field), ..of(aggregation, "") }
}

fn by(metrics: Vec<Metric>, group_by: Vec<Field>) -> QueryEventsRequest {
    QueryEventsRequest { group_by, ..report(metrics) }
}

fn number(number: &Number) -> String {
    match &number.kind {
        None => "∅".to_owned(),
        Some(number::Kind::Count(count)) => count.to_string(),
        Some(number::Kind::Decimal(decimal)) => decimal.clone(),
        Some(number::Kind::Double(double)) => double.to_string(),
        Some(number::Kind::Int(int)) => int.to_string(),
        Some(number::Kind::Time(time)) => time.to_string(),
    }
}

fn numbers(numbers: &[Number]) -> String {
    numbers.iter().map(number).collect::<Vec<_>>().join(" ")
}

fn totals(answer: &QueryEventsResponse) -> String {
    answer.total.as_ref().map(|total| numbers(&total.totals)).unwrap_or_default()
}

fn of_groups(groups: &[Group]) -> String {
    let shown = groups.iter().map(|group| {
        let key = GroupKey { values: group.values.clone(), other: group.other };
        format!("{}: {}", group_key(Some(&key)), numbers(&group.totals))
    });
    shown.collect::<Vec<_>>().join("; ")
}

fn groups(answer: &QueryEventsResponse) -> String {
    of_groups(&answer.groups)
}

/// The groups, and what stands beside them.
fn item_groups(answer: &QueryEventsResponse) -> String {
    let item_level = answer.options.as_ref().is_some_and(|options| options.item_level);
    format!("{}; in all {}; skipped {}; items {item_level}", groups(answer), totals(answer), answer.skipped_items)
}

fn comparison(answer: &QueryEventsResponse) -> String {
    format!("{} / {}", groups(answer), of_groups(&answer.comparison))
}

fn periods(answer: &QueryEventsResponse) -> String {
    let periods = answer.groups.iter().flat_map(|group| &group.periods);
    let shown = periods.map(|period| {
        let start = period.start.map(|start| start.to_string()).unwrap_or_default();
        format!("{} {}", start.trim_end_matches(":00:00Z"), numbers(&period.values))
    });
    shown.collect::<Vec<_>>().join("; ")
}

fn left_out(answer: &QueryEventsResponse) -> String {
    format!("{}; {} without", totals(answer), answer.without_unit)
}

fn top_used(answer: &QueryEventsResponse) -> String {
    let top = answer.options.as_ref().map(|options| options.top).unwrap_or_default();
    format!("{} of {}, top {top}", answer.groups.len(), answer.groups_total)
}

pub fn cases() -> Vec<Case> {
    [metrics(), group_bys(), items(), times()].into_iter().flatten().collect()
}

fn metrics() -> Vec<Case> {
    let buys = "df_purchase";
    let twice = "df_purchase{device=d,id=m} df_purchase{device=d,id=m}";
    let sizes: Vec<Metric> =
        [Aggregation::Count, Aggregation::DistinctCount, Aggregation::Sum, Aggregation::Average, Aggregation::Min, Aggregation::Max]
            .map(|aggregation| of_field(aggregation, property("size")))
            .to_vec();
    let percentile =
        |percentile| Metric { name: format!("p{percentile}"), percentile, ..of_field(Aggregation::Percentile, property("size")) };
    let ios = |events| Metric { name: "on_ios".to_owned(), filter: Some(is(dimension("platform"), "ios")), ..total(events) };
    let filtered = QueryEventsRequest { filter: Some(is(property("plan"), "pro")), ..report(vec![total(""), ios("")]) };
    let formulas = ["revenue / buyers", "revenue / none", "revenue - 1"];
    let computed = QueryEventsRequest {
        formulas: formulas.iter().map(|text| Formula { name: String::new(), expression: (*text).to_owned() }).collect(),
        ..report(vec![
            Metric { name: "revenue".to_owned(), ..of(Aggregation::Revenue, buys) },
            Metric { name: "buyers".to_owned(), ..unique(Unit::Profile) },
            Metric { name: "none".to_owned(), ..total("nothing") },
        ])
    };
    let refunded = Behavior { on: Some(on("df_refund")), ..Default::default() };
    let among = Some(Condition { node: Some(Node::Behavior(refunded)) });
    vec![
        case("one device buys three times", &["df_purchase{device=d} df_purchase{device=d} df_purchase{device=d}"])
            .asks(Events(report(vec![total(buys), metric("unique", &[buys], Aggregation::Unique, Unit::Unspecified)]), totals), "3 1"),
        case("price × quantity", &["df_purchase{items=:1000*2;:500*1}"])
            .asks(Events(report(vec![of(Aggregation::Revenue, buys)]), totals), "2500.0000"),
        case("two devices of one profile", &["df_purchase{device=d1} df_purchase{device=d2}"])
            .asks(Events(report(vec![unique(Unit::Device), unique(Unit::Profile)]), totals), "2 1"),
        case("the same message id twice", &[twice]).asks(Events(report(vec![total(buys)]), totals), "1"),
        case(
            "sessions are of a person, accounts are accounts",
            &["x{session=s,account=a} x{session=s,account=a}", "x{session=s,account=a} x{session=t} x{account=b}"],
        )
        .asks(Events(report(vec![unique(Unit::Session), unique(Unit::Account), unique(Unit::Device)]), left_out), "3 2 0; 5 without"),
        case("aggregations of a property", &["x{size=1} x{size=2} x{size=4} x{size=4} x"])
            .asks(Events(report(sizes), totals), "4 3 11 2.75 1 4")
            .asks(Events(report(vec![percentile(50.0), percentile(75.0), percentile(25.0)]), totals), "3 4 1.75"),
        case("filters of a metric and of the report", &["x{platform=ios,plan=pro} x{platform=web,plan=pro} x{platform=ios,plan=free}"])
            .asks(Events(report(vec![total(""), ios("")]), totals), "3 2")
            .asks(Events(filtered, totals), "2 1"),
        case("formulas over metrics", &["df_purchase{items=:1000*2}", "df_purchase"])
            .asks(Events(computed, totals), "2000.0000 2 0 1000 ∅ 1999.0000"),
        case("names that mean one event count as one", &["df_purchase abx:purchase purchase df_refund other"])
            .asks(Events(report(vec![total("abx:purchase df_refund"), total("")]), totals), "4 5"),
        case("among persons who meet a condition", &["df_purchase", "df_purchase df_purchase df_refund@-1d", "df_purchase"])
            .asks(Events(QueryEventsRequest { among, ..report(vec![total(buys), unique(Unit::Profile)]) }, totals), "2 1"),
    ]
}

fn group_bys() -> Vec<Case> {
    let first = |metric: Metric| QueryEventsRequest { top: 1, ..by(vec![metric], vec![dimension("platform")]) };
    let nested = vec![dimension("platform"), property("plan"), property("route")];
    let platforms = "x{platform=a,device=d1} x{platform=a,device=d2} x{platform=a,device=d3} x{platform=b,device=d1} \
                     x{platform=b,device=d2} x{platform=c,device=d1} x{platform=d,device=d1}";
    let many: String = (0..201).map(|number| format!("x{{route=r{number}}} ")).collect();
    vec![
        case("missing is a group of its own and differs from empty", &["x{route=web} x{route=web} x{route=} x"])
            .asks(Events(by(vec![total("")], vec![property("route")]), groups), "web: 2; : 1; ∅: 1"),
        case("the rest is one group and counts units once", &[platforms])
            .asks(Events(first(unique(Unit::Device)), groups), "a: 3; …: 2")
            .asks(Events(first(unique(Unit::Device)), totals), "3"),
        case(
            "three nested groups",
            &["x{platform=ios,plan=pro,route=r} x{platform=ios,plan=pro,route=r} x{platform=ios,plan=pro} x{platform=web}"],
        )
        .asks(Events(by(vec![total("")], nested), groups), "ios|pro|r: 2; ios|pro|∅: 1; web|∅|∅: 1"),
        case("200 groups are shown, the rest is one more", &[&many])
            .asks(Events(by(vec![total("")], vec![property("route")]), top_used), "201 of 201, top 200"),
    ]
}

fn items() -> Vec<Case> {
    let category = || vec![item_property("category1")];
    let bought = "df_purchase{items=baby:1000*2;baby:500*1;food:10*1}";
    let jewel = |operator, items| QueryEventsRequest {
        filter: Some(compare_items(item_property("category1"), operator, vec![text("jewel")], items)),
        ..report(vec![total("")])
    };
    let jewels = "x{items=jewel:1*1} x{items=jewel:1*1;food:1*1} x{items=food:1*1} x";
    vec![
        case("an item without a quantity is skipped and counted as skipped", &["df_purchase{items=a:100*;a:*3;b:7*2}"]).asks(
            Events(by(vec![of(Aggregation::Revenue, "")], category()), item_groups),
            "b: 14.0000; a: 0.0000; in all 14.0000; skipped 2; items true",
        ),
        case("the row is the item, and totals do not add up", &[bought, "df_purchase"]).asks(
            Events(by(vec![total(""), of(Aggregation::Revenue, ""), unique(Unit::Profile)], category()), item_groups),
            "baby: 2 2500.0000 1; food: 1 10.0000 1; in all 3 2510.0000 1; skipped 0; items true",
        ),
        case("any, all or none of the items", &[jewels])
            .asks(Events(jewel(Operator::In, ItemMatch::Any), totals), "2")
            .asks(Events(jewel(Operator::In, ItemMatch::All), totals), "1")
            .asks(Events(jewel(Operator::In, ItemMatch::None), totals), "2")
            .asks(Events(jewel(Operator::NotIn, ItemMatch::Any), totals), "2")
            .asks(Events(jewel(Operator::NotIn, ItemMatch::All), totals), "1"),
    ]
}

fn times() -> Vec<Case> {
    let grain = |grain: Grain, start: &str, end: &str, zone: &str| QueryEventsRequest {
        range: span(start, end),
        grain: grain.into(),
        time_zone: zone.to_owned(),
        ..report(vec![total("")])
    };
    let earlier = QueryEventsRequest {
        compare_start: Some(timestamp(offset_us("-5d").expect("a length of time"))),
        range: span("0", "5d"),
        ..by(vec![total("")], vec![dimension("platform")])
    };
    vec![
        case("weeks begin on Monday and are cut by the range", &["x@0 x@12d23h x@13d"])
            .at("2018-11-07T10:00:00Z") // A Wednesday.
            .asks(Events(grain(Grain::Week, "0", "13d", ""), periods), "2018-11-07T10 1; 2018-11-12T00 0; 2018-11-19T00 1"),
        case("hours and months", &["x@0 x@59m59s x@60m x@31d"])
            .at("2018-01-10T00:00:00Z")
            .asks(Events(grain(Grain::Hour, "0", "3h", ""), periods), "2018-01-10T00 2; 2018-01-10T01 1; 2018-01-10T02 0")
            .asks(Events(grain(Grain::Month, "-9d", "50d", ""), periods), "2018-01-01T00 3; 2018-02-01T00 1"),
        case("days follow the zone and its summer time", &["x@30m x@24h30m x@25h30m"])
            .at("2018-10-27T22:00:00Z") // Midnight in Berlin, of the day with 25 hours.
            .asks(Events(grain(Grain::Day, "0", "49h", "Europe/Berlin"), periods), "2018-10-27T22 2; 2018-10-28T23 1"),
        case("days are those of the tenant's zone", &["x@14h59m59s x@15h"])
            .at("2018-06-01T00:00:00Z")
            .in_seoul()
            .asks(Events(grain(Grain::Day, "-9h", "39h", ""), periods), "2018-05-31T15 1; 2018-06-01T15 1"),
        case(
            "an earlier period has the groups of the main one",
            &["x@0{platform=web} x@0{platform=ios} x@-5d{platform=web} x@-4d{platform=old}"],
        )
        .asks(Events(earlier, comparison), "ios: 1; web: 1 / ios: 0; web: 1; …: 1"),
    ]
}
