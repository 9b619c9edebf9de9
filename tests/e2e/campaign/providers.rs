//! Providers of pushes and text messages, as far as the cases need them: they take everything and write it down. What they say when they do
//! not is tested beside the channels.

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use segue_proto::campaign::v1::{FcmSettings, HttpSettings};
use serde_json::{Value, json};

/// What came: whose address, and the text.
type Taken = Arc<Mutex<Vec<(String, String)>>>;

/// Servers that are there.
pub struct Providers {
    url: String,
    pushes: Taken,
    texts: Taken,
}

impl Providers {
    pub async fn start() -> anyhow::Result<Self> {
        let (pushes, texts) = (Taken::default(), Taken::default());
        let (into_pushes, into_texts) = (pushes.clone(), texts.clone());
        let take_push = async move |body: String| {
            let message = &read(&body)["message"];
            note(&into_pushes, &message["token"], &message["notification"]["title"]);
            json!({ "name": "projects/shop/messages/1" }).to_string()
        };
        let take_text = async move |body: String| {
            let body = read(&body);
            note(&into_texts, &body["to"], &body["text"]);
            "{}"
        };
        let give_token = async || json!({ "access_token": "t", "expires_in": 3_600, "token_type": "Bearer" }).to_string();
        let routes = Router::new()
            .route("/token", post(give_token))
            .route("/v1/projects/shop/messages:send", post(take_push))
            .route("/texts", post(take_text));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        #[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { url, pushes, texts })
    }

    /// Settings of a channel for pushes.
    pub fn pushing(&self) -> anyhow::Result<FcmSettings> {
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048)?;
        let private: aws_lc_rs::encoding::Pkcs8V1Der<'static> = aws_lc_rs::encoding::AsDer::as_der(&pair)?;
        let private_key = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(private.as_ref()));
        Ok(FcmSettings {
            project_id: "shop".to_owned(),
            client_email: "push@shop.example".to_owned(),
            private_key,
            url: self.url.clone(),
            token_url: format!("{}/token", self.url),
        })
    }

    /// Settings of a channel for text messages.
    pub fn texting(&self) -> HttpSettings {
        HttpSettings { url: format!("{}/texts", self.url), ..HttpSettings::default() }
    }

    /// Tokens and titles, sorted.
    pub fn pushes(&self) -> Vec<(String, String)> {
        sorted(&self.pushes)
    }

    /// Numbers and texts, sorted.
    pub fn texts(&self) -> Vec<(String, String)> {
        sorted(&self.texts)
    }
}

fn read(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_default()
}

fn note(into: &Taken, to: &Value, text: &Value) {
    let text_of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    into.lock().push((text_of(to), text_of(text)));
}

fn sorted(taken: &Taken) -> Vec<(String, String)> {
    let mut taken = taken.lock().clone();
    taken.sort();
    taken
}
