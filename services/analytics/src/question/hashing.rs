//! Hashing of 128-bit keys by one multiplication. The seed is random per map, so that nobody can choose values that collide.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers for keys that are numbers.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    seed: u64,
}

impl Default for Fold {
    fn default() -> Self {
        // A hasher of the standard library's randomly seeded kind, finished at once, is its seed.
        Fold { seed: RandomState::new().build_hasher().finish() }
    }
}

impl BuildHasher for Fold {
    type Hasher = FoldHasher;

    fn build_hasher(&self) -> FoldHasher {
        FoldHasher { state: self.seed }
    }
}

/// See [`Fold`].
#[derive(Debug)]
pub(crate) struct FoldHasher {
    state: u64,
}

impl Hasher for FoldHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }

    fn write_u128(&mut self, words: u128) {
        self.write_u64(words as u64);
        self.write_u64((words >> 64) as u64);
    }
}
