//! Stage 5, append: a sequence number is spent only by an append. Decides which frame comes next in its
//! stream, which was sent again, and which goes back; then copies it, once, into its log.

use partition::{AppendError as LogError, NewRecord, Place, RecordKind, Segment};
use wire::ids::{ChannelId, Offset, PartitionId, RELAY_STREAM, Sequence, UnixNanos};
use wire::reason::{Notice, Reason};

use crate::connection::Goodbye;
use crate::io::ConnectionId;
use crate::log::Log;
use crate::parse::Refusal;
use crate::peers::Peers;
use crate::planted::{Bug, active};
use crate::route::Routed;
use crate::session::SessionRef;
use crate::verify::Origin;

/// Why a frame is not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// More frames or bytes unacknowledged than the session has credit for.
    #[error("{seen} unacknowledged, {needed} allowed")]
    Busy {
        /// Frames, or bytes, that would be unacknowledged.
        seen: u64,
        /// Frames, or bytes, that may be.
        needed: u64,
        /// When to come again.
        retry_after_ms: u32,
    },
    /// Not the next number of the stream.
    #[error("sequence {seen}, {needed} is next")]
    OutOfSequence {
        /// The frame's number.
        seen: Sequence,
        /// The number that is next.
        needed: Sequence,
    },
    /// The number was taken before, and this is no frame sent again after a reconnect.
    #[error("sequence {seen} was taken before, {needed} is next")]
    Replayed {
        /// The frame's number.
        seen: Sequence,
        /// The number that is next.
        needed: Sequence,
    },
    /// The disk has no room.
    #[error("storage full")]
    StorageFull {
        /// When to come again.
        retry_after_ms: u32,
    },
    /// A write error sealed the log.
    #[error("log sealed")]
    Sealed,
    /// Longer than a record may be.
    #[error("{seen} bytes, a record holds {needed}")]
    TooLong {
        /// The frame's length.
        seen: u64,
        /// The length that fits.
        needed: u64,
    },
}

impl AppendError {
    /// What the peer is told.
    pub fn notice(&self) -> Notice {
        match *self {
            Self::Busy {
                seen,
                needed,
                retry_after_ms,
            } => Notice::new(Reason::Busy, seen, needed).retry_after(retry_after_ms),
            Self::OutOfSequence { seen, needed } => {
                Notice::new(Reason::OutOfSequence, seen.0, needed.0)
            }
            Self::Replayed { seen, needed } => Notice::new(Reason::Replayed, seen.0, needed.0),
            Self::StorageFull { retry_after_ms } => {
                Notice::new(Reason::StorageFull, 0, 0).retry_after(retry_after_ms)
            }
            Self::Sealed => Notice::new(Reason::PartitionSealed, 0, 0),
            Self::TooLong { seen, needed } => Notice::new(Reason::FrameTooLong, seen, needed),
        }
    }
}

/// Who is told when a frame is committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) connection: ConnectionId,
    pub(crate) session: SessionRef,
    pub(crate) origin: Origin,
    /// The frame's number in its stream.
    pub(crate) sequence: Sequence,
    /// Credit to be given back.
    pub(crate) frames: u32,
    pub(crate) bytes: u32,
}

/// A frame in a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    first: Offset,
    count: u16,
    channel: ChannelId,
    message_bytes: u32,
    sender: u32,
}

impl Appended {
    pub(crate) fn first(&self) -> Offset {
        self.first
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    pub(crate) fn channel(&self) -> ChannelId {
        self.channel
    }

    pub(crate) fn message_bytes(&self) -> u32 {
        self.message_bytes
    }

    /// The sender's place in the log's table.
    pub(crate) fn sender(&self) -> u32 {
        self.sender
    }
}

/// A frame whose commit is awaited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    end: Offset,
    /// `None` for a frame that was in the log before: it was sent again, and is acked like a new one.
    appended: Option<Appended>,
    answer: Answer,
}

impl Waiting {
    /// It is committed when its log is, up to here.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    pub(crate) fn appended(&self) -> Option<&Appended> {
        self.appended.as_ref()
    }

    pub(crate) fn answer(&self) -> &Answer {
        &self.answer
    }
}

/// Stage 5: append the frames of a turn, and tell the refusals of all stages, both in order of arrival.
pub(crate) fn append<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    routed: &[Routed<'_>],
    refusals: &mut [Refusal],
) {
    refusals.sort_unstable_by_key(|refusal| refusal.order);
    let mut refusals = refusals.iter().peekable();
    for frame in routed {
        while let Some(refusal) = refusals.next_if(|refusal| refusal.order < frame.order()) {
            answer_refusal(peers, logs, refusal);
        }
        append_one(peers, logs, frame);
    }
    refusals.for_each(|refusal| answer_refusal(peers, logs, refusal));
}

fn append_one<S: Segment>(peers: &mut Peers, logs: &mut [Log<S>], frame: &Routed<'_>) {
    // A session that ended, or that moved to another connection since, is owed nothing here.
    let Some(session) = peers.sessions.get(frame.session()) else {
        return;
    };
    if session.connection != Some(frame.connection()) {
        return;
    }
    let log = &mut logs[frame.log() as usize];
    let result = match frame.origin() {
        Origin::Direct => append_direct(peers, log, frame),
        Origin::Relayed(number) => match take_relay_number(peers, frame.connection(), number) {
            Ok(()) => append_envelope(peers, log, frame),
            Err(notice) => return reject_relay(peers, frame.connection(), number, notice),
        },
    };
    let Err(error) = result else { return };
    peers.counters.append.refused += 1;
    let (partition, sequence) = match frame.origin() {
        Origin::Direct => (frame.partition(), frame.send().sequence()),
        Origin::Relayed(number) => (RELAY_STREAM, number),
    };
    refuse(
        peers,
        frame.connection(),
        partition,
        sequence,
        error.notice(),
    );
}

/// There is no segment to append to: the disk has none to give, or the next one is not ready yet.
fn no_room(retry_after_ms: u32, disk_full: bool) -> AppendError {
    if disk_full {
        AppendError::StorageFull { retry_after_ms }
    } else {
        AppendError::Busy {
            seen: 1,
            needed: 0,
            retry_after_ms,
        }
    }
}

/// The sequence rule of a session's own frames.
fn append_direct<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    frame: &Routed<'_>,
) -> Result<(), AppendError> {
    let (seen, id) = (frame.send().sequence(), frame.session());
    let session = peers
        .sessions
        .get_mut(id)
        .expect("append_one has just found it");
    let at = session
        .stream_of(frame.partition())
        .expect("a direct frame is routed by one of the session's streams");
    let stream = &mut session.streams[at];
    if let Some(blocked) = stream.blocked {
        if seen > blocked && !active(Bug::AckCoversRejected) {
            peers.counters.append.discarded += 1;
            return Ok(());
        }
        stream.blocked = None;
    }
    if log.sealed() {
        return Err(AppendError::Sealed);
    }
    let last = log.partition.sender(frame.send().endpoint()).last;
    let needed = last.next();
    if log.senders[stream.sender as usize].owner != Some(id) {
        // A newer session of the endpoint has been welcomed. Were this one to go on, the newer one could not
        // tell its own numbers from those of frames that come in late over a lost connection.
        peers.counters.append.discarded += 1;
        peers.goaway(frame.connection(), Reason::SessionUnknown, 0, 0);
        return Ok(());
    }
    if seen == needed || (active(Bug::SkipDuplicateCheck) && seen <= stream.claimed_last) {
        let sender = stream.sender;
        write(peers, log, frame, sender)?;
        let session = peers.sessions.get_mut(id).expect("writing ends no session");
        session.streams[at].received = seen;
        return Ok(());
    }
    if seen > needed {
        return Err(AppendError::OutOfSequence { seen, needed });
    }
    if seen <= stream.received || seen > stream.claimed_last {
        return Err(AppendError::Replayed { seen, needed });
    }
    if let Err(error) = await_again(peers, log, frame) {
        // It is in the log: to reject it would say that it is not.
        peers.counters.append.discarded += 1;
        peers.goodbye(frame.connection(), Goodbye::Goaway(error.notice()));
        return Ok(());
    }
    let session = peers.sessions.get_mut(id).expect("waiting ends no session");
    session.streams[at].received = seen;
    Ok(())
}

/// The replay window of an envelope's own endpoint.
fn append_envelope<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    frame: &Routed<'_>,
) -> Result<(), AppendError> {
    if log.sealed() {
        return Err(AppendError::Sealed);
    }
    let send = frame.send();
    let state = log.partition.sender(send.endpoint());
    match state.place(send.sequence()) {
        Place::Ahead | Place::Unseen => {
            let sender = log.sender(send.endpoint());
            write(peers, log, frame, sender)
        }
        Place::Seen if active(Bug::SkipReplayWindow) => {
            let sender = log.sender(send.endpoint());
            write(peers, log, frame, sender)
        }
        Place::Seen => await_again(peers, log, frame),
        Place::Below => Err(AppendError::Replayed {
            seen: send.sequence(),
            needed: state.last.next(),
        }),
    }
}

/// Copy a frame into its log and let its sender's answer wait for the commit.
fn write<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    frame: &Routed<'_>,
    sender: u32,
) -> Result<(), AppendError> {
    let send = frame.send();
    let bytes = send.frame().bytes();
    take_credit(peers, frame.session(), bytes.len())?;
    let new = record(frame, peers.now.unix);
    let retry_after_ms = peers.retry_after_ms();
    let disk_full = log.partition.spare_failure().is_some();
    let appended = log
        .partition
        .append(&new, &[bytes])
        .map_err(|error| match error {
            LogError::Full => no_room(retry_after_ms, disk_full),
            LogError::Sealed => AppendError::Sealed,
            LogError::TooLong { bytes, bytes_max } => AppendError::TooLong {
                seen: bytes as u64,
                needed: u64::from(bytes_max),
            },
        })?;
    spend_credit(peers, frame.session(), bytes.len());
    log.waiting.push_back(Waiting {
        end: appended.end.next,
        appended: Some(Appended {
            first: appended.first,
            count: appended.count,
            channel: send.channel(),
            message_bytes: send.messages_bytes().len() as u32,
            sender,
        }),
        answer: answer(frame, 1, bytes.len() as u32),
    });
    let counters = &mut peers.counters.append;
    counters.frames += 1;
    counters.messages += u64::from(send.count());
    counters.bytes += bytes.len() as u64;
    Ok(())
}

fn record(frame: &Routed<'_>, time: UnixNanos) -> NewRecord {
    let send = frame.send();
    NewRecord {
        kind: RecordKind::Frame,
        signature_kind: send.signature_kind() as u8,
        count: send.count(),
        endpoint: send.endpoint(),
        channel: send.channel(),
        sequence: send.sequence(),
        time,
    }
}

/// Whether the session has credit for one more frame.
fn take_credit(peers: &Peers, id: SessionRef, bytes: usize) -> Result<(), AppendError> {
    let session = peers
        .sessions
        .get(id)
        .expect("append_one has just found it");
    let retry_after_ms = peers.retry_after_ms();
    let busy = |seen, needed| {
        Err(AppendError::Busy {
            seen,
            needed,
            retry_after_ms,
        })
    };
    let (frames, bytes) = (
        session.unacked_frames + 1,
        session.unacked_bytes + bytes as u64,
    );
    if frames > peers.limits.credit_frames {
        return busy(u64::from(frames), u64::from(peers.limits.credit_frames));
    }
    if bytes > u64::from(peers.limits.credit_bytes) {
        return busy(bytes, u64::from(peers.limits.credit_bytes));
    }
    Ok(())
}

fn spend_credit(peers: &mut Peers, id: SessionRef, bytes: usize) {
    let session = peers
        .sessions
        .get_mut(id)
        .expect("take_credit has just found it");
    session.unacked_frames += 1;
    session.unacked_bytes += bytes as u64;
}

/// A frame that is in the log already is acked when everything in the log by now is committed. Until then it takes
/// credit like a new one: however slow the disk, what waits for it has a bound.
fn await_again<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    frame: &Routed<'_>,
) -> Result<(), AppendError> {
    let bytes = frame.send().frame().bytes().len();
    take_credit(peers, frame.session(), bytes)?;
    spend_credit(peers, frame.session(), bytes);
    peers.counters.append.duplicates += 1;
    let end = log.partition.appended();
    log.waiting.push_back(Waiting {
        end,
        appended: None,
        answer: answer(frame, 1, bytes as u32),
    });
    Ok(())
}

fn answer(frame: &Routed<'_>, frames: u32, bytes: u32) -> Answer {
    Answer {
        connection: frame.connection(),
        session: frame.session(),
        origin: frame.origin(),
        sequence: frame.send().sequence(),
        frames,
        bytes,
    }
}

/// Relay numbers count up by one on each connection; every one of them is answered once.
fn take_relay_number(peers: &mut Peers, id: ConnectionId, number: Sequence) -> Result<(), Notice> {
    let window_max = peers.limits.relay_window_max;
    let Some(connection) = peers.connections.get_mut(id) else {
        return Ok(());
    };
    let next = connection.relays.received + 1;
    if number.0 != next {
        return Err(Notice::new(Reason::OutOfSequence, number.0, next));
    }
    connection.relays.receive();
    let waiting = connection.relays.waiting();
    if waiting > window_max {
        peers.goaway(id, Reason::Busy, waiting as u64, window_max as u64);
    }
    Ok(())
}

/// Refuse a relay number that was not taken: it stays the next one, or was answered before.
fn reject_relay(peers: &mut Peers, id: ConnectionId, number: Sequence, notice: Notice) {
    peers.counters.append.refused += 1;
    peers.reject(id, RELAY_STREAM, number, notice);
}

/// Tell a refusal of an earlier stage, unless its stream goes back already. Of a sealed log nobody knows what it
/// holds, the refused frame perhaps included: then that is what is told.
fn answer_refusal<S: Segment>(peers: &mut Peers, logs: &[Log<S>], refusal: &Refusal) {
    let (id, sequence) = (refusal.connection, refusal.sequence);
    if refusal.partition == RELAY_STREAM
        && let Err(notice) = take_relay_number(peers, id, sequence)
    {
        return reject_relay(peers, id, sequence, notice);
    }
    let sealed = logs
        .iter()
        .any(|log| log.id == refusal.partition && log.sealed());
    let notice = if sealed {
        AppendError::Sealed.notice()
    } else {
        taken_before(peers, logs, refusal).unwrap_or(refusal.notice)
    };
    refuse(peers, id, refusal.partition, sequence, notice);
}

/// A refused frame under a number that this connection has spent is not what was appended under it, and nothing goes
/// back for it: its sender is told that the number is taken, or it would take the appended frame for the refused one.
fn taken_before<S: Segment>(peers: &Peers, logs: &[Log<S>], refusal: &Refusal) -> Option<Notice> {
    let session = peers.session_of(refusal.connection)?;
    let stream = &session.streams[session.stream_of(refusal.partition)?];
    let seen = refusal.sequence;
    let log = &logs[stream.log as usize].partition;
    let needed = log.sender(session.endpoint).last.next();
    let taken = seen > Sequence(0) && seen <= stream.received;
    taken.then(|| AppendError::Replayed { seen, needed }.notice())
}

/// Tell a refusal, and let its stream go back: what follows the refused frame is discarded until it, or an
/// earlier one, comes. A number that was taken before, or that no stream has, leaves no gap: its stream goes on.
pub(crate) fn refuse(
    peers: &mut Peers,
    id: ConnectionId,
    partition: PartitionId,
    sequence: Sequence,
    notice: Notice,
) {
    if partition == RELAY_STREAM {
        answer_relay(peers, id, sequence);
    } else if let Some(reference) = peers.session_of(id).map(|session| session.reference)
        && let Some(session) = peers.sessions.get_mut(reference)
        && let Some(at) = session.stream_of(partition)
    {
        let stream = &mut session.streams[at];
        if stream.blocked.is_some_and(|blocked| sequence > blocked) {
            peers.counters.append.discarded += 1;
            return;
        }
        let gap = sequence > stream.received && notice.reason != Reason::Replayed;
        if gap {
            stream.blocked = Some(sequence);
        }
    }
    peers.reject(id, partition, sequence, notice);
}

/// A relay number has its answer; the next ACK may cover it.
pub(crate) fn answer_relay(peers: &mut Peers, id: ConnectionId, number: Sequence) {
    let Some(connection) = peers.connections.get_mut(id) else {
        return;
    };
    if connection.relays.answer(number.0) && !connection.relays.dirty {
        connection.relays.dirty = true;
        peers.dirty_relays.push(id);
    }
}
