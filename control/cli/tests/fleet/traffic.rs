//! Messages that are counted by who sends them, and what a receiver has read of them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{ClientError, Connection, Credentials, Delivery, Options};
use wire::ids::EndpointId;

use super::world::Way;

/// Open a session over this way; `patience` is for how long a lost connection is made anew.
pub(crate) async fn session(
    way: &Way,
    credentials: Credentials,
    patience: Duration,
) -> Result<Connection, ClientError> {
    let options = Options {
        reconnect_for: patience,
        // A busy machine takes its time.
        handshake_timeout: Duration::from_secs(60),
        transport: way.transport.clone(),
        ..Options::default()
    };
    client::connect_with(way.address.clone(), credentials, options).await
}

/// What a key of this endpoint opens.
pub(crate) fn by_key(name: &str, id: u32, secret: &str) -> Credentials {
    Credentials::key(name, id, secret).expect("a key")
}

/// The body with this number.
pub(crate) fn body(number: u64) -> Vec<u8> {
    let mut body = vec![7; 100];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body
}

/// The code of a fault.
pub(crate) fn code(error: &ClientError) -> u16 {
    error.diagnosis().code
}

/// Now, in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_nanos()).expect("before 2554")
}

/// What was read of each sender: everything once, in order.
#[derive(Default)]
pub(crate) struct Books {
    /// The number that each sender's next message has, and when the node took the last one.
    pub(crate) senders: BTreeMap<EndpointId, (u64, u64)>,
    pub(crate) count: u64,
}

impl Books {
    /// Note a message. It has to be its sender's next one.
    pub(crate) fn note(&mut self, delivery: &Delivery) {
        let next = self.senders.entry(delivery.sender).or_default();
        let number = delivery.body[..8].try_into().expect("8 bytes");
        assert_eq!(
            u64::from_le_bytes(number),
            next.0,
            "of {}, in order and once",
            delivery.sender
        );
        *next = (next.0 + 1, delivery.append_time.0);
        self.count += 1;
    }

    /// How many came of this sender, and when the node took the last one.
    pub(crate) fn of(&self, sender: &str) -> (u64, u64) {
        let sender = EndpointId::of(sender);
        self.senders.get(&sender).copied().unwrap_or_default()
    }
}
