//! WELCOME: the terms of a session, sent as soon as its next numbers are certain: in logs of this shard, and in those of
//! others, which their owners tell. A WELCOME that waits for too long is a handshake that took too long.

use partition::Segment;
use wire::handshake::{WelcomeEntry, WelcomeFields, encode_welcome};
use wire::ids::{Direction, Offset, PartitionId, Sequence};
use wire::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, MESSAGES_MAX};
use wire::route::{EndpointView, GrantView, RouteTable};

use crate::connection::Phase;
use crate::guest::answer_claims;
use crate::handshake::place;
use crate::io::ConnectionId;
use crate::log::Log;
use crate::peers::{Peers, millis};
use crate::route::Owned;
use crate::session::{Session, SessionRef};

/// A WELCOME that waits until what its endpoint has in the logs is committed. Otherwise it could not say which
/// number is next: a client that begins anew would use one that a lost connection has used.
#[derive(Debug)]
pub(crate) struct Welcoming {
    pub(crate) connection: ConnectionId,
    pub(crate) session: SessionRef,
    pub(crate) server_nonce: [u8; 32],
    pub(crate) resumed: bool,
    pub(crate) waits: Vec<(u32, Offset)>,
}

/// Send the WELCOMEs whose logs have come far enough.
pub(crate) fn welcome<S: Segment>(
    peers: &mut Peers,
    logs: &[Log<S>],
    owned: &Owned,
    welcoming: &mut Vec<Welcoming>,
) {
    answer_claims(peers, logs);
    welcoming.retain(|waiting| {
        let there = peers
            .connections
            .get(waiting.connection)
            .is_some_and(|connection| connection.listens());
        let current = peers.sessions.get(waiting.session);
        if !there || current.is_none_or(|session| session.connection != Some(waiting.connection)) {
            peers.orphan(waiting.connection, waiting.session);
            return false;
        }
        let across = current.is_some_and(|session| {
            let mut across = session
                .streams
                .iter()
                .filter_map(|stream| stream.across.as_ref());
            across.all(|across| across.committed.is_some())
        });
        let ready = across
            && waiting.waits.iter().all(|(log, upto)| {
                let log = &logs[*log as usize];
                log.sealed() || log.ackable() >= *upto
            });
        if ready {
            say_welcome(peers, logs, owned, waiting);
        }
        !ready
    });
}

fn say_welcome<S: Segment>(peers: &mut Peers, logs: &[Log<S>], owned: &Owned, waiting: &Welcoming) {
    let table = std::sync::Arc::clone(&peers.table);
    let Some(session) = peers.sessions.get(waiting.session) else {
        return;
    };
    let fields = fields(peers, session, waiting, &table);
    let endpoint = table.endpoint_at(session.endpoint_index);
    let mut entries = Vec::new();
    let over = |grant: &GrantView<'_>| grant.restriction.is_over(peers.now.unix);
    let (grants, hears) = match session.direction {
        Direction::Ingress => (endpoint.send, false),
        Direction::Egress => (endpoint.receive, true),
    };
    for grant in grants.iter().filter(|grant| !(hears && over(grant))) {
        entries.extend(entry(
            &table,
            logs,
            (owned, peers),
            session,
            &endpoint,
            &grant,
        ));
    }
    if let Some(connection) = peers.connections.get_mut(waiting.connection) {
        connection.phase = Phase::Open(waiting.session);
    }
    peers.say(waiting.connection, |out, signer| {
        encode_welcome(out, &fields, entries.into_iter(), signer)
    });
    peers.rearm(waiting.connection);
    let counters = &mut peers.counters.session;
    if waiting.resumed {
        counters.resumed += 1
    } else {
        counters.welcomed += 1
    }
}

fn fields(
    peers: &Peers,
    session: &Session,
    waiting: &Welcoming,
    table: &RouteTable,
) -> WelcomeFields {
    let limits = &peers.limits;
    let (credit_frames, credit_bytes) = peers.credit();
    let endpoint = table.endpoint_at(session.endpoint_index);
    let home = peers.ownership.home(table, &endpoint, session.direction);
    let ms = |duration| u32::try_from(millis(duration)).unwrap_or(u32::MAX);
    WelcomeFields {
        epoch: table.epoch(),
        session_id: session.id,
        server_nonce: waiting.server_nonce,
        endpoint: session.endpoint,
        unix_nanos: peers.now.unix,
        frame_bytes_max: FRAME_BYTES_MAX as u32,
        body_bytes_max: BODY_BYTES_MAX as u32,
        messages_max: MESSAGES_MAX as u16,
        shards: limits.shards,
        // Of a session that could not be handed over it may be another one than this.
        home_shard: home,
        direction: session.direction,
        credit_frames,
        credit_bytes,
        idle_timeout_ms: ms(limits.idle_timeout),
        linger_ms: ms(limits.linger),
        logs: limits.logs,
    }
}

fn entry<'t, S: Segment>(
    table: &'t RouteTable,
    logs: &[Log<S>],
    (owned, peers): (&Owned, &Peers),
    session: &Session,
    endpoint: &EndpointView<'_>,
    grant: &GrantView<'_>,
) -> Option<WelcomeEntry<'t>> {
    let channel = table.channel(grant.channel)?;
    let ack_mode = table.hub_of(channel).ack;
    let (id, name) = (channel.id, &*channel.name);
    if session.direction == Direction::Egress {
        let (partition, last_sequence) = (PartitionId(0), Sequence(0));
        return Some(WelcomeEntry {
            channel: id,
            partition,
            last_sequence,
            ack_mode,
            name,
        });
    }
    let Some((partition, log)) = place(table, owned, &peers.ownership, endpoint, grant) else {
        // What never had a log holds nothing of anybody. How far it is in one that is there and cannot be read, nobody knows.
        let partition = table.partition_of(endpoint.id, channel);
        let new = peers.without_logs.binary_search(&partition.hub()).is_ok();
        return new.then_some(WelcomeEntry {
            channel: id,
            partition,
            last_sequence: Sequence(0),
            ack_mode,
            name,
        });
    };
    let stream = &session.streams[session.stream_of(partition)?];
    let last_sequence = match &stream.across {
        None => logs[log as usize].senders[stream.sender as usize].committed,
        // Its owner has said so: before that there is no WELCOME.
        Some(across) => across.committed?,
    };
    Some(WelcomeEntry {
        channel: id,
        partition,
        last_sequence,
        ack_mode,
        name,
    })
}
