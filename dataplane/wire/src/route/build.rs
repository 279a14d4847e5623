//! From parts to a table: everything that could contradict is checked here, once.

use super::digest::of_head;
use super::head::{Head, HeadParts, check_name, put_head};
use super::rows::Kind;
use super::write::{Title, Writer};
use super::{Account, Channel, Digest, Endpoint, Grant, Hub, Node, RouteTable};
use crate::ids::{ChannelId, Direction, NodeId};
use crate::limits::{CHANNELS_MAX, NAME_BYTES_MAX};
use crate::signature::KeyMaterial;

/// Most keys of one endpoint, withdrawn ones among them.
pub const KEYS_MAX: usize = 1_024;

/// What a table is built from. Order does not matter; grants may come unsorted.
#[derive(Debug, Clone, Default)]
pub struct TableParts {
    /// The version number.
    pub epoch: u64,
    /// Groups that queues are spread over, at least 1; fixed when the data folder is created.
    pub queue_groups: u16,
    /// Hubs; channels name them by index.
    pub hubs: Vec<Hub>,
    /// Channels.
    pub channels: Vec<Channel>,
    /// Accounts that have something of their own to be known; an endpoint's need not be among them.
    pub accounts: Vec<Account>,
    /// Nodes that endpoints may be at home at.
    pub nodes: Vec<Node>,
    /// Endpoints. Who hears a channel follows from their receive grants.
    pub endpoints: Vec<Endpoint>,
}

/// A contradiction in the parts of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No queue group.
    #[error("at least one queue group is needed")]
    NoQueueGroups,
    /// A name that is empty or too long.
    #[error("name {0:?} is empty or longer than {NAME_BYTES_MAX} bytes")]
    Name(Box<str>),
    /// Two things of one kind with one name.
    #[error("two {0} are named {1:?}")]
    NameTwice(&'static str, Box<str>),
    /// Two things of one kind with one id: give one of them another with `id =`.
    #[error("{0} {1:?} and {2:?} have the same id {3:#x}")]
    IdTwice(&'static str, Box<str>, Box<str>, u64),
    /// A hub without partitions, or with the id of the reserved streams.
    #[error("hub {0:?} has no partitions or the reserved id")]
    Hub(Box<str>),
    /// A channel in a hub that is not there.
    #[error("channel {0:?} is in a hub that is not there")]
    NoHub(Box<str>),
    /// A grant for a channel that is not there.
    #[error("endpoint {0:?} has a grant for channel {1}, which is not there")]
    NoChannel(Box<str>, ChannelId),
    /// A name that no node may have.
    #[error(
        "node name {0:?} is not of small letters, digits and '-', at most 63, a letter among them"
    )]
    NodeName(Box<str>),
    /// An address that is no host and port.
    #[error("node {0:?} has the address {1:?}, which is no host:port")]
    NodeAddress(Box<str>, Box<str>),
    /// A home that is not there.
    #[error("endpoint {0:?} is at home at node {1}, which is not there")]
    NoNode(Box<str>, NodeId),
    /// Two grants of one direction for one channel.
    #[error("endpoint {0:?} has two grants for channel {1}")]
    GrantTwice(Box<str>, ChannelId),
    /// More grants than one WELCOME can list.
    #[error("endpoint {0:?} has {1} grants of one direction, at most {CHANNELS_MAX} are allowed")]
    TooManyGrants(Box<str>, usize),
    /// Two keys with one id or one name, a key with id 0, or a key without a name.
    #[error("endpoint {0:?} has keys that share an id or a name, or lack one")]
    Keys(Box<str>),
    /// More keys than anybody needs.
    #[error("endpoint {0:?} has {1} keys, at most {KEYS_MAX} are allowed")]
    TooManyKeys(Box<str>, usize),
    /// An Ed25519 key that would open a queue.
    #[error("endpoint {0:?} has an egress key that is not symmetric")]
    EgressKey(Box<str>),
    /// More than the encoding can count.
    #[error("the table has more than four billion of something, or an endpoint more than 65,535")]
    TooLarge,
}

pub(super) fn build(parts: TableParts) -> Result<RouteTable, TableError> {
    let TableParts {
        epoch,
        queue_groups,
        hubs,
        channels,
        accounts,
        nodes,
        endpoints,
    } = parts;
    let head = HeadParts {
        queue_groups,
        hubs,
        channels,
        accounts,
        nodes,
    };
    let head = Head::new(head)?;
    let writer = write(endpoints)?;
    TableBuilder {
        epoch,
        head,
        writer,
    }
    .end()
}

/// A table that is made of one endpoint after the other: it holds each in the form of the encoding, which is a tenth of what its parts
/// take.
pub struct TableBuilder {
    epoch: u64,
    head: Head,
    writer: Writer,
}

impl TableBuilder {
    /// Begin one with room for so many endpoints and keys.
    ///
    /// # Errors
    /// The first contradiction in the head.
    pub fn begin(
        epoch: u64,
        head: HeadParts,
        endpoints: usize,
        keys: usize,
    ) -> Result<Self, TableError> {
        Ok(Self {
            epoch,
            head: Head::new(head)?,
            writer: Writer::with_room(endpoints, keys),
        })
    }

    /// The next endpoint.
    ///
    /// # Errors
    /// When it contradicts itself, or has the name of the one before.
    ///
    /// # Panics
    /// When its name is less than that of the one before.
    pub fn push(&mut self, mut endpoint: Endpoint) -> Result<(), TableError> {
        if let Some(last) = self.writer.last_name() {
            let name = endpoint.name.as_bytes();
            assert!(last <= name, "`{}` comes too late", endpoint.name);
            if last == name {
                return Err(TableError::NameTwice("endpoints", endpoint.name));
            }
        }
        settle(&mut endpoint)?;
        self.writer.push(endpoint)
    }

    /// The table.
    ///
    /// # Errors
    /// When two endpoints have one id, or one is granted what is not there.
    pub fn end(self) -> Result<RouteTable, TableError> {
        let mut sum = self.writer.sum();
        sum.add(of_head(&self.head.parts));
        let title = Title {
            kind: Kind::Table,
            epoch: self.epoch,
            digest: sum.into(),
            base: (0, Digest([0; 32])),
        };
        assemble(&title, self.head, self.writer)
    }
}

impl std::fmt::Debug for TableBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableBuilder").finish_non_exhaustive()
    }
}

/// The table of what was written, without anything beside its base.
pub(super) fn assemble(
    title: &Title,
    head: Head,
    writer: Writer,
) -> Result<RouteTable, TableError> {
    let mut bytes = Vec::new();
    put_head(&mut bytes, &head.parts);
    let layer = writer.finish(title, &bytes, &[])?;
    RouteTable::of(title, head, layer)
}

/// Check these endpoints, each on its own and against the others, and write them down.
pub(super) fn write(mut endpoints: Vec<Endpoint>) -> Result<Writer, TableError> {
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    let same = |two: &[Endpoint]| two[0].name == two[1].name;
    if let Some(twice) = endpoints.windows(2).find(|two| same(two)) {
        return Err(TableError::NameTwice("endpoints", twice[0].name.clone()));
    }
    let keys = endpoints.iter().map(|endpoint| endpoint.keys.len()).sum();
    let mut writer = Writer::with_room(endpoints.len(), keys);
    for mut endpoint in endpoints {
        settle(&mut endpoint)?;
        writer.push(endpoint)?;
    }
    Ok(writer)
}

/// Check an endpoint on its own, and sort its lists.
fn settle(endpoint: &mut Endpoint) -> Result<(), TableError> {
    check_name(&endpoint.name)?;
    endpoint.keys.sort_by_key(|key| key.id);
    check_keys(endpoint)?;
    endpoint.certificates.sort_unstable();
    sort_grants(&endpoint.name, &mut endpoint.send)?;
    sort_grants(&endpoint.name, &mut endpoint.receive)
}

fn check_keys(endpoint: &Endpoint) -> Result<(), TableError> {
    let name = || endpoint.name.clone();
    if endpoint.keys.len() > KEYS_MAX {
        return Err(TableError::TooManyKeys(name(), endpoint.keys.len()));
    }
    for (at, key) in endpoint.keys.iter().enumerate() {
        let shared = endpoint.keys[..at]
            .iter()
            .any(|other| other.id == key.id || other.name == key.name);
        let named = (1..=NAME_BYTES_MAX).contains(&key.name.len());
        if shared || key.id.0 == 0 || !named {
            return Err(TableError::Keys(name()));
        }
        let symmetric = matches!(key.material, KeyMaterial::Symmetric(_));
        if key.direction == Direction::Egress && !symmetric {
            return Err(TableError::EgressKey(name()));
        }
    }
    Ok(())
}

fn sort_grants(name: &str, grants: &mut [Grant]) -> Result<(), TableError> {
    if grants.len() > CHANNELS_MAX {
        return Err(TableError::TooManyGrants(name.into(), grants.len()));
    }
    grants.sort_by_key(|grant| grant.channel);
    let twice = |two: &&[Grant]| two[0].channel == two[1].channel;
    match grants.windows(2).find(twice) {
        Some(twice) => Err(TableError::GrantTwice(name.into(), twice[0].channel)),
        None => Ok(()),
    }
}
