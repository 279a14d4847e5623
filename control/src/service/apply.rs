//! Declaring everything at once: what differs from a document is changed, in one transaction. And the way back.

use serde::Serialize;
use serde_json::Value;
use wire::diagnosis::Diagnosis;

use super::{Caller, Outcome, Refusal, Service, access, deleting, not_there, refused, setting};
use crate::diagnosis::{CHANGED_MEANWHILE, CODES, DUPLICATE, SEALED};
use crate::model::{Endpoint, Key, Model, Noun, Role, Secret, Thing};
use crate::seal::MasterKey;
use crate::store::{Catalog, Change, Store};

/// A document that is to hold.
#[derive(Debug, Clone)]
pub struct Apply {
    /// What it says.
    pub model: Model,
    /// Delete what it does not name, in the accounts that it names.
    pub prune: bool,
    /// Change nothing that is there: what it names is not there, or is so already.
    pub create: bool,
}

/// One thing that a document changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Its kind.
    pub noun: Noun,
    /// Its full name.
    pub name: String,
    /// `create`, `change` or `delete`.
    pub action: &'static str,
    /// What it is.
    pub before: Value,
    /// What it is to be.
    pub after: Value,
}

/// How secrets are exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Secrets {
    /// Not at all.
    #[default]
    None,
    /// Sealed: of use with the same master key alone.
    Sealed,
    /// As they are; for owners.
    Plain,
}

impl Service {
    /// What applying a document would change.
    ///
    /// # Errors
    /// When the caller may not look at what it names.
    pub fn differences(&self, caller: &Caller, apply: &Apply) -> Result<Vec<Difference>, Refusal> {
        self.compare(caller, apply).map(|(_, found)| found)
    }

    /// The same, and the version that it was compared with.
    ///
    /// # Errors
    /// When the caller may not look at what it names.
    pub fn compare(
        &self,
        caller: &Caller,
        apply: &Apply,
    ) -> Result<(u64, Vec<Difference>), Refusal> {
        access::may(caller, Role::Viewer, "compare").map_err(refused)?;
        reached(caller, &apply.model).map_err(refused)?;
        self.with_store(|store| {
            let catalog = self.catalog();
            let changes = changes(&catalog, store, apply)?;
            let changes = changes.iter();
            let found = changes.map(|change| difference(change, &catalog)).collect();
            Ok((catalog.version, found))
        })
    }

    /// Make what a document says hold.
    ///
    /// # Errors
    /// Everything that is wrong with it; nothing has changed then.
    pub fn apply(&self, caller: &Caller, apply: &Apply) -> Result<Outcome, Refusal> {
        self.apply_at(caller, apply, None)
    }

    /// The same, if everything is still at the version that was looked at.
    ///
    /// # Errors
    /// When it is not, and everything that is wrong with the document; nothing has changed then.
    pub fn apply_at(
        &self,
        caller: &Caller,
        apply: &Apply,
        expected: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        access::may(caller, Role::Admin, "apply").map_err(refused)?;
        reached(caller, &apply.model).map_err(refused)?;
        self.edit(caller, "apply", |catalog, store| {
            still_at(expected, catalog.version).map_err(refused)?;
            changes(catalog, store, apply)
        })
    }

    /// Everything that the caller reaches, as a document that can be applied. One with secrets is noted in the audit log first.
    ///
    /// # Errors
    /// When the caller may not have the secrets asked for.
    pub fn export(&self, caller: &Caller, secrets: Secrets) -> Result<Model, Diagnosis> {
        let role = match secrets {
            Secrets::None => Role::Viewer,
            Secrets::Sealed => Role::Admin,
            Secrets::Plain => Role::Owner,
        };
        access::may(caller, role, "export")?;
        match secrets {
            Secrets::None => {}
            Secrets::Sealed => self.note(caller, "export sealed secrets")?,
            Secrets::Plain => self.note(caller, "export plain secrets")?,
        }
        let mut model = Model::default();
        for stored in self.catalog().things.values() {
            if caller.reaches(stored.thing.noun(), stored.thing.name()) {
                model.push((*stored.thing).clone());
            }
        }
        self.with_store(|store| {
            for endpoint in &mut model.endpoints {
                for at in 0..endpoint.keys.len() {
                    show_secret(endpoint, at, secrets, store.master())?;
                }
            }
            Ok(model)
        })
    }
}

/// Refuse a document that names anything outside the caller's account, also what it would not change: whether something is there, and
/// is as the document says, is told to nobody else.
fn reached(caller: &Caller, model: &Model) -> Result<(), Diagnosis> {
    let named = (model.accounts.iter().map(|one| (Noun::Account, &one.name)))
        .chain((model.environments.iter()).map(|one| (Noun::Environment, &one.name)))
        .chain(model.hubs.iter().map(|one| (Noun::Hub, &one.name)))
        .chain((model.channels.iter()).map(|one| (Noun::Channel, &one.name)))
        .chain((model.endpoints.iter()).map(|one| (Noun::Endpoint, &one.name)))
        .chain(model.nodes.iter().map(|one| (Noun::Node, &one.name)));
    if model.queue_groups.is_some() {
        access::may_look(caller, Noun::Settings, "", Role::Viewer)?;
    }
    for (noun, name) in named {
        access::may_look(caller, noun, name, Role::Viewer)?;
    }
    Ok(())
}

/// Leave of a key's secret what is asked for.
fn show_secret(
    endpoint: &mut Endpoint,
    at: usize,
    secrets: Secrets,
    master: &MasterKey,
) -> Result<(), Diagnosis> {
    let Endpoint { name, keys, .. } = endpoint;
    let key = &mut keys[at];
    match secrets {
        Secrets::Sealed => {}
        Secrets::None => key.sealed = None,
        Secrets::Plain => {
            if let Some(sealed) = key.sealed.take() {
                let opened = master.open(name, key.id, &sealed).map_err(|seen| {
                    let what = format!("a secret of {name} does not open");
                    let needed = "the master key that sealed it";
                    Diagnosis::from_table(CODES, SEALED, what, seen, needed)
                })?;
                key.secret = Some(opened.exposed());
            }
        }
    }
    Ok(())
}

/// What differs from the document, in an order in which nothing refers to what is not there.
fn changes(catalog: &Catalog, store: &Store, apply: &Apply) -> Result<Vec<Change>, Refusal> {
    let mut changes = Vec::new();
    let mut named = std::collections::BTreeSet::new();
    for mut thing in apply.model.clone().into_things() {
        let (noun, name) = (thing.noun(), thing.name().to_owned());
        let old = catalog.get(noun, &name);
        if let (Thing::Endpoint(new), Some(Thing::Endpoint(old))) =
            (&mut thing, old.map(|old| &*old.thing))
        {
            keep_secrets(new, old, store.master());
        }
        thing.follow(old.map(|old| &*old.thing));
        let differs = old.is_none_or(|old| *old.thing != thing);
        if !named.insert((noun, name.clone())) {
            return Err(refused(twice(&thing)));
        }
        if differs {
            if apply.create {
                not_there(catalog, noun, &name).map_err(refused)?;
            }
            changes.push(setting(thing, apply.create.then_some(0)));
        }
    }
    if apply.prune {
        let accounts: Vec<&str> = (apply.model.accounts.iter())
            .map(|account| account.name.as_str())
            .collect();
        let gone = catalog.things.keys().rev().filter(|key| {
            let owned = key
                .1
                .split('/')
                .next()
                .is_some_and(|first| accounts.contains(&first));
            let kept = matches!(
                key.0,
                Noun::Settings | Noun::Token | Noun::Account | Noun::Node
            );
            owned && !kept && !named.contains(*key)
        });
        changes.extend(gone.map(|(noun, name)| deleting(*noun, name, None)));
    }
    Ok(changes)
}

/// Whether nothing changed since it was looked at.
fn still_at(expected: Option<u64>, found: u64) -> Result<(), Diagnosis> {
    match expected {
        Some(expected) if expected != found => {
            let what = "something was changed since the document was compared";
            let (seen, needed) = (format!("version {found}"), format!("version {expected}"));
            Err(Diagnosis::from_table(
                CODES,
                CHANGED_MEANWHILE,
                what,
                seen,
                needed,
            ))
        }
        _ => Ok(()),
    }
}

/// A document names a thing twice.
fn twice(thing: &Thing) -> Diagnosis {
    let noun = thing.noun();
    let what = format!("the document declares a {noun} twice");
    let (seen, needed) = (
        format!("`{}`", thing.name()),
        format!("one {noun} of that name"),
    );
    Diagnosis::from_table(CODES, DUPLICATE, what, seen, needed)
}

/// A key that says nothing of its secret keeps it, and one that says the same keeps the sealed form it has.
fn keep_secrets(new: &mut Endpoint, old: &Endpoint, master: &MasterKey) {
    let name = new.name.clone();
    let open = |key: &Key| -> Option<Secret> {
        let sealed = key.sealed.as_ref()?;
        master.open(&name, key.id, sealed).ok()
    };
    for key in &mut new.keys {
        let same = |other: &&Key| other.id == key.id && other.name == key.name;
        let Some(old) = old.keys.iter().find(same) else {
            continue;
        };
        let silent = key.secret.is_none() && key.sealed.is_none() && key.public.is_none();
        let said = key.secret.clone().or_else(|| open(key));
        if silent || (said.is_some() && said == open(old)) {
            key.secret = None;
            key.sealed.clone_from(&old.sealed);
        }
        if silent {
            key.public.clone_from(&old.public);
        }
    }
}

fn difference(change: &Change, catalog: &Catalog) -> Difference {
    let old = catalog.get(change.noun, &change.name);
    Difference {
        noun: change.noun,
        name: change.name.clone(),
        action: match (old, &change.after) {
            (_, None) => "delete",
            (None, Some(_)) => "create",
            (Some(_), Some(_)) => "change",
        },
        before: old.map_or(Value::Null, |old| old.thing.shown()),
        after: change.after.as_ref().map_or(Value::Null, Thing::shown),
    }
}
