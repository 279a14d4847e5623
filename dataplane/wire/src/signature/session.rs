//! The session's keys, and the signatures made with them.

use std::fmt;

use zeroize::Zeroize;

use super::{MacKey, SignJob, TAG_BYTES, VerifyJob};
use crate::frame::{Frame, SignatureKind};
use crate::ids::SessionId;

/// What is put before a HELLO when it is signed.
pub const HELLO_CONTEXT: &[u8; 16] = b"forebay hello 1\0";
/// What is put before it in a tunnel, that is under TLS or QUIC; the tunnel's exporter value follows.
pub const TUNNEL_HELLO_CONTEXT: &[u8; 16] = b"forebay hello 1\x01";
/// How the info for HKDF begins; the session's id and the tunnel's exporter value follow.
pub const SESSION_INFO: &[u8; 17] = b"forebay session 1";

/// The keys of one session: one per direction, and the secret that resumes it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKeys {
    /// Signs what the client sends.
    pub client: MacKey,
    /// Signs what the server sends.
    pub server: MacKey,
    /// Stands in for the credential when the session is resumed on another connection.
    pub resume: [u8; 32],
}

impl SessionKeys {
    /// HKDF-SHA256 (RFC 5869) with salt = client nonce, server nonce; input = the credential's secret;
    /// info = [`SESSION_INFO`], session id, exporter. `exporter` is empty on a plain connection and the
    /// tunnel's 32 bytes of exported keying material under TLS and QUIC.
    pub fn derive(
        secret: &[u8],
        client_nonce: &[u8; 32],
        server_nonce: &[u8; 32],
        session: SessionId,
        exporter: &[u8],
    ) -> Self {
        let salt = MacKey::new([*client_nonce, *server_nonce].as_flattened());
        let mut extracted = salt.sign(&[secret]);
        let key = MacKey::new(&extracted);
        extracted.zeroize();
        let info: [&[u8]; 3] = [SESSION_INFO, &session.0, exporter];
        let mut client = key.sign(&[info[0], info[1], info[2], &[1]]);
        let mut server = key.sign(&[&client, info[0], info[1], info[2], &[2]]);
        let resume = key.sign(&[&server, info[0], info[1], info[2], &[3]]);
        let keys = Self {
            client: MacKey::new(&client),
            server: MacKey::new(&server),
            resume,
        };
        client.zeroize();
        server.zeroize();
        keys
    }
}

impl Drop for SessionKeys {
    fn drop(&mut self) {
        self.resume.zeroize();
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeys(..)")
    }
}

/// Append the session signature over `out[frame_start..]`, the last step of every encoder.
pub fn sign_session(key: &MacKey, frame_index: u64, out: &mut Vec<u8>, frame_start: usize) {
    let tag = SignJob::session(key, frame_index, &out[frame_start..]).sign();
    out.extend_from_slice(&tag);
}

/// Whether the frame is signed by the session, as the `frame_index`-th of its direction. For several frames
/// [`super::verify_many`] takes nearly half the time. Allocates nothing; false for a frame of any other signature kind.
#[inline]
pub fn verify_session(key: &MacKey, frame_index: u64, frame: &Frame<'_>) -> bool {
    VerifyJob::session(key, frame_index, frame).is_some_and(|job| job.verify())
}

/// What a HELLO is signed in front of: it is good in the tunnel it was made for and nowhere else. `exporter` as in
/// [`SessionKeys::derive`].
pub(crate) fn hello_context(exporter: &[u8]) -> &'static [u8; 16] {
    match exporter.is_empty() {
        true => HELLO_CONTEXT,
        false => TUNNEL_HELLO_CONTEXT,
    }
}

/// The signature of a HELLO whose bytes up to the signature are `signed`. `exporter` as in [`SessionKeys::derive`].
pub fn hello_tag(secret: &[u8], exporter: &[u8], signed: &[u8]) -> [u8; TAG_BYTES] {
    MacKey::new(secret).sign(&[hello_context(exporter), exporter, signed])
}

/// Whether a HELLO is signed with this secret, for this tunnel. `exporter` as in [`SessionKeys::derive`].
pub fn verify_hello(secret: &[u8], exporter: &[u8], frame: &Frame<'_>) -> bool {
    let signed: [&[u8]; 3] = [hello_context(exporter), exporter, frame.signed()];
    frame.signature_kind() == SignatureKind::Key
        && MacKey::new(secret).verify(&signed, frame.signature())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hkdf::Hkdf;
    use sha2::Sha256;

    #[test]
    fn keys_are_those_of_the_hkdf_crate() {
        let (client, server, session) = ([1; 32], [2; 32], SessionId([3; 16]));
        for exporter in [&[][..], &[4; 32][..]] {
            let keys = SessionKeys::derive(b"secret", &client, &server, session, exporter);
            let hkdf = Hkdf::<Sha256>::new(Some(&[client, server].concat()), b"secret");
            let mut okm = [0; 96];
            let info = [&SESSION_INFO[..], &session.0, exporter].concat();
            hkdf.expand(&info, &mut okm)
                .expect("96 bytes are within HKDF's bound");
            assert_eq!(keys.client, MacKey::new(&okm[..32]));
            assert_eq!(keys.server, MacKey::new(&okm[32..64]));
            assert_eq!(keys.resume, okm[64..]);
        }
    }

    /// RFC 5869, appendix A.1, walked with the same steps as `derive`.
    #[test]
    fn rfc_5869_vector_holds_for_this_hmac() {
        let salt: Vec<u8> = (0..=0x0C).collect();
        let info: Vec<u8> = (0xF0..=0xF9).collect();
        let extracted = MacKey::new(&salt).sign(&[&[0x0B; 22]]);
        let key = MacKey::new(&extracted);
        let first = key.sign(&[&info, &[1]]);
        let second = key.sign(&[&first, &info, &[2]]);
        let hex: String = [first, second].concat()[..42]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
    }

    #[test]
    fn every_input_changes_the_keys() {
        let base = || SessionKeys::derive(b"secret", &[1; 32], &[2; 32], SessionId([3; 16]), &[]);
        assert_eq!(base(), base());
        for (why, other) in [
            (
                "secret",
                SessionKeys::derive(b"Secret", &[1; 32], &[2; 32], SessionId([3; 16]), &[]),
            ),
            (
                "client nonce",
                SessionKeys::derive(b"secret", &[9; 32], &[2; 32], SessionId([3; 16]), &[]),
            ),
            (
                "server nonce",
                SessionKeys::derive(b"secret", &[1; 32], &[9; 32], SessionId([3; 16]), &[]),
            ),
            (
                "session",
                SessionKeys::derive(b"secret", &[1; 32], &[2; 32], SessionId([9; 16]), &[]),
            ),
            (
                "tunnel",
                SessionKeys::derive(b"secret", &[1; 32], &[2; 32], SessionId([3; 16]), &[0; 32]),
            ),
        ] {
            assert_ne!(other, base(), "{why}");
        }
    }
}
