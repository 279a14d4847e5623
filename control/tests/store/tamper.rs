//! Whoever has the file and not the master key cannot alter what it says unseen.

use std::path::{Path, PathBuf};

use control::diagnosis as codes;
use control::model::{Role, Thing, Token};
use control::store::{Store, restore};
use redb::{Database, ReadableTable, TableDefinition};

use super::{act, filled, master_key, set};

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

fn remove_meta(database: &Database, key: &str) {
    let write = database.begin_write().expect("a transaction");
    write
        .open_table(META)
        .expect("a table")
        .remove(key)
        .expect("removed");
    write.commit().expect("committed");
}

fn put_thing(database: &Database, name: &str, json: Option<&str>) {
    put_stored(database, (6, name), json.map(|json| (5, json.as_bytes())));
}

fn put_stored(database: &Database, key: (u8, &str), stored: Option<(u64, &[u8])>) {
    put(database, THINGS, key, stored);
}

/// Let a row of a table be this one, or none.
fn put<'a, K: redb::Key + 'static, V: redb::Value + 'static>(
    database: &Database,
    table: TableDefinition<'_, K, V>,
    key: K::SelfType<'a>,
    row: Option<V::SelfType<'a>>,
) {
    let write = database.begin_write().expect("a transaction");
    {
        let mut table = write.open_table(table).expect("a table");
        match row {
            Some(row) => table.insert(key, row).map(drop),
            None => table.remove(key).map(drop),
        }
        .expect("written");
    }
    write.commit().expect("committed");
}

fn stored(database: &Database, key: (u8, &str)) -> Vec<u8> {
    let write = database.begin_write().expect("a transaction");
    let table = write.open_table(THINGS).expect("a table");
    let value = table.get(key).expect("readable").expect("there");
    value.value().1.to_vec()
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
    let faults = found(&path);
    (path, faults, folder)
}

/// What is wrong with a file, as its opening and its check tell.
fn found(path: &Path) -> Vec<String> {
    match Store::open(path, master_key()) {
        Ok(store) => store.verify_audit().expect("readable").faults,
        Err(fault) => {
            assert_eq!(fault.code, codes::AUDIT_BROKEN, "{fault}");
            vec![format!("{}: {}", fault.what, fault.seen)]
        }
    }
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
            "was cut off or added to: line 4 and version 5",
        ),
        (
            "the last one left out, and the head put back",
            |database| {
                remove_line(database, 5);
                put_meta(database, "head", &line(database, 4).0);
                put_meta(database, "version", &4u64.to_le_bytes());
            },
            "was cut off or added to: line 4 and version 4",
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
            .any(|fault| fault.contains("was cut off or added to: line 6")),
        "{faults:?}"
    );
}

/// A store whose last change, the sixth, revoked the key of the pump.
fn revoked(path: &Path) {
    let store = filled(path);
    let (_, mut pump) = super::pump(&store);
    pump.keys[0].revoked = Some(true);
    let mut changes = [set(Thing::Endpoint(Box::new(pump)))];
    store.commit(&act(), &mut changes).expect("committed");
}

/// Make the last change undone, and the file as it was before, with what the file itself holds.
fn undo(database: &Database) {
    remove_line(database, 6);
    put_meta(database, "head", &line(database, 5).0);
    put_meta(database, "version", &5u64.to_le_bytes());
    let key = (6, "a/e/pump");
    let before = replace(&stored(database, key), ",\"revoked\":true", "");
    put_stored(database, key, Some((5, &before)));
}

#[test]
fn a_change_cannot_be_undone_by_cutting_its_line_off_and_putting_the_thing_back() {
    let folder = tempfile::tempdir().expect("a folder");
    type Alter = fn(&Database);
    let cases: [(&str, Alter, u16); 4] = [
        ("all of it", undo, codes::AUDIT_BROKEN),
        (
            "and no seal",
            |database| {
                undo(database);
                remove_meta(database, "seal");
            },
            codes::AUDIT_BROKEN,
        ),
        (
            "and another one",
            |database| {
                undo(database);
                put_meta(database, "seal", &[9; 32]);
            },
            codes::AUDIT_BROKEN,
        ),
        (
            "and nothing that says that it is a store",
            |database| {
                undo(database);
                for key in ["format", "check", "seal"] {
                    remove_meta(database, key);
                }
            },
            codes::STORE_DAMAGED,
        ),
    ];
    for (why, alter, code) in cases {
        let path = folder.path().join(why);
        revoked(&path);
        assert_eq!(found(&path), Vec::<String>::new(), "{why}: before");
        alter(&Database::open(&path).expect("a database"));
        let fault = Store::open(&path, master_key()).map(|store| {
            let verdict = store.verify_audit().expect("readable");
            format!("{why}: it opens, and {:?} is wrong", verdict.faults)
        });
        assert_eq!(fault.expect_err("cut off").code, code, "{why}");
    }
}

#[test]
fn a_token_that_was_put_in_the_place_of_another_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let mut token = Token {
        name: "ops".into(),
        role: Role::Owner,
        account: None,
        hash: String::new(),
        expires: None,
    };
    let _good = token.renew();
    let hash = token.hash.clone();
    let store = filled(&path);
    let mut changes = [set(Thing::Token(token))];
    store.commit(&act(), &mut changes).expect("committed");
    let lines = serde_json::to_string(&store.audit_lines(0, 9).expect("readable"));
    assert!(
        !lines.expect("JSON").contains(&hash),
        "the log does not tell it"
    );
    drop(store);
    assert_eq!(found(&path), Vec::<String>::new());
    let database = Database::open(&path).expect("a database");
    let own = Token::hash_of("a text of whoever has the file");
    let forged = replace(&stored(&database, (7, "ops")), &hash, &own);
    put_stored(&database, (7, "ops"), Some((6, &forged)));
    drop(database);
    assert_eq!(found(&path), ["token `ops` is not what was audited"]);
    assert_eq!(loaded(&path), Err(codes::AUDIT_BROKEN), "nobody serves it");
}

/// Whether somebody can begin with what the file holds.
fn loaded(path: &Path) -> Result<(), u16> {
    let store = Store::open(path, master_key()).map_err(|fault| fault.code)?;
    store.load().map(drop).map_err(|fault| fault.code)
}

#[test]
fn nobody_begins_with_things_that_were_put_in_taken_out_or_brought_back() {
    let folder = tempfile::tempdir().expect("a folder");
    type Alter = fn(&Database, u64, &[u8]);
    let cases: [(&str, Alter); 5] = [
        ("as it was", |_, _, _| {}),
        ("brought back", |database, version, json| {
            put_stored(database, (7, "ops"), Some((version, json)));
        }),
        ("of another version", |database, version, _| {
            let now = stored(database, (7, "ops"));
            put_stored(database, (7, "ops"), Some((version, &now)));
        }),
        ("put in", |database, version, json| {
            put_stored(database, (7, "pos"), Some((version, json)));
        }),
        ("taken out", |database, _, _| {
            put_stored(database, (7, "ops"), None)
        }),
    ];
    for (why, alter) in cases {
        let path = folder.path().join(why);
        let token = |role| {
            Thing::Token(Token {
                name: "ops".into(),
                role,
                account: None,
                hash: "x".into(),
                expires: None,
            })
        };
        let commit = |role| {
            let store = match role {
                Role::Owner => filled(&path),
                _ => Store::open(&path, master_key()).expect("a store"),
            };
            let mut changes = [set(token(role))];
            store.commit(&act(), &mut changes).expect("committed")
        };
        let first = commit(Role::Owner);
        let before = stored(&Database::open(&path).expect("a database"), (7, "ops"));
        commit(Role::Viewer);
        assert_eq!(loaded(&path), Ok(()), "{why}: before");
        let database = Database::open(&path).expect("a database");
        alter(&database, first, &before);
        drop(database);
        let want = match why {
            "as it was" => Ok(()),
            _ => Err(codes::AUDIT_BROKEN),
        };
        assert_eq!(loaded(&path), want, "{why}");
    }
}

#[test]
fn nobody_begins_with_hubs_that_were_made_otherwise_put_in_or_taken_out() {
    let folder = tempfile::tempdir().expect("a folder");
    for (why, id, partitions) in [
        ("as it was", 7, Some(4)),
        ("other partitions", 7, Some(5)),
        ("put in", 8, Some(4)),
        ("taken out", 7, None),
    ] {
        let path = folder.path().join(why);
        let store = filled(&path);
        store.remember_hubs(&[(7, 4)]).expect("remembered");
        drop(store);
        assert_eq!(loaded(&path), Ok(()), "{why}: before");
        let hubs = TableDefinition::<u16, u16>::new("hubs");
        let database = Database::open(&path).expect("a database");
        put(&database, hubs, id, partitions);
        drop(database);
        let want = match why {
            "as it was" => Ok(()),
            _ => Err(codes::AUDIT_BROKEN),
        };
        assert_eq!(loaded(&path), want, "{why}");
    }
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
