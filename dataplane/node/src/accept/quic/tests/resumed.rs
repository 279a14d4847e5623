//! A ticket brings in whom its certificate would bring in now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn_proto::ClientConfig;
use quinn_proto::crypto::rustls::QuicClientConfig;
use tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tls::rustls::time_provider::TimeProvider;
use tls::{Asking, Certificate, Served, Server, Taken};

use super::super::settings::Settings;
use super::super::world::{Client, draw};
use super::*;

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

/// A client's certificate that is good from 2020 to 2030, its PEM and its key.
fn own() -> (CertificateDer<'static>, String, PrivateKeyDer<'static>) {
    let mut params = rcgen::CertificateParams::new(vec!["pump-7".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let made = params.self_signed(&key).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    (made.der().clone(), made.pem(), key)
}

/// A server that takes this certificate, by that clock, and what trusts it.
fn asks(pem: &str, clock: &Arc<Year>) -> (Server, Trust) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
    let (own, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let served = Certificate::from_pem(own.as_bytes(), key.as_bytes()).expect("a pair");
    let asking = Asking::Required(Taken::Roots(pem.into()));
    let at: Arc<dyn TimeProvider> = Arc::clone(clock) as _;
    let server = Server::asking_at(Served::new(served), &asking, at).expect("authorities");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    (server, Trust::of(made.cert.der().clone(), key))
}

/// The world with another try of a client. Whether it got in, and why not.
fn meet(world: &mut World, config: &ClientConfig) -> Result<(), String> {
    let before = world.quic.counters();
    let address = SocketAddr::from(([198, 51, 100, 7], world.client.address.port() + 1));
    world.client = Client::connect(config.clone(), world.now, [world.rng.u8(..); 32], address);
    let over = world.run(Duration::from_secs(60), |world| {
        let now = world.quic.counters();
        now.connected > before.connected || world.client.lost.is_some()
    });
    assert!(over, "{}", told(world, 1));
    match &world.client.lost {
        Some(why) => Err(why.clone()),
        None => {
            // So that it has its ticket.
            world.talk(1, 10);
            assert!(world.run(Duration::from_secs(5), |world| {
                world.client.talks[0].finished
            }));
            Ok(())
        }
    }
}

#[test]
fn a_certificate_that_has_ended_since_it_was_shown_brings_nobody_in_with_a_ticket() {
    let (shown, pem, key) = own();
    let clock = Arc::new(Year(AtomicU64::new(2025)));
    let (server, trust) = asks(&pem, &clock);
    let mut tls = (*trust.tls(tls::PROTOCOL)).clone();
    let signer = tls::rustls::crypto::ring::sign::any_supported_type(&key).expect("a key");
    let shows = Arc::new(Shows(
        Arc::new(tls::rustls::sign::CertifiedKey::new(vec![shown], signer)),
        AtomicU64::new(0),
    ));
    tls.client_auth_cert_resolver = Arc::clone(&shows) as _;
    let crypto = QuicClientConfig::try_from(tls).expect("suites of QUIC");
    let config = ClientConfig::new(Arc::new(crypto));
    let limits = QuicLimits::default();
    let mut world = World::new(&trust, limits, Weather::default(), 1);
    let settings = Settings::new(server, limits, (draw, SECRETS)).expect("suites of QUIC");
    world.quic = Quic::new(Arc::new(settings), (1, 4), 100, None);
    for _ in 0..3 {
        assert_eq!(meet(&mut world, &config), Ok(()));
    }
    assert_eq!(
        shows.1.load(Ordering::Relaxed),
        1,
        "it was shown once, and then there were tickets"
    );
    clock.0.store(2031, Ordering::Relaxed);
    let lanes = world.quic.counters().lanes_opened;
    let why = meet(&mut world, &config).expect_err("it has ended");
    assert!(why.contains("xpired"), "{why}");
    assert_eq!(shows.1.load(Ordering::Relaxed), 1, "there was a ticket");
    assert_eq!(world.quic.counters().lanes_opened, lanes);
}

/// Shows a certificate, and counts how often.
#[derive(Debug)]
struct Shows(Arc<tls::rustls::sign::CertifiedKey>, AtomicU64);

impl tls::rustls::client::ResolvesClientCert for Shows {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[tls::rustls::SignatureScheme],
    ) -> Option<Arc<tls::rustls::sign::CertifiedKey>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
