//! The route table refuses contradictions and finds what it holds.

use wire::route::{
    ChannelParts, Endpoint, Grant, Hub, Key, KeyMaterial, QueueBounds, Restriction, RouteTable,
};
use wire::route::{TableError, TableParts};
use wire::{AckMode, ChannelId, Direction, EndpointId, KeyId, PartitionId};

use crate::parties::{ed25519, sender_secret};
use crate::tables::together;

fn hub(id: u16, name: &str, partitions: u16) -> Hub {
    Hub {
        id,
        name: name.into(),
        partitions,
        ack: AckMode::Durable,
        segment_bytes: 1 << 26,
        retention_bytes: None,
        retention_age: None,
    }
}

fn channel(id: u32, name: &str, hub: u16) -> ChannelParts {
    ChannelParts {
        id: ChannelId(id),
        name: name.into(),
        hub,
        priority: Default::default(),
    }
}

fn grant(channel: u32) -> Grant {
    Grant {
        channel: ChannelId(channel),
        restriction: Restriction::default(),
    }
}

fn endpoint(id: u64, name: &str, send: &[u32], receive: &[u32]) -> Endpoint {
    Endpoint {
        id: EndpointId(id),
        name: name.into(),
        enabled: true,
        relay: false,
        keys: Vec::new(),
        certificates: Vec::new(),
        transports: Default::default(),
        windows: Vec::new(),
        expires: None,
        home: None,
        send: send.iter().copied().map(grant).collect(),
        receive: receive.iter().copied().map(grant).collect(),
        queue: QueueBounds::default(),
        rates: Default::default(),
    }
}

fn key(id: u32, name: &str, direction: Direction) -> Key {
    let material = KeyMaterial::Symmetric(sender_secret());
    Key {
        id: KeyId(id),
        name: name.into(),
        direction,
        material,
        expires: None,
        revoked: false,
    }
}

pub(crate) fn parts() -> TableParts {
    TableParts {
        epoch: 7,
        queue_groups: 4,
        hubs: vec![hub(3, "a/b/main", 16), hub(9, "a/b/side", 1)],
        channels: vec![
            channel(30, "a/b/z", 1),
            channel(20, "a/b/y", 0),
            channel(10, "a/b/x", 0),
        ],
        endpoints: vec![
            endpoint(102, "a/b/two", &[20, 10, 30], &[]),
            endpoint(105, "a/b/five", &[], &[30, 10]),
            endpoint(101, "a/b/one", &[], &[10]),
        ],
        accounts: Vec::new(),
        nodes: Vec::new(),
    }
}

#[test]
fn the_table_finds_what_it_holds_and_nothing_else() {
    let table = RouteTable::build(parts()).expect("no contradiction");
    assert_eq!((table.epoch(), table.queue_groups()), (7, 4));
    assert_eq!(table.endpoint_count(), 3);
    for (at, endpoint) in table.endpoints().enumerate() {
        assert_eq!(table.endpoint(endpoint.id), Some(endpoint));
        assert_eq!(table.endpoint_index(endpoint.id), Some(at as u32));
        assert_eq!(table.endpoint_at(at as u32), endpoint);
        assert_eq!(table.endpoint_by_name(endpoint.name()), Some(endpoint));
    }
    for channel in table.channels() {
        assert_eq!(table.channel(channel.id), Some(channel));
    }
    assert_eq!(table.endpoint(EndpointId(0)), None);
    assert_eq!(table.endpoint_by_name("a/b/none"), None);
    assert_eq!(table.channel(ChannelId(0)), None);
}

#[test]
fn grants_are_sorted_and_subscribers_follow_from_them() {
    let table = RouteTable::build(parts()).expect("no contradiction");
    let two = table.endpoint_by_name("a/b/two").expect("it is there");
    assert!(two.send.iter().is_sorted_by_key(|grant| grant.channel));
    assert!(two.send_grant(ChannelId(20)).is_some());
    assert!(two.send_grant(ChannelId(21)).is_none());
    assert!(two.receive_grant(ChannelId(20)).is_none());
    let hearers = |id| {
        let subscribers = table.subscribers(ChannelId(id));
        let names = subscribers.map(|at| table.endpoint_at(at).name());
        names.collect::<Vec<_>>()
    };
    assert_eq!(hearers(10), ["a/b/five", "a/b/one"]);
    assert_eq!(hearers(20), [""; 0]);
    assert_eq!(hearers(30), ["a/b/five"]);
}

#[test]
fn an_endpoint_keeps_one_partition_in_each_hub() {
    let table = RouteTable::build(parts()).expect("no contradiction");
    let at = |endpoint, channel| {
        let channel = table.channel(ChannelId(channel)).expect("it is there");
        table.partition_of(EndpointId(endpoint), channel)
    };
    assert_eq!(at(102, 10), PartitionId::new(3, 102 % 16));
    assert_eq!(at(102, 20), at(102, 10));
    assert_eq!(at(102, 30), PartitionId::new(9, 0));
    let partitions: Vec<_> = table
        .partitions()
        .map(|(id, hub)| (id, &*hub.name))
        .collect();
    assert_eq!(partitions.len(), 17);
    assert_eq!(partitions[16], (PartitionId::new(9, 0), "a/b/side"));
    for (id, name) in partitions {
        assert_eq!(table.hub_of_partition(id).map(|hub| &*hub.name), Some(name));
    }
    assert!(table.hub_of_partition(PartitionId::new(3, 16)).is_none());
    assert!(table.queue_group_of(EndpointId(u64::MAX)) < 4);
}

#[test]
fn contradictions_are_refused_by_name() {
    type Change = fn(&mut TableParts);
    let long = "x".repeat(256);
    let rows: [(&str, Change, TableError); 16] = [
        (
            "no queue group",
            |parts| parts.queue_groups = 0,
            TableError::NoQueueGroups,
        ),
        (
            "no partition",
            |parts| parts.hubs[0].partitions = 0,
            TableError::Hub("a/b/main".into()),
        ),
        (
            "reserved hub id",
            |parts| parts.hubs[1].id = 0xFFFF,
            TableError::Hub("a/b/side".into()),
        ),
        (
            "hub ids",
            |parts| parts.hubs[1].id = 3,
            TableError::IdTwice("hubs", "a/b/main".into(), "a/b/side".into(), 3),
        ),
        (
            "hub names",
            |parts| parts.hubs[1].name = "a/b/main".into(),
            TableError::NameTwice("hubs", "a/b/main".into()),
        ),
        (
            "no hub",
            |parts| parts.channels[0].hub = 2,
            TableError::NoHub("a/b/z".into()),
        ),
        (
            "channel ids",
            |parts| parts.channels[0].id = ChannelId(10),
            TableError::IdTwice("channels", "a/b/x".into(), "a/b/z".into(), 10),
        ),
        (
            "channel names",
            |parts| parts.channels[0].name = "a/b/x".into(),
            TableError::NameTwice("channels", "a/b/x".into()),
        ),
        (
            "endpoint ids",
            |parts| parts.endpoints[0].id = EndpointId(101),
            TableError::IdTwice("endpoints", "a/b/one".into(), "a/b/two".into(), 101),
        ),
        (
            "endpoint names",
            |parts| parts.endpoints[0].name = "a/b/one".into(),
            TableError::NameTwice("endpoints", "a/b/one".into()),
        ),
        (
            "long name",
            |parts| parts.endpoints[0].name = "x".repeat(256).into(),
            TableError::Name(long.into()),
        ),
        (
            "no channel",
            |parts| parts.endpoints[0].send.push(grant(11)),
            TableError::NoChannel("a/b/two".into(), ChannelId(11)),
        ),
        (
            "two grants",
            |parts| parts.endpoints[1].receive.push(grant(10)),
            TableError::GrantTwice("a/b/five".into(), ChannelId(10)),
        ),
        (
            "key ids",
            |parts| {
                parts.endpoints[0].keys = vec![
                    key(1, "a", Direction::Ingress),
                    key(1, "b", Direction::Ingress),
                ]
            },
            TableError::Keys("a/b/two".into()),
        ),
        (
            "key 0",
            |parts| parts.endpoints[0].keys = vec![key(0, "a", Direction::Ingress)],
            TableError::Keys("a/b/two".into()),
        ),
        (
            "a public key for a queue",
            |parts| {
                let material = KeyMaterial::Ed25519(ed25519().verifying_key().into());
                parts.endpoints[0].keys = vec![Key {
                    material,
                    ..key(1, "a", Direction::Egress)
                }];
            },
            TableError::EgressKey("a/b/two".into()),
        ),
    ];
    for (why, change, want) in rows {
        let mut parts = parts();
        change(&mut parts);
        assert_eq!(
            RouteTable::build(parts).map(|_| ()).expect_err(why),
            want,
            "{why}"
        );
    }
}

#[test]
fn a_table_that_lies_in_large_pages_says_what_it_says_elsewhere() {
    let name = |number: u64| format!("a/e/{number:0200}");
    let endpoints = (0..20_000).map(|number| {
        let mut sender = endpoint(number, &name(number), &[1], &[]);
        sender.keys = vec![key(1, "one", Direction::Ingress)];
        sender
    });
    let parts = TableParts {
        epoch: 1,
        queue_groups: 1,
        hubs: vec![hub(1, "a/e/hub", 5)],
        channels: vec![channel(1, "a/e/channel", 0)],
        endpoints: endpoints.collect(),
        accounts: Vec::new(),
        nodes: Vec::new(),
    };
    let built = RouteTable::build(parts).expect("the parts fit together");
    let bytes = built.encode();
    assert!(bytes.len() > 5 << 20, "{} bytes", bytes.len());
    let read = RouteTable::read(bytes.to_vec().into()).expect("as it was written");
    assert_eq!(read.encode()[..], bytes[..]);
    let ids: Vec<EndpointId> = (0..20_500).map(EndpointId).collect();
    for table in [&built, &read] {
        together(table, &ids);
        for number in [0, 1, 9_999, 19_999] {
            let found = table.endpoint(EndpointId(number)).expect("it is there");
            assert_eq!(found.name(), name(number));
            assert_eq!(found.keys.at(0).secret(), Some(sender_secret()));
            assert!(found.send_grant(ChannelId(1)).is_some());
        }
        assert!(table.endpoint(EndpointId(20_000)).is_none());
    }
}
