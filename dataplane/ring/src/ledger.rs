//! Who has which receive buffer: the kernel or the owner. Pure accounting; touches no memory but its
//! own, so that a model can try a million interleavings.

/// Accounts of the buffers of one provided-buffer ring.
pub(crate) struct Ledger {
    /// For each buffer, whether it is away from the kernel.
    lent: Vec<bool>,
    lent_count: usize,
    /// Entries ever published, modulo 2^16: the kernel's own arithmetic.
    tail: u16,
}

impl Ledger {
    /// All buffers are with the owner; `give` each once.
    pub(crate) fn new(buffers: u16) -> Self {
        assert!(
            buffers.is_power_of_two(),
            "{buffers} buffers are no power of two"
        );
        let buffers = usize::from(buffers);
        Self {
            lent: vec![true; buffers],
            lent_count: buffers,
            tail: 0,
        }
    }

    /// Buffers the kernel may fill.
    pub(crate) fn with_kernel(&self) -> usize {
        self.lent.len() - self.lent_count
    }

    /// Buffers away from the kernel.
    #[cfg(test)]
    pub(crate) fn lent(&self) -> usize {
        self.lent_count
    }

    /// The kernel filled `buffer`: it is the owner's now.
    ///
    /// # Panics
    /// When the owner has it already: two receives would share memory.
    pub(crate) fn take(&mut self, buffer: u16) {
        let lent = &mut self.lent[usize::from(buffer)];
        assert!(!*lent, "buffer {buffer} was handed out twice");
        *lent = true;
        self.lent_count += 1;
    }

    /// The owner returns `buffer`. Gives the slot of the shared ring to write it to; the new tail is
    /// `tail` afterwards.
    ///
    /// # Panics
    /// When the kernel has it already.
    pub(crate) fn give(&mut self, buffer: u16) -> usize {
        let lent = &mut self.lent[usize::from(buffer)];
        assert!(*lent, "buffer {buffer} was returned twice");
        *lent = false;
        self.lent_count -= 1;
        let slot = usize::from(self.tail) & (self.lent.len() - 1);
        self.tail = self.tail.wrapping_add(1);
        slot
    }

    /// Tail to publish after `give`.
    pub(crate) fn tail(&self) -> u16 {
        self.tail
    }

    /// Check that counts and marks agree.
    pub(crate) fn check(&self) {
        let lent = self.lent.iter().filter(|lent| **lent).count();
        debug_assert!(
            lent == self.lent_count,
            "{lent} marked, {} counted",
            self.lent_count
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// The kernel's side of a provided-buffer ring, and connections that receive through it.
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
                ledger: Ledger::new(buffers),
                slots: vec![u16::MAX; usize::from(buffers)],
                head: 0,
                tail: 0,
                leases: vec![Vec::new(); connections],
                orphans: Vec::new(),
                waiting: VecDeque::new(),
                is_waiting: vec![false; connections],
                enobufs: 0,
            };
            (0..buffers).for_each(|buffer| model.give(buffer));
            model
        }

        fn give(&mut self, buffer: u16) {
            let slot = self.ledger.give(buffer);
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
                        self.ledger.with_kernel(),
                        0,
                        "ENOBUFS while buffers are there"
                    );
                    self.enobufs += 1;
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
                self.give(buffer);
            }
            for _ in 0..self.ledger.with_kernel() {
                let Some(connection) = self.waiting.pop_front() else {
                    break;
                };
                self.is_waiting[connection] = false;
            }
        }

        /// The connection closes; its leases stay lent until their owner returns them.
        fn close(&mut self, connection: usize) {
            self.orphans.append(&mut self.leases[connection]);
            self.is_waiting[connection] = false;
            self.waiting.retain(|waiting| *waiting != connection);
        }

        fn check(&self) {
            let unread = usize::from(self.tail.wrapping_sub(self.head));
            let held = self.orphans.len() + self.leases.iter().map(Vec::len).sum::<usize>();
            assert_eq!(unread, self.ledger.with_kernel());
            assert_eq!(held, self.ledger.lent());
            assert_eq!(
                unread + held,
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
            for buffer in self.orphans.iter().chain(self.leases.iter().flatten()) {
                seen[usize::from(*buffer)] += 1;
            }
            assert!(seen.iter().all(|count| *count == 1), "{seen:?}");
            self.ledger.check();
        }
    }

    #[test]
    fn no_buffer_is_lost_or_handed_out_twice_in_a_million_random_completions() {
        for (seed, buffers, connections) in [(1, 1, 3), (2, 8, 5), (3, 64, 40), (4, 1024, 16)] {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut model = Model::new(buffers, connections);
            for step in 0..250_000 {
                let connection = random.usize(..connections);
                match random.u8(..100) {
                    0..=51 => model.receive(connection),
                    52..=94 => model.release(connection, &mut random),
                    95..=97 => {
                        // End of stream that had picked a buffer: it goes straight back.
                        if let Some(buffer) = model.kernel_receives() {
                            model.give(buffer);
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
    #[should_panic(expected = "handed out twice")]
    fn a_buffer_handed_out_twice_stops_the_ring() {
        let mut ledger = Ledger::new(2);
        ledger.give(0);
        ledger.take(0);
        ledger.take(0);
    }

    #[test]
    #[should_panic(expected = "returned twice")]
    fn a_buffer_returned_twice_stops_the_ring() {
        let mut ledger = Ledger::new(2);
        ledger.give(0);
        ledger.give(0);
    }
}
