//! What a client can do that keeps no rule, and that it is ended within a second of it, holds little meanwhile, and hurts nobody else.

use std::ops::ControlFlow;

use super::super::counters::QuicCounters;
use super::attacker::{Attacker, frame, stream};
use super::*;

/// What a connection may hold beside its place: frames in a window are not worth much more than the window.
const HELD_MAX: usize = 64 << 10;

/// Let a client say one thing after the other, a millisecond each, until it is ended. Returns when that was, what was held at most,
/// and how many datagrams it took.
fn attack(
    wanted: Wanted,
    mut next: impl FnMut(u64, &mut Attacker) -> Vec<u8>,
) -> (World, ControlFlow<Duration>, usize, u64) {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    world.wanted = wanted;
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    let address = SocketAddr::from(([203, 0, 113, 66], 66));
    let mut attacker = Attacker::connect(&mut world, &trust, address);
    // Its first lane has a session, or has none.
    let hello = attacker.say(stream(0, 0, b"hello"));
    world.apart = Some(address);
    world.sent_apart = world.ask(address, &hello);
    let (began, mut held) = (world.now, 0);
    let before = world.quic.counters();
    assert_eq!(before.connections, 2);
    let mut datagrams = 0;
    let mut ended = ControlFlow::Continue(());
    while ended.is_continue() && world.now < began + Duration::from_secs(3) {
        let until = world.now + Duration::from_millis(1);
        world.step(until);
        world.now = until;
        for packet in world.sent_apart.drain(..) {
            attacker.count(&packet);
        }
        let said = next(datagrams, &mut attacker);
        let packet = attacker.say(said);
        world.sent_apart = world.ask(attacker.address, &packet);
        datagrams += 1;
        held = world.quic.held_bytes().max(held);
        let now = world.quic.counters();
        if now.connections_faulty + now.connections_excessive > 0 {
            ended = ControlFlow::Break(world.now - began);
        }
    }
    // The other client is served as before, and nothing is left of the attacker.
    world.wanted = Wanted::Known;
    world.talk(3, 10_000);
    assert!(world.run(Duration::from_secs(30), |world| {
        world.client.talks.iter().all(|talk| talk.finished)
    }));
    if ended.is_break() {
        let gone = world.run(Duration::from_secs(30), |world| {
            world.quic.counters().connections == 1
        });
        assert!(gone, "{:?}", world.quic.counters());
        assert_eq!(world.quic.held_bytes(), 0);
    }
    (world, ended, held, datagrams)
}

/// It is ended within a second, and held little. Returns what was counted.
fn is_ended(
    what: &str,
    wanted: Wanted,
    next: impl FnMut(u64, &mut Attacker) -> Vec<u8>,
) -> QuicCounters {
    let (world, ended, held, datagrams) = attack(wanted, next);
    println!(
        "{what}, {wanted:?}: {ended:?} after {datagrams} datagrams, {held} bytes held at most"
    );
    let ControlFlow::Break(after) = ended else {
        panic!(
            "{what}, {wanted:?}: it goes on: {:?}",
            world.quic.counters()
        );
    };
    assert!(
        after <= Duration::from_secs(1),
        "{what}, {wanted:?}: {after:?}"
    );
    assert!(held <= HELD_MAX, "{what}, {wanted:?}: {held} bytes");
    world.quic.counters()
}

/// Frames until a datagram is full.
fn full(mut each: impl FnMut() -> Vec<u8>) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let next = each();
        if all.len() + next.len() > 1_100 {
            return all;
        }
        all.extend(next);
    }
}

#[test]
fn bytes_with_gaps_between_them_end_a_stranger_and_hold_no_more_than_a_window() {
    // One byte of every other two, on all streams that it may open, within its window, and again.
    let mut place = 0;
    let counters = is_ended("gaps", Wanted::Unknown, |_, _| {
        full(|| {
            place += 1;
            stream(4 * (place % 4), 5 + 2 * (place / 4 % 900), b"x")
        })
    });
    assert_eq!(counters.connections_excessive, 1, "{counters:?}");
}

#[test]
fn bytes_with_gaps_between_them_are_counted_and_bounded_by_the_window_of_who_has_a_session() {
    let mut offset = 7;
    let (world, ended, held, _) = attack(Wanted::Known, |_, _| {
        offset += 1_000;
        match offset + 900 < 512 << 10 {
            true => stream(0, offset, &[7; 900]),
            false => stream(0, 5, b"x"),
        }
    });
    println!("{ended:?}, {held} bytes held at most");
    assert!(
        ended.is_continue(),
        "it keeps the rules: {:?}",
        world.quic.counters()
    );
    assert!(held > 256 << 10, "{held} bytes of them are counted");
    assert!(held <= 3 << 19, "{held} bytes");
}

#[test]
fn tiny_pieces_in_any_order_end_who_sends_them() {
    for wanted in [Wanted::Unknown, Wanted::Known] {
        let mut offset = 7;
        is_ended("tiny pieces", wanted, |_, _| {
            full(|| {
                offset += 2;
                stream(0, offset, b"x")
            })
        });
    }
}

#[test]
fn streams_that_are_opened_and_given_up_end_who_does_so() {
    for wanted in [Wanted::Unknown, Wanted::Known] {
        // More than it may open.
        let mut number = 0;
        is_ended("reset streams", wanted, |_, _| {
            full(|| {
                number += 1;
                let id = 4 * number;
                [stream(id, 0, b"x"), frame(4, &[id, 0, 1], b"")].concat()
            })
        });
        // As many as it may, as soon as it may.
        let mut number = 0;
        is_ended("allowed streams", wanted, |_, attacker| {
            number += 1;
            let id = 4 * number;
            let mut all = attacker.acknowledge();
            all.extend([stream(id, 0, b"x"), frame(4, &[id, 0, 1], b"")].concat());
            all
        });
    }
}

#[test]
fn connection_ids_without_end_end_who_asks_for_them_or_gives_them() {
    for wanted in [Wanted::Unknown, Wanted::Known] {
        let mut number = 0;
        is_ended("retired", wanted, |_, _| {
            full(|| {
                number += 1;
                frame(0x19, &[number % 7 + 1], b"")
            })
        });
        let mut number = 1;
        is_ended("given", wanted, |_, _| {
            full(|| {
                number += 1;
                let id = [&[8][..], &u64::to_be_bytes(number), &[7; 16]].concat();
                frame(0x18, &[number, number], &id)
            })
        });
    }
}

#[test]
fn challenges_of_a_path_end_who_sends_them_without_end() {
    for wanted in [Wanted::Unknown, Wanted::Known] {
        let mut number = 0_u64;
        is_ended("challenges", wanted, |_, _| {
            full(|| {
                number += 1;
                frame(0x1A, &[], &number.to_be_bytes())
            })
        });
        // From another address each time.
        is_ended("challenges from everywhere", wanted, |at, attacker| {
            let [a, b] = (at as u16).to_be_bytes();
            attacker.address = SocketAddr::from(([203, 0, a, b], 66));
            full(|| frame(0x1A, &[], &at.to_be_bytes()))
        });
    }
}

#[test]
fn acknowledgements_of_what_was_never_sent_end_who_makes_them_up() {
    for wanted in [Wanted::Unknown, Wanted::Known] {
        is_ended("made up", wanted, |_, _| {
            frame(2, &[1 << 40, 0, 0, 1 << 39], b"")
        });
    }
}

#[test]
fn packets_with_numbers_left_out_are_acknowledged_in_little_room_and_end_nobody() {
    for wanted in [Wanted::Unknown, Wanted::Known] {
        let (world, ended, held, _) = attack(wanted, |at, attacker| {
            attacker.skip(1 + at as u32 % 3);
            // So many ranges would not fit into a packet.
            match wanted == Wanted::Known && at < 450 || at < 400 {
                true => vec![1],
                false => vec![0],
            }
        });
        assert!(
            ended.is_continue(),
            "{wanted:?}: {:?}",
            world.quic.counters()
        );
        assert!(held <= HELD_MAX, "{wanted:?}: {held} bytes");
    }
}

#[test]
fn pings_without_end_end_who_sends_them() {
    for wanted in [Wanted::Unknown, Wanted::Known] {
        is_ended("pings", wanted, |_, _| full(|| vec![1]));
    }
}

#[test]
fn who_speaks_tls_after_the_handshake_is_ended() {
    for wanted in [Wanted::Unknown, Wanted::Known] {
        // A request to change keys, which QUIC does in another way.
        let update = [24, 0, 0, 1, 0];
        let counters = is_ended("TLS", wanted, |_, _| frame(6, &[0, 5], &update));
        assert_eq!(counters.connections_faulty, 1, "{counters:?}");
    }
}
