//! Numbers that must not mix, each a type of its own. Ids are hashes of full names, so that both sides
//! of a connection, and every node, come to the same id without asking.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

number! {
    /// The number of a message in a partition, from 0.
    Offset(u64), "{}"
}
number! {
    /// A byte address in a segment.
    Position(u32), "{}"
}
number! {
    /// A partition: its hub's id in the high half, its number in that hub in the low half.
    PartitionId(u32), "{:08x}"
}
number! {
    /// An endpoint: xxh3-64 of `account/environment/endpoint`, unless its owner chose another.
    EndpointId(u64), "{:016x}"
}
number! {
    /// A channel: the low 32 bits of xxh3-64 of `account/environment/channel`, unless its owner chose another.
    ChannelId(u32), "{:08x}"
}
number! {
    /// A key of an endpoint.
    KeyId(u32), "{}"
}
number! {
    /// A node: given when it is defined, and never to another.
    NodeId(u32), "{}"
}
number! {
    /// The number of a frame in its stream, from 1, without gaps.
    Sequence(u64), "{}"
}
number! {
    /// Nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    UnixNanos(u64), "{}"
}

/// SHA-256 of a certificate in DER: which one somebody shows in a tunnel's handshake.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    zerocopy::FromBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
)]
#[repr(transparent)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// 64 hexadecimal digits, with or without colons between the bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The stream of relay numbers, where a frame names a partition.
pub const RELAY_STREAM: PartitionId = PartitionId(0xFFFF_FFFF);
/// The stream of an endpoint's queue, where a frame names a partition.
pub const QUEUE_STREAM: PartitionId = PartitionId(0xFFFF_FFFE);
/// Stands for the stream of a frame whose stream cannot be told: its channel is unknown, or it cannot be read.
pub const NO_STREAM: PartitionId = PartitionId(0xFFFF_FFFD);
/// The stream of what comes in QUIC datagrams, where a frame names a partition.
pub const DATAGRAM_STREAM: PartitionId = PartitionId(0xFFFF_FFFC);
/// The hub id that no hub may have: its partitions would be the reserved streams.
pub const HUB_ID_RESERVED: u16 = 0xFFFF;

impl EndpointId {
    /// The id of the endpoint with this full name.
    pub fn of(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()))
    }
}

impl ChannelId {
    /// The id of the channel with this full name.
    pub fn of(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()) as u32)
    }
}

impl PartitionId {
    /// Partition `number` of hub `hub`.
    pub const fn new(hub: u16, number: u16) -> Self {
        Self((hub as u32) << 16 | number as u32)
    }

    /// The hub's id.
    pub const fn hub(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The number in the hub, from 0.
    pub const fn number(self) -> u16 {
        self.0 as u16
    }
}

/// The id of the hub with this full name: the low 16 bits of xxh3-64.
pub fn hub_id_of(name: &str) -> u16 {
    xxh3_64(name.as_bytes()) as u16
}

impl Sequence {
    /// The number after this one.
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl Offset {
    /// The offset `count` messages further on.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl UnixNanos {
    /// From whole seconds, saturating in the year 2554.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Whole seconds, rounded down.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }
}

/// The logs of a node: random, and made with them. Sequence numbers, offsets and delivery numbers count within them; 0 where nothing is
/// kept from one start to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogsId(pub u64);

impl fmt::Display for LogsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A session: 16 random bytes of the server's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AckMode {
    /// In the mapped log: survives a crash of the process, may lose its tail on power loss.
    Local = 1,
    /// On disk: fdatasync has returned.
    Durable = 2,
}

impl AckMode {
    /// The mode with this number on the wire.
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Local),
            2 => Some(Self::Durable),
            _ => None,
        }
    }

    /// The word that configuration, metrics and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Durable => "durable",
        }
    }
}

impl fmt::Display for AckMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which way messages pass the boundary under a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From the outside party in: it sends.
    Ingress = 1,
    /// From its queue out: it receives.
    Egress = 2,
}

impl Direction {
    /// The direction with this number on the wire.
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Ingress),
            2 => Some(Self::Egress),
            _ => None,
        }
    }

    /// The word that configuration, metrics and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_hashes_that_the_protocol_states() {
        assert_eq!(
            EndpointId::of("acme/prod/pump-7"),
            EndpointId(xxh3_64(b"acme/prod/pump-7"))
        );
        let channel = ChannelId::of("acme/prod/telemetry");
        assert_eq!(
            u64::from(channel.0),
            xxh3_64(b"acme/prod/telemetry") & 0xFFFF_FFFF
        );
        assert_eq!(
            u64::from(hub_id_of("acme/prod/main")),
            xxh3_64(b"acme/prod/main") & 0xFFFF
        );
    }

    #[test]
    fn partition_ids_keep_hub_and_number_apart() {
        let id = PartitionId::new(0x0001, 0xF3A2);
        assert_eq!((id.hub(), id.number()), (0x0001, 0xF3A2));
        assert_eq!(id.to_string(), "0001f3a2");
        assert_eq!(RELAY_STREAM.hub(), HUB_ID_RESERVED);
        assert_eq!(QUEUE_STREAM.hub(), HUB_ID_RESERVED);
        assert_eq!(DATAGRAM_STREAM.hub(), HUB_ID_RESERVED);
    }

    #[test]
    fn only_listed_numbers_name_a_mode_or_direction() {
        for byte in 0..=255u8 {
            assert_eq!(
                AckMode::from_u8(byte).map(|mode| mode as u8),
                (1..=2).contains(&byte).then_some(byte)
            );
            assert_eq!(
                Direction::from_u8(byte).map(|way| way as u8),
                (1..=2).contains(&byte).then_some(byte)
            );
        }
    }
}
