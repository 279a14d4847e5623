//! Nodes: which are defined, how each was seen, and that none goes on which an endpoint is at home.

use std::collections::BTreeMap;

use wire::diagnosis::Diagnosis;

use super::{Caller, NodeSeen, Refusal, Service, access, missing, refused};
use crate::diagnosis::NODE_IS_HOME;
use crate::model::{Noun, Role, Thing};
use crate::nearest::nearest;
use crate::store::{Catalog, Change, Stored};

/// A node that is defined, or was seen, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeTold {
    /// Its name.
    pub name: String,
    /// What is defined of it; nothing of one that is let in by the configuration alone.
    pub defined: Option<Stored>,
    /// How it was seen, for those who see all accounts; nothing of one that is not let in.
    pub seen: Option<NodeSeen>,
}

impl Service {
    /// Every node, by name. Everybody may know which there are: endpoints of all accounts are at home on them. How far each is tells of
    /// what others change, and whoever is of one account is not told.
    ///
    /// # Errors
    /// When the caller may not look.
    pub fn nodes(&self, caller: &Caller) -> Result<Vec<NodeTold>, Diagnosis> {
        access::may(caller, Role::Viewer, "look")?;
        let catalog = self.catalog();
        let mut told: BTreeMap<String, NodeTold> = BTreeMap::new();
        let new = |name: &str| NodeTold {
            name: name.to_owned(),
            defined: None,
            seen: None,
        };
        let defined = catalog.things.from(Noun::Node, "");
        for ((_, name), stored) in defined.take_while(|((noun, _), _)| *noun == Noun::Node) {
            let one = told.entry(name.clone()).or_insert_with(|| new(name));
            one.defined = Some(stored.clone());
        }
        if caller.account.is_none() {
            for seen in self.publish.nodes() {
                let name = seen.name.clone();
                told.entry(name).or_insert_with_key(|name| new(name)).seen = Some(seen);
            }
        }
        Ok(told.into_values().collect())
    }

    /// The node of this name.
    ///
    /// # Errors
    /// When the caller may not look, or there is none.
    pub fn node(&self, caller: &Caller, name: &str) -> Result<NodeTold, Diagnosis> {
        let mut nodes = self.nodes(caller)?;
        match nodes.iter().position(|node| node.name == name) {
            Some(at) => Ok(nodes.swap_remove(at)),
            None => {
                let known = nodes.iter().map(|node| node.name.as_str());
                let near = nearest(name, known).map(str::to_owned);
                Err(missing(Noun::Node, name, near))
            }
        }
    }
}

/// Refuse that a node goes on which an endpoint is at home after these changes.
pub(super) fn nobodys_home(changes: &[Change], after: &Catalog) -> Result<(), Refusal> {
    let gone = changes.iter().filter(|change| change.noun == Noun::Node);
    let gone = gone.map(|change| change.name.as_str());
    let gone = gone.filter(|name| after.get(Noun::Node, name).is_none());
    let gone: Vec<&str> = gone.collect();
    if gone.is_empty() {
        // Endpoints are many.
        return Ok(());
    }
    let endpoints = after.things.from(Noun::Endpoint, "");
    let mut at_home = endpoints.map_while(|(_, stored)| match &*stored.thing {
        Thing::Endpoint(endpoint) => Some(&**endpoint),
        _ => None,
    });
    let of_gone = |home: &str| gone.contains(&home);
    let found = at_home.find(|endpoint| endpoint.home.as_deref().is_some_and(of_gone));
    let Some(endpoint) = found else {
        return Ok(());
    };
    let home = endpoint.home.clone().unwrap_or_default();
    let same = |home: &str| endpoint.home.as_deref() == Some(home);
    let more = at_home.filter(|one| one.home.as_deref().is_some_and(same));
    let seen = match more.count() {
        0 => format!("endpoint `{}`", endpoint.name),
        more => format!("endpoint `{}`, and {more} more", endpoint.name),
    };
    Err(refused(Diagnosis::new(
        NODE_IS_HOME,
        format!("node `{home}` is a home"),
        seen,
        "a node on which no endpoint is at home",
        format!(
            "give them another: `forebay endpoint set {} home=OTHER`; `forebay node set {home} enabled=false` sends the node away and leaves it defined",
            endpoint.name
        ),
    )))
}
