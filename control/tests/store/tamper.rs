//! Whoever has the file and not the master key cannot alter what it says unseen.

use std::path::{Path, PathBuf};

use control::diagnosis as codes;
use control::store::{Store, restore};
use redb::{Database, ReadableTable, TableDefinition};

use super::{filled, master_key, open};

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const THINGS: TableDefinition<'static, (u8, &str), (u64, &[u8])> = TableDefinition::new("things");
const AUDIT: TableDefinition<'static, u64, ([u8; 32], &[u8])> = TableDefinition::new("audit");

fn line(database: &Database, number: u64) -> ([u8; 32], Vec<u8>) {
    let write = database.begin_write().expect("a transaction");
    let table = write.open_table(AUDIT).expect("a table");
    let value = table.get(number).expect("readable").expect("there");
    (value.value().0, value.value().1.to_vec())
}

fn put_line(database: &Database, number: u64, link: [u8; 32], text: &[u8]) {
    let write = database.begin_write().expect("a transaction");
    {
        let mut table = write.open_table(AUDIT).expect("a table");
        table.insert(number, (link, text)).expect("written");
    }
    write.commit().expect("committed");
}

fn remove_line(database: &Database, number: u64) {
    let write = database.begin_write().expect("a transaction");
    write
        .open_table(AUDIT)
        .expect("a table")
        .remove(number)
        .expect("removed");
    write.commit().expect("committed");
}

fn put_meta(database: &Database, key: &str, value: &[u8]) {
    let write = database.begin_write().expect("a transaction");
    write
        .open_table(META)
        .expect("a table")
        .insert(key, value)
        .expect("written");
    write.commit().expect("committed");
}

fn put_thing(database: &Database, name: &str, json: Option<&str>) {
    let write = database.begin_write().expect("a transaction");
    {
        let mut table = write.open_table(THINGS).expect("a table");
        match json {
            Some(json) => table.insert((6, name), (5, json.as_bytes())).map(drop),
            None => table.remove((6, name)).map(drop),
        }
        .expect("written");
    }
    write.commit().expect("committed");
}

fn replace(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(text).expect("JSON");
    assert!(text.contains(from), "{from} is in {text}");
    text.replace(from, to).into_bytes()
}

/// A store of five lines, altered; what its check finds.
fn altered(name: &str, alter: impl FnOnce(&Database)) -> (PathBuf, Vec<String>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    drop(filled(&path));
    alter(&Database::open(&path).expect("a database"));
    let verdict = open(&path).verify_audit().expect("readable");
    (path, verdict.faults, folder)
}

#[test]
fn an_untouched_log_has_no_faults() {
    let (_, faults, _folder) = altered("untouched", |_| {});
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn whatever_was_altered_is_found_and_named() {
    type Alter = fn(&Database);
    let cases: [(&str, Alter, &str); 8] = [
        (
            "a text",
            |database| {
                let (link, text) = line(database, 3);
                put_line(
                    database,
                    3,
                    link,
                    &replace(&text, "\"actor\":\"test\"", "\"actor\":\"none\""),
                );
            },
            "line 3 was altered",
        ),
        (
            "a link",
            |database| put_line(database, 3, [9; 32], &line(database, 3).1),
            "line 3 was altered",
        ),
        (
            "one left out",
            |database| remove_line(database, 3),
            "line 3 is not there",
        ),
        (
            "the last one left out",
            |database| remove_line(database, 5),
            "which is not its head",
        ),
        (
            "the last one left out, and the head put back",
            |database| {
                remove_line(database, 5);
                put_meta(database, "head", &line(database, 4).0);
                put_meta(database, "version", &4u64.to_le_bytes());
            },
            "endpoint `a/e/pump` was never audited",
        ),
        (
            "a thing",
            |database| put_thing(database, "a/e/pump", Some("{\"name\":\"a/e/pump\"}")),
            "endpoint `a/e/pump` is not what was audited",
        ),
        (
            "a thing put in",
            |database| put_thing(database, "a/e/spy", Some("{\"name\":\"a/e/spy\"}")),
            "endpoint `a/e/spy` was never audited",
        ),
        (
            "a thing taken out",
            |database| put_thing(database, "a/e/pump", None),
            "endpoint `a/e/pump` is audited and not there",
        ),
    ];
    for (why, alter, want) in cases {
        let (path, faults, folder) = altered("store", alter);
        assert!(
            faults.iter().any(|fault| fault.contains(want)),
            "{why}: {faults:?}"
        );
        let to = folder.path().join("restored");
        let fault = restore(&path, &to, master_key()).expect_err(why);
        assert_eq!(fault.code, codes::AUDIT_BROKEN, "{why}");
        assert!(!to.exists(), "{why}: nothing of it is restored");
    }
}

#[test]
fn a_line_forged_without_the_master_key_does_not_continue_the_chain() {
    let (_, faults, _folder) = altered("forged", |database| {
        let (_, text) = line(database, 5);
        let text = replace(&text, "\"number\":5", "\"number\":6");
        let text = replace(&text, "\"version\":5", "\"version\":6");
        let forged = control::seal::MasterKey::new(&[8; 32]).link(&line(database, 5).0, &text);
        put_line(database, 6, forged, &text);
        put_meta(database, "head", &forged);
        put_meta(database, "version", &6u64.to_le_bytes());
    });
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("line 6 was altered")),
        "{faults:?}"
    );
}

#[test]
fn no_byte_of_the_file_can_be_flipped_into_another_catalog() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let want = filled(&path).load().expect("readable");
    let good = std::fs::read(&path).expect("readable");
    let used = good.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
    let step = (used / 100).max(1);
    let (mut refused, mut same) = (0, 0);
    for at in (0..used).step_by(step) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).expect("written");
        match read_back(&path) {
            Some(catalog) => {
                assert_eq!(catalog, want, "byte {at} of {used}");
                same += 1;
            }
            None => refused += 1,
        }
    }
    println!("{refused} flips refused, {same} without effect");
    assert!(refused > 0);
}

fn read_back(path: &Path) -> Option<control::store::Catalog> {
    let store = Store::open(path, master_key()).ok()?;
    let verdict = store.verify_audit().ok()?;
    let catalog = store.load().ok()?;
    verdict.faults.is_empty().then_some(catalog)
}
