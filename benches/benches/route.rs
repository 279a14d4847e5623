//! Stage 4: may this sender send this to this channel, and which partition takes it. This is the whole way
//! through the route table, as an envelope takes it; a frame of a session finds its stream in the session, and
//! what that costs is in `journey`.

use benches::{CHANNEL, ThreadCpu, criterion, sender, table};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use wire::ids::{EndpointId, PartitionId};
use wire::route::RouteTable;

const ENDPOINTS: usize = 10_000;
const LOOKUPS: usize = 4_096;

fn route(c: &mut Criterion<ThreadCpu>) {
    let table = table(16, ENDPOINTS, 0);
    let mut random = fastrand::Rng::with_seed(4);
    let ids: Vec<EndpointId> = (0..LOOKUPS)
        .map(|_| EndpointId::of(&sender(random.usize(..ENDPOINTS))))
        .collect();
    let mut group = c.benchmark_group("route");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    group.bench_function("any-of-10000", |b| {
        b.iter(|| {
            for id in &ids {
                black_box(find(black_box(&table), *id));
            }
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("same", |b| {
        b.iter(|| find(black_box(&table), black_box(ids[0])))
    });
    group.finish();
}

fn find(table: &RouteTable, sender: EndpointId) -> Option<PartitionId> {
    let channel = table.channel(black_box(CHANNEL))?;
    let grant = table.endpoint(sender)?.send_grant(channel.id)?;
    let free = grant.restriction.is_none();
    free.then(|| table.partition_of(sender, channel))
}

criterion_group!(name = benches; config = criterion(); targets = route);
criterion_main!(benches);
