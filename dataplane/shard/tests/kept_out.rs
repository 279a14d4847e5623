//! What keeps nobody out: refusals that tell a peer to come again, sessions that are gone, connections that another shard counted.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use shard::{ConnectionId, HandOver};
use support::*;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::Reason;

/// Few of anything in a row are too many.
fn strict() -> Setup {
    let mut setup = Setup::new(AckMode::Local);
    setup.limits.bans.address_connections_max = 30;
    setup.limits.bans.address_failures_max = 3;
    setup
}

#[test]
fn an_address_whose_handshakes_are_refused_for_now_is_not_kept_out() {
    let mut setup = strict();
    setup.limits.sessions_max = 1;
    let mut world = World::new(setup);
    let _first = Client::connect(&mut world, SENDER, 1);
    for _ in 0..20 {
        let mut late = Client::new(&mut world, RELAY, secret(3).text_bytes());
        let hello = late.hello_bytes(Auth::Key(KeyId(1)), 0);
        let said = late.exchange(&mut world, &hello);
        assert_eq!(reason(&said), Reason::SessionsFull);
    }
    assert_eq!(world.shard.banned(9), []);
}

#[test]
fn an_address_that_asks_for_sessions_that_are_gone_is_not_kept_out() {
    let mut before = World::new(strict());
    let client = Client::connect(&mut before, SENDER, 1);
    // The node starts anew and knows none of its sessions; many of one address ask for theirs.
    let mut world = World::new(strict());
    let resume = client.keys.as_ref().unwrap().resume;
    for _ in 0..20 {
        let mut next = Client::new(&mut world, SENDER, &resume);
        let hello = next.hello_bytes(Auth::Resume(client.session), 0);
        let said = next.exchange(&mut world, &hello);
        assert_eq!(reason(&said), Reason::SessionUnknown);
    }
    assert_eq!(world.shard.banned(9), []);
}

#[test]
fn a_connection_counts_for_its_address_where_it_came_in_and_not_again_where_it_went() {
    for (handed_over, want) in [(true, 0), (false, 1)] {
        let mut setup = strict();
        setup.limits.bans.address_connections_max = 5;
        let mut world = World::new(setup);
        for _ in 0..20 {
            let handed = HandOver {
                connection: ConnectionId(7),
                to: 0,
                bytes: Vec::new(),
            };
            let connection = match handed_over {
                true => world.adopt(handed, &[]),
                false => world.open(),
            };
            world.turn();
            world.cut(connection);
            world.turn();
        }
        assert_eq!(world.shard.banned(9).len(), want);
    }
}
