//! Stage 2: bytes to a checked view of a frame and its messages.

use benches::{MESSAGES_PER_FRAME, ThreadCpu, criterion, put_frame, session_keys};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wire::send::Send;

fn parse(c: &mut Criterion<ThreadCpu>) {
    let keys = session_keys();
    let mut group = c.benchmark_group("parse");
    for messages in MESSAGES_PER_FRAME {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, &keys, 0, messages);
        group.throughput(Throughput::Elements(u64::from(messages)));
        group.bench_with_input(BenchmarkId::from_parameter(messages), &bytes, |b, bytes| {
            b.iter(|| {
                let (frame, _) = wire::split(black_box(bytes))
                    .expect("well formed")
                    .expect("whole");
                Send::parse(frame).expect("well formed")
            });
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = parse);
criterion_main!(benches);
