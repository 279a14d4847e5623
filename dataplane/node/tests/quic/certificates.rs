//! Endpoints that name certificates, over QUIC: the same as over TLS, with every stream of a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use node::{Ask, ClientCertificates};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::sign::SingleCertAndKey;
use tls::rustls::client::{ResolvesClientCert, Resumption};
use tls::rustls::sign::CertifiedKey;
use tls::rustls::{ClientConfig, SignatureScheme};
use tls::{Trust, rustls};
use wire::ids::{AckMode, Fingerprint};
use wire::reason::Reason;

use crate::client::{Quic, runtime};
use crate::support::{Client, Said, metric, parts, sender, table, try_start, until};
use crate::{quic_addr, with_quic};

/// A certificate of a client's, with its key.
fn own() -> CertifiedKey {
    own_in_pem().0
}

/// The same, and the PEM of the certificate.
fn own_in_pem() -> (CertifiedKey, String) {
    let made = rcgen::generate_simple_self_signed(["pump-7".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let signer = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let own = CertifiedKey::new(vec![made.cert.der().clone()], signer);
    (own, made.cert.pem())
}

fn named(own: &CertifiedKey) -> Fingerprint {
    Fingerprint(tls::Fingerprint::of(&own.cert[0]).0)
}

/// Shows its certificate once. What is known of its tunnels after that comes from tickets.
#[derive(Debug)]
struct Once {
    own: Arc<CertifiedKey>,
    shown: AtomicBool,
}

impl ResolvesClientCert for Once {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let first = !self.shown.swap(true, Ordering::Relaxed);
        first.then(|| Arc::clone(&self.own))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A client that trusts the authority and shows this, once.
fn showing(authority: &[u8], own: Option<CertifiedKey>) -> quinn::ClientConfig {
    let trust = Trust::Roots(authority.to_vec());
    let client = tls::Client::new(&trust, "localhost").unwrap();
    let mut config: ClientConfig = (*client.config()).clone();
    if let Some(own) = own {
        config.client_auth_cert_resolver = Arc::new(Once {
            own: Arc::new(own),
            shown: AtomicBool::new(false),
        });
    }
    let crypto = QuicClientConfig::try_from(config).unwrap();
    quinn::ClientConfig::new(Arc::new(crypto))
}

fn greet(quic: &Quic, name: &str) -> Result<Client, Reason> {
    let greeted = Client::try_greet(quic.lane(), None, Some(quic.exporter()), name);
    greeted.map_err(|said| match said {
        Said::Refused(notice) => notice.reason,
        other => panic!("{other:?} is no refusal"),
    })
}

#[test]
fn an_endpoint_that_names_a_certificate_is_welcome_where_it_was_shown_also_with_a_ticket() {
    for shards in [1, 3] {
        let data = tempfile::tempdir().unwrap();
        let (mut config, authority) = with_quic(data.path(), shards);
        config.clients = ClientCertificates {
            ask: Ask::Asked,
            authority: None,
        };
        let (right, other) = (own(), own());
        let mut parts = parts(AckMode::Local, 2);
        parts.endpoints[1].certificates = vec![named(&right)];
        let node = try_start(config, table(parts)).unwrap();
        let runtime = runtime();
        for (why, own, good) in [
            ("shows it", Some(right), true),
            ("shows another", Some(other), false),
            ("shows none", None, false),
        ] {
            let config = showing(&authority, own);
            // With its ticket it comes to whatever shard its first ID names.
            for round in 0..6 {
                let quic = Quic::connect(&runtime, quic_addr(&node), config.clone());
                for _ in 0..2 {
                    let mut free = greet(&quic, &sender(0)).unwrap();
                    free.send(&[b"asked for none"]);
                    free.wait_acked(free.sequence - 1);
                    match greet(&quic, &sender(1)) {
                        Ok(mut named) if good => {
                            named.send(&[b"asked for one"]);
                            named.wait_acked(named.sequence - 1);
                        }
                        Err(Reason::CertificateRequired) if !good => {}
                        other => panic!("{shards} {why}, round {round}: {:?}", other.err()),
                    }
                }
            }
        }
        let counted = "forebay_rejects_total{code=\"FB-1125\",reason=\"certificate_required\"}";
        assert_eq!(metric(node.admin_addr(), counted), Some(24.0));
        node.stop();
        node.join().unwrap();
    }
}

#[test]
fn authorities_of_clients_are_replaced_over_quic_too() {
    let data = tempfile::tempdir().unwrap();
    let (mut config, authority) = with_quic(data.path(), 2);
    let file = data.path().join("clients.pem");
    let [(one, first), (other, second)] = [(); 2].map(|()| own_in_pem());
    std::fs::write(&file, first).unwrap();
    config.clients = ClientCertificates {
        ask: Ask::Required,
        authority: Some(file.clone()),
    };
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let (addr, runtime) = (quic_addr(&node), runtime());
    let client = tls::Client::new(&Trust::Roots(authority), "localhost").unwrap();
    let [one, other] = [one, other].map(|own| {
        let mut config: ClientConfig = (*client.config()).clone();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(own));
        config.resumption = Resumption::default();
        let crypto = QuicClientConfig::try_from(config).unwrap();
        quinn::ClientConfig::new(Arc::new(crypto))
    });
    let welcome = |config: &quinn::ClientConfig| {
        let quic = Quic::try_connect(&runtime, addr, config.clone()).ok()?;
        let exporter = Some(quic.exporter());
        Client::try_greet(quic.try_lane().ok()?, None, exporter, &sender(0)).ok()?;
        Some(quic)
    };
    let stays = welcome(&one).unwrap();
    for _ in 0..3 {
        // With its tickets.
        assert!(welcome(&one).is_some());
    }
    assert!(welcome(&other).is_none());
    std::fs::write(&file, second).unwrap();
    until("it is refused, tickets or not", || welcome(&one).is_none());
    assert!(welcome(&other).is_some());
    let mut client = greet(&stays, &sender(0)).unwrap();
    client.send(&[b"through"]);
    client.wait_acked(client.sequence - 1);
    node.stop();
    node.join().unwrap();
}
