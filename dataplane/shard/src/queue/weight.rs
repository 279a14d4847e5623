//! What the queues of a group take of memory. It is not kept with every change, but looked up now and then, some queues at a time:
//! a queue's part of the sum is as old as the last look at it.

use partition::Segment;

use super::backlog::Backlog;
use super::endpoint::EndpointQueue;
use super::group::QueueGroup;
use super::op::Source;
use super::run::Run;

/// Bytes of each queue when it was last looked at, and of all together.
#[derive(Debug, Default)]
pub(super) struct Weights {
    of: Vec<u32>,
    total: u64,
    next: usize,
}

impl Weights {
    fn note(&mut self, slot: usize, bytes: u32) {
        if slot >= self.of.len() {
            self.of.resize(slot + 1, 0);
        }
        let before = std::mem::replace(&mut self.of[slot], bytes);
        self.total = self.total + u64::from(bytes) - u64::from(before);
    }
}

/// A queue that holds nothing, with its place in the tables.
const QUEUE_BYTES: usize = size_of::<EndpointQueue>() + 32;

fn list_bytes(list: &Backlog) -> usize {
    list.runs().len() * size_of::<Run>() + list.settled().len() * size_of::<(u64, u64)>()
}

fn queue_bytes(queue: &EndpointQueue) -> u32 {
    let dead = queue.list(Source::DeadLetters);
    let dead = dead.map_or(0, |dead| size_of::<Backlog>() + list_bytes(dead));
    let bytes = QUEUE_BYTES + list_bytes(&queue.live) + dead;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl<S: Segment> QueueGroup<S> {
    /// Bytes that the queues take, and what waits for the journal. So many queues are looked at anew; the others count as when they
    /// were looked at last.
    pub fn memory_bytes(&mut self, looks: usize) -> u64 {
        for _ in 0..looks.min(self.queues.len()) {
            let slot = self.weights.next % self.queues.len();
            self.weights.next = slot + 1;
            let bytes = queue_bytes(self.queues.at(slot as u32));
            self.weights.note(slot, bytes);
        }
        self.weights.total + self.journal.waiting_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_of_the_last_look_at_each() {
        let mut weights = Weights::default();
        for (slot, bytes, want) in [(2, 100, 100), (0, 7, 107), (2, 30, 37), (1, 0, 37)] {
            weights.note(slot, bytes);
            assert_eq!(weights.total, want, "slot {slot}");
        }
    }
}
