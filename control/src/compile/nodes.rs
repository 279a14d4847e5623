//! Nodes, and which of them endpoints are at home on.

use std::collections::HashMap;

use wire::ids::NodeId;
use wire::route::{self, Node};

use super::faults::{Faults, Place};
use super::value::{Taken, whole};
use crate::diagnosis::{NAME, UNKNOWN_NAME, VALUE};
use crate::model::{self, Endpoint, Model, NODE_NAME_NEEDED, node_hash};

/// The nodes that are well formed; what is wrong with the others is noted.
pub(super) fn nodes(model: &Model, faults: &mut Faults) -> Vec<route::Node> {
    let mut nodes = Vec::with_capacity(model.nodes.len());
    let mut taken = Taken::new("node", model.nodes.len());
    let list = Place::root("nodes");
    for (at, written) in model.nodes.iter().enumerate() {
        let element = list.index(at);
        let place = element.key("name");
        if !Node::is_name(&written.name) {
            let what = "the name of the node is malformed";
            let seen = format!("`{}`", written.name);
            faults.add(&place, NAME, what, seen, NODE_NAME_NEEDED, "rename it");
            continue;
        }
        let id = id(written, &element, faults);
        if taken.take(u64::from(id.0), &written.name, &place, faults) {
            nodes.push(Node {
                id,
                name: written.name.as_str().into(),
                address: address(written, &element, faults),
            });
        }
    }
    nodes
}

fn id(node: &model::Node, place: &Place<'_>, faults: &mut Faults) -> NodeId {
    let most = i64::from(u32::MAX);
    node.id.map_or(node_hash(&node.name), |id| {
        let id = whole(id, &place.key("id"), "id of a node", 0..=most, faults);
        NodeId(id as u32)
    })
}

/// Clients are told it as it is written.
fn address(node: &model::Node, place: &Place<'_>, faults: &mut Faults) -> Option<Box<str>> {
    let address = node.address.as_deref()?;
    if !Node::is_address(address) {
        faults.add(
            &place.key("address"),
            VALUE,
            "the address of a node cannot be used",
            format!("`{address}`"),
            "host:port, such as north.example:7411 or [2001:db8::7]:7411",
            "correct it, or leave it out",
        );
        return None;
    }
    Some(address.into())
}

/// Nodes by name.
pub(super) struct Homes<'a>(HashMap<&'a str, NodeId>);

impl<'a> Homes<'a> {
    pub(super) fn of(nodes: &'a [route::Node]) -> Self {
        Self(nodes.iter().map(|node| (&*node.name, node.id)).collect())
    }

    /// The node that serves this endpoint, if it is to be a certain one.
    pub(super) fn home(
        &self,
        endpoint: &Endpoint,
        place: &Place<'_>,
        faults: &mut Faults,
    ) -> Option<NodeId> {
        let home = endpoint.home.as_deref()?;
        let found = self.0.get(home).copied();
        if found.is_none() {
            let known = self.0.keys().copied();
            let otherwise = "define it: `forebay node create`, or [[nodes]] in a document";
            let remedy = faults.did_you_mean(home, known, otherwise);
            let what = "the home of the endpoint is an unknown node";
            let (seen, needed) = (format!("`{home}`"), "a node that is defined");
            faults.add(&place.key("home"), UNKNOWN_NAME, what, seen, needed, remedy);
        }
        found
    }
}
