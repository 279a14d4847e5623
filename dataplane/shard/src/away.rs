//! Envelopes for logs of other shards: they are judged where they came in, go to the owner of the log in batches, and are
//! answered from there as those of its own are. Credit is taken where they came in until the answer is there, so what is
//! under way has a bound; so has what waits for a way that is full.

use partition::{AppendError as LogError, NewRecord, Place, RecordKind, Segment};
use wire::frame::split;
use wire::ids::{Offset, PartitionId, RELAY_STREAM, Sequence};
use wire::reason::Notice;
use wire::send::Send;

use crate::append::{AppendError, answer_relay, no_room, refuse};
use crate::io::ConnectionId;
use crate::log::Log;
use crate::peers::Peers;
use crate::planted::{Bug, active};
use crate::route::Routed;
use crate::session::SessionRef;
use crate::verify::Origin;
use crate::waiting::{Answer, Appended, Waiting};

/// Bytes of envelopes that wait for the way to one shard; more are refused for now.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Envelopes for one shard, all of them verified and routed by the shard that they came to.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    envelopes: Vec<Carried>,
}

/// One envelope, whose bytes stand in its batch, and who is told about it. The names are those of the shard it came to.
#[derive(Debug, Clone, Copy)]
struct Carried {
    partition: PartitionId,
    connection: ConnectionId,
    session: SessionRef,
    number: Sequence,
    bytes: u32,
}

/// What became of an envelope.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    connection: ConnectionId,
    session: SessionRef,
    number: Sequence,
    bytes: u64,
    refused: Option<Notice>,
}

/// What waits to go to one other shard.
#[derive(Debug, Default)]
pub(crate) struct Away {
    pub(crate) batch: Batch,
    pub(crate) answers: Vec<Answered>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.envelopes.is_empty()
    }
}

/// Take an envelope along to the shard that owns its log. Its relay number and its credit have been looked at.
pub(crate) fn carry(peers: &mut Peers, to: u16, frame: &Routed<'_>) -> Result<(), AppendError> {
    let (send, number) = match frame.origin() {
        Origin::Relayed(number) => (frame.send(), number),
        Origin::Direct | Origin::Carried(..) => {
            unreachable!("only envelopes are routed to other shards")
        }
    };
    let bytes = send.frame().bytes();
    let retry_after_ms = peers.retry_after_ms();
    let batch = &mut peers.away[usize::from(to)].batch;
    if batch.bytes.len() + bytes.len() > WAITING_BYTES_MAX {
        return Err(AppendError::Busy {
            seen: batch.bytes.len() as u64,
            needed: WAITING_BYTES_MAX as u64,
            retry_after_ms,
        });
    }
    batch.bytes.extend_from_slice(bytes);
    batch.envelopes.push(Carried {
        partition: frame.partition(),
        connection: frame.connection(),
        session: frame.session(),
        number,
        bytes: bytes.len() as u32,
    });
    peers.carried += 1;
    peers.counters.mesh.envelopes_out += 1;
    Ok(())
}

/// Append the envelopes that came to another shard, each as one of this shard's own.
pub(crate) fn append_carried<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    from: u16,
    batch: &Batch,
) {
    let mut rest = &batch.bytes[..];
    for carried in &batch.envelopes {
        let (bytes, after) = rest.split_at(carried.bytes as usize);
        rest = after;
        peers.counters.mesh.envelopes_in += 1;
        let answer = Answer {
            connection: carried.connection,
            session: carried.session,
            origin: Origin::Carried(from, carried.number),
            stream: 0,
            first: carried.number,
            last: carried.number,
            frames: 1,
            bytes: bytes.len() as u64,
        };
        let frame = split(bytes).ok().flatten().map(|(frame, _)| frame);
        let send = frame.and_then(|frame| Send::parse(frame).ok());
        let send = send.expect("the shard that it came to has parsed it");
        let log = logs.iter_mut().find(|log| log.id == carried.partition);
        let log = log.expect("shards of a node agree on who owns what");
        if let Err(error) = append_one(peers, log, &send, answer) {
            peers.counters.append.refused += 1;
            answer_away(peers, &answer, from, Some(error.notice()));
        }
    }
}

/// The replay window of an envelope's own endpoint, and the append.
fn append_one<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    send: &Send<'_>,
    answer: Answer,
) -> Result<(), AppendError> {
    if log.sealed() {
        return Err(AppendError::Sealed);
    }
    let state = log.partition.sender(send.endpoint());
    let place = state.place(send.sequence());
    if place == Place::Below {
        return Err(AppendError::Replayed {
            seen: send.sequence(),
            needed: state.last.next(),
        });
    }
    if place == Place::Seen && !active(Bug::SkipReplayWindow) {
        peers.counters.append.duplicates += 1;
        log.wait(Waiting {
            end: log.partition.appended(),
            appended: None,
            answer,
        });
        return Ok(());
    }
    let new = NewRecord {
        kind: RecordKind::Frame,
        signature_kind: send.signature_kind() as u8,
        count: send.count(),
        endpoint: send.endpoint(),
        channel: send.channel(),
        sequence: send.sequence(),
        time: peers.now.unix,
    };
    let bytes = send.frame().bytes();
    let end = match log.partition.append(&new, &[bytes]) {
        Ok(appended) => appended.end.next,
        Err(error) => return Err(refusal(peers, log, error)),
    };
    let sender = log.sender(send.endpoint());
    let last = &mut log.senders[sender as usize].last;
    *last = send.sequence().max(*last);
    let count = u32::from(send.count());
    let counters = &mut peers.counters.append;
    counters.frames += 1;
    counters.messages += u64::from(count);
    counters.bytes += bytes.len() as u64;
    let appended = Appended {
        first: Offset(end.0 - u64::from(count)),
        count,
        channel: send.channel(),
        message_bytes: send.messages_bytes().len() as u64,
        sender,
    };
    log.wait(Waiting {
        end,
        appended: Some(appended),
        answer,
    });
    Ok(())
}

#[cold]
fn refusal<S: Segment>(peers: &Peers, log: &Log<S>, error: LogError) -> AppendError {
    match error {
        LogError::Full => {
            let disk_full = log.partition.spare_failure().is_some();
            no_room(peers.retry_after_ms(), disk_full)
        }
        LogError::Sealed => AppendError::Sealed,
        LogError::TooLong { bytes, bytes_max } => AppendError::TooLong {
            seen: bytes as u64,
            needed: u64::from(bytes_max),
        },
    }
}

/// Tell the shard to which an envelope came what became of it.
pub(crate) fn answer_away(peers: &mut Peers, answer: &Answer, from: u16, refused: Option<Notice>) {
    peers.away[usize::from(from)].answers.push(Answered {
        connection: answer.connection,
        session: answer.session,
        number: answer.first,
        bytes: answer.bytes,
        refused,
    });
}

/// Pass on what became of envelopes that came to this shard.
pub(crate) fn take_answers(peers: &mut Peers, answers: &[Answered]) {
    for answered in answers {
        peers.carried -= 1;
        if let Some(session) = peers.sessions.get_mut(answered.session) {
            session.return_credit(1, answered.bytes);
        }
        let (connection, number) = (answered.connection, answered.number);
        match answered.refused {
            None => answer_relay(peers, connection, number),
            Some(notice) => refuse(peers, connection, RELAY_STREAM, number, notice),
        }
    }
}
