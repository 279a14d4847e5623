//! Stage 7: committed records become runs in the queues of all who hear their channel, and the journal holds
//! them. Settling, which makes room again, is not timed.

use std::hint::black_box;
use std::time::Duration;

use benches::{CHANNEL, Disk, HUB, ThreadCpu, criterion, receiver, table, timed};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use partition::{LogId, MappedSegment};
use shard::queue::{FanOut, QueueGroup, QueueLimits, Source, Span};
use wire::ids::{AckMode, EndpointId, Offset, PartitionId, UnixNanos};
use wire::route::RouteTable;

/// Messages in a batch, in as many records as the case says.
const MESSAGES: u32 = 256;
/// Batches in one measurement.
const BATCHES: u64 = 8;
const MESSAGE_BYTES: u64 = 116;
const SEGMENT_BYTES: u32 = 64 << 20;
/// As the commit stage has it.
const TOGETHER_BYTES_MAX: u64 = 64 << 10;
const LOCK: Duration = Duration::from_secs(30);

struct Queues {
    group: QueueGroup<MappedSegment>,
    disk: Disk,
    table: RouteTable,
    receivers: Vec<EndpointId>,
    fanned_out: u64,
    now: UnixNanos,
    spans: Vec<Span>,
}

impl Queues {
    fn new(receivers: usize) -> Self {
        let mut disk = Disk::new();
        let limits = QueueLimits {
            ack: AckMode::Local,
            ..QueueLimits::default()
        };
        let log_limits = Disk::limits(SEGMENT_BYTES);
        let now = UnixNanos(1_800_000_000_000_000_000);
        let (group, _) = QueueGroup::recover(&mut disk.storage, 0, log_limits, limits, &[], now)
            .expect("an empty journal opens");
        let mut queues = Self {
            group,
            disk,
            table: table(1, 0, receivers),
            receivers: (0..receivers)
                .map(|number| EndpointId::of(&receiver(number)))
                .collect(),
            fanned_out: 0,
            now,
            spans: Vec::new(),
        };
        queues.settle();
        queues
    }

    /// The next records, of `count` messages each, as the commit stage hands them on.
    fn put_records(&mut self, records: &mut Vec<Span>, count: u32) {
        let offset = self.fanned_out;
        records.clear();
        records.extend((0..MESSAGES).step_by(count as usize).map(|number| Span {
            partition: PartitionId::new(HUB, 0),
            channel: CHANNEL,
            first: Offset(offset + u64::from(number)),
            count,
            bytes: MESSAGE_BYTES * u64::from(count),
        }));
        self.fanned_out += u64::from(MESSAGES);
    }

    /// Put neighbours together as the commit stage does, fan the batch out and write it to the journal.
    fn fan_out(&mut self, records: &[Span]) {
        self.spans.clear();
        for record in black_box(records) {
            match self.spans.last_mut() {
                Some(last) if last.continued_by(record, TOGETHER_BYTES_MAX) => last.extend(record),
                _ => self.spans.push(*record),
            }
        }
        let mut rest = &self.spans[..];
        while !rest.is_empty() {
            match self.group.fan_out(rest, &self.table, self.now) {
                FanOut::Taken(taken) => rest = &rest[taken..],
                FanOut::Paused => panic!("the journal has no room: {:?}", self.group.counters()),
            }
        }
        self.group
            .flush(self.now)
            .expect("a spare was offered in time");
    }

    /// Everybody takes everything; the journal goes on.
    fn settle(&mut self) {
        self.now.0 += 1_000_000;
        for endpoint in &self.receivers {
            let depth = self.group.depth(*endpoint, Source::Queue);
            let count = (depth.next - depth.head) as u32;
            if count > 0 {
                self.group.delivered(
                    *endpoint,
                    Source::Queue,
                    depth.head,
                    count,
                    Duration::ZERO,
                    LOCK,
                );
                self.group
                    .accept_up_to(
                        *endpoint,
                        Source::Queue,
                        depth.next - 1,
                        Duration::ZERO,
                        LOCK,
                    )
                    .expect("it was just delivered");
            }
        }
        self.group.take_ready(&mut Vec::new());
        let log = LogId::queue(0);
        if let Some(bytes) = self.group.log_mut().request_spare() {
            self.group.offer(self.disk.prepare(log, bytes));
        }
        self.group
            .flush(self.now)
            .expect("a spare was offered in time");
        if let Some(ticket) = self.group.begin_commit() {
            self.group
                .finish_commit(ticket, Ok(()))
                .expect("nothing failed");
        }
        while let Some(old) = self.group.expire_segment(self.now) {
            if let Some(spare) = self.disk.recycle(log, old) {
                self.group.offer(spare);
            }
        }
    }
}

fn fanout(c: &mut Criterion<ThreadCpu>) {
    let mut group = c.benchmark_group("fanout");
    group.throughput(Throughput::Elements(u64::from(MESSAGES) * BATCHES));
    for (receivers, messages) in [(1, 1), (10, 1), (100, 1), (100, 16), (100, 256)] {
        let mut queues = Queues::new(receivers);
        let mut batches: Vec<Vec<Span>> = vec![Vec::new(); BATCHES as usize];
        let id = BenchmarkId::new(format!("{receivers}-receivers"), messages);
        group.bench_function(id, |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    batches
                        .iter_mut()
                        .for_each(|records| queues.put_records(records, messages));
                    let (took, ()) =
                        timed(|| batches.iter().for_each(|records| queues.fan_out(records)));
                    queues.settle();
                    total += took;
                }
                total
            });
        });
        let added = queues.group.counters().added;
        assert_eq!(
            added,
            queues.fanned_out * receivers as u64,
            "{:?}",
            queues.group.counters()
        );
    }
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = fanout);
criterion_main!(benches);
