//! The fixed parties of all golden bytes: their names, keys, nonces and sessions.

use wire::handshake::{WelcomeEntry, WelcomeFields};
use wire::signature::{MacKey, SecretKey, SessionKeys, SigningKey};
use wire::{
    AckMode, ChannelId, Direction, EndpointId, KeyId, LogsId, PartitionId, Sequence, SessionId,
    UnixNanos,
};

/// Header pairs.
pub(crate) type Pairs<'a> = &'a [(&'a str, &'a [u8])];
/// A message to be: its headers, its body.
pub(crate) type Content<'a> = (Pairs<'a>, &'a [u8]);

pub(crate) const SENDER: &str = "acme/prod/pump-7";
pub(crate) const RECEIVER: &str = "acme/prod/billing";
pub(crate) const CHANNEL: &str = "acme/prod/telemetry";
pub(crate) const HUB: u16 = 0x0001;
pub(crate) const SENDER_KEY: KeyId = KeyId(1);
pub(crate) const RECEIVER_KEY_NAME: &str = "primary";
/// 2026-11-21T12:00:00Z.
pub(crate) const NOW: u64 = 1_795_262_400;

/// 32 bytes that count up from `first`.
pub(crate) fn counting(first: u8) -> [u8; 32] {
    std::array::from_fn(|at| first.wrapping_add(at as u8))
}

pub(crate) fn sender_secret() -> SecretKey {
    SecretKey::from_random(counting(0x00))
}

pub(crate) fn receiver_secret() -> SecretKey {
    SecretKey::from_random(counting(0x20))
}

pub(crate) fn ed25519() -> SigningKey {
    SigningKey::from_bytes(&counting(0x40))
}

pub(crate) fn sender() -> EndpointId {
    EndpointId::of(SENDER)
}

pub(crate) fn channel() -> ChannelId {
    ChannelId::of(CHANNEL)
}

/// The sender's partition in a hub of 4.
pub(crate) fn partition() -> PartitionId {
    PartitionId::new(HUB, (sender().0 % 4) as u16)
}

/// One connection: its nonces, its session, its credential's secret.
pub(crate) struct Connection {
    pub(crate) client_nonce: [u8; 32],
    pub(crate) server_nonce: [u8; 32],
    pub(crate) session: SessionId,
    pub(crate) secret: Vec<u8>,
    /// That of the tunnel; empty on a plain connection.
    pub(crate) exporter: Vec<u8>,
    pub(crate) keys: SessionKeys,
}

impl Connection {
    pub(crate) fn new(client: u8, server: u8, session: u8, secret: Vec<u8>) -> Self {
        let (client_nonce, server_nonce) = (counting(client), counting(server));
        let session = SessionId([session; 16]);
        Self::with(client_nonce, server_nonce, session, secret, Vec::new())
    }

    fn with(
        client_nonce: [u8; 32],
        server_nonce: [u8; 32],
        session: SessionId,
        secret: Vec<u8>,
        exporter: Vec<u8>,
    ) -> Self {
        let keys = SessionKeys::derive(&secret, &client_nonce, &server_nonce, session, &exporter);
        Self {
            client_nonce,
            server_nonce,
            session,
            secret,
            exporter,
            keys,
        }
    }

    /// The sender's, opened with its key.
    pub(crate) fn ingress() -> Self {
        Self::new(0x60, 0x80, 0xA1, sender_secret().text_bytes().to_vec())
    }

    /// The receiver's, opened with a token that leaves its signature out.
    pub(crate) fn egress() -> Self {
        let key = MacKey::new(receiver_secret().text_bytes());
        let token = receiver_token();
        let token = wire::token::Token::parse(&token).expect("our own token");
        Self::new(0xA0, 0xC0, 0xB2, token.expected_signature(&key).to_vec())
    }

    /// The sender's, opened with its key in a tunnel.
    pub(crate) fn tunnelled() -> Self {
        let secret = sender_secret().text_bytes().to_vec();
        let (client, server) = (counting(0x10), counting(0x30));
        let exporter = counting(0xE0).to_vec();
        Self::with(client, server, SessionId([0xC3; 16]), secret, exporter)
    }

    pub(crate) fn welcome(&self, name: &str, direction: Direction) -> WelcomeFields {
        WelcomeFields {
            epoch: 7,
            session_id: self.session,
            server_nonce: self.server_nonce,
            endpoint: EndpointId::of(name),
            unix_nanos: UnixNanos::from_seconds(NOW),
            frame_bytes_max: 524_288,
            body_bytes_max: 262_144,
            messages_max: 4_096,
            shards: 2,
            home_shard: 1,
            direction,
            credit_frames: 64,
            credit_bytes: 8_388_608,
            idle_timeout_ms: 60_000,
            linger_ms: 30_000,
            logs: LogsId(0x1095_1095_1095_1095),
        }
    }
}

/// A token of the receiver's for itself, good for an hour, without `sig`.
pub(crate) fn receiver_token() -> String {
    let resource = "sb%3a%2f%2fforebay.example%2facme%2fprod%2fbilling";
    format!(
        "SharedAccessSignature sr={resource}&se={}&skn={RECEIVER_KEY_NAME}",
        NOW + 3_600
    )
}

pub(crate) fn ingress_entry() -> WelcomeEntry<'static> {
    WelcomeEntry {
        channel: channel(),
        partition: partition(),
        last_sequence: Sequence(0),
        ack_mode: AckMode::Durable,
        name: CHANNEL,
    }
}

pub(crate) fn egress_entry() -> WelcomeEntry<'static> {
    WelcomeEntry {
        partition: PartitionId(0),
        ..ingress_entry()
    }
}
