//! The same through a control plane and its store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use control::compile::compile;
use control::model::{Account, Thing};
use control::seal::MasterKey;
use control::service::{Caller, NodeApplied, Publish, Service, Update, setting};
use control::store::{Act, Catalog, Change, Store};
use node::Tables;
use node::diagnosis::Diagnosis;
use wire::route::RouteTable;

use crate::model::{SENDERS, model, name};
use crate::{PATIENCE, resident_bytes, timed, told};

struct Here(Tables);

impl Publish for Here {
    fn check(&self, table: &RouteTable) -> Result<(), Diagnosis> {
        self.0.check(table)
    }

    fn publish(&self, update: Update) {
        self.0.apply(update.table).unwrap();
    }

    fn applied(&self, epoch: u64, within: Duration) -> Vec<NodeApplied> {
        let epochs = self.0.wait(epoch, within);
        vec![NodeApplied {
            node: "here".to_owned(),
            shards: epochs.len(),
            applied: epochs.iter().filter(|has| **has >= epoch).count(),
        }]
    }
}

/// Change endpoints one by one through the control plane, its store among it.
pub(crate) fn through_control(folder: &std::path::Path, tables: Tables, endpoints: usize) {
    let store = Store::open(&folder.join("store"), Arc::new(MasterKey::new(&[7; 32]))).unwrap();
    let mut things: Vec<Thing> = model(endpoints).into_things().collect();
    timed("all of it stored", || {
        while !things.is_empty() {
            let some = things.drain(..things.len().min(100_000));
            let mut changes: Vec<Change> = some.map(|thing| setting(thing, None)).collect();
            let act = Act {
                actor: "local",
                at_seconds: 0,
                action: "import",
            };
            store.commit(&act, &mut changes).unwrap();
        }
    });
    let begin = Instant::now();
    let clock = Box::new(move || begin.elapsed().as_secs());
    let publish = Box::new(Here(tables.clone()));
    let service = timed("control started from its store", || {
        let service = Service::start(store, publish, clock).unwrap();
        let version = service.catalog().version;
        while tables.wait(0, PATIENCE).iter().any(|has| *has != version) {
            std::thread::sleep(Duration::from_millis(1));
        }
        service
    });
    let mut took = Vec::new();
    for number in 0..100 {
        let begin = Instant::now();
        let all = Caller::local();
        let endpoint = name(SENDERS + number);
        let outcome = service
            .set_revoked(&all, &endpoint, "primary", true, None)
            .unwrap();
        assert!(service.wait(&outcome, PATIENCE).complete);
        took.push(begin.elapsed());
    }
    told("a key revoked through control and its store, live", took);
    limited(&service);
    drop(service);
    rekeyed(&folder.join("store"));
}

/// Bound the account of all endpoints, by what it may define and by what it may send.
fn limited(service: &Service) {
    let mut account = Account {
        name: "acme".to_owned(),
        ..Account::default()
    };
    let set = |what: &str, account: &Account| {
        let before = resident_bytes();
        timed(what, || {
            let thing = Thing::Account(account.clone());
            let change = |_: &Catalog, _: &Store| Ok(vec![setting(thing, None)]);
            let outcome = service
                .edit(&Caller::local(), "account set", change)
                .unwrap();
            assert!(service.wait(&outcome, PATIENCE).complete);
        });
        let grew = resident_bytes().saturating_sub(before) >> 20;
        println!("the same: the process grew by {grew} MiB");
    };
    account.limits.endpoints = Some(2_000_000);
    set("endpoints of an account limited, live", &account);
    account.messages_per_second = Some(1_000_000_000);
    set("messages of an account limited, live", &account);
}

/// Seal the whole store under another master key.
fn rekeyed(path: &std::path::Path) {
    let act = Act {
        actor: "local",
        at_seconds: 0,
        action: "store rekey",
    };
    let store = Store::open(path, Arc::new(MasterKey::new(&[7; 32]))).unwrap();
    let before = resident_bytes();
    let done = timed("another master key for the store", || {
        let compiles = |store: &Store| {
            let catalog = store.load()?;
            compile(&catalog.model(), catalog.version, Some(store.master())).unwrap();
            Ok(())
        };
        let new = Arc::new(MasterKey::new(&[8; 32]));
        store.rekey(new, &act, compiles).unwrap()
    });
    let (now, most) = (resident_bytes() >> 20, most_bytes() >> 20);
    println!(
        "the same: {} secrets; {} MiB before, {now} after, the process had {most} at most",
        done.secrets,
        before >> 20
    );
}

/// The most memory that this process ever had.
fn most_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<usize>().unwrap() << 10
}
