//! The eight bytes each side sends first: who speaks, and which versions it knows.

use crate::frame::ParseError;
use crate::limits::VERSIONS;

/// The first four bytes of every connection, both ways.
pub const MAGIC: [u8; 4] = *b"FBAY";
/// Bytes of a preface.
pub const PREFACE_BYTES: usize = 8;

/// A preface.
///
/// | offset | bytes | field      | meaning                                                         |
/// |-------:|------:|------------|-----------------------------------------------------------------|
/// |      0 |     4 | `magic`    | `FBAY`                                                          |
/// |      4 |     1 | `chosen`   | client: 0; server: the highest version both know, 0 if none     |
/// |      5 |     1 | `min`      | lowest version the sender knows, at least 1                     |
/// |      6 |     1 | `max`      | highest version the sender knows, at least `min`                |
/// |      7 |     1 | `reserved` | zero; anything else is refused                                  |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preface {
    /// The version in force, as the server chose it; 0 from a client, or when there is none.
    pub chosen: u8,
    /// Lowest version known.
    pub min: u8,
    /// Highest version known.
    pub max: u8,
}

impl Preface {
    /// What a client of this version sends.
    pub const CLIENT: Self = Self {
        chosen: 0,
        min: VERSIONS.0,
        max: VERSIONS.1,
    };

    /// The server's answer to this preface of a client; `chosen` is 0 when no version is common.
    pub fn answer(&self) -> Self {
        let highest = self.max.min(VERSIONS.1);
        let chosen = if highest >= self.min.max(VERSIONS.0) {
            highest
        } else {
            0
        };
        Self {
            chosen,
            min: VERSIONS.0,
            max: VERSIONS.1,
        }
    }

    /// The eight bytes.
    pub fn encode(&self) -> [u8; PREFACE_BYTES] {
        let [a, b, c, d] = MAGIC;
        [a, b, c, d, self.chosen, self.min, self.max, 0]
    }

    /// Read a preface off the front of `bytes` and return what follows it; `None` asks for more bytes.
    ///
    /// # Errors
    /// As soon as a byte is wrong, even if the rest has not come: a stranger is not waited for.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, &[u8])>, ParseError> {
        let seen = bytes.len().min(MAGIC.len());
        if bytes[..seen] != MAGIC[..seen] {
            let mut magic = [0; 4];
            magic[..seen].copy_from_slice(&bytes[..seen]);
            return Err(ParseError::Magic(u32::from_le_bytes(magic)));
        }
        let Some((head, rest)) = bytes.split_first_chunk::<PREFACE_BYTES>() else {
            return Ok(None);
        };
        let preface = Self {
            chosen: head[4],
            min: head[5],
            max: head[6],
        };
        if head[7] != 0 {
            return Err(ParseError::Reserved {
                at: 7,
                value: u64::from(head[7]),
            });
        }
        if preface.min == 0 || preface.max < preface.min {
            return Err(ParseError::Versions {
                min: preface.min,
                max: preface.max,
            });
        }
        Ok(Some((preface, rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_chooses_the_highest_common_version() {
        for (why, min, max, chosen) in [
            ("exactly ours", 1, 1, 1),
            ("a newer client", 1, 9, 1),
            ("only newer", 2, 9, 0),
        ] {
            let answer = Preface {
                chosen: 0,
                min,
                max,
            }
            .answer();
            assert_eq!(
                answer,
                Preface {
                    chosen,
                    min: 1,
                    max: 1
                },
                "{why}"
            );
        }
    }

    #[test]
    fn prefaces_are_refused_at_the_first_wrong_byte() {
        for (why, bytes, want) in [
            ("nothing yet", &b""[..], Ok(None)),
            ("a start", b"FBAY\0\x01", Ok(None)),
            (
                "web traffic",
                b"GET",
                Err(ParseError::Magic(u32::from_le_bytes(*b"GET\0"))),
            ),
            (
                "reserved byte",
                b"FBAY\0\x01\x01\x02",
                Err(ParseError::Reserved { at: 7, value: 2 }),
            ),
            (
                "no lowest version",
                b"FBAY\0\0\x01\0",
                Err(ParseError::Versions { min: 0, max: 1 }),
            ),
            (
                "upside down",
                b"FBAY\0\x03\x02\0",
                Err(ParseError::Versions { min: 3, max: 2 }),
            ),
            (
                "whole, with a rest",
                b"FBAY\0\x01\x01\0xy",
                Ok(Some((Preface::CLIENT, &b"xy"[..]))),
            ),
        ] {
            assert_eq!(Preface::parse(bytes), want, "{why}");
        }
        assert_eq!(&Preface::CLIENT.encode(), b"FBAY\0\x01\x01\0");
    }
}
