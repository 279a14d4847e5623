//! Keys of an endpoint: made, rotated with an overlap, revoked, restored, deleted. A secret is shown once, when it is made.

use wire::diagnosis::Diagnosis;

use super::{Caller, Outcome, Refusal, Service, access, refused, setting, there};
use crate::compile::ACTIVE_KEYS_MAX;
use crate::diagnosis::{CODES, KEY_ID_USED, KEY_KIND, NOT_THERE, TOO_MANY_KEYS};
use crate::keys::new_secret;
use crate::model::{
    Direction, Endpoint, Key, Kind, Moment, Noun, Public, Role, Secret, State, Thing,
};
use crate::nearest::nearest;
use crate::store::{Catalog, Change};

/// A key that is asked for.
#[derive(Debug, Clone, Default)]
pub struct KeyOrder {
    /// Its name; made from direction and number unless given.
    pub name: Option<String>,
    /// What it opens.
    pub direction: Direction,
    /// The public half of a pair, for an Ed25519 key; a shared secret is made without one.
    pub public: Option<String>,
    /// When it ends.
    pub expires: Option<Moment>,
}

/// A rotation that is asked for.
#[derive(Debug, Clone, Default)]
pub struct Rotation {
    /// Which keys are followed by a new one.
    pub direction: Direction,
    /// How long those that are good now stay good, in seconds.
    pub overlap_seconds: u64,
    /// Name of the new one; made from direction and number unless given.
    pub name: Option<String>,
}

/// A new key, and its secret for the only time.
#[derive(Debug)]
pub struct NewKey {
    /// The key.
    pub key: Key,
    /// The secret, unless it is an Ed25519 key.
    pub secret: Option<Secret>,
    /// What the change came to.
    pub outcome: Outcome,
}

impl Service {
    /// Give an endpoint a key.
    ///
    /// # Errors
    /// When the caller may not, or the key is malformed or one too many.
    pub fn add_key(
        &self,
        caller: &Caller,
        endpoint: &str,
        order: &KeyOrder,
        expected: Option<u64>,
    ) -> Result<NewKey, Refusal> {
        super::access::may(caller, crate::model::Role::Admin, "make keys").map_err(refused)?;
        let made = make(order);
        self.with_new_key(
            caller,
            "key create",
            endpoint,
            made,
            expected,
            |_, _| Ok(()),
        )
    }

    /// Give an endpoint a new key, and those of its direction an end.
    ///
    /// # Errors
    /// When the caller may not, or two keys overlap already.
    pub fn rotate(
        &self,
        caller: &Caller,
        endpoint: &str,
        rotation: &Rotation,
        expected: Option<u64>,
    ) -> Result<NewKey, Refusal> {
        let now = self.now();
        let made = make(&KeyOrder {
            name: rotation.name.clone(),
            direction: rotation.direction,
            ..KeyOrder::default()
        });
        let prepare = |endpoint: &mut Endpoint, _: &Key| match make_way(endpoint, rotation, now)? {
            // The first key of a direction is a new credential, and no rotation.
            0 => access::may(caller, Role::Admin, "make keys where none is good"),
            _ => Ok(()),
        };
        self.with_new_key(caller, "key rotate", endpoint, made, expected, prepare)
    }

    /// Refuse this key from now on, or no longer.
    ///
    /// # Errors
    /// When the caller may not, or there is no such key.
    pub fn set_revoked(
        &self,
        caller: &Caller,
        endpoint: &str,
        key: &str,
        revoked: bool,
        expected: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        let action = if revoked { "key revoke" } else { "key restore" };
        self.edit_endpoint(caller, action, endpoint, expected, |endpoint| {
            key_of(endpoint, key)?.revoked = revoked.then_some(true);
            Ok(())
        })
    }

    /// Let this key end at a moment, or never.
    ///
    /// # Errors
    /// When the caller may not, or there is no such key.
    pub fn set_expiry(
        &self,
        caller: &Caller,
        endpoint: &str,
        key: &str,
        expires: Option<Moment>,
        expected: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        self.edit_endpoint(caller, "key expire", endpoint, expected, |endpoint| {
            key_of(endpoint, key)?.expires = expires;
            Ok(())
        })
    }

    /// Forget this key.
    ///
    /// # Errors
    /// When the caller may not, or there is no such key.
    pub fn delete_key(
        &self,
        caller: &Caller,
        endpoint: &str,
        key: &str,
        expected: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        super::access::may(caller, crate::model::Role::Admin, "delete keys").map_err(refused)?;
        self.edit_endpoint(caller, "key delete", endpoint, expected, |endpoint| {
            key_of(endpoint, key)?;
            endpoint.keys.retain(|one| one.name != key);
            Ok(())
        })
    }

    /// Change one endpoint.
    ///
    /// # Errors
    /// When the caller may not, it is not there, or what `edit` says.
    pub fn edit_endpoint(
        &self,
        caller: &Caller,
        action: &str,
        name: &str,
        expected: Option<u64>,
        edit: impl FnOnce(&mut Endpoint) -> Result<(), Diagnosis>,
    ) -> Result<Outcome, Refusal> {
        super::access::may_look(caller, Noun::Endpoint, name, caller.role).map_err(refused)?;
        self.edit(caller, action, |catalog, _| {
            let mut endpoint = endpoint_of(catalog, name).map_err(refused)?;
            edit(&mut endpoint).map_err(refused)?;
            Ok(changed(catalog, endpoint, expected))
        })
    }

    fn with_new_key(
        &self,
        caller: &Caller,
        action: &str,
        name: &str,
        (mut key, secret): (Key, Option<Secret>),
        expected: Option<u64>,
        prepare: impl FnOnce(&mut Endpoint, &Key) -> Result<(), Diagnosis>,
    ) -> Result<NewKey, Refusal> {
        let outcome = self.edit_endpoint(caller, action, name, expected, |endpoint| {
            key.id = next_id(endpoint)?;
            if key.name.is_empty() {
                let direction = match key.direction {
                    Direction::Ingress => "ingress",
                    Direction::Egress => "egress",
                };
                key.name = format!("{direction}-{}", key.id);
            }
            prepare(endpoint, &key)?;
            endpoint.keys.push(key.clone());
            Ok(())
        })?;
        key.secret = None;
        Ok(NewKey {
            key,
            secret,
            outcome,
        })
    }
}

/// The id of the next key: one that none had.
fn next_id(endpoint: &Endpoint) -> Result<i64, Diagnosis> {
    let highest = endpoint.highest_key().unwrap_or(0);
    if highest < i64::from(u32::MAX) {
        return Ok(highest + 1);
    }
    Err(Diagnosis::new(
        KEY_ID_USED,
        format!("endpoint {} has no id for another key", endpoint.name),
        format!("a key of it has, or had, id {highest}"),
        "an id that none had",
        "make another endpoint, and numbers of keys one after the other",
    ))
}

/// A change to an endpoint, unless it is as it was.
fn changed(catalog: &Catalog, endpoint: Endpoint, expected: Option<u64>) -> Vec<Change> {
    let old = catalog.get(Noun::Endpoint, &endpoint.name);
    let thing = Thing::Endpoint(Box::new(endpoint));
    match old {
        Some(old) if *old.thing == thing && expected.is_none() => Vec::new(),
        _ => vec![setting(thing, expected)],
    }
}

/// A key without a number, and its secret.
fn make(order: &KeyOrder) -> (Key, Option<Secret>) {
    let secret = match order.public {
        Some(_) => None,
        None => Some(Secret::new(new_secret().text())),
    };
    let key = Key {
        name: order.name.clone().unwrap_or_default(),
        direction: order.direction,
        kind: order.public.as_ref().map(|_| Kind::Ed25519),
        secret: secret.clone(),
        public: order.public.clone().map(Public::new),
        expires: order.expires.clone(),
        ..Key::default()
    };
    (key, secret)
}

/// Keys of an endpoint that stay after a rotation, those of before included that are good no more.
const KEYS_KEPT: usize = 16;

/// Give the good keys of a direction their end; those that have ended make room. How many are good.
fn make_way(endpoint: &mut Endpoint, rotation: &Rotation, now: u64) -> Result<usize, Diagnosis> {
    let end = now.saturating_add(rotation.overlap_seconds);
    let mut good = 0;
    let keys = endpoint.keys.iter_mut();
    for key in keys.filter(|key| key.direction == rotation.direction) {
        match key.state(now) {
            State::Revoked => continue,
            State::Expired => {
                key.revoked = Some(true);
                continue;
            }
            State::Live | State::Expiring => {}
        }
        if key.kind == Some(Kind::Ed25519) || key.public.is_some() {
            return Err(Diagnosis::from_table(
                CODES,
                KEY_KIND,
                format!("key `{}` cannot be followed by a shared secret", key.name),
                "ed25519",
                "hmac-sha256 for a rotation; a new pair is made by its owner",
            ));
        }
        let ends = key.expires.as_ref().and_then(Moment::seconds);
        if ends.is_none_or(|at| at > end) {
            key.expires = Some(Moment::from_seconds(end));
        }
        good += 1;
    }
    // The oldest that are good no more make room for good, so that there is no last rotation.
    while endpoint.keys.len() >= KEYS_KEPT {
        let keys = endpoint.keys.iter().enumerate();
        let ended =
            keys.filter(|(_, key)| matches!(key.state(now), State::Revoked | State::Expired));
        let Some((at, _)) = ended.min_by_key(|(_, key)| key.id) else {
            break;
        };
        endpoint.keys.remove(at);
    }
    if good >= ACTIVE_KEYS_MAX {
        return Err(Diagnosis::new(
            TOO_MANY_KEYS,
            format!("{} is being rotated already", endpoint.name),
            format!("{good} keys that are good"),
            "one, so that the new one is the second",
            "wait until the older one has ended, or revoke it",
        ));
    }
    Ok(good)
}

fn endpoint_of(catalog: &Catalog, name: &str) -> Result<Endpoint, Diagnosis> {
    match &*there(catalog, Noun::Endpoint, name)?.thing {
        Thing::Endpoint(endpoint) => Ok((**endpoint).clone()),
        other => unreachable!("{} under the name of an endpoint", other.noun()),
    }
}

/// The key of this name.
fn key_of<'a>(endpoint: &'a mut Endpoint, name: &str) -> Result<&'a mut Key, Diagnosis> {
    let owner = &endpoint.name;
    let names = endpoint.keys.iter().map(|key| key.name.as_str());
    let remedy = match nearest(name, names) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "list the keys of the endpoint".to_owned(),
    };
    let fault = Diagnosis::new(
        NOT_THERE,
        format!("{owner} has no such key"),
        format!("`{name}`"),
        "one of its keys",
        remedy,
    );
    endpoint
        .keys
        .iter_mut()
        .find(|key| key.name == name)
        .ok_or(fault)
}
