//! Tunnels between two ends in memory: whatever the cuts, whatever is changed on the way, and who is trusted.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

use std::io::{Read, Write};
use std::sync::Arc;

use tls::rustls::{ClientConfig, ClientConnection, Connection, ProtocolVersion, RootCertStore};
use tls::{Certificate, Client, Fingerprint, HttpServer, Served, Server, Trust, Tunnel};

/// A server with a certificate of its own, and the PEM of its authority, which is itself.
fn server() -> (Server, Vec<u8>, Fingerprint) {
    let (certificate, pem) = pair();
    let fingerprint = certificate.fingerprint();
    let server = Server::new(Served::new(certificate)).unwrap();
    (server, pem, fingerprint)
}

/// A certificate with its key, and its PEM.
fn pair() -> (Certificate, Vec<u8>) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let certificate = Certificate::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
    (certificate, pem.into_bytes())
}

fn trusting(pem: &[u8]) -> Client {
    Client::new(&Trust::Roots(pem.to_vec()), "localhost").unwrap()
}

/// Hand over what `from` has to say, and take plaintext out at `to`. Whether it was good.
fn pass(from: &mut Tunnel, to: &mut Tunnel, plaintext: &mut Vec<u8>) -> Result<bool, tls::Broken> {
    let mut bytes = Vec::new();
    from.flush(&mut bytes);
    to.receive(&bytes, plaintext)?;
    Ok(!bytes.is_empty())
}

/// Let both ends shake hands.
fn shake(client: &mut Tunnel, server: &mut Tunnel) -> Result<(), tls::Broken> {
    let mut nothing = Vec::new();
    while pass(client, server, &mut nothing)? | pass(server, client, &mut nothing)? {}
    assert!(nothing.is_empty() && client.stands() && server.stands());
    Ok(())
}

fn count(default: u64) -> u64 {
    let set = std::env::var("FOREBAY_TUNNEL_SEEDS");
    set.map_or(default, |text| text.parse().unwrap())
}

#[test]
fn whatever_the_cuts_plaintext_comes_out_whole_and_in_order() {
    let (server, pem, _) = server();
    let seeds = count(40);
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut left, mut right) = (trusting(&pem).tunnel().unwrap(), server.tunnel().unwrap());
        shake(&mut left, &mut right).unwrap();
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let most = [1, 100, 5_000, 70_000][random.usize(..4)];
            let piece: Vec<u8> = (0..random.usize(..=most)).map(|_| random.u8(..)).collect();
            let mut bytes = Vec::new();
            left.send(&piece, &mut bytes);
            sent.extend_from_slice(&piece);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(random.usize(1..=rest.len()));
                right.receive(now, &mut got).unwrap();
                rest = later;
            }
            assert_eq!(got.len(), sent.len(), "seed {seed}");
        }
        assert_eq!(got, sent, "seed {seed}");
        let (mut end, before) = (Vec::new(), got.len());
        left.finish(&mut end);
        assert!(!right.peer_finished());
        right.receive(&end, &mut got).unwrap();
        assert!(right.peer_finished() && got.len() == before, "seed {seed}");
        right.receive(b"behind the end", &mut got).unwrap();
        assert_eq!(got.len(), before, "seed {seed}");
    }
    println!(
        "{seeds} seeds; replay with FOREBAY_TUNNEL_SEEDS=<seed + 1> cargo test -p forebay-tls --test tunnel"
    );
}

#[test]
fn what_was_changed_on_the_way_never_comes_out_and_nothing_panics() {
    let (server, pem, _) = server();
    let seeds = count(400);
    let (mut unshaken, mut broken) = (0, 0);
    for seed in 0..seeds {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut left, mut right) = (trusting(&pem).tunnel().unwrap(), server.tunnel().unwrap());
        let mut spoil = |bytes: &mut Vec<u8>| match (bytes.is_empty(), random.u8(..4)) {
            (false, 0) => {
                let at = random.usize(..bytes.len());
                bytes[at] ^= random.u8(1..);
            }
            (false, 1) => bytes.truncate(random.usize(..bytes.len())),
            (_, 2) => {
                let at = random.usize(..=bytes.len());
                bytes.splice(at..at, (0..random.u8(1..40)).map(|_| 0x17));
            }
            _ => {}
        };
        // Half of the seeds are disturbed while they shake hands, the others afterwards.
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        if seed % 2 == 0 {
            let mut failed = false;
            for turn in 0..6 {
                let (mut bytes, ends) = (Vec::new(), [&mut left, &mut right]);
                let [from, to] = if turn % 2 == 0 {
                    ends
                } else {
                    let [left, right] = ends;
                    [right, left]
                };
                from.flush(&mut bytes);
                spoil(&mut bytes);
                failed |= to.receive(&bytes, &mut got).is_err();
            }
            unshaken += u32::from(failed || !right.stands());
            assert!(got.is_empty(), "seed {seed}: nobody said a word");
            continue;
        }
        shake(&mut left, &mut right).unwrap();
        for number in 0..10_u8 {
            let piece = vec![number; 1 + usize::from(number) * 700];
            let mut bytes = Vec::new();
            left.send(&piece, &mut bytes);
            sent.extend_from_slice(&piece);
            spoil(&mut bytes);
            if right.receive(&bytes, &mut got).is_err() {
                broken += 1;
                break;
            }
        }
        assert!(
            sent.starts_with(&got),
            "seed {seed}: {} of {}",
            got.len(),
            sent.len()
        );
    }
    println!(
        "{seeds} seeds: {unshaken} handshakes and {broken} tunnels broken, 0 changed bytes came out; replay with FOREBAY_TUNNEL_SEEDS=<seed + 1>"
    );
    assert!(unshaken > 0 && broken > 0);
}

#[test]
fn a_client_takes_the_certificate_that_it_was_told_to_trust_and_no_other() {
    let (server, pem, fingerprint) = server();
    let (_, other, _) = self::server();
    let mut wrong = fingerprint;
    wrong.0[31] ^= 1;
    for (why, trust, name, good) in [
        (
            "its authority",
            Trust::Roots(pem.clone()),
            "localhost",
            true,
        ),
        (
            "its authority, by address",
            Trust::Roots(pem.clone()),
            "127.0.0.1",
            true,
        ),
        (
            "another name",
            Trust::Roots(pem.clone()),
            "pump.example",
            false,
        ),
        (
            "another address",
            Trust::Roots(pem.clone()),
            "127.0.0.2",
            false,
        ),
        ("another authority", Trust::Roots(other), "localhost", false),
        (
            "its fingerprint, whatever its name",
            Trust::Pin(fingerprint),
            "pump.example",
            true,
        ),
        (
            "a fingerprint that differs in one bit",
            Trust::Pin(wrong),
            "localhost",
            false,
        ),
    ] {
        let mut client = Client::new(&trust, name).unwrap().tunnel().unwrap();
        let shaken = shake(&mut client, &mut server.tunnel().unwrap());
        assert_eq!(shaken.is_ok(), good, "{why}: {shaken:?}");
    }
}

#[test]
fn both_ends_export_the_same_value_and_no_two_tunnels_do_tickets_or_not() {
    let (server, pem, _) = server();
    let client = trusting(&pem);
    let mut seen = std::collections::HashSet::new();
    for number in 0..8 {
        let (mut left, mut right) = (client.tunnel().unwrap(), server.tunnel().unwrap());
        assert_eq!((left.exporter(), right.exporter()), (None, None));
        shake(&mut left, &mut right).unwrap();
        assert_eq!(left.resumed(), number > 0, "a ticket is good for the next");
        assert_eq!(left.exporter(), right.exporter());
        assert!(seen.insert(left.exporter().unwrap()));
    }
}

#[test]
fn a_client_of_another_make_changes_its_keys_and_has_ours_changed() {
    let (server, pem, _) = server();
    let name = "localhost".try_into().unwrap();
    let mut client: Connection = ClientConnection::new(trusting(&pem).config(), name)
        .unwrap()
        .into();
    let (mut right, mut got) = (server.tunnel().unwrap(), Vec::new());
    for round in 0..8_u8 {
        // The first rounds are the handshake; each later one is under other keys than the last.
        let mut bytes = Vec::new();
        if !client.is_handshaking() {
            client.refresh_traffic_keys().unwrap();
            client.writer().write_all(&[round]).unwrap();
        }
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        right.receive(&bytes, &mut got).unwrap();
        let mut answer = Vec::new();
        right.send(&[round], &mut answer);
        right.flush(&mut answer);
        let mut rest = &answer[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
        if got.last() == Some(&round) {
            // Two records: new keys, and one byte.
            assert!(answer.len() >= 27 + 23, "round {round}: {}", answer.len());
            let mut heard = [0; 2];
            let heard = client
                .reader()
                .read(&mut heard)
                .map(|bytes| heard[..bytes].to_vec());
            assert!(heard.unwrap().ends_with(&[round]), "round {round}");
        }
    }
    assert!(got.len() >= 5, "{got:?}");
}

#[test]
fn a_client_of_tls_1_2_has_its_tunnel_too() {
    let (server, pem, _) = server();
    let mut roots = RootCertStore::empty();
    roots
        .add(tls::certificates(&pem).unwrap()[0].clone())
        .unwrap();
    let provider = Arc::new(tls::rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&tls::rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![tls::PROTOCOL.to_vec()];
    config.require_ems = true;
    let name = "localhost".try_into().unwrap();
    let mut client: Connection = ClientConnection::new(Arc::new(config), name)
        .unwrap()
        .into();
    let (mut right, mut got) = (server.tunnel().unwrap(), Vec::new());
    client.writer().write_all(b"older").unwrap();
    for _ in 0..4 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        for byte in bytes {
            right.receive(&[byte], &mut got).unwrap();
        }
        let mut answer = Vec::new();
        right.flush(&mut answer);
        client.read_tls(&mut &answer[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    assert!(right.stands() && got == b"older");
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let exported = client.export_keying_material([0; 32], tls::EXPORTER_LABEL, None);
    assert_eq!(right.exporter(), exported.ok());
}

#[test]
fn http_is_spoken_with_who_names_it_or_nothing_and_with_nobody_else() {
    let (certificate, pem) = pair();
    let served = Served::new(certificate);
    let (server, http) = (Server::new(Arc::clone(&served)), HttpServer::new(served));
    let (server, http, client) = (server.unwrap(), http.unwrap(), trusting(&pem));
    let (mut left, mut right) = (client.http_tunnel().unwrap(), http.tunnel().unwrap());
    shake(&mut left, &mut right).unwrap();
    let (mut bytes, mut got) = (Vec::new(), Vec::new());
    right.send(b"hello", &mut bytes);
    left.receive(&bytes, &mut got).unwrap();
    assert_eq!(got, b"hello");
    let (mut left, mut right) = (client.tunnel().unwrap(), http.tunnel().unwrap());
    assert!(shake(&mut left, &mut right).is_err(), "forebay/1 to HTTP");
    let (mut left, mut right) = (client.http_tunnel().unwrap(), server.tunnel().unwrap());
    assert!(shake(&mut left, &mut right).is_err(), "HTTP to forebay/1");
    let mut nameless = (*client.config()).clone();
    nameless.alpn_protocols.clear();
    let name = "localhost".try_into().unwrap();
    let nameless = ClientConnection::new(Arc::new(nameless), name).unwrap();
    let (mut nameless, mut right): (Connection, _) = (nameless.into(), http.tunnel().unwrap());
    for _ in 0..3 {
        let (mut bytes, mut answer) = (Vec::new(), Vec::new());
        while nameless.wants_write() {
            nameless.write_tls(&mut bytes).unwrap();
        }
        right.receive(&bytes, &mut got).unwrap();
        right.flush(&mut answer);
        nameless.read_tls(&mut &answer[..]).unwrap();
        nameless.process_new_packets().unwrap();
    }
    assert!(right.stands() && !nameless.is_handshaking());
}

#[test]
fn a_fingerprint_reads_as_it_is_shown_with_colons_or_without() {
    let shown = "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1a:1b:1c:1d:1e:1f";
    let parsed = Fingerprint::parse(shown).unwrap();
    assert_eq!(parsed.0, std::array::from_fn(|at| at as u8));
    assert_eq!(Fingerprint::parse(&parsed.to_string()), Some(parsed));
    for bad in [
        "",
        "00",
        &shown[3..],
        &shown.replace('1', "g"),
        &shown.replace("00", "+0"),
    ] {
        assert_eq!(Fingerprint::parse(bad), None, "{bad}");
    }
}
