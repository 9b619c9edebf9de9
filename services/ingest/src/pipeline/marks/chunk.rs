//! Chunks of a segment: fingerprints are evenly spread, so their leading bits say in which chunk they lie.

use super::Fingerprint;
use crate::store::marks::CHUNK_BITS_MAX;

/// Marks aimed at per chunk: at most so many, at least half.
const CHUNK_MARKS: u64 = 96;

/// How many leading bits of a fingerprint name its chunk.
pub(super) fn chunk_bits_for(marks: u64) -> u32 {
    let chunks = marks.div_ceil(CHUNK_MARKS).max(1).next_power_of_two();
    chunks.trailing_zeros().min(CHUNK_BITS_MAX)
}

/// The chunk of a mark.
pub(super) fn chunk_of(mark: Fingerprint, chunk_bits: u32) -> u64 {
    if chunk_bits == 0 { 0 } else { (mark >> (128 - chunk_bits)) as u64 }
}

/// The stored form of sorted marks.
pub(super) fn encode(sorted: &[Fingerprint]) -> Vec<u8> {
    sorted.iter().flat_map(|mark| mark.to_be_bytes()).collect()
}

/// Marks of their stored form.
pub(super) fn decode(bytes: &[u8]) -> impl Iterator<Item = Fingerprint> + '_ {
    let (marks, _) = bytes.as_chunks::<16>();
    marks.iter().map(|mark| Fingerprint::from_be_bytes(*mark))
}

/// Whether a mark is among stored ones.
pub(super) fn contains(sorted: &[u8], mark: Fingerprint) -> bool {
    // Big-endian, so bytes compare as numbers do.
    sorted.as_chunks::<16>().0.binary_search(&mark.to_be_bytes()).is_ok()
}

/// Sorted marks as bytes, and where each chunk lies in them.
pub(super) fn cut(sorted: &[Fingerprint], segment: i64, chunk_bits: u32) -> (Vec<u8>, Vec<(i64, usize, usize)>) {
    let base = segment << CHUNK_BITS_MAX;
    let mut cuts = Vec::new();
    let mut from = 0;
    while from < sorted.len() {
        let chunk = chunk_of(sorted[from], chunk_bits);
        let length = sorted[from..].partition_point(|mark| chunk_of(*mark, chunk_bits) == chunk);
        cuts.push((base + chunk as i64, from * 16, length * 16));
        from += length;
    }
    (encode(sorted), cuts)
}
