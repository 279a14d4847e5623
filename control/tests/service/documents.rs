//! Documents: applied, compared, exported, applied elsewhere.

use control::diagnosis as codes;
use control::model::{Noun, Role};
use control::plan;
use control::service::{Apply, Caller, Secrets, Service};

use super::{PLAN, caller, document, empty, read, world};

fn apply(service: &Service, text: &str, prune: bool) -> u64 {
    let model = read(text);
    let outcome = service.apply(
        &Caller::local(),
        &Apply {
            model,
            prune,
            create: false,
        },
    );
    outcome.expect("applied").version
}

#[test]
fn applied_exported_and_applied_elsewhere_gives_the_same_table() {
    let here = world();
    let all = Caller::local();
    for (secrets, master) in [(Secrets::Sealed, [7; 32]), (Secrets::Plain, [9; 32])] {
        let there = empty(master);
        let model = here.service.export(&all, secrets).expect("exported");
        let text = plan::write(&model).expect("TOML");
        apply(&there.service, &text, true);
        assert_eq!(there.service.digest(), here.service.digest(), "{secrets:?}");
        assert_ne!(empty(master).service.digest(), here.service.digest());
    }
}

#[test]
fn whoever_takes_secrets_out_is_in_the_audit_log() {
    let world = world();
    let owner = caller(Role::Owner, Some("b"));
    let lines = || {
        let lines = (world.service).with_store(|store| store.audit_lines(0, 1_000));
        lines.expect("readable")
    };
    let before = lines().len();
    for (secrets, noted) in [
        (Secrets::None, None),
        (Secrets::Sealed, Some("export sealed secrets")),
        (Secrets::Plain, Some("export plain secrets")),
    ] {
        for (who, about) in [
            (&Caller::local(), (Noun::Settings, "")),
            (&owner, (Noun::Account, "b")),
        ] {
            let count = lines().len();
            world.service.export(who, secrets).expect("exported");
            let lines = lines();
            assert_eq!(lines.len() - count, usize::from(noted.is_some()));
            let Some(noted) = noted else { continue };
            let last = lines.last().expect("a line");
            let told = (last.action.as_str(), last.noun, last.name.as_str());
            assert_eq!(told, (noted, about.0, about.1));
            assert_eq!((&last.actor, last.version), (&who.name, 1));
        }
    }
    assert_eq!(lines().len(), before + 4);
    let refused = world
        .service
        .export(&caller(Role::Viewer, None), Secrets::Plain);
    assert!(refused.is_err() && lines().len() == before + 4);
    // Nothing changed, and the log is whole before and after the next change.
    let whole = || {
        let verdict = (world.service).with_store(control::store::Store::verify_audit);
        let verdict = verdict.expect("readable");
        assert_eq!(verdict.faults, Vec::<String>::new());
        verdict.version
    };
    assert_eq!(whole(), 1);
    apply(&world.service, "[[hubs]]\nname = \"b/e/new\"\n", false);
    assert_eq!(whole(), 2);
}

#[test]
fn applying_the_same_again_changes_nothing_whatever_form_its_secrets_have() {
    let world = world();
    let before = world.service.catalog();
    assert_eq!(apply(&world.service, PLAN, true), before.version);
    for secrets in [Secrets::None, Secrets::Sealed, Secrets::Plain] {
        let model = world
            .service
            .export(&Caller::local(), secrets)
            .expect("exported");
        let text = plan::write(&model).expect("TOML");
        assert_eq!(text.contains("AAAA"), secrets == Secrets::Plain, "{text}");
        assert_eq!(
            apply(&world.service, &text, true),
            before.version,
            "{secrets:?}"
        );
    }
    assert_eq!(world.service.catalog(), before);
}

#[test]
fn a_document_that_only_creates_changes_nothing_that_is_there_and_can_be_sent_again() {
    let world = world();
    let all = Caller::local();
    let document = |text: &str| Apply {
        model: read(text),
        prune: false,
        create: true,
    };
    let secret = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let new = format!(
        "[[endpoints]]\nname = \"a/e/new\"\n[[endpoints.keys]]\nid = 1\nname = \"in\"\ndirection = \"ingress\"\nsecret = \"{secret}\"\n"
    );
    let before = world.service.catalog().version;
    for again in [false, true] {
        let done = world.service.apply(&all, &document(&new)).expect("created");
        assert_eq!((done.version, done.changed.is_empty()), (before + 1, again));
    }
    let other = new.replace("AwAA", "BAAA");
    let refused = world.service.apply(&all, &document(&other));
    let found = refused.expect_err("it is there, and is another");
    assert_eq!(found[0].fault.code, control::diagnosis::ALREADY_THERE);
    assert_eq!(world.service.catalog().version, before + 1);
}

#[test]
fn a_document_says_what_it_would_change_and_then_does_it_all_at_once() {
    let world = world();
    let all = Caller::local();
    let text = PLAN
        .replace("partitions = 2", "partitions = 2\nack = \"local\"")
        .replace("name = \"a/e/pump\"", "name = \"a/e/pump-2\"");
    for prune in [false, true] {
        let document = Apply {
            model: read(&text),
            prune,
            create: false,
        };
        let found = world
            .service
            .differences(&all, &document)
            .expect("compared");
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.action, one.noun, &*one.name))
            .collect();
        let mut want = vec![
            ("change", Noun::Hub, "a/e/fast"),
            ("create", Noun::Endpoint, "a/e/pump-2"),
        ];
        if prune {
            want.push(("delete", Noun::Endpoint, "a/e/pump"));
        }
        assert_eq!(found, want);
    }
    let before = world.service.catalog().version;
    assert_eq!(
        apply(&world.service, &text, true),
        before + 1,
        "one version"
    );
    let catalog = world.service.catalog();
    assert!(catalog.get(Noun::Endpoint, "a/e/pump").is_none());
    assert_eq!(
        world
            .node
            .table()
            .hubs()
            .iter()
            .find(|hub| &*hub.name == "a/e/fast")
            .map(|hub| hub.ack),
        Some(wire::ids::AckMode::Local)
    );
    let lines = world
        .service
        .with_store(|store| store.audit_lines(0, 100))
        .expect("readable");
    let last: Vec<_> = lines
        .iter()
        .filter(|line| line.version == before + 1)
        .collect();
    assert_eq!(last.len(), 3, "a line each");
}

#[test]
fn a_document_with_a_fault_changes_nothing_and_names_the_place() {
    let world = world();
    let before = world.service.catalog();
    for (why, text, code, pointer) in [
        (
            "a grant to nowhere",
            PLAN.replace(
                "channel = \"readings\"\nallow = \"send\"",
                "channel = \"none\"\nallow = \"send\"",
            ),
            codes::UNKNOWN_NAME,
            "/grants/0/channel",
        ),
        (
            "a malformed secret",
            PLAN.replace("\"AAAA", "\"AAA"),
            codes::SECRET_MALFORMED,
            "/keys/0/sealed",
        ),
        (
            "a name twice",
            PLAN.replace("b/e/readings", "a/e/readings"),
            codes::DUPLICATE,
            "",
        ),
        (
            "a hub of 0 partitions",
            PLAN.replace("partitions = 2", "partitions = 0"),
            codes::VALUE,
            "/partitions",
        ),
    ] {
        let refused = world.service.apply(&Caller::local(), &document(&text));
        let faults = refused.expect_err(why);
        assert_eq!(
            (faults[0].fault.code, &*faults[0].pointer),
            (code, pointer),
            "{why}: {}",
            faults[0].fault
        );
    }
    assert_eq!(world.service.catalog(), before);
}

#[test]
fn what_is_still_needed_is_not_deleted() {
    let world = world();
    for (noun, name) in [
        (Noun::Account, "a"),
        (Noun::Environment, "a/e"),
        (Noun::Hub, "a/e/fast"),
        (Noun::Channel, "a/e/readings"),
    ] {
        let change = control::service::deleting(noun, name, None);
        let faults = world
            .service
            .edit(&Caller::local(), "delete", |_, _| Ok(vec![change]));
        let faults = faults.expect_err(name);
        assert_eq!(
            faults[0].fault.code,
            codes::UNKNOWN_NAME,
            "{name}: {}",
            faults[0].fault
        );
    }
}

#[test]
fn secrets_are_exported_to_those_who_may_have_them() {
    let world = world();
    for (secrets, least) in [
        (Secrets::None, Role::Viewer),
        (Secrets::Sealed, Role::Admin),
        (Secrets::Plain, Role::Owner),
    ] {
        for role in [Role::Viewer, Role::Operator, Role::Admin, Role::Owner] {
            let exported = world.service.export(&caller(role, None), secrets);
            assert_eq!(
                exported.is_ok(),
                role >= least,
                "{secrets:?} {}",
                role.name()
            );
        }
    }
}

#[test]
fn what_the_store_holds_is_in_force_after_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let start = || {
        let master = std::sync::Arc::new(control::seal::MasterKey::new(&[7; 32]));
        let store = control::store::Store::open(&path, master).expect("a store");
        let node = super::Node::default();
        let service = Service::start(store, Box::new(node.clone()), Box::new(|| 1_000));
        (service.expect("started"), node)
    };
    let (digest, version) = {
        let (service, _) = start();
        let version = apply(&service, PLAN, false);
        (service.digest(), version)
    };
    let (service, node) = start();
    assert_eq!((service.digest(), node.table().epoch()), (digest, version));
}
