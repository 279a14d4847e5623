//! Stage 5 and two other ways to do it: a record copied into the segment's window and written to the file at the
//! commit, as the log does it; stored into the mapped file in place; or copied into an arena without any mapping, and
//! written as it is, or filled up with zeroes to the end of a page before each commit. Real fdatasync after each commit,
//! recycled segments, one thread that does all of it. The arena is the least that anybody pays who appends these bytes
//! and syncs. Prints for each commit size the processor time per record, minor faults and the bytes that the device
//! was given for each byte of log, one JSON line each. Bytes of the device are those of the whole file system that
//! the temporary folder is on, so it is run on one of its own: `TMPDIR=<folder on an idle ext4>`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use benches::{minor_faults, timed};
use partition::{LogId, MappedSegment, MappedStorage, Segment, SegmentRef, Storage};
use wire::ids::PartitionId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const SEGMENT_BYTES: usize = 64 << 20;
const PAGE_BYTES: usize = 4096;
/// A frame with one message of 100 bytes, and its record.
const PAYLOAD_BYTES: usize = 184;
const HEADER_BYTES: usize = 56;
const RECORD_BYTES: usize = HEADER_BYTES + PAYLOAD_BYTES;
const COMMITS: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
const ROUNDS: usize = 3;

/// The header of a record, as costly as the real one: two hashes.
fn header(payload: &[u8], at: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    header[16..24].copy_from_slice(&xxh3_64(payload).to_le_bytes());
    let sum = xxh3_64_with_seed(&header, at as u64);
    header[8..16].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Somewhere to append to that can be made durable.
trait Target {
    fn put(&mut self, at: usize, parts: &[&[u8]]);
    /// Returns where the next record goes.
    fn commit(&mut self, from: usize, to: usize) -> usize;
}

struct Mapped {
    segment: MappedSegment,
    file: std::sync::Arc<File>,
    in_place: bool,
}

impl Target for Mapped {
    fn put(&mut self, at: usize, parts: &[&[u8]]) {
        if self.in_place {
            self.segment.write(at, parts);
        } else {
            self.segment.append(at, parts);
        }
    }

    fn commit(&mut self, _: usize, to: usize) -> usize {
        self.segment.flush().expect("the disk works");
        self.file.sync_data().expect("the disk works");
        to
    }
}

struct Behind {
    arena: Vec<u8>,
    file: File,
    /// Every commit ends a page.
    fills_up: bool,
}

impl Target for Behind {
    fn put(&mut self, at: usize, parts: &[&[u8]]) {
        let mut at = at;
        for part in parts {
            self.arena[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
    }

    fn commit(&mut self, from: usize, to: usize) -> usize {
        let end = match self.fills_up {
            true => to.next_multiple_of(PAGE_BYTES).min(self.arena.len()),
            false => to,
        };
        let written = self.file.write_all_at(&self.arena[from..end], from as u64);
        written
            .and_then(|()| self.file.sync_data())
            .expect("the disk works");
        end
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    cpu: Duration,
    records: u64,
    faults: u64,
    device_bytes: u64,
    log_bytes: u64,
}

/// Append up to `bytes`, with a commit whenever `commit` bytes have gathered.
fn run(target: &mut impl Target, device: &str, commit: usize, bytes: usize) -> Cost {
    let payload: Vec<u8> = (0..PAYLOAD_BYTES).map(|byte| byte as u8).collect();
    let (faults, written) = (minor_faults(), device_bytes(device));
    let mut records = 0;
    let (cpu, ()) = timed(|| {
        let (mut at, mut synced) = (64, 64);
        while at + RECORD_BYTES <= bytes {
            target.put(at + HEADER_BYTES, &[&payload]);
            target.put(at, &[&header(&payload, at)]);
            at += RECORD_BYTES;
            records += 1;
            if at - synced >= commit {
                at = target.commit(synced, at);
                synced = at;
            }
        }
        target.commit(synced, at);
    });
    Cost {
        cpu,
        records,
        faults: minor_faults() - faults,
        device_bytes: device_bytes(device) - written,
        log_bytes: records * RECORD_BYTES as u64,
    }
}

/// Bytes written to the device so far: sectors, the seventh number of its statistics.
fn device_bytes(device: &str) -> u64 {
    let stat = std::fs::read_to_string(device).expect("it is a block device");
    let sectors = stat
        .split_whitespace()
        .nth(6)
        .expect("it has eleven fields");
    512 * sectors.parse::<u64>().expect("a number")
}

fn tell(way: &str, commit: usize, mut costs: Vec<Cost>) {
    costs.sort_by_key(|cost| cost.cpu);
    let cost = costs[costs.len() / 2];
    let kib = commit >> 10;
    let say = |what: &str, value: f64, unit: &str| {
        println!(
            "{{\"what\":\"append/{way}/commit-{kib}KiB/{what}\",\"value\":{value:.3},\"unit\":\"{unit}\"}}"
        );
    };
    say(
        "cpu",
        cost.cpu.as_nanos() as f64 / cost.records as f64,
        "ns/record",
    );
    say(
        "faults",
        cost.faults as f64 * 400.0 / cost.records as f64,
        "faults per 400 messages",
    );
    say(
        "device",
        cost.device_bytes as f64 / cost.log_bytes as f64,
        "device bytes/log byte",
    );
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let device = folder.path().metadata().expect("it is there").dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = format!("/sys/dev/block/{major}:{minor}/stat");
    let log = LogId::partition(PartitionId(7));
    let mut storage = MappedStorage::new(folder.path());
    let segment = storage
        .prepare(log, SEGMENT_BYTES as u32)
        .expect("there is room");
    let path = folder.path().join("behind");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path);
    let file = file.expect("the folder is writable");
    let mut behind = Behind {
        arena: vec![1; SEGMENT_BYTES],
        file,
        fills_up: false,
    };
    for at in (0..SEGMENT_BYTES).step_by(64 << 10) {
        behind
            .file
            .write_all_at(&behind.arena[at..at + (64 << 10)], at as u64)
            .expect("there is room");
    }
    behind.file.sync_all().expect("the disk works");
    let mut spare = Some(segment);
    for commit in COMMITS {
        let bytes = SEGMENT_BYTES.min(2_048 * commit);
        let mut costs = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            for (way, in_place) in [false, true].into_iter().enumerate() {
                // Renewed, as retention gives it back.
                let old = spare.take().expect("it is put back");
                let segment = storage.renew(log, old).expect("the disk works");
                let id = SegmentRef {
                    log,
                    id: segment.id(),
                };
                let file = storage.file(&id).expect("it is there");
                let mut mapped = Mapped {
                    segment,
                    file,
                    in_place,
                };
                costs[way].push(run(&mut mapped, &device, commit, bytes));
                spare = Some(mapped.segment);
            }
            for (way, fills_up) in [(2, false), (3, true)] {
                behind.fills_up = fills_up;
                costs[way].push(run(&mut behind, &device, commit, bytes));
            }
        }
        let ways = ["window", "in-place", "arena", "arena-filled-up"];
        for (way, costs) in ways.into_iter().zip(costs) {
            tell(way, commit, costs);
        }
    }
}
