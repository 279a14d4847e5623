//! Stage 3: the signature over header and body. The session's, one at a time, two side by side and 64 in a turn (all
//! good, all forged), beside a single verification of the same bytes with the `hmac` and `sha2` crates; and the
//! Ed25519 signatures of envelopes, one at a time and 64 together.

use benches::{CHANNEL, MESSAGES_PER_FRAME, SENDER, ThreadCpu, criterion, put_frame, session_keys};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::hint::black_box;
use wire::ids::{KeyId, Sequence, UnixNanos};
use wire::send::{Send, SendBuilder};
use wire::signature::{
    SignJob, Signer, SigningKey, TAG_BYTES, VerifyJob, VerifyingKey, verify_ed25519,
    verify_ed25519_batch, verify_many, verify_session, verify_two,
};

/// Envelopes checked together, each of an endpoint of its own.
const ENVELOPES: u8 = 64;

fn session(c: &mut Criterion<ThreadCpu>) {
    let keys = session_keys();
    let mut group = c.benchmark_group("verify");
    for messages in MESSAGES_PER_FRAME {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, &keys, 0, messages);
        let (frame, _) = wire::split(&bytes).expect("well formed").expect("whole");
        group.throughput(Throughput::Elements(u64::from(messages)));
        group.bench_function(BenchmarkId::new("session", messages), |b| {
            b.iter(|| {
                assert!(verify_session(
                    black_box(&keys.client),
                    0,
                    black_box(&frame)
                ))
            });
        });
        let tag = frame.signature().first_chunk().expect("of 32 bytes");
        let sign = SignJob::session(&keys.client, 0, frame.signed());
        let job = VerifyJob::new(sign, tag);
        group.bench_function(BenchmarkId::new("alone", messages), |b| {
            b.iter(|| assert!(black_box(&job).verify()));
        });
        group.throughput(Throughput::Elements(2 * u64::from(messages)));
        group.bench_function(BenchmarkId::new("two", messages), |b| {
            b.iter(|| assert_eq!(verify_two([black_box(&job), black_box(&job)]), [true; 2]));
        });
        let jobs = [job; 64];
        let mut good = [false; 64];
        group.throughput(Throughput::Elements(64 * u64::from(messages)));
        group.bench_function(BenchmarkId::new("many", messages), |b| {
            b.iter(|| {
                verify_many(black_box(&jobs), black_box(&mut good));
                assert_eq!(good, [true; 64]);
            });
        });
        let forged_tag = [0x5a; TAG_BYTES];
        let forged = [VerifyJob::new(sign, &forged_tag); 64];
        group.bench_function(BenchmarkId::new("forged", messages), |b| {
            b.iter(|| {
                verify_many(black_box(&forged), black_box(&mut good));
                assert_eq!(good, [false; 64]);
            });
        });
        group.throughput(Throughput::Elements(u64::from(messages)));
        let keyed = Hmac::<Sha256>::new_from_slice(b"bench").expect("any length will do");
        let mut mac = keyed.clone();
        mac.update(&0u64.to_le_bytes());
        mac.update(frame.signed());
        let tag = mac.finalize().into_bytes();
        group.bench_function(BenchmarkId::new("crate", messages), |b| {
            b.iter(|| {
                let mut mac = black_box(&keyed).clone();
                mac.update(&black_box(0u64).to_le_bytes());
                mac.update(black_box(frame.signed()));
                mac.verify_slice(&tag).expect("the tag was made above");
            });
        });
    }
    group.finish();
}

fn envelopes(c: &mut Criterion<ThreadCpu>) {
    let signed: Vec<(VerifyingKey, Vec<u8>)> = (1..=ENVELOPES).map(envelope).collect();
    let sends: Vec<Send<'_>> = signed.iter().map(|(_, bytes)| parse(bytes)).collect();
    let items: Vec<(&VerifyingKey, &Send<'_>)> =
        signed.iter().map(|(key, _)| key).zip(&sends).collect();
    let mut group = c.benchmark_group("verify");
    group.throughput(Throughput::Elements(1));
    group.bench_function("ed25519/1", |b| {
        b.iter(|| assert!(verify_ed25519(black_box(items[0].0), black_box(items[0].1))));
    });
    let mut good = Vec::new();
    group.throughput(Throughput::Elements(u64::from(ENVELOPES)));
    group.bench_function("ed25519/64", |b| {
        b.iter(|| {
            verify_ed25519_batch(black_box(&items), &mut good);
            assert!(good.iter().all(|good| *good));
        });
    });
    group.finish();
}

fn envelope(number: u8) -> (VerifyingKey, Vec<u8>) {
    let key = SigningKey::from_bytes(&[number; 32]);
    let mut bytes = Vec::new();
    let mut send = SendBuilder::begin(&mut bytes, SENDER, CHANNEL, Sequence(u64::from(number)));
    send.message(UnixNanos(1), &[], &[0x5a; benches::BODY_BYTES])
        .expect("the body is within every limit");
    let id = KeyId(1);
    send.finish(Signer::Ed25519 { id, key: &key })
        .expect("the frame has a message");
    (key.verifying_key(), bytes)
}

fn parse(bytes: &[u8]) -> Send<'_> {
    let (frame, _) = wire::split(bytes).expect("well formed").expect("whole");
    Send::parse(frame).expect("well formed")
}

criterion_group!(name = benches; config = criterion(); targets = session, envelopes);
criterion_main!(benches);
