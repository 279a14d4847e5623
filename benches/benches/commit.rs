//! Stage 6: a ticket to and fro, without the disk between, and the ACK that it earns. What the shard does around
//! it for each frame that waits (its credit, its place in the queue of acks) is in `journey`.

use benches::{Disk, ThreadCpu, criterion, put_frame, session_keys, timed};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use partition::{LogId, MappedSegment, NewRecord, Partition, RecordKind};
use std::hint::black_box;
use std::time::Duration;
use wire::ack::{ACK_BYTES, Ack};
use wire::ids::{AckMode, Offset, PartitionId, Sequence, UnixNanos};
use wire::signature::{SessionKeys, Signer};

use benches::{CHANNEL, SENDER};

const PARTITIONS: u16 = 16;
const SEGMENT_BYTES: u32 = 2 << 20;

fn commit(c: &mut Criterion<ThreadCpu>) {
    let keys = session_keys();
    let mut frame = Vec::new();
    put_frame(&mut frame, &keys, 0, 1);
    let mut disk = Disk::new();
    let mut logs: Vec<Partition<MappedSegment>> = (0..PARTITIONS)
        .map(|number| LogId::partition(PartitionId::new(7, number)))
        .map(|log| disk.open(log, SEGMENT_BYTES))
        .collect();
    let mut out = Vec::with_capacity(usize::from(PARTITIONS) * ACK_BYTES);
    let mut round = 0;
    let mut group = c.benchmark_group("commit");
    group.throughput(Throughput::Elements(u64::from(PARTITIONS)));
    group.bench_function("ticket-and-ack", |b| {
        b.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                round += 1;
                for log in &mut logs {
                    disk.tend(log);
                    append(log, round, &frame);
                }
                out.clear();
                let (took, ()) = timed(|| {
                    for log in &mut logs {
                        let committed = commit_one(log);
                        ack(&mut out, &keys, round, committed);
                    }
                });
                black_box(&out);
                total += took;
            }
            total
        });
    });
    group.finish();
}

fn append(log: &mut Partition<MappedSegment>, sequence: u64, frame: &[u8]) {
    let record = NewRecord {
        kind: RecordKind::Frame,
        signature_kind: 1,
        count: 1,
        endpoint: SENDER,
        channel: CHANNEL,
        sequence: Sequence(sequence),
        time: UnixNanos(1),
    };
    log.append(&record, &[frame])
        .expect("a spare was offered in time");
}

fn commit_one(log: &mut Partition<MappedSegment>) -> Offset {
    let ticket = log.begin_commit().expect("a record was appended");
    log.finish_commit(black_box(ticket), Ok(()))
        .expect("nothing failed")
}

fn ack(out: &mut Vec<u8>, keys: &SessionKeys, round: u64, committed: Offset) {
    let ack = Ack {
        partition: PartitionId::new(7, 0),
        sequence: Sequence(round),
        ack_mode: AckMode::Durable,
        offset: committed,
        credit_frames: 1_024,
        credit_bytes: 4 << 20,
    };
    ack.encode(
        out,
        Signer::Session {
            key: &keys.server,
            frame_index: round,
        },
    );
}

criterion_group!(name = benches; config = criterion(); targets = commit);
criterion_main!(benches);
