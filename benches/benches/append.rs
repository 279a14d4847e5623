//! Stage 5: one copy into the segment, with header and checksum.

use benches::{CHANNEL, SENDER, put_frame, session_keys};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use partition::{
    LogId, MappedStorage, NewRecord, Partition, PartitionLimits, RecordKind, Segment, Storage,
};
use std::hint::black_box;
use wire::ids::{PartitionId, Sequence, UnixNanos};

fn append(c: &mut Criterion) {
    let mut frame = Vec::new();
    put_frame(&mut frame, &session_keys(), 0, 1);
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut mapped = MappedStorage::new(folder.path());
    group.bench_function("mapped", |b| run(b, &mut mapped, &frame));
    group.finish();
}

/// Append for ever: a full segment is replaced by the oldest one, as retention does.
fn run<T: Storage>(b: &mut criterion::Bencher<'_>, storage: &mut T, frame: &[u8])
where
    T::Segment: Segment,
{
    let log = LogId::partition(PartitionId(7));
    let limits = PartitionLimits {
        retention_bytes: Some(128 << 20),
        ..PartitionLimits::default()
    };
    let (mut partition, _) =
        Partition::recover(storage, log, limits, UnixNanos(1)).expect("an empty log opens");
    let mut sequence = 0;
    b.iter(|| {
        if let Some(bytes) = partition.request_spare() {
            if let Some(ticket) = partition.begin_commit() {
                partition
                    .finish_commit(ticket, Ok(()))
                    .expect("nothing failed");
            }
            let spare = match partition.expire(UnixNanos(1)) {
                Some(old) => storage.renew(log, old),
                None => storage.prepare(log, bytes),
            };
            partition.offer(spare.expect("there is room for a segment"));
        }
        sequence += 1;
        let record = NewRecord {
            kind: RecordKind::Frame,
            signature_kind: 1,
            count: 1,
            endpoint: SENDER,
            channel: CHANNEL,
            sequence: Sequence(sequence),
            time: UnixNanos(1),
        };
        partition
            .append(&record, &[black_box(frame)])
            .expect("a spare was offered in time")
    });
}

criterion_group!(benches, append);
criterion_main!(benches);
