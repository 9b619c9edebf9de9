//! Random buckets: draws that stay the same for a person, whatever else happens. The formula must never change: who is held out of an
//! audience hangs on it.

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

    /// For who is held out of an audience: those in buckets below its `holdout`.
    pub fn of_holdout(audience: &str) -> Self {
        Self::new(&format!("holdout:{audience}"))
    }

    /// The person's bucket, below [`BUCKETS`].
    pub fn bucket(&mut self, person: u32) -> u32 {
        self.bytes.truncate(self.salt_bytes);
        self.bytes.extend_from_slice(&person.to_le_bytes());
        let scaled = u128::from(xxh3_64(&self.bytes)) * u128::from(BUCKETS);
        (scaled >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_stay_where_they_are_across_versions_and_spread_evenly() {
        // By xxHash's own C library (0.8.4) and the formula in Python.
        let mut buckets = Buckets::of_holdout("buyers");
        let found = [1, 2, 3, 4, 5, 70_000, u32::MAX].map(|person| buckets.bucket(person));
        assert_eq!(found, [1_725, 4_905, 4_750, 9_041, 7_526, 3_800, 8_034]);
        assert_eq!(Buckets::new("").bucket(1), 8_555);
        let below = (1..=100_000).filter(|person| buckets.bucket(*person) < 1_000).count();
        assert!((9_700..=10_300).contains(&below), "{below} of 100,000 are in a tenth of the buckets");
    }
}
