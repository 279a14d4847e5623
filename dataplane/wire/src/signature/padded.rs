//! A signed message as SHA-256 takes it: a short prefix, the bytes themselves, the padding of FIPS 180-4. Blocks that
//! lie whole in the message are borrowed; at most three are put together here, on the stack.

use super::mac::{BLOCK_BYTES, TAG_BYTES};

/// What an inner hash of HMAC takes after its key's pad.
pub(super) struct Padded<'a> {
    /// The prefix and the beginning of the message; unused when both fit into the tail.
    head: [u8; BLOCK_BYTES],
    middle: &'a [[u8; BLOCK_BYTES]],
    /// What is left, and the padding, which may need a block of its own.
    tail: [[u8; BLOCK_BYTES]; 2],
    tail_from: usize,
    blocks: usize,
}

impl<'a> Padded<'a> {
    /// How many blocks a message of so many bytes behind a prefix of `prefix_bytes` takes.
    #[inline]
    pub(super) const fn count(prefix_bytes: usize, message_bytes: usize) -> usize {
        (prefix_bytes + message_bytes + 1 + size_of::<u64>()).div_ceil(BLOCK_BYTES)
    }

    /// A prefix shorter than a block, then the message.
    #[inline]
    pub(super) fn new<const PREFIX_BYTES: usize>(
        prefix: &[u8; PREFIX_BYTES],
        message: &'a [u8],
    ) -> Self {
        const { assert!(PREFIX_BYTES < BLOCK_BYTES) };
        let blocks = Self::count(PREFIX_BYTES, message.len());
        let mut padded = Self {
            head: [0; BLOCK_BYTES],
            middle: &[],
            tail: [[0; BLOCK_BYTES]; 2],
            tail_from: 0,
            blocks,
        };
        let tail = padded.tail.as_flattened_mut();
        let filled = match message.split_at_checked(BLOCK_BYTES - PREFIX_BYTES) {
            Some((begin, rest)) => {
                padded.head[..PREFIX_BYTES].copy_from_slice(prefix);
                padded.head[PREFIX_BYTES..].copy_from_slice(begin);
                let (middle, rest) = rest.as_chunks();
                padded.middle = middle;
                padded.tail_from = 1 + middle.len();
                tail[..rest.len()].copy_from_slice(rest);
                rest.len()
            }
            None => {
                tail[..PREFIX_BYTES].copy_from_slice(prefix);
                tail[PREFIX_BYTES..][..message.len()].copy_from_slice(message);
                PREFIX_BYTES + message.len()
            }
        };
        tail[filled] = 0x80;
        let bits = ((BLOCK_BYTES + PREFIX_BYTES + message.len()) as u64) * 8;
        let end = (blocks - padded.tail_from) * BLOCK_BYTES;
        tail[end - size_of::<u64>()..end].copy_from_slice(&bits.to_be_bytes());
        padded
    }

    /// Compressions of the inner hash.
    #[inline]
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// One of them.
    #[inline]
    pub(super) fn block(&self, at: usize) -> &[u8; BLOCK_BYTES] {
        if at >= self.tail_from {
            &self.tail[at - self.tail_from]
        } else if at == 0 {
            &self.head
        } else {
            &self.middle[at - 1]
        }
    }
}

/// The one block of an outer hash: the inner digest, and padding.
pub(super) fn outer_block(digest: &[u8; TAG_BYTES]) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block[..TAG_BYTES].copy_from_slice(digest);
    block[TAG_BYTES] = 0x80;
    block[56..].copy_from_slice(&(((BLOCK_BYTES + TAG_BYTES) * 8) as u64).to_be_bytes());
    block
}
