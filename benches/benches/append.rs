//! Stage 5: one copy into the segment, with header and checksum. A full segment is followed by one that retention
//! gave back and that has been synced since, so the first store to each of its pages is a fault: that is in the
//! figure, and on a file system in memory (`TMPDIR=/dev/shm`) it is not. Making and recycling segments is not timed.

use benches::{
    CHANNEL, Disk, MESSAGES_PER_FRAME, SENDER, ThreadCpu, criterion, minor_faults, put_frame,
    session_keys, timed,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use partition::{LogId, MappedSegment, NewRecord, Partition, RecordKind, record_bytes};
use std::hint::black_box;
use std::time::Duration;
use wire::ids::{PartitionId, Sequence, UnixNanos};

const SEGMENT_BYTES: u32 = 64 << 20;
/// Appends between two looks at whether a spare is wanted.
const UNTENDED: u64 = 256;

fn append(c: &mut Criterion<ThreadCpu>) {
    let mut group = c.benchmark_group("append");
    let mut disk = Disk::new();
    let mut partition = disk.open(LogId::partition(PartitionId(7)), SEGMENT_BYTES);
    for messages in MESSAGES_PER_FRAME {
        let mut frame = Vec::new();
        put_frame(&mut frame, &session_keys(), 0, messages);
        group.throughput(Throughput::Elements(u64::from(messages)));
        group.bench_function(BenchmarkId::from_parameter(messages), |b| {
            b.iter_custom(|mut left| {
                let mut total = Duration::ZERO;
                while left > 0 {
                    let count = left.min(UNTENDED);
                    disk.tend(&mut partition);
                    total += timed(|| append_some(&mut partition, &frame, messages, count)).0;
                    left -= count;
                }
                total
            });
        });
    }
    group.finish();
}

fn append_some(partition: &mut Partition<MappedSegment>, frame: &[u8], messages: u16, count: u64) {
    let base = partition.sender(SENDER).last.0;
    for sequence in base + 1..=base + count {
        let record = NewRecord {
            kind: RecordKind::Frame,
            signature_kind: 1,
            count: messages,
            endpoint: SENDER,
            channel: CHANNEL,
            sequence: Sequence(sequence),
            time: UnixNanos(1),
        };
        let appended = partition.append(&record, &[black_box(frame)]);
        black_box(appended.expect("a spare was offered in time"));
    }
}

/// Faults of the process for each page of 4 KiB that is appended to, over several rounds of recycled segments.
fn faults(_: &mut Criterion<ThreadCpu>) {
    let mut disk = Disk::new();
    let mut partition = disk.open(LogId::partition(PartitionId(7)), SEGMENT_BYTES);
    let mut frame = Vec::new();
    put_frame(&mut frame, &session_keys(), 0, 1);
    let (before, records) = (minor_faults(), 8 * u64::from(SEGMENT_BYTES) / 256);
    for _ in 0..records / UNTENDED {
        disk.tend(&mut partition);
        append_some(&mut partition, &frame, 1, UNTENDED);
    }
    let faults = minor_faults() - before;
    let bytes = record_bytes(frame.len());
    let pages = records as f64 * bytes as f64 / 4096.0;
    println!(
        "faults: {faults} for {records} records of {bytes} bytes, 1 for every {:.0} records, {:.2} for each page",
        records as f64 / faults as f64,
        faults as f64 / pages
    );
}

criterion_group!(name = benches; config = criterion(); targets = append, faults);
criterion_main!(benches);
