//! Text in the making: families, their lines, histograms.

use std::fmt::{Display, Write as _};

use crate::distribution::Distribution;
use crate::durations::Durations;
use crate::status::Snapshot;

/// Text in the making.
pub(in crate::admin) struct Page(String);

impl Page {
    pub(super) fn new() -> Self {
        Self(String::with_capacity(16 << 10))
    }

    pub(super) fn text(self) -> String {
        self.0
    }

    pub(in crate::admin) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(in crate::admin) fn line(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) {
        self.0.push_str(name);
        let mut before = '{';
        for (label, text) in labels {
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(text));
            before = ',';
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.line(name, &[], value);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, &[], value);
    }

    /// One counter with one label.
    pub(super) fn counters<V: Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        rows: &[(&str, V)],
    ) {
        self.head(name, "counter", help);
        for (text, value) in rows {
            self.line(name, &[(label, text)], value);
        }
    }

    /// One family with the shard and one more label: name, kind, help, label.
    pub(in crate::admin) fn each_by<const N: usize>(
        &mut self,
        (name, kind, help, label): (&str, &str, &str, &str),
        shards: &[Snapshot],
        rows: impl Fn(&Snapshot) -> [(&'static str, u64); N],
    ) {
        self.head(name, kind, help);
        for (number, one) in shards.iter().enumerate() {
            for (text, value) in rows(one) {
                let number = number.to_string();
                self.line(name, &[("shard", &number), (label, text)], value);
            }
        }
    }

    /// A histogram of every shard, with bounds at powers of two of its unit. `shown` turns a value into what the name says.
    pub(in crate::admin) fn distributions<const UNIT: u64>(
        &mut self,
        (name, help): (&str, &str),
        (first, last): (u32, u32),
        shards: &[Snapshot],
        of: impl Fn(&Snapshot) -> Distribution<UNIT>,
        shown: impl Fn(u64) -> f64,
    ) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (number, one) in shards.iter().enumerate() {
            let number = number.to_string();
            let (shard, values) = (("shard", &*number), of(one));
            for (bound, count) in values.up_to(first, last) {
                let bound = shown(bound).to_string();
                self.line(&bucket, &[shard, ("le", &bound)], count);
            }
            self.line(&bucket, &[shard, ("le", "+Inf")], values.count());
            self.line(&format!("{name}_sum"), &[shard], shown(values.sum()));
            self.line(&format!("{name}_count"), &[shard], values.count());
        }
    }

    pub(super) fn durations(&mut self, name: &str, help: &str, durations: &Durations) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in durations.up_to() {
            let bound = bound.as_secs_f64().to_string();
            self.line(&bucket, &[("le", &bound)], count);
        }
        self.line(&bucket, &[("le", "+Inf")], durations.count());
        self.line(&format!("{name}_sum"), &[], durations.sum().as_secs_f64());
        self.line(&format!("{name}_count"), &[], durations.count());
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Nanoseconds as seconds.
pub(in crate::admin) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
