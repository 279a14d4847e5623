//! Who has which receive buffer: the kernel, the owner, or nobody yet. Pure accounting; touches no memory
//! but its own, so that a model can try a million interleavings.
//!
//! The kernel fills buffers in the order they were published. Were all of them published, each receive
//! would go to the buffer that was used longest ago, which has left the processor's caches. So only a few
//! are published; those that come back lie on a shelf, and the last one put there is published first.

/// Rounds after which the number of published buffers is looked at.
const ROUNDS: u32 = 256;

/// Accounts of the buffers of one provided-buffer ring.
pub(crate) struct Ledger {
    places: Vec<Place>,
    /// Buffers nobody uses, the coldest at the bottom.
    shelf: Vec<u16>,
    with_kernel: usize,
    /// Buffers to keep published, between `wanted_min` and all of them.
    wanted: usize,
    wanted_min: usize,
    /// Fewest buffers that were left with the kernel at the end of a round, and rounds seen.
    left_min: usize,
    rounds: u32,
    /// Entries ever published, modulo 2^16: the kernel's own arithmetic.
    tail: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Kernel,
    Owner,
    Shelf,
}

impl Ledger {
    /// All buffers are on the shelf; about `wanted_min` of them are to be published at a time.
    pub(crate) fn new(buffers: u16, wanted_min: usize) -> Self {
        assert!(
            buffers.is_power_of_two(),
            "{buffers} buffers are no power of two"
        );
        let wanted_min = wanted_min.clamp(1, usize::from(buffers));
        Self {
            places: vec![Place::Shelf; usize::from(buffers)],
            shelf: (0..buffers).rev().collect(),
            with_kernel: 0,
            wanted: wanted_min,
            wanted_min,
            left_min: usize::MAX,
            rounds: 0,
            tail: 0,
        }
    }

    /// Buffers the owner does not have: the kernel may fill them, or will as soon as they are published.
    pub(crate) fn free(&self) -> usize {
        self.with_kernel + self.shelf.len()
    }

    /// Buffers away from kernel and shelf.
    #[cfg(test)]
    pub(crate) fn lent(&self) -> usize {
        self.places.len() - self.free()
    }

    /// The kernel filled `buffer`: it is the owner's now.
    ///
    /// # Panics
    /// When it was not with the kernel: two receives would share memory.
    pub(crate) fn take(&mut self, buffer: u16) {
        let place = &mut self.places[usize::from(buffer)];
        assert!(
            *place == Place::Kernel,
            "buffer {buffer} was handed out twice"
        );
        *place = Place::Owner;
        self.with_kernel -= 1;
    }

    /// The owner returns `buffer`.
    ///
    /// # Panics
    /// When the owner does not have it.
    pub(crate) fn give(&mut self, buffer: u16) {
        let place = &mut self.places[usize::from(buffer)];
        assert!(*place == Place::Owner, "buffer {buffer} was returned twice");
        *place = Place::Shelf;
        self.shelf.push(buffer);
    }

    /// The next buffer to publish and the slot of the shared ring to write it to; the new tail is `tail`
    /// afterwards. `None` when enough are published.
    pub(crate) fn publish(&mut self) -> Option<(usize, u16)> {
        if self.with_kernel >= self.wanted {
            return None;
        }
        let buffer = self.shelf.pop()?;
        self.places[usize::from(buffer)] = Place::Kernel;
        self.with_kernel += 1;
        let slot = usize::from(self.tail) & (self.places.len() - 1);
        self.tail = self.tail.wrapping_add(1);
        Some((slot, buffer))
    }

    /// A receive found no buffer: twice as many are to be published.
    pub(crate) fn missed(&mut self) {
        self.wanted = (2 * self.wanted).min(self.places.len());
        (self.left_min, self.rounds) = (usize::MAX, 0);
    }

    /// A round of receives is over. When for long no round has used half of what was published, half will do.
    pub(crate) fn end_round(&mut self) {
        self.left_min = self.left_min.min(self.with_kernel);
        self.rounds += 1;
        if self.rounds >= ROUNDS {
            if self.left_min > self.wanted / 2 {
                self.wanted = (self.wanted / 2).max(self.wanted_min);
            }
            (self.left_min, self.rounds) = (usize::MAX, 0);
        }
    }

    /// Tail to publish after `publish`.
    pub(crate) fn tail(&self) -> u16 {
        self.tail
    }

    /// Check that counts and marks agree.
    pub(crate) fn check(&self) {
        let count = |wanted: Place| self.places.iter().filter(|place| **place == wanted).count();
        let counted = (self.with_kernel, self.shelf.len());
        let marked = (count(Place::Kernel), count(Place::Shelf));
        debug_assert!(
            marked == counted,
            "{marked:?} marked as with kernel and on the shelf, {counted:?} counted"
        );
        debug_assert!(
            (self.wanted_min..=self.places.len()).contains(&self.wanted),
            "{} buffers wanted",
            self.wanted
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// The kernel's side of a provided-buffer ring, and connections that receive through it. A place for a
    /// connection is empty while that connection is in another ring.
    struct Model {
        ledger: Ledger,
        slots: Vec<u16>,
        head: u16,
        tail: u16,
        leases: Vec<Vec<u16>>,
        orphans: Vec<u16>,
        waiting: VecDeque<usize>,
        is_waiting: Vec<bool>,
        enobufs: u64,
    }

    impl Model {
        fn new(buffers: u16, connections: usize) -> Self {
            let mut model = Self {
                ledger: Ledger::new(buffers, 2),
                slots: vec![u16::MAX; usize::from(buffers)],
                head: 0,
                tail: 0,
                leases: vec![Vec::new(); connections],
                orphans: Vec::new(),
                waiting: VecDeque::new(),
                is_waiting: vec![false; connections],
                enobufs: 0,
            };
            model.stock();
            model
        }

        fn stock(&mut self) {
            self.ledger.end_round();
            while let Some((slot, buffer)) = self.ledger.publish() {
                let unread = self.tail.wrapping_sub(self.head);
                assert!(
                    usize::from(unread) < self.slots.len(),
                    "an unread entry would be overwritten"
                );
                assert_eq!(slot, usize::from(self.tail) & (self.slots.len() - 1));
                self.slots[slot] = buffer;
                self.tail = self.tail.wrapping_add(1);
                assert_eq!(self.tail, self.ledger.tail());
            }
        }

        /// The kernel receives for a connection: a buffer, or `None` for ENOBUFS.
        fn kernel_receives(&mut self) -> Option<u16> {
            if self.head == self.tail {
                return None;
            }
            let buffer = self.slots[usize::from(self.head) & (self.slots.len() - 1)];
            self.head = self.head.wrapping_add(1);
            self.ledger.take(buffer);
            Some(buffer)
        }

        fn receive(&mut self, connection: usize) {
            if self.is_waiting[connection] {
                return;
            }
            match self.kernel_receives() {
                Some(buffer) => self.leases[connection].push(buffer),
                None => {
                    assert_eq!(
                        self.ledger.with_kernel, 0,
                        "ENOBUFS while buffers are there"
                    );
                    self.ledger.missed();
                    self.enobufs += u64::from(self.ledger.free() == 0);
                    self.is_waiting[connection] = true;
                    self.waiting.push_back(connection);
                }
            }
        }

        fn release(&mut self, connection: usize, random: &mut fastrand::Rng) {
            let from = match self.leases[connection].len() {
                0 => &mut self.orphans,
                _ => &mut self.leases[connection],
            };
            if !from.is_empty() {
                let buffer = from.swap_remove(random.usize(..from.len()));
                self.ledger.give(buffer);
            }
            for _ in 0..self.ledger.free() {
                let Some(connection) = self.waiting.pop_front() else {
                    break;
                };
                self.is_waiting[connection] = false;
            }
        }

        /// The connection closes or leaves; its leases stay lent until their owner returns them.
        fn close(&mut self, connection: usize) {
            self.orphans.append(&mut self.leases[connection]);
            self.is_waiting[connection] = false;
            self.waiting.retain(|waiting| *waiting != connection);
        }

        /// The connection comes from another ring, and waits if there are no buffers.
        fn join(&mut self, connection: usize) {
            assert!(self.leases[connection].is_empty() && !self.is_waiting[connection]);
            if self.ledger.free() == 0 {
                self.is_waiting[connection] = true;
                self.waiting.push_back(connection);
            }
        }

        fn check(&self) {
            let unread = usize::from(self.tail.wrapping_sub(self.head));
            let held = self.orphans.len() + self.leases.iter().map(Vec::len).sum::<usize>();
            assert_eq!(unread, self.ledger.with_kernel);
            assert_eq!(held, self.ledger.lent());
            assert_eq!(
                unread + held + self.ledger.shelf.len(),
                self.slots.len(),
                "a buffer was lost or doubled"
            );
        }

        fn check_each_buffer_is_somewhere_once(&self) {
            let mut seen = vec![0; self.slots.len()];
            let mask = self.slots.len() - 1;
            for i in 0..self.tail.wrapping_sub(self.head) {
                seen[usize::from(self.slots[usize::from(self.head.wrapping_add(i)) & mask])] += 1;
            }
            let owned = self.orphans.iter().chain(self.leases.iter().flatten());
            for buffer in owned.chain(&self.ledger.shelf) {
                seen[usize::from(*buffer)] += 1;
            }
            assert!(seen.iter().all(|count| *count == 1), "{seen:?}");
            self.ledger.check();
        }
    }

    #[test]
    fn no_buffer_is_lost_or_handed_out_twice_in_a_million_random_completions() {
        for (seed, buffers, connections) in [(1, 1, 3), (2, 8, 5), (3, 64, 40), (4, 1024, 16)] {
            // Miri takes a thousand times as long for a step: it goes through the first three, briefly.
            let steps = if cfg!(miri) { 500 } else { 250_000 };
            if cfg!(miri) && buffers > 64 {
                continue;
            }
            let mut random = fastrand::Rng::with_seed(seed);
            let mut model = Model::new(buffers, connections);
            for step in 0..steps {
                let connection = random.usize(..connections);
                match random.u8(..100) {
                    0..=47 => model.receive(connection),
                    48..=86 => model.release(connection, &mut random),
                    87..=94 => model.stock(),
                    95..=97 => {
                        // End of stream that had picked a buffer: it goes straight back.
                        if let Some(buffer) = model.kernel_receives() {
                            model.ledger.give(buffer);
                        }
                    }
                    _ => model.close(connection),
                }
                model.check();
                if step % 1000 == 0 {
                    model.check_each_buffer_is_somewhere_once();
                }
            }
            model.check_each_buffer_is_somewhere_once();
            assert!(model.enobufs > 0, "seed {seed} never ran out of buffers");
        }
    }

    #[test]
    fn no_buffer_is_lost_or_changes_its_ring_while_connections_move_between_two() {
        for (seed, buffers, connections) in [(1, 1, 3), (2, 8, 5), (3, 64, 40)] {
            let steps = if cfg!(miri) { 500 } else { 100_000 };
            if cfg!(miri) && buffers > 8 {
                continue;
            }
            let mut random = fastrand::Rng::with_seed(seed);
            let mut rings = [(); 2].map(|()| Model::new(buffers, connections));
            let mut homes: Vec<usize> = (0..connections).map(|place| place % 2).collect();
            let mut moves = [0; 3];
            for step in 0..steps {
                let connection = random.usize(..connections);
                let home = homes[connection];
                match random.u8(..100) {
                    0..=44 => rings[home].receive(connection),
                    // Leases go back to the ring they came from, wherever their connection is by now.
                    45..=79 => rings[random.usize(..2)].release(connection, &mut random),
                    80..=87 => rings[random.usize(..2)].stock(),
                    88..=90 => {
                        // A receive that was stopped after it had picked a buffer.
                        if let Some(buffer) = rings[home].kernel_receives() {
                            rings[home].ledger.give(buffer);
                        }
                    }
                    _ => {
                        let waited = rings[home].is_waiting[connection];
                        let leased = !rings[home].leases[connection].is_empty();
                        rings[home].close(connection);
                        homes[connection] = 1 - home;
                        rings[1 - home].join(connection);
                        let waits = rings[1 - home].is_waiting[connection];
                        [waited, leased, waits]
                            .into_iter()
                            .zip(&mut moves)
                            .for_each(|(seen, count)| *count += u32::from(seen));
                    }
                }
                for ring in &rings {
                    ring.check();
                    assert!(
                        ring.waiting.len() <= connections,
                        "{} wait",
                        ring.waiting.len()
                    );
                    if step % 1000 == 0 {
                        ring.check_each_buffer_is_somewhere_once();
                    }
                }
            }
            for ring in &mut rings {
                ring.check_each_buffer_is_somewhere_once();
                (0..connections).for_each(|connection| ring.close(connection));
                while !ring.orphans.is_empty() {
                    ring.release(0, &mut random);
                }
                assert_eq!(ring.ledger.lent(), 0, "seed {seed}");
                assert_eq!(ring.waiting.len(), 0, "seed {seed}: nobody is left to wait");
            }
            assert!(
                moves.iter().all(|count| *count > 0),
                "seed {seed}: moved while waiting, with leases, into waiting: {moves:?}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "handed out twice")]
    fn a_buffer_handed_out_twice_stops_the_ring() {
        let mut ledger = Ledger::new(2, 2);
        assert_eq!(ledger.publish(), Some((0, 0)));
        ledger.take(0);
        ledger.take(0);
    }

    #[test]
    #[should_panic(expected = "returned twice")]
    fn a_buffer_returned_twice_stops_the_ring() {
        let mut ledger = Ledger::new(2, 2);
        assert_eq!(ledger.publish(), Some((0, 0)));
        ledger.take(0);
        ledger.give(0);
        ledger.give(0);
    }

    /// Publish what is wanted; returns which buffers.
    fn published(ledger: &mut Ledger) -> Vec<u16> {
        std::iter::from_fn(|| ledger.publish())
            .map(|(_, buffer)| buffer)
            .collect()
    }

    #[test]
    fn the_buffer_returned_last_is_published_first_and_cold_ones_only_when_they_are_missed() {
        let mut ledger = Ledger::new(64, 2);
        assert_eq!(published(&mut ledger), [0, 1]);
        for _ in 0..3 * ROUNDS {
            ledger.take(0);
            ledger.end_round();
            ledger.give(0);
            assert_eq!(published(&mut ledger), [0], "the warm one");
        }
        ledger.missed();
        assert_eq!(published(&mut ledger), [2, 3], "a burst gets more");
        for _ in 0..3 * ROUNDS {
            ledger.end_round();
            assert!(published(&mut ledger).is_empty());
        }
        [0, 1, 2].into_iter().for_each(|buffer| ledger.take(buffer));
        assert_eq!(
            published(&mut ledger),
            [4],
            "two are enough again, and one was left"
        );
        for _ in 0..10 {
            ledger.missed();
        }
        assert_eq!(published(&mut ledger).len(), 59, "all, if need be");
        ledger.check();
    }
}
