//! Appending, committing and reading while nothing goes wrong.

use partition::memory::Crash;
use partition::{
    AppendError, LogState, NewRecord, Partition, PartitionLimits, Place, ReadError, RecordKind,
};
use wire::ids::{ChannelId, EndpointId, Offset, Sequence, UnixNanos};

use crate::harness::{LOG, NOW, Rig, small};

#[test]
fn what_is_appended_reads_back_by_every_offset_over_many_segments() {
    let mut rig = Rig::new(1, small());
    rig.append_many(500);
    assert!(rig.log.segments() > 20, "{} segments", rig.log.segments());
    rig.check_records("appended");
    rig.check_senders("appended");
}

#[test]
fn a_commit_covers_exactly_what_was_appended_before_its_sync_began() {
    let mut rig = Rig::new(2, small());
    rig.append_many(3);
    let before = rig.log.appended();
    rig.begin_commit();
    assert_eq!(rig.log.begin_commit(), None, "one sync in flight");
    rig.append_many(3);
    assert_eq!(rig.log.committed(), Offset(0));
    rig.finish_commit();
    assert_eq!(rig.log.committed(), before);
    assert!(rig.log.read_committed(Offset(before.0 - 1)).is_ok());
    assert!(matches!(
        rig.log.read_committed(before),
        Err(ReadError::NotYet)
    ));
    assert!(rig.log.read(before).is_ok(), "appended, not committed");
    rig.reopen(rig.disk.crash(Crash::Lost), "only what was synced");
    assert_eq!(rig.log.appended(), before);
}

#[test]
fn a_commit_behind_a_roll_syncs_the_old_and_the_new_segment() {
    let mut rig = Rig::new(3, small());
    rig.append_many(4);
    rig.commit();
    while rig.log.segments() < 2 {
        rig.append_many(1);
    }
    let ticket = rig.log.begin_commit().expect("something is new");
    assert_eq!(ticket.segments.len(), 2);
    let result = ticket
        .segments
        .iter()
        .try_for_each(|segment| partition::Storage::sync(&mut rig.storage, segment));
    assert_eq!(
        rig.log.finish_commit(ticket, result),
        Ok(rig.log.appended())
    );
    assert_eq!(rig.log.begin_commit(), None, "nothing is new");
    rig.durable = rig.log.appended().0;
    rig.reopen(rig.disk.crash(Crash::Lost), "both were synced");
}

#[test]
fn local_commits_run_ahead_of_the_disk() {
    let mut rig = Rig::new(4, small());
    rig.append_many(5);
    assert_eq!(rig.log.commit_local(), rig.log.appended());
    assert_eq!(
        (rig.log.committed(), rig.log.synced()),
        (rig.log.appended(), Offset(0))
    );
    rig.begin_commit();
    rig.finish_commit();
    assert_eq!(rig.log.synced(), rig.log.appended());
}

#[test]
fn a_killed_process_loses_nothing_it_appended() {
    let mut rig = Rig::new(5, small());
    rig.append_many(60);
    let appended = rig.log.appended();
    rig.reopen(rig.disk.clone(), "same kernel, new process");
    assert_eq!(rig.log.appended(), appended);
    // What recovery served as committed must survive a power failure right after.
    rig.reopen(rig.disk.crash(Crash::Lost), "then the power goes");
    assert_eq!(rig.log.appended(), appended);
}

#[test]
fn a_record_that_is_too_long_is_refused_and_changes_nothing() {
    let mut rig = Rig::new(6, small());
    rig.append_many(1);
    let before = rig.log.appended();
    let (new, _) = rig.draw();
    for (why, bytes, fits) in [
        ("just fits", 512, true),
        ("one more", 513, false),
        ("far more", 5000, false),
    ] {
        let result = rig.log.append(&new, &[&vec![7; bytes]]);
        assert_eq!(result.is_ok(), fits, "{why}");
        if !fits {
            assert_eq!(
                result,
                Err(AppendError::TooLong {
                    bytes,
                    bytes_max: 512
                }),
                "{why}"
            );
        }
    }
    assert_eq!(rig.log.appended().0, before.0 + u64::from(new.count));
}

#[test]
fn a_senders_window_tells_replays_over_a_restart() {
    let mut rig = Rig::new(7, small());
    let endpoint = EndpointId(0x1001);
    let new = |sequence: u64| NewRecord {
        kind: RecordKind::Frame,
        signature_kind: 2,
        count: 1,
        endpoint,
        channel: ChannelId(1),
        sequence: Sequence(sequence),
        time: NOW,
    };
    for sequence in [1, 2, 5, 90, 60] {
        rig.log
            .append(&new(sequence), &[b"x"])
            .expect("there is room");
    }
    let check = |rig: &Rig, why: &str| {
        for (sequence, want) in [
            (91, Place::Ahead),
            (90, Place::Seen),
            (89, Place::Unseen),
            (60, Place::Seen),
            (27, Place::Unseen),
            (26, Place::Below),
            (5, Place::Below),
            (0, Place::Below),
        ] {
            assert_eq!(
                rig.log.sender(endpoint).place(Sequence(sequence)),
                want,
                "{why}: {sequence}"
            );
        }
    };
    check(&rig, "appended");
    rig.begin_commit();
    rig.finish_commit();
    let disk = rig.disk.crash(Crash::Lost);
    let mut storage = partition::memory::MemoryStorage::new(&disk);
    rig.log = partition::Partition::recover(&mut storage, LOG, small(), NOW)
        .expect("it opens")
        .0;
    check(&rig, "recovered");
}

#[test]
fn senders_outlive_the_segments_they_wrote_to() {
    let mut rig = Rig::new(8, small());
    let quiet = NewRecord {
        kind: RecordKind::Frame,
        signature_kind: 1,
        count: 1,
        endpoint: EndpointId(0x9999),
        channel: ChannelId(1),
        sequence: Sequence(42),
        time: UnixNanos(5),
    };
    rig.list.push(crate::harness::Expected {
        first: 0,
        new: quiet,
        payload: b"once".to_vec(),
    });
    rig.log.append(&quiet, &[b"once"]).expect("there is room");
    for _ in 0..100 {
        rig.append_many(4);
        rig.commit();
    }
    let report = rig.reopen(rig.disk.crash(Crash::Lost), "many segments later");
    assert_eq!(report.scanned_segments, 1, "the open one");
    assert_eq!(rig.log.sender(EndpointId(0x9999)).last, Sequence(42));
}

#[test]
fn a_snapshot_of_many_senders_spans_records_and_widens_the_segment() {
    let mut limits = small();
    limits.segment_bytes = 64 << 10;
    let mut rig = Rig::new(9, limits);
    for sender in 0..10_000u64 {
        rig.feed_spare();
        let new = NewRecord {
            kind: RecordKind::Frame,
            signature_kind: 1,
            count: 1,
            endpoint: EndpointId(sender << 20),
            channel: ChannelId(1),
            sequence: Sequence(1),
            time: NOW,
        };
        rig.log
            .append(&new, &[b"hello"])
            .expect("the wanted spare is big enough");
        if sender % 100 == 99 {
            rig.begin_commit();
            rig.finish_commit();
        }
    }
    assert!(rig.log.segments() > 2);
    let disk = rig.disk.crash(Crash::Lost);
    let mut storage = partition::memory::MemoryStorage::new(&disk);
    let (log, report) =
        partition::Partition::recover(&mut storage, LOG, limits, NOW).expect("it opens");
    assert_eq!(log.senders().count(), 10_000);
    assert_eq!(report.scanned_segments, 1);
}

#[test]
fn an_owner_can_begin_a_segment_with_its_snapshot_and_find_it_again() {
    let mut rig = Rig::new(10, small());
    let record = |kind| NewRecord {
        kind,
        signature_kind: 0,
        count: 1,
        endpoint: EndpointId(0),
        channel: ChannelId(0),
        sequence: Sequence(0),
        time: NOW,
    };
    let mut snapshots = Vec::new();
    for _ in 0..60 {
        rig.feed_spare();
        if rig.log.will_roll(200) {
            rig.log.roll(NOW).expect("a spare was fed");
            let snapshot = rig
                .log
                .append(&record(RecordKind::QueueSnapshot), &[b"all"])
                .expect("it is empty");
            assert!(!snapshot.rolled);
            assert_eq!(snapshot.first, rig.log.open_base());
            snapshots.push(snapshot.first);
        }
        rig.log
            .append(&record(RecordKind::QueueJournal), &[&[9; 200]])
            .expect("a spare was fed");
    }
    assert!(snapshots.len() > 3);
    assert_eq!(
        rig.log.snapshot_base(),
        *snapshots.last().expect("there are some")
    );
    assert_eq!(
        rig.log.previous_base(rig.log.open_base()),
        Some(snapshots[snapshots.len() - 2])
    );
    assert_eq!(rig.log.previous_base(Offset(0)), None);
    let kinds = |from| {
        rig.log
            .records_from(from)
            .map(|record| record.expect("intact").kind())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(rig.log.snapshot_base())[0], RecordKind::QueueSnapshot);
    assert!(
        kinds(rig.log.snapshot_base())[1..]
            .iter()
            .all(|&kind| kind == RecordKind::QueueJournal)
    );
}

#[test]
fn a_log_without_a_spare_is_full_until_one_arrives() {
    let mut rig = Rig::new(11, small());
    while rig.append().is_ok() {}
    assert_eq!(rig.log.state(), LogState::Full);
    assert_eq!(rig.log.segments(), 1);
    rig.check_records("full");
    rig.commit();
    rig.feed_spare();
    assert_eq!(rig.log.state(), LogState::Open);
    rig.append_many(1);
    rig.check_records("goes on");
}

#[test]
fn a_spare_is_asked_for_once_when_the_segment_is_half_full() {
    let mut rig = Rig::new(12, small());
    assert_eq!(rig.log.wants_spare(), None, "an empty log has its spare");
    rig.append().expect("there is a spare");
    assert_eq!(rig.log.wants_spare(), None, "just begun");
    while rig.log.wants_spare().is_none() {
        rig.append().expect("half is not full");
    }
    assert_eq!(rig.log.request_spare(), Some(4096));
    assert_eq!(rig.log.request_spare(), None, "it is on its way");
    rig.log.spare_failed(partition::StorageError::Full {
        log: LOG,
        bytes: 4096,
    });
    assert!(rig.log.spare_failure().is_some());
    assert_eq!(rig.log.request_spare(), Some(4096), "it failed");
}

#[test]
fn a_log_that_outran_its_spares_has_more_of_them_ready_and_a_full_disk_is_no_such_log() {
    use partition::Storage as _;
    for (why, full, want) in [("outrun", false, 8), ("full", true, 1)] {
        let mut rig = Rig::new(13, small());
        for _ in 0..20 {
            if full {
                let bytes = 4096;
                rig.log
                    .spare_failed(partition::StorageError::Full { log: LOG, bytes });
            }
            while rig.append().is_ok() {}
            assert_eq!(rig.log.state(), LogState::Full, "{why}");
            rig.commit();
            rig.feed_spare();
        }
        rig.append().expect("there is a spare");
        let mut spares = 0;
        while let Some(bytes) = rig.log.request_spare() {
            let spare = rig.storage.prepare(LOG, bytes).expect("no fault");
            rig.log.offer(spare);
            spares += 1;
            assert!(spares <= 8, "{why}");
        }
        // The one that was fed last is in use: a log that only fills its disk waits until that is half full.
        assert_eq!(spares, if full { 0 } else { want }, "{why}");
    }
}

#[test]
fn a_read_deep_in_a_sealed_segment_looks_at_few_places() {
    use partition::memory::MemoryStorage;
    let limits = PartitionLimits {
        segment_bytes: 16 << 20,
        record_bytes_max: 512,
        ..small()
    };
    let mut rig = Rig::new(21, limits);
    let (mut new, _) = rig.draw();
    (new.count, new.channel.0) = (1, 9);
    let mut offset = 0;
    while rig.log.segments() < 2 {
        rig.feed_spare();
        rig.log.append(&new, &[&[7; 72]]).expect("a spare was fed");
        offset += 1;
    }
    rig.commit();
    let mut storage = MemoryStorage::new(&rig.disk);
    let (log, _) = Partition::recover(&mut storage, LOG, limits, NOW).expect("it opens");
    assert!(offset > 120_000, "{offset}");
    let mut random = partition::memory::Random::new(3);
    // Random places, then a walk from each: every record by its own offset.
    for _ in 0..500 {
        let from = random.below(offset - 20);
        for at in from..from + 20 {
            let record = log.read(Offset(at)).expect("it is intact");
            assert_eq!((record.first().0, record.count()), (at, 1));
        }
    }
    // A walk over the headers would visit 130,000 records for the last message of the sealed segment alone.
    let (log, _) = Partition::recover(&mut storage, LOG, limits, NOW).expect("it opens");
    log.read(Offset(offset - 2)).expect("it is intact");
    assert!(log.looks() < 400, "{} looks", log.looks());
}
