//! Credentials, and the states they pass through: live, expiring, expired, revoked.

use serde::{Deserialize, Serialize};

use super::{Moment, Public, Secret};

/// `direction = "ingress" | "egress"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Opens sessions that send.
    #[default]
    Ingress,
    /// Opens sessions that receive.
    Egress,
}

/// `kind = "hmac-sha256" | "ed25519"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A shared secret of 256 bits.
    HmacSha256,
    /// A public key; signs envelopes only.
    Ed25519,
}

/// One credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Number of the key within its endpoint, from 1.
    pub id: i64,
    /// Name of the key within its endpoint; `skn` of a token.
    pub name: String,
    /// What the key opens.
    pub direction: Direction,
    /// Kind of key, `hmac-sha256` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Base64 of 32 random bytes, for `hmac-sha256`; read, and not written again unless it is exposed.
    #[serde(default, skip_serializing_if = "Secret::is_hidden")]
    pub secret: Option<Secret>,
    /// The same secret, sealed under a master key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// Base64 of the 32-byte public key, for `ed25519`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<Public>,
    /// From this moment on the key is refused; a date and time with `Z` or an offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Moment>,
    /// True refuses the key at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Good, without an end.
    Live,
    /// Good until its expiry.
    Expiring,
    /// Its expiry has passed.
    Expired,
    /// Withdrawn; may be restored.
    Revoked,
}

impl Key {
    /// Where it stands at this second since 1970. A malformed expiry counts as passed.
    #[must_use]
    pub fn state(&self, now_seconds: u64) -> State {
        if self.revoked == Some(true) {
            return State::Revoked;
        }
        match &self.expires {
            None => State::Live,
            Some(moment) if moment.seconds().is_some_and(|end| end > now_seconds) => {
                State::Expiring
            }
            Some(_) => State::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_live_expiring_expired_or_revoked() {
        let at = |text: &str| Some(Moment::new(text));
        for (expires, revoked, want) in [
            (None, None, State::Live),
            (None, Some(false), State::Live),
            (at("1970-01-01T00:00:11Z"), None, State::Expiring),
            (at("1970-01-01T00:00:10Z"), None, State::Expired),
            (at("some day"), None, State::Expired),
            (at("1970-01-01T00:00:11Z"), Some(true), State::Revoked),
        ] {
            let key = Key {
                expires,
                revoked,
                ..Key::default()
            };
            assert_eq!(key.state(10), want, "{key:?}");
        }
    }
}
