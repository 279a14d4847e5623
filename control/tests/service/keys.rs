//! The life of a key.

use std::sync::atomic::Ordering;
use std::time::Duration;

use control::diagnosis as codes;
use control::model::{Direction, Endpoint, Key, Noun, State, Thing};
use control::service::{Caller, KeyOrder, Rotation, setting};

use super::{World, document, world};

fn keys(world: &World) -> Vec<(String, State)> {
    let catalog = world.service.catalog();
    let now = world.service.now();
    let show = |key: &Key| (key.name.clone(), key.state(now));
    match &*catalog
        .get(Noun::Endpoint, "a/e/pump")
        .expect("there")
        .thing
    {
        Thing::Endpoint(pump) => pump.keys.iter().map(show).collect(),
        other => panic!("{other:?} is no endpoint"),
    }
}

fn named(keys: &[(&str, State)]) -> Vec<(String, State)> {
    keys.iter()
        .map(|(name, state)| ((*name).to_owned(), *state))
        .collect()
}

#[test]
fn a_rotation_gives_a_second_key_and_the_first_one_its_end() {
    let world = world();
    let all = Caller::local();
    let rotation = Rotation {
        overlap_seconds: 60,
        ..Rotation::default()
    };
    let new = world
        .service
        .rotate(&all, "a/e/pump", &rotation, None)
        .expect("rotated");
    assert!(new.secret.is_some(), "shown once");
    assert_eq!(
        keys(&world),
        named(&[("primary", State::Expiring), ("ingress-2", State::Live)])
    );
    let table = world.node.table();
    let pump = table.endpoint_by_name("a/e/pump").expect("there");
    assert_eq!(pump.keys.at(0).expires.map(|at| at.seconds()), Some(1_060));
    assert_eq!((pump.keys.len(), pump.keys.at(1).expires), (2, None));
    let again = world
        .service
        .rotate(&all, "a/e/pump", &rotation, None)
        .expect_err("two overlap");
    assert_eq!(again[0].fault.code, codes::TOO_MANY_KEYS);
    world.now.store(1_060, Ordering::Relaxed);
    world
        .service
        .rotate(&all, "a/e/pump", &rotation, None)
        .expect("the first has ended");
    assert_eq!(
        keys(&world),
        named(&[
            ("primary", State::Revoked),
            ("ingress-2", State::Expiring),
            ("ingress-3", State::Live)
        ])
    );
}

#[test]
fn an_endpoint_is_rotated_for_years() {
    let world = world();
    let operator = super::caller(control::model::Role::Operator, None);
    let rotation = Rotation {
        overlap_seconds: 60,
        ..Rotation::default()
    };
    for day in 1..=100 {
        world.now.store(1_000 + day * 86_400, Ordering::Relaxed);
        let rotated = world.service.rotate(&operator, "a/e/pump", &rotation, None);
        assert_eq!(rotated.expect("rotated").key.id, day as i64 + 1);
        assert!(keys(&world).len() <= 16);
    }
}

#[test]
fn the_id_of_a_deleted_key_never_comes_again() {
    let world = world();
    let all = Caller::local();
    let made = |world: &World| {
        let made = (world.service).add_key(&all, "a/e/pump", &KeyOrder::default(), None);
        made.expect("made").key
    };
    let delete = |name: &str| {
        let deleted = world.service.delete_key(&all, "a/e/pump", name, None);
        deleted.expect("deleted");
    };
    let second = made(&world);
    delete(&second.name);
    let third = made(&world);
    assert_eq!((second.id, third.id), (2, 3));
    delete(&third.name);
    delete("primary");
    // A document of before does not bring it back.
    let apply = |text: &str| world.service.apply(&all, &document(text));
    let again = apply(super::PLAN).expect_err("the id was used");
    assert_eq!(again[0].fault.code, codes::KEY_ID_USED);
    // What is taken out and put in elsewhere remembers, too.
    let exported = world
        .service
        .export(&all, control::service::Secrets::Sealed)
        .expect("exported");
    let text = control::plan::write(&exported).expect("TOML");
    let unchanged = apply(&text).expect("as it is");
    assert!(unchanged.changed.is_empty());
    let there = super::empty([7; 32]);
    let applied = there.service.apply(&all, &document(&text));
    applied.expect("applied");
    assert_eq!((made(&there).id, made(&world).id), (4, 4));
}

#[test]
fn an_id_that_no_key_can_have_is_not_remembered_as_the_highest() {
    let world = world();
    let all = Caller::local();
    let define = |last_key: i64| {
        let endpoint = Endpoint {
            name: "a/e/new".to_owned(),
            last_key: Some(last_key),
            ..Endpoint::default()
        };
        let thing = Thing::Endpoint(Box::new(endpoint));
        let edit = |_: &_, _: &_| Ok(vec![setting(thing, None)]);
        world.service.edit(&all, "create", edit)
    };
    let most = i64::from(u32::MAX);
    for last in [i64::MIN, -1, 0, most + 1, i64::MAX] {
        let found = define(last).map(|outcome| outcome.version);
        let found = found.expect_err("no key has such an id");
        let (code, place) = (found[0].fault.code, &*found[0].pointer);
        assert_eq!((code, place), (codes::VALUE, "/last_key"), "{last}");
    }
    define(most).expect("the highest there is");
    let order = KeyOrder::default();
    let refused = (world.service).add_key(&all, "a/e/new", &order, None);
    let refused = refused.expect_err("no id is left");
    assert_eq!(refused[0].fault.code, codes::KEY_ID_USED);
}

#[test]
fn a_revoked_key_is_restored_and_a_deleted_one_is_gone() {
    let world = world();
    let all = Caller::local();
    let revoked = |world: &World| {
        let table = world.node.table();
        table
            .endpoint_by_name("a/e/pump")
            .expect("there")
            .keys
            .at(0)
            .revoked
    };
    let outcome = world
        .service
        .set_revoked(&all, "a/e/pump", "primary", true, None)
        .expect("revoked");
    assert!(revoked(&world));
    let progress = world.service.wait(&outcome, Duration::from_secs(5));
    assert!(progress.complete, "{progress:?}");
    let again = world
        .service
        .set_revoked(&all, "a/e/pump", "primary", true, None)
        .expect("is so already");
    assert_eq!(again.version, outcome.version, "nothing to change");
    world
        .service
        .set_revoked(&all, "a/e/pump", "primary", false, None)
        .expect("restored");
    assert!(!revoked(&world));
    let fault = world
        .service
        .set_revoked(&all, "a/e/pump", "primry", true, None)
        .expect_err("no such key");
    assert_eq!(fault[0].fault.code, codes::NOT_THERE);
    assert!(fault[0].fault.remedy.contains("primary"));
    world
        .service
        .delete_key(&all, "a/e/pump", "primary", None)
        .expect("deleted");
    assert_eq!(keys(&world), Vec::new());
    assert!(
        world
            .node
            .table()
            .endpoint_by_name("a/e/pump")
            .expect("there")
            .keys
            .is_empty()
    );
}

#[test]
fn a_new_key_is_shown_once_and_opens_what_the_table_has() {
    let world = world();
    let all = Caller::local();
    let order = KeyOrder {
        direction: Direction::Egress,
        ..KeyOrder::default()
    };
    let new = world
        .service
        .add_key(&all, "a/e/pump", &order, None)
        .expect("made");
    assert_eq!(new.key.name, "egress-2");
    let secret = new.secret.expect("shown");
    let table = world.node.table();
    let pump = table.endpoint_by_name("a/e/pump").expect("there");
    let key = pump.key_by_name("egress-2").expect("there");
    let of_table = key.secret().expect("symmetric");
    assert_eq!(of_table.text(), secret.reveal());
    let shown = serde_json::to_string(
        &*world
            .service
            .catalog()
            .things
            .values()
            .map(|one| one.thing.shown())
            .collect::<Vec<_>>(),
    )
    .expect("JSON");
    assert!(!shown.contains(secret.reveal()) && !shown.contains("sealed"));
}

#[test]
fn a_change_to_an_endpoint_that_changed_meanwhile_is_refused() {
    let world = world();
    let all = Caller::local();
    let before = world
        .service
        .show(&all, Noun::Endpoint, "a/e/pump")
        .expect("there")
        .version;
    world
        .service
        .set_revoked(&all, "a/e/pump", "primary", true, Some(before))
        .expect("as it was seen");
    let fault = world
        .service
        .set_revoked(&all, "a/e/pump", "primary", false, Some(before))
        .expect_err("changed meanwhile");
    assert_eq!(fault[0].fault.code, codes::CHANGED_MEANWHILE);
}
