//! Logs, their disk, and the queues that hear of them.

use partition::LogState;

use super::Page;
use crate::status::Snapshot;

pub(super) fn log(page: &mut Page, snapshot: &Snapshot) {
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

pub(super) fn queues(page: &mut Page, snapshot: &Snapshot) {
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
