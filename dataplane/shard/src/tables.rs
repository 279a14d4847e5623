//! A new route table between two turns: every session is resolved again, and those whose credential is no longer good end.

use std::sync::Arc;

use partition::Segment;
use wire::ids::{AckMode, Direction};
use wire::reason::{Notice, Reason};
use wire::route::RouteTable;

use crate::handshake::{HandshakeError, check_address, check_certificate, check_transport, claim};
use crate::log::Log;
use crate::peers::Peers;
use crate::route::Owned;
use crate::session::{NEVER, Session, SessionRef};
use crate::terms::first_end;

/// Take over a route table, and return the one before. Where it is known what changed, nobody else is looked at.
pub(crate) fn apply<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    table: Arc<RouteTable>,
) -> Arc<RouteTable> {
    let before = std::mem::replace(&mut peers.table, table);
    peers.counters.session.tables += 1;
    let table = Arc::clone(&peers.table);
    let changes = table.changes_since(&before);
    if changes.is_none() {
        for log in logs.iter_mut() {
            log.apply(&table);
        }
        settle_ack_modes(peers, logs);
    }
    let touched =
        |session: &&Session| changes.is_none_or(|changes| changes.has(session.endpoint_index));
    let sessions = peers.sessions.iter().filter(touched);
    let references: Vec<SessionRef> = sessions.map(|session| session.reference).collect();
    for reference in references {
        match resolve(peers, reference, &before) {
            Some(index) => {
                if let Some(session) = peers.sessions.get_mut(reference) {
                    session.endpoint_index = index;
                }
                recheck_tunnel(peers, reference);
                recheck_address(peers, reference);
                recheck_end(peers, reference);
                claim(peers, logs, owned, reference, false);
            }
            None => withdraw(peers, reference),
        }
    }
    before
}

/// The endpoint of a session in the new table, if its credential is still good; takes over the key's expiry.
/// A key whose secret was replaced under its id is another key.
fn resolve(peers: &mut Peers, reference: SessionRef, before: &RouteTable) -> Option<u32> {
    let session = peers.sessions.get_mut(reference)?;
    let index = peers.table.endpoint_index(session.endpoint)?;
    let endpoint = peers.table.endpoint_at(index);
    let key = endpoint.key(session.key)?;
    session.key_expires = key.expires.unwrap_or(NEVER);
    let now = peers.now.unix;
    let expired = key.expires.is_some_and(|expires| expires <= now);
    let opened_with = before
        .endpoint(session.endpoint)
        .and_then(|endpoint| endpoint.key(session.key));
    let same = opened_with.is_some_and(|old| old.material == key.material);
    let good =
        endpoint.enabled && !key.revoked && !expired && same && key.direction == session.direction;
    good.then_some(index)
}

/// The new table may name transports and certificates, or others. One without a connection is asked when it is resumed.
fn recheck_tunnel(peers: &mut Peers, reference: SessionRef) {
    let Some(session) = peers.sessions.get(reference) else {
        return;
    };
    let endpoint = peers.table.endpoint_at(session.endpoint_index);
    let (shown, transport) = (session.shown(), session.transport);
    let checked = check_transport(&endpoint, transport);
    let checked = checked.and_then(|()| check_certificate(&endpoint, shown));
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
    let ends = first_end(session, &endpoint, peers.now.unix).is_some();
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
