//! Crash images at every flush boundary of a run: what was vouched for is there, nothing is invented, and
//! the log goes on from it. `FOREBAY_CRASH_IMAGES` sets how many.

use partition::memory::MemoryStorage;
use partition::memory::{Crash, Random};
use partition::{Partition, PartitionLimits, ReadError, Storage};
use wire::ids::Offset;

use crate::harness::{Expected, LOG, MemoryLog, NOW, Rig, count_from, seed_from, small};

const IMAGES: u64 = 400;

/// Retention, so that images also show segments that have had an earlier life.
fn recycled() -> PartitionLimits {
    PartitionLimits {
        retention_bytes: Some(4 * 4096),
        ..small()
    }
}

fn step(rig: &mut Rig) {
    match rig.random.below(10) {
        0 => rig.begin_commit(),
        1 => {
            while let Some(segment) = rig.log.expire(NOW) {
                let spare = rig.storage.retire(LOG, segment).expect("no fault");
                spare.into_iter().for_each(|spare| rig.log.offer(spare));
            }
        }
        _ => rig.append_many(1),
    }
}

/// Images of one moment: the two extremes, prefixes, subsets of sectors, torn ones, misplaced ones.
fn crashes(rig: &Rig, random: &mut Random) -> Vec<Crash> {
    let mut crashes = vec![Crash::Lost, Crash::Kept];
    let writes = rig.disk.unsynced_writes() as u64;
    for _ in 0..2 {
        crashes.push(Crash::Writes(random.below(writes + 1)));
        crashes.push(Crash::Sectors(random.next_u64()));
        crashes.push(Crash::Seeded(random.next_u64()));
        crashes.push(Crash::Misplaced(random.next_u64()));
    }
    crashes
}

fn recover_image(rig: &Rig, crash: Crash, why: &str) {
    let mut again = Rig::new(0, rig.limits);
    again.list.clone_from(&rig.list);
    again.durable = rig.durable;
    let report = again.reopen(rig.disk.crash(crash), why);
    assert_eq!(report.damage, [], "{why}: a crash is no damage");
    again.append_many(2);
    again.commit();
    again.append_many(2);
    again.reopen(again.disk.crash(Crash::Kept), why);
    again.append_many(1);
    again.reopen(again.disk.crash(Crash::Lost), why);
}

/// Misplaced sectors are worse than a crash: what was not durable may be damaged. What was durable is
/// there, what comes back is as it was appended, and both hold for what is appended from there on.
fn recover_misplaced(rig: &Rig, crash: Crash, why: &str) {
    let (mut disk, mut known, mut durable) = (rig.disk.crash(crash), rig.list.clone(), rig.durable);
    let mut source = Rig::new(0, rig.limits);
    for _life in 0..3 {
        let mut storage = MemoryStorage::new(&disk);
        let (mut log, _) =
            Partition::recover(&mut storage, LOG, rig.limits, NOW).expect("damage is no failure");
        known = readable(&log, known, durable, why);
        for _ in 0..2 {
            let spare = log.request_spare();
            spare.into_iter().for_each(|bytes| {
                log.offer(storage.prepare(LOG, bytes).expect("there is room"));
            });
            let (new, payload) = source.draw();
            let first = log.append(&new, &[&payload]).expect("there is a spare");
            let first = first.first.0;
            known.push(Expected {
                first,
                new,
                payload,
            });
        }
        let ticket = log.begin_commit().expect("something is new");
        let synced = ticket.segments.iter().try_for_each(|id| storage.sync(id));
        durable = log.finish_commit(ticket, synced).expect("no fault").0;
        disk = disk.crash(Crash::Lost);
    }
}

/// The known records that read; all that are durable do. Recovery has put all of them on disk.
fn readable(log: &MemoryLog, known: Vec<Expected>, durable: u64, why: &str) -> Vec<Expected> {
    let reads = |record: &Expected| match log.read(Offset(record.first)) {
        Ok(seen) => {
            record.assert_is(&seen, why);
            true
        }
        Err(ReadError::Expired { first }) => {
            assert!(record.first < first.0, "{why}");
            false
        }
        Err(error) => {
            assert!(
                record.next() > durable,
                "{why}: {error} at {}",
                record.first
            );
            false
        }
    };
    known.into_iter().filter(reads).collect()
}

#[test]
fn every_image_at_every_flush_boundary_keeps_what_is_durable_and_invents_nothing() {
    let (want, first) = (count_from("FOREBAY_CRASH_IMAGES", IMAGES), seed_from(1));
    let (mut images, mut boundaries, mut seed) = (0, 0, first);
    while images < want {
        let mut rig = Rig::new(seed, recycled());
        let mut random = Random::new(seed);
        for _ in 0..120 {
            step(&mut rig);
            if !rig.is_syncing() || rig.random.below(3) > 0 {
                continue;
            }
            // One moment before the flush returns, one after.
            for after in [false, true] {
                if after {
                    rig.finish_commit();
                }
                boundaries += 1;
                for crash in crashes(&rig, &mut random) {
                    let why = format!(
                        "{crash:?} at boundary {boundaries}, after: {after}; replay: FOREBAY_SEED={seed} FOREBAY_CRASH_IMAGES=1 \
                         cargo test -p forebay-partition --test log images::"
                    );
                    match crash {
                        Crash::Misplaced(_) => recover_misplaced(&rig, crash, &why),
                        _ => recover_image(&rig, crash, &why),
                    }
                    images += 1;
                }
            }
        }
        seed += 1;
    }
    println!(
        "{images} crash images at {boundaries} flush boundaries, seeds {first}..{seed}, 0 violations; replay: \
         FOREBAY_SEED={first} FOREBAY_CRASH_IMAGES={want} cargo test -p forebay-partition --test log images:: -- --nocapture"
    );
}
