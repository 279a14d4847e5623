//! Retention, and segments that live more than once.

use std::time::Duration;

use partition::memory::Crash;
use partition::{PartitionLimits, ReadError, Storage};
use wire::ids::{Offset, UnixNanos};

use crate::harness::{LOG, Rig, small};

fn retire(rig: &mut Rig, now: UnixNanos) -> usize {
    let mut retired = 0;
    while let Some(segment) = rig.log.expire(now) {
        retired += 1;
        if let Some(spare) = rig.storage.retire(LOG, segment).expect("no fault") {
            rig.log.offer(spare);
        }
    }
    retired
}

#[test]
fn segments_beyond_the_bound_in_bytes_expire_and_live_again() {
    let limits = PartitionLimits {
        retention_bytes: Some(5 * 4096),
        ..small()
    };
    let mut rig = Rig::new(1, limits);
    for round in 0..40 {
        rig.append_many(30);
        rig.commit();
        retire(&mut rig, UnixNanos(0));
        assert!(rig.log.bytes() <= 5 * 4096);
        assert!(rig.disk.bytes() <= 8 * 4096, "{} bytes", rig.disk.bytes());
        rig.check_records("after expiry");
        if round % 3 == 0 {
            let report = rig.reopen(rig.disk.crash(Crash::Lost), "recycled");
            assert_eq!(report.damage, []);
        }
    }
    let first = rig.log.first();
    assert!(first > Offset(1000));
    assert!(
        matches!(rig.log.read(Offset(0)), Err(ReadError::Expired { first: seen }) if seen == first)
    );
}

#[test]
fn crashes_over_recycled_segments_never_bring_an_earlier_life_back() {
    let limits = PartitionLimits {
        retention_bytes: Some(3 * 4096),
        ..small()
    };
    // The last one lost the header of a segment and tore that of the next.
    for seed in (0..150).chain([369]) {
        let mut rig = Rig::new(seed, limits);
        for life in 0..6 {
            for _ in 0..rig.random.below(6) + 1 {
                rig.append_many(12);
                if rig.random.below(3) > 0 {
                    rig.commit();
                }
                retire(&mut rig, UnixNanos(0));
            }
            let crash = Crash::Seeded(rig.random.next_u64());
            let report = rig.reopen(rig.disk.crash(crash), &format!("seed {seed} life {life}"));
            assert_eq!(report.damage, [], "seed {seed} life {life}");
        }
    }
}

#[test]
fn segments_expire_by_the_age_of_their_newest_record() {
    let limits = PartitionLimits {
        retention_age: Some(Duration::from_nanos(100)),
        ..small()
    };
    let mut rig = Rig::new(2, limits);
    rig.append_many(100);
    rig.commit();
    let segments = rig.log.segments();
    assert_eq!(retire(&mut rig, UnixNanos(0)), 0, "nothing is that old");
    let newest = rig.list.last().expect("there are some").new.time;
    retire(&mut rig, UnixNanos(newest.0 + 100));
    assert_eq!(
        (rig.log.segments(), segments > 3),
        (1, true),
        "all but the open one"
    );
    let first = rig.log.first();
    assert_eq!(first, rig.log.open_base());
    assert!(rig.log.read(first).is_ok());
}

#[test]
fn what_is_held_or_not_committed_does_not_expire() {
    let limits = PartitionLimits {
        retention_bytes: Some(0),
        ..small()
    };
    let mut rig = Rig::new(3, limits);
    rig.append_many(60);
    assert_eq!(retire(&mut rig, UnixNanos(0)), 0, "nothing is on disk yet");
    rig.log.commit_local();
    assert_eq!(
        retire(&mut rig, UnixNanos(0)),
        0,
        "nor after a local commit"
    );
    rig.commit();
    let hold = rig
        .log
        .previous_base(rig.log.open_base())
        .expect("there are many segments");
    rig.log.set_hold(Some(hold));
    let segments = rig.log.segments();
    retire(&mut rig, UnixNanos(0));
    assert_eq!((rig.log.segments(), segments > 2), (2, true));
    assert!(rig.log.first() <= hold && rig.log.read(hold).is_ok());
    rig.log.set_hold(None);
    retire(&mut rig, UnixNanos(0));
    assert_eq!(rig.log.first(), rig.log.open_base());
}

#[test]
fn a_segment_stays_until_the_snapshot_that_sums_it_up_is_on_disk() {
    let limits = PartitionLimits {
        retention_bytes: Some(0),
        ..small()
    };
    let mut rig = Rig::new(5, limits);
    rig.append_many(2);
    let spare = rig.storage.prepare(LOG, 4096).expect("there is room");
    rig.log.offer(spare);
    rig.begin_commit();
    rig.log.roll(UnixNanos(1)).expect("there is a spare");
    rig.append_many(1);
    rig.finish_commit();
    assert_eq!(
        (rig.log.segments(), rig.log.committed()),
        (2, rig.log.open_base())
    );
    assert!(
        rig.log.expire(UnixNanos(0)).is_none(),
        "the new segment may be lost"
    );
    rig.append_many(1);
    rig.commit();
    assert!(rig.log.expire(UnixNanos(0)).is_some());
}

#[test]
fn an_owner_expires_what_it_no_longer_needs() {
    let mut rig = Rig::new(4, small());
    rig.append_many(100);
    rig.commit();
    let before = rig
        .log
        .previous_base(rig.log.open_base())
        .expect("there are many");
    while let Some(segment) = rig.log.expire_before(before) {
        rig.storage.remove(LOG, segment).expect("no fault");
    }
    assert_eq!(rig.log.first(), before);
    rig.reopen(rig.disk.crash(Crash::Lost), "expired");
    assert_eq!(rig.log.first(), before);
}

#[test]
fn a_log_that_writes_over_its_own_files_asks_for_no_new_ones() {
    let limits = PartitionLimits {
        retention_bytes: Some(5 * 4096),
        ..small()
    };
    let mut rig = Rig::new(4, limits);
    // The recycled segment comes back late: when the next one is more than half full.
    let (mut recycled, mut asked_meanwhile, mut rolls) = (None, 0, 0);
    while rolls < 20 {
        let segments = rig.log.segments();
        if rig.append().is_err() {
            let spare = recycled.take();
            let spare =
                spare.unwrap_or_else(|| rig.storage.prepare(LOG, 4096).expect("there is room"));
            rig.log.offer(spare);
            continue;
        }
        asked_meanwhile += u32::from(recycled.is_some() && rig.log.wants_spare().is_some());
        if rig.log.segments() > segments {
            rig.commit();
            if let Some(old) = rig.log.expire(UnixNanos(0)) {
                rolls += 1;
                recycled = rig.storage.retire(LOG, old).expect("no fault");
            }
        }
    }
    assert_eq!(asked_meanwhile, 0);
    // What was given away and never came back does not stop the log: a record that waits asks again.
    let old = recycled.take();
    while rig.append().is_ok() {}
    assert!(rig.log.wants_spare().is_some());
    drop(old);
}

#[test]
fn a_log_that_outran_its_spares_writes_over_its_own_files_too() {
    let limits = PartitionLimits {
        retention_bytes: Some(5 * 4096),
        ..small()
    };
    let mut rig = Rig::new(5, limits);
    // Three times a record has to wait: from then on the log keeps four spares.
    for _ in 0..3 {
        while rig.append().is_ok() {}
        rig.feed_spare();
    }
    let (mut prepared, mut removed, mut rolls) = (0, 0, 0);
    while rolls < 100 {
        if let Some(bytes) = rig.log.request_spare() {
            let spare = rig.storage.prepare(LOG, bytes).expect("there is room");
            rig.log.offer(spare);
            prepared += u32::from(rolls >= 10);
        }
        // The sync that lets the oldest segment go begins and ends a few records behind the roll.
        let segments = rig.log.segments();
        rig.append().expect("there are spares");
        if rig.log.segments() > segments {
            rolls += 1;
        } else if rig.append().is_ok() {
            rig.commit();
            while let Some(old) = rig.log.expire(UnixNanos(0)) {
                let kept = rig.storage.retire(LOG, old).expect("no fault");
                removed += u32::from(kept.is_none() && rolls >= 10);
                kept.into_iter().for_each(|spare| rig.log.offer(spare));
            }
        }
    }
    assert_eq!((prepared, removed), (0, 0));
    assert!(rig.log.bytes() <= 6 * 4096, "{} bytes", rig.log.bytes());
}
