//! What of a query reaches the scan, and that it changes nothing but the work.

use proptest::prelude::*;
use segue_analytics::scan::{Column, ScanRequest};

use super::answers::shop;
use super::{planned, snapshot, table};
use crate::events::{DAY_US, START_US, events};

#[tokio::test]
async fn only_columns_that_are_asked_for_are_read() {
    let shop = snapshot(&shop());
    let plan = planned(&shop, "SELECT platform, count(*) FROM events WHERE p_plan = 'gold' GROUP BY platform").await;
    assert!(plan.contains("columns=[platform, p_plan]"), "{plan}");
    let plan = planned(&shop, "SELECT count(*) FROM events WHERE event = 'custom'").await;
    assert!(plan.contains("columns=[]") && plan.contains("events=[custom]"), "rows are counted without reading a column: {plan}");
    let plan = planned(&shop, "SELECT count(*) FROM events WHERE person = 2").await;
    assert!(plan.contains("columns=[]"), "{plan}");
}

#[tokio::test]
async fn conditions_on_event_time_and_person_and_limits_reach_the_scan() {
    let shop = snapshot(&shop());
    for (condition, reached, filtered) in [
        ("event = 'custom'", "events=[custom]", false),
        ("event IN ('custom', 'df_login', 'unknown')", "events=[custom, df_login]", false),
        ("event LIKE 'df_%' AND event <> 'df_login'", "events=[df_purchase]", false),
        ("event = 'custom' OR event = 'df_login'", "events=[custom, df_login]", false),
        ("ts >= '2026-11-02T00:00:00Z'", "ts=[1793577600000000, 9223372036854775807)", false),
        ("ts >= '2026-11-02' AND ts < '2026-11-03'", "ts=[1793577600000000, 1793664000000000)", false),
        ("ts >= now() - INTERVAL '1 day'", "ts=[1793577600000000, 9223372036854775807)", false),
        ("person = 2", "persons=[2..3]", false),
        ("person IN (2, 70000)", "persons=[2..3, 70000..70001]", false),
        ("person > 1 AND person <= 70000", "persons=[2..70001]", false),
        ("person BETWEEN 1 AND 2", "persons=[1..3]", false),
        ("person = 2 AND platform = 'ios'", "persons=[2..3]", true),
    ] {
        let plan = planned(&shop, &format!("SELECT message_id FROM events WHERE {condition}")).await;
        assert!(plan.contains(reached), "{condition}: {plan}");
        assert_eq!(plan.contains("FilterExec"), filtered, "{condition}: {plan}");
    }
    let many: Vec<String> = (0..200).map(|number| (number * 3).to_string()).collect();
    let many = format!("SELECT message_id FROM events WHERE person IN ({})", many.join(","));
    let plan = planned(&shop, &many).await;
    assert!(plan.contains("persons=[0..598]") && plan.contains("FilterExec"), "{plan}");
    assert_eq!(table(&shop, &many).await.len(), 0);
    let plan = planned(&shop, "SELECT person FROM events LIMIT 3").await;
    assert!(plan.contains("fetch=3"), "{plan}");
    assert_eq!(table(&shop, "SELECT person FROM events LIMIT 3").await.len(), 3);
    assert_eq!(table(&shop, "SELECT person FROM events WHERE platform IS NULL LIMIT 2").await.len(), 2);
}

/// Conditions on one column, as they are pushed down, with constants at, before and after what occurs.
fn any_condition() -> impl Strategy<Value = String> {
    let operator = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let name = prop::sample::select(vec!["df_purchase", "df_view_home", "custom", "unknown", ""]);
    let pattern = prop::sample::select(vec!["df%", "%o%", "_ustom", "%", "df\\_%"]);
    let person =
        prop_oneof![0_i64..200_000, Just(-1), Just(4_294_967_295), Just(4_294_967_296), (0_i64..40).prop_map(|place| 1 + place * 5_000)];
    let time = (-1_i64..4, prop::sample::select(vec![0, 1, 60_000_000, 59_999_999])).prop_map(|(days, us)| START_US + days * DAY_US + us);
    let moment = time.prop_flat_map(|us| {
        let ns = us * 1_000;
        prop::sample::select(vec![
            format!("to_timestamp_micros({us})"),
            format!("to_timestamp_nanos({ns})"),
            format!("to_timestamp_nanos({})", ns + 1),
            format!("to_timestamp_millis({})", us / 1_000),
            format!("to_timestamp_seconds({})", us / 1_000_000),
        ])
    });
    prop_oneof![
        (operator.clone(), name.clone()).prop_map(|(operator, name)| format!("event {operator} '{name}'")),
        (pattern, any::<bool>()).prop_map(|(pattern, not)| format!("event {} '{pattern}'", if not { "NOT LIKE" } else { "LIKE" })),
        prop::collection::vec(name, 1..4).prop_map(|names| format!("event IN ('{}')", names.join("', '"))),
        (operator.clone(), person.clone()).prop_map(|(operator, person)| format!("person {operator} {person}")),
        (prop::collection::vec(person.clone(), 1..90), any::<bool>()).prop_map(|(persons, not)| {
            let list: Vec<String> = persons.iter().map(ToString::to_string).collect();
            format!("person {} ({})", if not { "NOT IN" } else { "IN" }, list.join(", "))
        }),
        (person.clone(), person).prop_map(|(from, to)| format!("person BETWEEN {from} AND {to}")),
        (operator, moment.clone()).prop_map(|(operator, moment)| format!("ts {operator} {moment}")),
        (moment.clone(), moment).prop_map(|(from, to)| format!("ts BETWEEN {from} AND {to}")),
    ]
}

fn any_filter() -> impl Strategy<Value = String> {
    let joined = prop::sample::select(vec![" AND ", " OR "]);
    (prop::collection::vec(any_condition(), 1..4), joined, any::<bool>()).prop_map(|(conditions, joined, not)| {
        let filter = conditions.join(joined);
        if not { format!("NOT ({filter})") } else { filter }
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_filter_selects_the_same_rows_whether_or_not_the_scan_applies_it(seed in 1..u64::MAX, filter in any_filter()) {
        let snapshot = snapshot(&events(seed, 200));
        // A condition on two columns stays above the scan.
        let above = format!("CASE WHEN {filter} THEN message_id END IS NOT NULL");
        let rows = |condition: &str| format!("SELECT message_id, person, event, ts FROM events WHERE {condition} ORDER BY message_id");
        let (below, above) = block_on(async { (table(&snapshot, &rows(&filter)).await, table(&snapshot, &rows(&above)).await) });
        prop_assert_eq!(below, above, "{}", filter);
    }

    #[test]
    fn counts_per_event_are_those_of_the_scan(
        seed in 1..u64::MAX,
        count in 0_usize..400,
        from_days in -1_i64..3,
        days in 0_i64..3,
        persons in (0_u32..210_000, 0_u32..210_000),
    ) {
        let snapshot = snapshot(&events(seed, count));
        let (from, to) = (START_US + from_days * DAY_US, START_US + (from_days + days) * DAY_US);
        let request = ScanRequest {
            events: None,
            range_us: (from, to),
            columns: vec![Column::Person],
            persons: Some(persons.0..persons.1),
        };
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for batch in snapshot.scan(request) {
            let batch = batch.expect("a batch");
            *counts.entry(batch.event.to_string()).or_default() += batch.batch.num_rows();
        }
        let text = format!(
            "SELECT event, count(*) FROM events \
             WHERE ts >= to_timestamp_micros({from}) AND ts < to_timestamp_micros({to}) AND person >= {} AND person < {} \
             GROUP BY event ORDER BY event",
            persons.0, persons.1
        );
        let found = block_on(table(&snapshot, &text));
        let wanted: Vec<Vec<String>> = counts.into_iter().map(|(event, rows)| vec![event, rows.to_string()]).collect();
        prop_assert_eq!(found, wanted);
    }
}
