//! The sending side of a run without socket and clock: what is signed when, sent when, and how answers are booked.
//!
//! Frames are signed up to [`HORIZON`] before they are due and released when they are. A frame that finds no credit
//! waits; its messages keep their due times, so the wait is part of their latency.

use super::flow::{Flow, Run, put_send};
use super::lane::{Item, Lane};
use super::measured::{Measured, Times, Totals};
use crate::payload::Bodies;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use wire::datagram;
use wire::ids::Sequence;
use wire::link::encode_ping;
use wire::send::encode_relay;
use wire::signature::Signer;

mod answers;
mod reopening;

/// How far ahead frames are signed, in nanoseconds.
pub const HORIZON: u64 = 20_000_000;
const SIGNED_BYTES_MAX: usize = 8 << 20;
const SIGN_AT_ONCE: usize = 64;
/// Frames signed at once in saturation mode, over all connections and for one: what one operation of the ring carries.
const SATURATED_AT_ONCE: usize = 2_048;
const BURST_MAX: usize = 64;
const PING_CHECK: u64 = 100_000_000;

/// Where frames go.
pub trait Port {
    /// An empty buffer, recycled if possible.
    fn buffer(&mut self) -> Vec<u8>;
    /// Put a frame on the wire of a lane.
    fn send(&mut self, lane: usize, bytes: Vec<u8>);
    /// Send a datagram beside a lane; it may be lost.
    fn throw(&mut self, lane: usize, bytes: Vec<u8>);
}

/// All senders and their connections.
#[derive(Debug)]
pub struct Sending {
    /// The senders.
    pub flows: Vec<Flow>,
    /// The connections.
    pub lanes: Vec<Lane>,
    /// What was measured.
    pub measured: Measured,
    /// Messages put on the wire, acked and rejected so far.
    pub totals: Totals,
    /// What stamps call the first of `flows`; the others follow.
    pub first_sender: u32,
    bodies: Bodies,
    run: Run,
    times: Times,
    batch: u16,
    frame_bytes: usize,
    due: BinaryHeap<Reverse<(u64, u32)>>,
    order: VecDeque<(u64, u32)>,
    signed_bytes: usize,
    released: Vec<Released>,
    touched: Vec<usize>,
    scratch: Vec<u8>,
    next_flow: usize,
    ping_check: u64,
    /// Lanes that wait because the server asked for it, and until when.
    paused: BinaryHeap<Reverse<(u64, usize)>>,
}

/// A frame that was handed over and not submitted yet.
#[derive(Debug, Clone, Copy)]
struct Released {
    due: u64,
    reference: u64,
    count: u16,
}

impl Sending {
    /// A run about to begin; `frame_bytes` is the length of its longest frame.
    pub fn new(
        (flows, lanes): (Vec<Flow>, Vec<Lane>),
        bodies: Bodies,
        run: Run,
        times: Times,
        (batch, frame_bytes): (u16, usize),
    ) -> Self {
        let mut sending = Self {
            flows,
            lanes,
            measured: Measured::default(),
            totals: Totals::default(),
            first_sender: 0,
            bodies,
            run,
            times,
            batch,
            frame_bytes,
            due: BinaryHeap::new(),
            order: VecDeque::new(),
            signed_bytes: 0,
            released: Vec::new(),
            touched: Vec::new(),
            scratch: Vec::new(),
            next_flow: 0,
            ping_check: 0,
            paused: BinaryHeap::new(),
        };
        for flow in 0..sending.flows.len() {
            sending.enlist(flow as u32);
        }
        sending
    }

    fn enlist(&mut self, flow: u32) {
        let schedule = self.flows[flow as usize].schedule.as_mut();
        if let Some(due) = schedule.and_then(|schedule| schedule.peek().copied()) {
            self.due.push(Reverse((due, flow)));
        }
    }

    /// Sign frames that will soon be due, a bounded number of them. True when some were signed.
    pub fn prepare(&mut self, now: u64, port: &mut impl Port) -> bool {
        self.bodies.refresh();
        if self.times.saturate {
            return self.prepare_saturated(now, port);
        }
        let mut any = false;
        for _ in 0..SIGN_AT_ONCE {
            let Some(Reverse((due, flow))) = self.due.peek().copied() else {
                break;
            };
            // By halves: one wake-up signs what is due over ten milliseconds.
            let horizon = if any { HORIZON } else { HORIZON / 2 };
            if due > now + horizon || self.signed_bytes > SIGNED_BYTES_MAX {
                break;
            }
            self.due.pop();
            let lane = self.flows[flow as usize].lane;
            if self.lanes[lane as usize].fault.is_some() {
                continue;
            }
            let first = self.flows[flow as usize].next_number();
            let (count, last_due) = self.flows[flow as usize].plan(self.batch, &self.bodies);
            self.sign(flow, (first, count, last_due), port);
            self.insert_order(last_due, lane);
            self.enlist(flow);
            any = true;
        }
        any
    }

    fn prepare_saturated(&mut self, now: u64, port: &mut impl Port) -> bool {
        let mut any = false;
        if now >= self.times.end {
            return false;
        }
        let mut left = SATURATED_AT_ONCE;
        for _ in 0..self.flows.len() {
            let flow = self.next_flow;
            self.next_flow = (flow + 1) % self.flows.len();
            // As a client would, each connection sends in one piece what its credit allows.
            let signed = self.fill(flow, now, left.min(BURST_MAX), port);
            any |= signed > 0;
            left -= signed;
            if left == 0 {
                break;
            }
        }
        any
    }

    /// Sign as many frames of a flow as its lane has credit for, up to `most`; returns how many.
    fn fill(&mut self, flow: usize, now: u64, most: usize, port: &mut impl Port) -> usize {
        let lane = self.flows[flow].lane as usize;
        let mut signed = 0;
        while signed < most
            && self.lanes[lane].fault.is_none()
            && self.lanes[lane].wants_more(self.frame_bytes)
        {
            let first = self.flows[flow].next_number();
            for _ in 0..self.batch {
                self.flows[flow].plan_one(now, &self.bodies);
            }
            self.sign(flow as u32, (first, self.batch, now), port);
            self.order.push_back((now, lane as u32));
            signed += 1;
        }
        signed
    }

    /// Frames are planned by their first message and due with their last: keep the order of what is due.
    fn insert_order(&mut self, due: u64, lane: u32) {
        let at = self
            .order
            .iter()
            .rposition(|(other, _)| *other <= due)
            .map_or(0, |index| index + 1);
        self.order.insert(at, (due, lane));
    }

    fn sign(&mut self, flow: u32, (first, count, due): (u64, u16, u64), port: &mut impl Port) {
        let lane = self.flows[flow as usize].lane as usize;
        let sequence = self.lanes[lane].next_sequence();
        let mut item = Item {
            flow,
            first,
            count,
            due,
            put: 0,
            bytes: port.buffer(),
            frame_bytes: 0,
            rejected: false,
            number: sequence,
        };
        self.encode(&mut item, lane, sequence);
        self.signed_bytes += item.frame_bytes;
        self.lanes[lane].add_ready(item);
    }

    fn encode(&mut self, item: &mut Item, lane: usize, sequence: u64) {
        let (first, count) = (item.first, item.count);
        let sender = self.first_sender + item.flow;
        let out = &mut item.bytes;
        out.clear();
        let flow = &mut self.flows[item.flow as usize];
        let loose = self.lanes[lane].is_loose();
        let seal = &mut self.lanes[lane].seal;
        if let Some(key) = flow.envelope.as_mut() {
            let (id, own, mac) = (key.id, key.next, key.secret.mac().clone());
            key.next += 1;
            self.scratch.clear();
            let signer = Signer::Key { id, key: &mac };
            put_send(
                &mut self.scratch,
                self.run,
                sender,
                flow,
                &self.bodies,
                (first, count, own),
                signer,
            );
            encode_relay(out, Sequence(sequence), &self.scratch, seal.signer());
        } else if loose {
            datagram::begin(out, self.lanes[lane].index, sequence);
            let signer = self.lanes[lane].seal.datagram_signer(sequence);
            let numbers = (first, count, sequence);
            put_send(out, self.run, sender, flow, &self.bodies, numbers, signer);
        } else {
            let signer = seal.signer();
            put_send(
                out,
                self.run,
                sender,
                flow,
                &self.bodies,
                (first, count, sequence),
                signer,
            );
        }
        item.frame_bytes = out.len();
    }

    /// Send what is due and has credit. True when something went out; then call [`Sending::submitted`].
    pub fn release(&mut self, now: u64, port: &mut impl Port) -> bool {
        while let Some((due, lane)) = self.order.front().copied() {
            if due > now {
                break;
            }
            self.order.pop_front();
            self.lanes[lane as usize].owed += 1;
            self.push(lane as usize, now, port);
        }
        while let Some(Reverse((until, lane))) = self.paused.peek().copied()
            && until <= now
        {
            self.paused.pop();
            self.touched.push(lane);
        }
        if now >= self.ping_check {
            self.lose(now);
        }
        while let Some(lane) = self.touched.pop() {
            self.push(lane, now, port);
        }
        if now >= self.ping_check {
            self.ping_check = now + PING_CHECK;
            self.ping(now, port);
        }
        !self.released.is_empty()
    }

    fn push(&mut self, lane: usize, now: u64, port: &mut impl Port) {
        let loose = self.lanes[lane].is_loose();
        while let Some((bytes, item)) = self.lanes[lane].send_next(now) {
            let (flow, first, count, due) = (item.flow as usize, item.first, item.count, item.due);
            self.signed_bytes -= item.frame_bytes;
            match loose {
                true => port.throw(lane, bytes),
                false => port.send(lane, bytes),
            }
            self.measured.frames += 1;
            let beyond = first + u64::from(count);
            let outcome = &mut self.flows[flow].outcome;
            if beyond > outcome.sent {
                self.totals.sent += beyond - outcome.sent;
                outcome.sent = beyond;
                let reference = due.max(self.lanes[lane].open_since);
                self.released.push(Released {
                    due,
                    reference,
                    count,
                });
            }
        }
    }

    /// Everything released so far is with the kernel now.
    pub fn submitted(&mut self, now: u64) {
        for released in self.released.drain(..) {
            if released.due >= self.times.warm_up {
                self.measured
                    .lateness
                    .record(now.saturating_sub(released.reference));
                self.measured.sent += u64::from(released.count);
                self.measured.last_sent = now;
            }
        }
    }

    fn ping(&mut self, now: u64, port: &mut impl Port) {
        for lane in 0..self.lanes.len() {
            let each = &mut self.lanes[lane];
            // A frame that is signed already has an index before the PING's.
            if each.fault.is_none()
                && each.ready.is_empty()
                && now.saturating_sub(each.spoke) > each.ping_every
            {
                each.spoke = now;
                let mut bytes = port.buffer();
                encode_ping(&mut bytes, Sequence(1), each.seal.signer());
                port.send(lane, bytes);
            }
        }
    }

    /// Messages of the schedules that were never put on the wire and would have been measured.
    pub fn unsent(&mut self) -> u64 {
        let warm_up = self.times.warm_up;
        let mut unsent = 0;
        for flow in &mut self.flows {
            let skip =
                (flow.outcome.sent - flow.outcome.answered).min(flow.planned.len() as u64) as usize;
            let signed = flow
                .planned
                .range(skip..)
                .filter(|planned| planned.due >= warm_up)
                .count();
            let rest = flow
                .schedule
                .as_mut()
                .map_or(0, |rest| rest.filter(|due| *due >= warm_up).count());
            unsent += (signed + rest) as u64;
        }
        unsent
    }

    /// Whether nothing is left to send or to wait for, or the deadline has passed.
    pub fn finished(&self, now: u64) -> bool {
        if now >= self.times.deadline {
            return true;
        }
        let planned = self.due.is_empty() && (!self.times.saturate || now >= self.times.end);
        let idle =
            |lane: &Lane| lane.fault.is_some() || (lane.wire.is_empty() && lane.ready.is_empty());
        (planned && self.lanes.iter().all(idle))
            || self.lanes.iter().all(|lane| lane.fault.is_some())
    }

    /// When there is something to do next even if nothing comes.
    pub fn wake_at(&self, now: u64) -> u64 {
        let frame = self.order.front().map_or(u64::MAX, |(due, _)| *due);
        let signing = self.due.peek().map_or(u64::MAX, |Reverse((due, _))| {
            due.saturating_sub(HORIZON / 2)
        });
        let paused = self.paused.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        frame
            .min(signing)
            .min(paused)
            .min(self.ping_check)
            .max(now)
            .min(self.times.deadline)
    }
}
