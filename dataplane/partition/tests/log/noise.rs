//! Bytes that nobody wrote: whatever a file holds, recovery and reading end without a panic.

use partition::memory::{Crash, MemoryStorage, Random};
use partition::{Partition, ReadError};
use wire::ids::Offset;

use crate::harness::{LOG, NOW, Rig, small};

/// Spoil a file: noise over a range, or pieces of the file itself moved about.
fn spoil(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(6) + 1 {
        if bytes.is_empty() {
            return;
        }
        let limit = bytes.len() as u64;
        let (from, length) = (random.below(limit) as usize, random.below(700) as usize);
        let to = (from + length).min(bytes.len());
        match random.below(5) {
            0 => bytes[from..to]
                .iter_mut()
                .for_each(|byte| *byte = random.next_u64() as u8),
            1 => bytes[from..to].fill(random.next_u64() as u8),
            2 => {
                let target = random.below(limit) as usize & !7;
                let piece = bytes[from & !7..to].to_vec();
                let end = (target + piece.len()).min(bytes.len());
                bytes[target..end].copy_from_slice(&piece[..end - target]);
            }
            3 if random.below(4) == 0 => bytes.truncate(from),
            _ => bytes[from] ^= 1 << random.below(8),
        }
    }
}

#[test]
fn recovery_of_spoilt_files_ends_and_never_invents_a_record() {
    for seed in 0..1_500 {
        let mut random = Random::new(seed);
        let mut rig = Rig::new(seed % 16, small());
        rig.append_many(10 + (seed % 60) as usize);
        rig.commit();
        rig.append_many(3);
        let disk = rig.disk.crash(Crash::Kept);
        for file in disk.files() {
            if random.below(3) == 0 {
                disk.damage(file, |bytes| spoil(&mut random, bytes));
            }
        }
        let mut storage = MemoryStorage::new(&disk);
        let (mut log, _) =
            Partition::recover(&mut storage, LOG, small(), NOW).expect("noise is no failure");
        let mut at = Offset(0);
        loop {
            match log.read(at) {
                Ok(record) => {
                    let want = rig.list.iter().find(|want| want.first == record.first().0);
                    want.unwrap_or_else(|| panic!("seed {seed}: {record:?}"))
                        .assert_is(&record, "as appended");
                    at = record.next();
                }
                Err(ReadError::NotYet) => break,
                Err(ReadError::Damaged { next } | ReadError::Expired { first: next }) => {
                    assert!(next > at, "seed {seed}: {next} is no progress from {at}");
                    at = next;
                }
            }
        }
        let (new, payload) = rig.draw();
        if log.request_spare().is_some() {
            log.offer(partition::Storage::prepare(&mut storage, LOG, 4096).expect("no fault"));
        }
        let appended = log.append(&new, &[&payload]).expect("it takes new records");
        assert_eq!(
            log.read(appended.first).expect("just written").payload(),
            payload,
            "seed {seed}"
        );
    }
}

#[test]
fn pure_noise_is_no_log() {
    for seed in 0..200 {
        let rig = Rig::new(seed, small());
        let mut random = Random::new(seed);
        for file in rig.disk.files() {
            rig.disk.damage(file, |bytes| {
                bytes
                    .iter_mut()
                    .for_each(|byte| *byte = random.next_u64() as u8)
            });
        }
        let mut storage = MemoryStorage::new(&rig.disk);
        let (log, report) =
            Partition::recover(&mut storage, LOG, small(), NOW).expect("noise is no failure");
        assert_eq!((log.appended(), report.damage.len()), (Offset(0), 1));
    }
}
