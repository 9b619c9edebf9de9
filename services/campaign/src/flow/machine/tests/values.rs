//! Events as templates see them.

use serde_json::json;

use super::*;

#[test]
fn values_are_json_that_says_the_same_when_read_back() {
    let time = prost_types::Timestamp { seconds: 1_790_000_000, nanos: 500_000_000 };
    for (kind, expected) in [
        (Some(ValueKind::StringValue("a\"b".to_owned())), "\"a\\\"b\""),
        (Some(ValueKind::IntValue(-5)), "-5"),
        (Some(ValueKind::IntValue(i64::MAX)), "9223372036854775807"),
        (Some(ValueKind::DoubleValue(0.1)), "0.1"),
        (Some(ValueKind::DoubleValue(1e300)), "1e+300"),
        (Some(ValueKind::DoubleValue(f64::NAN)), "null"),
        (Some(ValueKind::DoubleValue(f64::INFINITY)), "null"),
        (Some(ValueKind::BoolValue(true)), "true"),
        (Some(ValueKind::DecimalE4Value(125_000)), "12.5"),
        (Some(ValueKind::DecimalE4Value(10_000_000)), "1000"),
        (Some(ValueKind::DecimalE4Value(-1)), "-0.0001"),
        (Some(ValueKind::DecimalE4Value(i64::MIN)), "-922337203685477.5808"),
        (Some(ValueKind::TimestampValue(time)), "\"2026-09-21T14:13:20.500Z\""),
        (Some(ValueKind::JsonValue("{\"b\":[1]}".to_owned())), "{\"b\":[1]}"),
        (Some(ValueKind::JsonValue("{broken".to_owned())), "\"{broken\""),
        (None, "null"),
    ] {
        let found = json_of(&Value { kind: kind.clone() });
        assert_eq!(found.to_string(), expected, "{kind:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&found.to_string()).expect("JSON"), found);
    }
}

#[test]
fn an_event_is_its_properties_and_items() {
    let mut bought = event("df_purchase", "m1", 5, &[("plan", text("gold")), ("both", text("known"))]);
    bought.unregistered = BTreeMap::from([("both".to_owned(), text("other")), ("free".to_owned(), text("x"))]).into_iter().collect();
    bought.items = vec![Item {
        item_id: "i1".to_owned(),
        name: "Pram".to_owned(),
        price_e4: Some(1_999_000),
        quantity: Some(2),
        categories: vec!["baby".to_owned(), "prams".to_owned()],
        properties: [("colour".to_owned(), text("red")), ("item_id".to_owned(), text("not this"))].into_iter().collect(),
        ..Item::default()
    }];
    let entered = entered_by(&bought);
    assert_eq!((entered.name.as_str(), entered.time_us, entered.message_id.as_str()), ("df_purchase", 5, "m1"));
    assert_eq!(serde_json::Value::from(entered.properties.clone()), json!({"plan": "gold", "both": "known", "free": "x"}));
    let item = json!({
        "item_id": "i1", "name": "Pram", "item_name": "Pram", "price": 199.9, "quantity": 2, "categories": ["baby", "prams"], "colour": "red",
    });
    assert_eq!(entered.items, [item]);
    let text = serde_json::to_string(&entered).expect("JSON");
    assert_eq!(serde_json::from_str::<Entered>(&text).expect("the same"), entered);
}
