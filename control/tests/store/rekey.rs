//! Another master key: everything is under the one or the other, whatever happens, and what was altered stays found.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use control::compile::{Digest, compile};
use control::diagnosis as codes;
use control::model::{Noun, Thing};
use control::seal::MasterKey;
use control::store::{Store, restore};
use redb::{Database, ReadableTable, TableDefinition};

use super::{CANARY, act, filled, master_key, open, pump, set};

/// Names the store to the process that is killed.
const STORE: &str = "FOREBAY_REKEYED_STORE";
/// How often it is killed.
const CYCLES: &str = "FOREBAY_KILL_REKEY_CYCLES";

fn other_key() -> Arc<MasterKey> {
    Arc::new(MasterKey::new(&[8; 32]))
}

fn digest(store: &Store) -> Digest {
    let model = store.load().expect("readable").model();
    let compiled = compile(&model, 1, Some(store.master()));
    compiled.expect("a good model").digest
}

fn sealed(store: &Store) -> String {
    let sealed = pump(store).1.keys[0].sealed.clone();
    sealed.expect("it has a secret")
}

/// A store with the plan in it, and an id that something had.
fn used(path: &Path) -> Store {
    let store = filled(path);
    let mut changes = [set(Thing::Account(control::model::Account {
        name: "b".into(),
        ..Default::default()
    }))];
    let gone = [(Noun::Channel, 7, "a/e/old".to_owned())];
    let committed = store.commit_with(&act(), &mut changes, (&gone, &[(3, 4)]));
    committed.expect("committed");
    store
}

#[test]
fn under_another_key_everything_is_what_it_was_and_the_old_one_opens_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let store = used(&at("store"));
    store.backup(&at("before")).expect("copied");
    let (was, table, secret) = (
        store.load().expect("readable"),
        digest(&store),
        sealed(&store),
    );
    let lines = store.audit_lines(0, 99).expect("readable");
    let done = store.rekey(other_key(), &act(), |under| {
        assert_eq!(digest(under), table);
        Ok(())
    });
    let done = done.expect("rekeyed");
    assert_eq!((done.secrets, done.verdict.version), (1, 7));
    let fault = Store::open(&at("store"), master_key()).expect_err("the old key");
    assert_eq!(fault.code, codes::MASTER_KEY_WRONG);
    // Not even what is free in the file opens under it.
    let bytes = std::fs::read(at("store")).expect("readable");
    for text in [secret.as_str(), CANARY] {
        let text = text.as_bytes();
        assert!(!bytes.windows(text.len()).any(|bytes| bytes == text));
    }
    let store = Store::open(&at("store"), other_key()).expect("the new key");
    assert_eq!(digest(&store), table);
    let now = store.load().expect("readable");
    for ((key, one), (other, two)) in was.things.iter().zip(now.things.iter()) {
        assert_eq!(key, other);
        assert_eq!(one == two, key.0 != Noun::Endpoint, "{key:?}");
    }
    let opened = store.master().open("a/e/pump", 1, &sealed(&store));
    assert_eq!(opened.expect("opens").reveal(), CANARY);
    let gone = store.gone(Noun::Channel, 7).expect("readable");
    assert_eq!(gone.as_deref(), Some("a/e/old"));
    assert_eq!(store.hubs().expect("readable"), [(3, 4)].into());
    // The log goes on behind the same lines.
    let after = store.audit_lines(0, 99).expect("readable");
    assert_eq!(after[..lines.len()], lines);
    let new: Vec<_> = after[lines.len()..].iter().collect();
    let told: Vec<_> = new.iter().map(|line| (line.noun, &*line.name)).collect();
    assert_eq!(told, [(Noun::Settings, ""), (Noun::Endpoint, "a/e/pump")]);
    let mut changes = [set(Thing::Endpoint(Box::new(pump(&store).1)))];
    assert_eq!(store.commit(&act(), &mut changes).expect("goes on"), 8);
    assert_eq!(store.verify_audit().expect("readable").faults, [""; 0]);
    // Backups go with the key that they were made under.
    store.backup(&at("after")).expect("copied");
    for (backup, good, bad) in [
        ("before", master_key(), other_key()),
        ("after", other_key(), master_key()),
    ] {
        let fault = restore(&at(backup), &at("bad"), bad).expect_err(backup);
        assert_eq!(fault.code, codes::MASTER_KEY_WRONG, "{backup}");
        restore(&at(backup), &at(&format!("good-{backup}")), good).expect(backup);
    }
}

#[test]
fn the_same_key_and_a_refusal_of_who_looks_at_it_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    drop(used(&path));
    let fault = open(&path).rekey(master_key(), &act(), |_| Ok(()));
    assert_eq!(fault.expect_err("the same").code, codes::MASTER_KEY_SAME);
    let refuse = |store: &Store| Err(control::store::lost(store.path(), "a test"));
    let fault = open(&path).rekey(other_key(), &act(), refuse);
    assert_eq!(fault.expect_err("refused").code, codes::STORE_LOST);
    let store = open(&path);
    assert_eq!(store.load().expect("readable").version, 6);
    let names = std::fs::read_dir(folder.path()).expect("readable");
    assert_eq!(names.count(), 1, "nothing half-made is left");
}

#[test]
fn a_store_that_was_altered_does_not_pass_for_good_under_another_key() {
    type Alter = fn(&redb::WriteTransaction);
    let alterations: [(&str, Alter); 5] = [
        ("a line", |write| {
            let audit = TableDefinition::<u64, ([u8; 32], &[u8])>::new("audit");
            let mut audit = write.open_table(audit).expect("a table");
            let link = audit.get(2).expect("readable").expect("there").value().0;
            audit.insert(2, (link, &b"{}"[..])).expect("written");
        }),
        ("a thing", |write| {
            let things = TableDefinition::<(u8, &str), (u64, &[u8])>::new("things");
            let mut things = write.open_table(things).expect("a table");
            let json = &br#"{"name":"c"}"#[..];
            things.insert((2, "c"), (6, json)).expect("written");
        }),
        // No line of the log is of these.
        ("an id", |write| {
            let gone = TableDefinition::<(u8, u64), &str>::new("gone");
            let mut gone = write.open_table(gone).expect("a table");
            gone.remove((Noun::Channel as u8, 7)).expect("written");
        }),
        ("a hub", |write| {
            let hubs = TableDefinition::<u16, u16>::new("hubs");
            let mut hubs = write.open_table(hubs).expect("a table");
            hubs.insert(3, 5).expect("written");
        }),
        ("an id's name", |write| {
            let gone = TableDefinition::<(u8, u64), &str>::new("gone");
            let mut gone = write.open_table(gone).expect("a table");
            let id = (Noun::Channel as u8, 7);
            gone.insert(id, "b/e/old").expect("written");
        }),
    ];
    for (what, alter) in alterations {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        drop(used(&path));
        let database = Database::open(&path).expect("a database");
        let write = database.begin_write().expect("a transaction");
        alter(&write);
        write.commit().expect("committed");
        drop(database);
        let fault = open(&path).rekey(other_key(), &act(), |_| Ok(()));
        assert_eq!(fault.expect_err(what).code, codes::AUDIT_BROKEN, "{what}");
        let fault = Store::open(&path, other_key()).expect_err(what);
        assert_eq!(fault.code, codes::MASTER_KEY_WRONG, "{what}");
        let names = std::fs::read_dir(folder.path()).expect("readable");
        assert_eq!(names.count(), 1, "{what}: nothing half-made is left");
    }
}

/// Keys that open it, of which there is one.
fn opens_under(path: &Path) -> Arc<MasterKey> {
    let opens = |key: &Arc<MasterKey>| match Store::open(path, Arc::clone(key)) {
        Ok(_) => true,
        Err(fault) if fault.code == codes::MASTER_KEY_WRONG => false,
        Err(fault) => panic!("{fault}"),
    };
    let mut keys = vec![master_key(), other_key()];
    keys.retain(opens);
    assert_eq!(keys.len(), 1, "keys that open it");
    keys.remove(0)
}

/// Not a test of its own unless the variable is set: the process that is killed.
#[test]
fn changes_its_key_until_it_is_killed() {
    let Ok(path) = std::env::var(STORE) else {
        return;
    };
    let path = Path::new(&path);
    loop {
        let key = opens_under(path);
        let new = match key.check() == master_key().check() {
            true => other_key(),
            false => master_key(),
        };
        let store = Store::open(path, key).expect("it was open before");
        println!("begun");
        let done = store.rekey(new, &act(), |_| Ok(()));
        done.expect("rekeyed");
    }
}

#[test]
fn a_process_that_is_killed_leaves_a_store_that_opens_with_one_of_the_keys() {
    let cycles = std::env::var(CYCLES).map_or(8, |count| count.parse().expect("a count"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let table = digest(&used(&path));
    for cycle in 0..cycles {
        kill_after(&path, fastrand::u64(1..4));
        let store = Store::open(&path, opens_under(&path)).expect("it was open before");
        let verdict = store.verify_audit().expect("readable");
        assert_eq!(verdict.faults, [""; 0], "cycle {cycle}");
        assert_eq!(digest(&store), table, "cycle {cycle}");
        let names = std::fs::read_dir(folder.path()).expect("readable");
        assert_eq!(names.count(), 1, "cycle {cycle}: what was left is gone");
    }
}

/// Start the process, let it begin so often and kill it somewhere within the last time, or behind it.
fn kill_after(path: &Path, times: u64) {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "rekey::changes_its_key_until_it_is_killed"])
        .arg("--nocapture")
        .env(STORE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut begun = 0;
    while begun < times {
        let line = lines.next().expect("it goes on").expect("text");
        begun += u64::from(line.contains("begun"));
    }
    for _ in 0..fastrand::u32(..3_000_000) {
        std::hint::spin_loop();
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
}
