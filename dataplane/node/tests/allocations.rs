//! Zero heap allocations for a message: counted on the shard's own thread, in steady state, over real sockets.
//!
//! Pools of send buffers and queues grow until they hold what was ever on its way at once, and that is up to the scheduler:
//! with 64 connections as few as none or as many as two hundred allocations, whenever a turn first answers more of them than any
//! before. That growth ends; what a message, a turn or a sync costs does not. So stretches of the same load are counted
//! until one is without any allocation, and there must be one.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]
#![allow(
    unsafe_code,
    reason = "an allocator that counts has to be an allocator"
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use node::config::LogFormat;
use node::log::Log;
use support::*;
use wire::ids::AckMode;
use wire::reason::Reason;

struct Counting;

/// One test at a time: they would count each other's.
static ALONE: Mutex<()> = Mutex::new(());

static ON_SHARD: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// 0 unknown, 1 the shard's thread, 2 another one.
    static WHOSE: Cell<u8> = const { Cell::new(0) };
}

/// Count if this is the shard's thread, which is known by its name once it has one.
fn count() {
    // A thread whose locals are gone is no shard that serves.
    let _ = WHOSE.try_with(|whose| {
        if whose.get() == 0 {
            // Asking for the name may allocate: this thread is another one until it is known.
            whose.set(2);
            let shard = std::fs::read_to_string("/proc/thread-self/comm")
                .is_ok_and(|name| name.starts_with("shard-"));
            whose.set(if shard { 1 } else { 2 });
        }
        if whose.get() == 1 {
            ON_SHARD.fetch_add(1, Ordering::Relaxed);
        }
    });
}

// SAFETY: every call is handed to the system's allocator unchanged; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 200;

/// Forged frames of each connection in a measurement: two of them stay below the number that ends a connection.
const FORGED: usize = 7;

/// Stretches within which one must be without allocations: a pool that grows one at a time is full by then.
const STRETCHES: usize = 12;

/// Count the allocations of one stretch of load after the other, until one has none; all of them.
fn stretches(mut stretch: impl FnMut() -> u64) -> Vec<u64> {
    let mut counts = Vec::new();
    while counts.len() < STRETCHES && counts.last() != Some(&0) {
        counts.push(stretch());
    }
    counts
}

/// The allocations on the shard's thread while `load` goes on.
fn allocations_of(load: impl FnOnce()) -> u64 {
    let before = ON_SHARD.load(Ordering::Relaxed);
    load();
    ON_SHARD.load(Ordering::Relaxed) - before
}

/// Send rounds of one frame of `messages` on every connection, each acked, fetched and settled before the next.
fn drive(clients: &mut [Client], receiver: Option<&mut Client>, rounds: usize, messages: usize) {
    let bodies = vec![&[7_u8; 100][..]; messages];
    let mut receiver = receiver;
    for _ in 0..rounds {
        for client in clients.iter_mut() {
            client.send(&bodies);
        }
        for client in clients.iter_mut() {
            let number = client.sequence - 1;
            client.wait_acked(number);
        }
        if let Some(receiver) = &mut receiver {
            let messages = CONNECTIONS * messages;
            receiver.fetch_bytes(messages as u32, 256 * messages as u64);
            let (last, _) = receiver.take(messages);
            receiver.settle(last);
        }
    }
}

/// Allocations on the shard's thread in each stretch, messages of a stretch, syncs of all.
fn allocations(ack: AckMode, messages: usize, received: bool) -> (Vec<u64>, usize, u64) {
    let data = tempfile::tempdir().unwrap();
    let mut parts = parts(ack, CONNECTIONS);
    // No segment may end while counting: preparing one is not per message.
    parts.hubs[0].segment_bytes = 64 << 20;
    if !received {
        parts
            .endpoints
            .retain(|endpoint| &*endpoint.name != RECEIVER);
    }
    let mut config = config(data.path());
    config.disk.journal_segment_bytes = 64 << 20;
    let node = try_start(config, table(parts)).unwrap();
    let mut clients: Vec<Client> = (0..CONNECTIONS)
        .map(|number| Client::connect(node.listen_addr(), &sender(number)))
        .collect();
    let mut receiver = received.then(|| Client::connect(node.listen_addr(), RECEIVER));
    drive(&mut clients, receiver.as_mut(), ROUNDS, messages);
    let syncs = || metric(node.admin_addr(), "forebay_syncs_total").unwrap() as u64;
    let syncs_before = syncs();
    let counted =
        stretches(|| allocations_of(|| drive(&mut clients, receiver.as_mut(), ROUNDS, messages)));
    let syncs = syncs() - syncs_before;
    node.stop();
    node.join().unwrap();
    (counted, CONNECTIONS * ROUNDS * messages, syncs)
}

#[test]
fn a_message_costs_no_allocation_on_the_shards_thread() {
    let _alone = ALONE.lock();
    for (ack, messages, received) in [
        (AckMode::Local, 1, false),
        (AckMode::Local, 16, false),
        (AckMode::Durable, 1, false),
        (AckMode::Durable, 16, false),
        (AckMode::Local, 1, true),
        (AckMode::Durable, 4, true),
    ] {
        let (counted, all, syncs) = allocations(ack, messages, received);
        let told = format!(
            "{counted:?} allocations for {all} messages each, {syncs} syncs ({ack:?}, {messages} a frame, received: {received})"
        );
        eprintln!("{told}");
        assert_eq!(counted.last(), Some(&0), "{told}");
    }
}

/// Every client sends so many frames whose signatures are spoilt, and reads their REJECTs.
fn forge(clients: &mut [Client], frames: usize) {
    for _ in 0..frames {
        for client in clients.iter_mut() {
            let number = client.sequence;
            client.put_send(&[&[7; 100]]);
            client.sequence = number;
            let mut bytes = client.take_out();
            *bytes.last_mut().unwrap() ^= 1;
            client.stream.write_all(&bytes).unwrap();
        }
        for client in clients.iter_mut() {
            let said = client.read();
            let Said::Reject(reject) = said else {
                panic!("{said:?}")
            };
            assert_eq!(reject.notice.reason, Reason::BadSignature);
        }
    }
}

#[test]
fn a_forged_frame_costs_no_allocation_and_no_line_in_the_log() {
    let _alone = ALONE.lock();
    let page = Page::default();
    let data = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::new(LogFormat::Text, Box::new(page.clone())));
    let table = table(parts(AckMode::Local, CONNECTIONS));
    let node = start_logged(config(data.path()), table, no_reload(), log).unwrap();
    let connect = || {
        let connect = |number| Client::connect(node.listen_addr(), &sender(number));
        (0..CONNECTIONS).map(connect).collect::<Vec<_>>()
    };
    drive(&mut connect(), None, ROUNDS, 1);
    // Each stretch has connections of its own: so many forged frames that the next ones would end them.
    let counted = stretches(|| {
        let mut clients = connect();
        forge(&mut clients, FORGED);
        let lines = page.lines();
        let counted = allocations_of(|| forge(&mut clients, FORGED));
        assert_eq!(page.lines(), lines);
        counted
    });
    let forged = CONNECTIONS * FORGED;
    let told = format!("{counted:?} allocations for {forged} forged frames each");
    eprintln!("{told}");
    assert_eq!(counted.last(), Some(&0), "{told}");
    node.stop();
    node.join().unwrap();
}

/// A log that counts its lines.
#[derive(Clone, Default)]
struct Page(Arc<AtomicU64>);

impl Page {
    fn lines(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.0.fetch_add(lines as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
