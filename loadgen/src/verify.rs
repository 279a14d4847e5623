//! The books: what was sent, answered and read back, compared message by message.
//!
//! One [`Observer`] per receiving endpoint notes every delivery; [`reconcile`] compares them with the senders'
//! outcomes. One bit per message and receiver. Nothing here knows time, sockets or frames.

use crate::stamp::Stamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use wire::ids::{ChannelId, EndpointId, UnixNanos};

const EVIDENCE_MAX: usize = 10;
const NEVER_CAME: &str = " never came";
/// A number further than this beyond the highest seen is not believed.
const GAP_MAX: u64 = 1 << 24;

/// Who sends what where: what a receiver may hear in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The sending endpoint.
    pub endpoint: EndpointId,
    /// The channel it sends to.
    pub channel: ChannelId,
}

/// The end of one sender's run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Messages put on the wire: numbers `0..sent`.
    pub sent: u64,
    /// Messages answered, by ACK or REJECT: numbers `0..answered`.
    pub answered: u64,
    /// Numbers below `answered` that were rejected, ascending.
    pub rejected: Vec<u64>,
    /// Numbers below `answered` that went in datagrams and had no answer before later ones had theirs, ascending.
    pub lost: Vec<u64>,
}

impl Outcome {
    /// Messages the server acked.
    pub fn acked(&self) -> u64 {
        self.answered - (self.rejected.len() + self.lost.len()) as u64
    }
}

/// One delivered message as a receiver saw it.
#[derive(Debug, Clone, Copy)]
pub struct Arrived<'a> {
    /// Endpoint that sent it, as the server says.
    pub sender: EndpointId,
    /// Channel it was sent to, as the server says.
    pub channel: ChannelId,
    /// Delivery attempt, from 1.
    pub attempt: u16,
    /// When the server appended it.
    pub append_time: UnixNanos,
    /// The message's own timestamp.
    pub timestamp: UnixNanos,
    /// Stamp from header or body, if one was found.
    pub stamp: Option<&'a [u8]>,
    /// The body the stamp covers.
    pub covered: &'a [u8],
}

/// What was wrong, or merely counted, at a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Findings {
    /// Messages of this run read for the first time.
    pub delivered: u64,
    /// Messages read again although the server did not call it a further attempt.
    pub duplicated: u64,
    /// Messages read again as an announced further attempt (at-least-once delivery).
    pub redelivered: u64,
    /// Messages read after one with a higher number of the same sender.
    pub misordered: u64,
    /// Messages whose timestamp, stamp or body is not what was sent.
    pub altered: u64,
    /// Messages this run did not send to this receiver, and rejected ones that came all the same.
    pub stray: u64,
    /// Messages that had been in the queue since before the run; settled and otherwise ignored.
    pub leftover: u64,
}

impl Findings {
    fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.duplicated += other.duplicated;
        self.redelivered += other.redelivered;
        self.misordered += other.misordered;
        self.altered += other.altered;
        self.stray += other.stray;
        self.leftover += other.leftover;
    }
}

#[derive(Debug, Clone, Default)]
struct Seen {
    bits: Vec<u64>,
    beyond_highest: u64,
}

impl Seen {
    fn contains(&self, number: u64) -> bool {
        let word = self.bits.get((number / 64) as usize).copied().unwrap_or(0);
        word & (1 << (number % 64)) != 0
    }

    fn insert(&mut self, number: u64) {
        let word = (number / 64) as usize;
        if word >= self.bits.len() {
            self.bits.resize((word + 1).max(self.bits.len() * 2), 0);
        }
        self.bits[word] |= 1 << (number % 64);
    }
}

/// Notes what one receiving endpoint reads.
#[derive(Debug)]
pub struct Observer {
    name: String,
    run: u64,
    began: UnixNanos,
    sources: Arc<[Source]>,
    seen: Vec<Seen>,
    findings: Findings,
    evidence: Vec<String>,
}

impl Observer {
    /// An observer for one receiver of a run that began at `began`.
    pub fn new(name: &str, run: u64, began: UnixNanos, sources: Arc<[Source]>) -> Self {
        let seen = vec![Seen::default(); sources.len()];
        let (findings, evidence) = (Findings::default(), Vec::new());
        Self {
            name: name.to_owned(),
            run,
            began,
            sources,
            seen,
            findings,
            evidence,
        }
    }

    /// Note one message. True when it is a message of this run, intact, seen for the first time.
    pub fn note(&mut self, arrived: &Arrived<'_>) -> bool {
        let timestamp = arrived.timestamp.0;
        let stamp = arrived
            .stamp
            .and_then(|bytes| Stamp::read(bytes, timestamp, arrived.covered));
        let Some((stamp, intact)) = stamp.filter(|(stamp, _)| stamp.run == self.run) else {
            if arrived.append_time < self.began {
                self.findings.leftover += 1;
            } else {
                self.findings.stray += 1;
                self.prove(|| {
                    format!("a message of {} that this run did not send", arrived.sender)
                });
            }
            return false;
        };
        let source = self.sources.get(stamp.sender as usize).copied();
        let expected = Source {
            endpoint: arrived.sender,
            channel: arrived.channel,
        };
        let believed = self
            .seen
            .get(stamp.sender as usize)
            .is_some_and(|seen| stamp.number < seen.beyond_highest + GAP_MAX);
        if source != Some(expected) || !believed {
            self.findings.stray += 1;
            self.prove(|| {
                format!(
                    "message {} of sender {} under another name",
                    stamp.number, stamp.sender
                )
            });
            return false;
        }
        if !intact {
            self.findings.altered += 1;
            self.prove(|| {
                format!(
                    "message {} of sender {} altered",
                    stamp.number, stamp.sender
                )
            });
        }
        self.note_order(stamp, arrived.attempt) && intact
    }

    fn note_order(&mut self, stamp: Stamp, attempt: u16) -> bool {
        let seen = &mut self.seen[stamp.sender as usize];
        if seen.contains(stamp.number) {
            if attempt > 1 {
                self.findings.redelivered += 1;
            } else {
                self.findings.duplicated += 1;
                self.prove(|| format!("message {} of sender {} twice", stamp.number, stamp.sender));
            }
            return false;
        }
        seen.insert(stamp.number);
        self.findings.delivered += 1;
        let beyond = seen.beyond_highest;
        if stamp.number < beyond {
            self.findings.misordered += 1;
            self.prove(|| {
                format!(
                    "message {} of sender {} after {}",
                    stamp.number,
                    stamp.sender,
                    beyond - 1
                )
            });
        } else {
            seen.beyond_highest = stamp.number + 1;
        }
        true
    }

    /// Messages read so far, of whatever run and attempt.
    pub fn read(&self) -> u64 {
        let found = &self.findings;
        found.delivered + found.redelivered + found.duplicated + found.stray + found.leftover
    }

    /// Messages of this run read so far, each counted once.
    pub fn delivered(&self) -> u64 {
        self.findings.delivered
    }

    fn prove(&mut self, what: impl FnOnce() -> String) {
        if self.evidence.len() < EVIDENCE_MAX {
            self.evidence.push(format!("{}: {}", self.name, what()));
        }
    }
}

/// The result of comparing all books.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verification {
    /// Messages put on the wire.
    pub sent: u64,
    /// Messages the server acked.
    pub acked: u64,
    /// Messages the server rejected.
    pub rejected: u64,
    /// Messages neither acked nor rejected: `sent = acked + rejected + unanswered`.
    pub unanswered: u64,
    /// Whether deliveries were read back through receiving endpoints.
    pub read_back: bool,
    /// Deliveries owed: acked messages times the receivers that hear their channel.
    pub expected: u64,
    /// Acked messages that a receiver hears but did not read before the deadline.
    pub undelivered: u64,
    /// What was read.
    pub findings: Findings,
    /// The first faults, in words.
    pub evidence: Vec<String>,
}

impl Verification {
    /// Messages lost: unanswered, or acked and not read back.
    pub fn lost(&self) -> u64 {
        self.unanswered + self.undelivered
    }

    /// Charge what slow receivers read wrong; what they have not read is late, not lost.
    pub fn add_slow(&mut self, slow: &Self) {
        let delivered = self.findings.delivered;
        self.findings.add(&slow.findings);
        self.findings.delivered = delivered;
        let faults = slow
            .evidence
            .iter()
            .filter(|line| !line.ends_with(NEVER_CAME));
        self.evidence.extend(faults.cloned());
        self.evidence.truncate(EVIDENCE_MAX);
    }

    /// True when every message is accounted for: nothing lost, duplicated, misordered, altered or stray.
    pub fn clean(&self) -> bool {
        self.unanswered == 0 && self.clean_but_for_answers()
    }

    /// Whether everything is accounted for but messages that the server has not answered yet.
    pub fn clean_but_for_answers(&self) -> bool {
        let found = &self.findings;
        self.undelivered == 0
            && found.duplicated + found.misordered + found.altered + found.stray == 0
    }
}

/// What became of all messages of these senders, before anything is read back.
pub fn totals<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Verification {
    let mut result = Verification::default();
    for outcome in outcomes {
        result.sent += outcome.sent;
        result.acked += outcome.acked();
        result.rejected += outcome.rejected.len() as u64;
        result.unanswered += outcome.sent - outcome.answered + outcome.lost.len() as u64;
    }
    result
}

/// Compare the senders' outcomes with what the observers read; `hears` lists each observer's channels.
pub fn reconcile(outcomes: &[Outcome], observers: Vec<(Observer, Vec<ChannelId>)>) -> Verification {
    let mut result = Verification {
        read_back: !observers.is_empty(),
        ..totals(outcomes.iter())
    };
    for (mut observer, hears) in observers {
        for (sender, outcome) in outcomes.iter().enumerate() {
            if hears.contains(&observer.sources[sender].channel) {
                result.expected += outcome.acked();
                result.undelivered += owed(&mut observer, sender, outcome);
            } else {
                let heard: u32 = observer.seen[sender]
                    .bits
                    .iter()
                    .map(|word| word.count_ones())
                    .sum();
                observer.findings.stray += u64::from(heard);
            }
        }
        result.findings.add(&observer.findings);
        result.evidence.append(&mut observer.evidence);
    }
    result.evidence.truncate(EVIDENCE_MAX);
    result
}

/// Count what one observer should have read of one sender and did not; rejected messages it did read become strays.
fn owed(observer: &mut Observer, sender: usize, outcome: &Outcome) -> u64 {
    let mut missing = 0;
    let mut rejected = outcome.rejected.iter().copied().peekable();
    let mut lost = outcome.lost.iter().copied().peekable();
    for number in 0..outcome.answered {
        let seen = observer.seen[sender].contains(number);
        // What nobody answered may have come all the same.
        if lost.next_if_eq(&number).is_some() {
            continue;
        }
        if rejected.next_if_eq(&number).is_some() {
            if seen {
                observer.findings.stray += 1;
                observer.prove(|| {
                    format!("rejected message {number} of sender {sender} came all the same")
                });
            }
        } else if !seen {
            missing += 1;
            observer.prove(|| format!("acked message {number} of sender {sender}{NEVER_CAME}"));
        }
    }
    missing
}

#[cfg(test)]
mod tests;
