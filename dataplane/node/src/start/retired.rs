//! Tables that were replaced: held until nobody else has them, and wiped beside everything else.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use wire::route::RouteTable;

use crate::diagnosis::{Diagnosis, EXECUTOR_FAILED, diagnose};

/// How often is looked whether nobody else has a table any more.
const LOOK: Duration = Duration::from_millis(50);

/// The one who lets go of tables that were replaced. It takes long to wipe a large one: neither a shard nor whoever hands tables over is
/// ever to be the last who has it.
pub(super) struct Retired(Sender<Arc<RouteTable>>);

impl Retired {
    /// A thread for it, until this is dropped.
    pub(super) fn start() -> Result<Self, Diagnosis> {
        let (sender, tables) = unbounded();
        let thread = std::thread::Builder::new().name("retired".into());
        let spawned = thread.spawn(move || hold(&tables));
        spawned.map(|_| Self(sender)).map_err(|error| {
            diagnose(
                EXECUTOR_FAILED,
                "retired thread",
                error.to_string(),
                "one more thread",
                "raise `ulimit -u`, or the container's limit of processes",
            )
        })
    }

    /// Let go of this table once nobody else has it.
    pub(super) fn take(&self, table: Arc<RouteTable>) {
        // The thread ends with this, never before.
        let _ = self.0.send(table);
    }
}

/// Hold every table that comes until nobody else does.
fn hold(tables: &Receiver<Arc<RouteTable>>) {
    let mut held: Vec<Arc<RouteTable>> = Vec::new();
    loop {
        let came = match held.is_empty() {
            true => tables.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => tables.recv_timeout(LOOK),
        };
        match came {
            Ok(table) => held.push(table),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        held.retain(|table| Arc::strong_count(table) > 1);
    }
}
