//! Webhooks, and providers of SMS and AlimTalk behind adapters: requests signed as Standard Webhooks say. See HttpSettings in
//! channel.proto for what is promised.

use futures::future::BoxFuture;
use reqwest::Client;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use segue_proto::campaign::v1::{ChannelKind, HttpSettings};
use segue_runtime::outgoing::{Rules, check_url, signed};
use serde_json::{Value, json};
use url::Url;

use super::secret::Secret;
use super::wire::{Answer, Wire, again, provider_id};
use super::{Message, Outcome, Outlet};

/// A destination of requests.
#[derive(Debug)]
pub(super) struct Http {
    kind: ChannelKind,
    url: Url,
    headers: HeaderMap,
    secret: Secret,
    client: Client,
    wire: Wire,
}

impl Http {
    pub(super) fn open(kind: ChannelKind, settings: &HttpSettings, secret: Secret, rules: &Rules, wire: &Wire) -> Result<Self, String> {
        let url = check_url(&settings.url, rules).map_err(|problem| format!("the URL {problem}"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let unusable = || format!("the header `{name}` cannot be used: set it again");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| unusable())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self { kind, url, headers, secret, client: wire.client()?, wire: wire.clone() })
    }

    /// Where a message goes and what it says; or why it cannot be sent.
    fn content(&self, message: &Message) -> Result<(Url, Vec<u8>), String> {
        let part = |name: &str| message.parts.get(name).map(String::as_str).unwrap_or_default();
        match self.kind {
            ChannelKind::Webhook => {
                let body = part("body");
                if body.is_empty() {
                    return Err("the template has no `body`".to_owned());
                }
                Ok((below(&self.url, part("path"))?, body.as_bytes().to_vec()))
            }
            ChannelKind::Kakao => {
                let buttons: Value = match part("buttons") {
                    "" => json!([]),
                    text => serde_json::from_str(text).map_err(|_| "the part `buttons` is not JSON".to_owned())?,
                };
                if !buttons.is_array() {
                    return Err("the part `buttons` is not an array".to_owned());
                }
                let body = json!({
                    "id": message.idempotency_key, "to": message.address, "text": part("text"),
                    "template_code": part("template_code"), "buttons": buttons, "fallback_text": part("fallback_text"),
                });
                Ok((self.url.clone(), body.to_string().into_bytes()))
            }
            _ => {
                let body = json!({"id": message.idempotency_key, "to": message.address, "text": part("text")});
                Ok((self.url.clone(), body.to_string().into_bytes()))
            }
        }
    }

    async fn send_once(&self, message: &Message) -> Outcome {
        let (url, body) = match self.content(message) {
            Ok(content) => content,
            Err(error) => return Outcome::Refused { error },
        };
        let request = self.client.post(url).headers(self.headers.clone());
        let now_us = self.wire.clock.now_us();
        let Some(request) = signed(request, self.secret.reveal(), &message.idempotency_key, now_us, body) else {
            return again(None, "the signing secret cannot be read: delete the channel and create it anew");
        };
        match self.wire.ask(request).await {
            Ok(answer) => self.judge(&answer),
            Err(outcome) => outcome,
        }
    }

    fn judge(&self, answer: &Answer) -> Outcome {
        let secrets: Vec<&str> =
            self.headers.values().filter(|value| value.is_sensitive()).filter_map(|value| value.to_str().ok()).collect();
        let error = || answer.told(&secrets);
        match answer.status {
            status if status.is_success() => Outcome::Sent { provider_message_id: provider_id(&answer.json()["provider_message_id"]) },
            StatusCode::TOO_MANY_REQUESTS => again(answer.pause, error()),
            status if status.is_server_error() => again(answer.pause, error()),
            StatusCode::GONE if self.kind != ChannelKind::Webhook => Outcome::Unregistered { error: error() },
            _ => Outcome::Refused { error: error() },
        }
    }
}

/// A URL with more behind its path. What is filled in must not lead elsewhere.
fn below(url: &Url, path: &str) -> Result<Url, String> {
    if path.is_empty() {
        return Ok(url.clone());
    }
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let stem = url.path().trim_end_matches('/').to_owned();
    let mut joined = url.clone();
    joined.set_path(&format!("{stem}/{}", path.trim_start_matches('/')));
    if let Some(query) = query {
        let all = url.query().map_or_else(|| query.to_owned(), |before| format!("{before}&{query}"));
        joined.set_query(Some(&all));
    }
    let stays = joined.path().strip_prefix(&stem).is_some_and(|rest| rest.starts_with('/'));
    if stays && joined.origin() == url.origin() { Ok(joined) } else { Err("the part `path` leads out of the channel's URL".to_owned()) }
}

impl Outlet for Http {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(self.send_once(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_appended_and_cannot_leave_the_url() {
        let joined = |url: &str, path: &str| below(&Url::parse(url).expect("a URL"), path).map(String::from);
        for (url, path, expected) in [
            ("https://a.example", "", "https://a.example/"),
            ("https://a.example", "b", "https://a.example/b"),
            ("https://a.example/x/", "/b/c?d=1", "https://a.example/x/b/c?d=1"),
            ("https://a.example/x?k=1", "b?d=2", "https://a.example/x/b?k=1&d=2"),
            ("https://a.example/x", "@b.example/", "https://a.example/x/@b.example/"),
            ("https://a.example/x", "//b.example/", "https://a.example/x/b.example/"),
            ("https://a.example/x", "b#c", "https://a.example/x/b%23c"),
            ("https://a.example/x", "홍", "https://a.example/x/%ED%99%8D"),
        ] {
            assert_eq!(joined(url, path).as_deref(), Ok(expected), "{url} {path}");
        }
        for path in ["..", "../y", "b/../../y", "%2e%2e/y", "\\..\\..\\y"] {
            assert!(joined("https://a.example/x", path).is_err(), "{path}");
        }
    }
}
