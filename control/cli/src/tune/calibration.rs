//! What this machine can do at best, each part alone: verification, sync, memory, loopback. Each takes a second or less.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use wire::signature::MacKey;

const VERIFY_TIME: Duration = Duration::from_millis(400);
/// Bytes of a message whose signature is checked, as in the load steps.
const MESSAGE_BYTES: usize = 100;
const SYNC_TIME: Duration = Duration::from_millis(1_500);
const SYNCS_MAX: usize = 4_000;
/// What a commit writes at least.
const SYNC_BYTES: usize = 64 << 10;
const SYNC_FILE_BYTES: u64 = 16 << 20;
const MEMORY_TIME: Duration = Duration::from_millis(400);
/// Larger than the caches of most machines.
const MEMORY_BYTES: usize = 64 << 20;
const LOOPBACK_TIME: Duration = Duration::from_millis(500);
const LOOPBACK_BYTES: usize = 256 << 10;

/// The figures.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Calibration {
    /// HMAC-SHA256 checks of 100 bytes per second on one core.
    pub(super) verifications_per_s: f64,
    /// Median time of writing 64 KiB and syncing them, seconds.
    pub(super) sync_p50_s: f64,
    /// The 99th percentile of it, seconds.
    pub(super) sync_p99_s: f64,
    /// Syncs that were timed.
    pub(super) syncs: usize,
    /// Bytes copied in memory per second by one core.
    pub(super) memory_bytes_per_s: f64,
    /// Bytes that one core receives over the loopback interface per second from another.
    pub(super) loopback_bytes_per_s: f64,
}

/// Measure all four; files are made in `folder`, on the disk that matters.
pub(super) fn calibrate(folder: &Path) -> std::io::Result<Calibration> {
    let verifications_per_s = verify();
    let (sync_p50_s, sync_p99_s, syncs) = sync(&folder.join("sync"))?;
    Ok(Calibration {
        verifications_per_s,
        sync_p50_s,
        sync_p99_s,
        syncs,
        memory_bytes_per_s: memory(),
        loopback_bytes_per_s: loopback()?,
    })
}

fn verify() -> f64 {
    let key = MacKey::new(&[7; 32]);
    let message = [42; MESSAGE_BYTES];
    let tag = key.sign(&[&message]);
    let (began, mut count) = (Instant::now(), 0u64);
    while began.elapsed() < VERIFY_TIME {
        for _ in 0..256 {
            assert!(black_box(&key).verify(&[black_box(&message)], &tag));
        }
        count += 256;
    }
    count as f64 / began.elapsed().as_secs_f64()
}

/// Median, 99th percentile and count of writes with a sync behind each, over a file whose blocks are all there.
fn sync(path: &Path) -> std::io::Result<(f64, f64, usize)> {
    let block = vec![42; SYNC_BYTES];
    let mut file = File::create(path)?;
    for _ in 0..SYNC_FILE_BYTES / SYNC_BYTES as u64 {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let mut times: Vec<f64> = Vec::with_capacity(SYNCS_MAX);
    let began = Instant::now();
    while began.elapsed() < SYNC_TIME && times.len() < SYNCS_MAX {
        let at = (times.len() * SYNC_BYTES) as u64 % SYNC_FILE_BYTES;
        let start = Instant::now();
        std::os::unix::fs::FileExt::write_all_at(&file, &block, at)?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64());
    }
    drop(file);
    std::fs::remove_file(path)?;
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok((at(0.5), at(0.99), times.len()))
}

fn memory() -> f64 {
    let (from, mut to) = (vec![1u8; MEMORY_BYTES], vec![2u8; MEMORY_BYTES]);
    let (began, mut copied) = (Instant::now(), 0u64);
    while began.elapsed() < MEMORY_TIME {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        copied += MEMORY_BYTES as u64;
    }
    copied as f64 / began.elapsed().as_secs_f64()
}

fn loopback() -> std::io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut to = TcpStream::connect(listener.local_addr()?)?;
    let (mut from, _) = listener.accept()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let block = vec![42; LOOPBACK_BYTES];
            let began = Instant::now();
            while began.elapsed() < LOOPBACK_TIME {
                to.write_all(&block)?;
            }
            std::io::Result::Ok(())
        });
        let mut buffer = vec![0; LOOPBACK_BYTES];
        let (began, mut received) = (Instant::now(), 0u64);
        loop {
            match from.read(&mut buffer)? {
                0 => break,
                bytes => received += bytes as u64,
            }
        }
        let per_s = received as f64 / began.elapsed().as_secs_f64();
        let sent = sender.join();
        sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(per_s)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_measured_and_no_file_is_left() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let found = calibrate(folder.path()).expect("a disk and a loopback interface");
        assert!(
            found.verifications_per_s > 0.0 && found.memory_bytes_per_s > 0.0,
            "{found:?}"
        );
        assert!(
            found.loopback_bytes_per_s > 0.0 && found.syncs > 0,
            "{found:?}"
        );
        assert!(
            0.0 < found.sync_p50_s && found.sync_p50_s <= found.sync_p99_s,
            "{found:?}"
        );
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("readable").count(),
            0
        );
    }
}
