//! Bytes that change behind the log's back: found, named, fenced, and never a reason to delete.

use partition::memory::{Crash, Random};
use partition::{DamageKind, ReadError, SegmentRef};
use wire::ids::Offset;

use crate::harness::{Expected, Rig, small};

/// Several committed segments whose last commit is on record.
fn committed(seed: u64) -> Rig {
    let mut rig = Rig::new(seed, small());
    for _ in 0..12 {
        rig.append_many(8);
        rig.commit();
    }
    rig
}

/// What reading everything after the damage gave.
struct Outcome {
    lost: Vec<u64>,
    damage: Vec<(DamageKind, std::ops::Range<u64>)>,
    files: usize,
}

/// Damage a copy of the disk and read everything: every record that comes back is as appended, every
/// other one is inside a reported gap.
fn read_all(rig: &Rig, file: SegmentRef, why: &str, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
    let disk = rig.disk.crash(Crash::Kept);
    disk.damage(file, change);
    let mut storage = partition::memory::MemoryStorage::new(&disk);
    let (log, report) = partition::Partition::recover(
        &mut storage,
        crate::harness::LOG,
        rig.limits,
        crate::harness::NOW,
    )
    .expect("damage is no failure");
    let end = rig.list.last().map_or(0, Expected::next);
    let mut lost = Vec::new();
    let mut at = 0;
    while at < end {
        match log.read(Offset(at)) {
            Ok(record) => {
                let want = rig
                    .list
                    .iter()
                    .find(|want| want.first == record.first().0)
                    .expect("it was appended");
                want.assert_is(&record, why);
                at = record.next().0;
            }
            Err(ReadError::Damaged { next }) => {
                assert!(next.0 > at, "{why}: {next} is no progress from {at}");
                lost.extend(at..next.0);
                at = next.0;
            }
            Err(ReadError::Expired { first }) => {
                lost.extend(at..first.0);
                at = first.0;
            }
            Err(ReadError::NotYet) => {
                lost.extend(at..end);
                at = end;
            }
        }
    }
    let gaps = log.records_from(log.first()).filter(Result::is_err).count();
    assert!(gaps <= lost.len(), "{why}: a walk meets each gap once");
    let damage = report
        .damage
        .iter()
        .map(|damage| (damage.kind, damage.offsets.start.0..damage.offsets.end.0));
    Outcome {
        lost,
        damage: damage.collect(),
        files: disk.files().len(),
    }
}

/// The offsets of records with a byte in the range, told from where the intact log has them.
fn offsets_in(rig: &Rig, file: SegmentRef, bytes: std::ops::Range<usize>) -> Vec<u64> {
    let mut offsets = Vec::new();
    for want in &rig.list {
        let record = rig
            .log
            .read(Offset(want.first))
            .expect("nothing is damaged yet");
        let start = record.position().0 as usize;
        let end = start + partition::RECORD_HEADER_BYTES + record.payload().len();
        if record.segment() == file.id && start < bytes.end && bytes.start < end {
            offsets.extend(want.first..want.next());
        }
    }
    offsets
}

#[test]
fn a_flipped_bit_anywhere_costs_at_most_the_record_it_hit() {
    let mut hits = 0;
    for seed in 0..4 {
        let rig = committed(seed);
        let files = rig.disk.files();
        let mut random = Random::new(seed);
        for _ in 0..1_500 {
            let file = files[random.below(files.len() as u64) as usize];
            let (byte, bit) = (random.below(4096) as usize, random.below(8));
            let why = format!("seed {seed} {} byte {byte} bit {bit}", file.id);
            let outcome = read_all(&rig, file, &why, |bytes| bytes[byte] ^= 1 << bit);
            assert_eq!(
                outcome.lost,
                offsets_in(&rig, file, byte..byte + 1),
                "{why}"
            );
            assert_eq!(outcome.files, files.len(), "{why}: no file is deleted");
            let reported = outcome
                .damage
                .iter()
                .any(|(kind, _)| *kind == DamageKind::Header);
            let live = !offsets_in(&rig, file, 0..4096).is_empty();
            assert_eq!(
                reported,
                live && byte < 64,
                "{why}: a damaged header is reported"
            );
            hits += usize::from(!outcome.lost.is_empty());
        }
    }
    assert!(hits > 1_000, "{hits}");
}

#[test]
fn a_zeroed_or_swapped_sector_costs_at_most_the_records_it_hit() {
    for seed in 0..4 {
        let rig = committed(seed);
        let files = rig.disk.files();
        let open = rig
            .log
            .read(rig.log.open_base())
            .expect("it has a record")
            .segment();
        for &file in &files {
            for sector in 0..8usize {
                let (from, to) = (sector * 512, sector * 512 + 512);
                let hit = offsets_in(&rig, file, from..to);
                let why = format!("seed {seed} {} sector {sector}", file.id);
                let outcome = read_all(&rig, file, &why, |bytes| bytes[from..to].fill(0));
                assert_eq!(outcome.lost, hit, "{why} zeroed");
                if file.id == open {
                    // Two sectors at once may take the last record and the note that vouches for it.
                    continue;
                }
                let other = (sector + 3) % 8 * 512;
                let mut both = offsets_in(&rig, file, other..other + 512);
                both.extend(&hit);
                let outcome = read_all(&rig, file, &why, |bytes| {
                    let (mut here, mut there) = ([0; 512], [0; 512]);
                    here.copy_from_slice(&bytes[from..to]);
                    there.copy_from_slice(&bytes[other..other + 512]);
                    bytes[from..to].copy_from_slice(&there);
                    bytes[other..other + 512].copy_from_slice(&here);
                });
                assert!(
                    outcome.lost.iter().all(|offset| both.contains(offset)),
                    "{why} swapped"
                );
                assert_eq!(outcome.files, files.len(), "{why}");
            }
        }
    }
}

#[test]
fn damage_in_the_open_segment_is_reported_with_exact_offsets_and_positions() {
    let rig = committed(9);
    let open = rig.log.open_base();
    let victim = rig
        .list
        .iter()
        .find(|record| record.first >= open.0 && !record.payload.is_empty())
        .expect("one");
    let (file, position) = {
        let record = rig.log.read(Offset(victim.first)).expect("it is intact");
        (
            SegmentRef {
                log: crate::harness::LOG,
                id: record.segment(),
            },
            record.position().0 as usize,
        )
    };
    let outcome = read_all(&rig, file, "payload", |bytes| bytes[position + 56] ^= 1);
    assert_eq!(
        outcome.damage,
        [(DamageKind::Records, victim.first..victim.next())]
    );
    assert_eq!(
        outcome.lost,
        (victim.first..victim.next()).collect::<Vec<_>>()
    );
}

#[test]
fn a_log_with_damage_goes_on_and_stays_so() {
    let mut rig = committed(10);
    let open = rig.log.open_base();
    let victim = rig
        .list
        .iter()
        .position(|record| record.first >= open.0)
        .expect("one");
    let record = rig
        .log
        .read(Offset(rig.list[victim].first))
        .expect("it is intact");
    let file = SegmentRef {
        log: crate::harness::LOG,
        id: record.segment(),
    };
    let position = record.position().0 as usize;
    let disk = rig.disk.crash(Crash::Kept);
    disk.damage(file, |bytes| bytes[position + 20] ^= 1);
    let mut storage = partition::memory::MemoryStorage::new(&disk);
    for round in 0..5 {
        let recovered =
            partition::Partition::recover(&mut storage, file.log, rig.limits, crate::harness::NOW);
        let (mut log, report) = recovered.expect("damage is no failure");
        assert_eq!(report.damage.len(), 1, "round {round}");
        assert!(matches!(
            log.read(Offset(rig.list[victim].first)),
            Err(ReadError::Damaged { .. })
        ));
        let (new, payload) = rig.draw();
        let appended = log.append(&new, &[&payload]).expect("there is room");
        let first = rig.list.last().map_or(0, Expected::next);
        assert_eq!(appended.first, Offset(first), "round {round}");
        rig.list.push(Expected {
            first,
            new,
            payload,
        });
        let ticket = log.begin_commit().expect("something is new");
        let result = ticket
            .segments
            .iter()
            .try_for_each(|segment| partition::Storage::sync(&mut storage, segment));
        log.finish_commit(ticket, result).expect("no fault");
        for want in rig
            .list
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != victim)
            .map(|(_, want)| want)
        {
            want.assert_is(
                &log.read(Offset(want.first)).expect("only one is damaged"),
                "others",
            );
        }
    }
}

#[test]
fn a_shorter_file_loses_only_what_was_cut_off() {
    for seed in 0..3 {
        let rig = committed(seed);
        let files = rig.disk.files();
        let open = rig
            .log
            .read(rig.log.open_base())
            .expect("it has a record")
            .segment();
        for &file in files.iter().filter(|file| file.id != open) {
            for bytes_left in [4095, 4000, 3000, 2048, 515, 300, 120, 64] {
                let why = format!("seed {seed} {} cut to {bytes_left}", file.id);
                let outcome = read_all(&rig, file, &why, |bytes| bytes.truncate(bytes_left));
                assert_eq!(
                    outcome.lost,
                    offsets_in(&rig, file, bytes_left..4096),
                    "{why}"
                );
                let spare = offsets_in(&rig, file, 0..4096).is_empty();
                assert!(
                    spare
                        || outcome
                            .damage
                            .iter()
                            .any(|(kind, _)| *kind == DamageKind::Truncated),
                    "{why}"
                );
                let spare_went = spare && outcome.files + 1 == files.len();
                assert!(spare_went || outcome.files == files.len(), "{why}");
            }
        }
    }
}

#[test]
fn a_lost_header_is_reported_and_its_records_are_served() {
    let rig = committed(3);
    for file in rig.disk.files() {
        if offsets_in(&rig, file, 0..4096).is_empty() {
            continue;
        }
        let outcome = read_all(&rig, file, "header", |bytes| bytes[..64].fill(0));
        assert_eq!(outcome.lost, [], "{}", file.id);
        assert!(
            outcome
                .damage
                .iter()
                .any(|(kind, _)| *kind == DamageKind::Header),
            "{}",
            file.id
        );
    }
}

#[test]
fn a_segment_without_anything_readable_is_left_alone_and_the_others_are_served() {
    let rig = committed(4);
    let files = rig.disk.files();
    for &file in &files {
        let hit = offsets_in(&rig, file, 0..4096);
        let outcome = read_all(&rig, file, "all zero", |bytes| bytes.fill(0));
        assert_eq!(outcome.lost, hit, "{}", file.id);
        assert!(
            outcome
                .damage
                .iter()
                .any(|(kind, _)| *kind == DamageKind::Unreadable),
            "{}",
            file.id
        );
        assert_eq!(outcome.files, files.len());
    }
}

#[test]
fn senders_survive_a_damaged_snapshot() {
    let rig = committed(5);
    let open = rig
        .log
        .read(rig.log.open_base())
        .expect("it has a record")
        .segment();
    let file = SegmentRef {
        log: crate::harness::LOG,
        id: open,
    };
    for byte in 64..64 + 56 + 24 {
        let disk = rig.disk.crash(Crash::Kept);
        disk.damage(file, |bytes| bytes[byte] ^= 0x10);
        let mut again = Rig::new(5, small());
        again.list.clone_from(&rig.list);
        again.durable = rig.durable;
        let report = again.reopen(disk, &format!("byte {byte}"));
        assert_eq!(report.damage.len(), 1, "byte {byte}");
        assert!(
            report.damage[0].offsets.is_empty(),
            "byte {byte}: no message is lost"
        );
    }
}

#[test]
fn damage_to_the_last_record_is_told_from_a_torn_tail_after_a_commit_and_after_a_restart() {
    for restart in [false, true] {
        let mut rig = Rig::new(6, small());
        rig.append_many(5);
        rig.commit();
        if restart {
            // The note of the commit is lost; recovery leaves one of its own.
            rig.reopen(rig.disk.crash(Crash::Lost), "restart");
        }
        let last = rig.list.last().expect("there are some").clone();
        let record = rig.log.read(Offset(last.first)).expect("it is intact");
        let (id, position) = (record.segment(), record.position().0 as usize);
        let file = SegmentRef {
            log: crate::harness::LOG,
            id,
        };
        let outcome = read_all(&rig, file, "last", |bytes| bytes[position + 30] ^= 1);
        assert_eq!(
            outcome.damage,
            [(DamageKind::Records, last.first..last.next())],
            "restart: {restart}"
        );
    }
}

#[test]
fn a_segment_no_commit_of_its_own_vouches_for_is_kept_for_the_commits_behind_it() {
    for seed in 0..8 {
        let mut rig = Rig::new(seed, small());
        rig.append_many(4);
        rig.commit();
        rig.append_many(70);
        rig.commit();
        rig.append_many(4);
        rig.commit();
        let open = rig.log.open_base();
        let base = rig.log.previous_base(open).expect("there are many");
        let id = rig.log.read(base).expect("it is intact").segment();
        let log = crate::harness::LOG;
        let files = rig.disk.files().len();
        // The header's checksum, then the senders' snapshot behind it.
        for bytes in [&[57][..], &[57, 64 + 30]] {
            let why = format!("seed {seed} {bytes:?}");
            let outcome = read_all(&rig, SegmentRef { log, id }, &why, |contents| {
                bytes.iter().for_each(|&byte| contents[byte] ^= 0x20);
            });
            assert_eq!(outcome.lost, [], "{why}");
            assert_eq!(outcome.files, files, "{why}");
            let header = |(kind, _): &(DamageKind, _)| *kind == DamageKind::Header;
            assert!(outcome.damage.iter().any(header), "{why}");
        }
    }
}

#[test]
fn damage_costs_at_most_the_last_commit_however_commits_and_appends_overlap() {
    let mut rig = Rig::new(11, small());
    rig.append_many(2);
    rig.begin_commit();
    rig.append_many(2);
    rig.finish_commit();
    let first = rig.list[0].clone();
    // Everything of the second commit was appended while the first was under way.
    rig.begin_commit();
    rig.append_many(1);
    rig.finish_commit();
    let record = rig.log.read(Offset(first.first)).expect("it is intact");
    let (id, position) = (record.segment(), record.position().0 as usize);
    let log = crate::harness::LOG;
    rig.disk = rig.disk.crash(Crash::Lost);
    let outcome = read_all(&rig, SegmentRef { log, id }, "first commit", |bytes| {
        bytes[position + 30] ^= 1;
    });
    let hit = first.first..first.next();
    assert_eq!(outcome.damage, [(DamageKind::Records, hit.clone())]);
    let unsynced = rig.list[4].first..rig.list[4].next();
    let lost: Vec<u64> = hit.chain(unsynced).collect();
    assert_eq!(outcome.lost, lost);
}
