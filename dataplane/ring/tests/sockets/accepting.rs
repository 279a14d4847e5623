//! Accepting under storms, at the limit, and after the end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use ring::{RingError, RingLimits};

use crate::support::{Owner, combinations, limits, probed};

#[test]
fn a_storm_of_connections_is_accepted_to_the_last_with_the_right_addresses() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(limits(16, 64), features);
        let (_, address) = owner.listen();
        let storm = move || {
            (0..30)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect()
        };
        let storms: Vec<_> = (0..4).map(|_| std::thread::spawn(storm)).collect();
        owner.run(|owner| owner.accepted.len() == 120);
        let peers: Vec<Vec<TcpStream>> = storms.into_iter().map(|s| s.join().unwrap()).collect();
        let mut want: Vec<_> = peers
            .iter()
            .flatten()
            .map(|p| p.local_addr().unwrap())
            .collect();
        let mut got: Vec<_> = owner.accepted.iter().map(|(_, peer)| *peer).collect();
        want.sort();
        got.sort();
        assert_eq!(got, want, "{which}");
        let (connection, peer) = owner.accepted[0];
        assert_eq!(owner.ring.peer(connection), Some(peer));
    }
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted_and_room_is_used_again() {
    let mut owner = Owner::new(
        RingLimits {
            connections_max: 2,
            ..limits(4, 64)
        },
        probed(),
    );
    let (_, address) = owner.listen();
    let _inside = [
        TcpStream::connect(address).unwrap(),
        TcpStream::connect(address).unwrap(),
    ];
    owner.run(|owner| owner.accepted.len() == 2);
    let mut beyond = TcpStream::connect(address).unwrap();
    while owner.ring.counters().accepts_refused == 0 {
        owner.turn();
    }
    assert_eq!(beyond.read(&mut [0]).unwrap(), 0, "closed");
    let stream = TcpStream::connect(address).unwrap();
    assert_eq!(
        owner.ring.attach(stream).unwrap_err(),
        RingError::ConnectionsFull { max: 2 }
    );
    let first = owner.accepted[0].0;
    owner.ring.abort(first);
    owner.run(|owner| owner.cause(first).is_some());
    let _again = TcpStream::connect(address).unwrap();
    owner.run(|owner| owner.accepted.len() == 3);
}

#[test]
fn a_stopped_listener_refuses_and_its_connections_live_on() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(limits(4, 64), features);
        let (listener, address) = owner.listen();
        let mut peer = TcpStream::connect(address).unwrap();
        owner.run(|owner| owner.accepted.len() == 1);
        owner.ring.stop_listening(listener);
        owner.ring.stop_listening(listener);
        while TcpStream::connect(address).is_ok() {
            owner.turn();
        }
        peer.write_all(b"still here").unwrap();
        let connection = owner.accepted[0].0;
        owner.run(|owner| owner.received[&connection] == b"still here");
        assert_eq!(owner.ring.counters().accepted, 1, "{which}");
    }
}

#[test]
fn a_listener_that_does_not_listen_is_told_as_dead() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let stream = {
        let (_, address) = owner.listen();
        TcpStream::connect(address).unwrap()
    };
    let no_listener = TcpListener::from(std::os::fd::OwnedFd::from(stream));
    let id = owner.ring.listen(no_listener).unwrap();
    owner.run(|owner| owner.failures == [libc::EINVAL]);
    for _ in 0..10 {
        owner.turn();
    }
    assert_eq!(owner.failures.len(), 1, "not tried again");
    owner.ring.stop_listening(id);
    owner.ring.check();
}

#[test]
fn a_socket_that_is_not_connected_is_not_attached() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::from(std::os::fd::OwnedFd::from(listener));
    let error = owner.ring.attach(stream).unwrap_err();
    assert_eq!(error.code(), 3012, "{error}");
}

#[test]
fn listeners_are_bounded() {
    let mut owner = Owner::new(limits(4, 64), probed());
    let ids: Vec<_> = (0..64).map(|_| owner.listen().0).collect();
    let one_more = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(owner.ring.listen(one_more).unwrap_err().code(), 3014);
    ids.into_iter().for_each(|id| owner.ring.stop_listening(id));
    owner.turn();
    owner.turn();
    owner.listen();
}
