//! Receive buffers.
/// A received buffer, lent to the owner until `Ring::release`.
#[derive(Debug)]
#[must_use = "release the lease, or the buffer stays away from the kernel until the next poll"]
pub struct Lease {
    pub(crate) buffer: u16,
    pub(crate) bytes: u32,
}
impl Lease {
    /// Bytes received, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.bytes as usize
    }
}
