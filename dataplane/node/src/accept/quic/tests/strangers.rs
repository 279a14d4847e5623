//! Who has proven nothing takes a bounded number of places and gets few bytes, whatever is sent.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{Endpoint, EndpointConfig};
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
