//! Ids: whoever has one keeps it, and nobody else gets it.

use control::diagnosis as codes;
use control::model::{Channel, Environment, Hub, Noun, Role, Thing};
use control::service::{Caller, deleting, setting};
use wire::ids::hub_id_of;

use super::{caller, change, code, document, world};

/// A name within `within` that has this hash.
pub(super) fn twin(within: &str, want: u16, hash: impl Fn(&str) -> u16) -> String {
    let names = (0..10_000_000).map(|each| format!("{within}/h{each}"));
    let mut twins = names.filter(|name| hash(name) == want);
    twins.next().expect("one of so many has so short a hash")
}

#[test]
fn a_new_environment_whose_default_hub_has_anothers_id_gets_one_of_its_own() {
    let world = world();
    let owner = caller(Role::Admin, Some("b"));
    let want = hub_id_of("a/e/fast");
    let twin = twin("b", want, |name| hub_id_of(&format!("{name}/default")));
    let environment = Thing::Environment(Environment { name: twin.clone() });
    change(&world, &owner, setting(environment, Some(0))).expect("made");
    let table = world.node.table();
    let of = |name: &str| {
        let hub = table.hubs().iter().find(|hub| *hub.name == *name);
        hub.expect("there").id
    };
    assert_eq!(of("a/e/fast"), want, "who was there keeps its id");
    assert_ne!(of(&format!("{twin}/default")), want);
}

#[test]
fn what_is_stored_under_an_id_is_nobody_elses_also_when_its_owner_is_gone() {
    let world = world();
    let all = Caller::local();
    let apply = |caller: &Caller, text: &str| world.service.apply(caller, &document(text));
    let gone = [
        (Noun::Endpoint, "a/e/pump"),
        (Noun::Channel, "a/e/readings"),
        (Noun::Hub, "a/e/fast"),
        (Noun::Environment, "a/e"),
    ];
    let ids: Vec<Option<u64>> = gone
        .iter()
        .map(|(noun, name)| {
            let catalog = world.service.catalog();
            catalog.get(*noun, name).expect("there").thing.data_id()
        })
        .collect();
    let changes = gone.map(|(noun, name)| deleting(noun, name, None));
    let deleted = world
        .service
        .edit(&all, "delete", |_, _| Ok(changes.into()));
    deleted.expect("deleted");
    let (pump, hub) = (ids[0].expect("one") as i64, ids[2].expect("one"));
    if let Some(id) = Some(pump).filter(|id| *id > 0) {
        let text = format!("[[endpoints]]\nname = \"b/e/heir\"\nid = {id}\n");
        let refused = apply(&all, &text).map(drop).map_err(code);
        assert_eq!(refused, Err(codes::ID_COLLISION));
    }
    let channel = ids[1].expect("one");
    let text = format!("[[channels]]\nname = \"b/e/heir\"\nid = {channel}\n");
    let refused = apply(&all, &text).map(drop).map_err(code);
    assert_eq!(refused, Err(codes::ID_COLLISION));
    // Names of b's that would get them by their hash get others: also that of a hub `default` that nobody wrote down.
    let default = hub_id_of("a/e/default");
    for want in [hub as u16, default] {
        let twin = twin("b/e", want, hub_id_of);
        let owner = caller(Role::Admin, Some("b"));
        apply(&owner, &format!("[[hubs]]\nname = \"{twin}\"\n")).expect("another id");
        let catalog = world.service.catalog();
        let id = catalog.get(Noun::Hub, &twin).expect("there").thing.id();
        assert!(id.is_some_and(|id| id != i64::from(want)), "{twin} {id:?}");
    }
    // What comes back under its own name comes back to what is its own.
    apply(&all, super::PLAN).expect("as it was");
    let catalog = world.service.catalog();
    for ((noun, name), id) in gone.iter().zip(ids) {
        assert_eq!(catalog.get(*noun, name).expect("there").thing.data_id(), id);
    }
    // The store knows it also when it is opened again.
    let faults = (world.service).with_store(|store| {
        store.load().expect("whole");
        store.verify_audit().expect("readable").faults
    });
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn what_goes_in_a_change_leaves_its_id_to_nothing_that_comes_in_the_same() {
    let world = world();
    let all = Caller::local();
    let id = |noun, name: &str| {
        let catalog = world.service.catalog();
        let thing = catalog.get(noun, name).map(|stored| stored.thing.data_id());
        thing.flatten().expect("it has one")
    };
    // Its hash is the one of what goes, so that it would be given the other's id.
    let hub = id(Noun::Hub, "a/e/fast");
    let twin = twin("b/e", hub as u16, hub_id_of);
    let heir = Thing::Hub(Hub {
        name: twin.clone(),
        ..Hub::default()
    });
    let changes = || {
        vec![
            deleting(Noun::Endpoint, "a/e/pump", None),
            deleting(Noun::Channel, "a/e/readings", None),
            deleting(Noun::Hub, "a/e/fast", None),
        ]
    };
    // One that is chosen is refused.
    let channel = i64::try_from(id(Noun::Channel, "a/e/readings")).expect("small");
    let chosen = Thing::Channel(Channel {
        name: "b/e/heir".into(),
        id: Some(channel),
        ..Channel::default()
    });
    let mut both = changes();
    both.push(setting(chosen, Some(0)));
    let refused = world.service.edit(&all, "apply", |_, _| Ok(both));
    assert_eq!(refused.map(drop).map_err(code), Err(codes::ID_COLLISION));
    let mut both = changes();
    both.push(setting(heir, Some(0)));
    let made = world.service.edit(&all, "apply", |_, _| Ok(both));
    made.expect("it is given another");
    assert_ne!(id(Noun::Hub, &twin), hub);
}
