//! Acknowledged messages survive `kill -9`: the real process is killed at random moments under load, while it starts and
//! while it recovers from the kill before, and every byte that was acknowledged is read back through the receiving
//! endpoints. Settlements that the node has confirmed survive, too. Once with as many shards as the machine asks for, or
//! `FOREBAY_NODE_SHARDS` says, once with another number of them, 1 to 8, at each start, and so over TLS and over QUIC: all that the SDK does.
//!
//! `FOREBAY_CRASH_CYCLES` sets the kills per acknowledgement mode, `FOREBAY_CRASH_SEED` replays what is chosen at random.

mod books;
mod peer;
mod settler;
mod supervisor;
mod world;

use client::Transport;
use settler::Settler;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use supervisor::{Addresses, Supervisor};
use world::{
    PATIENCE, Progress, RECEIVERS, Reach, Upto, load, receive, settled_stays_settled, world,
};

/// Longest wait between the first acknowledgement after a start and the kill.
const UNDER_LOAD_MAX: Duration = Duration::from_millis(80);

/// When the kills came.
#[derive(Debug, Default)]
struct Kills {
    /// After frames were acknowledged since the start.
    under_load: u64,
    /// When it was ready, whatever it did.
    ready: u64,
    /// Before it was ready.
    starting: u64,
    /// Of those, when the start before had been cut short as well: while it recovers from a recovery.
    starting_again: u64,
}

impl Kills {
    fn all(&self) -> u64 {
        self.under_load + self.ready + self.starting
    }
}

fn pause(random: &mut fastrand::Rng, most: Duration) {
    let micros = u64::try_from(most.as_micros()).expect("a short time");
    std::thread::sleep(Duration::from_micros(random.u64(..=micros)));
}

/// Kill and start again until there were so many kills; the node is ready at the end.
fn fire(
    node: &mut Supervisor,
    kills_max: u64,
    random: &mut fastrand::Rng,
    progress: &Progress,
) -> Kills {
    let mut kills = Kills::default();
    let mut cut_short = false;
    while kills.all() < kills_max {
        let moment = random.u8(..8);
        if moment < 3 {
            pause(random, node.start_time * 6 / 5);
            let ready = node.kill();
            kills.ready += u64::from(ready);
            kills.starting += u64::from(!ready);
            kills.starting_again += u64::from(!ready && cut_short);
            cut_short = !ready;
        } else {
            node.ready();
            let under_load = moment > 3;
            if under_load {
                let (before, by) = (progress.acked.load(Ordering::Relaxed), Instant::now());
                while progress.acked.load(Ordering::Relaxed) == before {
                    assert!(by.elapsed() < PATIENCE, "nothing is acknowledged any more");
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            pause(random, UNDER_LOAD_MAX);
            node.kill();
            kills.under_load += u64::from(under_load);
            kills.ready += u64::from(!under_load);
            cut_short = false;
        }
        node.spawn();
    }
    node.ready();
    kills
}

/// Every record on disk is whole; the node is stopped by then.
fn verify(node: &Supervisor) {
    let said = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["log", "verify"])
        .arg(node.data())
        .output()
        .expect("the binary was built for this test");
    let text = String::from_utf8_lossy(&said.stdout);
    let faults = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "log verify: {text}{faults}");
}

/// What carries the connections of the SDK.
#[derive(Clone, Copy)]
enum Over {
    Tcp,
    Tls,
    Quic,
}

/// One acknowledgement mode, with the numbers of shards that `shards` draws; the kills it took.
fn cycles(
    ack: &str,
    kills_max: u64,
    random: &mut fastrand::Rng,
    (shards, over): (Option<fastrand::Rng>, Over),
) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be made");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let world = world(ack);
    let mut node = Supervisor::new(folder.path(), &world.plan, shards);
    node.spawn();
    let Addresses { plain, tls, quic } = node.ready();
    let reach = match over {
        Over::Tcp => Reach::plain(plain.clone()),
        Over::Tls => Reach::through(Transport::Tls, &node.ca(), tls),
        Over::Quic => Reach::through(Transport::Quic, &node.ca(), quic),
    };
    let (progress, upto) = (Arc::new(Progress::default()), Arc::new(Upto::default()));
    let mut loads = Vec::new();
    for (at, credentials) in world.senders.iter().enumerate() {
        let connection = reach.connect(credentials);
        let connection = runtime.block_on(connection).expect("the node is ready");
        let _inside = runtime.enter();
        let sender = connection.sender().expect("an ingress key sends");
        loads.push(runtime.spawn(load(sender, at, Arc::clone(&progress))));
    }
    let (by_sdk, by_hand) = (RECEIVERS[0], RECEIVERS[1]);
    let credentials = world.receivers[0].clone();
    let received = receive(reach.clone(), credentials, by_sdk.2, Arc::clone(&upto));
    let received = runtime.spawn(received);
    let settler = {
        let (address, upto) = (plain, Arc::clone(&upto));
        let credentials = world.receivers[1].clone();
        let run = move || Settler::default().run(&address, &credentials, by_hand.2, &upto);
        std::thread::spawn(run)
    };

    let began = Instant::now();
    let kills = fire(&mut node, kills_max, random, &progress);
    let took = began.elapsed();
    progress.stop.store(true, Ordering::Relaxed);
    let acked: Vec<u64> = loads
        .into_iter()
        .map(|load| runtime.block_on(load).expect("the load does not panic"))
        .collect();
    *upto.lock().expect("no holder panics") = Some(acked.clone());
    let seen = runtime
        .block_on(received)
        .expect("the receiver does not panic");
    seen.check(by_sdk.0, &acked, by_sdk.2);
    let settler = settler.join().expect("the receiver does not panic");
    settler.check(by_hand.0, &acked, by_hand.2);
    runtime.block_on(settled_stays_settled(&reach, &world));
    node.kill();
    verify(&node);
    println!(
        "{ack}: {} kills in {:.1} s ({} under load, {} while starting, {} of these after a start cut short), \
         {} messages acknowledged, all read back; {} settlements confirmed, none lost, {} deliveries came again",
        kills.all(),
        took.as_secs_f64(),
        kills.under_load + kills.ready,
        kills.starting,
        kills.starting_again,
        acked.iter().sum::<u64>(),
        settler.confirmations,
        settler.again,
    );
    if node.starts.iter().any(|starts| *starts > 0) {
        println!("{ack}: starts with 1 to 8 shards: {:?}", node.starts);
    }
    kills.all()
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

/// Both modes; `changing` draws another number of shards at each start.
fn both_modes(changing: bool, over: Over) {
    let kills = setting("FOREBAY_CRASH_CYCLES", 4);
    let seed = setting("FOREBAY_CRASH_SEED", fastrand::u64(..));
    println!("FOREBAY_CRASH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all = 0;
    for ack in ["durable", "local"] {
        let shards = changing.then(|| random.fork());
        all += cycles(ack, kills, &mut random, (shards, over));
    }
    println!(
        "crash: {all} kills, 0 acknowledged messages lost, altered, reordered or cross-delivered"
    );
}

#[test]
fn acknowledged_messages_survive_kill_9_in_both_modes() {
    both_modes(false, Over::Tcp);
}

#[test]
fn acknowledged_messages_survive_kill_9_with_another_number_of_shards_at_each_start() {
    both_modes(true, Over::Tcp);
}

#[test]
fn acknowledged_messages_survive_kill_9_over_tls() {
    both_modes(true, Over::Tls);
}

#[test]
fn acknowledged_messages_survive_kill_9_over_quic() {
    both_modes(true, Over::Quic);
}
