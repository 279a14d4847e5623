//! The threads that send and that read back, each with connections of its own.

use super::connections::{BYE_TIME, Connections, WAIT_MAX};
use super::flooding::Again;
use super::flow::Flow;
use super::receiving::Tap;
use super::sending::{Port, Sending};
use super::{Clock, Sockets};
use crate::cost::{self, Steady};
use crate::progress::Live;
use crate::verify::Source;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wire::diagnosis::Diagnosis;
use wire::link::encode_bye;
use wire::reason::{Notice, Reason};

const QUIET: u64 = 100_000_000;
const SEND_BUFFERS: (u16, u32) = (256, 16 << 10);
const RECEIVE_BUFFERS: (u16, u32) = (128, 64 << 10);

/// The sending side after its run.
pub(crate) struct Sent {
    pub(crate) sending: Sending,
    pub(crate) cpu: Duration,
    pub(crate) steady: Steady,
    /// How flooders came back; `None` for senders that do not.
    pub(crate) again: Option<Again>,
}

/// Send everything and wait for the answers. It is this thread that knows at which moment how much was acked: one that
/// only looks on may not get the processor for as long as this one has something to do.
pub(crate) fn send_thread(
    mut sending: Sending,
    sockets: Sockets,
    clock: Clock,
    live: &Live,
    mut steady: Steady,
    mut again: Option<Again>,
) -> Result<Sent, Diagnosis> {
    let spare = again.as_ref().map_or(0, Again::spare);
    let (mut port, rests) = Connections::new(sockets, spare, SEND_BUFFERS)?;
    for (lane, rest) in rests.into_iter().enumerate() {
        sending.receive(lane, 0, &rest);
    }
    while !clock.begun() {
        if !sending.prepare(0, &mut port) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let cpu = cost::own_thread();
    loop {
        let now = clock.now();
        let came = port.poll(|lane, what| match what {
            Ok(bytes) => sending.receive(lane, now, bytes),
            Err(fault) => sending.lanes[lane].end(fault),
        })?;
        let now = if came { clock.now() } else { now };
        let released = sending.release(now, &mut port);
        if released {
            port.submit()?;
            sending.submitted(clock.now());
        }
        let prepared = sending.prepare(now, &mut port);
        publish(live, &sending);
        steady.look(now, sending.totals.acked);
        let goes_on = match &mut again {
            Some(again) => again.come_back(&mut sending, &mut port, now)?,
            None => false,
        };
        if !goes_on && sending.finished(now) {
            break;
        }
        if !came && !released && !prepared {
            port.wait(Duration::from_nanos(
                sending.wake_at(now).saturating_sub(now),
            ))?;
        }
    }
    let cpu = cost::own_thread().saturating_sub(cpu);
    say_bye(&mut sending, &mut port, clock)?;
    Ok(Sent {
        sending,
        cpu,
        steady,
        again,
    })
}

fn publish(live: &Live, sending: &Sending) {
    live.sent.store(sending.totals.sent, Ordering::Relaxed);
    live.acked.store(sending.totals.acked, Ordering::Relaxed);
    live.rejected
        .store(sending.totals.rejected, Ordering::Relaxed);
}

fn say_bye(sending: &mut Sending, port: &mut Connections, clock: Clock) -> Result<(), Diagnosis> {
    for lane in 0..sending.lanes.len() {
        let each = &mut sending.lanes[lane];
        if each.fault.is_none() {
            each.seal.sent -= each.ready.len() as u64;
            let mut bytes = port.buffer();
            encode_bye(
                &mut bytes,
                Notice::new(Reason::PeerBye, 0, 0),
                each.seal.signer(),
            );
            port.send(lane, bytes);
        }
        port.close(lane);
    }
    drain(port, clock)
}

/// Let the connections end, for a bounded time.
fn drain(port: &mut Connections, clock: Clock) -> Result<(), Diagnosis> {
    let until = clock.now() + BYE_TIME;
    while port.open() > 0 && clock.now() < until {
        port.poll(|_, _| {})?;
        if port.open() > 0 {
            port.wait(WAIT_MAX)?;
        }
    }
    Ok(())
}

/// Tells the reading thread what it still has to wait for.
#[derive(Default)]
pub(crate) struct Finish {
    rest: Mutex<Option<Rest>>,
}

struct Rest {
    acked: Vec<(Source, u64)>,
    deadline: u64,
}

impl Finish {
    /// Sending is over: these many messages of each source were acked; wait for them until `deadline`.
    pub(crate) fn sending_is_over<'a>(&self, flows: impl Iterator<Item = &'a Flow>, deadline: u64) {
        let acked = flows
            .map(|flow| (flow.source, flow.outcome.acked()))
            .collect();
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Rest { acked, deadline });
    }

    fn is_over(&self, taps: &[Tap], now: u64) -> bool {
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rest) = rest.as_ref() else {
            return false;
        };
        let complete = taps.iter().all(|tap| {
            let heard = rest
                .acked
                .iter()
                .filter(|(source, _)| tap.hears.contains(&source.channel));
            let owed: u64 = heard.map(|(_, acked)| acked).sum();
            tap.fault.is_some()
                || (tap.observer.delivered() >= owed && now.saturating_sub(tap.heard) > QUIET)
        });
        complete || now >= rest.deadline
    }
}

/// Read back until everything that was acked has come, and nothing more comes for a moment.
pub(crate) fn receive_thread(
    mut taps: Vec<Tap>,
    sockets: Sockets,
    clock: Clock,
    live: &Live,
    finish: &Finish,
) -> Result<(Vec<Tap>, Duration), Diagnosis> {
    if taps.is_empty() {
        return Ok((taps, Duration::ZERO));
    }
    let (mut port, rests) = Connections::new(sockets, 0, RECEIVE_BUFFERS)?;
    for (tap, rest) in taps.iter_mut().zip(rests) {
        tap.receive(&rest, 0, clock.unix(0));
    }
    let cpu = cost::own_thread();
    loop {
        let came = port.poll(|index, what| {
            let now = clock.now();
            match what {
                Ok(bytes) => taps[index].receive(bytes, now, clock.unix(now)),
                Err(fault) => drop(taps[index].fault.get_or_insert(fault)),
            }
        })?;
        let now = clock.now();
        let mut sent = false;
        for (index, tap) in taps.iter_mut().enumerate() {
            tap.keep_alive(now);
            if !tap.out.is_empty() && tap.fault.is_none() {
                let bytes = std::mem::replace(&mut tap.out, port.buffer());
                port.send(index, bytes);
                sent = true;
            }
        }
        if sent {
            port.submit()?;
        }
        live.delivered.store(
            taps.iter().map(|tap| tap.observer.delivered()).sum(),
            Ordering::Relaxed,
        );
        if !came {
            if finish.is_over(&taps, now) {
                break;
            }
            port.wait(WAIT_MAX)?;
        }
    }
    let cpu = cost::own_thread().saturating_sub(cpu);
    for (index, tap) in taps.iter_mut().enumerate() {
        tap.settle(clock.now());
        if tap.fault.is_none() {
            port.send(index, std::mem::take(&mut tap.out));
        }
        port.close(index);
    }
    drain(&mut port, clock)?;
    Ok((taps, cpu))
}
