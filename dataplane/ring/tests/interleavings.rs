//! Sleeping and waking in every order that two or three threads can come in, with the memory model's freedom to show old
//! values. loom runs them: `cargo test -p forebay-ring --features interleavings --test interleavings`, exhaustively up to
//! `FOREBAY_PREEMPTIONS` (3) switches of a thread that could have gone on. A wake that is slept through leaves the owner waiting
//! for good, which loom reports. The queue is the weakest there can be: counts, stored and read without any order of their own.

use std::process::Command;
use std::sync::Arc as Shared;
use std::sync::atomic::AtomicU64 as Count;
use std::sync::atomic::Ordering::Relaxed as Counting;

use loom::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use ring::sleep::{Call, Sleep};

/// How an owner and who wakes it agree: the ring's way, and ways that are wrong.
trait Protocol: Default + Send + Sync + 'static {
    fn wake(&self) -> Call;
    fn fall_asleep(&self) -> bool;
    fn get_up(&self);

    /// The owner looks, and gets up, in whatever order.
    fn look(&self, inbox: &Inbox) -> usize {
        self.get_up();
        inbox.look()
    }

    /// Another thread puts something into the inbox, and wakes, in whatever order.
    fn put(&self, inbox: &Inbox, sender: usize, count: usize) -> Call {
        inbox.put(sender, count);
        self.wake()
    }
}

impl Protocol for Sleep {
    fn wake(&self) -> Call {
        Self::wake(self)
    }

    fn fall_asleep(&self) -> bool {
        Self::fall_asleep(self)
    }

    fn get_up(&self) {
        Self::get_up(self);
    }
}

/// In the environment of a child that runs the model of one planted bug: its number.
const PLANTED_BUG: &str = "FOREBAY_PLANTED_BUG";

/// The states of `Sleep`, for ways that are wrong.
const AWAITS: u8 = 0;
const AWAKE: u8 = 1;
const ASLEEP: u8 = 2;
const RUNG: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Planted {
    /// None: nothing is found.
    Nothing,
    /// The owner looks, then announces that it sleeps, whatever has come in between.
    CheckedBeforeAnnounced,
    /// The owner looks before it gets up, so that the bell of what came in between is forgotten.
    LookedBeforeUp,
    /// The bell is rung before the item is there.
    RungBeforeSent,
    /// Whether the owner sleeps is read, not exchanged: the item may become visible after that.
    OnlyRead,
    /// Whether the owner awaits the first eventfd is read, not exchanged.
    OnlyReadAtFirst,
    /// The right steps, without an order of memory.
    Unordered,
    /// The owner may sleep at the first time, although a wake may have gone to the other eventfd.
    SleepsAtFirst,
}

const PLANTED: [Planted; 8] = [
    Planted::Nothing,
    Planted::CheckedBeforeAnnounced,
    Planted::LookedBeforeUp,
    Planted::RungBeforeSent,
    Planted::OnlyRead,
    Planted::OnlyReadAtFirst,
    Planted::Unordered,
    Planted::SleepsAtFirst,
];

/// `Sleep` with one bug.
struct Broken<const BUG: u8> {
    owner: AtomicU8,
}

impl<const BUG: u8> Default for Broken<BUG> {
    fn default() -> Self {
        Self {
            owner: AtomicU8::new(AWAITS),
        }
    }
}

impl<const BUG: u8> Broken<BUG> {
    fn has(bug: Planted) -> bool {
        BUG == bug as u8
    }

    fn order() -> Ordering {
        match Self::has(Planted::Unordered) {
            true => Ordering::Relaxed,
            false => Ordering::AcqRel,
        }
    }

    fn exchange(&self, from: u8, to: u8) -> bool {
        let exchanged = self
            .owner
            .compare_exchange(from, to, Self::order(), Ordering::Relaxed);
        exchanged.is_ok()
    }
}

impl<const BUG: u8> Protocol for Broken<BUG> {
    fn wake(&self) -> Call {
        let awaits = match Self::has(Planted::OnlyReadAtFirst) {
            true => self.owner.load(Ordering::SeqCst) == AWAITS,
            false => self.exchange(AWAITS, AWAITS),
        };
        if awaits {
            return Call::Completions;
        }
        if Self::has(Planted::OnlyRead) && self.owner.load(Ordering::SeqCst) == AWAKE {
            return Call::Nobody;
        }
        match self.owner.swap(RUNG, Self::order()) {
            ASLEEP => Call::Waits,
            _ => Call::Nobody,
        }
    }

    fn fall_asleep(&self) -> bool {
        if Self::has(Planted::CheckedBeforeAnnounced) {
            return self.owner.swap(ASLEEP, Self::order()) != AWAITS;
        }
        if Self::has(Planted::SleepsAtFirst) && self.exchange(AWAITS, ASLEEP) {
            return true;
        }
        self.exchange(AWAKE, ASLEEP)
    }

    fn get_up(&self) {
        self.owner.swap(AWAKE, Self::order());
    }

    fn look(&self, inbox: &Inbox) -> usize {
        if Self::has(Planted::LookedBeforeUp) {
            let seen = inbox.look();
            self.get_up();
            return seen;
        }
        self.get_up();
        inbox.look()
    }

    fn put(&self, inbox: &Inbox, sender: usize, count: usize) -> Call {
        if Self::has(Planted::RungBeforeSent) {
            let call = self.wake();
            inbox.put(sender, count);
            return call;
        }
        inbox.put(sender, count);
        self.wake()
    }
}

/// How many items each sender has put in.
struct Inbox(Vec<AtomicUsize>);

impl Inbox {
    fn put(&self, sender: usize, count: usize) {
        self.0[sender].store(count, Ordering::Relaxed);
    }

    fn look(&self) -> usize {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        counts.sum()
    }
}

/// An eventfd: reading waits until it was written.
#[derive(Default)]
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

/// How the owner sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// As `Ring::wait` does.
    Waits,
    /// By reading the eventfd of completions, and never in the ring.
    Awaits,
}

/// `senders` threads put in `items` each and wake after each; the owner ends when it has seen all.
fn run<P: Protocol>(owner: Owner, senders: usize, items: usize) {
    let sleep = Arc::new(P::default());
    let inbox = Arc::new(Inbox((0..senders).map(|_| AtomicUsize::new(0)).collect()));
    let completions = Arc::new(Eventfd::default());
    let waits = Arc::new(Eventfd::default());
    let threads: Vec<_> = (0..senders)
        .map(|sender| {
            let (sleep, inbox) = (Arc::clone(&sleep), Arc::clone(&inbox));
            let (completions, waits) = (Arc::clone(&completions), Arc::clone(&waits));
            thread::spawn(move || {
                for count in 1..=items {
                    match sleep.put(&inbox, sender, count) {
                        Call::Nobody => {}
                        Call::Completions => completions.write(),
                        Call::Waits => waits.write(),
                    }
                }
            })
        })
        .collect();
    // As `Ring::wait` after `Ring::take`: the first look is before anything is announced.
    let mut seen = inbox.look();
    while seen < senders * items {
        seen = match owner {
            Owner::Waits => {
                if sleep.fall_asleep() {
                    waits.read();
                }
                sleep.look(&inbox)
            }
            Owner::Awaits => {
                completions.read();
                inbox.look()
            }
        };
    }
    for thread in threads {
        thread.join().expect("nobody panics");
    }
}

/// Run through all orders. Returns how many there were.
fn explore<P: Protocol>(owner: Owner, senders: usize, items: usize) -> u64 {
    let told = std::env::var("FOREBAY_PREEMPTIONS");
    let preemptions = told.map_or(3, |told| told.parse().expect("a number of preemptions"));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    let orders = Shared::new(Count::new(0));
    let counted = Shared::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Counting);
        run::<P>(owner, senders, items);
    });
    let orders = orders.load(Counting);
    println!(
        "{owner:?}: {orders} orders of {senders} senders with {items} items, all with at most {preemptions} preemptions"
    );
    orders
}

#[test]
fn no_wake_is_slept_through_in_any_order() {
    for (senders, items) in [(1, 1), (1, 3), (2, 1)] {
        for owner in [Owner::Waits, Owner::Awaits] {
            assert!(explore::<Sleep>(owner, senders, items) > 1);
        }
    }
}

/// The model of a broken protocol, as the program of a child: loom cannot go on after it has found something.
fn explore_planted(bug: u8) {
    let explore = match bug {
        1 => explore::<Broken<1>>,
        2 => explore::<Broken<2>>,
        3 => explore::<Broken<3>>,
        4 => explore::<Broken<4>>,
        5 => explore::<Broken<5>>,
        6 => explore::<Broken<6>>,
        7 => explore::<Broken<7>>,
        _ => explore::<Broken<0>>,
    };
    for (senders, items) in [(1, 1), (1, 2), (2, 1)] {
        explore(Owner::Waits, senders, items);
    }
}

#[test]
fn every_planted_bug_is_found_and_nothing_where_none_is() {
    if let Ok(bug) = std::env::var(PLANTED_BUG) {
        return explore_planted(bug.parse().expect("a number of a bug"));
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
        let slept_through = told.contains("deadlock; threads");
        println!(
            "{planted:?}: {}",
            if slept_through {
                "slept through a wake, found"
            } else {
                "passed"
            }
        );
        assert_eq!(
            slept_through,
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
