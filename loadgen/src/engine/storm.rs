//! A storm of connections: sessions that are opened when they are due, whatever became of those before, and left at once.

use super::Clock;
use crate::dial::{Dialled, dial_within};
use crate::histogram::Latencies;
use crate::plan::ReceiverCredential;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wire::link::encode_bye;
use wire::reason::{Notice, Reason};

const DIAL_TIME: Duration = Duration::from_secs(5);
/// Threads that open sessions, one at a time each.
const WORKERS: u64 = 32;

/// What is to come.
pub(crate) struct Storm {
    pub(crate) addr: SocketAddr,
    pub(crate) who: Vec<ReceiverCredential>,
    pub(crate) per_s: f64,
    /// Attempts due before are not timed.
    pub(crate) warm_up: u64,
    /// None is due from here on.
    pub(crate) end: u64,
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    /// Attempts made.
    pub(crate) due: u64,
    /// Sessions opened.
    pub(crate) opened: u64,
    /// Attempts that got no session: code and how many.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// From due to WELCOME.
    pub(crate) open: Latencies,
}

impl Storm {
    /// Open every session that becomes due; returns when the last attempt has its answer.
    pub(crate) fn blow(&self, clock: Clock) -> Weather {
        let next = AtomicU64::new(0);
        let mut all = Weather::default();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|_| scope.spawn(|| self.work(clock, &next)))
                .collect();
            for worker in workers {
                match worker.join() {
                    Ok(weather) => all.add(&weather),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        all
    }

    fn work(&self, clock: Clock, next: &AtomicU64) -> Weather {
        let mut weather = Weather::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let due = (number as f64 * 1e9 / self.per_s) as u64;
            if due >= self.end {
                return weather;
            }
            while !clock.begun() || clock.now() < due {
                std::thread::sleep(Duration::from_nanos(
                    due.saturating_sub(clock.now()).clamp(1_000, 20_000_000),
                ));
            }
            self.attempt(number, due, clock, &mut weather);
        }
    }

    fn attempt(&self, number: u64, due: u64, clock: Clock, weather: &mut Weather) {
        let who = &self.who[(number % self.who.len() as u64) as usize];
        let dialled = dial_within(self.addr, (&who.endpoint, who.key_id, &who.key), DIAL_TIME);
        let now = clock.now();
        weather.due += 1;
        match dialled {
            Ok(dialled) => {
                weather.opened += 1;
                if due >= self.warm_up {
                    weather.open.record(now.saturating_sub(due));
                }
                leave(dialled);
            }
            Err(refused) => *weather.refused.entry(refused.code).or_default() += 1,
        }
    }
}

/// Say BYE: a session that is left in silence would linger.
fn leave(mut dialled: Dialled) {
    let mut bytes = Vec::new();
    let notice = Notice::new(Reason::PeerBye, 0, 0);
    encode_bye(&mut bytes, notice, dialled.opened.seal.signer());
    // The server may have ended it already, which is what was wanted.
    let _ = dialled.stream.write_all(&bytes);
}

impl Weather {
    fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.opened += other.opened;
        self.open.merge(&other.open);
        for (code, count) in &other.refused {
            *self.refused.entry(*code).or_default() += count;
        }
    }
}
