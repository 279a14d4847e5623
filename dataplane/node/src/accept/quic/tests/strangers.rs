//! Who has proven nothing takes a bounded number of places and gets few bytes, whatever is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quinn_proto::{DatagramEvent, Endpoint, EndpointConfig};
use tls::PROTOCOL as ALPN;

use super::super::world::{arrival, server};
use super::*;

#[test]
fn an_address_that_proved_nothing_is_answered_with_three_times_its_bytes_at_most() {
    let trust = Trust::new();
    for seed in 0..8 {
        // Nothing of the server's arrives, so the client proves nothing.
        let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), seed);
        for _ in 0..2_000 {
            world.down.under_way.clear();
            let until = world.now + Duration::from_secs(1);
            world.step(until);
        }
        assert!(!world.client.connected);
        let (up, down) = (world.up_bytes, world.down_bytes);
        assert!(down > 0 && down <= 3 * up, "{down} bytes for {up}");
    }
}

#[test]
fn addresses_are_to_be_proven_while_many_handshakes_are_under_way() {
    let trust = Trust::new();
    let limits = QuicLimits {
        admission: AdmissionLimits {
            per_second: 1_000,
            retry_above: 0,
            under_way_max: 10,
            of_address_max: 10,
        },
        ..QuicLimits::default()
    };
    let mut world = World::new(&trust, limits, Weather::default(), 1);
    assert!(
        world.run(Duration::from_secs(10), |world| world
            .quic
            .counters()
            .connected
            == 1),
        "{}",
        told(&world, 1)
    );
    let counters = world.quic.counters();
    assert_eq!(
        (counters.retries, counters.connected, counters.retry_began),
        (1, 1, 1)
    );
    world.talk(1, 1000);
    assert!(world.run(Duration::from_secs(10), |world| {
        world.client.talks[0].finished
    }));
}

#[test]
fn a_flood_of_first_packets_from_made_up_addresses_takes_a_bounded_number_of_places() {
    let trust = Trust::new();
    let limits = QuicLimits {
        admission: AdmissionLimits {
            per_second: 1_000,
            retry_above: 16,
            under_way_max: 32,
            of_address_max: 32,
        },
        ..QuicLimits::default()
    };
    let mut world = World::new(&trust, limits, Weather::default(), 1);
    let now = world.now;
    for number in 0..2_000_u32 {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
        let (_, mut connection) = endpoint
            .connect(now, trust.client(ALPN), server(), "localhost")
            .expect("a first packet");
        let mut bytes = Vec::new();
        let transmit = connection
            .poll_transmit(now, 1, &mut bytes)
            .expect("a first packet");
        let from = SocketAddr::from((number.to_be_bytes(), 9));
        world
            .quic
            .receive(now, &arrival(from, transmit.size), &bytes[..transmit.size]);
        if number % 8 == 0 {
            world.quic.settle(now);
            world.quic.transmit(now, 10, Vec::new, |_, _| Ok(()));
        }
    }
    let counters = world.quic.counters();
    assert!(counters.handshaking <= 16, "{counters:?}");
    assert!(
        counters.retries >= 1_900 && counters.retrying == 1,
        "{counters:?}"
    );
    // Known clients come through meanwhile, and when the flood is over nothing is asked any more.
    assert!(
        world.run(Duration::from_secs(10), |world| world.client.connected),
        "{}",
        told(&world, 1)
    );
    let calm = world.run(Duration::from_secs(120), |world| {
        let counters = world.quic.counters();
        (counters.handshaking, counters.retrying) == (0, 0)
    });
    assert!(calm, "{}", told(&world, 1));
}

#[test]
fn garbage_is_dropped_and_holds_nothing() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    let mut rng = Rng::with_seed(1);
    for number in 0..20_000_u32 {
        let mut bytes = vec![0; rng.usize(1..1500)];
        rng.fill(&mut bytes);
        if number % 2 == 0 && bytes.len() > 6 {
            // Long headers of version 1 with an ID of 8 bytes.
            bytes[0] |= 0xC0;
            bytes[1..6].copy_from_slice(&[0, 0, 0, 1, 8]);
        }
        let from = SocketAddr::from((number.to_be_bytes(), 9));
        world
            .quic
            .receive(world.now, &arrival(from, bytes.len()), &bytes);
        world.quic.settle(world.now);
        world.quic.transmit(world.now, 10, Vec::new, |_, _| Ok(()));
    }
    let counters = world.quic.counters();
    assert_eq!(
        (counters.connections, counters.lanes),
        (0, 0),
        "{counters:?}"
    );
    assert_eq!(counters.datagrams_in, 20_000);
    assert_eq!(world.quic.wake_at(), None);
}

impl World {
    /// Hand the node a datagram from somewhere, and return what it answers there.
    pub(super) fn ask(&mut self, from: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        self.quic
            .receive(self.now, &arrival(from, bytes.len()), bytes);
        self.quic.settle(self.now);
        self.quic
            .transmit(self.now, 1, Vec::new, |transmit, bytes| {
                if transmit.destination == from {
                    answers.push(bytes);
                }
                Ok(())
            });
        answers
    }

    /// Begin a handshake, prove its address if that is asked for, and say no more.
    fn begin_and_stay(&mut self, trust: &Trust, from: SocketAddr) {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
        let (_, mut connection) = endpoint
            .connect(self.now, trust.client(ALPN), server(), "localhost")
            .expect("a first packet");
        for _ in 0..2 {
            let mut bytes = Vec::new();
            let Some(transmit) = connection.poll_transmit(self.now, 1, &mut bytes) else {
                return;
            };
            for answer in self.ask(from, &bytes[..transmit.size]) {
                let answer = BytesMut::from(&answer[..]);
                let mut own = Vec::new();
                let event = endpoint.handle(self.now, server(), None, None, answer, &mut own);
                // Of a handshake that goes on it hears nothing.
                if let Some(DatagramEvent::ConnectionEvent(_, event)) = event
                    && self.quic.counters().retrying == 1
                {
                    connection.handle_event(event);
                }
            }
        }
    }
}

fn crowd(retry_above: usize, under_way_max: usize, of_address_max: usize) -> QuicLimits {
    QuicLimits {
        admission: AdmissionLimits {
            per_second: 100_000,
            retry_above,
            under_way_max,
            of_address_max,
        },
        ..QuicLimits::default()
    }
}

#[test]
fn one_address_holds_a_part_of_the_places_of_handshakes_though_it_has_proven_itself() {
    let trust = Trust::new();
    for (host, same) in [([198, 51, 100, 8], false), ([198, 51, 100, 7], true)] {
        let mut world = World::new(&trust, crowd(0, 32, 8), Weather::default(), 1);
        for port in 1..=200 {
            world.begin_and_stay(&trust, SocketAddr::from((host, port)));
        }
        let counters = world.quic.counters();
        assert_eq!(counters.handshaking, 8, "{counters:?}");
        assert!(counters.handshakes_ignored > 100, "{counters:?}");
        assert_eq!(
            counters.handshakes_crowded_out, 0,
            "none is late: {counters:?}"
        );
        // Of the same address, too, one gets through when the others are late.
        let patience = Duration::from_secs(if same { 5 } else { 1 });
        let connected = world.run(patience, |world| world.client.connected);
        assert!(connected, "{}", told(&world, 1));
        let crowded_out = world.quic.counters().handshakes_crowded_out;
        assert_eq!(crowded_out > 0, same, "{}", told(&world, 1));
        let calm = world.run(Duration::from_secs(60), |world| {
            world.quic.counters().handshaking == 0
        });
        assert!(calm, "{}", told(&world, 1));
    }
}

#[test]
fn networks_of_ipv6_count_as_one_address() {
    let trust = Trust::new();
    let mut world = World::new(&trust, crowd(0, 32, 8), Weather::default(), 1);
    for host in 1..=100_u16 {
        let host = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, 2, host, 0, 0, host);
        world.begin_and_stay(&trust, SocketAddr::from((host, 9)));
    }
    assert_eq!(world.quic.counters().handshaking, 8);
}

#[test]
fn handshakes_that_are_late_make_room_when_all_places_are_taken() {
    let trust = Trust::new();
    let mut world = World::new(&trust, crowd(1_000, 16, 16), Weather::default(), 1);
    for number in 0..40 {
        world.begin_and_stay(&trust, SocketAddr::from(([203, 0, 113, number], 9)));
    }
    assert_eq!(world.quic.counters().handshaking, 16);
    let connected = world.run(Duration::from_secs(5), |world| world.client.connected);
    assert!(connected, "{}", told(&world, 1));
    assert!(world.quic.counters().handshakes_crowded_out > 0);
    // Nothing is left of those that made room: neither here nor in the endpoint.
    let gone = world.run(Duration::from_secs(60), |world| {
        let counters = world.quic.counters();
        (counters.handshaking, counters.connections) == (0, 0)
    });
    assert!(gone, "{}", told(&world, 1));
    assert_eq!(world.quic.wake_at(), None);
}

#[test]
fn a_handshake_that_is_given_up_is_not_under_way_while_its_client_is_told() {
    let trust = Trust::new();
    let limits = QuicLimits {
        unused: Duration::from_secs(1),
        ..QuicLimits::default()
    };
    let mut world = World::new(&trust, limits, Weather::default(), 1);
    world.begin_and_stay(&trust, SocketAddr::from(([203, 0, 113, 1], 9)));
    world.run(Duration::from_millis(1_010), |_| false);
    let counters = world.quic.counters();
    assert_eq!((counters.handshaking, counters.connections_unused), (0, 2));
    assert_eq!(counters.connections, 2, "its end is not over: {counters:?}");
}
