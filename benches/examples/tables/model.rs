//! What is compiled: endpoints of three grants, in one environment.

use control::model::{
    Account, Ack, Allow, Channel, Direction, Endpoint, Environment, Grant, Hub, Key, Kind, Model,
    Public, Secret,
};
use wire::signature::{SecretKey, SigningKey, verifying_key_to_base64};

use crate::asked;

pub(crate) const CHANNELS: usize = 64;
pub(crate) const SENDERS: usize = 32;

pub(crate) fn name(number: usize) -> String {
    format!("acme/prod/device-{number:07}")
}

pub(crate) fn secret(number: usize) -> SecretKey {
    let mut random = [7; 32];
    random[..8].copy_from_slice(&(number as u64).to_le_bytes());
    SecretKey::from_random(random)
}

fn key(number: usize, direction: Direction) -> Key {
    let sends = direction == Direction::Ingress;
    let mut key = Key {
        id: if sends { 1 } else { 2 },
        name: if sends { "primary" } else { "reader" }.to_owned(),
        direction,
        ..Key::default()
    };
    if sends && asked("FOREBAY_TABLE_ED25519", 0) == 1 && number >= SENDERS {
        let pair = SigningKey::from_bytes(&secret(number).random());
        key.kind = Some(Kind::Ed25519);
        key.public = Some(Public::new(verifying_key_to_base64(&pair.verifying_key())));
    } else {
        key.secret = Some(Secret::new(secret(number).text()));
    }
    key
}

fn endpoint(number: usize) -> Endpoint {
    let grant = |kind: &str, step: usize, allow| Grant {
        channel: format!("{kind}-{}", (number + step) % CHANNELS),
        allow,
        ..Grant::default()
    };
    let keys = [Direction::Ingress, Direction::Egress];
    let keys = keys.into_iter().take(asked("FOREBAY_TABLE_KEYS", 1));
    Endpoint {
        name: name(number),
        keys: keys.map(|direction| key(number, direction)).collect(),
        grants: vec![
            grant("channel", 0, Allow::Send),
            grant("channel", 1, Allow::Send),
            grant("orders", 0, Allow::Receive),
        ],
        ..Endpoint::default()
    }
}

pub(crate) fn model(endpoints: usize) -> Model {
    Model {
        queue_groups: Some(1),
        accounts: vec![Account {
            name: "acme".to_owned(),
            ..Account::default()
        }],
        environments: vec![Environment {
            name: "acme/prod".to_owned(),
        }],
        hubs: vec![Hub {
            name: "acme/prod/default".to_owned(),
            partitions: Some(4),
            ack: Some(Ack::Local),
            ..Hub::default()
        }],
        channels: (0..2 * CHANNELS)
            .map(|number| Channel {
                name: match number.checked_sub(CHANNELS) {
                    None => format!("acme/prod/channel-{number}"),
                    Some(number) => format!("acme/prod/orders-{number}"),
                },
                ..Channel::default()
            })
            .collect(),
        endpoints: (0..endpoints).map(endpoint).collect(),
        ..Model::default()
    }
}
