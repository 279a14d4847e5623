//! The evidence inside each message: which run, which sender, which number, and a checksum of the body.
//!
//! | offset | bytes | field        | meaning                                                |
//! |-------:|------:|--------------|--------------------------------------------------------|
//! |      0 |     8 | `run`        | random, one per run                                    |
//! |      8 |     4 | `sender`     | index of the sender in the plan                        |
//! |     12 |     4 | `body_bytes` | length of the body the checksum covers                 |
//! |     16 |     8 | `number`     | message number of this sender, from 0                  |
//! |     24 |     8 | `checksum`   | xxh3 of the covered body, seeded with all other fields |
//!
//! A synthetic body of at least 32 bytes carries the stamp as its first bytes, so that the configured message size is
//! the true one. Real payloads (lines, `host`) stay untouched: there the stamp is the value of the header `load`.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of a stamp.
pub const STAMP_BYTES: usize = 32;

/// Name of the header that carries a stamp when the body does not.
pub const STAMP_HEADER: &str = "load";

/// What identifies one message of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The run.
    pub run: u64,
    /// Index of the sender in the plan.
    pub sender: u32,
    /// Number of the message at its sender, from 0.
    pub number: u64,
}

impl Stamp {
    /// The bytes of the stamp for a message with this timestamp; `covered` is the body, or what follows the stamp in it.
    pub fn bytes(&self, timestamp: u64, covered: &[u8]) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&self.run.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.sender.to_le_bytes());
        let covered_bytes = u32::try_from(covered.len()).expect("a body is at most 256 KiB");
        bytes[12..16].copy_from_slice(&covered_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..].copy_from_slice(&self.checksum(timestamp, covered).to_le_bytes());
        bytes
    }

    /// Read a stamp back; `None` when `bytes` is too short to hold one.
    ///
    /// The second value tells whether checksum and length agree with the timestamp and the covered body.
    pub fn read(bytes: &[u8], timestamp: u64, covered: &[u8]) -> Option<(Self, bool)> {
        let bytes: &[u8; STAMP_BYTES] = bytes.get(..STAMP_BYTES)?.try_into().ok()?;
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let stamp = Self {
            run: u64_at(0),
            sender: u32_at(8),
            number: u64_at(16),
        };
        let intact = u32_at(12) as usize == covered.len()
            && u64_at(24) == stamp.checksum(timestamp, covered);
        Some((stamp, intact))
    }

    fn checksum(&self, timestamp: u64, covered: &[u8]) -> u64 {
        let seed = self.run
            ^ self.number.rotate_left(20)
            ^ u64::from(self.sender).rotate_left(44)
            ^ timestamp.rotate_left(7);
        xxh3_64_with_seed(covered, seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_and_any_change_is_seen() {
        let stamp = Stamp {
            run: 7,
            sender: 3,
            number: 41,
        };
        let body = b"21.5 degrees";
        let bytes = stamp.bytes(1_000, body);
        assert_eq!(Stamp::read(&bytes, 1_000, body), Some((stamp, true)));
        assert_eq!(
            Stamp::read(&bytes, 1_001, body),
            Some((stamp, false)),
            "other timestamp"
        );
        assert_eq!(
            Stamp::read(&bytes, 1_000, b"21.6 degrees"),
            Some((stamp, false)),
            "other body"
        );
        assert_eq!(
            Stamp::read(&bytes, 1_000, b"21.5 degree"),
            Some((stamp, false)),
            "shorter body"
        );
        assert_eq!(
            Stamp::read(&bytes[..31], 1_000, body),
            None,
            "one byte short"
        );
        for byte in 0..STAMP_BYTES {
            let mut changed = bytes;
            changed[byte] ^= 1;
            let (_, intact) = Stamp::read(&changed, 1_000, body).expect("long enough");
            assert!(!intact, "byte {byte} of the stamp changed");
        }
    }
}
