//! What a sender still owes the server: frames in order, per partition, until each is acked or refused for good.
//!
//! The server takes the frames of a stream strictly in sequence and spends a sequence number only on an append, so a
//! frame's number is not fixed before it is answered: the first unanswered frame has `last + 1`, the next `last + 2`.
//! Frames are therefore kept unsigned and are numbered and signed each time they go out. No socket, no clock: time is
//! an argument, tickets are the caller's.
//!
//! One refusal leaves open whether the frame is in the log: `partition_sealed`. Such a frame keeps its place and with it
//! its number, also after its ticket was answered, until an ACK or a WELCOME tells; meanwhile it alone is tried.

use crate::handshake::{ChannelTerms, Seal};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;
use wire::ack::{Ack, Reject};
use wire::frame;
use wire::ids::{AckMode, ChannelId, NO_STREAM, Offset, PartitionId, Sequence};
use wire::reason::{Notice, Reason};

const SIGNATURE_BYTES: usize = 32;
const RETRY_MIN: Duration = Duration::from_millis(5);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Proof that a frame is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The partition that holds its messages.
    pub partition: PartitionId,
    /// The sequence number it spent.
    pub sequence: Sequence,
    /// Offset of the last message that the covering ACK covers: this frame's own or a later one's. `None` when the
    /// answer was read off the session's resumption.
    pub offset: Option<Offset>,
    /// What the ack promises.
    pub ack_mode: AckMode,
}

impl fmt::Display for Receipt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let promise = match self.ack_mode {
            AckMode::Local => "in the log: survives a process crash, not a power loss",
            AckMode::Durable => "durable on disk",
        };
        write!(
            out,
            "sequence {} in partition {}, {promise}",
            self.sequence, self.partition
        )
    }
}

/// The server's refusal of one frame: nothing of it is in the log. One reason is different: after `partition_sealed`
/// nobody knows. The frame may turn up in the log when the node starts again, so sending its messages once more may
/// double them; the session goes on trying the same frame under the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", crate::diagnosis::of_notice("frame rejected", .notice))]
pub struct Rejected {
    /// The reason, the value seen, the value needed and when to try again.
    pub notice: Notice,
}

/// A frame that has its answer.
#[derive(Debug)]
pub struct Answered<T> {
    /// What the caller gave with the frame.
    pub ticket: T,
    /// The answer.
    pub result: Result<Receipt, Rejected>,
}

#[derive(Debug)]
struct Pending<T> {
    frame: Vec<u8>,
    channel: ChannelId,
    /// Taken when it is answered while the frame has to stay.
    ticket: Option<T>,
    /// Whether it was ever on a wire: only then may the server have it.
    tried: bool,
    /// Since when it is being refused for now.
    refused_since: Option<Duration>,
    /// Refused by a sealed partition: it may be in the log, so no other frame may have its number.
    in_doubt: bool,
}

impl<T> Pending<T> {
    fn signed_bytes(&self) -> usize {
        self.frame.len() + SIGNATURE_BYTES
    }
}

#[derive(Debug)]
struct Stream<T> {
    partition: PartitionId,
    ack_mode: AckMode,
    last: u64,
    queue: VecDeque<Pending<T>>,
    /// How many of the queue are on the wire, unanswered.
    out: usize,
    /// How many at the front of the queue have had their ticket answered and stay for their number.
    kept: usize,
    hold_until: Duration,
    refusals: u32,
    /// The number last refused as out of sequence, until an ACK comes.
    renumbered: Option<Sequence>,
}

/// All streams of one sending session.
#[derive(Debug)]
pub struct Outbox<T> {
    streams: Vec<Stream<T>>,
    channels: Vec<ChannelTerms>,
    credit_frames: u32,
    credit_bytes: u64,
    out_frames: u32,
    out_bytes: u64,
    waiting_bytes: usize,
    retry_for: Duration,
}

impl<T> Outbox<T> {
    /// An empty outbox that retries a frame refused for now (BUSY, a full disk) for at most `retry_for`.
    pub fn new(retry_for: Duration) -> Self {
        Self {
            streams: Vec::new(),
            channels: Vec::new(),
            credit_frames: 0,
            credit_bytes: 0,
            out_frames: 0,
            out_bytes: 0,
            waiting_bytes: 0,
            retry_for,
        }
    }

    /// Frames without an answer.
    pub fn len(&self) -> usize {
        let waiting = |stream: &Stream<T>| stream.queue.len() - stream.kept;
        self.streams.iter().map(waiting).sum()
    }

    /// Whether everything has its answer.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the frames without an answer.
    pub fn bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// A session was opened or reopened: what the server has is answered, everything else goes out again.
    ///
    /// Frames of channels that are no longer granted are answered with `not_granted`.
    pub fn opened(
        &mut self,
        channels: Vec<ChannelTerms>,
        credit_frames: u32,
        credit_bytes: u32,
        answered: &mut Vec<Answered<T>>,
    ) {
        (self.credit_frames, self.credit_bytes) = (credit_frames, u64::from(credit_bytes));
        (self.out_frames, self.out_bytes) = (0, 0);
        for stream in &mut self.streams {
            (stream.out, stream.hold_until, stream.refusals) = (0, Duration::ZERO, 0);
            stream.renumbered = None;
            // The server's word on what the log has; what it does not have is refused again if still in doubt.
            for pending in &mut stream.queue {
                (pending.in_doubt, pending.refused_since) = (false, None);
            }
        }
        for terms in &channels {
            let stream = stream_of(&mut self.streams, terms);
            while stream.last < terms.last_sequence.0 {
                let Some(pending) = stream.queue.pop_front_if(|pending| pending.tried) else {
                    break;
                };
                stream.last += 1;
                let receipt = stream.receipt(Sequence(stream.last), None);
                self.waiting_bytes -= stream.leave(pending, Ok(receipt), answered);
            }
            stream.last = terms.last_sequence.0;
        }
        self.channels = channels;
        self.drop_withdrawn(answered);
    }

    fn drop_withdrawn(&mut self, answered: &mut Vec<Answered<T>>) {
        let notice = Notice {
            reason: Reason::NotGranted,
            retry_after_ms: 0,
            seen: 0,
            needed: 0,
        };
        for stream in &mut self.streams {
            for pending in std::mem::take(&mut stream.queue) {
                let granted = |terms: &ChannelTerms| terms.id == pending.channel;
                if self.channels.iter().any(granted) {
                    stream.queue.push_back(pending);
                } else {
                    self.waiting_bytes -= stream.leave(pending, Err(Rejected { notice }), answered);
                }
            }
        }
    }

    /// The numbers of another node, or of one that lost its logs, come next: what was sent before may not be in these, so all of it goes out
    /// again, and may be in both.
    pub fn forget_sent(&mut self) {
        for pending in self.streams.iter_mut().flat_map(|stream| &mut stream.queue) {
            pending.tried = false;
        }
    }

    /// Take an unsigned SEND (`SendBuilder` output that was not finished) to a channel of this session.
    ///
    /// # Errors
    /// Gives the ticket back when the channel is not granted.
    pub fn push(&mut self, channel: ChannelId, frame: Vec<u8>, ticket: T) -> Result<(), T> {
        let partition = self
            .channels
            .iter()
            .find(|terms| terms.id == channel)
            .map(|terms| terms.partition);
        let stream = self
            .streams
            .iter_mut()
            .find(|stream| Some(stream.partition) == partition);
        let Some(stream) = stream else {
            return Err(ticket);
        };
        self.waiting_bytes += frame.len();
        stream.queue.push_back(Pending {
            frame,
            channel,
            ticket: Some(ticket),
            tried: false,
            refused_since: None,
            in_doubt: false,
        });
        Ok(())
    }

    /// Number and sign everything that credit allows now and append it to `out`.
    pub fn pump(&mut self, now: Duration, seal: &mut Seal, out: &mut Vec<u8>) {
        if !self.streams.is_empty() {
            self.streams.rotate_left(1);
        }
        // Also of those that find no credit: whose pause is over waits for an answer, not for a time.
        let over = |stream: &&mut Stream<T>| stream.hold_until <= now;
        let streams = self.streams.iter_mut().filter(over);
        streams.for_each(|stream| stream.hold_until = Duration::ZERO);
        for stream in &mut self.streams {
            if stream.hold_until > now {
                continue;
            }
            let doubt = |pending: &Pending<T>| pending.in_doubt;
            let window = match stream.queue.front().is_some_and(doubt) {
                true => 1,
                false => usize::MAX,
            };
            while stream.out < window
                && let Some(pending) = stream.queue.get_mut(stream.out)
            {
                let bytes = pending.signed_bytes() as u64;
                // A frame longer than the whole credit goes alone, or it would wait for ever.
                let alone = self.out_frames == 0 && self.credit_frames > 0;
                let fits = self.out_frames < self.credit_frames
                    && self.out_bytes + bytes <= self.credit_bytes;
                if !fits && !alone {
                    return;
                }
                let start = out.len();
                pending.tried = true;
                out.extend_from_slice(&pending.frame);
                let sequence = stream.last + 1 + stream.out as u64;
                out[start + 8..start + 16].copy_from_slice(&sequence.to_le_bytes());
                frame::seal(out, start, seal.signer());
                stream.out += 1;
                self.out_frames += 1;
                self.out_bytes += bytes;
            }
        }
    }

    /// When a held stream goes on, if one is held.
    pub fn wake_at(&self) -> Option<Duration> {
        let held = self
            .streams
            .iter()
            .filter(|stream| !stream.queue.is_empty() && !stream.hold_until.is_zero());
        held.map(|stream| stream.hold_until).min()
    }

    /// The server acked everything up to `ack.sequence`.
    pub fn acked(&mut self, ack: &Ack, answered: &mut Vec<Answered<T>>) {
        (self.credit_frames, self.credit_bytes) = (ack.credit_frames, u64::from(ack.credit_bytes));
        let Some(stream) = self
            .streams
            .iter_mut()
            .find(|stream| stream.partition == ack.partition)
        else {
            return;
        };
        stream.ack_mode = ack.ack_mode;
        while stream.last < ack.sequence.0 && stream.out > 0 {
            let pending = stream
                .queue
                .pop_front()
                .expect("what is on the wire is in the queue");
            stream.last += 1;
            stream.out -= 1;
            (stream.refusals, stream.renumbered) = (0, None);
            self.out_frames -= 1;
            self.out_bytes -= pending.signed_bytes() as u64;
            let receipt = stream.receipt(Sequence(stream.last), Some(ack.offset));
            self.waiting_bytes -= stream.leave(pending, Ok(receipt), answered);
        }
    }

    /// The server refused one frame and discards those behind it until the refused number comes again.
    ///
    /// Refused for now: the same frame again after the server's pause, doubled with each refusal in a row. Refused for
    /// good: it is answered, and the rest moves up by one number. Refused by a sealed partition: the same frame again
    /// for as long as the session lives, alone; after `retry_for` everything that waits on the stream is answered.
    pub fn rejected(&mut self, reject: &Reject, now: Duration, answered: &mut Vec<Answered<T>>) {
        // A replay leaves no gap and the frame is in the log: its ACK comes by itself.
        if reject.notice.reason == Reason::Replayed {
            return;
        }
        let Some((stream, index)) = find(&mut self.streams, reject) else {
            return;
        };
        for pending in stream.queue.range(index..stream.out) {
            self.out_frames -= 1;
            self.out_bytes -= pending.signed_bytes() as u64;
        }
        stream.out = index;
        let notice = reject.notice;
        if notice.reason == Reason::OutOfSequence && stream.renumber(reject.sequence, &notice) {
            // Frames before the refused one may have to go again as well: they leave the wire's account.
            for pending in stream.queue.range(stream.out..index.max(stream.out)) {
                self.out_frames -= 1;
                self.out_bytes -= pending.signed_bytes() as u64;
            }
            return;
        }
        let pending = &mut stream.queue[index];
        let since = *pending.refused_since.get_or_insert(now);
        pending.in_doubt |= notice.reason == Reason::PartitionSealed;
        if pending.in_doubt {
            stream.hold_until = now + stream.pause(&notice);
            stream.refusals += 1;
            if now.saturating_sub(since) >= self.retry_for {
                self.waiting_bytes -= stream.answer_all(Rejected { notice }, answered);
            }
            return;
        }
        let passing = notice.retry_after_ms > 0 || notice.reason.retryable();
        if passing
            && notice.reason != Reason::OutOfSequence
            && now.saturating_sub(since) < self.retry_for
        {
            stream.hold_until = now + stream.pause(&notice);
            stream.refusals += 1;
        } else if let Some(pending) = stream.queue.remove(index) {
            (stream.refusals, stream.hold_until) = (0, Duration::ZERO);
            self.waiting_bytes -= stream.leave(pending, Err(Rejected { notice }), answered);
        }
    }

    /// Everything that will never be answered any more.
    pub fn abandon(&mut self) -> Vec<T> {
        (self.out_frames, self.out_bytes, self.waiting_bytes) = (0, 0, 0);
        let queues = self.streams.iter_mut().flat_map(|stream| {
            (stream.out, stream.kept) = (0, 0);
            stream.queue.drain(..)
        });
        queues.filter_map(|pending| pending.ticket).collect()
    }
}

impl<T> Stream<T> {
    fn receipt(&self, sequence: Sequence, offset: Option<Offset>) -> Receipt {
        Receipt {
            partition: self.partition,
            sequence,
            offset,
            ack_mode: self.ack_mode,
        }
    }

    /// Answer a frame that was taken out of the queue, unless it was answered before. Returns the bytes it held.
    fn leave(
        &mut self,
        pending: Pending<T>,
        result: Result<Receipt, Rejected>,
        answered: &mut Vec<Answered<T>>,
    ) -> usize {
        let Some(ticket) = pending.ticket else {
            self.kept -= 1;
            return 0;
        };
        answered.push(Answered { ticket, result });
        pending.frame.len()
    }

    /// Answer everything that waits. What was on a wire stays with its number, the rest was never seen by anybody.
    /// Returns the bytes that no longer wait.
    fn answer_all(&mut self, rejected: Rejected, answered: &mut Vec<Answered<T>>) -> usize {
        let mut bytes = 0;
        for pending in &mut self.queue {
            if let Some(ticket) = pending.ticket.take() {
                bytes += pending.frame.len();
                let result = Err(rejected);
                answered.push(Answered { ticket, result });
            }
        }
        let tried = self.queue.partition_point(|pending| pending.tried);
        self.queue.truncate(tried);
        self.kept = tried;
        bytes
    }

    fn pause(&self, notice: &Notice) -> Duration {
        let asked = Duration::from_millis(u64::from(notice.retry_after_ms)).max(RETRY_MIN);
        asked
            .saturating_mul(1 << self.refusals.min(10))
            .min(RETRY_MAX.max(asked))
    }

    /// Follow the server's idea of the next number; false when it has led nowhere before.
    fn renumber(&mut self, refused: Sequence, notice: &Notice) -> bool {
        // Told twice for one number: another session of this endpoint has taken the stream over.
        if self.renumbered == Some(refused) || notice.needed == 0 {
            return false;
        }
        self.renumbered = Some(refused);
        let needed = notice.needed - 1;
        if needed > self.last {
            self.out = self.out.min((needed - self.last) as usize);
        } else {
            (self.last, self.out) = (needed, 0);
        }
        true
    }
}

/// The stream and the index of the frame that was refused. A frame that the server could assign to no partition is
/// found by its number alone.
fn find<'a, T>(
    streams: &'a mut [Stream<T>],
    reject: &Reject,
) -> Option<(&'a mut Stream<T>, usize)> {
    streams.iter_mut().find_map(|stream| {
        let index = reject.sequence.0.wrapping_sub(stream.last + 1);
        let meant = reject.partition == stream.partition || reject.partition == NO_STREAM;
        (meant && index < stream.out as u64).then_some((stream, index as usize))
    })
}

fn stream_of<'a, T>(streams: &'a mut Vec<Stream<T>>, terms: &ChannelTerms) -> &'a mut Stream<T> {
    let found = streams
        .iter()
        .position(|stream| stream.partition == terms.partition);
    let index = found.unwrap_or_else(|| {
        streams.push(Stream {
            partition: terms.partition,
            ack_mode: terms.ack_mode,
            last: terms.last_sequence.0,
            queue: VecDeque::new(),
            out: 0,
            kept: 0,
            hold_until: Duration::ZERO,
            refusals: 0,
            renumbered: None,
        });
        streams.len() - 1
    });
    &mut streams[index]
}

#[cfg(test)]
mod tests;
