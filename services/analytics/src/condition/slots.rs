//! Numbering the persons that a leaf is asked about, so that what is computed of them stands in a plain array.

use std::borrow::Cow;
use std::ops::Range;

use roaring::RoaringBitmap;

/// Persons, and their places in an array.
#[derive(Debug)]
pub(super) struct Slots {
    /// The person of slot 0, when slots are numbers of persons moved by a constant.
    first: u32,
    len: usize,
    /// Few and scattered: the place of each person in this list is its slot.
    listed: Option<Vec<u32>>,
}

/// Persons that are listed rather than spread over an array.
pub(super) const LISTED_MAX: u64 = 65_536;
/// How much sparser than one of so many numbers persons have to be, to be listed.
const LISTED_SPARSITY: u64 = 16;

/// Whether persons of a range so long are few and scattered.
pub(super) fn are_few(persons: &RoaringBitmap, range: &Range<u32>) -> bool {
    persons.len() <= LISTED_MAX && persons.len().saturating_mul(LISTED_SPARSITY) < range.len() as u64
}

impl Slots {
    /// For persons who lie in this range.
    pub(super) fn new(persons: &RoaringBitmap, range: &Range<u32>) -> Slots {
        if are_few(persons, range) {
            return Slots::of_few(persons);
        }
        // Aligned, so that bits of slots are bits of a bitmap.
        let first = range.start & !63;
        Slots { first, len: (range.end - first) as usize, listed: None }
    }

    /// For persons who are few among those that rows have.
    pub(super) fn of_few(persons: &RoaringBitmap) -> Slots {
        let listed: Vec<u32> = persons.iter().collect();
        Slots { first: 0, len: listed.len(), listed: Some(listed) }
    }

    /// How many slots.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether rows of other persons have to be left out.
    pub(super) fn are_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// The slot of each row, for rows of persons that have one; rows ascend by person.
    pub(super) fn of_rows<'r>(&self, persons: &'r [u32]) -> (Cow<'r, [u32]>, u32) {
        let Some(listed) = &self.listed else { return (Cow::Borrowed(persons), self.first) };
        let mut at = 0;
        let slots = persons.iter().map(|person| {
            if listed.get(at) != Some(person) {
                at += listed.get(at..).unwrap_or_default().partition_point(|known| known < person);
            }
            at as u32
        });
        (Cow::Owned(slots.collect()), 0)
    }

    /// The persons of the slots that are marked, of these persons.
    pub(super) fn persons(&self, marks: &Marks, among: &RoaringBitmap) -> RoaringBitmap {
        match &self.listed {
            Some(listed) => listed.iter().enumerate().filter(|(slot, _)| marks.has(*slot)).map(|(_, person)| *person).collect(),
            None => RoaringBitmap::from_lsb0_bytes(self.first, &marks.bytes()) & among,
        }
    }

    /// The persons of these slots, ascending.
    pub(super) fn persons_of(&self, slots: impl Iterator<Item = u32>) -> RoaringBitmap {
        match &self.listed {
            Some(listed) => slots.filter_map(|slot| listed.get(slot as usize).copied()).collect(),
            None => slots.map(|slot| self.first + slot).collect(),
        }
    }
}

/// A bit per slot.
#[derive(Debug)]
pub(super) struct Marks(Vec<u64>);

impl Marks {
    /// Marks the slots for which `is_marked` holds.
    pub(super) fn collect(len: usize, mut is_marked: impl FnMut(usize) -> bool) -> Self {
        let mut words = Vec::with_capacity(len.div_ceil(64));
        let mut start = 0;
        while start < len {
            let end = (start + 64).min(len);
            let mut word = 0_u64;
            for slot in start..end {
                word |= u64::from(is_marked(slot)) << (slot - start);
            }
            words.push(word);
            start = end;
        }
        Self(words)
    }

    fn has(&self, slot: usize) -> bool {
        self.0.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_lead_back_to_their_persons_dense_or_listed() {
        for persons in [
            RoaringBitmap::from_iter([7]),
            RoaringBitmap::from_iter(100..200),
            RoaringBitmap::from_iter([70_000, 5, 4_000_000_000]),
            RoaringBitmap::from_iter((65_530..65_600).step_by(2)),
        ] {
            let range = persons.min().expect("a person")..persons.max().expect("a person") + 1;
            let slots = Slots::new(&persons, &range);
            let rows: Vec<u32> = persons.iter().flat_map(|person| [person, person]).collect();
            let (of_rows, offset) = slots.of_rows(&rows);
            let wanted = |person: u32| !person.is_multiple_of(3);
            let marked: Vec<usize> =
                rows.iter().zip(of_rows.iter()).filter(|(p, _)| wanted(**p)).map(|(_, s)| (s - offset) as usize).collect();
            assert!(marked.iter().all(|slot| *slot < slots.len()));
            let marks = Marks::collect(slots.len(), |slot| marked.contains(&slot));
            let expected: RoaringBitmap = persons.iter().filter(|person| wanted(*person)).collect();
            assert_eq!(slots.persons(&marks, &persons), expected);
            let mut ascending: Vec<u32> = marked.iter().map(|slot| *slot as u32).collect();
            ascending.dedup();
            assert_eq!(slots.persons_of(ascending.into_iter()), expected);
        }
    }
}
