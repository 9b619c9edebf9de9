//! Random buckets: draws that stay the same for a person, whatever else happens.

use xxhash_rust::xxh3::xxh3_64;

/// Buckets are numbered from 0 to one below this.
pub const BUCKETS: u32 = 10_000;

/// The draws for one salt.
///
/// The bucket of a person is `⌊xxh3_64(salt in UTF-8 ‖ person as 4 bytes, little-endian) × 10,000 ÷ 2^64⌋`. `person` is the surviving
/// number, so whoever is merged gets the survivor's bucket. Buckets are equally likely (to one part in 10^15), and those of different
/// salts tell nothing about each other.
#[derive(Debug, Clone)]
pub struct Buckets {
    bytes: Vec<u8>,
    salt_bytes: usize,
}

impl Buckets {
    /// For this salt.
    pub fn new(salt: &str) -> Self {
        Self { bytes: salt.as_bytes().to_vec(), salt_bytes: salt.len() }
    }

    /// The person's bucket, below [`BUCKETS`].
    pub fn bucket(&mut self, person: u32) -> u32 {
        self.bytes.truncate(self.salt_bytes);
        self.bytes.extend_from_slice(&person.to_le_bytes());
        let scaled = u128::from(xxh3_64(&self.bytes)) * u128::from(BUCKETS);
        (scaled >> 64) as u32
    }
}
