//! The table of attackers: what each does on its connection, within which limit it must be closed, and under which reason
//! the node counts it.

use crate::attacker::{Attacker, Closed, Target};
use crate::node::{DRAIN, HANDSHAKE, IDLE, SLOW_RECEIVER};
use crate::world::{GOOD, TRASH};
use std::time::Duration;
use wire::delivery::{Fetch, Source};
use wire::ids::{ChannelId, Direction, EndpointId, Sequence, UnixNanos};
use wire::limits::FRAME_BYTES_MAX;
use wire::link::encode_ping;
use wire::reason::Reason;
use wire::send::SendBuilder;
use wire::signature::Signer;

/// Between two bytes of those who send one at a time.
const DRIP: Duration = Duration::from_millis(300);

/// Frames of a sender that reads no answer, and how many of them at a time.
const FLOOD_FRAMES: u64 = 163_840;
const FLOOD_BURST: u64 = 2_048;
const FLOOD_PAUSE: Duration = Duration::from_millis(20);

/// What an attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Silent,
    HalfPreface,
    HalfHello,
    DripHello,
    RandomBytes,
    WrongKey,
    ReplayedConnection,
    SecondHello,
    HugeLength,
    LengthBeyondLimit,
    FrameNeverEnds,
    EndlessHeaders,
    TooManyHeaders,
    ByteAtATime,
    SilentSession,
    HalfOpenBefore,
    HalfOpenSession,
    ResetMidSend,
    ResetMidDelivery,
    FetchNeverRead,
    NeverReadsAnswers,
    ValidThenGarbage,
    OutOfOrder,
    Duplicated,
    PingFlood,
}

/// When the node must have closed the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// As soon as the fault is seen.
    AtOnce,
    /// `timeouts.handshake` after the connect.
    Handshake,
    /// `timeouts.idle` after the last whole frame.
    Idle,
    /// Within twice `timeouts.slow_receiver`, and the time that a close may take.
    SlowReceiver,
    /// The attacker breaks off itself; the node must forget it.
    Own,
}

impl Limit {
    pub(crate) fn time(self) -> Duration {
        match self {
            Self::AtOnce | Self::Own => Duration::ZERO,
            Self::Handshake => HANDSHAKE,
            Self::Idle => IDLE,
            Self::SlowReceiver => 2 * SLOW_RECEIVER + DRAIN,
        }
    }
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) limit: Limit,
    /// What the node counts, if it is the one who ends it.
    pub(crate) reason: Option<Reason>,
}

const fn row(kind: Kind, limit: Limit, reason: Option<Reason>) -> Row {
    Row {
        kind,
        limit,
        reason,
    }
}

/// All attackers; slot `n` runs row `n % TABLE.len()`.
pub(crate) const TABLE: [Row; 25] = [
    row(
        Kind::Silent,
        Limit::Handshake,
        Some(Reason::HandshakeTimeout),
    ),
    row(
        Kind::HalfPreface,
        Limit::Handshake,
        Some(Reason::HandshakeTimeout),
    ),
    row(
        Kind::HalfHello,
        Limit::Handshake,
        Some(Reason::HandshakeTimeout),
    ),
    row(
        Kind::DripHello,
        Limit::Handshake,
        Some(Reason::HandshakeTimeout),
    ),
    row(
        Kind::RandomBytes,
        Limit::AtOnce,
        Some(Reason::HelloMalformed),
    ),
    row(Kind::WrongKey, Limit::AtOnce, Some(Reason::BadCredential)),
    row(
        Kind::ReplayedConnection,
        Limit::AtOnce,
        Some(Reason::HelloReplayed),
    ),
    row(
        Kind::SecondHello,
        Limit::AtOnce,
        Some(Reason::UnexpectedFrame),
    ),
    row(Kind::HugeLength, Limit::AtOnce, Some(Reason::FrameTooLong)),
    row(
        Kind::LengthBeyondLimit,
        Limit::AtOnce,
        Some(Reason::FrameTooLong),
    ),
    row(Kind::FrameNeverEnds, Limit::Idle, Some(Reason::IdleTimeout)),
    row(Kind::EndlessHeaders, Limit::Idle, Some(Reason::IdleTimeout)),
    row(
        Kind::TooManyHeaders,
        Limit::Idle,
        Some(Reason::HeadersTooLong),
    ),
    row(Kind::ByteAtATime, Limit::Idle, Some(Reason::IdleTimeout)),
    row(Kind::SilentSession, Limit::Idle, Some(Reason::IdleTimeout)),
    row(Kind::HalfOpenBefore, Limit::AtOnce, None),
    row(Kind::HalfOpenSession, Limit::AtOnce, None),
    row(Kind::ResetMidSend, Limit::Own, None),
    row(Kind::ResetMidDelivery, Limit::Own, None),
    row(
        Kind::FetchNeverRead,
        Limit::SlowReceiver,
        Some(Reason::SlowReceiver),
    ),
    row(
        Kind::NeverReadsAnswers,
        Limit::SlowReceiver,
        Some(Reason::SlowReceiver),
    ),
    row(
        Kind::ValidThenGarbage,
        Limit::AtOnce,
        Some(Reason::FrameTooLong),
    ),
    row(Kind::OutOfOrder, Limit::Idle, Some(Reason::OutOfSequence)),
    row(
        Kind::Duplicated,
        Limit::AtOnce,
        Some(Reason::TooManyBadSignatures),
    ),
    row(Kind::PingFlood, Limit::AtOnce, Some(Reason::TooManyPings)),
];

/// Whether the attackers of a slot need messages to be delivered.
pub(crate) fn hears_bait(slot: usize) -> bool {
    let kind = TABLE[slot % TABLE.len()].kind;
    matches!(kind, Kind::ResetMidDelivery | Kind::FetchNeverRead)
}

impl Row {
    /// Attack once, until the node has closed the connection or the attacker has broken it off.
    pub(crate) async fn attack(
        &self,
        target: &Target,
        random: &mut fastrand::Rng,
    ) -> std::io::Result<Closed> {
        match self.kind {
            Kind::Silent
            | Kind::HalfPreface
            | Kind::HalfHello
            | Kind::DripHello
            | Kind::RandomBytes
            | Kind::WrongKey
            | Kind::ReplayedConnection
            | Kind::HalfOpenBefore => self.before_a_session(target, random).await,
            Kind::ResetMidDelivery | Kind::FetchNeverRead => self.receiver(target, random).await,
            _ => self.sender(target, random).await,
        }
    }

    async fn before_a_session(
        &self,
        target: &Target,
        random: &mut fastrand::Rng,
    ) -> std::io::Result<Closed> {
        let mut attacker = Attacker::connect(target, false).await?;
        let (_, hello) = target.hello(Direction::Ingress, random);
        match self.kind {
            Kind::HalfPreface => attacker.put(&hello[..4]).await?,
            Kind::HalfHello => attacker.put(&hello[..60]).await?,
            Kind::DripHello => return attacker.drip_until_closed(&hello, DRIP).await,
            Kind::RandomBytes => {
                let noise: Vec<u8> = (0..64).map(|_| random.u8(..)).collect();
                attacker.put(&noise).await?;
            }
            Kind::WrongKey => {
                let mut hello = hello;
                let last = hello.len() - 1;
                hello[last] ^= 1;
                attacker.put(&hello).await?;
            }
            Kind::ReplayedConnection => {
                // A whole connection as it was overheard: HELLO, then a SEND that was signed for it.
                let overheard = Attacker::overheard(target, random, &send_frame(1)).await?;
                attacker = Attacker::connect(target, false).await?;
                attacker.put(&overheard.0).await?;
                attacker.read_some().await?;
                // The node may have hung up already.
                attacker.put_within(&overheard.1, DRIP).await;
            }
            Kind::HalfOpenBefore => {
                attacker.put(&hello[..20]).await?;
                attacker.finish_writing().await?;
            }
            _ => {}
        }
        attacker.until_closed(self.limit.time()).await
    }

    async fn receiver(
        &self,
        target: &Target,
        random: &mut fastrand::Rng,
    ) -> std::io::Result<Closed> {
        let mut attacker = Attacker::open(target, Direction::Egress, true, random).await?;
        let fetch = Fetch {
            source: Source::Queue,
            messages: 4_096,
            bytes: 64 << 20,
        };
        attacker
            .say(|out, signer| fetch.encode(out, signer))
            .await?;
        if self.kind == Kind::ResetMidDelivery {
            attacker.read_some().await?;
            return attacker.reset();
        }
        attacker.closed_unread(self.limit.time()).await
    }

    async fn sender(&self, target: &Target, random: &mut fastrand::Rng) -> std::io::Result<Closed> {
        let narrow = self.kind == Kind::NeverReadsAnswers;
        let mut attacker = Attacker::open(target, Direction::Ingress, narrow, random).await?;
        let header = |bytes: u32| {
            let mut header = vec![0; 16];
            header[..4].copy_from_slice(&bytes.to_le_bytes());
            (header[4], header[5], header[6], header[8]) = (2, 1, 1, 1);
            header
        };
        let longest = FRAME_BYTES_MAX as u32;
        match self.kind {
            Kind::SecondHello => {
                let (_, hello) = target.hello(Direction::Ingress, random);
                attacker.put(&hello[8..]).await?;
            }
            Kind::HugeLength => attacker.put(&header(u32::MAX)).await?,
            Kind::LengthBeyondLimit => attacker.put(&header(longest + 1)).await?,
            Kind::FrameNeverEnds => {
                attacker.put(&header(longest)).await?;
                return attacker.drip_until_closed(&[0; 4_096], DRIP).await;
            }
            Kind::EndlessHeaders => {
                let frame = unsigned(&attacker, 1, &[("k", &[7; 8_000])]);
                let mut start = frame[..400].to_vec();
                start[..4].copy_from_slice(&longest.to_le_bytes());
                attacker.put(&start).await?;
                return attacker.drip_until_closed(&frame[400..], DRIP).await;
            }
            Kind::TooManyHeaders => {
                let mut frame = unsigned(&attacker, 1, &[("k", &b"v"[..]); 64]);
                let pair = frame[48..54].to_vec();
                let (pairs, body) = (65 * 6_u16, frame.split_off(48 + 64 * 6));
                frame.extend_from_slice(&pair);
                frame.extend_from_slice(&body);
                frame[36..38].copy_from_slice(&pairs.to_le_bytes());
                attacker
                    .say(|out, signer| sealed(out, &frame, signer))
                    .await?;
            }
            Kind::ByteAtATime => {
                let frame = unsigned(&attacker, 1, &[("k", &[7; 4_000])]);
                return attacker.drip_until_closed(&frame, DRIP).await;
            }
            Kind::HalfOpenSession => attacker.finish_writing().await?,
            Kind::ResetMidSend => {
                let frame = unsigned(&attacker, 1, &[("k", &[7; 4_000])]);
                attacker.put(&frame[..2_000]).await?;
                return attacker.reset();
            }
            Kind::NeverReadsAnswers => return self.flood(attacker).await,
            Kind::PingFlood => return ping_flood(attacker).await,
            Kind::ValidThenGarbage => {
                let frame = unsigned(&attacker, attacker.last() + 1, &[]);
                attacker
                    .say(|out, signer| sealed(out, &frame, signer))
                    .await?;
                attacker.put(&[0xff; 64]).await?;
            }
            Kind::OutOfOrder => {
                for ahead in [9, 5, 7] {
                    let frame = unsigned(&attacker, attacker.last() + ahead, &[]);
                    attacker
                        .say(|out, signer| sealed(out, &frame, signer))
                        .await?;
                }
            }
            Kind::Duplicated => {
                let (mut out, frame) = (Vec::new(), unsigned(&attacker, attacker.last() + 1, &[]));
                sealed(&mut out, &frame, attacker.signer());
                for _ in 0..20 {
                    attacker.put(&out).await?;
                }
            }
            _ => {}
        }
        attacker.until_closed(self.limit.time()).await
    }

    /// Send what is refused, at a steady pace: more than the sockets between hold REJECTs. Never read one.
    async fn flood(&self, mut attacker: Attacker) -> std::io::Result<Closed> {
        let frame = build(attacker.endpoint(), GOOD, attacker.last() + 1, &[]);
        let mut frames = Vec::new();
        for _ in 0..FLOOD_FRAMES / FLOOD_BURST {
            frames.clear();
            for _ in 0..FLOOD_BURST {
                sealed(&mut frames, &frame, attacker.signer());
            }
            // The node hangs up when too much waits.
            if !attacker.put_within(&frames, DRIP).await {
                break;
            }
            tokio::time::sleep(FLOOD_PAUSE).await;
        }
        attacker.closed_unread(self.limit.time()).await
    }
}

/// Ask for one signature after the other, until there are no more of them.
async fn ping_flood(mut attacker: Attacker) -> std::io::Result<Closed> {
    let mut pings = Vec::new();
    for _ in 0..FLOOD_BURST {
        encode_ping(&mut pings, Sequence(1), attacker.signer());
    }
    while attacker.put_within(&pings, DRIP).await {
        pings.clear();
        for _ in 0..FLOOD_BURST {
            encode_ping(&mut pings, Sequence(1), attacker.signer());
        }
    }
    attacker.until_closed(Duration::ZERO).await
}

/// A SEND of one message to the trash, its sequence set, not yet signed.
fn unsigned(attacker: &Attacker, sequence: u64, headers: &[(&str, &[u8])]) -> Vec<u8> {
    build(attacker.endpoint(), TRASH, sequence, headers)
}

fn build(endpoint: EndpointId, to: &str, sequence: u64, headers: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let channel = ChannelId::of(to);
    let mut builder = SendBuilder::begin(&mut out, endpoint, channel, Sequence(sequence));
    builder
        .message(UnixNanos(0), headers, b"trash")
        .expect("within the limits");
    (out[5], out[6]) = (1, 1);
    let bytes = u32::try_from(out.len() + 32).expect("a short frame");
    out[..4].copy_from_slice(&bytes.to_le_bytes());
    out
}

/// What makes the SEND of an overheard connection.
fn send_frame(sequence: u64) -> impl Fn(EndpointId) -> Vec<u8> {
    move |endpoint| build(endpoint, TRASH, sequence, &[])
}

/// Sign what was built.
pub(crate) fn sealed(out: &mut Vec<u8>, frame: &[u8], signer: Signer<'_>) {
    let start = out.len();
    out.extend_from_slice(frame);
    wire::frame::seal(out, start, signer);
}
