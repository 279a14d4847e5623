//! Connections: a table by slot, and what each holds. Knows bytes and frame indexes; never keys, endpoints or logs.

use std::net::IpAddr;
use std::time::Duration;

use wire::reason::Notice;
use wire::route::Transport;

use crate::assembly::Assembly;
use crate::io::{ConnectionId, Opened, Shown};
use crate::places::Places;
use crate::session::SessionRef;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits for the eight bytes of the preface.
    Preface,
    /// Waits for HELLO.
    Hello,
    /// HELLO was read; REFUSED or WELCOME follows. The client has nothing to say until then.
    Handshake,
    /// A session talks over it.
    Open(SessionRef),
    /// We said the last word; only `closed` is awaited. Bytes are ignored.
    Closing,
}

/// One connection. What a turn touches for each of its frames comes first and fills two cache lines: a thousand connections
/// with a frame each are then no dearer than a few.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) phase: Phase,
    /// Frames received since HELLO, bad ones too.
    pub(crate) frames_in: u64,
    pub(crate) bad_signatures: u32,
    /// A framing fault was found in its bytes; nothing behind it is looked at.
    pub(crate) deaf: bool,
    /// Listed for sending at the end of the turn.
    pub(crate) listed: bool,
    /// Who they are has not been proven.
    pub(crate) stranger: bool,
    /// Came from another shard.
    pub(crate) handed_over: bool,
    pub(crate) received_at: Duration,
    /// The start of a frame whose rest has not come.
    pub(crate) assembly: Assembly,
    /// Frames of this turn, sent at its end.
    pub(crate) out: Vec<u8>,
    /// Frames sent since the handshake, WELCOME included.
    pub(crate) frames_out: u64,
    /// The last word, said at the end of the turn.
    pub(crate) goodbye: Option<Goodbye>,
    /// Handed to the caller and not yet reported as sent.
    pub(crate) unsent: usize,
    /// When `unsent` last went down, or up from 0.
    pub(crate) progress_at: Duration,
    /// When it was opened; once PINGs have come, up to when time has paid for them.
    pub(crate) since: Duration,
    /// The moment under which the connection stands in the timers.
    pub(crate) timer: Duration,
    /// Until HELLO: what its answer is made from.
    pub(crate) start: Option<Box<Start>>,
    /// Once an envelope has come.
    pub(crate) relays: Option<Box<Relays>>,
    pub(crate) peer: IpAddr,
    /// What came of it waits for a turn: it is not to blame for being late.
    pub(crate) kept_waiting: bool,
}

/// Ten thousand idle ones are to be cheap: what few connections need, or each for a moment, stands elsewhere.
const _: () = assert!(size_of::<Option<Connection>>() == 256);

/// What a connection takes of memory: its place, its timer, its randomness, its entries in lists.
pub(crate) const CONNECTION_BYTES: usize = size_of::<Option<Connection>>() + 256;

/// What the answer to a HELLO is made from.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    /// 16 bytes for a session id, 32 for the server nonce.
    pub(crate) random: [u8; 48],
    /// That of the tunnel, if the connection runs through one.
    pub(crate) exporter: Option<[u8; 32]>,
    /// The client's certificate, if it showed one there.
    pub(crate) shown: Option<Shown>,
    /// It cannot go to another shard.
    pub(crate) stays: bool,
}

impl Start {
    /// What is bound to the tunnel: nothing without one.
    pub(crate) fn exporter(&self) -> &[u8] {
        self.exporter.as_ref().map_or(&[], |exporter| exporter)
    }

    /// What the connection runs over: of tunnels only those over TCP can go to another shard.
    pub(crate) fn transport(&self) -> Transport {
        match (self.exporter.is_some(), self.stays) {
            (false, _) => Transport::Tcp,
            (true, false) => Transport::Tls,
            (true, true) => Transport::Quic,
        }
    }
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Start(..)")
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// After a GOAWAY with this notice.
    Goaway(Notice),
    /// After a REFUSED with this notice.
    Refused(Notice),
    /// Without a further word.
    Silent,
}

/// Relay numbers of a connection: answered in any order, acknowledged cumulatively.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    /// The highest number received; the next one must follow it.
    pub(crate) received: u64,
    /// Every number up to this one has been answered.
    pub(crate) acked: u64,
    /// Whether `acked + 1 + i` was answered.
    answered: std::collections::VecDeque<bool>,
    pub(crate) dirty: bool,
}

impl Relays {
    /// Take in the next number.
    pub(crate) fn receive(&mut self) {
        self.received += 1;
        self.answered.push_back(false);
    }

    /// Numbers that wait behind one that has not been answered.
    pub(crate) fn waiting(&self) -> usize {
        self.answered.len()
    }

    /// Note that `number` was answered. Returns whether the cumulative number moved.
    pub(crate) fn answer(&mut self, number: u64) -> bool {
        let Some(at) = number.checked_sub(self.acked + 1) else {
            return false;
        };
        if let Some(answered) = usize::try_from(at)
            .ok()
            .and_then(|at| self.answered.get_mut(at))
        {
            *answered = true;
        }
        let before = self.acked;
        while self.answered.front() == Some(&true) {
            self.answered.pop_front();
            self.acked += 1;
        }
        self.acked != before
    }
}

impl Connection {
    fn new(opened: &Opened, now: Duration) -> Self {
        Self {
            id: opened.connection,
            peer: opened.peer.ip(),
            start: Some(Box::new(Start {
                random: opened.random,
                exporter: None,
                shown: None,
                stays: false,
            })),
            phase: match opened.handed_over {
                true => Phase::Hello,
                false => Phase::Preface,
            },
            frames_in: 0,
            frames_out: 0,
            bad_signatures: 0,
            deaf: false,
            assembly: Assembly::default(),
            out: Vec::new(),
            listed: false,
            stranger: true,
            kept_waiting: false,
            handed_over: opened.handed_over,
            goodbye: None,
            unsent: 0,
            progress_at: now,
            since: now,
            received_at: now,
            timer: Duration::ZERO,
            relays: None,
        }
    }

    /// Whether the peer is still listened to.
    pub(crate) fn listens(&self) -> bool {
        self.goodbye.is_none() && self.phase != Phase::Closing
    }

    /// The session that talks over it.
    pub(crate) fn session(&self) -> Option<SessionRef> {
        match self.phase {
            Phase::Open(session) => Some(session),
            _ => None,
        }
    }
}

/// All connections of a shard, by slot. A name of an earlier generation finds nothing.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Places<Connection>,
    count: u32,
}

impl Connections {
    /// Take in a connection.
    pub(crate) fn open(&mut self, opened: &Opened, now: Duration) {
        let slot = opened.connection.slot();
        self.count += 1;
        self.slots.put(slot, Connection::new(opened, now));
    }

    /// Forget a connection.
    pub(crate) fn remove(&mut self, id: ConnectionId) {
        if self.get(id).is_some() {
            self.count -= 1;
            self.slots.clear(id.slot());
        }
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.slots
            .get(id.slot())
            .filter(|connection| connection.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots
            .get_mut(id.slot())
            .filter(|connection| connection.id == id)
    }

    /// The connection in a slot, of whatever generation.
    pub(crate) fn at(&self, slot: usize) -> Option<ConnectionId> {
        self.slots.get(slot).map(|connection| connection.id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter()
    }

    /// Connections open or closing.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_numbers_are_acknowledged_without_gaps() {
        let mut relays = Relays::default();
        for _ in 0..4 {
            relays.receive();
        }
        for (why, number, moved, acked) in [
            ("not the first", 2, false, 0),
            ("fills the gap", 1, true, 2),
            ("again", 2, false, 2),
            ("the last", 4, false, 2),
            ("fills it up", 3, true, 4),
            ("never received", 9, false, 4),
        ] {
            assert_eq!(
                (relays.answer(number), relays.acked),
                (moved, acked),
                "{why}"
            );
        }
        assert_eq!(relays.waiting(), 0);
    }
}
