//! Streams of this shard's sessions to logs of other shards, as the session's shard sees them. Frames are parsed, verified,
//! routed and given credit here; what their numbers mean is judged by the owner of the log, in the order in which they came
//! (`guest.rs`), and answered here.
//!
//! A frame that is refused here may stand behind one that the owner refuses: then nothing is told of it. So a refusal goes to
//! the owner, too, in its place, and comes back as the owner sees it, as long as it has not answered all that went before.
//! Only where the way is crowded, or the connection ends, it is told at once, if the number cannot be in the log.

use std::collections::VecDeque;

use wire::ids::{AckMode, Offset, PartitionId, Sequence};
use wire::reason::{Notice, Reason};
use wire::route::{EndpointView, GrantView};

use crate::away::{Answered, Away, Cargo, Mark, Said, Taken};
use crate::connection::Goodbye;
use crate::io::ConnectionId;
use crate::limits::Limits;
use crate::parse::Refusal;
use crate::peers::Peers;
use crate::route::{Routed, give_back};
use crate::session::{Session, SessionRef, Stream};

/// A stream to a log of another shard.
#[derive(Debug, Default)]
pub(crate) struct Across {
    /// The highest number that is committed, as the owner of the log said when it gave the stream to this connection.
    pub(crate) committed: Option<Sequence>,
    /// The log was sealed by then: what is in it nobody knows.
    sealed: bool,
    /// The highest number that went to the owner on this connection.
    high: Sequence,
    /// Numbers that went to the owner rise as long as this stands still.
    round: u32,
    /// The first frame of each round that may have no answer yet; refusals are left out. There is one more at most than has no
    /// answer: each answer ends the rounds before its own.
    firsts: VecDeque<(u32, Sequence)>,
    /// What went to the owner in this round.
    gone: Taken,
    /// Frames on their way behind one that was refused: the owner will discard them. They take no credit any more.
    pub(crate) doomed: Taken,
    doomed_round: u32,
    /// What went to the owner on this connection and has no answer yet.
    unanswered: u32,
    /// What of it waits for the way, in the batch of this number.
    waits: (u32, usize),
}

/// Ask the owner of a log for the stream of a session's endpoint. Returns the stream's place.
pub(crate) fn claim_away(
    away: &mut Away,
    session: &mut Session,
    log: u32,
    partition: PartitionId,
) -> usize {
    session.streams.reserve_exact(1);
    session.streams.push(Stream {
        log,
        partition,
        sender: u32::MAX,
        claimed_last: Sequence(0),
        received: Sequence(0),
        blocked: None,
        acked: Sequence(0),
        acked_offset: Offset(0),
        dirty: false,
        ack_mode: AckMode::Durable,
        across: Some(Box::default()),
    });
    let stream = session.streams.len() - 1;
    let connection = session.connection.expect("the caller has looked");
    let whose = (connection, session.reference, stream as u32);
    away.load(partition, whose, Cargo::Claim(session.endpoint), &[]);
    stream
}

impl Peers {
    /// Whether streams of an endpoint can be claimed now, wherever they are.
    pub(crate) fn check_ways(&self, endpoint: &EndpointView<'_>) -> Result<(), Notice> {
        let full = |grant: GrantView<'_>| {
            let channel = self.table.channel(grant.channel);
            let partition = channel.map(|channel| self.table.partition_of(endpoint.id, channel));
            let owner = partition.and_then(|id| self.ownership.partition(id));
            let away = owner.and_then(|owner| self.away.get(usize::from(owner)));
            away.is_some_and(Away::full)
        };
        match self.away.is_empty() || !endpoint.send.iter().any(full) {
            true => Ok(()),
            false => Err(Notice::new(Reason::Busy, 0, 0).retry_after(self.limits.retry_after_ms())),
        }
    }

    /// The shard that owns the log of a connection's stream, if it is another one, and where the stream is.
    pub(crate) fn away_of(
        &self,
        id: ConnectionId,
        partition: PartitionId,
    ) -> Option<(u16, SessionRef, usize)> {
        if self.away.is_empty() {
            return None;
        }
        let session = self.session_of(id)?;
        let at = session.stream_of(partition)?;
        Some((session.streams[at].away()?, session.reference, at))
    }
}

impl Stream {
    /// Note that a number goes to the owner, with what it takes. Returns where it stands in its round.
    fn go(&mut self, number: Sequence, bytes: usize) -> Mark {
        let across = self.across.as_mut().expect("its log is another shard's");
        // 0 is no number, but the owner takes it for one before all others: it does not discard it.
        if number <= self.received {
            across.begin_round();
        }
        self.received = number;
        if across.unanswered == 0 {
            across.firsts.clear();
        }
        // A refusal takes its stream back only if its owner says so.
        let known = across
            .firsts
            .back()
            .is_some_and(|(round, _)| *round == across.round);
        if bytes > 0 && !known {
            across.firsts.push_back((across.round, number));
        }
        if bytes > 0 {
            across.high = across.high.max(number);
        }
        across.unanswered += 1;
        across.gone.frames += u32::from(bytes > 0);
        across.gone.bytes += bytes as u64;
        Mark {
            round: across.round,
            gone: across.gone,
        }
    }

    /// Everything above a number will be discarded until it comes, or an earlier one.
    fn block(&mut self, number: Sequence) {
        self.blocked = Some(self.blocked.map_or(number, |before| before.min(number)));
    }
}

impl Across {
    fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.gone = Taken::default();
    }

    /// Something of a round was answered: whatever went in those before it has been judged, and what refuses any of it has come.
    fn end_rounds_before(&mut self, round: u32) {
        let over = |(before, _): &mut (u32, Sequence)| is_before(*before, round);
        while self.firsts.pop_front_if(over).is_some() {}
    }

    /// Bytes that wait for the way in the batch of this number.
    fn waiting(&self, number: u32) -> usize {
        if self.waits.0 == number {
            self.waits.1
        } else {
            0
        }
    }

    /// Whether a number cannot be in the log.
    fn is_new(&self, number: Sequence, claimed_last: Sequence) -> bool {
        let told = self.committed.is_some() && !self.sealed;
        told && number > self.high.max(claimed_last)
    }

    /// Whether frames that the owner discards have no credit any more.
    fn forget_doomed(&mut self, round: u32, taken: Taken) -> bool {
        let doomed = self.doomed.frames > 0 && self.doomed_round == round;
        if doomed {
            self.doomed.frames -= taken.frames;
            self.doomed.bytes -= taken.bytes;
        }
        doomed
    }
}

/// Whether a round came before another one, of which fewer than 2^31 are ever looked at together.
fn is_before(round: u32, other: u32) -> bool {
    (1..1 << 31).contains(&other.wrapping_sub(round))
}

/// A session's own frame for a log of another shard.
#[inline(never)]
pub(crate) fn append_across(peers: &mut Peers, to: u16, frame: &Routed<'_>) {
    let (id, reference, at) = (frame.connection(), frame.session(), frame.stream() as usize);
    let (number, bytes) = (frame.send().sequence(), frame.send().frame().bytes());
    let Some(session) = peers.sessions.get_mut(reference) else {
        return give_back(peers, frame);
    };
    let stream = &mut session.streams[at];
    if stream.blocked.is_some_and(|blocked| number > blocked) {
        peers.counters.append.discarded += 1;
        return give_back(peers, frame);
    }
    stream.blocked = None;
    let away = &mut peers.away[usize::from(to)];
    if let Some(notice) = busy(&peers.limits, session, at, away, bytes.len()) {
        peers.counters.append.refused += 1;
        give_back(peers, frame);
        return refuse_across(peers, to, id, (reference, at), number, notice);
    }
    session.unacked_frames += 1;
    session.unacked_bytes += bytes.len() as u64;
    let stream = &mut session.streams[at];
    let mark = stream.go(number, bytes.len());
    if let Some(across) = &mut stream.across {
        across.waits = (away.number, across.waiting(away.number) + bytes.len());
    }
    let cargo = Cargo::Direct {
        granted: frame.granted(),
        paid: frame.paid(),
        mark,
    };
    let whose = (id, reference, at as u32);
    away.load(stream.partition, whose, cargo, bytes);
    peers.carried += 1;
    peers.counters.mesh.frames_out += 1;
}

/// Why a frame cannot be taken now, if so: no credit, or no room on the way.
fn busy(
    limits: &Limits,
    session: &Session,
    at: usize,
    away: &Away,
    bytes: usize,
) -> Option<Notice> {
    let across = session.streams[at].across.as_ref()?;
    let frames = session.unacked_frames + 1;
    let unacked = session.unacked_bytes + bytes as u64;
    let (seen, needed) = if frames > limits.credit_frames {
        (u64::from(frames), u64::from(limits.credit_frames))
    } else if unacked > u64::from(limits.credit_bytes) {
        (unacked, u64::from(limits.credit_bytes))
    } else {
        away.crowded(across.waiting(away.number), bytes)?
    };
    Some(Notice::new(Reason::Busy, seen, needed).retry_after(limits.retry_after_ms()))
}

/// Tell a refusal of a session's frame whose log another shard owns.
fn refuse_across(
    peers: &mut Peers,
    to: u16,
    id: ConnectionId,
    (reference, at): (SessionRef, usize),
    number: Sequence,
    notice: Notice,
) {
    let away = &peers.away[usize::from(to)];
    let (slow, full) = (away.slow(), away.full());
    let ends = peers
        .connections
        .get(id)
        .is_none_or(|connection| !connection.listens());
    let Some(session) = peers.sessions.get_mut(reference) else {
        return;
    };
    let stream = &mut session.streams[at];
    let Some(across) = &stream.across else {
        return;
    };
    if stream.blocked.is_some_and(|blocked| number > blocked) {
        peers.counters.append.discarded += 1;
        return;
    }
    let new = across.is_new(number, stream.claimed_last);
    let now = across.unanswered == 0 || slow || ends;
    let told = now && (new || number == Sequence(0));
    if full && !told {
        // What it is told must be true, and nobody can be asked now.
        let busy = Notice::new(Reason::Busy, 0, 0).retry_after(peers.retry_after_ms());
        return peers.goodbye(id, Goodbye::Goaway(busy));
    }
    if new {
        // Whatever the owner says of it, what follows is discarded.
        stream.blocked = Some(number);
    }
    if told {
        let partition = stream.partition;
        return peers.reject(id, partition, number, notice);
    }
    let mark = stream.go(number, 0);
    let cargo = Cargo::Refused {
        endpoint: session.endpoint,
        number,
        notice,
        mark,
    };
    let whose = (id, reference, at as u32);
    peers.away[usize::from(to)].load(stream.partition, whose, cargo, &[]);
    peers.carried += 1;
}

/// The same for a refusal of an earlier stage, if its stream is one of these.
#[inline(never)]
pub(crate) fn refusal_across(peers: &mut Peers, refusal: &Refusal) -> bool {
    let Some((to, reference, at)) = peers.away_of(refusal.connection, refusal.partition) else {
        return false;
    };
    let (id, number, notice) = (refusal.connection, refusal.sequence, refusal.notice);
    refuse_across(peers, to, id, (reference, at), number, notice);
    true
}

/// Pass on what the owner of a log said of a session's stream.
pub(crate) fn take_answer(peers: &mut Peers, answered: &Answered) {
    let (id, reference, at) = (
        answered.connection,
        answered.session,
        answered.stream as usize,
    );
    let taken = answered.taken;
    let Some(session) = peers.sessions.get_mut(reference) else {
        return;
    };
    let current = session.connection == Some(id);
    let stream = session.streams.get_mut(at).filter(|_| current);
    let across = stream.and_then(|stream| stream.across.as_mut());
    let Some(across) = across else {
        return session.return_credit(taken.frames, taken.bytes);
    };
    across.unanswered -= answered.items;
    if let Some(round) = answered.said.round() {
        across.end_rounds_before(round);
    }
    let doomed = match answered.said {
        Said::Discarded(round) | Said::Superseded(round) => across.forget_doomed(round, taken),
        _ => false,
    };
    if !doomed {
        session.return_credit(taken.frames, taken.bytes);
    }
    let stream = &mut session.streams[at];
    match answered.said {
        Said::Claimed {
            last,
            committed,
            sealed,
        } => {
            stream.claimed_last = last;
            if let Some(across) = &mut stream.across {
                (across.committed, across.sealed) = (Some(committed), sealed);
            }
        }
        Said::Acked {
            last,
            offset,
            ack_mode,
            round: _,
        } => {
            let weaker = stream.dirty && stream.ack_mode == AckMode::Local;
            stream.ack_mode = if weaker { AckMode::Local } else { ack_mode };
            (stream.acked, stream.acked_offset) = (stream.acked.max(last), offset);
            if !std::mem::replace(&mut stream.dirty, true) {
                peers.dirty.push((reference, answered.stream));
            }
        }
        Said::Rejected {
            number,
            notice,
            gap,
            mark,
        } => {
            let partition = stream.partition;
            if gap {
                go_back(session, at, number, mark);
            }
            peers.reject(id, partition, number, notice);
        }
        Said::Discarded(_) => peers.counters.append.discarded += u64::from(answered.items),
        Said::Superseded(_) => peers.goaway(id, Reason::SessionUnknown, 0, 0),
        Said::Closed(notice) => peers.goodbye(id, Goodbye::Goaway(notice)),
        Said::Relayed(..) => unreachable!("answers to envelopes are told apart"),
    }
}

/// The owner refused a number: its stream goes back to it, unless it has done so already.
fn go_back(session: &mut Session, at: usize, number: Sequence, mark: Option<Mark>) {
    let stream = &mut session.streams[at];
    let Some(across) = &mut stream.across else {
        return;
    };
    let Some(mark) = mark.filter(|mark| mark.round == across.round) else {
        let went_back = mark.is_some_and(|mark| {
            let mut firsts = across.firsts.iter();
            firsts.any(|(round, first)| is_before(mark.round, *round) && *first <= number)
        });
        if !went_back {
            stream.block(number);
        }
        return;
    };
    // Everything behind it in the round will be discarded, and takes no credit from now on.
    let frames = across.gone.frames - mark.gone.frames;
    let bytes = across.gone.bytes - mark.gone.bytes;
    if frames > 0 {
        across.doomed_round = mark.round;
        across.doomed.frames += frames;
        across.doomed.bytes += bytes;
    }
    across.begin_round();
    stream.received = Sequence(number.0 - 1);
    stream.block(number);
    session.return_credit(frames, bytes);
}

#[cfg(test)]
#[path = "across_tests.rs"]
mod tests;
