//! The process and its plan: what is known without the shards.

use wire::route::RouteTable;

use super::Page;
use crate::status::{Phase, Snapshot, Status, ack_words};

pub(super) fn process(page: &mut Page, status: &Status, shards: &[Snapshot]) {
    if let Some(seconds) = process_cpu_seconds() {
        let name = "process_cpu_seconds_total";
        page.counter(name, "Processor time of this process.", seconds);
    }
    let name = "forebay_shard_cpu_seconds_total";
    page.head(name, "counter", "Processor time of a shard's thread.");
    for shard in 0..status.shards() {
        // Of the same moment as the shard's other numbers, if it has told them.
        let told = shards.get(shard).map(|one| one.cpu.as_secs_f64());
        if let Some(seconds) = told.or_else(|| status.shard_cpu_seconds(shard)) {
            page.line(name, &[("shard", &shard.to_string())], seconds);
        }
    }
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        page.gauge(name, "Memory of this process in use.", bytes);
    }
    let name = "forebay_build_info";
    page.head(name, "gauge", "The version that runs; always 1.");
    page.line(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
}

pub(super) fn control(page: &mut Page, status: &Status, table: &RouteTable) {
    let refuses = status.supply().is_some_and(|supply| supply.refuses);
    let ready = status.phase() == Phase::Ready && status.still().is_empty() && !refuses;
    let ready = u8::from(ready);
    page.gauge("forebay_ready", "1 when the node serves.", ready);
    let name = "forebay_shard_silent_seconds";
    let help = "Time since a shard last looked for work; one that serves does so every second.";
    page.head(name, "gauge", help);
    for shard in 0..status.shards() {
        if let Some(silent) = status.silent(shard) {
            let silent = silent.as_secs_f64();
            page.line(name, &[("shard", &shard.to_string())], silent);
        }
    }
    let (done, all) = status.progress();
    let ratio = match all {
        0 => 0.0,
        all => done as f64 / all as f64,
    };
    let name = "forebay_recovery_progress_ratio";
    page.gauge(name, "Share of the logs that are open.", ratio);
    let stale = u8::from(status.config_stale());
    let name = "forebay_config_stale";
    page.gauge(name, "1 when the last new plan was refused.", stale);
    let name = "forebay_reloads_refused_total";
    page.counter(name, "New plans refused.", status.reloads_refused());
    let (unopened, failed) = status.unopened();
    let name = "forebay_hubs_unopened";
    let help = "Hubs of the table that are not served since their logs cannot be opened.";
    page.gauge(name, help, unopened);
    let name = "forebay_hub_opens_failed_total";
    let help = "Tries to open the logs of such a hub that failed.";
    page.counter(name, help, failed);
    let name = "forebay_ack_mode";
    page.head(
        name,
        "gauge",
        "What an ACK of a hub promises, in words; always 1.",
    );
    for (hub, words) in ack_words(table) {
        page.line(name, &[("hub", &hub), ("mode", words)], 1);
    }
}

/// Where tables come from.
pub(super) fn supply(page: &mut Page, status: &Status) {
    let Some(supply) = status.supply() else {
        return;
    };
    let name = "forebay_control_connected";
    let help = "1 while the control plane in another process is connected.";
    page.gauge(name, help, u8::from(supply.connected));
    let name = "forebay_table_age_seconds";
    let help = "Time since the route table was the control plane's newest for certain.";
    page.gauge(name, help, supply.age.as_secs_f64());
    let name = "forebay_table_stale";
    let help = "1 when that is longer than node.stale_after.";
    page.gauge(name, help, u8::from(supply.stale));
}

/// User and system time of all threads, dead ones included.
fn process_cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; fields are counted behind it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // The kernel reports in USER_HZ, which is 100 on every architecture Linux runs this on.
    Some(ticks as f64 / 100.0)
}

pub(in crate::admin) fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
