//! Who an event is about: the identifier that decides its order.

use segue_model::identifier::strength;
pub use segue_model::identifier::{VALUE_BYTES_MAX, is_kind, names_somebody};
use segue_proto::events::v1::Identifier;

/// The identifier that decides the order of events. Among equals the first; among custom kinds the one whose name comes
/// first, so that the order in which a sender lists them does not matter.
pub fn strongest(identifiers: &[Identifier]) -> Option<&Identifier> {
    identifiers.iter().min_by_key(|identifier| strength(&identifier.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

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
