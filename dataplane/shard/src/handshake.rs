//! HELLO to session: who is this, by which credential, and may they in now. One round trip; what is wrong is
//! told by REFUSED, and nothing that a stranger could learn from the order of the checks is told at all:
//! an unknown endpoint, an unknown key and a wrong proof have one answer.

use partition::Segment;
use wire::handshake::{Auth, Hello};
use wire::ids::{AckMode, Direction, KeyId, Offset, PartitionId, Sequence, SessionId, UnixNanos};
use wire::reason::{Notice, Reason};
use wire::route::{EndpointView, GrantView, KeyView, RouteTable, Transport};
use wire::signature::{KEY_TEXT_BYTES, SecretKey, SessionKeys, verify_hello};
use wire::token::{Token, TokenError};

use crate::across::claim_away;
use crate::bans::Credential;
use crate::budget::Pressure;
use crate::connection::{Goodbye, Start};
use crate::hand_over::{named, stamp};
use crate::io::{ConnectionId, Shown};
use crate::log::Log;
use crate::ownership::Ownership;
use crate::peers::Peers;
use crate::planted::{Bug, active};
use crate::route::{Owned, away};
use crate::session::{ChannelRoute, Presented, Session, SessionRef, Stream, TokenTerms};
use crate::tables::{hold, mark_of};
use crate::terms::{certificate_end, certificate_ended, check_terms, ended, first_end};
use crate::welcome::Welcoming;

/// Why there is no session. The notice is what the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.reason)]
pub struct HandshakeError(pub Notice);

impl From<TokenError> for HandshakeError {
    fn from(error: TokenError) -> Self {
        let (seen, needed) = match error {
            TokenError::Expired { expiry, now } => (now, expiry),
            _ => (0, 0),
        };
        Self(Notice::new(error.reason(), seen, needed))
    }
}

fn fault(reason: Reason, seen: u64, needed: u64) -> HandshakeError {
    HandshakeError(Notice::new(reason, seen, needed))
}

/// A credential that has been proven, be it good or not.
struct Proven {
    endpoint: u32,
    direction: Direction,
    key: KeyId,
    key_mark: u64,
    presented: Presented,
    keys: SessionKeys,
    id: SessionId,
    /// What its connection runs over.
    transport: Transport,
    resumed: Option<SessionRef>,
}

impl Proven {
    /// With a key of an endpoint, or a token of that key, for a new session.
    fn new(
        endpoint: u32,
        key: &KeyView<'_>,
        token: Option<TokenTerms>,
        start: &Start,
        id: SessionId,
        keys: SessionKeys,
    ) -> Self {
        Self {
            endpoint,
            direction: key.direction,
            key: key.id,
            key_mark: mark_of(key),
            presented: Presented {
                token,
                shown: start.shown,
            },
            keys,
            id,
            transport: start.transport(),
            resumed: None,
        }
    }
}

/// Answer one HELLO: a session whose WELCOME is due at the end of the commit stage, or REFUSED.
pub(crate) fn hello<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    id: ConnectionId,
    hello: &Hello<'_>,
    welcoming: &mut Vec<Welcoming>,
) {
    match open(peers, logs, owned, id, hello) {
        Ok(waiting) => {
            peers.know(id);
            welcoming.push(waiting);
        }
        Err(HandshakeError(notice)) => peers.goodbye(id, Goodbye::Refused(notice)),
    }
}

fn open<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    id: ConnectionId,
    hello: &Hello<'_>,
) -> Result<Welcoming, HandshakeError> {
    check_open(peers)?;
    check_clock(peers, hello.fields.unix_seconds)?;
    let gone = fault(Reason::Busy, 0, 0);
    let connection = peers.connections.get_mut(id).ok_or(gone)?;
    let peer = connection.peer;
    // A connection says HELLO once.
    let start = *connection.start.take().ok_or(gone)?;
    if let Auth::Resume(session) = hello.fields.auth
        && let Some(session) = peers.sessions.find(session)
    {
        hold(peers, logs, owned, session);
    }
    let proven = prove(peers, hello, &start)?;
    check_fresh(peers, hello, proven.endpoint)?;
    check_credential(peers, hello, &proven)?;
    check_way(peers, &proven, start.stays, peer)?;
    if proven.resumed.is_none() {
        make_room(peers, proven.id)?;
    }
    let credential = credential(peers, &proven);
    if let Some(notice) = peers.note_session(peer, credential) {
        return Err(HandshakeError(notice));
    }
    Ok(welcome(peers, logs, owned, id, proven, &start))
}

/// Begin or resume the session of who may in.
fn welcome<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    id: ConnectionId,
    proven: Proven,
    start: &Start,
) -> Welcoming {
    let resumed = proven.resumed.is_some();
    let session = match proven.resumed {
        Some(session) => resume(peers, session, id, proven),
        None => begin(peers, id, proven),
    };
    Welcoming {
        connection: id,
        session,
        server_nonce: server_nonce(start),
        resumed,
        waits: claim(peers, logs, owned, session, true),
    }
}

/// Whether anybody is let in at present.
fn check_open(peers: &Peers) -> Result<(), HandshakeError> {
    if peers.draining {
        return Err(HandshakeError(
            Notice::new(Reason::Draining, 0, 0).retry_after(peers.retry_after_ms()),
        ));
    }
    if peers.suspended {
        return Err(HandshakeError(peers.stale()));
    }
    Ok(())
}

/// Whether an endpoint whose credential is good may in now, here, and the way it came.
fn check_way(
    peers: &mut Peers,
    proven: &Proven,
    stays: bool,
    peer: std::net::IpAddr,
) -> Result<(), HandshakeError> {
    let now = peers.now.unix;
    let endpoint = peers.table.endpoint_at(proven.endpoint);
    check_terms(&endpoint, proven.direction, now)?;
    check_transport(&endpoint, proven.transport)?;
    check_certificate(&endpoint, proven.presented.shown, now)?;
    peers.check_node(&endpoint)?;
    check_home(peers, proven, stays)?;
    let credential = credential(peers, proven);
    check_pressure(peers, credential, peer)?;
    let endpoint = peers.table.endpoint_at(proven.endpoint);
    check_address(&endpoint, proven.direction, peer, now)?;
    if proven.direction == Direction::Ingress {
        peers.check_ways(&endpoint).map_err(HandshakeError)?;
    }
    Ok(())
}

fn credential(peers: &Peers, proven: &Proven) -> Credential {
    Credential {
        endpoint: peers.table.endpoint_at(proven.endpoint).id,
        key: proven.key,
        token: proven.presented.token.map_or(0, |token| token.mark),
    }
}

impl Peers {
    /// Whoever is at home at a node is served there alone.
    #[inline]
    pub(crate) fn check_node(&self, endpoint: &EndpointView<'_>) -> Result<(), HandshakeError> {
        match endpoint.home() {
            Some(home) if self.here != Some(home) => {
                let here = self.here.map_or(0, |here| here.0.into());
                Err(fault(Reason::NotHome, here, home.0.into()))
            }
            _ => Ok(()),
        }
    }
}

/// A queue is read on the shard that owns it, and not every connection can go there.
fn check_home(peers: &Peers, proven: &Proven, stays: bool) -> Result<(), HandshakeError> {
    let endpoint = peers.table.endpoint_at(proven.endpoint);
    let home = peers
        .ownership
        .home(&peers.table, &endpoint, proven.direction);
    if !stays || proven.direction == Direction::Ingress || home == peers.limits.shard {
        return Ok(());
    }
    let (shards, home) = (u64::from(peers.limits.shards), u64::from(home));
    let notice = Notice::new(Reason::AnotherShard, shards, home);
    Err(HandshakeError(notice.retry_after(1)))
}

/// A good credential opens no session while it is banned, or while memory is so short that strangers make room.
fn check_pressure(
    peers: &mut Peers,
    credential: Credential,
    peer: std::net::IpAddr,
) -> Result<(), HandshakeError> {
    if let Some(notice) = peers.barred_key(peer, credential) {
        return Err(HandshakeError(notice));
    }
    if peers.memory.door >= Pressure::Strangers {
        return Err(HandshakeError(peers.stranger_shed()));
    }
    Ok(())
}

fn check_clock(peers: &Peers, theirs: u64) -> Result<(), HandshakeError> {
    let ours = peers.now.unix.seconds();
    let far = theirs.abs_diff(ours) > peers.limits.clock_skew_max.as_secs();
    if theirs != 0 && far {
        Err(fault(Reason::ClockSkew, theirs, ours))
    } else {
        Ok(())
    }
}

/// A HELLO is judged once. Whoever overheard it on a plain channel has a good proof, but not a new nonce; it
/// would take over the streams of its endpoint, whose frames it then could not sign. One that is refused after this
/// is spent like any other: what it was refused for may not be so any more when it is said again.
fn check_fresh(peers: &mut Peers, hello: &Hello<'_>, endpoint: u32) -> Result<(), HandshakeError> {
    let (theirs, now) = (hello.fields.unix_seconds, peers.now.unix.seconds());
    let expiry = match theirs {
        0 => u64::MAX,
        _ => theirs.saturating_add(peers.limits.clock_skew_max.as_secs()),
    };
    let endpoint = peers.table.endpoint_at(endpoint).id;
    let nonce = hello.fields.client_nonce;
    if peers.nonces.take(endpoint, nonce, expiry, now) {
        Ok(())
    } else {
        Err(fault(Reason::HelloReplayed, 0, 0))
    }
}

/// Check the proof in HELLO, and nothing else: whether what is proven is still good is asked once its nonce is spent.
fn prove(peers: &Peers, hello: &Hello<'_>, start: &Start) -> Result<Proven, HandshakeError> {
    match hello.fields.auth {
        Auth::Key(key) => prove_key(peers, hello, start, key),
        Auth::Token(text) => prove_token(peers, hello, start, text),
        Auth::Resume(session) => prove_resumption(peers, hello, start, session),
    }
}

fn prove_key(
    peers: &Peers,
    hello: &Hello<'_>,
    start: &Start,
    key: KeyId,
) -> Result<Proven, HandshakeError> {
    let named = named(&peers.table, hello.fields.name);
    let found = named.and_then(|(at, endpoint)| Some((at, endpoint.key(key)?)));
    let proof = |secret: &SecretKey| proves(hello, start, secret.text_bytes());
    let (endpoint, key, secret) = prove_symmetric(found, proof)?;
    let id = new_session(peers, start);
    let keys = derive(hello, start, secret.text_bytes(), id);
    Ok(Proven::new(endpoint, &key, None, start, id, keys))
}

fn prove_token(
    peers: &Peers,
    hello: &Hello<'_>,
    start: &Start,
    text: &str,
) -> Result<Proven, HandshakeError> {
    let token = Token::parse(text)?;
    let named = named(&peers.table, hello.fields.name);
    let found =
        named.and_then(|(at, endpoint)| Some((at, endpoint.key_by_name(token.key_name())?)));
    let proof = |secret: &SecretKey| proves(hello, start, &token.expected_signature(secret.mac()));
    let (endpoint, key, secret) = prove_symmetric(found, proof)?;
    let signature = token.check_signature(secret.mac())?;
    let terms = TokenTerms {
        expires: UnixNanos::from_seconds(token.expiry_seconds()),
        mark: u64::from_le_bytes(*signature.first_chunk().expect("32 bytes hold 8")),
    };
    let id = new_session(peers, start);
    let keys = derive(hello, start, &signature, id);
    Ok(Proven::new(endpoint, &key, Some(terms), start, id, keys))
}

/// The session's own secret stands in for the credential.
fn prove_resumption(
    peers: &Peers,
    hello: &Hello<'_>,
    start: &Start,
    id: SessionId,
) -> Result<Proven, HandshakeError> {
    let unknown = fault(Reason::SessionUnknown, 0, 0);
    let reference = peers.sessions.find(id).ok_or(unknown)?;
    let session = peers.sessions.get(reference).ok_or(unknown)?;
    if !proves(hello, start, &session.keys.resume) {
        return Err(fault(Reason::BadCredential, 0, 0));
    }
    Ok(Proven {
        endpoint: session.endpoint_index,
        direction: session.direction,
        key: session.key,
        key_mark: session.key_mark,
        presented: Presented {
            token: session.token(),
            shown: start.shown,
        },
        keys: derive(hello, start, &session.keys.resume, id),
        id,
        transport: start.transport(),
        resumed: Some(reference),
    })
}

/// Whether a HELLO is signed with this secret, for the tunnel it came through.
fn proves(hello: &Hello<'_>, start: &Start, secret: &[u8]) -> bool {
    verify_hello(secret, start.exporter(), &hello.frame())
}

/// The symmetric key of a credential and the index of its endpoint, if the proof with it holds. A key that is not there, or
/// that cannot prove anything here, costs as much and is told no other way.
fn prove_symmetric<'t>(
    found: Option<(u32, KeyView<'t>)>,
    proof: impl Fn(&SecretKey) -> bool,
) -> Result<(u32, KeyView<'t>, SecretKey), HandshakeError> {
    let bad = fault(Reason::BadCredential, 0, 0);
    match found.and_then(|(at, key)| Some((at, key, key.secret()?))) {
        Some((at, key, secret)) => {
            if proof(&secret) {
                Ok((at, key, secret))
            } else {
                Err(bad)
            }
        }
        None => {
            const _: () = assert!(KEY_TEXT_BYTES == 44);
            let _same_cost = proof(&SecretKey::from_random([0; 32]));
            Err(bad)
        }
    }
}

/// The id of the session that would begin on this connection.
fn new_session(peers: &Peers, start: &Start) -> SessionId {
    let mut id = SessionId(*start.random.first_chunk().expect("48 bytes hold 16"));
    stamp(&mut id, peers.limits.shard, peers.limits.shards);
    id
}

fn server_nonce(start: &Start) -> [u8; 32] {
    *start.random.last_chunk().expect("48 bytes hold 32")
}

fn derive(hello: &Hello<'_>, start: &Start, secret: &[u8], id: SessionId) -> SessionKeys {
    let (theirs, ours) = (&hello.fields.client_nonce, &server_nonce(start));
    SessionKeys::derive(secret, theirs, ours, id, start.exporter())
}

/// The state of what was proven.
fn check_credential(
    peers: &Peers,
    hello: &Hello<'_>,
    proven: &Proven,
) -> Result<(), HandshakeError> {
    if let Some(session) = proven.resumed {
        return check_resumption(peers, hello, proven, session);
    }
    let now = peers.now.unix;
    if let Auth::Token(text) = hello.fields.auth {
        Token::parse(text)?.check_terms(now, hello.fields.name)?;
    }
    let endpoint = peers.table.endpoint_at(proven.endpoint);
    let key = endpoint.key(proven.key);
    check_key(&key.expect("it was proven"), &endpoint, now)
}

/// Who resumes a session comes the way the session came, by its name, and while its credential is good.
fn check_resumption(
    peers: &Peers,
    hello: &Hello<'_>,
    proven: &Proven,
    session: SessionRef,
) -> Result<(), HandshakeError> {
    let session = peers.sessions.get(session);
    let session = session.expect("prove_resumption has found it");
    let left = session.transport != Transport::Tcp && proven.transport == Transport::Tcp;
    if left && !active(Bug::SessionLeavesTunnel) {
        return Err(fault(Reason::SessionUnknown, 0, 0));
    }
    let endpoint = peers.endpoint_held(session);
    if endpoint.name() != hello.fields.name {
        return Err(fault(Reason::BadCredential, 0, 0));
    }
    let (direction, now) = (session.direction, peers.now.unix);
    // Not when what it showed before ends, but what is shown now.
    let end = first_end(session, proven.presented.shown, &endpoint, now);
    match end.filter(|(at, _)| *at <= now) {
        Some(end) => Err(HandshakeError(ended(end, &endpoint, direction, now))),
        None => Ok(()),
    }
}

fn check_key(
    key: &KeyView<'_>,
    endpoint: &EndpointView<'_>,
    now: UnixNanos,
) -> Result<(), HandshakeError> {
    if key.revoked {
        return Err(fault(Reason::KeyRevoked, u64::from(key.id.0), 0));
    }
    if let Some(expires) = key.expires.filter(|expires| *expires <= now) {
        return Err(fault(Reason::KeyExpired, now.seconds(), expires.seconds()));
    }
    if !endpoint.enabled {
        return Err(fault(Reason::EndpointDisabled, 0, 0));
    }
    Ok(())
}

/// Who names transports comes by one of them.
pub(crate) fn check_transport(
    endpoint: &EndpointView<'_>,
    transport: Transport,
) -> Result<(), HandshakeError> {
    if endpoint.transports().has(transport) {
        return Ok(());
    }
    let (seen, needed) = (transport as u64, endpoint.transports().bits().into());
    Err(fault(Reason::TransportRefused, seen, needed))
}

/// Who names certificates comes through a tunnel in which one of them was shown, and is good as long as that is.
pub(crate) fn check_certificate(
    endpoint: &EndpointView<'_>,
    shown: Option<Shown>,
    now: UnixNanos,
) -> Result<(), HandshakeError> {
    if !endpoint.may_use_tunnel(shown.map(|shown| shown.certificate)) {
        let named = endpoint.certificates().len() as u64;
        let seen = u64::from(shown.is_some());
        return Err(fault(Reason::CertificateRequired, seen, named));
    }
    match certificate_end(shown, endpoint) {
        Some(at) if at <= now => Err(HandshakeError(certificate_ended(endpoint))),
        _ => Ok(()),
    }
}

/// What the grants say about the peer as a whole. To send, one grant that holds here is enough, each frame is
/// looked at again. To receive, all must hold: a queue mixes the channels of its endpoint.
pub(crate) fn check_address(
    endpoint: &EndpointView<'_>,
    direction: Direction,
    peer: std::net::IpAddr,
    now: UnixNanos,
) -> Result<(), HandshakeError> {
    let address = |grant: GrantView<'_>| grant.restriction.allows_address(peer);
    let origin = |grant: GrantView<'_>| grant.restriction.allows_origin(None);
    let (address, origin) = match direction {
        Direction::Ingress => {
            let some = |test: &dyn Fn(GrantView<'_>) -> bool| {
                endpoint.send.is_empty() || endpoint.send.iter().any(test)
            };
            // Only addresses are final here: which origin counts is told frame by frame.
            (some(&address), true)
        }
        Direction::Egress => (
            endpoint.heard(now).all(address),
            endpoint.heard(now).all(origin),
        ),
    };
    match (address, origin) {
        (false, _) => Err(fault(Reason::AddressRefused, 0, 0)),
        (true, false) => Err(fault(Reason::RestrictedOrigin, 0, 0)),
        (true, true) => Ok(()),
    }
}

/// There is room for one more session, of this name.
fn make_room(peers: &mut Peers, id: SessionId) -> Result<(), HandshakeError> {
    if peers.sessions.full()
        && let Some(oldest) = peers.sessions.evictable()
    {
        peers.end_session(oldest);
    }
    let (count, count_max) = (
        peers.sessions.count() as u64,
        u64::from(peers.limits.sessions_max),
    );
    if peers.sessions.full() {
        let notice = Notice::new(Reason::SessionsFull, count, count_max);
        return Err(HandshakeError(notice.retry_after(peers.retry_after_ms())));
    }
    if peers.sessions.find(id).is_some() {
        // 16 random bytes came twice: let the client draw again.
        return Err(HandshakeError(
            Notice::new(Reason::Busy, 0, 0).retry_after(peers.retry_after_ms()),
        ));
    }
    Ok(())
}

fn begin(peers: &mut Peers, id: ConnectionId, proven: Proven) -> SessionRef {
    let endpoint = peers.table.endpoint_at(proven.endpoint).id;
    peers.sessions.insert(|reference| Session {
        reference,
        id: proven.id,
        endpoint,
        endpoint_index: proven.endpoint,
        direction: proven.direction,
        key: proven.key,
        presented: proven.presented.kept(),
        key_mark: proven.key_mark,
        keys: proven.keys,
        transport: proven.transport,
        connection: Some(id),
        linger_until: 0,
        walk: peers.walks,
        unacked_frames: 0,
        unacked_bytes: 0,
        streams: Vec::new(),
        routes: Vec::new(),
        credit: None,
    })
}

/// Move a session to a new connection, under new keys. The old connection, if it still stands, is told.
fn resume(
    peers: &mut Peers,
    reference: SessionRef,
    id: ConnectionId,
    proven: Proven,
) -> SessionRef {
    let before = peers
        .sessions
        .get(reference)
        .and_then(|session| session.connection);
    if let Some(before) = before {
        peers.part(before, reference);
    }
    peers.sessions.attach(reference, id);
    let session = peers
        .sessions
        .get_mut(reference)
        .expect("prove_resumption has found it");
    let lists_bytes = session.lists_bytes();
    session.keys = proven.keys;
    session.transport = proven.transport;
    session.presented = proven.presented.kept();
    session.forget_streams();
    peers.unopened.forget(reference);
    session.credit = None;
    peers.sessions.note_lists(reference, lists_bytes);
    reference
}

/// Resolve what a session may send to against the route table in force, and claim its streams: from now on only
/// this session appends direct frames to them. Streams that it has keep their state. Returns up to where each
/// log has to be committed before WELCOME can name the next numbers.
pub(crate) fn claim<S: Segment>(
    peers: &mut Peers,
    logs: &mut [Log<S>],
    owned: &Owned,
    reference: SessionRef,
    take_over: bool,
) -> Vec<(u32, Offset)> {
    let mut waits = Vec::new();
    let table = std::sync::Arc::clone(&peers.table);
    let Some(session) = peers.sessions.get_mut(reference) else {
        return waits;
    };
    // Who is not connected claims its streams when it is; until then they are a newer session's.
    if session.direction != Direction::Ingress || session.connection.is_none() {
        return waits;
    }
    let lists_bytes = session.lists_bytes();
    session.routes.clear();
    let endpoint = table.endpoint_at(session.endpoint_index);
    let rated = table.is_rated(session.endpoint_index);
    let superseded = !take_over && superseded(session, logs);
    session.routes.reserve_exact(endpoint.send.len());
    for (at, grant) in endpoint.send.iter().enumerate() {
        let Some((partition, log)) = place(&table, owned, &peers.ownership, &endpoint, &grant)
        else {
            continue;
        };
        let stream = match (session.stream_of(partition), away(log)) {
            (Some(stream), _) => stream,
            (None, Some(_)) if superseded => continue,
            (None, Some(to)) => {
                let at = claim_away(&mut peers.away[usize::from(to)], session, log, partition);
                session.streams[at].blocked = peers.unopened.take(reference, partition);
                at
            }
            (None, None) => {
                // Sessions are many and idle for long: no room that nothing will use.
                let blocked = peers.unopened.take(reference, partition);
                let mut stream = new_stream(&mut logs[log as usize], log, partition, session);
                stream.blocked = blocked;
                if !superseded {
                    let sender = &mut logs[log as usize].senders[stream.sender as usize];
                    sender.owner = Some(reference);
                }
                session.streams.reserve_exact(1);
                session.streams.push(stream);
                session.streams.len() - 1
            }
        };
        let (channel, grant_at) = (grant.channel, at as u32);
        let restricted = !grant.restriction.is_none() || rated;
        session.routes.push(ChannelRoute {
            channel,
            stream: stream as u32,
            grant: grant_at,
            restricted,
        });
    }
    if take_over {
        for stream in &session.streams {
            let Some(log) = logs.get(stream.log as usize) else {
                continue;
            };
            let committed = log.senders[stream.sender as usize].committed;
            let uncertain = committed < stream.claimed_last || log.owes_sync();
            if uncertain && !log.sealed() {
                waits.push((stream.log, log.partition.appended()));
            }
        }
    }
    peers.sessions.note_lists(reference, lists_bytes);
    waits
}

/// Whether a newer session of the endpoint has taken over what this one claimed.
fn superseded<S: Segment>(session: &Session, logs: &[Log<S>]) -> bool {
    let taken = |stream: &Stream| {
        let log = logs.get(stream.log as usize)?;
        Some(log.senders[stream.sender as usize].owner != Some(session.reference))
    };
    session.streams.iter().filter_map(taken).any(|taken| taken)
}

/// Where an endpoint's frames for a channel go: the partition, and the place of its log.
pub(crate) fn place(
    table: &RouteTable,
    owned: &Owned,
    ownership: &Ownership,
    endpoint: &EndpointView<'_>,
    grant: &GrantView<'_>,
) -> Option<(PartitionId, u32)> {
    let channel = table.channel(grant.channel)?;
    let partition = table.partition_of(endpoint.id, channel);
    Some((partition, owned.place(ownership, partition)?))
}

fn new_stream<S: Segment>(
    log: &mut Log<S>,
    at: u32,
    partition: PartitionId,
    session: &Session,
) -> Stream {
    let sender = log.sender(session.endpoint);
    Stream {
        log: at,
        partition,
        sender,
        claimed_last: log.partition.sender(session.endpoint).last,
        received: Sequence(0),
        blocked: None,
        acked: Sequence(0),
        acked_offset: Offset(0),
        dirty: false,
        ack_mode: AckMode::Durable,
        across: None,
    }
}
