//! Durable messages against what the disk alone takes: time of a commit, and bytes that reach the device.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::{Features, Ring, RingLimits};
use wire::ids::AckMode;

use crate::measure::{Usage, pin};
use crate::measured::node::{Served, Setup};
use crate::measured::tell;
use crate::support::{Client, sender};

/// The file that is synced without a node.
pub(crate) const FILE: &str = "bare";
const BODY: [u8; 100] = [7; 100];

/// A file as a segment is: its bytes exist, so a sync of it writes data only.
pub(crate) fn prepared(folder: &Path) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(folder.join(FILE))
        .unwrap();
    let block = vec![0; 64 << 10];
    for _ in 0..1024 {
        (&file).write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
    file
}

/// In turn: a page written and synced by nobody but us, the same by a ring as the node has one, and a message of each
/// connection sent and acked.
pub(crate) fn commit() {
    const ROUNDS: usize = 3_000;
    pin(std::process::id(), true, 1);
    for connections in [1, 16] {
        let node = Served::start(Setup {
            ack: AckMode::Durable,
            senders: connections,
            partitions: 1,
            quic: false,
            cpu: Some(0),
        });
        let mut clients: Vec<Client> = (0..connections)
            .map(|number| Client::connect(node.plain, &sender(number)))
            .collect();
        let file = Arc::new(prepared(node.data.path()));
        let mut ring = Ring::new(RingLimits::default(), Features::probe().unwrap()).unwrap();
        let (mut bare, mut ringed, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        let before = Usage::of(&node);
        let mut page = vec![1; 4096];
        for round in 0..ROUNDS {
            page[0] = round as u8;
            let began = Instant::now();
            file.write_all_at(&page, (round % 8192 * 4096) as u64)
                .unwrap();
            file.sync_data().unwrap();
            bare.push(began.elapsed().as_nanos() as u64);
            let began = Instant::now();
            file.write_all_at(&page, (round % 8192 * 4096) as u64)
                .unwrap();
            sync_by(&mut ring, &file);
            ringed.push(began.elapsed().as_nanos() as u64);
            for client in &mut clients {
                client.put_send(&[&BODY]);
            }
            let began = Instant::now();
            clients.iter_mut().for_each(Client::flush);
            for client in &mut clients {
                client.wait_acked(client.sequence - 1);
            }
            ours.push(began.elapsed().as_nanos() as u64);
        }
        let (name, used) = (
            format!("commit/{connections}"),
            Usage::of(&node).since(before),
        );
        report(&name, &mut bare, &mut ringed, &mut ours);
        let mean = used.sync_nanos as f64 / used.syncs.max(1) as f64 / 1e3;
        let bare_mean = bare.iter().sum::<u64>() as f64 / ROUNDS as f64 / 1e3;
        tell(&format!("{name}/node/mean-of-a-sync"), mean, "us");
        tell(&format!("{name}/bare/mean"), bare_mean, "us");
        tell(
            &format!("{name}/syncs-a-round"),
            used.syncs as f64 / ROUNDS as f64,
            "syncs",
        );
    }
}

pub(crate) fn sync_by(ring: &mut Ring, file: &Arc<File>) {
    ring.sync_data(Arc::clone(file), 0);
    let mut events = Vec::new();
    while ring.take(&mut events).unwrap() == 0 {
        ring.wait(Duration::from_secs(1)).unwrap();
    }
}

fn report(name: &str, bare: &mut [u64], ringed: &mut [u64], ours: &mut [u64]) {
    bare.sort_unstable();
    ringed.sort_unstable();
    ours.sort_unstable();
    for (rank, percent) in [("p50", 50), ("p99", 99)] {
        let at = |times: &[u64]| times[times.len() * percent / 100] as f64 / 1e3;
        tell(&format!("{name}/bare/{rank}"), at(bare), "us");
        tell(&format!("{name}/ring/{rank}"), at(ringed), "us");
        tell(&format!("{name}/node/{rank}"), at(ours), "us");
        tell(
            &format!("{name}/ring-to-bare-of-{rank}"),
            at(ringed) / at(bare),
            "",
        );
        tell(&format!("{name}/ratio-of-{rank}"), at(ours) / at(bare), "");
    }
}

/// Bytes written to the device that holds the data folder, for each byte of the frames in a commit. Others who write to the
/// same device are in it: point TMPDIR at a file system of its own.
pub(crate) fn device() {
    pin(std::process::id(), true, 1);
    for (messages, rounds) in [(1, 2_000), (16, 2_000), (256, 500), (2_000, 200)] {
        let node = Served::start(Setup {
            ack: AckMode::Durable,
            senders: 1,
            partitions: 1,
            quic: false,
            cpu: Some(0),
        });
        let mut client = Client::connect(node.plain, &sender(0));
        let bodies = vec![&BODY[..]; messages];
        let send = |client: &mut Client| {
            client.send(&bodies);
            client.wait_acked(client.sequence - 1);
        };
        (0..rounds / 10).for_each(|_| send(&mut client));
        let (before, written) = (Usage::of(&node), device_bytes(node.data.path()));
        (0..rounds).for_each(|_| send(&mut client));
        let (used, written) = (
            Usage::of(&node).since(before),
            device_bytes(node.data.path()) - written,
        );
        let commit = used.frame_bytes as f64 / used.syncs.max(1) as f64;
        let name = format!("device/{messages}");
        tell(&format!("{name}/commit"), commit, "bytes");
        tell(
            &format!("{name}/amplification"),
            written as f64 / used.frame_bytes as f64,
            "device bytes/frame byte",
        );
        tell(
            &format!("{name}/device-per-commit"),
            written as f64 / used.syncs.max(1) as f64,
            "bytes",
        );
    }
}

/// Bytes written to the device below a path since the machine came up.
fn device_bytes(path: &Path) -> u64 {
    let device = std::fs::metadata(path).unwrap().dev();
    let (major, minor) = (device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00);
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap();
    let sectors: u64 = text.split_whitespace().nth(6).unwrap().parse().unwrap();
    sectors * 512
}
