//! What quickstart says at the end: what happened, and the next three commands.

use std::fmt;
use std::path::PathBuf;

use control::quantity::show_bytes;
use loadgen::Report;
use wire::ids::AckMode;

use super::files::Made;
use crate::config::meaning;

/// What the first run sends, and what all others do.
const TITLES: [&str; 2] = ["host telemetry", "synthetic load"];
/// Columns of the table behind the two that name a run.
const COLUMNS: [&str; 8] = [
    "messages",
    "asked/s",
    "sent/s",
    "ack p50",
    "ack p99",
    "read p50",
    "read p99",
    "server CPU",
];

/// The runs and the folder they ran in.
pub(super) struct Outcome {
    made: Made,
    logs: PathBuf,
    runs: Vec<Report>,
    /// What the plan says: where nothing was acked no report tells.
    ack: AckMode,
}

impl Outcome {
    pub(super) fn new(made: Made, logs: PathBuf, runs: Vec<Report>, ack: AckMode) -> Self {
        Self {
            made,
            logs,
            runs,
            ack,
        }
    }

    fn total(&self, field: impl Fn(&Report) -> u64) -> u64 {
        self.runs.iter().map(field).sum()
    }

    /// Whether every message was acked and read back once, in order and unchanged.
    pub(super) fn complete(&self) -> bool {
        self.runs.iter().all(|run| {
            let wrong =
                run.lost + run.rejected + run.duplicated + run.misordered + run.altered + run.stray;
            run.read_back
                && run.acked > 0
                && run.acked == run.sent
                && wrong == 0
                && run.delivered >= run.acked
        })
    }

    /// The counts that must be zero.
    pub(super) fn faults(&self) -> String {
        format!(
            "{} lost, {} duplicated, {} misordered, {} stray, {} altered, {} rejected",
            self.total(|run| run.lost),
            self.total(|run| run.duplicated),
            self.total(|run| run.misordered),
            self.total(|run| run.stray),
            self.total(|run| run.altered),
            self.total(|run| run.rejected)
        )
    }

    /// The next three commands; each works when typed, the second while the first runs.
    fn next(&self) -> [String; 3] {
        let program = std::env::args()
            .next()
            .unwrap_or_else(|| "forebay".to_owned());
        let (config, plan) = (self.made.config.display(), self.made.plan.display());
        [
            format!("{program} run --config {config}"),
            format!("{program} load --config {config} --rate 5000 --batch 8 --lateness 2"),
            format!("{program} log verify {} --plan {plan}", self.logs.display()),
        ]
    }

    /// The first run, and the others by their transport.
    fn runs_by_name(&self) -> serde_json::Value {
        let name = |(index, run): (usize, &Report)| match index {
            0 => "host".to_owned(),
            _ => run.transport.clone(),
        };
        let all = self.runs.iter().enumerate();
        let all = all.map(|each| (name(each), serde_json::json!(each.1)));
        serde_json::Value::Object(all.collect())
    }

    fn disk(&self) -> Option<u64> {
        self.runs.last().and_then(|run| run.disk_bytes)
    }

    fn ack_mode(&self) -> &'static str {
        match self.ack {
            AckMode::Durable => "durable",
            AckMode::Local => "local",
        }
    }

    /// The promise of the ack mode in plain words.
    fn promise(&self) -> &'static str {
        meaning(self.ack)
    }

    /// What to do when not everything was read back.
    pub(super) fn remedy(&self) -> String {
        let mut reasons = self.runs.iter().flat_map(|run| &run.rejects);
        match reasons.next() {
            Some(reason) => format!(
                "`forebay explain FB-{}` says why messages were rejected ({}), {} when",
                reason.code,
                reason.name,
                self.made.folder.join("node.log").display()
            ),
            None => "run the `forebay log verify` above and report what it says".to_owned(),
        }
    }

    /// Everything as one JSON object.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "ok": self.complete(),
            "folder": self.made.folder, "config": self.made.config, "plan": self.made.plan, "logs": self.logs,
            "ack_mode": self.ack_mode(), "ack_mode_meaning": self.promise(),
            "sent": self.total(|run| run.sent), "acked": self.total(|run| run.acked),
            "delivered": self.total(|run| run.delivered), "rejected": self.total(|run| run.rejected),
            "lost": self.total(|run| run.lost), "duplicated": self.total(|run| run.duplicated),
            "misordered": self.total(|run| run.misordered), "stray": self.total(|run| run.stray),
            "altered": self.total(|run| run.altered), "disk_bytes": self.disk(),
            "runs": self.runs_by_name(),
            "next": self.next(),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.complete() {
            "all of them read back"
        } else {
            "NOT all of them read back"
        };
        writeln!(
            out,
            "{} signed messages sent, {all}:",
            count(self.total(|run| run.sent))
        )?;
        writeln!(out, "{}\n", self.faults())?;
        writeln!(out, "ack mode    {}: {}\n", self.ack_mode(), self.promise())?;
        write!(out, "{:<16}{:<6}", "", "over")?;
        COLUMNS
            .iter()
            .try_for_each(|column| write!(out, "{column:>12}"))?;
        writeln!(out)?;
        for (index, run) in self.runs.iter().enumerate() {
            write!(out, "{:<16}{:<6}", TITLES[index.min(1)], run.transport)?;
            let cells = cells(run);
            cells
                .iter()
                .try_for_each(|cell| write!(out, "{cell:>12}"))?;
            writeln!(out)?;
            writeln!(out, "{:<22}  {}", "", faults_of(run))?;
        }
        if let Some(bytes) = self.disk() {
            writeln!(
                out,
                "\non disk     {} in {}, segments prepared ahead included",
                show_bytes(bytes),
                self.logs.display()
            )?;
        }
        writeln!(
            out,
            "Times count from the moment a message was due to its ack, and until it was read back; processor time is the server's for each message.\nNode and load generator share this machine.\n"
        )?;
        writeln!(out, "Next (load wants a second terminal beside run):")?;
        self.next()
            .iter()
            .try_for_each(|command| writeln!(out, "  {command}"))
    }
}

/// The figures of a run, as the columns say.
fn cells(run: &Report) -> [String; 8] {
    let none = || "-".to_owned();
    let ms = |value: Option<f64>| value.map_or_else(none, |ms| format!("{ms:.2} ms"));
    let (ack, end) = (run.ack_ms.as_ref(), run.delivery_ms.as_ref());
    let cpu = run.server_ns_per_message;
    [
        count(run.sent),
        count(run.offered_per_s as u64),
        count(run.achieved_per_s as u64),
        ms(ack.map(|ack| ack.p50)),
        ms(ack.map(|ack| ack.p99)),
        ms(end.map(|end| end.p50)),
        ms(end.map(|end| end.p99)),
        cpu.map_or_else(none, |cpu| format!("{:.1} µs", cpu / 1e3)),
    ]
}

/// The counts of a run that must be zero.
fn faults_of(run: &Report) -> String {
    format!(
        "{} lost, {} duplicated, {} misordered, {} stray, {}",
        run.lost, run.duplicated, run.misordered, run.stray, run.ack_mode
    )
}

/// A count with its thousands apart.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
