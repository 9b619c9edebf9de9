//! Signatures as Standard Webhooks say: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore;

const PREFIX: &str = "whsec_";
/// Bytes of a new secret; the specification asks for 24 to 64.
const SECRET_BYTES: usize = 32;

/// A new secret, as receivers take it.
pub(super) fn new_secret(random: &mut impl RngCore) -> String {
    let mut bytes = [0; SECRET_BYTES];
    random.fill_bytes(&mut bytes);
    format!("{PREFIX}{}", STANDARD.encode(bytes))
}

/// The header `webhook-signature` of a message; `None` if the secret is not one.
pub(super) fn sign(secret: &str, id: &str, timestamp_s: i64, body: &[u8]) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    context.update(format!("{id}.{timestamp_s}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", STANDARD.encode(context.sign())))
}

#[cfg(test)]
pub(super) mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// Whether a signature is right, by another way: HMAC as RFC 2104 has it, over another implementation of SHA-256.
    pub(in crate::syncs) fn is_right(secret: &str, id: &str, timestamp: &str, body: &[u8], signature: &str) -> bool {
        let mut key = STANDARD.decode(&secret["whsec_".len()..]).expect("base64");
        key.resize(64, 0);
        let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
        let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let inner = Sha256::digest([pad(0x36), message].concat());
        let outer = Sha256::digest([pad(0x5c), inner.to_vec()].concat());
        signature.split(' ').any(|one| one == format!("v1,{}", STANDARD.encode(outer)))
    }

    #[test]
    fn the_example_of_the_specifications_libraries_has_its_signature() {
        let (secret, id, body) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let signature = sign(secret, id, 1_614_265_330, body).expect("a secret");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(is_right(secret, id, "1614265330", body, &signature));
        assert!(!is_right(secret, id, "1614265331", body, &signature));
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
