//! What is published when little changes: the table that compiling everything gives, and how it differs from the one before.
//! Long runs: `FOREBAY_SERVICE_EDITS=5000 cargo test -p forebay-control --test service changes`; a number behind a colon is the seed.

use std::time::Duration;

use control::compile::compile;
use control::model::{
    Account, Allow, Channel, Endpoint, Environment, Grant, Hub, Node, Noun, Settings, Thing,
};
use control::seal::MasterKey;
use control::service::{Caller, deleting, setting};
use control::store::{Change, Key};

use super::{World, world};

/// An edit that may be wrong: nobody knows what is there.
fn edit(random: &mut fastrand::Rng) -> Vec<Change> {
    let one = |random: &mut fastrand::Rng| {
        let (account, number) = (["a", "b"][random.usize(..2)], random.u8(..6));
        let environment = ["e", "e", "e", "f"][random.usize(..4)];
        let within = format!("{account}/{environment}");
        let channel = format!("{within}/extra{}", random.u8(..3));
        let part = format!("hub{}", random.u8(..2));
        let hub = format!("{account}/e/{part}");
        let home = ["north", "south", "west"][random.usize(..3)];
        match random.u8(..24) {
            20 => deleting(Noun::Node, home, None),
            21..24 => setting(
                Thing::Node(Node {
                    name: home.to_owned(),
                    id: (random.u8(..4) == 0).then(|| random.i64(1..4)),
                    ..Node::default()
                }),
                None,
            ),
            0 => deleting(Noun::Channel, &channel, None),
            1 => deleting(Noun::Endpoint, &format!("{within}/{number}"), None),
            12 => deleting(Noun::Hub, &hub, None),
            13 => deleting(Noun::Environment, &within, None),
            14 => deleting(Noun::Account, account, None),
            15 => setting(
                Thing::Hub(Hub {
                    name: hub,
                    ..Hub::default()
                }),
                None,
            ),
            16 | 17 => setting(
                Thing::Environment(Environment {
                    name: format!("{account}/f"),
                }),
                None,
            ),
            18 => setting(
                Thing::Settings(Settings {
                    queue_groups: Some(random.i64(1..4)),
                }),
                None,
            ),
            2 | 3 => setting(
                Thing::Channel(Channel {
                    name: channel,
                    id: (random.u8(..4) == 0).then(|| random.i64(1..4)),
                    hub: (random.u8(..4) == 0).then_some(part),
                    ..Channel::default()
                }),
                None,
            ),
            4 => setting(
                Thing::Account(Account {
                    name: account.to_owned(),
                    messages_per_second: random.bool().then_some(9),
                    ..Account::default()
                }),
                None,
            ),
            _ => {
                let elsewhere = format!("{account}/e/extra2");
                let channels = ["extra0", "extra1", &elsewhere, "readings"];
                let grant = |channel: &&str| {
                    let allow = [Allow::Send, Allow::Receive][random.usize(..2)];
                    let silent = allow == Allow::Receive && random.bool();
                    Grant {
                        channel: (*channel).to_owned(),
                        allow,
                        subscribed: silent.then_some(false),
                        ..Grant::default()
                    }
                };
                let grants = channels.iter().map(grant).collect::<Vec<_>>();
                let some = random.usize(..=grants.len());
                setting(
                    Thing::Endpoint(Box::new(Endpoint {
                        name: format!("{within}/{number}"),
                        id: (random.u8(..4) == 0).then(|| random.i64(1..4)),
                        grants: grants.into_iter().take(some).collect(),
                        home: (random.u8(..4) == 0).then(|| home.to_owned()),
                        ..Endpoint::default()
                    })),
                    None,
                )
            }
        }
    };
    (0..=random.usize(..2)).map(|_| one(random)).collect()
}

/// The digest of everything that is defined, compiled anew.
pub(super) fn whole(world: &World) -> wire::route::Digest {
    let catalog = world.service.catalog();
    let master = MasterKey::new(&[7; 32]);
    let compiled = compile(&catalog.model(), catalog.version, Some(&master));
    compiled.expect("it was accepted").digest
}

#[test]
fn what_an_edit_touches_gives_the_table_that_everything_gives() {
    let told = std::env::var("FOREBAY_SERVICE_EDITS").unwrap_or_else(|_| "60".to_owned());
    let (count, seed) = told.split_once(':').unwrap_or((&told, "1"));
    let number = |text: &str| text.parse::<u64>().expect("a count, or a count and a seed");
    let (count, seed) = (number(count), number(seed));
    println!("{count} edits of seed {seed}: FOREBAY_SERVICE_EDITS={count}:{seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let world = world();
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..count {
        let before = world.service.digest();
        let changes = edit(&mut random);
        let there = |change: &Change| {
            world
                .service
                .catalog()
                .get(change.noun, &change.name)
                .is_some()
        };
        let changes: Vec<_> = changes
            .into_iter()
            .filter(|change| change.after.is_some() || there(change))
            .collect();
        let all = Caller::local();
        match world.service.edit(&all, "test", |_, _| Ok(changes)) {
            Ok(outcome) => {
                taken += 1;
                let progress = world.service.wait(&outcome, Duration::ZERO);
                assert!(progress.complete, "published before it is told");
                let table = world.node.table();
                assert_eq!(table.digest(), whole(&world), "seed {seed}");
                assert_eq!(table.epoch(), outcome.version);
                let keys: Vec<Key> = world.service.catalog().things.keys().cloned().collect();
                let endpoints = keys.iter().filter(|(noun, _)| *noun == Noun::Endpoint);
                assert_eq!(table.endpoint_count(), endpoints.count());
            }
            Err(faults) => {
                refused += 1;
                assert!(!faults.is_empty());
                assert_eq!(world.service.digest(), before, "nothing has changed");
            }
        }
    }
    let deltas = world.node.deltas();
    println!("{taken} taken, {deltas} of them as changes, {refused} refused");
    assert!(count < 50 || (deltas > 10 && refused > 5 && taken > deltas));
}

#[test]
fn a_deletion_is_a_change_too_and_what_is_left_behind_is_named() {
    let world = world();
    let all = Caller::local();
    let edit = |changes: Vec<Change>| world.service.edit(&all, "test", |_, _| Ok(changes));
    let within = |name: &str| format!("a/f/{name}");
    let hub = Hub {
        name: within("own"),
        ..Hub::default()
    };
    let channel = Channel {
        name: within("loud"),
        hub: Some("own".to_owned()),
        ..Channel::default()
    };
    let silent = Grant {
        channel: "loud".to_owned(),
        allow: Allow::Receive,
        subscribed: Some(false),
        ..Grant::default()
    };
    let endpoint = Endpoint {
        name: within("ear"),
        grants: vec![silent],
        ..Endpoint::default()
    };
    let environment = Environment {
        name: "a/f".to_owned(),
    };
    let things = [
        Thing::Environment(environment),
        Thing::Hub(hub),
        Thing::Channel(channel),
        Thing::Endpoint(Box::new(endpoint)),
    ];
    let made = things.map(|thing| setting(thing, None)).to_vec();
    edit(made).expect("it fits");
    for (noun, name, names) in [
        (Noun::Channel, "a/f/loud", "a/f/ear"),
        (Noun::Hub, "a/f/own", "a/f/loud"),
        (Noun::Environment, "a/f", "a/f/"),
    ] {
        let before = world.service.digest();
        let faults = edit(vec![deleting(noun, name, None)]).expect_err(name);
        let what = &faults[0].fault.what;
        assert!(what.contains(names), "{name}: {what}");
        assert_eq!(world.service.digest(), before);
    }
    let gone = [
        (Noun::Endpoint, "a/f/ear"),
        (Noun::Channel, "a/f/loud"),
        (Noun::Hub, "a/f/own"),
        (Noun::Environment, "a/f"),
    ];
    for (noun, name) in gone {
        let before = world.node.deltas();
        edit(vec![deleting(noun, name, None)]).expect(name);
        assert_eq!(world.node.deltas(), before + 1, "{name}");
        assert_eq!(world.service.digest(), whole(&world));
    }
}
