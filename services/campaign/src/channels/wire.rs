//! What outlets over HTTP share: clients, limits, the clock, and how an answer is read.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use segue_model::Clock;
use segue_runtime::outgoing;
use serde_json::Value;

use super::Outcome;
use crate::config::SendConfig;

/// Cheap to clone; connections are kept for a while and shared by all channels.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) clock: Arc<dyn Clock>,
    answer_bytes_max: usize,
    timeout_ms: u64,
    /// Or why there is none.
    client: Result<Client, String>,
    /// Speaks HTTP/2 and nothing else.
    http2: Result<Client, String>,
}

/// What a provider answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) pause: Option<Duration>,
    pub(super) body: Vec<u8>,
}

impl Wire {
    pub(super) fn new(config: &SendConfig, clock: Arc<dyn Clock>) -> Self {
        let builder = || outgoing::client(&config.rules(), Duration::from_millis(config.timeout_ms));
        Self {
            clock,
            answer_bytes_max: config.answer_bytes_max,
            timeout_ms: config.timeout_ms,
            client: builder().build().map_err(outgoing::problem),
            http2: builder().http2_prior_knowledge().build().map_err(outgoing::problem),
        }
    }

    /// The client of all but APNs.
    pub(super) fn client(&self) -> Result<Client, String> {
        self.client.clone().map_err(|problem| format!("this process cannot send: {problem}"))
    }

    /// The client for providers that speak HTTP/2 alone.
    pub(super) fn http2(&self) -> Result<Client, String> {
        self.http2.clone().map_err(|problem| format!("this process cannot send: {problem}"))
    }

    /// Makes a request once. Without an answer it may work another time.
    pub(super) async fn ask(&self, request: RequestBuilder) -> Result<Answer, Outcome> {
        match request.send().await {
            Ok(answer) => {
                let (status, pause) = (answer.status(), outgoing::asked_pause(&answer, self.clock.now_us()));
                Ok(Answer { status, pause, body: outgoing::read(answer, self.answer_bytes_max).await })
            }
            Err(error) if error.is_timeout() => Err(again(None, too_slow(self.timeout_ms))),
            Err(error) => Err(again(None, outgoing::problem(error))),
        }
    }
}

/// What is said of a provider that does not answer in time.
pub(super) fn too_slow(timeout_ms: u64) -> String {
    format!("no answer within {timeout_ms} ms")
}

/// It may work another time.
pub(super) fn again(after: Option<Duration>, error: impl Into<String>) -> Outcome {
    Outcome::Retry { after, error: error.into() }
}

impl Answer {
    /// The body, if it is JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The answer for people. A provider may repeat what it was sent: secrets among it are blotted out.
    pub(super) fn told(&self, secrets: &[&str]) -> String {
        let mut text = String::from_utf8_lossy(&self.body).into_owned();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "…");
        }
        let words = outgoing::first_words(text.as_bytes());
        match self.status {
            status if status.is_redirection() => format!("answered {status}; redirects are not followed: give the final URL"),
            status if words.is_empty() => format!("answered {status}"),
            status => format!("answered {status}: {words}"),
        }
    }
}

/// An id that a provider gave; empty if it gave none that can be kept.
pub(super) fn provider_id(value: &Value) -> String {
    outgoing::first_words(value.as_str().unwrap_or_default().as_bytes())
}
