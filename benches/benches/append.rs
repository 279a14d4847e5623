//! Stage 5: one copy into the segment, with header and checksum. A full segment is followed by one that
//! retention gave back, whose pages the kernel writes to the disk meanwhile: the faults that follow are counted.

use benches::{
    CHANNEL, Disk, MESSAGES_PER_FRAME, SENDER, ThreadCpu, criterion, put_frame, session_keys,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use partition::{LogId, NewRecord, RecordKind};
use std::hint::black_box;
use wire::ids::{PartitionId, Sequence, UnixNanos};

fn append(c: &mut Criterion<ThreadCpu>) {
    let mut group = c.benchmark_group("append");
    let mut disk = Disk::new();
    let mut partition = disk.open(LogId::partition(PartitionId(7)), 64 << 20);
    let mut sequence = 0;
    for messages in MESSAGES_PER_FRAME {
        let mut frame = Vec::new();
        put_frame(&mut frame, &session_keys(), 0, messages);
        group.throughput(Throughput::Elements(u64::from(messages)));
        group.bench_function(BenchmarkId::from_parameter(messages), |b| {
            b.iter(|| {
                disk.tend(&mut partition);
                sequence += 1;
                let record = NewRecord {
                    kind: RecordKind::Frame,
                    signature_kind: 1,
                    count: messages,
                    endpoint: SENDER,
                    channel: CHANNEL,
                    sequence: Sequence(sequence),
                    time: UnixNanos(1),
                };
                partition
                    .append(&record, &[black_box(&frame)])
                    .expect("a spare was offered in time")
            });
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = append);
criterion_main!(benches);
