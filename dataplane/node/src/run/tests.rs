//! What the loop decides without a ring: which events a turn takes, and which buffers it keeps.

use std::net::{Ipv4Addr, SocketAddr};

use ring::{CloseCause, Event, ListenerId};

use super::carry_out::bound;
use super::gather::cut_before_reuse;

fn id(slot: u64, generation: u64) -> ring::ConnectionId {
    ring::ConnectionId(generation << 32 | slot)
}

fn accepted(slot: u64, generation: u64) -> Event {
    Event::Accepted {
        listener: ListenerId(0),
        connection: id(slot, generation),
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
    }
}

fn closed(slot: u64, generation: u64) -> Event {
    Event::Closed {
        connection: id(slot, generation),
        cause: CloseCause::Peer,
    }
}

#[test]
fn the_buffers_of_a_burst_are_freed_down_to_their_bytes_the_oldest_first() {
    let mut buffers: Vec<Vec<u8>> = (1..=10).map(Vec::with_capacity).collect();
    bound(&mut buffers, 1_000);
    assert_eq!(buffers.len(), 10);
    bound(&mut buffers, 20);
    let capacities: Vec<usize> = buffers.iter().map(Vec::capacity).collect();
    assert_eq!(capacities, [9, 10]);
    bound(&mut buffers, 0);
    assert!(buffers.is_empty());
}

#[test]
fn a_turn_never_sees_a_slot_opened_before_it_hears_of_its_close() {
    for (why, events, want) in [
        ("nothing", vec![], 0),
        ("only new ones", vec![accepted(0, 1), accepted(1, 1)], 2),
        ("another slot", vec![closed(0, 1), accepted(1, 1)], 2),
        ("opened and closed", vec![accepted(0, 1), closed(0, 1)], 2),
        ("reused at once", vec![closed(0, 1), accepted(0, 2)], 1),
        (
            "reused later",
            vec![closed(1, 1), closed(0, 1), accepted(2, 1), accepted(0, 2)],
            3,
        ),
    ] {
        assert_eq!(cut_before_reuse(&events), want, "{why}");
    }
}
