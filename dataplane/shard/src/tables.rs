//! A new route table between two turns: every session is held against it, and those whose credential is no longer good end.
//!
//! Where few endpoints changed, their sessions are held against the table at once. Otherwise a *walk* goes over all sessions, so many
//! in a turn, and whoever it has not come to is held against the table as soon as bytes of theirs come, before anything is done with
//! these, or before something is delivered to them. So a turn's work is bounded, whatever the table, and from the turn on that is given it
//! nothing counts any more that it does not allow.

use std::sync::Arc;

use partition::Segment;
use wire::ids::{AckMode, Direction};
use wire::reason::{Notice, Reason};
use wire::route::{Changes, EndpointView, KeyRef, KeyView, RouteTable};

use crate::away::Away;
use crate::handshake::{HandshakeError, check_address, check_certificate, check_transport, claim};
use crate::io::{ConnectionId, Input};
use crate::log::{HubModes, Log};
use crate::peers::{Peers, here};
use crate::places::Round;
use crate::route::Owned;
use crate::session::{Session, SessionRef};
use crate::terms::first_end;

/// Endpoints that changed, and sessions of theirs, that are looked at in the turn that is given the table.
const AT_ONCE: usize = 256;
/// Sessions that a walk comes to in a turn.
const SLICE: usize = 256;

/// A walk over all sessions.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Nothing but endpoints changed since this table, which the sessions that the walk has not come to were held against; if that
    /// is known.
    since: Option<Arc<RouteTable>>,
    places: Round,
}

/// Take over a route table, and return the one before.
pub(crate) fn apply<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    table: Arc<RouteTable>,
) -> Arc<RouteTable> {
    let before = std::mem::replace(&mut peers.table, table);
    peers.here = here(&peers.limits, &peers.table);
    peers.counters.session.tables += 1;
    let table = Arc::clone(&peers.table);
    let changes = table.changes_since(&before);
    if changes.is_none() && table.hubs() != before.hubs() {
        let hubs = HubModes::of(&table);
        for log in logs.iter_mut() {
            log.take_mode(&hubs);
        }
        settle_ack_modes(peers, logs);
    }
    match changes.and_then(|changes| touched(peers, &changes)) {
        Some(touched) => {
            for reference in touched {
                hold_anew(peers, logs, owned, reference);
            }
        }
        None => peers.begin_walk(&before),
    }
    before
}

/// The sessions of all endpoints that changed, if they are few.
fn touched(peers: &Peers, changes: &Changes<'_>) -> Option<Vec<SessionRef>> {
    if changes.count() > AT_ONCE {
        return None;
    }
    let of = |endpoint: EndpointView<'_>| peers.sessions.of(endpoint.id);
    let all = changes.endpoints().flat_map(of);
    let few: Vec<SessionRef> = all.take(AT_ONCE + 1).collect();
    (few.len() <= AT_ONCE).then_some(few)
}

/// Go on with the walk that is under way. Returns whether it may go on at once.
pub(crate) fn walk<S: Segment>(peers: &mut Peers, logs: &mut [Log<S>], owned: &Owned) -> bool {
    for _ in 0..SLICE {
        let Some(walk) = peers.walk.as_mut() else {
            return false;
        };
        if walk.places.is_over() {
            peers.walk = None;
            return false;
        }
        // Each session may claim streams of other shards' logs.
        if peers.away.iter().any(Away::full) {
            return false;
        }
        let place = walk.places.next().expect("it is not over");
        if let Some(reference) = peers.sessions.at(place) {
            hold(peers, logs, owned, reference);
        }
    }
    true
}

/// Hold those against the table who have something to say in this turn, as far as a walk has not come to them.
pub(crate) fn hold_speakers<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    input: &Input<'_, S>,
    welcoming: impl Iterator<Item = SessionRef>,
) {
    if peers.walk.is_none() {
        return;
    }
    let received = input.received.iter().map(|piece| piece.connection);
    let datagrams = input.datagrams.iter().map(|datagram| datagram.connection);
    for connection in received.chain(datagrams) {
        if let Some(reference) = peers.session_at(connection) {
            hold(peers, logs, owned, reference);
        }
    }
    for reference in welcoming {
        hold(peers, logs, owned, reference);
    }
}

/// Hold a session against the table in force, unless it has been.
pub(crate) fn hold<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    reference: SessionRef,
) {
    if peers.is_behind(reference) {
        hold_anew(peers, logs, owned, reference);
    }
}

fn hold_anew<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    reference: SessionRef,
) {
    if peers.recheck(reference) {
        claim(peers, logs, owned, reference, false);
    }
}

/// What tells the secret of a key from others.
pub(crate) fn mark_of(key: &KeyView<'_>) -> u64 {
    match key.material {
        KeyRef::Symmetric(secret) => secret.mark(),
        // It opens no session.
        KeyRef::Ed25519(_) => 0,
    }
}

impl Peers {
    /// All sessions are to be held against a table that is in force now.
    fn begin_walk(&mut self, before: &Arc<RouteTable>) {
        let mut walk = self.walk.take().unwrap_or_else(|| Walk {
            since: Some(Arc::clone(before)),
            places: Round::default(),
        });
        let known = |since: &Arc<RouteTable>| self.table.changes_since(since).is_some();
        walk.since = walk.since.filter(known);
        walk.places.begin(self.sessions.places());
        self.walks = self.walks.wrapping_add(1);
        self.walk = Some(walk);
    }

    /// All sessions are to be held anew against the table in force: what it says is the same, and what is there is more.
    pub(crate) fn hold_all_anew(&mut self) {
        let mut places = Round::default();
        places.begin(self.sessions.places());
        self.walks = self.walks.wrapping_add(1);
        self.walk = Some(Walk {
            since: None,
            places,
        });
    }

    /// The session of a connection, whether it is open or waits for its WELCOME.
    fn session_at(&self, id: ConnectionId) -> Option<SessionRef> {
        self.connections.get(id)?.session()
    }

    /// Whether a walk has yet to come to a session, and would find that it has something to do. One of an endpoint that did not change
    /// counts as held against the table from here on.
    fn is_behind(&mut self, reference: SessionRef) -> bool {
        let Some(walk) = &self.walk else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(reference) else {
            return false;
        };
        if session.walk == self.walks {
            return false;
        }
        let changes = walk.since.as_ref();
        let changes = changes.and_then(|since| self.table.changes_since(since));
        if changes.is_some_and(|changes| !changes.has(session.endpoint_index)) {
            session.walk = self.walks;
            return false;
        }
        true
    }

    /// The endpoint of a session, if it is there still.
    pub(crate) fn endpoint_of(&self, session: &Session) -> Option<EndpointView<'_>> {
        match session.walk == self.walks {
            true => Some(self.table.endpoint_at(session.endpoint_index)),
            false => self.table.endpoint(session.endpoint),
        }
    }

    /// The endpoint of a session that was held against the table in force, as all are that have something to say in this turn.
    #[inline]
    pub(crate) fn endpoint_held(&self, session: &Session) -> EndpointView<'_> {
        debug_assert_eq!(session.walk, self.walks, "{:?}", session.reference);
        self.table.endpoint_at(session.endpoint_index)
    }

    /// Hold the session of a receiver against the table in force, unless it has been. Whether it goes on.
    pub(crate) fn hold_receiver(&mut self, reference: SessionRef) -> bool {
        !self.is_behind(reference) || self.recheck(reference)
    }

    /// Whether a session goes on under the table in force, but for what it may send to. One that does not has ended.
    fn recheck(&mut self, reference: SessionRef) -> bool {
        let Some(index) = resolve(self, reference) else {
            withdraw(self, reference);
            return false;
        };
        if let Some(session) = self.sessions.get_mut(reference) {
            (session.endpoint_index, session.walk) = (index, self.walks);
        }
        recheck_node(self, reference);
        recheck_tunnel(self, reference);
        recheck_address(self, reference);
        recheck_end(self, reference);
        self.sessions.get(reference).is_some()
    }
}

/// The endpoint of a session in the table in force, if its credential is still good. A key whose secret was replaced under its id is
/// another key.
fn resolve(peers: &Peers, reference: SessionRef) -> Option<u32> {
    let session = peers.sessions.get(reference)?;
    let index = peers.table.endpoint_index(session.endpoint)?;
    let endpoint = peers.table.endpoint_at(index);
    let key = endpoint.key(session.key)?;
    let now = peers.now.unix;
    let expired = key.expires.is_some_and(|expires| expires <= now);
    let same = mark_of(&key) == session.key_mark;
    let good =
        endpoint.enabled && !key.revoked && !expired && same && key.direction == session.direction;
    good.then_some(index)
}

/// An endpoint may be at home at another node from now on. One without a connection ends without a word, and is told when it comes.
fn recheck_node(peers: &mut Peers, reference: SessionRef) {
    let Some(session) = peers.sessions.get(reference) else {
        return;
    };
    let endpoint = peers.table.endpoint_at(session.endpoint_index);
    let Err(HandshakeError(notice)) = peers.check_node(&endpoint) else {
        return;
    };
    match session.connection {
        Some(connection) => peers.withdraw(connection, reference, notice),
        None => peers.end_session(reference),
    }
}

/// The new table may name transports and certificates, or others. One without a connection is asked when it is resumed.
fn recheck_tunnel(peers: &mut Peers, reference: SessionRef) {
    let Some(session) = peers.sessions.get(reference) else {
        return;
    };
    let endpoint = peers.table.endpoint_at(session.endpoint_index);
    let (shown, transport) = (session.shown(), session.transport);
    let checked = check_transport(&endpoint, transport);
    let now = peers.now.unix;
    let checked = checked.and_then(|()| check_certificate(&endpoint, shown, now));
    if let (Some(connection), Err(HandshakeError(notice))) = (session.connection, checked) {
        peers.withdraw(connection, reference, notice);
    }
}

/// What ends by time may end earlier under the new table, or have ended: the timers look at once.
fn recheck_end(peers: &mut Peers, reference: SessionRef) {
    let Some(session) = peers.sessions.get(reference) else {
        return;
    };
    let endpoint = peers.table.endpoint_at(session.endpoint_index);
    let ends = first_end(session, session.shown(), &endpoint, peers.now.unix).is_some();
    if let Some(connection) = session.connection.filter(|_| ends) {
        peers.rearm(connection);
    }
}

/// A queue mixes the channels of its endpoint, so a receiver has to suit every grant of the new table, too.
fn recheck_address(peers: &mut Peers, reference: SessionRef) {
    let Some(session) = peers.sessions.get(reference) else {
        return;
    };
    let Some(connection) = session.connection.and_then(|id| peers.connections.get(id)) else {
        return;
    };
    let endpoint = peers.table.endpoint_at(session.endpoint_index);
    let (direction, peer, id) = (session.direction, connection.peer, connection.id);
    if direction == Direction::Egress
        && let Err(error) = check_address(&endpoint, direction, peer, peers.now.unix)
    {
        peers.withdraw(id, reference, error.0);
    }
}

fn withdraw(peers: &mut Peers, reference: SessionRef) {
    let session = peers.sessions.get(reference);
    let connection = session.and_then(|session| session.connection);
    let key = session.map_or(0, |session| session.key.0);
    let notice = Notice::new(Reason::CredentialWithdrawn, u64::from(key), 0);
    match connection {
        Some(connection) => peers.withdraw(connection, reference, notice),
        None => peers.end_session(reference),
    }
}

/// What an ACK of relay numbers promises follows from the modes of all logs that envelopes may go to.
pub(crate) fn settle_ack_modes<S: Segment>(peers: &mut Peers, logs: &[Log<S>]) {
    let elsewhere =
        peers.limits.shards > 1 && (peers.table.hubs().iter()).any(|hub| hub.ack == AckMode::Local);
    let local = elsewhere || logs.iter().any(|log| log.ack == AckMode::Local);
    peers.relay_ack_mode = if local {
        AckMode::Local
    } else {
        AckMode::Durable
    };
}
