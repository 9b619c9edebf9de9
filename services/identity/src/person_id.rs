//! The stable id of a person: a UUID that takes no room, since it follows from the tenant's random salt and the number, and that leads back
//! to the number without being looked up. The first twelve bytes are a hash of salt and number; the number itself, masked with a hash of
//! salt and those, is the last four. Whoever does not know the salt sees sixteen random bytes.

use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Bytes before the masked number.
const HEAD: usize = 12;

/// The id of a number.
pub fn of(salt: &[u8], number: u32) -> Uuid {
    let hash = xxh3_128(&[salt, &number.to_le_bytes()].concat());
    let mut bytes = uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid().into_bytes();
    let (head, tail) = bytes.split_at_mut(HEAD);
    tail.copy_from_slice(&(number ^ mask(salt, head)).to_be_bytes());
    Uuid::from_bytes(bytes)
}

/// The number whose id this is, if it is one of this tenant's; whether it was given out is for the caller to know.
pub fn number(salt: &[u8], id: &Uuid) -> Option<u32> {
    let (head, tail) = id.as_bytes().split_at(HEAD);
    let number = u32::from_be_bytes(tail.try_into().ok()?) ^ mask(salt, head);
    (of(salt, number) == *id).then_some(number)
}

fn mask(salt: &[u8], head: &[u8]) -> u32 {
    xxh3_64(&[salt, head].concat()) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_leads_back_to_its_number_and_to_none_of_another_tenant(number in any::<u32>(), salts in any::<([u8; 16], [u8; 16])>()) {
            let id = of(&salts.0, number);
            prop_assert_eq!(super::number(&salts.0, &id), Some(number));
            prop_assert_eq!(super::number(&salts.1, &id).is_some(), salts.0 == salts.1);
            prop_assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
        }

        #[test]
        fn any_other_id_is_nobodys(id in any::<u128>(), salt in any::<[u8; 16]>(), bit in 0..128u32) {
            prop_assert_eq!(number(&salt, &Uuid::from_u128(id)), None);
            prop_assert_eq!(number(&salt, &Uuid::from_u128(of(&salt, id as u32).as_u128() ^ (1 << bit))), None);
        }
    }

    #[test]
    fn ids_stay_as_they_are() {
        assert_eq!(of(&[7; 16], 1).to_string(), "a26a80a7-8180-83b9-acb0-a248f68cd668");
    }
}
