//! The fake behind TLS, made of rustls alone, and certificates for it: good ones, and ones that nobody should take.

use super::{Fake, Fault};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::net::TcpStream;
use std::sync::Arc;
use tls::Fingerprint;
use tls::rustls::crypto::ring::default_provider;
use tls::rustls::crypto::ring::sign::any_supported_type;
use tls::rustls::pki_types::pem::PemObject;
use tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tls::rustls::server::WebPkiClientVerifier;
use tls::rustls::server::danger::ClientCertVerifier;
use tls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tls::rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// An authority of a test's own.
pub struct Authority {
    /// Its certificate in PEM.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Pair {
    /// The certificate's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der())
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("made just now")
    }
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random bytes");
        let certificate = params.self_signed(&key).expect("a plain certificate");
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }
}

impl Authority {
    /// A certificate for this name or address that is good today.
    pub fn issue(&self, name: &str) -> Pair {
        self.issue_until(name, 2_200)
    }

    /// One that is good until a year begins.
    pub fn issue_until(&self, name: &str, year: i32) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2_000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("random bytes");
        let certificate = params.signed_by(&key, &self.issuer);
        Pair {
            certificate: certificate.expect("a plain certificate").pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A server that shows this certificate and speaks these application protocols, over TLS 1.3 or 1.2. That the key is the
/// certificate's is not checked.
pub fn tls_config(pair: &Pair, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    with_clients(pair, protocols, None)
}

/// The same, and it takes only clients with a certificate of this authority.
pub fn tls_config_for(pair: &Pair, protocols: &[&[u8]], clients: &Authority) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(clients.pem.as_bytes()).expect("made just now");
    roots.add(root).expect("an authority");
    let provider = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    with_clients(pair, protocols, Some(clients.build().expect("one root")))
}

fn with_clients(
    pair: &Pair,
    protocols: &[&[u8]],
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("made just now");
    let key = any_supported_type(&key).expect("made just now");
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![pair.der()], key));
    let clients = clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions that the provider knows")
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

impl Fake {
    /// Start behind TLS.
    pub fn start_tls(faults: &[Fault], config: Arc<ServerConfig>) -> Self {
        Self::start_with(faults, move |server, stream| {
            // A client that does not trust it leaves, which is what tests of that want.
            drop(server.serve_tls(stream, Arc::clone(&config)));
        })
    }

    fn serve_tls(&self, mut stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
        let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
        let mut connection = connection;
        while connection.is_handshaking() {
            match connection.complete_io(&mut stream) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                done => drop(done?),
            }
        }
        let exporter = connection.export_keying_material([0; 32], tls::EXPORTER_LABEL, None);
        let exporter = exporter.map_err(std::io::Error::other)?;
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let mut state = self.state();
        state.tunnels.0 += 1;
        state.tunnels.1 += usize::from(resumed);
        drop(state);
        self.serve(&mut StreamOwned::new(connection, stream), &exporter)
    }
}
