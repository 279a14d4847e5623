//! Roles and accounts.

use control::diagnosis as codes;
use control::model::{Account, Channel, Endpoint, Hub, Noun, Role, Thing};
use control::service::{Caller, Rotation, Secrets, deleting, setting};
use control::store::Change;
use wire::diagnosis::Diagnosis;
use wire::ids::hub_id_of;

use super::ids::twin;
use super::tokens::made_as;
use super::{World, caller, change, code, document, token, world};

const ROLES: [Role; 4] = [Role::Viewer, Role::Operator, Role::Admin, Role::Owner];

fn pump(world: &World, alter: impl FnOnce(&mut Endpoint)) -> Change {
    let catalog = world.service.catalog();
    match &*catalog
        .get(Noun::Endpoint, "a/e/pump")
        .expect("there")
        .thing
    {
        Thing::Endpoint(pump) => {
            let mut pump = pump.clone();
            alter(&mut pump);
            setting(Thing::Endpoint(pump), None)
        }
        other => panic!("{other:?} is no endpoint"),
    }
}

#[test]
fn each_role_may_do_what_it_is_for_and_no_more() {
    type Try = fn(&World, &Caller) -> Result<u64, u16>;
    let tries: [(&str, Role, Try); 9] = [
        ("switch off", Role::Operator, |world, caller| {
            change(
                world,
                caller,
                pump(world, |pump| pump.enabled = Some(false)),
            )
        }),
        ("revoke", Role::Operator, |world, caller| {
            let revoked = world
                .service
                .set_revoked(caller, "a/e/pump", "primary", true, None);
            revoked.map(|outcome| outcome.version).map_err(code)
        }),
        ("rotate", Role::Operator, |world, caller| {
            let rotated = world
                .service
                .rotate(caller, "a/e/pump", &Rotation::default(), None);
            rotated.map(|new| new.outcome.version).map_err(code)
        }),
        ("make a key", Role::Admin, |world, caller| {
            let made = world
                .service
                .add_key(caller, "a/e/pump", &Default::default(), None);
            made.map(|new| new.outcome.version).map_err(code)
        }),
        ("take a grant", Role::Admin, |world, caller| {
            change(world, caller, pump(world, |pump| pump.grants.clear()))
        }),
        ("define a channel", Role::Admin, |world, caller| {
            let channel = Channel {
                name: "a/e/new".into(),
                ..Channel::default()
            };
            change(world, caller, setting(Thing::Channel(channel), Some(0)))
        }),
        ("apply", Role::Admin, |world, caller| {
            let new = document("[[hubs]]\nname = \"a/e/new\"\n");
            let applied = world.service.apply(caller, &new);
            applied.map(|outcome| outcome.version).map_err(code)
        }),
        ("make a token", Role::Owner, |world, caller| {
            let made = world
                .service
                .create_token(caller, token("t", Role::Viewer, None));
            made.map(|(_, outcome)| outcome.version).map_err(code)
        }),
        ("limit an account", Role::Owner, |world, caller| {
            let account = Account {
                name: "a".into(),
                messages_per_second: Some(5),
                ..Account::default()
            };
            change(world, caller, setting(Thing::Account(account), None))
        }),
    ];
    for (why, least, attempt) in tries {
        for role in ROLES {
            let world = world();
            let before = world.service.catalog();
            let result = attempt(&world, &caller(role, None));
            if role >= least {
                assert_eq!(result, Ok(before.version + 1), "{why} as {}", role.name());
                assert_eq!(world.node.table().epoch(), before.version + 1, "{why}");
            } else {
                assert_eq!(result, Err(codes::ROLE), "{why} as {}", role.name());
                assert_eq!(world.service.catalog(), before, "{why}");
            }
        }
    }
}

#[test]
fn nobody_of_one_account_reads_or_changes_anything_of_another() {
    let world = world();
    let owner = caller(Role::Owner, Some("b"));
    let before = world.service.catalog();
    for (noun, name) in before
        .things
        .keys()
        .filter(|(_, name)| !name.starts_with('b'))
    {
        let shown = world.service.show(&owner, *noun, name).expect_err(name);
        assert_eq!(shown.code, codes::SCOPE, "{noun} {name}");
        let deleted = change(&world, &owner, deleting(*noun, name, None));
        assert_eq!(deleted, Err(codes::SCOPE), "{noun} {name}");
    }
    let hub = Thing::Hub(Hub {
        name: "a/e/mine".into(),
        ..Hub::default()
    });
    assert_eq!(
        change(&world, &owner, setting(hub, None)),
        Err(codes::SCOPE)
    );
    let theirs = token("theirs", Role::Viewer, Some("a"));
    let made = world.service.create_token(&Caller::local(), theirs);
    made.expect("made");
    let before = world.service.catalog();
    let deleted = change(&world, &owner, deleting(Noun::Token, "theirs", None));
    assert_eq!(deleted, Err(codes::SCOPE), "a token of another");
    let taken = Thing::Token(token("theirs", Role::Viewer, Some("b")));
    assert_eq!(
        change(&world, &owner, setting(taken, None)),
        Err(codes::SCOPE)
    );
    let own = Thing::Account(Account {
        name: "b".into(),
        ..Account::default()
    });
    assert_eq!(
        change(&world, &owner, setting(own, None)),
        Err(codes::SCOPE),
        "no limit of its own"
    );
    let grant = document(
        "[[endpoints]]\nname = \"b/e/spy\"\n[[endpoints.grants]]\nchannel = \"a/e/readings\"\nallow = \"receive\"\n",
    );
    let applied = world.service.apply(&owner, &grant);
    assert_eq!(applied.map_err(code).map(drop), Err(codes::FOREIGN));
    let revoked = world
        .service
        .set_revoked(&owner, "a/e/pump", "primary", true, None);
    assert_eq!(revoked.map_err(code).map(drop), Err(codes::SCOPE));
    let exported = world
        .service
        .export(&owner, Secrets::Plain)
        .expect("its own");
    let text = control::plan::write(&exported).expect("TOML");
    assert!(
        text.contains("b/e/office") && !text.contains("a/e"),
        "{text}"
    );
    for account in [None, Some("a")] {
        let made = world
            .service
            .create_token(&owner, token("t", Role::Viewer, account));
        assert_eq!(
            made.map_err(code).map(drop),
            Err(codes::SCOPE),
            "{account:?}"
        );
    }
    assert_eq!(
        world.service.catalog(),
        before,
        "nothing of all this was done"
    );
    assert!(
        world
            .service
            .create_token(&owner, token("b:t", Role::Viewer, Some("b")))
            .is_ok()
    );
}

#[test]
fn a_document_that_names_what_is_anothers_is_refused_though_nothing_would_change() {
    let world = world();
    let owner = caller(Role::Owner, Some("b"));
    let before = world.service.catalog();
    for (named, text) in [
        (
            "what is there, as it is",
            "[[channels]]\nname = \"a/e/readings\"\n",
        ),
        ("what is not there", "[[channels]]\nname = \"a/e/none\"\n"),
        ("an account", "[[accounts]]\nname = \"a\"\n"),
        ("what holds for all", "queue_groups = 2\n"),
    ] {
        let document = document(text);
        let told = world.service.differences(&owner, &document);
        assert_eq!(told.map_err(code).map(drop), Err(codes::SCOPE), "{named}");
        let done = world.service.apply(&owner, &document);
        assert_eq!(done.map_err(code).map(drop), Err(codes::SCOPE), "{named}");
    }
    assert_eq!(world.service.catalog(), before);
}

#[test]
fn an_operator_rotates_what_is_good_and_makes_no_first_key() {
    let world = world();
    let operator = caller(Role::Operator, None);
    let egress = Rotation {
        direction: control::model::Direction::Egress,
        ..Rotation::default()
    };
    let made = world.service.rotate(&operator, "a/e/pump", &egress, None);
    assert_eq!(made.map(drop).map_err(code), Err(codes::ROLE));
    let admin = caller(Role::Admin, None);
    assert!(
        world
            .service
            .rotate(&admin, "a/e/pump", &egress, None)
            .is_ok()
    );
    assert!(
        world
            .service
            .rotate(&operator, "a/e/pump", &egress, None)
            .is_ok()
    );
}

#[test]
fn what_is_wrong_names_nothing_of_another_account() {
    let world = world();
    let all = Caller::local();
    let secret = document(
        "[[environments]]\nname = \"a/secret\"\n[[channels]]\nname = \"a/secret/plans\"\n[[endpoints]]\nname = \"a/secret/spy\"\nid = 77\n",
    );
    let apply = |caller: &Caller, text: &str| world.service.apply(caller, &document(text));
    world.service.apply(&all, &secret).expect("defined");
    world
        .service
        .create_token(&all, token("a:theirs", Role::Viewer, Some("a")))
        .expect("made");
    let owner = caller(Role::Owner, Some("b"));
    let hash = wire::ids::EndpointId::of("a/e/pump").0 as i64;
    for (named, text) in [
        (
            "an environment near one of a's",
            "[[channels]]\nname = \"b/secret/x\"\n",
        ),
        (
            "a channel near one of a's",
            "[[endpoints]]\nname = \"b/e/x\"\n[[endpoints.grants]]\nchannel = \"b/secret/plans\"\nallow = \"send\"\n",
        ),
        (
            "a channel of a",
            "[[endpoints]]\nname = \"b/e/x\"\n[[endpoints.grants]]\nchannel = \"a/secret/plan\"\nallow = \"send\"\n",
        ),
        (
            "a hub of a",
            "[[channels]]\nname = \"b/e/x\"\nhub = \"fast\"\n",
        ),
    ] {
        let refused = apply(&owner, text).expect_err(named);
        for found in refused {
            let told = found.fault.to_string().replace(text, "");
            let telling = [
                "a/e",
                "secret/spy",
                "a/secret/plans`?",
                "`a/secret`",
                "fast`?",
            ];
            for name in telling {
                assert!(!told.contains(name), "{named}: {told}");
            }
        }
    }
    // An id of another's choice is refused alike whether it is taken or not: nobody finds out which are, and nobody takes one away.
    let mut told = Vec::new();
    for id in [77, hash, 78] {
        let text = format!("[[endpoints]]\nname = \"b/e/x\"\nid = {id}\n");
        let refused = apply(&owner, &text).expect_err("an id");
        told.push(refused[0].fault.to_string().replace(&id.to_string(), "ID"));
    }
    assert!(told[0] == told[1] && told[1] == told[2], "{told:?}");
    assert!(told[0].contains("FB-2152"), "{told:?}");
    // Whoever else has the hash of a new name is not told either.
    let id = |name: &String| i64::try_from(wire::ids::EndpointId::of(name).0).ok();
    let names = (0..64).map(|each| format!("b/e/taken-{each}"));
    let taken = names.clone().find(|name| id(name).is_some());
    let taken = taken.expect("every other one");
    let chosen = id(&taken).expect("it was asked for");
    let text = format!("[[endpoints]]\nname = \"a/secret/spy\"\nid = {chosen}\n");
    apply(&all, &text).expect("an id of its choice");
    let text = format!("[[endpoints]]\nname = \"{taken}\"\n");
    let refused = apply(&owner, &text).expect_err("taken");
    let told = refused[0].fault.to_string();
    assert!(
        told.contains("FB-2108") && !told.contains("a/secret"),
        "{told}"
    );
    // Where the hash of a new name is another's, an id is found, and nobody is told whose it is.
    let twin = twin("b/e", hub_id_of("a/e/fast"), hub_id_of);
    apply(&owner, &format!("[[hubs]]\nname = \"{twin}\"\n")).expect("another id");
    let catalog = world.service.catalog();
    let id = catalog.get(Noun::Hub, &twin).expect("there").thing.id();
    assert!(id.is_some_and(|id| id != i64::from(hub_id_of(&twin))));
    let same = apply(&owner, &format!("[[hubs]]\nname = \"{twin}\"\n"));
    assert!(
        same.expect("as it is").changed.is_empty(),
        "it keeps its id"
    );
    // Tokens of one account have names of its own.
    let mut told = Vec::new();
    for name in ["theirs", "none", "a:theirs", "a:none"] {
        let made = world
            .service
            .create_token(&owner, token(name, Role::Viewer, Some("b")));
        let refused = made.map(drop).expect_err(name);
        let own = name.rsplit(':').next().expect("a part");
        told.push(refused[0].fault.to_string().replace(own, "NAME"));
    }
    let alike = |pair: &[String]| pair[0] == pair[1];
    assert!(alike(&told[..2]) && alike(&told[2..]), "{told:?}");
    assert_eq!(code(made_as(&world, &all, "b:x", Some("a"))), codes::NAME);
}

/// A node that takes no table with a hub `full`.
#[derive(Clone, Copy)]
struct Full;

impl control::service::Publish for Full {
    fn check(&self, table: &wire::route::RouteTable) -> Result<(), Diagnosis> {
        let full = table.hubs().iter().find(|hub| hub.name.ends_with("/full"));
        match full {
            None => Ok(()),
            Some(_) => {
                let what = "logs of hub a/e/fast cannot be made";
                Err(Diagnosis::new(
                    3_105,
                    what,
                    "a full disk",
                    "room",
                    "make room",
                ))
            }
        }
    }

    fn publish(&self, _: control::service::Update) {}

    fn applied(&self, _: u64, _: std::time::Duration) -> Vec<control::service::NodeApplied> {
        Vec::new()
    }
}

#[test]
fn what_a_node_does_not_take_changes_nothing_and_tells_nothing_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let master = std::sync::Arc::new(control::seal::MasterKey::new(&[7; 32]));
    let store = control::store::Store::open(&folder.path().join("store"), master);
    let store = store.expect("a store");
    let service = control::service::Service::start(store, Box::new(Full), Box::new(|| 1_000));
    let service = service.expect("started");
    let apply = |caller: &Caller, text: &str| service.apply(caller, &document(text));
    apply(&Caller::local(), super::PLAN).expect("applied");
    let before = service.catalog();
    for (account, told) in [(None, true), (Some("a"), true), (Some("b"), false)] {
        let within = account.unwrap_or("b");
        let text = format!("[[hubs]]\nname = \"{within}/e/full\"\n");
        let caller = caller(Role::Admin, account);
        let refused = apply(&caller, &text).expect_err("a full disk");
        let fault = &refused[0].fault;
        assert_eq!(fault.code, 3_105);
        assert_eq!(fault.to_string().contains("a/e/fast"), told, "{fault}");
        assert_eq!(service.catalog(), before);
    }
    let stored = service.with_store(|store| store.load().expect("readable"));
    assert_eq!(stored, *before, "nor is it in the store");
}
