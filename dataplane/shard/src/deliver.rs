//! Stage 8, deliver: what waits in a queue goes out, by credit, as far as its consumer's connection can take it.
//! The bytes of messages are copied once, from the log to the connection's buffer.

use std::collections::{BTreeMap, VecDeque};

use partition::{ReadError, Segment};
use wire::delivery::{DeliverBuilder, Fetch, GroupHeader, Outcome, Settle};
use wire::frame::SignatureKind;
use wire::ids::{Direction, EndpointId, Offset, QUEUE_STREAM, Sequence};
use wire::message::message_bytes;
use wire::reason::{Notice, Reason};
use wire::route::{Endpoint, QueueBounds};
use wire::send::MESSAGES_AT;
use wire::signature::Signer;

use crate::io::ConnectionId;
use crate::log::{Group, Log};
use crate::peers::Peers;
use crate::planted::{Bug, active};
use crate::queue::{Expired, Piece, QueueGroup, Rewind, SettleError, SkipReason, Source};
use crate::route::Owned;
use crate::session::SessionRef;
use crate::verify::{Command, CommandKind};

/// Why a FETCH or SETTLE is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeliverError {
    /// The session was opened with an ingress credential.
    #[error("wrong direction")]
    WrongDirection,
    /// More credit than a consumer may have.
    #[error("credit of {seen}, {needed} allowed")]
    FetchTooLarge {
        /// Messages, or bytes, of credit it would have.
        seen: u64,
        /// Messages, or bytes, it may have.
        needed: u64,
    },
    /// Another session of the endpoint consumes the queue.
    #[error("queue taken by another session")]
    QueueTaken,
    /// The number is not in flight.
    #[error("number {seen} is not in flight, those up to {needed} were delivered")]
    NotDelivered {
        /// The number.
        seen: u64,
        /// The highest number delivered.
        needed: u64,
    },
    /// Too many messages are settled ahead of the first unsettled one.
    #[error("{seen} gaps between settled messages, {needed} allowed")]
    Scattered {
        /// Gaps there are.
        seen: u64,
        /// Gaps there may be.
        needed: u64,
        /// When to come again.
        retry_after_ms: u32,
    },
}

impl DeliverError {
    /// What the peer is told.
    pub fn notice(&self) -> Notice {
        match *self {
            Self::WrongDirection => Notice::new(Reason::WrongDirection, 0, 0),
            Self::FetchTooLarge { seen, needed } => {
                Notice::new(Reason::FetchTooLarge, seen, needed)
            }
            Self::QueueTaken => Notice::new(Reason::QueueTaken, 0, 0),
            Self::NotDelivered { seen, needed } => Notice::new(Reason::NotDelivered, seen, needed),
            Self::Scattered {
                seen,
                needed,
                retry_after_ms,
            } => Notice::new(Reason::Busy, seen, needed).retry_after(retry_after_ms),
        }
    }
}

/// Who takes from one list.
#[derive(Debug, Clone, Copy)]
struct Consumer {
    session: SessionRef,
    /// Listed in `ready`.
    ready: bool,
}

/// One list of one endpoint.
type ListKey = (EndpointId, u8);

/// The consumers of a shard, and which of them may have something to be sent.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    consumers: BTreeMap<ListKey, Consumer>,
    ready: VecDeque<ListKey>,
    /// Had more to be sent than their connection could take.
    stalled: Vec<ListKey>,
    endpoints: Vec<EndpointId>,
    expired: Vec<Expired>,
}

impl Consumers {
    fn wake(&mut self, key: ListKey) {
        if let Some(consumer) = self.consumers.get_mut(&key)
            && !consumer.ready
        {
            consumer.ready = true;
            self.ready.push_back(key);
        }
    }

    /// Connections have room again: look at those that had none.
    pub(crate) fn wake_stalled(&mut self) {
        while let Some(key) = self.stalled.pop() {
            self.wake(key);
        }
    }
}

fn source_of(source: wire::delivery::Source) -> Source {
    match source {
        wire::delivery::Source::Queue => Source::Queue,
        wire::delivery::Source::DeadLetters => Source::DeadLetters,
    }
}

fn source_at(number: u8) -> (Source, wire::delivery::Source) {
    match number {
        0 => (Source::Queue, wire::delivery::Source::Queue),
        _ => (Source::DeadLetters, wire::delivery::Source::DeadLetters),
    }
}

/// The groups of a shard, by endpoint.
fn group_of<'q, S: Segment>(
    peers: &Peers,
    groups: &'q mut [Group<S>],
    endpoint: EndpointId,
) -> Option<&'q mut QueueGroup<S>> {
    let number = peers.table.queue_group_of(endpoint);
    groups
        .iter_mut()
        .map(|group| &mut group.queues)
        .find(|queues| queues.number() == number)
}

fn bounds_of(peers: &Peers, endpoint: EndpointId) -> QueueBounds {
    peers
        .table
        .endpoint(endpoint)
        .map(|endpoint| endpoint.queue.clone())
        .unwrap_or_default()
}

/// Give back to the queues what sessions had in flight that lost their connection.
pub(crate) fn take_back<S: Segment>(
    peers: &mut Peers,
    groups: &mut [Group<S>],
    consumers: &mut Consumers,
) {
    let mut detached = std::mem::take(&mut peers.detached);
    for (session, endpoint) in detached.drain(..) {
        for number in [0, 1] {
            let key = (endpoint, number);
            if consumers
                .consumers
                .get(&key)
                .is_some_and(|consumer| consumer.session == session)
            {
                consumers.consumers.remove(&key);
                consumers.ready.retain(|ready| *ready != key);
                rewind(peers, groups, key, Rewind::Disconnected);
            }
        }
    }
    peers.detached = detached;
}

fn rewind<S: Segment>(peers: &Peers, groups: &mut [Group<S>], key: ListKey, why: Rewind) {
    let bounds = bounds_of(peers, key.0);
    if let Some(group) = group_of(peers, groups, key.0) {
        group.rewind(key.0, source_at(key.1).0, why, &bounds, peers.now.unix);
    }
}

/// Carry out a FETCH or SETTLE.
pub(crate) fn command<S: Segment>(
    peers: &mut Peers,
    groups: &mut [Group<S>],
    consumers: &mut Consumers,
    command: &Command,
) {
    let (sequence, result) = match command.kind {
        CommandKind::Fetch(fetch) => (
            Sequence(0),
            take_fetch(peers, groups, consumers, command, &fetch),
        ),
        CommandKind::Settle(settle) => (
            settle.number,
            take_settle(peers, groups, consumers, command, &settle),
        ),
        CommandKind::Ping(_) | CommandKind::Bye => return,
    };
    if let Err(error) = result {
        peers.counters.deliver.refused += 1;
        peers.reject(command.connection, QUEUE_STREAM, sequence, error.notice());
    }
}

fn take_fetch<S: Segment>(
    peers: &mut Peers,
    groups: &mut [Group<S>],
    consumers: &mut Consumers,
    command: &Command,
    fetch: &Fetch,
) -> Result<(), DeliverError> {
    let (messages_max, bytes_max) = (
        peers.limits.fetch_messages_max,
        peers.limits.fetch_bytes_max,
    );
    let Some(session) = peers.sessions.get_mut(command.session) else {
        return Ok(());
    };
    if session.direction != Direction::Egress {
        return Err(DeliverError::WrongDirection);
    }
    let number = fetch.source as u8;
    let credit = &mut session.credit[usize::from(number)];
    let messages = credit.messages + u64::from(fetch.messages);
    let bytes = credit.bytes.saturating_add(fetch.bytes);
    if messages > messages_max {
        return Err(DeliverError::FetchTooLarge {
            seen: messages,
            needed: messages_max,
        });
    }
    if bytes > bytes_max {
        return Err(DeliverError::FetchTooLarge {
            seen: bytes,
            needed: bytes_max,
        });
    }
    (credit.messages, credit.bytes) = (messages, bytes);
    let key = (session.endpoint, number);
    peers.counters.deliver.fetches += 1;
    let before = consumers
        .consumers
        .get(&key)
        .map(|consumer| consumer.session);
    match before {
        Some(before) if before == command.session => {}
        Some(before) => {
            take_over(peers, groups, key, before);
            consumers.consumers.insert(
                key,
                Consumer {
                    session: command.session,
                    ready: false,
                },
            );
            consumers.ready.retain(|ready| *ready != key);
        }
        None => {
            consumers.consumers.insert(
                key,
                Consumer {
                    session: command.session,
                    ready: false,
                },
            );
        }
    }
    consumers.wake(key);
    Ok(())
}

/// The queue moves to a newer session; the older one is told, and what it had in flight goes back.
fn take_over<S: Segment>(
    peers: &mut Peers,
    groups: &mut [Group<S>],
    key: ListKey,
    before: SessionRef,
) {
    peers.counters.deliver.takeovers += 1;
    rewind(peers, groups, key, Rewind::TakenOver);
    let Some(session) = peers.sessions.get_mut(before) else {
        return;
    };
    session.credit[usize::from(key.1)] = Default::default();
    if let Some(connection) = session.connection {
        peers.reject(
            connection,
            QUEUE_STREAM,
            Sequence(0),
            DeliverError::QueueTaken.notice(),
        );
    }
}

fn take_settle<S: Segment>(
    peers: &mut Peers,
    groups: &mut [Group<S>],
    consumers: &mut Consumers,
    command: &Command,
    settle: &Settle,
) -> Result<(), DeliverError> {
    let Some(session) = peers.sessions.get(command.session) else {
        return Ok(());
    };
    if session.direction != Direction::Egress {
        return Err(DeliverError::WrongDirection);
    }
    let endpoint = session.endpoint;
    let key = (endpoint, settle.source as u8);
    let holder = consumers
        .consumers
        .get(&key)
        .map(|consumer| consumer.session);
    if holder.is_some_and(|holder| holder != command.session) {
        return Err(DeliverError::QueueTaken);
    }
    let (bounds, now, unix) = (
        bounds_of(peers, endpoint),
        peers.now.monotonic,
        peers.now.unix,
    );
    let retry_after_ms = peers.retry_after_ms();
    let source = source_of(settle.source);
    // Queues count from 0, the protocol from 1.
    let Some(number) = settle.number.0.checked_sub(1) else {
        return Err(DeliverError::NotDelivered { seen: 0, needed: 1 });
    };
    let Some(group) = group_of(peers, groups, endpoint) else {
        return Err(DeliverError::NotDelivered {
            seen: settle.number.0,
            needed: 0,
        });
    };
    let result = match settle.outcome {
        Outcome::AcceptUpTo => group
            .accept_up_to(endpoint, source, number, now, bounds.lock)
            .map(|_| ()),
        Outcome::AcceptOne => group
            .accept(endpoint, source, number, now, bounds.lock)
            .map(|_| ()),
        Outcome::ReleaseOne => group.release(endpoint, source, number, &bounds, unix),
        Outcome::DeadLetterOne => group.bury(endpoint, source, number, unix),
    };
    consumers.wake(key);
    peers.counters.deliver.settles += 1;
    result.map_err(|error| match error {
        SettleError::NotDelivered { number, delivered } => DeliverError::NotDelivered {
            seen: number + 1,
            needed: delivered,
        },
        SettleError::Scattered { intervals, most } => DeliverError::Scattered {
            seen: intervals as u64,
            needed: most as u64,
            retry_after_ms,
        },
    })
}

/// Stage 8: send what waits, one DELIVER frame a consumer in turn. Returns whether there is more to do at once.
pub(crate) fn deliver<S: Segment>(
    peers: &mut Peers,
    logs: &[Log<S>],
    groups: &mut [Group<S>],
    owned: &Owned,
    consumers: &mut Consumers,
) -> bool {
    wake_ready(peers, groups, consumers);
    let mut budget = peers.limits.deliver_bytes_per_turn;
    while let Some(key) = consumers.ready.pop_front() {
        let Some(consumer) = consumers.consumers.get_mut(&key) else {
            continue;
        };
        consumer.ready = false;
        let session = consumer.session;
        match deliver_to(peers, logs, groups, owned, key, session) {
            Step::Nothing => {}
            Step::Stalled => consumers.stalled.push(key),
            Step::Sent(bytes) => {
                consumers.wake(key);
                budget = budget.saturating_sub(bytes);
                if budget == 0 {
                    return true;
                }
            }
        }
    }
    false
}

/// List the consumers for whom something became deliverable, or whose lock expired.
fn wake_ready<S: Segment>(peers: &Peers, groups: &mut [Group<S>], consumers: &mut Consumers) {
    let mut expired = std::mem::take(&mut consumers.expired);
    let mut endpoints = std::mem::take(&mut consumers.endpoints);
    for group in groups.iter_mut().map(|group| &mut group.queues) {
        group.expire_locks(
            peers.now.monotonic,
            peers.now.unix,
            &peers.table,
            &mut expired,
        );
        group.take_ready(&mut endpoints);
    }
    for list in expired.drain(..) {
        consumers.wake((list.endpoint, list.source as u8));
        consumers.wake((list.endpoint, Source::DeadLetters as u8));
    }
    for endpoint in endpoints.drain(..) {
        consumers.wake((endpoint, Source::Queue as u8));
        consumers.wake((endpoint, Source::DeadLetters as u8));
    }
    consumers.expired = expired;
    consumers.endpoints = endpoints;
}

/// What one attempt to deliver came to.
enum Step {
    /// No credit, or nothing waits.
    Nothing,
    /// The connection has too much unsent.
    Stalled,
    /// A frame of so many bytes.
    Sent(usize),
}

fn deliver_to<S: Segment>(
    peers: &mut Peers,
    logs: &[Log<S>],
    groups: &mut [Group<S>],
    owned: &Owned,
    key: ListKey,
    reference: SessionRef,
) -> Step {
    let Some(session) = peers.sessions.get(reference) else {
        return Step::Nothing;
    };
    let credit = session.credit[usize::from(key.1)];
    let Some(id) = session.connection else {
        return Step::Nothing;
    };
    if credit.messages == 0 || credit.bytes == 0 {
        return Step::Nothing;
    }
    let Some(connection) = peers
        .connections
        .get(id)
        .filter(|connection| connection.listens())
    else {
        return Step::Nothing;
    };
    if connection.unsent + connection.out.len() >= peers.limits.unsent_bytes_high {
        peers.counters.deliver.backpressure += 1;
        return Step::Stalled;
    }
    let number = peers.table.queue_group_of(key.0);
    let Some(group) = groups
        .iter_mut()
        .map(|group| &mut group.queues)
        .find(|queues| queues.number() == number)
    else {
        return Step::Nothing;
    };
    write_frame(peers, logs, group, owned, key, reference, id)
}

/// Write one DELIVER of as many messages as credit, the queue and the frame allow.
fn write_frame<S: Segment>(
    peers: &mut Peers,
    logs: &[Log<S>],
    group: &mut QueueGroup<S>,
    owned: &Owned,
    key: ListKey,
    reference: SessionRef,
    id: ConnectionId,
) -> Step {
    if group.next_piece(key.0, source_at(key.1).0).is_none() {
        return Step::Nothing;
    }
    let table = std::sync::Arc::clone(&peers.table);
    let Some(endpoint) = table.endpoint(key.0) else {
        return Step::Nothing;
    };
    let mut out = peers.take_out(id);
    let start = out.len();
    let (source, wire_source) = source_at(key.1);
    let mut builder = DeliverBuilder::begin(&mut out, wire_source);
    let mut messages = 0;
    while let Some(piece) = group.next_piece(key.0, source) {
        let Some(session) = peers.sessions.get_mut(reference) else {
            break;
        };
        let credit = &mut session.credit[usize::from(key.1)];
        if credit.messages == 0 || credit.bytes == 0 {
            break;
        }
        let logs = Logs { logs, owned };
        match logs.find(
            &piece,
            endpoint,
            credit.messages,
            credit.bytes,
            builder.room(),
        ) {
            Found::Messages(header, bytes) => {
                if !builder.group(&header, bytes) {
                    break;
                }
                let count = u32::from(header.count);
                credit.messages -= u64::from(count);
                credit.bytes = credit.bytes.saturating_sub(bytes.len() as u64);
                group.delivered(
                    key.0,
                    source,
                    piece.number,
                    count,
                    peers.now.monotonic,
                    endpoint.queue.lock,
                );
                messages += u64::from(count);
            }
            Found::NoRoom => break,
            Found::Skip(count, why) => {
                peers.counters.deliver.messages_lost += u64::from(count);
                group.skip(key.0, source, piece.number, count, why);
            }
        }
    }
    let signed = peers.sign_with(id, reference, |signer: Signer<'_>| builder.finish(signer));
    let bytes = out.len() - start;
    peers.put_out(id, out);
    if !signed {
        return Step::Nothing;
    }
    let counters = &mut peers.counters.deliver;
    counters.frames += 1;
    counters.messages += messages;
    counters.bytes += bytes as u64;
    Step::Sent(bytes)
}

/// What was found for a piece.
enum Found<'a> {
    /// Messages of one record.
    Messages(GroupHeader, &'a [u8]),
    /// The frame cannot take another message.
    NoRoom,
    /// So many messages cannot be delivered.
    Skip(u32, SkipReason),
}

/// The logs to read from.
struct Logs<'a, S: Segment> {
    logs: &'a [Log<S>],
    owned: &'a Owned,
}

impl<'a, S: Segment> Logs<'a, S> {
    /// The first messages of a piece: those of one record, as many as fit.
    fn find(
        &self,
        piece: &Piece,
        endpoint: &Endpoint,
        messages: u64,
        bytes: u64,
        room: usize,
    ) -> Found<'a> {
        let Some(log) = self.owned.log(piece.partition) else {
            return Found::Skip(piece.count, SkipReason::Expired);
        };
        let log = &self.logs[log as usize];
        let until = |next: Offset| {
            let gone = next.0.saturating_sub(piece.offset.0).max(1);
            u32::try_from(gone).unwrap_or(u32::MAX).min(piece.count)
        };
        let record = match log.partition.read_committed(piece.offset) {
            Ok(record) => record,
            Err(ReadError::NotYet) => return Found::NoRoom,
            Err(ReadError::Expired { first }) => {
                return Found::Skip(until(first), SkipReason::Expired);
            }
            Err(ReadError::Damaged { next }) => {
                return Found::Skip(until(next), SkipReason::Damaged);
            }
        };
        let here = until(record.next());
        if endpoint.receive_grant(record.channel()).is_none() && !active(Bug::IgnoreGrants) {
            return Found::Skip(here, SkipReason::Withdrawn);
        }
        let signature =
            SignatureKind::from_u8(record.signature_kind()).map_or(0, SignatureKind::bytes);
        let payload = record.payload();
        let end = payload.len().saturating_sub(signature);
        let skipped = piece.offset.0 - record.first().0;
        let Some(rest) = payload
            .get(MESSAGES_AT..end)
            .and_then(|all| skip(all, skipped))
        else {
            return Found::Skip(here, SkipReason::Damaged);
        };
        let (count, length) = take(rest, u64::from(here).min(messages), bytes, room);
        if count == 0 {
            let whole = message_bytes(rest).is_some();
            return if whole {
                Found::NoRoom
            } else {
                Found::Skip(1, SkipReason::Damaged)
            };
        }
        let header = GroupHeader {
            number: Sequence(piece.number + 1),
            sender: record.endpoint(),
            offset: piece.offset,
            append_time: record.time(),
            partition: piece.partition,
            channel: record.channel(),
            count,
            attempt: piece.attempt,
        };
        Found::Messages(header, &rest[..length])
    }
}

/// The bytes behind the first `count` messages.
fn skip(bytes: &[u8], count: u64) -> Option<&[u8]> {
    (0..count).try_fold(bytes, |rest, _| rest.get(message_bytes(rest)?..))
}

/// How many messages to take, and their bytes: at most `count`, while `credit` bytes are left, within `room`.
fn take(bytes: &[u8], count: u64, credit: u64, room: usize) -> (u16, usize) {
    let (mut taken, mut length) = (0u16, 0usize);
    while u64::from(taken) < count && taken < u16::MAX && (length as u64) < credit {
        let Some(next) = message_bytes(&bytes[length..]) else {
            break;
        };
        if length + next > room {
            break;
        }
        length += next;
        taken += 1;
    }
    (taken, length)
}
