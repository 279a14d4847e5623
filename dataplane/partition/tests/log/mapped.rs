//! The same log over real files, and the read-only look at them.

use std::path::Path;

use partition::inspect::{Entry, LogView, SegmentUse, logs};
use partition::{
    DamageKind, LogId, MappedSegment, MappedStorage, Partition, PartitionLimits, RecordKind,
    Storage,
};
use wire::ids::{Offset, PartitionId};

use crate::harness::{Expected, LOG, NOW, Rig, small};

const LIMITS: PartitionLimits = PartitionLimits {
    segment_bytes: 64 << 10,
    record_bytes_max: 512,
    retention_bytes: Some(256 << 10),
    retention_age: None,
};

struct Files {
    storage: MappedStorage,
    log: Partition<MappedSegment>,
    source: Rig,
    list: Vec<Expected>,
}

impl Files {
    fn open(data: &Path) -> Self {
        let mut storage = MappedStorage::new(data);
        let (log, _) =
            Partition::recover(&mut storage, LOG, LIMITS, NOW).expect("a temporary folder works");
        Self {
            storage,
            log,
            source: Rig::new(1, small()),
            list: Vec::new(),
        }
    }

    fn append_many(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(bytes) = self.log.request_spare() {
                self.log
                    .offer(self.storage.prepare(LOG, bytes).expect("there is room"));
            }
            let (new, payload) = self.source.draw();
            let first = self
                .log
                .append(&new, &[&payload])
                .expect("a spare was fed")
                .first
                .0;
            self.list.push(Expected {
                first,
                new,
                payload,
            });
        }
    }

    fn commit(&mut self) {
        let Some(ticket) = self.log.begin_commit() else {
            return;
        };
        let result = ticket
            .segments
            .iter()
            .try_for_each(|segment| self.storage.sync(segment));
        self.log
            .finish_commit(ticket, result)
            .expect("the disk works");
    }

    fn check(&self) {
        for want in self
            .list
            .iter()
            .filter(|want| want.first >= self.log.first().0)
        {
            want.assert_is(
                &self.log.read(Offset(want.first)).expect("it is intact"),
                "mapped",
            );
        }
    }

    fn reopen(&mut self) {
        let again = Partition::recover(&mut self.storage, LOG, LIMITS, NOW)
            .expect("the folder is still there");
        assert_eq!(again.1.damage, []);
        self.log = again.0;
        self.check();
    }
}

fn segment_files(data: &Path) -> Vec<std::path::PathBuf> {
    let folder = data.join(LOG.to_string());
    let entries = std::fs::read_dir(folder).expect("the log has a folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .collect();
    files.sort();
    files
}

#[test]
fn a_mapped_log_reopens_with_everything_and_recycles_its_files() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut files = Files::open(data.path());
    for _ in 0..8 {
        files.append_many(700);
        files.commit();
        while let Some(segment) = files.log.expire(NOW) {
            if let Some(spare) = files.storage.retire(LOG, segment).expect("the disk works") {
                files.log.offer(spare);
            }
        }
        files.check();
        files.reopen();
    }
    assert!(files.log.first() > Offset(0));
    assert!(
        segment_files(data.path()).len() <= 7,
        "{:?}",
        segment_files(data.path())
    );
    assert!(
        segment_files(data.path())
            .iter()
            .all(|path| path.metadata().expect("it is there").len() == 64 << 10)
    );
}

#[test]
fn an_unfinished_file_is_removed_and_a_foreign_one_is_left_alone() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut files = Files::open(data.path());
    files.append_many(10);
    files.commit();
    let folder = data.path().join(LOG.to_string());
    for name in ["0123456789abcdef.new", "notes.txt", "XYZ.seg"] {
        std::fs::write(folder.join(name), b"half").expect("the folder is writable");
    }
    files.reopen();
    assert!(!folder.join("0123456789abcdef.new").exists());
    assert!(folder.join("notes.txt").exists() && folder.join("XYZ.seg").exists());
}

#[test]
fn inspection_shows_every_record_and_changes_nothing() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut files = Files::open(data.path());
    files.append_many(1_500);
    files.commit();
    let before: Vec<_> = segment_files(data.path())
        .iter()
        .map(|path| std::fs::read(path).expect("it is there"))
        .collect();
    std::fs::create_dir(data.path().join("q-0000")).expect("the folder is writable");
    std::fs::create_dir(data.path().join("lost+found")).expect("the folder is writable");
    assert_eq!(logs(data.path()), Ok(vec![LOG, LogId::queue(0)]));
    let view = LogView::open(data.path(), LOG).expect("it is a log");
    assert_eq!(view.offsets(), Offset(0)..files.log.appended());
    let frames = view.entries().map(|entry| match entry {
        Entry::Record(record) => record,
        Entry::Damage(damage) => panic!("{damage:?}"),
    });
    let frames: Vec<_> = frames
        .filter(|record| record.kind() == RecordKind::Frame)
        .collect();
    assert_eq!(frames.len(), files.list.len());
    frames
        .iter()
        .zip(&files.list)
        .for_each(|(record, want)| want.assert_is(record, "inspected"));
    let verdict = view.verify();
    assert_eq!((verdict.damage.len(), verdict.torn_bytes), (0, 0));
    assert_eq!(verdict.messages, files.log.appended().0);
    let live = view
        .segments()
        .filter(|segment| segment.usage == SegmentUse::Live)
        .count();
    assert_eq!(live, files.log.segments());
    let after: Vec<_> = segment_files(data.path())
        .iter()
        .map(|path| std::fs::read(path).expect("it is there"))
        .collect();
    assert!(before == after, "not a byte has changed");
}

#[test]
fn inspection_names_damage_and_shows_what_follows_it() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut files = Files::open(data.path());
    for _ in 0..15 {
        files.append_many(100);
        files.commit();
    }
    let victim = files.log.read(Offset(50)).expect("it is intact");
    let (range, position) = (victim.first()..victim.next(), victim.position());
    let path = data
        .path()
        .join(LOG.to_string())
        .join(format!("{}.seg", victim.segment()));
    let mut bytes = std::fs::read(&path).expect("it is there");
    bytes[position.0 as usize + 40] ^= 4;
    std::fs::write(&path, bytes).expect("the folder is writable");
    let view = LogView::open(data.path(), LOG).expect("it is a log");
    let verdict = view.verify();
    assert_eq!(verdict.damage.len(), 1);
    assert_eq!(
        (verdict.damage[0].kind, &verdict.damage[0].offsets),
        (DamageKind::Records, &range)
    );
    assert_eq!(verdict.damage[0].positions.start, position);
    let lost = range.end.0 - range.start.0;
    assert_eq!(verdict.messages + lost, files.log.appended().0);
    let late = view.entries_from(Offset(files.log.appended().0 - 1));
    assert!(late.count() < 700, "it starts in the last segment");
}

#[test]
fn logs_of_one_data_folder_do_not_mix() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut storage = MappedStorage::new(data.path());
    let mut source = Rig::new(1, small());
    let ids = [
        LogId::partition(PartitionId(1)),
        LogId::partition(PartitionId(2)),
        LogId::queue(1),
    ];
    for (number, &log) in ids.iter().enumerate() {
        let (mut partition, _) =
            Partition::recover(&mut storage, log, LIMITS, NOW).expect("it opens");
        for _ in 0..=number {
            let (mut new, payload) = source.draw();
            new.count = 1;
            partition
                .append(&new, &[&payload])
                .expect("there is a spare");
        }
    }
    for (number, &log) in ids.iter().enumerate() {
        let (partition, _) = Partition::recover(&mut storage, log, LIMITS, NOW).expect("it opens");
        assert_eq!(partition.appended(), Offset(number as u64 + 1));
    }
}

#[test]
fn a_file_cut_to_nothing_is_reported_not_deleted() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut files = Files::open(data.path());
    files.append_many(10);
    files.commit();
    let path = segment_files(data.path()).remove(0);
    drop(files);
    std::fs::write(&path, b"").expect("the folder is writable");
    let mut storage = MappedStorage::new(data.path());
    let (_, report) =
        Partition::recover(&mut storage, LOG, LIMITS, NOW).expect("damage is no failure");
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].kind, DamageKind::Unreadable);
    assert!(path.exists());
    let view = LogView::open(data.path(), LOG).expect("it can be looked at");
    assert_eq!(view.verify().damage.len(), 1);
}

/// What is in the window of a segment and what is in its file, for records of all lengths.
#[test]
fn a_window_moves_along_and_every_commit_is_in_the_file() {
    let limits = PartitionLimits {
        segment_bytes: 4 << 20,
        record_bytes_max: 400 << 10,
        ..LIMITS
    };
    for seed in 0..2 {
        let data = tempfile::tempdir().expect("a temporary folder");
        let mut storage = MappedStorage::new(data.path());
        let (mut log, _) =
            Partition::recover(&mut storage, LOG, limits, NOW).expect("an empty folder opens");
        let mut random = partition::memory::Random::new(seed);
        let mut source = Rig::new(seed, small());
        let mut list: Vec<Expected> = Vec::new();
        for step in 0..250 {
            if let Some(bytes) = log.request_spare() {
                log.offer(storage.prepare(LOG, bytes).expect("there is room"));
            }
            let (new, mut payload) = source.draw();
            if random.below(12) == 0 {
                payload.resize(random.below(400 << 10) as usize, step as u8);
            }
            let first = log
                .append(&new, &[&payload])
                .expect("a spare was fed")
                .first
                .0;
            list.push(Expected {
                first,
                new,
                payload,
            });
            if random.below(8) > 0 {
                continue;
            }
            match random.below(3) {
                0 => {
                    log.commit_local();
                }
                1 => log.write_out(),
                _ => {
                    let ticket = log.begin_commit().expect("something is new");
                    let synced = ticket.segments.iter().try_for_each(|id| storage.sync(id));
                    log.finish_commit(ticket, synced).expect("the disk works");
                }
            }
            // Another process sees every record that is committed, and so would the next one after a kill.
            if random.below(8) == 0 {
                let view = LogView::open(data.path(), LOG).expect("it is a log");
                assert_eq!(
                    view.offsets().end,
                    log.appended(),
                    "seed {seed} step {step}"
                );
            }
            for want in list.iter().filter(|want| want.first >= log.first().0) {
                let why = format!("seed {seed} step {step}");
                want.assert_is(&log.read(Offset(want.first)).expect("it is intact"), &why);
            }
        }
        log.commit_local();
        let kept = list.iter().filter(|want| want.first >= log.first().0);
        let view = LogView::open(data.path(), LOG).expect("it is a log");
        let frames = view.entries().filter_map(|entry| match entry {
            Entry::Record(record) if record.kind() == RecordKind::Frame => Some(record),
            Entry::Record(_) => None,
            Entry::Damage(damage) => panic!("seed {seed}: {damage:?}"),
        });
        let frames: Vec<_> = frames.collect();
        assert_eq!(frames.len(), kept.clone().count());
        frames
            .iter()
            .zip(kept)
            .for_each(|(record, want)| want.assert_is(record, "in the file"));
        // Not committed: in the window only, until the process ends in order.
        let (new, _) = source.draw();
        let last = log.append(&new, &[&[1; 100]]).expect("there is room").first;
        drop(log);
        let (log, report) = Partition::recover(&mut storage, LOG, limits, NOW).expect("it opens");
        assert_eq!(report.damage, []);
        assert_eq!(log.read(last).expect("it is intact").payload(), [1; 100]);
    }
}

/// Descriptors of this process that lead into the folder.
fn open_files(data: &Path) -> usize {
    let ours = std::fs::read_dir("/proc/self/fd").expect("Linux tells a process its descriptors");
    let targets = ours.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(data)).count()
}

#[test]
fn a_log_of_many_segments_keeps_few_files_open() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let folder = data.path().canonicalize().expect("it is there");
    let mut files = Files::open(&folder);
    while files.log.segments() < 60 {
        files.append_many(100);
        files.commit();
    }
    let running = open_files(&folder);
    let Files {
        mut storage, log, ..
    } = files;
    drop(log);
    let (log, _) = Partition::recover(&mut storage, LOG, LIMITS, NOW).expect("nothing is wrong");
    let again = open_files(&folder);
    let seen = format!("{running}, then {again} for {} segments", log.segments());
    assert!(running <= 20 && again <= 20, "{seen}");
}
