//! An endpoint as a table is built from it: its keys, its grants, its queue's bounds.

use std::time::Duration;

use super::view::account_of;
use super::{Rates, Restriction, Transports, Window};
use crate::ids::{ChannelId, Direction, EndpointId, Fingerprint, KeyId, NodeId, UnixNanos};
use crate::signature::KeyMaterial;

/// The guarded boundary of one outside party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Its full name, `account/environment/endpoint`.
    pub name: Box<str>,
    /// Whether it may do anything at all.
    pub enabled: bool,
    /// Whether it may relay frames of others.
    pub relay: bool,
    /// Its keys.
    pub keys: Vec<Key>,
    /// Certificates one of which it must show in its tunnel to open a session, rising; none: it need not.
    pub certificates: Vec<Fingerprint>,
    /// Over what its sessions may run.
    pub transports: Transports,
    /// When it may have sessions, and when its envelopes are taken; none listed: always.
    pub windows: Vec<Window>,
    /// When it ends for good: nothing of it is good any more then.
    pub expires: Option<UnixNanos>,
    /// The node that serves it, and no other does; none: any.
    pub home: Option<NodeId>,
    /// Where it may send, by rising channel.
    pub send: Vec<Grant>,
    /// What it hears, by rising channel.
    pub receive: Vec<Grant>,
    /// What its queue may hold.
    pub queue: QueueBounds,
    /// What it may send over all its channels.
    pub rates: Rates,
}

impl Endpoint {
    /// The account that owns it: the first part of its name.
    pub fn account(&self) -> &str {
        account_of(&self.name)
    }
}

/// A key of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id, unique in its endpoint; 0 is not given out.
    pub id: KeyId,
    /// Its name, unique in its endpoint.
    pub name: Box<str>,
    /// What it is for.
    pub direction: Direction,
    /// What it is made of.
    pub material: KeyMaterial,
    /// When it stops to be good.
    pub expires: Option<UnixNanos>,
    /// Whether it was withdrawn.
    pub revoked: bool,
}

/// A permission to send to, or to hear, a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The channel.
    pub channel: ChannelId,
    /// Conditions on it.
    pub restriction: Restriction,
}

/// What happens to new deliveries when a queue is at its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// They wait in the log.
    Park,
    /// The oldest make room, and are counted.
    DropOldest,
}

/// What a queue may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueBounds {
    /// Messages.
    pub messages_max: u64,
    /// Bytes of messages.
    pub bytes_max: u64,
    /// Age of a message.
    pub age_max: Option<Duration>,
    /// What happens beyond.
    pub on_full: OnFull,
    /// How long a delivery may stay unsettled.
    pub lock: Duration,
    /// Deliveries of one message before it goes to the dead letters; 0: without end.
    pub deliveries_max: u16,
}

impl Default for QueueBounds {
    fn default() -> Self {
        Self {
            messages_max: 1_000_000,
            bytes_max: 1 << 30,
            age_max: None,
            on_full: OnFull::Park,
            lock: Duration::from_secs(30),
            deliveries_max: 10,
        }
    }
}
