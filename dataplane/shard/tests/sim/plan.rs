//! Who takes part: endpoints, keys, channels and grants, and the tables that change while all runs.

use std::sync::LazyLock;
use std::time::Duration;

use wire::ids::{AckMode, ChannelId, Direction, EndpointId, KeyId, PartitionId};
use wire::route::{
    ChannelParts, Endpoint, Grant, Hub, Key, KeyMaterial, OnFull, QueueBounds, Restriction,
    RouteTable, TableParts,
};
use wire::signature::{SecretKey, SigningKey};

/// Partitions of the hub that acknowledges durably; no multiple of the groups, so that an endpoint's log and queue lie on
/// different shards as a rule.
pub(crate) const DURABLE_PARTITIONS: u16 = 4;
pub(crate) const GROUPS: u16 = 3;
pub(crate) const PARTITIONS: [PartitionId; 6] = [
    PartitionId::new(1, 0),
    PartitionId::new(1, 1),
    PartitionId::new(1, 2),
    PartitionId::new(1, 3),
    PartitionId::new(2, 0),
    PartitionId::new(3, 0),
];

/// Where frames of this sender for this channel go.
pub(crate) fn partition_of(sender: EndpointId, channel: ChannelId) -> PartitionId {
    match channel {
        LOCAL => PartitionId::new(2, 0),
        FAR => PartitionId::new(3, 0),
        _ => {
            let number = sender.0 % u64::from(DURABLE_PARTITIONS);
            PartitionId::new(1, number as u16)
        }
    }
}
/// Channels; the last two lie in hubs of their own, one of which acknowledges locally. On several shards senders have at
/// least one of the three hubs elsewhere as a rule.
pub(crate) const CHANNELS: [ChannelId; 5] = [
    ChannelId(1),
    ChannelId(2),
    ChannelId(3),
    ChannelId(4),
    ChannelId(5),
];
/// A channel that senders have no grant for.
pub(crate) const FORBIDDEN: ChannelId = CHANNELS[2];
pub(crate) const LOCAL: ChannelId = CHANNELS[3];
pub(crate) const FAR: ChannelId = CHANNELS[4];
/// Longest body that the restricted grant on the second channel lets through.
pub(crate) const BODY_BYTES_MAX: u32 = 60;

pub(crate) const SENDERS: [&str; 3] = ["acme/sim/pump", "acme/sim/valve", "acme/sim/gauge"];
pub(crate) const DEVICES: [&str; 2] = ["acme/sim/hmac-device", "acme/sim/ed25519-device"];
pub(crate) const BEACON: &str = "acme/sim/beacon";
pub(crate) const RELAY: &str = "acme/sim/relay";
pub(crate) const RECEIVERS: [&str; 5] = [
    "acme/sim/archive",
    "acme/sim/narrow",
    "acme/sim/clumsy",
    "acme/sim/guest",
    "acme/sim/newest",
];
/// Index of the receiver whose grants come and go.
pub(crate) const GUEST: usize = 3;
/// Index of the receiver that keeps only the newest messages.
pub(crate) const NEWEST: usize = 4;

/// What changes from table to table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) guest_hears: [bool; 2],
    pub(crate) valve_sends: bool,
    pub(crate) gauge_revoked: bool,
}

impl Rules {
    pub(crate) const CALM: Self = Self {
        guest_hears: [true, true],
        valve_sends: true,
        gauge_revoked: false,
    };
}

pub(crate) fn key_of(name: &str, direction: Direction) -> SecretKey {
    let mut random = [direction as u8; 32];
    random[..8].copy_from_slice(&EndpointId::of(name).0.to_le_bytes());
    SecretKey::from_random(random)
}

/// The key of the device that signs with Ed25519; made once, as that takes as long as many turns.
pub(crate) fn signing_key() -> SigningKey {
    static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[42; 32]));
    KEY.clone()
}

pub(crate) fn hears(receiver: usize) -> &'static [ChannelId] {
    match receiver {
        1 => &CHANNELS[..1],
        2 => &CHANNELS[1..],
        _ => &CHANNELS,
    }
}

fn grants(channels: &[ChannelId]) -> Vec<Grant> {
    channels
        .iter()
        .map(|&channel| Grant {
            channel,
            restriction: Restriction::default(),
        })
        .collect()
}

fn endpoint(name: &str) -> Endpoint {
    let key = |direction| Key {
        id: KeyId(direction as u32),
        name: format!("key-{}", direction as u8).into(),
        direction,
        material: KeyMaterial::Symmetric(key_of(name, direction)),
        expires: None,
        revoked: false,
    };
    Endpoint {
        id: EndpointId::of(name),
        name: name.into(),
        enabled: true,
        relay: false,
        keys: vec![key(Direction::Ingress), key(Direction::Egress)],
        certificates: Vec::new(),
        transports: Default::default(),
        windows: Vec::new(),
        expires: None,
        home: None,
        send: Vec::new(),
        receive: Vec::new(),
        queue: QueueBounds::default(),
        rates: Default::default(),
    }
}

fn sender(name: &str, rules: &Rules) -> Endpoint {
    let mut endpoint = endpoint(name);
    endpoint.send = grants(&[CHANNELS[0], CHANNELS[1], LOCAL, FAR]);
    if name == SENDERS[0] {
        endpoint.send[1].restriction.body_bytes_max = Some(BODY_BYTES_MAX);
    }
    if name == SENDERS[1] && !rules.valve_sends {
        // What it may send to first is elsewhere then, and so are its next sessions.
        endpoint.send.drain(..2);
    }
    if name == SENDERS[2] {
        endpoint.keys[0].revoked = rules.gauge_revoked;
    }
    if name == DEVICES[1] {
        endpoint.keys[0].material = KeyMaterial::Ed25519(signing_key().verifying_key().into());
    }
    endpoint
}

fn receiver(at: usize, rules: &Rules) -> Endpoint {
    let mut endpoint = endpoint(RECEIVERS[at]);
    endpoint.receive = grants(hears(at));
    endpoint.queue.lock = Duration::from_secs(5);
    endpoint.queue.deliveries_max = 0;
    match at {
        // Messages that are lost from sight stay lost: no lock brings them back in time.
        0 => endpoint.queue.lock = Duration::from_secs(100_000),
        1 => endpoint.queue.messages_max = 6,
        2 => endpoint.queue.deliveries_max = 3,
        GUEST => endpoint.receive.retain(|grant| {
            let place = CHANNELS[..2]
                .iter()
                .position(|&channel| channel == grant.channel);
            place.is_none_or(|place| rules.guest_hears[place])
        }),
        _ => {
            endpoint.queue.messages_max = 8;
            endpoint.queue.on_full = OnFull::DropOldest;
        }
    }
    endpoint
}

fn hub(id: u16, partitions: u16, ack: AckMode) -> Hub {
    Hub {
        id,
        name: format!("hub-{id}").into(),
        partitions,
        ack,
        segment_bytes: 64 * 1024,
        retention_bytes: None,
        retention_age: None,
    }
}

pub(crate) fn table(epoch: u64, rules: &Rules) -> RouteTable {
    let channel = |&id: &ChannelId| ChannelParts {
        id,
        name: format!("acme/sim/channel-{}", id.0).into(),
        hub: match id {
            LOCAL => 1,
            FAR => 2,
            _ => 0,
        },
        priority: Default::default(),
    };
    let mut endpoints: Vec<_> = SENDERS
        .iter()
        .chain(&DEVICES)
        .chain(&[BEACON])
        .map(|name| sender(name, rules))
        .collect();
    endpoints.extend((0..RECEIVERS.len()).map(|at| receiver(at, rules)));
    endpoints.push(Endpoint {
        relay: true,
        ..endpoint(RELAY)
    });
    let parts = TableParts {
        epoch,
        queue_groups: GROUPS,
        hubs: vec![
            hub(1, DURABLE_PARTITIONS, AckMode::Durable),
            hub(2, 1, AckMode::Local),
            hub(3, 1, AckMode::Durable),
        ],
        channels: CHANNELS.iter().map(channel).collect(),
        endpoints,
        accounts: Vec::new(),
        nodes: Vec::new(),
    };
    RouteTable::build(parts).expect("the plan fits together")
}
