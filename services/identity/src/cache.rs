//! A map bounded in bytes that keeps what was used lately: two generations. What is read moves to the young one; when the
//! young one is full it becomes the old one, and what the old one still held is forgotten. It costs one hash look-up per
//! hit and nothing per entry, which a linked list would.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Spreads numbers and passes on keys that are hashes already.
#[derive(Debug, Default, Clone, Copy)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = (key as u64) ^ ((key >> 64) as u64);
    }

    fn write_u32(&mut self, number: u32) {
        let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }
}

/// A hash map over such keys.
pub type KeyMap<K, V> = HashMap<K, V, BuildHasherDefault<KeyHasher>>;

/// The two generations.
#[derive(Debug)]
pub struct Generations<K, V> {
    young: KeyMap<K, V>,
    old: KeyMap<K, V>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { young: KeyMap::default(), old: KeyMap::default() }
    }
}

impl<K: Eq + Hash + Copy, V> Generations<K, V> {
    /// The entry, which is young from now on.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        if !self.old.is_empty()
            && !self.young.contains_key(&key)
            && let Some(value) = self.old.remove(&key)
        {
            self.young.insert(key, value);
        }
        self.young.get_mut(&key)
    }

    /// Adds or replaces an entry.
    pub fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// How many entries are young.
    pub fn young_len(&self) -> usize {
        self.young.len()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the old generation; the young one takes its place.
    pub fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_survives_and_what_is_not_goes_after_two_agings() {
        let mut map = Generations::default();
        map.insert(1u32, "used");
        map.insert(2u32, "idle");
        map.age();
        assert_eq!(map.get_mut(1), Some(&mut "used"));
        map.age();
        assert_eq!(map.get_mut(1), Some(&mut "used"));
        assert_eq!(map.get_mut(2), None);
        assert_eq!(map.len(), 1);
    }
}
