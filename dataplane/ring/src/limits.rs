//! Bounds of a ring, and the limits of the machine they must fit into.
//!
//! Everything is checked once, before the ring is made. Knows nothing of the ring's state.

use std::time::Duration;

use crate::error::RingError;

/// Oldest supported kernel, major and minor.
pub(crate) const KERNEL_MIN: (u32, u32) = (6, 1);
/// Listeners one ring can hold.
pub(crate) const LISTENERS_MAX: u32 = 64;
/// Descriptors left to the rest of the process.
const FILES_RESERVED: u64 = 64;

/// Bounds of one ring; checked together by `Ring::new`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingLimits {
    /// Entries of the submission queue, 8 to 32768; the completion queue has four times as many.
    pub entries: u32,
    /// Receive buffers, a power of two, 1 to 32768.
    pub buffers: u16,
    /// Bytes of each receive buffer, 64 to 1 MiB.
    pub buffer_bytes: u32,
    /// Connections open at once, 1 to 2^24. A connection accepted beyond is closed and counted.
    pub connections_max: u32,
    /// Bytes that may be queued for sending on one connection; beyond, the connection is ended.
    pub sends_bytes_max: usize,
    /// Finished send buffers kept for `take_buffer`.
    pub send_buffers_max: usize,
    /// A finished send buffer with more capacity than this is freed, not kept.
    pub send_buffer_bytes_max: usize,
    /// Completions handled in one `poll`.
    pub completions_max: usize,
    /// How long `close` may take to send what is queued and to hear the peer finish, until it turns
    /// into `abort`. Zero: do not wait for the peer to finish, and cut queued data short at once.
    pub close_timeout: Duration,
    /// Pause after accepting failed for want of descriptors or memory.
    pub accept_retry: Duration,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self {
            entries: 1024,
            buffers: 1024,
            buffer_bytes: 16 * 1024,
            connections_max: 16 * 1024,
            sends_bytes_max: 16 * 1024 * 1024,
            send_buffers_max: 1024,
            send_buffer_bytes_max: 1024 * 1024,
            completions_max: 1024,
            close_timeout: Duration::from_secs(5),
            accept_retry: Duration::from_millis(100),
        }
    }
}

impl RingLimits {
    /// Check every bound against its range.
    ///
    /// # Errors
    /// `RingError::Limit` with the first field out of range.
    pub fn check(&self) -> Result<(), RingError> {
        let buffers = u64::from(self.buffers);
        let rules = [
            (
                "entries",
                u64::from(self.entries),
                (8..=32768).contains(&self.entries),
                "8 to 32768",
            ),
            (
                "buffers",
                buffers,
                self.buffers.is_power_of_two() && buffers <= 32768,
                "a power of two, 1 to 32768",
            ),
            (
                "buffer_bytes",
                u64::from(self.buffer_bytes),
                (64..=1 << 20).contains(&self.buffer_bytes),
                "64 to 1048576",
            ),
            (
                "connections_max",
                u64::from(self.connections_max),
                (1..=1 << 24).contains(&self.connections_max),
                "1 to 16777216",
            ),
            (
                "sends_bytes_max",
                self.sends_bytes_max as u64,
                self.sends_bytes_max > 0,
                "1 or more",
            ),
            (
                "completions_max",
                self.completions_max as u64,
                self.completions_max > 0,
                "1 or more",
            ),
        ];
        match rules.into_iter().find(|(_, _, good, _)| !good) {
            Some((name, seen, _, needed)) => Err(RingError::Limit { name, seen, needed }),
            None => Ok(()),
        }
    }

    /// Descriptors the process needs for one ring with these limits.
    #[must_use]
    pub fn files_needed(&self) -> u64 {
        u64::from(self.connections_max) + FILES_RESERVED
    }

    /// Bytes one ring shares with the kernel, receive buffers included.
    #[must_use]
    pub fn shared_bytes(&self) -> u64 {
        let queues = u64::from(self.entries) * (64 + 4 + 4 * 16);
        queues + u64::from(self.buffers) * (16 + u64::from(self.buffer_bytes))
    }
}

/// Limits of the machine and of this process, as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Environment {
    /// Kernel version, major and minor.
    pub kernel: (u32, u32),
    /// `kernel.io_uring_disabled`; `None` when the kernel has no such setting.
    pub io_uring_disabled: Option<u32>,
    /// Soft limit `RLIMIT_MEMLOCK` in bytes; `None` for no limit.
    pub locked_memory: Option<u64>,
    /// Soft limit `RLIMIT_NOFILE`.
    pub open_files: u64,
    /// Hard limit `RLIMIT_NOFILE`.
    pub open_files_hard: u64,
}
