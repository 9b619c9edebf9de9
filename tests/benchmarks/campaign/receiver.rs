//! Where the webhooks of a scenario arrive.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;

use crate::sender::now_us;

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// Hashes of the keys of messages: a million of them as text would take more memory than what is measured.
    keys: HashSet<u64>,
    /// How many came under a key that had come before.
    pub(crate) repeated: u64,
    /// Milliseconds since the event that caused a message was sent, of those that say when that was.
    pub(crate) delays_ms: Vec<f64>,
    /// When the last one came, microseconds since 1970.
    pub(crate) last_us: i64,
}

impl Arrived {
    /// How many different messages came.
    pub(crate) fn messages(&self) -> u64 {
        self.keys.len() as u64
    }
}

/// A receiver that answers at once.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) arrived: Arc<Mutex<Arrived>>,
}

impl Receiver {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let arrived = Arc::<Mutex<Arrived>>::default();
        let (into, hasher) = (arrived.clone(), RandomState::new());
        let take = move |headers: HeaderMap, body: Bytes| {
            let status = match headers.get("webhook-id") {
                Some(id) => {
                    note(&mut into.lock(), hasher.hash_one(id.as_bytes()), &body);
                    StatusCode::NO_CONTENT
                }
                None => StatusCode::BAD_REQUEST,
            };
            async move { status }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        #[expect(clippy::disallowed_methods, reason = "the benchmark is no service; it ends with the process")]
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/hook", post(take))).await });
        Ok(Self { url, arrived })
    }
}

fn note(arrived: &mut Arrived, key: u64, body: &[u8]) {
    let now_us = now_us();
    arrived.last_us = now_us;
    if !arrived.keys.insert(key) {
        arrived.repeated += 1;
        return;
    }
    // The template writes when the event was sent, or 0.
    let sent_us: Option<i64> = std::str::from_utf8(body).ok().and_then(|body| body.trim().parse().ok());
    if let Some(sent_us) = sent_us.filter(|sent_us| *sent_us > 0) {
        arrived.delays_ms.push((now_us - sent_us) as f64 / 1e3);
    }
}
