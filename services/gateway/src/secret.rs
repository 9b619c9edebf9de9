//! API keys as text: making them, recognising them, and the hash under which they are kept.

use rand::RngCore;
use sha2::{Digest, Sha256};

/// SHA-256 of a key: all that is stored. The keys are 32 random bytes, so neither salt nor a slow hash adds anything.
pub(crate) type KeyHash = [u8; 32];

/// What a key is for, and the first letters of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum KeyKind {
    /// Public; can only ingest.
    Write,
    /// Secret; has a role.
    Secret,
    /// Secret; manages tenants.
    Operator,
}

impl KeyKind {
    const ALL: [KeyKind; 3] = [KeyKind::Write, KeyKind::Secret, KeyKind::Operator];

    fn prefix(self) -> &'static str {
        match self {
            KeyKind::Write => "sgw_",
            KeyKind::Secret => "sgs_",
            KeyKind::Operator => "sgo_",
        }
    }

    /// As stored.
    pub(crate) fn name(self) -> &'static str {
        match self {
            KeyKind::Write => "write",
            KeyKind::Secret => "secret",
            KeyKind::Operator => "operator",
        }
    }

    /// From storage.
    pub(crate) fn find(name: &str) -> Option<KeyKind> {
        KeyKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A new key: the prefix of its kind and 32 random bytes in hexadecimal.
pub(crate) fn new_key(kind: KeyKind, random: &mut impl RngCore) -> String {
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    let mut text = String::with_capacity(68);
    text.push_str(kind.prefix());
    for byte in bytes {
        text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
    }
    text
}

/// Whether the text can be one of our keys at all; anything else needs no look into the store.
pub(crate) fn is_key(text: &str) -> bool {
    text.len() == 68
        && KeyKind::ALL.iter().any(|kind| text.starts_with(kind.prefix()))
        && text.as_bytes()[4..].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The hash of a key.
pub(crate) fn hash(key: &str) -> KeyHash {
    Sha256::digest(key.as_bytes()).into()
}

/// Compares in constant time.
pub(crate) fn same_hash(a: &KeyHash, b: &KeyHash) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_their_kind_are_recognised_and_differ() {
        let mut random = rand::rng();
        for kind in KeyKind::ALL {
            let (one, two) = (new_key(kind, &mut random), new_key(kind, &mut random));
            assert!(one.starts_with(kind.prefix()) && is_key(&one) && one != two);
            assert!(same_hash(&hash(&one), &hash(&one)) && !same_hash(&hash(&one), &hash(&two)));
            assert_eq!(KeyKind::find(kind.name()), Some(kind));
        }
        for text in ["", "sgw_", "sgw_ZZ", &format!("sgx_{}", "a".repeat(64)), &format!("sgw_{}", "A".repeat(64))] {
            assert!(!is_key(text), "{text}");
        }
    }
}
