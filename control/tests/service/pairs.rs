//! Public keys: looked at once, as they come in.

use std::sync::Arc;

use control::diagnosis as codes;
use control::model::{Noun, Thing};
use control::plan;
use control::seal::MasterKey;
use control::service::{Caller, KeyOrder, Service, setting};
use control::store::{Act, Change, Store};
use wire::signature::KeyRef;

use super::{Node, PLAN, code, document, empty, world};

/// 32 bytes that are no point of the curve, and the identity, for which anybody can sign.
const NO_KEYS: [&str; 2] = [
    "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
    "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
];

/// The plan with a pair for the pump.
fn plan_with_pair(public: &str) -> String {
    let key = "[[endpoints.keys]]\nid = 2\nname = \"pair\"\ndirection = \"ingress\"\n";
    let grants = "[[endpoints.grants]]";
    let key = format!("{key}public = \"{public}\"\n{grants}");
    PLAN.replacen(grants, &key, 1)
}

#[test]
fn what_is_no_public_key_is_refused_whichever_way_it_comes_in() {
    let world = world();
    let local = Caller::local();
    for public in NO_KEYS {
        let order = KeyOrder {
            name: Some("pair".into()),
            public: Some(public.into()),
            ..KeyOrder::default()
        };
        let added = world.service.add_key(&local, "a/e/pump", &order, None);
        assert_eq!(code(added.expect_err(public)), codes::PUBLIC_MALFORMED);
        let text = plan_with_pair(public);
        let applied = world.service.apply(&local, &document(&text));
        assert_eq!(code(applied.expect_err(public)), codes::PUBLIC_MALFORMED);
        let everything = text.replace("queue_groups = 2", "queue_groups = 3");
        let applied = empty([7; 32]).service.apply(&local, &document(&everything));
        assert_eq!(code(applied.expect_err(public)), codes::PUBLIC_MALFORMED);
    }
    let catalog = world.service.catalog();
    let pump = catalog.get(Noun::Endpoint, "a/e/pump").expect("there");
    assert!(matches!(&*pump.thing, Thing::Endpoint(pump) if pump.keys.len() == 1));
}

#[test]
fn what_a_store_holds_is_not_looked_at_again_and_signs_nothing_if_it_is_no_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let master = Arc::new(MasterKey::new(&[7; 32]));
    let store = Store::open(&folder.path().join("store"), master).expect("a store");
    let things = plan::read(&plan_with_pair(NO_KEYS[0]), "plan.toml").expect("a plan");
    // Nobody does this who has not compiled it before.
    let mut changes: Vec<Change> = things
        .into_things()
        .map(|mut thing| {
            thing.seal(store.master());
            setting(thing, None)
        })
        .collect();
    let act = Act {
        actor: "local",
        at_seconds: 0,
        action: "test",
    };
    store.commit(&act, &mut changes).expect("committed");
    let node = Node::default();
    Service::start(store, Box::new(node.clone()), Box::new(|| 0)).expect("started");
    let table = node.table();
    let pump = table.endpoint_by_name("a/e/pump").expect("there");
    match pump.keys.at(1).material {
        KeyRef::Ed25519(public) => assert_eq!(public.point(), None),
        other => panic!("{other:?} is no public key"),
    }
}
