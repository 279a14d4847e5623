//! Somebody in the middle: real signed frames of every kind that a server takes, changed in every way, sent in
//! their own place and in others. Nothing that was not sent may be accepted, and nothing but in its place. Only a HELLO
//! begins any connection: that it does so once is for the server's memory of nonces.
//!
//! One replay command: `FOREBAY_MUTATIONS_SEED=<seed> cargo test -p forebay-wire --test protocol forgery`.

use wire::delivery::{Fetch, Outcome, Settle, Source};
use wire::handshake::{Auth, Hello, HelloFields, encode_hello};
use wire::link::{encode_bye, encode_ping, parse_bye, parse_ping};
use wire::send::{Relay, Send, SendBuilder, encode_relay};
use wire::signature::{
    KeyMaterial, MacKey, Signer, VerifyJob, verify_envelope, verify_hello, verify_many,
    verify_session,
};
use wire::token::Token;
use wire::{Frame, FrameKind, KeyId, Notice, ParseError, Reason, Sequence, UnixNanos, split};

use crate::accepted::HEADERS;
use crate::parties::*;

/// Mutations of the suite; `FOREBAY_MUTATIONS` asks for another number.
const MUTATIONS: u64 = 20_000;
const SEED: u64 = 41;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// One direction of one connection as it was sent: HELLO, then frames of index 0, 1, 2 and so on.
struct Spoken {
    connection: Connection,
    frames: Vec<Vec<u8>>,
}

impl Spoken {
    fn begin(connection: Connection, auth: Auth<'_>, name: &str) -> Self {
        let fields = HelloFields {
            auth,
            name,
            client_nonce: connection.client_nonce,
            unix_seconds: NOW,
        };
        let mut hello = Vec::new();
        encode_hello(&mut hello, &fields, &connection.secret, &[]).expect("within all limits");
        Self {
            connection,
            frames: vec![hello],
        }
    }

    fn say(&mut self, encode: impl FnOnce(&mut Vec<u8>, Signer<'_>)) {
        let signer = Signer::Session {
            key: &self.connection.keys.client,
            frame_index: self.frames.len() as u64 - 1,
        };
        let mut frame = Vec::new();
        encode(&mut frame, signer);
        self.frames.push(frame);
    }

    /// What a server does with `bytes` in the place of frame `from` and of those behind it: every frame that it
    /// takes, with its place.
    fn accepted<'a>(&self, from: usize, mut bytes: &'a [u8]) -> Vec<(usize, &'a [u8])> {
        let mut accepted = Vec::new();
        for place in from.. {
            let Ok(Some((frame, rest))) = split(bytes) else {
                break;
            };
            if self.takes(place, frame) {
                accepted.push((place, frame.bytes()));
            }
            bytes = rest;
        }
        accepted
    }

    fn takes(&self, place: usize, frame: Frame<'_>) -> bool {
        let Some(index) = place.checked_sub(1) else {
            return Hello::parse(frame).is_ok_and(|hello| proves(&hello));
        };
        let Ok(inner) = read(frame) else { return false };
        let (key, index) = (&self.connection.keys.client, index as u64);
        let alone = verify_session(key, index, &frame);
        assert_eq!(self.beside_a_good_one(index, &frame), alone);
        alone && inner.is_none_or(|send| signed_by_its_endpoint(&send))
    }

    /// The same question, put to the lanes: the frame first and a good one second, then the other way round.
    fn beside_a_good_one(&self, index: u64, frame: &Frame<'_>) -> bool {
        let key = &self.connection.keys.client;
        let (good, _) = split(&self.frames[1])
            .expect("a good header")
            .expect("whole");
        let Some(job) = VerifyJob::session(key, index, frame) else {
            return false;
        };
        let other = VerifyJob::session(key, 0, &good).expect("signed by the session");
        let mut outcome = [false; 3];
        verify_many(&[job, other, job], &mut outcome);
        assert!(outcome[1], "a bad frame spoils its neighbour");
        assert_eq!(outcome[0], outcome[2]);
        outcome[0]
    }
}

/// The checks of the stage parse; the SEND inside a RELAY.
fn read(frame: Frame<'_>) -> Result<Option<Send<'_>>, ParseError> {
    match frame.kind() {
        FrameKind::Send => Send::parse(frame).map(|_| None),
        FrameKind::Relay => Relay::parse(frame).map(|relay| Some(*relay.inner())),
        FrameKind::Fetch => Fetch::parse(frame).map(|_| None),
        FrameKind::Settle => Settle::parse(frame).map(|_| None),
        FrameKind::Ping => parse_ping(frame).map(|_| None),
        FrameKind::Bye => parse_bye(frame).map(|_| None),
        other => Err(ParseError::UnexpectedFrame(other as u8)),
    }
}

/// The server's side of a HELLO: which secret its words call for, and whether that has signed it.
fn proves(hello: &Hello<'_>) -> bool {
    let secret = match hello.fields.auth {
        Auth::Key(SENDER_KEY) => sender_secret().text_bytes().to_vec(),
        Auth::Key(_) => return false,
        Auth::Token(text) => match Token::parse(text) {
            Ok(token) if token.key_name() == RECEIVER_KEY_NAME => {
                let key = MacKey::new(receiver_secret().text_bytes());
                token.expected_signature(&key).to_vec()
            }
            _ => return false,
        },
        Auth::Resume(id) if id == Connection::ingress().session => {
            Connection::ingress().keys.resume.to_vec()
        }
        Auth::Resume(_) => return false,
    };
    verify_hello(&secret, &[], &hello.frame())
}

fn signed_by_its_endpoint(send: &Send<'_>) -> bool {
    [
        KeyMaterial::Symmetric(sender_secret()),
        KeyMaterial::Ed25519(ed25519().verifying_key().into()),
    ]
    .iter()
    .any(|key| verify_envelope(key, send))
}

fn send(out: &mut Vec<u8>, sequence: u64, bodies: &[&[u8]], signer: Signer<'_>) {
    let mut builder = SendBuilder::begin(out, sender(), channel(), Sequence(sequence));
    for (at, body) in bodies.iter().enumerate() {
        let headers: Pairs<'_> = if at % 2 == 0 { &[] } else { &HEADERS };
        builder
            .message(UnixNanos(at as u64), headers, body)
            .expect("within all limits");
    }
    builder.finish(signer).expect("at least one message");
}

fn envelopes() -> [Vec<u8>; 2] {
    let (secret, ed25519, id) = (sender_secret(), ed25519(), SENDER_KEY);
    let (mut with_key, mut with_ed25519) = (Vec::new(), Vec::new());
    let key = secret.mac();
    send(&mut with_key, 4, &[b"21.5"], Signer::Key { id, key });
    let key = &ed25519;
    let signer = Signer::Ed25519 { id: KeyId(3), key };
    send(&mut with_ed25519, 5, &[b"21.5", b"21.6"], signer);
    [with_key, with_ed25519]
}

/// A sender opened with its key, a receiver with its token, and the sender again, resumed.
fn spoken() -> [Spoken; 3] {
    let mut sender = Spoken::begin(Connection::ingress(), Auth::Key(SENDER_KEY), SENDER);
    let token = receiver_token();
    let mut receiver = Spoken::begin(Connection::egress(), Auth::Token(&token), RECEIVER);
    let resume = Connection::ingress().keys.resume.to_vec();
    let again = Connection::new(0x61, 0x81, 0xA1, resume);
    let auth = Auth::Resume(again.session);
    let mut again = Spoken::begin(again, auth, SENDER);
    for (first, spoken) in [(1, &mut sender), (3, &mut again)] {
        spoken.say(|out, signer| send(out, first, &[b"21.5"], signer));
        spoken.say(|out, signer| send(out, first + 1, &[b"21.6", &[0x5A; 100], b""], signer));
        spoken.say(|out, signer| send(out, first + 2, &[&[7; 700]], signer));
        for (inner, number) in envelopes().iter().zip(1..) {
            spoken.say(|out, signer| encode_relay(out, Sequence(number), inner, signer));
        }
        spoken.say(|out, signer| encode_ping(out, Sequence(77), signer));
        let notice = Notice::new(Reason::PeerBye, 0, 0);
        spoken.say(|out, signer| encode_bye(out, notice, signer));
    }
    let fetch = Fetch {
        source: Source::Queue,
        messages: 100,
        bytes: 1 << 20,
    };
    receiver.say(|out, signer| fetch.encode(out, signer));
    for outcome in [Outcome::AcceptUpTo, Outcome::ReleaseOne] {
        let settle = Settle {
            source: Source::Queue,
            number: Sequence(2),
            outcome,
        };
        receiver.say(|out, signer| settle.encode(out, signer));
    }
    [sender, receiver, again]
}

/// Change `bytes` in one to three ways: bits, bytes, cuts, growth, pieces of `other`, the fields of the header.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(..bytes.len().max(1)).min(bytes.len());
        let until = random.usize(at..=bytes.len());
        match random.u8(..10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at..until.min(at + 16)].fill_with(|| random.u8(..)),
            2 => bytes.truncate(at),
            3 => bytes.extend((0..random.usize(..40)).map(|_| random.u8(..))),
            4 => bytes.extend_from_slice(&other[..random.usize(..=other.len())]),
            5 => drop(bytes.splice(at.., other.iter().skip(at).copied())),
            6 => drop(bytes.splice(at..until, other.iter().skip(at).take(until - at).copied())),
            7 if bytes.len() > 4 => bytes[4] = random.u8(..8),
            8 if bytes.len() > 16 => {
                let field = random.usize(5..16);
                bytes[field] = bytes[field].wrapping_add(random.u8(..3)).wrapping_sub(1);
            }
            _ => drop(bytes.drain(at..until.min(at + 8))),
        }
    }
    if bytes.len() >= 4 && random.bool() {
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
    }
}

#[test]
fn a_changed_frame_is_never_accepted() {
    let (count, seed) = (
        number("FOREBAY_MUTATIONS", MUTATIONS),
        number("FOREBAY_MUTATIONS_SEED", SEED),
    );
    let mut random = fastrand::Rng::with_seed(seed);
    let all = spoken();
    let (mut read_whole, mut originals, mut forged) = (0u64, 0u64, 0u64);
    for turn in 0..count {
        let spoken = &all[random.usize(..all.len())];
        let from = random.usize(..spoken.frames.len());
        let other = &all[random.usize(..all.len())];
        let other = &other.frames[random.usize(..other.frames.len())];
        let mut bytes = spoken.frames[from].clone();
        mutate(&mut random, &mut bytes, other);
        read_whole +=
            u64::from(matches!(split(&bytes), Ok(Some((frame, _))) if read(frame).is_ok()));
        for (place, frame) in spoken.accepted(from, &bytes) {
            let original = match place {
                0 => all.iter().any(|spoken| spoken.frames[0] == frame),
                _ => spoken.frames.get(place).is_some_and(|sent| *sent == frame),
            };
            originals += u64::from(original);
            forged += u64::from(!original);
            assert!(
                original,
                "turn {turn} of seed {seed}: {bytes:02x?} in place {from}"
            );
        }
    }
    println!(
        "{count} mutations, seed {seed}: {read_whole} were good frames but for the signature, {forged} accepted; \
         {originals} had kept a whole original"
    );
    assert!(
        read_whole > count / 20,
        "only {read_whole} reached the signature"
    );
    assert!(originals > 0, "even what was sent is refused");
}

#[test]
fn every_single_bit_of_every_frame_is_signed() {
    let mut flips = 0u64;
    for spoken in spoken() {
        for (place, sent) in spoken.frames.iter().enumerate() {
            assert_eq!(spoken.accepted(place, sent), [(place, &sent[..])]);
            for bit in 0..sent.len() * 8 {
                let mut bytes = sent.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let accepted = spoken.accepted(place, &bytes);
                assert!(accepted.is_empty(), "place {place}, bit {bit}");
                flips += 1;
            }
        }
    }
    println!("{flips} bits flipped one at a time: 0 accepted");
}

#[test]
fn every_single_bit_of_an_envelope_is_signed_by_its_endpoint() {
    let mut flips = 0u64;
    let mut relaying = spoken().into_iter().next().expect("three of them");
    let place = relaying.frames.len();
    for envelope in envelopes() {
        for bit in 0..=envelope.len() * 8 {
            let mut inner = envelope.clone();
            if bit > 0 {
                inner[(bit - 1) / 8] ^= 1 << ((bit - 1) % 8);
            }
            relaying.frames.truncate(place);
            relaying.say(|out, signer| encode_relay(out, Sequence(3), &inner, signer));
            let taken = !relaying.accepted(place, &relaying.frames[place]).is_empty();
            assert_eq!(taken, bit == 0, "bit {bit} of the envelope");
            flips += 1;
        }
    }
    println!("{flips} bits of envelopes flipped by the one who relays them: 0 accepted");
}

#[test]
fn a_frame_is_accepted_in_no_other_place_and_in_no_other_session() {
    let all = spoken();
    let mut replays = 0u64;
    for (number, spoken) in all.iter().enumerate() {
        for (place, sent) in spoken.frames.iter().enumerate() {
            let near = 0..spoken.frames.len() + 64;
            let far = (0..48).map(|bit| place ^ 1 << bit);
            for other in near.chain(far).filter(|other| *other != place) {
                assert_eq!(
                    spoken.accepted(other, sent),
                    [],
                    "{place} replayed at {other}"
                );
                replays += 1;
            }
            for (_, foreign) in all.iter().enumerate().filter(|(other, _)| *other != number) {
                for other in 1..foreign.frames.len() {
                    assert_eq!(foreign.accepted(other, sent), [], "{place} of {number}");
                    replays += 1;
                }
            }
        }
    }
    println!("{replays} replays elsewhere: 0 accepted");
}

#[test]
fn a_forged_frame_costs_as_many_compressions_as_a_good_one() {
    let mut random = fastrand::Rng::with_seed(SEED);
    for spoken in spoken() {
        for (index, sent) in spoken.frames[1..].iter().enumerate() {
            let mut forged = sent.clone();
            let signed = forged.len() - 32;
            forged[signed..].fill_with(|| random.u8(..));
            let cost = |bytes: &[u8]| {
                let (frame, _) = split(bytes).expect("a good header").expect("whole");
                let key = &spoken.connection.keys.client;
                VerifyJob::session(key, index as u64, &frame)
                    .expect("a session's")
                    .compressions()
            };
            assert_eq!(cost(&forged), cost(sent));
            assert_eq!(cost(sent), (8 + signed + 9).div_ceil(64) + 1);
        }
    }
}
