//! Signatures: which bytes are signed, with which key, and how they are checked.
//!
//! | signature          | key                                | signed bytes                                    |
//! |--------------------|------------------------------------|-------------------------------------------------|
//! | session            | of that direction, from HKDF       | frame index, u64 LE, then the frame up to its signature |
//! | in a QUIC datagram | of what the client sends           | `forebay datagram`, the datagram's number, u64 LE, then the frame likewise |
//! | HELLO              | the credential's secret            | `forebay hello 1` NUL, then the frame likewise  |
//! | HELLO in a tunnel  | the same                           | `forebay hello 1` 01, the exporter value, then the frame likewise |
//! | envelope           | the endpoint's own, HMAC or Ed25519 | `forebay relay 1` NUL, then the frame likewise |
//!
//! A turn has many signatures to check and to make: [`verify_many`] and [`sign_many`] take them two at a time.
//!
//! The frame index is not sent. It counts every frame of one direction of one connection, bad ones too, so
//! that no frame can be replayed, left out, moved or slipped in.

mod envelope;
mod keys;
mod mac;
mod padded;
mod pair;
#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "calling a function that needs the processor's SHA instructions, once they are found"
)]
mod rounds;
mod session;

pub use ed25519_dalek::{SigningKey, VerifyingKey};
pub use envelope::{verify_ed25519, verify_ed25519_batch, verify_envelope};
pub use keys::{
    KEY_TEXT_BYTES, KeyError, KeyMaterial, KeyRef, PublicKey, SecretKey, verifying_key_from_base64,
    verifying_key_to_base64,
};
pub use mac::{MacKey, TAG_BYTES};
pub use pair::{SignJob, VerifyJob, sign_many, sign_two, verify_many, verify_two};
pub use session::{
    HELLO_CONTEXT, SESSION_INFO, SessionKeys, TUNNEL_HELLO_CONTEXT, hello_tag, sign_session,
    verify_hello, verify_session,
};

use crate::frame::SignatureKind;
use crate::ids::KeyId;
use ed25519_dalek::Signer as _;

/// What is put before an inner SEND when its endpoint signs it.
pub const RELAY_CONTEXT: &[u8; 16] = b"forebay relay 1\0";

/// What is put before the datagram's number and the SEND when a session signs it for a QUIC datagram.
pub const DATAGRAM_CONTEXT: &[u8; 16] = b"forebay datagram";

/// Who signs a frame that is being encoded.
#[derive(Clone, Copy)]
pub enum Signer<'a> {
    /// Nobody.
    None,
    /// The session, with the key of this direction.
    Session {
        /// That key.
        key: &'a MacKey,
        /// Frames already sent in this direction on this connection.
        frame_index: u64,
    },
    /// The session, for a SEND in a QUIC datagram.
    Datagram {
        /// The key of what the client sends.
        key: &'a MacKey,
        /// The datagram's number.
        number: u64,
    },
    /// A HELLO, with the credential's secret.
    Hello {
        /// That secret, as a key.
        key: &'a MacKey,
        /// The tunnel's exporter value, empty on a plain connection.
        exporter: &'a [u8],
    },
    /// An envelope, with the endpoint's symmetric key.
    Key {
        /// The key's id, which the frame names.
        id: KeyId,
        /// The key.
        key: &'a MacKey,
    },
    /// An envelope, with the endpoint's Ed25519 key.
    Ed25519 {
        /// The key's id, which the frame names.
        id: KeyId,
        /// The key.
        key: &'a SigningKey,
    },
}

impl Signer<'_> {
    /// The signature kind this makes.
    pub fn kind(&self) -> SignatureKind {
        match self {
            Self::None => SignatureKind::None,
            Self::Session { .. } | Self::Datagram { .. } => SignatureKind::Session,
            Self::Hello { .. } | Self::Key { .. } => SignatureKind::Key,
            Self::Ed25519 { .. } => SignatureKind::Ed25519,
        }
    }

    /// The id that a SEND names: 0 unless an endpoint's own key signs.
    pub fn key_id(&self) -> KeyId {
        match self {
            Self::Key { id, .. } | Self::Ed25519 { id, .. } => *id,
            _ => KeyId(0),
        }
    }

    /// Append the signature over `out[start..]`.
    pub(crate) fn append(self, out: &mut Vec<u8>, start: usize) {
        match self {
            Self::None => {}
            Self::Session { key, frame_index } => sign_session(key, frame_index, out, start),
            Self::Datagram { key, number } => {
                let number = number.to_le_bytes();
                let tag = key.sign(&[DATAGRAM_CONTEXT, &number, &out[start..]]);
                out.extend_from_slice(&tag);
            }
            Self::Hello { key, exporter } => {
                let context = session::hello_context(exporter);
                let tag = key.sign(&[context, exporter, &out[start..]]);
                out.extend_from_slice(&tag);
            }
            Self::Key { key, .. } => {
                let tag = key.sign(&[RELAY_CONTEXT, &out[start..]]);
                out.extend_from_slice(&tag);
            }
            Self::Ed25519 { key, .. } => {
                let message = [RELAY_CONTEXT, &out[start..]].concat();
                out.extend_from_slice(&key.sign(&message).to_bytes());
            }
        }
    }
}
