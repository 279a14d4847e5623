//! Stage 5, append: a sequence number is spent only by an append. Decides which frame comes next in its
//! stream, which was sent again, and which goes back; then copies it, once, into its log.

use partition::{AppendError as LogError, NewRecord, Place, RecordKind, Segment};
use wire::ids::{
    ChannelId, DATAGRAM_STREAM, Offset, PartitionId, RELAY_STREAM, Sequence, UnixNanos,
};
use wire::reason::{Notice, Reason};
use wire::send::Send;

use crate::across::{append_across, refusal_across};
use crate::away::carry;
use crate::connection::Goodbye;
use crate::counters::AppendCounters;
use crate::hottest::Heat;
use crate::hubs::goes_back_unopened;
use crate::io::ConnectionId;
use crate::limits::Limits;
use crate::log::Log;
use crate::parse::Refusal;
use crate::peers::Peers;
use crate::planted::{Bug, active};
use crate::route::{Routed, give_back};
use crate::session::{Session, SessionRef};
use crate::verify::Origin;
use crate::waiting::{Answer, Appended, Waiting};

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
    /// Its number could have been in the log, where it would have needed no grant any more; but it is not.
    #[error("channel {0} is not granted")]
    NotGranted(ChannelId),
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
            Self::NotGranted(channel) => Notice::new(Reason::NotGranted, u64::from(channel.0), 0),
            Self::TooLong { seen, needed } => Notice::new(Reason::FrameTooLong, seen, needed),
        }
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
    let (mut refusals, mut rest) = (refusals.iter().peekable(), routed);
    while let Some(frame) = rest.first() {
        while let Some(refusal) = refusals.next_if(|refusal| refusal.order < frame.order()) {
            answer_refusal(peers, logs, refusal);
        }
        let until = refusals.peek().map_or(u32::MAX, |refusal| refusal.order);
        let appended = append_run(peers, logs, rest, until);
        rest = &rest[appended..];
        if appended == 0 {
            append_one(peers, logs, frame);
            rest = &rest[1..];
        }
    }
    refusals.for_each(|refusal| answer_refusal(peers, logs, refusal));
    peers.sign_all();
}

/// Append the frames that `routed` begins with, as long as they came before `until`, are of one stream and channel, each is the next one of
/// it and there is credit and room. What they share is looked up once. Returns how many there are; the next one is
/// [`append_one`]'s, which tells what it is.
fn append_run<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    routed: &[Routed<'_>],
    until: u32,
) -> usize {
    let first = &routed[0];
    // An envelope is of no stream of its session's, and its log may be another shard's.
    if first.origin() != Origin::Direct {
        return 0;
    }
    let (id, at, log) = (first.session(), first.stream(), first.log());
    let channel = first.send().channel();
    let Some(log) = logs.get_mut(log as usize) else {
        return 0;
    };
    let Some(mut desk) = Desk::find(peers, id) else {
        return 0;
    };
    let stream = desk.session.streams.get(at as usize);
    let Some(stream) = stream.filter(|stream| stream.blocked.is_none()) else {
        return 0;
    };
    let sender = stream.sender;
    let place = log.senders[sender as usize];
    if desk.session.connection != Some(first.connection())
        || place.owner != Some(id)
        || log.sealed()
    {
        return 0;
    }
    let (mut next, mut waiting) = (place.last.next(), None::<Waiting>);
    let mut count = 0;
    for frame in routed {
        let send = frame.send();
        let goes_on = frame.session() == id
            && frame.stream() == at
            && frame.origin() == Origin::Direct
            && frame.order() < until
            && send.sequence() == next
            && send.channel() == channel;
        if !goes_on {
            break;
        }
        let Ok(end) = desk.copy(log, send) else {
            break;
        };
        let (appended, answer) = (appended(send, sender, end), answer(frame));
        let extended = waiting
            .as_mut()
            .is_some_and(|waiting| waiting.extend(end, &appended, &answer));
        if !extended {
            let new = Waiting {
                end,
                appended: Some(appended),
                answer,
            };
            if let Some(before) = waiting.replace(new) {
                log.wait(before);
            }
        }
        next = next.next();
        count += 1;
    }
    if let Some(waiting) = waiting {
        let last = waiting.answer.last;
        log.wait(waiting);
        log.senders[sender as usize].last = last;
        let received = &mut desk.session.streams[at as usize].received;
        *received = last.max(*received);
    }
    count
}

fn append_one<S: Segment>(peers: &mut Peers, logs: &mut [Log<S>], frame: &Routed<'_>) {
    // A session that ended, or that moved to another connection since, is owed nothing here.
    let session = peers.sessions.get(frame.session());
    if session.is_none_or(|session| session.connection != Some(frame.connection())) {
        return give_back(peers, frame);
    }
    let result = match frame.origin() {
        Origin::Direct => match frame.away() {
            Some(to) => return append_across(peers, to, frame),
            None => append_direct(peers, &mut logs[frame.log() as usize], frame),
        },
        Origin::Carried(..) | Origin::Guest(..) => {
            unreachable!("what came to another shard was routed there")
        }
        Origin::Datagram(_) => unreachable!("datagrams are appended by themselves"),
        Origin::Relayed(number) => match take_relay_number(peers, frame.connection(), number) {
            Ok(()) => match frame.away() {
                Some(to) => append_away(peers, to, frame),
                None => append_envelope(peers, &mut logs[frame.log() as usize], frame),
            },
            Err(notice) => {
                give_back(peers, frame);
                return reject_relay(peers, frame.connection(), number, notice);
            }
        },
    };
    let Err(error) = result else { return };
    give_back(peers, frame);
    peers.counters.append.refused += 1;
    let (partition, sequence) = match frame.origin() {
        Origin::Direct | Origin::Guest(..) => (frame.partition(), frame.send().sequence()),
        Origin::Relayed(number) | Origin::Carried(_, number) => (RELAY_STREAM, number),
        Origin::Datagram(number) => (DATAGRAM_STREAM, number),
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
    let mut desk = Desk::at(peers, id);
    let stream = &mut desk.session.streams[frame.stream() as usize];
    if let Some(blocked) = stream.blocked {
        if seen > blocked && !active(Bug::AckCoversRejected) {
            give_back(peers, frame);
            peers.counters.append.discarded += 1;
            return Ok(());
        }
        stream.blocked = None;
    }
    if log.sealed() {
        return Err(AppendError::Sealed);
    }
    let sender = log.senders[stream.sender as usize];
    if sender.owner != Some(id) {
        // A newer session of the endpoint has been welcomed. Were this one to go on, the newer one could not
        // tell its own numbers from those of frames that come in late over a lost connection.
        give_back(peers, frame);
        peers.counters.append.discarded += 1;
        peers.goaway(frame.connection(), Reason::SessionUnknown, 0, 0);
        return Ok(());
    }
    let needed = sender.last.next();
    let next = if active(Bug::SkipDuplicateCheck) && seen <= stream.claimed_last {
        Next::Append
    } else {
        let marks = (stream.received, stream.claimed_last);
        place(marks, log, frame.send(), frame.granted(), needed)?
    };
    let (at, sender) = (frame.stream() as usize, stream.sender);
    match next {
        Next::Append => desk.write(log, frame, sender)?,
        Next::Again => {
            if let Err(error) = desk.await_again(log, frame) {
                // It is in the log: to reject it would say that it is not.
                peers.counters.append.discarded += 1;
                peers.goodbye(frame.connection(), Goodbye::Goaway(error.notice()));
                return Ok(());
            }
        }
    }
    let received = &mut desk.session.streams[at].received;
    *received = seen.max(*received);
    Ok(())
}

/// What a direct frame's number asks for.
pub(crate) enum Next {
    Append,
    Again,
}

/// Whether a direct frame is the next one of its stream, or one that was sent before. Envelopes of the same endpoint may
/// have left numbers out: those are not in the log, and are taken; where that cannot be told, nothing is acked.
/// `received` and `claimed_last` are as in `Stream`.
pub(crate) fn place<S: Segment>(
    (received, claimed_last): (Sequence, Sequence),
    log: &Log<S>,
    send: &Send<'_>,
    granted: bool,
    needed: Sequence,
) -> Result<Next, AppendError> {
    let seen = send.sequence();
    let replayed = AppendError::Replayed { seen, needed };
    if seen == needed {
        return Ok(Next::Append);
    }
    if seen > needed {
        return Err(AppendError::OutOfSequence { seen, needed });
    }
    match log.partition.sender(send.endpoint()).holds(seen) {
        Some(true) if seen > received && seen <= claimed_last => Ok(Next::Again),
        Some(false) if granted => Ok(Next::Append),
        Some(false) => Err(AppendError::NotGranted(send.channel())),
        Some(true) | None => Err(replayed),
    }
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
    let mut desk = Desk::at(peers, frame.session());
    let state = log.partition.sender(send.endpoint());
    let place = state.place(send.sequence());
    if place == Place::Seen && !active(Bug::SkipReplayWindow) {
        return desk.await_again(log, frame);
    }
    if place == Place::Below {
        return Err(AppendError::Replayed {
            seen: send.sequence(),
            needed: state.last.next(),
        });
    }
    let sender = log.sender(send.endpoint());
    desk.write(log, frame, sender)
}

/// What became of a frame that came in a datagram and was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loose {
    Appended,
    /// It is in the log.
    Again,
    /// A later one is in the log: it comes too late. If it is certain that it is not in the log itself, the number that is next.
    Late(Option<Sequence>),
    /// A newer session of the endpoint has its streams.
    Superseded,
}

/// The sequence rule of frames that come in datagrams: what is left out is lost, and what comes behind a higher number is too late,
/// so that what is in the log is in order.
pub(crate) fn append_loose<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    frame: &Routed<'_>,
    answered: bool,
) -> Result<Loose, AppendError> {
    if log.sealed() {
        return Err(AppendError::Sealed);
    }
    let send = frame.send();
    let sender = log.sender(send.endpoint());
    if log.senders[sender as usize].owner != Some(frame.session()) {
        peers.goaway(frame.connection(), Reason::SessionUnknown, 0, 0);
        return Ok(Loose::Superseded);
    }
    let state = log.partition.sender(send.endpoint());
    let (seen, needed) = (send.sequence(), state.last.next());
    match state.place(seen) {
        Place::Ahead => {
            Desk::at(peers, frame.session()).write(log, frame, sender)?;
            peers.counters.datagram.left_out += seen.0 - needed.0;
            Ok(Loose::Appended)
        }
        _ if seen.0 == 0 => Err(AppendError::OutOfSequence { seen, needed }),
        _ => match state.holds(seen) {
            Some(true) => {
                if answered {
                    Desk::at(peers, frame.session()).await_again(log, frame)?;
                }
                Ok(Loose::Again)
            }
            Some(false) => Ok(Loose::Late(Some(needed))),
            None => Ok(Loose::Late(None)),
        },
    }
}

/// An envelope for a log of another shard: it takes credit here until that shard has answered.
fn append_away(peers: &mut Peers, to: u16, frame: &Routed<'_>) -> Result<(), AppendError> {
    let bytes = frame.send().frame().bytes().len();
    Desk::at(peers, frame.session()).take_credit(bytes)?;
    carry(peers, to, frame)?;
    Desk::at(peers, frame.session()).spend_credit(bytes);
    if let (Origin::Relayed(number), true) = (frame.origin(), active(Bug::AckOnTheWay)) {
        answer_relay(peers, frame.connection(), number);
    }
    Ok(())
}

/// What the append of one frame works with: its session, found once.
struct Desk<'p> {
    session: &'p mut Session,
    counters: &'p mut AppendCounters,
    heat: &'p mut Heat,
    limits: &'p Limits,
    time: UnixNanos,
}

impl<'p> Desk<'p> {
    fn at(peers: &'p mut Peers, id: SessionRef) -> Self {
        Self::find(peers, id).expect("append_one has just found it")
    }

    fn find(peers: &'p mut Peers, id: SessionRef) -> Option<Self> {
        Some(Self {
            session: peers.sessions.get_mut(id)?,
            counters: &mut peers.counters.append,
            heat: &mut peers.heat,
            limits: &peers.limits,
            time: peers.now.unix,
        })
    }

    /// Append a frame and let its sender's answer wait for the commit.
    fn write<S: Segment>(
        &mut self,
        log: &mut Log<S>,
        frame: &Routed<'_>,
        sender: u32,
    ) -> Result<(), AppendError> {
        let send = frame.send();
        let end = self.copy(log, send)?;
        let last = &mut log.senders[sender as usize].last;
        *last = send.sequence().max(*last);
        log.wait(Waiting {
            end,
            appended: Some(appended(send, sender, end)),
            answer: answer(frame),
        });
        Ok(())
    }

    /// Copy a frame into its log and spend its credit. Returns the offset after its last message.
    #[inline]
    fn copy<S: Segment>(
        &mut self,
        log: &mut Log<S>,
        send: &Send<'_>,
    ) -> Result<Offset, AppendError> {
        let bytes = send.frame().bytes().len();
        self.take_credit(bytes)?;
        let end = match record(self.counters, self.heat, self.time, log, send) {
            Ok(end) => end,
            Err(error) => return Err(not_taken(log, error, self.limits.retry_after_ms())),
        };
        self.spend_credit(bytes);
        Ok(end)
    }

    /// A frame that is in the log already is acked when everything in the log by now is committed. Until then it takes
    /// credit like a new one: however slow the disk, what waits for it has a bound.
    fn await_again<S: Segment>(
        &mut self,
        log: &mut Log<S>,
        frame: &Routed<'_>,
    ) -> Result<(), AppendError> {
        let bytes = frame.send().frame().bytes().len();
        self.take_credit(bytes)?;
        self.spend_credit(bytes);
        self.counters.duplicates += 1;
        log.wait(Waiting {
            end: log.partition.appended(),
            appended: None,
            answer: answer(frame),
        });
        Ok(())
    }

    /// Whether the session has credit for one more frame.
    fn take_credit(&self, bytes: usize) -> Result<(), AppendError> {
        let busy = |seen, needed| {
            Err(AppendError::Busy {
                seen,
                needed,
                retry_after_ms: self.limits.retry_after_ms(),
            })
        };
        let frames = self.session.unacked_frames + 1;
        let bytes = self.session.unacked_bytes + bytes as u64;
        if frames > self.limits.credit_frames {
            return busy(u64::from(frames), u64::from(self.limits.credit_frames));
        }
        if bytes > u64::from(self.limits.credit_bytes) {
            return busy(bytes, u64::from(self.limits.credit_bytes));
        }
        Ok(())
    }

    fn spend_credit(&mut self, bytes: usize) {
        self.session.unacked_frames += 1;
        self.session.unacked_bytes += bytes as u64;
    }
}

/// Copy a frame into its log, and count it. Returns the offset after its last message.
#[inline]
pub(crate) fn record<S: Segment>(
    counters: &mut AppendCounters,
    heat: &mut Heat,
    time: UnixNanos,
    log: &mut Log<S>,
    send: &Send<'_>,
) -> Result<Offset, LogError> {
    let bytes = send.frame().bytes();
    let new = NewRecord {
        kind: RecordKind::Frame,
        signature_kind: send.signature_kind() as u8,
        count: send.count(),
        endpoint: send.endpoint(),
        channel: send.channel(),
        sequence: send.sequence(),
        time,
    };
    let appended = log.partition.append(&new, &[bytes])?;
    counters.frames += 1;
    counters.messages += u64::from(send.count());
    counters.bytes += bytes.len() as u64;
    heat.note(send.endpoint(), send.channel(), send.count(), bytes.len());
    Ok(appended.end.next)
}

/// Why the log took nothing, as its sender is told.
#[cold]
pub(crate) fn not_taken<S: Segment>(
    log: &Log<S>,
    error: LogError,
    retry_after_ms: u32,
) -> AppendError {
    match error {
        LogError::Full => no_room(retry_after_ms, log.partition.spare_failure().is_some()),
        LogError::Sealed => AppendError::Sealed,
        LogError::TooLong { bytes, bytes_max } => AppendError::TooLong {
            seen: bytes as u64,
            needed: u64::from(bytes_max),
        },
    }
}

/// A frame in its log: the one that ends there.
#[inline]
pub(crate) fn appended(send: &Send<'_>, sender: u32, end: Offset) -> Appended {
    Appended {
        first: Offset(end.0 - u64::from(send.count())),
        count: u32::from(send.count()),
        channel: send.channel(),
        message_bytes: send.messages_bytes().len() as u64,
        sender,
    }
}

#[inline]
fn answer(frame: &Routed<'_>) -> Answer {
    let send = frame.send();
    Answer {
        connection: frame.connection(),
        session: frame.session(),
        origin: frame.origin(),
        stream: frame.stream(),
        first: send.sequence(),
        last: send.sequence(),
        frames: 1,
        bytes: send.frame().bytes().len() as u64,
    }
}

/// Relay numbers count up by one on each connection; every one of them is answered once.
fn take_relay_number(peers: &mut Peers, id: ConnectionId, number: Sequence) -> Result<(), Notice> {
    let window_max = peers.limits.relay_window_max;
    let Some(connection) = peers.connections.get_mut(id) else {
        return Ok(());
    };
    let relays = connection.relays.get_or_insert_default();
    let next = relays.received + 1;
    if number.0 != next {
        return Err(Notice::new(Reason::OutOfSequence, number.0, next));
    }
    relays.receive();
    let waiting = relays.waiting();
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
    if refusal_across(peers, refusal) {
        return;
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
    {
        let Some(at) = session.stream_of(partition) else {
            if goes_back_unopened(peers, reference, partition, sequence) {
                return peers.reject(id, partition, sequence, notice);
            }
            peers.counters.append.discarded += 1;
            return;
        };
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
    let Some(relays) = &mut connection.relays else {
        return;
    };
    if relays.answer(number.0) && !relays.dirty {
        relays.dirty = true;
        peers.dirty_relays.push(id);
    }
}
