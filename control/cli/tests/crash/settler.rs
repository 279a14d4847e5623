//! A receiver without the SDK's memory: it sees every delivery as the node says it, and settles with a PING behind each
//! settlement. The window that OPERATIONS.md states: a settlement that a PONG has confirmed survives `kill -9`, so its
//! delivery never comes again; one that was not confirmed may.

use crate::books::Seen;
use crate::peer::Peer;
use crate::world::{PATIENCE, Upto};
use client::Credentials;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wire::ack::Reject;
use wire::delivery::{Deliver, Fetch, Outcome, Settle, Source};
use wire::frame::{Frame, FrameKind};
use wire::ids::{Offset, PartitionId, Sequence};
use wire::link::encode_ping;

const FETCH_MESSAGES: u32 = 8_192;
const FETCH_BYTES: u64 = 16 << 20;

/// What one receiver saw over all its connections.
#[derive(Default)]
pub(crate) struct Settler {
    pub(crate) seen: Seen,
    /// Everything up to this delivery number is settled, and a PONG has said so.
    confirmed: u64,
    /// The highest delivery number that came.
    highest: u64,
    /// The highest delivery number that came over this connection: a node that was killed knows of no others.
    here: u64,
    /// Where the messages of the numbers between those two rest.
    open: BTreeMap<u64, (PartitionId, Offset)>,
    /// Deliveries that came again, all of them inside the window.
    pub(crate) again: u64,
    /// PONGs that confirmed a settlement.
    pub(crate) confirmations: u64,
    faults: Vec<String>,
}

impl Settler {
    /// Receive and settle over as many connections as it takes, until `upto` of every sender has come and is confirmed.
    pub(crate) fn run(
        mut self,
        address: &str,
        credentials: &Credentials,
        hears: &[usize],
        upto: &Upto,
    ) -> Self {
        let mut random = fastrand::Rng::new();
        let mut heard = Instant::now();
        // When nothing comes any more, what is missing is for the books to tell.
        while !self.done(hears, upto) && heard.elapsed() < PATIENCE {
            match Peer::open(address, credentials, &mut random) {
                // A connection that is lost is what this test is about: the next one takes its place.
                Ok(peer) => drop(self.serve(peer, hears, upto, &mut heard)),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        self
    }

    fn done(&self, hears: &[usize], upto: &Upto) -> bool {
        let acked = upto.lock().expect("no holder panics");
        let all = |acked: &Vec<u64>| {
            let came = |&sender: &usize| self.seen.last(sender) == acked[sender].checked_sub(1);
            hears.iter().all(came)
        };
        acked.as_ref().is_some_and(all) && self.confirmed == self.highest
    }

    fn serve(
        &mut self,
        mut peer: Peer,
        hears: &[usize],
        upto: &Upto,
        heard: &mut Instant,
    ) -> std::io::Result<()> {
        assert!(!peer.channels.is_empty(), "it hears a channel");
        let (mut credit, mut credit_bytes) = (0, 0);
        let mut settled = self.confirmed;
        self.here = self.confirmed;
        while !self.done(hears, upto) && heard.elapsed() < PATIENCE {
            if credit < FETCH_MESSAGES / 2 {
                let fetch = Fetch {
                    source: Source::Queue,
                    messages: FETCH_MESSAGES,
                    bytes: FETCH_BYTES - credit_bytes,
                };
                peer.say(|out, signer| fetch.encode(out, signer))?;
                credit += FETCH_MESSAGES;
                credit_bytes = FETCH_BYTES;
            }
            let took = peer.next(Duration::from_millis(20), |frame| self.take(frame, hears))?;
            let Some((messages, bytes)) = took else {
                continue;
            };
            *heard = Instant::now();
            credit = credit.saturating_sub(messages);
            credit_bytes = credit_bytes.saturating_sub(bytes);
            if self.here > settled {
                settled = self.here;
                let settle = Settle {
                    source: Source::Queue,
                    number: Sequence(settled),
                    outcome: Outcome::AcceptUpTo,
                };
                peer.say(|out, signer| settle.encode(out, signer))?;
                peer.say(|out, signer| encode_ping(out, Sequence(settled), signer))?;
            }
        }
        Ok(())
    }

    /// Take one frame; returns how many messages it delivered, and their bytes.
    fn take(&mut self, frame: Frame<'_>, hears: &[usize]) -> (u32, u64) {
        match frame.kind() {
            FrameKind::Pong => {
                self.confirmations += 1;
                self.confirmed = self.confirmed.max(frame.sequence().0);
                self.open = self.open.split_off(&(self.confirmed + 1));
                (0, 0)
            }
            FrameKind::Deliver => {
                let deliver = Deliver::parse(frame).expect("a well formed DELIVER");
                let mut bytes = 0;
                for group in deliver.groups() {
                    for (at, message) in group.messages().enumerate() {
                        bytes += message.encoded_bytes() as u64;
                        let number = group.header.number.0 + at as u64;
                        let rests = (group.header.partition, group.header.offset.plus(at as u64));
                        self.note(number, rests, message.body, hears);
                    }
                }
                (deliver.messages(), bytes)
            }
            FrameKind::Reject => {
                let reject = Reject::parse(frame).expect("a well formed REJECT");
                self.faults.push(format!("{reject:?}"));
                (0, 0)
            }
            other => {
                self.faults.push(format!("{other:?} to a receiver"));
                (0, 0)
            }
        }
    }

    fn note(&mut self, number: u64, rests: (PartitionId, Offset), body: &[u8], hears: &[usize]) {
        self.here = self.here.max(number);
        if number <= self.confirmed {
            let confirmed = self.confirmed;
            self.faults
                .push(format!("{number} came again, settled up to {confirmed}"));
        } else if number <= self.highest {
            self.again += 1;
            if self.open.get(&number) != Some(&rests) {
                let before = self.open.get(&number);
                self.faults
                    .push(format!("{number} was {before:?}, is {rests:?}"));
            }
        } else {
            self.highest = number;
            self.open.insert(number, rests);
            self.seen.note(body, hears);
        }
    }

    /// As [`Seen::check`], and no settlement was lost that was confirmed.
    pub(crate) fn check(&self, receiver: &str, acked: &[u64], hears: &[usize]) {
        let some = &self.faults[..self.faults.len().min(20)];
        assert!(self.faults.is_empty(), "{receiver}: {some:#?}");
        self.seen.check(receiver, acked, hears);
    }
}
