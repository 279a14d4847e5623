//! The queues between shards: what is sent arrives, what does not fit comes back, who must look is rung. One thread plays all
//! shards, except in the last test, where threads sleep in rings of their own.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use node::mesh::{Doorbell, PeerCounters, Port, Refused, mesh, mesh_bytes};
use ring::{Features, Ring, RingLimits, Waker};

const PATIENCE: Duration = Duration::from_secs(30);

/// Counts how often it was rung; its owner sleeps until it is.
#[derive(Debug, Clone, Default)]
struct Bell(Rc<Cell<u32>>);

impl Doorbell for Bell {
    fn ring(&self) -> bool {
        self.0.set(self.0.get() + 1);
        self.0.get() == 1
    }
}

fn shards(count: usize, capacity: usize) -> (Vec<Bell>, Vec<Port<u64, Bell>>) {
    let bells: Vec<Bell> = (0..count).map(|_| Bell::default()).collect();
    let ports = mesh(&bells, capacity);
    (bells, ports)
}

fn rung(bells: &[Bell]) -> Vec<u32> {
    bells.iter().map(|bell| bell.0.take()).collect()
}

#[test]
fn a_full_queue_gives_the_item_back_and_leaves_all_other_pairs_alone() {
    let (_, mut ports) = shards(3, 2);
    assert_eq!(ports[0].room(1), 2);
    assert_eq!((ports[0].send(1, 1), ports[0].send(1, 2)), (Ok(()), Ok(())));
    assert_eq!(ports[0].room(1), 0);
    assert_eq!(ports[0].send(1, 3), Err(Refused::Full(3)));
    for (from, to) in [(0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        assert_eq!(ports[from].send(to, 4), Ok(()), "from {from} to {to}");
    }
    let want = PeerCounters {
        sent: 2,
        full: 1,
        ..PeerCounters::default()
    };
    assert_eq!(ports[0].counters(1), want);
    let mut items = Vec::new();
    assert!(!ports[1].receive(&mut items, 9));
    items.sort_unstable();
    assert_eq!(items, [1, 2, 4]);
    assert_eq!(ports[0].send(1, 3), Ok(()), "there is room again");
}

#[test]
fn what_waits_is_counted_once_however_often_it_is_tried() {
    let (_, mut ports) = shards(2, 1);
    ports[0].send(1, 1).unwrap();
    for _ in 0..5_000 {
        assert_eq!(ports[0].send(1, 2), Err(Refused::Full(2)));
    }
    assert_eq!(ports[0].counters(1).full, 1, "turn after turn it waits");
    let mut items = Vec::new();
    ports[1].receive(&mut items, 9);
    ports[0].send(1, 2).unwrap();
    assert_eq!(ports[0].send(1, 3), Err(Refused::Full(3)));
    assert_eq!(ports[0].counters(1).full, 2, "the next one begins to wait");
}

#[test]
fn a_doorbell_rings_once_a_turn_for_those_that_were_sent_something() {
    let (bells, mut ports) = shards(3, 8);
    for item in 0..5 {
        ports[0].send(2, item).unwrap();
    }
    assert_eq!(rung(&bells), [0, 0, 0], "not before the end of the turn");
    ports[0].ring_doorbells();
    assert_eq!(bells[2].0.get(), 1);
    ports[0].ring_doorbells();
    ports[0].send(2, 5).unwrap();
    ports[0].ring_doorbells();
    assert_eq!(rung(&bells), [0, 0, 2]);
    let counters = ports[0].counters(2);
    assert_eq!((counters.sent, counters.doorbells), (6, 2));
    assert_eq!(counters.doorbells_awake, 1, "the second found it awake");
}

#[test]
fn who_found_no_room_is_rung_when_there_is_and_nobody_else() {
    let (bells, mut ports) = shards(3, 1);
    for from in [0, 2] {
        ports[from].send(1, 7).unwrap();
    }
    assert_eq!(ports[0].send(1, 8), Err(Refused::Full(8)));
    let mut items = Vec::new();
    ports[1].receive(&mut items, 9);
    ports[1].ring_doorbells();
    assert_eq!(rung(&bells), [1, 0, 0]);
    assert_eq!(ports[0].send(1, 8), Ok(()));
    ports[1].receive(&mut items, 9);
    ports[1].ring_doorbells();
    assert_eq!(rung(&bells), [0, 0, 0], "it waits no longer");
}

#[test]
fn a_receiver_shares_a_bounded_batch_between_its_senders_and_keeps_the_order_of_each() {
    let (_, mut ports) = shards(4, 64);
    // One flooder among those that send little.
    for (from, count) in [(0, 60), (1, 3), (3, 2)] {
        for number in 0..count {
            ports[from].send(2, 100 * from as u64 + number).unwrap();
        }
    }
    let mut items = Vec::new();
    assert!(ports[2].receive(&mut items, 9), "there is more");
    assert_eq!(items, [0, 1, 2, 100, 101, 102, 300, 301, 3]);
    let mut firsts = Vec::new();
    while ports[2].receive(&mut items, 9) {
        firsts.push(items[items.len() - 1]);
    }
    assert_eq!(items.len(), 65);
    let of_flooder: Vec<u64> = items.iter().copied().filter(|item| *item < 100).collect();
    assert_eq!(of_flooder, (0..60).collect::<Vec<u64>>());
    items.clear();
    ports[0].send(2, 1).unwrap();
    assert!(
        ports[2].receive(&mut items, 0),
        "nothing taken, one is left"
    );
    assert!(items.is_empty());
}

#[test]
fn senders_take_turns_at_being_first() {
    let (_, mut ports) = shards(4, 64);
    for (from, number) in [0, 1, 3]
        .into_iter()
        .flat_map(|from| (0..12).map(move |n| (from, n)))
    {
        ports[from].send(2, 100 * from as u64 + number).unwrap();
    }
    let mut items = Vec::new();
    for _ in 0..12 {
        ports[2].receive(&mut items, 1);
    }
    let of = |from: u64| items.iter().filter(|item| **item / 100 == from).count();
    assert!([0, 1, 3].into_iter().all(|from| of(from) >= 3), "{items:?}");
}

#[test]
fn a_peer_that_is_gone_is_told_apart_from_one_that_is_full() {
    let (bells, mut ports) = shards(2, 2);
    let mut ends = ports.pop().unwrap();
    let mut port = ports.pop().unwrap();
    ends.send(0, 1).unwrap();
    port.send(1, 2).unwrap();
    drop(ends);
    assert_eq!(rung(&bells), [1, 0], "told of the end");
    assert_eq!(
        port.send(1, 3),
        Err(Refused::Gone(3)),
        "although there is room"
    );
    assert_eq!((port.room(1), port.counters(1).gone), (0, 1));
    assert!(!port.is_gone(1), "there is something to receive from it");
    let mut items = Vec::new();
    assert!(!port.receive(&mut items, 9));
    assert_eq!(items, [1], "what it sent before its end arrives");
    assert!(port.is_gone(1));
}

#[test]
fn an_item_that_nobody_takes_any_more_is_dropped_once() {
    let told = Rc::new(());
    let mut ports: Vec<Port<Rc<()>, Bell>> = mesh(&[Bell::default(), Bell::default()], 4);
    ports[0].send(1, Rc::clone(&told)).unwrap();
    ports.truncate(1);
    assert!(matches!(
        ports[0].send(1, Rc::clone(&told)),
        Err(Refused::Gone(_))
    ));
    drop(ports);
    assert_eq!(Rc::strong_count(&told), 1);
}

#[test]
fn one_shard_alone_has_nobody_to_talk_to() {
    let (_, mut ports) = shards(1, 4);
    assert!(!ports[0].receive(&mut Vec::new(), 4));
    ports[0].ring_doorbells();
    assert_eq!(mesh_bytes::<u64>(1, 4), 0);
}

#[test]
fn a_mesh_has_as_many_bytes_as_it_says_and_allocates_nothing_later() {
    let bells: Vec<Bell> = (0..4).map(|_| Bell::default()).collect();
    let mut made = Vec::new();
    let built = allocation_counter::measure(|| made = mesh::<[u64; 8], Bell>(&bells, 1024));
    let said = mesh_bytes::<[u64; 8]>(4, 1024) as u64;
    let spare = 16 << 10; // The ports themselves, and reference counts.
    assert!(
        (said..said + spare).contains(&built.bytes_total),
        "{} of {said}",
        built.bytes_total
    );
    let mut items = Vec::with_capacity(4096);
    let later = allocation_counter::measure(|| {
        for round in 0..2_000 {
            for to in 1..4 {
                let _ = made[0].send(to, [round; 8]);
            }
            made[0].ring_doorbells();
            made[1].receive(&mut items, 64);
            made[2].receive(&mut items, 64);
            made[1].ring_doorbells();
            items.clear();
        }
    });
    assert!(made[0].counters(3).full > 0, "one queue is full");
    assert_eq!(later.count_total, 0);
}

/// A shard's thread: sends `items` to every other, sleeps in its ring when there is nothing to do, ends when all have arrived.
fn serve(mut ring: Ring, mut port: Port<(usize, u64), Waker>, me: usize, items: u64) {
    let mut next: Vec<u64> = vec![0; port.shards()];
    let mut seen = next.clone();
    let (mut taken, mut events) = (Vec::new(), Vec::new());
    (next[me], seen[me]) = (items, items);
    let start = Instant::now();
    loop {
        let more = port.receive(&mut taken, 64);
        for (from, number) in taken.drain(..) {
            assert_eq!(number, seen[from], "in order, from {from}");
            seen[from] += 1;
        }
        for (to, next) in next.iter_mut().enumerate() {
            while *next < items && port.send(to, (me, *next)).is_ok() {
                *next += 1;
            }
        }
        port.ring_doorbells();
        if next.iter().chain(&seen).all(|count| *count == items) {
            return;
        }
        let patient = start.elapsed() < PATIENCE;
        assert!(patient, "slept over an item: sent {next:?}, got {seen:?}");
        if !more && ring.take(&mut events).unwrap() == 0 {
            ring.wait(PATIENCE).unwrap();
        }
    }
}

#[test]
fn shards_that_sleep_whenever_they_can_get_every_item_in_order() {
    let items = 20_000;
    let limits = RingLimits {
        buffers: 4,
        buffer_bytes: 64,
        ..RingLimits::default()
    };
    let (told, rings) = crossbeam_channel::bounded(3);
    thread::scope(|scope| {
        for me in 0..3 {
            let (give, given) = crossbeam_channel::bounded(1);
            let (told, limits) = (told.clone(), limits.clone());
            scope.spawn(move || {
                let ring = Ring::new(limits, Features::probe().unwrap()).unwrap();
                told.send((me, ring.waker(), give)).unwrap();
                serve(ring, given.recv().unwrap(), me, items);
            });
        }
        let mut shards: Vec<_> = rings.iter().take(3).collect();
        shards.sort_by_key(|(me, ..)| *me);
        let doorbells: Vec<Waker> = shards.iter().map(|(_, waker, _)| waker.clone()).collect();
        // Room for little, so that all wait for room all the time.
        for ((_, _, give), port) in shards.iter().zip(mesh(&doorbells, 7)) {
            give.send(port).unwrap();
        }
    });
    println!("mesh: 3 shards, {items} items between each two, both ways, in order");
}
