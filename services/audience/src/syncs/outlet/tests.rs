//! The way out, against a real HTTP server.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use parking_lot::Mutex;

use super::super::signature::tests::is_right;
use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW_US: i64 = 1_748_426_400_000_000;

/// What a destination is to answer.
pub(in crate::syncs) struct Answer {
    status: u16,
    headers: HeaderMap,
    /// `None`: it does not answer.
    body: Option<Body>,
}

/// What a destination got.
#[derive(Debug, Clone)]
pub(in crate::syncs) struct Received {
    method: Method,
    path: String,
    headers: HeaderMap,
    pub(in crate::syncs) body: Bytes,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    received: Mutex<Vec<Received>>,
    rung: tokio::sync::Notify,
}

/// A server on this machine that keeps what it gets and answers as it is told, 200 when it is told nothing. It ends with the test.
pub(in crate::syncs) struct Destination {
    /// Ends with a slash.
    pub(in crate::syncs) url: String,
    port: u16,
    shared: Arc<Shared>,
}

impl Answer {
    pub(in crate::syncs) fn status(status: u16) -> Self {
        Self { status, headers: HeaderMap::new(), body: Some(Body::empty()) }
    }

    pub(in crate::syncs) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    fn body(self, body: impl Into<Body>) -> Self {
        Self { body: Some(body.into()), ..self }
    }

    fn never() -> Self {
        Self { body: None, ..Self::status(200) }
    }
}

impl Received {
    pub(in crate::syncs) fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    pub(in crate::syncs) fn is_signed_with(&self, secret: &str) -> bool {
        let [id, timestamp, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| self.header(name));
        is_right(secret, &id, &timestamp, &self.body, &signature)
    }
}

impl Destination {
    pub(in crate::syncs) async fn start() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let routes = axum::Router::new().fallback(take).with_state(shared.clone());
        #[allow(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url: format!("http://127.0.0.1:{port}/"), port, shared }
    }

    /// The next answers.
    pub(in crate::syncs) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.answers.lock().extend(answers);
    }

    /// Returns when so many messages came. One waits at a time.
    pub(in crate::syncs) async fn reached(&self, count: usize) {
        while self.shared.received.lock().len() < count {
            self.shared.rung.notified().await;
        }
    }

    /// Everything so far.
    pub(in crate::syncs) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }
}

async fn take(State(shared): State<Arc<Shared>>, method: Method, uri: axum::http::Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
    shared.received.lock().push(Received { method, path: uri.to_string(), headers, body });
    shared.rung.notify_one();
    let answer = shared.answers.lock().pop_front().unwrap_or_else(|| Answer::status(200));
    let Some(body) = answer.body else { return std::future::pending().await };
    let mut response = Response::builder().status(answer.status).body(body).expect("a response");
    *response.headers_mut() = answer.headers;
    response
}

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
    destination.answer([Answer::status(200).body(Body::from_stream(endless)), Answer::never()]);
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
