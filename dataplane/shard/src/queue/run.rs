//! A run: consecutive messages of one partition that wait in one queue, and the order in which they wait.
//!
//! Knows offsets and queue numbers, never payloads, endpoints or time limits.

use wire::ids::{Offset, PartitionId, UnixNanos};

/// A run takes further messages for this long after its first one, so that ages stay this exact.
pub(crate) const RUN_AGE_NANOS: u64 = 1_000_000_000;

/// No queue gives a number beyond, so that counting on from any number a disk held cannot overflow.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// Consecutive messages of one partition under consecutive queue numbers; 40 bytes for any count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The partition that holds the payloads.
    pub partition: PartitionId,
    /// How many messages, never 0.
    pub count: u32,
    /// Offset of the first message in the partition.
    pub first: Offset,
    /// Queue number of the first message.
    pub number: u64,
    /// Bytes of all messages, headers included.
    pub bytes: u64,
    /// When the first of them came to the queue.
    pub time: UnixNanos,
}

impl Run {
    /// Whether this can be a run at all: what a disk held may be anything.
    pub(crate) fn fits(&self) -> bool {
        self.count > 0
            && self.number <= NUMBER_MAX
            && self.first.0 <= NUMBER_MAX
            && self.bytes <= u64::from(self.count) * wire::limits::FRAME_BYTES_MAX as u64
    }

    /// One past the last queue number.
    pub fn end(&self) -> u64 {
        self.number + u64::from(self.count)
    }

    /// One past the last offset.
    pub fn end_offset(&self) -> Offset {
        Offset(self.first.0 + u64::from(self.count))
    }

    /// The offset of the message with this queue number, which must lie in the run.
    pub fn offset_of(&self, number: u64) -> Offset {
        debug_assert!(
            number >= self.number && number < self.end(),
            "{number} not in {self:?}"
        );
        Offset(self.first.0 + (number - self.number))
    }

    /// Whether `next` goes on exactly where this run ends, soon enough to share its age.
    pub fn continued_by(&self, next: &Run) -> bool {
        self.partition == next.partition
            && self.end_offset() == next.first
            && self.end() == next.number
            && self.count.checked_add(next.count).is_some()
            && next.time.0.saturating_sub(self.time.0) <= RUN_AGE_NANOS
    }

    /// Append `next`, for which `continued_by` holds.
    pub fn extend(&mut self, next: &Run) {
        self.count += next.count;
        self.bytes += next.bytes;
    }

    /// Give up the first `count` messages; bytes go in proportion.
    pub fn cut_front(&mut self, count: u32) {
        assert!(count < self.count, "cut {count} of {}", self.count);
        self.bytes -= share(self.bytes, count, self.count);
        self.first.0 += u64::from(count);
        self.number += u64::from(count);
        self.count -= count;
    }

    /// Keep only the first `count` messages; bytes go in proportion.
    pub fn keep_front(&mut self, count: u32) {
        assert!(
            count > 0 && count <= self.count,
            "keep {count} of {}",
            self.count
        );
        self.bytes = share(self.bytes, count, self.count);
        self.count = count;
    }
}

/// The bytes that `part` of `whole` messages take on average, rounded down.
pub(crate) fn share(bytes: u64, part: u32, whole: u32) -> u64 {
    (u128::from(bytes) * u128::from(part) / u128::from(whole.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u32, number: u64) -> Run {
        Run {
            partition: PartitionId(1),
            count,
            first: Offset(first),
            number,
            bytes: u64::from(count) * 10,
            time: UnixNanos(5),
        }
    }

    #[test]
    fn only_the_next_offset_and_number_of_the_same_partition_continue_a_run() {
        let base = run(10, 5, 100);
        let other = Run {
            partition: PartitionId(2),
            ..run(15, 1, 105)
        };
        let late = Run {
            time: UnixNanos(5 + RUN_AGE_NANOS + 1),
            ..run(15, 1, 105)
        };
        for (why, next, want) in [
            ("exact", run(15, 1, 105), true),
            ("offset gap", run(16, 1, 105), false),
            ("number gap", run(15, 1, 106), false),
            ("other partition", other, false),
            ("too late to share the age", late, false),
            ("count would overflow", run(15, u32::MAX, 105), false),
        ] {
            assert_eq!(base.continued_by(&next), want, "{why}");
        }
    }

    #[test]
    fn a_run_of_a_disk_that_would_overflow_is_none() {
        for (why, run, want) in [
            ("the highest number", run(10, 5, NUMBER_MAX), true),
            ("a number beyond", run(10, 5, NUMBER_MAX + 1), false),
            ("an offset beyond", run(u64::MAX, 5, 100), false),
            ("no messages", run(10, 0, 100), false),
        ] {
            assert_eq!(run.fits(), want, "{why}");
        }
    }

    #[test]
    fn cutting_keeps_offsets_numbers_and_bytes_in_step() {
        let mut front = run(10, 5, 100);
        front.cut_front(2);
        assert_eq!(
            (front.first, front.number, front.count, front.bytes),
            (Offset(12), 102, 3, 30)
        );
        front.keep_front(1);
        assert_eq!(
            (front.end(), front.end_offset(), front.bytes),
            (103, Offset(13), 10)
        );
    }
}
