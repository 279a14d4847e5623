//! The rows of a report: one for each kind of peer that took part, with books of its own.

use crate::engine::sending::Sending;
use crate::engine::storm::Weather;
use crate::engine::threads::Sent;
use crate::histogram::Summary;
use crate::plan::Others;
use crate::report::RejectCount;
use crate::verify::{Verification, totals};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use wire::reason::Reason;

/// One kind of sender. `sent = acked + rejected + lost`, exactly.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SenderRow {
    /// `senders` or `flooders`.
    pub class: String,
    /// How many.
    pub senders: usize,
    /// Connections that carried them.
    pub connections: usize,
    /// Messages put on the wire, each counted once.
    pub sent: u64,
    /// Messages acked.
    pub acked: u64,
    /// Messages rejected.
    pub rejected: u64,
    /// Messages without an answer at the end.
    pub lost: u64,
    /// Messages acked per second between warm-up and end.
    pub goodput_per_s: f64,
    /// Frames put on the wire, those sent again counted again.
    pub frames: u64,
    /// Frames rejected with BUSY.
    pub busy: u64,
    /// All reasons of rejects, BUSY included.
    pub rejects: Vec<RejectCount>,
    /// Connections that were opened again after the server had ended them.
    pub reopened: u64,
    /// Attempts to do so that were refused or had no answer.
    pub turned_away: u64,
    /// Why the last of those connections ended or was not opened.
    pub last_end: Option<String>,
    /// From due to acked, ms; none for those who send as fast as they may.
    pub ack_ms: Option<Summary>,
    /// Processor seconds of the thread that sent.
    pub cpu_seconds: f64,
}

/// The slow receivers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SlowRow {
    /// How many.
    pub receivers: usize,
    /// Messages per second that each would take; 0 for none.
    pub asked_per_s: f64,
    /// Messages that they read, those delivered again counted again.
    pub read: u64,
    /// Bytes that they read: a delivery is not there before its last byte is.
    pub read_bytes: u64,
    /// Messages per second, all receivers together.
    pub read_per_s: f64,
    /// Acked messages that they hear and had not read at the end: late, not lost.
    pub behind: u64,
    /// Connections of theirs that the server ended.
    pub ended: u64,
    /// Why, the first of them.
    pub first_end: Option<String>,
}

/// The storm of connections. `due = opened + refused`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StormRow {
    /// Sessions due per second.
    pub asked_per_s: f64,
    /// Sessions that became due.
    pub due: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Attempts that got none.
    pub refused: u64,
    /// Why not.
    pub reasons: Vec<RejectCount>,
    /// From due to WELCOME, ms.
    pub open_ms: Option<Summary>,
}

impl SenderRow {
    /// The books of the senders of one thread; `length` is from warm-up to end.
    pub(crate) fn new(class: &str, sent: &Sent, length: Duration) -> Self {
        let Sending {
            flows,
            lanes,
            measured,
            ..
        } = &sent.sending;
        let books = totals(flows.iter().map(|flow| &flow.outcome));
        let rejects = crate::report::rejects(measured);
        let busy = rejects
            .iter()
            .filter(|reject| reject.code == Reason::Busy.code());
        Self {
            class: class.to_owned(),
            senders: flows.len(),
            connections: lanes.len(),
            sent: books.sent,
            acked: books.acked,
            rejected: books.rejected,
            lost: books.unanswered,
            goodput_per_s: measured.acked_in_time as f64 / length.as_secs_f64(),
            frames: measured.frames,
            busy: busy.map(|reject| reject.frames).sum(),
            rejects,
            reopened: sent.again.as_ref().map_or(0, |again| again.reopened),
            turned_away: sent.again.as_ref().map_or(0, |again| again.turned_away),
            last_end: sent.again.as_ref().and_then(|again| again.last_end.clone()),
            ack_ms: None,
            cpu_seconds: sent.cpu.as_secs_f64(),
        }
    }
}

impl SlowRow {
    /// What the slow receivers had read, by the comparison of their own books.
    pub(crate) fn new(
        others: &Others,
        books: &Verification,
        (read_bytes, seconds): (u64, f64),
        ends: &[String],
    ) -> Self {
        let found = &books.findings;
        let read = found.delivered + found.redelivered + found.duplicated + found.leftover;
        Self {
            receivers: others.slow_receivers.len(),
            asked_per_s: others.slow_per_s,
            read,
            read_bytes,
            read_per_s: read as f64 / seconds.max(1e-9),
            behind: books.undelivered,
            ended: ends.len() as u64,
            first_end: ends.first().cloned(),
        }
    }
}

impl StormRow {
    /// What became of a storm.
    pub(crate) fn new(per_s: f64, weather: &Weather) -> Self {
        let reason = |(code, count): (&u16, &u64)| RejectCount {
            code: *code,
            name: Reason::ALL
                .iter()
                .find(|reason| reason.code() == *code)
                .map_or("no_session", |reason| reason.name())
                .to_owned(),
            frames: *count,
        };
        Self {
            asked_per_s: per_s,
            due: weather.due,
            opened: weather.opened,
            refused: weather.refused.values().sum(),
            reasons: weather.refused.iter().map(reason).collect(),
            open_ms: weather.open.summary(),
        }
    }
}

fn tail(out: &mut fmt::Formatter<'_>, figures: Option<Summary>) -> fmt::Result {
    match figures {
        Some(ms) => writeln!(
            out,
            ", p50 {:.3}  p99 {:.3}  p99.9 {:.3} ms",
            ms.p50, ms.p99, ms.p999
        ),
        None => writeln!(out),
    }
}

impl fmt::Display for SenderRow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:<13} {}: {:.0} messages/s acked; {} sent = {} acked + {} rejected + {} lost; {} frames, {} of them BUSY",
            self.class,
            self.senders,
            self.goodput_per_s,
            self.sent,
            self.acked,
            self.rejected,
            self.lost,
            self.frames,
            self.busy
        )?;
        if self.reopened + self.turned_away > 0 {
            write!(
                out,
                "; came back {} times, turned away {}",
                self.reopened, self.turned_away
            )?;
        }
        tail(out, self.ack_ms)
    }
}

impl fmt::Display for SlowRow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "slow readers  {}: {} messages read ({} bytes), {:.0}/s of {:.0}/s, {} behind",
            self.receivers,
            self.read,
            self.read_bytes,
            self.read_per_s,
            self.asked_per_s * self.receivers as f64,
            self.behind
        )?;
        match &self.first_end {
            Some(end) => writeln!(out, ", {} ended: {end}", self.ended),
            None => writeln!(out),
        }
    }
}

impl fmt::Display for StormRow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "storm         {} of {} sessions opened, {} refused",
            self.opened, self.due, self.refused
        )?;
        for reason in &self.reasons {
            write!(out, ", FB-{} {} times", reason.code, reason.frames)?;
        }
        tail(out, self.open_ms)
    }
}
