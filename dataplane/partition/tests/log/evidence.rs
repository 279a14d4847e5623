//! What tells damage from a torn tail, and exactly how far it reaches.

use partition::memory::{Crash, Disk, MemoryStorage};
use partition::{DamageKind, LogState, Partition, ReadError, Recovery, SegmentRef, Storage};
use wire::ids::Offset;

use crate::harness::{LOG, MemoryLog, NOW, Rig, small};

fn recover(disk: &Disk) -> (MemoryLog, Recovery) {
    let mut storage = MemoryStorage::new(disk);
    Partition::recover(&mut storage, LOG, small(), NOW).expect("damage is no failure")
}

/// File and bytes of a record.
fn place(rig: &Rig, number: usize) -> (SegmentRef, std::ops::Range<usize>) {
    let record = rig.log.read(Offset(rig.list[number].first));
    let record = record.expect("it is intact");
    let from = record.position().0 as usize;
    let bytes = partition::RECORD_HEADER_BYTES + record.payload().len();
    (
        SegmentRef {
            log: LOG,
            id: record.segment(),
        },
        from..from + bytes,
    )
}

/// Two commits of three records each in one segment, the second one the last thing that happened.
fn two_commits(seed: u64) -> Rig {
    let mut rig = Rig::new(seed, small());
    for _ in 0..2 {
        rig.append_many(3);
        rig.commit();
    }
    rig
}

#[test]
fn damage_to_the_last_commit_passes_for_a_torn_tail_only_while_nothing_says_that_its_sync_ended() {
    for seed in 0..20 {
        let rig = two_commits(seed);
        for victim in 0..6 {
            let (file, bytes) = place(&rig, victim);
            for byte in bytes.clone() {
                let why = format!("seed {seed} record {victim} byte {byte}");
                let hit = rig.list[victim].first..rig.list[victim].next();
                // The machine goes on: what was written after the sync is seen, synced or not.
                let disk = rig.disk.crash(Crash::Kept);
                disk.damage(file, |file| file[byte] ^= 4);
                let (log, report) = recover(&disk);
                assert_eq!(report.damage.len(), 1, "{why}");
                assert_eq!(
                    report.damage[0].offsets,
                    Offset(hit.start)..Offset(hit.end),
                    "{why}"
                );
                assert_eq!(log.appended().0, rig.durable, "{why}");
                // The power goes before the kernel has written any of that back.
                let disk = rig.disk.crash(Crash::Lost);
                disk.damage(file, |file| file[byte] ^= 4);
                let (log, report) = recover(&disk);
                if victim < 3 {
                    assert_eq!(
                        report.damage.len(),
                        1,
                        "{why}: the commit behind it vouches"
                    );
                    assert_eq!(
                        report.damage[0].offsets,
                        Offset(hit.start)..Offset(hit.end),
                        "{why}"
                    );
                    assert_eq!(log.appended().0, rig.durable, "{why}");
                } else {
                    // Nothing on the medium differs from a sync that never ended. It is told as a cut, and kept.
                    assert_eq!(
                        (report.damage.len(), log.appended().0),
                        (0, hit.start),
                        "{why}"
                    );
                    assert!(
                        report.cut_bytes > 0 && report.cuts.iter().all(|cut| cut.kept),
                        "{why}"
                    );
                    let aside = disk.set_aside(file);
                    assert_eq!(aside[0].0 as usize, bytes.start, "{why}");
                    let in_copy = aside[0].1.len().min(bytes.len());
                    let mut was = rig.disk.contents(file).expect("it is there");
                    was[byte] ^= 4;
                    assert_eq!(
                        aside[0].1[..in_copy],
                        was[bytes.start..bytes.start + in_copy],
                        "{why}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_segment_whose_header_fell_back_to_a_spare_is_not_given_away() {
    for seed in 0..10 {
        let mut rig = Rig::new(seed, small());
        for _ in 0..6 {
            rig.append_many(8);
            rig.commit();
        }
        for file in rig.disk.files() {
            let disk = rig.disk.crash(Crash::Kept);
            let whole = disk.contents(file).expect("it is there");
            if whole[10] != 2 {
                continue;
            }
            // The write of the live header never reached the medium, all later ones did.
            let spare = MemoryStorage::new(&Disk::new(1))
                .prepare(LOG, 4096)
                .expect("there is room");
            let mut header = partition::Segment::bytes(&spare, 0..64).to_vec();
            header[16..24].copy_from_slice(&file.id.0.to_le_bytes());
            let sum = xxhash_rust::xxh3::xxh3_64(&header[..56]).to_le_bytes();
            header[56..].copy_from_slice(&sum);
            disk.damage(file, |bytes| bytes[..64].copy_from_slice(&header));
            let (log, report) = recover(&disk);
            for want in &rig.list {
                let why = format!("seed {seed} {}", file.id);
                want.assert_is(&log.read(Offset(want.first)).expect("it is served"), &why);
            }
            assert!(
                report
                    .damage
                    .iter()
                    .any(|damage| damage.kind == DamageKind::Header)
            );
            assert!(disk.contents(file).is_some(), "it keeps its name");
        }
    }
}

#[test]
fn an_open_segment_that_is_gone_is_missed_and_its_offsets_are_not_given_again() {
    for remains in [false, true] {
        let mut rig = Rig::new(3, small());
        rig.append_many(60);
        rig.commit();
        let (base, end) = (rig.log.open_base(), rig.log.appended());
        let id = rig.log.read(base).expect("it is intact").segment();
        let disk = rig.disk.crash(Crash::Kept);
        let file = SegmentRef { log: LOG, id };
        if remains {
            disk.damage(file, |bytes| bytes.fill(0));
        } else {
            disk.take_away(file);
        }
        let (mut log, report) = recover(&disk);
        assert_eq!(report.damage.len(), 1);
        assert_eq!(
            (report.damage[0].segment, &report.damage[0].offsets),
            (id, &(base..end))
        );
        assert_eq!(log.state(), LogState::Open);
        assert_eq!(
            log.read(base).map(|_| ()),
            Err(ReadError::Damaged { next: end })
        );
        let (new, payload) = rig.draw();
        assert_eq!(
            log.append(&new, &[&payload])
                .expect("there is a spare")
                .first,
            end
        );
        let (log, report) = recover(&disk);
        let offsets = report.damage.iter().map(|damage| damage.offsets.clone());
        assert!(
            offsets.clone().any(|offsets| offsets == (base..end)) || remains,
            "{report:?}"
        );
        assert_eq!(log.read(end).expect("it is intact").payload(), payload);
    }
}

#[test]
fn a_log_with_a_longer_record_limit_begins_anew_over_an_empty_segment() {
    let mut rig = Rig::new(4, small());
    rig.append_many(1);
    // Only the segment's header and the senders' snapshot are on disk.
    let (file, bytes) = place(&rig, 0);
    let disk = rig.disk.crash(Crash::Kept);
    disk.damage(file, |contents| contents[bytes].fill(0));
    let limits = partition::PartitionLimits {
        segment_bytes: 16_384,
        record_bytes_max: 6_000,
        ..small()
    };
    let mut storage = MemoryStorage::new(&disk);
    let (mut log, report) = Partition::recover(&mut storage, LOG, limits, NOW).expect("it opens");
    assert_eq!((report.damage.len(), log.appended()), (0, Offset(0)));
    let (new, _) = rig.draw();
    let payload = vec![5; 6_000];
    log.offer(storage.prepare(LOG, 16_384).expect("there is room"));
    log.append(&new, &[&payload])
        .expect("the new segment has room");
    for crash in [Crash::Kept, Crash::Lost] {
        let disk = disk.crash(crash);
        let (log, report) =
            Partition::recover(&mut MemoryStorage::new(&disk), LOG, limits, NOW).expect("it opens");
        assert_eq!(report.damage, [], "{crash:?}");
        assert!(crash == Crash::Lost || log.appended().0 > 0);
    }
    let (log, report) = Partition::recover(&mut storage, LOG, limits, NOW).expect("it opens");
    assert_eq!(report.damage, []);
    assert_eq!(
        log.read(Offset(0)).expect("it is intact").payload(),
        payload
    );
}

#[test]
fn zeroes_over_a_cut_tail_are_written_again_when_their_sync_has_failed() {
    for seed in 0..30 {
        let mut rig = two_commits(seed);
        rig.append_many(4);
        let sectors = rig.disk.unsynced_sectors() as u64;
        // A hole in front of intact records.
        let disk = rig
            .disk
            .crash(Crash::Sectors(u64::MAX << (seed % sectors + 1)));
        disk.inject(partition::memory::Fault::Sync(1));
        let (log, first) = recover(&disk);
        let sealed = log.state() == LogState::Sealed;
        assert!(sealed, "seed {seed}: {first:?}");
        // The process starts again without a power failure, then the power goes.
        let (log, _) = recover(&disk);
        assert_eq!(log.state(), LogState::Open);
        let lost = disk.crash(Crash::Lost);
        for cut in &first.cuts {
            let file = SegmentRef {
                log: LOG,
                id: cut.segment,
            };
            let bytes = lost.contents(file).unwrap_or_default();
            let (from, to) = (cut.positions.start.0 as usize, cut.positions.end.0 as usize);
            let (_, report) = recover(&lost);
            assert_eq!(report.cut_records, 0, "seed {seed}: what was cut is back");
            if !bytes.is_empty() {
                // A note may stand at its start.
                let rest = &bytes[to.min(from + partition::RECORD_HEADER_BYTES)..to];
                assert!(rest.iter().all(|&byte| byte == 0), "seed {seed}");
            }
        }
    }
}
