//! A medium that fails: syncs, preparations, renames, removals, space.

use partition::memory::{Crash, Disk, Fault, MemoryStorage};
use partition::{AppendError, LogState, Partition, ReadError, Sealed, Storage, StorageError};
use wire::ids::Offset;

use crate::harness::{LOG, NOW, Rig, small};

#[test]
fn the_first_failed_sync_seals_the_log_for_good_and_readers_go_on() {
    let mut rig = Rig::new(1, small());
    rig.append_many(5);
    rig.commit();
    let committed = rig.log.committed();
    rig.append_many(5);
    rig.disk.inject(Fault::Sync(1));
    rig.begin_commit();
    rig.append_many(1);
    rig.finish_commit();
    assert_eq!(rig.log.state(), LogState::Sealed);
    assert!(matches!(
        rig.log.failure(),
        Some(StorageError::Io { errno: 5, .. })
    ));
    assert_eq!(rig.log.committed(), committed);
    assert_eq!(rig.append(), Err(AppendError::Sealed));
    assert_eq!(rig.log.roll(NOW), Err(AppendError::Sealed));
    assert_eq!(rig.log.begin_commit(), None);
    assert_eq!(rig.log.commit_local(), committed);
    assert_eq!(rig.log.wants_spare(), None);
    rig.check_records("sealed");
    assert!(rig.log.read_committed(Offset(committed.0 - 1)).is_ok());
    assert!(matches!(
        rig.log.read_committed(committed),
        Err(ReadError::NotYet)
    ));
    // A later sync that works changes nothing.
    let spare = rig.storage.prepare(LOG, 4096).expect("the fault is over");
    rig.log.offer(spare);
    assert_eq!(rig.append(), Err(AppendError::Sealed));
    rig.reopen(rig.disk.crash(Crash::Seeded(9)), "the next process");
    assert_eq!(rig.log.state(), LogState::Open);
}

#[test]
fn what_a_failed_sync_gave_up_is_written_again_before_the_next_process_vouches_for_it() {
    for seed in 0..40 {
        let mut rig = Rig::new(seed, small());
        rig.append_many(seed as usize % 30);
        rig.begin_commit();
        rig.finish_commit();
        rig.append_many(5 + seed as usize % 25);
        rig.disk.inject(Fault::Sync(1));
        rig.begin_commit();
        rig.finish_commit();
        assert_eq!(rig.log.state(), LogState::Sealed);
        // The process ends, the kernel goes on: what is seen is more than what is on disk.
        rig.reopen(rig.disk.clone(), &format!("seed {seed}: restart"));
        assert_eq!(rig.log.state(), LogState::Open);
        let report = rig.reopen(rig.disk.crash(Crash::Lost), &format!("seed {seed}: power"));
        assert_eq!((report.cut_bytes, report.damage.len()), (0, 0));
    }
}

#[test]
fn a_ticket_that_returns_after_the_seal_commits_nothing() {
    let mut rig = Rig::new(2, small());
    rig.append_many(2);
    let ticket = rig.log.begin_commit().expect("something is new");
    let error = StorageError::Io {
        what: "sync",
        path: "x".into(),
        errno: 30,
    };
    assert_eq!(rig.log.finish_commit(ticket, Err(error)), Err(Sealed));
    assert_eq!(rig.log.committed(), Offset(0));
}

#[test]
fn a_full_disk_refuses_by_name_and_recovers_when_space_returns() {
    let mut rig = Rig::new(3, small());
    rig.disk.set_capacity(Some(3 * 4096));
    for round in 0..5 {
        loop {
            rig.feed_spare();
            match rig.append() {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error, AppendError::Full, "round {round}");
                    break;
                }
            }
        }
        assert_eq!(rig.log.state(), LogState::Full);
        assert!(matches!(
            rig.log.spare_failure(),
            Some(StorageError::Full { .. })
        ));
        assert!(rig.disk.bytes() <= 3 * 4096);
        rig.check_records("full, and readable");
        rig.commit();
        rig.reopen(rig.disk.clone(), "a restart on a full disk");
        let oldest = rig
            .log
            .expire_before(rig.log.appended())
            .expect("more than one segment is kept");
        let spare = rig.storage.retire(LOG, oldest).expect("no fault");
        rig.log.offer(spare.expect("it is recycled"));
        rig.append().expect("there is space again");
        assert_eq!(rig.log.state(), LogState::Open, "round {round}");
    }
}

#[test]
fn a_new_log_on_a_full_disk_opens_full_and_recovers() {
    let disk = Disk::new(4);
    disk.set_capacity(Some(100));
    let mut storage = MemoryStorage::new(&disk);
    let (mut log, _) =
        Partition::recover(&mut storage, LOG, small(), NOW).expect("full is no failure");
    let (new, payload) = Rig::new(4, small()).draw();
    assert_eq!(log.append(&new, &[&payload]), Err(AppendError::Full));
    assert_eq!(log.state(), LogState::Full);
    disk.set_capacity(None);
    let bytes = log.request_spare().expect("it still wants one");
    log.offer(storage.prepare(LOG, bytes).expect("there is room"));
    assert!(log.append(&new, &[&payload]).is_ok());
}

#[test]
fn whatever_call_fails_during_recovery_nothing_durable_is_lost() {
    for seed in 0..30 {
        let mut rig = Rig::new(seed, small());
        rig.append_many(40);
        rig.commit();
        rig.append_many(20);
        let image = rig.disk.crash(Crash::Seeded(seed));
        for call in 1..4 {
            for fault in [
                Fault::Sync(call),
                Fault::Rename(call),
                Fault::Remove(call),
                Fault::PrepareFull(call),
            ] {
                let disk = image.crash(Crash::Kept);
                disk.inject(fault);
                let mut storage = MemoryStorage::new(&disk);
                if let Ok((log, report)) = Partition::recover(&mut storage, LOG, small(), NOW) {
                    assert!(
                        log.committed().0 >= rig.durable || report.sealed.is_some(),
                        "{seed} {fault:?}"
                    );
                    let sealed = log.state() == LogState::Sealed;
                    assert_eq!(sealed, report.sealed.is_some(), "{seed} {fault:?}");
                }
                disk.heal();
                let mut again = Rig::new(seed, small());
                again.list.clone_from(&rig.list);
                again.durable = rig.durable;
                let report = again.reopen(
                    disk.crash(Crash::Seeded(call)),
                    &format!("seed {seed} after {fault:?}"),
                );
                assert_eq!(report.damage, [], "seed {seed} after {fault:?}");
            }
        }
    }
}

#[test]
fn an_unfinished_preparation_leaves_nothing_behind() {
    let mut rig = Rig::new(5, small());
    rig.append_many(3);
    rig.commit();
    rig.disk.inject(Fault::Prepare(1));
    assert!(rig.storage.prepare(LOG, 4096).is_err());
    assert_eq!(rig.disk.files().len(), 2);
    rig.reopen(rig.disk.crash(Crash::Lost), "half a spare lies about");
    assert_eq!(rig.disk.files().len(), 1);
}

#[test]
fn a_spare_that_never_went_live_is_used_again_under_another_id() {
    let mut rig = Rig::new(6, small());
    while rig.log.wants_spare().is_none() {
        rig.append_many(1);
    }
    rig.feed_spare();
    rig.commit();
    let before = rig.disk.files();
    rig.reopen(rig.disk.crash(Crash::Lost), "with a spare");
    assert_eq!(rig.log.wants_spare(), None);
    assert_eq!(rig.disk.files().len(), before.len());
    let kept = rig
        .disk
        .files()
        .iter()
        .filter(|file| before.contains(file))
        .count();
    assert_eq!(kept, before.len() - 1);
}
