//! A segment's Bloom filter, and its stored form.

use fastbloom::BloomFilter;

use super::Fingerprint;

/// Version of the stored form: of the layout here, and of how fastbloom 0.17 derives positions from a hash. Filters of
/// another version are not used; their segments are looked up on disk until a merge makes new ones.
pub(super) const VERSION: i64 = 1;

/// Says surely not, or perhaps.
#[derive(Debug)]
pub(super) struct Filter(BloomFilter);

impl Filter {
    /// An empty filter for so many marks.
    pub(super) fn empty(marks: i64, bits_per_mark: f64) -> Self {
        let bits = ((marks as f64 * bits_per_mark) as usize).max(64);
        Self(BloomFilter::with_num_bits(bits).seed(&0).hashes(hashes(bits, marks)))
    }

    /// A filter of these marks.
    pub(super) fn of(marks: impl Iterator<Item = Fingerprint>, count: i64, bits_per_mark: f64) -> Self {
        let mut filter = Self::empty(count, bits_per_mark);
        marks.for_each(|mark| filter.insert(mark));
        filter
    }

    /// Adds a mark.
    pub(super) fn insert(&mut self, mark: Fingerprint) {
        self.0.insert_hash(hash(mark));
    }

    /// Whether the mark may be there.
    pub(super) fn may_contain(&self, mark: Fingerprint) -> bool {
        self.0.contains_hash(hash(mark))
    }

    /// Size in memory.
    pub(super) fn bytes(&self) -> usize {
        self.0.num_bits() / 8
    }

    /// The stored form.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes() + 4);
        bytes.extend_from_slice(&self.0.num_hashes().to_le_bytes());
        self.0.as_slice().iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes
    }

    /// From the stored form. None when it is damaged.
    pub(super) fn from_bytes(bytes: &[u8], _marks: i64) -> Option<Self> {
        let (hashes, words) = bytes.split_at_checked(4)?;
        let hashes = u32::from_le_bytes(hashes.try_into().ok()?);
        let (words, rest) = words.as_chunks::<8>();
        if words.is_empty() || !rest.is_empty() || hashes > 64 {
            return None;
        }
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Some(Self(BloomFilter::from_vec(words).seed(&0).hashes(hashes)))
    }
}

/// Positions per mark: ln 2 × bits per mark is optimal; more than 14 cost more than they save.
fn hashes(bits: usize, marks: i64) -> u32 {
    let optimal = std::f64::consts::LN_2 * bits as f64 / marks.max(1) as f64;
    (optimal.round() as u32).clamp(1, 14)
}

/// Fingerprints are hashes already. The leading bits name the chunk; all of both halves take part here.
fn hash(mark: Fingerprint) -> u64 {
    (mark as u64) ^ ((mark >> 64) as u64).rotate_left(32)
}
