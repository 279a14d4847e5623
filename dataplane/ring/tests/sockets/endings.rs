//! How connections end: once, with the right cause, and never before the kernel let go.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use ring::{CloseCause, RingLimits};

use crate::support::{self, Owner, combinations, limits, pattern, probed, write_aside};

/// Far more than socket buffers hold, so that the rest stays queued.
const MUCH: usize = 32 << 20;

fn generous() -> RingLimits {
    RingLimits {
        sends_bytes_max: 2 * MUCH,
        ..limits(8, 1024)
    }
}

/// Reset instead of finishing.
pub(crate) fn reset(peer: TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let bytes = size_of::<libc::linger>() as libc::socklen_t;
    let value = std::ptr::from_ref(&linger).cast();
    #[expect(unsafe_code, reason = "the standard library cannot set this option")]
    // SAFETY: the socket is open, `value` names `bytes` bytes of a live `linger`.
    let result = unsafe {
        libc::setsockopt(
            peer.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            value,
            bytes,
        )
    };
    assert_eq!(result, 0);
}

#[test]
fn close_sends_all_that_is_queued_then_finishes() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(generous(), features);
        let (connection, mut peer) = owner.pair();
        let bytes = pattern(1, 3 << 20);
        for piece in bytes.chunks(10_000) {
            owner.ring.send(connection, piece.to_vec());
        }
        owner.ring.close(connection);
        owner.ring.send(connection, vec![0; 9]);
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).unwrap();
            got
        });
        owner.run(|owner| owner.cause(connection).is_some());
        assert!(reader.join().unwrap() == bytes, "{which}");
        assert_eq!(owner.cause(connection), Some(CloseCause::Local), "{which}");
        assert_eq!(owner.ring.counters().sends_refused, 1, "{which}");
        assert_eq!(owner.sent[&connection], bytes.len(), "{which}");
    }
}

#[test]
fn what_a_peer_sends_after_close_is_thrown_away_and_does_not_reset_the_answer() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let (connection, mut peer) = owner.pair();
    owner.ring.send(connection, b"refused".to_vec());
    owner.ring.close(connection);
    let writer = write_aside(&peer, vec![7; 1 << 20]);
    owner.run(|owner| owner.cause(connection).is_some());
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "refused");
    assert!(owner.received[&connection].is_empty());
    assert_eq!(owner.ring.counters().discarded_bytes, 1 << 20);
    writer.join().unwrap();
}

#[test]
fn a_peer_that_neither_reads_nor_finishes_is_cut_off_when_the_time_for_closing_is_over() {
    let close_timeout = Duration::from_millis(20);
    for (why, queued) in [("does not finish", 0), ("does not read", MUCH)] {
        let mut owner = Owner::new(
            RingLimits {
                close_timeout,
                ..generous()
            },
            probed(),
        );
        let (connection, peer) = owner.pair();
        owner.ring.send(connection, vec![1; queued]);
        owner.ring.close(connection);
        owner.run(|owner| owner.cause(connection).is_some());
        assert_eq!(owner.cause(connection), Some(CloseCause::Local), "{why}");
        assert_eq!(owner.ring.counters().close_timeouts, 1, "{why}");
        drop(peer);
    }
}

#[test]
fn abort_during_a_send_resets_and_tells_closed_once() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(generous(), features);
        let (connection, mut peer) = owner.pair();
        for _ in 0..MUCH / (1 << 20) {
            owner.ring.send(connection, vec![1; 1 << 20]);
        }
        owner.run(|owner| owner.sent.contains_key(&connection));
        owner.ring.abort(connection);
        owner.ring.abort(connection);
        owner.ring.close(connection);
        owner.run(|owner| owner.cause(connection).is_some());
        assert_eq!(owner.cause(connection), Some(CloseCause::Local), "{which}");
        let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{which}");
        assert_eq!(
            (
                owner.ring.connections(),
                owner.ring.queued_bytes(connection)
            ),
            (0, 0)
        );
    }
}

#[test]
fn a_reset_by_the_peer_is_told_as_one() {
    for (which, features) in combinations() {
        for queued in [0, MUCH] {
            let mut owner = Owner::new(generous(), features);
            let (connection, peer) = owner.pair();
            owner.ring.send(connection, vec![1; queued]);
            owner.turn();
            reset(peer);
            owner.run(|owner| owner.cause(connection).is_some());
            assert_eq!(
                owner.cause(connection),
                Some(CloseCause::Reset),
                "{which}, {queued}"
            );
        }
    }
}

#[test]
fn after_the_peer_finished_it_can_still_be_answered() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let (connection, mut peer) = owner.pair();
    peer.write_all(b"question").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    owner.run(|owner| owner.finished == [connection]);
    assert_eq!(owner.received[&connection], b"question");
    (0..3).for_each(|_| assert_eq!(owner.turn(), 0, "told once"));
    owner.ring.send(connection, b"answer".to_vec());
    owner.ring.close(connection);
    owner.run(|owner| owner.cause(connection).is_some());
    assert_eq!(owner.cause(connection), Some(CloseCause::Peer));
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
}

#[test]
fn leases_outlive_their_connection() {
    let mut owner = Owner::new(limits(4, 64), probed());
    owner.hold = true;
    let (connection, mut peer) = owner.pair();
    peer.write_all(b"kept").unwrap();
    owner.run(|owner| !owner.held.is_empty());
    owner.ring.abort(connection);
    owner.run(|owner| owner.cause(connection).is_some());
    assert_eq!(owner.ring.bytes(&owner.held[0]), b"kept");
    assert_eq!(owner.held[0].len(), 4);
    owner.release_held();
    assert_eq!(owner.ring.buffers_free(), 4);
}

#[test]
fn a_slot_used_again_has_another_id_and_the_old_one_reaches_nobody() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let (old, _peer) = owner.pair();
    owner.ring.abort(old);
    owner.run(|owner| owner.cause(old).is_some());
    let (new, mut peer) = owner.pair();
    assert_eq!(old.slot(), new.slot());
    assert_ne!(old, new);
    owner.ring.send(old, b"to nobody".to_vec());
    owner.ring.abort(old);
    owner.ring.send(new, b"to the new one".to_vec());
    owner.ring.close(new);
    drop(write_aside(&peer, Vec::new()));
    owner.run(|owner| owner.cause(new).is_some());
    let mut got = String::new();
    peer.read_to_string(&mut got).unwrap();
    assert_eq!(got, "to the new one");
    assert_eq!(owner.closed.len(), 2);
}

#[test]
fn a_dropped_ring_closes_its_sockets_while_operations_are_in_flight() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(generous(), features);
        let (idle, mut idle_peer) = owner.pair();
        let (busy, mut busy_peer) = owner.pair();
        let (_, address) = owner.listen();
        owner.ring.send(busy, vec![1; MUCH]);
        owner.turn();
        assert_ne!(idle, busy, "{which}");
        drop(owner);
        idle_peer.read_to_end(&mut Vec::new()).unwrap();
        // What the kernel took arrives; the end comes, one way or the other.
        let _ = busy_peer.read_to_end(&mut Vec::new());
        let again = TcpStream::connect_timeout(&address, support::PATIENCE);
        assert!(again.is_err(), "the listener is gone, {which}");
    }
}

#[test]
fn ten_thousand_connections_pass_through_a_few_slots() {
    let mut owner = Owner::new(
        RingLimits {
            connections_max: 16,
            ..limits(16, 64)
        },
        probed(),
    );
    owner.echo = true;
    let (_, address) = owner.listen();
    let client = move || {
        for _ in 0..2_500 {
            let mut peer = TcpStream::connect(address).unwrap();
            peer.write_all(b"x").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            peer.read_to_end(&mut back).unwrap();
            assert_eq!(back, b"x");
        }
    };
    let clients: Vec<_> = (0..4).map(|_| std::thread::spawn(client)).collect();
    owner.run(|owner| owner.ring.counters().closed == 10_000);
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    assert_eq!(owner.ring.connections(), 0);
}

#[test]
fn rings_of_one_thread_may_follow_each_other_without_end() {
    // A thread has 16 registrations: a ring that kept its own would leave none for the seventeenth.
    let want = probed().registered_ring;
    for number in 0..40 {
        let owner = Owner::new(limits(4, 64), probed());
        let registered = owner.ring.features().registered_ring;
        assert_eq!(registered, want, "ring {number}");
    }
}
