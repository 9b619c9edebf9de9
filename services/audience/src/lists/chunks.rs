//! Persons as they are stored: Roaring bitmaps in their portable serialisation, cut where the upper half of the number changes.

use roaring::RoaringBitmap;

use crate::error::AudienceError;

/// A chunk with more persons is quicker cut out whole than one by one.
const DENSE: u64 = 4_096;

/// A bitmap in its portable serialisation.
pub(crate) fn encode(persons: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(persons.serialized_size());
    // Writing to memory does not fail.
    let _ = persons.serialize_into(&mut bytes);
    bytes
}

/// A bitmap from its portable serialisation.
pub(crate) fn decode(bytes: &[u8]) -> Result<RoaringBitmap, AudienceError> {
    let mut rest = bytes;
    match RoaringBitmap::deserialize_from(&mut rest) {
        Ok(persons) if rest.is_empty() => Ok(persons),
        Ok(_) | Err(_) => Err(AudienceError::Corrupt { what: "set of persons" }),
    }
}

/// Which chunk a person is in.
pub(crate) fn chunk_of(person: u32) -> u32 {
    person >> 16
}

/// The chunks that have persons, ascending.
pub(crate) fn touched(persons: &RoaringBitmap) -> Vec<u32> {
    let mut chunks = Vec::new();
    let mut behind = persons.iter();
    while let Some(person) = behind.next() {
        let chunk = chunk_of(person);
        chunks.push(chunk);
        match (chunk + 1).checked_mul(1 << 16) {
            Some(next) => behind.advance_to(next),
            None => break,
        }
    }
    chunks
}

/// The persons of one chunk.
pub(crate) fn part(persons: &RoaringBitmap, chunk: u32) -> RoaringBitmap {
    let first = chunk << 16;
    let numbers = first..=first | 0xffff;
    let mut part = RoaringBitmap::new();
    if persons.range_cardinality(numbers.clone()) > DENSE {
        part.insert_range(numbers);
        return persons & part;
    }
    // Ascending, so it cannot fail.
    let _ = part.append(persons.range(numbers));
    part
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_add_up_to_what_was_cut(
            persons in prop::collection::btree_set(prop_oneof![any::<u32>(), 0..200_000u32], 0..300),
            dense in 0..400u32,
        ) {
            let mut persons: RoaringBitmap = persons.into_iter().collect();
            persons.insert_range(dense << 10..(dense << 10) + 70_000);
            let mut again = RoaringBitmap::new();
            for chunk in touched(&persons) {
                let part = part(&persons, chunk);
                prop_assert!(!part.is_empty() && part.iter().all(|person| chunk_of(person) == chunk));
                again |= decode(&encode(&part)).unwrap();
            }
            prop_assert_eq!(again, persons);
        }

        #[test]
        fn damaged_bitmaps_are_errors_not_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn the_last_chunk_is_a_chunk_like_others() {
        let persons = RoaringBitmap::from_iter([0, u32::MAX - 1, u32::MAX]);
        assert_eq!(touched(&persons), [0, 0xffff]);
        assert_eq!((part(&persons, 0xffff).len(), part(&persons, 0).len(), part(&persons, 1).len()), (2, 1, 0));
    }
}
