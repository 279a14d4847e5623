//! The table that comes next: out of what an edit touches where that is enough, out of everything where it is not.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::sync::{Arc, MutexGuard, PoisonError};

use wire::route::{Delta, RouteTable};

use super::nodes::nobodys_home;
use super::{Refusal, Service};
use crate::compile::{Edit, Found, change, compile_with};
use crate::model::{Endpoint, Model, Noun, Thing, account_of, environment_of};
use crate::store::{Catalog, Change, Store};
use crate::tidy::{Tidy, let_go};

/// What an edit comes to.
pub(super) struct Next {
    /// Everything but endpoints.
    pub(super) head: Arc<Model>,
    pub(super) table: Arc<RouteTable>,
    /// How the table differs from the one before.
    pub(super) delta: Option<Arc<Delta>>,
}

impl Service {
    pub(super) fn tidy(&self) -> MutexGuard<'_, Tidy> {
        // Whoever panicked with it left a thread and changes that are checked before they count.
        self.tidy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table after these changes, which make `after` of what is defined.
    pub(super) fn next(
        &self,
        store: &Store,
        after: &Catalog,
        changes: &[Change],
    ) -> Result<Next, Refusal> {
        nobodys_home(changes, after)?;
        let current = self.current();
        let table = self.tidy().settle(&current.table);
        if !Arc::ptr_eq(&table, &current.table) {
            // It says the same: whether this edit is refused or not, what comes next begins with it.
            let mut now = self.current.write().unwrap_or_else(PoisonError::into_inner);
            now.table = Arc::clone(&table);
            drop(now);
            let_go(Arc::clone(&current.table));
        }
        let mut touched = Touched::of(changes);
        touched.add_left_behind(after);
        let head = match touched.head {
            true => Arc::new(after.head()),
            false => current.head,
        };
        if !touched.whole {
            let edit = Edit {
                head: &head,
                head_changed: touched.head,
                set: &touched.set,
                gone: &touched.gone,
            };
            let master = Some(&**store.master());
            let changed = change(&table, &edit, after.version, master);
            let changed = changed.map_err(|found| named(found, &head, &touched.set))?;
            if let Some((delta, table)) = changed {
                let (table, delta) = (Arc::new(table), Some(Arc::new(delta)));
                return Ok(Next { head, table, delta });
            }
        }
        let table = Arc::new(compiled(after, store)?);
        let delta = None;
        Ok(Next { head, table, delta })
    }
}

/// What changes touch.
#[derive(Default)]
struct Touched<'a> {
    /// All of it.
    whole: bool,
    /// Something that is no endpoint.
    head: bool,
    set: Vec<Endpoint>,
    gone: Vec<&'a str>,
    /// What endpoints may still refer to.
    gone_environments: Vec<&'a str>,
    gone_channels: Vec<&'a str>,
}

/// Most endpoints that are looked at because something went that they refer to: one is enough to refuse the change.
const LEFT_BEHIND_MAX: usize = 100;

impl<'a> Touched<'a> {
    fn of(changes: &'a [Change]) -> Self {
        let mut touched = Self::default();
        for change in changes {
            match (change.noun, &change.after) {
                (Noun::Token, _) => {}
                (Noun::Endpoint, Some(Thing::Endpoint(endpoint))) => {
                    touched.set.push((**endpoint).clone());
                }
                (Noun::Endpoint, None) => touched.gone.push(&change.name),
                (noun, after) => {
                    touched.head = true;
                    match (noun, after) {
                        (Noun::Settings, _) => touched.whole = true,
                        (Noun::Environment, None) => touched.gone_environments.push(&change.name),
                        (Noun::Channel, None) => touched.gone_channels.push(&change.name),
                        _ => {}
                    }
                }
            }
        }
        touched
    }

    /// Add endpoints that still refer to what goes: compiling them tells what is wrong. Looks at those in the environments and accounts of
    /// what goes, which takes a tenth of compiling them.
    fn add_left_behind(&mut self, after: &Catalog) {
        let mut left: Vec<Endpoint> = Vec::new();
        let gone = self.gone_environments.iter();
        for name in gone.filter(|name| after.get(Noun::Environment, name).is_none()) {
            left.extend(after.endpoints_within(name).take(LEFT_BEHIND_MAX).cloned());
        }
        let gone = self.gone_channels.iter().copied();
        let gone = gone.filter(|name| after.get(Noun::Channel, name).is_none());
        let gone: BTreeSet<&str> = gone.collect();
        // A grant leads nowhere but into its own account.
        let accounts: BTreeSet<&str> = gone.iter().map(|name| account_of(name)).collect();
        for account in accounts {
            let granted = after.endpoints_within(account);
            let granted = granted.filter(|endpoint| is_granted_any(endpoint, &gone));
            left.extend(granted.take(LEFT_BEHIND_MAX).cloned());
        }
        for endpoint in left {
            if self.set.iter().all(|set| set.name != endpoint.name) {
                self.set.push(endpoint);
            }
        }
    }
}

/// Whether a grant of this endpoint names one of these channels.
fn is_granted_any(endpoint: &Endpoint, channels: &BTreeSet<&str>) -> bool {
    let mut full = format!("{}/", environment_of(&endpoint.name));
    let within = full.len();
    let mut grants = endpoint.grants.iter();
    grants.any(|grant| match grant.channel.contains('/') {
        true => channels.contains(grant.channel.as_str()),
        false => {
            full.truncate(within);
            full.push_str(&grant.channel);
            channels.contains(full.as_str())
        }
    })
}

/// The table of a catalog; a fault names the thing and the place in it.
pub(super) fn compiled(catalog: &Catalog, store: &Store) -> Result<RouteTable, Refusal> {
    let head = catalog.head();
    let endpoints = catalog.endpoints();
    let compiled = compile_with(&head, &endpoints, catalog.version, Some(store.master()));
    let compiled = compiled.map(|compiled| compiled.table);
    compiled.map_err(|found| named(found, &head, &endpoints))
}

/// Faults that name the thing and the place in it.
fn named<E: Borrow<Endpoint>>(found: Vec<Found>, head: &Model, endpoints: &[E]) -> Refusal {
    let found = found.into_iter();
    found.map(|one| name_place(one, head, endpoints)).collect()
}

/// From a place in the model to the name of a thing and a place in it.
fn name_place<E: Borrow<Endpoint>>(mut found: Found, model: &Model, endpoints: &[E]) -> Found {
    let mut steps = found.pointer.splitn(4, '/').skip(1);
    let (list, index, rest) = (steps.next(), steps.next(), steps.next());
    let Some(at) = index.and_then(|index| index.parse::<usize>().ok()) else {
        return found;
    };
    let (kind, name) = match list {
        Some("nodes") => ("node", model.nodes.get(at).map(|one| &one.name)),
        Some("accounts") => ("account", model.accounts.get(at).map(|one| &one.name)),
        Some("environments") => (
            "environment",
            model.environments.get(at).map(|one| &one.name),
        ),
        Some("hubs") => ("hub", model.hubs.get(at).map(|one| &one.name)),
        Some("channels") => ("channel", model.channels.get(at).map(|one| &one.name)),
        Some("endpoints") => {
            let endpoint = endpoints.get(at).map(Borrow::borrow);
            ("endpoint", endpoint.map(|one| &one.name))
        }
        _ => return found,
    };
    let name = name.map_or("", String::as_str);
    found.fault.what = format!("{kind} {name}: {}", found.fault.what);
    found.pointer = rest.map_or_else(String::new, |rest| format!("/{rest}"));
    found
}
