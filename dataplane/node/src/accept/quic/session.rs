//! TLS of one QUIC connection, which lets its state go when the handshake is over: what stays is what keys are made from, the exporter
//! value, and whose certificate was shown.
//!
//! A connection of rustls holds its buffers, its transcript and keys for records, none of which QUIC needs after the handshake: half of
//! what a connection takes that says nothing. Otherwise this does what `quinn_proto::crypto::rustls` does.

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;

use quinn_proto::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn_proto::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
    UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectionId, Side, TransportError, TransportErrorCode};
use tls::rustls::quic::{Connection, KeyChange, Secrets, ServerConnection, Version};
use tls::{EXPORTER_LABEL, Shown, Terms, alert_of};

/// What TLS tells of a message that has no place after the handshake.
const UNEXPECTED_MESSAGE: u8 = 10;
/// The draft versions that are sealed in another way.
const DRAFTS: std::ops::RangeInclusive<u32> = 0xff00_001d..=0xff00_0020;

/// Begins sessions.
pub(super) struct Sessions {
    tls: tls::Server,
    /// Keys of first packets and of Retry.
    first: QuicServerConfig,
}

impl Sessions {
    /// # Errors
    /// When the TLS configuration has no cipher suite of QUIC.
    pub(super) fn new(tls: tls::Server) -> Result<Self, NoInitialCipherSuite> {
        let first = QuicServerConfig::try_from(tls.config())?;
        Ok(Self { tls, first })
    }
}

impl ServerConfig for Sessions {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        self.first.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.first.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn Session> {
        let version = match DRAFTS.contains(&version) {
            true => Version::V1Draft,
            false => Version::V1,
        };
        let mut bytes = Vec::new();
        params.write(&mut bytes);
        let terms = self.tls.terms();
        let begun = ServerConnection::new(Arc::clone(terms.config()), version, bytes);
        let begun = begun.expect("a configuration with TLS 1.3, which was made for QUIC");
        Box::new(LeanSession {
            handshake: Some(Box::new(Connection::Server(begun))),
            terms: Some(terms),
            first: self,
            version,
            secrets: None,
            exporter: None,
            shown: None,
        })
    }
}

/// TLS of one connection.
struct LeanSession {
    /// Until it is over and all was said.
    handshake: Option<Box<Connection>>,
    /// What it goes by, until it is over.
    terms: Option<Terms>,
    first: Arc<Sessions>,
    version: Version,
    secrets: Option<Box<Secrets>>,
    /// Kept when the handshake is let go.
    exporter: Option<[u8; 32]>,
    /// Known when it is over.
    shown: Option<Shown>,
}

impl LeanSession {
    /// Let the handshake go if it is over.
    fn let_go(&mut self) {
        let Some(handshake) = self.handshake.take_if(|shake| !shake.is_handshaking()) else {
            return;
        };
        let mut exporter = [0; 32];
        let exported = handshake.export_keying_material(&mut exporter, EXPORTER_LABEL, Some(b""));
        self.exporter = exported.is_ok().then_some(exporter);
    }
}

fn fault(code: TransportErrorCode, reason: String) -> TransportError {
    TransportError {
        code,
        frame: None,
        reason,
    }
}

impl Session for LeanSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        assert_eq!(side, Side::Server, "this is the server's side");
        let version = match self.version {
            Version::V1Draft => *DRAFTS.start(),
            _ => 1,
        };
        let keys = self.first.initial_keys(version, dst_cid);
        keys.unwrap_or_else(|_| unreachable!("it began with this version"))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        // Nothing else of it is asked for.
        None
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.shown.map(|shown| -> Box<dyn Any> { Box::new(shown) })
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        // Nothing that can be replayed is taken.
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        let handshake = self.handshake.as_ref();
        handshake.is_some_and(|handshake| handshake.is_handshaking())
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let Some(handshake) = &mut self.handshake else {
            let code = TransportErrorCode::crypto(UNEXPECTED_MESSAGE);
            return Err(fault(code, "TLS is over".to_owned()));
        };
        handshake
            .read_hs(buf)
            .map_err(|error| match handshake.alert() {
                Some(alert) => {
                    let code = TransportErrorCode::crypto(alert.into());
                    fault(code, error.to_string())
                }
                None => fault(
                    TransportErrorCode::PROTOCOL_VIOLATION,
                    format!("TLS error: {error}"),
                ),
            })?;
        if !handshake.is_handshaking()
            && let Some(terms) = self.terms.take()
        {
            let taken = terms.still_take(handshake);
            taken.map_err(|error| {
                let code = TransportErrorCode::crypto(alert_of(&error).into());
                fault(code, error.to_string())
            })?;
            self.shown = terms.shown(handshake);
        }
        // Of `handshake_data` there is never any.
        Ok(false)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let handshake = self.handshake.as_ref();
        let Some(bytes) = handshake.and_then(|handshake| handshake.quic_transport_parameters())
        else {
            return Ok(None);
        };
        let read = TransportParameters::read(Side::Server, &mut Cursor::new(bytes));
        read.map(Some).map_err(TransportError::from)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let handshake = self.handshake.as_mut()?;
        let before = buf.len();
        let Some(change) = handshake.write_hs(buf) else {
            if buf.len() == before {
                self.let_go();
            }
            return None;
        };
        let keys = match change {
            KeyChange::Handshake { keys } => keys,
            KeyChange::OneRtt { keys, next } => {
                self.secrets = Some(Box::new(next));
                keys
            }
        };
        Some(Keys {
            header: KeyPair {
                local: Box::new(keys.local.header),
                remote: Box::new(keys.remote.header),
            },
            packet: KeyPair {
                local: Box::new(keys.local.packet),
                remote: Box::new(keys.remote.packet),
            },
        })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.secrets.as_mut()?.next_packet_keys();
        Some(KeyPair {
            local: Box::new(keys.local),
            remote: Box::new(keys.remote),
        })
    }

    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        // A server is sent none.
        false
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        if let Some(handshake) = &self.handshake {
            let exported = handshake.export_keying_material(output, label, Some(context));
            return exported.map(|_| ()).map_err(|_| ExportKeyingMaterialError);
        }
        match &self.exporter {
            Some(value) if label == EXPORTER_LABEL && context.is_empty() && output.len() == 32 => {
                output.copy_from_slice(value);
                Ok(())
            }
            _ => Err(ExportKeyingMaterialError),
        }
    }
}
