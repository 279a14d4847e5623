//! One thing that is defined, of whatever kind: the unit of storing, auditing and changing.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::ids::{ChannelId, EndpointId, HUB_ID_RESERVED, hub_id_of};

use super::{Account, Channel, Endpoint, Environment, Hub, Node, Token, node_hash};
use crate::seal::{MasterKey, digest_text};

/// Kinds of things. Their numbers are on disk; in their order, from accounts to endpoints, things of one kind are within those of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Noun {
    /// What holds for everything.
    Settings = 1,
    /// Who owns.
    Account = 2,
    /// Where it runs.
    Environment = 3,
    /// A set of partitions.
    Hub = 4,
    /// What a route leads to.
    Channel = 5,
    /// The boundary of one outside party.
    Endpoint = 6,
    /// What opens the API.
    Token = 7,
    /// Where endpoints are served.
    Node = 8,
}

/// Every kind.
pub const NOUNS: [Noun; 8] = [
    Noun::Settings,
    Noun::Account,
    Noun::Environment,
    Noun::Hub,
    Noun::Channel,
    Noun::Endpoint,
    Noun::Token,
    Noun::Node,
];

impl Noun {
    /// The kind with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        NOUNS.into_iter().find(|noun| *noun as u8 == number)
    }

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Account => "account",
            Self::Environment => "environment",
            Self::Hub => "hub",
            Self::Channel => "channel",
            Self::Endpoint => "endpoint",
            Self::Token => "token",
            Self::Node => "node",
        }
    }
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What holds for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Number of queue journals that endpoints' queues are spread over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_groups: Option<i64>,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Thing {
    /// What holds for everything.
    Settings(Settings),
    /// Who owns.
    Account(Account),
    /// Where it runs.
    Environment(Environment),
    /// A set of partitions.
    Hub(Hub),
    /// What a route leads to.
    Channel(Channel),
    /// The boundary of one outside party.
    Endpoint(Box<Endpoint>),
    /// What opens the API.
    Token(Token),
    /// Where endpoints are served.
    Node(Node),
}

impl Thing {
    /// Its kind.
    #[must_use]
    pub const fn noun(&self) -> Noun {
        match self {
            Self::Settings(_) => Noun::Settings,
            Self::Account(_) => Noun::Account,
            Self::Environment(_) => Noun::Environment,
            Self::Hub(_) => Noun::Hub,
            Self::Channel(_) => Noun::Channel,
            Self::Endpoint(_) => Noun::Endpoint,
            Self::Token(_) => Noun::Token,
            Self::Node(_) => Noun::Node,
        }
    }

    /// Its full name; settings have none.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Settings(_) => "",
            Self::Account(one) => &one.name,
            Self::Environment(one) => &one.name,
            Self::Hub(one) => &one.name,
            Self::Channel(one) => &one.name,
            Self::Endpoint(one) => &one.name,
            Self::Token(one) => &one.name,
            Self::Node(one) => &one.name,
        }
    }

    /// The id that it was given, if it was.
    #[must_use]
    pub const fn id(&self) -> Option<i64> {
        match self {
            Self::Hub(one) => one.id,
            Self::Channel(one) => one.id,
            Self::Endpoint(one) => one.id,
            Self::Node(one) => one.id,
            Self::Settings(_) | Self::Account(_) | Self::Environment(_) | Self::Token(_) => None,
        }
    }

    /// The id under which nodes store what belongs to it, of what has one.
    #[must_use]
    pub fn data_id(&self) -> Option<u64> {
        let hash = match self {
            Self::Hub(one) => u64::from(hub_hash(&one.name)),
            Self::Channel(one) => u64::from(ChannelId::of(&one.name).0),
            Self::Endpoint(one) => EndpointId::of(&one.name).0,
            Self::Node(one) => u64::from(node_hash(&one.name).0),
            Self::Settings(_) | Self::Account(_) | Self::Environment(_) | Self::Token(_) => {
                return None;
            }
        };
        Some(self.id().map_or(hash, |id| id as u64))
    }

    /// Give it an id, if it is of a kind that has one.
    pub const fn set_id(&mut self, id: Option<i64>) {
        match self {
            Self::Hub(one) => one.id = id,
            Self::Channel(one) => one.id = id,
            Self::Endpoint(one) => one.id = id,
            Self::Node(one) => one.id = id,
            Self::Settings(_) | Self::Account(_) | Self::Environment(_) | Self::Token(_) => {}
        }
    }

    /// Come in the place of an older one, or of none: what says nothing of its id keeps it, and an endpoint remembers the highest key
    /// that it had.
    pub fn follow(&mut self, old: Option<&Self>) {
        if self.id().is_none() {
            self.set_id(old.and_then(Self::id));
        }
        if let Self::Endpoint(endpoint) = self {
            endpoint.follow(match old {
                Some(Self::Endpoint(old)) => Some(old),
                _ => None,
            });
        }
    }

    /// Look at what is in it that takes long to look at, once, before it is compiled and stored.
    pub fn look(&mut self) {
        if let Self::Endpoint(endpoint) = self {
            endpoint.look();
        }
    }

    /// It comes from a store, which nobody puts anything into that was not compiled.
    pub(crate) fn trust(&mut self) {
        if let Self::Endpoint(endpoint) = self {
            endpoint.trust();
        }
    }

    /// Seal what is secret in it.
    pub fn seal(&mut self, master: &MasterKey) {
        if let Self::Endpoint(endpoint) = self {
            endpoint.seal(master);
        }
    }

    /// As it is stored. What is secret and not sealed is left out.
    ///
    /// # Panics
    /// Never: texts, numbers and lists of them have a form in JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers have a form in JSON")
    }

    /// From its stored form.
    ///
    /// # Errors
    /// What is no such thing.
    pub fn from_json(noun: Noun, json: &[u8]) -> Result<Self, serde_json::Error> {
        use serde_json::from_slice as read;
        Ok(match noun {
            Noun::Settings => Self::Settings(read(json)?),
            Noun::Account => Self::Account(read(json)?),
            Noun::Environment => Self::Environment(read(json)?),
            Noun::Hub => Self::Hub(read(json)?),
            Noun::Channel => Self::Channel(read(json)?),
            Noun::Endpoint => Self::Endpoint(read(json)?),
            Noun::Token => Self::Token(read(json)?),
            Noun::Node => Self::Node(read(json)?),
        })
    }

    /// As it is told to people and audited: a sealed secret by a fingerprint of what was sealed, and the hash of a token by one of
    /// its own, so that a change shows.
    ///
    /// # Panics
    /// Never: texts, numbers and lists of them have a form in JSON.
    #[must_use]
    pub fn shown(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("texts and numbers have a form in JSON");
        if let Some(keys) = value.get_mut("keys").and_then(Value::as_array_mut) {
            keys.iter_mut().for_each(hide_sealed);
        }
        if let Self::Token(token) = self {
            // Whole: nobody finds another token with the same.
            value["fingerprint"] = digest_text(token.hash.as_bytes()).into();
            let shown = value.as_object_mut();
            shown.and_then(|shown| shown.remove("hash"));
        }
        value
    }
}

/// The id of a hub that was given none.
#[must_use]
pub fn hub_hash(name: &str) -> u16 {
    match hub_id_of(name) {
        HUB_ID_RESERVED => 0,
        id => id,
    }
}

/// Put a fingerprint in the place of a sealed secret.
fn hide_sealed(key: &mut Value) {
    let Some(key) = key.as_object_mut() else {
        return;
    };
    if let Some(Value::String(sealed)) = key.remove("sealed") {
        let fingerprint = digest_text(sealed.as_bytes());
        key.insert("fingerprint".into(), fingerprint[..16].into());
    }
}
