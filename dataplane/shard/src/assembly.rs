//! Buffers in which frames that straddle receive buffers are put together, under one budget of bytes. What a frame takes of
//! it grows with the bytes that have come, never with those that were announced. Knows no frame and no peer's reasons.

use std::collections::VecDeque;

use crate::io::ConnectionId;

/// A frame takes at least this much of the budget, or its whole length if that is less.
const STEP_BYTES: usize = 4 << 10;
/// Entries of frames that are gone, beyond as many as there are frames, before they are cleared away.
const STALE_MAX: usize = 64;

/// What has come of one frame. Empty when none is half there.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Assembly {
    /// Counts the frames of the pool; 0 for none. The one field that is looked at for every frame, hence the first.
    number: u64,
    buffer: Vec<u8>,
    reserved: usize,
}

impl Assembly {
    /// Whether a frame is half there.
    pub(crate) fn begun(&self) -> bool {
        self.number != 0
    }

    /// Whether it is this one.
    pub(crate) fn is(&self, number: u64) -> bool {
        self.number == number
    }

    /// What has come of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }
}

/// The budget, and buffers that are used again.
#[derive(Debug)]
pub(crate) struct AssemblyPool {
    free: Vec<Vec<u8>>,
    reserved: usize,
    bytes_max: usize,
    buffers_max: usize,
    /// Bytes that `free` has room for, and may have.
    kept: usize,
    kept_bytes_max: usize,
    /// Bytes of the buffers of frames that are whole and worked on in this turn.
    lent: usize,
    /// Frames begun since the start.
    begun: u64,
    /// Frames that are half there.
    count: usize,
    /// Frames in the order in which they were begun, some of them gone.
    order: VecDeque<(ConnectionId, u64)>,
}

impl AssemblyPool {
    pub(crate) fn new(bytes_max: usize, buffers_max: usize, kept_bytes_max: usize) -> Self {
        Self {
            free: Vec::new(),
            reserved: 0,
            bytes_max,
            buffers_max,
            kept: 0,
            kept_bytes_max,
            lent: 0,
            begun: 0,
            count: 0,
            order: VecDeque::new(),
        }
    }

    /// Bytes of the budget in use.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Bytes of all buffers: of frames that are half there, of those worked on, and those kept for the next ones.
    pub(crate) fn bytes(&self) -> usize {
        self.reserved + self.lent + self.kept
    }

    /// From now on there is room for so many bytes of frames, and for so many of buffers that are kept.
    pub(crate) fn bound(&mut self, bytes_max: usize, kept_bytes_max: usize) {
        (self.bytes_max, self.kept_bytes_max) = (bytes_max, kept_bytes_max);
        while self.kept > kept_bytes_max
            && let Some(buffer) = self.free.pop()
        {
            self.kept -= buffer.capacity();
        }
    }

    /// Begin a frame.
    pub(crate) fn begin(&mut self, id: ConnectionId, assembly: &mut Assembly) {
        assert!(
            !assembly.begun(),
            "{id} begins a frame within frame {}",
            assembly.number
        );
        self.begun += 1;
        self.count += 1;
        assembly.number = self.begun;
        // The one used last: the nearest in the caches.
        assembly.buffer = self.free.pop().unwrap_or_default();
        self.kept -= assembly.buffer.capacity();
        self.order.push_back((id, self.begun));
    }

    /// Add to a frame of `need` bytes, or refuse for want of room.
    pub(crate) fn extend(&mut self, assembly: &mut Assembly, bytes: &[u8], need: usize) -> bool {
        let have = assembly.buffer.len() + bytes.len();
        debug_assert!(have <= need, "{have} bytes of {need}");
        if have > assembly.reserved {
            let wanted = need.min(have.next_power_of_two().max(STEP_BYTES));
            let more = wanted - assembly.reserved;
            if self.reserved + more > self.bytes_max {
                return false;
            }
            self.reserved += more;
            assembly.reserved = wanted;
            assembly
                .buffer
                .reserve_exact(wanted - assembly.buffer.len());
        }
        assembly.buffer.extend_from_slice(bytes);
        true
    }

    /// The frame is whole: here are its bytes. The buffer comes back with `put`.
    pub(crate) fn finish(&mut self, assembly: &mut Assembly) -> Vec<u8> {
        if assembly.begun() {
            self.count -= 1;
        }
        self.reserved -= assembly.reserved;
        if self
            .order
            .front()
            .is_some_and(|(_, first)| assembly.is(*first))
        {
            self.order.pop_front();
        }
        let buffer = std::mem::take(assembly).buffer;
        self.lent += buffer.capacity();
        buffer
    }

    /// The frame will not be whole.
    pub(crate) fn give_up(&mut self, assembly: &mut Assembly) {
        let buffer = self.finish(assembly);
        self.put(buffer);
    }

    /// The connection, another one than `but`, whose frame was begun first; `holds` tells who still has a frame.
    pub(crate) fn oldest(
        &mut self,
        but: ConnectionId,
        holds: impl Fn(ConnectionId, u64) -> bool,
    ) -> Option<ConnectionId> {
        self.order.retain(|(id, number)| holds(*id, *number));
        let found = self.order.iter().find(|(id, _)| *id != but);
        found.map(|(id, _)| *id)
    }

    /// Whether so many entries are of frames that are gone that `clear_away` is due.
    pub(crate) fn stale(&self) -> bool {
        self.order.len() > 2 * self.count + STALE_MAX
    }

    /// Forget frames that are gone.
    pub(crate) fn clear_away(&mut self, holds: impl Fn(ConnectionId, u64) -> bool) {
        self.order.retain(|(id, number)| holds(*id, *number));
    }

    /// Keep a buffer for the next frame, if those that are kept do not have room for too many bytes then.
    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        self.lent = self.lent.saturating_sub(buffer.capacity());
        let kept = self.kept + buffer.capacity();
        if buffer.capacity() > 0
            && kept <= self.kept_bytes_max
            && self.free.len() < self.buffers_max
        {
            buffer.clear();
            self.kept = kept;
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_takes_room_for_what_has_come_not_for_what_was_announced() {
        let mut pool = AssemblyPool::new(100 << 10, 1, 64 << 10);
        let mut frame = Assembly::default();
        pool.begin(ConnectionId(1), &mut frame);
        for (why, bytes, reserved) in [
            ("the least", 1, 4 << 10),
            ("still the least", 4_095, 4 << 10),
            ("one more", 1, 8 << 10),
            ("doubled", 60_000, 64 << 10),
            ("never more than its length", 35_903, 100_000),
        ] {
            assert!(pool.extend(&mut frame, &vec![7; bytes], 100_000), "{why}");
            assert_eq!(pool.reserved(), reserved, "{why}");
        }
        assert_eq!(pool.finish(&mut frame).len(), 100_000);
        assert_eq!((pool.reserved(), frame.begun()), (0, false));
    }

    #[test]
    fn a_full_pool_names_the_frame_that_was_begun_first_of_all_others() {
        let mut pool = AssemblyPool::new(12 << 10, 1, 64 << 10);
        let mut frames: Vec<Assembly> = (0..3).map(|_| Assembly::default()).collect();
        for (at, frame) in frames.iter_mut().enumerate() {
            pool.begin(ConnectionId(at as u64), frame);
            assert!(pool.extend(frame, b"start", 512 << 10), "{at}");
        }
        assert!(!pool.extend(&mut frames[0], &[0; 4_096], 512 << 10));
        for (but, want) in [(0, 1), (1, 0), (9, 0)] {
            let oldest = pool.oldest(ConnectionId(but), |id, number| frames[id.slot()].is(number));
            assert_eq!(oldest, Some(ConnectionId(want)), "but {but}");
        }
        pool.give_up(&mut frames[1]);
        assert!(pool.extend(&mut frames[0], &[0; 4_000], 512 << 10));
    }

    #[test]
    fn frames_that_are_gone_are_cleared_away() {
        let mut pool = AssemblyPool::new(1 << 20, 1, 64 << 10);
        let (mut first, mut other) = (Assembly::default(), Assembly::default());
        pool.begin(ConnectionId(0), &mut first);
        for _ in 0..1_000 {
            pool.begin(ConnectionId(1), &mut other);
            pool.give_up(&mut other);
            if pool.stale() {
                pool.clear_away(|id, number| id == ConnectionId(0) && first.is(number));
            }
            assert!(pool.order.len() <= 2 * pool.count + STALE_MAX);
        }
    }

    #[test]
    fn buffers_of_any_length_are_used_again_up_to_a_number_and_a_sum_of_bytes() {
        let mut pool = AssemblyPool::new(1 << 20, 2, 300 << 10);
        let mut frame = Assembly::default();
        let mut place = std::ptr::null();
        for round in 0..3 {
            pool.begin(ConnectionId(0), &mut frame);
            for bytes in [64 << 10, 52 << 10] {
                assert!(pool.extend(&mut frame, &vec![7; bytes], 116 << 10));
            }
            let buffer = pool.finish(&mut frame);
            assert!(round == 0 || buffer.as_ptr() == place, "round {round}");
            place = buffer.as_ptr();
            pool.put(buffer);
            assert_eq!((pool.free.len(), pool.kept), (1, 116 << 10));
        }
        pool.put(Vec::with_capacity(185 << 10));
        assert_eq!(pool.free.len(), 1, "too many bytes");
        pool.put(Vec::with_capacity(32));
        pool.put(Vec::with_capacity(32));
        assert_eq!(pool.free.len(), 2, "too many buffers");
    }
}
