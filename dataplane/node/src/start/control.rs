//! The way to the loops of a running node: commands, their bounds, new tables.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ring::Waker;
use wire::route::{Hub, RouteTable};

use super::retired::Retired;
use super::{Reload, Unapplied};
use crate::diagnosis::{Diagnosis, RELOAD_REFUSED, diagnose};
use crate::ending::Ending;
use crate::folder::Folder;
use crate::hubs::{Hubs, Unopenable};
use crate::log::{Level, Log};
use crate::run::Command;
use crate::status::{Phase, Snapshot, Status};

/// Commands that may wait for the loop. Questions for numbers leave room for tables, and these leave room for a stop: it is never
/// lost, however far behind a loop is.
const COMMANDS_MAX: usize = 16;
const TABLES_MAX: usize = 12;
const SNAPSHOTS_MAX: usize = 8;

/// The way to the loops, shared by the handle, the admin thread and signals.
pub(crate) struct Control {
    pub(crate) status: Arc<Status>,
    pub(crate) log: Arc<Log>,
    pub(super) doors: Vec<Door>,
    pub(super) ending: Ending,
    pub(crate) table: Mutex<Arc<RouteTable>>,
    pub(super) retired: Retired,
    pub(super) reload: Mutex<Reload>,
    pub(super) data: std::path::PathBuf,
    pub(crate) hubs: Hubs,
    /// What becomes of tables with hubs that cannot be opened.
    pub(super) unopenable: Unopenable,
}

/// The way to one loop.
pub(super) struct Door {
    commands: Sender<Command>,
    /// There once the shard serves.
    pub(super) waker: Mutex<Option<Waker>>,
}

impl Door {
    /// Whether the loop is not so far behind that there is no room for another table.
    fn has_room(&self) -> bool {
        self.commands.len() < TABLES_MAX
    }

    /// Hand a command to the loop and wake it. Whether there was room.
    fn ask(&self, command: Command) -> bool {
        self.hand(command).is_ok()
    }

    /// The same; without room it is given back.
    fn hand(&self, command: Command) -> Result<(), Command> {
        let room = match command {
            Command::Snapshot(_) => SNAPSHOTS_MAX,
            Command::Table(..) | Command::Suspend(_) => TABLES_MAX,
            // Whoever hands them over has looked for room, and somebody else may have taken it.
            Command::Hubs(_) | Command::Serve(_) => TABLES_MAX + 1,
            Command::Stop => COMMANDS_MAX,
        };
        if self.commands.len() >= room {
            return Err(command);
        }
        let asked = self.commands.try_send(command);
        if let Ok(waker) = self.waker.lock()
            && let Some(waker) = &*waker
        {
            waker.wake();
        }
        asked.map_err(crossbeam_channel::TrySendError::into_inner)
    }
}

impl Control {
    /// Hand a command to every loop and wake it. Whether all had room.
    fn ask(&self, command: impl Fn() -> Command) -> bool {
        let refused = self.doors.iter().filter(|door| !door.ask(command()));
        refused.count() == 0
    }

    /// Tell every loop to stop.
    pub(crate) fn stop(&self) {
        self.ending.ask();
        self.ask(|| Command::Stop);
    }

    /// Make a new table and hand it to the loop; on failure the old one stays and the configuration counts as stale.
    pub(crate) fn reload(&self) -> Result<u64, Diagnosis> {
        let make = || (self.reload.lock()).map_err(|_| busy("a reload that broke"))?();
        let handed = make().and_then(|table| {
            let handed = self.hand_over(table, false, Unopenable::Refuses);
            handed.map_err(|fault| match fault {
                Unapplied::Behind => busy("a shard that is behind with its commands"),
                Unapplied::Refused(fault) => fault,
            })
        });
        handed.inspect_err(|fault| self.tell_refused(fault))
    }

    /// Hand a table to the loop, of another past than the one before or not. One that is refused is told as by
    /// [`reload`](Self::reload).
    pub(crate) fn apply(&self, table: Arc<RouteTable>, anew: bool) -> Result<u64, Unapplied> {
        let handed = self.hand_over(table, anew, self.unopenable);
        handed.inspect_err(|fault| {
            if let Unapplied::Refused(fault) = fault {
                self.tell_refused(fault);
            }
        })
    }

    /// Whether the loop could take this table. Opens the logs of hubs that are new.
    pub(crate) fn check(&self, table: &RouteTable) -> Result<(), Diagnosis> {
        let current = self.current();
        let same_groups = table.queue_groups() == current.queue_groups();
        if same_groups && table.hubs() == current.hubs() {
            // As nearly always: what the folder says of these was asked when they came.
            return Ok(());
        }
        Folder::check_reload(&self.data, table)?;
        self.hubs.open(table)
    }

    /// The table that was handed over last.
    pub(crate) fn current(&self) -> Arc<RouteTable> {
        // It is replaced whole, whoever panicked beside it.
        let current = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    /// Have every loop take nothing, or everything again. Whether all have room for that: otherwise it is to be asked again.
    pub(crate) fn suspend(&self, suspended: bool) -> bool {
        self.doors.iter().all(Door::has_room) && self.ask(|| Command::Suspend(suspended))
    }

    fn tell_refused(&self, fault: &Diagnosis) {
        self.status.reload_refused();
        self.log
            .event(Level::Error, "reload_refused", &[("fault", fault)]);
    }

    /// The same but for hubs that no shard has: those may wait.
    fn check_served(&self, table: &RouteTable) -> Result<(), Diagnosis> {
        let current = self.current();
        let same_groups = table.queue_groups() == current.queue_groups();
        if same_groups && table.hubs() == current.hubs() {
            return Ok(());
        }
        Folder::check_served(&self.data, table, |hub| self.hubs.has(hub))
    }

    /// Have all shards serve a hub of the table in force whose logs are open by now. Whether they do, or it is not wanted any more.
    pub(crate) fn serve_hub(&self, hub: &Hub) -> bool {
        let _handing = self.hubs.handing();
        let table = self.current();
        if !table.hubs().contains(hub) {
            return true;
        }
        let has_room = || self.doors.iter().all(Door::has_room);
        let settled = has_room() && self.settle(&table, Unopenable::Waits).is_ok();
        if !(settled && self.hubs.has(hub.id) && has_room()) {
            return false;
        }
        let without_logs = self.hubs.without_logs();
        let served = self.ask(|| Command::Serve(Arc::clone(&without_logs)));
        if served {
            (self.log).event(Level::Info, "hub_served", &[("hub", &hub.name)]);
        }
        served
    }

    /// Have every shard take over what it has not of the hubs of a table.
    fn settle(&self, table: &RouteTable, unopenable: Unopenable) -> Result<(), Unapplied> {
        self.hubs.settle(table, unopenable, |at, hubs| {
            let handed = self.doors[at].hand(Command::Hubs(Box::new(hubs)));
            handed.map_err(|back| match back {
                Command::Hubs(hubs) => *hubs,
                _ => unreachable!("what was handed comes back"),
            })
        })
    }

    fn hand_over(
        &self,
        table: Arc<RouteTable>,
        anew: bool,
        unopenable: Unopenable,
    ) -> Result<u64, Unapplied> {
        let checked = match unopenable {
            Unopenable::Refuses => self.check(&table),
            Unopenable::Waits => self.check_served(&table),
        };
        checked.map_err(Unapplied::Refused)?;
        let _handing = self.hubs.handing();
        // All shards or none: one at a time asks for this, and who asks for numbers leaves the room to it.
        let has_room = || self.doors.iter().all(Door::has_room);
        if !has_room() {
            return Err(Unapplied::Behind);
        }
        self.settle(&table, unopenable)?;
        // It is replaced whole, whoever panicked beside it.
        let mut current = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody's allowance begins anew, and shards with the old table take from the same one.
        let mut table = (*table).clone();
        table.go_on_from(&current);
        let table = Arc::new(table);
        if !has_room() {
            return Err(Unapplied::Behind);
        }
        let epochs = self.status.epochs();
        let past = match anew || table.epoch() <= current.epoch() {
            true => epochs.forget(),
            false => epochs.past(),
        };
        let without_logs = self.hubs.without_logs();
        let command = || Command::Table(Arc::clone(&table), past, Arc::clone(&without_logs));
        if !self.ask(command) {
            return Err(Unapplied::Behind);
        }
        let epoch = table.epoch();
        let before = std::mem::replace(&mut *current, table);
        drop(current);
        self.retired.take(before);
        Ok(epoch)
    }
}

fn busy(what: &str) -> Diagnosis {
    diagnose(
        RELOAD_REFUSED,
        "reload",
        what,
        "one reload at a time",
        "ask again in a second",
    )
}

/// The ways to the loops, and where these take what comes.
pub(super) fn doors(shards: usize) -> (Vec<Door>, Vec<Receiver<Command>>) {
    let door = |_| {
        let (commands, asked) = bounded(COMMANDS_MAX);
        let waker = Mutex::new(None);
        (Door { commands, waker }, asked)
    };
    (0..shards).map(door).unzip()
}

/// How long whoever waits for the loop's answer should wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Ask every loop for its numbers: those of each that answers. None of none before all serve.
pub(crate) fn snapshots(control: &Control) -> Vec<Option<Snapshot>> {
    if !matches!(control.status.phase(), Phase::Ready | Phase::Draining) {
        return Vec::new();
    }
    let ask = |door: &Door| {
        let (sender, answer) = bounded(1);
        door.ask(Command::Snapshot(sender)).then_some(answer)
    };
    let asked: Vec<_> = control.doors.iter().map(ask).collect();
    let by = Instant::now() + ANSWER_TIMEOUT;
    let wait = |answer: &Receiver<Box<Snapshot>>| answer.recv_deadline(by).ok();
    let answers = asked.iter().map(|answer| answer.as_ref().and_then(wait));
    answers
        .map(|snapshot| snapshot.map(|boxed| *boxed))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_behind_with_questions_and_tables_still_takes_a_stop() {
        let (doors, asked) = doors(1);
        let parts = wire::route::TableParts {
            queue_groups: 1,
            ..Default::default()
        };
        let table = Arc::new(RouteTable::build(parts).expect("a plan of queues alone"));
        let snapshot = || Command::Snapshot(bounded(1).0);
        let fill =
            |command: &dyn Fn() -> Command| (0..20).filter(|_| doors[0].ask(command())).count();
        assert_eq!(fill(&snapshot), SNAPSHOTS_MAX);
        assert!(doors[0].has_room(), "for a table");
        let tables = fill(&|| Command::Table(Arc::clone(&table), 0, Arc::default()));
        assert_eq!(tables, TABLES_MAX - SNAPSHOTS_MAX);
        assert!(!doors[0].has_room(), "for another table");
        assert!(doors[0].ask(Command::Stop));
        let stops = asked[0]
            .try_iter()
            .filter(|asked| matches!(asked, Command::Stop));
        assert_eq!(stops.count(), 1);
    }
}
