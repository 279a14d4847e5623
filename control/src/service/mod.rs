//! What may be asked of the control plane, whoever asks: every question and every change goes through here.
//!
//! A change is made in five steps, one change at a time: may the caller do it, does the model still compile, would every node take
//! the table, is it in the store, hand it to the nodes. What fails before the store changes nothing at all. The table's epoch is
//! the store's version.

pub mod access;
mod apply;
mod ids;
mod keys;
pub mod limits;
mod logs;
mod mend;
mod next;
mod nodes;
mod private;
mod push;
pub mod refused;
mod tokens;
mod why;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use wire::diagnosis::Diagnosis;
use wire::route::RouteTable;

use crate::compile::{Digest, Found};
use crate::diagnosis::{ALREADY_THERE, CODES, NOT_THERE, SCOPE};
use crate::model::{Model, Noun, Role, Thing};
use crate::nearest::nearest;
use crate::store::{Act, Catalog, Change, Store, Stored};
use crate::tidy::Tidy;
pub use access::Caller;
pub use apply::{Apply, Difference, Secrets};
pub use keys::{KeyOrder, NewKey, Rotation};
use limits::Counts;
use next::{Next, compiled};
pub use nodes::NodeTold;
pub use push::{NodeApplied, NodeSeen, Publish, Unpublished, Update};
pub use why::{Check, Question, Reasons};

/// Most that wait for the nodes at once.
const WAITING_MAX: usize = 8;

/// Names beside one that is not there that are looked at for a hint.
const HINT_NAMES_MAX: usize = 1_000;

/// Tells the time: seconds since 1970.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// The control plane of one store.
pub struct Service {
    store: Store,
    /// Held while something changes. Who only looks, even at all of it, holds up nobody.
    changing: Mutex<()>,
    /// Whether the store failed and could not be opened again since.
    failed: AtomicBool,
    /// How many wait for the nodes.
    waiting: AtomicUsize,
    current: RwLock<Current>,
    publish: Box<dyn Publish>,
    tidy: Mutex<Tidy>,
    clock: Clock,
    refused: refused::Refused,
    /// What every account has, as of what holds now.
    counts: Mutex<Counts>,
}

/// What holds now.
#[derive(Debug, Clone)]
struct Current {
    catalog: Arc<Catalog>,
    /// What is defined without endpoints.
    head: Arc<Model>,
    table: Arc<RouteTable>,
}

impl Current {
    /// What a store holds, compiled and handed to the nodes as a whole.
    fn published(catalog: Catalog, store: &Store, publish: &dyn Publish) -> Result<Self, Refusal> {
        let table = Arc::new(compiled(&catalog, store)?);
        publish.check(&table).map_err(refused)?;
        let hubs = logs::new(store, &table).map_err(refused)?;
        store.remember_hubs(&hubs).map_err(refused)?;
        publish.admit(&mut catalog.nodes());
        publish.publish(Update {
            table: Arc::clone(&table),
            delta: None,
        });
        Ok(Self {
            head: Arc::new(catalog.head()),
            catalog: Arc::new(catalog),
            table,
        })
    }
}

/// What a change came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The version it gave, or the one there was when nothing had to change.
    pub version: u64,
    /// When it was asked for, before whatever it had to wait for.
    pub began: Instant,
    /// The things that changed.
    pub changed: Vec<(Noun, String)>,
}

/// How far a version has come.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    /// The version.
    pub version: u64,
    /// Whether every shard of every node has it.
    pub complete: bool,
    /// Milliseconds from the change to the last shard that has it, or to the end of waiting.
    pub milliseconds: f64,
    /// Every node.
    pub nodes: Vec<NodeApplied>,
}

/// What is wrong with a change, each thing with its place in what was sent.
pub type Refusal = Vec<Found>;

/// A refusal of the whole.
pub(crate) fn refused(fault: Diagnosis) -> Refusal {
    let pointer = String::new();
    vec![Found { pointer, fault }]
}

impl std::fmt::Debug for Service {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// Serve a store; `publish` gets the table of what it holds at once.
    ///
    /// # Errors
    /// When the store cannot be read, or what it holds does not compile.
    pub fn start(store: Store, publish: Box<dyn Publish>, clock: Clock) -> Result<Self, Refusal> {
        let catalog = store.load().map_err(refused)?;
        let counts = Mutex::new(Counts::of_all(&catalog));
        let current = Current::published(catalog, &store, &*publish)?;
        Ok(Self {
            store,
            changing: Mutex::new(()),
            failed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            current: RwLock::new(current),
            publish,
            tidy: Mutex::default(),
            clock,
            refused: refused::Refused::default(),
            counts,
        })
    }

    /// Everything that is defined now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.current().catalog)
    }

    /// What the table in force says.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.current().table.digest()
    }

    /// Questions that were refused for want of a right.
    #[must_use]
    pub const fn refused(&self) -> &refused::Refused {
        &self.refused
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    fn current(&self) -> Current {
        // Whoever panicked with it only replaced the whole of it, or did not.
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // One change at a time adds to them, and whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store, for what reads or copies all of it.
    pub fn with_store<T>(&self, work: impl FnOnce(&Store) -> T) -> T {
        work(&self.store)
    }

    /// Change what `edit` says, given everything that is defined; nobody else changes anything meanwhile.
    ///
    /// # Errors
    /// Everything that is wrong; nothing has changed then.
    pub fn edit(
        &self,
        caller: &Caller,
        action: &str,
        edit: impl FnOnce(&Catalog, &Store) -> Result<Vec<Change>, Refusal>,
    ) -> Result<Outcome, Refusal> {
        let began = Instant::now();
        // The store is whole after every transaction, whatever became of who asked for it.
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.still(caller).map_err(refused)?;
        self.mend().map_err(refused)?;
        let (store, before) = (&self.store, self.catalog());
        let mut changes = edit(&before, store)?;
        ids::settle(
            caller,
            &mut changes,
            (&before, store),
            &self.current().table,
        )?;
        for change in &mut changes {
            access::may_change(caller, change, &before, action).map_err(refused)?;
            if let Some(thing) = &mut change.after {
                thing.seal(store.master());
                thing.look();
            }
        }
        let carried = self.carry_out(store, (caller, action), began, &before, changes);
        carried.map_err(|refusal| private::told(caller, refusal))
    }

    /// Note that this caller takes a copy of everything it reaches, before it gets it.
    ///
    /// # Errors
    /// When the store does not take it; then it is to get nothing.
    pub fn note(&self, caller: &Caller, action: &str) -> Result<(), Diagnosis> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.mend()?;
        let act = Act {
            actor: &caller.name,
            at_seconds: self.now(),
            action,
        };
        let noted = match &caller.account {
            None => self.store.note(&act, Noun::Settings, ""),
            Some(account) => self.store.note(&act, Noun::Account, account),
        };
        // Of a line alone it cannot be told whether it is there: it is asked for again.
        noted.or_else(|fault| self.after_failure(fault, u64::MAX).map(drop))
    }

    /// Compile, check, commit and publish.
    fn carry_out(
        &self,
        store: &Store,
        (caller, action): (&Caller, &str),
        began: Instant,
        before: &Catalog,
        mut changes: Vec<Change>,
    ) -> Result<Outcome, Refusal> {
        let changed: Vec<_> = changes
            .iter()
            .map(|change| (change.noun, change.name.clone()))
            .collect();
        let outcome = |version| Outcome {
            version,
            began,
            changed,
        };
        if changes.is_empty() {
            return Ok(outcome(before.version));
        }
        let after = before.clone().after(&changes, before.version + 1);
        let more = Counts::difference(before, &after, &changes);
        (self.counts()).check(&more, (before, &after), &changes)?;
        let Next { head, table, delta } = self.next(store, &after, &changes)?;
        self.publish.check(&table).map_err(refused)?;
        let served = self.current().table;
        self.publish.carries(&table, &served).map_err(refused)?;
        let hubs = logs::check(store, &served, &table).map_err(refused)?;
        let act = Act {
            actor: &caller.name,
            at_seconds: self.now(),
            action,
        };
        let gone = ids::gone(&changes, before, (&self.current().table, &table));
        let committed = store.commit_with(&act, &mut changes, (&gone, &hubs));
        let version = committed.or_else(|fault| self.after_failure(fault, after.version));
        let version = version.map_err(refused)?;
        assert_eq!(version, after.version, "one change at a time");
        self.counts().add(more);
        let outcome = outcome(version);
        self.publish.admit(&mut after.nodes());
        let now = Current {
            catalog: Arc::new(after),
            head,
            table: Arc::clone(&table),
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = now;
        self.tidy().note(delta.as_ref());
        self.publish.publish(Update { table, delta });
        Ok(outcome)
    }

    /// Wait until every shard of every node has what a change gave, at most so long. When many wait already, it is told at once how far
    /// that is: while a node is behind, changes must not wait for those who wait.
    #[must_use]
    pub fn wait(&self, outcome: &Outcome, within: Duration) -> Progress {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let within = if before < WAITING_MAX {
            within
        } else {
            Duration::ZERO
        };
        let nodes = self.publish.applied(outcome.version, within);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Progress {
            version: outcome.version,
            complete: nodes.iter().all(|node| node.applied == node.shards),
            milliseconds: outcome.began.elapsed().as_secs_f64() * 1_000.0,
            nodes,
        }
    }

    /// The thing of this kind and name, if the caller may look at it.
    ///
    /// # Errors
    /// When the caller may not, or it is not there.
    pub fn show(&self, caller: &Caller, noun: Noun, name: &str) -> Result<Stored, Diagnosis> {
        access::may_look(caller, noun, name, Role::Viewer)?;
        let catalog = self.catalog();
        let stored = there(&catalog, noun, name)?;
        let seen = access::may_see(caller, &stored.thing);
        match (noun, seen) {
            (_, Ok(())) => Ok(stored.clone()),
            // Whether another account has a token of that name is not told.
            (Noun::Token, Err(fault)) if fault.code == SCOPE => Err(missing(noun, name, None)),
            (_, Err(fault)) => Err(fault),
        }
    }
}

/// The thing of this kind and name.
pub(crate) fn there<'a>(
    catalog: &'a Catalog,
    noun: Noun,
    name: &str,
) -> Result<&'a Stored, Diagnosis> {
    catalog.get(noun, name).ok_or_else(|| {
        let within = name
            .rsplit_once('/')
            .map_or(0, |(within, _)| within.len() + 1);
        let (within, last) = name.split_at(within);
        // Nobody is told the names of tokens, and nobody waits for a look at a million names.
        let beside = catalog.things.from(noun, within).take(HINT_NAMES_MAX);
        let beside = beside.take_while(|((other, _), _)| *other == noun && noun != Noun::Token);
        let known = beside.map_while(|((_, known), _)| known.strip_prefix(within));
        let near = nearest(last, known.filter(|known| !known.contains('/')));
        missing(noun, name, near.map(|last| format!("{within}{last}")))
    })
}

fn missing(noun: Noun, name: &str, near: Option<String>) -> Diagnosis {
    let remedy = match near {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("create it, or list every {noun}"),
    };
    let what = format!("there is no such {noun}");
    let seen = format!("`{name}`");
    Diagnosis::new(NOT_THERE, what, seen, "one that is defined", remedy)
}

/// Refuse to create what is there already.
pub(crate) fn not_there(catalog: &Catalog, noun: Noun, name: &str) -> Result<(), Diagnosis> {
    match catalog.get(noun, name) {
        None => Ok(()),
        Some(_) => Err(Diagnosis::from_table(
            CODES,
            ALREADY_THERE,
            format!("the {noun} is there already"),
            format!("`{name}`"),
            "a name that is free",
        )),
    }
}

/// A change to one thing, whatever it was before.
#[must_use]
pub fn setting(thing: Thing, expected: Option<u64>) -> Change {
    Change {
        noun: thing.noun(),
        name: thing.name().to_owned(),
        expected,
        after: Some(thing),
    }
}

/// The deletion of one thing.
#[must_use]
pub fn deleting(noun: Noun, name: &str, expected: Option<u64>) -> Change {
    Change {
        noun,
        name: name.to_owned(),
        expected,
        after: None,
    }
}
