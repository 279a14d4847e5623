//! All things by kind and name, of which a copy costs little: it shares with the original what neither changes since.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Stored;
use crate::model::Noun;

/// Kind and full name.
pub type Key = (Noun, String);

/// Most entries of a run.
const RUN_MAX: usize = 512;

/// Entries in order, in runs; a run that changes is copied if somebody else has it too.
#[derive(Debug, Clone, Default)]
pub struct Things {
    runs: Vec<Arc<Vec<(Key, Stored)>>>,
    count: usize,
}

impl Things {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The thing of this kind and name.
    #[must_use]
    pub fn get(&self, noun: Noun, name: &str) -> Option<&Stored> {
        let run = self.runs.get(self.run_of(noun, name))?;
        let at = find(run, noun, name).ok()?;
        Some(&run[at].1)
    }

    /// Put a thing in the place of what was there.
    pub fn insert(&mut self, key: Key, stored: Stored) {
        let at = self.run_of(key.0, &key.1);
        let Some(run) = self.runs.get_mut(at) else {
            self.runs.push(Arc::new(vec![(key, stored)]));
            self.count = 1;
            return;
        };
        let run = Arc::make_mut(run);
        match find(run, key.0, &key.1) {
            Ok(at) => run[at].1 = stored,
            Err(place) => {
                run.insert(place, (key, stored));
                self.count += 1;
                if run.len() > RUN_MAX {
                    let upper = run.split_off(RUN_MAX / 2);
                    self.runs.insert(at + 1, Arc::new(upper));
                }
            }
        }
    }

    /// Take a thing out, if it is there.
    pub fn remove(&mut self, noun: Noun, name: &str) {
        let at = self.run_of(noun, name);
        let Some(run) = self.runs.get_mut(at) else {
            return;
        };
        if let Ok(place) = find(run, noun, name) {
            Arc::make_mut(run).remove(place);
            self.count -= 1;
            if run.is_empty() {
                self.runs.remove(at);
            }
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Stored)> {
        let entries = self.runs.iter().flat_map(|run| run.iter());
        entries.map(|(key, stored)| (key, stored))
    }

    /// Those of this kind and name and behind, in order.
    pub fn from<'a>(
        &'a self,
        noun: Noun,
        name: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Stored)> + use<'a> {
        let first = self.run_of(noun, name);
        let place = self.runs.get(first).map_or(0, |run| {
            let place = find(run, noun, name);
            place.unwrap_or_else(|place| place)
        });
        let entries = self.runs[first.min(self.runs.len())..].iter();
        let entries = entries.flat_map(|run| run.iter()).skip(place);
        entries.map(|(key, stored)| (key, stored))
    }

    /// Their kinds and names, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Key> {
        self.iter().map(|(key, _)| key)
    }

    /// The things, in order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Stored> {
        self.iter().map(|(_, stored)| stored)
    }

    /// The last run that does not begin behind this key, or the first.
    fn run_of(&self, noun: Noun, name: &str) -> usize {
        let behind =
            |run: &Arc<Vec<(Key, Stored)>>| order(&run[0].0, noun, name) != Ordering::Greater;
        self.runs.partition_point(behind).saturating_sub(1)
    }
}

/// Both have the same entries, in whatever runs.
impl PartialEq for Things {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl Eq for Things {}

fn order(key: &Key, noun: Noun, name: &str) -> Ordering {
    (key.0, key.1.as_str()).cmp(&(noun, name))
}

fn find(run: &[(Key, Stored)], noun: Noun, name: &str) -> Result<usize, usize> {
    run.binary_search_by(|(key, _)| order(key, noun, name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{NOUNS, Settings, Thing};

    #[test]
    fn things_are_what_a_sorted_map_has_and_a_copy_keeps_what_it_had() {
        let mut random = fastrand::Rng::with_seed(6);
        let thing = Arc::new(Thing::Settings(Settings::default()));
        let (mut things, mut map) = (Things::default(), BTreeMap::new());
        let mut copy = (things.clone(), map.clone());
        for version in 0..12_000 {
            let noun = NOUNS[random.usize(..2)];
            let name = format!("{:04}", random.u32(..2_500));
            if random.u8(..4) == 0 {
                things.remove(noun, &name);
                map.remove(&(noun, name.clone()));
            } else {
                let thing = Arc::clone(&thing);
                let stored = Stored { version, thing };
                things.insert((noun, name.clone()), stored.clone());
                map.insert((noun, name.clone()), stored);
            }
            let probe = format!("{:04}", random.u32(..2_500));
            assert_eq!(things.get(noun, &probe), map.get(&(noun, probe.clone())));
            if version % 1_000 == 0 {
                assert!(things.iter().eq(map.iter()) && things.len() == map.len());
                let behind = map.range((noun, probe.clone())..);
                assert!(things.from(noun, &probe).eq(behind));
                assert!(things.keys().rev().eq(map.keys().rev()));
                assert!(copy.0.iter().eq(copy.1.iter()), "what was copied stays");
                copy = (things.clone(), map.clone());
            }
        }
        for key in map.keys() {
            things.remove(key.0, &key.1);
        }
        assert!(things.is_empty() && things.iter().next().is_none());
    }
}
