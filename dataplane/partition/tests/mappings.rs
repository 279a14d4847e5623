//! A log in a process that has as many mappings as the kernel lets it. In a process of its own: the bound is the process's.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use memmap2::{Mmap, MmapMut};
use partition::{
    LogId, MappedSegment, MappedStorage, NewRecord, Partition, PartitionLimits, RecordKind, Storage,
};
use wire::ids::{ChannelId, EndpointId, Offset, PartitionId, Sequence, UnixNanos};

const LIMITS: PartitionLimits = PartitionLimits {
    segment_bytes: 4 << 20,
    record_bytes_max: 100_000,
    retention_bytes: None,
    retention_age: None,
};
const MAPPINGS_MAX: usize = 2 << 20;

/// Map pages until there is no mapping left, in turn to read and to write: the kernel cannot join such into one.
fn spend_all(readable: &mut Vec<Mmap>, writable: &mut Vec<MmapMut>) {
    while readable.len() < MAPPINGS_MAX {
        let Ok(page) = MmapMut::map_anon(4096).and_then(MmapMut::make_read_only) else {
            return;
        };
        readable.push(page);
        let Ok(page) = MmapMut::map_anon(4096) else {
            return;
        };
        writable.push(page);
    }
    panic!("2 x {MAPPINGS_MAX} mappings and no end");
}

fn append(log: &mut Partition<MappedSegment>, number: u64) {
    let new = NewRecord {
        kind: RecordKind::Frame,
        signature_kind: 0,
        count: 1,
        endpoint: EndpointId(1),
        channel: ChannelId(1),
        sequence: Sequence(number + 1),
        time: UnixNanos(1),
    };
    let payload = [number as u8; 90_000];
    assert_eq!(log.append(&new, &[&payload]).unwrap().first.0, number);
}

#[test]
fn a_log_goes_on_in_place_when_its_window_finds_no_mapping() {
    let mut readable = Vec::with_capacity(MAPPINGS_MAX);
    let mut writable = Vec::with_capacity(MAPPINGS_MAX);
    let data = tempfile::tempdir().unwrap();
    let mut storage = MappedStorage::new(data.path());
    let mut logs = Vec::new();
    for left in 0..9 {
        let log = LogId::Partition(PartitionId(left));
        let (mut log, _) = Partition::recover(&mut storage, log, LIMITS, UnixNanos(1)).unwrap();
        // The window is there, or is still to be made.
        let before = u64::from(left % 2);
        (0..before).for_each(|number| append(&mut log, number));
        logs.push((log, before));
    }
    for (left, (log, before)) in logs.iter_mut().enumerate() {
        spend_all(&mut readable, &mut writable);
        readable.truncate(readable.len() - left);
        (*before..30).for_each(|number| append(log, number));
        let ticket = log.begin_commit().unwrap();
        let mut segments = ticket.segments.iter();
        let synced = segments.try_for_each(|segment| storage.sync(segment));
        assert_eq!(log.finish_commit(ticket, synced), Ok(Offset(30)), "{left}");
        check(log);
    }
    drop((readable, writable));
    for (log, _) in logs {
        check(&log);
        let id = log.log();
        drop(log);
        check(
            &Partition::recover(&mut storage, id, LIMITS, UnixNanos(1))
                .unwrap()
                .0,
        );
    }
}

fn check(log: &Partition<MappedSegment>) {
    for number in 0..30 {
        let record = log.read(Offset(number)).unwrap();
        let whole = record.payload().iter().all(|byte| *byte == number as u8);
        assert!(
            whole && record.payload().len() == 90_000,
            "{number} of {}",
            log.log()
        );
    }
}
