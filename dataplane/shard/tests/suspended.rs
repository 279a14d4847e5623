//! A shard that is told to take nothing: everybody is sent away to come back later, and nothing that was acked is asked for again.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use support::*;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;

#[test]
fn while_it_is_suspended_a_shard_takes_no_frame_and_no_session_and_goes_on_where_it_was_afterwards()
{
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let frame = sender.send(&[b"before"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1]);
    let mut silent = Client::new(&mut world, RECEIVER, secret(2).text_bytes());
    world.turn();
    let appended = world.shard.counters().append.messages;

    world.shard.suspend(true);
    world.shard.suspend(true);
    // It was on its way when the shard was told.
    let late = sender.send(&[b"late"]);
    let said = sender.exchange(&mut world, &late);
    assert_eq!(reason(&said), Reason::TableStale);
    assert!(Reason::TableStale.retryable(), "they are to come back");
    assert_eq!(reason(&silent.read(&mut world)), Reason::TableStale);
    assert!(world.closed(sender.connection) && world.closed(silent.connection));
    let mut again = Client::new(&mut world, SENDER, &sender.keys.as_ref().unwrap().resume);
    let hello = again.hello_bytes(Auth::Resume(sender.session), 0);
    assert_eq!(
        reason(&again.exchange(&mut world, &hello)),
        Reason::TableStale
    );
    let mut new = Client::new(&mut world, RECEIVER, secret(2).text_bytes());
    let hello = new.hello_bytes(Auth::Key(KeyId(1)), 0);
    assert_eq!(
        reason(&new.exchange(&mut world, &hello)),
        Reason::TableStale
    );
    assert_eq!(world.shard.counters().append.messages, appended);

    world.shard.suspend(false);
    let mut back = sender.resume(&mut world);
    assert_eq!(back.sequence, 2, "what was acked is not asked for again");
    let frame = back.send(&[b"late"]);
    assert_eq!(acks(&back.exchange(&mut world, &frame)), [2]);
    Client::connect(&mut world, RECEIVER, 2);
}

#[test]
fn one_that_was_suspended_and_let_go_between_two_turns_sends_nobody_away() {
    let mut world = World::with_ack(AckMode::Local);
    let mut sender = Client::connect(&mut world, SENDER, 1);
    world.shard.suspend(true);
    world.shard.suspend(false);
    let frame = sender.send(&[b"x"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1]);
}
