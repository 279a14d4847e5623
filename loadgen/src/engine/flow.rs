//! One sender: its schedule, its unanswered messages, and its part of the books.

use crate::payload::Bodies;
use crate::schedule::Schedule;
use crate::stamp::{STAMP_BYTES, STAMP_HEADER, Stamp};
use crate::verify::{Outcome, Source};
use std::collections::VecDeque;
use std::iter::Peekable;
use wire::frame::{self, FrameKind};
use wire::ids::{KeyId, Sequence, UnixNanos};
use wire::message::{MESSAGE_HEADER_BYTES, put_message};
use wire::signature::{SecretKey, Signer};

/// A message that was planned and not answered yet.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    /// When it is due, nanoseconds since the start.
    pub due: u64,
    /// Which body it carries.
    pub body: u32,
}

/// The key that signs envelopes for a sender that has no connection of its own.
#[derive(Debug)]
pub struct EnvelopeKey {
    /// Its id.
    pub id: KeyId,
    /// The key.
    pub secret: SecretKey,
    /// Sequence of the next envelope.
    pub next: u64,
}

/// One sender.
#[derive(Debug)]
pub struct Flow {
    /// Who, and to which channel.
    pub source: Source,
    /// The connection it uses.
    pub lane: u32,
    /// Set when its frames are envelopes.
    pub envelope: Option<EnvelopeKey>,
    /// Due times to come; `None` in saturation mode.
    pub schedule: Option<Peekable<Schedule>>,
    /// Unanswered messages; the first one has number `outcome.answered`.
    pub planned: VecDeque<Planned>,
    /// Refused frames that earlier unanswered ones keep from being booked: first number and count.
    pub refused: VecDeque<(u64, u16)>,
    /// Its part of the books.
    pub outcome: Outcome,
}

impl Flow {
    /// Number of the next message to be planned.
    pub fn next_number(&self) -> u64 {
        self.outcome.answered + self.planned.len() as u64
    }

    /// Plan up to `batch` messages from the schedule: their count and when the last is due. 0 at its end.
    pub fn plan(&mut self, batch: u16, bodies: &Bodies) -> (u16, u64) {
        let (mut count, mut last) = (0, 0);
        while count < batch {
            let Some(due) = self.schedule.as_mut().and_then(Iterator::next) else {
                break;
            };
            self.plan_one(due, bodies);
            (count, last) = (count + 1, due);
        }
        (count, last)
    }

    /// Plan one message.
    pub fn plan_one(&mut self, due: u64, bodies: &Bodies) {
        let body = bodies.pick(self.next_number());
        self.planned.push_back(Planned { due, body });
    }

    /// Book refused frames whose turn has come; returns how many messages they hold.
    ///
    /// Answers are booked in the order of message numbers, and a refusal overtakes the acks before it.
    pub fn book_refused(&mut self) -> u64 {
        let mut booked = 0;
        while let Some((first, count)) = self.refused.front().copied() {
            if first != self.outcome.answered {
                break;
            }
            self.refused.pop_front();
            self.planned.drain(..usize::from(count));
            self.outcome.answered += u64::from(count);
            self.outcome
                .rejected
                .extend(first..first + u64::from(count));
            booked += u64::from(count);
        }
        booked
    }

    /// The planned messages of a frame.
    pub fn messages(&self, first: u64, count: u16) -> impl Iterator<Item = &Planned> {
        let start = (first - self.outcome.answered) as usize;
        self.planned.range(start..start + usize::from(count))
    }
}

/// What all frames of a run have in common.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Its random name.
    pub id: u64,
    /// Unix time of its start, nanoseconds.
    pub began: u64,
}

/// Append the SEND of some planned messages to `out`, sealed by `signer`.
pub fn put_send(
    out: &mut Vec<u8>,
    run: Run,
    sender: u32,
    flow: &Flow,
    bodies: &Bodies,
    (first, count, sequence): (u64, u16, u64),
    signer: Signer<'_>,
) {
    let start = frame::begin(out, FrameKind::Send, count, Sequence(sequence));
    out.extend_from_slice(&flow.source.endpoint.0.to_le_bytes());
    out.extend_from_slice(&flow.source.channel.0.to_le_bytes());
    out.extend_from_slice(&signer.key_id().0.to_le_bytes());
    for (number, planned) in (first..).zip(flow.messages(first, count)) {
        let stamp = Stamp {
            run: run.id,
            sender,
            number,
        };
        put_stamped(
            out,
            stamp,
            UnixNanos(run.began + planned.due),
            bodies,
            planned.body,
        );
    }
    frame::seal(out, start, signer);
}

fn put_stamped(out: &mut Vec<u8>, stamp: Stamp, timestamp: UnixNanos, bodies: &Bodies, index: u32) {
    let body = bodies.body(index);
    let fits = "bodies and headers were checked against the limits before the run";
    if bodies.stamped_inside() && body.len() >= STAMP_BYTES {
        let at = out.len() + MESSAGE_HEADER_BYTES;
        put_message(out, timestamp, &[], body).expect(fits);
        let bytes = stamp.bytes(timestamp.0, &body[STAMP_BYTES..]);
        out[at..at + STAMP_BYTES].copy_from_slice(&bytes);
    } else {
        let bytes = stamp.bytes(timestamp.0, body);
        put_message(out, timestamp, &[(STAMP_HEADER, &bytes)], body).expect(fits);
    }
}
