//! What the control plane lets whom do, and what becomes of it.

mod access;
mod changes;
mod documents;
mod ids;
mod keys;
mod limits;
mod logs;
mod nodes;
mod pairs;
mod tokens;
mod why;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use control::model::{Model, Role, Token};
use control::plan;
use control::seal::MasterKey;
use control::service::{Apply, Caller, NodeApplied, Publish, Refusal, Service, Update};
use control::store::{Change, Store};
use wire::diagnosis::Diagnosis;
use wire::route::RouteTable;

pub(crate) const PLAN: &str = r#"
queue_groups = 2
[[accounts]]
name = "a"
[[accounts]]
name = "b"
[[environments]]
name = "a/e"
[[environments]]
name = "b/e"
[[hubs]]
name = "a/e/fast"
partitions = 2
[[channels]]
name = "a/e/readings"
hub = "fast"
[[channels]]
name = "b/e/readings"
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
[[endpoints]]
name = "b/e/office"
[[endpoints.keys]]
id = 1
name = "primary"
direction = "egress"
secret = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
[[endpoints.grants]]
channel = "readings"
allow = "receive"
"#;

/// Keeps the newest table, as a node would, and counts those that came as changes.
#[derive(Clone, Default)]
pub(crate) struct Node(Arc<Mutex<(Option<Arc<RouteTable>>, usize)>>);

impl Node {
    pub(crate) fn table(&self) -> Arc<RouteTable> {
        let table = self.0.lock().expect("whole").0.clone();
        table.expect("published")
    }

    /// How many tables came as changes.
    pub(crate) fn deltas(&self) -> usize {
        self.0.lock().expect("whole").1
    }
}

impl Publish for Node {
    fn check(&self, _: &RouteTable) -> Result<(), Diagnosis> {
        Ok(())
    }

    fn publish(&self, update: Update) {
        let mut node = self.0.lock().expect("whole");
        if let Some(delta) = &update.delta {
            let before = node.0.take().expect("a change is of something");
            let after = before.after(delta).expect("of what came before");
            let seen = (after.epoch(), after.digest());
            assert_eq!(seen, (update.table.epoch(), update.table.digest()));
            assert_eq!(after.encode()[..], update.table.encode()[..]);
            node.1 += 1;
        }
        node.0 = Some(update.table);
    }

    fn applied(&self, epoch: u64, _: Duration) -> Vec<NodeApplied> {
        vec![NodeApplied {
            node: "here".into(),
            shards: 1,
            applied: usize::from(self.table().epoch() >= epoch),
        }]
    }
}

/// A control plane with the plan in it, its node, and the hand of its clock.
pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) node: Node,
    pub(crate) now: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

pub(crate) fn empty(master: [u8; 32]) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let master = Arc::new(MasterKey::new(&master));
    let store = Store::open(&folder.path().join("store"), master).expect("a store");
    let (node, now) = (Node::default(), Arc::new(AtomicU64::new(1_000)));
    let hand = Arc::clone(&now);
    let clock = Box::new(move || hand.load(Ordering::Relaxed));
    let service = Service::start(store, Box::new(node.clone()), clock).expect("started");
    World {
        service,
        node,
        now,
        _folder: folder,
    }
}

pub(crate) fn world() -> World {
    let world = empty([7; 32]);
    let applied = world.service.apply(&Caller::local(), &document(PLAN));
    applied.expect("applied");
    world
}

pub(crate) fn read(text: &str) -> Model {
    plan::read(text, "plan.toml").expect("the test writes plans")
}

/// A document that is added to what is there.
pub(crate) fn document(text: &str) -> Apply {
    Apply {
        model: read(text),
        prune: false,
        create: false,
    }
}

/// Make one change; the version it gave, or the code of why not.
pub(crate) fn change(world: &World, caller: &Caller, change: Change) -> Result<u64, u16> {
    let made = world.service.edit(caller, "test", |_, _| Ok(vec![change]));
    made.map(|outcome| outcome.version).map_err(code)
}

pub(crate) fn code(refusal: Refusal) -> u16 {
    refusal[0].fault.code
}

pub(crate) fn token(name: &str, role: Role, account: Option<&str>) -> Token {
    Token {
        name: name.into(),
        role,
        account: account.map(str::to_owned),
        hash: String::new(),
        expires: None,
    }
}

pub(crate) fn caller(role: Role, account: Option<&str>) -> Caller {
    Caller {
        name: format!("{}-{}", role.name(), account.unwrap_or("all")),
        role,
        account: account.map(str::to_owned),
        expires: None,
        hash: None,
    }
}
