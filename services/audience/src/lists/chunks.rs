//! Persons as they are stored: Roaring bitmaps in their portable serialisation, cut where the upper half of the number changes.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use crate::error::AudienceError;

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

/// The persons chunk by chunk.
pub(crate) fn split(persons: &RoaringBitmap) -> BTreeMap<u32, RoaringBitmap> {
    let part = |chunk: u32| {
        let first = chunk << 16;
        let mut part = RoaringBitmap::new();
        // Ascending, so it cannot fail.
        let _ = part.append(persons.range(first..=first | 0xffff));
        (chunk, part)
    };
    touched(persons).into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_add_up_to_what_was_split(persons in prop::collection::btree_set(prop_oneof![any::<u32>(), 0..200_000u32], 0..300)) {
            let persons: RoaringBitmap = persons.into_iter().collect();
            let parts = split(&persons);
            prop_assert_eq!(parts.keys().copied().collect::<Vec<_>>(), touched(&persons));
            prop_assert!(parts.iter().all(|(chunk, part)| !part.is_empty() && part.iter().all(|person| chunk_of(person) == *chunk)));
            let mut again = RoaringBitmap::new();
            for part in parts.values() {
                again |= decode(&encode(part)).unwrap();
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
        assert_eq!(split(&persons)[&0xffff].len(), 2);
    }
}
