//! HMAC-SHA256 (RFC 2104, FIPS 198-1) straight over SHA-256's compression function. A key is kept as the
//! two states that hold after the pads, so that a short frame costs no key set-up: two compressions less.

use std::fmt;

use sha2::block_api::compress256;
use zeroize::Zeroize;

use super::padded::{Padded, outer_block};
use super::pair::equal;

/// Bytes of a tag.
pub const TAG_BYTES: usize = 32;

/// Bytes that SHA-256 takes at a time.
pub(super) const BLOCK_BYTES: usize = 64;
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A key for HMAC-SHA256: 64 bytes, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MacKey {
    pub(super) inner: [u32; 8],
    pub(super) outer: [u32; 8],
}
const _: () = assert!(size_of::<MacKey>() == 64);

impl MacKey {
    /// From a secret of any length; one longer than 64 bytes is hashed first, as RFC 2104 says.
    pub fn new(secret: &[u8]) -> Self {
        let mut block = [0u8; BLOCK_BYTES];
        if secret.len() > BLOCK_BYTES {
            block[..TAG_BYTES].copy_from_slice(&hash(INITIAL, 0, &[secret]));
        } else {
            block[..secret.len()].copy_from_slice(secret);
        }
        let mut pad = block.map(|byte| byte ^ 0x36);
        let (mut inner, mut outer) = (INITIAL, INITIAL);
        compress256(&mut inner, &[pad]);
        pad = block.map(|byte| byte ^ 0x5C);
        compress256(&mut outer, &[pad]);
        block.zeroize();
        pad.zeroize();
        Self { inner, outer }
    }

    /// A number that tells this key from any other, and from which nobody learns the key.
    pub fn mark(&self) -> u64 {
        u64::from(self.outer[0]) << 32 | u64::from(self.outer[1])
    }

    /// Something of both of its ends: whoever asks wants it in the cache.
    #[inline]
    pub(crate) fn ends(&self) -> u64 {
        u64::from(self.inner[0] ^ self.outer[7])
    }

    /// The tag over `parts`, one after the other. Copies at most one block per seam between parts.
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        self.finish(&hash(self.inner, BLOCK_BYTES, parts))
    }

    /// The tag over a message that has been padded already.
    pub(super) fn tag(&self, message: &Padded<'_>) -> [u8; TAG_BYTES] {
        let mut state = self.inner;
        for at in 0..message.blocks() {
            compress256(&mut state, &[message.block(at).bytes()]);
        }
        self.finish(&to_bytes(&state))
    }

    fn finish(&self, digest: &[u8; TAG_BYTES]) -> [u8; TAG_BYTES] {
        let mut state = self.outer;
        compress256(&mut state, &[outer_block(digest)]);
        to_bytes(&state)
    }

    /// Whether `tag` is the tag over `parts`, in a time that does not depend on where it is wrong.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        tag.try_into()
            .is_ok_and(|tag| equal(&self.sign(parts), tag))
    }
}

impl Drop for MacKey {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

/// SHA-256 of `parts`, continued from a state that has taken `before` bytes (whole blocks).
fn hash(mut state: [u32; 8], before: usize, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
    let mut block = [0u8; BLOCK_BYTES];
    let (mut filled, mut total) = (0, before);
    for part in parts {
        let mut part = *part;
        total += part.len();
        if filled > 0 {
            let taken = part.len().min(BLOCK_BYTES - filled);
            block[filled..filled + taken].copy_from_slice(&part[..taken]);
            filled += taken;
            part = &part[taken..];
            if filled < BLOCK_BYTES {
                continue;
            }
            compress256(&mut state, &[block]);
        }
        let (blocks, tail) = part.as_chunks::<BLOCK_BYTES>();
        compress256(&mut state, blocks);
        block[..tail.len()].copy_from_slice(tail);
        filled = tail.len();
    }
    finish(state, block, filled, total)
}

fn finish(
    mut state: [u32; 8],
    mut block: [u8; BLOCK_BYTES],
    filled: usize,
    total: usize,
) -> [u8; TAG_BYTES] {
    block[filled] = 0x80;
    block[filled + 1..].fill(0);
    if filled + 1 > 56 {
        compress256(&mut state, &[block]);
        block.fill(0);
    }
    block[56..].copy_from_slice(&(total as u64 * 8).to_be_bytes());
    compress256(&mut state, &[block]);
    to_bytes(&state)
}

fn to_bytes(state: &[u32; 8]) -> [u8; TAG_BYTES] {
    let mut bytes = [0; TAG_BYTES];
    for (four, word) in bytes.chunks_exact_mut(4).zip(state) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    fn oracle(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    #[test]
    fn tags_are_those_of_the_hmac_crate_for_any_key_and_any_parts() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..4_000 {
            let secret: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
            let parts: Vec<Vec<u8>> = (0..random.usize(0..5))
                .map(|_| (0..random.usize(0..300)).map(|_| random.u8(..)).collect())
                .collect();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            assert_eq!(MacKey::new(&secret).sign(&parts), oracle(&secret, &parts));
        }
    }

    #[test]
    fn every_length_around_the_block_boundaries_agrees() {
        let bytes = [0xA5u8; 400];
        let key = MacKey::new(b"key");
        for length in 0..bytes.len() {
            assert_eq!(
                key.sign(&[&[1; 8], &bytes[..length]]),
                oracle(b"key", &[&[1; 8], &bytes[..length]])
            );
            assert_eq!(
                key.sign(&[&bytes[..length]]),
                oracle(b"key", &[&bytes[..length]])
            );
            assert_eq!(
                MacKey::new(&bytes[..length]).sign(&[]),
                oracle(&bytes[..length], &[])
            );
        }
    }

    #[test]
    fn rfc_4231_vectors_hold() {
        for (why, secret, text, want) in [
            ("case 1", vec![0x0B; 20], &b"Hi There"[..], "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            ("case 2", b"Jefe".to_vec(), b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            ("case 3", vec![0xAA; 20], &[0xDD; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            ("case 4", (1..=25).collect(), &[0xCD; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
            ("case 6", vec![0xAA; 131], b"Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
            ("case 7", vec![0xAA; 131], b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.", "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
        ] {
            let tag = MacKey::new(&secret).sign(&[text]);
            let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, want, "{why}");
        }
    }

    #[test]
    fn a_tag_that_differs_in_one_bit_or_in_length_is_refused() {
        let key = MacKey::new(b"secret");
        let tag = key.sign(&[b"frame"]);
        assert!(key.verify(&[b"fra", b"me"], &tag));
        for bit in 0..256 {
            let mut wrong = tag;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verify(&[b"frame"], &wrong), "bit {bit}");
        }
        assert!(!key.verify(&[b"frame"], &tag[..31]));
        assert!(!key.verify(&[b"frame"], &[]));
        assert!(!MacKey::new(b"Secret").verify(&[b"frame"], &tag));
    }
}
