//! Firebase Cloud Messaging, HTTP v1: <https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>.

use std::time::Duration;

use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode};
use segue_proto::campaign::v1::FcmSettings;
use segue_runtime::outgoing::{Rules, check_url};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use url::Url;
use url::form_urlencoded;

use super::message_uuid;
use super::secret::Secret;
use super::wire::{Answer, Wire, again, provider_id};
use super::{Message, Outcome, Outlet};

pub(super) const URL_DEFAULT: &str = "https://fcm.googleapis.com";
pub(super) const TOKEN_URL_DEFAULT: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long an assertion is good for; the longest that Google takes.
const ASSERTION_S: i64 = 3_600;
/// A token is not used for so long before it runs out.
const SPARE_US: i64 = 60_000_000;
/// What Google asks for when it is asked too much and says nothing of a pause.
const QUOTA_PAUSE: Duration = Duration::from_secs(60);

/// A project of Firebase.
pub(super) struct Fcm {
    send_url: Url,
    token_url: Url,
    client_email: String,
    key: EncodingKey,
    /// Fetched by one message while the others wait.
    token: Mutex<Option<Token>>,
    client: Client,
    wire: Wire,
}

#[derive(Clone)]
struct Token {
    secret: Secret,
    expires_us: i64,
}

impl std::fmt::Debug for Fcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fcm").field("send_url", &self.send_url.as_str()).finish_non_exhaustive()
    }
}

fn parse_key(pem: &str) -> Result<EncodingKey, String> {
    EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| "must be an RSA key in PEM, as in `private_key` of the account's file".to_owned())
}

/// Whether a key can sign.
pub(super) fn check_key(pem: &str) -> Result<(), String> {
    let problem = |_| "cannot sign: it must be an RSA key of at least 2,048 bits".to_owned();
    encode(&Header::new(Algorithm::RS256), &json!({}), &parse_key(pem)?).map(|_| ()).map_err(problem)
}

impl Fcm {
    pub(super) fn open(settings: &FcmSettings, rules: &Rules, wire: &Wire) -> Result<Self, String> {
        let mut send_url = check_url(&settings.url, rules).map_err(|problem| format!("the URL {problem}"))?;
        let stem = send_url.path().trim_end_matches('/').to_owned();
        send_url.set_path(&format!("{stem}/v1/projects/{}/messages:send", settings.project_id));
        Ok(Self {
            send_url,
            token_url: check_url(&settings.token_url, rules).map_err(|problem| format!("the token's URL {problem}"))?,
            client_email: settings.client_email.clone(),
            key: parse_key(&settings.private_key).map_err(|problem| format!("the private key {problem}"))?,
            token: Mutex::new(None),
            client: wire.client()?,
            wire: wire.clone(),
        })
    }

    /// A token that is good for a while; another one than `refused`, which the provider did not take.
    async fn token(&self, refused: Option<&Secret>) -> Result<Secret, Outcome> {
        let mut held = self.token.lock().await;
        let now_us = self.wire.clock.now_us();
        if let Some(token) = held.as_ref().filter(|token| token.expires_us > now_us && refused != Some(&token.secret)) {
            return Ok(token.secret.clone());
        }
        *held = None;
        let token = self.fetch_token(now_us).await?;
        let secret = token.secret.clone();
        *held = Some(token);
        Ok(secret)
    }

    async fn fetch_token(&self, now_us: i64) -> Result<Token, Outcome> {
        let now_s = now_us.div_euclid(1_000_000);
        let claims = json!({
            "iss": self.client_email, "scope": SCOPE, "aud": self.token_url.as_str(), "iat": now_s, "exp": now_s + ASSERTION_S,
        });
        let Ok(assertion) = encode(&Header::new(Algorithm::RS256), &claims, &self.key) else {
            return Err(again(None, "the private key cannot sign: set it again"));
        };
        let form =
            form_urlencoded::Serializer::new(String::new()).append_pair("grant_type", GRANT).append_pair("assertion", &assertion).finish();
        let request = self.client.post(self.token_url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let answer = self.wire.ask(request).await?;
        let json = answer.json();
        match json["access_token"].as_str() {
            Some(token) if answer.status.is_success() && !token.is_empty() => {
                let lives_us = json["expires_in"].as_i64().unwrap_or(ASSERTION_S).saturating_mul(1_000_000);
                let expires_us = now_us.saturating_add(lives_us).saturating_sub(SPARE_US);
                Ok(Token { secret: Secret::new(token), expires_us })
            }
            Some(token) => Err(again(answer.pause, format!("no access token: {}", answer.told(&[&assertion, token])))),
            None => Err(again(answer.pause, format!("no access token: {}", answer.told(&[&assertion])))),
        }
    }

    async fn send_once(&self, message: &Message) -> Outcome {
        let body = match body(message) {
            Ok(body) => body.to_string(),
            Err(error) => return Outcome::Refused { error },
        };
        let mut refused: Option<Secret> = None;
        loop {
            let token = match self.token(refused.as_ref()).await {
                Ok(token) => token,
                Err(outcome) => return outcome,
            };
            let request = self.client.post(self.send_url.clone()).bearer_auth(token.reveal()).header(CONTENT_TYPE, "application/json");
            match self.wire.ask(request.body(body.clone())).await {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && refused.is_none() => refused = Some(token),
                Ok(answer) => return judge(&answer, &token),
                Err(outcome) => return outcome,
            }
        }
    }
}

/// The request's body. Every attempt has the same tag, so that a phone shows a message once even if it came twice.
fn body(message: &Message) -> Result<Value, String> {
    let part = |name: &str| message.parts.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let mut notification = Map::new();
    for (key, name) in [("title", "title"), ("body", "body"), ("image", "image_url")] {
        if let Some(text) = part(name) {
            notification.insert(key.to_owned(), text.into());
        }
    }
    let mut data = Map::new();
    for (key, value) in super::data(message)? {
        // Only texts are taken.
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        data.insert(key, text.into());
    }
    if let Some(url) = part("url") {
        data.entry("url").or_insert_with(|| url.into());
    }
    let tag = message_uuid(&message.idempotency_key).to_string();
    let mut apns = json!({"headers": {"apns-collapse-id": tag}});
    if let Some(image) = part("image_url") {
        apns["payload"] = json!({"aps": {"mutable-content": 1}});
        apns["fcm_options"] = json!({"image": image});
    }
    let mut android = json!({"priority": "HIGH"});
    if !notification.is_empty() {
        android["notification"] = json!({"tag": tag});
    }
    let mut told = json!({"token": message.address, "data": data, "android": android, "apns": apns});
    if !notification.is_empty() {
        told["notification"] = notification.into();
    }
    Ok(json!({"message": told}))
}

fn judge(answer: &Answer, token: &Secret) -> Outcome {
    let error = || answer.told(&[token.reveal()]);
    let json = answer.json();
    let reasons = json["error"]["details"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_unregistered = reasons.iter().any(|reason| reason["errorCode"] == "UNREGISTERED");
    match answer.status {
        status if status.is_success() => Outcome::Sent { provider_message_id: provider_id(&json["name"]) },
        // A 404 that is not Google's says nothing of the address.
        StatusCode::NOT_FOUND if json["error"]["status"] == "NOT_FOUND" => Outcome::Unregistered { error: error() },
        _ if is_unregistered => Outcome::Unregistered { error: error() },
        StatusCode::TOO_MANY_REQUESTS => again(answer.pause.or(Some(QUOTA_PAUSE)), error()),
        // What is wrong is the account, not the message.
        StatusCode::UNAUTHORIZED => again(answer.pause, error()),
        status if status.is_server_error() => again(answer.pause, error()),
        _ => Outcome::Refused { error: error() },
    }
}

impl Outlet for Fcm {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(self.send_once(message))
    }
}
