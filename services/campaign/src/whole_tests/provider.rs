//! A provider behind HTTP: notes every request when it comes in, and answers as a case wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A request as it came in.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) key: String,
    /// `sms`, `kakao`, `hook`.
    pub(super) channel: String,
    pub(super) body: Bytes,
    pub(super) at: Instant,
    pub(super) answered: u16,
}

/// What one tenant's provider does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mood {
    pub(super) seed: u64,
    /// Percent.
    pub(super) trouble: u8,
}

#[derive(Default)]
struct Shared {
    moods: Mutex<BTreeMap<String, Mood>>,
    /// By tenant.
    got: Mutex<BTreeMap<String, Vec<Request>>>,
}

pub(super) struct Provider {
    pub(super) url: String,
    shared: Arc<Shared>,
}

impl Provider {
    pub(super) async fn start() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let routes = axum::Router::new().fallback(take).with_state(shared.clone());
        #[allow(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url: format!("http://127.0.0.1:{port}"), shared }
    }

    pub(super) fn be(&self, tenant: &str, mood: Mood) {
        self.shared.moods.lock().insert(tenant.to_owned(), mood);
    }

    /// Everything that a tenant has sent so far, in order.
    pub(super) fn got(&self, tenant: &str) -> Vec<Request> {
        self.shared.got.lock().get(tenant).cloned().unwrap_or_default()
    }
}

async fn take(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    let at = Instant::now();
    let mut path = uri.path().trim_start_matches('/').split('/');
    let (tenant, channel) = (path.next().unwrap_or_default().to_owned(), path.next().unwrap_or_default().to_owned());
    let key = headers.get("webhook-id").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mood = shared.moods.lock().get(&tenant).copied().unwrap_or(Mood { seed: 0, trouble: 0 });
    let answered = {
        let mut got = shared.got.lock();
        let of_tenant = got.entry(tenant).or_default();
        let before = of_tenant.iter().filter(|request| request.key == key).count();
        // Whoever comes again and again is taken in the end.
        let draw = xxh3_64_with_seed(format!("{key} {before}").as_bytes(), mood.seed) % 100;
        let answered = match draw {
            draw if before >= 4 || draw >= u64::from(mood.trouble) => 200,
            draw if draw % 8 == 0 => 400,
            draw if draw % 8 == 1 => 429,
            _ => 503,
        };
        of_tenant.push(Request { key: key.clone(), channel, body, at, answered });
        answered
    };
    // Some answers come a little later: whoever asked may be gone by then.
    let pause = xxh3_64_with_seed(key.as_bytes(), mood.seed ^ 1) % 4;
    if pause == 0 {
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
    StatusCode::from_u16(answered).unwrap_or(StatusCode::OK)
}
