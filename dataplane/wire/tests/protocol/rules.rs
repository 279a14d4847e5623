//! Signatures on whole frames: who can make them, what breaks them, and what a client does to go back.

use curve25519_dalek::Scalar;
use ed25519_dalek::{Signature, verify_batch};
use sha2::{Digest, Sha512};
use wire::send::{Relay, Send, SendBuilder, resign};
use wire::signature::{
    KeyMaterial, MacKey, RELAY_CONTEXT, Signer, SigningKey, verify_ed25519_batch, verify_envelope,
    verify_session,
};
use wire::{KeyId, ParseError, Sequence, UnixNanos, split};

use crate::accepted::{bytes, send};
use crate::parties::*;

fn inner(bytes: &[u8]) -> Send<'_> {
    let (frame, _) = split(bytes).expect("a good header").expect("a whole frame");
    Send::parse(frame).expect("a good body")
}

fn envelope(seed: u8, body: &[u8]) -> Vec<u8> {
    let key = SigningKey::from_bytes(&[seed; 32]);
    send(
        &[(&[], body)],
        Signer::Ed25519 {
            id: KeyId(3),
            key: &key,
        },
    )
}

#[test]
fn an_envelope_is_good_only_under_its_own_key_and_kind() {
    let (with_key, with_ed25519) = (bytes("envelope with a key"), bytes("envelope with ed25519"));
    let symmetric = KeyMaterial::Symmetric(sender_secret());
    let other = KeyMaterial::Symmetric(receiver_secret());
    let public = KeyMaterial::Ed25519(ed25519().verifying_key().into());
    for (why, frame, key, want) in [
        ("its key", &with_key, &symmetric, true),
        ("another key", &with_key, &other, false),
        ("a public key", &with_key, &public, false),
        ("its public key", &with_ed25519, &public, true),
        ("a symmetric key", &with_ed25519, &symmetric, false),
        (
            "a session's frame",
            &bytes("send of one message"),
            &symmetric,
            false,
        ),
    ] {
        assert_eq!(verify_envelope(key, &inner(frame)), want, "{why}");
    }
    let relay = bytes("relay of an envelope with a key");
    let (frame, _) = split(&relay)
        .expect("a good header")
        .expect("a whole frame");
    let relay = Relay::parse(frame).expect("a good body");
    assert_eq!(relay.number(), Sequence(1));
    assert_eq!(relay.inner().frame().bytes(), with_key);
}

#[test]
fn every_flipped_bit_of_a_frame_breaks_its_signature() {
    let connection = Connection::ingress();
    let good = bytes("send of one message");
    for bit in 0..good.len() * 8 {
        let mut wrong = good.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let Ok(Some((frame, _))) = split(&wrong) else {
            continue;
        };
        assert!(
            !verify_session(&connection.keys.client, 0, &frame),
            "bit {bit}"
        );
    }
    let (frame, _) = split(&good).expect("a good header").expect("a whole frame");
    assert!(verify_session(&connection.keys.client, 0, &frame));
}

#[test]
fn a_batch_says_which_of_its_signatures_are_bad() {
    let mut random = fastrand::Rng::with_seed(3);
    for count in [0, 1, 2, 63, 64, 65, 130] {
        let frames: Vec<_> = (0..count)
            .map(|at| envelope(at as u8, &[at as u8; 9]))
            .collect();
        let keys: Vec<_> = (0..count)
            .map(|at| SigningKey::from_bytes(&[at as u8; 32]).verifying_key())
            .collect();
        let bad: Vec<bool> = (0..count).map(|_| random.u8(..8) == 0).collect();
        let frames: Vec<Vec<u8>> = frames
            .into_iter()
            .zip(&bad)
            .map(|(mut frame, bad)| {
                let body = frame.len() - 65;
                frame[body] ^= u8::from(*bad);
                frame
            })
            .collect();
        let sends: Vec<Send<'_>> = frames.iter().map(|frame| inner(frame)).collect();
        let items: Vec<_> = keys.iter().zip(&sends).collect();
        let mut good = vec![true; 3];
        verify_ed25519_batch(&items, &mut good);
        assert_eq!(
            good,
            bad.iter().map(|bad| !bad).collect::<Vec<_>>(),
            "{count} items"
        );
    }
}

/// An envelope whose signature is `commitment` and s = H(R, A, M) * a: with the identity as R the equation
/// holds, so that the library's batch passes what its strict check refuses.
fn hollow(seed: u8, commitment: [u8; 32]) -> Vec<u8> {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let mut frame = envelope(seed, b"x");
    let at = frame.len() - 64;
    let hash = Sha512::new_with_prefix(commitment)
        .chain_update(key.verifying_key().as_bytes())
        .chain_update(RELAY_CONTEXT)
        .chain_update(&frame[..at]);
    let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    frame[at..at + 32].copy_from_slice(&commitment);
    frame[at + 32..].copy_from_slice((challenge * key.to_scalar()).as_bytes());
    frame
}

#[test]
fn a_commitment_of_small_order_is_refused_in_a_batch_too() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut noncanonical = [0xFF; 32];
    noncanonical[0] = 0xEE;
    noncanonical[31] = 0x7F;
    let key = SigningKey::from_bytes(&[9; 32]).verifying_key();
    for (why, commitment) in [
        ("identity", identity),
        ("order 4", [0; 32]),
        ("identity, longer", noncanonical),
    ] {
        let frame = hollow(9, commitment);
        let (fine, mut good) = (envelope(9, b"y"), Vec::new());
        verify_ed25519_batch(&[(&key, &inner(&fine)), (&key, &inner(&frame))], &mut good);
        assert_eq!(good, [true, false], "{why}");
    }
    let frame = hollow(9, identity);
    let (signed, signature) = frame.split_at(frame.len() - 64);
    let message = [RELAY_CONTEXT, signed].concat();
    let signature = Signature::from_slice(signature).expect("64 bytes");
    assert!(
        verify_batch(&[&message], &[signature], &[key]).is_ok(),
        "the library's batch alone would pass it"
    );
}

#[test]
fn a_frame_sent_again_is_the_frame_that_would_have_been_made() {
    let key = MacKey::new(b"session");
    let body: Content<'_> = (&[("k", b"v")], b"body");
    let build = |out: &mut Vec<u8>, sequence, frame_index| {
        let mut builder = SendBuilder::begin(out, sender(), channel(), Sequence(sequence));
        builder
            .message(UnixNanos(5), body.0, body.1)
            .expect("within all limits");
        builder
            .finish(Signer::Session {
                key: &key,
                frame_index,
            })
            .expect("one message");
    };
    let (mut again, mut fresh) = (b"before".to_vec(), b"before".to_vec());
    build(&mut again, 9, 3);
    build(&mut fresh, 4, 17);
    resign(
        &mut again,
        6,
        Sequence(4),
        Signer::Session {
            key: &key,
            frame_index: 17,
        },
    )
    .expect("a SEND");
    assert_eq!(again, fresh);
    let ping = bytes("ping");
    let refused = resign(
        &mut ping.clone(),
        0,
        Sequence(1),
        Signer::Session {
            key: &key,
            frame_index: 0,
        },
    );
    assert_eq!(refused, Err(ParseError::UnexpectedFrame(0x06)));
    let missing = resign(
        &mut Vec::new(),
        9,
        Sequence(1),
        Signer::Session {
            key: &key,
            frame_index: 0,
        },
    );
    assert_eq!(missing, Err(ParseError::FrameShort { got: 0, need: 32 }));
}

#[test]
fn a_full_frame_refuses_one_more_message_and_is_still_good() {
    let key = MacKey::new(b"session");
    let signer = Signer::Session {
        key: &key,
        frame_index: 0,
    };
    let mut out = Vec::new();
    let mut builder = SendBuilder::begin(&mut out, sender(), channel(), Sequence(1));
    let body = vec![7; 262_144];
    builder
        .message(UnixNanos(1), &[], &body)
        .expect("the first fits");
    let got = 32 + 2 * (16 + 262_144);
    assert_eq!(
        builder.message(UnixNanos(1), &[], &body),
        Err(ParseError::FrameLong { got })
    );
    builder
        .message(UnixNanos(1), &[], &body[..261_000])
        .expect("a shorter one fits");
    builder.finish(signer).expect("two messages");
    assert_eq!(inner(&out).messages().count(), 2);

    let mut out = Vec::new();
    let mut builder = SendBuilder::begin(&mut out, sender(), channel(), Sequence(1));
    for _ in 0..4_096 {
        builder
            .message(UnixNanos(1), &[], b"")
            .expect("within all limits");
    }
    assert_eq!(
        builder.message(UnixNanos(1), &[], b""),
        Err(ParseError::TooManyMessages(4_097))
    );
    builder.finish(signer).expect("4096 messages");
    assert_eq!(inner(&out).count(), 4_096);

    let mut out = b"before".to_vec();
    let empty = SendBuilder::begin(&mut out, sender(), channel(), Sequence(1));
    assert_eq!(empty.finish(signer), Err(ParseError::NoMessages));
    assert_eq!(out, b"before");
}
