//! Secrets at rest: sealed under a master key, each for one key of one endpoint.
//!
//! XChaCha20-Poly1305 with a random nonce of 24 bytes; endpoint and key id are authenticated with it, so that a sealed
//! secret that is carried to another key does not open. The sealing key is derived from the master key by HKDF-SHA256.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::model::Secret;

/// Before the base64 of nonce and sealed text: the form, so that another may follow.
const FORM: &str = "1:";
/// Bytes of a nonce.
const NONCE_BYTES: usize = 24;
/// What the sealing key is derived for.
const PURPOSE: &[u8] = b"forebay: secrets of keys, sealed at rest, 1";
/// What the check value is derived for.
const CHECK: &[u8] = b"forebay: which master key it is, 1";

/// What the key of the audit chain is derived for.
const AUDIT: &[u8] = b"forebay: chain of the audit log, 1";
/// What the key of the end of the audit chain is derived for.
const END: &[u8] = b"forebay: end of the audit log, 1";

/// What the key of what is defined is derived for.
const ROWS: &[u8] = b"forebay: what a store holds, 1";

/// 32 bytes that open every secret of a store.
pub struct MasterKey {
    cipher: XChaCha20Poly1305,
    audit: Zeroizing<[u8; 32]>,
    end: Zeroizing<[u8; 32]>,
    rows: Zeroizing<[u8; 32]>,
    check: [u8; 16],
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MasterKey")
    }
}

impl MasterKey {
    /// From its bytes.
    ///
    /// # Panics
    /// Never: HKDF gives far more bytes than are asked of it.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        let hkdf = Hkdf::<Sha256>::new(None, bytes);
        let mut key = Zeroizing::new([0; 32]);
        hkdf.expand(PURPOSE, key.as_mut())
            .expect("32 bytes are less than HKDF's most");
        let mut audit = Zeroizing::new([0; 32]);
        hkdf.expand(AUDIT, audit.as_mut())
            .expect("32 bytes are less than HKDF's most");
        let mut end = Zeroizing::new([0; 32]);
        hkdf.expand(END, end.as_mut())
            .expect("32 bytes are less than HKDF's most");
        let mut rows = Zeroizing::new([0; 32]);
        hkdf.expand(ROWS, rows.as_mut())
            .expect("32 bytes are less than HKDF's most");
        let mut check = [0; 16];
        hkdf.expand(CHECK, &mut check)
            .expect("16 bytes are less than HKDF's most");
        let cipher = XChaCha20Poly1305::new((&*key).into());
        Self {
            cipher,
            audit,
            end,
            rows,
            check,
        }
    }

    /// From its text: the base64, with padding, of 32 bytes.
    ///
    /// # Errors
    /// What the text is instead; never the text itself.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let seen = format!("{} characters", text.chars().count());
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| seen.clone())?);
        let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| seen)?;
        Ok(Self::new(bytes))
    }

    /// A new one as text, from the kernel's random numbers.
    #[must_use]
    pub fn new_text() -> Zeroizing<String> {
        let bytes = Zeroizing::new(crate::keys::random());
        Zeroizing::new(STANDARD.encode(bytes.as_slice()))
    }

    /// Tells master keys apart without saying anything about them.
    #[must_use]
    pub fn check(&self) -> [u8; 16] {
        self.check
    }

    /// The link after `previous` of a chain of texts that nobody continues or alters who has not this key.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length.
    #[must_use]
    pub fn link(&self, previous: &[u8; 32], text: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.audit.as_slice())
            .expect("HMAC takes keys of any length");
        mac.update(previous);
        mac.update(text);
        mac.finalize().into_bytes().into()
    }

    /// What a row of the store counts as: nobody who has not this key finds rows that count as others do.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length.
    #[must_use]
    pub fn row(&self, kind: u8, name: &str, number: u64, value: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.rows.as_slice())
            .expect("HMAC takes keys of any length");
        mac.update(&[kind]);
        mac.update(&number.to_le_bytes());
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(value);
        mac.finalize().into_bytes().into()
    }

    /// The seal of a chain that ends with this link, so many texts and changes after its begin, over rows that count as this sum: without
    /// this key nobody moves the end back, nor changes a row.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length.
    #[must_use]
    pub fn end(&self, head: &[u8; 32], count: u64, version: u64, rows: &[u8; 32]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.end.as_slice())
            .expect("HMAC takes keys of any length");
        mac.update(head);
        mac.update(&count.to_le_bytes());
        mac.update(&version.to_le_bytes());
        mac.update(rows);
        mac.finalize().into_bytes().into()
    }

    /// Seal the secret of the key with this id of this endpoint.
    ///
    /// # Panics
    /// When the kernel has no random numbers.
    #[must_use]
    pub fn seal(&self, endpoint: &str, key: i64, secret: &Secret) -> String {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("every supported kernel gives random numbers");
        let aad = owner(endpoint, key);
        let payload = Payload {
            msg: secret.reveal().as_bytes(),
            aad: &aad,
        };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a secret is shorter than the cipher's most");
        format!("{FORM}{}", STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// Open what [`seal`](Self::seal) gave for the same endpoint and key.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open(&self, endpoint: &str, key: i64, sealed: &str) -> Result<Secret, String> {
        let malformed = || "no sealed secret".to_owned();
        let bytes = sealed
            .strip_prefix(FORM)
            .and_then(|text| STANDARD.decode(text).ok())
            .ok_or_else(malformed)?;
        let (nonce, text) = bytes
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(malformed)?;
        let aad = owner(endpoint, key);
        let payload = Payload {
            msg: text,
            aad: &aad,
        };
        let opened = self.cipher.decrypt(&XNonce::from(*nonce), payload);
        let refused = |_| "sealed under another master key, for another key, or altered".to_owned();
        let opened = Zeroizing::new(opened.map_err(refused)?);
        let text = std::str::from_utf8(&opened).map_err(|_| malformed())?;
        Ok(Secret::new(text))
    }
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn digest_text(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// In hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a sealed secret belongs to. No name has a zero byte.
fn owner(endpoint: &str, key: i64) -> Vec<u8> {
    [endpoint.as_bytes(), &[0], &key.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_for_its_own_key_under_its_own_master_alone() {
        let (master, other) = (MasterKey::new(&[7; 32]), MasterKey::new(&[8; 32]));
        let secret = Secret::new("canary");
        let sealed = master.seal("a/e/pump", 3, &secret);
        assert!(!sealed.contains("canary"));
        assert_ne!(sealed, master.seal("a/e/pump", 3, &secret), "a nonce each");
        assert_eq!(master.open("a/e/pump", 3, &sealed), Ok(secret));
        assert!(other.open("a/e/pump", 3, &sealed).is_err());
        assert!(master.open("a/e/pumq", 3, &sealed).is_err());
        assert!(master.open("a/e/pump", 4, &sealed).is_err());
        assert_ne!(master.check(), other.check());
    }

    #[test]
    fn no_altered_character_of_a_sealed_secret_opens() {
        let master = MasterKey::new(&[7; 32]);
        let sealed = master.seal("a/e/pump", 3, &Secret::new("canary"));
        for at in 0..sealed.len() {
            let mut altered = sealed.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).expect("ASCII stays ASCII");
            assert!(master.open("a/e/pump", 3, &altered).is_err(), "{altered}");
            assert!(master.open("a/e/pump", 3, &sealed[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn a_master_key_is_read_from_its_text_alone() {
        let text = MasterKey::new_text();
        assert!(MasterKey::from_text(&format!("{}\n", *text)).is_ok());
        for text in ["", "short", "AAAA", &text[1..]] {
            assert!(MasterKey::from_text(text).is_err(), "{text}");
        }
    }
}
