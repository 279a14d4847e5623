//! What is on the way: lanes that are not read stop nobody else, and what is held is counted and given back.

use shard::ConnectionId;

use super::*;

/// A client with a session on its first lane, and its second; these are not read, and the client has much to say on each.
fn unread(lanes: usize, trusted_max: usize) -> World {
    let trust = Trust::new();
    let limits = QuicLimits {
        trusted_max,
        ..QuicLimits::default()
    };
    let mut world = World::new(&trust, limits, Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(lanes, 4 << 20);
    assert!(world.run(Duration::from_secs(5), |world| {
        world.lanes.len() == lanes && world.lanes.values().all(|bytes| *bytes > 0)
    }));
    world.later = world.lanes.keys().copied().collect();
    let before = world.lanes.clone();
    world.run(Duration::from_secs(5), |_| false);
    assert_eq!(world.lanes, before, "they are not read");
    world
}

#[test]
fn lanes_that_are_not_read_do_not_stop_the_others_of_their_connection() {
    for (lanes, trusted_max) in [(1, 0), (3, 0), (1, 1), (3, 1)] {
        let mut world = unread(lanes, trusted_max);
        world.talk(1, 1 << 20);
        let over = world.run(Duration::from_secs(60), |world| {
            world.client.talks[lanes].finished
        });
        assert!(over, "{lanes} of {trusted_max}: {}", told(&world, 1));
        // When they are read again, they come to their end.
        world.later.clear();
        let over = world.run(Duration::from_secs(60), |world| {
            world.client.talks.iter().all(|talk| talk.finished)
        });
        assert!(over, "{lanes} of {trusted_max}: {}", told(&world, 1));
        let none = world.run(Duration::from_secs(1), |world| world.quic.held_bytes() == 0);
        assert!(
            none,
            "{} bytes: {}",
            world.quic.held_bytes(),
            told(&world, 1)
        );
    }
}

#[test]
fn windows_for_lanes_that_are_not_read_are_bounded_for_all_together() {
    let trust = Trust::new();
    let limits = QuicLimits {
        trusted_max: 0,
        waiting_window_max: 0,
        ..QuicLimits::default()
    };
    let mut world = World::new(&trust, limits, Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(1, 4 << 20);
    assert!(world.run(Duration::from_secs(5), |world| world.lanes.len() == 1));
    world.later = world.lanes.keys().copied().collect();
    let before = world.up_bytes;
    world.run(Duration::from_secs(5), |_| false);
    let sent = world.up_bytes - before;
    assert!(sent < 128 << 10, "{sent} bytes came");
}

#[test]
fn what_is_not_read_and_what_is_not_acknowledged_is_counted() {
    let mut world = unread(1, 1);
    let held = world.quic.held_bytes();
    assert!(
        (400 << 10..600 << 10).contains(&held),
        "{held} bytes of a stream whose window is full"
    );
    world.later.clear();
    let over = world.run(Duration::from_secs(60), |world| {
        world.client.talks[0].finished
    });
    assert!(over, "{}", told(&world, 1));
    assert!(world.run(Duration::from_secs(1), |world| world.quic.held_bytes() == 0));
    // Its client takes nothing any more.
    let lane = {
        world.talk(1, 10);
        let before: Vec<ConnectionId> = world.lanes.keys().copied().collect();
        assert!(world.run(Duration::from_secs(5), |world| {
            world.lanes.len() == 2 && world.lanes.values().all(|bytes| *bytes > 0)
        }));
        let mut new = world.lanes.keys().filter(|id| !before.contains(id));
        *new.next().expect("one is new")
    };
    world.quic.send(world.now, lane, vec![7; 2 << 20]);
    let held = world.quic.held_bytes();
    assert!(held >= 1 << 20, "{held} bytes are on their way");
    assert!(
        held <= (1 << 20) + (32 << 10),
        "{held} bytes: the window and a piece"
    );
}

#[test]
fn a_stranger_has_small_windows_and_few_streams_and_who_has_a_session_more_as_it_needs_them() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    world.wanted = Wanted::Later;
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(3, 1_000);
    world.talk(1, 100_000);
    world.talk(60, 1_000);
    world.run(Duration::from_secs(5), |_| false);
    assert_eq!(world.lanes.len(), 4);
    assert!(world.up_bytes < 32 << 10, "{} bytes came", world.up_bytes);
    world.wanted = Wanted::Known;
    let over = world.run(Duration::from_secs(60), |world| {
        world.client.talks.iter().all(|talk| talk.finished)
    });
    assert!(over, "{}", told(&world, 1));
}
