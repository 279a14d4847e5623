//! Stage 3, verify: every frame is signed by whom it says it is from. Direct frames by the session, in the
//! order in which they were sent; envelopes by their endpoint's own key, Ed25519 ones in batches.

mod datagram;
mod envelope;

use wire::delivery::{Fetch, Settle};
use wire::frame::SignatureKind;
use wire::handshake::Hello;
use wire::ids::{
    Direction, EndpointId, KeyId, NO_STREAM, PartitionId, QUEUE_STREAM, RELAY_STREAM, Sequence,
};
use wire::reason::{Notice, Reason};
use wire::route::TOGETHER;
use wire::send::Send;
use wire::signature::{VerifyJob, verify_many};

use crate::io::ConnectionId;
use crate::parse::{Content, Parsed, Refusal};
use crate::peers::Peers;
use crate::planted::{Bug, active};
use crate::session::{Session, SessionRef};

pub(crate) use self::datagram::verify_datagram;
use self::envelope::{check_envelope, check_envelopes};

/// Why a frame is not taken for what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not signed by the session, or an envelope not signed by its endpoint.
    #[error("bad signature, the {strikes}. on this connection")]
    BadSignature {
        /// Bad signatures on the connection, this one included.
        strikes: u32,
        /// How many are too many.
        strikes_max: u32,
    },
    /// A direct SEND is signed by the session, nothing else.
    #[error("signature kind {0} on a direct frame")]
    SignatureKind(u8),
    /// A direct SEND names another sender than the session's endpoint.
    #[error("sender {seen}, but the session is {needed}'s")]
    SenderMismatch {
        /// The endpoint in the frame.
        seen: EndpointId,
        /// The session's endpoint.
        needed: EndpointId,
    },
    /// The session was opened with a credential of the other direction.
    #[error("wrong direction")]
    WrongDirection,
    /// The session's endpoint may not relay.
    #[error("endpoint {0} may not relay")]
    RelayNotAllowed(EndpointId),
    /// An envelope of an endpoint or key that is not known, not enabled, or not for sending.
    #[error("unknown sender {0} or key {1}")]
    UnknownSender(EndpointId, KeyId),
    /// An envelope signed with a key that was withdrawn.
    #[error("key {0} is revoked")]
    KeyRevoked(KeyId),
    /// An envelope of an endpoint that may send nothing at this moment.
    #[error("the endpoint may not send now")]
    Terms(Notice),
    /// An envelope signed with a key whose time is over.
    #[error("key {key} expired at {expired}")]
    KeyExpired {
        /// The key.
        key: KeyId,
        /// When, unix seconds.
        expired: u64,
        /// The time now, unix seconds.
        now: u64,
    },
}

impl VerifyError {
    /// What the peer is told.
    pub fn notice(&self) -> Notice {
        match *self {
            Self::BadSignature {
                strikes,
                strikes_max,
            } => Notice::new(
                Reason::BadSignature,
                u64::from(strikes),
                u64::from(strikes_max),
            ),
            Self::SignatureKind(kind) => Notice::new(
                Reason::SignatureKind,
                u64::from(kind),
                SignatureKind::Session as u64,
            ),
            Self::SenderMismatch { seen, needed } => {
                Notice::new(Reason::SenderMismatch, seen.0, needed.0)
            }
            Self::WrongDirection => Notice::new(Reason::WrongDirection, 0, 0),
            Self::RelayNotAllowed(endpoint) => Notice::new(Reason::RelayNotAllowed, endpoint.0, 0),
            Self::UnknownSender(endpoint, key) => {
                Notice::new(Reason::UnknownSender, endpoint.0, u64::from(key.0))
            }
            Self::KeyRevoked(key) => Notice::new(Reason::KeyRevoked, u64::from(key.0), 0),
            Self::Terms(notice) => notice,
            Self::KeyExpired { expired, now, .. } => Notice::new(Reason::KeyExpired, now, expired),
        }
    }
}

/// On whose behalf a SEND is appended, and how its sender is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The session's own endpoint.
    Direct,
    /// Another endpoint, through this session, under this relay number.
    Relayed(Sequence),
    /// The same through a session of the shard with this number; here only its log is.
    Carried(u16, Sequence),
    /// The session's own endpoint, in a datagram of this number; 0 is not answered.
    Datagram(Sequence),
    /// A session of the shard with this number, as `Direct` is one of this shard, in this round; here only its log is.
    Guest(u16, u32),
}

/// A SEND whose signature is good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verified<'a> {
    order: u32,
    connection: ConnectionId,
    session: SessionRef,
    origin: Origin,
    send: &'a Send<'a>,
}

impl<'a> Verified<'a> {
    pub(crate) fn order(&self) -> u32 {
        self.order
    }

    pub(crate) fn connection(&self) -> ConnectionId {
        self.connection
    }

    pub(crate) fn session(&self) -> SessionRef {
        self.session
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    pub(crate) fn send(&self) -> &'a Send<'a> {
        self.send
    }
}

/// A frame other than a SEND whose signature is good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    pub(crate) connection: ConnectionId,
    pub(crate) session: SessionRef,
    pub(crate) kind: CommandKind,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum CommandKind {
    Fetch(Fetch),
    Settle(Settle),
    Ping(Sequence),
    Bye,
}

/// What the stage gives on.
pub(crate) struct Verdicts<'s, 'a> {
    pub(crate) verified: &'s mut Vec<Verified<'a>>,
    pub(crate) commands: &'s mut Vec<Command>,
    pub(crate) refusals: &'s mut Vec<Refusal>,
    /// Envelopes whose Ed25519 signature is to be checked with the others of the batch; recycled.
    pub(crate) envelopes: &'s mut Vec<Envelope<'a>>,
    pub(crate) good: &'s mut Vec<bool>,
}

/// An envelope in front of its Ed25519 check, and where its key stands in the route table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope<'a> {
    unverified: Verified<'a>,
    endpoint: u32,
    key: u32,
}

/// Stage 3: check the frames of a turn, in order; `hello` is called for each HELLO in its place. `jobs` is empty memory.
///
/// Session signatures of [`TOGETHER`] frames are checked together: two at a time, while their bytes are near. A connection that
/// strikes out has at most so many checked in vain.
pub(crate) fn verify<'a>(
    peers: &mut Peers,
    parsed: &'a [Parsed<'a>],
    out: &mut Verdicts<'_, 'a>,
    jobs: &mut Vec<VerifyJob<'static>>,
    mut hello: impl FnMut(&mut Peers, ConnectionId, &Hello<'a>),
) {
    for together in parsed.chunks(TOGETHER) {
        let mut good = [false; TOGETHER];
        let empty = recycled!(std::mem::take(jobs));
        *jobs = recycled!(check_signatures(peers, together, empty, &mut good));
        let proofs = find_senders(peers, together, good);
        let mut proofs = &proofs[..];
        for frames in together.chunk_by(|one, next| one.connection() == next.connection()) {
            let (these, rest) = proofs.split_at(frames.len());
            proofs = rest;
            judge(peers, frames, these, out, &mut hello);
        }
    }
    if !out.envelopes.is_empty() {
        check_envelopes(peers, out);
    }
}

/// Check the session signatures of frames, whatever else may be wrong with them. The keys of an open connection change
/// only when its session leaves it, after which its frames count for nothing.
fn check_signatures<'p, 'a: 'p>(
    peers: &'p Peers,
    frames: &[Parsed<'a>],
    mut jobs: Vec<VerifyJob<'p>>,
    good: &mut [bool; TOGETHER],
) -> Vec<VerifyJob<'p>> {
    let (mut places, mut at) = ([0; TOGETHER], 0);
    for frames in frames.chunk_by(|one, next| one.connection() == next.connection()) {
        let session = peers.session_of(frames[0].connection());
        for frame in frames {
            let job = session
                .zip(frame.content().outer())
                .and_then(|(session, outer)| {
                    VerifyJob::session(&session.keys.client, frame.frame_index(), &outer)
                });
            if let Some(job) = job {
                places[jobs.len()] = at;
                jobs.push(job);
            }
            at += 1;
        }
    }
    let mut right = [false; TOGETHER];
    let right = &mut right[..jobs.len()];
    verify_many(&jobs, right);
    for (at, right) in places.iter().zip(right) {
        good[*at] = *right;
    }
    jobs
}

/// What is known of a frame before it is judged.
#[derive(Debug, Clone, Copy)]
struct Proof {
    /// Whether its session's signature is good.
    good: bool,
    /// The index of the endpoint that its envelope names, if it is a good one and there is such an endpoint.
    sender: Option<u32>,
}

/// Find the endpoints that envelopes name, all of them together, with all that the next stages ask of them.
fn find_senders(peers: &Peers, frames: &[Parsed<'_>], good: [bool; TOGETHER]) -> [Proof; TOGETHER] {
    let mut proofs = good.map(|good| Proof { good, sender: None });
    let relays = |frame: &Parsed<'_>| matches!(frame.content(), Content::Relay(_));
    if frames.iter().any(relays) {
        find_relayed(peers, frames, &mut proofs);
    }
    proofs
}

#[inline(never)]
fn find_relayed(peers: &Peers, frames: &[Parsed<'_>], proofs: &mut [Proof; TOGETHER]) {
    let (mut ids, mut places, mut count) = ([EndpointId(0); TOGETHER], [0; TOGETHER], 0);
    for (at, frame) in frames.iter().enumerate() {
        if let (Content::Relay(relay), true) = (frame.content(), proofs[at].good) {
            (ids[count], places[count]) = (relay.inner().endpoint(), at);
            count += 1;
        }
    }
    let found = peers.table.endpoint_indexes(&ids[..count]);
    peers.table.touch_keys(found.into_iter().flatten());
    for (at, found) in places[..count].iter().zip(found) {
        proofs[*at].sender = found;
    }
}

/// Give on the frames of one connection. As long as all is well with them, their session is looked up once.
fn judge<'a>(
    peers: &mut Peers,
    frames: &'a [Parsed<'a>],
    proofs: &[Proof],
    out: &mut Verdicts<'_, 'a>,
    hello: &mut impl FnMut(&mut Peers, ConnectionId, &Hello<'a>),
) {
    let mut sender: Option<(SessionRef, EndpointId)> = None;
    for (frame, proof) in frames.iter().zip(proofs) {
        let id = frame.connection();
        if let (Some((session, endpoint)), Content::Send(send), true) =
            (sender, frame.content(), proof.good)
            && send.endpoint() == endpoint
        {
            peers.counters.verify.session_frames += 1;
            out.verified.push(direct(frame, session, send));
            continue;
        }
        if struck_out(peers, id) {
            return;
        }
        if let Content::Hello(frame) = frame.content() {
            let content = Hello::parse(*frame);
            hello(peers, id, &content.expect("the parse stage has read it"));
            continue;
        }
        let Some(session) = peers.session_of(id) else {
            continue;
        };
        let reference = session.reference;
        let sends = session.direction == Direction::Ingress;
        sender = sends.then_some((reference, session.endpoint));
        if let Err(error) = check(peers, frame, reference, *proof, out) {
            refuse(peers, frame, error, out.refusals);
            sender = None;
        }
    }
}

fn direct<'a>(frame: &Parsed<'a>, session: SessionRef, send: &'a Send<'a>) -> Verified<'a> {
    Verified {
        order: frame.order(),
        connection: frame.connection(),
        session,
        origin: Origin::Direct,
        send,
    }
}

fn struck_out(peers: &Peers, id: ConnectionId) -> bool {
    let strikes = peers
        .connections
        .get(id)
        .map(|connection| connection.bad_signatures);
    strikes.is_none_or(|strikes| strikes >= peers.limits.bad_signatures_max)
}

/// Check one frame and give it on.
fn check<'a>(
    peers: &mut Peers,
    frame: &'a Parsed<'a>,
    reference: SessionRef,
    proof: Proof,
    out: &mut Verdicts<'_, 'a>,
) -> Result<(), VerifyError> {
    let (connection, session) = (frame.connection(), reference);
    let command = |kind| Command {
        connection,
        session,
        kind,
    };
    check_session(peers, frame, proof.good)?;
    match frame.content() {
        Content::Send(send) => {
            check_sender(peers, reference, send)?;
            out.verified.push(direct(frame, session, send));
        }
        Content::Relay(relay) => {
            check_envelope(peers, frame, reference, (relay, proof.sender), out)?;
        }
        Content::Fetch(fetch, _) => out.commands.push(command(CommandKind::Fetch(*fetch))),
        Content::Settle(settle, _) => out.commands.push(command(CommandKind::Settle(*settle))),
        Content::Ping(number, _) => out.commands.push(command(CommandKind::Ping(*number))),
        Content::Bye(_) => out.commands.push(command(CommandKind::Bye)),
        Content::Hello(_) => {}
    }
    Ok(())
}

/// The session's signature over the outer frame.
fn check_session(peers: &mut Peers, frame: &Parsed<'_>, good: bool) -> Result<(), VerifyError> {
    let kind = frame.content().outer().map(|outer| outer.signature_kind());
    if let Some(kind) = kind.filter(|kind| *kind != SignatureKind::Session) {
        return Err(VerifyError::SignatureKind(kind as u8));
    }
    if good || (active(Bug::SkipSignature) && matches!(frame.content(), Content::Send(_))) {
        peers.counters.verify.session_frames += 1;
        return Ok(());
    }
    Err(strike(peers, frame.connection()))
}

/// Count a bad signature; too many end the connection.
fn strike(peers: &mut Peers, id: ConnectionId) -> VerifyError {
    peers.counters.verify.bad_signatures += 1;
    let strikes_max = peers.limits.bad_signatures_max;
    let mut strikes = 0;
    if let Some(connection) = peers.connections.get_mut(id) {
        connection.bad_signatures += 1;
        strikes = connection.bad_signatures;
    }
    if strikes >= strikes_max {
        peers.goaway(
            id,
            Reason::TooManyBadSignatures,
            u64::from(strikes),
            u64::from(strikes_max),
        );
    }
    VerifyError::BadSignature {
        strikes,
        strikes_max,
    }
}

/// The session, if it is one of a party that sends.
fn sending(peers: &Peers, reference: SessionRef) -> Result<&Session, VerifyError> {
    let session = peers.sessions.get(reference);
    let session = session.expect("the caller has just found it");
    match session.direction {
        Direction::Ingress => Ok(session),
        Direction::Egress => Err(VerifyError::WrongDirection),
    }
}

fn check_sender(peers: &Peers, reference: SessionRef, send: &Send<'_>) -> Result<(), VerifyError> {
    let session = sending(peers, reference)?;
    if send.endpoint() != session.endpoint {
        return Err(VerifyError::SenderMismatch {
            seen: send.endpoint(),
            needed: session.endpoint,
        });
    }
    Ok(())
}

/// Turn an error into a refusal, to be told in its place.
fn refuse(peers: &mut Peers, frame: &Parsed<'_>, error: VerifyError, refusals: &mut Vec<Refusal>) {
    if !matches!(error, VerifyError::BadSignature { .. }) {
        peers.counters.verify.refused += 1;
    }
    let (partition, sequence) = match frame.content() {
        Content::Send(send) => (stream_of(peers, frame.connection(), send), send.sequence()),
        Content::Relay(relay) => (RELAY_STREAM, relay.number()),
        Content::Settle(settle, _) => (QUEUE_STREAM, settle.number),
        Content::Ping(number, _) => (QUEUE_STREAM, *number),
        Content::Fetch(..) | Content::Bye(_) | Content::Hello(_) => (QUEUE_STREAM, Sequence(0)),
    };
    let (order, connection, notice) = (frame.order(), frame.connection(), error.notice());
    refusals.push(Refusal {
        order,
        connection,
        partition,
        sequence,
        notice,
    });
}

/// The stream of the session that a direct SEND belongs to, as far as its channel tells.
pub(crate) fn stream_of(peers: &Peers, id: ConnectionId, send: &Send<'_>) -> PartitionId {
    let sender = peers.session_of(id).map(|session| session.endpoint);
    let channel = peers.table.channel(send.channel());
    let stream = sender
        .zip(channel)
        .map(|(sender, channel)| peers.table.partition_of(sender, channel));
    stream.unwrap_or(NO_STREAM)
}
