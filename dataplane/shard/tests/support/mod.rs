//! A shard with its disk and clock, and clients that talk to it in the bytes of the protocol. Deterministic:
//! nonces and session ids count up, time moves when a test moves it. This file is the plan: who takes part.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses a part of it"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod changes;
mod client;
mod node;
mod said;
mod world;

pub use client::*;
pub use node::Node;
pub use node::*;
pub use said::*;
pub use world::*;

use wire::ids::*;
use wire::route::*;
use wire::signature::{SecretKey, SigningKey};

pub const SENDER: &str = "acme/prod/pump";
pub const RELAY: &str = "acme/prod/gateway";
pub const SENSOR: &str = "acme/prod/sensor";
pub const RECEIVER: &str = "acme/prod/billing";
pub const CHANNEL: &str = "acme/prod/telemetry";
/// In the same hub, which nobody hears and the sender has no grant for.
pub const OTHER: &str = "acme/prod/other";
/// Wall time when a world begins.
pub const START: u64 = 1_795_262_400;

pub fn secret(number: u8) -> SecretKey {
    SecretKey::from_random([number; 32])
}

pub fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[77; 32])
}

pub fn key(id: u32, direction: Direction, material: KeyMaterial) -> Key {
    Key {
        id: KeyId(id),
        name: format!("key{id}").into(),
        direction,
        material,
        expires: None,
        revoked: false,
    }
}

pub fn grant(channel: &str) -> Grant {
    Grant {
        channel: ChannelId::of(channel),
        restriction: Restriction::default(),
    }
}

pub fn endpoint(name: &str, keys: Vec<Key>, send: Vec<Grant>, receive: Vec<Grant>) -> Endpoint {
    Endpoint {
        id: EndpointId::of(name),
        name: name.into(),
        enabled: true,
        relay: false,
        keys,
        certificates: Vec::new(),
        transports: Default::default(),
        windows: Vec::new(),
        expires: None,
        home: None,
        send,
        receive,
        queue: QueueBounds::default(),
        rates: Default::default(),
    }
}

/// One hub of one partition, two channels, a sender, a relay, a sensor that is relayed, a receiver.
pub fn parts(ack: AckMode) -> TableParts {
    let symmetric = |number| KeyMaterial::Symmetric(secret(number));
    let mut relay = endpoint(
        RELAY,
        vec![key(1, Direction::Ingress, symmetric(3))],
        vec![grant(CHANNEL)],
        vec![],
    );
    relay.relay = true;
    TableParts {
        epoch: 1,
        queue_groups: 1,
        hubs: vec![Hub {
            id: 1,
            name: "acme/prod/main".into(),
            partitions: 1,
            ack,
            segment_bytes: 4 << 20,
            retention_bytes: None,
            retention_age: None,
        }],
        channels: [CHANNEL, OTHER]
            .map(|name| ChannelParts {
                id: ChannelId::of(name),
                name: name.into(),
                hub: 0,
                priority: Default::default(),
            })
            .to_vec(),
        endpoints: vec![
            endpoint(
                SENDER,
                vec![key(1, Direction::Ingress, symmetric(1))],
                vec![grant(CHANNEL)],
                vec![],
            ),
            endpoint(
                RECEIVER,
                vec![key(1, Direction::Egress, symmetric(2))],
                vec![],
                vec![grant(CHANNEL)],
            ),
            relay,
            endpoint(
                SENSOR,
                vec![
                    key(1, Direction::Ingress, symmetric(4)),
                    key(
                        2,
                        Direction::Ingress,
                        KeyMaterial::Ed25519(signing_key().verifying_key().into()),
                    ),
                ],
                vec![grant(CHANNEL)],
                vec![],
            ),
        ],
        accounts: Vec::new(),
        nodes: Vec::new(),
    }
}

/// The endpoint of this name in the parts of a table.
pub fn endpoint_in<'p>(parts: &'p mut TableParts, name: &str) -> &'p mut Endpoint {
    parts
        .endpoints
        .iter_mut()
        .find(|endpoint| *endpoint.name == *name)
        .unwrap()
}
