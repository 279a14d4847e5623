//! The file system fails at every call, on real files: full or broken, the names and bytes left behind are
//! always those of a log.

use std::path::Path;

use partition::{
    AppendError, LogState, MappedSegment, MappedStorage, Partition, PartitionLimits, Storage,
    StorageError,
};
use wire::ids::Offset;

use crate::harness::{LOG, NOW, Rig, count_from, small};

const LIMITS: PartitionLimits = PartitionLimits {
    segment_bytes: 64 << 10,
    record_bytes_max: 512,
    retention_bytes: Some(128 << 10),
    retention_age: None,
};

/// Open, append over several segments, commit, retire. Answers the log if it opened, and how much of it was
/// said to be durable.
fn script(storage: &mut MappedStorage, ids: &mut Vec<&'static str>) -> Result<u64, StorageError> {
    let (mut log, _): (Partition<MappedSegment>, _) =
        Partition::recover(storage, LOG, LIMITS, NOW)?;
    let mut source = Rig::new(7, small());
    for _ in 0..1_400 {
        if let Some(bytes) = log.request_spare() {
            match storage.prepare(LOG, bytes) {
                Ok(spare) => log.offer(spare),
                Err(error) => {
                    ids.push(if matches!(error, StorageError::Full { .. }) {
                        "full"
                    } else {
                        "failed"
                    });
                    log.spare_failed(error);
                }
            }
        }
        let (new, payload) = source.draw();
        match log.append(&new, &[&payload]) {
            Ok(_) => {}
            Err(AppendError::Full) => ids.push("no room"),
            Err(error) => assert_eq!(
                (error, log.state()),
                (AppendError::Sealed, LogState::Sealed)
            ),
        }
        if log.appended().0 % 50 == 0 {
            if let Some(ticket) = log.begin_commit() {
                let synced = ticket
                    .segments
                    .iter()
                    .try_for_each(|segment| storage.sync(segment));
                let failed = synced.is_err();
                assert_eq!(log.finish_commit(ticket, synced).is_err(), failed);
            }
            while let Some(old) = log.expire(NOW) {
                if let Ok(Some(spare)) = storage.retire(LOG, old) {
                    log.offer(spare);
                }
            }
        }
    }
    Ok(log.committed().0)
}

fn check_names(data: &Path, why: &str) {
    let folder = data.join(LOG.to_string());
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("it can be read").path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        let bytes = path.metadata().expect("it is there").len();
        match ending {
            Some("seg") => assert_eq!(bytes, 64 << 10, "{why}: {}", path.display()),
            _ => assert!(
                path.ends_with("vouched") || ending.is_some(),
                "{why}: {}",
                path.display()
            ),
        }
    }
}

#[test]
fn whichever_call_of_the_file_system_fails_what_is_durable_comes_back() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut storage = MappedStorage::new(data.path());
    script(&mut storage, &mut Vec::new()).expect("nothing fails");
    let calls = storage.calls();
    let want = count_from("FOREBAY_FILE_CALLS", 10).min(calls);
    let (mut runs, mut told) = (0, Vec::new());
    for errno in [libc::EIO, libc::ENOSPC] {
        for number in 0..want {
            let call = 1 + number * calls / want;
            let why = format!("call {call} of {calls} with errno {errno}");
            let data = tempfile::tempdir().expect("a temporary folder");
            let mut storage = MappedStorage::new(data.path());
            storage.fail_call(call, errno);
            let before = told.len();
            let durable = script(&mut storage, &mut told).unwrap_or_else(|error| {
                let full = matches!(error, StorageError::Full { .. });
                assert!(!full || errno == libc::ENOSPC, "{why}: {error}");
                0
            });
            assert!(
                errno == libc::ENOSPC || !told[before..].contains(&"full"),
                "{why}"
            );
            check_names(data.path(), &why);
            let mut storage = MappedStorage::new(data.path());
            let (log, report) =
                Partition::recover(&mut storage, LOG, LIMITS, NOW).expect("the disk works again");
            assert!(
                log.appended().0 >= durable && report.damage.is_empty(),
                "{why}: {report:?}"
            );
            let first = log.first();
            let broken = log.records_from(first).filter(Result::is_err).count();
            assert_eq!(broken, 0, "{why}");
            runs += 1;
        }
    }
    println!(
        "{runs} runs: EIO and ENOSPC at {want} of {calls} file-system calls, writes cut in half, 0 lost; replay: \
        FOREBAY_FILE_CALLS={want} cargo test -p forebay-partition --test log files:: -- --nocapture"
    );
}

#[test]
fn a_spare_whose_folder_could_not_be_synced_leaves_no_file() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut storage = MappedStorage::new(data.path());
    storage.prepare(LOG, 64 << 10).expect("there is room");
    let files = || {
        std::fs::read_dir(data.path().join(LOG.to_string()))
            .expect("it is there")
            .count()
    };
    // Make, write, sync, rename, sync the folder.
    for call in 1..=5 {
        storage.fail_call(call, libc::EIO);
        assert!(storage.prepare(LOG, 64 << 10).is_err(), "call {call}");
        assert_eq!(files(), 1, "call {call}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_for_want_of_room_is_full_and_no_fault() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut storage = MappedStorage::new(data.path());
    storage.fail_call(1, libc::ENOSPC);
    let refused = storage.prepare(LOG, 64 << 10).map(|_| ());
    assert!(
        matches!(refused, Err(StorageError::Full { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_file_with_holes_is_filled_before_it_is_mapped() {
    use std::os::unix::fs::MetadataExt;
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut storage = MappedStorage::new(data.path());
    let (mut log, _) = Partition::recover(&mut storage, LOG, LIMITS, NOW).expect("it opens");
    let (new, payload) = Rig::new(7, small()).draw();
    log.append(&new, &[&payload]).expect("there is a spare");
    drop(log);
    let folder = data.path().join(LOG.to_string());
    let mut holes = 0;
    for entry in std::fs::read_dir(&folder).expect("it is there") {
        let path = entry.expect("it can be read").path();
        // As a copy tool leaves it: zeroes are not written.
        let bytes = std::fs::read(&path).expect("it can be read");
        std::fs::remove_file(&path).expect("it can be removed");
        let file = std::fs::File::create(&path).expect("it can be made");
        file.set_len(bytes.len() as u64).expect("it can grow");
        for (number, page) in bytes.chunks(4096).enumerate() {
            if page.iter().any(|&byte| byte != 0) {
                std::os::unix::fs::FileExt::write_all_at(&file, page, number as u64 * 4096)
                    .expect("there is room");
            }
        }
        file.sync_all().expect("the disk works");
        let metadata = file.metadata().expect("it is there");
        holes += u64::from(metadata.blocks() * 512 < metadata.len());
    }
    assert!(holes > 0);
    let mut storage = MappedStorage::new(data.path());
    let (log, report) = Partition::recover(&mut storage, LOG, LIMITS, NOW).expect("it opens");
    assert_eq!(report.damage, []);
    assert!(log.read(Offset(log.appended().0 - 1)).is_ok());
    for entry in std::fs::read_dir(&folder).expect("it is there") {
        let metadata = entry
            .expect("it can be read")
            .metadata()
            .expect("it is there");
        assert!(
            metadata.blocks() * 512 >= metadata.len(),
            "a store would meet a hole"
        );
    }
}
