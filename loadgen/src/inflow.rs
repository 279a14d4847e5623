//! Frames out of received bytes: in place when they came whole, assembled when they straddle buffers.

use wire::frame::{Frame, ParseError, split};

/// The unfinished frame of one connection.
#[derive(Debug, Default)]
pub struct Inflow {
    carry: Vec<u8>,
}

impl Inflow {
    /// Hand every whole frame to `take`, which returns false to stop for good.
    ///
    /// # Errors
    /// Bytes that cannot be a frame.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(Frame<'_>) -> bool,
    ) -> Result<(), ParseError> {
        if !self.carry.is_empty() {
            self.carry.extend_from_slice(bytes);
            let mut rest = &self.carry[..];
            while let Some((frame, after)) = split(rest)? {
                rest = after;
                if !take(frame) {
                    return Ok(());
                }
            }
            let done = self.carry.len() - rest.len();
            self.carry.drain(..done);
            return Ok(());
        }
        while let Some((frame, after)) = split(bytes)? {
            bytes = after;
            if !take(frame) {
                return Ok(());
            }
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }
}
