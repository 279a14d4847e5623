//! How many things an account may define: counted as they change, refused beyond what it may. A change costs as much as it has changes, however many things
//! there are.
//!
//! What an account has beyond a limit that came later stays; it gets no more of it. Every environment has a hub `default` with its partitions, whether it was
//! written or not.

use std::collections::{BTreeSet, HashMap};

use wire::diagnosis::Diagnosis;

use super::{Refusal, refused};
use crate::compile::{PARTITIONS_DEFAULT, PARTITIONS_MAX};
use crate::diagnosis::{CODES, LIMIT};
use crate::model::{Limits, Model, Noun, Thing, account_of};
use crate::store::{Catalog, Change};

/// What is counted of an account.
const COUNTED: [&str; 6] = [
    "environments",
    "hubs",
    "partitions",
    "channels",
    "endpoints",
    "tokens",
];

/// How many of each, in the order of [`COUNTED`].
type Count = [i64; 6];

/// What every account has.
#[derive(Debug, Default)]
pub(super) struct Counts(HashMap<String, Count>);

impl Counts {
    /// Of all these things.
    pub(super) fn of<'a>(things: impl Iterator<Item = &'a Thing>) -> Self {
        let mut counts = Self::default();
        things.for_each(|thing| counts.weigh(thing, 1));
        counts
    }

    /// Of everything that is defined.
    pub(super) fn of_all(catalog: &Catalog) -> Self {
        Self::of(catalog.things.values().map(|stored| &*stored.thing))
    }

    /// What these changes add, and take away.
    pub(super) fn difference(before: &Catalog, after: &Catalog, changes: &[Change]) -> Self {
        let mut difference = Self::default();
        let keys = changes.iter().map(|change| (change.noun, &*change.name));
        for (noun, name) in keys.collect::<BTreeSet<_>>() {
            for (catalog, sign) in [(before, -1), (after, 1)] {
                if let Some(stored) = catalog.get(noun, name) {
                    difference.weigh(&stored.thing, sign);
                }
            }
        }
        difference
    }

    /// With what changed.
    pub(super) fn add(&mut self, difference: Self) {
        for (account, more) in difference.0 {
            let count = self.0.entry(account.clone()).or_default();
            for (count, more) in count.iter_mut().zip(more) {
                *count += more;
            }
            debug_assert!(count.iter().all(|one| *one >= 0), "{count:?}");
            if *count == Count::default() {
                self.0.remove(&account);
            }
        }
    }

    /// Refuse what would give an account more of anything than it may have.
    pub(super) fn check(
        &self,
        difference: &Self,
        (before, after): (&Catalog, &Catalog),
        changes: &[Change],
    ) -> Result<(), Refusal> {
        let mut found = Vec::new();
        let mut accounts: Vec<_> = difference.0.iter().collect();
        accounts.sort();
        for (account, more) in accounts {
            let limits = limits_of(after, account);
            let had = self.0.get(account).copied().unwrap_or_default();
            found.extend(beyond(account, &limits, &had, more));
        }
        found.extend(changes.iter().filter_map(|change| {
            let old = before.get(Noun::Endpoint, &change.name);
            let old = old.map_or(0, |old| grants(&old.thing));
            let new = change.after.as_ref()?;
            let limits = limits_of(after, account_of(&change.name));
            too_many_grants(new, old, &limits)
        }));
        refuse(found)
    }

    /// Count a thing, or count it no more.
    fn weigh(&mut self, thing: &Thing, sign: i64) {
        let Some((account, weight)) = weight(thing) else {
            return;
        };
        if !self.0.contains_key(account) {
            self.0.insert(account.to_owned(), Count::default());
        }
        let count = self.0.get_mut(account).expect("it was put in");
        for (count, one) in count.iter_mut().zip(weight) {
            *count += sign * one;
        }
    }
}

/// Refuse a whole model that has more than its accounts may.
///
/// # Errors
/// Everything that there is too much of.
pub fn check(model: &Model) -> Result<(), Refusal> {
    let things: Vec<Thing> = model.clone().into_things().collect();
    let counts = Counts::of(things.iter());
    let limits = model.accounts.iter();
    let limits: HashMap<&str, Limits> = limits.map(|one| (&*one.name, one.limits)).collect();
    let mut found = Vec::new();
    for account in &model.accounts {
        let count = counts.0.get(&account.name).copied().unwrap_or_default();
        let none = Count::default();
        found.extend(beyond(&account.name, &account.limits, &none, &count));
    }
    found.extend(things.iter().filter_map(|thing| {
        let limits = limits.get(account_of(thing.name()))?;
        too_many_grants(thing, 0, limits)
    }));
    refuse(found)
}

fn refuse(found: Vec<Diagnosis>) -> Result<(), Refusal> {
    if found.is_empty() {
        return Ok(());
    }
    Err(found.into_iter().flat_map(refused).collect())
}

/// Whose thing it is, and what it counts as.
fn weight(thing: &Thing) -> Option<(&str, Count)> {
    let default = i64::from(PARTITIONS_DEFAULT);
    let weight = match thing {
        Thing::Environment(_) => [1, 1, default, 0, 0, 0],
        Thing::Hub(hub) => {
            // Whether there may be so many is for compiling to say.
            let partitions = hub.partitions.unwrap_or(default);
            let partitions = partitions.clamp(0, PARTITIONS_MAX + 1);
            match hub.name.rsplit('/').next() {
                // It was counted with its environment.
                Some("default") => [0, 0, partitions - default, 0, 0, 0],
                _ => [0, 1, partitions, 0, 0, 0],
            }
        }
        Thing::Channel(_) => [0, 0, 0, 1, 0, 0],
        Thing::Endpoint(_) => [0, 0, 0, 0, 1, 0],
        Thing::Token(token) => {
            let account = token.account.as_deref()?;
            return Some((account, [0, 0, 0, 0, 0, 1]));
        }
        _ => return None,
    };
    Some((account_of(thing.name()), weight))
}

fn grants(thing: &Thing) -> usize {
    match thing {
        Thing::Endpoint(endpoint) => endpoint.grants.len(),
        _ => 0,
    }
}

fn limits_of(catalog: &Catalog, account: &str) -> Limits {
    match catalog.get(Noun::Account, account).map(|one| &*one.thing) {
        Some(Thing::Account(account)) => account.limits,
        _ => Limits::default(),
    }
}

/// What there would be too much of.
fn beyond(account: &str, limits: &Limits, had: &Count, more: &Count) -> Vec<Diagnosis> {
    let limits = [
        limits.environments,
        limits.hubs,
        limits.partitions,
        limits.channels,
        limits.endpoints,
        limits.tokens,
    ];
    let each = COUNTED.iter().zip(limits).zip(had.iter().zip(more));
    let each = each.filter_map(|((what, limit), (had, more))| {
        let (limit, count) = (limit?, had + more);
        (*more > 0 && count > i64::from(limit)).then(|| {
            let seen = format!("{count} {what}, {had} of them before");
            told(
                account,
                &format!("account `{account}`"),
                what,
                (seen, limit),
            )
        })
    });
    each.collect()
}

fn too_many_grants(thing: &Thing, before: usize, limits: &Limits) -> Option<Diagnosis> {
    let (limit, count) = (limits.grants_per_endpoint?, grants(thing));
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    (count > most && count > before).then(|| {
        let who = format!("endpoint `{}`", thing.name());
        let seen = format!("{count} grants, {before} of them before");
        let account = account_of(thing.name());
        told(account, &who, "grants_per_endpoint", (seen, limit))
    })
}

fn told(account: &str, who: &str, what: &str, (seen, limit): (String, u32)) -> Diagnosis {
    debug_assert!(CODES.iter().any(|entry| entry.0 == LIMIT), "it is told of");
    Diagnosis::new(
        LIMIT,
        format!("{who} would have more than the limits of its account allow"),
        seen,
        format!("at most {limit}, the `limits.{what}` of the account"),
        format!(
            "delete what is not needed; whoever has a token of an owner for all accounts may raise it: forebay account set {account} limits.{what}=N"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Channel, Endpoint, Environment, Hub, Token};
    use crate::service::{deleting, setting};

    /// One of these kinds in account `a`.
    fn thing(random: &mut fastrand::Rng) -> Thing {
        let number = random.u8(..6);
        let name = format!("a/e{}/x{number}", random.u8(..3));
        match random.u8(..5) {
            0 => Thing::Environment(Environment {
                name: format!("a/e{number}"),
            }),
            1 => Thing::Hub(Hub {
                name: match number {
                    0 => "a/e0/default".to_owned(),
                    _ => name,
                },
                partitions: (number != 1).then_some(8 + i64::from(number)),
                ..Hub::default()
            }),
            2 => Thing::Channel(Channel {
                name,
                ..Channel::default()
            }),
            3 => Thing::Endpoint(Box::new(Endpoint {
                name,
                ..Endpoint::default()
            })),
            _ => Thing::Token(Token {
                name: format!("t{number}"),
                role: crate::model::Role::Viewer,
                account: random.bool().then(|| "a".to_owned()),
                hash: String::new(),
                expires: None,
            }),
        }
    }

    #[test]
    fn what_is_counted_with_each_change_is_what_there_is() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut catalog, mut counts) = (Catalog::default(), Counts::default());
        for version in 1..2_000 {
            // Some of them twice in one change.
            let changes: Vec<Change> = (0..random.u8(1..5))
                .map(|_| {
                    let (thing, gone) = (thing(&mut random), random.u8(..3) == 0);
                    match gone {
                        true => deleting(thing.noun(), thing.name(), None),
                        false => setting(thing, None),
                    }
                })
                .collect();
            let after = catalog.clone().after(&changes, version);
            counts.add(Counts::difference(&catalog, &after, &changes));
            catalog = after;
            let mut whole = Counts::of_all(&catalog);
            whole.0.retain(|_, count| *count != Count::default());
            // A hub `default` without its environment, which no model has, counts as less than none.
            assert_eq!(counts.0, whole.0, "version {version}");
        }
    }
}
