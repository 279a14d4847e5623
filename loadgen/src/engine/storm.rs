//! A storm of connections: sessions that are opened when they are due, whatever became of those before, and left at once.

use super::Clock;
use crate::dial::Dialler;
use crate::histogram::Latencies;
use crate::plan::ReceiverCredential;
use client::Transport;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wire::diagnosis::Diagnosis;

const DIAL_TIME: Duration = Duration::from_secs(5);
/// Threads that open sessions, one at a time each.
const WORKERS: u64 = 32;

/// What is to come.
pub(crate) struct Storm {
    pub(crate) addr: SocketAddr,
    pub(crate) transport: Transport,
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
        // It could be made when the senders' was; should it not be any more, every attempt says so.
        let mut dialler = Dialler::new(self.addr, &self.transport);
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
            self.attempt(&mut dialler, (number, due), clock, &mut weather);
        }
    }

    fn attempt(
        &self,
        dialler: &mut Result<Dialler, Diagnosis>,
        (number, due): (u64, u64),
        clock: Clock,
        weather: &mut Weather,
    ) {
        let who = &self.who[(number % self.who.len() as u64) as usize];
        let who = (&*who.endpoint, who.key_id, &*who.key);
        let dialled = match dialler {
            Ok(dialler) => dialler.dial_within(who, DIAL_TIME),
            Err(fault) => Err(fault.clone()),
        };
        let now = clock.now();
        weather.due += 1;
        match dialled {
            Ok(dialled) => {
                weather.opened += 1;
                if due >= self.warm_up {
                    weather.open.record(now.saturating_sub(due));
                }
                dialled.leave(DIAL_TIME);
            }
            Err(refused) => *weather.refused.entry(refused.code).or_default() += 1,
        }
    }
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
