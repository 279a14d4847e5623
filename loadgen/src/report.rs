//! What a run says about itself, as JSON and as text.

use crate::diagnosis;
use crate::engine::measured::Measured;
use crate::histogram::{Latencies, Summary};
use crate::plan::{LoadOptions, LoadPlan};
use crate::rows::{SenderRow, SlowRow, StormRow};
use crate::schedule::Arrival;
use crate::verify::Verification;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};
use std::time::Duration;
use wire::ids::AckMode;

const ACHIEVED_LEAST: f64 = 0.995;
/// A thread that is busy for so much of a run has no time left.
const BUSY_FULL: f64 = 0.9;
/// From this part of the server's processor time on the generator's is worth a word.
const GENERATOR_SHARE_MAX: f64 = 0.5;

/// What a run is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Rate kept, every message accounted for.
    Good,
    /// The rate was missed or the generator was late: the figures say nothing. Exit code 3.
    Void,
    /// Messages lost, duplicated, misordered, altered or stray. Exit code 1.
    Faulty,
}

/// Processor time and disk space of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Costs {
    /// The sending thread's.
    pub send: Duration,
    /// The reading thread's.
    pub receive: Duration,
    /// The server's, if known.
    pub server: Option<Duration>,
    /// Messages acked between warm-up and end, and the server's processor time for them, if known.
    pub steady: Option<(u64, Duration)>,
    /// Bytes of the data folder after the run, if known.
    pub disk: Option<u64>,
    /// Bytes of the data folder before the run, if known.
    pub disk_before: Option<u64>,
}

/// How often the server gave one reason for a REJECT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectCount {
    /// The number behind `FB-`.
    pub code: u16,
    /// Its name.
    pub name: String,
    /// Frames rejected for it.
    pub frames: u64,
}

/// The report of one run. Every field is part of the `--json` output under this name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `good`, `void` or `faulty`.
    pub verdict: Verdict,
    /// Why the verdict is not `good`, each with its code.
    pub reasons: Vec<String>,
    /// `local`, `durable`, or empty when nothing was acked.
    pub ack_mode: String,
    /// What an ack of that mode promises.
    pub ack_mode_meaning: String,
    /// `constant`, `poisson`, or `saturation` (as fast as credit allows; no latencies).
    pub load: String,
    /// Sending endpoints.
    pub senders: usize,
    /// Connections that carried them.
    pub connections: usize,
    /// What carried the connections: `tcp`, `tls`, `quic` or `quic-datagram`.
    pub transport: String,
    /// Receiving endpoints.
    pub receivers: usize,
    /// Messages per frame.
    pub batch: u16,
    /// Length of synthetic bodies, or where real ones came from.
    pub bodies: String,
    /// Seconds in which messages became due, warm-up included.
    pub duration_s: f64,
    /// Seconds at the start that were not measured.
    pub warm_up_s: f64,
    /// Messages per second asked for after the warm-up; in saturation mode equal to `achieved_per_s`.
    pub offered_per_s: f64,
    /// Messages per second put on the wire after the warm-up; in saturation mode acked per second.
    pub achieved_per_s: f64,
    /// Messages put on the wire, warm-up included: `acked + rejected + unanswered`.
    pub sent: u64,
    /// Messages that were due after the warm-up and never put on the wire.
    pub unsent: u64,
    /// Messages acked.
    pub acked: u64,
    /// Messages rejected.
    pub rejected: u64,
    /// Messages neither acked nor rejected at the end.
    pub unanswered: u64,
    /// Whether deliveries were read back.
    pub read_back: bool,
    /// Deliveries owed to all receivers.
    pub expected: u64,
    /// Messages read back, each counted once per receiver.
    pub delivered: u64,
    /// Acked messages that a receiver did not get.
    pub undelivered: u64,
    /// `unanswered + undelivered`.
    pub lost: u64,
    /// Messages delivered twice without being announced as a further attempt.
    pub duplicated: u64,
    /// Announced further attempts (at-least-once delivery).
    pub redelivered: u64,
    /// Messages out of their sender's order.
    pub misordered: u64,
    /// Messages whose bytes changed.
    pub altered: u64,
    /// Messages nobody sent to their receiver in this run.
    pub stray: u64,
    /// Messages that were in the queues before the run.
    pub leftover: u64,
    /// Reasons of rejects.
    pub rejects: Vec<RejectCount>,
    /// From due to acked, ms.
    pub ack_ms: Option<Summary>,
    /// From put on the wire to acked, ms, a frame at a time: what an admitted one waited, however long it was held back before. Told of runs that
    /// are void as well.
    pub wire_ms: Option<Summary>,
    /// From due to read back, ms.
    pub delivery_ms: Option<Summary>,
    /// The generator's own lateness, ms: from due, or from when credit was there, to handed to the kernel.
    pub lateness_ms: Option<Summary>,
    /// Processor seconds of the server during the run.
    pub server_cpu_seconds: Option<f64>,
    /// Those per acked message, in nanoseconds.
    pub server_ns_per_message: Option<f64>,
    /// Messages acked between the end of the warm-up and the end of the run.
    pub steady_acked: Option<u64>,
    /// The server's processor time for each of them, in nanoseconds: without handshakes, warm-up and drain.
    pub steady_server_ns_per_message: Option<f64>,
    /// Processor seconds of the sending thread.
    pub generator_send_cpu_seconds: f64,
    /// Processor seconds of the reading thread.
    pub generator_receive_cpu_seconds: f64,
    /// Both per acked message, in nanoseconds.
    pub generator_ns_per_message: f64,
    /// In saturation mode, whether the sending or the reading thread was busy for 90 % of the run: then the generator is the limit, not
    /// the server. At a rate nothing is: the rate was asked for, and kept or missed.
    pub generator_is_limit: Option<bool>,
    /// Bytes of the data folder after the run.
    pub disk_bytes: Option<u64>,
    /// How much of them came during the run.
    pub disk_bytes_grown: Option<i64>,
    /// Senders, and flooders if there were any, with books of their own.
    pub classes: Vec<SenderRow>,
    /// Slow receivers, if there were any.
    pub slow_receivers: Option<SlowRow>,
    /// The storm of connections, if there was one.
    pub storm: Option<StormRow>,
    /// The first faults that verification found.
    pub evidence: Vec<String>,
    /// Connections that ended during the run.
    pub faults: Vec<String>,
}

impl Report {
    /// Put a report together and judge the run.
    pub(crate) fn new(
        plan: &LoadPlan,
        measured: &Measured,
        unsent: u64,
        delivery: &Latencies,
        books: Verification,
        costs: Costs,
        faults: Vec<String>,
    ) -> Self {
        let options = &plan.options;
        let saturated = options.rate == 0.0;
        let window = (options.duration - options.warm_up).as_secs_f64();
        let late_end = measured
            .last_sent
            .saturating_sub(options.warm_up.as_nanos() as u64) as f64
            / 1e9;
        let (offered, achieved) = match saturated {
            true => (
                measured.acked_in_time as f64 / window,
                measured.acked_in_time as f64 / window,
            ),
            false => (
                (measured.sent + unsent) as f64 / window,
                measured.sent as f64 / window.max(late_end),
            ),
        };
        let acked = books.acked.max(1) as f64;
        let generator = costs.send + costs.receive;
        let per_message = |cpu: Duration| cpu.as_nanos() as f64 / acked;
        let latencies = |latencies: &Latencies| if saturated { None } else { latencies.summary() };
        let (ack_mode, ack_mode_meaning) = mode(measured.ack_mode);
        let mut report = Self {
            verdict: Verdict::Good,
            reasons: Vec::new(),
            ack_mode,
            ack_mode_meaning,
            load: load(saturated, options.arrival),
            senders: plan.senders.len(),
            connections: plan.connections(),
            transport: plan.transport_name().to_owned(),
            receivers: plan.receivers.len(),
            batch: options.batch,
            bodies: bodies(plan),
            duration_s: options.duration.as_secs_f64(),
            warm_up_s: options.warm_up.as_secs_f64(),
            offered_per_s: offered,
            achieved_per_s: achieved,
            sent: books.sent,
            unsent,
            acked: books.acked,
            rejected: books.rejected,
            unanswered: books.unanswered,
            read_back: books.read_back,
            expected: books.expected,
            delivered: books.findings.delivered,
            undelivered: books.undelivered,
            lost: books.lost(),
            duplicated: books.findings.duplicated,
            redelivered: books.findings.redelivered,
            misordered: books.findings.misordered,
            altered: books.findings.altered,
            stray: books.findings.stray,
            leftover: books.findings.leftover,
            rejects: rejects(measured),
            ack_ms: latencies(&measured.ack),
            wire_ms: measured.wire.summary(),
            delivery_ms: latencies(delivery),
            lateness_ms: latencies(&measured.lateness),
            server_cpu_seconds: costs.server.map(|cpu| cpu.as_secs_f64()),
            server_ns_per_message: costs.server.map(per_message),
            steady_acked: costs.steady.map(|(acked, _)| acked),
            steady_server_ns_per_message: costs
                .steady
                .map(|(acked, cpu)| cpu.as_nanos() as f64 / acked.max(1) as f64),
            generator_send_cpu_seconds: costs.send.as_secs_f64(),
            generator_receive_cpu_seconds: costs.receive.as_secs_f64(),
            generator_ns_per_message: per_message(generator),
            generator_is_limit: saturated.then(|| is_limit(&costs, options.duration)),
            disk_bytes: costs.disk,
            disk_bytes_grown: costs
                .disk
                .zip(costs.disk_before)
                .map(|(after, before)| after as i64 - before as i64),
            classes: Vec::new(),
            slow_receivers: None,
            storm: None,
            evidence: books.evidence.clone(),
            faults,
        };
        report.judge(saturated, options, &books);
        report
    }

    fn judge(&mut self, saturated: bool, options: &LoadOptions, books: &Verification) {
        let behind = !saturated && self.achieved_per_s < ACHIEVED_LEAST * self.offered_per_s;
        if behind {
            // More was asked for than was carried: whatever was measured measures the queue in front of the server.
            self.verdict = Verdict::Void;
            self.load.push_str(", saturated");
            (self.ack_ms, self.delivery_ms, self.lateness_ms) = (None, None, None);
            self.reasons
                .push(diagnosis::missed_rate(self.offered_per_s, self.achieved_per_s).to_string());
        }
        if let (Some(late), Some(ack)) = (self.lateness_ms, self.ack_ms) {
            let most = options.lateness_share_max * ack.p50;
            if late.p99 > most {
                self.verdict = Verdict::Void;
                self.reasons
                    .push(diagnosis::generator_late(late.p99, most).to_string());
            }
        }
        // What still waits for its answer at the end of a run that is far behind is late, not lost.
        let late = behind && self.faults.is_empty() && books.clean_but_for_answers();
        // So is what datagrams lose, and what comes of it although nobody knew.
        let late = late || (options.datagrams && books.clean_but_for_answers());
        if !books.clean() && !late {
            self.verdict = Verdict::Faulty;
            let seen = format!(
                "{} lost, {} duplicated, {} misordered, {} altered, {} stray",
                self.lost, self.duplicated, self.misordered, self.altered, self.stray
            );
            self.reasons.push(diagnosis::unaccounted(seen).to_string());
        }
    }

    /// 0 for a good run, 1 for a faulty one, 3 for a void one.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Good => 0,
            Verdict::Faulty => 1,
            Verdict::Void => 3,
        }
    }

    /// The report as one JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers, texts and lists serialise")
    }
}

/// Whether a thread of the generator had no time left in a run of `duration`.
fn is_limit(costs: &Costs, duration: Duration) -> bool {
    let busiest = costs.send.max(costs.receive);
    busiest.as_secs_f64() >= BUSY_FULL * duration.as_secs_f64()
}

fn mode(mode: Option<AckMode>) -> (String, String) {
    let (name, meaning) = match mode {
        Some(AckMode::Local) => (
            "local",
            "in the log: survives a process crash, not a power loss",
        ),
        Some(AckMode::Durable) => ("durable", "synced to disk: survives a power loss"),
        None => ("", "nothing was acked"),
    };
    (name.to_owned(), meaning.to_owned())
}

fn load(saturated: bool, arrival: Arrival) -> String {
    match (saturated, arrival) {
        (true, _) => "saturation",
        (false, Arrival::Constant) => "constant",
        (false, Arrival::Poisson) => "poisson",
    }
    .to_owned()
}

fn bodies(plan: &LoadPlan) -> String {
    use crate::payload::PayloadSource;
    match &plan.options.payload {
        PayloadSource::Synthetic => format!("{} bytes, synthetic", plan.options.message_bytes),
        PayloadSource::Lines(path) => format!("lines of {}", path.display()),
        PayloadSource::Stdin => "lines of stdin".to_owned(),
        PayloadSource::Host => "readings of this machine".to_owned(),
    }
}

pub(crate) fn rejects(measured: &Measured) -> Vec<RejectCount> {
    let each = measured.reasons.iter().map(|(notice, frames)| RejectCount {
        code: notice.reason.code(),
        name: notice.reason.name().to_owned(),
        frames: *frames,
    });
    each.collect()
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "good",
            Verdict::Void => "VOID: do not use these figures",
            Verdict::Faulty => "FAULTY: messages are not accounted for",
        };
        writeln!(out, "verdict       {verdict}")?;
        self.reasons
            .iter()
            .try_for_each(|reason| writeln!(out, "              {reason}"))?;
        writeln!(
            out,
            "load          {}: {} senders on {} connections over {}, {} receivers, {} messages per frame, {}",
            self.load,
            self.senders,
            self.connections,
            self.transport,
            self.receivers,
            self.batch,
            self.bodies
        )?;
        writeln!(
            out,
            "acks          {}: {}",
            self.ack_mode, self.ack_mode_meaning
        )?;
        writeln!(
            out,
            "rate          {:.0} messages/s offered, {:.0} achieved",
            self.offered_per_s, self.achieved_per_s
        )?;
        writeln!(
            out,
            "messages      {} sent = {} acked + {} rejected + {} {}",
            self.sent,
            self.acked,
            self.rejected,
            self.unanswered,
            match self.transport.as_str() {
                "quic-datagram" => "lost on the way",
                _ => "unanswered",
            }
        )?;
        for reject in &self.rejects {
            writeln!(
                out,
                "              FB-{} {}: {} frames rejected",
                reject.code, reject.name, reject.frames
            )?;
        }
        self.write_read_back(out)?;
        for (name, figures) in [
            ("ack", self.ack_ms),
            ("wire to ack", self.wire_ms),
            ("delivery", self.delivery_ms),
            ("own lateness", self.lateness_ms),
        ] {
            if let Some(ms) = figures {
                writeln!(
                    out,
                    "{name:<13} p50 {:.3}  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3} ms",
                    ms.p50, ms.p90, ms.p99, ms.p999, ms.max
                )?;
            }
        }
        self.write_costs(out)?;
        self.write_rows(out)?;
        self.evidence
            .iter()
            .try_for_each(|line| writeln!(out, "evidence      {line}"))?;
        self.faults
            .iter()
            .try_for_each(|line| writeln!(out, "fault         {line}"))
    }
}

impl Report {
    fn write_read_back(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.read_back {
            return writeln!(out, "read back     nothing: the plan names no receiver");
        }
        write!(
            out,
            "read back     {} of {}: {} lost, {} duplicated, {} misordered, {} altered, {} stray",
            self.delivered,
            self.expected,
            self.lost,
            self.duplicated,
            self.misordered,
            self.altered,
            self.stray
        )?;
        for (count, name) in [
            (self.redelivered, "redelivered"),
            (self.leftover, "left over from before"),
        ] {
            if count > 0 {
                write!(out, ", {count} {name}")?;
            }
        }
        out.write_char('\n')
    }

    /// Rows only where there is more than one kind of peer.
    fn write_rows(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.classes.len() > 1 {
            self.classes
                .iter()
                .try_for_each(|class| write!(out, "{class}"))?;
        }
        if let Some(slow) = &self.slow_receivers {
            write!(out, "{slow}")?;
        }
        match &self.storm {
            Some(storm) => write!(out, "{storm}"),
            None => Ok(()),
        }
    }

    fn write_costs(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(seconds), Some(each)) = (self.server_cpu_seconds, self.server_ns_per_message) {
            writeln!(
                out,
                "server        {seconds:.3} s of processor time, {each:.0} ns per message"
            )?;
        }
        let seconds = self.generator_send_cpu_seconds + self.generator_receive_cpu_seconds;
        let each = self.generator_ns_per_message;
        write!(
            out,
            "generator     {seconds:.3} s of processor time, {each:.0} ns per message"
        )?;
        let server = self.server_cpu_seconds.unwrap_or(f64::INFINITY);
        let remark = match self.generator_is_limit {
            Some(true) => "; a thread of it had no time left: the generator is the limit",
            _ if seconds > GENERATOR_SHARE_MAX * server => "; more than half of the server's",
            _ => "",
        };
        writeln!(out, "{remark}")?;
        if let Some(bytes) = self.disk_bytes {
            writeln!(
                out,
                "disk          {:.1} MiB in the data folder",
                bytes as f64 / f64::from(1 << 20)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_limit_when_a_thread_of_it_has_no_time_left_whatever_the_server_costs() {
        let run = Duration::from_secs(10);
        let seconds = Duration::from_secs_f64;
        for (why, send, receive, server, want) in [
            ("dearer than the server, and idle", 6.0, 0.0, 9.9, false),
            ("cheaper than the server, and full", 9.5, 0.0, 70.0, true),
            ("the thread that reads", 1.0, 9.2, 70.0, true),
            ("two that have time left", 6.0, 6.0, 9.0, false),
        ] {
            let costs = Costs {
                send: seconds(send),
                receive: seconds(receive),
                server: Some(seconds(server)),
                ..Costs::default()
            };
            assert_eq!(is_limit(&costs, run), want, "{why}");
        }
    }
}
