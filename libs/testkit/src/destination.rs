//! A destination of HTTP requests: a server that keeps what it gets and answers as it is told.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// What a destination is to answer.
pub struct Answer {
    status: u16,
    headers: HeaderMap,
    /// `None`: it does not answer.
    body: Option<Body>,
}

/// What a destination got.
#[derive(Debug, Clone)]
pub struct Received {
    /// How it was asked.
    pub method: Method,
    /// With the query.
    pub path: String,
    /// All of them.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    received: Mutex<Vec<Received>>,
    rung: tokio::sync::Notify,
}

/// A server on this machine that keeps what it gets and answers as it is told, 200 when it is told nothing. It ends with the test.
pub struct Destination {
    /// Ends with a slash.
    pub url: String,
    /// Of the loopback.
    pub port: u16,
    shared: Arc<Shared>,
}

impl Answer {
    /// With a status and nothing else.
    pub fn status(status: u16) -> Self {
        Self { status, headers: HeaderMap::new(), body: Some(Body::empty()) }
    }

    /// With one more header.
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// With a body.
    pub fn body(self, body: impl Into<Body>) -> Self {
        Self { body: Some(body.into()), ..self }
    }

    /// None at all.
    pub fn never() -> Self {
        Self { body: None, ..Self::status(200) }
    }
}

impl Received {
    /// The value of a header; empty without it.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// Whether it is signed as Standard Webhooks say.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let [id, timestamp, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| self.header(name));
        is_right(secret, &id, &timestamp, &self.body, &signature)
    }
}

impl Destination {
    /// Starts one.
    pub async fn start() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let routes = axum::Router::new().fallback(take).with_state(shared.clone());
        #[allow(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url: format!("http://127.0.0.1:{port}/"), port, shared }
    }

    /// The next answers.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.answers.lock().extend(answers);
    }

    /// Returns when so many messages came. One waits at a time.
    pub async fn reached(&self, count: usize) {
        while self.shared.received.lock().len() < count {
            self.shared.rung.notified().await;
        }
    }

    /// Everything so far.
    pub fn received(&self) -> Vec<Received> {
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

/// Whether a signature is right, by another way than that of the product: HMAC as RFC 2104 has it, over another implementation of SHA-256.
pub fn is_right(secret: &str, id: &str, timestamp: &str, body: &[u8], signature: &str) -> bool {
    let mut key = STANDARD.decode(&secret["whsec_".len()..]).expect("base64");
    key.resize(64, 0);
    let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let inner = Sha256::digest([pad(0x36), message].concat());
    let outer = Sha256::digest([pad(0x5c), inner.to_vec()].concat());
    signature.split(' ').any(|one| one == format!("v1,{}", STANDARD.encode(outer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specifications_libraries_is_right_and_what_differs_is_not() {
        let (secret, id, body) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert!(is_right(secret, id, "1614265330", body, signature));
        assert!(!is_right(secret, id, "1614265331", body, signature));
        assert!(!is_right(secret, id, "1614265330", b"{}", signature));
    }
}
