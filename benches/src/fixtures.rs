//! Frames, keys and a route table of production size, made from fixed numbers.

use wire::ids::{AckMode, ChannelId, Direction, EndpointId, KeyId, Sequence, SessionId, UnixNanos};
use wire::route::{
    ChannelParts, Endpoint, Grant, Hub, Key, KeyMaterial, QueueBounds, Restriction, RouteTable,
    TableParts,
};
use wire::send::SendBuilder;
use wire::signature::{SecretKey, SessionKeys, Signer};

/// Bytes of a message's body in every bench unless its name says otherwise.
pub const BODY_BYTES: usize = 100;
/// Messages in one frame, as a lone sensor, a gateway and a bulk sender have them.
pub const MESSAGES_PER_FRAME: [u16; 3] = [1, 16, 256];
/// The endpoint that sends, where there is no route table.
pub const SENDER: EndpointId = EndpointId(0x1234_5678_9abc_def0);
/// The channel that everybody sends to.
pub const CHANNEL: ChannelId = ChannelId(0x0bad_cafe);
/// The hub it is in.
pub const HUB: u16 = 7;

/// The session keys of a handshake with fixed nonces.
pub fn session_keys() -> SessionKeys {
    SessionKeys::derive(b"bench", &[1; 32], &[2; 32], SessionId([3; 16]), &[])
}

/// Append one SEND frame of `messages` bodies, signed as frame `index` of its connection.
pub fn put_frame(out: &mut Vec<u8>, keys: &SessionKeys, index: u64, messages: u16) {
    let signer = Signer::Session {
        key: &keys.client,
        frame_index: index,
    };
    put(out, SENDER, Sequence(index + 1), messages, signer);
}

/// Append one SEND frame of `messages` bodies.
pub(crate) fn put(
    out: &mut Vec<u8>,
    sender: EndpointId,
    sequence: Sequence,
    messages: u16,
    signer: Signer<'_>,
) {
    let mut send = SendBuilder::begin(out, sender, CHANNEL, sequence);
    for _ in 0..messages {
        send.message(UnixNanos(1), &[], &[0x5a; BODY_BYTES])
            .expect("the body is within every limit");
    }
    send.finish(signer).expect("the frame has messages");
}

/// The full name of a sender.
pub fn sender(number: usize) -> String {
    format!("plant/main/sender-{number}")
}

/// The full name of a receiver.
pub fn receiver(number: usize) -> String {
    format!("plant/main/receiver-{number}")
}

/// The one secret of every endpoint.
pub fn secret() -> SecretKey {
    SecretKey::from_random([7; 32])
}

/// A table in which `senders` may send to the channel and `receivers` hear it. One hub of `partitions`
/// partitions with ack mode `local`, one queue group.
pub fn table(partitions: u16, senders: usize, receivers: usize) -> RouteTable {
    let hub = Hub {
        id: HUB,
        name: "plant/main/hub".into(),
        partitions,
        ack: AckMode::Local,
        segment_bytes: 64 << 20,
        retention_bytes: None,
        retention_age: None,
    };
    let channel = ChannelParts {
        id: CHANNEL,
        name: "plant/main/telemetry".into(),
        hub: 0,
        priority: Default::default(),
    };
    let senders = (0..senders).map(|number| endpoint(sender(number), Direction::Ingress));
    let receivers = (0..receivers).map(|number| endpoint(receiver(number), Direction::Egress));
    let parts = TableParts {
        epoch: 1,
        queue_groups: 1,
        hubs: vec![hub],
        channels: vec![channel],
        endpoints: senders.chain(receivers).collect(),
        accounts: Vec::new(),
        nodes: Vec::new(),
    };
    RouteTable::build(parts).expect("the parts fit together")
}

/// A table in which so many senders may send to three channels each, [`CHANNEL`] among them, as large fleets have it.
pub fn wide_table(senders: usize) -> RouteTable {
    let channel = |step: u32| ChannelParts {
        id: ChannelId(CHANNEL.0 + step),
        name: format!("plant/main/telemetry-{step}").into(),
        hub: 0,
        priority: Default::default(),
    };
    let sends = |number| {
        let mut endpoint = endpoint(sender(number), Direction::Ingress);
        endpoint.send = (0..3)
            .map(|step| Grant {
                channel: ChannelId(CHANNEL.0 + step),
                restriction: Restriction::default(),
            })
            .collect();
        endpoint
    };
    let small = table(16, 0, 0);
    let parts = TableParts {
        epoch: 1,
        queue_groups: 1,
        hubs: small.hubs().to_vec(),
        channels: (0..3).map(channel).collect(),
        endpoints: (0..senders).map(sends).collect(),
        accounts: Vec::new(),
        nodes: Vec::new(),
    };
    RouteTable::build(parts).expect("the parts fit together")
}

fn endpoint(name: String, direction: Direction) -> Endpoint {
    let key = Key {
        id: KeyId(1),
        name: "primary".into(),
        direction,
        material: KeyMaterial::Symmetric(secret()),
        expires: None,
        revoked: false,
    };
    let grants = vec![Grant {
        channel: CHANNEL,
        restriction: Restriction::default(),
    }];
    let (send, receive) = match direction {
        Direction::Ingress => (grants, Vec::new()),
        Direction::Egress => (Vec::new(), grants),
    };
    Endpoint {
        id: EndpointId::of(&name),
        name: name.into(),
        enabled: true,
        relay: false,
        keys: vec![key],
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
