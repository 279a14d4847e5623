//! Zero heap allocations for a message: counted on the shard's own thread, in steady state, over real sockets.
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
use std::sync::atomic::{AtomicU64, Ordering};

use support::*;
use wire::ids::AckMode;

struct Counting;

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

/// Send `rounds` rounds of one frame of `messages` on every connection, each round acked before the next.
fn drive(clients: &mut [Client], rounds: usize, messages: usize) {
    let bodies = vec![&[7_u8; 100][..]; messages];
    for _ in 0..rounds {
        for client in clients.iter_mut() {
            client.send(&bodies);
        }
        for client in clients.iter_mut() {
            let number = client.sequence - 1;
            client.wait_acked(number);
        }
    }
}

fn allocations(ack: AckMode, messages: usize) -> (u64, u64, u64) {
    let data = tempfile::tempdir().unwrap();
    let mut parts = parts(ack, CONNECTIONS);
    // No segment may end while counting: preparing one is not per message.
    parts.hubs[0].segment_bytes = 64 << 20;
    // Nobody listens: fan-out has its own test.
    parts
        .endpoints
        .retain(|endpoint| &*endpoint.name != RECEIVER);
    let node = start(data.path(), table(parts));
    let mut clients: Vec<Client> = (0..CONNECTIONS)
        .map(|number| Client::connect(node.listen_addr(), &sender(number)))
        .collect();
    drive(&mut clients, 50, messages);
    let syncs = || metric(node.admin_addr(), "forebay_syncs_total").unwrap() as u64;
    let syncs_before = syncs();
    let before = ON_SHARD.load(Ordering::Relaxed);
    drive(&mut clients, ROUNDS, messages);
    let counted = ON_SHARD.load(Ordering::Relaxed) - before;
    let syncs = syncs() - syncs_before;
    drop(clients);
    node.stop();
    node.join().unwrap();
    (counted, (CONNECTIONS * ROUNDS * messages) as u64, syncs)
}

#[test]
fn a_message_costs_no_allocation_when_acks_are_local() {
    let (counted, messages, _) = allocations(AckMode::Local, 1);
    eprintln!("local: {counted} allocations for {messages} messages");
    assert!(
        counted <= 64,
        "{counted} allocations for {messages} messages"
    );
}

#[test]
fn a_message_costs_no_allocation_when_acks_are_durable_and_a_sync_a_few() {
    let (counted, messages, syncs) = allocations(AckMode::Durable, 1);
    eprintln!("durable: {counted} allocations for {messages} messages in {syncs} syncs");
    assert!(
        counted <= 64 + 40 * syncs,
        "{counted} allocations for {messages} messages in {syncs} syncs"
    );
}
