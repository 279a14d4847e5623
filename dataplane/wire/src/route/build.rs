//! From parts to a table: everything that could contradict is checked here, once.

use super::{Account, Channel, Endpoint, Grant, Hub, Index, Priority, Rated, RouteTable};
use crate::ids::{ChannelId, HUB_ID_RESERVED};
use crate::limits::{CHANNELS_MAX, NAME_BYTES_MAX};

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
    pub channels: Vec<ChannelParts>,
    /// Accounts that have something of their own to be known; an endpoint's need not be among them.
    pub accounts: Vec<Account>,
    /// Endpoints. Who hears a channel follows from their receive grants.
    pub endpoints: Vec<Endpoint>,
}

/// A channel before its subscribers are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelParts {
    /// Its id.
    pub id: ChannelId,
    /// Its full name.
    pub name: Box<str>,
    /// Index of its hub.
    pub hub: u16,
    /// What is refused first.
    pub priority: Priority,
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
    /// Two grants of one direction for one channel.
    #[error("endpoint {0:?} has two grants for channel {1}")]
    GrantTwice(Box<str>, ChannelId),
    /// More grants than one WELCOME can list.
    #[error("endpoint {0:?} has {1} grants of one direction, at most {CHANNELS_MAX} are allowed")]
    TooManyGrants(Box<str>, usize),
    /// Two keys with one id or one name, a key with id 0, or a key without a name.
    #[error("endpoint {0:?} has keys that share an id or a name, or lack one")]
    Keys(Box<str>),
    /// An Ed25519 key that would open a queue.
    #[error("endpoint {0:?} has an egress key that is not symmetric")]
    EgressKey(Box<str>),
}

pub(super) fn build(parts: TableParts) -> Result<RouteTable, TableError> {
    let TableParts {
        epoch,
        queue_groups,
        hubs,
        channels,
        mut accounts,
        mut endpoints,
    } = parts;
    if queue_groups == 0 {
        return Err(TableError::NoQueueGroups);
    }
    check_hubs(&hubs)?;
    let (mut channels, channel_index) = index_channels(channels, hubs.len())?;
    check_accounts(&mut accounts)?;
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    let endpoint_index = index_endpoints(&endpoints)?;
    for (at, endpoint) in endpoints.iter_mut().enumerate() {
        check_keys(endpoint)?;
        endpoint.certificates.sort_unstable();
        sort_grants(&endpoint.name, &mut endpoint.send, &channel_index)?;
        sort_grants(&endpoint.name, &mut endpoint.receive, &channel_index)?;
        for grant in &endpoint.receive {
            let channel = channel_index
                .get(u64::from(grant.channel.0))
                .expect("sort_grants looked it up");
            channels[channel as usize].subscribers.push(at as u32);
        }
    }
    let rated = Rated::new(&accounts, &endpoints);
    Ok(RouteTable {
        rated,
        epoch,
        queue_groups,
        hubs,
        channels,
        endpoints,
        channel_index,
        endpoint_index,
    })
}

fn check_name(name: &str) -> Result<(), TableError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        Err(TableError::Name(name.into()))
    } else {
        Ok(())
    }
}

fn check_accounts(accounts: &mut [Account]) -> Result<(), TableError> {
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    for (at, account) in accounts.iter().enumerate() {
        check_name(&account.name)?;
        if at > 0 && accounts[at - 1].name == account.name {
            return Err(TableError::NameTwice("accounts", account.name.clone()));
        }
    }
    Ok(())
}

fn check_hubs(hubs: &[Hub]) -> Result<(), TableError> {
    for (at, hub) in hubs.iter().enumerate() {
        check_name(&hub.name)?;
        if hub.partitions == 0 || hub.id == HUB_ID_RESERVED {
            return Err(TableError::Hub(hub.name.clone()));
        }
        for other in &hubs[..at] {
            if other.name == hub.name {
                return Err(TableError::NameTwice("hubs", hub.name.clone()));
            }
            if other.id == hub.id {
                let (first, second) = (other.name.clone(), hub.name.clone());
                return Err(TableError::IdTwice(
                    "hubs",
                    first,
                    second,
                    u64::from(hub.id),
                ));
            }
        }
    }
    Ok(())
}

fn index_channels(
    mut parts: Vec<ChannelParts>,
    hubs: usize,
) -> Result<(Vec<Channel>, Index), TableError> {
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut channels, mut index) = (Vec::<Channel>::with_capacity(parts.len()), Index::default());
    for ChannelParts {
        id,
        name,
        hub,
        priority,
    } in parts
    {
        check_name(&name)?;
        if usize::from(hub) >= hubs {
            return Err(TableError::NoHub(name));
        }
        if channels.last().is_some_and(|last| last.name == name) {
            return Err(TableError::NameTwice("channels", name));
        }
        if let Some(other) = index.insert(u64::from(id.0), channels.len() as u32) {
            let other = channels[other as usize].name.clone();
            return Err(TableError::IdTwice(
                "channels",
                other,
                name,
                u64::from(id.0),
            ));
        }
        channels.push(Channel {
            id,
            name,
            hub,
            priority,
            subscribers: Vec::new(),
        });
    }
    Ok((channels, index))
}

fn index_endpoints(endpoints: &[Endpoint]) -> Result<Index, TableError> {
    let mut index = Index::default();
    for (at, endpoint) in endpoints.iter().enumerate() {
        check_name(&endpoint.name)?;
        if at > 0 && endpoints[at - 1].name == endpoint.name {
            return Err(TableError::NameTwice("endpoints", endpoint.name.clone()));
        }
        if let Some(other) = index.insert(endpoint.id.0, at as u32) {
            let other = endpoints[other as usize].name.clone();
            return Err(TableError::IdTwice(
                "endpoints",
                other,
                endpoint.name.clone(),
                endpoint.id.0,
            ));
        }
    }
    Ok(index)
}

fn check_keys(endpoint: &Endpoint) -> Result<(), TableError> {
    for (at, key) in endpoint.keys.iter().enumerate() {
        let shared = endpoint.keys[..at]
            .iter()
            .any(|other| other.id == key.id || other.name == key.name);
        if shared || key.id.0 == 0 || key.name.is_empty() {
            return Err(TableError::Keys(endpoint.name.clone()));
        }
        let symmetric = matches!(key.material, super::KeyMaterial::Symmetric(_));
        if key.direction == crate::ids::Direction::Egress && !symmetric {
            return Err(TableError::EgressKey(endpoint.name.clone()));
        }
    }
    Ok(())
}

fn sort_grants(name: &str, grants: &mut [Grant], channels: &Index) -> Result<(), TableError> {
    if grants.len() > CHANNELS_MAX {
        return Err(TableError::TooManyGrants(name.into(), grants.len()));
    }
    grants.sort_by_key(|grant| grant.channel);
    for (at, grant) in grants.iter().enumerate() {
        if channels.get(u64::from(grant.channel.0)).is_none() {
            return Err(TableError::NoChannel(name.into(), grant.channel));
        }
        if at > 0 && grants[at - 1].channel == grant.channel {
            return Err(TableError::GrantTwice(name.into(), grant.channel));
        }
    }
    Ok(())
}
