//! Bytes come back whole and in order, with every combination of features.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

use crate::support::{self, Owner, combinations, limits, pattern, probed, write_aside};

/// Clients that write their pattern in pieces and demand it back.
fn clients(address: SocketAddr, count: u64, bytes: usize, piece: usize) -> Vec<JoinHandle<()>> {
    let client = move |seed| {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_read_timeout(Some(support::PATIENCE)).unwrap();
        peer.set_nodelay(true).unwrap();
        let sent = pattern(seed, bytes);
        let reader = {
            let (mut peer, sent) = (peer.try_clone().unwrap(), sent.clone());
            std::thread::spawn(move || {
                let mut back = Vec::new();
                peer.read_to_end(&mut back).unwrap();
                assert!(back == sent, "{} bytes back of {}", back.len(), sent.len());
            })
        };
        sent.chunks(piece)
            .for_each(|piece| peer.write_all(piece).unwrap());
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        reader.join().unwrap();
    };
    (0..count)
        .map(|seed| std::thread::spawn(move || client(seed)))
        .collect()
}

fn echo(owner: &mut Owner, count: u64, bytes: usize, piece: usize) {
    owner.echo = true;
    let (listener, address) = owner.listen();
    let clients = clients(address, count, bytes, piece);
    owner.run(|owner| owner.closed.len() == count as usize);
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    owner.ring.stop_listening(listener);
    owner.run(|owner| owner.ring.connections() == 0);
    assert!(
        owner
            .closed
            .iter()
            .all(|(_, cause)| *cause == ring::CloseCause::Peer)
    );
    let all = owner.ring.limits().buffers;
    assert_eq!(
        owner.ring.buffers_free(),
        usize::from(all),
        "every buffer came home"
    );
}

#[test]
fn every_combination_of_features_echoes_in_order() {
    for (which, features) in combinations() {
        let mut owner = Owner::new(limits(8, 512), features);
        echo(&mut owner, 8, 20_000, 700);
        let counters = owner.ring.counters();
        assert_eq!(counters.accepted, 8, "{which}");
        assert_eq!(counters.received_bytes, 8 * 20_000, "{which}");
        assert_eq!(counters.sent_bytes, 8 * 20_000, "{which}");
    }
}

#[test]
fn single_bytes_come_back() {
    let mut owner = Owner::new(limits(16, 64), probed());
    echo(&mut owner, 4, 500, 1);
}

#[test]
fn a_mebibyte_passes_through_small_buffers() {
    for (buffers, buffer_bytes) in [(4, 64), (64, 256), (16, 16 * 1024)] {
        let mut owner = Owner::new(limits(buffers, buffer_bytes), probed());
        echo(&mut owner, 2, 1 << 20, 1 << 20);
    }
}

#[test]
fn a_hundred_connections_share_eight_buffers() {
    let mut owner = Owner::new(limits(8, 1024), probed());
    echo(&mut owner, 100, 4_000, 333);
}

#[test]
fn a_peer_that_only_finishes_is_closed_without_a_byte() {
    let mut owner = Owner::new(limits(4, 64), probed());
    owner.echo = true;
    let (connection, peer) = owner.pair();
    write_aside(&peer, Vec::new()).join().unwrap();
    owner.run(|owner| owner.cause(connection).is_some());
    assert_eq!(owner.cause(connection), Some(ring::CloseCause::Peer));
}
