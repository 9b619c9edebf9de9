//! Rules that all services hold identifiers against: kinds and their strength, and values that name nobody.
//!
//! To add a kind: one line in [`KINDS`], at the place of its strength.

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

/// The kind that names a person by its stable id: stronger than all of [`KINDS`], and never linked to anybody.
pub const PERSON_ID: &str = "person_id";

/// Longest value of an identifier.
pub const VALUE_BYTES_MAX: usize = 512;

/// Whether a kind may be used: a known one, or 1 to 64 characters `[a-z0-9_]`.
pub fn is_kind(kind: &str) -> bool {
    (1..=64).contains(&kind.len()) && kind.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// What kinds are ordered by: the smaller, the stronger. Custom kinds are ordered by name.
pub fn strength(kind: &str) -> (usize, &str) {
    if kind == PERSON_ID {
        return (0, "");
    }
    match KINDS.iter().position(|known| *known == kind) {
        Some(at) => (at + 1, ""),
        None => (KINDS.len() + 1, kind),
    }
}

/// Whether a value names somebody. `0000`, `null`, `-1`, `anonymous`, nothing and all zeros do not, in whatever case. Zeros
/// with dashes between them are all zeros too: it is what phones answer when tracking is not allowed.
pub fn names_somebody(value: &str) -> bool {
    let value = value.trim();
    let zeros = value.contains('0') && value.bytes().all(|b| matches!(b, b'0' | b'-'));
    !(value.is_empty() || zeros || value == "-1" || value.eq_ignore_ascii_case("null") || value.eq_ignore_ascii_case("anonymous"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_name_nobody_are_known_in_any_case() {
        for value in ["", " ", "0", "0000", "null", "NULL", "-1", "anonymous", "Anonymous", "00000000-0000-0000-0000-000000000000"] {
            assert!(!names_somebody(value), "{value:?}");
        }
        for value in ["u1", "00001", "10", "nullable", "홍길동", "-", "--", "anonymous1"] {
            assert!(names_somebody(value), "{value:?}");
        }
    }

    #[test]
    fn a_kind_is_a_short_word_in_small_letters() {
        let longest = "k".repeat(64);
        assert!(KINDS.into_iter().chain(["own_2", longest.as_str()]).all(is_kind));
        let too_long = "k".repeat(65);
        assert!(!["", "Email", "e-mail", "종류", too_long.as_str()].into_iter().any(is_kind));
    }

    #[test]
    fn custom_kinds_are_weaker_than_all_others_and_ordered_by_name() {
        let mut kinds = vec!["zeta", "email", "alpha", "user_id", "person_id"];
        kinds.sort_by_key(|kind| strength(kind));
        assert_eq!(kinds, ["person_id", "user_id", "email", "alpha", "zeta"]);
    }
}
