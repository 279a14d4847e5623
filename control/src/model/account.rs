//! Who owns, and where things run.

use serde::{Deserialize, Serialize};

use super::written;
use crate::quantity::Bytes;

/// An account, and what all its endpoints together may send.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Messages per second, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<i64>,
    /// Bytes of frames per second, from 1 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Bytes>,
    /// How many things it may define.
    #[serde(
        default,
        deserialize_with = "written::or_default",
        skip_serializing_if = "Limits::is_unset"
    )]
    pub limits: Limits,
}

/// How many things an account may define: as many as it likes of what has no number here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Environments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<u32>,
    /// Hubs, with the one called `default` of every environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hubs: Option<u32>,
    /// Partitions of all its hubs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u32>,
    /// Endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<u32>,
    /// Grants of each endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants_per_endpoint: Option<u32>,
    /// Tokens of the API that are for it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
}

impl Limits {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// An environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// `account/environment`.
    pub name: String,
}
