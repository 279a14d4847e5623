//! A node's side behind the link: what comes is taken, handed to the shards, reported, and given to whoever keeps it on disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use wire::diagnosis::Diagnosis;

use crate::assembly::Incoming;
use crate::diagnosis::LINK_FAILED;
use crate::follow::Report;
use crate::frame::{Payload, Unopened, Version};
use crate::history::Snapshot;
use crate::keeper::{Change, Keeper, Table};
use crate::tell::{Level, Tell};

/// How long until shards that are behind with their commands are asked again.
const AGAIN: Duration = Duration::from_millis(5);
/// How long to wait for shards before looking whether something newer has come.
const LOOK: Duration = Duration::from_millis(50);

/// Why a table that came is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// The shards are behind: ask again soon.
    Busy,
    /// It will not be taken; the one before stays in force.
    Refused(Diagnosis),
}

/// Tells which hubs of the table in force are not served now.
pub type AskUnopened = Arc<dyn Fn() -> Unopened + Send + Sync>;

/// Knows what a table is, and has the way to the shards.
pub trait Holder: Send + 'static {
    /// Take this whole table as the newest.
    ///
    /// # Errors
    /// When it is damaged, or not of this version.
    fn snapshot(&mut self, becomes: Version, bytes: Vec<u8>) -> Result<(), Diagnosis>;

    /// Take what this makes of the newest table as the newest.
    ///
    /// # Errors
    /// When it is damaged, was made for another table, or makes another one than it says.
    fn delta(&mut self, base: Version, becomes: Version, bytes: &[u8]) -> Result<(), Diagnosis>;

    /// The newest table taken, to be written down whole by another thread.
    fn whole(&self) -> Arc<dyn Snapshot>;

    /// Hand the newest table to every shard. Does not wait for them.
    ///
    /// # Errors
    /// Why they do not get it.
    fn hand_over(&mut self) -> Result<(), Unfit>;

    /// Wait until every shard has this epoch, at most so long; the epoch of each then, which is 0 for those that have a table of
    /// another past.
    fn wait(&self, epoch: u64, within: Duration) -> Vec<u64>;

    /// What tells which hubs of the table in force are not served, at any time.
    fn unopened(&self) -> AskUnopened {
        Arc::new(Unopened::default)
    }
}

/// What a worker works with.
pub(crate) struct Worker<H> {
    pub(crate) holder: H,
    pub(crate) keeper: Keeper,
    pub(crate) inbox: mpsc::Receiver<Incoming>,
    pub(crate) report: watch::Sender<Report>,
    pub(crate) tell: Arc<dyn Tell>,
}

/// What was taken and is not kept yet.
#[derive(Default)]
struct Taken {
    whole: bool,
    deltas: Vec<Change>,
    /// A new one is there to be handed over.
    any: bool,
}

impl<H: Holder> Worker<H> {
    /// Work on a thread of its own until nothing can come any more.
    pub(crate) fn start(self) -> Result<(), Diagnosis> {
        let thread = std::thread::Builder::new().name("link-table".into());
        let spawned = thread.spawn(move || self.run());
        spawned.map(drop).map_err(|error| {
            let (what, needed) = ("the thread for tables", "a thread more");
            let codes = crate::diagnosis::CODES;
            Diagnosis::from_table(codes, LINK_FAILED, what, error.to_string(), needed)
        })
    }

    fn run(mut self) {
        self.tell_shards(0);
        while let Some(first) = self.inbox.blocking_recv() {
            let mut taken = Taken::default();
            self.take(first, &mut taken);
            self.take_more(&mut taken);
            if taken.any {
                self.put_in_force(taken);
            }
        }
    }

    fn take_more(&mut self, taken: &mut Taken) {
        while let Ok(more) = self.inbox.try_recv() {
            self.take(more, taken);
        }
    }

    /// Take one table or delta; what does not fit is asked for anew.
    fn take(&mut self, incoming: Incoming, taken: &mut Taken) {
        let Incoming {
            payload,
            becomes,
            bytes,
        } = incoming;
        let has = self.report.borrow().has;
        // A link that was made anew may bring again what waited here already.
        let again = |has: Version| payload != Payload::Snapshot && has.covers(&becomes);
        if has.is_some_and(again) {
            return;
        }
        let fits = match payload {
            Payload::Snapshot => self.holder.snapshot(becomes, bytes).map(|()| {
                taken.whole = true;
                taken.deltas.clear();
            }),
            Payload::Delta(base) => self.holder.delta(base, becomes, &bytes).map(|()| {
                taken.deltas.push((base, becomes, bytes));
            }),
        };
        match fits {
            Ok(()) => {
                taken.any = true;
                // Epochs of another past say nothing about this table.
                let back = has.is_some_and(|has| !becomes.covers(&has));
                self.report.send_modify(|report| {
                    report.has = Some(becomes);
                    if back {
                        report.shards.fill(0);
                        report.kept = 0;
                    }
                });
            }
            Err(fault) => {
                let fields: [(&str, &dyn std::fmt::Display); 2] =
                    [("version", &becomes), ("fault", &fault)];
                self.tell.tell(Level::Warning, "table_unfit", &fields);
                self.report.send_modify(|report| {
                    report.resyncs += 1;
                    report.resync_code = fault.code;
                });
            }
        }
    }

    /// Hand over, keep, wait for the shards, report; begin again when something newer comes meanwhile, and give up when nothing can.
    fn put_in_force(&mut self, mut taken: Taken) {
        let began = Instant::now();
        let refused = loop {
            match self.holder.hand_over() {
                Ok(()) => break None,
                Err(Unfit::Refused(fault)) => break Some(fault),
                Err(Unfit::Busy) if self.ended() => return,
                Err(Unfit::Busy) => {
                    std::thread::sleep(AGAIN);
                    self.take_more(&mut taken);
                }
            }
        };
        let code = refused.as_ref().map_or(0, |fault| fault.code);
        if let Some(fault) = &refused {
            self.tell
                .tell(Level::Error, "table_refused", &[("fault", fault)]);
            self.report.send_modify(|report| report.refused = code);
            // It is not in force, so it is not what to start from either: control sends everything again.
            return;
        }
        let Some(has) = self.report.borrow().has else {
            return;
        };
        let (whole, deltas) = (taken.whole, taken.deltas.len());
        self.keeper.keep(Table {
            version: has,
            whole: self.holder.whole(),
            changes: (!whole).then_some(taken.deltas),
        });
        self.report.send_modify(|report| report.refused = 0);
        while !self.tell_shards(has.epoch) && self.inbox.is_empty() {
            if self.ended() {
                return;
            }
        }
        let milliseconds = began.elapsed().as_millis();
        self.tell.tell(
            Level::Info,
            "table_applied",
            &[
                ("version", &has),
                ("whole", &whole),
                ("deltas", &deltas),
                ("ms", &milliseconds),
            ],
        );
    }

    /// Whether the link has ended and nothing of it is left: shards that are behind may never come, and nobody is left to tell.
    fn ended(&self) -> bool {
        self.inbox.is_closed() && self.inbox.is_empty()
    }

    /// Wait a moment for the shards and report how far they are. Whether all have this epoch.
    fn tell_shards(&self, epoch: u64) -> bool {
        let shards = self.holder.wait(epoch, LOOK);
        let all = shards.iter().all(|has| *has >= epoch);
        self.report.send_if_modified(|report| {
            let same = report.shards == shards;
            report.shards = shards;
            !same
        });
        all
    }
}
