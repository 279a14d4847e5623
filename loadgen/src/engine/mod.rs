//! One run: open the sessions, start the clock, send on one thread, read back on another, compare the books. Flooders,
//! slow receivers and storms have threads and books of their own.

mod connections;
mod driving;
pub(crate) mod flooding;
pub mod flow;
pub mod lane;
pub mod measured;
mod opening;
pub mod receiving;
pub mod sending;
mod slow;
pub(crate) mod storm;
pub(crate) mod threads;

use crate::cost;
use crate::diagnosis;
use crate::dial::{Dialled, Dialler, run_id};
use crate::histogram::Latencies;
use crate::payload::{Bodies, PayloadSource};
use crate::plan::{LoadPlan, ReceiverCredential};
use crate::progress::Progress;
use crate::report::{Costs, Report};
use crate::rows::{SenderRow, SlowRow, StormRow};
use crate::socket::Socket;
use crate::verify::{Outcome, Source, Verification, reconcile, totals};
use driving::{Cast, Ended, drive};
use flooding::Again;
use flow::Run;
use measured::Times;
use opening::{Senders, open_flooders, open_senders, tap};
use sending::Sending;
use slow::Slow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use storm::Storm;
use wire::diagnosis::Diagnosis;
use wire::ids::UnixNanos;

const START_DELAY: Duration = Duration::from_millis(100);

/// The clock of a run: nanoseconds since its start, 0 before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    unix: u64,
}

impl Clock {
    fn starting_soon() -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            + START_DELAY;
        Self {
            start: Instant::now() + START_DELAY,
            unix: nanos(unix),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        nanos(self.elapsed())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn unix(&self, now: u64) -> UnixNanos {
        UnixNanos(self.unix + now)
    }

    pub(crate) fn begun(&self) -> bool {
        Instant::now() >= self.start
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Sessions with their sockets, ready for a thread.
#[derive(Default)]
pub(crate) struct Sockets {
    pub(crate) streams: Vec<Socket>,
    pub(crate) rests: Vec<Vec<u8>>,
}

/// Run a load plan to its end and report.
///
/// A void run (rate missed, generator late) and faults found by verification are verdicts of the report, not errors.
///
/// # Errors
/// What keeps a run from starting, or its threads from going on: 5201 to 5209, a refused session, a ring that cannot
/// be made.
pub fn run(plan: LoadPlan, progress: &mut dyn Progress) -> Result<Report, Diagnosis> {
    plan.check()?;
    let options = &plan.options;
    let bodies = Bodies::open(&options.payload, &options.message_bytes, options.seed)?;
    let flood_bodies = Bodies::open(
        &PayloadSource::Synthetic,
        &options.message_bytes,
        options.seed,
    )?;
    let id = run_id()?;
    let good = open_senders(&plan, &bodies)?;
    let mut flood_dialler = Dialler::new(plan.addr, &plan.transport)?;
    let flooders = open_flooders(&plan, &mut flood_dialler, &flood_bodies)?;
    let dialled = |dialler: &mut Dialler, who: &ReceiverCredential| {
        dialler.dial(&who.endpoint, who.key_id, &who.key)
    };
    let mut dialler = Dialler::new(plan.addr, &plan.transport)?;
    let readers = plan.receivers.iter();
    let readers = readers.map(|who| dialled(&mut dialler, who));
    let readers: Vec<Dialled> = readers.collect::<Result<_, _>>()?;
    // Each has a thread of its own.
    let slow = plan.others.slow_receivers.iter();
    let slow = slow.map(|who| dialled(&mut Dialler::new(plan.addr, &plan.transport)?, who));
    let slow: Vec<Dialled> = slow.collect::<Result<_, _>>()?;
    let sources = good.0.iter().chain(&flooders.0).map(|flow| flow.source);
    let sources: Arc<[Source]> = sources.collect();
    let server_before = cost::server(&plan.server_cpu);
    let disk_before = plan.data.as_deref().and_then(cost::disk_bytes);
    let clock = Clock::starting_soon();
    let times = Times {
        warm_up: nanos(options.warm_up),
        end: nanos(options.duration),
        deadline: nanos(options.duration + options.drain),
        saturate: options.rate == 0.0,
    };
    let run = Run {
        id,
        began: clock.unix,
    };
    let (near, mut far) = cost::Steady::near_and_far(&plan.server_cpu, times);
    let cast = Cast {
        senders: {
            let (sending, sockets) = sending(good, bodies, run, times, options.batch);
            (sending, sockets, near)
        },
        flooders: flooding(&plan, (flooders, flood_dialler), flood_bodies, run, times),
        taps: Vec::new(),
        read_sockets: Sockets::default(),
        slow: Vec::new(),
        storm: storm(&plan, times),
    };
    let cast = with_receivers(cast, &plan, (readers, slow), (run, times), &sources);
    let ended = drive(cast, (clock, times, options.drain), &mut |snapshot, now| {
        far.look(now, snapshot.acked);
        progress.progress(snapshot);
    })?;
    progress.finish();
    let costs = Costs {
        send: ended.senders.cpu,
        receive: ended.read_cpu,
        server: server_before
            .zip(cost::server(&plan.server_cpu))
            .map(|(before, after)| after.saturating_sub(before)),
        steady: ended.senders.steady.cost().or(far.cost()),
        disk: plan.data.as_deref().and_then(cost::disk_bytes),
        disk_before,
    };
    Ok(report(&plan, ended, costs))
}

fn sending(
    (flows, lanes, sockets, frame_bytes): Senders,
    bodies: Bodies,
    run: Run,
    times: Times,
    batch: u16,
) -> (Sending, Sockets) {
    let sending = Sending::new((flows, lanes), bodies, run, times, (batch, frame_bytes));
    (sending, sockets)
}

fn flooding(
    plan: &LoadPlan,
    (flooders, dialler): (Senders, Dialler),
    bodies: Bodies,
    run: Run,
    times: Times,
) -> Option<(Sending, Sockets, Again)> {
    let who = &plan.others.flooders;
    let times = Times {
        saturate: true,
        ..times
    };
    let again = Again::new(dialler, who, times.end, times.deadline);
    let (mut sending, sockets) = sending(flooders, bodies, run, times, plan.options.batch);
    sending.first_sender = plan.senders.len() as u32;
    (!who.is_empty()).then_some((sending, sockets, again))
}

fn storm(plan: &LoadPlan, times: Times) -> Option<Storm> {
    let per_s = plan.others.storm_per_s;
    (per_s > 0.0).then(|| Storm {
        addr: plan.addr,
        transport: plan.transport.clone(),
        who: plan.others.storm.clone(),
        per_s,
        warm_up: times.warm_up,
        end: times.end,
    })
}

fn with_receivers(
    mut cast: Cast,
    plan: &LoadPlan,
    (readers, slow): (Vec<Dialled>, Vec<Dialled>),
    (run, times): (Run, Times),
    sources: &Arc<[Source]>,
) -> Cast {
    for (dialled, reader) in readers.into_iter().zip(&plan.receivers) {
        cast.read_sockets.streams.push(dialled.socket);
        cast.read_sockets.rests.push(dialled.rest);
        cast.taps
            .push(tap(dialled.opened, reader, run, times, sources));
    }
    for (dialled, reader) in slow.into_iter().zip(&plan.others.slow_receivers) {
        cast.slow.push(Slow {
            tap: tap(dialled.opened, reader, run, times, sources),
            socket: dialled.socket,
            rest: dialled.rest,
            per_s: plan.others.slow_per_s,
            taken: 0,
            seconds: 0.0,
        });
    }
    cast
}

fn report(plan: &LoadPlan, mut ended: Ended, costs: Costs) -> Report {
    let length = plan.options.duration - plan.options.warm_up;
    let mut classes = vec![SenderRow::new("senders", &ended.senders, length)];
    classes.extend(
        ended
            .flooders
            .iter()
            .map(|flooders| SenderRow::new("flooders", flooders, length)),
    );
    let mut faults = Vec::new();
    for (lane, who) in ended.senders.sending.lanes.iter().zip(&plan.senders) {
        let fault = lane.fault.as_ref();
        faults.extend(
            fault.map(|fault| diagnosis::connection_lost(&who.endpoint, fault).to_string()),
        );
    }
    let mut delivery = Latencies::default();
    let mut observers = Vec::new();
    for (tap, reader) in ended.taps.into_iter().zip(&plan.receivers) {
        delivery.merge(&tap.delivery);
        faults.extend(
            tap.fault
                .map(|fault| diagnosis::connection_lost(&reader.endpoint, fault).to_string()),
        );
        observers.push((tap.observer, tap.hears));
    }
    let unsent = ended.senders.sending.unsent();
    let good = ended.senders.sending.flows.len();
    let flooders = ended.flooders.map(|flooders| flooders.sending.flows);
    let flows = ended.senders.sending.flows.into_iter();
    let outcomes: Vec<Outcome> = flows
        .chain(flooders.into_iter().flatten())
        .map(|flow| flow.outcome)
        .collect();
    // What is sent, acked and rejected in the report is the senders'; what is read back is everybody's.
    let own = totals(outcomes[..good].iter());
    let mut books = Verification {
        sent: own.sent,
        acked: own.acked,
        rejected: own.rejected,
        unanswered: own.unanswered,
        ..reconcile(&outcomes, observers)
    };
    let slow = slow_row(plan, &outcomes, ended.slow, &mut books);
    let measured = &ended.senders.sending.measured;
    let mut report = Report::new(plan, measured, unsent, &delivery, books, costs, faults);
    classes[0].ack_ms = report.ack_ms;
    report.classes = classes;
    report.slow_receivers = slow;
    report.storm = ended
        .weather
        .map(|weather| StormRow::new(plan.others.storm_per_s, &weather));
    report
}

fn slow_row(
    plan: &LoadPlan,
    outcomes: &[Outcome],
    slow: Vec<Slow>,
    books: &mut Verification,
) -> Option<SlowRow> {
    if slow.is_empty() {
        return None;
    }
    let taken = slow.iter().map(|slow| slow.taken).sum();
    let seconds = slow.iter().map(|slow| slow.seconds).fold(0.0, f64::max);
    let ends: Vec<String> = slow
        .iter()
        .filter_map(|slow| slow.tap.fault.clone())
        .collect();
    let observers = slow
        .into_iter()
        .map(|slow| (slow.tap.observer, slow.tap.hears));
    let own = reconcile(outcomes, observers.collect());
    books.add_slow(&own);
    Some(SlowRow::new(&plan.others, &own, (taken, seconds), &ends))
}
