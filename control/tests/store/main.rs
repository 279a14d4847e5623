//! The store: what was committed is there, whole, after every end; what was altered is found.

mod kill;
mod rekey;
mod tamper;

use std::path::Path;
use std::sync::Arc;

use control::compile::compile;
use control::diagnosis as codes;
use control::model::{Endpoint, Key, Model, Noun, Secret, Thing};
use control::plan;
use control::seal::MasterKey;
use control::store::{Act, Change, Store, master, restore};

pub(crate) const PLAN: &str = r#"
queue_groups = 2
[[accounts]]
name = "a"
[[environments]]
name = "a/e"
[[channels]]
name = "a/e/readings"
[[endpoints]]
name = "a/e/pump"
[[endpoints.keys]]
id = 1
name = "primary"
direction = "ingress"
secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
[[endpoints.grants]]
channel = "readings"
allow = "send"
"#;
const CANARY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

pub(crate) fn master_key() -> Arc<MasterKey> {
    Arc::new(MasterKey::new(&[7; 32]))
}

pub(crate) fn open(path: &Path) -> Store {
    Store::open(path, master_key()).expect("a store")
}

pub(crate) fn act<'a>() -> Act<'a> {
    Act {
        actor: "test",
        at_seconds: 1_795_219_200,
        action: "set",
    }
}

pub(crate) fn set(thing: Thing) -> Change {
    Change {
        noun: thing.noun(),
        name: thing.name().to_owned(),
        expected: None,
        after: Some(thing),
    }
}

/// A store with the plan in it, one change for each thing.
pub(crate) fn filled(path: &Path) -> Store {
    let store = open(path);
    let model: Model = plan::read(PLAN, "plan.toml").expect("the test writes plans");
    for thing in model.into_things() {
        store.commit(&act(), &mut [set(thing)]).expect("committed");
    }
    store
}

fn pump(store: &Store) -> (u64, Endpoint) {
    let catalog = store.load().expect("readable");
    let stored = catalog.get(Noun::Endpoint, "a/e/pump").expect("there");
    match &*stored.thing {
        Thing::Endpoint(pump) => (stored.version, (**pump).clone()),
        other => panic!("{other:?} is no endpoint"),
    }
}

#[test]
fn what_was_committed_is_there_when_the_store_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let before = filled(&path).load().expect("readable");
    let after = open(&path).load().expect("readable");
    assert_eq!(before, after);
    assert_eq!(after.version, 5, "a version for each change");
    let stored = compile(&after.model(), 1, Some(&master_key())).expect("a good model");
    let plan = plan::read(PLAN, "plan.toml").expect("the test writes plans");
    let written = compile(&plan, 1, None).expect("a good plan");
    assert_eq!(stored.digest, written.digest);
}

#[test]
fn only_the_owner_may_read_the_file_and_no_secret_is_in_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let store = filled(&path);
    let mut pump = pump(&store).1;
    pump.keys.push(Key {
        id: 2,
        name: "secondary".into(),
        secret: Some(Secret::new(CANARY)),
        ..Key::default()
    });
    let mut changes = [set(Thing::Endpoint(Box::new(pump)))];
    store.commit(&act(), &mut changes).expect("committed");
    let copy = folder.path().join("copy");
    store.backup(&copy).expect("copied");
    let lines = store.audit_lines(0, 100).expect("readable");
    assert_eq!(lines.len(), 6);
    let text = serde_json::to_string(&lines).expect("JSON");
    assert!(!text.contains(CANARY) && !text.contains("\"sealed\""));
    assert!(
        text.contains("\"fingerprint\""),
        "a change of a secret shows"
    );
    drop(store);
    for path in [path, copy] {
        let bytes = std::fs::read(&path).expect("readable");
        let canary = CANARY.as_bytes();
        assert!(!bytes.windows(canary.len()).any(|bytes| bytes == canary));
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn a_change_to_what_changed_meanwhile_is_refused_and_nothing_of_it_is_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = filled(&folder.path().join("store"));
    let before = store.load().expect("readable");
    let (version, pump) = pump(&store);
    for (why, expected) in [("older", version - 1), ("not there", 0)] {
        let mut changes = [
            set(Thing::Account(control::model::Account {
                name: "b".into(),
                ..Default::default()
            })),
            Change {
                expected: Some(expected),
                ..set(Thing::Endpoint(Box::new(pump.clone())))
            },
        ];
        let fault = store.commit(&act(), &mut changes).expect_err(why);
        assert_eq!(fault.code, codes::CHANGED_MEANWHILE, "{why}");
    }
    assert_eq!(store.load().expect("readable"), before);
    assert_eq!(store.audit_lines(0, 100).expect("readable").len(), 5);
    let mut good = [Change {
        expected: Some(version),
        after: None,
        ..set(Thing::Endpoint(Box::new(pump)))
    }];
    assert_eq!(store.commit(&act(), &mut good).expect("committed"), 6);
    let after = before.after(&good, 6);
    assert_eq!(store.load().expect("readable"), after);
    assert!(after.get(Noun::Endpoint, "a/e/pump").is_none());
}

#[test]
fn a_backup_restored_elsewhere_gives_the_same_table_and_the_same_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let (backup, there) = (folder.path().join("backup"), folder.path().join("there"));
    let store = filled(&folder.path().join("store"));
    store.backup(&backup).expect("copied");
    let again = store.backup(&backup).expect_err("there is one");
    assert_eq!(again.code, codes::BACKUP_EXISTS);
    let verdict = restore(&backup, &there, master_key()).expect("restored");
    assert_eq!((verdict.lines, verdict.version), (5, 5));
    let restored = open(&there);
    assert_eq!(
        restored.load().expect("readable"),
        store.load().expect("readable")
    );
    let (old, new) = (store.audit_lines(0, 9), restored.audit_lines(0, 9));
    assert_eq!(old.expect("readable"), new.expect("readable"));
    // What comes after the backup is another past, and both are told apart for good.
    assert_ne!(restored.lineage(), store.lineage());
    assert_eq!(restored.ancestors(), [store.lineage()]);
    let (lineage, elsewhere) = (restored.lineage(), folder.path().join("elsewhere"));
    drop(restored);
    let restored = open(&there);
    assert_eq!(restored.lineage(), lineage);
    let second = folder.path().join("second");
    restored.backup(&second).expect("copied");
    restore(&second, &elsewhere, master_key()).expect("restored");
    let again = open(&elsewhere);
    assert_eq!(again.ancestors(), [store.lineage(), lineage]);
    let other = Arc::new(MasterKey::new(&[8; 32]));
    let fault = restore(&backup, &folder.path().join("other"), other).expect_err("another key");
    assert_eq!(fault.code, codes::MASTER_KEY_WRONG);
    assert!(!folder.path().join("other").exists());
}

#[test]
fn what_is_no_backup_is_refused_and_a_backup_is_only_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    drop(open(&at("unused")));
    filled(&at("store")).backup(&at("backup")).expect("copied");
    let bytes = std::fs::read(at("backup")).expect("readable");
    std::fs::write(at("empty"), b"").expect("written");
    std::fs::write(at("half"), &bytes[..bytes.len() / 2]).expect("written");
    std::fs::write(at("text"), b"no store").expect("written");
    std::fs::create_dir(at("folder")).expect("made");
    for (name, seen) in [
        ("empty", "an empty file"),
        ("unused", "nothing was put into"),
        ("half", ""),
        ("text", ""),
        ("folder", "no file"),
        ("none", "No such file"),
    ] {
        let before = std::fs::read(at(name)).ok();
        let fault = restore(&at(name), &at("there"), master_key()).expect_err(name);
        assert!(fault.seen.contains(seen), "{name}: {fault}");
        assert!(fault.what.contains(&format!("/{name} ")), "{name}: {fault}");
        assert_eq!(std::fs::read(at(name)).ok(), before, "{name} stays");
    }
    restore(&at("backup"), &at("there"), master_key()).expect("restored");
    assert_eq!(std::fs::read(at("backup")).expect("readable"), bytes);
    let again = restore(&at("backup"), &at("there"), master_key()).expect_err("there is one");
    assert_eq!(again.code, codes::BACKUP_EXISTS);
    let names = std::fs::read_dir(folder.path()).expect("readable");
    assert_eq!(names.count(), 8, "nothing half-made is left");
}

#[test]
fn backups_to_names_that_differ_behind_their_last_dot_leave_each_other_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = filled(&folder.path().join("store"));
    let others = folder.path().join("backup.part");
    std::fs::write(&others, b"of somebody else").expect("written");
    store.backup(&folder.path().join("backup.1")).expect("one");
    store.backup(&folder.path().join("backup.2")).expect("two");
    let fault = store.backup(&folder.path().join("backup.1"));
    assert_eq!(fault.expect_err("there").code, codes::BACKUP_EXISTS);
    let left = std::fs::read(&others).expect("readable");
    assert_eq!(left, b"of somebody else");
    let names = std::fs::read_dir(folder.path()).expect("readable");
    assert_eq!(names.count(), 4, "nothing half-made is left");
}

#[test]
fn a_master_key_whose_making_was_cut_off_is_told_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("master.key");
    std::fs::write(&file, b"").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
    for may_make in [false, true] {
        let fault = master::find(&file, |_| None, may_make).expect_err("empty");
        assert_eq!(fault.code, codes::MASTER_KEY_MISSING);
        assert_eq!(
            fault.seen,
            "an empty file, which is what a crash leaves that came while it was made"
        );
        assert!(fault.remedy.contains("delete the file"), "{fault}");
    }
    std::fs::remove_file(&file).expect("removed");
    master::find(&file, |_| None, true).expect("the remedy helps");
    let names = std::fs::read_dir(folder.path()).expect("readable");
    assert_eq!(names.count(), 1, "nothing half-made is left");
}

#[test]
fn a_store_is_open_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let _store = filled(&path);
    let fault = Store::open(&path, master_key()).expect_err("in use");
    assert_eq!(fault.code, codes::STORE_IN_USE, "{fault}");
}

#[test]
fn the_master_key_comes_from_credential_variable_or_a_file_of_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("master.key");
    let none = |_: &str| None;
    let fault = master::find(&file, none, false).expect_err("no file");
    assert_eq!(fault.code, codes::MASTER_KEY_MISSING);
    let made = master::find(&file, none, true).expect("made");
    let found = master::find(&file, none, false).expect("found");
    assert_eq!(made.check(), found.check());
    let text = MasterKey::new_text();
    let variable = |name: &str| (name == master::VARIABLE).then(|| text.to_string());
    let other = master::find(&file, variable, false).expect("variable");
    assert_ne!(other.check(), found.check());
    std::fs::write(
        folder.path().join(master::CREDENTIAL),
        &*MasterKey::new_text(),
    )
    .expect("written");
    let credential = |name: &str| match name {
        master::CREDENTIALS_VARIABLE => Some(folder.path().display().to_string()),
        name => variable(name),
    };
    let third = master::find(&file, credential, false).expect("credential");
    assert_ne!(third.check(), other.check());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("set");
    let fault = master::find(&file, none, false).expect_err("others may read it");
    assert_eq!(fault.code, codes::MASTER_KEY_OPEN);
    let bad = |name: &str| (name == master::VARIABLE).then(|| "canary".to_owned());
    let fault = master::find(&file, bad, false).expect_err("malformed");
    assert_eq!(fault.code, codes::MASTER_KEY_MISSING);
    assert!(!fault.to_string().contains("canary"));
}

#[test]
fn of_an_empty_file_no_store_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    drop(filled(&path));
    std::fs::write(&path, "").expect("written");
    let fault = Store::open(&path, master_key()).expect_err("it was lost");
    assert_eq!(fault.code, codes::STORE_LOST);
    assert_eq!(std::fs::metadata(&path).expect("there").len(), 0);
}

#[test]
fn what_crashes_left_of_copies_goes_when_the_store_is_opened_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    drop(filled(&at("store")));
    let left = ["store.0123456789abcdef.copy", "store.fedcba9876543210.part"];
    let others = [
        "store.x.part",
        "store2.0123456789abcdef.copy",
        "store.0123456789abcdef.old",
        "first-owner.token",
    ];
    for name in left.iter().chain(&others) {
        std::fs::write(at(name), "all of it").expect("written");
    }
    drop(open(&at("store")));
    assert!(left.iter().all(|name| !at(name).exists()));
    assert!(others.iter().all(|name| at(name).exists()));
}
