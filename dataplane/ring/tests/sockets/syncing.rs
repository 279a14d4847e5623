//! Files are synced beside the sockets: every sync is answered once, under its own token, with the kernel's own verdict.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use crate::support::{Owner, combinations, limits, probed};

/// A file without a name.
fn file() -> File {
    let path = std::env::temp_dir().join(format!(
        "forebay-ring-{}-{}",
        std::process::id(),
        fastrand::u64(..)
    ));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

#[test]
fn every_sync_is_answered_once_and_wakes_the_owner() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(limits(4, 64), features);
        let file = Arc::new(file());
        for token in 0..20 {
            (&*file).write_all(b"something").unwrap();
            owner.ring.sync_data(Arc::clone(&file), token);
        }
        assert_eq!(owner.ring.syncs(), 20);
        owner.run(|owner| owner.synced.len() == 20);
        owner.synced.sort_unstable();
        let want: Vec<(u64, Result<(), i32>)> = (0..20).map(|token| (token, Ok(()))).collect();
        assert_eq!(owner.synced, want, "{which}");
        assert_eq!(
            (owner.ring.syncs(), owner.ring.counters().syncs),
            (0, 20),
            "{which}"
        );
        assert_eq!(
            Arc::strong_count(&file),
            1,
            "{which}: the ring let go of the file"
        );
    }
}

#[test]
fn a_sync_that_fails_tells_the_kernels_error() {
    let mut owner = Owner::new(limits(4, 64), probed());
    // A pipe's end cannot be synced.
    let (reader, _writer) = std::io::pipe().unwrap();
    let file = Arc::new(File::from(std::os::fd::OwnedFd::from(reader)));
    owner.ring.sync_data(file, 7);
    owner.run(|owner| !owner.synced.is_empty());
    assert_eq!(owner.synced, [(7, Err(libc::EINVAL))]);
}

#[test]
fn a_file_is_kept_open_while_it_is_synced_though_its_owner_drops_it() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let mut file = file();
    file.write_all(&[1; 1 << 20]).unwrap();
    owner.ring.sync_data(Arc::new(file), 1);
    owner.run(|owner| !owner.synced.is_empty());
    assert_eq!(owner.synced, [(1, Ok(()))]);
}

#[test]
fn a_ring_dropped_with_syncs_in_flight_waits_for_them() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let file = Arc::new(file());
    for token in 0..8 {
        (&*file).write_all(&[2; 1 << 16]).unwrap();
        owner.ring.sync_data(Arc::clone(&file), token);
    }
    owner.ring.submit().unwrap();
    drop(owner);
    assert_eq!(Arc::strong_count(&file), 1);
}
