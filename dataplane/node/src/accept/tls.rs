//! The tunnels of a shard's connections: ciphertext of the ring to plaintext for the shard, and back.
//!
//! What waits its turn waits as ciphertext in the buffers it came in, as on a plain connection, and is opened when it is chosen for a
//! turn. A handshake is dear, so few are made in a turn; its bytes are few, so they wait outside of the buffers, which are for those who
//! have a tunnel. The shard never hears of TLS: it is told the exporter value when a tunnel stands, and how much of what it handed out has left.
//! A tunnel goes with its connection to another shard.

use std::collections::VecDeque;
use std::ops::{AddAssign, Range};

use ring::{ConnectionId, Lease, Ring};
use shard::Tunnel as Standing;
use tls::rustls::Error;
use tls::{Broken, Server, Tunnel};

use super::as_shown;

/// What a tunnel takes of memory while it is idle, rustls's own buffers included; `perf/README.md` says how that was measured.
pub(crate) const TUNNEL_BYTES: usize = 8 << 10;

/// Handshakes that a turn goes on with while others wait for it, and while nobody does.
const HANDSHAKES: usize = 4;
const HANDSHAKES_ALONE: usize = 16;
/// Bytes of a handshake that wait for a turn; who sends more before the tunnel stands is no client.
const HANDSHAKE_BYTES_MAX: usize = 16 << 10;

/// What tunnels did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct TunnelCounters {
    /// Handshakes done, those with a ticket included.
    pub(crate) handshakes: u64,
    /// Of them with a ticket.
    pub(crate) resumed: u64,
    /// Of them with a certificate of the client's.
    pub(crate) shown: u64,
    /// Tunnels that ended before they stood, told by an alert.
    pub(crate) refused: u64,
    /// Tunnels that stood and got bytes that are no records of theirs.
    pub(crate) broken: u64,
}

impl AddAssign<&Self> for TunnelCounters {
    fn add_assign(&mut self, other: &Self) {
        self.handshakes += other.handshakes;
        self.resumed += other.resumed;
        self.shown += other.shown;
        self.refused += other.refused;
        self.broken += other.broken;
    }
}

/// This end of one connection's tunnel.
pub(crate) struct End {
    connection: ConnectionId,
    tunnel: Tunnel,
    /// Nothing is read any more; the connection is closing.
    deaf: bool,
    /// What came of its handshake and waits for a turn.
    waiting: Vec<u8>,
    /// The shard knows that it stands.
    told: bool,
    /// The peer said that it will send no more, and that was passed on.
    half: bool,
    /// What is counted of it in `Tunnels::held_bytes`.
    counted: usize,
    /// What was given to the ring and has not left: bytes of ciphertext, and of plaintext in them.
    way: VecDeque<(usize, usize)>,
}

/// The tunnels of one shard.
#[derive(Default)]
pub(crate) struct Tunnels {
    server: Option<Server>,
    slots: Vec<Option<Box<End>>>,
    open: usize,
    /// Those with bytes of a handshake that wait, in the order in which they came; some may be gone.
    hands: VecDeque<ConnectionId>,
    waiting_bytes: usize,
    /// What ends hold beyond what an idle one takes.
    held_bytes: usize,
    /// Which of the plaintext came with the end of a handshake.
    first: Vec<(ConnectionId, Range<usize>)>,
    /// Plaintext of this turn, and which of it is whose: by the place of the piece, `None` for a plain connection's.
    plaintext: Vec<u8>,
    pieces: Vec<Option<Range<usize>>>,
    /// Tunnels that stand since the last turn.
    standing: Vec<Standing>,
    counters: TunnelCounters,
    /// Whose handshakes failed, and not because they refused ours.
    failed: Vec<shard::ConnectionId>,
}

impl Tunnels {
    /// For a shard that shows the certificate of this server, if it has one.
    pub(crate) fn new(server: Option<Server>) -> Self {
        Self {
            server,
            ..Self::default()
        }
    }

    /// A connection has come that must have a tunnel before anything else.
    pub(crate) fn begin(&mut self, connection: ConnectionId) -> Result<(), Error> {
        let server = self.server.as_ref();
        let server = server.expect("only a node with a certificate listens for tunnels");
        let tunnel = server.tunnel()?;
        self.put(Box::new(End {
            connection,
            tunnel,
            deaf: false,
            waiting: Vec::new(),
            told: false,
            half: false,
            counted: 0,
            way: VecDeque::new(),
        }));
        Ok(())
    }

    /// A connection has come from another shard with its tunnel.
    pub(crate) fn adopt(
        &mut self,
        connection: ConnectionId,
        end: Option<Box<End>>,
        ring: &mut Ring,
    ) {
        let Some(mut end) = end else { return };
        end.connection = connection;
        end.way.clear();
        end.flush(ring);
        self.standing.extend(end.standing());
        self.put(end);
    }

    fn put(&mut self, mut end: Box<End>) {
        let slot = end.connection.slot();
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || None);
        }
        self.open += 1;
        end.counted = end.held_bytes();
        self.held_bytes += end.counted;
        let before = self.slots[slot].replace(end);
        assert!(before.is_none(), "slot {slot} has two tunnels");
    }

    /// A connection is gone from this shard, with its tunnel.
    pub(crate) fn take(&mut self, connection: ConnectionId) -> Option<Box<End>> {
        let slot = self.slots.get_mut(connection.slot())?;
        let end = slot.take_if(|end| end.connection == connection)?;
        self.open -= 1;
        self.waiting_bytes -= end.waiting.len();
        self.held_bytes -= end.counted;
        Some(end)
    }

    fn find(&mut self, connection: ConnectionId) -> Option<&mut Box<End>> {
        let end = self.slots.get_mut(connection.slot())?.as_mut()?;
        (end.connection == connection).then_some(end)
    }

    /// Open what a turn works on: [`Self::piece`] then tells the plaintext of each. A tunnel that breaks says why to its peer and its
    /// connection is closed. `finished` is told of connections whose peer will send no more.
    pub(crate) fn open(
        &mut self,
        ring: &mut Ring,
        leases: &[(shard::ConnectionId, Lease)],
        mut finished: impl FnMut(ConnectionId),
    ) {
        self.plaintext.clear();
        self.pieces.clear();
        self.first.clear();
        if self.open == 0 {
            self.hands.clear();
            return;
        }
        self.shake_hands(ring, leases.is_empty(), &mut finished);
        for (connection, lease) in leases {
            let connection = ConnectionId(connection.0);
            let start = self.plaintext.len();
            let mut plaintext = std::mem::take(&mut self.plaintext);
            let opened = self.open_one(ring.bytes(lease), connection, &mut plaintext);
            self.plaintext = plaintext;
            self.pieces
                .push(opened.is_some().then_some(start..self.plaintext.len()));
            if let Some(good) = opened {
                self.settle(ring, connection, good, &mut finished);
            }
        }
    }

    /// Go on with the handshakes that wait.
    fn shake_hands(
        &mut self,
        ring: &mut Ring,
        alone: bool,
        finished: &mut impl FnMut(ConnectionId),
    ) {
        let most = if alone { HANDSHAKES_ALONE } else { HANDSHAKES };
        for _ in 0..most {
            let Some(connection) = self.hands.pop_front() else {
                return;
            };
            let Some(end) = self.find(connection) else {
                continue;
            };
            let received = std::mem::take(&mut end.waiting);
            self.waiting_bytes -= received.len();
            let start = self.plaintext.len();
            let mut plaintext = std::mem::take(&mut self.plaintext);
            let good = self.open_one(&received, connection, &mut plaintext);
            self.plaintext = plaintext;
            if self.plaintext.len() > start {
                self.first.push((connection, start..self.plaintext.len()));
            }
            self.settle(ring, connection, good.unwrap_or(true), finished);
        }
    }

    /// What follows once bytes of a connection were opened.
    fn settle(
        &mut self,
        ring: &mut Ring,
        connection: ConnectionId,
        good: bool,
        finished: &mut impl FnMut(ConnectionId),
    ) {
        let Some(end) = self.find(connection) else {
            return;
        };
        end.flush(ring);
        if !good {
            ring.close(connection);
        } else if end.tunnel.peer_finished() && !std::mem::replace(&mut end.half, true) {
            finished(connection);
        }
    }

    /// Take over bytes of a connection whose tunnel does not stand yet; `None` if it does, or there is none. Whether they are as few
    /// as they may be: otherwise it is to be closed.
    pub(crate) fn keep(&mut self, connection: ConnectionId, received: &[u8]) -> Option<bool> {
        let end = self.find(connection).filter(|end| !end.told)?;
        if end.deaf {
            return Some(true);
        }
        let first = end.waiting.is_empty();
        if received.len() > HANDSHAKE_BYTES_MAX - end.waiting.len() {
            end.deaf = true;
            self.counters.refused += 1;
            self.failed.push(shard::ConnectionId(connection.0));
            return Some(false);
        }
        end.waiting.extend_from_slice(received);
        self.waiting_bytes += received.len();
        if first {
            self.hands.push_back(connection);
        }
        Some(true)
    }

    /// Whether a handshake waits for a turn.
    pub(crate) fn waits(&self) -> bool {
        !self.hands.is_empty()
    }

    /// What clients said together with the end of their handshakes. It comes before all else that they say.
    pub(crate) fn first_words(&self) -> impl Iterator<Item = (shard::ConnectionId, &[u8])> {
        let words = |(connection, range): &(ConnectionId, Range<usize>)| {
            let connection = shard::ConnectionId(connection.0);
            (connection, &self.plaintext[range.clone()])
        };
        self.first.iter().map(words)
    }

    /// What tunnels take of memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.open * TUNNEL_BYTES + self.waiting_bytes + self.held_bytes
    }

    /// Add the plaintext of one piece to `plaintext`. Whether the tunnel is good; `None` if the connection has none.
    fn open_one(
        &mut self,
        ciphertext: &[u8],
        connection: ConnectionId,
        plaintext: &mut Vec<u8>,
    ) -> Option<bool> {
        let end = self.find(connection)?;
        if end.deaf {
            return Some(true);
        }
        let received = end.tunnel.receive(ciphertext, plaintext);
        let stands = end.tunnel.stands();
        let stood = std::mem::replace(&mut end.told, stands);
        let held = end.held_bytes();
        let before = std::mem::replace(&mut end.counted, held);
        let news = (stands && !stood).then(|| end.standing()).flatten();
        end.deaf = received.is_err();
        let (resumed, good) = (end.tunnel.resumed(), received.is_ok());
        self.held_bytes = self.held_bytes + held - before;
        let counters = &mut self.counters;
        match (stood, good) {
            (false, false) => {
                counters.refused += 1;
                // Who says that it does not want our certificate has done nothing wrong: it may be ours that is.
                if !matches!(received, Err(Broken::Tls(Error::AlertReceived(_)))) {
                    self.failed.push(shard::ConnectionId(connection.0));
                }
            }
            (true, false) => counters.broken += 1,
            (_, true) => {}
        }
        if let Some(news) = news.filter(|_| good) {
            self.counters.handshakes += 1;
            self.counters.resumed += u64::from(resumed);
            self.counters.shown += u64::from(news.shown.is_some());
            self.standing.push(news);
        }
        Some(good)
    }

    /// The plaintext of the piece at this place of those that were opened last; `None` if it is what it is.
    pub(crate) fn piece(&self, place: usize) -> Option<&[u8]> {
        let range = self.pieces.get(place)?.clone()?;
        Some(&self.plaintext[range])
    }

    /// Whose handshakes failed since this was asked last: each counts against its address.
    pub(crate) fn failed(&mut self) -> impl Iterator<Item = shard::ConnectionId> + '_ {
        self.failed.drain(..)
    }

    /// Tunnels that stand since [`Self::told`].
    pub(crate) fn standing(&self) -> &[Standing] {
        &self.standing
    }

    /// The tunnel of a connection that is no socket's stands.
    pub(crate) fn stand(&mut self, tunnel: Standing) {
        self.standing.push(tunnel);
    }

    /// The shard knows of those.
    pub(crate) fn told(&mut self) {
        self.standing.clear();
    }

    /// Bytes of a connection on its way to another shard: their plaintext is added to `bytes`. Whether they are good. What TLS has to
    /// say to them is said from there.
    pub(crate) fn take_along(
        &mut self,
        connection: ConnectionId,
        received: &[u8],
        bytes: &mut Vec<u8>,
    ) -> bool {
        match self.open_one(received, connection, bytes) {
            Some(good) => good,
            None => {
                bytes.extend_from_slice(received);
                true
            }
        }
    }

    /// Send what the shard says. Before its tunnel stands nothing can be said to a peer.
    pub(crate) fn send(&mut self, ring: &mut Ring, connection: ConnectionId, plaintext: Vec<u8>) {
        let Some(end) = self.find(connection) else {
            return ring.send(connection, plaintext);
        };
        let mut out = ring.take_buffer();
        end.tunnel.send(&plaintext, &mut out);
        end.way.push_back((out.len(), plaintext.len()));
        ring.send(connection, out);
        ring.recycle_buffer(plaintext);
    }

    /// Say that nothing more will be sent, before the connection is closed.
    pub(crate) fn finish(&mut self, ring: &mut Ring, connection: ConnectionId) {
        if let Some(end) = self.find(connection)
            && end.tunnel.stands()
        {
            let mut out = ring.take_buffer();
            end.tunnel.finish(&mut out);
            end.give(ring, out);
        }
    }

    /// Bytes of a connection have left: how many of the shard's those were. Of a record that has left in part, none.
    pub(crate) fn sent(&mut self, connection: ConnectionId, mut bytes: usize) -> usize {
        let Some(end) = self.find(connection) else {
            return bytes;
        };
        let mut left = 0;
        while let Some((ciphertext, plaintext)) = end.way.front_mut() {
            if *ciphertext > bytes {
                *ciphertext -= bytes;
                break;
            }
            bytes -= *ciphertext;
            left += *plaintext;
            end.way.pop_front();
        }
        left
    }

    /// Connections with a tunnel.
    pub(crate) fn count(&self) -> usize {
        self.open
    }

    /// What was counted since the start.
    pub(crate) fn counters(&self) -> TunnelCounters {
        self.counters
    }
}

impl End {
    /// What the shard is told of it once it stands.
    fn standing(&self) -> Option<Standing> {
        Some(Standing {
            connection: shard::ConnectionId(self.connection.0),
            exporter: self.tunnel.exporter()?,
            shown: self.tunnel.shown().map(as_shown),
            stays: false,
        })
    }

    /// What it holds: a record whose rest has not come, and once it stands what is kept of what its client showed.
    fn held_bytes(&self) -> usize {
        let shown = match self.told {
            true => self.tunnel.shown_bytes(),
            false => 0,
        };
        shown + self.tunnel.kept_bytes()
    }

    /// Send what TLS itself has to say.
    fn flush(&mut self, ring: &mut Ring) {
        if self.tunnel.wants_flush() {
            let mut out = ring.take_buffer();
            self.tunnel.flush(&mut out);
            self.give(ring, out);
        }
    }

    fn give(&mut self, ring: &mut Ring, out: Vec<u8>) {
        if !out.is_empty() {
            self.way.push_back((out.len(), 0));
        }
        ring.send(self.connection, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_waits_outside_of_the_receive_buffers_and_no_more_of_it_than_may() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let pair = tls::Certificate::from_pem(pem.as_bytes(), key.as_bytes()).expect("a pair");
        let server = Server::new(tls::Served::new(pair)).expect("random bytes");
        let mut tunnels = Tunnels::new(Some(server));
        let (one, other, plain) = (1 << 32, 1 << 32 | 1, 1 << 32 | 2);
        let [one, other, plain] = [one, other, plain].map(ConnectionId);
        for connection in [one, other] {
            tunnels.begin(connection).expect("random bytes");
        }
        assert_eq!(tunnels.keep(plain, b"FBAY"), None, "who has no tunnel");
        assert!(!tunnels.waits());
        let half = [0; HANDSHAKE_BYTES_MAX / 2];
        for (connection, want) in [(one, true), (other, true), (one, true), (one, false)] {
            assert_eq!(tunnels.keep(connection, &half), Some(want));
        }
        assert_eq!(tunnels.keep(one, &half), Some(true), "it is not heard");
        assert_eq!(tunnels.hands, [one, other], "each once, in order");
        assert_eq!(
            tunnels.memory_bytes(),
            2 * TUNNEL_BYTES + 3 * HANDSHAKE_BYTES_MAX / 2
        );
        assert_eq!(tunnels.counters().refused, 1);
        drop((tunnels.take(one), tunnels.take(other)));
        assert_eq!(tunnels.memory_bytes(), 0);
    }

    #[test]
    fn what_has_come_of_a_record_counts_until_its_rest_has_come() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let pair = tls::Certificate::from_pem(pem.as_bytes(), key.as_bytes()).expect("a pair");
        let server = Server::new(tls::Served::new(pair)).expect("random bytes");
        let trust = tls::Trust::Roots(pem.into_bytes());
        let client = tls::Client::new(&trust, "localhost").expect("a root");
        let mut client = client.tunnel().expect("random bytes");
        let mut tunnels = Tunnels::new(Some(server));
        let connection = ConnectionId(1 << 32);
        tunnels.begin(connection).expect("random bytes");
        let (mut plaintext, mut nothing) = (Vec::new(), Vec::new());
        while !client.stands() || client.wants_flush() {
            let mut bytes = Vec::new();
            client.flush(&mut bytes);
            tunnels.open_one(&bytes, connection, &mut plaintext);
            bytes.clear();
            let end = tunnels.find(connection).expect("it was begun");
            end.tunnel.flush(&mut bytes);
            client.receive(&bytes, &mut nothing).expect("a server");
        }
        assert_eq!(
            tunnels.memory_bytes(),
            TUNNEL_BYTES,
            "nothing is half there"
        );
        let mut record = Vec::new();
        client.send(&[7; 16 << 10], &mut record);
        let (most, rest) = record.split_at(record.len() - 1);
        tunnels.open_one(&most[..3], connection, &mut plaintext);
        tunnels.open_one(&most[3..], connection, &mut plaintext);
        assert!(tunnels.memory_bytes() >= TUNNEL_BYTES + most.len());
        // It goes with its connection, and comes with it.
        let end = tunnels.take(connection).expect("it is there");
        assert_eq!(tunnels.memory_bytes(), 0);
        tunnels.put(end);
        assert!(tunnels.memory_bytes() >= TUNNEL_BYTES + most.len());
        tunnels.open_one(rest, connection, &mut plaintext);
        assert_eq!(plaintext, [7; 16 << 10]);
        assert_eq!(tunnels.memory_bytes(), TUNNEL_BYTES);
    }
}
