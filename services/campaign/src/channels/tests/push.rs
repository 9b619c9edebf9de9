//! FCM and APNs, against servers that speak as theirs do, and verify what they are shown by another way than the product signs it.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response, Version};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;

/// What a provider keeps.
#[derive(Default)]
struct Kept {
    public_key: Vec<u8>,
    /// Tokens that were given out, or shown, the latest last.
    tokens: Vec<String>,
    messages: Vec<(HeaderMap, Value)>,
    /// The next requests with a token find it run out.
    expired: usize,
    faults: Vec<String>,
}

type Provider = Arc<Mutex<Kept>>;

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64")).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

fn rsa() -> (String, Vec<u8>) {
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key");
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'static> = pair.as_der().expect("DER");
    (pem(private.as_ref()), pair.public_key().as_ref().to_vec())
}

fn p256() -> (String, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let private = pair.to_pkcs8v1().expect("DER");
    (pem(private.as_ref()), pair.public_key().as_ref().to_vec())
}

/// Header and claims of a token whose signature is right.
fn read_token(token: &str, algorithm: &'static dyn signature::VerificationAlgorithm, public_key: &[u8]) -> Option<(Value, Value)> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    UnparsedPublicKey::new(algorithm, public_key).verify(signed.as_bytes(), &signature).ok()?;
    let read = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some((read(header)?, read(claims)?))
}

async fn serve(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    #[allow(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

fn answer(status: u16, body: &Value) -> Response<Body> {
    Response::builder().status(status).body(body.to_string().into()).expect("a response")
}

fn bearer(headers: &HeaderMap) -> String {
    headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ")).unwrap_or_default().to_owned()
}

async fn give_token(State(provider): State<Provider>, headers: HeaderMap, body: String) -> Response<Body> {
    let mut kept = provider.lock();
    let form: HashMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let assertion = form.get("assertion").cloned().unwrap_or_default();
    let read = read_token(&assertion, &signature::RSA_PKCS1_2048_8192_SHA256, &kept.public_key);
    let Some((header, claims)) = read else {
        // As real ones do not, it repeats what it got.
        return answer(400, &json!({"error": "invalid_grant", "error_description": format!("no: {assertion}")}));
    };
    let right = header["alg"] == "RS256"
        && form.get("grant_type").is_some_and(|grant| grant == "urn:ietf:params:oauth:grant-type:jwt-bearer")
        && headers.get("content-type").is_some_and(|kind| kind == "application/x-www-form-urlencoded")
        && claims["iss"] == "push@shop.example"
        && claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
        && claims["aud"].as_str().is_some_and(|aud| aud.ends_with("/token"))
        && claims["exp"].as_i64() == claims["iat"].as_i64().map(|iat| iat + 3_600);
    if !right {
        kept.faults.push(format!("{header} {claims} {form:?}"));
    }
    let token = format!("ya29.SECRET-{}", kept.tokens.len());
    kept.tokens.push(token.clone());
    answer(200, &json!({"access_token": token, "expires_in": 3_599, "token_type": "Bearer"}))
}

fn google_error(code: u16, status: &str, reason: Option<&str>, message: &str) -> Response<Body> {
    let details = reason.map(|reason| json!([{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": reason}]));
    answer(code, &json!({"error": {"code": code, "message": message, "status": status, "details": details}}))
}

async fn take_fcm(State(provider): State<Provider>, Path(method): Path<String>, headers: HeaderMap, body: String) -> Response<Body> {
    let mut kept = provider.lock();
    let token = bearer(&headers);
    if kept.tokens.last() != Some(&token) || kept.expired > 0 {
        kept.expired = kept.expired.saturating_sub(1);
        return google_error(401, "UNAUTHENTICATED", None, &format!("not with {token}"));
    }
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let address = body["message"]["token"].as_str().unwrap_or_default().to_owned();
    if method != "messages:send" {
        kept.faults.push(method);
    }
    kept.messages.push((headers, body));
    match address.as_str() {
        "gone" => google_error(404, "NOT_FOUND", Some("UNREGISTERED"), "Requested entity was not found."),
        "bad" => google_error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), "The registration token is not valid"),
        "foreign" => google_error(403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH"), "SenderId mismatch"),
        "busy" => google_error(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), "quota"),
        "down" => {
            let mut down = google_error(503, "UNAVAILABLE", Some("UNAVAILABLE"), "later");
            down.headers_mut().insert("retry-after", "9".parse().expect("a value"));
            down
        }
        "html" => Response::builder().status(404).body("<html>not here</html>".into()).expect("a response"),
        _ => answer(200, &json!({"name": "projects/shop-1/messages/0:15"})),
    }
}

async fn google() -> (Provider, FcmSettings) {
    let (private_key, public_key) = rsa();
    let provider: Provider = Arc::new(Mutex::new(Kept { public_key, ..Kept::default() }));
    let routes =
        Router::new().route("/token", post(give_token)).route("/v1/projects/shop-1/{*rest}", post(take_fcm)).with_state(provider.clone());
    let url = serve(routes).await;
    let client_email = "push@shop.example".to_owned();
    let token_url = format!("{url}/token");
    (provider, FcmSettings { project_id: "shop-1".to_owned(), client_email, private_key, url, token_url })
}

fn push(address: &str) -> Message {
    let parts = [
        ("title", "Hi"),
        ("body", "안녕"),
        ("image_url", "https://a.example/i.png"),
        ("url", "shop://cart"),
        ("data", r#"{"n": 1, "s": "x", "o": {"a": true}}"#),
    ];
    message(address, &parts)
}

fn is_retry(outcome: &Outcome, seconds: Option<u64>) -> bool {
    matches!(outcome, Outcome::Retry { after, .. } if *after == seconds.map(Duration::from_secs))
}

#[tokio::test]
async fn fcm_gets_messages_with_a_token_that_is_fetched_once_and_anew_before_it_runs_out() {
    let (provider, settings) = google().await;
    let world = World::new().await;
    let outlet = world.opened(Settings::Fcm(settings)).await.outlet.clone();
    let message = push("device");
    let sent = Outcome::Sent { provider_message_id: "projects/shop-1/messages/0:15".to_owned() };
    let many = futures::future::join_all((0..20).map(|_| outlet.send(&message))).await;
    assert!(many.iter().all(|outcome| *outcome == sent), "{many:?}");
    assert_eq!(provider.lock().tokens.len(), 1);
    world.clock.advance_us(3_500_000_000);
    assert_eq!(outlet.send(&message).await, sent);
    assert_eq!(provider.lock().tokens.len(), 1);
    world.clock.advance_us(50_000_000);
    assert_eq!(outlet.send(&message).await, sent);
    let kept = provider.lock();
    assert_eq!((kept.tokens.len(), kept.faults.as_slice()), (2, &[][..]), "a minute before its end");
    let tag = message_uuid("s-1.0").to_string();
    let expected = json!({"message": {
        "token": "device",
        "notification": {"title": "Hi", "body": "안녕", "image": "https://a.example/i.png"},
        "data": {"n": "1", "s": "x", "o": "{\"a\":true}", "url": "shop://cart"},
        "android": {"priority": "HIGH", "notification": {"tag": tag}},
        "apns": {"headers": {"apns-collapse-id": tag}, "payload": {"aps": {"mutable-content": 1}},
            "fcm_options": {"image": "https://a.example/i.png"}},
    }});
    assert!(kept.messages.iter().all(|(_, body)| *body == expected), "{:#?}", kept.messages[0].1);
}

#[tokio::test]
async fn what_fcm_says_decides_what_becomes_of_message_and_address() {
    let (provider, settings) = google().await;
    let world = World::new().await;
    let outlet = world.opened(Settings::Fcm(settings.clone())).await.outlet.clone();
    assert!(matches!(outlet.send(&push("gone")).await, Outcome::Unregistered { .. }));
    for address in ["bad", "foreign", "html"] {
        let told = outlet.send(&push(address)).await;
        assert!(matches!(told, Outcome::Refused { .. }), "{address}: {told:?}");
    }
    assert!(is_retry(&outlet.send(&push("busy")).await, Some(60)));
    assert!(is_retry(&outlet.send(&push("down")).await, Some(9)));
    let odd = message("device", &[("data", "[1]")]);
    assert!(matches!(outlet.send(&odd).await, Outcome::Refused { .. }));
    // A token that has run out early is replaced once, and no more often.
    provider.lock().expired = 1;
    assert!(matches!(outlet.send(&push("device")).await, Outcome::Sent { .. }));
    assert_eq!(provider.lock().tokens.len(), 2);
    provider.lock().expired = 2;
    let told = outlet.send(&push("device")).await;
    assert!(is_retry(&told, None) && !format!("{told:?}").contains("SECRET"), "{told:?}");
    assert_eq!(provider.lock().tokens.len(), 3);
    // A key that Google does not know.
    let wrong = FcmSettings { private_key: rsa().0, ..settings };
    world.update(channel("out", Settings::Fcm(wrong)), &["fcm"]).await.expect("valid");
    let open = world.channels.find(&world.tenant, "out").await.expect("a store").expect("it is there");
    let told = open.outlet.send(&push("device")).await;
    assert!(is_retry(&told, None) && format!("{told:?}").contains("invalid_grant") && !format!("{told:?}").contains("eyJ"), "{told:?}");
    let shown = format!("{open:?}");
    assert!(!shown.contains("PRIVATE") && !shown.contains("ya29"), "{shown}");
}

async fn take_apns(
    State(provider): State<Provider>,
    Path(device): Path<String>,
    version: Version,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let mut kept = provider.lock();
    let token = bearer(&headers);
    let read = read_token(&token, &signature::ECDSA_P256_SHA256_FIXED, &kept.public_key);
    let is_ours = |(header, claims): (Value, Value)| {
        header["alg"] == "ES256" && header["kid"] == "KEY1234567" && claims["iss"] == "TEAM123456" && claims["iat"].is_i64()
    };
    if version != Version::HTTP_2 {
        kept.faults.push(format!("{version:?}"));
    }
    if !read.is_some_and(is_ours) {
        return answer(403, &json!({"reason": "InvalidProviderToken", "token": token}));
    }
    if kept.tokens.last() != Some(&token) {
        kept.tokens.push(token);
    }
    if kept.expired > 0 {
        kept.expired -= 1;
        return answer(403, &json!({"reason": "ExpiredProviderToken"}));
    }
    kept.messages.push((headers, serde_json::from_str(&body).unwrap_or_default()));
    match device.as_str() {
        "gone" => answer(410, &json!({"reason": "Unregistered", "timestamp": 1_748_426_400_000_i64})),
        "bad" => answer(400, &json!({"reason": "BadDeviceToken"})),
        "foreign" => answer(400, &json!({"reason": "DeviceTokenNotForTopic"})),
        "large" => answer(413, &json!({"reason": "PayloadTooLarge"})),
        "busy" => answer(429, &json!({"reason": "TooManyRequests"})),
        "broken" => answer(500, &json!({"reason": "InternalServerError"})),
        "down" => answer(503, &json!({"reason": "ServiceUnavailable"})),
        _ => Response::builder().status(200).body(Body::empty()).expect("a response"),
    }
}

async fn apple() -> (Provider, ApnsSettings) {
    let (private_key, public_key) = p256();
    let provider: Provider = Arc::new(Mutex::new(Kept { public_key, ..Kept::default() }));
    let url = serve(Router::new().route("/3/device/{device}", post(take_apns)).with_state(provider.clone())).await;
    let [team_id, key_id, bundle_id] = ["TEAM123456", "KEY1234567", "com.shop.example"].map(str::to_owned);
    (provider, ApnsSettings { team_id, key_id, private_key, bundle_id, url })
}

#[tokio::test]
async fn apns_gets_messages_over_http_2_with_a_token_that_lives_forty_minutes() {
    let (provider, settings) = apple().await;
    let world = World::new().await;
    let outlet = world.opened(Settings::Apns(settings)).await.outlet.clone();
    let id = message_uuid("s-1.0").to_string();
    let sent = Outcome::Sent { provider_message_id: id.clone() };
    for (minutes, tokens) in [(0, 1), (39, 1), (1, 2)] {
        world.clock.advance_us(minutes * 60_000_000);
        assert_eq!(outlet.send(&push("00ffaa")).await, sent);
        assert_eq!(provider.lock().tokens.len(), tokens, "after {minutes} more");
    }
    let kept = provider.lock();
    assert_eq!(kept.faults.as_slice(), &[] as &[String]);
    let expected = json!({
        "aps": {"alert": {"title": "Hi", "body": "안녕"}, "sound": "default", "mutable-content": 1},
        "url": "shop://cart", "image_url": "https://a.example/i.png", "n": 1, "s": "x", "o": {"a": true},
    });
    for (headers, body) in &kept.messages {
        assert_eq!(*body, expected);
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        assert_eq!(["apns-topic", "apns-push-type", "apns-priority"].map(header), ["com.shop.example", "alert", "10"]);
        assert_eq!(["apns-id", "apns-collapse-id"].map(header), [id.as_str(), id.as_str()]);
    }
}

#[tokio::test]
async fn what_apns_says_decides_what_becomes_of_message_and_address() {
    let (provider, settings) = apple().await;
    let world = World::new().await;
    let outlet = world.opened(Settings::Apns(settings.clone())).await.outlet.clone();
    for address in ["gone", "bad", "../x", ""] {
        let told = outlet.send(&push(address)).await;
        assert!(matches!(told, Outcome::Unregistered { .. }), "{address}: {told:?}");
    }
    for address in ["foreign", "large"] {
        let told = outlet.send(&push(address)).await;
        assert!(matches!(told, Outcome::Refused { .. }), "{address}: {told:?}");
    }
    for address in ["busy", "broken", "down"] {
        let told = outlet.send(&push(address)).await;
        assert!(is_retry(&told, None), "{address}: {told:?}");
    }
    provider.lock().expired = 1;
    assert!(matches!(outlet.send(&push("00ffaa")).await, Outcome::Sent { .. }));
    assert_eq!(provider.lock().tokens.len(), 2, "a new one, once");
    provider.lock().expired = 2;
    assert!(is_retry(&outlet.send(&push("00ffaa")).await, None));
    let wrong = ApnsSettings { private_key: p256().0, ..settings };
    world.update(channel("out", Settings::Apns(wrong)), &["apns"]).await.expect("valid");
    let open = world.channels.find(&world.tenant, "out").await.expect("a store").expect("it is there");
    let told = open.outlet.send(&push("00ffaa")).await;
    assert!(is_retry(&told, None) && !format!("{told:?}").contains("eyJ"), "{told:?}");
    assert!(!format!("{open:?}").contains("PRIVATE"), "{open:?}");
}
