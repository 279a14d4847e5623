//! Stage 6, commit: what is durable is acked, and only that. One sync in flight for each log; while it runs
//! the next batch gathers, so the disk sets the size of the batches. With ack mode `local` frames are
//! acked at once and the sync runs behind.

use partition::{CommitTicket, LogId, Segment, StorageError};
use wire::ids::{AckMode, ChannelId, DATAGRAM_STREAM, Offset, PartitionId, RELAY_STREAM};
use wire::reason::{Notice, Reason};

use crate::acknowledge::{LooseAck, acknowledge};
use crate::append::{answer_relay, refuse};
use crate::guest;
use crate::io::{Output, StorageEvent, StorageRequest};
use crate::log::{Group, Log};
use crate::mesh::Mesh;
use crate::peers::Peers;
use crate::planted::{Bug, active};
use crate::route::Owned;
use crate::session::Stream;
use crate::verify::Origin;
use crate::waiting::{Answer, Appended, Waiting};

/// Neighbouring records go to the queues together up to this many bytes, as a record of this length would alone: the bytes of
/// a run that is taken in part are reckoned in proportion.
pub(crate) const TOGETHER_BYTES_MAX: u64 = 64 << 10;

/// Neighbouring records of one channel that are as safe as their hub's ack mode asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    partition: PartitionId,
    channel: ChannelId,
    first: Offset,
    count: u32,
    records: u32,
    message_bytes: u64,
}

impl Committed {
    pub(crate) fn partition(&self) -> PartitionId {
        self.partition
    }

    pub(crate) fn channel(&self) -> ChannelId {
        self.channel
    }

    pub(crate) fn first(&self) -> Offset {
        self.first
    }

    /// Messages of all of them.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    pub(crate) fn message_bytes(&self) -> u64 {
        self.message_bytes
    }
}

/// Take in the results of storage requests.
pub(crate) fn take_storage<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    queues: &mut [Group<S>],
    owned: &Owned,
    events: &mut Vec<StorageEvent<S>>,
) {
    for event in events.drain(..) {
        match event {
            StorageEvent::Prepared {
                log: LogId::Partition(id),
                segment,
            } => {
                if let Some(at) = owned.log(id) {
                    logs[at as usize].partition.offer(segment);
                }
            }
            StorageEvent::Prepared {
                log: LogId::Queue(number),
                segment,
            } => {
                if let Some(group) = group_mut(queues, number) {
                    group.queues.offer(segment);
                }
            }
            StorageEvent::PrepareFailed { log, error } => {
                prepare_failed(peers, logs, queues, owned, log, error)
            }
            StorageEvent::Synced { ticket, result } => {
                synced(peers, logs, queues, owned, ticket, result)
            }
        }
    }
}

fn group_mut<S: Segment>(groups: &mut [Group<S>], number: u16) -> Option<&mut Group<S>> {
    groups
        .iter_mut()
        .find(|group| group.queues.number() == number)
}

fn prepare_failed<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    queues: &mut [Group<S>],
    owned: &Owned,
    log: LogId,
    error: StorageError,
) {
    peers.counters.commit.prepare_failures += 1;
    let again = peers.now.monotonic + peers.limits.expiry_interval;
    match log {
        LogId::Partition(id) => {
            if let Some(at) = owned.log(id) {
                logs[at as usize].partition.spare_failed(error);
                logs[at as usize].prepare_at = again;
            }
        }
        LogId::Queue(number) => {
            if let Some(group) = group_mut(queues, number) {
                group.queues.log_mut().spare_failed(error);
                group.prepare_at = again;
            }
        }
    }
}

fn synced<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    queues: &mut [Group<S>],
    owned: &Owned,
    ticket: CommitTicket,
    result: Result<(), StorageError>,
) {
    peers.counters.commit.sync_failures += u64::from(result.is_err());
    match ticket.log {
        LogId::Partition(id) => {
            let Some(at) = owned.log(id) else { return };
            let log = &mut logs[at as usize];
            log.rolled |= ticket.segments.len() > 1;
            if log.partition.finish_commit(ticket, result).is_err() {
                give_up_waiting(peers, log);
            }
        }
        LogId::Queue(number) => {
            if let Some(group) = group_mut(queues, number) {
                // A sealed journal stops fan-out, which sees it by itself; deliveries go on.
                let _sealed = group.queues.finish_commit(ticket, result);
            }
        }
    }
}

/// The log is sealed: what was not durable never will be. Say so instead of an ack.
fn give_up_waiting<S: Segment>(peers: &mut Peers, log: &mut Log<S>) {
    let notice = Notice::new(Reason::PartitionSealed, 0, 0);
    for waiting in log.give_up_waiting() {
        let answer = waiting.answer;
        peers.counters.commit.sealed_frames += u64::from(answer.frames);
        if let Origin::Carried(from, _) | Origin::Guest(from, _) = answer.origin {
            guest::give_up(peers, log, &answer, from, notice);
            continue;
        }
        if let Some(session) = peers.sessions.get_mut(answer.session) {
            session.return_credit(answer.frames, answer.bytes);
        }
        match answer.origin {
            Origin::Direct if speaks_for(peers, &answer) => {
                go_back_to(peers, &answer);
                refuse(peers, answer.connection, log.id, answer.first, notice);
                // Those behind it go back with it, as everything does that follows a refused frame.
                peers.counters.append.discarded += u64::from(answer.frames - 1);
            }
            Origin::Datagram(number) if number.0 > 0 && speaks_for(peers, &answer) => {
                peers.reject(answer.connection, DATAGRAM_STREAM, number, notice);
            }
            Origin::Direct | Origin::Carried(..) | Origin::Guest(..) | Origin::Datagram(_) => {}
            Origin::Relayed(number) => {
                refuse(peers, answer.connection, RELAY_STREAM, number, notice)
            }
        }
    }
}

/// A frame that will never be durable is in the log, perhaps: its stream goes back to it all the same.
fn go_back_to(peers: &mut Peers, answer: &Answer) {
    let session = peers.sessions.get_mut(answer.session);
    if let Some(stream) =
        session.and_then(|session| session.streams.get_mut(answer.stream as usize))
    {
        let blocked = stream.blocked;
        stream.blocked = Some(blocked.map_or(answer.first, |before| before.min(answer.first)));
    }
}

/// Whether the session still talks over the connection on which the frame came.
fn speaks_for(peers: &Peers, answer: &Answer) -> bool {
    let session = peers.sessions.get(answer.session);
    session.is_some_and(|session| session.connection == Some(answer.connection))
}

/// Stage 6: commit what can be, note its acks, ask for syncs and spares.
pub(crate) fn commit<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    committed: &mut Vec<Committed>,
    output: &mut Output<S>,
) {
    for log in logs.iter_mut() {
        if log.ack == AckMode::Local || active(Bug::AckBeforeSync) {
            log.partition.commit_local();
        }
        while let Some(waiting) = log.settle_next() {
            settle(peers, log, &waiting, committed);
        }
        log.close_waiting();
        if let Some(ticket) = log.partition.begin_commit() {
            peers.counters.commit.syncs += 1;
            output.storage.push(StorageRequest::Sync(ticket));
        }
        if log.prepare_at <= peers.now.monotonic
            && let Some(bytes) = log.partition.request_spare()
        {
            output.storage.push(StorageRequest::Prepare {
                log: log.partition.log(),
                bytes,
            });
        }
        log.check();
    }
    acknowledge(peers, logs);
}

/// Frames are committed: give their credit back, note their ack, hand them on.
fn settle<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    waiting: &Waiting,
    committed: &mut Vec<Committed>,
) {
    let answer = &waiting.answer;
    if let Some(appended) = &waiting.appended {
        let sender = &mut log.senders[appended.sender as usize];
        sender.committed = sender.committed.max(answer.last);
        peers.counters.commit.frames += u64::from(answer.frames);
        peers.counters.commit.messages += u64::from(appended.count);
        hand_on(log.id, appended, answer.frames, committed);
    }
    if let Origin::Carried(from, _) | Origin::Guest(from, _) = answer.origin {
        return guest::settle(peers, log, waiting, from);
    }
    let session = peers.sessions.get_mut(answer.session);
    if let Some(session) = session {
        session.return_credit(answer.frames, answer.bytes);
        if answer.origin == Origin::Direct
            && session.connection == Some(answer.connection)
            && let Some(stream) = session.streams.get_mut(answer.stream as usize)
        {
            debug_assert_eq!(
                stream.partition, log.id,
                "a session's streams keep their places"
            );
            if note_ack(stream, waiting) {
                peers.dirty.push((answer.session, answer.stream));
            }
        }
    }
    match answer.origin {
        Origin::Relayed(number) => answer_relay(peers, answer.connection, number),
        Origin::Datagram(number) if number.0 > 0 && speaks_for(peers, answer) => {
            peers.loose.push(LooseAck {
                connection: answer.connection,
                number,
                offset: waiting.last_offset(),
                ack_mode: log.ack,
            });
        }
        _ => {}
    }
}

/// Let records go to the queues together with those before them, if they lie next to each other.
fn hand_on(partition: PartitionId, new: &Appended, records: u32, committed: &mut Vec<Committed>) {
    let neighbour = committed.last_mut().filter(|last| {
        last.partition == partition
            && last.channel == new.channel
            && last.first.plus(u64::from(last.count)) == new.first
            && last.message_bytes + new.message_bytes <= TOGETHER_BYTES_MAX
    });
    match neighbour {
        Some(last) => {
            last.count += new.count;
            last.records += records;
            last.message_bytes += new.message_bytes;
        }
        None => committed.push(Committed {
            partition,
            channel: new.channel,
            first: new.first,
            count: new.count,
            records,
            message_bytes: new.message_bytes,
        }),
    }
}

/// Note what the next ACK of a stream says. Whether it is the first to move the stream since the last ACK.
fn note_ack(stream: &mut Stream, waiting: &Waiting) -> bool {
    stream.acked = stream.acked.max(waiting.answer.last);
    stream.acked_offset = waiting.last_offset();
    !std::mem::replace(&mut stream.dirty, true)
}

/// Write the journals of the queues, and ask for their syncs and spares. Watermarks that moved alone are written when
/// retention is looked at: what it takes must not be missed by a recovery.
pub(crate) fn commit_journals<S: Segment>(
    peers: &mut Peers,
    groups: &mut [Group<S>],
    retention: bool,
    output: &mut Output<S>,
) {
    for group in groups {
        if retention || peers.draining {
            group.queues.write_watermarks();
        }
        // A journal that is full or sealed lets everything wait; fan-out pauses by itself.
        group.stuck = group.queues.flush(peers.now.unix).is_err();
        let now = peers.now.monotonic;
        let due = group.queues.wants_sync() || group.sync_at <= now || peers.draining;
        if due && let Some(ticket) = group.queues.begin_commit() {
            group.sync_at = now + peers.limits.expiry_interval;
            peers.counters.commit.syncs += 1;
            output.storage.push(StorageRequest::Sync(ticket));
        }
        if group.prepare_at <= peers.now.monotonic
            && let Some(bytes) = group.queues.log_mut().request_spare()
        {
            let log = group.queues.log().log();
            output.storage.push(StorageRequest::Prepare { log, bytes });
        }
    }
}

/// Hand out segments that retention no longer keeps; nothing that has yet to be fanned out, on whatever shard, goes, and
/// nothing that another shard may still look at.
pub(crate) fn retire<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    groups: &mut [Group<S>],
    mesh: &mut Mesh<S>,
    output: &mut Output<S>,
) {
    let (now, most) = (peers.now.unix, peers.limits.retire_per_turn);
    let mut retired = 0;
    for (at, log) in logs.iter_mut().enumerate() {
        let hold = groups
            .iter()
            .map(|group| group.queues.watermark(log.id))
            .min();
        log.partition.set_hold(mesh.hold(at, hold));
        let id = log.partition.log();
        while retired < most
            && mesh.lets_go(at, most)
            && let Some(segment) = log.partition.expire(now)
        {
            retired += 1;
            let first = log.partition.first();
            let left = mesh.leave(at, first, segment).into_iter();
            output
                .storage
                .extend(left.map(|segment| StorageRequest::Retire { log: id, segment }));
        }
        while let Some(segment) = mesh.left(at) {
            output
                .storage
                .push(StorageRequest::Retire { log: id, segment });
        }
        log.rolled = retired == most;
    }
    for group in groups {
        while retired < most
            && let Some(segment) = group.queues.expire_segment(now)
        {
            retired += 1;
            let log = group.queues.log().log();
            output.storage.push(StorageRequest::Retire { log, segment });
        }
    }
    peers.counters.commit.retired_segments += retired as u64;
}
