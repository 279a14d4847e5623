//! The receiving side of a run without socket and clock: credit, deliveries, settlements, and what was seen.

use crate::histogram::Latencies;
use crate::inflow::Inflow;
use crate::stamp::{STAMP_BYTES, STAMP_HEADER};
use crate::verify::{Arrived, Observer};
use client::handshake::{Opened, Seal};
use wire::ack::Reject;
use wire::delivery::{Deliver, Fetch, Group, Outcome, Settle, Source};
use wire::frame::{Frame, FrameKind, ParseError};
use wire::home::Home;
use wire::ids::{ChannelId, Sequence, UnixNanos};
use wire::link::{encode_ping, parse_goaway};
use wire::message::Message;

const CREDIT_MESSAGES: u32 = 65_536;
const CREDIT_BYTES: u64 = 32 << 20;
/// Settled at the latest after so many messages, or so many nanoseconds.
const SETTLE_MESSAGES: u32 = 4_096;
const SETTLE_EVERY: u64 = 10_000_000;

/// One receiving connection.
#[derive(Debug)]
pub struct Tap {
    /// What this receiver has seen.
    pub observer: Observer,
    /// Channels it hears.
    pub hears: Vec<ChannelId>,
    /// From due to read, for messages due from `measured_from` on.
    pub delivery: Latencies,
    /// Frames to be sent.
    pub out: Vec<u8>,
    /// Why the connection ended, once it has.
    pub fault: Option<String>,
    /// When it last delivered, nanoseconds since the start.
    pub heard: u64,
    seal: Seal,
    inflow: Inflow,
    measured_from: UnixNanos,
    credit_messages: u32,
    credit_bytes: u64,
    delivered_through: Option<u64>,
    unsettled: u32,
    settled_at: u64,
    spoke: u64,
    ping_every: u64,
}

impl Tap {
    /// A receiver over an open session; messages with a timestamp from `measured_from` on are timed.
    pub fn new(opened: Opened, observer: Observer, measured_from: UnixNanos) -> Self {
        let mut tap = Self {
            observer,
            hears: opened.channels.iter().map(|terms| terms.id).collect(),
            delivery: Latencies::default(),
            out: Vec::new(),
            fault: None,
            heard: 0,
            seal: opened.seal,
            inflow: Inflow::default(),
            measured_from,
            credit_messages: 0,
            credit_bytes: 0,
            delivered_through: None,
            unsettled: 0,
            settled_at: 0,
            spoke: 0,
            ping_every: u64::from(opened.terms.idle_timeout_ms.max(300)) * 1_000_000 / 3,
        };
        tap.fetch();
        tap
    }

    /// Take bytes that came at `now` (since the start; `unix` is the same moment), and put settlements into `out`.
    pub fn receive(&mut self, bytes: &[u8], now: u64, unix: UnixNanos) {
        let mut inflow = std::mem::take(&mut self.inflow);
        let fed = inflow.feed(bytes, |frame| {
            if let Err(error) = self.take(frame, now, unix) {
                self.fault.get_or_insert(error.to_string());
            }
            self.fault.is_none()
        });
        self.inflow = inflow;
        if let Err(error) = fed {
            self.fault.get_or_insert(error.to_string());
        }
        if self.unsettled >= SETTLE_MESSAGES {
            self.settle(now);
        }
        self.fetch();
    }

    /// Settle everything read so far, cumulatively.
    pub fn settle(&mut self, now: u64) {
        if let Some(number) = self.delivered_through.take() {
            let settle = Settle {
                source: Source::Queue,
                number: Sequence(number),
                outcome: Outcome::AcceptUpTo,
            };
            settle.encode(&mut self.out, self.seal.signer());
            (self.unsettled, self.settled_at, self.spoke) = (0, now, now);
        }
    }

    /// Settle and show life when it is due.
    pub fn keep_alive(&mut self, now: u64) {
        if now.saturating_sub(self.settled_at) > SETTLE_EVERY {
            self.settle(now);
        }
        if now.saturating_sub(self.spoke) > self.ping_every {
            self.spoke = now;
            encode_ping(&mut self.out, Sequence(1), self.seal.signer());
        }
    }

    fn take(&mut self, frame: Frame<'_>, now: u64, unix: UnixNanos) -> Result<(), ParseError> {
        if !self.seal.check(&frame) {
            self.fault
                .get_or_insert("a frame that the server did not sign".to_owned());
            return Ok(());
        }
        match frame.kind() {
            FrameKind::Deliver => {
                self.heard = now;
                for group in Deliver::parse(frame)?.groups() {
                    self.take_group(&group, unix);
                }
            }
            FrameKind::Reject => {
                let notice = Reject::parse(frame)?.notice;
                self.fault.get_or_insert(notice.to_string());
            }
            FrameKind::Pong => {}
            FrameKind::Goaway => {
                let notice = parse_goaway(frame)?;
                self.fault.get_or_insert(Home::line(frame, &notice));
            }
            other => {
                self.fault.get_or_insert(format!("{other:?} to a receiver"));
            }
        }
        Ok(())
    }

    fn take_group(&mut self, group: &Group<'_>, unix: UnixNanos) {
        let header = &group.header;
        for message in group.messages() {
            self.credit_messages = self.credit_messages.saturating_sub(1);
            self.credit_bytes = self
                .credit_bytes
                .saturating_sub(message.encoded_bytes() as u64);
            let (stamp, covered) = stamp_of(&message);
            let good = self.observer.note(&Arrived {
                sender: header.sender,
                channel: header.channel,
                attempt: header.attempt,
                append_time: header.append_time,
                timestamp: message.timestamp,
                stamp,
                covered,
            });
            if good && message.timestamp >= self.measured_from {
                self.delivery
                    .record(unix.0.saturating_sub(message.timestamp.0));
            }
        }
        self.unsettled += u32::from(header.count);
        self.delivered_through = Some(header.number.0 + u64::from(header.count) - 1);
    }

    fn fetch(&mut self) {
        if self.credit_messages < CREDIT_MESSAGES / 2 || self.credit_bytes < CREDIT_BYTES / 2 {
            let messages = CREDIT_MESSAGES - self.credit_messages;
            let bytes = CREDIT_BYTES - self.credit_bytes;
            (self.credit_messages, self.credit_bytes) = (CREDIT_MESSAGES, CREDIT_BYTES);
            Fetch {
                source: Source::Queue,
                messages,
                bytes,
            }
            .encode(&mut self.out, self.seal.signer());
        }
    }
}

fn stamp_of<'a>(message: &Message<'a>) -> (Option<&'a [u8]>, &'a [u8]) {
    match message.headers.get(STAMP_HEADER) {
        Some(stamp) => (Some(stamp), message.body),
        None => match message.body.split_at_checked(STAMP_BYTES) {
            Some((stamp, covered)) => (Some(stamp), covered),
            None => (None, message.body),
        },
    }
}
