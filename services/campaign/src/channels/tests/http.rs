//! Webhooks and adapters, against a real HTTP server.

use segue_testkit::destination::{Answer, Destination};
use serde_json::{Value, json};

use super::*;

const KINDS: [fn(HttpSettings) -> Settings; 3] = [Settings::Webhook, Settings::Sms, Settings::Kakao];

async fn send(world: &World, settings: Settings, message: &Message) -> Outcome {
    world.opened(settings).await.outlet.send(message).await
}

fn text() -> Message {
    message("+821012345678", &[("text", "안녕"), ("body", "{}")])
}

fn error(outcome: Outcome) -> String {
    match outcome {
        Outcome::Retry { after: None, error } => error,
        other => panic!("not one to be tried again at any time: {other:?}"),
    }
}

#[tokio::test]
async fn each_kind_says_what_its_contract_promises_signed_and_with_its_headers() {
    let parts = [
        ("text", "안녕 \"Kim\""),
        ("template_code", "T1"),
        ("buttons", r#"[{"name":"Go","type":"WL"}]"#),
        ("fallback_text", "hi"),
        ("body", r#"{"a": 1}"#),
        ("path", "orders/1?x=y"),
    ];
    let sms = json!({"id": "s-1.0", "to": "+821012345678", "text": "안녕 \"Kim\""});
    let kakao = json!({"id": "s-1.0", "to": "+821012345678", "text": "안녕 \"Kim\"", "template_code": "T1",
        "buttons": [{"name": "Go", "type": "WL"}], "fallback_text": "hi"});
    for (kind, path, expected) in [(0, "/in/orders/1?x=y", json!({"a": 1})), (1, "/in", sms), (2, "/in", kakao)] {
        let (world, destination) = (World::new().await, Destination::start().await);
        destination.answer([Answer::status(201).body(r#"{"provider_message_id": "p-1"}"#), Answer::status(204)]);
        let url = format!("{}in", destination.url);
        let outlet = world.opened(KINDS[kind](webhook(&url))).await.outlet.clone();
        let message = message("+821012345678", &parts);
        assert_eq!(outlet.send(&message).await, Outcome::Sent { provider_message_id: "p-1".to_owned() });
        world.clock.advance_us(60_000_000);
        assert_eq!(outlet.send(&message).await, Outcome::Sent { provider_message_id: String::new() });
        let secret = world.channels.signing_secret(&world.tenant, "out").await.expect("a store").expect("a secret");
        let received = destination.received();
        assert_eq!(received.len(), 2);
        for one in &received {
            assert_eq!((one.method.as_str(), one.path.as_str()), ("POST", path));
            assert_eq!(serde_json::from_slice::<Value>(&one.body).expect("JSON"), expected);
            assert_eq!(
                [one.header("webhook-id"), one.header("content-type"), one.header("authorization")],
                ["s-1.0", "application/json", "Bearer SECRET-1"]
            );
            assert!(one.is_signed_with(&secret) && !one.is_signed_with("whsec_c2VjcmV0"));
        }
        assert_eq!(received[0].header("webhook-timestamp"), "1748426400");
        assert_eq!(received[1].header("webhook-timestamp"), "1748426460");
    }
}

#[tokio::test]
async fn a_status_says_whether_to_come_again() {
    for (kind, gone) in KINDS.into_iter().zip(["refused", "unregistered", "unregistered"]) {
        let (world, destination) = (World::new().await, Destination::start().await);
        let outlet = world.opened(kind(webhook(&destination.url))).await.outlet.clone();
        for (status, expected) in [
            (200, "sent"),
            (299, "sent"),
            (301, "refused"),
            (302, "refused"),
            (307, "refused"),
            (400, "refused"),
            (404, "refused"),
            (410, gone),
            (422, "refused"),
            (429, "retry"),
            (500, "retry"),
            (502, "retry"),
            (503, "retry"),
        ] {
            destination.answer([Answer::status(status).header("location", "/elsewhere")]);
            let told = match outlet.send(&text()).await {
                Outcome::Sent { .. } => "sent",
                Outcome::Retry { .. } => "retry",
                Outcome::Refused { .. } => "refused",
                Outcome::Unregistered { .. } => "unregistered",
            };
            assert_eq!(told, expected, "{status}");
        }
        assert!(destination.received().iter().all(|one| one.path == "/"), "nobody went elsewhere");
    }
}

#[tokio::test]
async fn a_pause_is_asked_for_in_seconds_or_by_a_moment() {
    let (world, destination) = (World::new().await, Destination::start().await);
    let outlet = world.opened(Settings::Sms(webhook(&destination.url))).await.outlet.clone();
    // 40 s after the clock.
    for (status, header, expected) in [(429, "7", 7), (503, "Wed, 28 May 2025 10:00:40 GMT", 40)] {
        destination.answer([Answer::status(status).header("retry-after", header)]);
        let told = outlet.send(&text()).await;
        assert!(matches!(told, Outcome::Retry { after: Some(pause), .. } if pause == Duration::from_secs(expected)), "{told:?}");
    }
}

#[tokio::test]
async fn what_a_provider_repeats_of_our_secrets_is_blotted_out() {
    let (world, destination) = (World::new().await, Destination::start().await);
    destination.answer([Answer::status(400).body("you sent\nAuthorization: Bearer SECRET-1\0, which is wrong")]);
    let told = send(&world, Settings::Webhook(webhook(&destination.url)), &text()).await;
    let error = "answered 400 Bad Request: you sent Authorization: …, which is wrong".to_owned();
    assert_eq!(told, Outcome::Refused { error });
}

#[tokio::test]
async fn answers_without_end_and_ones_that_never_come_hold_nobody_up() {
    let destination = Destination::start().await;
    let endless = || futures::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[b'x'; 8_192])));
    destination.answer([
        Answer::status(200).body(axum::body::Body::from_stream(endless())),
        Answer::status(400).body(axum::body::Body::from_stream(endless())),
        Answer::never(),
    ]);
    let world = World::with(SendConfig { timeout_ms: 500, ..open() }).await;
    let outlet = world.opened(Settings::Webhook(webhook(&destination.url))).await.outlet.clone();
    assert_eq!(outlet.send(&text()).await, Outcome::Sent { provider_message_id: String::new() });
    assert!(matches!(outlet.send(&text()).await, Outcome::Refused { error } if error.len() < 300));
    assert_eq!(error(outlet.send(&text()).await), "no answer within 500 ms");
}

#[tokio::test]
async fn private_addresses_are_refused_by_number_and_by_name_before_anything_is_sent() {
    let destination = Destination::start().await;
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001", "127.1", "0.0.0.0"] {
        let world = World::new().await;
        world.create(channel("out", Settings::Webhook(webhook(&format!("http://{host}:{}/", destination.port))))).await.expect("allowed");
        // An operator takes the permission back.
        let send = SendConfig { allow_private_addresses: false, ..open() };
        let config = Arc::new(Config { send, ..Config::default() });
        let strict = Channels::new(config, world.channels.db.clone(), world.clock.clone());
        let open = strict.find(&world.tenant, "out").await.expect("a store").expect("it is there");
        let error = error(open.outlet.send(&text()).await);
        assert!(
            error.contains("not one of the public internet") && error.contains("campaign.send.allow_private_addresses"),
            "{host}: {error}"
        );
    }
    assert!(destination.received().is_empty());
    let world = World::new().await;
    let url = format!("http://localhost:{}/", destination.port);
    assert!(matches!(send(&world, Settings::Webhook(webhook(&url)), &text()).await, Outcome::Sent { .. }));
}

#[tokio::test]
async fn what_a_template_makes_unusable_is_refused_before_anything_is_sent() {
    let destination = Destination::start().await;
    let no_body = message("", &[]);
    let elsewhere = message("", &[("body", "{}"), ("path", "../admin")]);
    let (no_json, no_array) = (message("1", &[("buttons", "[")]), message("1", &[("buttons", "{}")]));
    let url = format!("{}in", destination.url);
    for (kind, message) in [(0, no_body), (0, elsewhere), (2, no_json), (2, no_array)] {
        let world = World::new().await;
        let told = send(&world, KINDS[kind](webhook(&url)), &message).await;
        assert!(matches!(told, Outcome::Refused { .. }), "{told:?}");
    }
    assert!(destination.received().is_empty());
}
