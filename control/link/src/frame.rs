//! Frames of the link, version 4, whose tables are of form 2. All integers are little-endian.
//!
//! Every frame is a header and a body:
//!
//! | offset | bytes | field        | meaning                                                  |
//! |-------:|------:|--------------|----------------------------------------------------------|
//! |      0 |     4 | `body_bytes` | length of the body, at most [`BODY_BYTES_MAX`]            |
//! |      4 |     1 | `kind`       | see below                                                |
//! |      5 |     3 | `reserved`   | zero; anything else is refused                           |
//!
//! A *version* is 56 bytes: the lineage (16), the epoch (8) and the digest of what the table says (32). Epochs count within a lineage alone:
//! a store that was restored begins another one. Bodies:
//!
//! | kind | name    | from    | body                                                                                      |
//! |-----:|---------|---------|-------------------------------------------------------------------------------------------|
//! |    1 | HELLO   | node    | its version 2, shards 2, has-a-table 1, zero 3, version 56, the node's name                     |
//! |    2 | WELCOME | control | heartbeat in milliseconds 4                                                               |
//! |    3 | BEGIN   | control | 1 snapshot or 2 delta 1, zero 7, base version 56 (zero for a snapshot), becomes 56, bytes 8 |
//! |    4 | CHUNK   | control | the next bytes of what was begun, at least one                                            |
//! |    5 | PING    | control | the newest version 56, what the node asked last 8, 0 if nothing                             |
//! |    6 | APPLIED | node    | what PING is to repeat 8, version in force 56, epoch kept on disk 8, code of a refusal 2, hubs not open 2, code of why 2, shards 2, epoch of each 8 |
//! |    7 | RESYNC  | node    | code 2                                                                                    |
//! |    8 | REFUSED | control | code 2, what was wrong as UTF-8                                                           |

use crate::reader::Reader;

/// The version of this protocol.
pub const PROTOCOL: u16 = 4;
/// Bytes of a header.
pub const HEADER_BYTES: usize = 8;
/// Bytes of the longest body.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// Bytes of the longest snapshot or delta.
pub const PAYLOAD_BYTES_MAX: u64 = 1 << 30;
/// Bytes of the longest name of a node: it is a label of DNS.
pub const NAME_BYTES_MAX: usize = wire::route::NODE_NAME_BYTES_MAX;
/// Shards of one node.
pub const SHARDS_MAX: usize = 1_024;
/// Bytes of the text of a refusal.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// Heartbeats of silence after which a connection is given up.
pub const SILENT_HEARTBEATS: u32 = 5;
/// Bounds of a heartbeat, in milliseconds.
pub const HEARTBEAT_MS: std::ops::RangeInclusive<u32> = 10..=60_000;

/// Names a past: what one store counts its epochs in. By chance, so that no two are alike.
pub type Lineage = [u8; 16];

/// Which table: of which past, its epoch there, and the digest of what it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Version {
    /// The past that the epoch is of.
    pub lineage: Lineage,
    /// Rises with every change.
    pub epoch: u64,
    /// The same for the same table, whatever its epoch.
    pub digest: [u8; 32],
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/", self.epoch)?;
        for byte in &self.digest[..4] {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "@")?;
        self.lineage[..2]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Version {
    /// Whether whoever has this has what `other` says, or something later of the same past.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.lineage == other.lineage
            && (self.epoch > other.epoch
                || self.epoch == other.epoch && self.digest == other.digest)
    }
}

/// Hubs of the table in force that a node does not serve, since it cannot open their logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unopened {
    /// How many; 0 if it serves all.
    pub hubs: u16,
    /// Code of why the first one of them is not; 0 without one.
    pub code: u16,
}

/// What is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A whole table.
    Snapshot,
    /// What changes this table into the next.
    Delta(Version),
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A node says who it is.
    Hello {
        /// The protocol it speaks.
        protocol: u16,
        /// Its name.
        name: String,
        /// Its shards; 0 while it has no table and so does not serve.
        shards: u16,
        /// The table it has.
        has: Option<Version>,
    },
    /// It is known.
    Welcome {
        /// How often each side is heard.
        heartbeat_ms: u32,
    },
    /// A snapshot or a delta follows in chunks.
    Begin {
        /// Which of them.
        payload: Payload,
        /// What the node has then.
        becomes: Version,
        /// Bytes of all chunks together.
        bytes: u64,
    },
    /// The next bytes.
    Chunk(Vec<u8>),
    /// What is newest.
    Ping {
        /// Its version.
        newest: Version,
        /// What the node asked last; it tells it since when this may have been the newest.
        answers: u64,
    },
    /// How far a node is.
    Applied {
        /// What the next PING is to repeat; not 0.
        asks: u64,
        /// The version it works towards or has; zeros while it has none.
        has: Version,
        /// The epoch that would survive a crash.
        kept: u64,
        /// Why it does not take the newest one; 0 if it does.
        refused: u16,
        /// Hubs of it that it does not serve.
        unopened: Unopened,
        /// The epoch of each shard.
        shards: Vec<u64>,
    },
    /// A delta did not fit, or a digest: send everything.
    Resync {
        /// Why.
        code: u16,
    },
    /// A node is not let in.
    Refused {
        /// Why.
        code: u16,
        /// The same, for people.
        text: String,
    },
}

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

fn malformed(what: impl Into<String>) -> Malformed {
    Malformed(what.into())
}

impl Frame {
    const fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Welcome { .. } => 2,
            Self::Begin { .. } => 3,
            Self::Chunk(_) => 4,
            Self::Ping { .. } => 5,
            Self::Applied { .. } => 6,
            Self::Resync { .. } => 7,
            Self::Refused { .. } => 8,
        }
    }

    /// Add the frame to `out`. Its parts must be within their bounds.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out[start + 4] = self.kind();
        self.write_body(out);
        let body_bytes = out.len() - start - HEADER_BYTES;
        assert!(body_bytes <= BODY_BYTES_MAX, "{body_bytes} bytes of a body");
        out[start..start + 4].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello {
                protocol,
                name,
                shards,
                has,
            } => {
                out.extend_from_slice(&protocol.to_le_bytes());
                out.extend_from_slice(&shards.to_le_bytes());
                out.extend_from_slice(&[u8::from(has.is_some()), 0, 0, 0]);
                write_version(&has.unwrap_or_default(), out);
                out.extend_from_slice(name.as_bytes());
            }
            Self::Welcome { heartbeat_ms } => out.extend_from_slice(&heartbeat_ms.to_le_bytes()),
            Self::Begin {
                payload,
                becomes,
                bytes,
            } => {
                let (kind, base) = match payload {
                    Payload::Snapshot => (1, Version::default()),
                    Payload::Delta(base) => (2, *base),
                };
                out.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
                write_version(&base, out);
                write_version(becomes, out);
                out.extend_from_slice(&bytes.to_le_bytes());
            }
            Self::Chunk(bytes) => out.extend_from_slice(bytes),
            Self::Ping { newest, answers } => {
                write_version(newest, out);
                out.extend_from_slice(&answers.to_le_bytes());
            }
            Self::Applied {
                asks,
                has,
                kept,
                refused,
                unopened,
                shards,
            } => {
                out.extend_from_slice(&asks.to_le_bytes());
                write_version(has, out);
                out.extend_from_slice(&kept.to_le_bytes());
                for number in [refused, &unopened.hubs, &unopened.code] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                out.extend_from_slice(&(shards.len() as u16).to_le_bytes());
                for epoch in shards {
                    out.extend_from_slice(&epoch.to_le_bytes());
                }
            }
            Self::Resync { code } => out.extend_from_slice(&code.to_le_bytes()),
            Self::Refused { code, text } => {
                out.extend_from_slice(&code.to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// The first frame of `bytes`, and how many bytes it takes; none while it is not whole.
    ///
    /// # Errors
    /// When it can never become one. A length that is too great is found before its bytes have come.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, kind, reserved @ ..] = *header;
        let body_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        if body_bytes > BODY_BYTES_MAX {
            return Err(malformed(format!("a body of {body_bytes} bytes")));
        }
        if reserved != [0; 3] || !(1..=8).contains(&kind) {
            return Err(malformed(format!("kind {kind}, reserved {reserved:?}")));
        }
        let Some(body) = rest.get(..body_bytes) else {
            return Ok(None);
        };
        let frame = read_body(kind, body)?;
        Ok(Some((frame, HEADER_BYTES + body_bytes)))
    }
}

fn read_body(kind: u8, body: &[u8]) -> Result<Frame, Malformed> {
    let mut reader = Reader::new(body);
    let short = || malformed(format!("kind {kind} with {} bytes", body.len()));
    let frame = read_fields(kind, &mut reader).ok_or_else(short)?;
    match reader.is_empty() {
        true => checked(frame),
        false => Err(short()),
    }
}

fn read_fields(kind: u8, reader: &mut Reader<'_>) -> Option<Frame> {
    Some(match kind {
        1 => {
            let (protocol, shards) = (reader.u16()?, reader.u16()?);
            let there = match reader.array::<4>()? {
                [0, 0, 0, 0] => false,
                [1, 0, 0, 0] => true,
                _ => return None,
            };
            let has = read_version(reader)?;
            let name = text(reader.rest(), NAME_BYTES_MAX)?;
            Frame::Hello {
                protocol,
                name,
                shards,
                has: there.then_some(has),
            }
        }
        2 => Frame::Welcome {
            heartbeat_ms: reader.u32()?,
        },
        3 => {
            let kind = reader.array::<8>()?;
            let (base, becomes) = (read_version(reader)?, read_version(reader)?);
            let payload = match kind {
                [1, 0, 0, 0, 0, 0, 0, 0] if base == Version::default() => Payload::Snapshot,
                [2, 0, 0, 0, 0, 0, 0, 0] => Payload::Delta(base),
                _ => return None,
            };
            Frame::Begin {
                payload,
                becomes,
                bytes: reader.u64()?,
            }
        }
        4 => Frame::Chunk(reader.rest().to_vec()),
        5 => Frame::Ping {
            newest: read_version(reader)?,
            answers: reader.u64()?,
        },
        6 => {
            let asks = reader.u64()?;
            let (has, kept) = (read_version(reader)?, reader.u64()?);
            let refused = reader.u16()?;
            let unopened = Unopened {
                hubs: reader.u16()?,
                code: reader.u16()?,
            };
            let count = reader.u16()?;
            let shards: Option<_> = (0..count).map(|_| reader.u64()).collect();
            Frame::Applied {
                asks,
                has,
                kept,
                refused,
                unopened,
                shards: shards?,
            }
        }
        7 => Frame::Resync {
            code: reader.u16()?,
        },
        _ => Frame::Refused {
            code: reader.u16()?,
            text: text(reader.rest(), TEXT_BYTES_MAX)?,
        },
    })
}

/// What the lengths do not say.
fn checked(frame: Frame) -> Result<Frame, Malformed> {
    match &frame {
        Frame::Chunk(bytes) if bytes.is_empty() => Err(malformed("an empty chunk")),
        Frame::Begin { bytes, .. } if !(1..=PAYLOAD_BYTES_MAX).contains(bytes) => {
            Err(malformed(format!("a table of {bytes} bytes")))
        }
        Frame::Hello { shards, .. } if usize::from(*shards) > SHARDS_MAX => {
            Err(malformed(format!("{shards} shards")))
        }
        Frame::Applied { shards, .. } if shards.len() > SHARDS_MAX => {
            Err(malformed(format!("{} shards", shards.len())))
        }
        Frame::Hello { name, .. } if !is_name(name) => Err(malformed(format!("name {name:?}"))),
        Frame::Welcome { heartbeat_ms } if !HEARTBEAT_MS.contains(heartbeat_ms) => {
            Err(malformed(format!("a heartbeat of {heartbeat_ms} ms")))
        }
        _ => Ok(frame),
    }
}

/// Whether a node may be called so: small letters, digits and '-', not at its ends, and not digits alone.
#[must_use]
pub fn is_name(name: &str) -> bool {
    wire::route::Node::is_name(name)
}

fn text(bytes: &[u8], most: usize) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (text.len() <= most).then(|| text.to_owned())
}

pub(crate) fn write_version(version: &Version, out: &mut Vec<u8>) {
    out.extend_from_slice(&version.lineage);
    out.extend_from_slice(&version.epoch.to_le_bytes());
    out.extend_from_slice(&version.digest);
}

pub(crate) fn read_version(reader: &mut Reader<'_>) -> Option<Version> {
    Some(Version {
        lineage: reader.array()?,
        epoch: reader.u64()?,
        digest: reader.array()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(epoch: u64) -> Version {
        Version {
            lineage: [7; 16],
            epoch,
            digest: [epoch as u8; 32],
        }
    }

    fn every_kind() -> Vec<Frame> {
        vec![
            Frame::Hello {
                protocol: PROTOCOL,
                name: "north-1".into(),
                shards: 3,
                has: Some(version(7)),
            },
            Frame::Hello {
                protocol: PROTOCOL,
                name: "n".into(),
                shards: 0,
                has: None,
            },
            Frame::Welcome {
                heartbeat_ms: 1_000,
            },
            Frame::Begin {
                payload: Payload::Snapshot,
                becomes: version(8),
                bytes: PAYLOAD_BYTES_MAX,
            },
            Frame::Begin {
                payload: Payload::Delta(version(8)),
                becomes: version(9),
                bytes: 1,
            },
            Frame::Chunk(vec![5; 300]),
            Frame::Ping {
                newest: version(9),
                answers: 12,
            },
            Frame::Applied {
                asks: 13,
                has: version(9),
                kept: 8,
                refused: 4_710,
                unopened: Unopened {
                    hubs: 2,
                    code: 3_114,
                },
                shards: vec![9, 8, 9],
            },
            Frame::Resync { code: 4_710 },
            Frame::Refused {
                code: 4_705,
                text: "no such node".into(),
            },
        ]
    }

    #[test]
    fn every_frame_is_read_as_it_was_written_and_not_before_it_is_whole() {
        for frame in every_kind() {
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            for cut in 0..bytes.len() {
                assert_eq!(
                    Frame::read(&bytes[..cut]),
                    Ok(None),
                    "{frame:?} cut at {cut}"
                );
            }
            let whole = bytes.len();
            bytes.extend_from_slice(b"next");
            assert_eq!(Frame::read(&bytes), Ok(Some((frame, whole))));
        }
    }

    #[test]
    fn the_layout_is_as_drawn() {
        let mut bytes = Vec::new();
        let newest = Version {
            lineage: [0xCD; 16],
            epoch: 0x0102,
            digest: [0xAB; 32],
        };
        let answers = 3;
        Frame::Ping { newest, answers }.write(&mut bytes);
        assert_eq!(bytes[..8], [64, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(bytes[8..24], [0xCD; 16]);
        assert_eq!(bytes[24..32], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[32..64], [0xAB; 32]);
        assert_eq!(bytes[64..], [3, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let body = |kind: u8, body: &[u8]| {
            let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
            bytes.extend_from_slice(&[kind, 0, 0, 0]);
            bytes.extend_from_slice(body);
            bytes
        };
        let mut begin = vec![2, 0, 0, 0, 0, 0, 0, 0];
        begin.extend_from_slice(&[0; 112]);
        let begun = |bytes: u64| [&begin[..], &bytes.to_le_bytes()].concat();
        let hello = |name: &str, there: u8| {
            let head = [1, 0, 1, 0, there, 0, 0, 0];
            [&head[..], &[0; 56], name.as_bytes()].concat()
        };
        assert!(Frame::read(&body(1, &hello("n", 0))).is_ok());
        for (why, bytes) in [
            ("a long body", vec![0, 0, 0, 1, 4, 0, 0, 0]),
            ("reserved", vec![2, 0, 0, 0, 7, 0, 0, 1, 0, 0]),
            ("kind 0", body(0, &[])),
            ("kind 9", body(9, &[])),
            ("an empty chunk", body(4, &[])),
            ("a short PING", body(5, &[0; 63])),
            ("a long PING", body(5, &[0; 65])),
            ("nothing begun", body(3, &begun(0))),
            ("too much begun", body(3, &begun(PAYLOAD_BYTES_MAX + 1))),
            ("a flag of HELLO", body(1, &hello("n", 2))),
            ("no name", body(1, &hello("", 0))),
            ("capitals", body(1, &hello("North", 0))),
            ("an address", body(1, &hello("10", 0))),
            ("a long name", body(1, &hello(&"n".repeat(64), 0))),
            ("no UTF-8", body(8, &[0, 0, 0xFF])),
            ("a heartbeat of 0", body(2, &[0; 4])),
            (
                "shards left out",
                body(6, &[&[0; 74][..], &[2, 0], &[0; 8]].concat()),
            ),
            (
                "too many shards",
                body(6, &[&[0; 74][..], &[1, 4], &[0; 8 * 1025]].concat()),
            ),
        ] {
            assert!(Frame::read(&bytes).is_err(), "{why}");
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let seeds = std::env::var("FOREBAY_LINK_SEEDS");
        let seeds = seeds.map_or(2_000, |text| text.parse().expect("a number"));
        let mut read = 0;
        for seed in 0..seeds {
            let mut random = fastrand::Rng::with_seed(seed);
            let frames = every_kind();
            let mut bytes = Vec::new();
            frames[random.usize(..frames.len())].write(&mut bytes);
            for _ in 0..random.usize(..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            read += u64::from(matches!(Frame::read(&bytes), Ok(Some(_))));
        }
        println!(
            "{seeds} seeds, {read} still frames; replay with FOREBAY_LINK_SEEDS=<seed + 1> cargo test -p forebay-link --lib frame"
        );
    }
}
