//! How many things an account may define.

use control::diagnosis as codes;
use control::model::{
    Account, Allow, Channel, Endpoint, Environment, Grant, Hub, Limits, Noun, Role, Thing, Token,
};
use control::service::{Apply, Caller, Refusal, deleting, limits, setting};
use control::store::Change;

use super::{World, caller, read, world};

fn change(world: &World, caller: &Caller, changes: Vec<Change>) -> Result<(), Refusal> {
    let done = world.service.edit(caller, "test", |_, _| Ok(changes));
    done.map(drop)
}

/// Refused for the limit; what is told of it.
fn beyond(result: Result<(), Refusal>, why: &str) -> String {
    let found = result.expect_err(why);
    assert_eq!(found[0].fault.code, codes::LIMIT, "{why}: {found:?}");
    found[0].fault.to_string()
}

fn limit(world: &World, account: &str, limits: Limits) {
    let thing = Thing::Account(Account {
        name: account.to_owned(),
        limits,
        ..Account::default()
    });
    let set = change(world, &Caller::local(), vec![setting(thing, None)]);
    set.expect("whoever sees all accounts may");
}

fn endpoint(name: &str) -> Thing {
    Thing::Endpoint(Box::new(Endpoint {
        name: name.to_owned(),
        ..Endpoint::default()
    }))
}

fn granted(count: usize) -> Thing {
    let grant = |at| Grant {
        channel: format!("c{at}"),
        allow: Allow::Send,
        ..Grant::default()
    };
    Thing::Endpoint(Box::new(Endpoint {
        name: "a/e/many".into(),
        grants: (0..count).map(grant).collect(),
        ..Endpoint::default()
    }))
}

fn hub(name: &str, partitions: i64) -> Thing {
    Thing::Hub(Hub {
        name: name.to_owned(),
        partitions: Some(partitions),
        ..Hub::default()
    })
}

fn channel(name: &str) -> Thing {
    Thing::Channel(Channel {
        name: name.to_owned(),
        ..Channel::default()
    })
}

fn environment(name: &str) -> Thing {
    Thing::Environment(Environment {
        name: name.to_owned(),
    })
}

fn token(name: &str) -> Thing {
    Thing::Token(Token {
        name: name.to_owned(),
        role: Role::Viewer,
        account: Some("a".into()),
        hash: name.to_owned(),
        expires: None,
    })
}

#[test]
fn up_to_its_limit_an_account_defines_and_one_more_is_refused_until_one_is_deleted() {
    let none = Limits::default();
    // Of `a` there are one environment, the hubs `default` of 4 and `fast` of 2 partitions, a channel and an endpoint.
    let cases: [(&str, Limits, [Thing; 2]); 6] = [
        (
            "environments",
            Limits {
                environments: Some(2),
                ..none
            },
            [environment("a/one"), environment("a/two")],
        ),
        (
            "hubs",
            Limits {
                hubs: Some(3),
                ..none
            },
            [hub("a/e/one", 1), hub("a/e/two", 1)],
        ),
        (
            "partitions",
            Limits {
                partitions: Some(9),
                ..none
            },
            [hub("a/e/one", 3), hub("a/e/two", 1)],
        ),
        (
            "channels",
            Limits {
                channels: Some(2),
                ..none
            },
            [channel("a/e/one"), channel("a/e/two")],
        ),
        (
            "endpoints",
            Limits {
                endpoints: Some(2),
                ..none
            },
            [endpoint("a/e/one"), endpoint("a/e/two")],
        ),
        (
            "tokens",
            Limits {
                tokens: Some(1),
                ..none
            },
            [token("a:one"), token("a:two")],
        ),
    ];
    for (what, limits, [one, two]) in cases {
        let world = world();
        limit(&world, "a", limits);
        let owner = caller(Role::Owner, Some("a"));
        change(&world, &owner, vec![setting(one.clone(), Some(0))]).expect(what);
        let before = world.service.catalog();
        let more = |caller: &Caller| change(&world, caller, vec![setting(two.clone(), None)]);
        let told = beyond(more(&owner), what);
        assert!(told.contains(&format!("`limits.{what}`")), "{told}");
        beyond(more(&Caller::local()), "whoever asks");
        assert_eq!(world.service.catalog(), before, "{what}: nothing changed");
        // In one change one may come for another, and a change that adds none is let be.
        let swap = vec![
            deleting(one.noun(), one.name(), None),
            setting(two.clone(), None),
        ];
        change(&world, &owner, swap).expect(what);
        let gone = deleting(two.noun(), two.name(), None);
        change(&world, &owner, vec![gone]).expect(what);
        change(&world, &owner, vec![setting(one, None)]).expect("there is room again");
        beyond(more(&owner), "and no more than that");
    }
}

#[test]
fn a_limit_holds_for_documents_and_imports_and_for_no_other_account() {
    let world = world();
    let limits = Limits {
        endpoints: Some(3),
        ..Limits::default()
    };
    limit(&world, "a", limits);
    let names = |account: &str, count: usize| -> String {
        let one = |at| format!("[[endpoints]]\nname = \"{account}/e/x{at}\"\n");
        (0..count).map(one).collect()
    };
    let apply = |who: &Caller, text: &str, create: bool| {
        let apply = Apply {
            model: read(text),
            prune: false,
            create,
        };
        world.service.apply(who, &apply).map(drop)
    };
    let admin = caller(Role::Admin, Some("a"));
    for create in [false, true] {
        let told = beyond(apply(&admin, &names("a", 3), create), "one too many");
        assert!(told.contains("4 endpoints, 1 of them before"), "{told}");
        assert!(told.contains("at most 3"), "{told}");
    }
    apply(&admin, &names("a", 2), true).expect("as many as it may");
    apply(&caller(Role::Admin, Some("b")), &names("b", 9), true).expect("another account");
    // One document may raise the limit and use it, of who may raise it.
    let raised = format!(
        "[[accounts]]\nname = \"a\"\nlimits = {{ endpoints = 9 }}\n{}",
        names("a", 8)
    );
    let owner = caller(Role::Owner, Some("a"));
    let refused = apply(&owner, &raised, false).expect_err("its own limit");
    assert_eq!(refused[0].fault.code, codes::SCOPE);
    apply(&Caller::local(), &raised, false).expect("raised");
    let exported = world
        .service
        .export(&admin, control::service::Secrets::None);
    let text = control::plan::write(&exported.expect("its own")).expect("TOML");
    assert!(text.contains("endpoints = 9"), "{text}");
    assert_eq!(read(&text).accounts[0].limits.endpoints, Some(9));
}

#[test]
fn an_account_s_own_owner_looks_at_its_limits_and_does_not_change_them() {
    let world = world();
    let limits = Limits {
        channels: Some(1),
        ..Limits::default()
    };
    limit(&world, "a", limits);
    let owner = caller(Role::Owner, Some("a"));
    let shown = world
        .service
        .show(&owner, Noun::Account, "a")
        .expect("its own");
    assert_eq!(
        shown.thing.shown()["limits"],
        serde_json::json!({ "channels": 1 })
    );
    for limits in [
        Limits::default(),
        Limits {
            channels: Some(2),
            ..limits
        },
    ] {
        let raised = Thing::Account(Account {
            name: "a".into(),
            limits,
            ..Account::default()
        });
        let refused = change(&world, &owner, vec![setting(raised, None)]);
        assert_eq!(refused.expect_err("its own")[0].fault.code, codes::SCOPE);
    }
    // Not even by going away and coming back.
    let gone = change(&world, &owner, vec![deleting(Noun::Account, "a", None)]);
    assert_eq!(gone.expect_err("its own")[0].fault.code, codes::SCOPE);
}

#[test]
fn what_there_is_beyond_a_limit_that_comes_later_stays_and_may_change_and_grow_less() {
    let world = world();
    let local = Caller::local();
    let nothing = Limits {
        environments: Some(0),
        hubs: Some(0),
        partitions: Some(0),
        channels: Some(0),
        endpoints: Some(0),
        grants_per_endpoint: Some(0),
        tokens: Some(0),
    };
    limit(&world, "a", nothing);
    let catalog = world.service.catalog();
    let pump = catalog.get(Noun::Endpoint, "a/e/pump").expect("there");
    let Thing::Endpoint(mut pump) = (*pump.thing).clone() else {
        panic!("no endpoint");
    };
    pump.enabled = Some(false);
    let same = vec![setting(Thing::Endpoint(pump.clone()), None)];
    change(&world, &local, same).expect("no more than before");
    beyond(
        change(&world, &local, vec![setting(endpoint("a/e/new"), None)]),
        "one more",
    );
    pump.grants.clear();
    let less = vec![setting(Thing::Endpoint(pump), None)];
    change(&world, &local, less).expect("less than before");
    limit(&world, "a", Limits::default());
    change(&world, &local, vec![setting(endpoint("a/e/new"), None)]).expect("no limit any more");
}

#[test]
fn an_endpoint_has_as_many_grants_as_its_account_says() {
    let world = world();
    let admin = caller(Role::Admin, Some("a"));
    let channels = (0..4).map(|at| setting(channel(&format!("a/e/c{at}")), None));
    change(&world, &admin, channels.collect()).expect("made");
    let limits = Limits {
        grants_per_endpoint: Some(2),
        ..Limits::default()
    };
    limit(&world, "a", limits);
    change(&world, &admin, vec![setting(granted(2), None)]).expect("as many");
    let told = beyond(
        change(&world, &admin, vec![setting(granted(3), None)]),
        "one more",
    );
    assert!(told.contains("3 grants, 2 of them before"), "{told}");
    assert!(told.contains("a/e/many"), "{told}");
    change(&world, &admin, vec![setting(granted(1), None)]).expect("less");
}

#[test]
fn a_plan_that_a_store_would_begin_with_keeps_to_its_own_limits() {
    let text = "[[accounts]]\nname = \"a\"\nlimits = { channels = 1, partitions = 4, grants_per_endpoint = 0 }\n[[environments]]\nname = \"a/e\"\n[[channels]]\nname = \"a/e/x\"\n";
    limits::check(&read(text)).expect("as many as it may");
    for more in [
        "[[channels]]\nname = \"a/e/y\"\n",
        "[[hubs]]\nname = \"a/e/h\"\npartitions = 1\n",
        "[[endpoints]]\nname = \"a/e/p\"\n[[endpoints.grants]]\nchannel = \"x\"\nallow = \"send\"\n",
    ] {
        beyond(limits::check(&read(&format!("{text}{more}"))), more);
    }
}

#[test]
fn a_number_that_no_hub_can_have_is_refused_for_what_it_is_whatever_the_limit() {
    let world = world();
    let local = Caller::local();
    let nothing = Limits {
        partitions: Some(9),
        ..Limits::default()
    };
    limit(&world, "a", nothing);
    for name in ["a/e/one", "a/e/default"] {
        for partitions in [i64::MAX, i64::MIN, -1, 0] {
            let changes = vec![setting(hub(name, partitions), None)];
            let refused = change(&world, &local, changes);
            assert!(refused.is_err(), "{name} {partitions}");
        }
    }
}
