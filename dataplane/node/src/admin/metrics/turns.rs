//! Turns of the shards, the ring below them, and what they say to each other.

use super::{Page, seconds};
use crate::status::Snapshot;

pub(super) fn shard(page: &mut Page, snapshot: &Snapshot) {
    let ring = &snapshot.ring;
    page.counter(
        "forebay_shard_turns_total",
        "Turns made.",
        snapshot.counters.turns,
    );
    page.counter(
        "forebay_shard_sleeps_total",
        "Times the shard slept.",
        snapshot.idle_waits,
    );
    let name = "forebay_shard_turns_cut_total";
    page.counter(
        name,
        "Turns that left events to the next one.",
        snapshot.turns_cut_short,
    );
    let name = "forebay_shard_turn_seconds_max";
    let longest = seconds(snapshot.turns.max());
    page.gauge(name, "Longest turn since the start.", longest);
    let fair = &snapshot.fair;
    let name = "forebay_shard_turns_full_total";
    let help = "Turns that left received bytes to the next one, to be short.";
    page.counter(name, help, fair.turns_full);
    let name = "forebay_turn_wait_seconds";
    let help = "How long what was received waited for its turn while turns were full.";
    page.durations(name, help, &fair.waits);
    let name = "forebay_turn_wait_light_seconds";
    let help = "The same for sessions that send little.";
    page.durations(name, help, &fair.waits_light);
    let name = "forebay_route_table_revision";
    page.gauge(name, "Epoch of the table in force.", snapshot.epoch);
    page.counter(
        "forebay_ring_enters_total",
        "Calls into the kernel by the ring.",
        ring.enters,
    );
    page.counter(
        "forebay_ring_completions_total",
        "Completions taken.",
        ring.completions,
    );
    page.counter(
        "forebay_ring_overflow_total",
        "Completion queue overflows.",
        ring.completion_overflows,
    );
    page.counter(
        "forebay_buffer_ring_empty_total",
        "Receives ended for want of a buffer.",
        ring.enobufs,
    );
    page.gauge(
        "forebay_buffers_free",
        "Receive buffers the kernel may fill.",
        snapshot.buffers_free,
    );
    page.counter("forebay_sends_total", "Sends started.", ring.sends);
    page.counter("forebay_sent_bytes_total", "Bytes sent.", ring.sent_bytes);
    page.counter(
        "forebay_partial_sends_total",
        "Sends taken in part.",
        ring.partial_sends,
    );
}

/// What passed between shards, all of them together; a node of one has nothing to tell.
pub(super) fn mesh(page: &mut Page, sum: &Snapshot) {
    let Some(mesh) = &sum.mesh else { return };
    let rows = [
        ("sent", mesh.sent),
        ("received", mesh.received),
        ("refused_full", mesh.full),
    ];
    let help = "What shards said to each other, connections that moved included.";
    page.counters("forebay_mesh_items_total", help, "event", &rows);
    let name = "forebay_mesh_doorbells_total";
    let asleep = mesh.doorbells - mesh.doorbells_awake;
    let rows = [("asleep", asleep), ("awake", mesh.doorbells_awake)];
    page.counters(
        name,
        "Times a shard was told, by whether it slept.",
        "peer",
        &rows,
    );
    let name = "forebay_connections_moved_total";
    let help = "Connections that went to the shard of their endpoint.";
    page.counter(name, help, sum.counters.mesh.handed_over_out);
    let name = "forebay_connections_moved_refused_total";
    page.counter(
        name,
        "Of these, closed for want of room.",
        sum.refused_moves,
    );
    let hops = &sum.counters.mesh;
    let rows = [
        ("direct", hops.frames_out),
        ("envelope", hops.envelopes_out),
    ];
    let name = "forebay_mesh_frames_total";
    let help = "Frames that came to another shard than their log's; of a sender whose logs are all at home, none.";
    page.counters(name, help, "frame", &rows);
}

/// Divide by `forebay_append_messages_total` for what a message costs in each stage.
#[cfg(feature = "cycles")]
pub(super) fn cycles(page: &mut Page, snapshot: &Snapshot) {
    let spent = &snapshot.counters.cycles;
    let rows = shard::Stage::ALL.map(|stage| (stage.name(), spent.of(stage)));
    page.counters(
        "forebay_stage_cycles_total",
        "Cycles of the time stamp counter that turns took, by stage.",
        "stage",
        &rows,
    );
}
