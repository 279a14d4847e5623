//! A process that commits without end is killed, again and again: every transaction is there whole, or not at all.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use control::model::{Account, Noun, Thing};

use super::{act, open, set};

/// Names the store to the process that is killed.
const STORE: &str = "FOREBAY_KILLED_STORE";
/// How often it is killed.
const CYCLES: &str = "FOREBAY_KILL_STORE_CYCLES";

fn account(name: String, rate: i64) -> Thing {
    Thing::Account(Account {
        name,
        messages_per_second: Some(rate),
        bytes_per_second: None,
        ..Account::default()
    })
}

/// Not a test of its own unless the variable is set: the process that is killed.
#[test]
fn commits_until_it_is_killed() {
    let Ok(path) = std::env::var(STORE) else {
        return;
    };
    let store = open(Path::new(&path));
    loop {
        let next = store.load().expect("readable").version + 1;
        let rate = i64::try_from(next).expect("few");
        let mut changes: Vec<_> = (0..4)
            .map(|at| set(account(format!("a{at}"), rate)))
            .collect();
        changes.push(set(account(format!("n{next}"), rate)));
        let version = store.commit(&act(), &mut changes).expect("committed");
        println!("committed {version}");
    }
}

#[test]
fn no_transaction_is_half_applied_however_often_the_process_is_killed() {
    let cycles = std::env::var(CYCLES).map_or(5, |count| count.parse().expect("a count"));
    let seed = fastrand::u64(..);
    let replay =
        format!("{CYCLES}={cycles} cargo test -p forebay-control --test store half_applied");
    fastrand::seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    for cycle in 0..cycles {
        let told = kill_after(&path, fastrand::u64(1..20));
        let store = open(&path);
        let catalog = store.load().expect("readable");
        assert!(
            catalog.version >= told,
            "cycle {cycle}: {told} was told, {} is there; {replay}",
            catalog.version
        );
        let want = i64::try_from(catalog.version).expect("few");
        for at in 0..4 {
            let stored = catalog
                .get(Noun::Account, &format!("a{at}"))
                .expect("there");
            assert_eq!(
                *stored.thing,
                account(format!("a{at}"), want),
                "{cycle}: {replay}"
            );
        }
        let verdict = store.verify_audit().expect("readable");
        assert_eq!(
            verdict.faults,
            Vec::<String>::new(),
            "cycle {cycle}: {replay}"
        );
        assert_eq!(
            verdict.lines,
            5 * catalog.version,
            "cycle {cycle}: {replay}"
        );
        assert_eq!(catalog.things.len() as u64, 4 + catalog.version);
    }
    let version = open(&path).load().expect("readable").version;
    println!("killed {cycles} times within {version} transactions, seed {seed}; {replay}");
}

/// Start the process, let it tell of so many transactions and kill it. The last one it told of.
fn kill_after(path: &Path, transactions: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "kill::commits_until_it_is_killed", "--nocapture"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let versions = lines.map_while(Result::ok).filter_map(|line| {
        let at = line.find("committed ")?;
        line[at + 10..].parse::<u64>().ok()
    });
    let mut last = 0;
    for (count, version) in (1..).zip(versions) {
        last = version;
        if count == transactions {
            break;
        }
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(last > 0, "it committed nothing");
    last
}
