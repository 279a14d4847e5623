//! Signals, for the command line only: a library must not take them from its host.

use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::diagnosis::{Diagnosis, SIGNALS_FAILED, diagnose};
use crate::start::{Control, NodeHandle};

/// Stops listening for signals when dropped.
#[derive(Debug)]
pub struct SignalGuard(Handle);

impl Drop for SignalGuard {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// SIGTERM and SIGINT stop the node gracefully, SIGHUP makes it read its plan again.
///
/// # Errors
/// When the signals cannot be caught.
pub fn signals(node: &NodeHandle) -> Result<SignalGuard, Diagnosis> {
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| failed(&error))?;
    let handle = signals.handle();
    let control = Arc::clone(node.control());
    let thread = std::thread::Builder::new().name("signals".into());
    thread
        .spawn(move || listen(signals, &control))
        .map_err(|error| failed(&error))?;
    Ok(SignalGuard(handle))
}

/// Wait until SIGTERM or SIGINT comes to a process without a node. SIGHUP does nothing.
///
/// # Errors
/// When the signals cannot be caught.
pub fn until_told_to_stop() -> Result<(), Diagnosis> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| failed(&error))?;
    let _ = signals.forever().find(|signal| *signal != SIGHUP);
    Ok(())
}

fn failed(error: &std::io::Error) -> Diagnosis {
    diagnose(
        SIGNALS_FAILED,
        "signals",
        error.to_string(),
        "SIGTERM, SIGINT and SIGHUP to be catchable",
        "start the node without a debugger or wrapper that takes them",
    )
}

fn listen(mut signals: Signals, control: &Control) {
    for signal in signals.forever() {
        match signal {
            SIGHUP => {
                // A refusal was told in the log and shows as forebay_config_stale.
                let _ = control.reload();
            }
            _ => control.stop(),
        }
    }
}
