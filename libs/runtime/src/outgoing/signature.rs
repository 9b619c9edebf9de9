//! Signatures as Standard Webhooks say: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore;

const PREFIX: &str = "whsec_";
/// Bytes of a new secret; the specification asks for 24 to 64.
const SECRET_BYTES: usize = 32;

/// A new secret, as receivers take it.
pub fn new_secret(random: &mut impl RngCore) -> String {
    let mut bytes = [0; SECRET_BYTES];
    random.fill_bytes(&mut bytes);
    format!("{PREFIX}{}", STANDARD.encode(bytes))
}

/// The header `webhook-signature` of a message; `None` if the secret is not one.
pub fn sign(secret: &str, id: &str, timestamp_s: i64, body: &[u8]) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(format!("{id}.{timestamp_s}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", STANDARD.encode(context.sign())))
}

/// A request with its body and the headers that say who sent it; `None` if the secret is not one.
pub fn signed(request: reqwest::RequestBuilder, secret: &str, id: &str, now_us: i64, body: Vec<u8>) -> Option<reqwest::RequestBuilder> {
    let timestamp_s = now_us.div_euclid(1_000_000);
    let signature = sign(secret, id, timestamp_s, &body)?;
    let request = request.header("webhook-id", id).header("webhook-timestamp", timestamp_s.to_string());
    Some(request.header("webhook-signature", signature).body(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specifications_libraries_has_its_signature() {
        let (secret, id, body) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let signature = sign(secret, id, 1_614_265_330, body).expect("a secret");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn new_secrets_differ_and_can_sign_and_other_texts_cannot() {
        let (one, other) = (new_secret(&mut rand::rng()), new_secret(&mut rand::rng()));
        assert_ne!(one, other);
        assert!(sign(&one, "msg_1", 0, b"").is_some());
        for secret in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!"] {
            assert!(sign(secret, "msg_1", 0, b"").is_none(), "{secret}");
        }
    }
}
