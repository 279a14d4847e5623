//! Keys as people and tools hold them: base64 text.

use std::fmt;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use zeroize::Zeroize;

use super::MacKey;

/// Characters of a key's text: base64 of 32 bytes.
pub const KEY_TEXT_BYTES: usize = 44;

/// A symmetric key: the base64 text of 32 random bytes. **The text's bytes are the secret**, never the
/// decoded ones; that is the rule of `SharedAccessSignature` tokens, and one rule is enough.
#[derive(Clone)]
pub struct SecretKey {
    text: [u8; KEY_TEXT_BYTES],
    mac: MacKey,
}

/// A key text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not as long as a key's text is.
    #[error("a key is {KEY_TEXT_BYTES} characters of base64, these are {0}")]
    Length(usize),
    /// Not base64 with padding.
    #[error("a key is base64 of 32 bytes with padding, this is not")]
    Base64,
    /// 32 bytes that are no Ed25519 public key, or a weak one that anybody can sign for.
    #[error("these 32 bytes are no safe Ed25519 public key")]
    Curve,
}

impl SecretKey {
    /// From its text.
    ///
    /// # Errors
    /// When the text is not the base64, with padding, of exactly 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let text: [u8; KEY_TEXT_BYTES] = text
            .as_bytes()
            .try_into()
            .map_err(|_| KeyError::Length(text.chars().count()))?;
        decode(&text)?.zeroize();
        Ok(Self {
            mac: MacKey::new(&text),
            text,
        })
    }

    /// A new key out of 32 bytes that the caller took from a source of randomness.
    pub fn from_random(mut random: [u8; 32]) -> Self {
        let mut text = [0; KEY_TEXT_BYTES];
        STANDARD
            .encode_slice(random, &mut text)
            .expect("32 bytes make 44 characters");
        random.zeroize();
        Self {
            mac: MacKey::new(&text),
            text,
        }
    }

    /// The 32 bytes that the text stands for: what [`from_random`](Self::from_random) makes this key of again.
    pub fn random(&self) -> [u8; 32] {
        decode(&self.text).expect("it was read or made as base64 of 32 bytes")
    }

    /// The secret: the text's bytes.
    pub fn text_bytes(&self) -> &[u8; KEY_TEXT_BYTES] {
        &self.text
    }

    /// The text, to show once to the one who may have it.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.text).expect("base64 is ASCII")
    }

    /// The key for HMAC-SHA256 with this secret.
    pub fn mac(&self) -> &MacKey {
        &self.mac
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(&self.text[..], &other.text[..]).into()
    }
}

impl Eq for SecretKey {}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// What a key of an endpoint is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// A secret that both sides know: opens sessions, signs tokens and envelopes.
    Symmetric(SecretKey),
    /// A public key of the endpoint's: its envelopes only.
    Ed25519(PublicKey),
}

/// A key where it lies: what signatures are checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRef<'k> {
    /// Made of a secret that both sides know.
    Symmetric(&'k MacKey),
    /// A public key.
    Ed25519(&'k PublicKey),
}

impl<'k> From<&'k KeyMaterial> for KeyRef<'k> {
    fn from(material: &'k KeyMaterial) -> Self {
        match material {
            KeyMaterial::Symmetric(secret) => Self::Symmetric(secret.mac()),
            KeyMaterial::Ed25519(public) => Self::Ed25519(public),
        }
    }
}

/// The 32 bytes of an Ed25519 public key. The point that they name is looked for when it is first asked for, which takes some
/// microseconds: a table of a million keys is read without looking for any. Two are equal when their bytes are.
#[derive(Clone)]
pub struct PublicKey {
    bytes: [u8; 32],
    point: OnceLock<Option<Box<VerifyingKey>>>,
}

impl PublicKey {
    /// Of bytes that may be no key: [`point`](Self::point) tells.
    pub(crate) fn of(bytes: [u8; 32]) -> Self {
        let point = OnceLock::new();
        Self { bytes, point }
    }

    /// From the base64 text of its bytes. Whether these are a key, [`point`](Self::point) tells.
    ///
    /// # Errors
    /// When it is not base64, with padding, of exactly 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        bytes_of(text).map(Self::of)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The point; none if the bytes are no point of the curve, or a weak key that anybody can sign for. Two threads that ask at once both
    /// look for it: neither waits for the other.
    pub fn point(&self) -> Option<&VerifyingKey> {
        if let Some(found) = self.point.get() {
            return found.as_deref();
        }
        let found = VerifyingKey::from_bytes(&self.bytes).ok();
        let strong = found.filter(|key| !key.is_weak());
        // Who comes second finds what the first one found.
        let _first = self.point.set(strong.map(Box::new));
        self.point.get()?.as_deref()
    }
}

impl From<VerifyingKey> for PublicKey {
    fn from(key: VerifyingKey) -> Self {
        Self::of(key.to_bytes())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", STANDARD.encode(self.bytes))
    }
}

/// An Ed25519 public key from the base64 text of its 32 bytes.
///
/// # Errors
/// When it is not base64 of 32 bytes, no point of the curve, or a weak key.
pub fn verifying_key_from_base64(text: &str) -> Result<VerifyingKey, KeyError> {
    let key = PublicKey::from_base64(text)?;
    key.point().copied().ok_or(KeyError::Curve)
}

/// The base64 text of an Ed25519 public key.
pub fn verifying_key_to_base64(key: &VerifyingKey) -> String {
    STANDARD.encode(key.as_bytes())
}

/// The 32 bytes that a text stands for, of what is no secret.
fn bytes_of(text: &str) -> Result<[u8; 32], KeyError> {
    let bytes = text.as_bytes().try_into();
    decode(bytes.map_err(|_| KeyError::Length(text.chars().count()))?)
}

fn decode(text: &[u8; KEY_TEXT_BYTES]) -> Result<[u8; 32], KeyError> {
    let mut bytes = [0; 33];
    let decoded = STANDARD.decode_slice(text, &mut bytes);
    let mut key = [0; 32];
    key.copy_from_slice(&bytes[..32]);
    bytes.zeroize();
    if decoded == Ok(32) {
        Ok(key)
    } else {
        Err(KeyError::Base64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_base64_of_32_bytes_is_a_key() {
        let good = STANDARD.encode([7u8; 32]);
        for (why, text, want) in [
            ("good", good.clone(), Ok(())),
            (
                "31 bytes",
                STANDARD.encode([7u8; 31]),
                Err(KeyError::Base64),
            ),
            (
                "33 bytes",
                STANDARD.encode([7u8; 33]),
                Err(KeyError::Base64),
            ),
            (
                "no padding",
                good[..43].to_owned(),
                Err(KeyError::Length(43)),
            ),
            (
                "blank at the end",
                format!("{good} "),
                Err(KeyError::Length(45)),
            ),
            (
                "other alphabet",
                format!("-{}", &good[1..]),
                Err(KeyError::Base64),
            ),
            ("nothing", String::new(), Err(KeyError::Length(0))),
        ] {
            assert_eq!(SecretKey::from_base64(&text).map(|_| ()), want, "{why}");
        }
    }

    #[test]
    fn the_secret_is_the_text_and_debug_hides_it() {
        let key = SecretKey::from_random([7; 32]);
        assert_eq!(key.text(), STANDARD.encode([7u8; 32]));
        assert_eq!(*key.mac(), MacKey::new(key.text().as_bytes()));
        assert_eq!(
            SecretKey::from_base64(key.text()).expect("its own text"),
            key
        );
        assert_eq!(
            format!("{key:?} {:?}", key.mac()),
            "SecretKey(..) MacKey(..)"
        );
    }

    #[test]
    fn weak_public_keys_are_refused() {
        let good = ed25519_dalek::SigningKey::from_bytes(&[3; 32]).verifying_key();
        assert_eq!(
            verifying_key_from_base64(&verifying_key_to_base64(&good)),
            Ok(good)
        );
        let lazy = PublicKey::from(good);
        assert_eq!((lazy.point(), lazy.point()), (Some(&good), Some(&good)));
        let mut identity = [0u8; 32];
        identity[0] = 1;
        for (why, bytes) in [
            ("identity", identity),
            ("order 4", [0; 32]),
            ("no point", [2; 32]),
        ] {
            assert_eq!(
                verifying_key_from_base64(&STANDARD.encode(bytes)),
                Err(KeyError::Curve),
                "{why}"
            );
            let lazy = PublicKey::of(bytes);
            for _ in 0..2 {
                assert_eq!(lazy.point(), None, "{why}");
            }
        }
    }
}
