//! Numbers as Prometheus text: prefix `forebay_`, base units, labels with few values, never an endpoint's name.

use std::fmt::{Display, Write as _};
use std::sync::atomic::Ordering;

use partition::LogState;
use wire::reason::Reason;
use wire::route::RouteTable;

use crate::accept::quic::counters::QuicCounters;
use crate::distribution::Distribution;
use crate::durations::Durations;
use crate::status::{Phase, Snapshot, Status, ack_words};

/// Text in the making.
pub(super) struct Page(String);

impl Page {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        let mut before = '{';
        for (label, text) in labels {
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(text));
            before = ',';
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.line(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, &[], value);
    }

    /// One counter with one label.
    fn counters<V: Display>(&mut self, name: &str, help: &str, label: &str, rows: &[(&str, V)]) {
        self.head(name, "counter", help);
        for (text, value) in rows {
            self.line(name, &[(label, text)], value);
        }
    }

    /// One family with the shard and one more label: name, kind, help, label.
    pub(super) fn each_by<const N: usize>(
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
    pub(super) fn distributions<const UNIT: u64>(
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

    fn durations(&mut self, name: &str, help: &str, durations: &Durations) {
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

/// The whole page, from the numbers of every shard. Without them, as while recovering, it holds what is known without the shards.
pub(super) fn render(status: &Status, table: &RouteTable, shards: &[Snapshot]) -> String {
    let mut page = Page(String::with_capacity(16 << 10));
    process(&mut page, status, shards);
    control(&mut page, status, table);
    certificate(&mut page, status);
    if let Some(snapshot) = &Snapshot::sum(shards) {
        ingress(&mut page, snapshot);
        tunnels(&mut page, snapshot);
        quic(&mut page, snapshot);
        memory(&mut page, snapshot, shards);
        bans(&mut page, snapshot);
        verify(&mut page, snapshot);
        log(&mut page, snapshot);
        queues(&mut page, snapshot);
        shard(&mut page, snapshot);
        mesh(&mut page, snapshot);
        super::shards::shards(&mut page, status, shards);
        #[cfg(feature = "cycles")]
        cycles(&mut page, snapshot);
    }
    page.0
}

fn process(page: &mut Page, status: &Status, shards: &[Snapshot]) {
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

fn control(page: &mut Page, status: &Status, table: &RouteTable) {
    let ready = status.phase() == Phase::Ready && status.still().is_empty();
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

fn ingress(page: &mut Page, snapshot: &Snapshot) {
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

/// Who is kept out for connecting or failing too often.
fn bans(page: &mut Page, snapshot: &Snapshot) {
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
fn memory(page: &mut Page, sum: &Snapshot, shards: &[Snapshot]) {
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

fn verify(page: &mut Page, snapshot: &Snapshot) {
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

fn log(page: &mut Page, snapshot: &Snapshot) {
    let (append, commit, files) = (
        &snapshot.counters.append,
        &snapshot.counters.commit,
        &snapshot.files,
    );
    page.counter(
        "forebay_append_messages_total",
        "Messages written.",
        append.messages,
    );
    page.counter(
        "forebay_append_frames_total",
        "Frames written.",
        append.frames,
    );
    page.counter(
        "forebay_append_bytes_total",
        "Bytes of frames written.",
        append.bytes,
    );
    let name = "forebay_duplicate_frames_total";
    page.counter(
        name,
        "Re-sent frames that were already there.",
        append.duplicates,
    );
    let name = "forebay_discarded_frames_total";
    page.counter(
        name,
        "Frames discarded behind a refused one.",
        append.discarded,
    );
    page.counter(
        "forebay_commit_messages_total",
        "Messages committed.",
        commit.messages,
    );
    page.counter(
        "forebay_commit_frames_total",
        "Frames committed.",
        commit.frames,
    );
    page.counter("forebay_acks_total", "ACK frames sent.", commit.acks);
    let syncs = files.sync_times.count();
    page.counter("forebay_syncs_total", "Syncs done.", syncs);
    page.counter(
        "forebay_sync_errors_total",
        "Syncs failed; each seals its log.",
        files.sync_errors,
    );
    let name = "forebay_sync_seconds_total";
    let waited = files.sync_times.sum().as_secs_f64();
    page.counter(name, "Time waited for syncs.", waited);
    let name = "forebay_sync_seconds_max";
    let longest = files.sync_times.max().as_secs_f64();
    page.gauge(name, "Longest sync since the start.", longest);
    let name = "forebay_sync_seconds";
    page.durations(name, "How long syncs took.", &files.sync_times);
    page.counter(
        "forebay_segments_prepared_total",
        "Segments prepared.",
        files.prepares,
    );
    let name = "forebay_segments_refused_total";
    page.counter(
        name,
        "Segments refused by a full disk.",
        files.prepares_full,
    );
    let name = "forebay_prepare_seconds_total";
    page.counter(
        name,
        "Time spent preparing.",
        files.prepare_time.as_secs_f64(),
    );
    page.counter(
        "forebay_segments_retired_total",
        "Segments retired.",
        files.retired,
    );
    storage_state(page, snapshot);
    let bytes: u64 = snapshot.partitions.iter().map(|log| log.bytes).sum();
    page.gauge("forebay_log_bytes", "Bytes of all logs.", bytes);
    let behind = snapshot
        .partitions
        .iter()
        .map(|log| log.appended.saturating_sub(log.committed));
    let name = "forebay_uncommitted_messages";
    page.gauge(
        name,
        "Messages written and not yet committed.",
        behind.sum::<u64>(),
    );
}

/// The worst state of all logs, and every log that is not well.
fn storage_state(page: &mut Page, snapshot: &Snapshot) {
    let logs = &snapshot.partitions;
    let sealed = logs.iter().any(|log| log.state == LogState::Sealed);
    let full = logs.iter().any(|log| log.state == LogState::Full);
    let low = logs.iter().any(|log| log.starved);
    let state = match (sealed, full, low) {
        (true, _, _) => "sealed",
        (_, true, _) => "full",
        (_, _, true) => "low",
        _ => "ok",
    };
    let name = "forebay_storage_state";
    page.head(name, "gauge", "1 for the worst state of any log.");
    for known in ["ok", "low", "full", "sealed"] {
        page.line(name, &[("state", known)], u8::from(known == state));
    }
    let name = "forebay_logs_unwell";
    page.head(name, "gauge", "1 for each log that takes nothing.");
    for log in logs.iter().filter(|log| log.state != LogState::Open) {
        page.line(name, &[("log", &log.log)], 1);
    }
}

fn queues(page: &mut Page, snapshot: &Snapshot) {
    let (queues, deliver, fanout) = (
        &snapshot.queues,
        &snapshot.counters.deliver,
        &snapshot.counters.fanout,
    );
    page.counter(
        "forebay_fanout_records_total",
        "Records handed to queue groups.",
        fanout.records,
    );
    let name = "forebay_fanout_read_back_total";
    page.counter(
        name,
        "Records read back for queues behind.",
        fanout.records_read_back,
    );
    page.counter(
        "forebay_fanout_lost_total",
        "Records that could not be read back.",
        fanout.records_lost,
    );
    let rows = [
        ("added", queues.added),
        ("caught_up", queues.caught_up),
        ("settled", queues.settled),
        ("dropped", queues.dropped),
        ("expired", queues.expired),
        ("withdrawn", queues.withdrawn),
        ("damaged", queues.damaged),
        ("dead_letter", queues.buried),
    ];
    page.counters(
        "forebay_queue_messages_total",
        "What became of queued messages.",
        "event",
        &rows,
    );
    page.counter(
        "forebay_queues_parked_total",
        "Times a full queue parked in the log.",
        queues.parked,
    );
    page.counter(
        "forebay_redeliveries_total",
        "Times delivery went back.",
        queues.rewinds,
    );
    page.counter(
        "forebay_locks_expired_total",
        "Of those, because a lock expired.",
        queues.locks_expired,
    );
    page.counter(
        "forebay_delivered_messages_total",
        "Messages delivered.",
        deliver.messages,
    );
    page.counter(
        "forebay_delivered_bytes_total",
        "Bytes delivered.",
        deliver.bytes,
    );
    page.counter(
        "forebay_fetches_total",
        "FETCH frames taken.",
        deliver.fetches,
    );
    page.counter(
        "forebay_settles_total",
        "SETTLE frames taken.",
        deliver.settles,
    );
    let name = "forebay_delivery_backpressure_total";
    page.counter(
        name,
        "Times a slow consumer was skipped.",
        deliver.backpressure,
    );
}

fn shard(page: &mut Page, snapshot: &Snapshot) {
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
fn mesh(page: &mut Page, sum: &Snapshot) {
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

/// Of the certificate that is shown; nothing if none is.
fn certificate(page: &mut Page, status: &Status) {
    let known = status.certificate();
    let until = known.until.load(Ordering::Relaxed);
    if until == 0 {
        return;
    }
    let name = "forebay_certificate_until_seconds";
    let help = "The last second of the certificate that is shown, in unix time.";
    page.gauge(name, help, until);
    let name = "forebay_certificate_stale";
    let help = "1 when its files hold a pair that was refused.";
    let stale = u8::from(known.stale.load(Ordering::Relaxed));
    page.gauge(name, help, stale);
    let rows = [
        ("replaced", known.replaced.load(Ordering::Relaxed)),
        ("refused", known.refused.load(Ordering::Relaxed)),
    ];
    let name = "forebay_certificate_changes_total";
    let help = "Times its files changed, by what became of it.";
    page.counters(name, help, "result", &rows);
}

fn tunnels(page: &mut Page, sum: &Snapshot) {
    let name = "forebay_tunnels_open";
    page.gauge(name, "Connections that run through TLS.", sum.tunnels);
    let counters = &sum.tunnel_counters;
    let rows = [
        ("whole", counters.handshakes - counters.resumed),
        ("resumed", counters.resumed),
        ("refused", counters.refused),
    ];
    let name = "forebay_tunnel_handshakes_total";
    let help = "Handshakes of TLS, by what became of them.";
    page.counters(name, help, "result", &rows);
    let name = "forebay_tunnels_broken_total";
    let help = "Tunnels ended by bytes that are no records of theirs.";
    page.counter(name, help, counters.broken);
}

/// What QUIC does, if it is spoken.
fn quic(page: &mut Page, sum: &Snapshot) {
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
        ("refused_by_kernel", ring.datagram_sends_failed),
    ];
    let help = "Datagrams of QUIC; astray: those whose connection ID names another shard than they came to.";
    page.counters("forebay_quic_datagrams_total", help, "event", &rows);
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
        ("refused_full", quic.connections_refused),
        ("retry", quic.retries),
        ("reset_or_version", quic.resets_and_versions),
    ];
    let help = "What was answered to those who are not known yet.";
    page.counters("forebay_quic_handshakes_total", help, "event", &rows);
    let others = quic.connections_timed_out + quic.connections_faulty + quic.connections_unused;
    let rows = [
        ("silent", quic.connections_timed_out),
        ("faulty", quic.connections_faulty),
        ("unused", quic.connections_unused),
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

/// Divide by `forebay_append_messages_total` for what a message costs in each stage.
#[cfg(feature = "cycles")]
fn cycles(page: &mut Page, snapshot: &Snapshot) {
    let spent = &snapshot.counters.cycles;
    let rows = shard::Stage::ALL.map(|stage| (stage.name(), spent.of(stage)));
    page.counters(
        "forebay_stage_cycles_total",
        "Cycles of the time stamp counter that turns took, by stage.",
        "stage",
        &rows,
    );
}

/// Nanoseconds as seconds.
pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
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

pub(super) fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
