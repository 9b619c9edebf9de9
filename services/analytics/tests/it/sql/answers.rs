//! Answers over a few events that are known by heart.

use segue_proto::events::v1::{DimensionValue, EventKind, Item, ResolvedEvent, value::Kind};

use super::{cell, snapshot, table};
use crate::events::{DAY_US, START_US, value};

fn event(person: u32, name: &str, at_us: i64) -> ResolvedEvent {
    ResolvedEvent {
        person,
        name: name.to_owned(),
        time_us: START_US + at_us,
        received_at_us: START_US + at_us + 1,
        message_id: format!("{person}-{name}-{at_us}"),
        kind: EventKind::Track as i32,
        ..ResolvedEvent::default()
    }
}

fn item(category: &str, price_e4: i64, quantity: i64) -> Item {
    Item {
        item_id: format!("{category}-{price_e4}"),
        categories: vec![category.to_owned()],
        price_e4: Some(price_e4),
        quantity: Some(quantity),
        ..Item::default()
    }
}

pub(super) fn shop() -> Vec<ResolvedEvent> {
    let mut login = event(1, "df_login", 0);
    login.device = 5;
    login.dimensions.push(DimensionValue { code: 1, value: "ios".to_owned() });
    let mut empty = event(1, "df_login", DAY_US);
    empty.dimensions.push(DimensionValue { code: 1, value: String::new() });
    empty.kind = EventKind::Page as i32;
    let mut purchase = event(2, "df_purchase", 10);
    purchase.device = 6;
    purchase.items = vec![item("shoes", 10_000_000, 2), item("toys", 5_000_000, 1)];
    purchase.properties.insert("plan".to_owned(), value(Kind::StringValue("gold".to_owned())));
    purchase.properties.insert("Count".to_owned(), value(Kind::IntValue(41)));
    purchase.properties.insert("paid".to_owned(), value(Kind::DecimalE4Value(123_456)));
    let mut second = event(70_000, "df_purchase", 2 * DAY_US);
    second.items = vec![item("shoes", 10_000_000, 1)];
    second.unregistered.insert("loose".to_owned(), value(Kind::BoolValue(true)));
    vec![login, empty, purchase, second, event(70_000, "custom", 3 * DAY_US)]
}

#[tokio::test]
async fn rows_are_counted_grouped_and_ordered() {
    let shop = snapshot(&shop());
    assert_eq!(cell(&shop, "SELECT count(*) FROM events").await, "5");
    let counts = table(&shop, "SELECT event, count(*), count(DISTINCT person) FROM events GROUP BY event ORDER BY event").await;
    assert_eq!(counts, [["custom", "1", "1"], ["df_login", "2", "1"], ["df_purchase", "2", "2"]]);
    let days = table(
        &shop,
        "SELECT date_trunc('day', ts) AS day, sum(value) FROM events WHERE event = 'df_purchase' GROUP BY day ORDER BY day DESC",
    )
    .await;
    assert_eq!(days, [["2026-11-03T00:00:00Z", "1000.0000"], ["2026-11-01T00:00:00Z", "2500.0000"]]);
}

#[tokio::test]
async fn a_missing_value_is_null_and_differs_from_the_empty_text() {
    let shop = snapshot(&shop());
    let platforms = table(&shop, "SELECT platform, count(*) FROM events GROUP BY platform ORDER BY platform NULLS LAST").await;
    assert_eq!(platforms, [["", "1"], ["ios", "1"], ["NULL", "3"]]);
    let devices = table(&shop, "SELECT count(device), count(DISTINCT device), min(device) FROM events").await;
    assert_eq!(devices, [["2", "2", "5"]]);
}

#[tokio::test]
async fn properties_are_columns_with_their_types_under_a_name_of_their_own() {
    let shop = snapshot(&shop());
    let row = r#"SELECT p_plan, "p_Count" + 1, p_paid * 2, p_loose, kind FROM events WHERE person = 2"#;
    assert_eq!(table(&shop, row).await, [["gold", "42", "24.6912", "NULL", "track"]]);
    assert_eq!(cell(&shop, "SELECT count(*) FROM events WHERE p_loose").await, "1");
    assert_eq!(cell(&shop, "SELECT count(*) FROM events WHERE kind = 'page'").await, "1");
}

#[tokio::test]
async fn items_are_rows_when_they_are_unnested() {
    let shop = snapshot(&shop());
    let sums = "SELECT item['category1'] AS category, sum(item['price'] * item['quantity']) AS value, count(*) \
                FROM (SELECT unnest(items) AS item FROM events WHERE event = 'df_purchase') \
                GROUP BY category ORDER BY category";
    assert_eq!(table(&shop, sums).await, [["shoes", "3000.0000", "2"], ["toys", "500.0000", "1"]]);
    let first = "SELECT items[1]['item_id'], array_length(items) FROM events WHERE person = 2";
    assert_eq!(table(&shop, first).await, [["shoes-10000000", "2"]]);
    // Lists leave as plain types too.
    assert_eq!(table(&shop, "SELECT items FROM events WHERE items IS NOT NULL ORDER BY ts").await.len(), 2);
}

#[tokio::test]
async fn persons_have_their_first_and_last_time_and_join_with_events() {
    let shop = snapshot(&shop());
    assert_eq!(
        table(&shop, "SELECT * FROM persons ORDER BY person").await,
        [
            ["1", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z", "2", "1"],
            ["2", "2026-11-01T00:00:00.000010Z", "2026-11-01T00:00:00.000010Z", "1", "1"],
            ["70000", "2026-11-03T00:00:00Z", "2026-11-04T00:00:00Z", "2", "0"],
        ]
    );
    let joined = "SELECT p.events, count(*) FROM events AS e JOIN persons AS p ON p.person = e.person \
                  WHERE e.event = 'df_purchase' AND p.person > 1 GROUP BY p.events ORDER BY 1";
    assert_eq!(table(&shop, joined).await, [["1", "1"], ["2", "1"]]);
    assert_eq!(cell(&shop, "SELECT count(*) FROM persons").await, "3");
    assert_eq!(cell(&shop, "SELECT count(*) FROM persons WHERE person >= 2 AND person < 70000").await, "1");
    assert_eq!(table(&shop, "SELECT person FROM persons LIMIT 2").await.len(), 2);
    let buyers = "SELECT count(*) FROM persons WHERE person NOT IN (SELECT person FROM events WHERE event = 'df_purchase')";
    assert_eq!(cell(&shop, buyers).await, "1");
}

#[tokio::test]
async fn times_are_compared_as_moments_in_any_zone() {
    let shop = snapshot(&shop());
    for (condition, rows) in [
        ("ts >= '2026-11-02'", 3),
        ("ts >= TIMESTAMP '2026-11-02 00:00:00' AND ts < TIMESTAMP '2026-11-03 00:00:00'", 1),
        ("ts > TIMESTAMP '2026-11-02T00:00:00Z'", 2),
        ("ts = '2026-11-01T00:00:00.00001Z'", 1),
        ("ts BETWEEN '2026-11-01T00:00:00Z' AND '2026-11-02T00:00:00Z'", 3),
        ("ts >= now() - INTERVAL '1 day'", 3),
        ("ts >= TIMESTAMPTZ '2026-11-02T09:00:00+09:00'", 3),
        ("date_trunc('day', ts) = '2026-11-01'", 2),
        ("ts::date = '2026-11-03'", 1),
        ("ts <> '2026-11-02'", 4),
    ] {
        let count = cell(&shop, &format!("SELECT count(*) FROM events WHERE {condition}")).await;
        assert_eq!(count, rows.to_string(), "{condition}");
    }
}

#[tokio::test]
async fn the_tables_describe_themselves() {
    let shop = snapshot(&shop());
    assert_eq!(table(&shop, "SHOW TABLES").await.iter().filter(|row| row[1] == "public").count(), 2);
    let columns = "SELECT data_type FROM information_schema.columns WHERE table_name = 'events' AND column_name = 'p_paid'";
    assert_eq!(cell(&shop, columns).await, "Decimal128(19, 4)");
    assert!(table(&shop, "DESCRIBE persons").await.iter().any(|row| row[0] == "first_seen"));
    assert!(table(&shop, "SHOW COLUMNS FROM events").await.iter().flatten().any(|text| text == "p_paid"));
    let explained = table(&shop, "EXPLAIN SELECT * FROM events").await;
    assert!(explained.iter().flatten().any(|text| text.contains("SnapshotExec")));
    assert!(!table(&shop, "EXPLAIN ANALYZE SELECT event FROM events").await.is_empty());
}

#[tokio::test]
async fn a_tenant_without_events_has_empty_tables() {
    let nothing = snapshot(&[]);
    assert_eq!(cell(&nothing, "SELECT count(*) FROM events").await, "0");
    assert_eq!(cell(&nothing, "SELECT count(*) FROM persons").await, "0");
    assert_eq!(table(&nothing, "SELECT * FROM events WHERE event = 'x'").await.len(), 0);
}
