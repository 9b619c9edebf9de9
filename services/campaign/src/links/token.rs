//! Tokens: what a link means, signed with its tenant's secret.
//!
//! `<tenant>.<base64url of: version, kind, content, signature>`. The signature is HMAC-SHA256 over the tenant and everything before it, cut
//! to 16 bytes. The encoding is canonical: no other text means the same token.
//!
//! To add a kind: a variant of [`Token`], its byte, and its lines in `encode` and `decode`.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use segue_model::{TenantId, link_token};

/// Bytes of a tenant's secret.
pub(super) const SECRET_BYTES: usize = 32;
/// Longest address that a click may lead to, so that the token stays within what servers take as a path.
pub(super) const URL_BYTES_MAX: usize = 4_096;

const VERSION: u8 = 1;
const SIGNATURE_BYTES: usize = 16;
/// What else may ever be signed with the same secret begins with something else.
const CONTEXT: &[u8] = b"segue.link\0";

/// One message to one of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// That of the send, 32 hexadecimal digits.
    id: [u8; 16],
    pub(super) address: u16,
}

/// What a link means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// An image in the message was loaded.
    Open(Place),
    /// A link was followed, to this address. It stands in the token, so nobody can make us lead anywhere else.
    Click(Place, String),
    Unsubscribe(Place),
    /// The provider of this channel reports.
    Callback {
        channel: String,
    },
    /// The in-app feed of a person, until then (seconds since 1970).
    Inbox {
        person: u32,
        expires_s: i64,
    },
}

impl Place {
    /// None: the id is none of a send.
    pub(super) fn new(send: &str, address: usize) -> Option<Self> {
        let mut id = [0; 16];
        hex::decode_to_slice(send, &mut id).ok()?;
        let place = Self { id, address: u16::try_from(address).ok()? };
        (place.send() == send).then_some(place)
    }

    /// The id of the send.
    pub(super) fn send(&self) -> String {
        hex::encode(self.id)
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.id.into_iter().chain(self.address.to_be_bytes())
    }

    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (address, rest) = rest.split_first_chunk::<2>()?;
        Some((Self { id: *id, address: u16::from_be_bytes(*address) }, rest))
    }

    fn whole(bytes: &[u8]) -> Option<Self> {
        Self::split(bytes).and_then(|(place, rest)| rest.is_empty().then_some(place))
    }
}

impl Token {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        match self {
            Token::Open(place) => {
                bytes.push(1);
                bytes.extend(place.bytes());
            }
            Token::Click(place, url) => {
                bytes.push(2);
                bytes.extend(place.bytes());
                bytes.extend_from_slice(url.as_bytes());
            }
            Token::Unsubscribe(place) => {
                bytes.push(3);
                bytes.extend(place.bytes());
            }
            Token::Callback { channel } => {
                bytes.push(4);
                bytes.extend_from_slice(channel.as_bytes());
            }
            Token::Inbox { person, expires_s } => {
                bytes.push(5);
                bytes.extend(person.to_be_bytes());
                bytes.extend(expires_s.to_be_bytes());
            }
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [VERSION, kind, content @ ..] = bytes else { return None };
        let text = |bytes: &[u8]| Some(std::str::from_utf8(bytes).ok()?.to_owned());
        match kind {
            1 => Place::whole(content).map(Token::Open),
            2 => {
                let (place, url) = Place::split(content)?;
                Some(Token::Click(place, text(url)?))
            }
            3 => Place::whole(content).map(Token::Unsubscribe),
            4 => Some(Token::Callback { channel: text(content)? }),
            5 => {
                let (person, rest) = content.split_first_chunk::<4>()?;
                let expires_s = i64::from_be_bytes(rest.try_into().ok()?);
                Some(Token::Inbox { person: u32::from_be_bytes(*person), expires_s })
            }
            _ => None,
        }
    }
}

/// Signs and reads the tokens of one tenant.
#[derive(Debug)]
pub(super) struct Signer {
    tenant: TenantId,
    key: hmac::Key,
}

impl Signer {
    pub(super) fn new(tenant: TenantId, secret: &[u8]) -> Self {
        Self { tenant, key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    pub(super) fn sign(&self, token: &Token) -> String {
        let mut bytes = token.encode();
        let signature = self.signature(&bytes);
        bytes.extend_from_slice(&signature);
        format!("{}{}{}", self.tenant, link_token::SEPARATOR, URL_SAFE_NO_PAD.encode(bytes))
    }

    /// None: it was not made by [`Signer::sign`] with this secret.
    pub(super) fn read(&self, token: &str) -> Option<Token> {
        let (tenant, rest) = link_token::split(token)?;
        if tenant != self.tenant {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(rest).ok()?;
        let (content, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
        verify_slices_are_equal(&self.signature(content), signature).ok()?;
        Token::decode(content)
    }

    fn signature(&self, content: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(CONTEXT);
        context.update(self.tenant.as_str().as_bytes());
        // No tenant id has it, so content cannot pass for the end of an id.
        context.update(&[0]);
        context.update(content);
        let tag = context.sign();
        let mut signature = [0; SIGNATURE_BYTES];
        for (to, from) in signature.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        signature
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signer(tenant: &str, secret: u8) -> Signer {
        Signer::new(tenant.parse().expect("an id"), &[secret; SECRET_BYTES])
    }

    fn tokens() -> impl Strategy<Value = Token> {
        let place = (any::<[u8; 16]>(), any::<u16>()).prop_map(|(id, address)| Place { id, address });
        prop_oneof![
            place.clone().prop_map(Token::Open),
            (place.clone(), ".{0,60}").prop_map(|(place, url)| Token::Click(place, url)),
            place.prop_map(Token::Unsubscribe),
            "[a-z][a-z0-9_-]{0,62}".prop_map(|channel| Token::Callback { channel }),
            (any::<u32>(), any::<i64>()).prop_map(|(person, expires_s)| Token::Inbox { person, expires_s }),
        ]
    }

    proptest! {
        #[test]
        fn a_token_says_what_was_signed_and_to_its_own_tenant_alone(token in tokens()) {
            let text = signer("shop-1", 7).sign(&token);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')), "{}", text);
            prop_assert_eq!(link_token::tenant_of(&text).map(|tenant| tenant.to_string()), Some("shop-1".to_owned()));
            prop_assert_eq!(signer("shop-1", 7).read(&text), Some(token));
            prop_assert_eq!(signer("shop-1", 8).read(&text), None);
            let moved = text.replacen("shop-1", "shop-2", 1);
            prop_assert_eq!(signer("shop-2", 7).read(&moved), None);
        }

        #[test]
        fn every_flip_of_a_bit_is_refused(token in tokens()) {
            let signer = signer("shop", 7);
            let text = signer.sign(&token).into_bytes();
            for at in 0..text.len() {
                for bit in 0..8 {
                    let mut flipped = text.clone();
                    flipped[at] ^= 1 << bit;
                    if let Ok(flipped) = std::str::from_utf8(&flipped) {
                        prop_assert_eq!(signer.read(flipped), None, "byte {} bit {}", at, bit);
                    }
                }
            }
            for length in 0..text.len() {
                prop_assert_eq!(signer.read(std::str::from_utf8(&text[..length]).expect("ascii")), None);
            }
        }

        #[test]
        fn any_text_is_read_without_harm(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            let signer = signer("shop", 7);
            prop_assert_eq!(signer.read(&text), None);
            prop_assert_eq!(signer.read(&format!("shop.{}", URL_SAFE_NO_PAD.encode(&bytes))), None);
            let _ = Token::decode(&bytes);
        }
    }

    #[test]
    fn tokens_without_an_address_are_short_and_only_ids_of_sends_have_a_place() {
        let place = Place::new("00112233445566778899aabbccddeeff", 3).expect("an id");
        assert_eq!((place.send().as_str(), place.address), ("00112233445566778899aabbccddeeff", 3));
        assert_eq!(signer("shop", 7).sign(&Token::Open(place)).len(), "shop.".len() + 48);
        for id in ["", "0011", "00112233445566778899AABBCCDDEEFF", "00112233445566778899aabbccddeeff00", "zz112233445566778899aabbccddeeff"]
        {
            assert_eq!(Place::new(id, 0), None, "{id}");
        }
        assert_eq!(Place::new("00112233445566778899aabbccddeeff", 65_536), None);
    }
}
