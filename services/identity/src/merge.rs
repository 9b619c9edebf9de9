//! When two persons become one, and what becomes of their states. Identifiers and traits stay under the number that they
//! were linked to; only the number's redirect changes, which is what makes a merge reversible.

use crate::registry::PersonState;
use crate::rules::Limits;

/// Whether the person `from` may become part of `into` by itself: it carries no user id, and together they keep every limit.
pub fn fits(from: &PersonState, into: &PersonState, limits: &Limits) -> bool {
    from.is_anonymous() && from.counts.iter().all(|(kind, count)| *count == 0 || count + into.count(kind) <= limits.of(kind))
}

/// Adds what `from` was to `into`.
pub fn absorb(into: &mut PersonState, from: PersonState) {
    for (kind, count) in &from.counts {
        into.add(kind, *count);
    }
    into.first_seen_us = into.first_seen_us.min(from.first_seen_us);
    into.last_seen_us = into.last_seen_us.max(from.last_seen_us);
    if let Some(profile) = from.profile {
        for (index, value) in profile.into_iter().enumerate() {
            if let Some(value) = value {
                into.set_profile(index, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifier::Kind;
    use crate::registry::TraitValue;

    fn person(counts: &[(Kind, u32)]) -> PersonState {
        PersonState { counts: counts.to_vec(), ..PersonState::default() }
    }

    #[test]
    fn a_person_with_a_user_id_never_fits_into_another() {
        let limits = Limits::default();
        assert!(fits(&person(&[(Kind::DeviceId, 1)]), &person(&[(Kind::UserId, 1)]), &limits));
        assert!(!fits(&person(&[(Kind::UserId, 1)]), &person(&[]), &limits));
    }

    #[test]
    fn a_merge_that_would_break_a_limit_does_not_fit() {
        let limits = Limits::default();
        assert!(fits(&person(&[(Kind::DeviceId, 2)]), &person(&[(Kind::DeviceId, 3)]), &limits));
        assert!(!fits(&person(&[(Kind::DeviceId, 3)]), &person(&[(Kind::DeviceId, 3)]), &limits));
    }

    #[test]
    fn each_trait_keeps_the_later_value_whoever_merges_into_whom() {
        let value = |time_us, ordinal| TraitValue { value: Default::default(), time_us, ordinal };
        for (first, second) in [((5, 1), (9, 0)), ((9, 0), (5, 1)), ((7, 1), (7, 2)), ((7, 2), (7, 1))] {
            let (mut into, mut from) = (person(&[]), person(&[]));
            into.set_profile(0, value(first.0, first.1));
            from.set_profile(0, value(second.0, second.1));
            absorb(&mut into, from);
            let expected = first.max(second);
            assert_eq!(into.profile.and_then(|profile| profile[0].clone()), Some(value(expected.0, expected.1)));
        }
    }
}
