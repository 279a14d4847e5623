//! What a start costs: recovery reads the segments that were open and no other, however much there is in the logs and whatever the
//! number of shards. `perf/start-up` measures the time for 4 GiB.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::path::Path;
use std::sync::Arc;

use node::NodeHandle;
use node::inspect;
use node::placement::Shards;
use support::*;
use wire::ids::AckMode;
use wire::route::RouteTable;

const SHARDS: u16 = 16;
const PARTITIONS: u16 = 16;
const SENDERS: usize = 48;
/// The least that a segment may have: two of the longest frames.
const SEGMENT_BYTES: u32 = 2 << 20;
const BODY_BYTES: usize = 60_000;
/// Frames of each sender: three times as many as fit the open segments of all logs.
const FRAMES: usize = 3 * SEGMENT_BYTES as usize * PARTITIONS as usize / BODY_BYTES / SENDERS;

fn plan() -> Arc<RouteTable> {
    let mut parts = parts(AckMode::Durable, SENDERS);
    parts.queue_groups = 4;
    parts.hubs[0].partitions = PARTITIONS;
    parts.hubs[0].segment_bytes = SEGMENT_BYTES;
    table(parts)
}

fn start_on(data: &Path) -> NodeHandle {
    let mut config = config(data);
    config.disk.journal_segment_bytes = SEGMENT_BYTES;
    config.shards = Shards::Count(SHARDS);
    try_start(config, plan()).unwrap()
}

/// Send one frame after the other, again when the log waits for its next segment.
fn send_all(client: &mut Client, frames: usize) {
    let body = vec![7; BODY_BYTES];
    let mut acked = 0;
    while acked < frames as u64 {
        client.sequence = acked + 1;
        client.send(&[&body]);
        match client.read() {
            Said::Ack(ack) => acked = ack.sequence.0,
            Said::Reject(_) => std::thread::yield_now(),
            other => panic!("an answer was due, not {other:?}"),
        }
    }
}

/// Copy a data folder as it is, its node at work: what `kill -9` leaves behind.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => copy(&from, &to),
            // A file that is being prepared may have its name for good by now; it holds nothing.
            false => drop(std::fs::copy(from, to)),
        }
    }
}

/// Records in the newest segments of all logs, which are open, and in all segments.
fn records(data: &Path) -> (u64, u64) {
    let (mut open, mut all) = (0, 0);
    for log in inspect::logs(data).unwrap() {
        let view = inspect::LogView::open(data, log).unwrap();
        all += view.verify().records;
        let live = view
            .segments()
            .filter(|segment| !segment.offsets.is_empty());
        let newest = live.last().map(|segment| segment.offsets.start);
        open += newest.map_or(0, |first| view.entries_from(first).count() as u64);
    }
    (open, all)
}

#[test]
fn a_start_of_16_shards_reads_the_open_segments_and_no_other_after_a_stop_and_after_a_crash() {
    let (stopped, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = start_on(stopped.path());
    let addr = node.listen_addr();
    std::thread::scope(|scope| {
        for each in 0..4 {
            scope.spawn(move || {
                for number in (each..SENDERS).step_by(4) {
                    send_all(&mut Client::connect(addr, &sender(number)), FRAMES);
                }
            });
        }
    });
    copy(stopped.path(), killed.path());
    node.stop();
    node.join().unwrap();

    for (data, how) in [(&stopped, "stopped"), (&killed, "killed")] {
        let (open, all) = records(data.path());
        let node = start_on(data.path());
        let addr = node.listen_addr();
        for number in 0..SENDERS {
            let client = Client::connect(addr, &sender(number));
            assert_eq!(client.sequence, FRAMES as u64 + 1, "{how}: sender {number}");
        }
        node.stop();
        let found = node.join().unwrap().recovery;
        assert_eq!(found.logs, usize::from(PARTITIONS) + 4, "{how}");
        assert_eq!((found.damaged, found.incomplete_queues), (0, 0), "{how}");
        // A segment begins with a record or two of the senders so far.
        let logs = found.logs as u64;
        assert!(
            found.scanned_records <= open + 2 * logs,
            "{how}: {} records of {all} were read, {open} are in open segments",
            found.scanned_records
        );
        assert!(
            4 * open < 3 * all,
            "{how}: {open} of {all} records are in open segments"
        );
        println!(
            "{how}: {SHARDS} shards read {} records of {all}, {open} in open segments",
            found.scanned_records
        );
    }
}
