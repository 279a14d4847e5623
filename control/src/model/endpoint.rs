//! Endpoints.

use serde::{Deserialize, Serialize};

use super::{Grant, Key, Moment, Public, Queue, written};
use crate::quantity::Bytes;
use crate::seal::MasterKey;

/// The guarded boundary of one outside party.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `account/environment/endpoint`.
    pub name: String,
    /// Explicit id when the derived one collides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// False refuses every session; true unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The node that serves it; any node does, unless one is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// May relay envelopes of other endpoints; false unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<bool>,
    /// Messages per second over all its channels, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<i64>,
    /// Bytes of frames per second over all its channels, from 1 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Bytes>,
    /// Bounds of the queue.
    #[serde(
        default,
        deserialize_with = "written::maybe",
        skip_serializing_if = "Option::is_none"
    )]
    pub queue: Option<Queue>,
    /// Credentials.
    #[serde(
        default,
        deserialize_with = "written::tables",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub keys: Vec<Key>,
    /// SHA-256 of certificates in hexadecimal, one of which it must show in its tunnel; none means it need not.
    #[serde(
        default,
        deserialize_with = "written::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub certificates: Vec<String>,
    /// What its sessions may run over: `tcp`, `tls`, `quic`, `quic-datagram`; none means any.
    #[serde(
        default,
        deserialize_with = "written::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub transports: Vec<String>,
    /// Windows of the week in UTC in which it may have sessions, such as `mon-fri 08:00-17:30`; none means always.
    #[serde(
        default,
        deserialize_with = "written::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub hours: Vec<String>,
    /// When it ends: nothing of it is good any more then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Moment>,
    /// Permissions.
    #[serde(
        default,
        deserialize_with = "written::tables",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub grants: Vec<Grant>,
    /// The highest id that a key of it had, while no key has one so high: ids of keys that were deleted do not come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_key: Option<i64>,
}

impl Endpoint {
    /// Its key with this name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The highest id that a key of it has or had.
    #[must_use]
    pub fn highest_key(&self) -> Option<i64> {
        self.highest_present().max(self.last_key)
    }

    fn highest_present(&self) -> Option<i64> {
        self.keys.iter().map(|key| key.id).max()
    }

    /// Come in the place of an older one, or of none: remember its highest key.
    pub(super) fn follow(&mut self, old: Option<&Self>) {
        let highest = self.highest_key().max(old.and_then(Self::highest_key));
        self.last_key = highest.filter(|id| self.highest_present() < Some(*id));
    }

    /// Look at its public keys.
    pub fn look(&mut self) {
        let publics = self.keys.iter_mut().filter_map(|key| key.public.as_mut());
        publics.for_each(Public::look);
    }

    /// Its public keys were looked at.
    pub(crate) fn trust(&mut self) {
        let publics = self.keys.iter_mut().filter_map(|key| key.public.as_mut());
        publics.for_each(Public::trust);
    }

    /// Seal the secrets of its keys that are not sealed yet.
    pub fn seal(&mut self, master: &MasterKey) {
        for key in &mut self.keys {
            if let Some(secret) = key.secret.take() {
                key.sealed = Some(master.seal(&self.name, key.id, &secret));
            }
        }
    }
}
