//! What a partition remembers of its senders: the highest sequence and which of the 64 up to it were
//! appended. Written at the start of every segment, so recovery never reads the whole log.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use wire::ids::{EndpointId, Sequence};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Sequences that the window of a sender covers, the highest included.
pub const WINDOW: u64 = 64;

/// What is known of one sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderState {
    /// Highest sequence that was appended; 0 for a sender never heard of.
    pub last: Sequence,
    /// Bit `n` is set when sequence `last - n` was appended.
    pub window: u64,
    /// A sequence below the window was never appended, and never will be.
    pub gaps: bool,
}

/// How a sequence relates to what a sender sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Higher than any before.
    Ahead,
    /// Inside the window, not appended yet.
    Unseen,
    /// Inside the window, appended before.
    Seen,
    /// So far below the highest that it can no longer be told.
    Below,
}

impl SenderState {
    /// Where `sequence` stands.
    pub fn place(&self, sequence: Sequence) -> Place {
        if sequence > self.last {
            return Place::Ahead;
        }
        match self.last.0 - sequence.0 {
            _ if sequence.0 == 0 => Place::Below,
            back if back >= WINDOW => Place::Below,
            back if self.window >> back & 1 == 1 => Place::Seen,
            _ => Place::Unseen,
        }
    }

    /// Whether `sequence` was appended; `None` where that cannot be told any more.
    pub fn holds(&self, sequence: Sequence) -> Option<bool> {
        match self.place(sequence) {
            Place::Ahead | Place::Unseen => Some(false),
            Place::Seen => Some(true),
            Place::Below if sequence.0 == 0 => Some(false),
            Place::Below => (!self.gaps).then_some(true),
        }
    }

    /// Whether a sequence leaves the window unappended when the highest goes up by `ahead`.
    fn leaves_gap(&self, ahead: u64) -> bool {
        let known = u64::MAX >> (WINDOW - self.last.0.min(WINDOW)).min(WINDOW - 1);
        let leaving = match ahead {
            1..WINDOW => u64::MAX << (WINDOW - ahead),
            _ => u64::MAX,
        };
        let missing = self.last.0 > 0 && !self.window & known & leaving != 0;
        missing || ahead > WINDOW
    }

    /// Record that `sequence` was appended.
    #[inline]
    pub(crate) fn append(&mut self, sequence: Sequence) {
        if sequence > self.last {
            let ahead = sequence.0 - self.last.0;
            self.gaps |= self.leaves_gap(ahead);
            self.window = if ahead < WINDOW {
                self.window << ahead | 1
            } else {
                1
            };
            self.last = sequence;
        } else if self.last.0 - sequence.0 < WINDOW {
            self.window |= 1 << (self.last.0 - sequence.0);
        }
    }
}

/// Endpoint ids are hashes already; spread them once more, always in the same way.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// All senders of a partition.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    /// In the order in which they were first heard of.
    states: Vec<(EndpointId, SenderState)>,
    places: HashMap<EndpointId, u32, BuildHasherDefault<IdHasher>>,
    /// Where the sender stands that appended last: its frames come in runs.
    recent: usize,
}

/// One sender in a snapshot: 24 bytes, little-endian. Bit 0 of the window, which says that the highest sequence was
/// appended, is always set in memory; here it is clear when there are gaps below the window.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SnapshotEntry {
    endpoint: U64,
    last: U64,
    window: U64,
}

/// Bytes of one sender in a snapshot.
pub(crate) const ENTRY_BYTES: usize = 24;
const _: () = assert!(size_of::<SnapshotEntry>() == ENTRY_BYTES);
/// Senders in one snapshot record.
pub(crate) const PART_SENDERS: usize = 2_048;

impl Senders {
    #[inline]
    pub(crate) fn get(&self, endpoint: EndpointId) -> SenderState {
        match self.states.get(self.recent) {
            Some((recent, state)) if *recent == endpoint => *state,
            _ => self.look_up(endpoint),
        }
    }

    fn look_up(&self, endpoint: EndpointId) -> SenderState {
        let place = self.places.get(&endpoint);
        place.map_or_else(SenderState::default, |place| self.states[*place as usize].1)
    }

    /// Allocates only when a sender is new.
    #[inline]
    pub(crate) fn append(&mut self, endpoint: EndpointId, sequence: Sequence) {
        if self
            .states
            .get(self.recent)
            .is_none_or(|(recent, _)| *recent != endpoint)
        {
            self.recent = self.place(endpoint);
        }
        self.states[self.recent].1.append(sequence);
    }

    fn place(&mut self, endpoint: EndpointId) -> usize {
        let states = &mut self.states;
        let place = self.places.entry(endpoint).or_insert_with(|| {
            states.push((endpoint, SenderState::default()));
            (states.len() - 1) as u32
        });
        *place as usize
    }

    pub(crate) fn count(&self) -> usize {
        self.states.len()
    }

    /// Records that a snapshot takes; one even without senders, so that every segment begins with one.
    pub(crate) fn parts(&self) -> usize {
        self.count().div_ceil(PART_SENDERS).max(1)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = SnapshotEntry> {
        self.states.iter().map(|(endpoint, state)| SnapshotEntry {
            endpoint: U64::new(endpoint.0),
            last: U64::new(state.last.0),
            window: U64::new(state.window & !u64::from(state.gaps)),
        })
    }

    /// Take in one part of a snapshot. Later knowledge wins over earlier.
    pub(crate) fn restore(&mut self, payload: &[u8]) {
        let (entries, _) = <[SnapshotEntry]>::ref_from_prefix(payload).unwrap_or((&[], payload));
        for entry in entries {
            let state = SenderState {
                last: Sequence(entry.last.get()),
                window: entry.window.get() | 1,
                gaps: entry.window.get() & 1 == 0,
            };
            let place = self.place(EndpointId(entry.endpoint.get()));
            self.states[place].1 = state;
        }
    }

    /// Every sender, in an order that depends on the past only.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EndpointId, SenderState)> {
        self.states.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_tells_seen_from_unseen_and_from_too_old() {
        let mut state = SenderState::default();
        let mut appended = Vec::new();
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5_000 {
            let sequence = Sequence(random.u64(state.last.0.saturating_sub(80)..state.last.0 + 90));
            let want = match sequence.0 {
                s if s > state.last.0 => Place::Ahead,
                0 => Place::Below,
                s if s + WINDOW <= state.last.0 => Place::Below,
                s if appended.contains(&s) => Place::Seen,
                _ => Place::Unseen,
            };
            assert_eq!(state.place(sequence), want, "{sequence} with {state:?}");
            if matches!(want, Place::Ahead | Place::Unseen) {
                state.append(sequence);
                appended.push(sequence.0);
            }
        }
    }

    #[test]
    fn a_sequence_is_known_to_be_there_or_not_unless_gaps_lie_below_the_window() {
        let mut random = fastrand::Rng::with_seed(11);
        for round in 0..200 {
            let (mut state, mut appended) = (SenderState::default(), Vec::new());
            for _ in 0..200 {
                let next = state.last.0
                    + if random.u32(0..40) < round / 10 {
                        random.u64(2..90)
                    } else {
                        1
                    };
                let back = state.last.0.saturating_sub(random.u64(0..64));
                let sequence = Sequence(if random.u8(0..4) == 0 { back } else { next });
                if matches!(state.place(sequence), Place::Ahead | Place::Unseen) {
                    state.append(sequence);
                    appended.push(sequence.0);
                }
                let below = state.last.0.saturating_sub(WINDOW);
                assert_eq!(
                    state.gaps,
                    (1..=below).any(|n| !appended.contains(&n)),
                    "{state:?}"
                );
                let asked = random.u64(0..state.last.0 + 3);
                let want =
                    (!state.gaps || asked == 0 || asked > below).then(|| appended.contains(&asked));
                assert_eq!(state.holds(Sequence(asked)), want, "{asked} with {state:?}");
            }
        }
    }

    #[test]
    fn a_snapshot_restores_every_sender() {
        let mut senders = Senders::default();
        for n in 0..5_000u64 {
            senders.append(EndpointId(n * n), Sequence(n + 1));
        }
        assert!(senders.get(EndpointId(4_999 * 4_999)).gaps);
        assert!(!senders.get(EndpointId(9)).gaps);
        assert_eq!(senders.parts(), 3);
        let mut again = Senders::default();
        for entry in senders.entries() {
            again.restore(entry.as_bytes());
        }
        assert_eq!(again.count(), 5_000);
        for (endpoint, state) in senders.iter() {
            assert_eq!(again.get(endpoint), state);
        }
    }
}
