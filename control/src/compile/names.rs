//! Accounts and environments, and who may be named within them.

use std::collections::BTreeMap;

use super::faults::{Faults, Place};
use crate::diagnosis::{DUPLICATE, NAME, UNKNOWN_NAME};
use crate::model::{Model, NAME_NEEDED, account_of, environment_of, is_part};

/// The declared environments, each with its place in the list.
pub(crate) struct Names<'a> {
    accounts: BTreeMap<&'a str, usize>,
    environments: BTreeMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    /// Read accounts and environments of the model.
    pub(crate) fn of(model: &'a Model, faults: &mut Faults) -> Self {
        let accounts = model.accounts.iter().map(|account| account.name.as_str());
        let accounts = declared(accounts, "account", 1, faults);
        let environments = model.environments.iter().map(|one| one.name.as_str());
        let environments = declared(environments, "environment", 2, faults);
        for (name, at) in &environments {
            let account = account_of(name);
            if !accounts.contains_key(account) {
                let known = accounts.keys().copied();
                let otherwise = "declare it under [[accounts]]";
                let remedy = faults.did_you_mean(account, known, otherwise);
                faults.add(
                    &Place::root("environments").index(*at).key("name"),
                    UNKNOWN_NAME,
                    "an environment names an unknown account",
                    format!("`{account}`"),
                    "a declared account",
                    remedy,
                );
            }
        }
        Self {
            accounts,
            environments,
        }
    }

    /// The environments in order, each with its place in the list.
    pub(crate) fn environments(&self) -> impl Iterator<Item = (&'a str, usize)> {
        self.environments.iter().map(|(name, at)| (*name, *at))
    }

    /// Whether `name` is a full name in a declared environment; if not, the fault is noted.
    pub(crate) fn check_full(
        &self,
        name: &str,
        place: &Place<'_>,
        kind: &str,
        faults: &mut Faults,
    ) -> bool {
        if !well_formed(name, place, kind, 3, faults) {
            return false;
        }
        let environment = environment_of(name);
        if self.environments.contains_key(environment) {
            return true;
        }
        let remedy = self.hint(environment, faults);
        faults.add(
            place,
            UNKNOWN_NAME,
            &format!("the {kind} names an unknown environment"),
            format!("`{environment}`"),
            "a declared environment",
            remedy,
        );
        false
    }

    /// What to do about an unknown environment. Of an account that there is, others have no business with the names in it, nor it
    /// with theirs: the nearest one is looked for in it alone.
    fn hint(&self, environment: &str, faults: &mut Faults) -> String {
        let otherwise = "declare it under [[environments]]";
        let account = account_of(environment);
        let all = self.environments.keys().copied();
        if !self.accounts.contains_key(account) {
            return faults.did_you_mean(environment, all, otherwise);
        }
        let prefix = format!("{account}/");
        let own = self.environments.range(prefix.as_str()..);
        let own = own.map(|(name, _)| *name);
        let own = own.take_while(|name| name.starts_with(&prefix));
        faults.did_you_mean(environment, own, otherwise)
    }
}

fn declared<'a>(
    items: impl Iterator<Item = &'a str>,
    kind: &str,
    parts: usize,
    faults: &mut Faults,
) -> BTreeMap<&'a str, usize> {
    let mut names = BTreeMap::new();
    let list = format!("{kind}s");
    for (at, name) in items.enumerate() {
        let list = Place::root(&list);
        let element = list.index(at);
        let place = element.key("name");
        if !well_formed(name, &place, kind, parts, faults) {
            continue;
        }
        if names.insert(name, at).is_some() {
            faults.add(
                &place,
                DUPLICATE,
                &format!("an {kind} is declared twice"),
                format!("`{name}`"),
                format!("one {kind} of that name"),
                "remove one",
            );
        }
    }
    names
}

/// Whether `name` has `parts` good parts; if not, the fault is noted.
fn well_formed(
    name: &str,
    place: &Place<'_>,
    kind: &str,
    parts: usize,
    faults: &mut Faults,
) -> bool {
    let good = name.split('/').count() == parts && name.split('/').all(is_part);
    if !good {
        let form = match parts {
            1 => "a name",
            2 => "account/environment",
            _ => "account/environment/name",
        };
        faults.add(
            place,
            NAME,
            &format!("the name of the {kind} is malformed"),
            format!("`{name}`"),
            format!("{form} of {NAME_NEEDED}"),
            "rename it",
        );
    }
    good
}
