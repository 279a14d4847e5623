//! Frames between their append and their commit: where they lie, and who is told. Neighbours that share all of that wait as
//! one, so that what a commit costs depends on streams, not on frames; but no longer than what goes to the queues as one.

use wire::ids::{ChannelId, Offset, Sequence};

use crate::commit::TOGETHER_BYTES_MAX;
use crate::io::ConnectionId;
use crate::session::SessionRef;
use crate::verify::Origin;

/// Who is told when frames are committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// Of an envelope that came to another shard these are names there.
    pub(crate) connection: ConnectionId,
    pub(crate) session: SessionRef,
    pub(crate) origin: Origin,
    /// The stream of direct frames, by its place in the session.
    pub(crate) stream: u32,
    /// The numbers of the first and the last frame in their stream.
    pub(crate) first: Sequence,
    pub(crate) last: Sequence,
    /// Credit to be given back.
    pub(crate) frames: u32,
    pub(crate) bytes: u64,
}

/// Frames in a log, one record each, next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) first: Offset,
    /// Messages of all of them.
    pub(crate) count: u32,
    pub(crate) channel: ChannelId,
    pub(crate) message_bytes: u64,
    /// The sender's place in the log's table.
    pub(crate) sender: u32,
}

/// Frames whose commit is awaited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    /// They are committed when their log is, up to here.
    pub(crate) end: Offset,
    /// `None` for a frame that was in the log before: it was sent again, and is acked like a new one.
    pub(crate) appended: Option<Appended>,
    pub(crate) answer: Answer,
}

impl Waiting {
    /// The offset of the last message. Where a frame rests that was sent again is not known any more.
    pub(crate) fn last_offset(&self) -> Offset {
        match self.appended {
            Some(_) => Offset(self.end.0.saturating_sub(1)),
            None => Offset(0),
        }
    }

    /// Let `next` wait as a part of this, if it follows at once in its log and in its stream.
    pub(crate) fn absorb(&mut self, next: &Self) -> bool {
        let (Some(appended), Some(more)) = (&self.appended, &next.appended) else {
            return false;
        };
        let (answer, other) = (&self.answer, &next.answer);
        let goes_on = matches!(answer.origin, Origin::Direct | Origin::Guest(..))
            && answer.origin == other.origin
            && answer.connection == other.connection
            && answer.session == other.session
            && answer.stream == other.stream
            && answer.last.next() == other.first
            && appended.channel == more.channel
            && self.end == more.first;
        goes_on && self.extend(next.end, more, other)
    }

    /// As [`Waiting::absorb`] for a frame that is known to follow at once, of the same channel: `false` when the frames
    /// together would be too long.
    #[inline]
    pub(crate) fn extend(&mut self, end: Offset, more: &Appended, other: &Answer) -> bool {
        let Some(appended) = &mut self.appended else {
            return false;
        };
        let message_bytes = appended.message_bytes + more.message_bytes;
        if message_bytes > TOGETHER_BYTES_MAX {
            return false;
        }
        appended.message_bytes = message_bytes;
        appended.count += more.count;
        self.answer.last = other.last;
        self.answer.frames += other.frames;
        self.answer.bytes += other.bytes;
        self.end = end;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64) -> Waiting {
        let number_of = Sequence(number);
        Waiting {
            end: Offset(10 * number + 10),
            appended: Some(Appended {
                first: Offset(10 * number),
                count: 10,
                channel: ChannelId(7),
                message_bytes: 100,
                sender: 3,
            }),
            answer: Answer {
                connection: ConnectionId(1),
                session: SessionRef::NONE,
                origin: Origin::Direct,
                stream: 0,
                first: number_of,
                last: number_of,
                frames: 1,
                bytes: 150,
            },
        }
    }

    #[test]
    fn only_the_next_frame_of_the_same_stream_and_channel_waits_along() {
        let next = frame(5);
        let with = |change: fn(&mut Waiting)| {
            let mut other = next;
            change(&mut other);
            other
        };
        for (why, other, want) in [
            ("the next one", next, true),
            ("a number is left out", frame(6), false),
            ("the same again", frame(4), false),
            ("sent again", with(|frame| frame.appended = None), false),
            (
                "another connection",
                with(|frame| frame.answer.connection = ConnectionId(2)),
                false,
            ),
            (
                "another stream",
                with(|frame| frame.answer.stream = 1),
                false,
            ),
            (
                "an envelope",
                with(|frame| frame.answer.origin = Origin::Relayed(Sequence(5))),
                false,
            ),
            (
                "another channel",
                with(|frame| {
                    if let Some(appended) = &mut frame.appended {
                        appended.channel = ChannelId(8);
                    }
                }),
                false,
            ),
            (
                "more bytes than go to the queues as one",
                with(|frame| {
                    if let Some(appended) = &mut frame.appended {
                        appended.message_bytes = TOGETHER_BYTES_MAX;
                    }
                }),
                false,
            ),
            (
                "messages of others between them",
                with(|frame| {
                    if let Some(appended) = &mut frame.appended {
                        appended.first = Offset(51);
                    }
                }),
                false,
            ),
        ] {
            assert_eq!(frame(4).absorb(&other), want, "{why}");
        }
        let mut both = frame(4);
        assert!(both.absorb(&next));
        let appended = both.appended.expect("it was appended");
        assert_eq!(
            (
                both.end,
                appended.first,
                appended.count,
                appended.message_bytes
            ),
            (Offset(60), Offset(40), 20, 200)
        );
        let Answer {
            first,
            last,
            frames,
            bytes,
            ..
        } = both.answer;
        assert_eq!((first.0, last.0, frames, bytes), (4, 5, 2, 300));
    }
}
