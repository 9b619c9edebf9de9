//! What is refused, with the path of the faulty field.

use segue_model::Code;
use segue_proto::analytics::v1::{Formula, Grain};
use segue_runtime::status::ServiceError;

use super::*;

fn known() -> Vec<ResolvedEvent> {
    let event = with_property(event("x", "2026-11-10T12:00:00Z", 1, 1), "size", Kind::IntValue(1));
    let event = with_property(with_property(event, "label", text("a")), "list", Kind::JsonValue("[]".to_owned()));
    vec![with_property(event, "vip", Kind::BoolValue(true))]
}

fn total() -> QueryEventsRequest {
    november(vec![metric(Aggregation::Total, &[])])
}

/// The faults of a request, as `path: description`.
fn faults(request: &QueryEventsRequest) -> Vec<String> {
    let error = run(&known(), request).expect_err("a fault");
    assert_eq!(error.code(), Code::InvalidArgument);
    error.field_violations().into_iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect()
}

fn assert_fault(request: &QueryEventsRequest, path: &str, part: &str) {
    let faults = faults(request);
    assert!(
        faults.iter().any(|fault| fault.starts_with(&format!("{path}: ")) && fault.contains(part)),
        "no fault at {path} with {part:?} in {faults:#?}"
    );
}

#[test]
fn faulty_frames_are_refused() {
    assert_fault(&QueryEventsRequest { range: None, ..total() }, "range.start", "required");
    assert_fault(&request("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z", vec![metric(Aggregation::Total, &[])]), "range.end", "after");
    assert_fault(&QueryEventsRequest { time_zone: "Seoul".to_owned(), ..total() }, "time_zone", "Asia/Seoul");
    assert_fault(&QueryEventsRequest { grain: 9, ..total() }, "grain", "not a grain");
    assert_fault(&QueryEventsRequest { top: 10_001, ..total() }, "top", "10000");
    assert_fault(&november(vec![]), "metrics", "1 to 10");
    assert_fault(&november(vec![metric(Aggregation::Total, &[]); 11]), "metrics", "1 to 10");
    let long = request("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z", vec![metric(Aggregation::Total, &[])]);
    assert_fault(&QueryEventsRequest { grain: Grain::Hour as i32, ..long }, "grain", "10000 periods");
    let bad = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
    assert_fault(&QueryEventsRequest { compare_start: bad, ..total() }, "compare_start", "years");
}

#[test]
fn all_faults_are_reported_at_once() {
    let request =
        QueryEventsRequest { time_zone: "Nowhere".to_owned(), group_by: vec![dimension("date")], top: 20_000, ..november(vec![]) };
    assert_eq!(faults(&request).len(), 4);
}

#[test]
fn unknown_names_come_with_near_ones() {
    let grouped = |field| QueryEventsRequest { group_by: vec![field], ..total() };
    assert_fault(&grouped(dimension("date")), "group_by[0].dimension", "grain");
    assert_fault(&grouped(dimension("utm_sorce")), "group_by[0].dimension", "`utm_source`");
    assert_fault(&grouped(dimension("size")), "group_by[0].dimension", "set `property` instead");
    assert_fault(&grouped(property("platform")), "group_by[0].property", "set `dimension` instead");
    assert_fault(&grouped(property("sise")), "group_by[0].property", "`size`");
    assert_fault(&grouped(item_property("categori1")), "group_by[0].item_property", "`category1`");
    assert_fault(&grouped(Field { field: None }), "group_by[0]", "set one of");
    assert_fault(&grouped(property("list")), "group_by[0]", "arrays or objects");
    let twice = QueryEventsRequest { group_by: vec![property("size"), property("size")], ..total() };
    assert_fault(&twice, "group_by[1]", "grouped by before");
    let four = QueryEventsRequest { group_by: vec![property("size"); 4], ..total() };
    assert_fault(&four, "group_by", "at most 3");
}

#[test]
fn faulty_metrics_are_refused() {
    let one = |metric: Metric| november(vec![metric]);
    assert_fault(&one(of_field(Aggregation::Sum, property("label"))), "metrics[0].aggregation", "of type string");
    assert_fault(&one(of_field(Aggregation::Max, property("label"))), "metrics[0].aggregation", "numbers, decimals and times");
    assert_fault(&one(of_field(Aggregation::DistinctCount, property("list"))), "metrics[0].aggregation", "arrays");
    assert_fault(&one(metric(Aggregation::Sum, &[])), "metrics[0].field", "set one of");
    assert_fault(&one(of_field(Aggregation::Total, property("size"))), "metrics[0].field", "only for");
    assert_fault(&one(Metric { unit: Unit::Profile as i32, ..metric(Aggregation::Total, &[]) }), "metrics[0].unit", "only for UNIQUE");
    assert_fault(&one(Metric { percentile: 5.0, ..metric(Aggregation::Total, &[]) }), "metrics[0].percentile", "only for");
    let percentile = |percentile| Metric { percentile, ..of_field(Aggregation::Percentile, property("size")) };
    assert_fault(&one(percentile(101.0)), "metrics[0].percentile", "0 to 100");
    assert_fault(&one(percentile(f64::NAN)), "metrics[0].percentile", "0 to 100");
    assert_fault(&one(metric(Aggregation::Total, &[""])), "metrics[0].events[0]", "characters");
    let named = || Metric { name: "a".to_owned(), ..metric(Aggregation::Total, &[]) };
    assert_fault(&november(vec![named(), named()]), "metrics[1].name", "stands twice");
}

#[test]
fn faulty_filters_are_refused_with_the_path_of_the_fault() {
    let number = || Kind::IntValue(1);
    let in_metric =
        |filter| november(vec![metric(Aggregation::Total, &[]), Metric { filter: Some(filter), ..metric(Aggregation::Total, &["x"]) }]);
    let deep = any_of(vec![compare(property("size"), Operator::In, vec![number(), text("1")])]);
    assert_fault(&in_metric(deep), "metrics[1].filter.any.filters[0].compare.values[1]", "whole number");
    let filtered = |filter| QueryEventsRequest { filter: Some(filter), ..total() };
    for (filter, path, part) in [
        (compare(property("label"), Operator::Less, vec![text("b")]), "filter.compare.operator", "no order"),
        (compare(property("size"), Operator::Contains, vec![text("1")]), "filter.compare.operator", "text operators"),
        (compare(property("vip"), Operator::Greater, vec![Kind::BoolValue(true)]), "filter.compare.operator", "use IN"),
        (compare(property("list"), Operator::In, vec![text("[]")]), "filter.compare.operator", "EXISTS"),
        (compare(property("size"), Operator::Unspecified, vec![number()]), "filter.compare.operator", "set the operator"),
        (compare(property("size"), Operator::In, vec![]), "filter.compare.values", "1 to 1000"),
        (compare(property("size"), Operator::In, vec![number(); 1_001]), "filter.compare.values", "1 to 1000"),
        (compare(property("size"), Operator::Exists, vec![number()]), "filter.compare.values", "takes 0"),
        (compare(property("size"), Operator::Between, vec![number()]), "filter.compare.values", "takes 2"),
        (compare(property("size"), Operator::Between, vec![number(), number()]), "filter.compare.values[1]", "above the first"),
        (compare(property("size"), Operator::Less, vec![Kind::DoubleValue(0.000_01)]), "filter.compare.values[0]", "decimal places"),
        (compare_items(property("size"), Operator::In, vec![number()], ItemMatch::All), "filter.compare.item_match", "item properties"),
        (not(compare(property("nope"), Operator::In, vec![number()])), "filter.not.compare.field.property", "no event"),
        (all_of(vec![Filter::default(); 100]), "filter.all.filters[99]", "100 nodes"),
    ] {
        assert_fault(&filtered(filter), path, part);
    }
    let nested = |levels: usize| (1..levels).fold(Filter::default(), |inner, _| not(inner));
    assert!(run(&known(), &filtered(nested(8))).is_ok());
    assert_fault(&filtered(nested(9)), "filter.not.not.not.not.not.not.not.not", "8 levels");
    assert!(run(&known(), &filtered(all_of(vec![Filter::default(); 99]))).is_ok());
}

#[test]
fn faulty_formulas_are_refused_with_the_position() {
    let with = |expression: &str| {
        let formulas = vec![Formula { name: "f".to_owned(), expression: expression.to_owned() }];
        QueryEventsRequest { formulas, ..total() }
    };
    assert_fault(&with("total +"), "formulas[0].expression", "at character 8");
    assert_fault(&with("totl"), "formulas[0].expression", "there are: total");
    let mut clash = with("total");
    clash.formulas[0].name = "total".to_owned();
    assert_fault(&clash, "formulas[0].name", "stands twice");
}

#[test]
fn too_many_groups_or_values_exhaust_the_report_with_advice() {
    let events: Vec<ResolvedEvent> = (0..50)
        .map(|number| with_property(event("x", "2026-11-10T12:00:00Z", number + 1, 0), "size", Kind::IntValue(i64::from(number))))
        .collect();
    let limited = |report: ReportLimits, request: &QueryEventsRequest| {
        query_snapshot(&snapshot(&events), QueryLimits { report, ..QueryLimits::default() }, request).expect_err("a limit")
    };
    let grouped = QueryEventsRequest { group_by: vec![property("size")], grain: Grain::Day as i32, ..total() };
    let error = limited(ReportLimits { cells_max: 100, ..ReportLimits::default() }, &grouped);
    assert_eq!((error.code(), error.reason()), (Code::ResourceExhausted, "TOO_MANY_GROUPS"));
    assert!(error.to_string().contains("narrow the range"), "{error}");
    let median = Metric { percentile: 50.0, ..of_field(Aggregation::Percentile, property("size")) };
    let error = limited(ReportLimits { bytes_max: 500, ..ReportLimits::default() }, &november(vec![median]));
    assert_eq!((error.code(), error.reason()), (Code::ResourceExhausted, "TOO_MUCH_MEMORY"));
    assert!(error.to_string().contains("narrow the range"), "{error}");
}

#[test]
fn a_cancelled_report_says_so() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let context = Context { snapshot: &snapshot(&known()), zone: chrono_tz::Tz::UTC, limits: QueryLimits::default(), cancel: &cancel };
    let error = query(&context, &total()).expect_err("cancelled");
    assert_eq!(error.code(), Code::Cancelled);
}

#[test]
fn the_metrics_of_an_answer_can_be_asked_again() {
    let names = ["x".repeat(70), "y".repeat(70)];
    let metric = metric(Aggregation::Total, &[&names[0], &names[1]]);
    let first = run(&known(), &november(vec![metric.clone(), metric])).expect("an answer");
    let metrics = first.options.expect("options").metrics;
    let again = run(&known(), &november(metrics.clone())).expect("an answer");
    assert_eq!(again.options.expect("options").metrics, metrics);
}
