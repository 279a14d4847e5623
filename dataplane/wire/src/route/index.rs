//! From an id to a place in a list. Tenants may pick ids: where one goes depends on numbers that this process drew and nobody knows, so
//! that none can pick many that meet. What a table says and how it is encoded does not depend on them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use bytes::Bytes;

use super::pages::Room;

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
#[derive(Debug)]
pub(super) struct Index {
    seed: Seed,
    count: usize,
    places: Bytes,
}

/// The same while it is made.
pub(super) struct NewIndex {
    seed: Seed,
    count: usize,
    places: Room,
}

/// What is known of an id after the first step to its index.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    half: u32,
    taken: u64,
}

impl NewIndex {
    /// Room for so many ids.
    pub(super) fn with_room(ids: usize) -> Self {
        let count = ids + ids / 2 + 1;
        Self {
            seed: Seed::default(),
            count,
            places: Room::zeroed(count * PLACE_BYTES),
        }
    }

    /// Add an id; the index that already has it, if one does. No more than there is room for.
    pub(super) fn insert(&mut self, id: u64, at: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = spread(self.seed, id);
        let places = self.places.get_mut();
        let mut place = first(hash, self.count);
        loop {
            match taken(places, place) {
                0 => break,
                taken if same_half(taken, hash) && is(index_in(taken)) => {
                    return Some(index_in(taken));
                }
                _ => place = next(place, self.count),
            }
        }
        let word = hash << 32 | u64::from(at + 1);
        places[place * PLACE_BYTES..][..PLACE_BYTES].copy_from_slice(&word.to_ne_bytes());
        None
    }

    /// All that were added.
    pub(super) fn done(self) -> Index {
        Index {
            seed: self.seed,
            count: self.count,
            places: Bytes::from_owner(self.places),
        }
    }
}

impl Index {
    /// The index of an id; `is` tells whether it is that of an index.
    #[inline]
    pub(super) fn get(&self, id: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = spread(self.seed, id);
        let (places, mut place) = (&*self.places, first(hash, self.count));
        loop {
            match taken(places, place) {
                0 => return None,
                taken if same_half(taken, hash) && is(index_in(taken)) => {
                    return Some(index_in(taken));
                }
                _ => place = next(place, self.count),
            }
        }
    }

    /// Take the first step to the index of an id.
    #[inline]
    pub(super) fn look(&self, id: u64) -> Look {
        let hash = spread(self.seed, id);
        Look {
            half: hash as u32,
            taken: taken(&self.places, first(hash, self.count)),
        }
    }

    /// The index that an id has, if it has one, after the first step to it: nobody has looked whether it is its own.
    #[inline]
    pub(super) fn likely(&self, id: u64, look: Look) -> Option<u32> {
        match look.taken {
            0 => None,
            taken if taken >> 32 == u64::from(look.half) => Some(index_in(taken)),
            _ => self.get(id, |_| true),
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.places.len()
    }
}

const PLACE_BYTES: usize = size_of::<u64>();

/// What is at a place; nothing ever is behind the last one.
#[inline]
fn taken(places: &[u8], place: usize) -> u64 {
    let from = place * PLACE_BYTES;
    let bytes = places.get(from..from + PLACE_BYTES);
    bytes.map_or(0, |bytes| {
        u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
    })
}

/// Where to look first among so many places: the hash as a part of the whole.
#[inline]
fn first(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}

#[inline]
fn next(place: usize, count: usize) -> usize {
    match place + 1 {
        end if end == count => 0,
        next => next,
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
        let first = |seed, id| first(spread(seed, id), 150_001);
        let mut random = fastrand::Rng::with_seed(8);
        let meet: Vec<u64> = std::iter::repeat_with(|| random.u64(..))
            .filter(|id| first(known, *id) < 16)
            .take(64)
            .collect();
        let places: std::collections::BTreeSet<usize> =
            meet.iter().map(|id| first(drawn, *id)).collect();
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
            let mut index = NewIndex::with_room(ids.len());
            for (id, at) in ids.iter().zip(0..) {
                assert_eq!(index.insert(*id, at, |at| ids[at as usize] == *id), None);
            }
            for (id, at) in ids.iter().zip(0..) {
                let is = |at: u32| ids[at as usize] == *id;
                assert_eq!(index.insert(*id, at, is), Some(at), "{how}");
            }
            let index = index.done();
            for (id, at) in ids.iter().zip(0..) {
                let is = |at: u32| ids[at as usize] == *id;
                assert_eq!(index.get(*id, is), Some(at), "{how}");
                let other = id ^ 0x5555_5555_0000_0000;
                if !ids.contains(&other) {
                    let is = |at: u32| ids[at as usize] == other;
                    assert_eq!(index.get(other, is), None, "{how}");
                }
            }
        }
    }
}
