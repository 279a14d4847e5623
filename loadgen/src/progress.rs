//! How a run shows what it is doing: a line on a terminal, nothing otherwise.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A run as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Snapshot {
    /// Since the first message could be due.
    pub elapsed: Duration,
    /// Of how much.
    pub duration: Duration,
    /// Messages put on the wire.
    pub sent: u64,
    /// Messages acked.
    pub acked: u64,
    /// Messages rejected.
    pub rejected: u64,
    /// Messages read back, over all receivers.
    pub delivered: u64,
}

/// Takes a snapshot about ten times a second.
pub trait Progress {
    /// The run goes on.
    fn progress(&mut self, snapshot: &Snapshot);
    /// The run is over.
    fn finish(&mut self) {}
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn progress(&mut self, _: &Snapshot) {}
}

/// One line on stderr, rewritten in place.
#[derive(Debug, Default)]
pub struct Line {
    before: Snapshot,
    shown: bool,
}

impl Progress for Line {
    fn progress(&mut self, now: &Snapshot) {
        let seconds = (now.elapsed - self.before.elapsed.min(now.elapsed))
            .as_secs_f64()
            .max(0.001);
        let rate = (now.sent - self.before.sent.min(now.sent)) as f64 / seconds;
        let waiting = now.sent - (now.acked + now.rejected).min(now.sent);
        let text = format!(
            "\r{:>5.1} of {:.0} s  {rate:>9.0} messages/s  {} acked  {waiting} waiting  {} rejected  {} read back ",
            now.elapsed.as_secs_f64(),
            now.duration.as_secs_f64(),
            now.acked,
            now.rejected,
            now.delivered,
        );
        // A terminal that went away is no reason to end a measurement.
        let _ = std::io::stderr().write_all(text.as_bytes());
        (self.before, self.shown) = (*now, true);
    }

    fn finish(&mut self) {
        if self.shown {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

/// A line when stderr is a terminal, nothing otherwise.
pub fn for_terminal() -> Box<dyn Progress> {
    match std::io::stderr().is_terminal() {
        true => Box::new(Line::default()),
        false => Box::new(Quiet),
    }
}

/// Totals shared between the threads of a run.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) sent: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) delivered: AtomicU64,
}

impl Live {
    pub(crate) fn snapshot(&self, elapsed: Duration, duration: Duration) -> Snapshot {
        Snapshot {
            elapsed,
            duration,
            sent: self.sent.load(Ordering::Relaxed),
            acked: self.acked.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
        }
    }
}
