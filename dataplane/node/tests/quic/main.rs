//! QUIC as its users see it, with quinn as the other side: the same journey on streams, shards, clients that move, who is refused.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod certificates;
mod client;
mod datagrams;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use client::{Quic, naming, runtime};
use node::config::NodeConfig;
use node::placement::Shards;
use node::{CertificateFiles, NodeHandle};
use support::*;
use wire::ids::AckMode;
use wire::reason::Reason;

/// A node's configuration with QUIC, and the certificate to trust.
fn with_quic(data: &Path, shards: u16) -> (NodeConfig, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = CertificateFiles {
        certificate: data.join("cert.pem"),
        key: data.join("key.pem"),
    };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let mut config = config(&data.join("logs"));
    config.listen_quic = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.tls = Some(files);
    config.shards = Shards::Count(shards);
    (config, made.cert.pem().into_bytes())
}

fn quic_addr(node: &NodeHandle) -> SocketAddr {
    node.listen_quic_addr().unwrap()
}

fn own(authority: &[u8]) -> quinn::ClientConfig {
    client::config(authority, tls::PROTOCOL)
}

#[test]
fn a_message_goes_from_send_to_settle_over_streams_of_one_connection() {
    let data = tempfile::tempdir().unwrap();
    let (config, authority) = with_quic(data.path(), 1);
    let node = try_start(config, table(parts(AckMode::Durable, 2))).unwrap();
    let runtime = runtime();
    let quic = Quic::connect(&runtime, quic_addr(&node), own(&authority));
    let mut sender = quic.client(&support::sender(0));
    sender.send(&[b"one", b"two"]);
    sender.wait_acked(1);
    let mut plain = Client::connect(node.listen_addr(), &support::sender(1));
    plain.send(&[b"beside"]);
    plain.wait_acked(1);
    let mut receiver = quic.client(RECEIVER);
    receiver.fetch(10);
    let (last, mut bodies) = receiver.take(3);
    bodies.sort_unstable();
    assert_eq!(bodies, [&b"beside"[..], b"one", b"two"]);
    receiver.settle(last);
    let admin = node.admin_addr();
    assert_eq!(metric(admin, "forebay_quic_lanes"), Some(2.0));
    let open = "forebay_quic_connections{state=\"open\"}";
    assert_eq!(metric(admin, open), Some(1.0));
    drop((sender, receiver));
    until("lanes end with their streams", || {
        metric(admin, "forebay_quic_lanes") == Some(0.0)
    });
    node.stop();
    assert_eq!(node.join().unwrap().counters.append.messages, 3);
}

#[test]
fn frames_of_every_length_and_many_at_once_come_through_a_stream_whole_and_in_order() {
    let data = tempfile::tempdir().unwrap();
    let (config, authority) = with_quic(data.path(), 1);
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let runtime = runtime();
    let quic = Quic::connect(&runtime, quic_addr(&node), own(&authority));
    let mut sender = quic.client(&support::sender(0));
    comes_whole_and_in_order(&mut sender, || quic.client(RECEIVER));
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_client_that_names_its_shard_takes_no_hop_and_one_that_does_not_is_served_all_the_same() {
    const SENDERS: usize = 16;
    for shards in [2, 5] {
        let data = tempfile::tempdir().unwrap();
        let (config, authority) = with_quic(data.path(), shards);
        let mut parts = parts(AckMode::Local, SENDERS);
        parts.hubs[0].partitions = 8;
        let node = try_start(config, table(parts)).unwrap();
        let (addr, admin, runtime) = (quic_addr(&node), node.admin_addr(), runtime());
        let hops = || metric(admin, "forebay_mesh_frames_total{frame=\"direct\"}").unwrap();
        let home = |name: &str| {
            let asked = Client::connect(node.listen_addr(), name);
            (asked.terms().home_shard.into(), asked.terms().shards.into())
        };
        let round = |lanes: &mut Vec<(Quic, Client)>, number| {
            lanes
                .iter_mut()
                .for_each(|(_, client)| client.send(&[b"sticky"]));
            lanes.iter_mut().for_each(|(_, client)| {
                client.wait_acked(number);
            });
        };
        let aware = |number| {
            let name = sender(number);
            let (shard, shards) = home(&name);
            let quic = Quic::connect(&runtime, addr, naming(own(&authority), shard, shards));
            let client = quic.client(&name);
            (quic, client)
        };
        let mut lanes: Vec<(Quic, Client)> = (0..SENDERS).map(aware).collect();
        (1..=20).for_each(|number| round(&mut lanes, number));
        assert_eq!(hops(), 0.0, "{shards} shards");
        let unaware = |number| {
            let quic = Quic::connect(&runtime, addr, own(&authority));
            let client = quic.client(&sender(number));
            (quic, client)
        };
        // The newer session takes each stream over, wherever it is.
        let mut lanes: Vec<(Quic, Client)> = (0..SENDERS).map(unaware).collect();
        (21..=40).for_each(|number| round(&mut lanes, number));
        let crossed = hops();
        assert!(
            crossed > 0.0,
            "{shards} shards: chance dealt everybody home"
        );
        let astray = "forebay_quic_datagrams_total{event=\"astray\"}";
        assert_eq!(metric(admin, astray), Some(0.0));
        node.stop();
        let counters = node.join().unwrap().counters;
        assert_eq!(counters.append.messages, 40 * SENDERS as u64);
        println!(
            "{shards} shards: 0 hops of {SENDERS} senders at home, {crossed} of as many anywhere"
        );
    }
}

#[test]
fn a_receiver_is_told_its_shard_and_finds_it() {
    const SHARDS: u64 = 4;
    let data = tempfile::tempdir().unwrap();
    let (config, authority) = with_quic(data.path(), SHARDS as u16);
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let (addr, runtime) = (quic_addr(&node), runtime());
    let mut homes = Vec::new();
    for shard in 0..SHARDS {
        let quic = Quic::connect(&runtime, addr, naming(own(&authority), shard, SHARDS));
        match quic.try_client(RECEIVER) {
            Ok(_) => homes.push(shard),
            Err(Said::Refused(notice)) => {
                assert_eq!(notice.reason, Reason::AnotherShard);
                assert_eq!(notice.seen, SHARDS);
                assert!(
                    notice.needed != shard && notice.retry_after_ms > 0,
                    "{notice:?}"
                );
                let again = naming(own(&authority), notice.needed, SHARDS);
                let quic = Quic::connect(&runtime, addr, again);
                drop(quic.client(RECEIVER));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(homes.len(), 1, "a queue is on one shard");
    node.stop();
    node.join().unwrap();
}

/// Datagrams of the small run; `FOREBAY_QUIC_DATAGRAMS=1000000` makes it a large one.
fn datagrams_wanted() -> u64 {
    let wanted = std::env::var("FOREBAY_QUIC_DATAGRAMS").ok();
    wanted.map_or(3_000, |text| text.parse().unwrap())
}

#[test]
fn clients_that_move_stay_on_their_shard_and_lose_nothing() {
    const SHARDS: u16 = 4;
    const MOVES_APART: Duration = Duration::from_millis(20);
    let data = tempfile::tempdir().unwrap();
    let (config, authority) = with_quic(data.path(), SHARDS);
    let mut parts = parts(AckMode::Local, 8);
    parts.hubs[0].partitions = 8;
    let node = try_start(config, table(parts)).unwrap();
    let (addr, admin, runtime) = (quic_addr(&node), node.admin_addr(), runtime());
    let mut lanes: Vec<(Quic, Client)> = (0..8)
        .map(|number| {
            let quic = Quic::connect(&runtime, addr, own(&authority));
            let client = quic.client(&sender(number));
            (quic, client)
        })
        .collect();
    let received = "forebay_quic_datagrams_total{event=\"received\"}";
    let (mut rounds, mut moves) = (0, 0);
    let mut moved = [None::<Instant>; 8];
    let wanted = datagrams_wanted();
    while metric(admin, received).unwrap() < wanted as f64 {
        for _ in 0..20 {
            rounds += 1;
            for (number, ((quic, client), moved)) in lanes.iter_mut().zip(&mut moved).enumerate() {
                client.send(&[format!("{number} {rounds}").as_bytes()]);
                // Each move takes some control frames, of which a client has 500 a second.
                if rounds % 5 == 0 && moved.is_none_or(|at| at.elapsed() >= MOVES_APART) {
                    *moved = Some(Instant::now());
                    quic.move_on();
                    moves += 1;
                }
            }
            lanes.iter_mut().for_each(|(_, client)| {
                client.wait_acked(rounds);
            });
        }
    }
    let astray = "forebay_quic_datagrams_total{event=\"astray\"}";
    assert_eq!(metric(admin, astray), Some(0.0), "after {moves} moves");
    let datagrams = metric(admin, received).unwrap();
    let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
    let mut last = [0; 8];
    while last.iter().sum::<u64>() < 8 * rounds {
        let count = (8 * rounds - last.iter().sum::<u64>()).min(1_000);
        // A message counts less than 64 bytes here; what is left over adds up.
        receiver.fetch_bytes(count as u32, 64 * count);
        let (number, bodies) = receiver.take(count as usize);
        receiver.settle(number);
        for body in bodies {
            let text = String::from_utf8(body).unwrap();
            let (who, round) = text.split_once(' ').unwrap();
            let last = &mut last[who.parse::<usize>().unwrap()];
            assert_eq!(round.parse(), Ok(*last + 1), "of sender {who}");
            *last += 1;
        }
    }
    assert_eq!(last, [rounds; 8], "read back");
    node.stop();
    let counters = node.join().unwrap().counters;
    assert_eq!(counters.append.messages, 8 * rounds);
    println!(
        "{datagrams} datagrams (at least {wanted}), {moves} moves on {SHARDS} shards: 0 astray, {} acked and read back, 0 lost, twice or out of order",
        8 * rounds
    );
}

#[test]
fn who_speaks_another_protocol_is_refused_and_others_go_on() {
    let data = tempfile::tempdir().unwrap();
    let (config, authority) = with_quic(data.path(), 1);
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let (addr, runtime) = (quic_addr(&node), runtime());
    let quic = Quic::connect(&runtime, addr, own(&authority));
    let mut good = quic.client(&sender(0));
    for alpn in [&b"h3"[..], b"forebay/2"] {
        let other = client::config(&authority, alpn);
        let refused = Quic::try_connect(&runtime, addr, other);
        assert!(
            refused.is_err(),
            "{:?} is taken",
            String::from_utf8_lossy(alpn)
        );
    }
    let plain = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for bytes in [&[0xC0; 40][..], &[0; 1], &[0x40; 1200], b"FBAY"] {
        plain.send_to(bytes, addr).unwrap();
    }
    good.send(&[b"still here"]);
    good.wait_acked(1);
    let failed = "forebay_quic_handshakes_total{event=\"failed\"}";
    until("two are counted", || {
        metric(node.admin_addr(), failed) == Some(2.0)
    });
    node.stop();
    node.join().unwrap();
}

/// Of a node that asks for proofs of addresses when more handshakes than this are under way.
const RETRY_ABOVE: u32 = 16;
const HANDSHAKING: &str = "forebay_quic_connections{state=\"handshake\"}";
const RETRIES: &str = "forebay_quic_handshakes_total{event=\"retry\"}";

/// Send first packets from a socket of their own, and no more.
fn begin_and_leave(packets: &[Vec<u8>], addr: SocketAddr) {
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for packet in packets {
        stranger.send_to(packet, addr).unwrap();
    }
}

#[test]
fn proofs_of_addresses_are_asked_for_in_a_flood_of_handshakes() {
    let data = tempfile::tempdir().unwrap();
    // Nobody is forgotten meanwhile, however slow this machine is.
    let (mut config, authority) = with_quic(data.path(), 1);
    config.quic.retry_above = RETRY_ABOVE;
    let node = try_start(config, table(parts(AckMode::Local, 2))).unwrap();
    let (addr, admin, runtime) = (quic_addr(&node), node.admin_addr(), runtime());
    let quic = Quic::connect(&runtime, addr, own(&authority));
    let mut good = quic.client(&sender(0));
    let packets = client::first_packets(&own(&authority), addr, 600);
    for (round, packets) in packets.chunks(20).enumerate() {
        begin_and_leave(packets, addr);
        good.send(&[b"in the flood"]);
        good.wait_acked(round as u64 + 1);
        let open = metric(admin, HANDSHAKING).unwrap();
        assert!(open <= f64::from(RETRY_ABOVE), "{open} in their handshake");
    }
    let retries = metric(admin, RETRIES);
    assert!(retries > Some(300.0), "{retries:?} proofs were asked for");
    assert!(metric(admin, "forebay_quic_retry_periods_total") >= Some(1.0));
    // Whoever means it comes in, and proves its address if it is asked to.
    let late = Quic::connect(&runtime, addr, own(&authority));
    drop(late.client(&sender(1)));
    node.stop();
    node.join().unwrap();
}

#[test]
fn proofs_of_addresses_are_asked_for_no_longer_than_the_flood_lasts() {
    let data = tempfile::tempdir().unwrap();
    let (mut config, authority) = with_quic(data.path(), 1);
    config.quic.retry_above = RETRY_ABOVE;
    config.timeouts.handshake = Duration::from_millis(500);
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let (addr, admin) = (quic_addr(&node), node.admin_addr());
    until("proofs are asked for", || {
        begin_and_leave(&client::first_packets(&own(&authority), addr, 20), addr);
        metric(admin, RETRIES) > Some(0.0)
    });
    until("those that did not go on are forgotten", || {
        metric(admin, HANDSHAKING) == Some(0.0)
            && metric(admin, "forebay_quic_retrying_shards") == Some(0.0)
    });
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_node_that_stops_says_so_on_every_lane_and_ends_its_connections() {
    let data = tempfile::tempdir().unwrap();
    let (config, authority) = with_quic(data.path(), 2);
    let node = try_start(config, table(parts(AckMode::Durable, 4))).unwrap();
    let (addr, runtime) = (quic_addr(&node), runtime());
    let connect = |number| {
        let quic = Quic::connect(&runtime, addr, own(&authority));
        let client = quic.client(&sender(number));
        (quic, client)
    };
    let mut lanes: Vec<(Quic, Client)> = (0..4).map(connect).collect();
    lanes
        .iter_mut()
        .for_each(|(_, client)| client.send(&[b"last"]));
    lanes.iter_mut().for_each(|(_, client)| {
        client.wait_acked(1);
    });
    node.stop();
    for (quic, client) in &mut lanes {
        let said = client.read();
        assert!(
            matches!(said, Said::Other(wire::frame::FrameKind::Goaway)),
            "{said:?}"
        );
        assert_eq!(client.read(), Said::End);
        let ended = runtime.block_on(quic.connection.closed());
        let quinn::ConnectionError::ApplicationClosed(close) = ended else {
            panic!("{ended}")
        };
        assert_eq!(close.error_code.into_inner(), 2);
    }
    node.join().unwrap();
}
