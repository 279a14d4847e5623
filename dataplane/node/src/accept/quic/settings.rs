//! What all shards of a node share of QUIC: certificate, keys of tokens and resets, bounds. Made once, before any shard begins.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::rustls::NoInitialCipherSuite;
use quinn_proto::crypto::{CryptoError, HmacKey};
use quinn_proto::{
    AckFrequencyConfig, EndpointConfig, ServerConfig, TransportConfig, VarInt, congestion,
};

use wire::signature::{MacKey, TAG_BYTES};

use super::UNUSED;
use super::admission::AdmissionLimits;
use super::cids::{Draw, ShardIds};
use super::session::Sessions;

/// Packets after which a peer is asked to acknowledge, and how long it may wait with that.
const ACK_AFTER: u32 = 10;
const ACK_DELAY: Duration = Duration::from_millis(20);
/// What the key of resets is made with, and how often one is sent at most: a fleet asks at once after a restart.
const RESET_LABEL: &[u8] = b"forebay quic reset 1";
const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes on the way from a client that nobody knows yet, and to it: a HELLO, what little follows, and the answer.
pub(super) const STRANGER_WINDOW: u32 = 16 << 10;
pub(super) const STRANGER_SEND_WINDOW: u64 = 16 << 10;
/// From and to one that has a session; `QuicLimits::known_window` and the last one are for the first of these.
pub(super) const KNOWN_WINDOW: u32 = 64 << 10;
pub(super) const KNOWN_SEND_WINDOW: u64 = 256 << 10;
pub(super) const TRUSTED_SEND_WINDOW: u64 = 1 << 20;
/// Longest datagram that is taken; longer than any packet. What a packet has is taken before the next one is looked at.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Bytes on the way on one stream.
pub(super) const STREAM_WINDOW: u32 = 512 << 10;
/// Streams that a client may have open before it has a session. Each takes memory before it is there, so there are more of them when
/// these are in use.
pub(super) const FEW_STREAMS: u32 = 4;

/// What a connection takes of memory while it is idle, its lane not counted; `perf/README.md` says how that was measured.
pub(crate) const CONNECTION_BYTES: usize = 16 << 10;

/// Bounds of one shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuicLimits {
    pub(crate) admission: AdmissionLimits,
    /// Connections, lanes, lanes of one connection.
    pub(crate) connections_max: usize,
    pub(crate) lanes_max: usize,
    pub(crate) streams_max: u32,
    /// Connections whose window is `known_window`, and that.
    pub(crate) trusted_max: usize,
    pub(crate) known_window: u32,
    /// Windows beyond these, of all connections, for lanes that are not read.
    pub(crate) waiting_window_max: usize,
    /// Answers without a connection that may wait for room.
    pub(crate) responses_max: usize,
    /// Silence after which a connection is over.
    pub(crate) idle: Duration,
    /// How long it may be without a lane, and half of how long without one that has a session.
    pub(crate) unused: Duration,
    /// Addresses of this machine count into nobody's share.
    pub(crate) loopback_exempt: bool,
}

impl Default for QuicLimits {
    fn default() -> Self {
        Self {
            admission: AdmissionLimits {
                per_second: 1_000,
                retry_above: 64,
                under_way_max: 1_024,
                of_address_max: 64,
            },
            connections_max: 16_384,
            lanes_max: 16_384,
            streams_max: 64,
            trusted_max: 256,
            known_window: 1 << 20,
            waiting_window_max: 64 << 20,
            responses_max: 256,
            idle: Duration::from_secs(60),
            unused: UNUSED,
            loopback_exempt: true,
        }
    }
}

impl QuicLimits {
    /// What connections may hold of bytes on their way beyond what each takes: the windows of those that have large ones.
    pub(crate) fn window_bytes(&self) -> usize {
        let each = self.known_window as usize + TRUSTED_SEND_WINDOW as usize;
        self.trusted_max * each + self.waiting_window_max
    }
}

/// What all shards share.
pub(crate) struct Settings {
    pub(crate) limits: QuicLimits,
    pub(crate) server: Arc<ServerConfig>,
    endpoint: EndpointConfig,
    draw: Draw,
}

impl Settings {
    /// With this certificate and these bounds; `draw` makes connection IDs. Resets are made from the secrets, that of the certificate
    /// and that of the data folder: a node that has been killed and begins again with the same ones can tell clients of before that
    /// nothing is left of their connections, and no other node that has the certificate can.
    ///
    /// # Errors
    /// When the TLS configuration has no cipher suite of QUIC.
    pub(crate) fn new(
        tls: tls::Server,
        limits: QuicLimits,
        (draw, secrets): (Draw, [&[u8]; 2]),
    ) -> Result<Self, NoInitialCipherSuite> {
        let crypto = Arc::new(Sessions::new(tls)?);
        // The key of tokens is random and the same for all shards.
        let mut server = ServerConfig::with_crypto(crypto);
        server.transport_config(Arc::new(transport(&limits)));
        server.migration(true);
        Ok(Self {
            limits,
            server: Arc::new(server),
            endpoint: endpoint_config(secrets),
            draw,
        })
    }

    /// The endpoint of one shard.
    pub(super) fn endpoint(&self, shard: u16, shards: u16) -> Arc<EndpointConfig> {
        let mut endpoint = self.endpoint.clone();
        let draw = self.draw;
        endpoint.cid_generator(move || Box::new(ShardIds::new(shard, shards, draw)));
        Arc::new(endpoint)
    }
}

fn endpoint_config([certificate, folder]: [&[u8]; 2]) -> EndpointConfig {
    let key = MacKey::new(certificate).sign(&[RESET_LABEL, folder]);
    let mut config = EndpointConfig::new(Arc::new(ResetKey(MacKey::new(&key))));
    config.min_reset_interval(RESET_INTERVAL);
    config
}

/// Makes the tokens of stateless resets.
struct ResetKey(MacKey);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&self.0.sign(&[data])[..signature_out.len()]);
    }

    fn signature_len(&self) -> usize {
        TAG_BYTES
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        match self.0.verify(&[data], signature) {
            true => Ok(()),
            false => Err(CryptoError),
        }
    }
}

fn transport(limits: &QuicLimits) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_AFTER));
    acks.max_ack_delay(Some(ACK_DELAY));
    let mut transport = TransportConfig::default();
    let idle = limits.idle.try_into();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(FEW_STREAMS.min(limits.streams_max)))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(idle.expect("seconds fit")))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW))
        .send_window(STRANGER_SEND_WINDOW)
        .ack_frequency_config(Some(acks))
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES_MAX))
        .congestion_controller_factory(Arc::new(congestion::CubicConfig::default()));
    transport
}
