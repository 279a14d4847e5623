//! The mesh, its doorbells and the hand-over of a route table in every order that threads can come in. loom runs them:
//! `cargo test -p forebay-node --features interleavings --test interleavings`, exhaustively up to `FOREBAY_PREEMPTIONS` (2)
//! switches of a thread that could have gone on. Whoever sleeps over something waits for good, which loom reports as a deadlock.
//!
//! The queues are those of their crates, and each of their operations is one step here; what the memory model may do between
//! a queue and our own flags is tried with the weakest queue there can be: numbers stored and read without an order of their own.

use std::process::Command;
use std::sync::Arc as Shared;
use std::sync::atomic::AtomicU64 as Count;
use std::sync::atomic::Ordering::Relaxed as Counting;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use node::mesh::{Doorbell, Port, Refused, Room, mesh};
use ring::sleep::{Call, Sleep};

/// In the environment of a child that runs the model of one planted bug: its number.
const PLANTED_BUG: &str = "FOREBAY_PLANTED_BUG";

/// An eventfd: reading waits until it was written.
#[derive(Debug, Default)]
struct Eventfd {
    count: Mutex<u64>,
    written: Condvar,
}

impl Eventfd {
    fn write(&self) {
        *self.count.lock().expect("nobody panics") += 1;
        self.written.notify_one();
    }

    fn read(&self) {
        let mut count = self.count.lock().expect("nobody panics");
        while *count == 0 {
            count = self.written.wait(count).expect("nobody panics");
        }
        *count = 0;
    }
}

/// `ring::Waker` without a kernel. The eventfd of completions is left out: who waits in the ring does not read it.
#[derive(Debug, Clone, Default)]
struct Bell(Arc<(Sleep, Eventfd)>);

impl Doorbell for Bell {
    fn ring(&self) -> bool {
        let (sleep, eventfd) = &*self.0;
        let call = sleep.wake();
        if call == Call::Waits {
            eventfd.write();
        }
        call != Call::Nobody
    }
}

impl Bell {
    /// Of an owner that has waited before: the first time it would not sleep, whatever it has missed.
    fn new() -> Self {
        let bell = Self::default();
        bell.wait();
        bell
    }

    /// As `Ring::wait`.
    fn wait(&self) {
        let (sleep, eventfd) = &*self.0;
        if sleep.fall_asleep() {
            eventfd.read();
        }
        sleep.get_up();
    }
}

/// Run through all orders, and say how many there were.
fn explore(what: &str, model: impl Fn() + Send + Sync + 'static) {
    let told = std::env::var("FOREBAY_PREEMPTIONS");
    let preemptions = told.map_or(2, |told| told.parse().expect("a number of preemptions"));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    let orders = Shared::new(Count::new(0));
    let counted = Shared::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Counting);
        model();
    });
    let orders = orders.load(Counting);
    println!("{what}: {orders} orders, all with at most {preemptions} preemptions");
}

/// A shard's thread: sends `sends` items to every other, sleeps when there is nothing to do, ends when `awaits` have come. Gives
/// its port back, as dropping it rings everybody, and would wake who has slept over something.
fn serve(
    mut port: Port<u64, Bell>,
    bell: &Bell,
    me: usize,
    sends: u64,
    awaits: u64,
) -> Port<u64, Bell> {
    let others: Vec<usize> = (0..port.shards()).filter(|shard| *shard != me).collect();
    let mut sent = vec![0; port.shards()];
    let mut taken = Vec::new();
    loop {
        let more = port.receive(&mut taken, 2);
        for to in &others {
            while sent[*to] < sends && port.send(*to, sent[*to]).is_ok() {
                sent[*to] += 1;
            }
        }
        port.ring_doorbells();
        let all_sent = others.iter().all(|to| sent[*to] == sends);
        if all_sent && taken.len() as u64 == awaits {
            return port;
        }
        if !more {
            bell.wait();
        }
    }
}

/// Two shards with room for one item each way, which send as many items as it says.
fn two_shards(first_sends: u64, second_sends: u64) {
    let bells = [Bell::new(), Bell::new()];
    let mut ports = mesh(&bells, 1);
    let (second, first) = (ports.pop(), ports.pop());
    let (second, first) = (second.expect("two ports"), first.expect("two ports"));
    let bell = bells[1].clone();
    let thread = thread::spawn(move || serve(second, &bell, 1, second_sends, first_sends));
    let first = serve(first, &bells[0], 0, first_sends, second_sends);
    let second = thread.join().expect("nobody panics");
    assert_eq!(first.counters(1).sent, second.counters(0).received);
    assert_eq!(second.counters(0).sent, first.counters(1).received);
}

#[test]
fn no_shard_sleeps_over_an_item_or_over_room_for_one() {
    explore("2 shards, 2 items one way", || two_shards(2, 0));
    explore("2 shards, 3 items one way", || two_shards(3, 0));
    explore("2 shards, 1 item both ways", || two_shards(1, 1));
}

#[test]
fn a_shard_that_waits_for_room_learns_that_its_peer_has_ended() {
    explore("a peer that ends without taking anything", || {
        let bells = [Bell::new(), Bell::new()];
        let mut ports = mesh(&bells, 1);
        let ends = ports.pop();
        let mut port = ports.pop().expect("two ports");
        let thread = thread::spawn(move || drop(ends));
        let mut item = 0;
        loop {
            match port.send(1, item) {
                Ok(()) => item += 1,
                Err(Refused::Full(_)) => bells[0].wait(),
                Err(Refused::Gone(_)) => break,
            }
        }
        assert!(port.is_gone(1));
        thread.join().expect("nobody panics");
    });
}

/// Two threads hand over a table each, as the admin port and a signal do, and the loop takes them between two turns.
#[test]
fn no_table_is_slept_over_and_the_last_one_handed_over_is_in_force() {
    explore("2 tables", || {
        let bell = Bell::new();
        let (commands, asked) = crossbeam_channel::bounded(16);
        // Held while a table is made and handed over, so that epochs never go back.
        let epoch = Arc::new(Mutex::new(0_u64));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (bell, epoch, commands) = (bell.clone(), Arc::clone(&epoch), commands.clone());
                thread::spawn(move || {
                    let mut epoch = epoch.lock().expect("nobody panics");
                    *epoch += 1;
                    assert!(commands.try_send(Shared::new(*epoch)).is_ok());
                    bell.ring();
                })
            })
            .collect();
        let mut in_force = 0;
        while in_force < 2 {
            while let Ok(table) = asked.try_recv() {
                assert!(*table > in_force, "{table} after {in_force}");
                in_force = *table;
            }
            if in_force < 2 {
                bell.wait();
            }
        }
        for thread in threads {
            thread.join().expect("nobody panics");
        }
    });
}

/// How sender and taker agree on room that is wanted: the mesh's way, and ways that are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Planted {
    /// None: nothing is found.
    Nothing,
    /// Who found no room waits for its bell without having looked again.
    NoSecondLook,
    /// The taker asks who waits, and then takes.
    AskedBeforeTaken,
    /// The sender's wish is stored, the taker's question read: neither waits for the other's memory.
    OnlyStoredAndRead,
    /// As stored and read, in the one order of all, which the queue is not part of.
    OnlyReadInOrder,
}

const PLANTED: [Planted; 5] = [
    Planted::Nothing,
    Planted::NoSecondLook,
    Planted::AskedBeforeTaken,
    Planted::OnlyStoredAndRead,
    Planted::OnlyReadInOrder,
];

/// The flag of a queue, the mesh's and one that is only stored and read.
#[derive(Debug)]
struct Flags {
    room: Room,
    stored: AtomicBool,
    planted: Planted,
}

impl Flags {
    fn want(&self) {
        match self.planted {
            Planted::OnlyStoredAndRead => self.stored.store(true, Ordering::Release),
            Planted::OnlyReadInOrder => self.stored.store(true, Ordering::SeqCst),
            _ => self.room.want(),
        }
    }

    fn made(&self) -> bool {
        match self.planted {
            Planted::OnlyStoredAndRead => self.stored.load(Ordering::Acquire),
            Planted::OnlyReadInOrder => self.stored.load(Ordering::SeqCst),
            _ => self.room.made(),
        }
    }
}

/// A sender in front of a full queue and a taker that takes one item.
fn room(planted: Planted) {
    explore(&format!("room, {planted:?}"), move || {
        let taken = Arc::new(AtomicUsize::new(0));
        let bell = Arc::new(Eventfd::default());
        let flags = Arc::new(Flags {
            room: Room::default(),
            stored: AtomicBool::new(false),
            planted,
        });
        let thread = {
            let (taken, bell, flags) = (Arc::clone(&taken), Arc::clone(&bell), Arc::clone(&flags));
            thread::spawn(move || {
                let asked = planted == Planted::AskedBeforeTaken && flags.made();
                taken.store(1, Ordering::Relaxed);
                if asked || (planted != Planted::AskedBeforeTaken && flags.made()) {
                    bell.write();
                }
            })
        };
        let has_room = || taken.load(Ordering::Relaxed) == 1;
        while !has_room() {
            flags.want();
            if planted != Planted::NoSecondLook && has_room() {
                break;
            }
            bell.read();
        }
        thread.join().expect("nobody panics");
    });
}

#[test]
fn every_planted_bug_is_found_and_nothing_where_none_is() {
    if let Ok(bug) = std::env::var(PLANTED_BUG) {
        let planted = PLANTED
            .into_iter()
            .find(|planted| (*planted as u8).to_string() == bug);
        return room(planted.expect("a number of a bug"));
    }
    let program = std::env::current_exe().expect("Linux tells it");
    for planted in PLANTED {
        let mut child = Command::new(&program);
        child.args([
            "--exact",
            "--nocapture",
            "every_planted_bug_is_found_and_nothing_where_none_is",
        ]);
        let output = child.env(PLANTED_BUG, (planted as u8).to_string()).output();
        let output = output.expect("a child of its own program");
        let told = String::from_utf8_lossy(&output.stderr);
        let slept_over = told.contains("deadlock; threads");
        println!(
            "{planted:?}: {}",
            if slept_over {
                "slept over room, found"
            } else {
                "passed"
            }
        );
        assert_eq!(
            slept_over,
            planted != Planted::Nothing,
            "{planted:?}: {told}"
        );
        assert_eq!(
            output.status.success(),
            planted == Planted::Nothing,
            "{planted:?}: {told}"
        );
    }
}
