//! Endpoints that name certificates, over TLS: welcome in a tunnel that showed one of them, on whatever shard, also with a ticket, and in no other.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::net::SocketAddr;

use node::config::NodeConfig;
use node::placement::Shards;
use node::{Ask, ClientCertificates, NodeHandle};
use support::*;
use tls::{Certificate, Client as Trusting, Trust};
use wire::ids::{AckMode, Fingerprint};
use wire::reason::Reason;

/// A node's configuration with TLS that asks, and whom its clients trust.
fn asking(data: &std::path::Path, ask: Ask) -> (NodeConfig, Trust) {
    let (files, authority) = certificate(data);
    let mut config = config(&data.join("logs"));
    config.listen_tls = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.tls = Some(files);
    config.clients = ClientCertificates {
        ask,
        authority: None,
    };
    (config, Trust::Roots(authority))
}

/// A certificate of a client's, with its key, and its PEM.
fn own() -> (Certificate, String) {
    let made = rcgen::generate_simple_self_signed(["pump-7".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let own = Certificate::from_pem(pem.as_bytes(), key.as_bytes());
    (own.unwrap(), pem)
}

fn named(certificate: &Certificate) -> Fingerprint {
    Fingerprint(certificate.fingerprint().0)
}

/// Connect and say HELLO; why not, if it is refused. Whether a ticket made the tunnel.
fn greet(node: &NodeHandle, client: &Trusting, name: &str) -> (Result<Client, Reason>, bool) {
    let stream = dial(node.listen_tls_addr().unwrap());
    let tunnel = shake(&stream, client).unwrap();
    let (resumed, exporter) = (tunnel.resumed(), tunnel.exporter());
    let greeted = Client::try_greet(stream, Some(tunnel), exporter, name);
    let greeted = greeted.map_err(|said| match said {
        Said::Refused(notice) => notice.reason,
        other => panic!("{other:?} is no refusal"),
    });
    (greeted, resumed)
}

#[test]
fn an_endpoint_that_names_certificates_is_welcome_where_one_was_shown_on_every_shard() {
    const SENDERS: usize = 8;
    for shards in [1, 3] {
        let data = tempfile::tempdir().unwrap();
        let (mut config, trust) = asking(data.path(), Ask::Asked);
        config.shards = Shards::Count(shards);
        let (right, other) = (own().0, own().0);
        let mut parts = parts(AckMode::Local, SENDERS);
        parts.hubs[0].partitions = 6;
        for endpoint in &mut parts.endpoints[1..SENDERS] {
            endpoint.certificates = vec![named(&right), Fingerprint([7; 32])];
        }
        let node = try_start(config, table(parts)).unwrap();
        let showing = |own| Trusting::showing(&trust, "localhost", own).unwrap();
        // Each keeps its tickets: all but its first tunnel are resumed, on whatever shard the kernel chose.
        let [right, other, none] = [Some(&right), Some(&other), None].map(showing);
        let (mut resumed, mut refused) = (0, 0);
        for number in 0..SENDERS {
            for (why, client, good) in [
                ("shows another", &other, number == 0),
                ("shows none", &none, number == 0),
                ("shows it", &right, true),
            ] {
                let (greeted, again) = greet(&node, client, &sender(number));
                resumed += u32::from(again);
                match greeted {
                    Ok(mut client) if good => {
                        client.send(&[b"through"]);
                        client.wait_acked(client.sequence - 1);
                    }
                    Err(Reason::CertificateRequired) if !good => refused += 1,
                    other => panic!("{shards} shards, {number} {why}: {:?}", other.err()),
                }
            }
        }
        assert!(resumed >= 3 * (SENDERS as u32 - 1), "{resumed} resumed");
        let plain = Client::try_greet(dial(node.listen_addr()), None, None, &sender(1));
        assert!(
            matches!(plain, Err(Said::Refused(_))),
            "nothing is shown there"
        );
        let admin = node.admin_addr();
        let counted = "forebay_rejects_total{code=\"FB-1125\",reason=\"certificate_required\"}";
        assert_eq!(metric(admin, counted), Some(f64::from(refused + 1)));
        let moved = metric(admin, "forebay_connections_moved_total").unwrap_or(0.0);
        assert_eq!(moved > 0.0, shards > 1, "tunnels go with their identity");
        node.stop();
        node.join().unwrap();
        println!("{shards} shards: {resumed} resumed, {moved} moved, {refused} refused");
    }
}

#[test]
fn who_has_to_show_a_certificate_and_shows_none_gets_no_tunnel() {
    let data = tempfile::tempdir().unwrap();
    let (mut config, trust) = asking(data.path(), Ask::Required);
    let (right, pem) = own();
    let (other, _) = own();
    let authority = data.path().join("clients.pem");
    std::fs::write(&authority, pem).unwrap();
    config.clients.authority = Some(authority);
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let showing = |own| Trusting::showing(&trust, "localhost", own).unwrap();
    let (greeted, _) = greet(&node, &showing(Some(&right)), &sender(0));
    let mut good = greeted.unwrap();
    let refused = "forebay_tunnel_handshakes_total{result=\"refused\"}";
    for (number, own) in [None, Some(&other)].into_iter().enumerate() {
        let stream = dial(node.listen_tls_addr().unwrap());
        // The client's half of the handshake may be done before the server says no.
        let _ = shake(&stream, &showing(own));
        until("it is refused", || {
            metric(node.admin_addr(), refused) == Some(number as f64 + 1.0)
        });
    }
    good.send(&[b"still here"]);
    good.wait_acked(1);
    node.stop();
    node.join().unwrap();
}

#[test]
fn authorities_of_clients_are_replaced_without_a_restart_and_hold_for_who_has_a_ticket() {
    let data = tempfile::tempdir().unwrap();
    let (mut config, trust) = asking(data.path(), Ask::Required);
    let ([one, other], pems): ([_; 2], [_; 2]) = {
        let [(one, first), (other, second)] = [(); 2].map(|()| own());
        ([one, other], [first, second])
    };
    let authority = data.path().join("clients.pem");
    std::fs::write(&authority, &pems[0]).unwrap();
    config.clients.authority = Some(authority.clone());
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let admin = node.admin_addr();
    let showing = |own| Trusting::showing(&trust, "localhost", Some(own)).unwrap();
    let [one, other] = [&one, &other].map(showing);
    let (greeted, _) = greet(&node, &one, &sender(0));
    let mut stays = greeted.unwrap();
    assert!(greet(&node, &one, &sender(0)).1, "it has a ticket");
    let stale = |want| {
        until("the file was looked at", || {
            metric(admin, "forebay_certificate_stale") == Some(want)
        });
    };
    // What cannot be used changes nothing.
    std::fs::write(&authority, "no certificate").unwrap();
    stale(1.0);
    assert!(greet(&node, &one, &sender(0)).0.is_ok());
    std::fs::write(&authority, &pems[1]).unwrap();
    stale(0.0);
    // The client's half of a handshake may be done before the server says no.
    let refused = "forebay_tunnel_handshakes_total{result=\"refused\"}";
    let before = metric(admin, refused).unwrap();
    let _ = shake(&dial(node.listen_tls_addr().unwrap()), &one);
    until("it is refused", || {
        metric(admin, refused) == Some(before + 1.0)
    });
    for _ in 0..2 {
        let (greeted, _) = greet(&node, &other, &sender(0));
        stays = greeted.unwrap();
    }
    stays.send(&[b"through"]);
    stays.wait_acked(stays.sequence - 1);
    node.stop();
    node.join().unwrap();
}

#[test]
fn authorities_of_clients_that_cannot_be_read_keep_the_node_from_starting() {
    for (why, text, code) in [
        ("absent", None, 3121),
        ("none", Some("no certificate"), 3122),
    ] {
        let data = tempfile::tempdir().unwrap();
        let (mut config, _) = asking(data.path(), Ask::Asked);
        let authority = data.path().join("clients.pem");
        if let Some(text) = text {
            std::fs::write(&authority, text).unwrap();
        }
        config.clients.authority = Some(authority);
        let refused = try_start(config, table(parts(AckMode::Local, 1))).unwrap_err();
        assert_eq!(refused.code, code, "{why}: {refused}");
        assert!(
            refused.to_string().contains("client_ca"),
            "{why}: {refused}"
        );
    }
}

#[test]
fn a_node_without_a_plain_port_serves_over_tls_alone() {
    for shards in [1, 2] {
        let data = tempfile::tempdir().unwrap();
        let (mut config, trust) = asking(data.path(), Ask::Off);
        (config.listen, config.shards) = (None, Shards::Count(shards));
        let node = try_start(config, table(parts(AckMode::Durable, 2))).unwrap();
        assert_eq!(node.listen_plain_addr(), None);
        assert_eq!(Some(node.listen_addr()), node.listen_tls_addr());
        let trusts = Trusting::new(&trust, "localhost").unwrap();
        let connect = |name: &str| Client::connect_tls(node.listen_addr(), &trusts, name);
        for number in 0..2 {
            let mut client = connect(&sender(number));
            client.send(&[b"sealed"]);
            client.wait_acked(1);
        }
        let mut receiver = connect(RECEIVER);
        receiver.fetch(10);
        let (last, bodies) = receiver.take(2);
        assert_eq!(bodies, [b"sealed", b"sealed"]);
        receiver.settle(last);
        assert_eq!(http(node.admin_addr(), "GET", "/ready").0, 200);
        node.stop();
        assert_eq!(node.join().unwrap().counters.append.messages, 2);
    }
}
