//! Servers that ask their clients for certificates: what they learn, with a ticket too, and whom they refuse.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tls::rustls::pki_types::pem::PemObject;
use tls::rustls::pki_types::{PrivateKeyDer, UnixTime};
use tls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tls::rustls::time_provider::TimeProvider;
use tls::rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, version};
use tls::{Asking, Certificate, Client, Fingerprint, Served, Server, Shown, Taken, Trust, Tunnel};

/// A certificate with its key, good from one year to another, its PEM, and that of its key.
fn own(from: i32, until: i32) -> (Certificate, String, String) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let (pem, key) = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
    let made = Certificate::from_pem(pem.as_bytes(), key.as_bytes());
    (made.unwrap(), pem, key)
}

/// A server that asks, and whom its clients trust.
fn server(asking: &Asking) -> (Server, Trust) {
    let (shows, pem, _) = own(2020, 2090);
    let server = Server::asking(Served::new(shows), asking).unwrap();
    (server, Trust::Roots(pem.into_bytes()))
}

/// Hand over what each has to say until nobody has anything; the first fault, if there is one.
fn shake(left: &mut Tunnel, right: &mut Tunnel) -> Result<(), tls::Broken> {
    let (mut bytes, mut nothing) = (Vec::new(), Vec::new());
    loop {
        left.flush(&mut bytes);
        right.receive(&bytes, &mut nothing)?;
        let said = !std::mem::take(&mut bytes).is_empty();
        right.flush(&mut bytes);
        left.receive(&bytes, &mut nothing)?;
        if !said & std::mem::take(&mut bytes).is_empty() {
            return Ok(());
        }
    }
}

/// What a server that asks learns of who shows this, twice: the second time with a ticket. `None` if there is no tunnel.
fn learned(asking: &Asking, own: Option<&Certificate>) -> Option<Vec<Option<Fingerprint>>> {
    let (server, trust) = server(asking);
    let client = Client::showing(&trust, "localhost", own).unwrap();
    let once = |resumed| {
        // Each shard has a copy of the one server.
        let server = server.clone();
        let (mut left, mut right) = (client.tunnel().unwrap(), server.tunnel().unwrap());
        assert_eq!(right.shown(), None);
        shake(&mut left, &mut right).ok()?;
        assert!(left.stands() && right.stands() && right.resumed() == resumed);
        assert_eq!(right.shown_bytes(), 0, "nothing of it is kept in TLS 1.3");
        Some(right.shown().map(|shown| shown.fingerprint))
    };
    [false, true].into_iter().map(once).collect()
}

#[test]
fn a_server_that_asks_learns_who_is_there_also_from_a_ticket() {
    let (good, good_pem, _) = own(2020, 2090);
    let (ended, ended_pem, _) = own(2020, 2021);
    let (other, ..) = own(2020, 2090);
    let roots = |pem: &str| Taken::Roots(pem.as_bytes().to_vec());
    let (asked, required) = (Asking::Asked, Asking::Required);
    for (why, asking, own, tunnel, seen) in [
        ("not asked", Asking::Off, Some(&good), true, false),
        ("none", asked(Taken::Any), None, true, false),
        ("one", asked(Taken::Any), Some(&good), true, true),
        (
            "one that ended",
            asked(Taken::Any),
            Some(&ended),
            true,
            true,
        ),
        ("has to, none", required(Taken::Any), None, false, false),
        ("has to", required(Taken::Any), Some(&good), true, true),
        (
            "of the authority",
            required(roots(&good_pem)),
            Some(&good),
            true,
            true,
        ),
        (
            "of another",
            required(roots(&good_pem)),
            Some(&other),
            false,
            false,
        ),
        (
            "of another, need not",
            asked(roots(&good_pem)),
            Some(&other),
            false,
            false,
        ),
        ("none, need not", asked(roots(&good_pem)), None, true, false),
        (
            "ended, of the authority",
            asked(roots(&ended_pem)),
            Some(&ended),
            false,
            false,
        ),
    ] {
        let print = own.filter(|_| seen).map(Certificate::fingerprint);
        let want = tunnel.then(|| vec![print; 2]);
        assert_eq!(learned(&asking, own), want, "{why}");
    }
}

#[test]
fn nobody_has_more_kept_of_what_it_shows_than_may_be() {
    let (each, pem, key) = own(2020, 2090);
    let (server, trust) = server(&Asking::Asked(Taken::Any));
    let fit = tls::SHOWN_BYTES_MAX / each.chain()[0].len();
    for (certificates, good) in [(1, true), (fit, true), (fit + 1, false)] {
        let chain = pem.repeat(certificates);
        let long = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let client = Client::showing(&trust, "localhost", Some(&long)).unwrap();
        let (mut left, mut right) = (client.tunnel().unwrap(), server.tunnel().unwrap());
        let shaken = shake(&mut left, &mut right);
        assert_eq!(shaken.is_ok(), good, "{certificates} certificates");
        assert!(right.shown_bytes() <= tls::SHOWN_BYTES_MAX);
    }
}

#[test]
fn who_shows_anothers_certificate_without_its_key_gets_no_tunnel() {
    let (stolen, ..) = own(2020, 2090);
    let (_, _, key) = own(2020, 2090);
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let signer = tls::rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let mixed = CertifiedKey::new(stolen.chain().to_vec(), signer);
    for asking in [Asking::Asked(Taken::Any), Asking::Required(Taken::Any)] {
        let (server, trust) = server(&asking);
        let client = Client::new(&trust, "localhost").unwrap();
        let mut config = (*client.config()).clone();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(mixed.clone()));
        let name = "localhost".try_into().unwrap();
        let mut left: Connection = ClientConnection::new(Arc::new(config), name)
            .unwrap()
            .into();
        let mut right = server.tunnel().unwrap();
        let mut fault = None;
        while fault.is_none() && (left.wants_write() || right.wants_flush()) {
            let mut bytes = Vec::new();
            while left.wants_write() {
                left.write_tls(&mut bytes).unwrap();
            }
            fault = right.receive(&bytes, &mut Vec::new()).err();
            let mut bytes = Vec::new();
            right.flush(&mut bytes);
            left.read_tls(&mut &bytes[..]).unwrap();
            let _ = left.process_new_packets();
        }
        let fault = fault.map(|fault| fault.to_string());
        let named = fault
            .as_ref()
            .is_some_and(|fault| fault.contains("BadSignature"));
        assert!(named && right.shown().is_none(), "{asking:?}: {fault:?}");
    }
}

#[test]
fn authorities_that_are_none_keep_a_server_from_asking() {
    for (why, pem) in [
        ("empty", ""),
        (
            "no certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ),
    ] {
        let (shows, ..) = own(2020, 2090);
        let asking = Asking::Asked(Taken::Roots(pem.into()));
        let made = Server::asking(Served::new(shows), &asking);
        assert!(made.is_err(), "{why}");
    }
}

/// A clock that is set, in years.
#[derive(Debug)]
struct Year(AtomicU64);

impl TimeProvider for Year {
    fn current_time(&self) -> Option<UnixTime> {
        let days = (self.0.load(Ordering::Relaxed) - 1970) * 365 + 100;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            days * 86_400,
        )))
    }
}

/// Let a client shake hands. Whether it did with a ticket, or what the server says is wrong and what the client hears.
fn meet(server: &Server, config: &Arc<ClientConfig>) -> Result<bool, (String, String)> {
    met(server, config).map(|tunnel| tunnel.resumed())
}

/// The same; the server's side of the tunnel.
fn met(server: &Server, config: &Arc<ClientConfig>) -> Result<Tunnel, (String, String)> {
    let name = "localhost".try_into().unwrap();
    let mut left: Connection = ClientConnection::new(Arc::clone(config), name)
        .unwrap()
        .into();
    let mut right = server.tunnel().unwrap();
    let mut refused = None;
    loop {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        while left.wants_write() {
            left.write_tls(&mut there).unwrap();
        }
        if refused.is_none() {
            let received = right.receive(&there, &mut Vec::new());
            refused = received.err().map(|why| why.to_string());
        }
        right.flush(&mut back);
        let said = !back.is_empty();
        let mut back = &back[..];
        let mut heard = Ok(());
        while !back.is_empty() && heard.is_ok() {
            left.read_tls(&mut back).unwrap();
            heard = left.process_new_packets().map(|_| ());
        }
        match (refused.take(), heard) {
            (Some(why), heard) => {
                assert!(!right.stands() && right.shown().is_none());
                return Err((
                    why,
                    heard.err().map_or(String::new(), |heard| heard.to_string()),
                ));
            }
            (None, Err(heard)) => panic!("the client refuses: {heard}"),
            (None, Ok(())) if !said && !left.wants_write() => return Ok(right),
            (None, Ok(())) => {}
        }
    }
}

/// A client of this version that shows this and keeps its tickets.
fn client(trust: &Trust, own: &Certificate, key: &str, older: bool) -> Arc<ClientConfig> {
    let Trust::Roots(pem) = trust else {
        panic!("roots")
    };
    let mut roots = RootCertStore::empty();
    for root in tls::certificates(pem).unwrap() {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(tls::rustls::crypto::ring::default_provider());
    let versions = if older {
        [&version::TLS12]
    } else {
        [&version::TLS13]
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            own.chain().to_vec(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![tls::PROTOCOL.to_vec()];
    Arc::new(config)
}

/// A server that takes what leads to these, by a clock that stands at 2025.
fn by_the_clock(roots: &str) -> (Server, Trust, Arc<Year>) {
    let (shows, pem, _) = own(2020, 2090);
    let clock = Arc::new(Year(AtomicU64::new(2025)));
    let asking = Asking::Required(Taken::Roots(roots.into()));
    let at: Arc<dyn TimeProvider> = Arc::clone(&clock) as _;
    let server = Server::asking_at(Served::new(shows), &asking, at).unwrap();
    (server, Trust::Roots(pem.into_bytes()), clock)
}

#[test]
fn a_certificate_that_has_ended_since_it_was_shown_brings_nobody_in_with_a_ticket() {
    for older in [false, true] {
        let (shown, pem, key) = own(2020, 2030);
        let (server, trust, clock) = by_the_clock(&pem);
        let client = client(&trust, &shown, &key, older);
        assert_eq!(meet(&server, &client), Ok(false), "older {older}");
        for _ in 0..3 {
            assert_eq!(meet(&server, &client), Ok(true), "older {older}");
        }
        clock.0.store(2031, Ordering::Relaxed);
        let (why, heard) = meet(&server, &client).unwrap_err();
        assert!(why.contains("xpired"), "older {older}: {why}");
        // TLS 1.2 has no word for it at that point.
        assert!(older || heard.contains("CertificateExpired"), "{heard}");
        if !older {
            // No ticket was given with the refusal: the client shows what it has now.
            clock.0.store(2025, Ordering::Relaxed);
            assert_eq!(meet(&server, &client), Ok(false));
        }
    }
}

#[test]
fn the_end_of_a_certificate_is_known_where_an_authority_was_asked_about_it() {
    // The first second of 2090.
    const UNTIL: i64 = 3_786_912_000;
    let (shown, pem, key) = own(2020, 2090);
    for older in [false, true] {
        for (taken, until) in [
            (Taken::Any, None),
            (Taken::Roots(pem.clone().into_bytes()), Some(UNTIL)),
        ] {
            let (server, trust) = server(&Asking::Asked(taken));
            let client = client(&trust, &shown, &key, older);
            for resumed in [false, true] {
                let tunnel = met(&server, &client).unwrap();
                assert_eq!(tunnel.resumed(), resumed, "older {older}");
                let fingerprint = shown.fingerprint();
                let want = Some(Shown { fingerprint, until });
                assert_eq!(tunnel.shown(), want, "older {older}, resumed {resumed}");
            }
        }
    }
}

#[test]
fn authorities_of_clients_can_be_replaced_and_hold_for_tickets_of_before() {
    for older in [false, true] {
        let [
            (first, first_pem, first_key),
            (second, second_pem, second_key),
        ] = [(); 2].map(|()| own(2020, 2090));
        let (server, trust, _) = by_the_clock(&first_pem);
        // Each shard has a copy of the one server.
        let shard = server.clone();
        let one = client(&trust, &first, &first_key, older);
        let other = client(&trust, &second, &second_key, older);
        let greet = |config| meet(&shard, config).map_err(|_| ());
        assert_eq!([greet(&one), greet(&one)], [Ok(false), Ok(true)]);
        assert_eq!(greet(&other), Err(()));
        let roots = |pem: &str| Asking::Required(Taken::Roots(pem.into()));
        assert!(server.ask_anew(&roots("no certificate")).is_err());
        assert_eq!(greet(&one), Ok(true), "nothing has changed");
        server.ask_anew(&roots(&second_pem)).unwrap();
        assert_eq!(greet(&one), Err(()), "older {older}");
        assert_eq!([greet(&other), greet(&other)], [Ok(false), Ok(true)]);
        server.ask_anew(&roots(&(first_pem + &second_pem))).unwrap();
        assert_eq!([greet(&one), greet(&other)], [Ok(false), Ok(false)]);
    }
}
