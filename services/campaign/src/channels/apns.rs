//! Apple's push service: <https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns>.

use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode};
use segue_proto::campaign::v1::ApnsSettings;
use segue_runtime::outgoing::{Rules, check_url};
use serde_json::{Map, Value, json};
use url::Url;

use super::message_uuid;
use super::secret::Secret;
use super::wire::{Answer, Wire, again};
use super::{Message, Outcome, Outlet};

pub(super) const URL_DEFAULT: &str = "https://api.push.apple.com";
/// Apple takes a token for an hour, and does not want more than one in 20 minutes.
const TOKEN_LIVES_US: i64 = 40 * 60 * 1_000_000;
const TOKEN_BYTES_MAX: usize = 200;

/// An app of a team.
pub(super) struct Apns {
    url: Url,
    team_id: String,
    key_id: String,
    bundle_id: String,
    key: EncodingKey,
    /// With when it was made.
    token: Mutex<Option<(Secret, i64)>>,
    client: Client,
    wire: Wire,
}

impl std::fmt::Debug for Apns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apns").field("url", &self.url.as_str()).field("bundle_id", &self.bundle_id).finish_non_exhaustive()
    }
}

fn parse_key(pem: &str) -> Result<EncodingKey, String> {
    EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| "must be the key of the `.p8` file, in PEM".to_owned())
}

/// Whether a key can sign.
pub(super) fn check_key(pem: &str) -> Result<(), String> {
    let problem = |_| "cannot sign: it must be a key on the curve P-256".to_owned();
    encode(&Header::new(Algorithm::ES256), &json!({}), &parse_key(pem)?).map(|_| ()).map_err(problem)
}

impl Apns {
    pub(super) fn open(settings: &ApnsSettings, rules: &Rules, wire: &Wire) -> Result<Self, String> {
        Ok(Self {
            url: check_url(&settings.url, rules).map_err(|problem| format!("the URL {problem}"))?,
            team_id: settings.team_id.clone(),
            key_id: settings.key_id.clone(),
            bundle_id: settings.bundle_id.clone(),
            key: parse_key(&settings.private_key).map_err(|problem| format!("the private key {problem}"))?,
            token: Mutex::new(None),
            client: wire.http2()?,
            wire: wire.clone(),
        })
    }

    /// The provider's token; another one than `refused`, which Apple did not take.
    fn token(&self, refused: Option<&Secret>) -> Result<Secret, Outcome> {
        let mut held = self.token.lock();
        let now_us = self.wire.clock.now_us();
        let is_good =
            |token: &Secret, made_us: i64| (0..TOKEN_LIVES_US).contains(&now_us.saturating_sub(made_us)) && refused != Some(token);
        if let Some((token, made_us)) = held.as_ref()
            && is_good(token, *made_us)
        {
            return Ok(token.clone());
        }
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let claims = json!({"iss": self.team_id, "iat": now_us.div_euclid(1_000_000)});
        let token = encode(&header, &claims, &self.key).map_err(|_| again(None, "the private key cannot sign: set it again"))?;
        let token = Secret::new(token);
        *held = Some((token.clone(), now_us));
        Ok(token)
    }

    async fn send_once(&self, message: &Message) -> Outcome {
        let address = &message.address;
        if address.is_empty() || address.len() > TOKEN_BYTES_MAX || !address.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Outcome::Unregistered { error: "the address is not a device token of APNs".to_owned() };
        }
        let body = match body(message) {
            Ok(body) => body.to_string(),
            Err(error) => return Outcome::Refused { error },
        };
        let mut url = self.url.clone();
        url.set_path(&format!("{}/3/device/{address}", self.url.path().trim_end_matches('/')));
        let id = message_uuid(&message.idempotency_key).to_string();
        let mut refused: Option<Secret> = None;
        loop {
            let token = match self.token(refused.as_ref()) {
                Ok(token) => token,
                Err(outcome) => return outcome,
            };
            // The same for every attempt: a phone shows a message once even if it came twice.
            let request = self
                .client
                .post(url.clone())
                .bearer_auth(token.reveal())
                .header(CONTENT_TYPE, "application/json")
                .header("apns-topic", &self.bundle_id)
                .header("apns-id", &id)
                .header("apns-collapse-id", &id)
                .header("apns-push-type", "alert")
                .header("apns-priority", "10");
            match self.wire.ask(request.body(body.clone())).await {
                Ok(answer) if is_token_refused(&answer) && refused.is_none() => refused = Some(token),
                Ok(answer) => return judge(&answer, &token, id),
                Err(outcome) => return outcome,
            }
        }
    }
}

/// The request's body.
fn body(message: &Message) -> Result<Value, String> {
    let part = |name: &str| message.parts.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let mut alert = Map::new();
    for name in ["title", "body"] {
        if let Some(text) = part(name) {
            alert.insert(name.to_owned(), text.into());
        }
    }
    let mut body = super::data(message)?;
    for name in ["url", "image_url"] {
        if let Some(text) = part(name) {
            body.entry(name).or_insert_with(|| text.into());
        }
    }
    let mut aps = json!({"alert": alert, "sound": "default"});
    if part("image_url").is_some() {
        aps["mutable-content"] = 1.into();
    }
    body.insert("aps".to_owned(), aps);
    Ok(body.into())
}

fn is_token_refused(answer: &Answer) -> bool {
    let reason = &answer.json()["reason"];
    answer.status == StatusCode::FORBIDDEN && (reason == "ExpiredProviderToken" || reason == "InvalidProviderToken")
}

fn judge(answer: &Answer, token: &Secret, id: String) -> Outcome {
    let error = || answer.told(&[token.reveal()]);
    let json = answer.json();
    match answer.status {
        status if status.is_success() => Outcome::Sent { provider_message_id: id },
        StatusCode::GONE => Outcome::Unregistered { error: error() },
        _ if matches!(json["reason"].as_str(), Some("BadDeviceToken" | "Unregistered")) => Outcome::Unregistered { error: error() },
        StatusCode::TOO_MANY_REQUESTS => again(answer.pause, error()),
        // What is wrong is the key, not the message.
        _ if is_token_refused(answer) => again(answer.pause, error()),
        status if status.is_server_error() => again(answer.pause, error()),
        _ => Outcome::Refused { error: error() },
    }
}

impl Outlet for Apns {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Outcome> {
        Box::pin(self.send_once(message))
    }
}
