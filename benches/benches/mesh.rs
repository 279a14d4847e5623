//! A bounded queue from one shard's thread to another's, as five ways to have one, each for items of 64 bytes in batches of 1,
//! 16 and 256. Both threads are pinned, to processors 0 and 1. `turns` is what a mesh costs: one thread sends a batch, then the
//! other takes it; the cycles of sending and of taking, none of waiting. `flow` is both at work at once, as fast as they can:
//! the processor time of both threads, with what they wait for each other.
//! `doorbell` is the mesh of the node with real rings: how long a lone item takes from one thread to the other that sleeps in its
//! ring, or is at work, and what sending and ringing costs the sender.
//! Prints one JSON line each, the median of rounds in which the ways take turns. Arguments name what is to be run; glommio's channel
//! is run only if named: with real-time priority its executors may wait for each other for good.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::timed;
use crossbeam_channel as channel;
use crossbeam_queue::ArrayQueue;
use futures_lite::future::{block_on, poll_once};
use glommio::channels::shared_channel;
use glommio::{LocalExecutorBuilder, Placement};
use node::mesh::{Port, mesh};
use ring::{Features, Ring, RingLimits, Waker, cycles};
use rustix::thread::{CpuSet, sched_setaffinity};

const CAPACITY: usize = 1024;
const BATCHES: [usize; 3] = [1, 16, 256];
const ROUNDS: usize = 7;
/// Turns of a round, and items that flow in one.
const TURNS: u64 = 2_000;
const FLOWING: u64 = 400_000;
const SPINS: u32 = 10_000;
const SPIN_MAX: Duration = Duration::from_secs(60);
/// Lone items, and reference cycles before each, so that the receiver is asleep again.
const LONE: u64 = 5_000;
const PAUSE_CYCLES: u64 = 100_000;
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// As much as a routed frame's description.
type Item = [u64; 8];

fn item(number: u64) -> Item {
    [number; 8]
}

/// One end that sends: all of a batch that there is room for, from its front.
trait Sends {
    fn send(&mut self, batch: &mut Vec<Item>);
}

/// The other end: takes `max` items at most.
trait Takes {
    fn take(&mut self, into: &mut Vec<Item>, max: usize);
}

/// Send one by one, until one comes back.
fn send_each(batch: &mut Vec<Item>, mut send: impl FnMut(Item) -> bool) {
    let mut sent = 0;
    while sent < batch.len() && send(batch[sent]) {
        sent += 1;
    }
    batch.drain(..sent);
}

fn take_each(into: &mut Vec<Item>, max: usize, take: impl FnMut() -> Option<Item>) {
    into.extend(std::iter::from_fn(take).take(max));
}

impl Sends for Arc<ArrayQueue<Item>> {
    fn send(&mut self, batch: &mut Vec<Item>) {
        send_each(batch, |item| self.push(item).is_ok());
    }
}

impl Takes for Arc<ArrayQueue<Item>> {
    fn take(&mut self, into: &mut Vec<Item>, max: usize) {
        take_each(into, max, || self.pop());
    }
}

impl Sends for channel::Sender<Item> {
    fn send(&mut self, batch: &mut Vec<Item>) {
        send_each(batch, |item| self.try_send(item).is_ok());
    }
}

impl Takes for channel::Receiver<Item> {
    fn take(&mut self, into: &mut Vec<Item>, max: usize) {
        take_each(into, max, || self.try_recv().ok());
    }
}

impl Sends for rtrb::Producer<Item> {
    fn send(&mut self, batch: &mut Vec<Item>) {
        send_each(batch, |item| self.push(item).is_ok());
    }
}

impl Takes for rtrb::Consumer<Item> {
    fn take(&mut self, into: &mut Vec<Item>, max: usize) {
        take_each(into, max, || self.pop().ok());
    }
}

/// The same ring, told of a whole batch at once.
struct Chunks<End>(End);

impl Sends for Chunks<rtrb::Producer<Item>> {
    fn send(&mut self, batch: &mut Vec<Item>) {
        let count = batch.len().min(self.0.slots());
        let chunk = self.0.write_chunk_uninit(count).expect("there is room");
        chunk.fill_from_iter(batch.drain(..count));
    }
}

impl Takes for Chunks<rtrb::Consumer<Item>> {
    fn take(&mut self, into: &mut Vec<Item>, max: usize) {
        let count = self.0.slots().min(max);
        into.extend(self.0.read_chunk(count).expect("they are there"));
    }
}

impl Sends for shared_channel::ConnectedSender<Item> {
    fn send(&mut self, batch: &mut Vec<Item>) {
        send_each(batch, |item| self.try_send(item).is_ok());
    }
}

impl Takes for shared_channel::ConnectedReceiver<Item> {
    fn take(&mut self, into: &mut Vec<Item>, max: usize) {
        take_each(into, max, || block_on(poll_once(self.recv())).flatten());
    }
}

/// Nanoseconds an item, of both ends together.
#[derive(Debug, Clone, Copy)]
struct Cost {
    turns: f64,
    flow: f64,
}

/// What both threads look at besides the queue: whose turn it is. On a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Turn(AtomicU64);

impl Turn {
    fn until(&self, turn: u64) {
        let mut waiting = Waiting::default();
        while self.0.load(Ordering::Acquire) < turn {
            waiting.spin();
        }
    }

    fn done(&self, turn: u64) {
        self.0.store(turn + 1, Ordering::Release);
    }
}

/// Spins, and lets others run after a while: threads of an executor may be on the same processor.
#[derive(Default)]
struct Waiting(u32);

impl Waiting {
    fn spin(&mut self) {
        self.0 += 1;
        match self.0.is_multiple_of(SPINS) {
            true => thread::yield_now(),
            false => std::hint::spin_loop(),
        }
    }
}

/// The sending thread: cycles of all its turns, processor nanoseconds of its flow.
fn sender(mut end: impl Sends, turn: &Turn, batch_items: usize) -> (u64, f64) {
    let mut batch = Vec::with_capacity(batch_items);
    let mut spent = 0;
    for round in 0..TURNS {
        batch.extend((0..batch_items).map(|number| item(number as u64)));
        turn.until(2 * round);
        let start = cycles();
        end.send(&mut batch);
        spent += cycles() - start;
        assert!(batch.is_empty(), "a queue of {CAPACITY} has room");
        turn.done(2 * round);
    }
    turn.until(2 * TURNS);
    let (cpu, ()) = timed(|| {
        let (mut sent, mut waiting) = (0, Waiting::default());
        while sent < FLOWING {
            let to = FLOWING.min(sent + batch_items as u64);
            batch.extend((sent..to).map(item));
            sent = to;
            while !batch.is_empty() {
                end.send(&mut batch);
                waiting.spin();
            }
        }
    });
    (spent, cpu.as_nanos() as f64)
}

/// The taking thread: the same of its turns and flow.
fn taker(mut end: impl Takes, turn: &Turn, batch_items: usize) -> (u64, f64) {
    let mut taken = Vec::with_capacity(CAPACITY);
    let mut spent = 0;
    for round in 0..TURNS {
        turn.until(2 * round + 1);
        let start = cycles();
        end.take(&mut taken, batch_items);
        spent += cycles() - start;
        assert_eq!(taken.len(), batch_items, "all that was sent");
        taken.clear();
        turn.done(2 * round + 1);
    }
    let (cpu, ()) = timed(|| {
        let (mut next, mut waiting) = (0, Waiting::default());
        while next < FLOWING {
            end.take(&mut taken, batch_items);
            for item in taken.drain(..) {
                assert_eq!(item[7], next, "in order");
                next += 1;
            }
            waiting.spin();
        }
    });
    (spent, cpu.as_nanos() as f64)
}

fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).expect("two processors");
}

/// Run both ends, each in the way that its thread needs.
fn measure(
    batch_items: usize,
    send: impl FnOnce(&Turn) -> (u64, f64) + Send,
    take: impl FnOnce(&Turn) -> (u64, f64) + Send,
) -> Cost {
    let turn = Turn::default();
    let (wall, counter) = (Instant::now(), cycles());
    let ((sent, sent_flow), (taken, taken_flow)) = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            pin(0);
            send(&turn)
        });
        let taking = scope.spawn(|| {
            pin(1);
            take(&turn)
        });
        let sent = sending.join().expect("the sender ends");
        (sent, taking.join().expect("the taker ends"))
    });
    let cycle_nanos = wall.elapsed().as_nanos() as f64 / (cycles() - counter) as f64;
    let items = (TURNS * batch_items as u64) as f64;
    Cost {
        turns: (sent + taken) as f64 * cycle_nanos / items,
        flow: (sent_flow + taken_flow) / FLOWING as f64,
    }
}

fn plain(send: impl Sends + Send, take: impl Takes + Send, batch_items: usize) -> Cost {
    measure(
        batch_items,
        |turn| sender(send, turn, batch_items),
        |turn| taker(take, turn, batch_items),
    )
}

/// Its ends live in executors, in which nothing else is to be done.
fn glommio_channel(batch_items: usize) -> Cost {
    let (send, take) = shared_channel::new_bounded(CAPACITY);
    measure(
        batch_items,
        |turn| executed(0, async { sender(send.connect().await, turn, batch_items) }),
        |turn| executed(1, async { taker(take.connect().await, turn, batch_items) }),
    )
}

fn executed<T>(processor: usize, work: impl Future<Output = T>) -> T {
    // One that sleeps while it connects is not always woken.
    let restless =
        LocalExecutorBuilder::new(Placement::Fixed(processor)).spin_before_park(SPIN_MAX);
    restless.make().expect("an executor").run(work)
}

fn array_queue(batch_items: usize) -> Cost {
    let queue = Arc::new(ArrayQueue::new(CAPACITY));
    plain(Arc::clone(&queue), queue, batch_items)
}

fn crossbeam_channel(batch_items: usize) -> Cost {
    let (send, take) = channel::bounded(CAPACITY);
    plain(send, take, batch_items)
}

fn rtrb_each(batch_items: usize) -> Cost {
    let (send, take) = rtrb::RingBuffer::new(CAPACITY);
    plain(send, take, batch_items)
}

fn rtrb_chunks(batch_items: usize) -> Cost {
    let (send, take) = rtrb::RingBuffer::new(CAPACITY);
    plain(Chunks(send), Chunks(take), batch_items)
}

/// The receiver of lone items, each the cycle it was sent at: how many cycles each took.
fn lone_receiver(
    mut port: Port<u64, Waker>,
    mut ring: Ring,
    sleeps: bool,
    taken: &Turn,
) -> Vec<f64> {
    let (mut items, mut events) = (Vec::with_capacity(16), Vec::new());
    let mut latencies = Vec::with_capacity(LONE as usize);
    while latencies.len() < LONE as usize {
        if port.receive(&mut items, 16) || !items.is_empty() {
            let now = cycles();
            latencies.extend(items.drain(..).map(|sent| (now - sent) as f64));
            taken.0.store(latencies.len() as u64, Ordering::Release);
        } else if ring.take(&mut events).expect("a ring") == 0 && sleeps {
            ring.wait(SLEEP_MAX).expect("a ring");
        }
    }
    latencies
}

/// The sender of lone items: how many cycles each cost it.
fn lone_sender(mut port: Port<u64, Waker>, taken: &Turn) -> Vec<f64> {
    let mut costs = Vec::with_capacity(LONE as usize);
    for number in 0..LONE {
        taken.until(number);
        let taken_at = cycles();
        while cycles() - taken_at < PAUSE_CYCLES {
            std::hint::spin_loop();
        }
        let start = cycles();
        port.send(1, start).expect("there is room");
        port.ring_doorbells();
        costs.push((cycles() - start) as f64);
    }
    taken.until(LONE);
    costs
}

fn doorbell(sleeps: bool) {
    let taken = Turn::default();
    let (wall, counter) = (Instant::now(), cycles());
    let (give, given) = channel::bounded(1);
    let (told, waker) = channel::bounded(1);
    let taken = &taken;
    let (latencies, costs) = thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            pin(1);
            let ring = small_ring();
            told.send(ring.waker()).expect("somebody waits");
            lone_receiver(given.recv().expect("a port"), ring, sleeps, taken)
        });
        let sending = scope.spawn(move || {
            pin(0);
            let ring = small_ring();
            let doorbells = [ring.waker(), waker.recv().expect("a waker")];
            let mut ports = mesh(&doorbells, CAPACITY);
            give.send(ports.pop().expect("two ports"))
                .expect("somebody waits");
            lone_sender(ports.pop().expect("two ports"), taken)
        });
        let costs = sending.join().expect("the sender ends");
        (receiving.join().expect("the receiver ends"), costs)
    });
    let cycle_nanos = wall.elapsed().as_nanos() as f64 / (cycles() - counter) as f64;
    let owner = if sleeps { "asleep" } else { "at-work" };
    for (what, mut values) in [("latency", latencies), ("sender", costs)] {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[(values.len() as f64 * share) as usize] * cycle_nanos;
        println!(
            "{{\"what\":\"mesh/doorbell/{owner}/{what}\",\"p50\":{:.0},\"p99\":{:.0},\"unit\":\"ns\"}}",
            at(0.5),
            at(0.99)
        );
    }
}

fn small_ring() -> Ring {
    let limits = RingLimits {
        buffers: 4,
        buffer_bytes: 64,
        ..RingLimits::default()
    };
    Ring::new(limits, Features::probe().expect("io_uring")).expect("a ring")
}

fn tell(what: &str, mut values: Vec<f64>, unit: &str) {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    let (low, high) = (values[0], values[values.len() - 1]);
    println!(
        "{{\"what\":\"mesh/{what}\",\"value\":{median:.1},\"low\":{low:.1},\"high\":{high:.1},\"unit\":\"{unit}\"}}"
    );
}

fn main() {
    type Way = (&'static str, fn(usize) -> Cost);
    let ways: [Way; 5] = [
        ("array-queue", array_queue),
        ("crossbeam-channel", crossbeam_channel),
        ("rtrb", rtrb_each),
        ("rtrb-chunks", rtrb_chunks),
        ("glommio", glommio_channel),
    ];
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|asked| !asked.starts_with("--"))
        .collect();
    let is_asked = |name: &str| match asked.is_empty() {
        true => name != "glommio",
        false => asked.iter().any(|asked| asked == name),
    };
    if is_asked("doorbell") {
        doorbell(true);
        doorbell(false);
    }
    for batch_items in BATCHES {
        let mut costs = ways.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for ((name, way), costs) in ways.iter().zip(&mut costs) {
                if is_asked(name) {
                    costs.push(way(batch_items));
                }
            }
        }
        for ((name, _), costs) in ways
            .iter()
            .zip(&costs)
            .filter(|((name, _), _)| is_asked(name))
        {
            let turns = costs.iter().map(|cost| cost.turns).collect();
            tell(&format!("turns/{name}/{batch_items}"), turns, "ns/item");
            let flow = costs.iter().map(|cost| cost.flow).collect();
            tell(&format!("flow/{name}/{batch_items}"), flow, "ns/item");
        }
    }
}
