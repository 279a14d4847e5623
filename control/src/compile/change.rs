//! What changed, and nothing else: a change of a route table out of the things that an edit touches.

use std::collections::HashMap;

use wire::ids::{ChannelId, EndpointId};
use wire::route::{Delta, DeltaParts, HeadParts, Node, RouteTable};

use super::endpoint;
use super::faults::{Faults, Found};
use super::head;
use super::names::Names;
use crate::model::{Endpoint, Model};
use crate::seal::MasterKey;

/// What an edit touches of a model that compiled before.
#[derive(Debug)]
pub struct Edit<'a> {
    /// Everything but endpoints, as it is now.
    pub head: &'a Model,
    /// Whether any of that is otherwise.
    pub head_changed: bool,
    /// The endpoints that are new or otherwise, and those that still refer to what is gone of the head.
    pub set: &'a [Endpoint],
    /// Full names of endpoints that are no more.
    pub gone: &'a [&'a str],
}

/// The change of `table` that an edit is, and the table after it. Nothing when it cannot be told from so little whether all is
/// well, or the whole has to be compiled for another reason.
///
/// # Errors
/// What is wrong with what is touched, each with its place in `edit`.
pub fn change(
    table: &RouteTable,
    edit: &Edit<'_>,
    epoch: u64,
    master: Option<&MasterKey>,
) -> Result<Option<(Delta, RouteTable)>, Vec<Found>> {
    let mut faults = Faults::default();
    let names = Names::of(edit.head, &mut faults);
    let changed = edit.head_changed;
    let new_head = changed.then(|| head(edit.head, &names, &mut faults));
    let known = match &new_head {
        Some(head) => (&head.channels[..], &head.nodes[..]),
        None => (table.channels(), table.nodes()),
    };
    let mut set = Vec::with_capacity(edit.set.len());
    let take = |one| set.push(one);
    endpoint::endpoints(edit.set, &names, known, master, &mut faults, take);
    if !faults.is_empty() {
        return Err(faults.take());
    }
    if new_head.as_ref().is_some_and(|head| moves(head, table)) {
        return Ok(None);
    }
    let id = |name: &str| Some(table.endpoint_by_name(name)?.id);
    let mut gone: Vec<EndpointId> = edit.gone.iter().filter_map(|name| id(name)).collect();
    for endpoint in &set {
        // Who is given another id is another one to the data plane.
        gone.extend(id(&endpoint.name).filter(|id| *id != endpoint.id));
    }
    let parts = DeltaParts {
        epoch,
        head: new_head,
        set,
        gone,
    };
    // Where two things meet on one id, compiling everything tells which.
    let delta = table.change(parts).ok();
    let delta = delta.and_then(|delta| {
        let after = table.after(&delta).ok()?;
        Some((delta, after))
    });
    Ok(delta)
}

/// Whether a channel or a node is another one to the data plane, which endpoints that are not touched name. None of them names one that
/// is gone.
fn moves(head: &HeadParts, table: &RouteTable) -> bool {
    let ids = head.channels.iter();
    let ids: HashMap<&str, ChannelId> = ids.map(|channel| (&*channel.name, channel.id)).collect();
    let mut channels = table.channels().iter();
    let other = |id: &ChannelId, channel: &wire::route::Channel| *id != channel.id;
    let mut nodes = table.nodes().iter();
    let moved = |was: &Node| {
        let is = head.nodes.iter().find(|is| is.name == was.name);
        is.is_some_and(|is| is.id != was.id)
    };
    channels.any(|one| ids.get(&*one.name).is_some_and(|id| other(id, one)))
        || nodes.any(moved)
        || head.queue_groups != table.queue_groups()
}
