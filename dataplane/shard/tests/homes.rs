//! Who is at home at a node is served there alone, and told so elsewhere once it has proven who it is.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use shard::Limits;
use support::*;
use wire::delivery::Source;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::{Notice, Reason};
use wire::route::{Node, TableParts};
use wire::signature::Signer;

const A: NodeId = NodeId(7);
const B: NodeId = NodeId(9);
const BY_KEY: Auth<'static> = Auth::Key(KeyId(1));

/// The plan with two nodes, with this endpoint at home there.
fn plan(epoch: u64, name: &str, home: Option<NodeId>) -> TableParts {
    let node = |id, name: &str, address: Option<&str>| Node {
        id,
        name: name.into(),
        address: address.map(Box::from),
    };
    let mut parts = parts(AckMode::Local);
    parts.epoch = epoch;
    parts.nodes = vec![node(A, "a", None), node(B, "b", Some("b.example:7410"))];
    endpoint_in(&mut parts, name).home = home;
    parts
}

/// The node that is called so.
fn world(called: Option<&str>, parts: TableParts) -> World {
    let mut setup = Setup::new(AckMode::Local);
    setup.parts = parts;
    setup.limits.node = called.map(Box::from);
    World::new(setup)
}

/// What a HELLO with this secret is refused with, if it is, and the home that is told.
fn refused(
    world: &mut World,
    name: &str,
    auth: Auth<'_>,
    secret: &[u8],
) -> Option<(Notice, Option<String>)> {
    let mut client = Client::new(world, name, secret);
    let hello = client.hello_bytes(auth, 0);
    let said = client.exchange(world, &hello);
    let notice = said.iter().find_map(|said| match said {
        Said::Refused(notice) => Some(*notice),
        _ => None,
    });
    notice.map(|notice| (notice, client.home))
}

fn not_home(here: u32, home: NodeId) -> Notice {
    Notice::new(Reason::NotHome, here.into(), home.0.into())
}

#[test]
fn an_endpoint_is_served_at_its_home_and_is_told_elsewhere_where_that_is() {
    let at_b = Some("node b at b.example:7410");
    for (called, home, want) in [
        (Some("a"), None, None),
        (Some("a"), Some(A), None),
        (Some("a"), Some(B), Some((not_home(7, B), at_b))),
        (Some("b"), Some(B), None),
        (Some("b"), Some(A), Some((not_home(9, A), Some("node a")))),
        // Nodes that the table does not name serve whoever has no home.
        (Some("c"), None, None),
        (Some("c"), Some(B), Some((not_home(0, B), at_b))),
        (None, None, None),
        (None, Some(B), Some((not_home(0, B), at_b))),
    ] {
        let why = format!("{called:?} {home:?}");
        for (name, number) in [(SENDER, 1), (RECEIVER, 2)] {
            let mut world = world(called, plan(1, name, home));
            let secret = secret(number);
            let told = refused(&mut world, name, BY_KEY, secret.text_bytes());
            let want = want.map(|(notice, home)| (notice, home.map(str::to_owned)));
            assert_eq!(told, want, "{name} {why}");
            let counters = world.shard.counters();
            let times = counters.of(Reason::NotHome);
            assert_eq!(times, u64::from(want.is_some()), "{name} {why}");
        }
    }
}

#[test]
fn strangers_are_not_told_where_anybody_is_at_home() {
    let mut world = world(Some("a"), plan(1, SENDER, Some(B)));
    for (name, auth) in [
        (SENDER, BY_KEY),
        (SENDER, Auth::Key(KeyId(5))),
        (SENDER, Auth::Resume(SessionId([3; 16]))),
        ("acme/prod/nobody", BY_KEY),
    ] {
        let (notice, home) = refused(&mut world, name, auth, b"a guess").unwrap();
        assert_ne!(notice.reason, Reason::NotHome, "{name}");
        assert_eq!(home, None, "{name}");
    }
    // Who is not at home fails at nothing: however often a fleet asks, its address stays good.
    for _ in 0..=Limits::default().bans.address_failures_max {
        let told = refused(&mut world, SENDER, BY_KEY, secret(1).text_bytes());
        assert_eq!(told.unwrap().0, not_home(7, B));
    }
}

#[test]
fn a_home_that_moves_ends_the_session_and_back_again_it_is_served() {
    let mut world = world(Some("a"), plan(1, SENDER, Some(A)));
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut other = Client::connect(&mut world, RELAY, 3);
    let frame = sender.send(&[b"before"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [1]);
    world.swap_table(plan(2, SENDER, Some(B)));
    let frame = sender.send(&[b"behind it"]);
    let said = sender.exchange(&mut world, &frame);
    assert_eq!(said, [Said::Goaway(not_home(7, B))]);
    assert_eq!(sender.home.as_deref(), Some("node b at b.example:7410"));
    let resume = sender.keys.as_ref().unwrap().resume;
    let told = refused(&mut world, SENDER, Auth::Resume(sender.session), &resume);
    assert_eq!(told.unwrap().0.reason, Reason::SessionUnknown);
    let told = refused(&mut world, SENDER, BY_KEY, secret(1).text_bytes());
    assert_eq!(told.unwrap().0, not_home(7, B));
    let frame = other.send(&[b"nobody else"]);
    assert_eq!(acks(&other.exchange(&mut world, &frame)), [1]);
    world.swap_table(plan(3, SENDER, Some(A)));
    let mut back = Client::connect(&mut world, SENDER, 1);
    let frame = back.send(&[b"again"]);
    assert_eq!(acks(&back.exchange(&mut world, &frame)), [2]);
}

#[test]
fn a_hello_that_was_refused_for_its_home_opens_nothing_when_the_home_has_moved_there() {
    let mut world = world(Some("a"), plan(1, SENDER, Some(B)));
    let mut client = Client::new(&mut world, SENDER, secret(1).text_bytes());
    let hello = client.hello_bytes(BY_KEY, START);
    let said = client.exchange(&mut world, &hello);
    assert_eq!(reason(&said), Reason::NotHome);
    world.swap_table(plan(2, SENDER, Some(A)));
    let mut listener = Client::new(&mut world, SENDER, secret(1).text_bytes());
    let said = listener.exchange(&mut world, &hello);
    assert_eq!(reason(&said), Reason::HelloReplayed);
    // A new one is as good as ever.
    assert_eq!(
        refused(&mut world, SENDER, BY_KEY, secret(1).text_bytes()),
        None
    );
}

#[test]
fn a_session_that_lingers_ends_when_its_home_moves() {
    let mut world = world(Some("a"), plan(1, SENDER, None));
    let sender = Client::connect(&mut world, SENDER, 1);
    world.cut(sender.connection);
    world.settle();
    assert_eq!(world.shard.sessions(), 1);
    world.swap_table(plan(2, SENDER, Some(B)));
    world.settle();
    assert_eq!(world.shard.sessions(), 0);
}

#[test]
fn a_node_that_comes_into_the_table_or_leaves_it_serves_accordingly() {
    // A head that is another one: all sessions are looked at.
    let mut world = world(Some("a"), plan(1, SENDER, Some(A)));
    let mut sender = Client::connect(&mut world, SENDER, 1);
    let mut next = plan(2, SENDER, Some(A));
    next.nodes[0].name = "c".into();
    world.swap_table(next);
    world.settle();
    assert_eq!(sender.read(&mut world), [Said::Goaway(not_home(0, A))]);
    assert_eq!(sender.home.as_deref(), Some("node c"));
    world.swap_table(plan(3, SENDER, Some(A)));
    world.settle();
    Client::connect(&mut world, SENDER, 1);
}

#[test]
fn what_waits_for_a_receiver_waits_until_it_is_at_home_again() {
    let mut world = world(Some("a"), plan(1, RECEIVER, Some(B)));
    let mut sender = Client::connect(&mut world, SENDER, 1);
    for number in 1..=3 {
        let frame = sender.send(&[b"kept"]);
        assert_eq!(acks(&sender.exchange(&mut world, &frame)), [number]);
    }
    let told = refused(&mut world, RECEIVER, BY_KEY, secret(2).text_bytes());
    assert_eq!(told.unwrap().0, not_home(7, B));
    world.swap_table(plan(2, RECEIVER, Some(A)));
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 1, 1_000);
    assert_eq!(bodies(&receiver.exchange(&mut world, &fetch)).len(), 1);
    // With one unsettled it moves away, and comes back.
    world.swap_table(plan(3, RECEIVER, Some(B)));
    world.settle();
    assert_eq!(receiver.read(&mut world), [Said::Goaway(not_home(7, B))]);
    let frame = sender.send(&[b"meanwhile"]);
    assert_eq!(acks(&sender.exchange(&mut world, &frame)), [4]);
    world.swap_table(plan(4, RECEIVER, None));
    let mut receiver = Client::connect(&mut world, RECEIVER, 2);
    let fetch = receiver.fetch(Source::Queue, 9, 1_000);
    let said = receiver.exchange(&mut world, &fetch);
    let want: [&[u8]; 4] = [b"kept", b"kept", b"kept", b"meanwhile"];
    assert_eq!(bodies(&said), want);
}

#[test]
fn an_envelope_comes_in_where_its_endpoint_is_at_home() {
    let (symmetric, public) = (secret(4), signing_key());
    let signer = |of: u32| match of {
        1 => Signer::Key {
            id: KeyId(1),
            key: symmetric.mac(),
        },
        _ => Signer::Ed25519 {
            id: KeyId(2),
            key: &public,
        },
    };
    for of in [1, 2] {
        let mut world = world(Some("a"), plan(1, SENSOR, Some(B)));
        let mut relay = Client::connect(&mut world, RELAY, 3);
        let mut forged = envelope(1, signer(of), &[b"x"]);
        let whole = forged.clone();
        *forged.last_mut().unwrap() ^= 1;
        for (number, inner, want) in [
            (1, &whole, Reason::NotHome),
            // What nobody signed learns nothing.
            (2, &forged, Reason::BadSignature),
        ] {
            let frame = relay.relay(number, inner);
            let said = relay.exchange(&mut world, &frame);
            assert_eq!(rejects(&said), [(number, want)], "key {of}");
        }
        world.swap_table(plan(2, SENSOR, Some(A)));
        let frame = relay.relay(3, &whole);
        let said = relay.exchange(&mut world, &frame);
        assert_eq!((acks(&said), rejects(&said)), (vec![3], vec![]), "key {of}");
    }
}
