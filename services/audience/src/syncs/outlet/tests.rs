//! The way out, against a real HTTP server.

use axum::body::Bytes;
use segue_testkit::destination::{Answer, Destination};

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW_US: i64 = 1_748_426_400_000_000;

fn open() -> SyncConfig {
    SyncConfig { allow_http: true, allow_private_addresses: true, ..SyncConfig::default() }
}

async fn send(config: &SyncConfig, url: &str) -> Outcome {
    Outlet::new(config).send(Message { url, secret: SECRET, id: "msg_1", body: br#"{"a":1}"# }, NOW_US).await
}

fn problem(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { problem, pause: None } => problem,
        other => panic!("not a failure without a pause: {other:?}"),
    }
}

#[tokio::test]
async fn a_message_arrives_as_it_is_with_its_headers_and_signature() {
    let destination = Destination::start().await;
    assert_eq!(send(&open(), &format!("{}hook?a=1", destination.url)).await, Outcome::Taken);
    let [received] = &destination.received()[..] else { panic!("one message") };
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hook?a=1"));
    assert_eq!((received.header("content-type").as_str(), &received.body[..]), ("application/json", &br#"{"a":1}"#[..]));
    assert_eq!((received.header("webhook-id").as_str(), received.header("webhook-timestamp").as_str()), ("msg_1", "1748426400"));
    assert!(received.is_signed_with(SECRET) && !received.is_signed_with("whsec_c2VjcmV0"));
}

#[tokio::test]
async fn only_success_is_success_and_redirects_are_not_followed() {
    let destination = Destination::start().await;
    for status in [200, 201, 204, 299] {
        destination.answer([Answer::status(status)]);
        assert_eq!(send(&open(), &destination.url).await, Outcome::Taken, "{status}");
    }
    for (status, text) in [(302, "redirects are not followed"), (400, "answered 400"), (404, "answered 404"), (500, "answered 500")] {
        destination.answer([Answer::status(status).header("location", "/elsewhere")]);
        let problem = problem(send(&open(), &destination.url).await);
        assert!(problem.contains(text), "{problem}");
    }
    destination.answer([Answer::status(410), Answer::status(503).header("retry-after", "30")]);
    assert_eq!(send(&open(), &destination.url).await, Outcome::Gone);
    let asked = send(&open(), &destination.url).await;
    assert!(matches!(&asked, Outcome::Failed { pause: Some(pause), .. } if *pause == Duration::from_secs(30)), "{asked:?}");
    assert!(destination.received().iter().all(|one| one.path == "/"), "nobody went elsewhere");
    destination.answer([Answer::status(500).body("line one\n\tline\0 two".to_owned() + &"x".repeat(100_000))]);
    let problem = problem(send(&open(), &destination.url).await);
    assert!(problem.starts_with("answered 500 Internal Server Error: line one line two"), "{problem}");
    assert!(problem.chars().count() < 300 && !problem.contains('\0'));
}

#[tokio::test]
async fn an_answer_without_end_and_one_that_never_comes_hold_nobody_up() {
    let destination = Destination::start().await;
    let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 8_192])));
    destination.answer([Answer::status(200).body(axum::body::Body::from_stream(endless)), Answer::never()]);
    assert_eq!(send(&open(), &destination.url).await, Outcome::Taken);
    let hasty = SyncConfig { timeout_ms: 100, ..open() };
    assert_eq!(problem(send(&hasty, &destination.url).await), "no answer within 100 ms");
    let port = segue_testkit::free_port();
    let problem = problem(send(&open(), &format!("http://127.0.0.1:{port}/")).await);
    assert!(problem.contains("refused"), "{problem}");
}

#[tokio::test]
async fn private_addresses_are_refused_by_number_and_by_name_before_anything_is_sent() {
    let destination = Destination::start().await;
    let closed = SyncConfig { allow_http: true, ..SyncConfig::default() };
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001", "127.1", "0.0.0.0"] {
        let problem = problem(send(&closed, &format!("http://{host}:{}/", destination.port)).await);
        assert!(problem.contains("not one of the public internet"), "{host}: {problem}");
    }
    assert!(destination.received().is_empty());
    assert_eq!(send(&open(), &format!("http://localhost:{}/", destination.port)).await, Outcome::Taken);
    let strict = SyncConfig { allow_private_addresses: true, ..SyncConfig::default() };
    assert!(problem(send(&strict, &destination.url).await).contains("https://"));
}
