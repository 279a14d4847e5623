//! Stage 4: may this sender send this to this channel, and which partition takes it. This is the whole way
//! through the route table, as an envelope takes it; a frame of a session finds its stream in the session, and
//! what that costs is in `journey`.
//!
//! `any-of-N` asks for the same 4,096 endpoints of so many again and again: what they need stays in the caches. `cold-of-N` asks for
//! 256 of them after the caches were filled with something else; `changed-of-N` is the first with a change of one endpoint beside
//! the base.

use std::time::Duration;

use benches::{CHANNEL, ThreadCpu, criterion, sender, timed, wide_table};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wire::ids::{EndpointId, PartitionId};
use wire::route::{DeltaParts, RouteTable};

const LOOKUPS: usize = 4_096;
const COLD_LOOKUPS: usize = 256;
/// More than the caches of a processor hold.
const FLUSH_BYTES: usize = 256 << 20;

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
        let changed = changed(&table);
        group.bench_function(BenchmarkId::new("changed-of", endpoints), |b| {
            b.iter(|| find_all(black_box(&changed), &ids));
        });
        group.throughput(Throughput::Elements(COLD_LOOKUPS as u64));
        group.sample_size(10);
        group.bench_function(BenchmarkId::new("cold-of", endpoints), |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for round in 0..rounds as usize {
                    flush
                        .iter_mut()
                        .step_by(64)
                        .for_each(|byte| *byte = byte.wrapping_add(1));
                    black_box(&flush);
                    let from = round * COLD_LOOKUPS % LOOKUPS;
                    let some = &ids[from..from + COLD_LOOKUPS];
                    total += timed(|| find_all(black_box(&table), some)).0;
                }
                total
            });
        });
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

fn find(table: &RouteTable, sender: EndpointId) -> Option<PartitionId> {
    let channel = table.channel(black_box(CHANNEL))?;
    let grant = table.endpoint(sender)?.send_grant(channel.id)?;
    let free = grant.restriction.is_none();
    free.then(|| table.partition_of(sender, channel))
}

criterion_group!(name = benches; config = criterion(); targets = route);
criterion_main!(benches);
