//! The model: what operators define, as it is written, stored and served. Names are full names,
//! `account/environment/name`; values are as loose as people write them, and what they mean is decided in `compile`.
//!
//! account > environment > hubs, channels, endpoints. Endpoints hold their keys, grants and the bounds of their queue. Nodes are
//! beside all that: they are no account's.
//! A plan file, a document of the API and a value of the store all have this one form. Knows no clock, file or socket.

mod account;
mod channel;
mod endpoint;
mod grant;
mod hub;
mod key;
mod moment;
mod name;
mod node;
mod public;
mod queue;
mod secret;
mod thing;
mod token;
pub(crate) mod written;

pub use account::{Account, Environment, Limits};
pub use channel::{Channel, Priority};
pub use endpoint::Endpoint;
pub use grant::{Allow, Grant};
pub use hub::{Ack, Hub};
pub use key::{Direction, Key, Kind, State};
pub use moment::Moment;
pub use name::{NAME_NEEDED, PART_BYTES_MAX, account_of, environment_of, is_part, parts_of};
pub use node::{NODE_NAME_NEEDED, Node, node_hash};
pub use public::Public;
pub use queue::{OnFull, Queue};
pub use secret::Secret;
pub use thing::{NOUNS, Noun, Settings, Thing, hub_hash};
pub use token::{Role, TOKEN_PREFIX, Token};

use serde::{Deserialize, Serialize};

/// Everything that is defined; the form of a plan file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Number of queue journals that endpoints' queues are spread over; fixed for the life of a data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_groups: Option<i64>,
    /// Nodes: where endpoints are served.
    #[serde(
        default,
        deserialize_with = "written::tables",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub nodes: Vec<Node>,
    /// Accounts: who owns.
    #[serde(
        default,
        deserialize_with = "written::tables",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub accounts: Vec<Account>,
    /// Environments, `account/environment`.
    #[serde(
        default,
        deserialize_with = "written::tables",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub environments: Vec<Environment>,
    /// Hubs; every environment has a hub `default` whether it is written or not.
    #[serde(
        default,
        deserialize_with = "written::tables",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub hubs: Vec<Hub>,
    /// Channels.
    #[serde(
        default,
        deserialize_with = "written::tables",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub channels: Vec<Channel>,
    /// Endpoints with their keys, grants and queues.
    #[serde(
        default,
        deserialize_with = "written::tables",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub endpoints: Vec<Endpoint>,
}

impl Model {
    /// The things in it, in the order of a plan.
    pub fn into_things(self) -> impl Iterator<Item = Thing> {
        let settings = self.queue_groups.map(|groups| Settings {
            queue_groups: Some(groups),
        });
        settings
            .map(Thing::Settings)
            .into_iter()
            .chain(self.nodes.into_iter().map(Thing::Node))
            .chain(self.accounts.into_iter().map(Thing::Account))
            .chain(self.environments.into_iter().map(Thing::Environment))
            .chain(self.hubs.into_iter().map(Thing::Hub))
            .chain(self.channels.into_iter().map(Thing::Channel))
            .chain(
                self.endpoints
                    .into_iter()
                    .map(Box::new)
                    .map(Thing::Endpoint),
            )
    }

    /// Put a thing in; tokens are no part of a model.
    pub fn push(&mut self, thing: Thing) {
        match thing {
            Thing::Settings(one) => self.queue_groups = one.queue_groups,
            Thing::Node(one) => self.nodes.push(one),
            Thing::Account(one) => self.accounts.push(one),
            Thing::Environment(one) => self.environments.push(one),
            Thing::Hub(one) => self.hubs.push(one),
            Thing::Channel(one) => self.channels.push(one),
            Thing::Endpoint(one) => self.endpoints.push(*one),
            Thing::Token(_) => {}
        }
    }
}
