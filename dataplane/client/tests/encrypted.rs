//! The client through tunnels, against servers made of rustls and of quinn: whom it takes, what binds a session to its tunnel, and
//! that a tunnel changes nothing of what it promises.

use client::fake::{Authority, CHANNEL, Fake, Fault, KEY, Pair, tls_config, tls_config_for};
use client::{
    ClientError, Connection, Credentials, FetchOptions, Fingerprint, Home, Identity, Message,
    Options, Security, Sender, Transport,
};
use std::time::Duration;

const FOREBAY: &[&[u8]] = &[b"forebay/1"];

/// The kinds of tunnel; what is promised of one is promised of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tls,
    Quic,
}

const KINDS: [Kind; 2] = [Kind::Tls, Kind::Quic];

impl Kind {
    fn start(self, faults: &[Fault], pair: &Pair, protocols: &[&[u8]]) -> Fake {
        match self {
            Self::Tls => Fake::start_tls(faults, tls_config(pair, protocols)),
            Self::Quic => Fake::start_quic(faults, pair, protocols),
        }
    }
}

async fn connect(
    kind: Kind,
    fake: &Fake,
    endpoint: &str,
    security: Security,
) -> Result<Connection, ClientError> {
    connect_to(kind, fake, endpoint, (security, None)).await
}

/// The same, and it believes to know where it is at home.
async fn connect_to(
    kind: Kind,
    fake: &Fake,
    endpoint: &str,
    (security, home): (Security, Option<Home>),
) -> Result<Connection, ClientError> {
    let credentials = Credentials::key(endpoint, 1, KEY).expect("a well formed key");
    let options = Options {
        transport: match kind {
            Kind::Tls => Transport::Tls(security),
            Kind::Quic => Transport::Quic(security),
        },
        handshake_timeout: Duration::from_secs(60),
        home,
        ..Options::default()
    };
    client::connect_with(fake.addr.to_string(), credentials, options).await
}

/// A server with a certificate for 127.0.0.1, and who signed that.
fn server(kind: Kind, faults: &[Fault]) -> (Fake, Security) {
    let authority = Authority::default();
    let fake = kind.start(faults, &authority.issue("127.0.0.1"), FOREBAY);
    (fake, Security::authority(authority.pem))
}

async fn sender(kind: Kind, fake: &Fake, security: Security) -> Sender {
    let connected = connect(kind, fake, "a/e/sender", security).await;
    connected.and_then(Connection::sender).expect("trusted")
}

fn named(security: Security, name: &str) -> Security {
    Security {
        server_name: Some(name.to_owned()),
        ..security
    }
}

fn code<T>(result: &Result<T, ClientError>) -> Option<u16> {
    result.as_ref().err().map(|error| error.diagnosis().code)
}

async fn there_and_back(kind: Kind) {
    let (fake, security) = server(kind, &[]);
    let sender = sender(kind, &fake, security.clone()).await;
    let mut tickets = Vec::new();
    for body in 0..500 {
        // Frames longer than a record or a packet, and many that share one.
        let long = "x".repeat(if body % 100 == 0 { 100_000 } else { 0 });
        let message = Message::new(format!("{body}{long}"));
        tickets.push(sender.send(CHANNEL, message).await.expect("granted"));
    }
    for ticket in tickets {
        ticket.await.expect("acked");
    }
    sender.close().await.expect("open until now");
    let sent = fake.state().bodies();
    assert_eq!(sent.len(), 500);
    let reader = connect(kind, &fake, "a/e/reader", security).await;
    let reader = reader.and_then(|reader| reader.receiver(FetchOptions::default()));
    let mut reader = reader.expect("an egress key");
    for body in sent {
        let delivery = reader.next().await.expect("open").expect("delivered");
        assert_eq!(delivery.body, body.as_bytes());
        reader.accept_through(&delivery).await.expect("open");
    }
    reader.close().await.expect("open until now");
}

#[tokio::test]
async fn messages_go_through_tls_and_come_back_through_it() {
    there_and_back(Kind::Tls).await;
}

#[tokio::test]
async fn messages_go_through_quic_and_come_back_through_it() {
    there_and_back(Kind::Quic).await;
}

#[tokio::test]
async fn nobody_is_taken_but_who_is_trusted() {
    let (authority, stranger) = (Authority::default(), Authority::default());
    let good = authority.issue("127.0.0.1");
    let ca = || Security::authority(authority.pem.clone());
    let pin = |pair: &Pair| Security::pinned(pair.fingerprint());
    let other_ca = || Security::authority(stranger.pem.clone());
    let old = authority.issue_until("127.0.0.1", 2_020);
    let elsewhere = authority.issue("127.0.0.2");
    let thief = Pair {
        key: stranger.issue("127.0.0.1").key,
        ..good.clone()
    };
    let old_elsewhere = named(pin(&old), "elsewhere");
    let other_pin = Security::pinned(Fingerprint([7; 32]));
    let (h2, none): (&[&[u8]], &[&[u8]]) = (&[b"h2"], &[]);
    for (why, pair, protocols, security, want) in [
        ("its authority", &good, FOREBAY, ca(), None),
        ("pinned", &good, FOREBAY, pin(&good), None),
        (
            "pinned, old and for another name",
            &old,
            FOREBAY,
            old_elsewhere,
            None,
        ),
        ("another authority", &good, FOREBAY, other_ca(), Some(5_114)),
        (
            "another name",
            &good,
            FOREBAY,
            named(ca(), "elsewhere"),
            Some(5_114),
        ),
        (
            "for another address",
            &elsewhere,
            FOREBAY,
            ca(),
            Some(5_114),
        ),
        ("another pin", &good, FOREBAY, other_pin, Some(5_114)),
        ("it has ended", &old, FOREBAY, ca(), Some(5_114)),
        ("without its key", &thief, FOREBAY, ca(), Some(5_114)),
        (
            "pinned, without its key",
            &thief,
            FOREBAY,
            pin(&good),
            Some(5_114),
        ),
        ("another protocol", &good, h2, ca(), Some(5_115)),
        ("no protocol", &good, none, ca(), Some(5_115)),
    ] {
        for kind in KINDS {
            let fake = kind.start(&[], pair, protocols);
            let connected = connect(kind, &fake, "a/e/sender", security.clone()).await;
            assert_eq!(code(&connected), want, "{kind:?}, {why}: {connected:?}");
            let hellos = usize::from(want.is_none());
            assert_eq!(fake.state().hellos.0, hellos, "{kind:?}, {why}");
        }
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_the_clients_own() {
    let (authority, stranger) = (Authority::default(), Authority::default());
    let config = tls_config_for(&authority.issue("127.0.0.1"), FOREBAY, &authority);
    let own = |pair: Pair| Some(Identity::new(pair.certificate, pair.key));
    for (why, identity, want) in [
        ("its own", own(authority.issue("sensor-7")), None),
        ("a stranger's", own(stranger.issue("sensor-7")), Some(5_115)),
        ("none", None, Some(5_115)),
    ] {
        let fake = Fake::start_tls(&[], config.clone());
        let security = Security {
            identity,
            ..Security::authority(authority.pem.clone())
        };
        let connected = connect(Kind::Tls, &fake, "a/e/sender", security).await;
        assert_eq!(code(&connected), want, "{why}: {connected:?}");
    }
}

#[tokio::test]
async fn a_plain_server_is_no_tunnel_and_a_tunnel_is_no_plain_server() {
    let (tunnelled, security) = server(Kind::Tls, &[]);
    let plain = Fake::start(&[]);
    let connected = connect(Kind::Tls, &plain, "a/e/sender", security).await;
    assert!(
        matches!(code(&connected), Some(5_102 | 5_115)),
        "{connected:?}"
    );
    let credentials = Credentials::key("a/e/sender", 1, KEY).expect("a well formed key");
    let connected = client::connect(tunnelled.addr.to_string(), credentials).await;
    assert!(
        matches!(code(&connected), Some(5_102 | 5_104)),
        "{connected:?}"
    );
}

async fn comes_back(kind: Kind) {
    let (fake, security) = server(kind, &[Fault::Cut(3), Fault::Cut(7)]);
    let sender = sender(kind, &fake, security).await;
    for body in 0..12 {
        let ticket = sender.send(CHANNEL, Message::new(body.to_string())).await;
        ticket.expect("granted").await.expect("acked");
    }
    sender.close().await.expect("open until now");
    let state = fake.state();
    let sent: Vec<String> = (0..12).map(|body| body.to_string()).collect();
    assert_eq!(state.bodies(), sent);
    assert_eq!(state.hellos, (1, 2), "once with the key, twice resumed");
    let mut exporters = state.exporters.clone();
    assert!(exporters.iter().all(|exporter| exporter.len() == 32));
    exporters.sort();
    exporters.dedup();
    assert_eq!(exporters.len(), 3, "one for each tunnel");
    assert_eq!(state.tunnels.0, 3);
    if kind == Kind::Tls {
        assert_eq!(state.tunnels.1, 2, "made with a ticket");
    }
}

#[tokio::test]
async fn a_session_comes_back_over_tls_with_a_ticket_and_another_exporter_value() {
    comes_back(Kind::Tls).await;
}

#[tokio::test]
async fn a_session_comes_back_over_quic_with_another_exporter_value() {
    comes_back(Kind::Quic).await;
}

#[tokio::test]
async fn over_quic_a_session_is_taken_to_its_home_shard_and_comes_back_there() {
    for (home, shards) in [(0, 1), (2, 3), (15, 16), (255, 256)] {
        let (fake, security) = server(Kind::Quic, &[Fault::Cut(1)]);
        fake.state().home = (home, shards);
        let sender = sender(Kind::Quic, &fake, security).await;
        for body in 0..3 {
            let ticket = sender.send(CHANNEL, Message::new(body.to_string())).await;
            ticket.expect("granted").await.expect("acked");
        }
        sender.close().await.expect("open until now");
        let state = fake.state();
        let here = |byte: &u8| u16::from(*byte) % shards == home;
        let strays = usize::from(!here(&state.arrivals[0]));
        assert_eq!(state.arrivals.len(), 2 + strays, "{:?}", state.arrivals);
        assert!(
            state.arrivals[strays..].iter().all(here),
            "{:?}",
            state.arrivals
        );
        assert_eq!(state.hellos, (1 + strays, 1), "with the key, and resumed");
        assert_eq!(state.bodies(), ["0", "1", "2"]);
    }
}

#[tokio::test]
async fn over_quic_who_knows_its_home_arrives_there_at_once_and_who_knows_another_comes_there_all_the_same()
 {
    let at = |shard, shards| Home { shard, shards };
    // Of 256 shards a random one is hardly ever the right one.
    for (known, first, arrivals) in [
        (at(77, 256), at(77, 256), 1),
        (at(3, 4), at(3, 4), 2),
        (at(0, 1), at(0, 1), 2),
        (at(9, 4), at(1, 4), 2),
        (at(5, 0), at(0, 1), 2),
    ] {
        let (fake, security) = server(Kind::Quic, &[Fault::Cut(1)]);
        fake.state().home = (77, 256);
        let security = (security, Some(known));
        let connected = connect_to(Kind::Quic, &fake, "a/e/sender", security).await;
        let connected = connected.expect("trusted");
        assert_eq!(connected.home(), at(77, 256));
        let seen = fake.state().arrivals.clone();
        assert!(
            seen[0] == 77 || seen.len() == arrivals,
            "{known:?}: {seen:?}"
        );
        assert!(first.is_met_by(seen[0]), "{known:?}: {seen:?}");
        assert_eq!(seen.last(), Some(&77), "{known:?}");
        // The node comes back with other shards; at home none of the connections that there are, which would be used again.
        let strange = |shard: &u16| u16::from(seen[0]) % 7 != *shard;
        let shard = (1..7).find(strange).expect("77 is shard 0 of 7");
        let sender = connected.sender().expect("an ingress key");
        fake.state().home = (shard, 7);
        for body in ["one", "two"] {
            let ticket = sender.send(CHANNEL, Message::new(body)).await;
            ticket.expect("granted").await.expect("acked");
        }
        sender.close().await.expect("open until now");
        let state = fake.state();
        let last = *state.arrivals.last().expect("it came");
        assert!(
            at(shard, 7).is_met_by(last),
            "{known:?}: {:?}",
            state.arrivals
        );
        assert_eq!(state.bodies(), ["one", "two"]);
    }
}

#[tokio::test]
async fn over_quic_a_receiver_that_is_refused_for_its_shard_comes_again_at_home() {
    // Of 256 shards a random one is hardly ever the right one.
    let (fake, security) = server(Kind::Quic, &[Fault::CutDelivery(2)]);
    let sender = sender(Kind::Quic, &fake, security.clone()).await;
    for body in 0..4 {
        let ticket = sender.send(CHANNEL, Message::new(body.to_string())).await;
        ticket.expect("granted").await.expect("acked");
    }
    sender.close().await.expect("open until now");
    fake.state().home = (77, 256);
    fake.state().arrivals.clear();
    let reader = connect(Kind::Quic, &fake, "a/e/reader", security).await;
    let reader = reader.and_then(|reader| reader.receiver(FetchOptions::default()));
    let mut reader = reader.expect("an egress key");
    for body in 0..4 {
        let delivery = reader.next().await.expect("open").expect("delivered");
        assert_eq!(delivery.body, body.to_string().as_bytes());
        reader.accept_through(&delivery).await.expect("open");
    }
    reader.close().await.expect("open until now");
    let arrivals = fake.state().arrivals.clone();
    assert!(arrivals.len() >= 2, "cut once: {arrivals:?}");
    let stray = usize::from(arrivals[0] != 77);
    assert!(
        arrivals[stray..].iter().all(|byte| *byte == 77),
        "{arrivals:?}"
    );
}
