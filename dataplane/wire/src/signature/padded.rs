//! A signed message as SHA-256 takes it: a short prefix, the bytes themselves, the padding of FIPS 180-4. Blocks that
//! lie whole in the message are borrowed; at most three are put together here, on the stack.

use super::mac::{BLOCK_BYTES, TAG_BYTES};
use super::pair::Prefix;

/// What an inner hash of HMAC takes after its key's pad. What stands in the first block is not put together in memory: a block
/// that is loaded right after it was stored in pieces waits for its stores.
pub(super) struct Padded<'a> {
    /// The first 16 bytes: the prefix, and the beginning of the message behind it.
    start: [u64; 2],
    /// The other bytes of the first block. Unused, as is `start`, when all fits into the tail.
    begin: &'a [u8; BEGIN_BYTES],
    middle: &'a [[u8; BLOCK_BYTES]],
    /// What is left, and the padding, which may need a block of its own.
    tail: [[u8; BLOCK_BYTES]; 2],
    tail_from: usize,
    blocks: usize,
}

/// Bytes of the first block that are always a message's.
pub(super) const BEGIN_BYTES: usize = BLOCK_BYTES - START_BYTES;
const START_BYTES: usize = 16;

/// One block of a padded message.
pub(super) enum Block<'b> {
    /// The first 16 bytes as two little-endian words, and the others.
    First([u64; 2], &'b [u8; BEGIN_BYTES]),
    Whole(&'b [u8; BLOCK_BYTES]),
}

impl<'a> Padded<'a> {
    /// How many blocks a message of so many bytes behind a prefix of `prefix_bytes` takes.
    #[inline]
    pub(super) const fn count(prefix_bytes: usize, message_bytes: usize) -> usize {
        (prefix_bytes + message_bytes + 1 + size_of::<u64>()).div_ceil(BLOCK_BYTES)
    }

    /// To be filled where it stands: what is returned by value is copied.
    #[inline]
    pub(super) const fn empty() -> Self {
        Self {
            start: [0; 2],
            begin: &[0; BEGIN_BYTES],
            middle: &[],
            tail: [[0; BLOCK_BYTES]; 2],
            tail_from: 0,
            blocks: 0,
        }
    }

    /// Take in a prefix and then the message. To be called once.
    #[inline]
    pub(super) fn fill(&mut self, prefix: Prefix, message: &'a [u8]) {
        debug_assert!(prefix.bytes == 8 || prefix.bytes == START_BYTES);
        debug_assert!(self.blocks == 0, "filled before");
        self.blocks = Self::count(prefix.bytes, message.len());
        self.start = prefix.words;
        let tail = self.tail.as_flattened_mut();
        let (start, behind) = message
            .split_at_checked(START_BYTES - prefix.bytes)
            .unwrap_or((message, &[]));
        let filled = match behind.split_first_chunk() {
            Some((begin, rest)) => {
                if let Some(start) = start.first_chunk() {
                    self.start[1] = u64::from_le_bytes(*start);
                }
                self.begin = begin;
                let (middle, rest) = rest.as_chunks();
                self.middle = middle;
                self.tail_from = 1 + middle.len();
                put_short(tail, rest);
                rest.len()
            }
            None => {
                let [first, second] = prefix.words.map(u64::to_le_bytes);
                tail[..8].copy_from_slice(&first);
                tail[8..START_BYTES].copy_from_slice(&second);
                put_short(&mut tail[prefix.bytes..], message);
                prefix.bytes + message.len()
            }
        };
        tail[filled] = 0x80;
        let bits = ((BLOCK_BYTES + prefix.bytes + message.len()) as u64) * 8;
        let end = (self.blocks - self.tail_from) * BLOCK_BYTES;
        tail[end - size_of::<u64>()..end].copy_from_slice(&bits.to_be_bytes());
    }

    /// Compressions of the inner hash.
    #[inline]
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// One of them.
    #[inline]
    pub(super) fn block(&self, at: usize) -> Block<'_> {
        if at >= self.tail_from {
            Block::Whole(&self.tail[at - self.tail_from])
        } else if at == 0 {
            Block::First(self.start, self.begin)
        } else {
            Block::Whole(&self.middle[at - 1])
        }
    }
}

impl Block<'_> {
    /// Its bytes.
    pub(super) fn bytes(&self) -> [u8; BLOCK_BYTES] {
        match self {
            Self::Whole(bytes) => **bytes,
            Self::First([first, second], begin) => {
                let mut bytes = [0; BLOCK_BYTES];
                bytes[..8].copy_from_slice(&first.to_le_bytes());
                bytes[8..START_BYTES].copy_from_slice(&second.to_le_bytes());
                bytes[START_BYTES..].copy_from_slice(*begin);
                bytes
            }
        }
    }
}

/// Copy less than a block to the start of `to`: by two pieces of a known length that may overlap, without a call.
#[inline(always)]
fn put_short(to: &mut [u8], from: &[u8]) {
    macro_rules! two {
        ($bytes:literal) => {
            if let (Some(first), Some(last)) =
                (from.first_chunk::<$bytes>(), from.last_chunk::<$bytes>())
            {
                to[..$bytes].copy_from_slice(first);
                to[from.len() - $bytes..from.len()].copy_from_slice(last);
                return;
            }
        };
    }
    two!(32);
    two!(16);
    two!(8);
    two!(4);
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
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
