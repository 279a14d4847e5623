//! What clients, strangers and a bad network do to QUIC of one shard, as any bytes tell it: the one reading of the tests and of the fuzz
//! target.
//!
//! The first bytes choose narrow bounds. Each further step is a byte and what it needs: clients come, speak on lanes, reset them, move and
//! go; their datagrams are lost, spoiled, repeated, taken by others and joined to trains; strangers send bytes of any kind; the shard reads
//! or does not, answers and closes. After each step is looked at what must always hold, at the end that nothing is left.

mod judge;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Dir, StreamId, VarInt};
use tls::PROTOCOL as ALPN;

use self::judge::Judge;
use super::heard::Heard;
use super::settings::QuicLimits;
use super::streams::Wanted;
use super::world::{Client, Trust, arrival, datagrams, server};
use super::{Arrival, Quic, Told};

/// Steps of one script.
const STEPS_MAX: usize = 150;
const CLIENTS_MAX: usize = 3;
/// Datagrams under way in one direction; more are lost.
const UNDER_WAY_MAX: usize = 64;
/// Streams of one client that a byte can name.
const TALKS_MAX: usize = 16;
/// How time passes.
const PAUSES: [Duration; 8] = [
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(12),
];

/// What came of a script.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Handshakes that came to their end.
    pub connected: u64,
    /// Lanes there were.
    pub lanes: u64,
    /// Bytes that came on them.
    pub lane_bytes: u64,
    /// Datagrams that came.
    pub datagrams: u64,
    /// Of these, those that belonged to nothing.
    pub dropped: u64,
    /// Proofs of addresses that were asked for.
    pub retries: u64,
}

/// Bytes, one after the other, that decide what happens.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    /// A number up to `most`.
    fn up_to(&mut self, most: usize) -> usize {
        let number = [self.byte(), self.byte()].map(|byte| byte.unwrap_or(0));
        usize::from(u16::from_le_bytes(number)) % (most + 1)
    }

    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let count = self.up_to(most).min(self.0.len());
        self.0.split_off(..count).unwrap_or_default()
    }
}

/// What a client says on one stream: its words say which it is.
struct Talk {
    stream: StreamId,
    said: usize,
}

/// A client, its talks, and where it ever was.
struct Guest {
    client: Client,
    talks: Vec<Talk>,
    addresses: Vec<SocketAddr>,
}

struct Play<'a> {
    script: Script<'a>,
    now: Instant,
    quic: Quic,
    guests: Vec<Guest>,
    /// Clients there ever were.
    came: u8,
    up: VecDeque<(SocketAddr, Vec<u8>)>,
    down: VecDeque<(SocketAddr, Vec<u8>)>,
    /// The last ones that came.
    before: VecDeque<Vec<u8>>,
    told: Told,
    judge: Judge,
    stopped: bool,
}

fn trust() -> &'static Trust {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    TRUST.get_or_init(Trust::new)
}

/// Port of strangers who make up what they send, and of those who send on what they saw of others.
const STRANGE_PORT: u16 = 7;
const THIEF_PORT: u16 = 8;

/// Somebody who never shakes hands.
fn stranger(number: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, number % 4], STRANGE_PORT))
}

/// Somebody who sees what others send, and sends it as its own.
fn thief(number: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, number % 4], THIEF_PORT))
}

/// The byte at a place of what client `who` says in talk `number`: the first one names both.
pub(super) fn word(who: u8, number: u8, at: usize) -> u8 {
    let name = who % 16 * TALKS_MAX as u8 + number;
    match at {
        0 => name,
        _ => name.wrapping_mul(31).wrapping_add((at % 251) as u8),
    }
}

/// Play a script to its end; panics where what must hold does not.
pub fn play(bytes: &[u8]) -> Outcome {
    let mut script = Script(bytes);
    let limits = limits(&mut script);
    let shards = 1 + script.byte().unwrap_or(0) % 8;
    let place = (
        u16::from(script.byte().unwrap_or(0) % shards),
        u16::from(shards),
    );
    let settings = trust().settings(limits);
    let mut play = Play {
        script,
        now: Instant::now(),
        quic: Quic::new(settings, place, 100, Some([7; 32])),
        guests: Vec::new(),
        came: 0,
        up: VecDeque::new(),
        down: VecDeque::new(),
        before: VecDeque::new(),
        told: Told::default(),
        judge: Judge::new(limits),
        stopped: false,
    };
    // Half of the scripts begin when the first client is there.
    if play.script.byte().is_some_and(|byte| byte & 1 == 1) {
        play.come();
        (0..4).for_each(|_| play.round());
        play.open();
    }
    for _ in 0..STEPS_MAX {
        let Some(step) = play.script.byte() else {
            break;
        };
        play.step(step);
        play.judge.look(&play.quic);
    }
    play.end()
}

/// Bounds so narrow that a few clients meet them.
fn limits(script: &mut Script<'_>) -> QuicLimits {
    let mut few = |most: usize| 1 + usize::from(script.byte().unwrap_or(0)) % most;
    let mut limits = QuicLimits {
        connections_max: few(4),
        lanes_max: few(8),
        streams_max: few(6) as u32,
        trusted_max: few(3) - 1,
        responses_max: few(5),
        idle: Duration::from_secs(10),
        unused: Duration::from_secs(5),
        ..QuicLimits::default()
    };
    limits.admission.per_second = [1, 4, 1_000][few(3) - 1];
    limits.admission.retry_above = few(4) - 1;
    limits.admission.under_way_max = few(4);
    limits
}

impl Play<'_> {
    fn step(&mut self, step: u8) {
        match step % 32 {
            // Most of the time all goes well: otherwise nobody would get far.
            0..10 => self.round(),
            10 => {
                let pause = PAUSES[usize::from(self.script.byte().unwrap_or(0)) % PAUSES.len()];
                self.now += pause;
                self.pass_time();
            }
            11 => self.guests_speak(),
            12 => {
                if let Some((from, bytes)) = self.take() {
                    self.arrive(from, &bytes);
                }
            }
            13 => {
                self.take();
            }
            14 => self.spoil(),
            15 => self.cut_or_lengthen(),
            16 => self.again(),
            17 => {
                let who = thief(self.script.byte().unwrap_or(0));
                if let Some((_, bytes)) = self.take() {
                    self.arrive(who, &bytes);
                }
            }
            18 => self.strange(),
            19 => self.join(),
            20 => self.shard_turn(),
            21 => self.down_spoiled(),
            22 | 23 => self.come(),
            24 => self.open(),
            25 | 26 => self.speak(),
            27 => self.end_talk(),
            28 => self.guest_changes(),
            29 => self.answer(),
            30 => self.close_lane(),
            _ => self.node_stops(),
        }
    }

    /// Lanes that have said something have a session.
    fn pass_time(&mut self) {
        let judge = &self.judge;
        (self.quic).pass_time(self.now, |lane| judge.has_session(lane));
    }

    /// All that is under way comes, the shard makes a turn, and all that it says is heard.
    fn round(&mut self) {
        self.guests_speak();
        while let Some((from, bytes)) = self.up.pop_front() {
            self.arrive(from, &bytes);
        }
        self.turn(Wanted::Known);
        while let Some((to, bytes)) = self.down.pop_front() {
            self.hear(to, &bytes);
        }
        self.now += PAUSES[1];
        self.pass_time();
    }

    fn guests_speak(&mut self) {
        for guest in &mut self.guests {
            let client = &mut guest.client;
            if client
                .connection
                .poll_timeout()
                .is_some_and(|at| at <= self.now)
            {
                client.connection.handle_timeout(self.now);
            }
            client.listen();
            let mut buffer = Vec::new();
            loop {
                client.settle();
                buffer.clear();
                let transmit = client.connection.poll_transmit(self.now, 4, &mut buffer);
                let Some(transmit) = transmit else {
                    break;
                };
                let fresh =
                    datagrams(&transmit, &buffer).map(|bytes| (client.address, bytes.to_vec()));
                self.up.extend(fresh);
            }
            self.up.truncate(UNDER_WAY_MAX);
        }
    }

    /// One of those under way.
    fn take(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let at = usize::from(self.script.byte().unwrap_or(0));
        self.up.remove(at % self.up.len().max(1))
    }

    fn arrive(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.arrive_as(&arrival(from, bytes.len()), bytes);
    }

    fn arrive_as(&mut self, arrival: &Arrival, bytes: &[u8]) {
        self.judge.came(arrival.peer, bytes.len());
        self.before.push_back(bytes.to_vec());
        if self.before.len() > UNDER_WAY_MAX {
            self.before.pop_front();
        }
        self.quic.receive(self.now, arrival, bytes);
    }

    fn spoil(&mut self) {
        let (place, bits) = (self.script.up_to(1_500), self.script.byte().unwrap_or(1));
        if let Some((from, mut bytes)) = self.take() {
            let place = place % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= bits;
            }
            self.arrive(from, &bytes);
        }
    }

    fn cut_or_lengthen(&mut self) {
        let count = self.script.up_to(1_500);
        let more = self.script.bytes(100);
        if let Some((from, mut bytes)) = self.take() {
            bytes.truncate(count.max(1));
            bytes.extend_from_slice(more);
            self.arrive(from, &bytes);
        }
    }

    /// One that came before comes again, from a client or from a thief.
    fn again(&mut self) {
        let at = usize::from(self.script.byte().unwrap_or(0));
        let who = self.script.byte().unwrap_or(0);
        let Some(bytes) = self.before.get(at % self.before.len().max(1)).cloned() else {
            return;
        };
        let own = self.guests.first().map(|guest| guest.client.address);
        let from = own.filter(|_| who & 1 == 0).unwrap_or(thief(who));
        self.arrive(from, &bytes);
    }

    /// Bytes of any kind, as a train of any cut.
    fn strange(&mut self) {
        let who = stranger(self.script.byte().unwrap_or(0));
        let segment_bytes = self.script.up_to(1_500);
        let mut bytes = self.script.bytes(200).to_vec();
        // A first packet is padded.
        if self.script.byte().is_some_and(|byte| byte & 1 == 1) {
            bytes.resize(1_200, 0);
        }
        self.arrive_as(
            &Arrival {
                segment_bytes,
                ..arrival(who, 1)
            },
            &bytes,
        );
    }

    /// All that is under way comes as one train, cut anywhere.
    fn join(&mut self) {
        let segment_bytes = self.script.up_to(3_000);
        let Some((from, _)) = self.up.front().cloned() else {
            return;
        };
        let bytes: Vec<u8> = self.up.drain(..).flat_map(|(_, bytes)| bytes).collect();
        self.arrive_as(
            &Arrival {
                segment_bytes,
                ..arrival(from, 1)
            },
            &bytes,
        );
    }

    fn shard_turn(&mut self) {
        let wanted = match self.script.byte().unwrap_or(0) % 3 {
            0 => Wanted::Known,
            1 => Wanted::Unknown,
            _ => Wanted::Later,
        };
        self.turn(wanted);
    }

    /// As the loop does it: settle, read, hear what became of lanes, send.
    fn turn(&mut self, wanted: Wanted) {
        self.quic.settle(self.now);
        let mut heard = Heard::default();
        let most = 256 * (1 + self.script.0.first().map_or(0, |byte| usize::from(*byte)));
        self.quic.read(self.now, most, |_| wanted, &mut heard);
        self.quic.tell(&mut self.told);
        self.judge.hear(&mut self.told, &heard, |who, number| {
            // A client's words are its own.
            who < self.came && usize::from(number) < TALKS_MAX
        });
        self.flush();
    }

    fn flush(&mut self) {
        let (judge, down) = (&mut self.judge, &mut self.down);
        let room = UNDER_WAY_MAX.saturating_sub(down.len());
        let mut left = room;
        self.quic
            .transmit(self.now, 8, Vec::new, |transmit, bytes| {
                if left == 0 {
                    return Err(bytes);
                }
                left -= 1;
                judge.left(transmit.destination, transmit.size);
                let each = datagrams(transmit, &bytes);
                down.extend(each.map(|bytes| (transmit.destination, bytes.to_vec())));
                Ok(())
            });
    }

    fn hear(&mut self, to: SocketAddr, bytes: &[u8]) {
        let mut guests = self.guests.iter_mut();
        if let Some(guest) = guests.find(|guest| guest.addresses.contains(&to)) {
            guest.client.receive(self.now, server(), bytes);
            guest.client.listen();
        }
    }

    /// What the shard said is lost, or comes spoiled, but for one datagram.
    fn down_spoiled(&mut self) {
        let (place, bits) = (self.script.up_to(1_500), self.script.byte().unwrap_or(0));
        if let Some((to, mut bytes)) = self.down.pop_front() {
            let place = place % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= bits;
            }
            self.hear(to, &bytes);
        }
        self.down.clear();
    }

    /// A client comes; there are so many at a time.
    fn come(&mut self) {
        let what = self.script.byte().unwrap_or(0);
        if self.guests.len() >= CLIENTS_MAX || self.came >= 15 {
            return;
        }
        let alpn = if what % 16 == 15 { b"h3" } else { ALPN };
        let address = SocketAddr::from(([198, 51, 100, self.came], 4000));
        let client = Client::connect(trust().client(alpn), self.now, [self.came; 32], address);
        self.came += 1;
        self.guests.push(Guest {
            client,
            talks: Vec::new(),
            addresses: vec![address],
        });
    }

    /// The client that a byte names, and which one it is of all there ever were.
    fn guest(&mut self) -> Option<(u8, &mut Guest)> {
        let at = usize::from(self.script.byte().unwrap_or(0));
        let count = self.guests.len().max(1);
        let guest = self.guests.get_mut(at % count)?;
        let SocketAddr::V4(first) = guest.addresses[0] else {
            return None;
        };
        Some((first.ip().octets()[3], guest))
    }

    fn open(&mut self) {
        let Some((_, guest)) = self.guest().filter(|(_, guest)| guest.client.connected) else {
            return;
        };
        if guest.talks.len() < TALKS_MAX
            && let Some(stream) = guest.client.connection.streams().open(Dir::Bi)
        {
            guest.talks.push(Talk { stream, said: 0 });
        }
    }

    fn speak(&mut self) {
        let (which, count) = (self.script.byte().unwrap_or(0), self.script.up_to(9_000));
        let Some((who, guest)) = self.guest() else {
            return;
        };
        let at = usize::from(which) % guest.talks.len().max(1);
        let Some(talk) = guest.talks.get_mut(at) else {
            return;
        };
        let words: Vec<u8> = (talk.said..talk.said + count)
            .map(|place| word(who, at as u8, place))
            .collect();
        // It may be over, or without room: then nothing more is said.
        if let Ok(count) = guest
            .client
            .connection
            .send_stream(talk.stream)
            .write(&words)
        {
            talk.said += count;
        }
    }

    fn end_talk(&mut self) {
        let (which, how) = (
            self.script.byte().unwrap_or(0),
            self.script.byte().unwrap_or(0),
        );
        let Some((_, guest)) = self.guest() else {
            return;
        };
        let at = usize::from(which) % guest.talks.len().max(1);
        let Some(stream) = guest.talks.get(at).map(|talk| talk.stream) else {
            return;
        };
        let connection = &mut guest.client.connection;
        // Each may be over already.
        match how % 4 {
            0 => {
                let _ = connection.send_stream(stream).finish();
            }
            1 => {
                let _ = connection.send_stream(stream).reset(VarInt::from_u32(9));
            }
            2 => {
                let _ = connection.recv_stream(stream).stop(VarInt::from_u32(9));
            }
            _ => {
                let mut recv = connection.recv_stream(stream);
                if let Ok(mut chunks) = recv.read(true) {
                    while let Ok(Some(_)) = chunks.next(usize::MAX) {}
                    let _ = chunks.finalize();
                }
            }
        }
    }

    /// A client moves, asks whether the shard is there, changes its keys, goes, or is forgotten.
    fn guest_changes(&mut self) {
        let (how, port) = (
            self.script.byte().unwrap_or(0),
            self.script.byte().unwrap_or(0),
        );
        let now = self.now;
        let Some((who, guest)) = self.guest() else {
            return;
        };
        let client = &mut guest.client;
        match how % 6 {
            0 | 1 => {
                client.address.set_port(4_000 + u16::from(port % 4));
                if !guest.addresses.contains(&client.address) {
                    guest.addresses.push(client.address);
                }
            }
            2 => client.connection.ping(),
            3 if client.connected => client.connection.force_key_update(),
            4 => client
                .connection
                .close(now, VarInt::from_u32(0), Bytes::new()),
            5 => {
                let first = SocketAddr::from(([198, 51, 100, who], 4000));
                self.guests.retain(|guest| guest.addresses[0] != first);
            }
            _ => {}
        }
    }

    fn answer(&mut self) {
        let (which, count) = (self.script.byte().unwrap_or(0), self.script.up_to(9_000));
        if let Some(lane) = self.judge.lane(which) {
            self.judge.said(lane, count);
            self.quic.send(self.now, lane, vec![which; count]);
        }
    }

    fn close_lane(&mut self) {
        let which = self.script.byte().unwrap_or(0);
        if let Some(lane) = self.judge.lane(which) {
            self.quic.close(self.now, lane);
        }
    }

    /// The node stops, first letting nobody begin: rarely, as little follows.
    fn node_stops(&mut self) {
        match self.script.byte().unwrap_or(0) % 8 {
            0 => self.quic.refuse(),
            1 if !self.stopped => {
                self.stopped = true;
                self.quic.stop(self.now);
            }
            _ => {}
        }
    }

    /// Everybody is silent from now on: in time nothing is left.
    fn end(mut self) -> Outcome {
        self.guests.clear();
        let until = self.now + Duration::from_secs(120);
        for _ in 0..5_000 {
            self.turn(Wanted::Known);
            self.down.clear();
            self.judge.look(&self.quic);
            let Some(at) = self.quic.wake_at() else {
                break;
            };
            self.now = self.now.max(at);
            assert!(
                self.now < until,
                "what is left after two minutes: {:?}",
                self.quic.counters()
            );
            self.quic.pass_time(self.now, |_| false);
        }
        self.turn(Wanted::Known);
        self.judge.nothing_left(&self.quic);
        let counters = self.quic.counters();
        Outcome {
            connected: counters.connected,
            lanes: counters.lanes_opened,
            lane_bytes: counters.lane_bytes_in,
            datagrams: counters.datagrams_in,
            dropped: counters.datagrams_dropped,
            retries: counters.retries,
        }
    }
}

/// For what datagram of any bytes and however many shards: the socket that the kernel gives it is that of the shard that does not find it
/// astray.
pub fn steering(bytes: &[u8]) {
    use quinn_proto::ConnectionIdGenerator;

    let mut script = Script(bytes);
    let shards = 1 + u16::from(script.byte().unwrap_or(0));
    let shard = u16::from(script.byte().unwrap_or(0)) % shards;
    let datagram = script.0;
    let steered = ring::fuzzing::steered_to(datagram, shards);
    assert!(steered < shards);
    for shard in [0, shard, steered, shards - 1] {
        let astray = super::cids::is_astray(datagram, (shard, shards));
        assert!(!astray || shard != steered, "{shards} shards: {datagram:?}");
        let named = datagram
            .first()
            .is_some_and(|first| datagram.len() > if first & 0x80 == 0 { 1 } else { 6 });
        assert_eq!(
            astray,
            named && shard != steered,
            "{shards} shards: {datagram:?}"
        );
    }
    let mut ids = super::cids::ShardIds::new(shard, shards, |bytes| {
        getrandom::fill(bytes).expect("random bytes");
    });
    let id = ids.generate_cid();
    let short = [&[0x40][..], &id[..]].concat();
    let long = [&[0xC0, 0, 0, 0, 1, id.len() as u8][..], &id[..]].concat();
    for datagram in [short, long] {
        assert_eq!(ring::fuzzing::steered_to(&datagram, shards), shard);
    }
}
