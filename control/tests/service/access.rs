//! Roles and accounts.

use control::diagnosis as codes;
use control::model::{Account, Channel, Endpoint, Hub, Moment, Noun, Role, Thing, Token};
use control::service::{Apply, Caller, Refusal, Rotation, Secrets, deleting, setting};
use control::store::Change;
use wire::diagnosis::Diagnosis;

use super::{World, caller, read, world};

const ROLES: [Role; 4] = [Role::Viewer, Role::Operator, Role::Admin, Role::Owner];

fn change(world: &World, caller: &Caller, change: Change) -> Result<u64, u16> {
    let made = world.service.edit(caller, "test", |_, _| Ok(vec![change]));
    made.map(|outcome| outcome.version).map_err(code)
}

fn code(refusal: Refusal) -> u16 {
    refusal[0].fault.code
}

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

fn token(name: &str, role: Role, account: Option<&str>) -> Token {
    Token {
        name: name.into(),
        role,
        account: account.map(str::to_owned),
        hash: String::new(),
        expires: None,
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
            let model = read("[[hubs]]\nname = \"a/e/new\"\n");
            let applied = world.service.apply(
                caller,
                &Apply {
                    model,
                    prune: false,
                    create: false,
                },
            );
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
    let grant = read(
        "[[endpoints]]\nname = \"b/e/spy\"\n[[endpoints.grants]]\nchannel = \"a/e/readings\"\nallow = \"receive\"\n",
    );
    let applied = world.service.apply(
        &owner,
        &Apply {
            model: grant,
            prune: false,
            create: false,
        },
    );
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
        let document = Apply {
            model: read(text),
            prune: false,
            create: false,
        };
        let told = world.service.differences(&owner, &document);
        assert_eq!(told.map_err(code).map(drop), Err(codes::SCOPE), "{named}");
        let done = world.service.apply(&owner, &document);
        assert_eq!(done.map_err(code).map(drop), Err(codes::SCOPE), "{named}");
    }
    assert_eq!(world.service.catalog(), before);
}

#[test]
fn a_token_with_a_malformed_end_or_the_name_of_the_machine_is_not_made() {
    let world = world();
    let all = Caller::local();
    let mut endless = token("x", Role::Viewer, None);
    endless.expires = Some(Moment::new("soon"));
    let made = world.service.create_token(&all, endless);
    assert_eq!(made.map(drop).map_err(code), Err(codes::EXPIRY));
    let named = token("local", Role::Viewer, None);
    let made = world.service.create_token(&all, named);
    assert_eq!(made.map(drop).map_err(code), Err(codes::ALREADY_THERE));
}

#[test]
fn a_token_ends_no_later_than_its_makers_and_not_behind_its_account() {
    let world = world();
    let mut maker = caller(Role::Owner, None);
    maker.expires = Some(2_000);
    for (ends, made) in [(None, false), (Some(2_001), false), (Some(2_000), true)] {
        let mut minted = token("minted", Role::Viewer, None);
        minted.expires = ends.map(Moment::from_seconds);
        let done = world.service.create_token(&maker, minted);
        assert_eq!(done.is_ok(), made, "{ends:?}");
    }
    let all = Caller::local();
    let made = world
        .service
        .create_token(&all, token("of-b", Role::Owner, Some("b")));
    let (text, _) = made.expect("made");
    assert!(world.service.caller(&text).is_ok());
    // Whatever takes the account away, its token opens nothing after it.
    let catalog = world.service.catalog();
    let within = catalog
        .things
        .keys()
        .rev()
        .filter(|(_, name)| name.starts_with("b/"));
    let mut gone: Vec<_> = within
        .map(|(noun, name)| deleting(*noun, name, None))
        .collect();
    gone.push(deleting(Noun::Account, "b", None));
    let done = world.service.edit(&all, "delete", |_, _| Ok(gone));
    done.map(drop).map_err(code).expect("deleted");
    let refused = world
        .service
        .caller(&text)
        .expect_err("its account is gone");
    assert_eq!(refused.code, codes::TOKEN_UNKNOWN);
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
fn whether_another_account_has_a_token_of_a_name_is_not_told() {
    let world = world();
    let all = Caller::local();
    world
        .service
        .create_token(&all, token("theirs", Role::Viewer, Some("a")))
        .expect("made");
    let owner = caller(Role::Owner, Some("b"));
    let there = world
        .service
        .show(&owner, Noun::Token, "theirs")
        .expect_err("foreign");
    let none = world
        .service
        .show(&owner, Noun::Token, "none")
        .expect_err("not there");
    assert_eq!((there.code, there.remedy), (none.code, none.remedy));
}

/// A name within `within` whose hash, or what of it counts, is that of `of`.
fn twin<T: PartialEq>(within: &str, of: &str, hash: impl Fn(&str) -> T) -> String {
    let want = hash(of);
    let names = (0..10_000_000).map(|each| format!("{within}/h{each}"));
    let mut twins = names.filter(|name| hash(name) == want);
    twins.next().expect("one of so many has so short a hash")
}

#[test]
fn what_is_wrong_names_nothing_of_another_account() {
    let world = world();
    let all = Caller::local();
    let secret = read(
        "[[environments]]\nname = \"a/secret\"\n[[channels]]\nname = \"a/secret/plans\"\n[[endpoints]]\nname = \"a/secret/spy\"\nid = 77\n",
    );
    let apply = |caller: &Caller, text: &str| {
        let model = read(text);
        let apply = Apply {
            model,
            prune: false,
            create: false,
        };
        world.service.apply(caller, &apply)
    };
    let (prune, create) = (false, false);
    let model = secret;
    let defined = Apply {
        model,
        prune,
        create,
    };
    world.service.apply(&all, &defined).expect("defined");
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
    let twin = twin("b/e", "a/e/fast", wire::ids::hub_id_of);
    apply(&owner, &format!("[[hubs]]\nname = \"{twin}\"\n")).expect("another id");
    let catalog = world.service.catalog();
    let id = catalog.get(Noun::Hub, &twin).expect("there").thing.id();
    assert!(id.is_some_and(|id| id != i64::from(wire::ids::hub_id_of(&twin))));
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

fn made_as(world: &World, caller: &Caller, name: &str, account: Option<&str>) -> Refusal {
    let made = (world.service).create_token(caller, token(name, Role::Viewer, account));
    made.map(drop).expect_err("refused")
}

#[test]
fn a_new_environment_whose_default_hub_has_anothers_id_gets_one_of_its_own() {
    let world = world();
    let owner = caller(Role::Admin, Some("b"));
    let hash = |name: &str| wire::ids::hub_id_of(&format!("{name}/default"));
    let want = wire::ids::hub_id_of("a/e/fast");
    let names = (0..10_000_000).map(|each| format!("b/h{each}"));
    let twin = names.clone().find(|name| hash(name) == want);
    let twin = twin.expect("one of so many has so short a hash");
    let environment = Thing::Environment(control::model::Environment { name: twin.clone() });
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
    let apply = |caller: &Caller, text: &str| {
        let apply = Apply {
            model: read(text),
            prune: false,
            create: false,
        };
        world.service.apply(caller, &apply)
    };
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
    let default = wire::ids::hub_id_of("a/e/default");
    for want in [hub as u16, default] {
        let names = (0..10_000_000).map(|each| format!("b/e/t{each}"));
        let twin = names
            .clone()
            .find(|name| wire::ids::hub_id_of(name) == want);
        let twin = twin.expect("one of so many has so short a hash");
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
fn a_token_that_is_gone_when_its_turn_comes_changes_nothing() {
    let world = world();
    let all = Caller::local();
    let mut thief = token("thief", Role::Owner, None);
    thief.expires = Some(Moment::from_seconds(2_000));
    let made = world.service.create_token(&all, thief.clone());
    let (text, _) = made.expect("made");
    let waiting = world.service.caller(&text).expect("good when it asked");
    world.now.store(2_000, std::sync::atomic::Ordering::Relaxed);
    let late = made_as(&world, &waiting, "heir", None);
    assert_eq!(code(late), codes::TOKEN_UNKNOWN, "its time is over");
    world.now.store(1_000, std::sync::atomic::Ordering::Relaxed);
    change(&world, &all, deleting(Noun::Token, "thief", None)).expect("deleted");
    let before = world.service.catalog();
    let late = made_as(&world, &waiting, "heir", None);
    assert_eq!(code(late), codes::TOKEN_UNKNOWN);
    // Another one of that name is somebody else.
    world.service.create_token(&all, thief).expect("made anew");
    let late = made_as(&world, &waiting, "heir", None);
    assert_eq!(code(late), codes::TOKEN_UNKNOWN);
    assert!(before.get(Noun::Token, "heir").is_none());
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
    let apply = |caller: &Caller, text: &str| {
        let apply = Apply {
            model: read(text),
            prune: false,
            create: false,
        };
        service.apply(caller, &apply)
    };
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

/// The text of the first token, which the store needs.
fn first_token(world: &World) -> String {
    let mut kept = String::new();
    let keep = |text: &str| {
        text.clone_into(&mut kept);
        Ok(())
    };
    assert!(world.service.first_token(keep).expect("made"));
    kept
}

#[test]
fn the_first_token_opens_nothing_before_it_is_kept_and_another_is_made_when_all_are_gone() {
    let world = world();
    let mut lost = String::new();
    let full = |text: &str| {
        text.clone_into(&mut lost);
        let known = world.service.caller(text).map(drop);
        assert_eq!(known.expect_err("kept first").code, codes::TOKEN_UNKNOWN);
        Err(Diagnosis::new(
            codes::STORE_FAILED,
            "",
            "a full disk",
            "",
            "",
        ))
    };
    let refused = world.service.first_token(full).map_err(code);
    assert_eq!(refused, Err(codes::STORE_FAILED));
    assert!(world.service.caller(&lost).is_err(), "nobody has its text");
    let first = first_token(&world);
    assert!(world.service.caller(&first).is_ok() && first != lost);
    let all = Caller::local();
    change(&world, &all, deleting(Noun::Token, "first-owner", None)).expect("deleted");
    let second = first_token(&world);
    assert!(world.service.caller(&second).is_ok());
    assert!(world.service.caller(&first).is_err());
}

#[test]
fn a_token_opens_what_it_says_until_it_expires_or_is_deleted() {
    let world = world();
    let all = Caller::local();
    let first = first_token(&world);
    let never = |_: &str| -> Result<(), Diagnosis> { panic!("one is enough") };
    assert!(!world.service.first_token(never).expect("asked"));
    assert_eq!(
        world.service.caller(&first).expect("good").role,
        Role::Owner
    );
    let mut short = token("short", Role::Operator, Some("a"));
    short.expires = Some(Moment::from_seconds(1_100));
    let (text, _) = world
        .service
        .create_token(&all, short.clone())
        .expect("made");
    let found = world.service.caller(&text).expect("good");
    assert_eq!(
        (found.name.as_str(), found.account.as_deref()),
        ("short", Some("a"))
    );
    let again = world
        .service
        .create_token(&all, short)
        .map(drop)
        .map_err(code);
    assert_eq!(again, Err(codes::ALREADY_THERE));
    world.now.store(1_100, std::sync::atomic::Ordering::Relaxed);
    let refused = world.service.caller(&text).expect_err("expired");
    assert_eq!(refused.code, codes::TOKEN_UNKNOWN);
    assert!(!refused.to_string().contains(text.as_str()));
    change(&world, &all, deleting(Noun::Token, "first-owner", None)).expect("deleted");
    for text in [first.as_str(), "", "fbt_", "Bearer"] {
        let refused = world.service.caller(text).expect_err("unknown");
        assert_eq!(refused.code, codes::TOKEN_UNKNOWN, "{text}");
    }
    let lesser = caller(Role::Owner, None);
    let higher = world
        .service
        .create_token(&caller(Role::Admin, None), token("x", Role::Owner, None));
    assert_eq!(higher.map(drop).map_err(code), Err(codes::ROLE));
    assert!(
        world
            .service
            .create_token(&lesser, token("x", Role::Owner, None))
            .is_ok()
    );
}
