//! Maps by ids. Ids are hashes, or are picked by whoever makes an endpoint, so that somebody could pick many that fall on one place: a
//! seed that nobody outside knows decides where they fall. It comes from the caller; this draws nothing.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

/// A map of ids.
pub(crate) type IdMap<K, V> = HashMap<K, V, HashSeed>;

/// Where ids fall in maps. Nothing that is said or written depends on it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct HashSeed(pub u64);

impl fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSeed(..)")
    }
}

impl BuildHasher for HashSeed {
    type Hasher = IdHasher;

    #[inline]
    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0 ^ 0x9E37_79B9_7F4A_7C15, self.0)
    }
}

/// A multiplication by an odd number that follows from the seed, both halves of the product together.
#[derive(Debug, Clone, Copy)]
pub struct IdHasher(u64, u64);

impl Hasher for IdHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u32(&mut self, id: u32) {
        self.write_u64(u64::from(id));
    }

    #[inline]
    fn write_u64(&mut self, id: u64) {
        let factor = self.1.rotate_left(32) ^ 0xD6E8_FEB8_6659_FD93 | 1;
        let product = u128::from(self.0 ^ id) * u128::from(factor);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many ids share the fullest of 4,096 places, as a map deals them out: by the lowest bits.
    fn fullest(seed: HashSeed, ids: impl Iterator<Item = u64>) -> u32 {
        let mut places = [0; 4_096];
        for id in ids {
            places[(seed.hash_one(id) % 4_096) as usize] += 1;
        }
        places.into_iter().max().unwrap_or(0)
    }

    #[test]
    fn ids_that_somebody_picked_are_spread_over_all_places() {
        type Pick = fn(u64) -> u64;
        let picks: [(&str, Pick); 4] = [
            ("in a row", |at| at),
            ("high halves", |at| at << 32),
            ("multiples", |at| at * 4_096),
            ("odd ones", |at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        ];
        for seed in [0, 1, 0xFEED_FACE_CAFE_BEEF] {
            for (why, pick) in picks {
                let most = fullest(HashSeed(seed), (0..4_096).map(pick));
                assert!(most < 16, "{why}, seed {seed:x}: {most} in one place");
            }
        }
    }

    #[test]
    fn ids_that_fall_on_one_place_by_one_seed_do_not_by_another() {
        let known = HashSeed(1);
        let picked = (0..1 << 20).filter(|id: &u64| known.hash_one(id) % 4_096 == 7);
        let picked: Vec<u64> = picked.take(200).collect();
        assert_eq!(fullest(known, picked.iter().copied()), 200);
        assert!(fullest(HashSeed(2), picked.iter().copied()) < 16);
    }
}
