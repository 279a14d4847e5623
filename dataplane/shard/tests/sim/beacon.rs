//! A sender whose frames come in datagrams beside its lane: lost, twice, late, in any order, some changed on the way, and never sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::ack::Reject;
use wire::ids::{ChannelId, DATAGRAM_STREAM, Direction, EndpointId, PartitionId, Sequence};
use wire::reason::Reason;
use wire::send::SendBuilder;

use crate::ids::MessageId;
use crate::link::Heard;
use crate::network::Actor;
use crate::party::{Context, Party};
use crate::plan::{BEACON, FORBIDDEN};
use crate::sender::Pending;

/// Its messages bear this in their names.
const NAME: u64 = 50;
/// Numbers of datagrams without an answer that it remembers.
const WAITING_MAX: usize = 64;

/// A datagram that asked for an answer.
struct Asked {
    ids: Vec<MessageId>,
    /// One copy of it is on its way at most.
    once: bool,
}

pub(crate) struct Beacon {
    party: Party,
    serial: u64,
    channels: Vec<(ChannelId, PartitionId)>,
    /// The next number of each stream: what becomes of a frame, it is spent.
    next: BTreeMap<PartitionId, u64>,
    number: u64,
    asked: BTreeMap<u64, Asked>,
    overheard: Option<(u64, Vec<u8>)>,
    heard_at: Duration,
    pub(crate) thrown: u32,
    pub(crate) acked: u32,
    pub(crate) rejected: u32,
}

impl Beacon {
    pub(crate) fn new() -> Self {
        Self {
            party: Party::new(BEACON, Actor::Beacon, Direction::Ingress, false),
            serial: 0,
            channels: Vec::new(),
            next: BTreeMap::new(),
            number: 0,
            asked: BTreeMap::new(),
            overheard: None,
            heard_at: Duration::ZERO,
            thrown: 0,
            acked: 0,
            rejected: 0,
        }
    }

    pub(crate) fn step(&mut self, cx: &mut Context<'_>) {
        if self.party.connect(cx) {
            self.heard_at = cx.now;
        }
        for said in self.party.listen(cx) {
            self.heard_at = cx.now;
            match said {
                Heard::Welcome { last, .. } => self.welcome(&last),
                Heard::Ack(ack) => {
                    assert_eq!(ack.partition, DATAGRAM_STREAM, "{ack:?}");
                    if let Some(asked) = self.asked.remove(&ack.sequence.0) {
                        self.acked += 1;
                        cx.ledger.acked(&asked.ids);
                    }
                }
                Heard::Reject(reject) => self.reject(cx, reject),
                _ => {}
            }
        }
        if !cx.calm && self.party.open && cx.random.u8(..3) == 0 {
            self.throw(cx);
        }
        let silent = cx.now > self.heard_at + Duration::from_secs(12);
        if silent || (!cx.calm && cx.random.u16(..400) == 0) {
            self.heard_at = cx.now;
            self.party.hang_up(cx);
        }
    }

    fn welcome(&mut self, last: &[(ChannelId, PartitionId, u64)]) {
        // Answers are of the session that was asked.
        self.asked.clear();
        self.channels = last.iter().map(|&(channel, at, _)| (channel, at)).collect();
        for &(_, partition, last) in last {
            let next = self.next.entry(partition).or_insert(1);
            *next = (*next).max(last + 1);
        }
    }

    fn reject(&mut self, cx: &mut Context<'_>, reject: Reject) {
        assert_eq!(reject.partition, DATAGRAM_STREAM, "{reject:?}");
        self.rejected += 1;
        let asked = self.asked.remove(&reject.sequence.0);
        let notice = reject.notice;
        let never = match notice.reason {
            Reason::AnotherShard => {
                assert!(notice.needed < notice.seen, "{notice:?}");
                if cx.random.u8(..4) == 0 {
                    self.party.go_to(notice.needed as usize);
                    self.party.hang_up(cx);
                }
                true
            }
            Reason::OutOfSequence | Reason::BadSignature => true,
            Reason::NotGranted | Reason::RestrictedBody | Reason::UnknownChannel => true,
            Reason::Busy | Reason::StorageFull | Reason::PartitionSealed | Reason::Draining => {
                false
            }
            tampered if tampered.code() / 100 == 12 => true,
            other => panic!("a datagram was refused: {other:?}"),
        };
        // What is refused for good is in no log, unless another copy is.
        if let Some(asked) = asked.filter(|asked| asked.once && never) {
            cx.ledger.refused(&asked.ids);
        }
    }

    fn throw(&mut self, cx: &mut Context<'_>) {
        let known = std::mem::take(&mut self.channels);
        let chosen = cx.random.choice(&known).copied();
        self.channels = known;
        let Some((mut channel, partition)) = chosen else {
            return;
        };
        if cx.random.u8(..40) == 0 {
            channel = FORBIDDEN;
        }
        let id = EndpointId::of(BEACON);
        let frame = Pending::make(cx, id, (NAME, &mut self.serial), channel, true);
        let next = self.next.get_mut(&partition).expect("its key was listed");
        let sequence = Sequence(*next);
        *next += 1;
        self.number += 1;
        let number = if cx.random.u8(..4) == 0 {
            0
        } else {
            self.number
        };
        let Some(link) = &self.party.link else {
            return;
        };
        let bytes = link.loose(number, |out, signer| {
            let mut builder = SendBuilder::begin(out, id, channel, sequence);
            for (_, body) in &frame.messages {
                let put = builder.message(wire::ids::UnixNanos(0), &[], body);
                put.expect("bodies are small");
            }
            builder.finish(signer).expect("there are messages");
        });
        let (Some(mut bytes), to) = (bytes, link.connection) else {
            return;
        };
        let before = self.overheard.replace((number, bytes.clone()));
        match cx.random.u8(..60) {
            // Any bit at all turns over.
            0 => {
                let at = cx.random.usize(..bytes.len());
                bytes[at] ^= 1 << cx.random.u8(..8);
            }
            // An older one comes again, perhaps one of another session.
            1 => {
                if let Some((number, bytes)) = before {
                    let asked = self.asked.get_mut(&number);
                    asked.into_iter().for_each(|asked| asked.once = false);
                    cx.network.throw(to, number, bytes, cx.now, cx.random);
                }
            }
            _ => {}
        }
        let copies = cx.network.throw(to, number, bytes, cx.now, cx.random);
        self.thrown += 1;
        if number > 0 {
            let asked = Asked {
                ids: frame.ids(),
                once: copies < 2,
            };
            self.asked.insert(number, asked);
            if self.asked.len() > WAITING_MAX {
                self.asked.pop_first();
            }
        }
    }
}
