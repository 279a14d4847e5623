//! Keeps on disk what is in force, on a thread of its own: who brings tables to the shards waits for no disk.
//!
//! What comes while the disk works is kept together. What could not be kept is tried again, whole, until it is or something newer comes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{CODES, LINK_FAILED};
use crate::follow::Report;
use crate::frame::Version;
use crate::history::Snapshot;
use crate::kept::Kept;
use crate::tell::{Level, Tell};

/// How long until the disk is asked again that did not take a table.
const AGAIN: Duration = Duration::from_secs(1);
/// Changes that wait for the disk, and bytes of them, beyond which the whole table is written instead.
const WAITING_MAX: usize = 1_024;
const WAITING_BYTES_MAX: usize = 8 << 20;

/// A change: what it is made for, what it makes, what it says.
pub(crate) type Change = (Version, Version, Vec<u8>);

/// A table that is to be kept.
pub(crate) struct Table {
    pub(crate) version: Version,
    pub(crate) whole: Arc<dyn Snapshot>,
    /// The way there from the one that was to be kept before; none: it came whole.
    pub(crate) changes: Option<Vec<Change>>,
}

/// The way to the thread; it ends when this is dropped, and what waits is kept before.
pub(crate) struct Keeper(Arc<Desk>);

struct Desk {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

#[derive(Default)]
struct Waiting {
    table: Option<Table>,
    ended: bool,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // It is whole after every change, whoever panicked beside it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Begin to keep in `kept`, and to tell in `report` how far that is.
    pub(crate) fn start(
        kept: Kept,
        report: watch::Sender<Report>,
        tell: Arc<dyn Tell>,
    ) -> Result<Self, Diagnosis> {
        let desk = Arc::new(Desk {
            waiting: Mutex::default(),
            came: Condvar::new(),
        });
        let of_thread = Arc::clone(&desk);
        let mut work = Work { kept, report, tell };
        work.tell_kept();
        let thread = std::thread::Builder::new().name("link-disk".into());
        let spawned = thread.spawn(move || work.run(&of_thread));
        spawned.map(|_| Self(desk)).map_err(|error| {
            let (what, needed) = ("the thread that keeps tables", "a thread more");
            Diagnosis::from_table(CODES, LINK_FAILED, what, error.to_string(), needed)
        })
    }

    /// Keep this table as soon as the disk can. Does not wait.
    pub(crate) fn keep(&self, table: Table) {
        let mut waiting = self.0.lock();
        waiting.table = Some(match waiting.table.take() {
            Some(before) => together(before, table),
            None => table,
        });
        self.0.came.notify_all();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.came.notify_all();
    }
}

/// Both as one.
fn together(before: Table, next: Table) -> Table {
    let Table {
        version,
        whole,
        changes,
    } = next;
    let changes = before.changes.zip(changes).map(|(mut all, more)| {
        all.extend(more);
        all
    });
    let bytes = |all: &[Change]| all.iter().map(|(_, _, bytes)| bytes.len()).sum::<usize>();
    let few = |all: &Vec<Change>| all.len() <= WAITING_MAX && bytes(all) <= WAITING_BYTES_MAX;
    Table {
        version,
        whole,
        changes: changes.filter(few),
    }
}

struct Work {
    kept: Kept,
    report: watch::Sender<Report>,
    tell: Arc<dyn Tell>,
}

impl Work {
    fn run(&mut self, desk: &Desk) {
        // What the disk did not take.
        let mut left = None::<Table>;
        loop {
            let mut waiting = desk.lock();
            while waiting.table.is_none() && !waiting.ended {
                if left.is_some() {
                    let woken = desk.came.wait_timeout(waiting, AGAIN);
                    let (woken, late) = woken.unwrap_or_else(PoisonError::into_inner);
                    waiting = woken;
                    if late.timed_out() {
                        break;
                    }
                } else {
                    let woken = desk.came.wait(waiting);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
            let (came, ended) = (waiting.table.take(), waiting.ended);
            drop(waiting);
            let next = match (left.take(), came) {
                (Some(before), Some(next)) => Some(together(before, next)),
                (before, next) => before.or(next),
            };
            let Some(table) = next else {
                return;
            };
            left = self.keep(table).err();
            if ended {
                return;
            }
        }
    }

    /// Keep this table; it is given back if the disk does not take it.
    fn keep(&mut self, mut table: Table) -> Result<(), Table> {
        let wrote = self.write(&table);
        self.tell_kept();
        wrote.map_err(|fault| {
            (self.tell).tell(Level::Error, "table_unkept", &[("fault", &fault)]);
            // Nobody knows what of the changes is there.
            table.changes = None;
            table
        })
    }

    fn write(&mut self, table: &Table) -> Result<(), Diagnosis> {
        let follow =
            |changes: &&Vec<Change>| changes.first().map(|(base, ..)| *base) == self.kept.version();
        if let Some(changes) = table.changes.as_ref().filter(follow) {
            let changes = changes.iter();
            let changes = changes.map(|(base, becomes, bytes)| (*base, *becomes, &bytes[..]));
            self.kept.keep_deltas(changes)?;
            // It is kept from here on, whatever becomes of a better form.
            self.tell_kept();
            if !self.kept.wants_snapshot() {
                return Ok(());
            }
        }
        let bytes = table.whole.bytes();
        self.kept.keep_snapshot(table.version, (*bytes).as_ref())
    }

    /// The report says which epoch is on disk; one of another past is none.
    fn tell_kept(&self) {
        let kept = self.kept.version();
        self.report.send_if_modified(|report| {
            let ours =
                kept.filter(|kept| report.has.is_some_and(|has| has.lineage == kept.lineage));
            let epoch = ours.map_or(0, |kept| kept.epoch);
            std::mem::replace(&mut report.kept, epoch) != epoch
        });
    }
}
