//! The small part of a table, of which there are few whatever the number of endpoints: queue groups, hubs, channels, accounts, nodes.

use std::time::Duration;

use super::bytes::{Put, Reader, Unread};
use super::index::{Index, NewIndex};
use super::node::{Node, index_nodes, put_node, read_node};
use super::{Rates, RatesRow, TableError};
use crate::ids::{AckMode, ChannelId, HUB_ID_RESERVED, NodeId};
use crate::limits::NAME_BYTES_MAX;

/// A hub: a set of partitions with one durability and one retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Its id, the high half of its partitions' ids.
    pub id: u16,
    /// Its full name.
    pub name: Box<str>,
    /// How many partitions it has, fixed when it was created.
    pub partitions: u16,
    /// What an ACK promises.
    pub ack: AckMode,
    /// Bytes of each segment file.
    pub segment_bytes: u32,
    /// Bytes of each partition beyond which its oldest segments expire.
    pub retention_bytes: Option<u64>,
    /// Age beyond which segments expire.
    pub retention_age: Option<Duration>,
}

/// Who owns endpoints: the first part of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: Box<str>,
    /// What all its endpoints together may send.
    pub rates: Rates,
}

/// Which channels are served first when not all can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Priority {
    /// Like any other.
    #[default]
    Normal,
    /// Messages to it are refused before any to a channel of normal priority is.
    Low,
}

/// A channel: what a route leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Its full name.
    pub name: Box<str>,
    /// Index of its hub.
    pub hub: u16,
    /// What is refused first.
    pub priority: Priority,
}

/// What a table has besides its endpoints, before it is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeadParts {
    /// Groups that queues are spread over, at least 1; fixed when the data folder is created.
    pub queue_groups: u16,
    /// Hubs; channels name them by index.
    pub hubs: Vec<Hub>,
    /// Channels.
    pub channels: Vec<Channel>,
    /// Accounts that have something of their own to be known; an endpoint's need not be among them.
    pub accounts: Vec<Account>,
    /// Nodes that endpoints may be at home at; there may be others, where those are served that have no home.
    pub nodes: Vec<Node>,
}

/// The same, checked, channels, accounts and nodes by rising name.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: HeadParts,
    channels: Index,
    nodes: Index,
    /// Bytes of its encoding.
    pub(super) bytes: usize,
}

impl Head {
    pub(super) fn new(mut parts: HeadParts) -> Result<Self, TableError> {
        if parts.queue_groups == 0 {
            return Err(TableError::NoQueueGroups);
        }
        check_hubs(&parts.hubs)?;
        parts.channels.sort_by(|a, b| a.name.cmp(&b.name));
        parts.accounts.sort_by(|a, b| a.name.cmp(&b.name));
        parts.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let nodes = index_nodes(&parts.nodes)?;
        let channels = index_channels(&parts.channels, parts.hubs.len())?;
        for (at, account) in parts.accounts.iter().enumerate() {
            check_name(&account.name)?;
            if at > 0 && parts.accounts[at - 1].name == account.name {
                return Err(TableError::NameTwice("accounts", account.name.clone()));
            }
        }
        let mut bytes = Vec::new();
        put_head(&mut bytes, &parts);
        Ok(Self {
            parts,
            channels,
            nodes,
            bytes: bytes.len(),
        })
    }

    #[inline]
    pub(super) fn channel(&self, id: ChannelId) -> Option<&Channel> {
        let channels = &self.parts.channels;
        let is = |at: u32| channels[at as usize].id == id;
        let at = self.channels.get(u64::from(id.0), is)?;
        Some(&channels[at as usize])
    }

    /// The node with this id. Every endpoint with a home asks when a table is read.
    #[inline]
    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        let nodes = &self.parts.nodes;
        let is = |at: u32| nodes[at as usize].id == id;
        let at = self.nodes.get(u64::from(id.0), is)?;
        Some(&nodes[at as usize])
    }
}

pub(super) fn check_name(name: &str) -> Result<(), TableError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        Err(TableError::Name(name.into()))
    } else {
        Ok(())
    }
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
                let id = u64::from(hub.id);
                return Err(TableError::IdTwice("hubs", first, second, id));
            }
        }
    }
    Ok(())
}

fn index_channels(channels: &[Channel], hubs: usize) -> Result<Index, TableError> {
    let mut index = NewIndex::with_room(channels.len());
    for (at, channel) in channels.iter().enumerate() {
        check_name(&channel.name)?;
        let name = channel.name.clone();
        if usize::from(channel.hub) >= hubs {
            return Err(TableError::NoHub(name));
        }
        if at > 0 && channels[at - 1].name == channel.name {
            return Err(TableError::NameTwice("channels", name));
        }
        let (id, is) = (channel.id, |at: u32| channels[at as usize].id == channel.id);
        if let Some(other) = index.insert(u64::from(id.0), at as u32, is) {
            let other = channels[other as usize].name.clone();
            let id = u64::from(id.0);
            return Err(TableError::IdTwice("channels", other, name, id));
        }
    }
    Ok(index.done())
}

/// The bytes of a head whose lists are sorted.
pub(super) fn put_head(out: &mut Vec<u8>, head: &HeadParts) {
    out.put_u16(head.queue_groups);
    out.put_count(head.hubs.len());
    for hub in &head.hubs {
        put_hub(out, hub);
    }
    out.put_count(head.channels.len());
    for channel in &head.channels {
        put_channel(out, channel);
    }
    out.put_count(head.accounts.len());
    for account in &head.accounts {
        put_account(out, account);
    }
    out.put_count(head.nodes.len());
    for node in &head.nodes {
        put_node(out, node);
    }
}

pub(super) fn put_hub(out: &mut Vec<u8>, hub: &Hub) {
    out.put_u16(hub.id);
    out.put_text(&hub.name);
    out.put_u16(hub.partitions);
    out.put_u8(hub.ack as u8);
    out.put_u32(hub.segment_bytes);
    out.put_maybe(hub.retention_bytes);
    out.put_maybe(hub.retention_age.map(|age| age.as_secs()));
    out.put_u32(hub.retention_age.map_or(0, |age| age.subsec_nanos()));
}

fn put_channel(out: &mut Vec<u8>, channel: &Channel) {
    out.put_u32(channel.id.0);
    out.put_text(&channel.name);
    out.put_u16(channel.hub);
    out.put_u8(u8::from(channel.priority == Priority::Low));
}

pub(super) fn put_account(out: &mut Vec<u8>, account: &Account) {
    out.put_text(&account.name);
    out.put(zerocopy::IntoBytes::as_bytes(&RatesRow::from(
        &account.rates,
    )));
}

/// The head that these bytes are.
pub(super) fn read_head(bytes: &mut Reader<'_>) -> Result<HeadParts, Unread> {
    Ok(HeadParts {
        queue_groups: bytes.u16()?,
        hubs: bytes.list(read_hub)?,
        channels: bytes.list(read_channel)?,
        accounts: bytes.list(read_account)?,
        nodes: bytes.list(read_node)?,
    })
}

fn read_hub(bytes: &mut Reader<'_>) -> Result<Hub, Unread> {
    let (id, name, partitions) = (bytes.u16()?, bytes.text()?.into(), bytes.u16()?);
    let ack = AckMode::from_u8(bytes.u8()?).ok_or(Unread)?;
    let (segment_bytes, retention_bytes) = (bytes.u32()?, bytes.maybe()?);
    let (seconds, nanos) = (bytes.maybe()?, bytes.u32()?);
    if nanos >= 1_000_000_000 || (seconds.is_none() && nanos != 0) {
        return Err(Unread);
    }
    Ok(Hub {
        id,
        name,
        partitions,
        ack,
        segment_bytes,
        retention_bytes,
        retention_age: seconds.map(|seconds| Duration::new(seconds, nanos)),
    })
}

fn read_channel(bytes: &mut Reader<'_>) -> Result<Channel, Unread> {
    Ok(Channel {
        id: ChannelId(bytes.u32()?),
        name: bytes.text()?.into(),
        hub: bytes.u16()?,
        priority: match bytes.flag()? {
            true => Priority::Low,
            false => Priority::Normal,
        },
    })
}

fn read_account(bytes: &mut Reader<'_>) -> Result<Account, Unread> {
    let name = bytes.text()?.into();
    let row = bytes.take(size_of::<RatesRow>())?;
    let row = <RatesRow as zerocopy::FromBytes>::ref_from_bytes(row).map_err(|_| Unread)?;
    let rates = Rates::try_from(row)?;
    Ok(Account { name, rates })
}
