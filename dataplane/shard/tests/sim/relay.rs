//! A relay: carries envelopes of devices that sign for themselves, HMAC and Ed25519.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::ids::{Direction, EndpointId, KeyId, PartitionId, Sequence, UnixNanos};
use wire::reason::Reason;
use wire::send::{SendBuilder, encode_relay};
use wire::signature::{SecretKey, Signer, SigningKey};

use crate::ids::MessageId;
use crate::link::Heard;
use crate::network::Actor;
use crate::party::{Context, Party};
use crate::plan::{self, CHANNELS, DEVICES, FAR, LOCAL, RELAY};
use crate::sender::Pending;

struct Envelope {
    bytes: Vec<u8>,
    ids: Vec<MessageId>,
    /// Its relay number on the present connection.
    number: Option<u64>,
    /// Somebody changed it on the way.
    tampered: bool,
}

pub(crate) struct Relay {
    party: Party,
    hmac: SecretKey,
    ed25519: SigningKey,
    serials: [u64; 2],
    /// Next sequence of each device in each partition.
    sequences: BTreeMap<(usize, PartitionId), u64>,
    waiting: Vec<Envelope>,
    next: u64,
    credit: u32,
    resend_at: Duration,
    progress_at: Duration,
}

impl Relay {
    pub(crate) fn new() -> Self {
        Self {
            party: Party::new(RELAY, Actor::Relay, Direction::Ingress, false),
            hmac: plan::key_of(DEVICES[0], Direction::Ingress),
            ed25519: plan::signing_key(),
            serials: [0; 2],
            sequences: BTreeMap::new(),
            waiting: Vec::new(),
            next: 1,
            credit: 1,
            resend_at: Duration::ZERO,
            progress_at: Duration::ZERO,
        }
    }

    pub(crate) fn at_rest(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn step(&mut self, cx: &mut Context<'_>) {
        if self.party.connect(cx) {
            self.progress_at = cx.now;
        }
        for said in self.party.listen(cx) {
            match said {
                Heard::Welcome { credit_frames, .. } => {
                    self.credit = credit_frames;
                    self.next = 1;
                    self.waiting
                        .iter_mut()
                        .for_each(|envelope| envelope.number = None);
                    self.progress_at = cx.now;
                }
                Heard::Ack(ack) => self.answered(cx, ack.sequence.0),
                Heard::Reject(reject) => self.reject(cx, reject.sequence.0, reject.notice.reason),
                _ => {}
            }
        }
        if !cx.calm && self.party.open && self.waiting.len() < 8 && cx.random.u8(..8) == 0 {
            self.make(cx);
        }
        self.transmit(cx);
        let waiting = self
            .waiting
            .iter()
            .any(|envelope| envelope.number.is_some());
        let stalled = waiting && cx.now > self.progress_at + Duration::from_secs(3);
        let silent = !self.party.open && cx.now > self.progress_at + Duration::from_secs(12);
        if stalled || silent || (!cx.calm && cx.random.u16(..500) == 0) {
            self.progress_at = cx.now;
            self.party.hang_up(cx);
        }
    }

    fn answered(&mut self, cx: &mut Context<'_>, upto: u64) {
        self.progress_at = cx.now;
        let covered = |envelope: &Envelope| envelope.number.is_some_and(|number| number <= upto);
        for envelope in self.waiting.extract_if(.., |envelope| covered(envelope)) {
            cx.ledger.acked(&envelope.ids);
        }
    }

    fn reject(&mut self, cx: &mut Context<'_>, number: u64, reason: Reason) {
        self.progress_at = cx.now;
        let at = self
            .waiting
            .iter()
            .position(|envelope| envelope.number == Some(number));
        let Some(at) = at else { return };
        match reason {
            Reason::Busy
            | Reason::StorageFull
            | Reason::PartitionSealed
            | Reason::Draining
            | Reason::BadSignature => {
                self.waiting[at].number = None;
                self.resend_at = cx.now + Duration::from_millis(cx.random.u64(..100));
            }
            _ if std::mem::take(&mut self.waiting[at].tampered) => self.waiting[at].number = None,
            Reason::OutOfSequence => self.party.hang_up(cx),
            // It is in the log or never will be; which of both, nobody can tell.
            Reason::Replayed => {
                self.waiting.remove(at);
            }
            other => panic!("an envelope was refused: {other:?}"),
        }
    }

    fn make(&mut self, cx: &mut Context<'_>) {
        // Curve arithmetic is what costs; a few of its envelopes a batch say as much as many.
        let device = usize::from(cx.random.u8(..6) == 0);
        let channel = *cx
            .random
            .choice(&[CHANNELS[0], CHANNELS[1], LOCAL, FAR])
            .expect("there are four");
        let id = EndpointId::of(DEVICES[device]);
        let serials = (device as u64 + 100, &mut self.serials[device]);
        let frame = Pending::make(cx, id, serials, channel, false);
        let sequence = self
            .sequences
            .entry((device, plan::partition_of(id, channel)))
            .or_insert(0);
        *sequence += 1;
        let mut bytes = Vec::new();
        let mut builder = SendBuilder::begin(&mut bytes, id, channel, Sequence(*sequence));
        for (_, body) in &frame.messages {
            builder
                .message(UnixNanos(0), &[], body)
                .expect("bodies are small");
        }
        let id = KeyId(Direction::Ingress as u32);
        let signer = match device {
            0 => Signer::Key {
                id,
                key: self.hmac.mac(),
            },
            _ => Signer::Ed25519 {
                id,
                key: &self.ed25519,
            },
        };
        builder.finish(signer).expect("there are messages");
        self.waiting.push(Envelope {
            bytes,
            ids: frame.ids(),
            number: None,
            tampered: false,
        });
    }

    fn transmit(&mut self, cx: &mut Context<'_>) {
        if !self.party.open || cx.now < self.resend_at {
            return;
        }
        for at_envelope in 0..self.waiting.len() {
            let unacked = self
                .waiting
                .iter()
                .filter(|envelope| envelope.number.is_some())
                .count();
            if self.waiting[at_envelope].number.is_some() || unacked >= self.credit as usize {
                continue;
            }
            let number = self.next;
            self.next += 1;
            self.waiting[at_envelope].number = Some(number);
            let mut inner = self.waiting[at_envelope].bytes.clone();
            if !cx.calm && cx.random.u8(..60) == 0 {
                let at = inner.len() - 65 - cx.random.usize(..8);
                inner[at] ^= 1 << cx.random.u8(..8);
                self.waiting[at_envelope].tampered = true;
            }
            self.party.send(cx, |out, signer| {
                encode_relay(out, Sequence(number), &inner, signer)
            });
        }
    }
}
