//! From an id to a place in a list. Tenants may pick ids: where one goes depends on numbers that this process drew and nobody knows, so
//! that none can pick many that meet. What a table says and how it is encoded does not depend on them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

/// Two numbers that this process drew, the second one odd.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed(u64, u64);

impl Default for Seed {
    fn default() -> Self {
        static DRAWN: OnceLock<Seed> = OnceLock::new();
        *DRAWN.get_or_init(|| {
            let drawn = RandomState::new();
            Self(drawn.hash_one(1), drawn.hash_one(2) | 1)
        })
    }
}

impl BuildHasher for Seed {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(*self, 0)
    }
}

/// Spreads an id over the word, so that small hand-picked ids do as well as hashed ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdHasher(Seed, u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.1
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.1 ^ u64::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.write_u64(u64::from(id));
    }

    fn write_u64(&mut self, id: u64) {
        self.1 = spread(self.0, id);
    }
}

#[inline]
fn spread(Seed(one, odd): Seed, id: u64) -> u64 {
    let product = u128::from(id ^ one) * u128::from(odd);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A map of ids that changes.
pub(super) type IdMap<K, V> = HashMap<K, V, Seed>;

/// Id to index, of a list that holds the ids itself: each place has the index and half of the hash, so that others are seldom
/// looked at. Half as many places again as ids; whoever finds his taken goes to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    seed: Seed,
    places: Box<[u64]>,
}

impl Index {
    /// Room for so many ids.
    pub(super) fn with_room(count: usize) -> Self {
        Self {
            seed: Seed::default(),
            places: vec![0; count + count / 2 + 1].into(),
        }
    }

    /// Add an id; the index that already has it, if one does. No more than there is room for.
    pub(super) fn insert(&mut self, id: u64, at: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = spread(self.seed, id);
        let mut place = self.first(hash);
        loop {
            match self.places[place] {
                0 => break,
                taken if same_half(taken, hash) && is(index_in(taken)) => {
                    return Some(index_in(taken));
                }
                _ => place = self.next(place),
            }
        }
        self.places[place] = hash << 32 | u64::from(at + 1);
        None
    }

    /// The index of an id; `is` tells whether it is that of an index.
    #[inline]
    pub(super) fn get(&self, id: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = spread(self.seed, id);
        let mut place = self.first(hash);
        loop {
            match *self.places.get(place)? {
                0 => return None,
                taken if same_half(taken, hash) && is(index_in(taken)) => {
                    return Some(index_in(taken));
                }
                _ => place = self.next(place),
            }
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.places)
    }

    /// Where to look first: the hash as a part of the whole.
    #[inline]
    fn first(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.places.len() as u128) >> 64) as usize
    }

    #[inline]
    fn next(&self, place: usize) -> usize {
        match place + 1 {
            end if end == self.places.len() => 0,
            next => next,
        }
    }
}

/// Whether the half of a hash that a place keeps is that of this one.
#[inline]
fn same_half(taken: u64, hash: u64) -> bool {
    taken >> 32 == hash & 0xFFFF_FFFF
}

/// Places hold an index and one more, so that 0 is an empty one.
#[inline]
fn index_in(taken: u64) -> u32 {
    taken as u32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_meet_under_one_seed_do_not_meet_under_another() {
        let (known, drawn) = (Seed(7, 9), Seed::default());
        let index = |seed| Index {
            seed,
            ..Index::with_room(100_000)
        };
        let first = |index: &Index, id| index.first(spread(index.seed, id));
        let (of_known, of_drawn) = (index(known), index(drawn));
        let mut random = fastrand::Rng::with_seed(8);
        let meet: Vec<u64> = std::iter::repeat_with(|| random.u64(..))
            .filter(|id| first(&of_known, *id) < 16)
            .take(64)
            .collect();
        let places: std::collections::BTreeSet<usize> =
            meet.iter().map(|id| first(&of_drawn, *id)).collect();
        assert!(places.len() > 48, "{} places of 64", places.len());
    }

    #[test]
    fn every_id_is_found_and_no_other_however_they_were_picked() {
        let mut random = fastrand::Rng::with_seed(5);
        let picked: [(&str, Vec<u64>); 4] = [
            ("none", Vec::new()),
            ("in a row", (0..5_000).collect()),
            ("multiples", (0..5_000).map(|id| id << 40).collect()),
            ("random", (0..5_000).map(|_| random.u64(..)).collect()),
        ];
        for (how, ids) in picked {
            let mut index = Index::with_room(ids.len());
            for (id, at) in ids.iter().zip(0..) {
                assert_eq!(index.insert(*id, at, |at| ids[at as usize] == *id), None);
            }
            for (id, at) in ids.iter().zip(0..) {
                let is = |at: u32| ids[at as usize] == *id;
                assert_eq!(index.get(*id, is), Some(at), "{how}");
                assert_eq!(index.insert(*id, at, is), Some(at), "{how}");
                let other = id ^ 0x5555_5555_0000_0000;
                if !ids.contains(&other) {
                    let is = |at: u32| ids[at as usize] == other;
                    assert_eq!(index.get(other, is), None, "{how}");
                }
            }
        }
    }
}
