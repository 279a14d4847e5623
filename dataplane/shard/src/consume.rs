//! Who takes from which list: FETCH, SETTLE, take-over, and what wakes a consumer. The settlements themselves are
//! the queues' affair, the bytes stage 8's.

use std::collections::{BTreeMap, VecDeque};

use partition::Segment;
use wire::delivery::{Fetch, Outcome, Settle};
use wire::ids::{Direction, EndpointId, QUEUE_STREAM, Sequence};
use wire::reason::{Notice, Reason};
use wire::route::QueueBounds;

use crate::log::Group;
use crate::peers::Peers;
use crate::queue::{Expired, QueueGroup, Rewind, SettleError, Source};
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
    #[error("number {seen} is not in flight, those below {needed} were delivered")]
    NotDelivered {
        /// The number.
        seen: u64,
        /// One past the highest number delivered, or 0.
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
pub(crate) struct Consumer {
    pub(crate) session: SessionRef,
    /// Listed in `ready`.
    pub(crate) ready: bool,
    /// Listed in `stalled`.
    stalled: bool,
}

/// One list of one endpoint.
pub(crate) type ListKey = (EndpointId, u8);

/// The consumers of a shard, and which of them may have something to be sent.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    pub(crate) consumers: BTreeMap<ListKey, Consumer>,
    pub(crate) ready: VecDeque<ListKey>,
    /// Had more to be sent than their connection could take.
    stalled: Vec<ListKey>,
    endpoints: Vec<EndpointId>,
    expired: Vec<Expired>,
}

impl Consumers {
    pub(crate) fn wake(&mut self, key: ListKey) {
        if let Some(consumer) = self.consumers.get_mut(&key)
            && !consumer.ready
        {
            consumer.ready = true;
            self.ready.push_back(key);
        }
    }

    /// Look at every consumer again.
    pub(crate) fn wake_all(&mut self) {
        let keys: Vec<ListKey> = self.consumers.keys().copied().collect();
        for key in keys {
            self.wake(key);
        }
    }

    /// The consumer's connection has no room: look at it again when something has left.
    pub(crate) fn stall(&mut self, key: ListKey) {
        if let Some(consumer) = self.consumers.get_mut(&key)
            && !consumer.stalled
        {
            consumer.stalled = true;
            self.stalled.push(key);
        }
    }

    /// Whether any consumer's connection had no room.
    pub(crate) fn any_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// Something has left for the connection of an endpoint's consumers: look at those that had no room. The others' have
    /// as little as before; a thousand that take nothing are not looked at each time one of them takes something.
    pub(crate) fn wake_stalled(&mut self, endpoint: EndpointId) {
        for key in [(endpoint, 0), (endpoint, 1)] {
            let Some(at) = self.stalled.iter().position(|stalled| *stalled == key) else {
                continue;
            };
            self.stalled.swap_remove(at);
            if let Some(consumer) = self.consumers.get_mut(&key) {
                consumer.stalled = false;
            }
            self.wake(key);
        }
    }

    /// From now on `session` takes from the list; whoever did before is not listed any more.
    fn insert(&mut self, key: ListKey, session: SessionRef) {
        self.remove(key);
        let consumer = Consumer {
            session,
            ready: false,
            stalled: false,
        };
        self.consumers.insert(key, consumer);
    }

    fn remove(&mut self, key: ListKey) {
        if self.consumers.remove(&key).is_some() {
            self.ready.retain(|ready| *ready != key);
            self.stalled.retain(|stalled| *stalled != key);
        }
    }
}

fn source_of(source: wire::delivery::Source) -> Source {
    match source {
        wire::delivery::Source::Queue => Source::Queue,
        wire::delivery::Source::DeadLetters => Source::DeadLetters,
    }
}

pub(crate) fn source_at(number: u8) -> (Source, wire::delivery::Source) {
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
        .map(|endpoint| *endpoint.queue())
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
                consumers.remove(key);
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
    let credit = session.credit_mut(number);
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
            consumers.insert(key, command.session);
        }
        None => consumers.insert(key, command.session),
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
    *session.credit_mut(key.1) = Default::default();
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
        return Err(DeliverError::NotDelivered { seen: 0, needed: 0 });
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
            needed: delivered + 1,
        },
        SettleError::Scattered { intervals, most } => DeliverError::Scattered {
            seen: intervals as u64,
            needed: most as u64,
            retry_after_ms,
        },
    })
}

/// List the consumers for whom something became deliverable, or whose lock expired.
pub(crate) fn wake_ready<S: Segment>(
    peers: &Peers,
    groups: &mut [Group<S>],
    consumers: &mut Consumers,
) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_that_is_woken_again_and_again_stalls_once() {
        let mut consumers = Consumers::default();
        let key = (EndpointId(7), 0);
        consumers.insert(key, SessionRef::NONE);
        for _ in 0..100 {
            consumers.wake(key);
            assert_eq!(consumers.ready.pop_front(), Some(key));
            consumers.consumers.get_mut(&key).expect("inserted").ready = false;
            consumers.stall(key);
        }
        assert_eq!(consumers.stalled, [key]);
        consumers.wake_stalled(EndpointId(8));
        assert!(consumers.ready.is_empty(), "another one's connection");
        consumers.wake_stalled(EndpointId(7));
        assert_eq!(consumers.ready, [key]);
        assert!(!consumers.any_stalled());
        consumers.stall(key);
        consumers.insert(key, SessionRef::NONE);
        assert!(consumers.ready.is_empty() && consumers.stalled.is_empty());
    }
}
