//! Changes that are made while sessions are open, by the control plane and in the model alike.

use control::model::{Moment, Noun};
use control::service::{Apply, Caller, Rotation, deleting};
use fastrand::Rng;

use super::node::{Node, material};
use super::plan::{
    self, ACCOUNTS, CHANNELS, Channel, Defined, ENVIRONMENTS, HUBS, account_rates, certificates,
    grant, home, hours, maybe, moment, transports,
};
use super::questions::end;
use super::reference::{Key, has_ended};
use super::written;

/// Change something; says what, for who has to find a fault.
pub(crate) fn change(
    random: &mut Rng,
    defined: &mut Defined,
    node: &mut Node,
    at: u64,
) -> &'static str {
    let which = random.usize(..defined.endpoints.len());
    match random.u8(..12) {
        0 => revoke(random, defined, node, which),
        1 => rotate(random, defined, node, (which, at)),
        2 => expire(random, defined, node, (which, at)),
        3 => replace_secret(random, defined, node, which),
        4 => account(random, defined, node),
        5 => channel(random, defined, node),
        6..9 => grants(random, defined, node, which),
        _ => endpoint(random, defined, node, which),
    }
}

/// Declare what is defined of one endpoint now.
fn declare(defined: &Defined, node: &Node, which: usize, of: &[u32]) {
    let known = material(node.secrets());
    let fresh = |key: &Key| match of.contains(&key.id) {
        true => known(key),
        // A key that says nothing of its secret keeps it.
        false => String::new(),
    };
    let mut text = String::new();
    written::endpoint(&mut text, &defined.endpoints[which], &fresh);
    apply(node, &text);
}

fn apply(node: &Node, text: &str) {
    let model = control::plan::read(text, "change");
    let model = model.unwrap_or_else(|fault| panic!("{fault}\n{text}"));
    let apply = Apply {
        model,
        prune: false,
        create: false,
    };
    let applied = node.service.apply(&Caller::local(), &apply);
    applied.unwrap_or_else(|found| panic!("{}\n{text}", found[0].fault));
}

/// Revoke a key, or restore one where that leaves two at most.
fn revoke(random: &mut Rng, defined: &mut Defined, node: &mut Node, which: usize) -> &'static str {
    let endpoint = &mut defined.endpoints[which];
    let at = random.usize(..endpoint.keys.len());
    let (sends, revoked) = (endpoint.keys[at].sends, endpoint.keys[at].revoked);
    let active = endpoint.keys.iter();
    let active = active.filter(|key| key.sends == sends && !key.revoked);
    let room = active.count() < 2;
    let (owner, key) = (endpoint.name.clone(), endpoint.keys[at].name.clone());
    let done = node
        .service
        .set_revoked(&Caller::local(), &owner, &key, !revoked, None);
    assert_eq!(done.is_ok(), !revoked || room, "{owner} {key} {revoked}");
    if done.is_ok() {
        endpoint.keys[at].revoked = !revoked;
    }
    "a key is revoked or restored"
}

/// Follow the good keys of a direction by a new one: they end with the overlap, and those that have ended make room.
fn rotate(
    random: &mut Rng,
    defined: &mut Defined,
    node: &mut Node,
    (which, at): (usize, u64),
) -> &'static str {
    let sends = random.bool();
    let overlap = end(random, at).saturating_sub(at);
    let overlap = overlap.min(86_400);
    let endpoint = &mut defined.endpoints[which];
    let of_way = |key: &&Key| key.sends == sends;
    let good = |key: &&Key| of_way(key) && !key.revoked && !has_ended(key.expires, at);
    let pairs = endpoint.keys.iter().filter(good).any(|key| key.pair);
    let fits = !pairs && endpoint.keys.iter().filter(good).count() < 2;
    let rotation = Rotation {
        direction: match sends {
            true => control::model::Direction::Ingress,
            false => control::model::Direction::Egress,
        },
        overlap_seconds: overlap,
        name: None,
    };
    let made = node
        .service
        .rotate(&Caller::local(), &endpoint.name, &rotation, None);
    assert_eq!(made.is_ok(), fits, "{endpoint:#?}");
    let Ok(made) = made else {
        return "a rotation is refused";
    };
    for key in endpoint.keys.iter_mut().filter(|key| key.sends == sends) {
        if key.revoked {
            continue;
        }
        match has_ended(key.expires, at) {
            true => key.revoked = true,
            false => key.expires = Some(key.expires.map_or(at + overlap, |e| e.min(at + overlap))),
        }
    }
    let secret = made.secret.expect("a shared secret");
    endpoint.keys.push(Key {
        id: u32::try_from(made.key.id).expect("there are few"),
        name: made.key.name,
        sends,
        pair: false,
        secret: node.learn(secret.reveal()),
        revoked: false,
        expires: None,
    });
    defined.secrets += 1;
    "keys are rotated"
}

fn expire(
    random: &mut Rng,
    defined: &mut Defined,
    node: &mut Node,
    (which, at): (usize, u64),
) -> &'static str {
    let expires = maybe(random, 2, |random| end(random, at));
    let endpoint = &mut defined.endpoints[which];
    let of = random.usize(..endpoint.keys.len());
    let key = &mut endpoint.keys[of];
    let written = expires.map(|at| Moment::new(written::moment(at)));
    node.service
        .set_expiry(&Caller::local(), &endpoint.name, &key.name, written, None)
        .unwrap_or_else(|found| panic!("{}", found[0].fault));
    key.expires = expires;
    "a key gets another end"
}

/// Another secret under the same id: another key.
fn replace_secret(
    random: &mut Rng,
    defined: &mut Defined,
    node: &mut Node,
    which: usize,
) -> &'static str {
    let keys = &mut defined.endpoints[which].keys;
    let at = random.usize(..keys.len());
    keys[at].secret = node.learn_new();
    let id = keys[at].id;
    defined.secrets += 1;
    declare(defined, node, which, &[id]);
    "a key gets another secret"
}

fn account(random: &mut Rng, defined: &mut Defined, node: &mut Node) -> &'static str {
    let name = ACCOUNTS[random.usize(..2)];
    let rates = account_rates(random);
    defined.accounts.insert(name, rates);
    let mut text = String::new();
    written::account(&mut text, name, &rates);
    apply(node, &text);
    "an account gets other rates"
}

/// Delete a channel, which is refused while anything is granted on it; define it again; or give it another hub or id.
fn channel(random: &mut Rng, defined: &mut Defined, node: &mut Node) -> &'static str {
    let environment = ENVIRONMENTS[random.usize(..4)];
    let name = format!("{environment}/{}", CHANNELS[random.usize(..3)]);
    let there = defined.channels.contains_key(&name);
    if there && random.bool() {
        let mut grants = defined.endpoints.iter().flat_map(|one| &one.grants);
        let granted = grants.any(|grant| grant.channel == name);
        let done = node.service.edit(&Caller::local(), "delete", |_, _| {
            Ok(vec![deleting(Noun::Channel, &name, None)])
        });
        assert_eq!(done.is_ok(), !granted, "{name}");
        if !granted {
            defined.channels.remove(&name);
        }
        return "a channel is deleted, or that is refused";
    }
    // Only one that nobody sends to may move: numbers of its streams would begin anew.
    let channel = Channel {
        id: maybe(random, 3, |random| 2_000 + random.u32(..2_000_000_000)),
        hub: HUBS[random.usize(..2)].0,
    };
    let taken = |id: u32| {
        let mut others = defined.channels.iter().filter(|(other, _)| **other != name);
        others.any(|(_, other)| other.id == Some(id))
    };
    if channel.id.is_some_and(taken) {
        return "nothing changes";
    }
    let mut text = String::new();
    written::channel(&mut text, &name, &channel);
    apply(node, &text);
    defined.channels.insert(name, channel);
    "a channel is defined otherwise"
}

fn grants(random: &mut Rng, defined: &mut Defined, node: &mut Node, which: usize) -> &'static str {
    let endpoint = &mut defined.endpoints[which];
    let mut channels: Vec<&String> = defined.channels.keys().collect();
    channels.retain(|name| name[..1] == endpoint.name[..1]);
    channels.sort_unstable();
    let at = random.usize(..endpoint.grants.len().max(1));
    match random.u8(..3) {
        0 if !endpoint.grants.is_empty() => drop(endpoint.grants.remove(at)),
        1 if !endpoint.grants.is_empty() => {
            let old = &endpoint.grants[at];
            let mut new = grant(random, old.channel.clone(), old.sends);
            if random.bool() {
                new.rates = old.rates;
            }
            endpoint.grants[at] = new;
        }
        _ => {
            let Some(channel) = random.choice(channels) else {
                return "nothing changes";
            };
            let sends = random.bool();
            let new = grant(random, channel.clone(), sends);
            let same = |one: &super::reference::Grant| {
                one.channel == new.channel && one.sends == new.sends
            };
            if !endpoint.grants.iter().any(same) {
                endpoint.grants.push(new);
            }
        }
    }
    declare(defined, node, which, &[]);
    "grants change"
}

fn endpoint(
    random: &mut Rng,
    defined: &mut Defined,
    node: &mut Node,
    which: usize,
) -> &'static str {
    let endpoint = &mut defined.endpoints[which];
    match random.u8(..7) {
        0 => endpoint.enabled = !endpoint.enabled,
        6 => endpoint.home = home(random),
        1 => endpoint.transports = (0..4).fold(Vec::new(), |_, _| transports(random)),
        2 => endpoint.certificates = certificates(random),
        3 => endpoint.hours = hours(random),
        4 => endpoint.expires = maybe(random, 2, moment),
        _ => endpoint.rates = plan::rates(random, 2),
    }
    declare(defined, node, which, &[]);
    "an endpoint changes"
}
