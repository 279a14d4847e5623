//! What QUIC does.

use super::Page;
use crate::accept::quic::counters::QuicCounters;
use crate::status::Snapshot;

/// What became of frames that came in datagrams.
fn frames(page: &mut Page, sum: &Snapshot, quic: &QuicCounters) {
    let loose = &sum.counters.datagram;
    let rows = [
        ("appended", loose.appended),
        ("no_lane", quic.loose_without_lane),
        ("no_room", quic.loose_crowded_out),
        ("no_session", loose.strangers),
        ("malformed", loose.malformed),
        ("unverified", loose.unverified),
        ("refused", loose.refused),
        ("elsewhere", loose.elsewhere),
        ("duplicate", loose.duplicates),
        ("late", loose.late),
        ("superseded", loose.superseded),
    ];
    let name = "forebay_quic_datagram_frames_total";
    let help = "Frames that came in datagrams, by what became of them; all but those appended are dropped.";
    page.counters(name, help, "result", &rows);
    let name = "forebay_quic_datagram_numbers_left_out_total";
    let help = "Numbers below one appended from a datagram that had not come by then.";
    page.counter(name, help, loose.left_out);
}

/// What QUIC does, if it is spoken.
pub(super) fn quic(page: &mut Page, sum: &Snapshot) {
    let Some(quic) = &sum.quic else { return };
    let name = "forebay_quic_connections";
    let rows = [
        ("handshake", quic.handshaking),
        ("open", quic.connections.saturating_sub(quic.handshaking)),
    ];
    page.head(name, "gauge", "QUIC connections, by how far they are.");
    for (state, value) in rows {
        page.line(name, &[("state", state)], value);
    }
    let name = "forebay_quic_lanes";
    page.gauge(
        name,
        "Streams of QUIC connections that are open.",
        quic.lanes,
    );
    let name = "forebay_quic_retrying_shards";
    let help = "Shards on which QUIC clients have to prove their address now (Retry).";
    page.gauge(name, help, quic.retrying);
    let name = "forebay_quic_retry_periods_total";
    page.counter(name, "Times that began on a shard.", quic.retry_began);
    quic_handshakes(page, quic);
    let ring = &sum.ring;
    let rows = [
        ("received", quic.datagrams_in),
        ("belong_to_nothing", quic.datagrams_dropped),
        ("unreadable", ring.datagrams_unreadable),
        ("astray", quic.datagrams_astray),
        ("sent", quic.datagrams_out),
        ("unsent", quic.datagrams_unsent + quic.responses_dropped),
        ("held_back", quic.datagrams_held_back),
        ("refused_by_kernel", ring.datagram_sends_failed),
    ];
    let help = "Datagrams of QUIC; astray: those whose connection ID names another shard than they came to; held_back: too much for an address that is not proven.";
    page.counters("forebay_quic_datagrams_total", help, "event", &rows);
    frames(page, sum, quic);
    let rows = [
        ("received", ring.datagram_trains),
        ("sent", ring.datagram_sends),
    ];
    let help = "Trains of equal datagrams that the kernel handed over or took as one.";
    page.counters("forebay_quic_trains_total", help, "direction", &rows);
    let rows = [
        ("received", quic.lane_bytes_in),
        ("sent", quic.lane_bytes_out),
    ];
    let help = "Bytes of streams.";
    page.counters("forebay_quic_stream_bytes_total", help, "direction", &rows);
}

fn quic_handshakes(page: &mut Page, quic: &QuicCounters) {
    let rows = [
        ("begun", quic.handshakes),
        ("done", quic.connected),
        ("failed", quic.handshakes_failed),
        ("ignored", quic.handshakes_ignored),
        ("crowded_out", quic.handshakes_crowded_out),
        ("refused_full", quic.connections_refused),
        ("retry", quic.retries),
        ("reset_or_version", quic.resets_and_versions),
    ];
    let help = "What was answered to those who are not known yet.";
    page.counters("forebay_quic_handshakes_total", help, "event", &rows);
    let others = quic.connections_timed_out
        + quic.connections_faulty
        + quic.connections_unused
        + quic.connections_banned
        + quic.connections_excessive
        + quic.handshakes_crowded_out;
    let rows = [
        ("silent", quic.connections_timed_out),
        ("faulty", quic.connections_faulty),
        ("unused", quic.connections_unused),
        ("banned", quic.connections_banned),
        ("excessive", quic.connections_excessive),
        ("crowded_out", quic.handshakes_crowded_out),
        ("other", quic.connections_ended.saturating_sub(others)),
    ];
    let help = "QUIC connections that ended, by why.";
    page.counters("forebay_quic_connections_ended_total", help, "cause", &rows);
    let rows = [
        ("opened", quic.lanes_opened),
        ("refused", quic.lanes_refused),
    ];
    let name = "forebay_quic_lanes_total";
    page.counters(name, "Streams that clients opened.", "result", &rows);
}
