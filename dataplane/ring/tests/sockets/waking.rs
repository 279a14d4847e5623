//! Sleeping owners are woken: by completions and by wakers, through `wait` and through the eventfd.

use std::io::Write;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Owner, PATIENCE, combinations, limits, probed};

/// Sleep as an asynchronous owner does: read the eventfd, blocking.
fn read_eventfd(eventfd: RawFd) {
    #[expect(unsafe_code, reason = "a plain read of a borrowed descriptor")]
    // SAFETY: the ring owns the descriptor and outlives this call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(eventfd) };
    let mut file = std::fs::File::from(borrowed.try_clone_to_owned().unwrap());
    std::io::Read::read_exact(&mut file, &mut [0; 8]).unwrap();
}

/// Another thread puts numbers into an inbox and wakes; the owner must see each before it sleeps
/// for good.
fn inbox_is_seen(owner: &mut Owner, sleep: impl Fn(&mut Owner)) {
    const MESSAGES: u64 = 400;
    let (inbox, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let waker = owner.ring.waker();
    let sender = {
        let (inbox, answered) = (Arc::clone(&inbox), Arc::clone(&answered));
        std::thread::spawn(move || {
            for number in 1..=MESSAGES {
                inbox.store(number, Ordering::SeqCst);
                waker.wake();
                while number % 2 == 0 && answered.load(Ordering::SeqCst) < number {
                    std::thread::yield_now();
                }
            }
        })
    };
    let start = Instant::now();
    while inbox.load(Ordering::SeqCst) < MESSAGES {
        let idle = owner.turn() == 0;
        answered.store(inbox.load(Ordering::SeqCst), Ordering::SeqCst);
        if idle && answered.load(Ordering::SeqCst) < MESSAGES {
            sleep(owner);
        }
    }
    answered.store(MESSAGES, Ordering::SeqCst);
    assert!(start.elapsed() < PATIENCE, "slept through a wake");
    sender.join().unwrap();
}

#[test]
fn a_waker_ends_wait_whenever_it_is_called() {
    for (_, features) in combinations() {
        let mut owner = Owner::new(limits(4, 64), features);
        inbox_is_seen(&mut owner, |owner| owner.ring.wait(PATIENCE).unwrap());
        assert!(owner.ring.counters().wakes > 0);
    }
}

#[test]
fn a_waker_makes_the_eventfd_readable() {
    for (_, features) in combinations() {
        let mut owner = Owner::new(limits(4, 64), features);
        inbox_is_seen(&mut owner, |owner| read_eventfd(owner.ring.eventfd()));
        assert_eq!(owner.ring.counters().waits, 0);
    }
}

#[test]
fn a_wake_before_the_first_wait_is_not_slept_through() {
    let mut owner = Owner::new(limits(4, 64), probed());
    owner.ring.waker().wake();
    let start = Instant::now();
    owner.ring.wait(PATIENCE).unwrap();
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_wake_of_an_owner_at_work_costs_no_system_call_and_is_not_slept_through() {
    let mut owner = Owner::new(limits(4, 64), probed());
    owner.ring.wait(PATIENCE).unwrap();
    owner.turn();
    for _ in 0..10 {
        assert!((0..3).all(|_| !owner.ring.waker().wake()), "found awake");
        owner.ring.wait(PATIENCE).unwrap();
        assert_eq!(owner.turn(), 0);
    }
    let counters = owner.ring.counters();
    assert_eq!((counters.wakes, counters.waits), (0, 0), "{counters:?}");
}

#[test]
fn owners_that_wait_are_not_told_of_completions_by_the_eventfd() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let (connection, mut peer) = owner.pair();
    owner.ring.wait(Duration::ZERO).unwrap();
    let mut eventfd: std::fs::File = owner.ring.eventfd_as().unwrap();
    owner.ring.waker().wake();
    peer.write_all(b"x").unwrap();
    owner.run(|owner| owner.received[&connection].len() == 1);
    // What was counted before the first wait; one more makes the read return at once.
    eventfd.write_all(&1_u64.to_ne_bytes()).unwrap();
    let mut before = [0; 8];
    std::io::Read::read_exact(&mut eventfd, &mut before).unwrap();
    peer.write_all(b"y").unwrap();
    owner.run(|owner| owner.received[&connection].len() == 2);
    eventfd.write_all(&1_u64.to_ne_bytes()).unwrap();
    let mut count = [0; 8];
    std::io::Read::read_exact(&mut eventfd, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1, "only what this test wrote");
}

#[test]
fn completions_make_the_eventfd_readable() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(limits(4, 64), features);
        let (connection, mut peer) = owner.pair();
        let writer = std::thread::spawn(move || {
            for _ in 0..500 {
                peer.write_all(b"x").unwrap();
                std::thread::yield_now();
            }
            peer
        });
        while owner.received[&connection].len() < 500 {
            if owner.turn() == 0 {
                read_eventfd(owner.ring.eventfd());
            }
        }
        drop(writer.join().unwrap());
        assert_eq!(owner.ring.counters().received_bytes, 500, "{which}");
    }
}

#[test]
fn wait_returns_when_its_time_is_over() {
    let mut owner = Owner::new(limits(4, 64), probed());
    owner.turn();
    for _ in 0..3 {
        owner.ring.wait(Duration::from_millis(1)).unwrap();
        assert_eq!(owner.turn(), 0);
    }
    assert_eq!(owner.ring.counters().waits, 2, "the first returns at once");
}

#[test]
fn a_waker_outlives_its_ring() {
    let waker = Owner::new(limits(4, 64), probed()).ring.waker();
    waker.wake();
    waker.clone().wake();
}
