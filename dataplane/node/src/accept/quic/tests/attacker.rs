//! A client that keeps no rule: frames of its own making, in packets that it seals with the keys of a real handshake.
//!
//! It knows as much of the protocol as a handshake without loss takes. Nothing it is told afterwards is heard.

use tls::PROTOCOL as ALPN;
use tls::rustls;
use tls::rustls::pki_types::ServerName;
use tls::rustls::quic::{ClientConnection, KeyChange, Keys, Version};

use super::*;

/// Bytes of its own connection ID, and of those that the node makes.
const ID_BYTES: usize = 8;
/// Bytes of every packet number it sends.
const NUMBER_BYTES: usize = 4;
/// Bytes of a datagram that may begin a connection.
const FIRST_BYTES: usize = 1_200;

pub(super) struct Attacker {
    pub(super) address: SocketAddr,
    tls: ClientConnection,
    /// Of Initial, Handshake and 1-RTT packets.
    keys: [Option<Keys>; 3],
    numbers: [u32; 3],
    own: [u8; ID_BYTES],
    theirs: Vec<u8>,
    /// Numbers of the node's packets that it has not acknowledged, and the last one.
    heard: Vec<u64>,
    last: u64,
}

/// An integer of QUIC.
pub(super) fn varint(value: u64) -> Vec<u8> {
    match value {
        0..64 => vec![value as u8],
        64..16_384 => (value as u16 | 0x4000).to_be_bytes().to_vec(),
        16_384..1_073_741_824 => (value as u32 | 0x8000_0000).to_be_bytes().to_vec(),
        _ => (value | 0xC000_0000_0000_0000).to_be_bytes().to_vec(),
    }
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let length = 1 << (bytes[0] >> 6);
    let (own, rest) = bytes.split_at(length);
    *bytes = rest;
    let first = u64::from(own[0] & 0x3F);
    own[1..]
        .iter()
        .fold(first, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A frame: its kind, numbers, and bytes behind them.
pub(super) fn frame(kind: u8, numbers: &[u64], bytes: &[u8]) -> Vec<u8> {
    let mut all = vec![kind];
    all.extend(numbers.iter().flat_map(|number| varint(*number)));
    all.extend_from_slice(bytes);
    all
}

/// Bytes of a stream from an offset on.
pub(super) fn stream(id: u64, offset: u64, bytes: &[u8]) -> Vec<u8> {
    frame(0x0E, &[id, offset, bytes.len() as u64], bytes)
}

/// Take the protection off a packet's header, whose number is there.
fn show(keys: &Keys, packet: &mut [u8], at: usize) {
    let (header, sample) = packet.split_at_mut(at + 4);
    let (first, others) = header.split_at_mut(1);
    let sample = &sample[..keys.remote.header.sample_len()];
    let header = &keys.remote.header;
    let shown = header.decrypt_in_place(sample, &mut first[0], &mut others[at - 1..]);
    shown.expect("it can be shown");
}

impl Attacker {
    /// One with a connection, from this address.
    pub(super) fn connect(world: &mut World, trust: &Trust, address: SocketAddr) -> Self {
        let own = [0xA7; ID_BYTES];
        let mut parameters = frame(0x0F, &[ID_BYTES as u64], &own);
        // It lets the node say much, on many streams, under many connection IDs.
        for (kind, value) in [(4, 1 << 20), (5, 1 << 20), (6, 1 << 20), (8, 100), (14, 8)] {
            let value = varint(value);
            parameters.extend(frame(kind, &[value.len() as u64], &value));
        }
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(trust.tls(ALPN), Version::V1, name, parameters);
        let theirs = world.rng.u64(..).to_be_bytes().to_vec();
        let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
        let suite = suite.tls13().and_then(|suite| suite.quic_suite());
        let initial =
            suite
                .expect("a suite of QUIC")
                .keys(&theirs, rustls::Side::Client, Version::V1);
        let mut this = Self {
            address,
            tls: tls.expect("a client"),
            keys: [Some(initial), None, None],
            numbers: [0; 3],
            own,
            theirs,
            heard: Vec::new(),
            last: 0,
        };
        let before = world.quic.counters().connected;
        let mut asked = this.greet(0);
        for _ in 0..4 {
            let answers = world.ask(address, &asked);
            let mut level = 0;
            for answer in &answers {
                level = this.hear(answer).max(level);
            }
            if world.quic.counters().connected > before {
                return this;
            }
            asked = this.greet(level.min(1));
        }
        panic!("no handshake: {:?}", world.quic.counters());
    }

    /// The next words of the handshake.
    fn greet(&mut self, level: usize) -> Vec<u8> {
        let mut said = Vec::new();
        self.advance(level, &mut said);
        let bytes = frame(6, &[0, said.len() as u64], &said);
        self.packet(level, bytes)
    }

    fn advance(&mut self, level: usize, said: &mut Vec<u8>) {
        let mut level = level;
        while let Some(change) = self.tls.write_hs(said) {
            level += 1;
            self.keys[level] = Some(match change {
                KeyChange::Handshake { keys } | KeyChange::OneRtt { keys, .. } => keys,
            });
            if level == 1 {
                // What follows is said under these keys.
                return;
            }
        }
    }

    /// Take a packet of 1-RTT for one that may be acknowledged.
    pub(super) fn count(&mut self, packet: &[u8]) {
        if packet[0] & 0x80 != 0 {
            return;
        }
        let keys = self.keys[2].as_ref().expect("the handshake is over");
        let (mut packet, at) = (packet.to_vec(), 1 + ID_BYTES);
        show(keys, &mut packet, at);
        let bytes = usize::from(packet[0] & 3) + 1;
        let mut number = packet[at..at + bytes]
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        while number + 64 < self.last {
            number += 1 << (8 * bytes);
        }
        self.last = number.max(self.last);
        self.heard.push(number);
    }

    /// Acknowledge them, one by one.
    pub(super) fn acknowledge(&mut self) -> Vec<u8> {
        let numbers = self.heard.drain(..);
        numbers
            .flat_map(|number| frame(2, &[number, 0, 0, 0], b""))
            .collect()
    }

    /// Leave out so many numbers of packets.
    pub(super) fn skip(&mut self, packets: u32) {
        self.numbers[2] += packets;
    }

    /// Frames in a packet of 1-RTT.
    pub(super) fn say(&mut self, frames: Vec<u8>) -> Vec<u8> {
        self.packet(2, frames)
    }

    fn packet(&mut self, level: usize, mut frames: Vec<u8>) -> Vec<u8> {
        let keys = self.keys[level].as_ref().expect("it has come so far");
        let least = match level {
            0 => FIRST_BYTES,
            _ => 32,
        };
        frames.resize(frames.len().max(least), 0);
        let mut packet = match level {
            2 => vec![0x40 | (NUMBER_BYTES - 1) as u8],
            _ => vec![0xC0 | (level as u8 * 2) << 4 | (NUMBER_BYTES - 1) as u8],
        };
        if level < 2 {
            packet.extend_from_slice(&1_u32.to_be_bytes());
            packet.push(self.theirs.len() as u8);
        }
        packet.extend_from_slice(&self.theirs);
        if level < 2 {
            packet.push(ID_BYTES as u8);
            packet.extend_from_slice(&self.own);
            if level == 0 {
                packet.push(0);
            }
            let length = NUMBER_BYTES + frames.len() + keys.local.packet.tag_len();
            packet.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes());
        }
        let at = packet.len();
        let number = self.numbers[level];
        self.numbers[level] += 1;
        packet.extend_from_slice(&number.to_be_bytes());
        let sealed = &keys.local.packet;
        let tag = sealed.encrypt_in_place(number.into(), &packet, &mut frames);
        packet.extend_from_slice(&frames);
        packet.extend_from_slice(tag.expect("it can be sealed").as_ref());
        let (header, rest) = packet.split_at_mut(at + NUMBER_BYTES);
        let (first, others) = header.split_at_mut(1);
        let sample = &rest[..keys.local.header.sample_len()];
        let number = &mut others[at - 1..];
        let hidden = keys
            .local
            .header
            .encrypt_in_place(sample, &mut first[0], number);
        hidden.expect("it can be hidden");
        packet
    }

    /// Take the handshake's words out of a datagram. Returns the last level there was.
    fn hear(&mut self, datagram: &[u8]) -> usize {
        let (mut rest, mut last) = (datagram, 0);
        while rest.first().is_some_and(|first| first & 0x80 != 0) {
            let level = match rest[0] >> 4 & 3 {
                0 => 0,
                _ => 1,
            };
            let mut head = &rest[5..];
            head = &head[1 + usize::from(head[0])..];
            let theirs = &head[1..][..usize::from(head[0])];
            self.theirs = theirs.to_vec();
            head = &head[1 + theirs.len()..];
            if level == 0 {
                let token = read_varint(&mut head);
                head = &head[token as usize..];
            }
            let length = read_varint(&mut head) as usize;
            let at = rest.len() - head.len();
            let (packet, behind) = rest.split_at(at + length);
            self.open(level, packet, at);
            (rest, last) = (behind, level);
        }
        last
    }

    fn open(&mut self, level: usize, packet: &[u8], at: usize) {
        let Some(keys) = &self.keys[level] else {
            return;
        };
        let mut packet = packet.to_vec();
        show(keys, &mut packet, at);
        let from = at + usize::from(packet[0] & 3) + 1;
        let (header, body) = packet.split_at_mut(from);
        let number = header[at..]
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let opened = keys.remote.packet.decrypt_in_place(number, header, body);
        let frames = opened.expect("it is the node's").to_vec();
        self.learn(level, &frames);
    }

    fn learn(&mut self, level: usize, mut frames: &[u8]) {
        while let Some((kind, rest)) = frames.split_first() {
            frames = rest;
            match kind {
                0 | 1 => {}
                2 | 3 => {
                    let [_, _, ranges, _] = [(); 4].map(|()| read_varint(&mut frames));
                    let more = 2 * ranges + if *kind == 3 { 3 } else { 0 };
                    (0..more).for_each(|_| _ = read_varint(&mut frames));
                }
                6 => {
                    let [_, length] = [(); 2].map(|()| read_varint(&mut frames));
                    let (said, behind) = frames.split_at(length as usize);
                    self.tls.read_hs(said).expect("the node keeps to TLS");
                    frames = behind;
                    if level == 0 {
                        let mut nothing = Vec::new();
                        self.advance(0, &mut nothing);
                    }
                }
                other => panic!("frame {other:#x} in a handshake"),
            }
        }
    }
}
