//! Sessions: one party's authenticated presence, which outlives a dropped connection. Knows keys and
//! credit; never bytes, records or queues.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire::ids::{
    AckMode, ChannelId, Direction, EndpointId, KeyId, Offset, PartitionId, Sequence, SessionId,
    UnixNanos,
};
use wire::route::Transport;
use wire::signature::SessionKeys;

use crate::across::Across;
use crate::io::{ConnectionId, Shown};
use crate::places::Places;
use crate::route::away;

/// A session's place in the table: `generation << 32 | slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionRef(u64);

impl SessionRef {
    /// Names no session: generations begin at 1.
    pub(crate) const NONE: Self = Self(0);

    fn new(slot: usize, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | slot as u64)
    }

    fn slot(self) -> usize {
        (self.0 & 0xFFFF_FFFF) as usize
    }
}

/// The frames of a sender to one partition, as one session sends them.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The log, by its place in the shard; or the shard that owns it ([`away`]).
    pub(crate) log: u32,
    pub(crate) partition: PartitionId,
    /// The sender's place in the log's table of senders, if the log is this shard's.
    pub(crate) sender: u32,
    /// The last sequence appended when this connection took the stream over. What comes at or below
    /// it is sent again; nobody else can append to the stream after that.
    pub(crate) claimed_last: Sequence,
    /// The highest sequence taken on this connection.
    pub(crate) received: Sequence,
    /// After a REJECT: later frames than this one are discarded until it, or an earlier one, comes.
    pub(crate) blocked: Option<Sequence>,
    /// The highest sequence committed, and the offset of its last message; told by the next ACK.
    pub(crate) acked: Sequence,
    pub(crate) acked_offset: Offset,
    pub(crate) dirty: bool,
    /// What the next ACK promises, of a log of another shard.
    pub(crate) ack_mode: AckMode,
    /// What else is known of a stream whose log is another shard's.
    pub(crate) across: Option<Box<Across>>,
}

impl Stream {
    /// The highest number that may be in the log already. How far a stream to another shard's log was taken here is its client's
    /// word as long as the log's owner has not said so.
    pub(crate) fn taken(&self) -> Sequence {
        let seen = match self.across {
            None => self.received,
            Some(_) => self.acked,
        };
        self.claimed_last.max(seen)
    }

    /// The shard that owns its log, if it is another one than its session's.
    pub(crate) fn away(&self) -> Option<u16> {
        away(self.log)
    }
}

/// A channel that a session may send to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChannelRoute {
    pub(crate) channel: ChannelId,
    pub(crate) stream: u32,
    /// The grant, by its place among the endpoint's.
    pub(crate) grant: u32,
    /// Whether the grant has any restriction to look at, or the endpoint or its account any rate.
    pub(crate) restricted: bool,
}

/// What a consumer will still accept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// What is known of a token that opened a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenTerms {
    pub(crate) expires: UnixNanos,
    /// A part of its signature: which one it is.
    pub(crate) mark: u64,
}

/// What few present besides a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Presented {
    /// The token that opened the session.
    pub(crate) token: Option<TokenTerms>,
    /// The certificate that was shown in its tunnel.
    pub(crate) shown: Option<Shown>,
}

impl Presented {
    /// As a session keeps it: most have nothing of it.
    pub(crate) fn kept(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// When a credential without an end ends.
pub(crate) const NEVER: UnixNanos = UnixNanos(u64::MAX);

/// One session. What a turn touches for each of its frames comes first, each key in a cache line of its own.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Session {
    pub(crate) reference: SessionRef,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) endpoint: EndpointId,
    pub(crate) direction: Direction,
    /// What its connection runs, or ran, over.
    pub(crate) transport: Transport,
    pub(crate) unacked_frames: u32,
    pub(crate) streams: Vec<Stream>,
    pub(crate) keys: SessionKeys,
    /// Sorted by channel.
    pub(crate) routes: Vec<ChannelRoute>,
    pub(crate) unacked_bytes: u64,
    pub(crate) id: SessionId,
    /// The endpoint's place in the route table in force.
    pub(crate) endpoint_index: u32,
    pub(crate) key: KeyId,
    /// What was presented besides the key, if anything was.
    pub(crate) presented: Option<Box<Presented>>,
    /// What tells its key's secret from any that may stand under the key's id later.
    pub(crate) key_mark: u64,
    /// Until when it lingers, in nanoseconds.
    pub(crate) linger_until: u64,
    /// The walk (`tables.rs`) up to which it was held against each table.
    pub(crate) walk: u32,
    /// Credit for the queue and for the dead letters, once there was a FETCH.
    pub(crate) credit: Option<Box<[Credit; 2]>>,
}

/// Ten thousand idle ones are to be cheap.
const _: () = assert!(size_of::<Option<Session>>() == 320);

impl Session {
    /// The token that opened it.
    pub(crate) fn token(&self) -> Option<TokenTerms> {
        self.presented.as_ref()?.token
    }

    /// The certificate that was shown in its tunnel.
    pub(crate) fn shown(&self) -> Option<Shown> {
        self.presented.as_ref()?.shown
    }

    fn lingers_until(&self) -> Duration {
        Duration::from_nanos(self.linger_until)
    }

    /// The credit for one of its lists.
    pub(crate) fn credit(&self, list: u8) -> Credit {
        let credit = self.credit.as_ref();
        credit.map_or_else(Credit::default, |credit| credit[usize::from(list)])
    }

    /// The same, to be changed.
    pub(crate) fn credit_mut(&mut self, list: u8) -> &mut Credit {
        &mut self.credit.get_or_insert_default()[usize::from(list)]
    }

    /// The stream of a partition, by its place.
    pub(crate) fn stream_of(&self, partition: PartitionId) -> Option<usize> {
        self.streams
            .iter()
            .position(|stream| stream.partition == partition)
    }

    /// The route to a channel.
    pub(crate) fn route(&self, channel: ChannelId) -> Option<&ChannelRoute> {
        let at = self
            .routes
            .binary_search_by_key(&channel, |route| route.channel)
            .ok()?;
        Some(&self.routes[at])
    }

    /// Begin anew on another connection: its streams are claimed again.
    pub(crate) fn forget_streams(&mut self) {
        self.take_back_doomed();
        self.streams.clear();
        self.routes.clear();
    }

    /// Frames behind a refused one take credit again, since the connection ends that they came on: they are answered one by one, as
    /// if their stream had never gone back.
    fn take_back_doomed(&mut self) {
        for across in self
            .streams
            .iter_mut()
            .filter_map(|stream| stream.across.as_mut())
        {
            let doomed = std::mem::take(&mut across.doomed);
            self.unacked_frames += doomed.frames;
            self.unacked_bytes += doomed.bytes;
        }
    }

    /// Bytes of its streams and routes, and of what was presented besides a key.
    pub(crate) fn lists_bytes(&self) -> usize {
        let presented = self.presented.as_ref();
        let presented = presented.map_or(0, |_| size_of::<Presented>());
        presented
            + self.streams.capacity() * size_of::<Stream>()
            + self.routes.capacity() * size_of::<ChannelRoute>()
    }

    /// Give back the credit of frames that were answered.
    pub(crate) fn return_credit(&mut self, frames: u32, bytes: u64) {
        debug_assert!(
            frames <= self.unacked_frames && bytes <= self.unacked_bytes,
            "{frames} frames of {} come back",
            self.unacked_frames
        );
        self.unacked_frames = self.unacked_frames.saturating_sub(frames);
        self.unacked_bytes = self.unacked_bytes.saturating_sub(bytes);
    }
}

/// All sessions of a shard.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: Places<Session>,
    /// Of the session in each place, or of the last one.
    generations: Vec<u32>,
    free: Vec<u32>,
    by_id: BTreeMap<SessionId, SessionRef>,
    by_endpoint: BTreeSet<(EndpointId, SessionRef)>,
    lingering: BTreeSet<(Duration, SessionRef)>,
    count_max: usize,
    /// Bytes of the streams and routes of all of them.
    lists_bytes: usize,
}

/// What a session takes of memory besides its streams and routes: its place, its entries in tables, its credit as a receiver.
pub(crate) const SESSION_BYTES: usize = size_of::<Option<Session>>() + 224;

impl Sessions {
    pub(crate) fn new(count_max: usize) -> Self {
        Self {
            slots: Places::default(),
            generations: Vec::new(),
            free: Vec::new(),
            by_id: BTreeMap::new(),
            by_endpoint: BTreeSet::new(),
            lingering: BTreeSet::new(),
            count_max,
            lists_bytes: 0,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn get(&self, reference: SessionRef) -> Option<&Session> {
        self.slots
            .get(reference.slot())
            .filter(|session| session.reference == reference)
    }

    pub(crate) fn get_mut(&mut self, reference: SessionRef) -> Option<&mut Session> {
        self.slots
            .get_mut(reference.slot())
            .filter(|session| session.reference == reference)
    }

    /// Bytes that all sessions take.
    pub(crate) fn bytes(&self) -> usize {
        self.count() * SESSION_BYTES + self.lists_bytes
    }

    /// A session's streams and routes took so many bytes before they changed.
    pub(crate) fn note_lists(&mut self, reference: SessionRef, before: usize) {
        let after = self.get(reference).map_or(0, Session::lists_bytes);
        self.lists_bytes = self.lists_bytes + after - before;
    }

    /// The session with this name.
    pub(crate) fn find(&self, id: SessionId) -> Option<SessionRef> {
        self.by_id.get(&id).copied()
    }

    /// The sessions of an endpoint.
    pub(crate) fn of(&self, endpoint: EndpointId) -> impl Iterator<Item = SessionRef> + '_ {
        let all = (endpoint, SessionRef::NONE)..=(endpoint, SessionRef(u64::MAX));
        self.by_endpoint.range(all).map(|(_, reference)| *reference)
    }

    /// How many places there are; of each whose session stands in it.
    pub(crate) fn places(&self) -> usize {
        self.generations.len()
    }

    pub(crate) fn at(&self, place: usize) -> Option<SessionRef> {
        self.slots.get(place).map(|session| session.reference)
    }

    /// When a table that is full has a lingering session, the one that would end first: it is to make room.
    pub(crate) fn evictable(&self) -> Option<SessionRef> {
        self.lingering.first().map(|(_, reference)| *reference)
    }

    /// Whether one more session has no room.
    pub(crate) fn full(&self) -> bool {
        self.count() >= self.count_max
    }

    /// Take in a session; `make` is told its place. The id must be new and the table not full.
    pub(crate) fn insert(&mut self, make: impl FnOnce(SessionRef) -> Session) -> SessionRef {
        assert!(
            !self.full(),
            "{} sessions of {}",
            self.count(),
            self.count_max
        );
        let slot = match self.free.pop() {
            Some(slot) => slot as usize,
            None => {
                self.generations.push(0);
                self.generations.len() - 1
            }
        };
        self.generations[slot] = self.generations[slot].wrapping_add(1);
        let reference = SessionRef::new(slot, self.generations[slot]);
        let session = make(reference);
        let before = self.by_id.insert(session.id, reference);
        assert!(before.is_none(), "session id {} given twice", session.id);
        self.by_endpoint.insert((session.endpoint, reference));
        self.lists_bytes += session.lists_bytes();
        self.slots.put(slot, session);
        reference
    }

    /// End a session. Returns whose it was.
    pub(crate) fn remove(&mut self, reference: SessionRef) -> Option<EndpointId> {
        let session = self.get(reference)?;
        let (id, until, endpoint) = (session.id, session.lingers_until(), session.endpoint);
        self.lists_bytes -= session.lists_bytes();
        self.by_id.remove(&id);
        self.by_endpoint.remove(&(endpoint, reference));
        self.lingering.remove(&(until, reference));
        self.slots.clear(reference.slot());
        self.free.push(reference.slot() as u32);
        Some(endpoint)
    }

    /// The connection is gone; the session may be resumed until `until`.
    pub(crate) fn linger(&mut self, reference: SessionRef, until: Duration) {
        let Some(session) = self.get_mut(reference) else {
            return;
        };
        session.take_back_doomed();
        session.connection = None;
        session.linger_until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        session.credit = None;
        let until = session.lingers_until();
        self.lingering.insert((until, reference));
    }

    /// A new connection carries the session.
    pub(crate) fn attach(&mut self, reference: SessionRef, connection: ConnectionId) {
        let Some(session) = self.get_mut(reference) else {
            return;
        };
        session.connection = Some(connection);
        let until = session.lingers_until();
        self.lingering.remove(&(until, reference));
    }

    /// A lingering session whose time is over.
    pub(crate) fn overdue(&self, now: Duration) -> Option<SessionRef> {
        let (until, reference) = self.lingering.first()?;
        (*until <= now).then_some(*reference)
    }

    /// When the next lingering session ends.
    pub(crate) fn next_linger(&self) -> Option<Duration> {
        self.lingering.first().map(|(until, _)| *until)
    }
}
