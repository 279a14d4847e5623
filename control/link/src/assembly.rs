//! Snapshots and deltas put together out of the frames that they come in. Pure.

use crate::diagnosis::LINK_MALFORMED;
use crate::frame::{Frame, Payload, Version};
use crate::pipe::Ended;

/// Bytes that a table which comes may take before they have come.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// A snapshot or delta that came whole.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) payload: Payload,
    pub(crate) becomes: Version,
    pub(crate) bytes: Vec<u8>,
}

/// A snapshot or delta under way.
#[derive(Default)]
pub(crate) struct Assembly {
    begun: Option<(Payload, Version, u64)>,
    bytes: Vec<u8>,
}

impl Assembly {
    /// Take a frame; the table that is whole with it.
    pub(crate) fn take(&mut self, frame: Frame) -> Result<Option<Incoming>, Ended> {
        match (frame, self.begun) {
            (
                Frame::Begin {
                    payload,
                    becomes,
                    bytes,
                },
                None,
            ) => {
                self.begun = Some((payload, becomes, bytes));
                let reserved = usize::try_from(bytes).unwrap_or(RESERVED_BYTES_MAX);
                self.bytes = Vec::with_capacity(reserved.min(RESERVED_BYTES_MAX));
                Ok(None)
            }
            (Frame::Chunk(chunk), Some((payload, becomes, bytes))) => {
                let have = (self.bytes.len() + chunk.len()) as u64;
                if have > bytes {
                    let text = format!("{have} bytes of a table of {bytes}");
                    return Err(Ended::new(LINK_MALFORMED, text));
                }
                self.bytes.extend_from_slice(&chunk);
                if have < bytes {
                    return Ok(None);
                }
                self.begun = None;
                Ok(Some(Incoming {
                    payload,
                    becomes,
                    bytes: std::mem::take(&mut self.bytes),
                }))
            }
            (frame, _) => Err(Ended::out_of_place(&frame)),
        }
    }
}
