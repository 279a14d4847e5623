//! Hubs whose logs could not be opened: tried again, on a thread of its own, until they are or no table names them any more.

use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wire::route::Hub;

use super::opening::open_hub;
use super::{Hubs, State, tell_waiting};
use crate::diagnosis::{Diagnosis, EXECUTOR_FAILED, RECOVERY_FAILED, diagnose};
use crate::folder::Folder;
use crate::start::Control;

/// The first pause before a hub is tried again, and the longest; each is twice the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(30);

/// A hub of the table that is not served.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(super) hub: Hub,
    /// Why, the last time.
    pub(super) fault: Diagnosis,
    /// The data folder never had it: nothing is stored of it, and senders may be told so.
    new: bool,
    pub(super) pause: Duration,
    again_at: Instant,
}

impl Waiting {
    pub(super) fn new(hub: &Hub, fault: Diagnosis, new: bool) -> Self {
        Self {
            hub: hub.clone(),
            fault,
            new,
            pause: PAUSE_FIRST,
            again_at: Instant::now() + PAUSE_FIRST,
        }
    }

    /// Whether it is this hub.
    pub(crate) fn is(&self, hub: u16) -> bool {
        self.hub.id == hub
    }
}

impl Hubs {
    /// A hub is not served for this reason.
    pub(super) fn wait_for(&self, state: &mut State, hub: &Hub, fault: Diagnosis) {
        let before = state.waiting.iter_mut().find(|waits| waits.hub == *hub);
        if before.as_ref().is_none_or(|before| before.fault != fault) {
            tell_waiting(&self.log, hub, &fault);
        }
        match before {
            Some(before) => {
                before.pause = (before.pause * 2).min(PAUSE_LONGEST);
                (before.fault, before.again_at) = (fault, Instant::now() + before.pause);
            }
            None => {
                // What cannot be read may have it.
                let new = Folder::knows(&self.data, hub.id).is_ok_and(|knows| !knows);
                state.waiting.push(Waiting::new(hub, fault, new));
            }
        }
        self.status.hub_open_failed();
    }

    /// Hubs that are not served, by name, and why.
    pub(crate) fn unopened(&self) -> Vec<(String, Diagnosis)> {
        let state = self.state();
        let waiting = state.waiting.iter();
        waiting
            .map(|waits| (waits.hub.name.to_string(), waits.fault.clone()))
            .collect()
    }

    /// Those of them in which nothing was ever stored, by rising id.
    pub(crate) fn without_logs(&self) -> Arc<[u16]> {
        let state = self.state();
        let new = state.waiting.iter().filter(|waits| waits.new);
        let new = new.filter(|waits| !state.ownership.has(waits.hub.id));
        let mut new: Vec<u16> = new.map(|waits| waits.hub.id).collect();
        new.sort_unstable();
        new.into()
    }

    /// Wait until a hub is to be tried again; none when nothing is any more.
    fn next_due(&self) -> Option<Waiting> {
        let mut state = self.state();
        loop {
            if state.ended {
                return None;
            }
            let next = state.waiting.iter().min_by_key(|waits| waits.again_at);
            let left = next.map(|next| next.again_at.saturating_duration_since(Instant::now()));
            state = match (next, left) {
                (Some(next), Some(left)) if left.is_zero() => {
                    let next = next.clone();
                    state.trying = Some(next.hub.id);
                    return Some(next);
                }
                (_, Some(left)) => {
                    let waited = self.came.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                (_, None) => {
                    let waited = self.came.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    /// Try to open the logs of a hub. No lock is held meanwhile: tables come and go. Whether they are open, and still wanted.
    fn try_again(&self, due: &Waiting) -> bool {
        let before = {
            let state = self.state();
            let open = state.opened.iter().any(|opened| opened.hub == due.hub);
            match open || state.ownership.has(due.hub.id) {
                true => None,
                false => Some(self.allow_files(&state, &due.hub)),
            }
        };
        let Some(allowed) = before else {
            self.state().trying = None;
            return true;
        };
        let opened = allowed
            .and_then(|()| Folder::check_hub(&self.data, &due.hub))
            .and_then(|()| open_hub(&self.data, &due.hub, &self.log));
        let opened = opened.and_then(|opened| {
            let any = |partition: &partition::Partition<_>| partition.appended().0 > 0;
            match due.new && opened.partitions.iter().any(any) {
                true => Err(not_new(&due.hub)),
                false => Ok(opened),
            }
        });
        let mut state = self.state();
        state.trying = None;
        if !state.waiting.iter().any(|waits| waits.hub == due.hub) {
            // No table has it any more, or one has it with other settings.
            return false;
        }
        let open = opened.map(|opened| state.note(opened));
        let failed = open.map_err(|fault| self.wait_for(&mut state, &due.hub, fault));
        failed.is_ok()
    }

    /// A hub is served, or could not be for want of room in a shard's queue: then it is tried again soon.
    fn tried(&self, due: &Waiting, served: bool) {
        let mut state = self.state();
        match served {
            true => state.waiting.retain(|waits| waits.hub != due.hub),
            false => {
                let again = state.waiting.iter_mut().find(|waits| waits.hub == due.hub);
                if let Some(again) = again.filter(|again| again.again_at <= Instant::now()) {
                    again.again_at = Instant::now() + PAUSE_FIRST;
                }
            }
        }
        state.tell(&self.status);
    }

    /// Try nothing any more.
    fn end(&self) {
        self.state().ended = true;
        self.came.notify_all();
    }
}

/// Senders were told that nothing of theirs is in these logs.
fn not_new(hub: &Hub) -> Diagnosis {
    diagnose(
        RECOVERY_FAILED,
        format!("logs of hub {}", hub.name),
        "messages in them",
        "none: this data folder never had the hub",
        "take them away if they are another node's; else restart the node, which then begins with them",
    )
}

/// The thread that tries again, until this is dropped.
pub(crate) struct Opener {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

impl Opener {
    /// Begin to try again what waits, now and later.
    pub(crate) fn start(control: &Arc<Control>) -> Result<Self, Diagnosis> {
        let (control, own) = (Arc::clone(control), Arc::clone(control));
        let run = move || {
            while let Some(due) = own.hubs.next_due() {
                if own.hubs.try_again(&due) {
                    let served = own.serve_hub(&due.hub);
                    own.hubs.tried(&due, served);
                }
            }
        };
        let thread = std::thread::Builder::new().name("hubs".to_owned());
        let thread = thread.spawn(run).map_err(|error| {
            diagnose(
                EXECUTOR_FAILED,
                "hubs thread",
                error.to_string(),
                "one more thread",
                "raise `ulimit -u`, or the container's limit of processes",
            )
        })?;
        Ok(Self {
            control,
            thread: Some(thread),
        })
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.control.hubs.end();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say at its end.
            let _ = thread.join();
        }
    }
}
