//! A shard that breaks, in a real process of three under load: the process says which one and what to do, what the others had they
//! commit and acknowledge, it ends with a failure, and the next start has every acknowledged message once and in order.
//!
//! Needs the feature `planted-bugs`: `cargo test -p forebay-cli --features planted-bugs --test planted`. Each test breaks a node
//! `FOREBAY_PLANTED_ROUNDS` (2) times.

mod node;
#[path = "../crash/peer.rs"]
mod peer;
mod senders;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use node::{Node, PATIENCE, configure, trigger};
use senders::{SENDERS, Sent, World, load, read_back, world};

/// What each sender is to have acknowledged before the fault.
const UNDER_WAY: u64 = 50;

/// Load from every sender until its connection ends or `stop` is set.
struct Load {
    acked: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Sent>>,
}

impl Load {
    fn begin(address: &str, world: &World) -> Self {
        let acked: Arc<Vec<AtomicU64>> =
            Arc::new((0..SENDERS).map(|_| AtomicU64::new(0)).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..SENDERS).map(|at| {
            let (acked, stop) = (Arc::clone(&acked), Arc::clone(&stop));
            let (address, credentials) = (address.to_owned(), world.senders[at].clone());
            std::thread::spawn(move || load(&address, &credentials, at, &acked[at], &stop))
        });
        let threads = threads.collect();
        Self {
            acked,
            stop,
            threads,
        }
    }

    fn acked(&self) -> Vec<u64> {
        let each = self.acked.iter();
        each.map(|acked| acked.load(Ordering::Relaxed)).collect()
    }

    /// Until `is` holds of what each sender has acknowledged.
    fn wait(&self, what: &str, is: impl Fn(&[u64]) -> bool) {
        let by = Instant::now() + PATIENCE;
        while !is(&self.acked()) {
            assert!(Instant::now() < by, "never: {what}: {:?}", self.acked());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn end(self) -> Vec<Sent> {
        let join = |thread: std::thread::JoinHandle<Sent>| thread.join().expect("no sender panics");
        self.threads.into_iter().map(join).collect()
    }
}

fn rounds() -> u64 {
    let told = std::env::var("FOREBAY_PLANTED_ROUNDS");
    told.map_or(2, |text| text.parse().expect("a whole number"))
}

/// One line of what the process said.
fn line<'a>(said: &'a str, with: &str) -> &'a str {
    let found = said.lines().find(|line| line.contains(with));
    found.unwrap_or_else(|| panic!("no line with {with:?} in:\n{said}"))
}

#[test]
fn a_shard_that_panics_is_told_the_others_commit_what_they_have_and_a_restart_has_every_acked_message()
 {
    let (rounds, mut told) = (rounds(), (0, 0, 0));
    for round in 0..rounds {
        let ack = ["durable", "local"][(round % 2) as usize];
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let world = world(ack);
        configure(folder.path(), &world.plan);
        let node = Node::start(folder.path(), Some("panic"));
        let load = Load::begin(&node.address, &world);
        load.wait("every sender is under way", |acked| {
            acked.iter().all(|acked| *acked >= UNDER_WAY)
        });
        std::fs::write(trigger(folder.path()), b"").expect("the folder is writable");
        let (status, said) = node.ended();
        let sent = load.end();

        assert_eq!(status.code(), Some(1), "{said}");
        let ended = line(&said, " shard_ended ");
        assert!(ended.contains("shard=1"), "{ended}");
        let fault = line(&said, "FB-3116");
        for part in ["shard 1", "a failed assertion", "start the node again"] {
            assert!(fault.contains(part), "{part}: {fault}");
        }
        assert!(said.contains("planted in shard 1"), "{said}");
        for other in ["shard=0", "shard=2"] {
            let stopped = |text: &str| text.contains(" stopped ") && text.contains(other);
            assert!(said.lines().any(stopped), "{other} ended in order:\n{said}");
        }

        let node = Node::start(folder.path(), None);
        let (orderly, cut_off): (Vec<_>, Vec<_>) = (0..SENDERS).partition(|at| sent[*at].goaway);
        assert!(!orderly.is_empty() && !cut_off.is_empty(), "{sent:?}");
        let logged = read_back(&node.address, &world);
        for at in 0..SENDERS {
            let (sent, logged) = (&sent[at], logged[at]);
            assert!(
                logged >= sent.acked,
                "{ack}, sender {at}: {sent:?}, {logged} logged"
            );
            assert!(
                logged <= sent.sent,
                "{ack}, sender {at}: {sent:?}, {logged} logged"
            );
            // Whoever was told goodbye was told of everything that was in the log by then.
            assert!(
                !sent.goaway || logged == sent.acked,
                "sender {at}: {sent:?}, {logged} logged"
            );
        }
        told.0 += sent.iter().map(|sent| sent.acked).sum::<u64>();
        told.1 += orderly.len();
        told.2 += cut_off.len();
        node.ask_to_stop();
        let (status, said) = node.ended();
        assert_eq!(status.code(), Some(0), "{said}");
    }
    println!(
        "planted panics: {rounds} rounds, {} messages acknowledged, 0 lost, repeated or out of order; {} senders had GOAWAY behind \
         their last ACK, {} lived on the shard that broke; FOREBAY_PLANTED_ROUNDS={rounds}",
        told.0, told.1, told.2
    );
}

/// That shard 1 of three stands still is told to who asks whether the node serves, for its metrics, and for its shards.
fn check_it_is_told(node: &Node) {
    let said = node.until_ready_is(503);
    assert!(said.starts_with("shard 1 stands still: "), "{said}");
    assert_eq!(said.lines().count(), 1, "the others do not: {said}");
    assert_eq!(node.ask("/live").0, 200);
    let (_, page) = node.ask("/metrics");
    assert!(page.contains("\nforebay_ready 0\n"), "{page}");
    let silent = |shard: usize| -> f64 {
        let series = format!("forebay_shard_silent_seconds{{shard=\"{shard}\"}} ");
        let value = line(&page, &series)[series.len()..].parse();
        value.expect("a number")
    };
    assert!(silent(1) > silent(0).max(silent(2)), "{page}");
    let shown = node.shards();
    let told = line(&shown, "does not answer; it last looked for work ");
    assert!(told.contains("shard 1 "), "{told}");
}

#[test]
fn a_shard_that_stands_still_leaves_the_others_at_work_and_does_not_keep_the_process_from_ending() {
    let rounds = rounds();
    for _ in 0..rounds {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let world = world("durable");
        configure(folder.path(), &world.plan);
        let node = Node::start(folder.path(), Some("stuck"));
        let load = Load::begin(&node.address, &world);
        load.wait("every sender is under way", |acked| {
            acked.iter().all(|acked| *acked >= UNDER_WAY)
        });
        std::fs::write(trigger(folder.path()), b"").expect("the folder is writable");
        // The others go on, those of the shard wait.
        let before = load.acked();
        let at_work = |acked: &[u64]| {
            let more = acked.iter().zip(&before);
            more.filter(|(now, before)| **now > **before + 20 * UNDER_WAY)
                .count()
        };
        load.wait("others go on", |acked| at_work(acked) >= 2);
        check_it_is_told(&node);
        std::fs::remove_file(trigger(folder.path())).expect("it is there");
        node.until_ready_is(200);
        std::fs::write(trigger(folder.path()), b"").expect("the folder is writable");
        node.until_ready_is(503);
        load.stop.store(true, Ordering::Relaxed);
        node.ask_to_stop();
        let (status, said) = node.ended();
        assert_eq!(status.code(), Some(1), "{said}");
        let fault = line(&said, "FB-3116");
        assert!(
            fault.contains("shard 1") && fault.contains("turn"),
            "{fault}"
        );
        let sent = load.end();

        std::fs::remove_file(trigger(folder.path())).expect("it is there");
        let node = Node::start(folder.path(), None);
        let logged = read_back(&node.address, &world);
        for at in 0..SENDERS {
            let fits = (sent[at].acked..=sent[at].sent).contains(&logged[at]);
            assert!(fits, "sender {at}: {:?}, {} logged", sent[at], logged[at]);
        }
    }
    println!("planted standstills: {rounds} rounds; FOREBAY_PLANTED_ROUNDS={rounds}");
}
