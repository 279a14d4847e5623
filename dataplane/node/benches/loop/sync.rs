//! One sync of 64 KiB, in four ways in turn: by the calling thread, by a thread of our own, by the ring, by a file operation of
//! glommio. Processor time of the whole process, the kernel's workers for it included.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use glommio::LocalExecutorBuilder;
use glommio::io::BufferedFile;
use ring::{Features, Ring, RingLimits};

use crate::commit::{FILE, prepared, sync_by};
use crate::measure::pin;
use crate::measured::process::{Thread, process_nanos};
use crate::measured::tell;

const ROUNDS: usize = 15;
const SYNCS: u64 = 20;
const BYTES: u64 = 64 << 10;

const WAYS: [&str; 4] = ["caller", "thread", "ring", "glommio"];

pub(crate) fn sync() {
    let folder = tempfile::tempdir().unwrap();
    let file = Arc::new(prepared(folder.path()));
    let executor = LocalExecutorBuilder::default().make().unwrap();
    pin(std::process::id(), true, 0);
    let nanos = executor.run(async { rounds(folder.path(), &file).await });
    let all = (ROUNDS as u64 * SYNCS) as f64;
    for (way, nanos) in WAYS.iter().zip(nanos) {
        tell(&format!("sync/{way}/cpu"), nanos as f64 / all / 1e3, "us");
    }
}

async fn rounds(folder: &Path, file: &Arc<File>) -> [u64; 4] {
    let mut ring = Ring::new(RingLimits::default(), Features::probe().unwrap()).unwrap();
    let theirs = BufferedFile::open(folder.join(FILE)).await.unwrap();
    let (jobs, asked) = channel::<Arc<File>>();
    let (tell_end, ended) = channel();
    let worker = std::thread::spawn(move || {
        for file in asked {
            file.sync_data().unwrap();
            tell_end.send(()).unwrap();
        }
    });
    let (block, pid) = (vec![7; BYTES as usize], std::process::id());
    let mut nanos = [0; 4];
    for number in 0..ROUNDS as u64 * 4 {
        let way = (number % 4) as usize;
        let before = process_nanos(pid, Thread::is_at_work);
        for sync in 0..SYNCS {
            file.write_all_at(&block, (number * SYNCS + sync) % 1024 * BYTES)
                .unwrap();
            match WAYS[way] {
                "caller" => file.sync_data().unwrap(),
                "thread" => {
                    jobs.send(Arc::clone(file)).unwrap();
                    ended.recv().unwrap();
                }
                "ring" => sync_by(&mut ring, file),
                _ => theirs.fdatasync().await.unwrap(),
            }
        }
        nanos[way] += process_nanos(pid, Thread::is_at_work) - before;
    }
    drop(jobs);
    worker.join().unwrap();
    theirs.close().await.unwrap();
    nanos
}
