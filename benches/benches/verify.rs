//! Stage 3: the signature over header and body, beside the single `hmac` + `sha2` verification it is measured against.

use benches::{MESSAGES_PER_FRAME, put_frame, session_keys};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::hint::black_box;
use wire::signature::verify_session;

fn verify(c: &mut Criterion) {
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
        let keyed = Hmac::<Sha256>::new_from_slice(b"bench").expect("any length will do");
        let mut mac = keyed.clone();
        mac.update(frame.signed());
        let tag = mac.finalize().into_bytes();
        group.bench_function(BenchmarkId::new("crate", messages), |b| {
            b.iter(|| {
                let mut mac = black_box(&keyed).clone();
                mac.update(black_box(frame.signed()));
                mac.verify_slice(&tag).expect("the tag was made above");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
