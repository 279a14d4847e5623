//! Numbered places for things that come and go. A place used again gets a new generation, so an old
//! key finds nothing.

use crate::token::{GENERATION_MAX, Key};

/// At most `max` values under keys.
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    max: u32,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            max,
        }
    }

    /// Values held.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.max as usize
    }

    /// Put a value into a free place.
    ///
    /// # Panics
    /// When the slab is full: ask `is_full` first.
    pub(crate) fn insert(&mut self, value: T) -> Key {
        assert!(!self.is_full(), "slab of {} is full", self.max);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                value: None,
            });
            u32::try_from(self.slots.len() - 1).expect("a slab has at most 2^32 places")
        });
        let place = &mut self.slots[slot as usize];
        debug_assert!(place.value.is_none(), "place {slot} is taken");
        place.generation = if place.generation == GENERATION_MAX {
            1
        } else {
            place.generation + 1
        };
        place.value = Some(value);
        u64::from(place.generation) << 32 | u64::from(slot)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let place = self.slots.get((key & u64::from(u32::MAX)) as usize)?;
        if u64::from(place.generation) == key >> 32 {
            place.value.as_ref()
        } else {
            None
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.slots.get_mut((key & u64::from(u32::MAX)) as usize)?;
        if u64::from(place.generation) == key >> 32 {
            place.value.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = (key & u64::from(u32::MAX)) as u32;
        let place = self.slots.get_mut(slot as usize)?;
        if u64::from(place.generation) != key >> 32 {
            return None;
        }
        let value = place.value.take()?;
        self.free.push(slot);
        Some(value)
    }

    /// Keys and values, by slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, place)| {
            let value = place.value.as_ref()?;
            Some((u64::from(place.generation) << 32 | slot as u64, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing_in_a_place_used_again() {
        let mut slab = Slab::new(1);
        let old = slab.insert('a');
        assert!(slab.is_full());
        assert_eq!(slab.remove(old), Some('a'));
        let new = slab.insert('b');
        assert_eq!(old & 0xFFFF_FFFF, new & 0xFFFF_FFFF, "same place");
        assert_ne!(old, new, "another generation");
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.get_mut(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&'b'));
    }

    #[test]
    fn generations_wrap_before_they_reach_the_kind_and_skip_zero() {
        let mut slab = Slab::new(1);
        let key = slab.insert(());
        slab.remove(key);
        slab.slots[0].generation = GENERATION_MAX;
        assert_eq!(slab.insert(()) >> 32, 1);
    }
}
