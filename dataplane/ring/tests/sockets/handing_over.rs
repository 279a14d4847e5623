//! A connection leaves one ring and joins another: what it had at that moment, and what it costs.
//! Many at once, on two threads: `tests/handover`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ring::{CloseCause, ConnectionId, RingLimits, Socket};

use crate::endings::reset;
use crate::support::{Owner, combinations, limits, pattern, probed, write_aside};

/// Far more than socket buffers hold.
const MUCH: usize = 32 << 20;

/// Let the connection leave.
fn detach(from: &mut Owner, connection: ConnectionId) -> Socket {
    from.ring.detach(connection);
    take_detached(from, connection)
}

/// The socket of a connection that is leaving.
fn take_detached(from: &mut Owner, connection: ConnectionId) -> Socket {
    from.run(|owner| !owner.detached.is_empty());
    let (left, socket) = from.detached.pop().unwrap();
    assert_eq!(left, connection);
    assert_eq!(from.ring.peer(connection), None, "the slot is free");
    from.ring.check();
    socket
}

fn adopt(to: &mut Owner, socket: Socket) -> ConnectionId {
    to.ring.adopt(socket).expect("there is room")
}

#[test]
fn bytes_before_while_and_after_a_connection_moves_come_once_and_in_order() {
    for (which, features) in combinations() {
        let mut one = Owner::new(limits(8, 64), features);
        let mut other = Owner::new(limits(8, 64), features);
        let (old, mut peer) = one.pair();
        peer.write_all(b"before ").unwrap();
        one.run(|owner| owner.received[&old] == b"before ");
        let socket = detach(&mut one, old);
        assert_eq!(socket.peer(), peer.local_addr().unwrap(), "{which}");
        peer.write_all(b"while ").unwrap();
        (0..3).for_each(|_| assert_eq!(one.turn(), 0, "{which}: nothing is left of it"));
        let new = adopt(&mut other, socket);
        peer.write_all(b"after").unwrap();
        drop(write_aside(&peer, Vec::new()));
        other.run(|owner| owner.finished == [new]);
        assert_eq!(one.received[&old], b"before ", "{which}");
        assert_eq!(other.received[&new], b"while after", "{which}");
        other.ring.send(new, b"answer".to_vec());
        other.ring.close(new);
        other.run(|owner| owner.cause(new).is_some());
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer", "{which}");
        let (left, came) = (one.ring.counters(), other.ring.counters());
        assert_eq!((left.accepted, left.detached, left.closed), (1, 1, 0));
        assert_eq!((came.accepted, came.adopted, came.closed), (0, 1, 1));
        assert!(one.closed.is_empty() && one.finished.is_empty(), "{which}");
    }
}

#[test]
fn a_connection_that_leaves_as_soon_as_it_came_takes_the_bytes_that_came_with_it() {
    for (which, features) in combinations() {
        let mut one = Owner::new(limits(8, 64), features);
        let mut other = Owner::new(limits(8, 64), features);
        let (_, address) = one.listen();
        let bytes = pattern(7, 5_000);
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(&bytes).unwrap();
        // Nothing is received yet, or a part: the first completion of the connection is enough.
        one.run(|owner| !owner.accepted.is_empty());
        let (old, address) = one.accepted[0];
        let socket = detach(&mut one, old);
        assert_eq!(socket.peer(), address);
        let new = adopt(&mut other, socket);
        drop(write_aside(&peer, Vec::new()));
        other.run(|owner| owner.finished == [new]);
        let got = [&one.received[&old][..], &other.received[&new]].concat();
        assert!(got == bytes, "{which}: {} bytes", got.len());
        assert_eq!((one.ring.buffers_free(), other.ring.buffers_free()), (8, 8));
    }
}

#[test]
fn the_end_of_the_stream_moves_too_whether_it_was_told_or_not() {
    for (which, features) in combinations() {
        for told in [true, false] {
            let mut one = Owner::new(limits(8, 64), features);
            let mut other = Owner::new(limits(8, 64), features);
            let (old, mut peer) = one.pair();
            peer.write_all(b"all").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            if told {
                one.run(|owner| owner.finished == [old]);
            }
            let socket = detach(&mut one, old);
            assert_eq!(one.finished.len(), usize::from(told), "{which}");
            let new = adopt(&mut other, socket);
            other.run(|owner| owner.finished == [new]);
            let mut got = one.received.remove(&old).unwrap();
            got.extend(other.received.remove(&new).unwrap_or_default());
            assert_eq!(got, b"all", "{which}, told: {told}");
            other.ring.send(new, b"answer".to_vec());
            other.ring.close(new);
            other.run(|owner| owner.cause(new) == Some(CloseCause::Peer));
            let mut answer = String::new();
            peer.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "answer", "{which}");
        }
    }
}

#[test]
fn a_connection_whose_peer_resets_is_closed_where_that_is_noticed_and_nowhere_else() {
    for (which, features) in combinations() {
        let mut one = Owner::new(limits(8, 64), features);
        let mut other = Owner::new(limits(8, 64), features);
        let (old, peer) = one.pair();
        reset(peer);
        one.ring.detach(old);
        one.run(|owner| owner.cause(old).is_some());
        assert_eq!(one.cause(old), Some(CloseCause::Reset), "{which}");
        assert!(one.detached.is_empty(), "{which}");

        let (old, peer) = one.pair();
        let socket = detach(&mut one, old);
        reset(peer);
        let new = adopt(&mut other, socket);
        other.run(|owner| owner.cause(new).is_some());
        assert_eq!(other.cause(new), Some(CloseCause::Reset), "{which}");
        assert_eq!(one.cause(old), None, "{which}");
    }
}

#[test]
fn what_is_queued_leaves_before_the_connection_does_and_no_more_is_accepted() {
    let bytes_max = RingLimits {
        sends_bytes_max: 2 * MUCH,
        ..limits(8, 1024)
    };
    for features in [
        probed(),
        probed().with_forced(&[ring::Feature::MultishotReceive]),
    ] {
        let mut one = Owner::new(bytes_max.clone(), features);
        let mut other = Owner::new(limits(8, 64), features);
        let (old, mut peer) = one.pair();
        one.ring.send(old, vec![1; MUCH]);
        one.ring.detach(old);
        one.ring.send(old, b"refused".to_vec());
        one.run(|owner| owner.sent.contains_key(&old));
        assert!(one.detached.is_empty(), "a send is under way");
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; MUCH];
            peer.read_exact(&mut got).unwrap();
            (peer, got)
        });
        let socket = take_detached(&mut one, old);
        assert_eq!(one.sent[&old], MUCH);
        assert_eq!(one.ring.counters().sends_refused, 1);
        let new = adopt(&mut other, socket);
        other.ring.send(new, b"then".to_vec());
        other.ring.close(new);
        let (mut peer, got) = reader.join().unwrap();
        assert!(got.iter().all(|byte| *byte == 1));
        drop(write_aside(&peer, Vec::new()));
        other.run(|owner| owner.cause(new).is_some());
        let mut rest = String::new();
        peer.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "then");
    }
}

#[test]
fn close_while_a_connection_leaves_ends_it_here_and_hears_its_peer_finish() {
    let patient = RingLimits {
        sends_bytes_max: 2 * MUCH,
        close_timeout: Duration::from_secs(100),
        ..limits(8, 1024)
    };
    for (which, features) in combinations() {
        // At once, and after the receive was stopped while a send is under way.
        for queued in [0, 8 << 20] {
            let mut owner = Owner::new(patient.clone(), features);
            let (connection, mut peer) = owner.pair();
            owner.ring.send(connection, vec![1; queued]);
            owner.ring.detach(connection);
            if queued > 0 {
                owner.run(|owner| owner.sent.contains_key(&connection));
                while owner.turn() > 0 {}
            }
            owner.ring.detach(connection);
            owner.ring.close(connection);
            owner.ring.detach(connection);
            let reader = std::thread::spawn(move || {
                let mut got = Vec::new();
                peer.read_to_end(&mut got).unwrap();
                peer.write_all(b"heard and thrown away").unwrap();
                got.len()
            });
            owner.run(|owner| owner.cause(connection).is_some());
            assert_eq!(reader.join().unwrap(), queued, "{which}");
            assert_eq!(owner.cause(connection), Some(CloseCause::Local), "{which}");
            assert!(owner.detached.is_empty(), "{which}");
            assert_eq!(owner.ring.counters().close_timeouts, 0, "{which}");
            assert!(owner.received[&connection].is_empty(), "{which}");
        }
    }
}

#[test]
fn abort_while_a_connection_leaves_resets_it_and_tells_closed_once() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(limits(8, 1024), features);
        let (connection, mut peer) = owner.pair();
        owner.ring.send(connection, vec![1; 8 << 20]);
        owner.ring.detach(connection);
        owner.run(|owner| owner.sent.contains_key(&connection));
        owner.ring.abort(connection);
        owner.run(|owner| owner.cause(connection).is_some());
        assert_eq!(owner.cause(connection), Some(CloseCause::Local), "{which}");
        assert!(owner.detached.is_empty(), "{which}");
        let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{which}");
    }
}

#[test]
fn without_buffers_connections_leave_and_join_and_are_served_in_turn() {
    for (which, features) in combinations() {
        let mut one = Owner::new(limits(1, 64), features);
        let mut other = Owner::new(limits(1, 64), features);
        for owner in [&mut one, &mut other] {
            owner.hold = true;
            let (_, mut peer) = owner.pair();
            peer.write_all(b"takes the only buffer").unwrap();
            owner.run(|owner| owner.held.len() == 1);
        }
        let (old, mut peer) = one.pair();
        let (stays, mut waiter) = one.pair();
        let bytes = pattern(5, 1_000);
        peer.write_all(&bytes).unwrap();
        waiter.write_all(b"served").unwrap();
        let socket = detach(&mut one, old);
        let new = adopt(&mut other, socket);
        (0..3).for_each(|_| {
            other.turn();
        });
        assert!(!other.received.contains_key(&new), "{which}");
        for owner in [&mut one, &mut other] {
            owner.hold = false;
            owner.release_held();
        }
        one.run(|owner| owner.received[&stays] == b"served");
        drop(write_aside(&peer, Vec::new()));
        other.run(|owner| owner.finished.contains(&new));
        let mut got = one.received.remove(&old).unwrap();
        got.extend_from_slice(&other.received[&new]);
        assert!(got == bytes, "{which}: {} bytes", got.len());
        assert_eq!((one.ring.buffers_free(), other.ring.buffers_free()), (1, 1));
    }
}

#[test]
fn leases_stay_with_the_ring_that_received_them() {
    let few = RingLimits {
        leases_max: 2,
        ..limits(64, 64)
    };
    for (which, features) in combinations() {
        let mut one = Owner::new(few.clone(), features);
        let mut other = Owner::new(few.clone(), features);
        one.hold = true;
        let (old, mut peer) = one.pair();
        let mut bytes = Vec::new();
        while one.ring.counters().receives_held == 0 {
            assert!(bytes.len() < 64_000, "{which}: nothing is held back");
            let piece = pattern(bytes.len() as u64, 64);
            peer.write_all(&piece).unwrap();
            bytes.extend(piece);
            one.turn();
        }
        let socket = detach(&mut one, old);
        let new = adopt(&mut other, socket);
        drop(write_aside(&peer, Vec::new()));
        other.run(|owner| owner.finished == [new]);
        let held: Vec<u8> = (one.held.iter())
            .flat_map(|lease| one.ring.bytes(lease).to_vec())
            .collect();
        assert_eq!(held, one.received[&old], "{which}: they are as they were");
        one.release_held();
        assert_eq!(one.ring.buffers_free(), 64, "{which}");
        let mut got = held;
        got.extend(other.received.remove(&new).unwrap_or_default());
        assert!(got == bytes, "{which}: {} bytes", got.len());
    }
}

#[test]
fn a_full_ring_gives_the_socket_back_and_the_first_ring_may_adopt_it_again() {
    let full = RingLimits {
        connections_max: 1,
        ..limits(4, 64)
    };
    let mut one = Owner::new(full.clone(), probed());
    let mut other = Owner::new(full, probed());
    let (_only, _peer) = other.pair();
    let (old, mut peer) = one.pair();
    let socket = detach(&mut one, old);
    let socket = other.ring.adopt(socket).unwrap_err();
    let again = adopt(&mut one, socket);
    assert_eq!(old.slot(), again.slot());
    assert_ne!(old, again, "another generation");
    // The old id reaches nobody.
    one.ring.send(old, b"to the one that left".to_vec());
    one.ring.close(old);
    one.ring.detach(old);
    peer.write_all(b"still there").unwrap();
    one.run(|owner| {
        owner
            .received
            .get(&again)
            .is_some_and(|got| got == b"still there")
    });
    assert!(one.closed.is_empty() && one.detached.is_empty());
    assert_eq!(other.ring.counters().adopted, 0);

    let socket = detach(&mut one, again);
    drop(socket);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "a dropped socket closes");
}

#[test]
fn a_ring_may_be_dropped_while_connections_leave_and_sockets_outlive_it() {
    let mut one = Owner::new(limits(8, 1024), probed());
    let (leaves, mut peer) = one.pair();
    let (stuck, mut stuck_peer) = one.pair();
    let socket = detach(&mut one, leaves);
    one.ring.send(stuck, vec![1; 8 << 20]);
    one.ring.detach(stuck);
    one.run(|owner| owner.sent.contains_key(&stuck));
    drop(one);
    // What the kernel took arrives; the end comes, one way or the other.
    let _ = stuck_peer.read_to_end(&mut Vec::new());
    let mut other = Owner::new(limits(8, 64), probed());
    let new = adopt(&mut other, socket);
    peer.write_all(b"as ever").unwrap();
    other.run(|owner| {
        owner
            .received
            .get(&new)
            .is_some_and(|got| got == b"as ever")
    });
}

#[test]
fn a_hand_over_costs_one_enter_and_one_other_call_and_a_connection_that_stays_costs_nothing() {
    let mut one = Owner::new(limits(8, 64), probed());
    let mut other = Owner::new(limits(8, 64), probed());
    let (old, _peer) = one.pair();
    while one.turn() > 0 {}
    let before = one.ring.counters();
    one.ring.detach(old);
    one.turn();
    let (_, socket) = one.detached.pop().expect("one poll was enough");
    let after = one.ring.counters();
    let left = [
        after.enters - before.enters,
        after.socket_calls - before.socket_calls,
        after.submissions - before.submissions,
        after.completions - before.completions,
    ];
    assert_eq!(
        left,
        [1, 1, 1, 2],
        "enters, calls, submissions, completions"
    );
    let before = other.ring.counters();
    adopt(&mut other, socket);
    other.turn();
    let after = other.ring.counters();
    let came = [
        after.enters - before.enters,
        after.socket_calls - before.socket_calls,
        after.submissions - before.submissions,
    ];
    assert_eq!(came, [1, 0, 1], "enters, calls, submissions");
}

/// Send the numbers from 0, without end until told, then finish.
fn flood(mut peer: TcpStream, stop: Arc<AtomicBool>) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut numbers = 0..;
        while !stop.load(Ordering::Relaxed) {
            let piece: Vec<u8> = (numbers.by_ref().take(8192))
                .flat_map(u64::to_le_bytes)
                .collect();
            peer.write_all(&piece).unwrap();
        }
        peer.shutdown(Shutdown::Write).unwrap();
        numbers.start * 8
    })
}

#[test]
fn a_peer_that_never_stops_sending_does_not_keep_its_connection_from_leaving() {
    for features in [
        probed(),
        probed().with_forced(&[ring::Feature::MultishotReceive]),
    ] {
        let mut owners = [0, 1].map(|_| Owner::new(limits(64, 16 * 1024), features));
        let (mut connection, peer) = owners[0].pair();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = flood(peer, stop.clone());
        let mut place = 0_u64;
        let mut check = |bytes: Vec<u8>| {
            for byte in bytes {
                assert_eq!(byte, (place / 8).to_le_bytes()[(place % 8) as usize]);
                place += 1;
            }
        };
        for round in 0..100 {
            let from = &mut owners[round % 2];
            from.run(|owner| (owner.received.get(&connection)).is_some_and(|got| got.len() > 999));
            let socket = detach(from, connection);
            check(from.received.remove(&connection).unwrap());
            connection = adopt(&mut owners[(round + 1) % 2], socket);
        }
        stop.store(true, Ordering::Relaxed);
        owners[0].run(|owner| owner.finished == [connection]);
        check(owners[0].received.remove(&connection).unwrap());
        assert_eq!(place, writer.join().unwrap());
    }
}
