//! The side that connects: whom it trusts. There is no way to trust everybody.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore};
use subtle::ConstantTimeEq;

use crate::PROTOCOL;
use crate::certificate::{Certificate, CertificateFault, Fingerprint, certificates};
use crate::cryptography::{provider, signatures_are_verified_by_the_provider};
use crate::tunnel::Tunnel;

/// Whose certificates a client takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those that lead to one of the certificates of this PEM text.
    Roots(Vec<u8>),
    /// Those that lead to a root that this machine trusts.
    System,
    /// The one with this fingerprint, whatever it says of itself. Its key must sign the handshake all the same.
    Pin(Fingerprint),
}

/// Why a client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustFault {
    /// The roots cannot be read.
    #[error("{0}")]
    Roots(#[from] CertificateFault),
    /// This machine has no root.
    #[error("this machine trusts no root certificate: {0}")]
    NoSystemRoots(String),
    /// The server's name is neither a name nor an address.
    #[error("`{0}` is neither a host name nor an address")]
    Name(String),
    /// TLS refuses the set-up.
    #[error("{0}")]
    Tls(#[from] Error),
}

/// Makes tunnels to servers of one name. Tickets are kept between them.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.name)
    }
}

impl Client {
    /// One that takes certificates as `trust` says, for this host name or address.
    ///
    /// # Errors
    /// When there is nobody to trust, or the name is none.
    pub fn new(trust: &Trust, name: &str) -> Result<Self, TrustFault> {
        Self::showing(trust, name, None)
    }

    /// The same, and it shows this certificate of its own to a server that asks for one.
    ///
    /// # Errors
    /// As for [`Client::new`].
    pub fn showing(
        trust: &Trust,
        name: &str,
        own: Option<&Certificate>,
    ) -> Result<Self, TrustFault> {
        let known = ServerName::try_from(name.to_owned());
        let name = known.map_err(|_| TrustFault::Name(name.to_owned()))?;
        let provider = provider();
        let versions = [&TLS13, &TLS12];
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&versions)?;
        let builder = match trust {
            Trust::Roots(pem) => builder.with_root_certificates(roots(certificates(pem)?)?),
            Trust::System => builder.with_root_certificates(system_roots()?),
            Trust::Pin(fingerprint) => {
                let pinned = Pinned {
                    fingerprint: *fingerprint,
                    provider,
                };
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(pinned))
            }
        };
        let mut config = match own {
            Some(own) => {
                let shown = SingleCertAndKey::from(Arc::clone(own.key()));
                builder.with_client_cert_resolver(Arc::new(shown))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.require_ems = true;
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    /// The configuration, for a transport that makes its tunnels itself.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// The name or address that certificates must be for.
    pub fn name(&self) -> String {
        self.name.to_str().into_owned()
    }

    /// A tunnel over a connection just made; [`Tunnel::flush`] gives its first bytes.
    ///
    /// # Errors
    /// When rustls cannot begin one, for want of random bytes.
    pub fn tunnel(&self) -> Result<Tunnel, Error> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map(|connection| Tunnel::connecting(connection.into()))
    }
}

pub(crate) fn roots(from: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TrustFault> {
    let mut roots = RootCertStore::empty();
    for root in from {
        roots.add(root)?;
    }
    Ok(roots)
}

/// What this machine trusts; single ones that cannot be read are passed over, as everybody does.
fn system_roots() -> Result<RootCertStore, TrustFault> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    match roots.is_empty() {
        false => Ok(roots),
        true => {
            let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            Err(TrustFault::NoSystemRoots(errors.join("; ")))
        }
    }
}

/// Takes one certificate.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match bool::from(Fingerprint::of(own).0.ct_eq(&self.fingerprint.0)) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    signatures_are_verified_by_the_provider!();
}
