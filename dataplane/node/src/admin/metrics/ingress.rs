//! Who comes in, what of theirs is good, who is kept out, and what is shed for want of memory.

use wire::reason::Reason;

use super::Page;
use crate::status::Snapshot;

pub(super) fn ingress(page: &mut Page, snapshot: &Snapshot) {
    let counters = &snapshot.counters;
    let name = "forebay_connections";
    page.head(name, "gauge", "Connections open.");
    page.line(name, &[("protocol", "tcp")], snapshot.connections);
    let accepted = counters.accept.connections;
    page.counter("forebay_accepts_total", "Connections accepted.", accepted);
    let name = "forebay_accepts_refused_total";
    let refused = counters.accept.connections_refused + snapshot.ring.accepts_refused;
    page.counter(name, "Connections refused for want of room.", refused);
    let name = "forebay_connections_crowded_total";
    let rows = [
        ("address", counters.accept.addresses_crowded),
        ("strangers", counters.accept.strangers_crowded_out),
    ];
    let help = "Connections refused because their address had too many, and closed because too many had no session.";
    page.counters(name, help, "bound", &rows);
    let name = "forebay_strangers";
    let help = "Connections whose peer has not proven who they are.";
    page.gauge(name, help, snapshot.strangers);
    page.gauge(
        "forebay_sessions",
        "Sessions, connected or lingering.",
        snapshot.sessions,
    );
    let session = &counters.session;
    let rows = [
        ("welcomed", session.welcomed),
        ("resumed", session.resumed),
        ("refused", session.refused),
        ("ended", session.ended),
    ];
    page.counters(
        "forebay_handshakes_total",
        "Handshakes and ends of sessions.",
        "result",
        &rows,
    );
    let name = "forebay_received_bytes_total";
    page.counter(name, "Bytes received.", counters.accept.bytes);
    let name = "forebay_received_frames_total";
    page.counter(name, "Whole frames found.", counters.parse.frames);
    let name = "forebay_assembled_frames_total";
    page.counter(
        name,
        "Frames that straddled buffers.",
        counters.parse.assembled_frames,
    );
    let name = "forebay_assembly_bytes";
    page.gauge(
        name,
        "Bytes reserved for such frames.",
        snapshot.assembly_bytes,
    );
    let name = "forebay_rejects_total";
    page.head(name, "counter", "Refusals, by reason.");
    for (code, count) in &counters.reasons {
        let reason = Reason::from_code(*code).map_or("unknown", Reason::name);
        page.line(
            name,
            &[("code", &format!("FB-{code}")), ("reason", reason)],
            count,
        );
    }
}

pub(super) fn verify(page: &mut Page, snapshot: &Snapshot) {
    let verify = &snapshot.counters.verify;
    let rows = [
        ("session", verify.session_frames),
        ("key", verify.key_envelopes),
        ("ed25519", verify.ed25519_envelopes),
    ];
    page.counters(
        "forebay_verified_frames_total",
        "Frames with a good signature.",
        "signature",
        &rows,
    );
    let name = "forebay_bad_signatures_total";
    page.counter(name, "Frames with a bad signature.", verify.bad_signatures);
    let name = "forebay_routed_frames_total";
    page.counter(
        name,
        "Frames that may go where they want to.",
        snapshot.counters.route.frames,
    );
}

/// Who is kept out for connecting or failing too often.
pub(super) fn bans(page: &mut Page, snapshot: &Snapshot) {
    let shed = &snapshot.counters.shed;
    let banned = snapshot.banned.iter();
    let addresses = banned.filter(|ban| matches!(ban.who, shard::Barred::Address(_)));
    let addresses = addresses.count();
    let keys = snapshot.banned.len() - addresses;
    let name = "forebay_banned";
    page.head(name, "gauge", "Who is kept out now; /bans names them.");
    page.line(name, &[("who", "address")], addresses);
    page.line(name, &[("who", "key")], keys);
    let rows = [("address", shed.address_bans), ("key", shed.key_bans)];
    page.counters("forebay_bans_total", "Bans that began.", "who", &rows);
    let name = "forebay_kept_out_total";
    let rows = [
        ("address_banned", shed.banned_addresses),
        ("key_banned", shed.banned_keys),
        ("accepts_limited", shed.accepts),
    ];
    page.counters(name, "Connections not let in, by reason.", "reason", &rows);
}

/// What the shards use of their memory budgets, and what they shed because of it.
pub(super) fn memory(page: &mut Page, sum: &Snapshot, shards: &[Snapshot]) {
    let name = "forebay_memory_bytes";
    page.head(name, "gauge", "Memory of all shards in use, by kind.");
    for (kind, bytes) in sum.memory.used.kinds() {
        page.line(name, &[("kind", kind)], bytes);
    }
    let shed = &sum.counters.shed;
    let rows = [
        ("connections", shed.connections),
        ("strangers", shed.strangers),
        ("low_priority_frames", shed.low_priority_frames),
        ("normal_frames", shed.normal_frames),
        ("stuck_connections", shed.stuck),
        ("high_waters", shed.high_waters),
        ("turns_held_back", sum.fair.turns_held_back),
    ];
    let help = "What was refused or ended because memory was short, how often it was, and turns that left senders unread.";
    page.counters("forebay_shed_total", help, "what", &rows);
    let name = "forebay_shard_pressure";
    let help = "How far a shard's memory is used: 3 it sheds messages of low priority, 4 all new messages.";
    page.head(name, "gauge", help);
    for (shard, snapshot) in shards.iter().enumerate() {
        let step = snapshot.memory.pressure as u64;
        page.line(name, &[("shard", &shard.to_string())], step);
    }
    let name = "forebay_shard_door";
    let help = "The same without what waits in queues: from 1 on it sheds new connections, from 2 on strangers.";
    page.head(name, "gauge", help);
    for (shard, snapshot) in shards.iter().enumerate() {
        let step = snapshot.memory.door as u64;
        page.line(name, &[("shard", &shard.to_string())], step);
    }
}
