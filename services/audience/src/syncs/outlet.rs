//! Sends one message to one destination: signed, to a checked address and no other, without redirects or proxies, within limits.

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, redirect};
use url::{Host, Url};

use super::address;
use super::schedule;
use super::signature;
use crate::config::SyncConfig;

/// More of an answer is not read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Of an answer that says no, so much is kept for people.
const ANSWER_CHARS_KEPT: usize = 200;
/// How long connecting may take at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Looks hosts up and refuses those with addresses that may not be reached. What it answers is what is connected to.
struct Resolver {
    allow_private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<std::net::SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let addresses: Vec<IpAddr> = found.iter().map(std::net::SocketAddr::ip).collect();
            address::check(name.as_str(), &addresses, allow_private)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Why a text is no URL to send to.
pub(super) fn check_url(text: &str, config: &SyncConfig) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if config.allow_http => {}
        "http" => return Err("must begin with `https://`; an operator can allow `http://` by audience.sync.allow_http".to_owned()),
        _ => return Err("must begin with `https://`".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry a name or password: messages are signed instead".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment (`#…`)".to_owned());
    }
    // A name is looked up when it is used; an address in its place says now where it leads.
    let address = match url.host() {
        None => return Err("must name a host".to_owned()),
        Some(Host::Domain(_)) => None,
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
    };
    if let Some(address) = address {
        address::check(url.host_str().unwrap_or_default(), &[address], config.allow_private_addresses)
            .map_err(|error| error.to_string())?;
    }
    Ok(url)
}

impl Outlet {
    pub(super) fn new(config: &SyncConfig) -> Self {
        let timeout = Duration::from_millis(config.timeout_ms);
        let client = Client::builder()
            .user_agent(concat!("Segue/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .https_only(!config.allow_http)
            .timeout(timeout)
            .connect_timeout(timeout.min(CONNECT_TIMEOUT))
            .pool_max_idle_per_host(2)
            .pool_idle_timeout(Duration::from_secs(30))
            .dns_resolver(Resolver { allow_private: config.allow_private_addresses })
            .build();
        Self { client: client.map_err(|error| chain(&error)), config: config.clone() }
    }

    /// Sends it once.
    pub(super) async fn send(&self, message: Message<'_>, now_us: i64) -> Outcome {
        let failed = |problem: String| Outcome::Failed { problem, pause: None };
        let client = match &self.client {
            Ok(client) => client,
            Err(problem) => return failed(format!("this process cannot send: {problem}")),
        };
        let url = match check_url(message.url, &self.config) {
            Ok(url) => url,
            Err(problem) => return failed(format!("the URL {problem}")),
        };
        let timestamp_s = now_us.div_euclid(1_000_000);
        let Some(signature) = signature::sign(message.secret, message.id, timestamp_s, message.body) else {
            return failed("the secret cannot be read: delete the sync and create it anew".to_owned());
        };
        let request = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", timestamp_s.to_string())
            .header("webhook-signature", signature)
            .body(message.body.to_vec());
        match request.send().await {
            Ok(answer) => judge(answer, now_us).await,
            Err(error) if error.is_timeout() => failed(format!("no answer within {} ms", self.config.timeout_ms)),
            Err(error) => failed(chain(&error.without_url())),
        }
    }
}

async fn judge(answer: reqwest::Response, now_us: i64) -> Outcome {
    let status = answer.status();
    let pause = asked_pause(answer.headers(), now_us);
    // Read to its end if it is short, so that the connection can be used again; whether it came is said by the status alone.
    let body = beginning(answer).await;
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

fn asked_pause(headers: &HeaderMap, now_us: i64) -> Option<Duration> {
    schedule::retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now_us)
}

/// The first words of an answer, on one line.
async fn beginning(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // PostgreSQL cannot store the NUL character.
    line.chars().filter(|letter| !letter.is_control()).take(ANSWER_CHARS_KEPT).collect()
}

/// What went wrong, with all causes but repetitions.
fn chain(error: &dyn Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        source = cause.source();
    }
    parts.join(": ").replace('\0', "")
}

#[cfg(test)]
pub(super) mod tests;
