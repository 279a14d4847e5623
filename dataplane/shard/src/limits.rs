//! Every bound of a shard in one place, checked together once. After start only `Limits` travels.

use std::time::Duration;

use crate::bans::BanLimits;
use crate::budget::Memory;
use crate::connection::CONNECTION_BYTES;
use crate::hashed::HashSeed;
use crate::session::SESSION_BYTES;
use crate::strangers::REMEMBERED_BYTES;
use wire::ids::LogsId;
use wire::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, MESSAGES_MAX};

/// The bounds of a shard. `Limits::default` suits a node with a few thousand connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Shards of the node, told in WELCOME.
    pub shards: u16,
    /// The number of this shard, from 0.
    pub shard: u16,
    /// Connections open at once. More are closed at once, unanswered.
    pub connections_max: u32,
    /// Connections whose peer has not proven who they are. One more, and the one that has been so for longest is closed.
    pub strangers_max: u32,
    /// Connections of one address, or of one network of 64 bits of IPv6; this machine's own has no bound. More are closed at
    /// once, with the reason.
    pub connections_per_address_max: u32,
    /// Connections that may come in a second, and at once after a pause. More are closed at once, with the reason.
    pub accepts_per_second: u32,
    /// Who is kept out for connecting or failing too often.
    pub bans: BanLimits,
    /// Whether this machine's own addresses have no bounds and no bans: a proxy on it speaks for many.
    pub loopback_exempt: bool,
    /// PINGs of a connection that are answered in a second, and at once after a pause. More end it.
    pub pings_per_second: u32,
    /// Sessions, connected or lingering. When lingering ones fill the table the oldest makes room.
    pub sessions_max: u32,
    /// Bytes of frames that straddle receive buffers, summed over all connections.
    pub assembly_bytes_max: usize,
    /// Assembly buffers kept for reuse.
    pub assembly_buffers_max: usize,
    /// Bytes that the assembly buffers kept for reuse may have room for, all together.
    pub assembly_kept_bytes_max: usize,
    /// Frames a session may have unacknowledged.
    pub credit_frames: u32,
    /// Bytes of frames a session may have unacknowledged.
    pub credit_bytes: u32,
    /// Relay numbers answered out of order behind one that waits for its commit.
    pub relay_window_max: usize,
    /// Bad signatures on a connection before it is closed.
    pub bad_signatures_max: u32,
    /// Deliveries a consumer may have asked for and not been given.
    pub fetch_messages_max: u64,
    /// Bytes of deliveries a consumer may have asked for and not been given.
    pub fetch_bytes_max: u64,
    /// Bytes put to one connection and not yet sent, above which nothing more is delivered to it.
    pub unsent_bytes_high: usize,
    /// Bytes put to one connection and not yet sent, at which it is closed as a slow receiver.
    pub unsent_bytes_max: usize,
    /// Bytes of memory that everything the shard holds may take, receive buffers and what waits for commits included. As it
    /// fills, work is shed: see [`Pressure`](crate::Pressure).
    pub memory_bytes: u64,
    /// Of these, what the caller's receive buffers take.
    pub receive_bytes: usize,
    /// Bytes put to all connections and not yet sent, above which a connection is delivered to only when it has nothing
    /// unsent, and then little at a time.
    pub unsent_bytes_total: usize,
    /// How long unsent bytes may stand without any of them leaving.
    pub slow_receiver_after: Duration,
    /// Bytes of deliveries written in a turn, over all connections.
    pub deliver_bytes_per_turn: usize,
    /// Records read back from the logs in a turn for queues that are behind.
    pub fanout_records_per_turn: usize,
    /// Segments retired in a turn.
    pub retire_per_turn: usize,
    /// Time from accept to a HELLO that was answered.
    pub handshake_timeout: Duration,
    /// Time without a byte from the peer.
    pub idle_timeout: Duration,
    /// How long a session outlives its connection.
    pub linger: Duration,
    /// The wait asked of a peer that is told to come back later.
    pub retry_after: Duration,
    /// How often retention is looked at.
    pub expiry_interval: Duration,
    /// Nonces of answered HELLOs that are remembered, so that none opens a second session.
    pub nonces_max: usize,
    /// How far a peer's clock in HELLO may be from ours.
    pub clock_skew_max: Duration,
    /// No limit: what this node is called in route tables, if anything. Endpoints that are at home elsewhere get no session.
    pub node: Option<Box<str>>,
    /// No limit: which logs these are, told in WELCOME: to clients, numbers of other logs mean nothing here.
    pub logs: LogsId,
    /// No limit: what keeps those who pick ids from slowing others. Random, and one for all of a process.
    pub hash_seed: HashSeed,
}

impl Default for Limits {
    fn default() -> Self {
        let mut limits = Self {
            memory_bytes: 0,
            receive_bytes: 16 << 20,
            shards: 1,
            shard: 0,
            connections_max: 16_384,
            strangers_max: 4_096,
            connections_per_address_max: 4_096,
            accepts_per_second: 20_000,
            bans: BanLimits::default(),
            loopback_exempt: true,
            pings_per_second: 1_000,
            sessions_max: 32_768,
            assembly_bytes_max: 64 << 20,
            assembly_buffers_max: 1_024,
            assembly_kept_bytes_max: 16 << 20,
            credit_frames: 1_024,
            credit_bytes: 4 << 20,
            relay_window_max: 65_536,
            bad_signatures_max: 16,
            fetch_messages_max: 1 << 20,
            fetch_bytes_max: 64 << 20,
            unsent_bytes_high: 1 << 20,
            unsent_bytes_max: 8 << 20,
            unsent_bytes_total: 64 << 20,
            slow_receiver_after: Duration::from_secs(30),
            deliver_bytes_per_turn: 1 << 20,
            fanout_records_per_turn: 4_096,
            retire_per_turn: 4,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            linger: Duration::from_secs(120),
            retry_after: Duration::from_millis(50),
            expiry_interval: Duration::from_secs(1),
            nonces_max: 131_072,
            clock_skew_max: Duration::from_secs(300),
            node: None,
            logs: LogsId::default(),
            hash_seed: HashSeed::default(),
        };
        limits.memory_bytes = limits.memory_parts().total();
        limits
    }
}

/// Sessions that may have all of their credit unacknowledged at once, and bytes of queues, as far as the budget goes that suits
/// the other bounds: neither has one of its own.
const UNACKED_SESSIONS: u64 = 64;
const QUEUES_BYTES: u64 = 128 << 20;
/// For each other shard: envelopes under way to it, and connections that move.
const MESH_BYTES: u64 = 16 << 20;
/// Of the budget at least, besides twice the receive buffers: a turn must fit between high water and all of it, and what is always
/// there must lie well below low water.
const MEMORY_LEAST: u64 = 16 * FRAME_BYTES_MAX as u64;

/// A limit that cannot work, alone or with another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {seen}, need {needed}")]
pub struct LimitsError {
    /// The field of `Limits`.
    pub name: &'static str,
    /// Its value.
    pub seen: u64,
    /// What it has to be.
    pub needed: String,
}

impl Limits {
    /// Check all limits, each alone and against the others.
    ///
    /// # Errors
    /// The first limit that cannot work.
    pub fn check(&self) -> Result<(), LimitsError> {
        let frame = FRAME_BYTES_MAX as u64;
        let millis_max = u64::from(u32::MAX);
        let least: [(&'static str, u64, u64); 28] = [
            ("shards", self.shards.into(), u64::from(self.shard) + 1),
            ("connections_max", self.connections_max.into(), 1),
            ("strangers_max", self.strangers_max.into(), 1),
            (
                "connections_per_address_max",
                self.connections_per_address_max.into(),
                1,
            ),
            ("accepts_per_second", self.accepts_per_second.into(), 1),
            (
                "bans.address_connections_max",
                self.bans.address_connections_max.into(),
                1,
            ),
            (
                "bans.address_failures_max",
                self.bans.address_failures_max.into(),
                1,
            ),
            (
                "bans.key_sessions_max",
                self.bans.key_sessions_max.into(),
                1,
            ),
            ("bans.remembered_max", self.bans.remembered_max as u64, 1),
            ("pings_per_second", self.pings_per_second.into(), 1),
            ("sessions_max", self.sessions_max.into(), 1),
            ("nonces_max", self.nonces_max as u64, 1),
            ("assembly_bytes_max", self.assembly_bytes_max as u64, frame),
            (
                "memory_bytes",
                self.memory_bytes,
                MEMORY_LEAST + 2 * self.receive_bytes as u64,
            ),
            ("credit_frames", self.credit_frames.into(), 1),
            ("credit_bytes", self.credit_bytes.into(), frame),
            (
                "relay_window_max",
                self.relay_window_max as u64,
                self.credit_frames.into(),
            ),
            ("bad_signatures_max", self.bad_signatures_max.into(), 1),
            (
                "fetch_messages_max",
                self.fetch_messages_max,
                MESSAGES_MAX as u64,
            ),
            ("fetch_bytes_max", self.fetch_bytes_max, frame),
            ("unsent_bytes_high", self.unsent_bytes_high as u64, 1),
            (
                "unsent_bytes_max",
                self.unsent_bytes_max as u64,
                self.unsent_bytes_high as u64 + 2 * frame,
            ),
            (
                "unsent_bytes_total",
                self.unsent_bytes_total as u64,
                self.unsent_bytes_high as u64,
            ),
            (
                "deliver_bytes_per_turn",
                self.deliver_bytes_per_turn as u64,
                BODY_BYTES_MAX as u64,
            ),
            (
                "fanout_records_per_turn",
                self.fanout_records_per_turn as u64,
                1,
            ),
            ("retire_per_turn", self.retire_per_turn as u64, 1),
            ("retry_after", millis(self.retry_after), 1),
            ("expiry_interval", millis(self.expiry_interval), 1),
        ];
        for (name, seen, needed) in least {
            if seen < needed {
                return Err(LimitsError {
                    name,
                    seen,
                    needed: format!("at least {needed}"),
                });
            }
        }
        for (name, seen) in [
            ("handshake_timeout", millis(self.handshake_timeout)),
            ("idle_timeout", millis(self.idle_timeout)),
            ("linger", millis(self.linger)),
            ("slow_receiver_after", millis(self.slow_receiver_after)),
            ("bans.window", millis(self.bans.window)),
            ("bans.first", millis(self.bans.first)),
            ("bans.longest", millis(self.bans.longest)),
        ] {
            if seen == 0 || seen > millis_max {
                return Err(LimitsError {
                    name,
                    seen,
                    needed: format!("1 to {millis_max} ms"),
                });
            }
        }
        Ok(())
    }

    /// What the bounds allow, kind by kind. All of it together is the budget unless another one is set: then work is shed only when
    /// most kinds are near their bounds at once.
    #[must_use]
    pub fn memory_parts(&self) -> Memory {
        Memory {
            receive: self.receive_bytes as u64,
            assembly: (self.assembly_bytes_max + self.assembly_kept_bytes_max) as u64,
            unacked: UNACKED_SESSIONS * u64::from(self.credit_bytes),
            queues: QUEUES_BYTES,
            unsent: 2 * self.unsent_bytes_total as u64,
            mesh: MESH_BYTES * u64::from(self.shards.saturating_sub(1)),
            connections: u64::from(self.connections_max) * CONNECTION_BYTES as u64
                + (2 * self.bans.remembered_max * REMEMBERED_BYTES) as u64,
            sessions: 2 * u64::from(self.sessions_max) * SESSION_BYTES as u64,
        }
    }

    /// The wait asked of a peer that is to come back, in milliseconds.
    pub(crate) fn retry_after_ms(&self) -> u32 {
        u32::try_from(self.retry_after.as_millis())
            .unwrap_or(u32::MAX)
            .max(1)
    }
}

/// Whole milliseconds, at most `u64::MAX`.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn limits_that_cannot_work_are_named() {
        let good = Limits::default;
        for (name, limits) in [
            ("shards", Limits { shard: 1, ..good() }),
            (
                "connections_max",
                Limits {
                    connections_max: 0,
                    ..good()
                },
            ),
            (
                "assembly_bytes_max",
                Limits {
                    assembly_bytes_max: FRAME_BYTES_MAX - 1,
                    ..good()
                },
            ),
            (
                "credit_bytes",
                Limits {
                    credit_bytes: FRAME_BYTES_MAX as u32 - 1,
                    ..good()
                },
            ),
            (
                "relay_window_max",
                Limits {
                    relay_window_max: 1_023,
                    ..good()
                },
            ),
            (
                "unsent_bytes_max",
                Limits {
                    unsent_bytes_max: 1 << 20,
                    ..good()
                },
            ),
            (
                "unsent_bytes_total",
                Limits {
                    unsent_bytes_total: (1 << 20) - 1,
                    ..good()
                },
            ),
            (
                "memory_bytes",
                Limits {
                    memory_bytes: 40 << 20,
                    receive_bytes: (16 << 20) + 1,
                    ..good()
                },
            ),
            (
                "linger",
                Limits {
                    linger: Duration::ZERO,
                    ..good()
                },
            ),
            (
                "idle_timeout",
                Limits {
                    idle_timeout: Duration::from_secs(5_000_000),
                    ..good()
                },
            ),
        ] {
            assert_eq!(limits.check().expect_err(name).name, name);
        }
    }
}
