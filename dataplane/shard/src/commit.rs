//! Stage 6, commit: what is durable is acked, and only that. One sync in flight for each log; while it runs
//! the next batch gathers, so the disk sets the size of the batches. With ack mode `local` frames are
//! acked at once and the sync runs behind.

use partition::{CommitTicket, LogId, Segment, StorageError};
use wire::ack::Ack;
use wire::ids::{AckMode, ChannelId, Offset, PartitionId, RELAY_STREAM, Sequence};
use wire::reason::{Notice, Reason};

use crate::append::{Answer, Waiting, answer_relay, refuse};
use crate::io::{ConnectionId, Output, StorageEvent, StorageRequest};
use crate::log::{Group, Log};
use crate::peers::Peers;
use crate::planted::{Bug, active};
use crate::route::Owned;
use crate::session::SessionRef;
use crate::verify::Origin;

/// A record that is as safe as its hub's ack mode asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    partition: PartitionId,
    channel: ChannelId,
    first: Offset,
    count: u16,
    message_bytes: u32,
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

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    pub(crate) fn message_bytes(&self) -> u32 {
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
    let committed = log.partition.committed();
    let notice = Notice::new(Reason::PartitionSealed, 0, 0);
    let keep = log
        .waiting
        .partition_point(|waiting| waiting.end() <= committed);
    for waiting in log.waiting.split_off(keep) {
        peers.counters.commit.sealed_frames += 1;
        let answer = *waiting.answer();
        return_credit(peers, &answer);
        match answer.origin {
            Origin::Direct if speaks_for(peers, &answer) => {
                go_back_to(peers, log.id, &answer);
                refuse(peers, answer.connection, log.id, answer.sequence, notice);
            }
            Origin::Direct => {}
            Origin::Relayed(number) => {
                refuse(peers, answer.connection, RELAY_STREAM, number, notice)
            }
        }
    }
}

/// A frame that will never be durable is in the log, perhaps: its stream goes back to it all the same.
fn go_back_to(peers: &mut Peers, partition: PartitionId, answer: &Answer) {
    if let Some(session) = peers.sessions.get_mut(answer.session)
        && let Some(at) = session.stream_of(partition)
    {
        let blocked = &mut session.streams[at].blocked;
        *blocked = Some(blocked.map_or(answer.sequence, |before| before.min(answer.sequence)));
    }
}

fn return_credit(peers: &mut Peers, answer: &Answer) {
    if answer.frames > 0
        && let Some(session) = peers.sessions.get_mut(answer.session)
    {
        session.return_credit(answer.bytes);
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
        let upto = log.partition.committed();
        while log
            .waiting
            .front()
            .is_some_and(|waiting| waiting.end() <= upto)
        {
            let waiting = log.waiting.pop_front().expect("the loop has just seen it");
            settle(peers, log, &waiting, committed);
        }
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

/// A frame is committed: give its credit back, note its ack, hand it on.
fn settle<S: Segment>(
    peers: &mut Peers,
    log: &mut Log<S>,
    waiting: &Waiting,
    committed: &mut Vec<Committed>,
) {
    let answer = *waiting.answer();
    if let Some(appended) = waiting.appended() {
        let sender = &mut log.senders[appended.sender() as usize];
        sender.committed = sender.committed.max(answer.sequence);
        peers.counters.commit.frames += 1;
        peers.counters.commit.messages += u64::from(appended.count());
        committed.push(Committed {
            partition: log.id,
            channel: appended.channel(),
            first: appended.first(),
            count: appended.count(),
            message_bytes: appended.message_bytes(),
        });
    }
    return_credit(peers, &answer);
    match answer.origin {
        Origin::Relayed(number) => answer_relay(peers, answer.connection, number),
        Origin::Direct => note_ack(peers, log.id, waiting, &answer),
    }
}

fn note_ack(peers: &mut Peers, partition: PartitionId, waiting: &Waiting, answer: &Answer) {
    let Some(session) = peers.sessions.get_mut(answer.session) else {
        return;
    };
    if session.connection != Some(answer.connection) {
        return;
    }
    let Some(at) = session.stream_of(partition) else {
        return;
    };
    let stream = &mut session.streams[at];
    stream.acked = stream.acked.max(answer.sequence);
    // Where a frame rests that was sent again is not known any more.
    let last = Offset(waiting.end().0.saturating_sub(1));
    stream.acked_offset = if waiting.appended().is_some() {
        last
    } else {
        Offset(0)
    };
    if !stream.dirty {
        stream.dirty = true;
        peers.dirty.push((answer.session, at as u32));
    }
}

/// Write the journals of the queues, and ask for their syncs and spares.
pub(crate) fn commit_journals<S: Segment>(
    peers: &mut Peers,
    groups: &mut [Group<S>],
    output: &mut Output<S>,
) {
    for group in groups {
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

/// Hand out segments that retention no longer keeps; nothing that has yet to be fanned out goes.
pub(crate) fn retire<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    groups: &mut [Group<S>],
    output: &mut Output<S>,
) {
    let (now, most) = (peers.now.unix, peers.limits.retire_per_turn);
    let mut retired = 0;
    for log in logs {
        let hold = groups
            .iter()
            .map(|group| group.queues.watermark(log.id))
            .min();
        log.partition.set_hold(hold);
        while retired < most
            && let Some(segment) = log.partition.expire(now)
        {
            retired += 1;
            output.storage.push(StorageRequest::Retire {
                log: log.partition.log(),
                segment,
            });
        }
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

/// One cumulative ACK for each stream that moved in this turn.
fn acknowledge<S: Segment>(peers: &mut Peers, logs: &[Log<S>]) {
    let mut dirty = std::mem::take(&mut peers.dirty);
    for (reference, at) in dirty.drain(..) {
        acknowledge_stream(peers, logs, reference, at as usize);
    }
    peers.dirty = dirty;
    let mut dirty = std::mem::take(&mut peers.dirty_relays);
    for id in dirty.drain(..) {
        acknowledge_relays(peers, id);
    }
    peers.dirty_relays = dirty;
}

fn acknowledge_stream<S: Segment>(
    peers: &mut Peers,
    logs: &[Log<S>],
    reference: SessionRef,
    at: usize,
) {
    let (credit_frames, credit_bytes) = (peers.limits.credit_frames, peers.limits.credit_bytes);
    let Some(session) = peers.sessions.get_mut(reference) else {
        return;
    };
    let Some(stream) = session.streams.get_mut(at) else {
        return;
    };
    if !std::mem::take(&mut stream.dirty) {
        return;
    }
    let (partition, sequence, offset) = (stream.partition, stream.acked, stream.acked_offset);
    let ack_mode = logs[stream.log as usize].ack;
    let Some(connection) = session.connection else {
        return;
    };
    let ack = Ack {
        partition,
        sequence,
        ack_mode,
        offset,
        credit_frames,
        credit_bytes,
    };
    peers.counters.commit.acks += 1;
    peers.say(connection, |out, signer| ack.encode(out, signer));
}

fn acknowledge_relays(peers: &mut Peers, id: ConnectionId) {
    let (credit_frames, credit_bytes) = (peers.limits.credit_frames, peers.limits.credit_bytes);
    let Some(connection) = peers.connections.get_mut(id) else {
        return;
    };
    connection.relays.dirty = false;
    let sequence = Sequence(connection.relays.acked);
    let ack = Ack {
        partition: RELAY_STREAM,
        sequence,
        ack_mode: peers.relay_ack_mode,
        offset: Offset(0),
        credit_frames,
        credit_bytes,
    };
    peers.counters.commit.acks += 1;
    peers.say(id, |out, signer| ack.encode(out, signer));
}
