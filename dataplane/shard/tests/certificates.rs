//! Endpoints that name certificates open sessions in tunnels that showed one, beside all else that is asked of them.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::time::Duration;

use shard::Shown;
use support::*;
use wire::handshake::Auth;
use wire::ids::*;
use wire::reason::{Notice, Reason};
use wire::route::TableParts;
use wire::signature::Signer;

const FIRST: Fingerprint = Fingerprint([1; 32]);
const SECOND: Fingerprint = Fingerprint([2; 32]);
const OTHER_ONE: Fingerprint = Fingerprint([3; 32]);

/// The plan, with an endpoint that names these certificates.
fn naming(name: &str, certificates: &[Fingerprint]) -> TableParts {
    let mut parts = parts(AckMode::Local);
    endpoint_in(&mut parts, name).certificates = certificates.to_vec();
    parts
}

fn world(name: &str, certificates: &[Fingerprint]) -> World {
    let mut setup = Setup::new(AckMode::Local);
    setup.parts = naming(name, certificates);
    World::new(setup)
}

/// A client of the sender in a tunnel of its own, which showed this certificate.
fn showing(world: &mut World, shown: Option<Fingerprint>, number: u8, secret: &[u8]) -> Client {
    let shown = shown.map(|certificate| Shown {
        certificate,
        ends: None,
    });
    in_tunnel(world, shown, number, secret)
}

/// One that ends so many seconds after the start.
fn ending(certificate: Fingerprint, seconds: u64) -> Option<Shown> {
    let ends = Some(UnixNanos::from_seconds(START + seconds));
    Some(Shown { certificate, ends })
}

fn in_tunnel(world: &mut World, shown: Option<Shown>, number: u8, secret: &[u8]) -> Client {
    let mut client = Client::new(world, SENDER, secret);
    world.tunnel_showing(client.connection, [number; 32], shown);
    client.exporter = vec![number; 32];
    client
}

fn key() -> [u8; 44] {
    *secret(1).text_bytes()
}

const BY_KEY: Auth<'static> = Auth::Key(KeyId(1));

#[test]
fn who_names_certificates_is_welcomed_with_one_of_them_and_refused_without() {
    for (why, named, shown, seen) in [
        ("names none, shows none", &[][..], None, None),
        ("names none, shows one", &[][..], Some(FIRST), None),
        ("the one", &[FIRST][..], Some(FIRST), None),
        ("one of two", &[SECOND, FIRST][..], Some(FIRST), None),
        ("the other of two", &[SECOND, FIRST][..], Some(SECOND), None),
        ("shows none", &[FIRST][..], None, Some(0)),
        (
            "another one",
            &[SECOND, FIRST][..],
            Some(OTHER_ONE),
            Some(1),
        ),
    ] {
        let mut world = world(SENDER, named);
        let mut client = showing(&mut world, shown, 9, &key());
        let Some(seen) = seen else {
            client.greet(&mut world, BY_KEY);
            let frame = client.send(&[b"x"]);
            assert_eq!(acks(&client.exchange(&mut world, &frame)), [1], "{why}");
            continue;
        };
        let hello = client.hello_bytes(BY_KEY, 0);
        let said = client.exchange(&mut world, &hello);
        let notice = said.iter().find_map(|said| match said {
            Said::Refused(notice) => Some(*notice),
            _ => None,
        });
        let notice = notice.unwrap();
        assert_eq!(notice.reason, Reason::CertificateRequired, "{why}");
        assert_eq!(
            (notice.seen, notice.needed),
            (seen, named.len() as u64),
            "{why}"
        );
        let counters = world.shard.counters();
        assert_eq!(counters.session.refused, 1, "{why}");
        assert_eq!(world.shard.sessions(), 0, "{why}");
    }
}

#[test]
fn a_plain_connection_shows_nothing_and_a_bad_proof_is_told_before() {
    let mut world = world(SENDER, &[FIRST]);
    let mut plain = Client::new(&mut world, SENDER, &key());
    let hello = plain.hello_bytes(BY_KEY, 0);
    let said = plain.exchange(&mut world, &hello);
    assert_eq!(reason(&said), Reason::CertificateRequired);
    for shown in [None, Some(FIRST), Some(OTHER_ONE)] {
        let mut guessing = showing(&mut world, shown, 8, b"a guess");
        let hello = guessing.hello_bytes(BY_KEY, 0);
        let said = guessing.exchange(&mut world, &hello);
        assert_eq!(reason(&said), Reason::BadCredential, "{shown:?}");
    }
}

#[test]
fn a_session_is_resumed_where_one_was_shown_again_and_not_elsewhere() {
    let mut world = world(SENDER, &[FIRST, SECOND]);
    let mut first = showing(&mut world, Some(FIRST), 1, &key());
    first.greet(&mut world, BY_KEY);
    let resume = first.keys.as_ref().unwrap().resume;
    for shown in [None, Some(OTHER_ONE)] {
        let mut thief = showing(&mut world, shown, 2, &resume);
        let hello = thief.hello_bytes(Auth::Resume(first.session), 0);
        let said = thief.exchange(&mut world, &hello);
        assert_eq!(reason(&said), Reason::CertificateRequired, "{shown:?}");
        let frame = first.send(&[b"still there"]);
        assert_eq!(acks(&first.exchange(&mut world, &frame)).len(), 1);
    }
    let mut second = showing(&mut world, Some(SECOND), 3, &resume);
    second.greet(&mut world, Auth::Resume(first.session));
    let frame = second.send(&[b"on"]);
    assert_eq!(acks(&second.exchange(&mut world, &frame)), [3]);
}

#[test]
fn a_new_table_that_names_another_ends_the_sessions_without_it_and_no_others() {
    for (why, shown, named, goes_on) in [
        ("names the one shown", Some(FIRST), &[FIRST][..], true),
        ("names one more", Some(FIRST), &[FIRST, SECOND][..], true),
        ("names none", Some(FIRST), &[][..], true),
        ("names another", Some(FIRST), &[SECOND][..], false),
        ("names the first", None, &[FIRST][..], false),
    ] {
        let mut world = world(SENDER, shown.as_slice());
        let mut sender = showing(&mut world, shown, 4, &key());
        sender.greet(&mut world, BY_KEY);
        let mut relay = Client::connect(&mut world, RELAY, 3);
        let mut new = naming(SENDER, named);
        new.epoch = 2;
        world.swap_table(new);
        let frame = sender.send(&[b"now"]);
        let said = sender.exchange(&mut world, &frame);
        match goes_on {
            true => assert_eq!(acks(&said), [1], "{why}"),
            false => assert_eq!(reason(&said), Reason::CertificateRequired, "{why}"),
        }
        assert_eq!(world.shard.sessions(), 1 + usize::from(goes_on), "{why}");
        let frame = relay.send(&[b"x"]);
        assert_eq!(acks(&relay.exchange(&mut world, &frame)), [1], "{why}");
    }
}

#[test]
fn a_session_ends_when_the_certificate_does_that_was_shown_for_it() {
    let over = Notice::new(Reason::CertificateRequired, 2, 2);
    let mut world = world(SENDER, &[FIRST, SECOND]);
    let mut first = in_tunnel(&mut world, ending(FIRST, 40), 1, &key());
    first.greet(&mut world, BY_KEY);
    world.pass(Duration::from_secs(39));
    let frame = first.send(&[b"in time"]);
    assert_eq!(acks(&first.exchange(&mut world, &frame)), [1]);
    world.pass(Duration::from_secs(1));
    let frame = first.send(&[b"too late"]);
    let said = first.exchange(&mut world, &frame);
    assert!(said.contains(&Said::Goaway(over)), "{said:?}");
    assert_eq!((acks(&said).len(), world.shard.sessions()), (0, 0));
    // Nor does a tunnel that still stands open another.
    let mut late = in_tunnel(&mut world, ending(FIRST, 40), 2, &key());
    let hello = late.hello_bytes(BY_KEY, 0);
    let said = late.exchange(&mut world, &hello);
    assert_eq!(said.last(), Some(&Said::Refused(over)));
    let mut second = in_tunnel(&mut world, ending(SECOND, 3_600), 3, &key());
    second.greet(&mut world, BY_KEY);
    let frame = second.send(&[b"the new one"]);
    assert_eq!(acks(&second.exchange(&mut world, &frame)), [2]);
}

#[test]
fn a_session_goes_on_where_the_certificate_was_renewed_and_where_none_is_named() {
    let mut world = world(SENDER, &[FIRST, SECOND]);
    let mut first = in_tunnel(&mut world, ending(FIRST, 10), 1, &key());
    first.greet(&mut world, BY_KEY);
    world.cut(first.connection);
    world.settle();
    world.pass(Duration::from_secs(11));
    let resume = first.keys.as_ref().unwrap().resume;
    let mut second = in_tunnel(&mut world, ending(SECOND, 50), 2, &resume);
    second.greet(&mut world, Auth::Resume(first.session));
    let frame = second.send(&[b"on"]);
    assert_eq!(acks(&second.exchange(&mut world, &frame)), [1]);
    // A table that names none any more asks for none, and one that names one again looks at its end.
    let mut new = naming(SENDER, &[]);
    new.epoch = 2;
    world.swap_table(new);
    world.pass(Duration::from_secs(45));
    let frame = second.send(&[b"and on"]);
    assert_eq!(acks(&second.exchange(&mut world, &frame)), [2]);
    let mut new = naming(SENDER, &[SECOND]);
    new.epoch = 3;
    world.swap_table(new);
    let frame = second.send(&[b"no more"]);
    let said = second.exchange(&mut world, &frame);
    assert_eq!(reason(&said), Reason::CertificateRequired);
}

#[test]
fn envelopes_of_who_names_certificates_are_not_relayed() {
    for (named, want) in [(&[][..], None), (&[FIRST][..], Some(Reason::UnknownSender))] {
        let mut world = world(SENSOR, named);
        let mut relay = Client::connect(&mut world, RELAY, 3);
        let signing = secret(4);
        let signer = Signer::Key {
            id: KeyId(1),
            key: signing.mac(),
        };
        let inner = envelope(1, signer, &[b"relayed"]);
        let frame = relay.relay(1, &inner);
        let said = relay.exchange(&mut world, &frame);
        let rejected = rejects(&said).first().map(|(_, reason)| *reason);
        assert_eq!(rejected, want, "{named:?}");
        let appended = world.shard.counters().append.frames;
        assert_eq!(appended, u64::from(want.is_none()), "{named:?}");
    }
}
