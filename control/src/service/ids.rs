//! Ids of what is defined. They are hashes of full names, and one space for all accounts: so nobody of one account chooses any, and where the
//! hash of a new hub or channel is taken, it is given the next one that is free. What already has an id keeps it.

use std::collections::{HashMap, HashSet};

use wire::diagnosis::Diagnosis;
use wire::ids::{ChannelId, HUB_ID_RESERVED};
use wire::route::RouteTable;

use super::{Caller, Refusal, refused, setting};
use crate::diagnosis::{CODES, ID_COLLISION, KEY_ID_USED, SCOPE};
use crate::model::{Hub, Noun, Thing, hub_hash, node_hash};
use crate::store::{Catalog, Change, Store, WasThere};

/// Let every thing that changes keep its id, and give those that are new one of their own where the hash of their name is taken.
pub(super) fn settle(
    caller: &Caller,
    changes: &mut Vec<Change>,
    (before, store): (&Catalog, &Store),
    table: &RouteTable,
) -> Result<(), Refusal> {
    let leaving = leaving(changes, before);
    for change in changes.iter_mut() {
        let old = before.get(change.noun, &change.name);
        let old = old.map(|old| &*old.thing);
        let Some(thing) = &mut change.after else {
            continue;
        };
        thing.follow(old);
        if caller.account.is_some() && thing.id() != old.and_then(Thing::id) {
            return Err(refused(chosen(caller, thing)));
        }
        no_key_again(thing, old).map_err(refused)?;
        not_anothers(caller, thing, old, (store, &leaving)).map_err(refused)?;
    }
    if caller.account.is_some() {
        endpoints_apart(changes, before, table).map_err(refused)?;
    }
    let of = |noun: Noun| move |change: &Change| change.noun == noun && change.after.is_some();
    if changes.iter().any(of(Noun::Hub)) || changes.iter().any(of(Noun::Environment)) {
        let mut hubs = Taken::hubs(table, changes, store);
        hubs.give_all(changes, before).map_err(refused)?;
        hubs.give_defaults(changes, before).map_err(refused)?;
    }
    if changes.iter().any(of(Noun::Channel)) {
        let mut channels = Taken::channels(table, changes, store);
        channels.give_all(changes, before).map_err(refused)?;
    }
    if changes.iter().any(of(Noun::Node)) {
        let mut nodes = Taken::nodes(table, changes, store);
        nodes.give_all(changes, before).map_err(refused)?;
    }
    Ok(())
}

/// Somebody of one account chose an id: whether it is free would tell what others have, and taking it would keep them from having it.
fn chosen(caller: &Caller, thing: &Thing) -> Diagnosis {
    let what = format!("token `{}` does not reach ids", caller.name);
    let seen = match thing.id() {
        Some(id) => format!("id {id} for `{}`", thing.name()),
        None => format!("no id for `{}`", thing.name()),
    };
    let remedy = "leave `id` out: what is new gets one, what is there keeps its own; or use a token for all accounts";
    Diagnosis::new(SCOPE, what, seen, "a token for all accounts", remedy)
}

/// Refuse a new key with the id of one that is no more.
fn no_key_again(new: &Thing, old: Option<&Thing>) -> Result<(), Diagnosis> {
    let (Thing::Endpoint(new), Some(Thing::Endpoint(old))) = (new, old) else {
        return Ok(());
    };
    let Some(highest) = old.highest_key() else {
        return Ok(());
    };
    let known = |id| old.keys.iter().any(|key| key.id == id);
    let again = new.keys.iter();
    let again = again.filter(|key| key.id <= highest && !known(key.id));
    match again.map(|key| (key.id, &key.name)).next() {
        None => Ok(()),
        Some((id, name)) => Err(Diagnosis::from_table(
            CODES,
            KEY_ID_USED,
            format!("an id of a key of {} was used before", new.name),
            format!("id {id} for key `{name}`"),
            format!("{} or more", highest.saturating_add(1)),
        )),
    }
}

/// What is no more after these changes, by its id.
fn leaving(changes: &[Change], before: &Catalog) -> HashMap<(Noun, u64), String> {
    let gone = changes.iter().filter(|change| change.after.is_none());
    let gone = gone.filter_map(|change| {
        let id = before.get(change.noun, &change.name)?.thing.data_id()?;
        Some(((change.noun, id), change.name.clone()))
    });
    gone.collect()
}

/// Refuse an id that something else had which is no more: what is stored under it would be another's.
fn not_anothers(
    caller: &Caller,
    new: &Thing,
    old: Option<&Thing>,
    (store, leaving): (&Store, &HashMap<(Noun, u64), String>),
) -> Result<(), Diagnosis> {
    let Some(id) = new
        .data_id()
        .filter(|id| old.and_then(Thing::data_id) != Some(*id))
    else {
        return Ok(());
    };
    let (noun, given) = (new.noun(), new.id().is_some());
    // Those get another one where it is not given.
    if !given && matches!(noun, Noun::Hub | Noun::Channel | Noun::Node) {
        return Ok(());
    }
    let had = match leaving.get(&(noun, id)) {
        Some(name) => Some(name.clone()),
        None => store.gone(noun, id)?,
    };
    match had {
        Some(name) if name != new.name() => {
            let whose = match caller.account {
                None => format!("id {id}, which was that of `{name}`"),
                Some(_) => format!("id {id} for `{}`", new.name()),
            };
            let remedy = "give it another `id` or another name: what is stored under this one is not its own";
            let what = format!("the id of {noun} `{}` was another's", new.name());
            let needed = "an id that nothing else had";
            Err(Diagnosis::new(ID_COLLISION, what, whose, needed, remedy))
        }
        _ => Ok(()),
    }
}

/// What has its id no more after these changes, which make a table of another.
pub(super) fn gone(
    changes: &[Change],
    before: &Catalog,
    (was, is): (&RouteTable, &RouteTable),
) -> Vec<WasThere> {
    let mut gone = Vec::new();
    for change in changes
        .iter()
        .filter(|change| matches!(change.noun, Noun::Endpoint | Noun::Node))
    {
        let old = before.get(change.noun, &change.name);
        let old = old.and_then(|old| old.thing.data_id());
        let new = change.after.as_ref().and_then(Thing::data_id);
        if let Some(id) = old.filter(|id| new != Some(*id)) {
            gone.push((change.noun, id, change.name.clone()));
        }
    }
    let ids = |table: &RouteTable| -> HashSet<WasThere> {
        let hubs = table.hubs().iter();
        let hubs = hubs.map(|hub| (Noun::Hub, u64::from(hub.id), hub.name.to_string()));
        let channels = table.channels().iter();
        let channels = channels.map(|channel| {
            let id = u64::from(channel.id.0);
            (Noun::Channel, id, channel.name.to_string())
        });
        hubs.chain(channels).collect()
    };
    let head = |change: &Change| change.noun < Noun::Endpoint;
    if changes.iter().any(head) {
        gone.extend(ids(was).difference(&ids(is)).cloned());
    }
    gone
}

/// Refuse a new endpoint of one account whose hash is taken, without saying by whom.
fn endpoints_apart(
    changes: &[Change],
    before: &Catalog,
    table: &RouteTable,
) -> Result<(), Diagnosis> {
    for change in changes {
        let (Noun::Endpoint, Some(thing)) = (change.noun, &change.after) else {
            continue;
        };
        let new = before.get(Noun::Endpoint, &change.name).is_none() && thing.id().is_none();
        let of_name = wire::ids::EndpointId::of(&change.name);
        if new && table.endpoint(of_name).is_some() {
            return Err(Diagnosis::new(
                ID_COLLISION,
                "the id of an endpoint is taken",
                format!("{of_name} for `{}`", change.name),
                "a name whose hash is free",
                "choose another name, or ask somebody with a token for all accounts to define it with an `id`",
            ));
        }
    }
    Ok(())
}

/// Ids of one kind, and whose they are.
struct Taken<'a> {
    noun: Noun,
    store: &'a Store,
    names: HashMap<u64, String>,
    /// The first that is no id any more.
    end: u64,
    hash: fn(&str) -> u64,
}

impl<'a> Taken<'a> {
    fn hubs(table: &RouteTable, changes: &[Change], store: &'a Store) -> Self {
        let hubs = table.hubs().iter();
        Self::of(
            hubs.map(|hub| (u64::from(hub.id), &*hub.name)),
            (Noun::Hub, changes, store),
            u64::from(HUB_ID_RESERVED),
            |name| u64::from(hub_hash(name)),
        )
    }

    fn channels(table: &RouteTable, changes: &[Change], store: &'a Store) -> Self {
        let channels = table.channels().iter();
        Self::of(
            channels.map(|channel| (u64::from(channel.id.0), &*channel.name)),
            (Noun::Channel, changes, store),
            u64::from(u32::MAX) + 1,
            |name| u64::from(ChannelId::of(name).0),
        )
    }

    fn nodes(table: &RouteTable, changes: &[Change], store: &'a Store) -> Self {
        let nodes = table.nodes().iter();
        Self::of(
            nodes.map(|node| (u64::from(node.id.0), &*node.name)),
            (Noun::Node, changes, store),
            u64::from(u32::MAX) + 1,
            |name| u64::from(node_hash(name).0),
        )
    }

    /// Those that are there, whether they stay or not, and those that are chosen.
    fn of<'t>(
        there: impl Iterator<Item = (u64, &'t str)>,
        (noun, changes, store): (Noun, &[Change], &'a Store),
        end: u64,
        hash: fn(&str) -> u64,
    ) -> Self {
        let mut names: HashMap<u64, String> =
            there.map(|(id, name)| (id, name.to_owned())).collect();
        for change in changes.iter().filter(|change| change.noun == noun) {
            let id = change.after.as_ref().and_then(Thing::id);
            if let Some(id) = id.and_then(|id| u64::try_from(id).ok()) {
                names.entry(id).or_insert_with(|| change.name.clone());
            }
        }
        Self {
            noun,
            store,
            names,
            end,
            hash,
        }
    }

    /// The id that this name needs because that of its hash is another's.
    fn give(&mut self, name: &str) -> Result<Option<i64>, Diagnosis> {
        let first = (self.hash)(name);
        let mut id = first;
        while self.is_anothers(id, name)? {
            id = (id + 1) % self.end;
            if id == first {
                // None is free: compiling says so.
                return Ok(None);
            }
        }
        self.names.insert(id, name.to_owned());
        Ok((id != first).then_some(id as i64))
    }

    /// Whether something else has this id, or had it.
    fn is_anothers(&self, id: u64, name: &str) -> Result<bool, Diagnosis> {
        if let Some(owner) = self.names.get(&id) {
            return Ok(owner != name);
        }
        let gone = self.store.gone(self.noun, id)?;
        Ok(gone.is_some_and(|owner| owner != name))
    }

    /// Give every new thing of a kind an id that needs one.
    fn give_all(&mut self, changes: &mut [Change], before: &Catalog) -> Result<(), Diagnosis> {
        let noun = self.noun;
        for change in changes.iter_mut().filter(|change| change.noun == noun) {
            let new = before.get(noun, &change.name).is_none();
            if let Some(thing) = &mut change.after
                && new
                && thing.id().is_none()
            {
                thing.set_id(self.give(&change.name)?);
            }
        }
        Ok(())
    }

    /// Write down the hub `default` of a new environment where it needs an id of its own.
    fn give_defaults(
        &mut self,
        changes: &mut Vec<Change>,
        before: &Catalog,
    ) -> Result<(), Diagnosis> {
        let hubs = changes.iter().filter(|change| change.noun == Noun::Hub);
        let written: HashSet<&str> = hubs.map(|change| change.name.as_str()).collect();
        let environments = changes.iter();
        let new = environments.filter(|change| {
            let there = before.get(change.noun, &change.name);
            change.noun == Noun::Environment && change.after.is_some() && there.is_none()
        });
        let names = new.map(|change| format!("{}/default", change.name));
        let names: Vec<String> = names
            .filter(|name| !written.contains(name.as_str()))
            .collect();
        for name in names {
            let id = self.give(&name)?;
            if id.is_some() {
                let hub = Hub {
                    name,
                    id,
                    ..Hub::default()
                };
                changes.push(setting(Thing::Hub(hub), Some(0)));
            }
        }
        Ok(())
    }
}
