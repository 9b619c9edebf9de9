//! The values of dimensions and properties, the most frequent first.

use std::collections::BTreeMap;

use segue_analytics::dimension_values;
use segue_analytics::question::{Context, QueryError, QueryLimits};
use segue_analytics::scan::Snapshot;
use segue_model::Code;
use segue_proto::analytics::v1::{ListDimensionValuesRequest, ListDimensionValuesResponse};
use segue_proto::events::v1::{ResolvedEvent, value::Kind};
use segue_proto::query::v1::{Field, TimeRange, field};
use segue_runtime::status::ServiceError;
use tokio_util::sync::CancellationToken;

use crate::events::{DAY_US, START_US, events, value};
use crate::rig::{Life, Rig, tenant};

fn timestamp(us: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: us.div_euclid(1_000_000), nanos: (us.rem_euclid(1_000_000) * 1000) as i32 }
}

fn range(from_us: i64, to_us: i64) -> Option<TimeRange> {
    Some(TimeRange { start: Some(timestamp(from_us)), end: Some(timestamp(to_us)) })
}

fn dimension(name: &str) -> ListDimensionValuesRequest {
    of(field::Field::Dimension(name.to_owned()))
}

fn property(name: &str) -> ListDimensionValuesRequest {
    of(field::Field::Property(name.to_owned()))
}

fn item_property(name: &str) -> ListDimensionValuesRequest {
    of(field::Field::ItemProperty(name.to_owned()))
}

/// Of all times.
fn of(field: field::Field) -> ListDimensionValuesRequest {
    let range = range(0, 2 * START_US);
    ListDimensionValuesRequest { field: Some(Field { field: Some(field) }), range, ..ListDimensionValuesRequest::default() }
}

fn run(snapshot: &Snapshot, request: &ListDimensionValuesRequest) -> Result<ListDimensionValuesResponse, QueryError> {
    let cancel = CancellationToken::new();
    let context = Context { snapshot, zone: chrono_tz::Tz::UTC, limits: QueryLimits::default(), cancel: &cancel };
    dimension_values::query(&context, request)
}

fn snapshot(events: &[ResolvedEvent]) -> Snapshot {
    Snapshot::of_events(&tenant("shop"), START_US + 31 * DAY_US, events).expect("a snapshot")
}

/// A value in short; missing is `∅`.
fn show(kind: Option<&Kind>) -> String {
    match kind {
        None => "∅".to_owned(),
        Some(Kind::StringValue(text)) => format!("{text:?}"),
        Some(Kind::IntValue(number)) => number.to_string(),
        Some(Kind::DoubleValue(number)) => format!("{number:?}"),
        Some(Kind::BoolValue(truth)) => truth.to_string(),
        Some(Kind::DecimalE4Value(e4)) => format!("{e4}e4"),
        Some(Kind::TimestampValue(time)) => format!("@{}", time.seconds),
        Some(Kind::JsonValue(json)) => json.clone(),
    }
}

/// The values of an answer in short: `"ios" 3, ∅ 1`.
fn values(answer: &ListDimensionValuesResponse) -> String {
    let show = |value: &segue_proto::analytics::v1::DimensionValue| {
        let kind = value.value.as_ref().and_then(|value| value.value.as_ref()).and_then(|value| value.kind.as_ref());
        format!("{} {}", show(kind), value.count)
    };
    answer.values.iter().map(show).collect::<Vec<String>>().join(", ")
}

fn found(events: &[ResolvedEvent], request: &ListDimensionValuesRequest) -> String {
    values(&run(&snapshot(events), request).expect("values"))
}

fn event(name: &str, size: Option<Kind>) -> ResolvedEvent {
    let properties = size.into_iter().map(|kind| ("size".to_owned(), value(kind))).collect();
    ResolvedEvent { name: name.to_owned(), person: 1, time_us: START_US, properties, ..ResolvedEvent::default() }
}

fn text(text: &str) -> Option<Kind> {
    Some(Kind::StringValue(text.to_owned()))
}

#[test]
fn the_most_frequent_values_come_first_then_by_value_missing_last() {
    let sizes = [text("b"), text("c"), None, text("a"), text("c"), text("")];
    let events: Vec<ResolvedEvent> = sizes.into_iter().map(|size| event("x", size)).collect();
    assert_eq!(found(&events, &property("size")), r#""c" 2, "" 1, "a" 1, "b" 1, ∅ 1"#);
    let answer = run(&snapshot(&events), &ListDimensionValuesRequest { limit: 2, ..property("size") }).expect("values");
    assert_eq!((values(&answer).as_str(), answer.values_total), (r#""c" 2, "" 1"#, 5));
    assert_eq!(answer.stats.map(|stats| (stats.rows_scanned, stats.tail_rows)), Some((6, 6)));
}

#[test]
fn a_search_takes_texts_that_contain_it_whatever_the_case() {
    let events: Vec<ResolvedEvent> = ["Shoes", "SHOP", "ÜBER", "hat", "x"].map(|size| event("x", text(size))).into();
    let search = |search: &str| ListDimensionValuesRequest { search: search.to_owned(), ..property("size") };
    assert_eq!(found(&events, &search("sHo")), r#""SHOP" 1, "Shoes" 1"#);
    assert_eq!(found(&events, &search("über")), r#""ÜBER" 1"#);
    let answer = run(&snapshot(&events), &ListDimensionValuesRequest { limit: 1, ..search("sho") }).expect("values");
    assert_eq!(answer.values_total, 2);
    assert_eq!(
        found(&[event("Apple", None), event("pear", None)], &ListDimensionValuesRequest { search: "APP".to_owned(), ..dimension("event") }),
        r#""Apple" 1"#
    );
}

#[test]
fn values_of_every_type_are_listed_in_their_order() {
    let time = |us| Some(Kind::TimestampValue(timestamp(us)));
    for (kinds, expected) in [
        (vec![Some(Kind::IntValue(10)), Some(Kind::IntValue(-2)), None], "-2 1, 10 1, ∅ 1"),
        (vec![Some(Kind::DoubleValue(2.5)), Some(Kind::DoubleValue(-1.5)), Some(Kind::DoubleValue(2.5))], "2.5 2, -1.5 1"),
        (vec![Some(Kind::DoubleValue(1.0)), Some(Kind::DoubleValue(-3.0)), Some(Kind::DoubleValue(-2.0))], "-3.0 1, -2.0 1, 1.0 1"),
        (vec![Some(Kind::BoolValue(true)), Some(Kind::BoolValue(false)), Some(Kind::BoolValue(true))], "true 2, false 1"),
        (vec![Some(Kind::DecimalE4Value(5)), Some(Kind::DecimalE4Value(-7))], "-7e4 1, 5e4 1"),
        (vec![time(3_000_000), time(-2_000_000)], "@-2 1, @3 1"),
    ] {
        let events: Vec<ResolvedEvent> = kinds.into_iter().map(|kind| event("x", kind)).collect();
        assert_eq!(found(&events, &property("size")), expected);
    }
    // Known by name, but no event has it.
    assert_eq!(found(&[event("x", None)], &property("df_keyword")), "∅ 1");
    assert_eq!(found(&[], &property("anything")), "");
}

#[test]
fn events_and_the_range_choose_what_is_counted() {
    let at = |days: i64, us: i64| ResolvedEvent {
        time_us: START_US + days * DAY_US + us,
        ..event("df_purchase", text(&format!("{days} {us}")))
    };
    let events = [at(0, 0), at(1, 0), at(1, 1), at(31, 0), at(31, 1), event("other", text("another"))];
    // Default: 30 days up to the watermark, which lies 31 days behind the first.
    let recent = ListDimensionValuesRequest { range: None, ..property("size") };
    assert_eq!(found(&events, &recent), r#""1 1" 1, "31 0" 1"#);
    let first_day = ListDimensionValuesRequest { range: range(START_US, START_US + DAY_US), ..property("size") };
    assert_eq!(found(&events, &first_day), r#""0 0" 1, "another" 1"#);
    let of_event = ListDimensionValuesRequest { events: vec!["Order Completed".to_owned()], ..first_day };
    assert_eq!(found(&events, &of_event), r#""0 0" 1"#);
    assert_eq!(found(&events, &dimension("event")), r#""df_purchase" 5, "other" 1"#);
}

#[test]
fn faulty_requests_are_refused_with_every_path() {
    let known = snapshot(&[
        event("x", Some(Kind::IntValue(1))),
        ResolvedEvent { properties: [("list".to_owned(), value(Kind::JsonValue("[]".to_owned())))].into(), ..event("x", None) },
    ]);
    let faults = |request: &ListDimensionValuesRequest| {
        let error = run(&known, request).expect_err("a fault");
        assert_eq!(error.code(), Code::InvalidArgument);
        error.field_violations().into_iter().map(|violation| violation.field).collect::<Vec<String>>()
    };
    let all = ListDimensionValuesRequest {
        field: None,
        events: vec![String::new()],
        range: range(1, 0),
        search: "x".repeat(1_025),
        limit: 1_001,
    };
    assert_eq!(faults(&all), ["field", "search", "events[0]", "range.end", "limit"]);
    assert_eq!(faults(&ListDimensionValuesRequest { search: "1".to_owned(), ..property("size") }), ["search"]);
    assert_eq!(faults(&property("list")), ["field"]);
    assert_eq!(faults(&dimension("nowhere")), ["field.dimension"]);
}

/// Counts values plainly.
fn expected(events: &[ResolvedEvent], request: &ListDimensionValuesRequest) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut add = |kind: Option<&Kind>| *counts.entry(show(kind)).or_default() += 1;
    for event in events {
        match request.field.as_ref().and_then(|field| field.field.as_ref()) {
            Some(field::Field::Dimension(name)) if name == "event" => add(text(&event.name).as_ref()),
            Some(field::Field::Dimension(name)) if name == "source" => {
                add(text(&event.source).filter(|_| !event.source.is_empty()).as_ref())
            }
            Some(field::Field::Dimension(name)) => {
                let code = segue_model::dimension::by_name(name).expect("a dimension").code;
                add(event.dimensions.iter().find(|dimension| dimension.code == code).and_then(|dimension| text(&dimension.value)).as_ref());
            }
            Some(field::Field::Property(name)) => {
                let found = event.properties.get(name).or_else(|| event.unregistered.get(name));
                add(found.and_then(|value| value.kind.as_ref()));
            }
            Some(field::Field::ItemProperty(name)) => {
                for item in &event.items {
                    match name.as_str() {
                        "quantity" => add(item.quantity.map(Kind::IntValue).as_ref()),
                        "category1" => add(item.categories.first().and_then(|category| text(category)).as_ref()),
                        other => panic!("no reference for {other}"),
                    }
                }
            }
            None => panic!("no field"),
        }
    }
    // In the order of the texts: for comparison, ties are put in one order on both sides.
    let mut all: Vec<(u64, String)> = counts.into_iter().map(|(value, count)| (count, value)).collect();
    all.sort_by(|(count, value), (other_count, other)| other_count.cmp(count).then_with(|| value.cmp(other)));
    all.into_iter().map(|(count, value)| format!("{value} {count}")).collect()
}

async fn compare_all(life: &Life, events: &[ResolvedEvent], stage: &str) {
    let snapshot = life.snapshot(&tenant("shop"));
    let (events, stage) = (events.to_vec(), stage.to_owned());
    let compared = tokio::task::spawn_blocking(move || {
        let fields =
            [dimension("event"), dimension("source"), dimension("platform"), item_property("quantity"), item_property("category1")];
        let properties = ["plan", "count", "ratio", "vip", "paid", "loose"].map(property);
        for request in fields.into_iter().chain(properties) {
            let answer = run(&snapshot, &ListDimensionValuesRequest { limit: 1_000, ..request.clone() }).expect("values");
            let counts: Vec<u64> = answer.values.iter().map(|value| value.count).collect();
            assert!(counts.is_sorted_by(|a, b| a >= b));
            let sorted = |mut values: Vec<String>| {
                values.sort();
                values
            };
            let wanted = expected(&events, &request);
            assert_eq!(answer.values_total, wanted.len() as u64);
            let found = values(&answer).split(", ").map(str::to_owned).collect();
            assert_eq!(sorted(found), sorted(wanted), "{stage}: {request:?}");
        }
    });
    compared.await.expect("no difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_the_same_from_the_tail_from_files_and_from_merged_files() {
    for rig in Rig::each(&[("shop", true)]) {
        let events = events(8, 600);
        let shop = tenant("shop");
        let life = rig.start().await;
        let sent: Vec<_> = events.iter().map(|event| (shop.clone(), event.clone())).collect();
        life.send(&sent[..200], 20).await;
        life.settled(&shop).await;
        compare_all(&life, &events[..200], "tail").await;
        life.index().flush(&shop).await.expect("a flush");
        life.send(&sent[200..400], 20).await;
        life.settled(&shop).await;
        compare_all(&life, &events[..400], "files and tail").await;
        life.index().flush(&shop).await.expect("a flush");
        life.send(&sent[400..], 20).await;
        life.settled(&shop).await;
        life.index().flush(&shop).await.expect("a flush");
        life.index().merge(&shop).await.expect("merges");
        compare_all(&life, &events, "merged files").await;
        life.crash().await;
    }
}
