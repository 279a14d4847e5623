//! The nodes that a table knows: where endpoints may be at home.

use super::TableError;
use super::bytes::{Put, Reader, Unread};
use super::index::{Index, NewIndex};
use crate::ids::NodeId;

/// Bytes of the longest name of a node: it is a label of DNS.
pub const NODE_NAME_BYTES_MAX: usize = 63;
/// Bytes of the longest address: a name of DNS, a colon, a port.
pub const NODE_ADDRESS_BYTES_MAX: usize = 253 + 1 + 5;

/// A process of the data plane, as the table names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id, given to no other, not even when it is gone.
    pub id: NodeId,
    /// Its name, which is on the certificate that it shows its control plane.
    pub name: Box<str>,
    /// Where endpoints reach it, `host:port`; none: it is not told.
    pub address: Option<Box<str>>,
}

impl Node {
    /// Whether a node may be named so: small letters, digits and `-`, not at its ends, at most 63 of them, a letter among them.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=NODE_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(plain)
            && !name.starts_with('-')
            && !name.ends_with('-')
            && name.bytes().any(|byte| byte.is_ascii_lowercase())
    }

    /// Whether this is a host and a port, as they are told: printable, a port that is not 0, an address of IPv6 in brackets.
    #[must_use]
    pub fn is_address(address: &str) -> bool {
        let Some((host, port)) = address.rsplit_once(':') else {
            return false;
        };
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = digits && port.parse::<u16>().is_ok_and(|port| port != 0);
        let six = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match six {
            Some(six) => six.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                !host.is_empty() && host.bytes().all(plain)
            }
        };
        address.len() <= NODE_ADDRESS_BYTES_MAX && host && port
    }
}

/// Index nodes by rising name: each name and each id once.
pub(super) fn index_nodes(nodes: &[Node]) -> Result<Index, TableError> {
    let mut index = NewIndex::with_room(nodes.len());
    for (at, node) in nodes.iter().enumerate() {
        if at > 0 && nodes[at - 1].name == node.name {
            return Err(TableError::NameTwice("nodes", node.name.clone()));
        }
        if !Node::is_name(&node.name) {
            return Err(TableError::NodeName(node.name.clone()));
        }
        if let Some(address) = node.address.as_ref().filter(|text| !Node::is_address(text)) {
            return Err(TableError::NodeAddress(node.name.clone(), address.clone()));
        }
        let (id, is) = (u64::from(node.id.0), |at: u32| {
            nodes[at as usize].id == node.id
        });
        if let Some(other) = index.insert(id, at as u32, is) {
            let (first, second) = (nodes[other as usize].name.clone(), node.name.clone());
            return Err(TableError::IdTwice("nodes", first, second, id));
        }
    }
    Ok(index.done())
}

pub(super) fn put_node(out: &mut Vec<u8>, node: &Node) {
    out.put_u32(node.id.0);
    out.put_text(&node.name);
    // No address is an empty text: no address is one.
    out.put_text(node.address.as_deref().unwrap_or(""));
}

pub(super) fn read_node(bytes: &mut Reader<'_>) -> Result<Node, Unread> {
    let (id, name, address) = (NodeId(bytes.u32()?), bytes.text()?, bytes.text()?);
    Ok(Node {
        id,
        name: name.into(),
        address: (!address.is_empty()).then(|| address.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_or_address_of_a_node_is_told_apart() {
        let long = "a".repeat(64);
        for (name, good) in [
            ("edge-1", true),
            (&long[1..], true),
            ("", false),
            (&long, false),
            ("Edge", false),
            ("1-2", false),
            ("-a", false),
            ("a-", false),
            ("a.b", false),
        ] {
            assert_eq!(Node::is_name(name), good, "{name}");
        }
        for (address, good) in [
            ("edge-1.example.com:7410", true),
            ("192.0.2.7:1", true),
            ("[2001:db8::7]:65535", true),
            ("edge", false),
            (":7410", false),
            ("edge:", false),
            ("edge:0", false),
            ("edge:65536", false),
            ("edge:+1", false),
            ("2001:db8::7:7410", false),
            ("[edge]:7410", false),
            ("ed ge:7410", false),
            ("edge\n:7410", false),
        ] {
            assert_eq!(Node::is_address(address), good, "{address}");
        }
    }
}
