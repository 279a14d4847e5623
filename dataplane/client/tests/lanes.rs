//! What QUIC alone can do: several sessions on one connection that do not hold each other up, frames in datagrams, and a port where nobody
//! is that says so.

use client::fake::{Authority, CHANNEL, Fake, Fault, KEY};
use client::{ClientError, Connection, Credentials, Message, Options, Security, Transport};
use std::time::Duration;
use wire::ids::EndpointId;

fn server(faults: &[Fault]) -> (Fake, Options) {
    let authority = Authority::default();
    let fake = Fake::start_quic(faults, &authority.issue("127.0.0.1"), &[b"forebay/1"]);
    (fake, options(authority))
}

fn options(authority: Authority) -> Options {
    Options {
        transport: Transport::Quic(Security::authority(authority.pem)),
        handshake_timeout: Duration::from_secs(60),
        ..Options::default()
    }
}

fn credentials(endpoint: &str) -> Credentials {
    Credentials::key(endpoint, 1, KEY).expect("a well formed key")
}

async fn connect(fake: &Fake, options: Options) -> Connection {
    let addr = fake.addr.to_string();
    let connected = client::connect_with(addr, credentials("a/e/sender"), options).await;
    connected.expect("trusted")
}

#[tokio::test]
async fn sessions_on_lanes_of_one_connection_do_not_hold_each_other_up() {
    let (fake, options) = server(&[]);
    let first = connect(&fake, options).await;
    let other = first.another(credentials("a/e/sender-2")).await;
    let other = other.expect("a lane").sender().expect("an ingress key");
    let first = first.sender().expect("an ingress key");
    fake.state().stopped = Some(EndpointId::of("a/e/sender"));
    // More than the window of a stream.
    let long = "x".repeat(100_000);
    let mut tickets = Vec::new();
    for _ in 0..40 {
        let sent = first.send(CHANNEL, Message::new(long.clone())).await;
        tickets.push(sent.expect("granted"));
    }
    for body in 0..200 {
        let sent = other.send(CHANNEL, Message::new(body.to_string())).await;
        sent.expect("granted").await.expect("acked");
    }
    let stopped = |stored: &&client::fake::Stored| stored.sender == EndpointId::of("a/e/sender");
    let taken = fake.state().log.iter().filter(stopped).count();
    assert!(taken < 40, "it is not read");
    fake.state().stopped = None;
    for ticket in tickets {
        ticket.await.expect("acked, now that it is read");
    }
    assert_eq!(fake.state().tunnels.0, 1, "one handshake");
    let exporters = fake.state().exporters.clone();
    assert_eq!(exporters[0], exporters[1]);
    first.close().await.expect("open until now");
    let sent = other.send(CHANNEL, Message::new("still there")).await;
    sent.expect("granted").await.expect("acked");
    other.close().await.expect("open until now");
}

#[tokio::test]
async fn lanes_come_back_together_on_another_connection_and_lose_nothing() {
    // The cut ends one lane; the other one loses nothing by it.
    let (fake, options) = server(&[Fault::Cut(20)]);
    let first = connect(&fake, options).await;
    let other = first.another(credentials("a/e/sender-2")).await;
    let other = other.expect("a lane").sender().expect("an ingress key");
    let first = first.sender().expect("an ingress key");
    for body in 0..30 {
        for sender in [&first, &other] {
            let sent = sender.send(CHANNEL, Message::new(body.to_string())).await;
            sent.expect("granted").await.expect("acked");
        }
    }
    let mut bodies = fake.state().bodies();
    bodies.sort_unstable();
    let mut want: Vec<String> = (0..60).map(|body| (body / 2).to_string()).collect();
    want.sort_unstable();
    assert_eq!(bodies, want);
    first.close().await.expect("open until now");
    other.close().await.expect("open until now");
}

#[tokio::test]
async fn of_datagrams_those_that_ask_are_answered_and_lost_ones_are_told() {
    let (fake, options) = server(&[Fault::Miss(2)]);
    let datagrams = connect(&fake, options).await.datagrams();
    let datagrams = datagrams.expect("the server takes datagrams");
    let message = |body: &str| [Message::new(body)];
    let ask = |body: &str| datagrams.ask(CHANNEL, &message(body)).expect("granted");
    let first = ask("one").await.expect("acked");
    assert_eq!(first.sequence.0, 1);
    let lost = ask("two");
    assert_eq!(ask("three").await.expect("acked").sequence.0, 3);
    let told = lost.await;
    assert!(matches!(told, Err(ClientError::NoAnswer(_))), "{told:?}");
    datagrams.send(CHANNEL, &message("four")).expect("granted");
    assert_eq!(ask("five").await.expect("acked").sequence.0, 5);
    assert_eq!(fake.state().bodies(), ["one", "three", "four", "five"]);
    let long = "x".repeat(datagrams.frame_bytes_max());
    let refused = datagrams.send(CHANNEL, &message(&long));
    assert!(
        matches!(refused, Err(ClientError::Message(_))),
        "{refused:?}"
    );
    let nowhere = datagrams.send("a/e/elsewhere", &message("six"));
    assert!(
        matches!(nowhere, Err(ClientError::ChannelNotGranted { .. })),
        "{nowhere:?}"
    );
    datagrams.close().await;
}

#[tokio::test]
async fn datagrams_go_on_over_another_connection_and_their_numbers_too() {
    let (fake, options) = server(&[]);
    let datagrams = connect(&fake, options).await.datagrams();
    let datagrams = datagrams.expect("the server takes datagrams");
    let message = [Message::new("x")];
    let ask = || datagrams.ask(CHANNEL, &message);
    ask().expect("granted").await.expect("acked");
    fake.cut();
    // Until it is noticed answers are lost, and until it is mended nothing is taken.
    let receipt = loop {
        match ask() {
            Ok(asked) => match asked.await {
                // The lane that is cut may still have answered.
                Ok(receipt) if fake.state().tunnels.0 == 2 => break receipt,
                Ok(_) => {}
                Err(error) => assert!(error.is_passing(), "{error}"),
            },
            Err(error) => {
                assert!(error.is_passing(), "{error}");
                tokio::task::yield_now().await;
            }
        }
    };
    assert!(receipt.sequence.0 > 1, "{receipt:?}");
    datagrams.close().await;
}

#[tokio::test]
async fn a_port_where_nobody_is_says_so_long_before_a_handshake_ends() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let addr = socket.local_addr().expect("bound").to_string();
    drop(socket);
    let options = Options {
        // Far longer than any patience: without a word from the kernel this test would not end.
        handshake_timeout: Duration::from_secs(100_000),
        ..options(Authority::default())
    };
    let refused = client::connect_with(addr, credentials("a/e/sender"), options).await;
    let error = refused.expect_err("nobody is there");
    let ClientError::Connect { error: said, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(said.contains("refused"), "{said}");
    assert!(error.is_passing());
}
