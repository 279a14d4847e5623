//! One run: open the sessions, start the clock, send on one thread, read back on another, compare the books.

pub mod flow;
pub mod lane;
pub mod measured;
pub mod receiving;
pub mod sending;
mod threads;

use crate::cost;
use crate::diagnosis;
use crate::dial::{Dialled, dial, run_id};
use crate::payload::Bodies;
use crate::plan::{LoadPlan, SenderCredential};
use crate::progress::{Live, Progress, Snapshot};
use crate::report::{Costs, Report};
use crate::schedule::Schedule;
use crate::stamp::{STAMP_BYTES, STAMP_HEADER};
use crate::verify::{Observer, Outcome, Source, reconcile};
use client::handshake::ChannelTerms;
use flow::{EnvelopeKey, Flow, Run};
use lane::Lane;
use measured::Times;
use receiving::Tap;
use sending::Sending;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use threads::{Finish, Sent, receive_thread, send_thread};
use wire::diagnosis::Diagnosis;
use wire::ids::{KeyId, RELAY_STREAM, UnixNanos};
use wire::limits::FRAME_BYTES_MAX;
use wire::message::MESSAGE_HEADER_BYTES;
use wire::signature::SecretKey;

const START_DELAY: Duration = Duration::from_millis(100);
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
const READ_BACK_LEAST: Duration = Duration::from_secs(5);
const FRAME_AROUND: usize = 32 + 32;
const RELAY_AROUND: usize = 16 + 32;

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
        nanos(self.start.elapsed())
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
pub(crate) struct Sockets {
    pub(crate) streams: Vec<TcpStream>,
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
    let id = run_id()?;
    let (flows, lanes, send_sockets, frame_bytes) = open_senders(&plan, &bodies)?;
    let readers = plan
        .receivers
        .iter()
        .map(|reader| dial(plan.addr, &reader.endpoint, reader.key_id, &reader.key));
    let readers = readers.collect::<Result<Vec<Dialled>, Diagnosis>>()?;

    let sources: Arc<[Source]> = flows.iter().map(|flow| flow.source).collect();
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
    let sending = Sending::new(
        (flows, lanes),
        bodies,
        run,
        times,
        (options.batch, frame_bytes),
    );
    let (taps, read_sockets) = open_taps(&plan, readers, run, times, &sources);

    let (near, mut far) = cost::Steady::near_and_far(&plan.server_cpu, times);
    let (sent, taps, read_cpu) = drive(
        (sending, near),
        send_sockets,
        taps,
        read_sockets,
        (clock, times, options.drain),
        &mut |snapshot: &Snapshot, now| {
            far.look(now, snapshot.acked);
            progress.progress(snapshot);
        },
    )?;
    progress.finish();
    let costs = Costs {
        send: sent.cpu,
        receive: read_cpu,
        server: server_before
            .zip(cost::server(&plan.server_cpu))
            .map(|(before, after)| after.saturating_sub(before)),
        steady: sent.steady.cost().or(far.cost()),
        disk: plan.data.as_deref().and_then(cost::disk_bytes),
        disk_before,
    };
    Ok(report(&plan, sent.sending, taps, costs))
}

fn report(plan: &LoadPlan, mut sending: Sending, taps: Vec<Tap>, costs: Costs) -> Report {
    let mut faults = Vec::new();
    for (index, lane) in sending.lanes.iter().enumerate() {
        let name = &plan.senders[index].endpoint;
        faults.extend(
            lane.fault
                .as_ref()
                .map(|fault| diagnosis::connection_lost(name, fault).to_string()),
        );
    }
    let mut delivery = crate::histogram::Latencies::default();
    let mut observers = Vec::new();
    for (tap, reader) in taps.into_iter().zip(&plan.receivers) {
        delivery.merge(&tap.delivery);
        faults.extend(
            tap.fault
                .map(|fault| diagnosis::connection_lost(&reader.endpoint, fault).to_string()),
        );
        observers.push((tap.observer, tap.hears));
    }
    let unsent = sending.unsent();
    let outcomes: Vec<Outcome> = sending.flows.into_iter().map(|flow| flow.outcome).collect();
    let books = reconcile(&outcomes, observers);
    Report::new(
        plan,
        &sending.measured,
        unsent,
        &delivery,
        books,
        costs,
        faults,
    )
}

/// Run both threads; the sending one decides when it is over, the reading one then gets the rest.
fn drive(
    (sending, near): (Sending, cost::Steady),
    send_sockets: Sockets,
    taps: Vec<Tap>,
    read_sockets: Sockets,
    (clock, times, drain): (Clock, Times, Duration),
    look: &mut dyn FnMut(&Snapshot, u64),
) -> Result<(Sent, Vec<Tap>, Duration), Diagnosis> {
    let (live, finish) = (Arc::new(Live::default()), Arc::new(Finish::default()));
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let reader = {
        let (live, finish) = (Arc::clone(&live), Arc::clone(&finish));
        let work = move || receive_thread(taps, read_sockets, clock, &live, &finish);
        thread("load-receive")
            .spawn(work)
            .map_err(|error| diagnosis::thread(&error))?
    };
    let (done, is_done) = channel::<()>();
    let sender = {
        let live = Arc::clone(&live);
        let work = move || {
            // Dropped when the thread ends, in whatever way.
            let _done = done;
            send_thread(sending, send_sockets, clock, &live, near)
        };
        thread("load-send")
            .spawn(work)
            .map_err(|error| diagnosis::thread(&error))?
    };
    let duration = Duration::from_nanos(times.end);
    while is_done.recv_timeout(PROGRESS_EVERY) == Err(RecvTimeoutError::Timeout) {
        look(&live.snapshot(clock.start.elapsed(), duration), clock.now());
    }
    let sent = sender
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let deadline = match sent.is_ok() {
        true => times
            .deadline
            .max(clock.now() + nanos(READ_BACK_LEAST.min(drain))),
        false => 0,
    };
    finish.sending_is_over(
        sent.as_ref().map_or(&[], |sent| &sent.sending.flows),
        deadline,
    );
    while !reader.is_finished() {
        std::thread::park_timeout(PROGRESS_EVERY / 4);
        look(&live.snapshot(clock.start.elapsed(), duration), clock.now());
    }
    look(&live.snapshot(clock.start.elapsed(), duration), clock.now());
    let read = reader
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let (taps, read_cpu) = read?;
    Ok((sent?, taps, read_cpu))
}

type Senders = (Vec<Flow>, Vec<Lane>, Sockets, usize);

fn open_senders(plan: &LoadPlan, bodies: &Bodies) -> Result<Senders, Diagnosis> {
    let (count, connections) = (plan.senders.len(), plan.connections());
    let mut sockets = Sockets {
        streams: Vec::new(),
        rests: Vec::new(),
    };
    let (mut flows, mut lanes) = (Vec::with_capacity(count), Vec::with_capacity(connections));
    let relays = connections < count;
    let mut frame_most = FRAME_BYTES_MAX;
    for (index, sender) in plan.senders.iter().enumerate() {
        let dialled = dial(plan.addr, &sender.endpoint, sender.key_id, &sender.key)?;
        let terms = granted(sender, &dialled.opened.channels)?.clone();
        let source = Source {
            endpoint: dialled.opened.terms.endpoint,
            channel: terms.id,
        };
        let credit = dialled
            .opened
            .terms
            .credit_bytes
            .min(dialled.opened.terms.frame_bytes_max) as usize;
        frame_most = frame_most.min(credit);
        let envelope = if relays {
            Some(envelope_key(sender, terms.last_sequence.0 + 1)?)
        } else {
            None
        };
        let lane = (index % connections) as u32;
        flows.push(flow(plan, index, source, lane, envelope));
        if index < connections {
            let (stream, last) = match relays {
                true => (RELAY_STREAM, 0),
                false => (terms.partition, terms.last_sequence.0),
            };
            let window = plan.options.window;
            lanes.push(Lane::new(dialled.opened, stream, last, window));
            sockets.streams.push(dialled.stream);
            sockets.rests.push(dialled.rest);
        }
    }
    let stamp = if bodies.stamped_inside() {
        0
    } else {
        4 + STAMP_HEADER.len() + STAMP_BYTES
    };
    let message =
        MESSAGE_HEADER_BYTES + bodies.longest().max(STAMP_BYTES) + stamp + 4 + STAMP_HEADER.len();
    let frame = FRAME_AROUND
        + message * usize::from(plan.options.batch)
        + if relays { RELAY_AROUND } else { 0 };
    if frame > frame_most {
        return Err(diagnosis::frame_too_long(frame, frame_most));
    }
    Ok((flows, lanes, sockets, frame))
}

fn flow(
    plan: &LoadPlan,
    index: usize,
    source: Source,
    lane: u32,
    envelope: Option<EnvelopeKey>,
) -> Flow {
    let options = &plan.options;
    let senders = plan.senders.len() as u32;
    let schedule = (options.rate > 0.0).then(|| {
        Schedule::new(
            options.arrival,
            options.rate,
            options.duration,
            index as u32,
            senders,
            options.seed,
        )
        .peekable()
    });
    Flow {
        source,
        lane,
        envelope,
        schedule,
        planned: VecDeque::new(),
        refused: VecDeque::new(),
        outcome: Outcome::default(),
    }
}

fn granted<'a>(
    sender: &SenderCredential,
    channels: &'a [ChannelTerms],
) -> Result<&'a ChannelTerms, Diagnosis> {
    channels
        .iter()
        .find(|terms| terms.name == sender.channel)
        .ok_or_else(|| {
            let names: Vec<&str> = channels.iter().map(|terms| terms.name.as_str()).collect();
            diagnosis::channel_not_granted(&sender.endpoint, &sender.channel, &names.join(", "))
        })
}

fn envelope_key(sender: &SenderCredential, next: u64) -> Result<EnvelopeKey, Diagnosis> {
    let secret = SecretKey::from_base64(&sender.key)
        .map_err(|error| diagnosis::plan("key", error, "a key as `forebay keys new` printed it"))?;
    Ok(EnvelopeKey {
        id: KeyId(sender.key_id),
        secret,
        next,
    })
}

fn open_taps(
    plan: &LoadPlan,
    readers: Vec<Dialled>,
    run: Run,
    times: Times,
    sources: &Arc<[Source]>,
) -> (Vec<Tap>, Sockets) {
    let mut sockets = Sockets {
        streams: Vec::new(),
        rests: Vec::new(),
    };
    // Without a rate there is no due time, and so no latency.
    let measured_from = UnixNanos(if times.saturate {
        u64::MAX
    } else {
        run.began + times.warm_up
    });
    let taps = readers
        .into_iter()
        .zip(&plan.receivers)
        .map(|(dialled, reader)| {
            sockets.streams.push(dialled.stream);
            sockets.rests.push(dialled.rest);
            let began = UnixNanos(run.began.saturating_sub(nanos(START_DELAY)));
            let observer = Observer::new(&reader.endpoint, run.id, began, Arc::clone(sources));
            Tap::new(dialled.opened, observer, measured_from)
        });
    let taps = taps.collect();
    (taps, sockets)
}
