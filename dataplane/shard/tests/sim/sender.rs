//! A direct sender: windows, go-back-N, re-sending after losses; now and then its bytes are tampered with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use wire::ack::{Ack, Reject};
use wire::ids::{ChannelId, Direction, EndpointId, PartitionId, Sequence};
use wire::reason::Reason;
use wire::send::SendBuilder;

use crate::ids::MessageId;
use crate::link::Heard;
use crate::network::Actor;
use crate::party::{Context, Party};
use crate::plan::{CHANNELS, FAR, FORBIDDEN, LOCAL, SENDERS};

/// A frame that is not acknowledged yet.
pub(crate) struct Pending {
    pub(crate) channel: ChannelId,
    pub(crate) messages: Vec<(MessageId, Vec<u8>)>,
}

impl Pending {
    /// A frame of new messages, entered into the ledger.
    pub(crate) fn make(
        cx: &mut Context<'_>,
        sender: EndpointId,
        serials: (u64, &mut u64),
        channel: ChannelId,
        direct: bool,
    ) -> Self {
        let (number, serial) = serials;
        let mut messages = Vec::new();
        for _ in 0..cx.random.u8(1..4) {
            *serial += 1;
            let id = MessageId(number << 32 | *serial);
            let mut body = id.0.to_le_bytes().to_vec();
            body.resize(8 + cx.random.usize(..80), *serial as u8);
            cx.ledger.make(id, sender, channel, &body, direct);
            messages.push((id, body));
        }
        Self { channel, messages }
    }

    pub(crate) fn ids(&self) -> Vec<MessageId> {
        self.messages.iter().map(|(id, _)| *id).collect()
    }
}

/// One stream: `pending[i]` has the number `base + i`.
struct Stream {
    base: u64,
    pending: VecDeque<Pending>,
    sent: usize,
    /// The last number for which this connection was told that others are missing before it.
    gap_told: Option<Sequence>,
}

pub(crate) struct Sender {
    number: usize,
    party: Party,
    id: EndpointId,
    serial: u64,
    channels: BTreeMap<ChannelId, PartitionId>,
    streams: BTreeMap<PartitionId, Stream>,
    credit: u32,
    progress_at: Duration,
    resend_at: Duration,
    /// Bytes of an earlier frame, to be sent again by an attacker.
    overheard: Vec<u8>,
}

impl Sender {
    pub(crate) fn new(number: usize) -> Self {
        let name = SENDERS[number];
        Self {
            number,
            party: Party::new(name, Actor::Sender(number), Direction::Ingress, number == 1),
            id: EndpointId::of(name),
            serial: 0,
            channels: BTreeMap::new(),
            streams: BTreeMap::new(),
            credit: 1,
            progress_at: Duration::ZERO,
            resend_at: Duration::ZERO,
            overheard: Vec::new(),
        }
    }

    /// Whether everything made is acknowledged or refused.
    pub(crate) fn at_rest(&self) -> bool {
        self.streams
            .values()
            .all(|stream| stream.pending.is_empty())
    }

    pub(crate) fn step(&mut self, cx: &mut Context<'_>) {
        if self.party.connect(cx) {
            self.progress_at = cx.now;
        }
        for said in self.party.listen(cx) {
            match said {
                Heard::Welcome {
                    credit_frames,
                    last,
                } => self.welcome(cx, credit_frames, &last),
                Heard::Ack(ack) => self.ack(cx, ack),
                Heard::Reject(reject) => self.reject(cx, reject),
                _ => {}
            }
        }
        if !cx.calm && self.party.open && cx.random.u8(..4) == 0 {
            self.make(cx);
        }
        self.transmit(cx);
        let waiting = self.streams.values().any(|stream| stream.sent > 0);
        let stalled = waiting && cx.now > self.progress_at + Duration::from_secs(3);
        let silent = !self.party.open && cx.now > self.progress_at + Duration::from_secs(12);
        if stalled || silent || (!cx.calm && cx.random.u16(..400) == 0) {
            self.progress_at = cx.now;
            self.party.hang_up(cx);
        }
    }

    fn welcome(
        &mut self,
        cx: &mut Context<'_>,
        credit: u32,
        last: &[(ChannelId, PartitionId, u64)],
    ) {
        self.credit = credit;
        self.channels.clear();
        self.progress_at = cx.now;
        for wanted in [LOCAL, FAR] {
            let mut listed = last.iter().map(|(channel, ..)| *channel);
            assert!(
                listed.any(|channel| channel == wanted),
                "{last:?} lacks {wanted:?}"
            );
        }
        for &(channel, partition, last) in last {
            self.channels.insert(channel, partition);
            let stream = self.streams.entry(partition).or_insert(Stream {
                base: last + 1,
                pending: VecDeque::new(),
                sent: 0,
                gap_told: None,
            });
            if last + 1 < stream.base {
                // A log that lost its tail goes on below.
                stream.base = last + 1;
            } else if cx.calm || cx.random.bool() {
                settle(cx, stream, last);
                stream.base = last + 1;
            }
            // Otherwise it does not look at `last`, and sends again what was not acknowledged.
        }
        for stream in self.streams.values_mut() {
            (stream.sent, stream.gap_told) = (0, None);
        }
    }

    fn ack(&mut self, cx: &mut Context<'_>, ack: Ack) {
        self.credit = ack.credit_frames;
        self.progress_at = cx.now;
        if let Some(stream) = self.streams.get_mut(&ack.partition) {
            settle(cx, stream, ack.sequence.0);
        }
    }

    fn reject(&mut self, cx: &mut Context<'_>, reject: Reject) {
        self.progress_at = cx.now;
        let Some(stream) = self.streams.get_mut(&reject.partition) else {
            return;
        };
        let at = reject.sequence.0.checked_sub(stream.base);
        let Some(at) = at
            .map(|at| at as usize)
            .filter(|&at| at < stream.pending.len())
        else {
            return;
        };
        match reject.notice.reason {
            Reason::Busy | Reason::StorageFull | Reason::PartitionSealed | Reason::Draining => {
                stream.sent = stream.sent.min(at);
                self.resend_at =
                    cx.now + Duration::from_millis(u64::from(reject.notice.retry_after_ms));
            }
            // Told twice for one number a client must close: it would go back twice, and of two answers to one number
            // nobody could say which frame they are for.
            Reason::OutOfSequence if stream.gap_told == Some(reject.sequence) => {
                self.party.hang_up(cx);
            }
            Reason::OutOfSequence => match reject.notice.needed.checked_sub(stream.base) {
                Some(needed) => {
                    stream.sent = stream.sent.min(needed as usize);
                    stream.gap_told = Some(reject.sequence);
                }
                None => self.party.hang_up(cx),
            },
            Reason::Replayed => self.party.hang_up(cx),
            Reason::NotGranted | Reason::RestrictedBody | Reason::UnknownChannel => {
                let frame = stream.pending.remove(at).expect("its place was checked");
                cx.ledger.refused(&frame.ids());
                stream.sent = stream.sent.min(at);
            }
            // Somebody tampered with it on the way.
            tampered if tampered.code() / 100 == 12 || tampered == Reason::BadSignature => {
                stream.sent = stream.sent.min(at);
            }
            other => panic!("sender {} was refused: {other:?}", self.number),
        }
    }

    fn make(&mut self, cx: &mut Context<'_>) {
        let known: Vec<_> = self
            .channels
            .iter()
            .map(|(&channel, &partition)| (channel, partition))
            .collect();
        let Some(&(mut channel, partition)) = cx.random.choice(&known) else {
            return;
        };
        if cx.random.u8(..40) == 0 && CHANNELS[..2].contains(&channel) {
            channel = FORBIDDEN;
        }
        if self.streams[&partition].pending.len() < 12 {
            let serials = (self.number as u64 + 1, &mut self.serial);
            let frame = Pending::make(cx, self.id, serials, channel, true);
            self.streams
                .get_mut(&partition)
                .expect("it is known")
                .pending
                .push_back(frame);
        }
    }

    fn transmit(&mut self, cx: &mut Context<'_>) {
        if !self.party.open || cx.now < self.resend_at {
            return;
        }
        let partitions: BTreeSet<_> = self.channels.values().copied().collect();
        for partition in partitions {
            for _ in 0..cx.random.u8(1..6) {
                let unacked: usize = self.streams.values().map(|stream| stream.sent).sum();
                let beyond = !cx.calm && cx.random.u8(..30) == 0;
                let stream = self
                    .streams
                    .get_mut(&partition)
                    .expect("its key was listed");
                if stream.sent == stream.pending.len()
                    || (unacked >= self.credit as usize && !beyond)
                {
                    break;
                }
                let sequence = Sequence(stream.base + stream.sent as u64);
                stream.sent += 1;
                let frame =
                    &self.streams[&partition].pending[sequence.0 as usize - self.base(partition)];
                let bytes = self.encode(frame.channel, sequence, &frame.messages);
                self.put(cx, bytes);
            }
        }
    }

    fn base(&self, partition: PartitionId) -> usize {
        self.streams[&partition].base as usize
    }

    /// Everything but the signature, which comes when it is sent.
    fn encode(
        &self,
        channel: ChannelId,
        sequence: Sequence,
        messages: &[(MessageId, Vec<u8>)],
    ) -> Frame {
        Frame {
            id: self.id,
            channel,
            sequence,
            messages: messages.to_vec(),
        }
    }

    /// Send a frame, unless somebody on the way changes, repeats or slips in something.
    fn put(&mut self, cx: &mut Context<'_>, frame: Frame) {
        let Some(link) = self.party.link.as_mut() else {
            return;
        };
        let connection = link.connection;
        cx.tell(|| {
            let ids: Vec<_> = frame.messages.iter().map(|(id, _)| id).collect();
            format!(
                "{} sends {:?} to {:?}: {ids:?}",
                SENDERS[self.number], frame.sequence, frame.channel
            )
        });
        let Some(mut bytes) = link.frame(|out, signer| frame.sign(out, signer)) else {
            return;
        };
        let mischief = if cx.calm {
            u16::MAX
        } else {
            cx.random.u16(..300)
        };
        let overheard = std::mem::replace(&mut self.overheard, bytes.clone());
        match mischief {
            // A bit of the last body turns over.
            0..4 => {
                let at = bytes.len() - 33 - cx.random.usize(..frame.last_body_bytes());
                bytes[at] ^= 1 << cx.random.u8(..8);
            }
            // Any bit at all turns over.
            4 => {
                let at = cx.random.usize(..bytes.len());
                bytes[at] ^= 1 << cx.random.u8(..8);
            }
            // The frame comes twice.
            5 => {
                cx.network
                    .send(connection, bytes.clone(), cx.now, cx.random);
            }
            // An older frame, perhaps of another session, is slipped in.
            6 if !overheard.is_empty() => {
                cx.network.send(connection, overheard, cx.now, cx.random);
            }
            _ => {}
        }
        cx.network.send(connection, bytes, cx.now, cx.random);
    }
}

struct Frame {
    id: EndpointId,
    channel: ChannelId,
    sequence: Sequence,
    messages: Vec<(MessageId, Vec<u8>)>,
}

impl Frame {
    fn sign(&self, out: &mut Vec<u8>, signer: wire::signature::Signer<'_>) {
        let mut builder = SendBuilder::begin(out, self.id, self.channel, self.sequence);
        for (_, body) in &self.messages {
            builder
                .message(wire::ids::UnixNanos(0), &[], body)
                .expect("bodies are small");
        }
        builder.finish(signer).expect("there are messages");
    }

    fn last_body_bytes(&self) -> usize {
        self.messages.last().map_or(1, |(_, body)| body.len())
    }
}

/// Everything up to number `last` is in the log.
fn settle(cx: &mut Context<'_>, stream: &mut Stream, last: u64) {
    while stream.base <= last
        && let Some(frame) = stream.pending.pop_front()
    {
        cx.ledger.acked(&frame.ids());
        stream.base += 1;
        stream.sent = stream.sent.saturating_sub(1);
    }
}
