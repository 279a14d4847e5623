//! The part of the page that tells shards apart: every family has the label `shard`, and all values of a shard are of one moment
//! between two of its turns.

use super::metrics::{Page, seconds};
use crate::status::{Snapshot, Status};

/// A family with one value of each shard: kind, name, help, value.
type Family = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Snapshot) -> f64,
);

const FAMILIES: [Family; 17] = [
    (
        "counter",
        "forebay_shard_seconds_total",
        "Time since a shard began to serve, when it told its numbers.",
        |one| one.at.as_secs_f64(),
    ),
    (
        "counter",
        "forebay_shard_received_bytes_total",
        "Bytes a shard received.",
        |one| one.counters.accept.bytes as f64,
    ),
    (
        "counter",
        "forebay_shard_received_frames_total",
        "Whole frames a shard found.",
        |one| one.counters.parse.frames as f64,
    ),
    (
        "counter",
        "forebay_shard_appended_messages_total",
        "Messages a shard wrote.",
        |one| one.counters.append.messages as f64,
    ),
    (
        "counter",
        "forebay_shard_messages_total",
        "Messages a shard committed.",
        |one| one.counters.commit.messages as f64,
    ),
    (
        "counter",
        "forebay_shard_refused_total",
        "Refusals by a shard, whatever the reason.",
        |one| one.counters.reasons.values().sum::<u64>() as f64,
    ),
    (
        "counter",
        "forebay_shard_delivered_total",
        "Messages a shard delivered.",
        |one| one.counters.deliver.messages as f64,
    ),
    (
        "counter",
        "forebay_shard_sent_bytes_total",
        "Bytes a shard sent.",
        |one| one.ring.sent_bytes as f64,
    ),
    (
        "gauge",
        "forebay_shard_connections",
        "Connections of a shard.",
        |one| one.connections.into(),
    ),
    (
        "gauge",
        "forebay_shard_sessions",
        "Sessions of a shard, connected or lingering.",
        |one| one.sessions as f64,
    ),
    (
        "gauge",
        "forebay_shard_partitions",
        "Partitions a shard owns.",
        |one| one.partitions_owned() as f64,
    ),
    (
        "gauge",
        "forebay_shard_queue_groups",
        "Queue groups a shard owns.",
        |one| (one.partitions.len() - one.partitions_owned()) as f64,
    ),
    (
        "gauge",
        "forebay_shard_buffers",
        "Receive buffers of a shard.",
        |one| one.buffers as f64,
    ),
    (
        "gauge",
        "forebay_shard_buffers_free",
        "Receive buffers of a shard that are free.",
        |one| one.buffers_free as f64,
    ),
    (
        "gauge",
        "forebay_shard_hottest_endpoint_ratio",
        "Share of the endpoint that sent most messages to a shard in the last seconds.",
        |one| share(&one.hottest.endpoints_by_messages),
    ),
    (
        "gauge",
        "forebay_shard_hottest_channel_ratio",
        "Share of the channel that most messages were sent to in the last seconds.",
        |one| share(&one.hottest.channels_by_messages),
    ),
    (
        "gauge",
        "forebay_shard_sample_frames",
        "One in so many frames is looked at for these two.",
        |one| one.hottest.one_in.into(),
    ),
];

/// The part of the first one of a ranking by messages.
fn share<K>(ranking: &shard::Ranking<K>) -> f64 {
    let first = ranking.rows.first().map_or(0.0, |row| row.messages);
    match ranking.total > 0.0 {
        true => first / ranking.total,
        false => 0.0,
    }
}

/// Bounds of turn times: 1 µs, 2 µs, and so on to about 8 s, of batches: 1 to 65,536.
const TURN_POWERS: (u32, u32) = (2, 25);
const BATCH_POWERS: (u32, u32) = (0, 16);

/// Everything that is told of each shard.
pub(super) fn shards(page: &mut Page, status: &Status, shards: &[Snapshot]) {
    let name = "forebay_shard_info";
    page.head(name, "gauge", "Where a shard runs; always 1.");
    for number in 0..shards.len() {
        let cpu = status.cpu(number);
        let cpu = cpu.map_or("any".to_owned(), |cpu| cpu.to_string());
        page.line(name, &[("shard", &number.to_string()), ("cpu", &cpu)], 1);
    }
    for (kind, name, help, value) in FAMILIES {
        page.head(name, kind, help);
        for (number, one) in shards.iter().enumerate() {
            page.line(name, &[("shard", &number.to_string())], value(one));
        }
    }
    let name = "forebay_shard_turn_seconds";
    let help = "How long turns took.";
    page.distributions((name, help), TURN_POWERS, shards, |one| one.turns, seconds);
    let whole = |count: u64| count as f64;
    let name = "forebay_shard_batch_frames";
    let help = "Frames a turn found, of turns that found any.";
    let of = |one: &Snapshot| one.batch_frames;
    page.distributions((name, help), BATCH_POWERS, shards, of, whole);
    let name = "forebay_shard_batch_messages";
    let help = "Messages a turn wrote, of turns that wrote any.";
    let of = |one: &Snapshot| one.batch_messages;
    page.distributions((name, help), BATCH_POWERS, shards, of, whole);
    memory(page, shards);
    if shards.iter().any(|one| one.mesh.is_some()) {
        mesh(page, shards);
    }
}

fn memory(page: &mut Page, shards: &[Snapshot]) {
    let name = "forebay_shard_memory_bytes";
    let help = "Memory of a shard that grows with load, by what it is used for.";
    page.each_by((name, "gauge", help, "kind"), shards, Snapshot::memory);
    if shards.iter().any(|one| one.memory_budget_bytes().is_some()) {
        let name = "forebay_shard_memory_budget_bytes";
        page.head(name, "gauge", "What all of it together may be.");
        for (number, one) in shards.iter().enumerate() {
            if let Some(bytes) = one.memory_budget_bytes() {
                page.line(name, &[("shard", &number.to_string())], bytes);
            }
        }
    }
}

fn mesh(page: &mut Page, shards: &[Snapshot]) {
    let name = "forebay_shard_mesh_items_total";
    let help = "What a shard said to others and heard from them, connections included.";
    page.each_by((name, "counter", help, "event"), shards, |one| {
        let mesh = one.mesh.unwrap_or_default();
        [
            ("sent", mesh.sent),
            ("received", mesh.received),
            ("refused_full", mesh.full),
        ]
    });
    let name = "forebay_shard_mesh_frames_total";
    let help =
        "Frames that crossed to the shard that owns their log, envelopes included, by direction.";
    page.each_by((name, "counter", help, "direction"), shards, |one| {
        let mesh = &one.counters.mesh;
        [
            ("out", mesh.frames_out + mesh.envelopes_out),
            ("in", mesh.frames_in + mesh.envelopes_in),
        ]
    });
    let name = "forebay_shard_connections_moved_total";
    let help = "Connections that moved to the shard of their endpoint, by direction.";
    page.each_by((name, "counter", help, "direction"), shards, |one| {
        let mesh = &one.counters.mesh;
        [("out", mesh.handed_over_out), ("in", mesh.handed_over_in)]
    });
    let name = "forebay_shard_mesh_doorbells_total";
    let help = "Times a shard told others that there is something, by whether they slept.";
    page.each_by((name, "counter", help, "peer"), shards, |one| {
        let mesh = one.mesh.unwrap_or_default();
        [
            ("asleep", mesh.doorbells - mesh.doorbells_awake),
            ("awake", mesh.doorbells_awake),
        ]
    });
}
