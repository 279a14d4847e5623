//! New keys: 256-bit shared secrets and Ed25519 pairs, from the kernel's random numbers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wire::signature::{SecretKey, SigningKey, verifying_key_to_base64};

/// An Ed25519 pair as text: the seed stays with the party that signs, the public key goes into the plan.
pub struct PairText {
    /// Base64 of the 32-byte seed.
    pub private: String,
    /// Base64 of the 32-byte public key.
    pub public: String,
}

/// 32 bytes that nobody can guess.
///
/// # Panics
/// When the kernel has no random numbers: no key could be trusted then.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("every supported kernel gives random numbers");
    bytes
}

/// A new shared secret.
#[must_use]
pub fn new_secret() -> SecretKey {
    SecretKey::from_random(random())
}

/// A new Ed25519 pair.
#[must_use]
pub fn new_pair() -> PairText {
    let key = SigningKey::from_bytes(&random());
    PairText {
        private: STANDARD.encode(key.to_bytes()),
        public: verifying_key_to_base64(&key.verifying_key()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::signature::verifying_key_from_base64;

    #[test]
    fn new_keys_are_well_formed_and_differ() {
        let (one, two) = (new_secret(), new_secret());
        assert_ne!(one.text(), two.text());
        assert!(SecretKey::from_base64(one.text()).is_ok());
        let pair = new_pair();
        assert!(verifying_key_from_base64(&pair.public).is_ok());
        assert_ne!(pair.private, pair.public);
    }
}
