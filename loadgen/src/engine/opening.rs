//! Opening the sessions of a run, and what each sender will be due to send.

use super::flow::{EnvelopeKey, Flow, Run};
use super::lane::Lane;
use super::measured::Times;
use super::receiving::Tap;
use super::{START_DELAY, Sockets, nanos};
use crate::activity::Activity;
use crate::diagnosis;
use crate::dial::Dialler;
use crate::payload::Bodies;
use crate::plan::{LoadOptions, LoadPlan, ReceiverCredential, SenderCredential};
use crate::schedule::Schedule;
use crate::stamp::{STAMP_BYTES, STAMP_HEADER};
use crate::verify::{Observer, Outcome, Source};
use client::handshake::{ChannelTerms, Opened};
use std::collections::VecDeque;
use std::iter::Peekable;
use std::sync::Arc;
use wire::diagnosis::Diagnosis;
use wire::ids::{DATAGRAM_STREAM, KeyId, RELAY_STREAM, UnixNanos};
use wire::limits::FRAME_BYTES_MAX;
use wire::message::MESSAGE_HEADER_BYTES;
use wire::signature::SecretKey;

const FRAME_AROUND: usize = 32 + 32;
const RELAY_AROUND: usize = 16 + 32;
/// The lane and the number before the frame of a datagram.
const DATAGRAM_AROUND: usize = 16;

/// Senders with their connections, and the length of the longest frame.
pub(super) type Senders = (Vec<Flow>, Vec<Lane>, Sockets, usize);

/// The senders of the plan.
pub(super) fn open_senders(plan: &LoadPlan, bodies: &Bodies) -> Result<Senders, Diagnosis> {
    let mut dialler = Dialler::new(plan.addr, &plan.transport)?;
    dialler.share(plan.options.lanes);
    open(
        plan,
        &plan.senders,
        (plan.connections(), &mut dialler),
        bodies,
    )
}

/// The flooders of the plan, one connection each.
pub(super) fn open_flooders(
    plan: &LoadPlan,
    dialler: &mut Dialler,
    bodies: &Bodies,
) -> Result<Senders, Diagnosis> {
    let flooders = &plan.others.flooders;
    let connections = (flooders.len(), dialler);
    let (mut flows, mut lanes, sockets, frame) = open(plan, flooders, connections, bodies)?;
    flows.iter_mut().for_each(|flow| flow.schedule = None);
    lanes.iter_mut().for_each(Lane::flood);
    Ok((flows, lanes, sockets, frame))
}

fn open(
    plan: &LoadPlan,
    senders: &[SenderCredential],
    (connections, dialler): (usize, &mut Dialler),
    bodies: &Bodies,
) -> Result<Senders, Diagnosis> {
    let count = senders.len();
    let shares = plan.options.activity.shares(count);
    let mut sockets = Sockets {
        streams: Vec::new(),
        rests: Vec::new(),
    };
    let (mut flows, mut lanes) = (Vec::with_capacity(count), Vec::with_capacity(connections));
    let relays = connections < count;
    let mut frame_most = FRAME_BYTES_MAX;
    for (index, sender) in senders.iter().enumerate() {
        let dialled = dialler.dial(&sender.endpoint, sender.key_id, &sender.key)?;
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
        flows.push(Flow {
            source,
            lane,
            envelope,
            schedule: schedule(&plan.options, (index, count), shares[index]),
            planned: VecDeque::new(),
            refused: VecDeque::new(),
            outcome: Outcome::default(),
        });
        if plan.options.datagrams {
            let room = dialled.socket.datagram_bytes_max();
            frame_most = frame_most.min(room.saturating_sub(DATAGRAM_AROUND));
        }
        if index < connections {
            let (stream, last) = match relays {
                true => (RELAY_STREAM, 0),
                false if plan.options.datagrams => (DATAGRAM_STREAM, terms.last_sequence.0),
                false => (terms.partition, terms.last_sequence.0),
            };
            let window = plan.options.window;
            let mut lane = Lane::new(dialled.opened, stream, last, window);
            lane.index = dialled.socket.lane_index();
            lanes.push(lane);
            sockets.streams.push(dialled.socket);
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

/// When the messages of one sender are due; `None` in saturation mode.
fn schedule(
    options: &LoadOptions,
    (index, senders): (usize, usize),
    share: f64,
) -> Option<Peekable<Schedule>> {
    let (arrival, rate, length, seed) = (
        options.arrival,
        options.rate,
        options.duration,
        options.seed,
    );
    let number = index as u32;
    let schedule = match options.activity {
        _ if rate == 0.0 => return None,
        Activity::Uniform => Schedule::new(arrival, rate, length, number, senders as u32, seed),
        Activity::Zipf(_) => Schedule::of_share(arrival, rate, share, length, number, seed),
    };
    Some(schedule.peekable())
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

/// A receiver over an open session, and what it shall watch for.
pub(super) fn tap(
    opened: Opened,
    reader: &ReceiverCredential,
    run: Run,
    times: Times,
    sources: &Arc<[Source]>,
) -> Tap {
    // Without a rate there is no due time, and so no latency.
    let measured_from = UnixNanos(if times.saturate {
        u64::MAX
    } else {
        run.began + times.warm_up
    });
    let began = UnixNanos(run.began.saturating_sub(nanos(START_DELAY)));
    let observer = Observer::new(&reader.endpoint, run.id, began, Arc::clone(sources));
    Tap::new(opened, observer, measured_from)
}
