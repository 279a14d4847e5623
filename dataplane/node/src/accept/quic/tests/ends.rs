//! How connections and lanes end: who keeps one for nothing, who is banned, who is still answered.

use quinn_proto::Dir;

use super::super::world::Talk;
use super::*;

#[test]
fn a_connection_without_a_lane_is_ended() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    let lost = world.run(Duration::from_secs(11), |world| world.client.lost.is_some());
    assert!(lost, "{}", told(&world, 1));
    assert_eq!(world.quic.counters().connections_unused, 1);
}

#[test]
fn a_client_that_never_acknowledges_the_end_of_its_lane_does_not_keep_its_connection() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(1, 1);
    let id = |world: &World| world.lanes.keys().next().copied();
    assert!(world.run(Duration::from_secs(5), |world| id(world).is_some()));
    let (lane, began) = (id(&world).expect("it is there"), world.now);
    world.quic.close(began, lane);
    // It hears nothing, and goes on to say that it is there.
    let ended = |world: &World| world.quic.counters().connections_unused == 1;
    while !ended(&world) && world.now < began + Duration::from_secs(30) {
        world.step(began + Duration::from_secs(30));
        world.down.under_way.clear();
        world.client.connection.ping();
    }
    assert!(ended(&world), "{}", told(&world, 1));
}

#[test]
fn a_lane_without_a_session_now_and_then_does_not_keep_a_connection() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    world.wanted = Wanted::Unknown;
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    while world.client.lost.is_none() && world.now < world.began + Duration::from_secs(120) {
        world.talk(1, 10);
        world.run(Duration::from_secs(9), |world| world.client.lost.is_some());
    }
    assert!(
        world.now < world.began + Duration::from_secs(21),
        "{}",
        told(&world, 1)
    );
    assert_eq!(world.quic.counters().connections_unused, 1);
    assert_eq!(world.quic.counters().lanes, 0);
}

#[test]
fn a_lane_that_stays_without_a_session_does_not_keep_a_connection_and_its_end_is_told() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    world.wanted = Wanted::Later;
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(1, 10);
    let lost = world.run(Duration::from_secs(21), |world| world.client.lost.is_some());
    assert!(lost, "{}", told(&world, 1));
    assert_eq!(world.closed.len(), 1);
    assert_eq!(world.quic.counters().lanes, 0);
}

#[test]
fn a_lane_with_a_session_keeps_its_connection_as_long_as_it_lasts() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    let stream = world.client.connection.streams().open(Dir::Bi);
    let stream = stream.expect("the server lets open one");
    let said = world.client.connection.send_stream(stream).write(b"hello");
    assert_eq!(said, Ok(5));
    // Whatever becomes of others.
    world.talk(1, 10);
    assert!(!world.run(Duration::from_secs(300), |world| {
        world.client.lost.is_some()
    }));
    assert!(world.client.talks[0].finished);
    assert_eq!(world.quic.counters().lanes, 1);
    let ended = world.client.connection.send_stream(stream).finish();
    assert_eq!(ended, Ok(()));
    let began = world.now;
    assert!(world.run(Duration::from_secs(20), |world| {
        world.client.lost.is_some()
    }));
    assert!(
        world.now > began + Duration::from_secs(9),
        "so long without one"
    );
}

#[test]
fn the_connection_of_a_banned_address_is_ended_when_it_has_heard_why() {
    let trust = Trust::new();
    for (wanted, stays) in [(Wanted::Unknown, false), (Wanted::Known, true)] {
        let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
        world.wanted = wanted;
        assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
        let stream = world.client.connection.streams().open(Dir::Bi);
        let stream = stream.expect("the server lets open one");
        let said = world.client.connection.send_stream(stream).write(b"hello");
        assert_eq!(said, Ok(5));
        assert!(world.run(Duration::from_secs(5), |world| world.lanes.len() == 1));
        let lane = *world.lanes.keys().next().expect("it is there");
        assert_eq!(world.quic.address_of(lane), Some(world.client.address.ip()));
        world.quic.part_with(world.now, lane);
        world.quic.send(world.now, lane, vec![7; 200_000]);
        world.quic.close(world.now, lane);
        world.client.talks.push(Talk {
            stream: Some(stream),
            says: Vec::new(),
            said: 0,
            heard: Vec::new(),
            finished: false,
        });
        let heard = world.run(Duration::from_secs(1), |world| {
            world.client.talks[0].finished
        });
        assert!(heard, "{}", told(&world, 1));
        assert_eq!(world.client.talks[0].heard.len(), 200_005);
        let lost = world.run(Duration::from_secs(1), |world| world.client.lost.is_some());
        assert_eq!(lost, !stays, "{}", told(&world, 1));
        assert_eq!(world.quic.counters().connections_banned, u64::from(!stays));
    }
}

#[test]
fn what_is_queued_arrives_though_the_shard_and_the_client_close_a_lane() {
    let trust = Trust::new();
    let mut world = World::new(&trust, QuicLimits::default(), Weather::default(), 1);
    assert!(world.run(Duration::from_secs(5), |world| world.client.connected));
    world.talk(1, 1);
    assert!(world.run(Duration::from_secs(5), |world| world.lanes.len() == 1));
    let lane = *world.lanes.keys().next().expect("it is there");
    world.quic.send(world.now, lane, vec![7; 4 << 20]);
    world.quic.close(world.now, lane);
    world.quic.close_heard(world.now, lane);
    let heard = world.run(Duration::from_secs(60), |world| {
        world.client.talks[0].finished
    });
    assert!(heard, "{}", told(&world, 1));
    assert_eq!(world.client.talks[0].heard.len(), (4 << 20) + 1);
}
