//! What a node does when it has not heard from its control plane for too long: it says so, and takes nothing if it was told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use link::{Freshness, Level, Moment, Tell};
use node::{Supply, Tables};
use wire::diagnosis::Diagnosis;

/// Looks at the age of the table until it is dropped.
pub(super) struct Staleness {
    /// Dropped, it ends the thread.
    _end: Sender<()>,
}

/// Tells whether the control plane is connected, and the age of the table.
pub(super) type Ask = Arc<dyn Fn() -> (bool, Freshness) + Send + Sync>;

impl Staleness {
    /// Look at what `ask` tells; `refuse` says whether a stale table means to take nothing, `suspended` whether that holds already.
    pub(super) fn watch(
        ask: Ask,
        tables: Tables,
        (refuse, suspended): (bool, bool),
        tell: Arc<dyn Tell>,
    ) -> Result<Self, Diagnosis> {
        let refuses = Arc::new(AtomicBool::new(suspended));
        let (asked, told) = (Arc::clone(&ask), Arc::clone(&refuses));
        tables.supplied(Box::new(move || {
            let (connected, freshness) = asked();
            let now = Moment::now();
            Supply {
                connected,
                age: freshness.age(now),
                stale: freshness.is_stale(now),
                refuses: told.load(Ordering::Relaxed),
            }
        }));
        let (end, ended) = channel();
        let look = move || {
            let mut stale = false;
            loop {
                let (_, freshness) = ask();
                let now = Moment::now();
                let is = freshness.is_stale(now);
                if is != stale {
                    stale = is;
                    say(&*tell, stale, refuse, freshness.age(now));
                }
                let wanted = refuse && stale;
                // A shard that is behind with its commands is asked again.
                if wanted != refuses.load(Ordering::Relaxed) && tables.suspend(wanted) {
                    refuses.store(wanted, Ordering::Relaxed);
                }
                if ended.recv_timeout(freshness.look_every()) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("staleness".into());
        let spawned = thread.spawn(look);
        spawned.map(|_| Self { _end: end }).map_err(|error| {
            let (what, needed) = ("the thread that looks at the table's age", "a thread more");
            let codes = link::diagnosis::CODES;
            let code = link::diagnosis::LINK_FAILED;
            Diagnosis::from_table(codes, code, what, error.to_string(), needed)
        })
    }
}

fn say(tell: &dyn Tell, stale: bool, refuse: bool, age: Duration) {
    let seconds = format!("{:.1}", age.as_secs_f64());
    let does = match (stale, refuse) {
        (true, true) => "takes nothing",
        (true, false) => "serves on",
        (false, _) => "serves",
    };
    let (level, event) = match stale {
        true => (Level::Warning, "table_stale"),
        false => (Level::Info, "table_fresh"),
    };
    tell.tell(level, event, &[("age_seconds", &seconds), ("node", &does)]);
}
