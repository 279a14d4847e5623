//! Route tables out of any parts: refused, or a table that finds everything in it and nothing else.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;
use wire::route::{
    Account, ChannelParts, Endpoint, Grant, Hub, Key, KeyMaterial, Node, QueueBounds, Rates, Restriction,
    RouteTable, TableParts,
};
use wire::signature::{SecretKey, SigningKey};
use wire::{AckMode, ChannelId, Direction, EndpointId, KeyId, NodeId};

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

/// The input as a run of small numbers; zeros when it has ended.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn name(&mut self) -> Box<str> {
        let bytes = usize::from(self.next() % 4);
        (0..bytes)
            .map(|_| char::from(b'a' + self.next() % 3))
            .collect()
    }

    fn some<T>(&mut self, most: u8, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.next() % most;
        (0..count).map(|_| make(self)).collect()
    }

    fn grant(&mut self) -> Grant {
        Grant {
            channel: ChannelId(u32::from(self.next() % 8)),
            restriction: Restriction::default(),
        }
    }

    fn key(&mut self) -> Key {
        let symmetric = self.next() % 2 == 0;
        let material = if symmetric {
            KeyMaterial::Symmetric(SecretKey::from_random([7; 32]))
        } else {
            KeyMaterial::Ed25519(SigningKey::from_bytes(&[7; 32]).verifying_key().into())
        };
        let ingress = self.next() % 2 == 0;
        Key {
            id: KeyId(u32::from(self.next() % 4)),
            name: self.name(),
            direction: if ingress {
                Direction::Ingress
            } else {
                Direction::Egress
            },
            material,
            expires: None,
            revoked: self.next() % 2 == 0,
        }
    }

    fn endpoint(&mut self) -> Endpoint {
        Endpoint {
            id: EndpointId(u64::from(self.next() % 16)),
            name: self.name(),
            enabled: self.next() % 2 == 0,
            relay: self.next() % 2 == 0,
            keys: self.some(4, Self::key),
            certificates: Vec::new(),
            transports: Default::default(),
            windows: Vec::new(),
            expires: None,
            home: Some(NodeId(u32::from(self.next() % 8))).filter(|home| home.0 < 5),
            send: self.some(5, Self::grant),
            receive: self.some(5, Self::grant),
            queue: QueueBounds::default(),
            rates: self.rates(),
        }
    }

    fn rates(&mut self) -> Rates {
        let messages = u32::from(self.next() % 4);
        let bytes = u64::from(self.next() % 4);
        Rates {
            messages_per_second: (messages < 3).then_some(messages),
            bytes_per_second: (bytes < 3).then_some(bytes),
        }
    }

    fn account(&mut self) -> Account {
        Account {
            name: self.name(),
            rates: self.rates(),
        }
    }

    fn hub(&mut self) -> Hub {
        let id = self.next();
        Hub {
            id: if id == 0xFF {
                u16::MAX
            } else {
                u16::from(id % 4)
            },
            name: self.name(),
            partitions: u16::from(self.next() % 5),
            ack: AckMode::Durable,
            segment_bytes: 1 << 20,
            retention_bytes: None,
            retention_age: None,
        }
    }

    fn node(&mut self) -> Node {
        let address = self.next() % 4;
        Node {
            id: NodeId(u32::from(self.next() % 5)),
            name: self.name(),
            address: (address > 0).then(|| format!("host:{}", address - 1).into()),
        }
    }

    fn channel(&mut self) -> ChannelParts {
        ChannelParts {
            id: ChannelId(u32::from(self.next() % 8)),
            name: self.name(),
            hub: u16::from(self.next() % 3),
            priority: Default::default(),
        }
    }
}

fn check(data: &[u8]) {
    let mut numbers = Numbers(data);
    let parts = TableParts {
        epoch: u64::from(numbers.next()),
        queue_groups: u16::from(numbers.next() % 5),
        hubs: numbers.some(4, Numbers::hub),
        channels: numbers.some(8, Numbers::channel),
        endpoints: numbers.some(10, Numbers::endpoint),
        accounts: numbers.some(4, Numbers::account),
        nodes: numbers.some(4, Numbers::node),
    };
    let Ok(table) = RouteTable::build(parts.clone()) else {
        return;
    };
    assert_eq!(table.endpoint_count(), parts.endpoints.len());
    assert_eq!(table.channels().len(), parts.channels.len());
    for endpoint in &parts.endpoints {
        let found = table.endpoint(endpoint.id).expect("it is in the table");
        assert_eq!((found.id, found.name()), (endpoint.id, &*endpoint.name));
        assert!(table.queue_group_of(endpoint.id) < table.queue_groups());
        let home = found.home().map(|home| table.node(home).is_some());
        assert_eq!((found.home(), home), (endpoint.home, home.and(Some(true))));
        for grant in &endpoint.send {
            let channel = table.channel(grant.channel).expect("grants name channels");
            let partition = table.partition_of(endpoint.id, channel);
            let hub = table.hub_of_partition(partition).expect("of its hub");
            assert_eq!(hub, table.hub_of(channel));
            assert!(partition.number() < hub.partitions);
            let granted = found.send_grant(grant.channel);
            assert_eq!(
                granted.map(|found| found.restriction),
                Some(&grant.restriction)
            );
        }
    }
    for channel in table.channels() {
        for subscriber in table.subscribers(channel.id) {
            let endpoint = table.endpoint_at(subscriber);
            assert!(endpoint.receive_grant(channel.id).is_some());
        }
        assert!(table.subscribers(channel.id).is_sorted());
    }
    let known = |id| parts.endpoints.iter().any(|endpoint| endpoint.id == id);
    for id in (0..16).map(EndpointId) {
        assert_eq!(table.endpoint(id).is_some(), known(id));
    }
}
