//! The encoding of a table: a header, then sections of rows and texts right behind one another. Everything is little-endian and
//! may lie at any address.
//!
//! | section      | what is in it                                                                              |
//! |--------------|--------------------------------------------------------------------------------------------|
//! | head         | queue groups, hubs, channels, accounts, nodes (`head.rs`); empty in a change of none of them |
//! | restrictions | each different one once (`arena.rs`)                                                        |
//! | terms        | each different transports, hours, end and home of endpoints once                            |
//! | queues       | each different bounds once                                                                  |
//! | rates        | each different rates once                                                                   |
//! | endpoints    | rows by rising name, each with its place in the sections below                              |
//! | keys         | rows, those of an endpoint together; whether a public key is one shows when it is used       |
//! | certificates | fingerprints, likewise                                                                      |
//! | grants       | rows, those to send and then those to receive of an endpoint together, by rising channel    |
//! | gone         | ids of endpoints that a change takes away, rising                                           |
//! | names        | texts without anything between them                                                         |
//!
//! The order is fixed and nothing is left open, so the same table is the same bytes in every process.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// How every encoding begins.
pub(super) const MAGIC: [u8; 8] = *b"FBROUTES";
/// The form of the sections.
pub(super) const VERSION: u16 = 2;
/// Bytes in front of what the checksum covers.
pub(super) const UNCHECKED_BYTES: usize = 16;

/// What is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A whole table.
    Table = 1,
    /// A change of one.
    Delta = 2,
}

/// The first bytes.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: [u8; 8],
    /// XXH3 of everything behind it.
    pub(super) checksum: U64,
    pub(super) version: U16,
    pub(super) kind: u8,
    pub(super) unused: [u8; 5],
    pub(super) epoch: U64,
    pub(super) digest: [u8; 32],
    /// Of a change: the table it is made for.
    pub(super) base_epoch: U64,
    pub(super) base_digest: [u8; 32],
    pub(super) counts: Counts,
}

/// How long the sections are: of the head, restrictions, terms and names in bytes, else in rows.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Counts {
    pub(super) head_bytes: U32,
    pub(super) restriction_bytes: U32,
    pub(super) terms_bytes: U32,
    pub(super) queues: U32,
    pub(super) rates: U32,
    pub(super) endpoints: U32,
    pub(super) keys: U32,
    pub(super) certificates: U32,
    pub(super) grants: U32,
    pub(super) gone: U32,
    pub(super) name_bytes: U32,
}

/// An endpoint.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct EndpointRow {
    pub(super) id: U64,
    pub(super) name_at: U32,
    pub(super) keys_at: U32,
    pub(super) certificates_at: U32,
    pub(super) grants_at: U32,
    pub(super) terms: U32,
    pub(super) queue: U32,
    pub(super) rates: U32,
    pub(super) keys: U16,
    pub(super) certificates: U16,
    pub(super) send: U16,
    pub(super) receive: U16,
    pub(super) name_bytes: u8,
    /// [`ENABLED`] and [`RELAY`].
    pub(super) flags: u8,
}

/// It may do something at all.
pub(super) const ENABLED: u8 = 1;
/// It may relay frames of others.
pub(super) const RELAY: u8 = 2;

/// A key.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct KeyRow {
    pub(super) id: U32,
    pub(super) name_at: U32,
    pub(super) expires: U64,
    /// The 32 bytes that the text of a secret stands for, or a public key.
    pub(super) material: [u8; 32],
    pub(super) name_bytes: u8,
    pub(super) direction: u8,
    /// [`SYMMETRIC`] or [`ED25519`].
    pub(super) kind: u8,
    /// [`REVOKED`] and [`EXPIRES`].
    pub(super) flags: u8,
}

/// A secret that both sides know.
pub(super) const SYMMETRIC: u8 = 1;
/// A public key.
pub(super) const ED25519: u8 = 2;
/// It was withdrawn.
pub(super) const REVOKED: u8 = 1;
/// It has an end.
pub(super) const EXPIRES: u8 = 2;

/// A permission, and which restriction is on it.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct GrantRow {
    pub(super) channel: U32,
    pub(super) restriction: U32,
}

/// The bounds of a queue.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub(super) struct QueueRow {
    pub(super) messages_max: [u8; 8],
    pub(super) bytes_max: [u8; 8],
    pub(super) age_seconds: [u8; 8],
    pub(super) age_nanos: [u8; 4],
    pub(super) lock_seconds: [u8; 8],
    pub(super) lock_nanos: [u8; 4],
    pub(super) deliveries_max: [u8; 2],
    /// [`DROPS_OLDEST`] and [`AGES`].
    pub(super) flags: u8,
}

/// The oldest make room.
pub(super) const DROPS_OLDEST: u8 = 1;
/// Messages become too old.
pub(super) const AGES: u8 = 2;

/// Rates.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub(super) struct RatesRow {
    pub(super) messages: [u8; 4],
    pub(super) bytes: [u8; 8],
    /// [`OF_MESSAGES`] and [`OF_BYTES`].
    pub(super) flags: u8,
}

/// Messages are counted.
pub(super) const OF_MESSAGES: u8 = 1;
/// Bytes are counted.
pub(super) const OF_BYTES: u8 = 2;
