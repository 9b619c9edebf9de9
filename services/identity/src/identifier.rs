//! What somebody or some device is called: kinds and their strength, values that name nobody, and the short key under which
//! the cache knows an identifier.
//!
//! To add a kind: one line in `kinds!`, at the place of its strength (the order of
//! `segue_model::identifier::KINDS` and of `events.proto`).

use std::sync::Arc;

use segue_model::identifier::PERSON_ID;
use segue_proto::events::v1::Identifier;
use xxhash_rust::xxh3::Xxh3;

/// Kind of an identifier. The order is the strength: the smaller, the stronger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The account of the tenant's own system. The only kind that makes a person more than anonymous.
    UserId,
    /// Of a browser or an installation.
    AnonymousId,
    /// Of a device.
    DeviceId,
    /// IDFA, GAID.
    AdvertisingId,
    /// Where pushes go.
    PushToken,
    /// Mail address.
    Email,
    /// Telephone number.
    Phone,
    /// Of KakaoTalk.
    KakaoUserId,
    /// Of LINE.
    LineUserId,
    /// Of a till system.
    PosMemberNumber,
    /// The tenant's own; all are equally strong, and ordered by name.
    Custom(Arc<str>),
}

macro_rules! kinds {
    ($($kind:ident = $name:literal),* $(,)?) => {
        impl Kind {
            /// The kind of this name.
            pub fn of(name: &str) -> Kind {
                match name {
                    $($name => Kind::$kind,)*
                    custom => Kind::Custom(custom.into()),
                }
            }

            /// Its name, as in the contract.
            pub fn name(&self) -> &str {
                match self {
                    $(Kind::$kind => $name,)*
                    Kind::Custom(name) => name,
                }
            }
        }
    };
}

kinds! {
    UserId = "user_id",
    AnonymousId = "anonymous_id",
    DeviceId = "device_id",
    AdvertisingId = "advertising_id",
    PushToken = "push_token",
    Email = "email",
    Phone = "phone",
    KakaoUserId = "kakao_user_id",
    LineUserId = "line_user_id",
    PosMemberNumber = "pos_member_number",
}

impl Kind {
    /// Whether it names the device in hand rather than whoever holds it. Such an identifier follows the login: it goes to
    /// whoever logs in, and to nobody at logout.
    pub fn is_of_device(&self) -> bool {
        match self {
            Kind::AnonymousId | Kind::DeviceId | Kind::AdvertisingId | Kind::PushToken => true,
            Kind::UserId | Kind::Email | Kind::Phone | Kind::KakaoUserId | Kind::LineUserId | Kind::PosMemberNumber | Kind::Custom(_) => {
                false
            }
        }
    }
}

/// 128 bits that stand for (kind, value) in the cache of this process. Two identifiers never share one in practice, since
/// the hash is seeded with what no sender knows.
pub type Key = u128;

/// An identifier that names somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// Its kind.
    pub kind: Kind,
    /// As sent.
    pub value: String,
    /// Of kind and value.
    pub key: Key,
}

/// An account's id is at most this long.
const ACCOUNT_BYTES_MAX: usize = 1_024;

/// Makes [`Id`]s: hashes with this process's seed and leaves out values that name nobody.
#[derive(Debug, Clone)]
pub struct Identifiers {
    seed: u64,
    blocked: Vec<String>,
}

impl Identifiers {
    /// `blocked` values name nobody, whatever their case.
    pub fn new(seed: u64, blocked: &[String]) -> Self {
        Self { seed, blocked: blocked.iter().map(|value| value.trim().to_ascii_lowercase()).collect() }
    }

    /// The identifier, or `None` when the value names nobody.
    pub fn parse(&self, kind: &str, value: String) -> Option<Id> {
        if self.is_blocked(&value) { None } else { Some(self.id(Kind::of(kind), value)) }
    }

    /// The identifier as something that can be linked to a person, or `None` when it names nobody. A stable id is none.
    pub fn linkable(&self, identifier: Identifier) -> Option<Id> {
        let Identifier { kind, value } = identifier;
        if kind.is_empty() || kind == PERSON_ID || kind.contains('\0') { None } else { self.parse(&kind, value) }
    }

    /// The account of this id, or `None` when the id names none. Longer ids than ingest takes in are none either: the store
    /// could not index them.
    pub fn account(&self, id: String) -> Option<String> {
        if id.len() > ACCOUNT_BYTES_MAX || self.is_blocked(&id) { None } else { Some(id) }
    }

    /// The identifier, whatever its value.
    pub fn id(&self, kind: Kind, value: String) -> Id {
        let mut hasher = Xxh3::with_seed(self.seed);
        hasher.update(kind.name().as_bytes());
        hasher.update(&[0xff]); // never part of UTF-8, so kind and value cannot run together
        hasher.update(value.as_bytes());
        Id { key: hasher.digest128(), kind, value }
    }

    fn is_blocked(&self, value: &str) -> bool {
        let trimmed = value.trim();
        // `00000000-0000-0000-0000-000000000000` is what phones answer when tracking is not allowed.
        let zeros = trimmed.contains('0') && trimmed.bytes().all(|b| matches!(b, b'0' | b'-'));
        // PostgreSQL cannot store the NUL character; no real identifier has one.
        trimmed.is_empty() || zeros || value.contains('\0') || self.blocked.iter().any(|blocked| blocked.eq_ignore_ascii_case(trimmed))
    }
}

#[cfg(test)]
mod tests {
    use segue_model::identifier::{KINDS, names_somebody, strength};

    use super::*;

    fn identifiers() -> Identifiers {
        Identifiers::new(7, &crate::Config::default().blocked_values)
    }

    #[test]
    fn values_that_name_nobody_are_left_out() {
        let nobody = ["", " ", "0", "0000", "null", "NULL", "-1", "anonymous", "Anonymous", "00000000-0000-0000-0000-000000000000", "a\0b"];
        for value in nobody {
            assert_eq!(identifiers().parse("user_id", value.to_owned()), None, "{value:?}");
        }
        for value in ["1", "u1", "-", "00001", "nullable", "anonymous1"] {
            assert!(identifiers().parse("user_id", value.to_owned()).is_some(), "{value:?}");
        }
    }

    #[test]
    fn kinds_are_ordered_by_the_strength_that_all_services_know_and_keep_their_names() {
        let names: Vec<&str> = KINDS.into_iter().chain(["a_custom", "z_custom"]).collect();
        let kinds: Vec<Kind> = names.iter().map(|name| Kind::of(name)).collect();
        assert!(kinds.is_sorted());
        assert!(names.is_sorted_by_key(|name| strength(name)));
        assert!(kinds.iter().zip(&names).all(|(kind, name)| kind.name() == *name));
        let custom = kinds.iter().filter(|kind| matches!(kind, Kind::Custom(_))).count();
        assert_eq!(custom, 2, "each kind of the contract has a place of its own");
    }

    #[test]
    fn by_default_the_same_values_name_nobody_here_as_at_ingest() {
        let values = ["", " ", "0", "-0-", "0000", "NULL", " null ", "-1", "--", "-", "Anonymous", "u1", "10", "홍길동", "nullable"];
        for value in values {
            assert_eq!(identifiers().parse("user_id", value.to_owned()).is_some(), names_somebody(value), "{value:?}");
        }
    }

    #[test]
    fn kind_and_value_do_not_run_together() {
        let ids = identifiers();
        assert_ne!(ids.id(Kind::of("ab"), "c".into()).key, ids.id(Kind::of("a"), "bc".into()).key);
    }
}
