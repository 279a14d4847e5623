//! The threads of a run side by side, from its first due time to the last message read back.

use super::flooding::Again;
use super::measured::Times;
use super::receiving::Tap;
use super::sending::Sending;
use super::slow::Slow;
use super::storm::{Storm, Weather};
use super::threads::{Finish, Sent, receive_thread, send_thread};
use super::{Clock, Sockets, nanos};
use crate::cost::Steady;
use crate::diagnosis;
use crate::progress::{Live, Snapshot};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;
use wire::diagnosis::Diagnosis;

const PROGRESS_EVERY: Duration = Duration::from_millis(100);
const READ_BACK_LEAST: Duration = Duration::from_secs(5);

/// Everybody who takes part, ready to begin.
pub(super) struct Cast {
    pub(super) senders: (Sending, Sockets, Steady),
    pub(super) flooders: Option<(Sending, Sockets, Again)>,
    pub(super) taps: Vec<Tap>,
    pub(super) read_sockets: Sockets,
    pub(super) slow: Vec<Slow>,
    pub(super) storm: Option<Storm>,
}

/// Everybody after the run.
pub(super) struct Ended {
    pub(super) senders: Sent,
    pub(super) flooders: Option<Sent>,
    pub(super) taps: Vec<Tap>,
    pub(super) read_cpu: Duration,
    pub(super) slow: Vec<Slow>,
    pub(super) weather: Option<Weather>,
}

/// Run all threads; the sending ones decide when it is over, the reading one then gets the rest.
pub(super) fn drive(
    cast: Cast,
    (clock, times, drain): (Clock, Times, Duration),
    look: &mut dyn FnMut(&Snapshot, u64),
) -> Result<Ended, Diagnosis> {
    let (live, flood_live) = (&Live::default(), &Live::default());
    let (finish, over) = (&Finish::default(), &AtomicBool::new(false));
    let duration = Duration::from_nanos(times.end);
    let mut look = || look(&live.snapshot(clock.elapsed(), duration), clock.now());
    let (sending, sockets, near) = cast.senders;
    std::thread::scope(|scope| {
        let flood = cast.flooders.map(|(sending, sockets, again)| {
            let steady = Steady::blind(times);
            let work =
                move || send_thread(sending, sockets, clock, flood_live, steady, Some(again));
            start(scope, "load-flood", work)
        });
        let storm = cast
            .storm
            .map(|storm| start(scope, "load-storm", move || storm.blow(clock)));
        let slow = cast.slow.into_iter();
        let slow: Vec<_> = slow
            .map(|slow| start(scope, "load-slow", move || slow.read(clock, over)))
            .collect();
        let (taps, sockets_read) = (cast.taps, cast.read_sockets);
        let work = move || receive_thread(taps, sockets_read, clock, live, finish);
        let reader = start(scope, "load-receive", work);
        let (done, is_done) = channel::<()>();
        let sender = start(scope, "load-send", move || {
            // Dropped when the thread ends, in whatever way.
            let _done = done;
            send_thread(sending, sockets, clock, live, near, None)
        });
        while is_done.recv_timeout(PROGRESS_EVERY) == Err(RecvTimeoutError::Timeout) {
            look();
        }
        // From here on nobody may leave before all have been told that it is over.
        let sent = sender.and_then(join);
        let flooded = flood.map(|flood| flood.and_then(|flood| wait(flood, &mut look)));
        over.store(true, Ordering::Relaxed);
        let good = sent.is_ok() && !matches!(flooded, Some(Err(_)));
        let deadline = match good {
            true => times
                .deadline
                .max(clock.now() + nanos(READ_BACK_LEAST.min(drain))),
            false => 0,
        };
        let all = sent.iter().chain(flooded.iter().flatten());
        finish.sending_is_over(all.flat_map(|sent| &sent.sending.flows), deadline);
        let read = reader.and_then(|reader| wait(reader, &mut look));
        look();
        let slow = slow.into_iter().map(|slow| slow.map(join));
        let (slow, weather): (Result<Vec<Slow>, Diagnosis>, _) =
            (slow.collect(), storm.map(|storm| storm.map(join)));
        let (taps, read_cpu) = read?;
        Ok(Ended {
            senders: sent?,
            flooders: flooded.transpose()?,
            taps,
            read_cpu,
            slow: slow?,
            weather: weather.transpose()?,
        })
    })
}

type Joined<'scope, T> = ScopedJoinHandle<'scope, T>;

fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<Joined<'scope, T>, Diagnosis> {
    Builder::new()
        .name(name.to_owned())
        .spawn_scoped(scope, work)
        .map_err(|error| diagnosis::thread(&error))
}

/// Show how the run goes until this thread ends.
fn wait<T>(
    thread: Joined<'_, Result<T, Diagnosis>>,
    look: &mut impl FnMut(),
) -> Result<T, Diagnosis> {
    while !thread.is_finished() {
        std::thread::park_timeout(PROGRESS_EVERY / 4);
        look();
    }
    join(thread)
}

fn join<T>(thread: Joined<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
