//! Slow receivers and spent buffers hold back exactly those they should, and nothing is lost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use ring::{CloseCause, RingLimits};

use crate::support::{Owner, combinations, limits, pattern, probed, write_aside};

/// Set a buffer of a socket, so that little is under way.
fn shrink(stream: &TcpStream, option: i32, bytes: i32) {
    let value = std::ptr::from_ref(&bytes).cast();
    let length = size_of::<i32>() as libc::socklen_t;
    #[expect(unsafe_code, reason = "the standard library cannot set this option")]
    // SAFETY: the socket is open, `value` names `length` bytes of a live integer.
    let result =
        unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, option, value, length) };
    assert_eq!(result, 0);
}

/// A connection of the ring whose own send buffer is small.
fn narrow_pair(owner: &mut Owner) -> (ring::ConnectionId, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    shrink(&ours, libc::SO_SNDBUF, 4 * 1024);
    shrink(&peer, libc::SO_RCVBUF, 128 * 1024);
    (owner.ring.attach(ours).unwrap(), peer)
}

#[test]
fn a_slow_reader_gets_every_byte_in_order_through_partial_sends() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(limits(4, 1024), features);
        let (connection, mut peer) = narrow_pair(&mut owner);
        let bytes = pattern(3, 200_000);
        let (expected, mut seed) = (bytes.clone(), fastrand::Rng::with_seed(4));
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            let mut piece = [0; 700];
            while got.len() < expected.len() {
                let read = peer.read(&mut piece).unwrap();
                assert!(read > 0, "ended after {} bytes", got.len());
                got.extend_from_slice(&piece[..read]);
            }
            assert!(got == expected);
        });
        for piece in bytes.chunks(40_000) {
            owner
                .ring
                .send(connection, piece[..piece.len() / 3].to_vec());
            owner
                .ring
                .send(connection, piece[piece.len() / 3..].to_vec());
            if seed.bool() {
                owner.turn();
            }
        }
        owner.run(|owner| owner.ring.queued_bytes(connection) == 0);
        reader.join().unwrap();
        let counters = owner.ring.counters();
        assert!(counters.partial_sends > 0, "{which}: {counters:?}");
        assert_eq!(owner.sent[&connection], bytes.len(), "{which}");
    }
}

#[test]
fn with_all_buffers_lent_receiving_stops_and_goes_on_when_they_return() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(limits(2, 64), features);
        owner.hold = true;
        let (first, peer) = owner.pair();
        let (second, other) = owner.pair();
        let bytes = pattern(5, 1_000);
        let writers = [
            write_aside(&peer, bytes.clone()),
            write_aside(&other, bytes.clone()),
        ];
        owner.run(|owner| owner.held.len() == 2 && owner.out_of_buffers > 0);
        // The other connection may find out only now; then nothing happens any more.
        while owner.turn() > 0 {}
        assert_eq!(owner.held.len(), 2, "{which}");
        owner.hold = false;
        owner.release_held();
        owner.run(|owner| owner.finished.len() == 2);
        assert!(
            owner.received[&first] == bytes && owner.received[&second] == bytes,
            "{which}"
        );
        assert_eq!(owner.ring.buffers_free(), 2, "{which}");
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
    }
}

#[test]
fn a_connection_that_holds_its_share_of_the_buffers_leaves_the_rest_to_others() {
    for (which, features) in combinations() {
        let few = RingLimits {
            leases_max: 8,
            ..limits(64, 64)
        };
        let mut owner = Owner::new(few, features);
        owner.hold = true;
        let (greedy, mut peer) = owner.pair();
        let (modest, mut other) = owner.pair();
        let bytes = pattern(6, 64 * 40);
        let mut written = 0;
        // Piece by piece, so that only the share, not the speed of the kernel, decides how much is taken.
        while owner.ring.counters().receives_held == 0 {
            assert!(written < bytes.len(), "{which}: nothing is held back");
            peer.write_all(&bytes[written..][..64]).unwrap();
            written += 64;
            owner.turn();
        }
        peer.write_all(&bytes[written..]).unwrap();
        while owner.turn() > 0 {}
        let held = owner.held.len();
        assert!((8..32).contains(&held), "{which}: {held} buffers");
        other.write_all(b"hello").unwrap();
        owner.run(|owner| owner.received[&modest] == b"hello");
        assert_eq!(owner.ring.counters().enobufs, 0, "{which}");
        owner.hold = false;
        owner.release_held();
        owner.run(|owner| owner.received[&greedy].len() == bytes.len());
        assert!(owner.received[&greedy] == bytes, "{which}: in order");
        owner.ring.check();
    }
}

#[test]
fn a_connection_that_holds_its_share_can_be_closed_and_hears_its_peer_finish() {
    for (which, features) in combinations() {
        let few = RingLimits {
            leases_max: 2,
            ..limits(64, 64)
        };
        let mut owner = Owner::new(few, features);
        owner.hold = true;
        let (connection, mut peer) = owner.pair();
        let mut pieces = 0..1_000;
        while owner.ring.counters().receives_held == 0 {
            assert!(pieces.next().is_some(), "{which}: nothing is held back");
            peer.write_all(&[1; 64]).unwrap();
            owner.turn();
        }
        owner.ring.close(connection);
        peer.write_all(&[2; 6400]).unwrap();
        drop(peer);
        owner.run(|owner| owner.cause(connection).is_some());
        assert_eq!(owner.cause(connection), Some(CloseCause::Local), "{which}");
        // Their connection is gone; the leases are as good as before.
        owner.release_held();
        assert_eq!(owner.ring.buffers_free(), 64, "{which}");
    }
}

#[test]
fn without_buffers_a_poll_makes_no_busy_loop() {
    let mut owner = Owner::new(limits(1, 64), probed());
    owner.hold = true;
    let (_, mut peer) = owner.pair();
    peer.write_all(&[1; 1000]).unwrap();
    owner.run(|owner| owner.out_of_buffers > 0);
    let before = owner.ring.counters();
    (0..100).for_each(|_| assert_eq!(owner.turn(), 0));
    let after = owner.ring.counters();
    assert_eq!(before.receive_shots, after.receive_shots);
    assert_eq!(before.enobufs, after.enobufs);
    owner.release_held();
}

#[test]
fn connections_that_went_while_they_waited_for_buffers_keep_none_waiting() {
    let mut owner = Owner::new(limits(1, 64), probed());
    owner.hold = true;
    let (_, mut peer) = owner.pair();
    peer.write_all(b"takes the only buffer").unwrap();
    owner.run(|owner| owner.held.len() == 1);
    let gone: Vec<_> = (0..20).map(|_| owner.pair()).collect();
    let (waits, mut waiter) = owner.pair();
    for (connection, _) in &gone {
        owner.ring.abort(*connection);
    }
    owner.run(|owner| owner.closed.len() == gone.len());
    waiter.write_all(b"served").unwrap();
    owner.hold = false;
    owner.release_held();
    owner.run(|owner| owner.received[&waits] == b"served");
}

#[test]
fn one_that_holds_too_many_buffers_keeps_none_from_those_that_wait_behind_it() {
    let few = RingLimits {
        leases_max: 2,
        ..limits(4, 64)
    };
    let mut owner = Owner::new(few, probed());
    owner.hold = true;
    let (_greedy, mut peer) = owner.pair();
    let (modest, mut other) = owner.pair();
    // One receive takes all buffers before anybody can stop it, and runs out of them.
    peer.write_all(&[1; 64 * 8]).unwrap();
    owner.run(|owner| owner.ring.counters().enobufs == 1);
    assert_eq!(owner.held.len(), 4);
    other.write_all(b"hello").unwrap();
    owner.run(|owner| owner.ring.counters().enobufs == 2);
    let lease = owner.held.pop().expect("four are held");
    owner.ring.release(lease);
    let before = owner.ring.counters().receive_shots;
    owner.ring.submit().unwrap();
    let begun = owner.ring.counters().receive_shots - before;
    assert_eq!(begun, 1, "a buffer is free, and one waits that may have it");
    owner.run(|owner| owner.received[&modest] == b"hello");
    owner.release_held();
}

#[test]
fn who_holds_no_buffer_waits_for_one_behind_nobody_who_does() {
    let mut owner = Owner::new(limits(8, 64), probed());
    let mut peers: Vec<_> = (0..8).map(|_| owner.pair()).collect();
    let (modest, mut other) = owner.pair();
    owner.hold = true;
    // Each has a buffer, and wants the next one; then comes who has none.
    for (held, (_, peer)) in peers.iter_mut().enumerate() {
        peer.write_all(&[1; 64]).unwrap();
        owner.run(|owner| owner.held.len() == held + 1);
    }
    for (missed, (_, peer)) in (1..).zip(&mut peers) {
        peer.write_all(&[2; 64 * 3]).unwrap();
        owner.run(|owner| owner.ring.counters().enobufs == missed);
    }
    other.write_all(b"hello").unwrap();
    owner.run(|owner| owner.ring.counters().enobufs == 9);
    let first = owner.held.remove(0);
    owner.ring.release(first);
    owner.run(|owner| owner.held.len() == 8);
    assert_eq!(owner.received[&modest], b"hello");
    // The one whose buffer it was has none now and comes next; after it all others.
    let (next, _) = peers[0];
    let second = owner.held.remove(0);
    owner.ring.release(second);
    owner.run(|owner| owner.held.len() == 8);
    assert_eq!(owner.received[&next].len(), 2 * 64);
    owner.hold = false;
    owner.release_held();
    let all = |owner: &Owner, (connection, _): &(_, _)| owner.received[connection].len() == 4 * 64;
    owner.run(|owner| peers.iter().all(|pair| all(owner, pair)));
}

#[test]
fn a_dropped_lease_is_taken_back_and_counted() {
    let mut owner = Owner::new(limits(1, 64), probed());
    owner.hold = true;
    let (connection, mut peer) = owner.pair();
    peer.write_all(b"one").unwrap();
    owner.run(|owner| owner.held.len() == 1);
    owner.held.clear();
    peer.write_all(b"two").unwrap();
    while owner.held.is_empty() {
        owner.turn();
    }
    assert_eq!(owner.received[&connection], b"onetwo");
    assert_eq!(owner.ring.counters().leases_dropped, 1);
    owner.release_held();
}

#[test]
fn a_peer_that_does_not_read_is_cut_off_when_too_much_is_queued() {
    let sends_bytes_max = 64 * 1024;
    let mut owner = Owner::new(
        RingLimits {
            sends_bytes_max,
            ..limits(4, 64)
        },
        probed(),
    );
    let (connection, _peer) = narrow_pair(&mut owner);
    while owner.cause(connection).is_none() {
        owner.ring.send(connection, vec![1; 16 * 1024]);
        owner.turn();
    }
    assert_eq!(
        owner.cause(connection),
        Some(CloseCause::Error(libc::ENOBUFS))
    );
    assert_eq!(owner.ring.counters().sends_overflowed, 1);
}

#[test]
fn full_queues_lose_nothing() {
    // 8 entries against 200 connections that all talk: both queues overflow.
    for (which, features) in combinations() {
        let mut owner = Owner::new(
            RingLimits {
                entries: 8,
                ..limits(512, 64)
            },
            features,
        );
        let pairs: Vec<_> = (0..200).map(|_| owner.pair()).collect();
        for round in 0..3_u8 {
            for (connection, peer) in &pairs {
                let mut peer = peer;
                peer.write_all(&[round; 3]).unwrap();
                owner.ring.send(*connection, vec![round; 5]);
            }
            let bytes = 3 * (usize::from(round) + 1);
            owner.run(|owner| owner.received.values().all(|got| got.len() == bytes));
        }
        for (connection, mut peer) in pairs {
            let mut got = [0; 15];
            owner.run(|owner| owner.sent.get(&connection) == Some(&15));
            peer.read_exact(&mut got).unwrap();
            assert_eq!(got[..], [[0; 5], [1; 5], [2; 5]].concat(), "{which}");
        }
        let counters = owner.ring.counters();
        assert!(
            counters.completion_overflows + counters.receive_shots_ended > 0,
            "{counters:?}"
        );
    }
}
