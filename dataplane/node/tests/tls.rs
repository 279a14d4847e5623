//! Tunnels as their users see them: the same journey over TLS, who is refused, and tunnels that move between shards.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use node::config::{LogFormat, NodeConfig};
use node::log::Log;
use node::placement::Shards;
use node::{CertificateFiles, NodeHandle};
use support::*;
use tls::{Client as Trusting, Trust};
use wire::ids::AckMode;

fn with_tls(data: &Path) -> (NodeConfig, Trusting) {
    let (files, authority) = certificate(data);
    let mut config = config(&data.join("logs"));
    config.listen_tls = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.tls = Some(files);
    let trusts = Trusting::new(&Trust::Roots(authority), "localhost").unwrap();
    (config, trusts)
}

fn count(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn tls_addr(node: &NodeHandle) -> SocketAddr {
    node.listen_tls_addr().unwrap()
}

#[test]
fn a_message_goes_from_send_to_settle_through_tunnels() {
    let data = tempfile::tempdir().unwrap();
    let (config, trusts) = with_tls(data.path());
    let node = try_start(config, table(parts(AckMode::Durable, 2))).unwrap();
    let mut sender = Client::connect_tls(tls_addr(&node), &trusts, &support::sender(0));
    sender.send(&[b"one", b"two"]);
    sender.wait_acked(1);
    let mut plain = Client::connect(node.listen_addr(), &support::sender(1));
    plain.send(&[b"beside"]);
    plain.wait_acked(1);
    let mut receiver = Client::connect_tls(tls_addr(&node), &trusts, RECEIVER);
    receiver.fetch(10);
    let (last, mut bodies) = receiver.take(3);
    bodies.sort_unstable();
    assert_eq!(bodies, [&b"beside"[..], b"one", b"two"]);
    receiver.settle(last);
    let admin = node.admin_addr();
    assert_eq!(metric(admin, "forebay_tunnels_open"), Some(2.0));
    node.stop();
    assert_eq!(node.join().unwrap().counters.append.messages, 3);
}

#[test]
fn frames_of_every_length_and_many_at_once_come_through_a_tunnel_whole_and_in_order() {
    let data = tempfile::tempdir().unwrap();
    let (config, trusts) = with_tls(data.path());
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let mut sender = Client::connect_tls(tls_addr(&node), &trusts, &support::sender(0));
    let receiver = || Client::connect_tls(tls_addr(&node), &trusts, RECEIVER);
    comes_whole_and_in_order(&mut sender, receiver);
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_tunnel_goes_with_its_connection_to_the_shard_of_its_endpoint() {
    const SENDERS: usize = 16;
    for shards in [2, 5] {
        let data = tempfile::tempdir().unwrap();
        let (mut config, trusts) = with_tls(data.path());
        config.shards = Shards::Count(shards);
        let mut parts = parts(AckMode::Local, SENDERS);
        parts.hubs[0].partitions = 8;
        let node = try_start(config, table(parts)).unwrap();
        let connect = |number| Client::connect_tls(tls_addr(&node), &trusts, &sender(number));
        let mut clients: Vec<Client> = (0..SENDERS).map(connect).collect();
        let admin = node.admin_addr();
        let moved = metric(admin, "forebay_connections_moved_total").unwrap();
        assert!(moved > 0.0, "the kernel deals connections out");
        for round in 1..=50 {
            for client in &mut clients {
                client.send(&[b"sticky"]);
            }
            for client in &mut clients {
                client.wait_acked(round);
            }
        }
        assert_eq!(metric(admin, "forebay_tunnels_open"), Some(SENDERS as f64));
        let resumed = "forebay_tunnel_handshakes_total{result=\"resumed\"}";
        assert!(
            metric(admin, resumed).unwrap() > 0.0,
            "a ticket of one shard is good on all"
        );
        node.stop();
        let counters = node.join().unwrap().counters;
        assert_eq!(counters.append.messages, 50 * SENDERS as u64);
        let hops = &counters.mesh;
        assert_eq!((hops.frames_out, hops.frames_in), (0, 0), "{shards} shards");
        println!("{shards} shards: {moved} tunnels moved, 0 hops");
    }
}

#[test]
fn who_speaks_no_tls_or_another_protocol_is_closed_and_others_go_on() {
    let data = tempfile::tempdir().unwrap();
    let (config, trusts) = with_tls(data.path());
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let mut good = Client::connect_tls(tls_addr(&node), &trusts, &sender(0));
    for (why, bytes) in [
        ("a plain preface", &b"FBAY\0\x01\x01\0"[..]),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
        ("a record too long", &[22, 3, 1, 0xFF, 0xFF, 1]),
        ("a record of no kind", &[99, 3, 3, 0, 1, 0]),
    ] {
        let mut stream = dial(tls_addr(&node));
        stream.write_all(bytes).unwrap();
        let mut said = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut said);
        assert!(said.len() <= 7, "{why}: an alert at most, not {said:?}");
    }
    let other = Trusting::new(&Trust::Pin(tls::Fingerprint([0; 32])), "localhost").unwrap();
    let refused = shake(&dial(tls_addr(&node)), &other).unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    good.send(&[b"still here"]);
    good.wait_acked(1);
    let refused = "forebay_tunnel_handshakes_total{result=\"refused\"}";
    until("five are counted", || {
        metric(node.admin_addr(), refused) == Some(5.0)
    });
    node.stop();
    node.join().unwrap();
}

#[test]
fn handshakes_that_fail_count_against_their_address_and_refusals_of_our_certificate_do_not() {
    const MOST: u32 = 5;
    let data = tempfile::tempdir().unwrap();
    let (mut config, trusts) = with_tls(data.path());
    config.shard.loopback_exempt = false;
    config.bans.address_failures_max = MOST;
    let hour = std::time::Duration::from_secs(3_600);
    (config.bans.window, config.bans.first, config.bans.longest) = (hour, hour, hour);
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let (addr, admin) = (tls_addr(&node), node.admin_addr());
    let refused = |want: u32| {
        let series = "forebay_tunnel_handshakes_total{result=\"refused\"}";
        until("it is counted", || {
            metric(admin, series) == Some(f64::from(want))
        });
    };
    let bans = || metric(admin, "forebay_bans_total{who=\"address\"}");
    let other = Trusting::new(&Trust::Pin(tls::Fingerprint([0; 32])), "localhost").unwrap();
    for number in 1..=2 * MOST {
        shake(&dial(addr), &other).unwrap_err();
        refused(number);
    }
    let mut good = Client::connect_tls(addr, &trusts, &sender(0));
    assert_eq!(bans(), Some(0.0), "who refuses us is not banned");
    for number in 1..=MOST + 1 {
        let mut stream = dial(addr);
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut Vec::new());
        refused(2 * MOST + number);
    }
    until("the address is banned", || bans() == Some(1.0));
    assert!(shake(&dial(addr), &trusts).is_err(), "it is kept out");
    good.send(&[b"who is in stays in"]);
    good.wait_acked(1);
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_peer_that_leaves_its_handshake_lying_is_let_go() {
    let data = tempfile::tempdir().unwrap();
    let (mut config, trusts) = with_tls(data.path());
    config.timeouts.handshake = std::time::Duration::from_millis(100);
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let mut hello = Vec::new();
    trusts.tunnel().unwrap().flush(&mut hello);
    for bytes in [0, 1, hello.len() - 1, hello.len()] {
        let mut stream = dial(tls_addr(&node));
        // On a slow machine the node may be first, and a reset is an end as well.
        let _ = stream.write_all(&hello[..bytes]);
        let ended = stream.read_to_end(&mut Vec::new());
        let silence = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!ended.as_ref().is_err_and(silence), "{ended:?}");
    }
    until(
        "who has a tunnel is told why, and that nothing more comes",
        || {
            let mut silent = dial(tls_addr(&node));
            // It has a tunnel unless it was too slow to make one.
            let Ok(mut tunnel) = shake(&silent, &trusts) else {
                return false;
            };
            let (mut said, mut plain) = (Vec::new(), Vec::new());
            silent.read_to_end(&mut said).is_ok()
                && tunnel.receive(&said, &mut plain).is_ok()
                && tunnel.peer_finished()
                && !plain.is_empty()
        },
    );
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_pair_that_is_none_keeps_the_node_from_starting_and_is_named() {
    let data = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let (config, _) = with_tls(data.path());
    let (files, _) = certificate(other.path());
    let own = config.tls.clone().unwrap();
    for (why, certificate, key, code, shown) in [
        (
            "another's key",
            &own.certificate,
            &files.key,
            3122,
            "not the certificate's",
        ),
        (
            "no key in it",
            &own.certificate,
            &own.certificate,
            3122,
            "no private key",
        ),
        (
            "no certificate in it",
            &own.key,
            &own.key,
            3122,
            "no certificate",
        ),
        (
            "not there",
            &own.certificate,
            &data.path().join("absent"),
            3121,
            "No such file",
        ),
    ] {
        let mut config = config.clone();
        config.tls = Some(CertificateFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        });
        let refused = try_start(config, table(parts(AckMode::Local, 1))).unwrap_err();
        assert_eq!(refused.code, code, "{why}: {refused}");
        assert!(refused.to_string().contains(shown), "{why}: {refused}");
    }
}

#[test]
fn certificates_are_swapped_under_load_and_no_connection_is_dropped() {
    let swaps = count("FOREBAY_CERTIFICATE_SWAPS", 2);
    let data = tempfile::tempdir().unwrap();
    let (config, first) = with_tls(data.path());
    let node = try_start(config, table(parts(AckMode::Local, 3))).unwrap();
    let (addr, admin) = (tls_addr(&node), node.admin_addr());
    let over = std::sync::atomic::AtomicBool::new(false);
    let pem = || std::fs::read(data.path().join("cert.pem")).unwrap();
    // Made anew for each look: one that kept a ticket would not be shown a certificate.
    let trusting = |pem: &[u8]| Trusting::new(&Trust::Roots(pem.to_vec()), "localhost").unwrap();
    let mut longest = std::time::Duration::ZERO;
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..2)
            .map(|number| {
                let mut client = Client::connect_tls(addr, &first, &sender(number));
                let over = &over;
                scope.spawn(move || {
                    let mut sent = 0;
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        client.send(&[b"meanwhile"]);
                        sent += 1;
                        client.wait_acked(sent);
                    }
                    sent
                })
            })
            .collect();
        for swap in 1..=swaps {
            let before = pem();
            let (_, now) = certificate(data.path());
            let began = std::time::Instant::now();
            until("the new one is served", || {
                shake(&dial(addr), &trusting(&now)).is_ok()
            });
            longest = longest.max(began.elapsed());
            let old = shake(&dial(addr), &trusting(&before)).unwrap_err();
            assert!(old.contains("certificate"), "swap {swap}: {old}");
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        let sent: u64 = loads.into_iter().map(|load| load.join().unwrap()).sum();
        println!(
            "{swaps} swaps, longest {longest:?} until served, {sent} messages meanwhile, 0 connections dropped"
        );
        assert!(sent > swaps, "there was load");
    });
    let series = "forebay_certificate_changes_total{result=\"replaced\"}";
    assert_eq!(metric(admin, series), Some(swaps as f64));
    let mut again = Client::connect_tls(addr, &trusting(&pem()), &sender(2));
    again.send(&[b"after"]);
    again.wait_acked(1);
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_pair_that_does_not_fit_is_refused_while_running_and_the_one_in_use_stays() {
    let data = tempfile::tempdir().unwrap();
    let (config, trusts) = with_tls(data.path());
    let files = config.tls.clone().unwrap();
    let log = Lines::default();
    let told = std::sync::Arc::new(Log::new(LogFormat::Text, Box::new(log.clone())));
    let parts = table(parts(AckMode::Local, 1));
    let node = start_logged(config, parts, no_reload(), told).unwrap();
    let (addr, admin) = (tls_addr(&node), node.admin_addr());
    let stale = || metric(admin, "forebay_certificate_stale");
    assert_eq!(stale(), Some(0.0));
    let good = std::fs::read(&files.key).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&files.key, other.signing_key.serialize_pem()).unwrap();
    until("it is refused", || stale() == Some(1.0));
    let said = log.text();
    for part in [
        "certificate_refused",
        "FB-3122",
        "not the certificate's",
        "key.pem",
    ] {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
    let mut client = Client::connect_tls(addr, &trusts, &sender(0));
    client.send(&[b"under the old one"]);
    client.wait_acked(1);
    std::fs::write(&files.key, good).unwrap();
    until("it is good again", || stale() == Some(0.0));
    let refused = "forebay_certificate_changes_total{result=\"refused\"}";
    assert_eq!(metric(admin, refused), Some(1.0));
    node.stop();
    node.join().unwrap();
}

#[test]
fn a_certificate_that_ends_soon_is_told_of_at_start() {
    for (days, want) in [
        (40, None),
        (6, Some("certificate_ends_soon days=6")),
        (-1, Some("certificate_ended")),
    ] {
        let data = tempfile::tempdir().unwrap();
        let (config, _) = with_tls(data.path());
        let files = config.tls.clone().unwrap();
        let now = std::time::SystemTime::now();
        let day = std::time::Duration::from_secs(86_400);
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = (now - 90 * day).into();
        params.not_after = match u32::try_from(days) {
            Ok(days) => (now + days * day + day / 2).into(),
            Err(_) => (now - day / 2).into(),
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        std::fs::write(&files.certificate, made.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        let log = Lines::default();
        let told = std::sync::Arc::new(Log::new(LogFormat::Text, Box::new(log.clone())));
        let parts = table(parts(AckMode::Local, 1));
        let node = start_logged(config, parts, no_reload(), told).unwrap();
        let ends = metric(node.admin_addr(), "forebay_certificate_until_seconds").unwrap();
        let since = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        assert!(
            ((ends - since) / 86_400.0 - f64::from(days) - 0.5).abs() < 0.01,
            "{days}"
        );
        if let Some(want) = want {
            until(want, || log.text().contains(want));
        }
        node.stop();
        node.join().unwrap();
        assert_eq!(
            log.text().contains("certificate_end"),
            want.is_some(),
            "{days}"
        );
    }
}

/// What a log says, kept.
#[derive(Default, Clone)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
