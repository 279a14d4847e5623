//! Who takes part in the tests of this module: partitions, endpoints, limits.

use std::time::Duration;

use partition::memory::{MemorySegment, MemoryStorage};
use partition::{LogId, Partition, PartitionLimits};
use wire::ids::{AckMode, ChannelId, EndpointId, PartitionId, UnixNanos};
use wire::route::{
    ChannelParts, Endpoint, Grant, Hub, OnFull, QueueBounds, Restriction, RouteTable, TableParts,
};

use super::{LogEnd, QueueGroup, QueueLimits};

pub(super) const PARTITIONS: [PartitionId; 2] = [PartitionId(1 << 16), PartitionId(1 << 16 | 1)];
pub(super) const CHANNELS: u32 = 3;
pub(super) const LOCK: Duration = Duration::from_secs(30);

pub(super) type Place = (PartitionId, u64);

pub(super) fn log_limits() -> PartitionLimits {
    let (segment_bytes, record_bytes_max) = (64 * 1024, 8 * 1024);
    PartitionLimits {
        segment_bytes,
        record_bytes_max,
        ..PartitionLimits::default()
    }
}

pub(super) fn endpoint(number: u32, channels: &[u32], queue: QueueBounds) -> Endpoint {
    let name = format!("acme/test/receiver{number}");
    let grant = |&channel| Grant {
        channel: ChannelId(channel),
        restriction: Restriction::default(),
    };
    Endpoint {
        id: EndpointId::of(&name),
        name: name.into(),
        enabled: true,
        relay: false,
        keys: Vec::new(),
        certificates: Vec::new(),
        transports: Default::default(),
        windows: Vec::new(),
        expires: None,
        home: None,
        send: Vec::new(),
        receive: channels.iter().map(grant).collect(),
        queue,
        rates: Default::default(),
    }
}

/// The plan's table.
pub(super) fn table() -> RouteTable {
    table_with(QueueBounds::default())
}

/// The plan's table, with these bounds for the receivers that have no special ones.
pub(super) fn table_with(bounds: QueueBounds) -> RouteTable {
    let hub = Hub {
        id: 1,
        name: "hub".into(),
        partitions: 2,
        ack: AckMode::Durable,
        segment_bytes: 64 * 1024,
        retention_bytes: None,
        retention_age: None,
    };
    let channel = |id| ChannelParts {
        id: ChannelId(id),
        name: format!("acme/test/channel{id}").into(),
        hub: 0,
        priority: Default::default(),
    };
    let wide = QueueBounds {
        deliveries_max: 0,
        ..bounds
    };
    let small = QueueBounds {
        messages_max: 20,
        deliveries_max: 3,
        ..wide
    };
    let newest = QueueBounds {
        messages_max: 12,
        on_full: OnFull::DropOldest,
        ..wide
    };
    let parts = TableParts {
        epoch: 1,
        queue_groups: 1,
        hubs: vec![hub],
        channels: (0..CHANNELS).map(channel).collect(),
        endpoints: vec![
            endpoint(0, &[0, 1, 2], wide),
            endpoint(1, &[1], wide),
            endpoint(2, &[0, 2], small),
            endpoint(
                3,
                &[0, 1],
                QueueBounds {
                    messages_max: 1,
                    ..small
                },
            ),
            endpoint(4, &[0, 1, 2], newest),
        ],
        accounts: Vec::new(),
        nodes: Vec::new(),
    };
    RouteTable::build(parts).expect("the parts fit together")
}

pub(super) fn queue_limits() -> QueueLimits {
    QueueLimits {
        runs_max: 8,
        record_ops_max: 16,
        batch_ops_max: 24,
        catch_up_records_max: 5,
        snapshot_every_bytes: 8 * 1024,
        snapshot_ops_max: 4,
        ..QueueLimits::default()
    }
}

pub(super) type Recovered = (Vec<Partition<MemorySegment>>, QueueGroup<MemorySegment>);

pub(super) fn recover(storage: &mut MemoryStorage, now: UnixNanos) -> Recovered {
    let partitions: Vec<_> = PARTITIONS
        .iter()
        .map(|&id| {
            let log = LogId::partition(id);
            let (log, _) = Partition::recover(storage, log, log_limits(), now).expect("no faults");
            log
        })
        .collect();
    let ends: Vec<_> = PARTITIONS
        .iter()
        .zip(&partitions)
        .map(|(&partition, log)| LogEnd {
            partition,
            first: log.first(),
            end: log.appended(),
        })
        .collect();
    let (group, report) = QueueGroup::recover(storage, 0, log_limits(), queue_limits(), &ends, now)
        .expect("no faults");
    assert!(!report.incomplete, "{report:?}");
    (partitions, group)
}
