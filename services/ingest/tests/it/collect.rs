//! Bodies of published SDKs, in the shapes recorded from the wire.

use proptest::prelude::*;
use segue_ingest::accept::Candidate;
use segue_ingest::accept::time::timestamp;
use segue_ingest::collect::{Refused, read};
use segue_proto::events::v1::value::Kind;
use segue_proto::events::v1::{Event, EventKind, Value};
use segue_proto::ingest::v1::ReasonCode;
use serde_json::json;

use crate::harness::*;

fn one(route: &str, body: serde_json::Value) -> Candidate {
    read(route, body.to_string().as_bytes(), NOW_US).expect("readable").remove(0)
}

fn good(route: &str, body: serde_json::Value) -> Event {
    let candidate = one(route, body);
    assert_eq!(candidate.faults, []);
    candidate.event
}

fn decimal(e4: i64) -> Value {
    Value { kind: Some(Kind::DecimalE4Value(e4)) }
}

#[test]
fn a_browser_page_view_of_segment_is_read_with_its_context() {
    let event = good(
        "page",
        json!({
            "timestamp": "2026-11-22T08:59:58.000Z", "integrations": {}, "type": "page", "name": "Home",
            "properties": {"path": "/home", "url": "https://shop.example/home?utm_source=x", "title": "Shop", "search": "", "referrer": ""},
            "context": {
                "page": {"path": "/home", "referrer": "https://search.example/", "search": "?q=1", "title": "Shop", "url": "https://shop.example/home"},
                "userAgent": "Mozilla/5.0", "locale": "ko-KR", "timezone": "Asia/Seoul",
                "library": {"name": "analytics.js", "version": "npm:next-1.84.3"},
                "campaign": {"source": "news", "medium": "mail", "name": "autumn"}
            },
            "messageId": "ajs-next-1", "anonymousId": "a1", "writeKey": "K", "userId": null, "sentAt": "2026-11-22T08:59:59.000Z", "_metadata": {"bundled": []}
        }),
    );
    assert_eq!((event.kind(), event.name.as_str(), event.message_id.as_str()), (EventKind::Page, "df_view_home", "ajs-next-1"));
    assert_eq!(event.identifiers, [identifier("anonymous_id", "a1")]);
    assert_eq!((event.time, event.sent_at), (Some(timestamp(NOW_US - 2 * SECOND_US)), Some(timestamp(NOW_US - SECOND_US))));
    assert_eq!(event.properties["name"], text("Home"));
    let context = event.context.expect("a context");
    let found = [
        &context.page_path,
        &context.page_url,
        &context.referrer,
        &context.user_agent,
        &context.device_language,
        &context.device_country,
        &context.time_zone,
        &context.utm_source,
        &context.utm_medium,
        &context.utm_campaign,
        &context.source_type,
        &context.platform,
        &context.sdk_version,
    ];
    let expected = [
        "/home",
        "https://shop.example/home",
        "https://search.example/",
        "Mozilla/5.0",
        "ko-KR",
        "KR",
        "Asia/Seoul",
        "news",
        "mail",
        "autumn",
        "web",
        "web",
        "analytics.js/npm:next-1.84.3",
    ];
    assert_eq!(found.map(String::as_str), expected);
}

#[test]
fn a_batch_of_rudder_node_takes_each_events_own_times() {
    let body = json!({
        "batch": [
            {"type": "track", "event": "Tried", "userId": 42, "anonymousId": null, "originalTimestamp": "2026-11-22T08:00:00.000Z",
             "sentAt": "2026-11-22T08:00:01.000Z", "messageId": "r1", "channel": "server", "context": {"sessionId": 1_795_338_000_000_i64}},
            {"type": "track", "event": "Tried", "userId": "", "anonymousId": "a", "messageId": "r2", "context": {"library": {"name": "own", "version": "1"}}},
        ],
        "context": {"library": {"name": "node", "version": "3"}, "ip": "198.51.100.1"}, "timestamp": "2001-01-01T00:00:00Z",
        "sentAt": "2026-11-22T08:30:00.000Z",
    });
    let events: Vec<Event> = read("batch", body.to_string().as_bytes(), NOW_US).expect("readable").into_iter().map(|c| c.event).collect();
    assert_eq!(events[0].identifiers, [identifier("user_id", "42")]);
    assert_eq!(events[0].time, Some(timestamp(NOW_US - 3_600 * SECOND_US)));
    assert_eq!(events[0].sent_at, Some(timestamp(NOW_US - 3_599 * SECOND_US)));
    // Without a time of its own, it happened when it came in; the batch's moment of sending corrects nothing.
    assert_eq!((events[1].time, events[1].sent_at), (Some(timestamp(NOW_US)), None));
    assert_eq!(events[1].identifiers, [identifier("anonymous_id", "a")]);
    let contexts: Vec<_> = events.into_iter().map(|event| event.context.expect("a context")).collect();
    assert_eq!((contexts[0].sdk_version.as_str(), contexts[1].sdk_version.as_str()), ("node/3", "own/1"));
    assert_eq!((contexts[0].session_id.as_str(), contexts[0].source_type.as_str()), ("1795338000000", "server"));
    assert_eq!(contexts[1].ip, "198.51.100.1");
}

#[test]
fn an_identify_of_rudder_python_has_its_traits_in_the_context() {
    let event = good(
        "identify",
        json!({"userId": "u1", "context": {"traits": {"email": " jane@shop.example ", "phone": "+82 10-1234-5678", "name": "Jane", "age": 30, "plan": null}}, "traits": {"age": 31}}),
    );
    assert_eq!(event.kind(), EventKind::Identify);
    let expected = [identifier("user_id", "u1"), identifier("email", "jane@shop.example"), identifier("phone", "821012345678")];
    assert_eq!(event.identifiers, expected);
    assert_eq!((&event.traits["df_name"], &event.traits["age"], event.traits.contains_key("plan")), (&text("Jane"), &int(31), false));
}

#[test]
fn group_and_alias_link_accounts_and_ids() {
    let group = good("group", json!({"userId": "u", "groupId": "acme", "traits": {"seats": 5}, "context": {"traits": {"email": "x@y"}}}));
    assert_eq!(group.context.map(|context| context.account_id), Some("acme".to_owned()));
    assert_eq!(group.traits, [("seats".to_owned(), int(5))].into());
    let alias = good("alias", json!({"userId": "new", "previousId": "old", "anonymousId": "a"}));
    assert_eq!((alias.kind(), alias.previous_id.as_str()), (EventKind::Alias, "old"));
}

#[test]
fn an_order_of_segment_becomes_items_and_standard_properties() {
    let event = good(
        "track",
        json!({"event": "Order Completed", "userId": "u", "properties": {
        "order_id": 1001, "total": "27.50", "revenue": 25.0, "shipping": 3, "discount": 2.5, "currency": "USD", "gift": true,
        "products": [
            {"product_id": 7, "name": "Ring", "price": 19.99, "quantity": 1, "category": "Jewellery", "brand": "B", "variant": "gold", "coupon": "C", "colour": "red", "sku": "s7"},
            {"sku": "s8", "price": "1000", "quantity": "2"}
        ]}}),
    );
    assert_eq!(event.name, "Order Completed", "the pipeline gives it its canonical name");
    let expected = [
        ("df_order_id", text("1001")),
        ("df_total_purchase_amount", decimal(275_000)),
        ("df_delivery_charge", decimal(30_000)),
        ("df_discount", decimal(25_000)),
        ("df_currency", text("USD")),
        ("gift", Value { kind: Some(Kind::BoolValue(true)) }),
        ("revenue", double(25.0)),
    ];
    assert_eq!(event.properties, expected.map(|(name, value)| (name.to_owned(), value)).into());
    let ring = &event.items[0];
    assert_eq!((ring.item_id.as_str(), ring.name.as_str(), ring.price_e4, ring.quantity), ("7", "Ring", Some(199_900), Some(1)));
    assert_eq!(
        (ring.categories.as_slice(), ring.brand.as_str(), ring.variant.as_str(), ring.coupon.as_str()),
        (["Jewellery".to_owned()].as_slice(), "B", "gold", "C")
    );
    assert_eq!(ring.properties, [("colour".to_owned(), text("red")), ("sku".to_owned(), text("s7"))].into());
    assert_eq!((event.items[1].item_id.as_str(), event.items[1].price_e4, event.items[1].quantity), ("s8", Some(10_000_000), Some(2)));
}

#[test]
fn items_of_ga4_and_single_products_become_items() {
    let event = good(
        "track",
        json!({"event": "purchase", "userId": "u", "properties": {"transaction_id": "t", "value": 5, "items": [
            {"item_id": "i", "item_name": "N", "item_brand": "B", "item_category": "a", "item_category2": "b", "price": 5, "quantity": 1}]}}),
    );
    assert_eq!((event.items[0].item_id.as_str(), event.items[0].name.as_str(), event.items[0].categories.len()), ("i", "N", 2));
    assert_eq!((&event.properties["df_order_id"], &event.properties["df_total_purchase_amount"]), (&text("t"), &decimal(50_000)));

    let event = good(
        "track",
        json!({"event": "Product Added", "userId": "u", "properties": {"product_id": "p", "price": 1.5, "quantity": 2, "cart_id": "c"}}),
    );
    assert_eq!((event.items.len(), event.items[0].price_e4, event.items[0].quantity), (1, Some(15_000), Some(2)));
    assert_eq!(event.properties, [("cart_id".to_owned(), text("c"))].into());
    // The same fields of an event that is not about products stay where they are.
    let event = good("track", json!({"event": "Rated", "userId": "u", "properties": {"product_id": "p", "price": 1.5}}));
    assert_eq!((event.items.len(), event.properties.len()), (0, 2));
}

#[test]
fn what_cannot_be_read_of_an_event_is_named_and_the_rest_is_kept() {
    for (route, body, faults) in [
        ("track", json!({"event": "E", "userId": "u", "properties": 5}), vec![(ReasonCode::Unreadable, "properties")]),
        ("track", json!({"event": "E", "userId": "u", "timestamp": "soon"}), vec![(ReasonCode::Unreadable, "time")]),
        ("track", json!({"event": ["E"], "userId": "u"}), vec![(ReasonCode::Unreadable, "name")]),
        ("track", json!({"event": "E", "userId": "u", "context": "web"}), vec![(ReasonCode::Unreadable, "context")]),
        ("batch", json!({"batch": [{"type": "delete", "userId": "u"}]}), vec![(ReasonCode::InvalidValue, "type")]),
        ("batch", json!({"batch": [{"event": "E", "userId": "u"}]}), vec![(ReasonCode::MissingField, "type")]),
        (
            "track",
            json!({"event": "Product Added", "userId": "u", "properties": {"product_id": "p", "price": 0.33333, "quantity": 1.5}}),
            vec![(ReasonCode::TypeMismatch, "items[0].price"), (ReasonCode::TypeMismatch, "items[0].quantity")],
        ),
    ] {
        let candidate = one(route, body.clone());
        let found: Vec<_> = candidate.faults.iter().map(|fault| (fault.code(), fault.field.as_str())).collect();
        assert_eq!(found, faults, "{body}");
        assert!(!candidate.unreadable && candidate.event.identifiers == [identifier("user_id", "u")], "{body}");
    }
}

#[test]
fn unknown_fields_are_kept_as_properties() {
    let event = good(
        "track",
        json!({"event": "E", "userId": "u", "rudderId": "r", "properties": {"big": 9_007_199_254_740_993_i64, "list": [1, {"a": 2}]},
            "context": {"screen": {"width": 800}, "active": true, "device": {"id": "d", "type": "iOS", "manufacturer": "M"}}}),
    );
    assert_eq!(event.properties["rudderId"], text("r"));
    assert_eq!(event.properties["context_screen_width"], int(800));
    assert_eq!(event.properties["big"], int(9_007_199_254_740_993));
    assert_eq!(event.properties["list"], Value { kind: Some(Kind::JsonValue(r#"[1,{"a":2}]"#.to_owned())) });
    assert_eq!(event.identifiers, [identifier("user_id", "u"), identifier("device_id", "d")]);
    assert_eq!(event.context.map(|context| (context.platform, context.device_manufacturer)), Some(("ios".to_owned(), "M".to_owned())));
}

#[test]
fn requests_beyond_the_limits_are_refused_as_a_whole() {
    let batch = |events: Vec<serde_json::Value>| json!({ "batch": events }).to_string();
    let event = json!({"type": "track", "event": "E", "userId": "u"});
    let large = json!({"type": "track", "event": "E", "userId": "u", "properties": {"p": "x".repeat(33 << 10)}});
    for (route, body, code) in [
        ("batch", batch(vec![event.clone(); 2_501]), "TOO_MANY_EVENTS"),
        ("batch", batch(vec![event.clone(), large.clone()]), "EVENT_TOO_LARGE"),
        ("track", large.to_string(), "EVENT_TOO_LARGE"),
        ("batch", batch(vec![json!("x".repeat(30 << 10)); 18]), "BODY_TOO_LARGE"),
        ("track", "{".to_owned(), "MALFORMED_BODY"),
        ("track", "[]".to_owned(), "MALFORMED_BODY"),
        ("batch", r#"{"batch":[{"type":"track"}"#.to_owned(), "MALFORMED_BODY"),
        ("batch", "{}".to_owned(), "MALFORMED_BODY"),
        ("batch", "[".repeat(100_000), "MALFORMED_BODY"),
        ("nothing", "{}".to_owned(), "UNKNOWN_ROUTE"),
    ] {
        assert_eq!(read(route, body.as_bytes(), NOW_US).map_err(|refused: Refused| refused.code()).err(), Some(code), "{route}");
    }
    assert_eq!(read("batch", batch(vec![event; 2_500]).as_bytes(), NOW_US).map(|events| events.len()), Ok(2_500));
    assert_eq!(read("import", br#"{"batch":[]}"#, NOW_US).map(|events| events.len()), Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_per_event_and_one_that_is_malformed_is_alone_in_it() {
    for backends in backends() {
        let mut service = Service::start(&backends).await;
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        let body = format!(
            r#"{{"batch":[
                {{"type":"track","event":"df_login","userId":"u1","messageId":"1"}},
                {{"type":"track","event":"df_login","messageId":"2"}},
                {{"type":"track" "event":}},
                {{"type":"track","event":"df_login","userId":"u1","messageId":"4","properties":{{"deep":{deep}}}}},
                "text",
                {{"type":"track","event":"df_login","anonymousId":"a","messageId":"6"}}
            ],"writeKey":"K"}}"#
        );
        let (response, answer) = service.collect("batch", &body).await;
        assert_eq!((response.status, response.accepted, response.quarantined, response.rejected), (200, 2, 1, 3), "{answer}");
        assert_eq!(answer["success"], true);
        let failures = answer["failures"].as_array().expect("failures");
        let found: Vec<_> =
            failures.iter().map(|f| (f["index"].as_u64(), f["outcome"].as_str(), f["reasons"][0]["code"].as_str())).collect();
        let expected = [
            (Some(1), Some("quarantined"), Some("MISSING_IDENTIFIER")),
            (Some(2), Some("rejected"), Some("UNREADABLE")),
            (Some(3), Some("rejected"), Some("UNREADABLE")),
            (Some(4), Some("rejected"), Some("UNREADABLE")),
        ];
        assert_eq!(found, expected);
        let accepted = service.accepted().await;
        let context = accepted[0].event.as_ref().and_then(|event| event.context.as_ref()).expect("a context");
        assert_eq!((context.ip.as_str(), context.user_agent.as_str()), ("203.0.113.9", "test/1"));

        let (response, answer) = service.collect("track", "not json").await;
        assert_eq!((response.status, answer["success"].as_bool(), answer["code"].as_str()), (400, Some(false), Some("MALFORMED_BODY")));
        assert_eq!(service.accepted().await.len(), 2, "nothing was kept");
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
        Just(json!("2026-11-22T09:00:00Z")),
    ];
    let keys = prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            "type",
            "event",
            "userId",
            "anonymousId",
            "properties",
            "traits",
            "context",
            "page",
            "device",
            "products",
            "items",
            "price",
            "quantity",
            "timestamp",
            "sentAt",
            "batch",
            "name",
            "network",
            "campaign",
            "groupId",
            "previousId",
            "messageId",
            "product_id",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::hash_map(keys.clone(), inner, 0..6).prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_reader_panic(
        route in prop::sample::select(vec!["track", "identify", "page", "screen", "group", "alias", "batch", "import", "x"]),
        body in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let _ = read(route, &body, NOW_US);
    }

    #[test]
    fn no_json_makes_the_reader_panic_whole_or_cut_short(
        route in prop::sample::select(vec!["track", "identify", "page", "screen", "group", "alias"]),
        json in any_json(),
        name in prop::sample::select(vec!["Order Completed", "Product Added", "purchase", "E"]),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut json = json;
        if let Some(object) = json.as_object_mut() {
            object.insert("event".to_owned(), name.into());
        }
        let text = json.to_string();
        let _ = read(route, text.as_bytes(), NOW_US);
        let batch = format!(r#"{{"batch":[{text},{text}],"context":{text}}}"#);
        prop_assert_eq!(read("batch", batch.as_bytes(), NOW_US).map(|events| events.len()), Ok(2));
        let _ = read("batch", &batch.as_bytes()[..cut.index(batch.len())], NOW_US);
    }
}

#[test]
fn the_context_of_a_batch_counts_with_each_of_its_events() {
    let of = |context_bytes: usize, events: usize| {
        let event = json!({"type": "track", "event": "E", "userId": "u"});
        let body = json!({"batch": vec![event; events], "context": {"own": "x".repeat(context_bytes)}});
        read("batch", body.to_string().as_bytes(), NOW_US).map(|candidates| candidates.len())
    };
    assert!(matches!(of(380 << 10, 2_400), Err(Refused::EventTooLarge { index: 0, .. })));
    assert!(matches!(of(30 << 10, 2_400), Err(Refused::ContextTooLarge { .. })));
    assert_eq!(of(30 << 10, 200), Ok(200));
    assert_eq!(of(2 << 10, 2_400), Ok(2_400));
}
