//! A log over real files on a medium that has no room for the file that vouches for it: its notes are its only evidence.

use std::ops::Range;
use std::os::unix::fs::FileExt;

use partition::{
    LogId, MappedSegment, MappedStorage, Partition, PartitionLimits, Recovery, SegmentFile,
    SegmentRef, Storage, StorageError,
};
use wire::ids::Offset;

use crate::harness::{LOG, NOW, Rig, small};

const LIMITS: PartitionLimits = PartitionLimits {
    segment_bytes: 64 << 10,
    record_bytes_max: 512,
    retention_bytes: None,
    retention_age: None,
};

struct Unvouched(MappedStorage);

impl Storage for Unvouched {
    type Segment = MappedSegment;

    fn list(&mut self, log: LogId) -> Result<Vec<SegmentFile>, StorageError> {
        self.0.list(log)
    }
    fn open(&mut self, log: LogId, file: &SegmentFile) -> Result<MappedSegment, StorageError> {
        self.0.open(log, file)
    }
    fn prepare(&mut self, log: LogId, bytes: u32) -> Result<MappedSegment, StorageError> {
        self.0.prepare(log, bytes)
    }
    fn sync(&mut self, segment: &SegmentRef) -> Result<(), StorageError> {
        self.0.sync(segment)
    }
    fn renew(&mut self, log: LogId, old: MappedSegment) -> Result<MappedSegment, StorageError> {
        self.0.renew(log, old)
    }
    fn remove(&mut self, log: LogId, segment: MappedSegment) -> Result<(), StorageError> {
        self.0.remove(log, segment)
    }
    fn vouch(&mut self, _: LogId) -> Result<Option<MappedSegment>, StorageError> {
        Ok(None)
    }
    fn set_aside(&mut self, of: &SegmentRef, at: u32, bytes: &[u8]) -> Result<bool, StorageError> {
        self.0.set_aside(of, at, bytes)
    }
    fn set_aside_before(&mut self, of: &SegmentRef) -> Result<Vec<Range<u32>>, StorageError> {
        self.0.set_aside_before(of)
    }
}

fn recover(storage: &mut Unvouched) -> (Partition<MappedSegment>, Recovery) {
    Partition::recover(storage, LOG, LIMITS, NOW).expect("the folder works")
}

/// Change a byte of the record that holds this payload, in its file.
fn spoil(storage: &Unvouched, payload: &[u8]) {
    let folder = storage.0.data().join(LOG.to_string());
    for entry in std::fs::read_dir(folder).expect("the log has a folder") {
        let path = entry.expect("it can be read").path();
        let bytes = std::fs::read(&path).expect("it is a file");
        if let Some(at) = bytes
            .windows(payload.len())
            .position(|part| part == payload)
        {
            let file = std::fs::File::options().write(true).open(&path);
            let file = file.expect("it is ours");
            file.write_all_at(&[!bytes[at]], at as u64)
                .expect("it is allocated");
            return;
        }
    }
    panic!("no file has the payload");
}

#[test]
fn a_commit_before_a_pause_is_told_from_a_torn_tail_by_its_note_alone() {
    for again in [false, true] {
        let data = tempfile::tempdir().expect("a temporary folder");
        let mut storage = Unvouched(MappedStorage::new(data.path()));
        let (mut log, _) = recover(&mut storage);
        let mut source = Rig::new(1, small());
        let payload = *b"the last record that was acknowledged before the pause";
        for number in 0..3u8 {
            let (new, other) = source.draw();
            let payload = if number == 2 { &payload[..] } else { &other };
            log.append(&new, &[payload]).expect("a spare is there");
        }
        let ticket = log.begin_commit().expect("something is new");
        let mut segments = ticket.segments.iter();
        let synced = segments.try_for_each(|segment| storage.sync(segment));
        let committed = log.finish_commit(ticket, synced);
        let committed = committed.expect("the disk works");
        // Killed: nothing in memory gets another chance until all is over.
        let mut killed = vec![log];
        if again {
            killed.push(recover(&mut storage).0);
        }
        spoil(&storage, &payload);
        let (log, report) = recover(&mut storage);
        assert_eq!(
            (report.cut_bytes, report.damage.len()),
            (0, 1),
            "{report:?}"
        );
        let offsets = report.damage[0].offsets.clone();
        assert_eq!(offsets.end, committed, "{report:?}");
        assert!(offsets.start > Offset(0) && log.appended() == committed);
        drop(killed);
    }
}
