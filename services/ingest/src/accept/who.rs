//! Who an event is about: kinds of identifiers, their strength, and values that name nobody.

use segue_proto::events::v1::Identifier;

/// Kinds by strength, the strongest first: the order of events.proto. Custom kinds are weaker than all of them.
pub const KINDS: [&str; 10] = [
    "user_id",
    "anonymous_id",
    "device_id",
    "advertising_id",
    "push_token",
    "email",
    "phone",
    "kakao_user_id",
    "line_user_id",
    "pos_member_number",
];

/// Longest value of an identifier.
pub const VALUE_BYTES_MAX: usize = 512;

/// Whether a kind may be used: a known one, or 1 to 64 characters `[a-z0-9_]`.
pub fn is_kind(kind: &str) -> bool {
    (1..=64).contains(&kind.len()) && kind.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Whether a value names somebody. `0000`, `null`, `-1`, `anonymous`, nothing and all zeros (also with dashes, as in an
/// empty UUID) do not, in whatever case.
pub fn names_somebody(value: &str) -> bool {
    let value = value.trim();
    let zeros = value.bytes().all(|b| matches!(b, b'0' | b'-'));
    !(zeros || value == "-1" || value.eq_ignore_ascii_case("null") || value.eq_ignore_ascii_case("anonymous"))
}

/// The identifier that decides the order of events. Among equals the first; among custom kinds the one whose name comes
/// first, so that the order in which a sender lists them does not matter.
pub fn strongest(identifiers: &[Identifier]) -> Option<&Identifier> {
    identifiers.iter().min_by_key(|identifier| strength(&identifier.kind))
}

fn strength(kind: &str) -> (usize, &str) {
    match KINDS.iter().position(|known| *known == kind) {
        Some(at) => (at, ""),
        None => (KINDS.len(), kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_name_nobody_are_known_in_any_case() {
        for value in ["", " ", "0", "0000", "null", "NULL", "-1", "anonymous", "Anonymous", "00000000-0000-0000-0000-000000000000", "-"] {
            assert!(!names_somebody(value), "{value:?}");
        }
        for value in ["u1", "00001", "10", "nullable", "홍길동"] {
            assert!(names_somebody(value), "{value:?}");
        }
    }

    #[test]
    fn the_strongest_identifier_does_not_depend_on_the_order_of_the_list() {
        let id = |kind: &str, value: &str| Identifier { kind: kind.into(), value: value.into() };
        let mut ids = vec![id("zeta", "1"), id("email", "a@b"), id("alpha", "2"), id("anonymous_id", "x")];
        assert_eq!(strongest(&ids).map(|id| id.kind.as_str()), Some("anonymous_id"));
        ids.reverse();
        assert_eq!(strongest(&ids).map(|id| id.kind.as_str()), Some("anonymous_id"));
        assert_eq!(strongest(&[id("zeta", "1"), id("alpha", "2")]).map(|id| id.kind.as_str()), Some("alpha"));
        assert_eq!(strongest(&[]), None);
    }
}
