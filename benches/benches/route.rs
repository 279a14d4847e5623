//! Stage 4: may this sender send this to this channel, and which partition takes it. This is the whole way
//! through the route table, as an envelope takes it; a frame of a session finds its stream in the session, and
//! what that costs is in `journey`.
//!
//! `any-of-N` asks for the same 4,096 endpoints of so many again and again, in a random order, one by one: what they need stays in the
//! caches. `batches-of-N` does that as a shard does it for the envelopes of a turn, [`TOGETHER`] at a time. `cold-of-N` and
//! `cold-batches-of-N` ask for 256 of them after the caches were filled with something else; `uniform-of-N` and
//! `uniform-batches-of-N` for 2^18, so that nothing is asked for again soon. `changed-of-N` is the first with a change of one
//! endpoint beside the base.

use std::time::Duration;

use benches::{CHANNEL, ThreadCpu, criterion, sender, timed, wide_table};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wire::ids::{EndpointId, PartitionId};
use wire::route::{DeltaParts, RouteTable, TOGETHER};

const LOOKUPS: usize = 4_096;
const COLD_LOOKUPS: usize = 256;
const UNIFORM_LOOKUPS: usize = 1 << 18;
/// More than the caches of a processor hold.
const FLUSH_BYTES: usize = 256 << 20;

type Way = fn(&RouteTable, &[EndpointId]);
const WAYS: [(&str, Way); 2] = [("", find_all), ("-batches", find_batches)];

fn route(c: &mut Criterion<ThreadCpu>) {
    let mut group = c.benchmark_group("route");
    let mut flush = vec![1u8; FLUSH_BYTES];
    for endpoints in [1_000, 10_000, 100_000, 1_000_000] {
        let table = wide_table(endpoints);
        let mut random = fastrand::Rng::with_seed(4);
        let ids: Vec<EndpointId> = (0..LOOKUPS)
            .map(|_| EndpointId::of(&sender(random.usize(..endpoints))))
            .collect();
        group.throughput(Throughput::Elements(LOOKUPS as u64));
        group.bench_function(BenchmarkId::new("any-of", endpoints), |b| {
            b.iter(|| find_all(black_box(&table), &ids));
        });
        group.bench_function(BenchmarkId::new("batches-of", endpoints), |b| {
            b.iter(|| find_batches(black_box(&table), &ids));
        });
        let changed = changed(&table);
        group.bench_function(BenchmarkId::new("changed-of", endpoints), |b| {
            b.iter(|| find_all(black_box(&changed), &ids));
        });
        group.sample_size(10);
        let all: Vec<EndpointId> = (0..UNIFORM_LOOKUPS)
            .map(|_| EndpointId::of(&sender(random.usize(..endpoints))))
            .collect();
        group.throughput(Throughput::Elements(UNIFORM_LOOKUPS as u64));
        for (what, find) in WAYS {
            let name = BenchmarkId::new(format!("uniform{what}-of"), endpoints);
            group.bench_function(name, |b| b.iter(|| find(black_box(&table), &all)));
        }
        group.throughput(Throughput::Elements(COLD_LOOKUPS as u64));
        for (what, find) in WAYS {
            let name = BenchmarkId::new(format!("cold{what}-of"), endpoints);
            group.bench_function(name, |b| {
                b.iter_custom(|rounds| {
                    let mut total = Duration::ZERO;
                    for round in 0..rounds as usize {
                        fill_caches(&mut flush);
                        let from = round * COLD_LOOKUPS % LOOKUPS;
                        let some = &ids[from..from + COLD_LOOKUPS];
                        total += timed(|| find(black_box(&table), some)).0;
                    }
                    total
                });
            });
        }
        group.sample_size(100);
        if endpoints == 10_000 {
            group.throughput(Throughput::Elements(1));
            group.bench_function("same", |b| {
                b.iter(|| find(black_box(&table), black_box(ids[0])))
            });
        }
    }
    group.finish();
}

fn fill_caches(flush: &mut [u8]) {
    let lines = flush.iter_mut().step_by(64);
    lines.for_each(|byte| *byte = byte.wrapping_add(1));
    black_box(flush);
}

/// The same table with one endpoint otherwise.
fn changed(table: &RouteTable) -> RouteTable {
    let mut one = table.endpoint_at(0).to_parts();
    one.relay = true;
    let delta = table.change(DeltaParts {
        epoch: 2,
        set: vec![one],
        ..DeltaParts::default()
    });
    let delta = delta.expect("a change of one");
    table.after(&delta).expect("made for this table")
}

fn find_all(table: &RouteTable, ids: &[EndpointId]) {
    for id in ids {
        black_box(find(table, *id));
    }
}

/// As a shard does it: where the endpoints of a batch are is found for all of them together, the rest one by one.
fn find_batches(table: &RouteTable, ids: &[EndpointId]) {
    for ids in ids.chunks(TOGETHER) {
        let found = table.endpoint_indexes(ids);
        for (id, endpoint) in ids.iter().zip(found) {
            black_box(find_at(table, *id, endpoint));
        }
    }
}

fn find(table: &RouteTable, sender: EndpointId) -> Option<PartitionId> {
    find_at(table, sender, table.endpoint_index(sender))
}

fn find_at(table: &RouteTable, sender: EndpointId, at: Option<u32>) -> Option<PartitionId> {
    let channel = table.channel(black_box(CHANNEL))?;
    let grant = table.endpoint_at(at?).send_grant(channel.id)?;
    let free = grant.restriction.is_none();
    free.then(|| table.partition_of(sender, channel))
}

criterion_group!(name = benches; config = criterion(); targets = route);
criterion_main!(benches);
