//! Power failures: every image a disk may hold afterwards is a prefix with everything durable in it.

use partition::PartitionLimits;
use partition::memory::Crash;

use wire::ids::Offset;

use crate::harness::{Expected, Rig, small};

/// Random work, ending at any point, also in the middle of a sync.
fn work(rig: &mut Rig, steps: u64) {
    for _ in 0..rig.random.below(steps) + 1 {
        match rig.random.below(12) {
            0 | 1 => rig.begin_commit(),
            2 | 3 => rig.finish_commit(),
            4 => rig.feed_spare(),
            _ => {
                rig.feed_spare();
                rig.append().expect("a spare was fed");
            }
        }
    }
}

#[test]
fn after_any_crash_the_log_is_a_prefix_with_everything_durable_in_it() {
    let mut images = 0;
    // The last one began with a torn segment header before any commit.
    for seed in (0..400).chain([1415]) {
        let mut rig = Rig::new(seed, small());
        // Several lives on one disk: what a crash cut must never come back in a later one.
        for life in 0..6 {
            work(&mut rig, 60);
            let why = format!("seed {seed} life {life}");
            let crash = match rig.random.below(8) {
                0 => Crash::Lost,
                1 => Crash::Kept,
                _ => Crash::Seeded(rig.random.next_u64()),
            };
            let report = rig.reopen(rig.disk.crash(crash), &why);
            assert_eq!(report.damage, [], "{why}: a crash is no damage");
            images += 1;
        }
    }
    assert_eq!(images, 2_406);
}

#[test]
fn many_images_of_one_moment_recover_alike_and_twice() {
    for seed in 0..20 {
        let mut rig = Rig::new(seed, small());
        work(&mut rig, 200);
        for image in 0..50 {
            let why = format!("seed {seed} image {image}");
            let mut again = Rig::new(seed, small());
            again.list.clone_from(&rig.list);
            again.durable = rig.durable;
            again.reopen(rig.disk.crash(Crash::Seeded(image)), &why);
            let (appended, cut) = (again.log.appended(), again.disk.clone());
            let report = again.reopen(cut.crash(Crash::Lost), &why);
            assert_eq!(again.log.appended(), appended, "{why}: recovery is durable");
            assert_eq!(
                (report.cut_bytes, report.cut_records),
                (0, 0),
                "{why}: and complete"
            );
        }
    }
}

#[test]
fn every_subset_of_unsynced_sectors_is_survived() {
    let mut visited = 0;
    for seed in 0..12 {
        let mut rig = Rig::new(seed, small());
        rig.append_many(3 + seed as usize);
        rig.commit();
        while rig.disk.unsynced_sectors() < 6 {
            rig.append_many(1);
        }
        let sectors = rig.disk.unsynced_sectors();
        for mask in 0..1u64 << sectors.min(10) {
            reopen_copy(&rig, seed, Crash::Sectors(mask));
            visited += 1;
        }
        for writes in 0..=rig.disk.unsynced_writes() as u64 {
            reopen_copy(&rig, seed, Crash::Writes(writes));
        }
    }
    assert!(visited >= 12 * 64, "{visited}");
}

fn reopen_copy(rig: &Rig, seed: u64, crash: Crash) {
    let mut again = Rig::new(seed, small());
    again.list.clone_from(&rig.list);
    again.durable = rig.durable;
    let why = format!("seed {seed} {crash:?}");
    let report = again.reopen(rig.disk.crash(crash), &why);
    assert_eq!(report.damage, [], "{why}");
    // The next records land where the torn ones were, and only they are there after one more crash.
    again.append_many(2);
    again.commit();
    again.append_many(1);
    again.reopen(again.disk.crash(Crash::Kept), &why);
    again.reopen(again.disk.crash(Crash::Lost), &why);
}

#[test]
fn a_tail_that_was_cut_stays_cut_however_the_next_records_fit_into_it() {
    for first_lost in 0..6 {
        let mut rig = Rig::new(first_lost, small());
        rig.append_many(2);
        rig.commit();
        rig.append_many(6);
        // The first unsynced sector is lost, all behind it survive: intact records behind a hole.
        let sectors = rig.disk.unsynced_sectors() as u64;
        let mask = u64::MAX << (first_lost % sectors) << 1;
        let report = rig.reopen(
            rig.disk
                .crash(Crash::Sectors(mask | ((1 << (first_lost % sectors)) - 1))),
            "torn",
        );
        let cut = report.cut_records;
        rig.append_many(1);
        let report = rig.reopen(rig.disk.crash(Crash::Kept), "one more");
        assert_eq!(report.cut_records, 0, "{cut} records had been cut");
    }
}

#[test]
fn a_cut_record_never_follows_a_new_one_of_the_same_length() {
    // Two sectors a record, so that one lost sector lies wholly inside the record it destroys.
    let limits = PartitionLimits {
        segment_bytes: 8192,
        record_bytes_max: 968,
        ..small()
    };
    for kept in 1..6u64 {
        let mut rig = Rig::new(kept, limits);
        let append = |rig: &mut Rig, text: u8| {
            let (mut new, _) = rig.draw();
            new.count = 1;
            let payload = vec![text; 968];
            let first = rig
                .log
                .append(&new, &[&payload])
                .expect("one segment has room")
                .first
                .0;
            rig.list.push(Expected {
                first,
                new,
                payload,
            });
        };
        append(&mut rig, 0);
        rig.commit();
        (1..=5).for_each(|text| append(&mut rig, text));
        let report = rig.reopen(
            rig.disk.crash(Crash::Sectors(!(1 << (2 * kept - 1)))),
            "torn",
        );
        assert_eq!(rig.log.appended().0, kept);
        assert_eq!(report.cut_records, 5 - kept);
        append(&mut rig, 99);
        rig.reopen(
            rig.disk.crash(Crash::Kept),
            "one new record of the same length",
        );
        assert_eq!(rig.log.appended().0, kept + 1);
        assert_eq!(
            rig.log.read(Offset(kept)).expect("it is intact").payload(),
            [99; 968]
        );
    }
}
