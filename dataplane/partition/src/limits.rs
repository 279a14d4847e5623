//! What bounds one log.

use std::time::Duration;

use crate::record::{RECORD_HEADER_BYTES, record_bytes};
use crate::segment::SEGMENT_HEADER_BYTES;

/// Bounds of one log, fixed while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionLimits {
    /// Capacity of new segments. A multiple of 64 KiB; grows by itself for a log whose senders' snapshot
    /// would fill more than a quarter of it.
    pub segment_bytes: u32,
    /// Longest payload of one record.
    pub record_bytes_max: u32,
    /// Segments beyond this many bytes in total expire, oldest first. `None`: no such bound.
    pub retention_bytes: Option<u64>,
    /// Segments whose newest record is older than this expire. `None`: no such bound.
    pub retention_age: Option<Duration>,
}

impl Default for PartitionLimits {
    /// 64 MiB segments, payloads of one whole frame, no retention bounds.
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            record_bytes_max: wire::limits::FRAME_BYTES_MAX as u32,
            retention_bytes: None,
            retention_age: None,
        }
    }
}

impl PartitionLimits {
    /// Whether the limits fit together: a segment holds at least two of the longest records.
    pub fn fit(&self) -> bool {
        let longest = record_bytes(self.record_bytes_max as usize);
        let least = SEGMENT_HEADER_BYTES + 2 * longest + 4 * RECORD_HEADER_BYTES;
        self.segment_bytes.is_multiple_of(8)
            && self.segment_bytes as usize >= least
            && self.segment_bytes <= 1 << 30
    }
}
