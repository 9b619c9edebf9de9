//! Sends one message to one destination: signed, to a checked address and no other, without redirects or proxies, within limits.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode};
use segue_runtime::outgoing;

use crate::config::SyncConfig;

/// More of an answer is not read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The way out. Cheap to clone; connections are kept for a while.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    /// Or why there is none.
    client: Result<Client, String>,
    config: SyncConfig,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) url: &'a str,
    pub(super) secret: &'a str,
    pub(super) id: &'a str,
    pub(super) body: &'a [u8],
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The destination has it.
    Taken,
    /// It may work another time, not before the pause if there is one.
    Failed { problem: String, pause: Option<Duration> },
    /// The destination wants nothing any more.
    Gone,
}

impl Outlet {
    pub(super) fn new(config: &SyncConfig) -> Self {
        let client = outgoing::client(&config.rules(), Duration::from_millis(config.timeout_ms)).pool_max_idle_per_host(2).build();
        Self { client: client.map_err(outgoing::problem), config: config.clone() }
    }

    /// Sends it once.
    pub(super) async fn send(&self, message: Message<'_>, now_us: i64) -> Outcome {
        let failed = |problem: String| Outcome::Failed { problem, pause: None };
        let client = match &self.client {
            Ok(client) => client,
            Err(problem) => return failed(format!("this process cannot send: {problem}")),
        };
        let url = match outgoing::check_url(message.url, &self.config.rules()) {
            Ok(url) => url,
            Err(problem) => return failed(format!("the URL {problem}")),
        };
        let request = client.post(url).header(CONTENT_TYPE, "application/json");
        let Some(request) = outgoing::signed(request, message.secret, message.id, now_us, message.body.to_vec()) else {
            return failed("the secret cannot be read: delete the sync and create it anew".to_owned());
        };
        match request.send().await {
            Ok(answer) => judge(answer, now_us).await,
            Err(error) if error.is_timeout() => failed(format!("no answer within {} ms", self.config.timeout_ms)),
            Err(error) => failed(outgoing::problem(error)),
        }
    }
}

async fn judge(answer: reqwest::Response, now_us: i64) -> Outcome {
    let status = answer.status();
    let pause = outgoing::asked_pause(&answer, now_us);
    // Whether it came is said by the status alone.
    let body = outgoing::first_words(&outgoing::read(answer, ANSWER_BYTES_MAX).await);
    match status {
        StatusCode::GONE => Outcome::Gone,
        status if status.is_success() => Outcome::Taken,
        status if status.is_redirection() => {
            Outcome::Failed { problem: format!("answered {status}; redirects are not followed: give the final URL"), pause }
        }
        status if body.is_empty() => Outcome::Failed { problem: format!("answered {status}"), pause },
        status => Outcome::Failed { problem: format!("answered {status}: {body}"), pause },
    }
}

#[cfg(test)]
mod tests;
