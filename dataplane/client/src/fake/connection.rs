//! What the fake says on one connection: signed answers and deliveries, their frame indexes counted.

use super::{CHANNEL, NONCE, PARTITION, Stored};
use wire::ack::{Ack, Reject};
use wire::delivery::{DeliverBuilder, GroupHeader, Source};
use wire::handshake::WelcomeFields;
use wire::ids::{
    AckMode, ChannelId, Direction, EndpointId, LogsId, Offset, PartitionId, Sequence, SessionId,
    UnixNanos,
};
use wire::reason::Notice;
use wire::signature::{SessionKeys, Signer};

/// One connection after its handshake.
pub(super) struct Connection {
    pub(super) endpoint: EndpointId,
    pub(super) keys: SessionKeys,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) out: Vec<u8>,
    pub(super) discard_from: Option<u64>,
    pub(super) credit: u64,
    pub(super) next_queue: u64,
    pub(super) receiver: bool,
}

impl Connection {
    /// Answer that everything up to `sequence` is in the log.
    pub(super) fn ack(&mut self, partition: PartitionId, sequence: u64, offset: u64) {
        let ack = Ack {
            partition,
            sequence: Sequence(sequence),
            ack_mode: AckMode::Durable,
            offset: Offset(offset),
            credit_frames: 64,
            credit_bytes: 4 << 20,
        };
        ack.encode(
            &mut self.out,
            Signer::Session {
                key: &self.keys.server,
                frame_index: self.sent,
            },
        );
        self.sent += 1;
    }

    /// Refuse one frame and discard those behind it.
    pub(super) fn reject(&mut self, partition: PartitionId, sequence: u64, notice: Notice) {
        let reject = Reject {
            partition,
            sequence: Sequence(sequence),
            notice,
        };
        reject.encode(
            &mut self.out,
            Signer::Session {
                key: &self.keys.server,
                frame_index: self.sent,
            },
        );
        self.sent += 1;
        self.discard_from = Some(sequence);
    }

    /// Deliver one frame as one group.
    pub(super) fn deliver(&mut self, stored: &Stored, number: u64) {
        let header = GroupHeader {
            number: Sequence(number),
            sender: stored.sender,
            offset: Offset(stored.offset),
            append_time: UnixNanos(u64::MAX / 2),
            partition: PARTITION,
            channel: ChannelId::of(CHANNEL),
            count: stored.count,
            attempt: 1,
        };
        let mut builder = DeliverBuilder::begin(&mut self.out, Source::Queue);
        assert!(
            builder.group(&header, &stored.bytes),
            "one frame fits another"
        );
        assert!(builder.finish(Signer::Session {
            key: &self.keys.server,
            frame_index: self.sent
        }));
        self.sent += 1;
        self.next_queue = number + u64::from(stored.count) - 1;
        self.credit = self.credit.saturating_sub(u64::from(stored.count));
    }
}

/// What WELCOME says.
pub(super) fn terms(
    session_id: SessionId,
    endpoint: EndpointId,
    direction: Direction,
    logs: LogsId,
) -> WelcomeFields {
    WelcomeFields {
        epoch: 1,
        session_id,
        server_nonce: NONCE,
        endpoint,
        unix_nanos: UnixNanos(0),
        frame_bytes_max: wire::limits::FRAME_BYTES_MAX as u32,
        body_bytes_max: wire::limits::BODY_BYTES_MAX as u32,
        messages_max: wire::limits::MESSAGES_MAX as u16,
        shards: 1,
        home_shard: 0,
        direction,
        credit_frames: 64,
        credit_bytes: 4 << 20,
        idle_timeout_ms: 30_000,
        linger_ms: 60_000,
        logs,
    }
}
