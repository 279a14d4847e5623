//! From an id to a place in a list, without randomness: ids are hashes already, and only control adds any.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Spreads an id over the word, so that small hand-picked ids do as well as hashed ones.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        let product = u128::from(id ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

/// Id to index.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(HashMap<u64, u32, BuildHasherDefault<IdHasher>>);

impl Index {
    /// Add an id; the index that already has it, if one does.
    pub(super) fn insert(&mut self, id: u64, at: u32) -> Option<u32> {
        self.0.insert(id, at)
    }

    #[inline]
    pub(super) fn get(&self, id: u64) -> Option<u32> {
        self.0.get(&id).copied()
    }
}
