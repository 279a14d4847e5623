//! Tunnels between a control plane and its nodes: each side shows a certificate that one authority signed, and they speak TLS 1.3 and
//! nothing older. No tickets: who is let in is decided by the certificate that is shown, each time.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

use crate::certificate::{Certificate, certificates};
use crate::cryptography::provider;
use crate::trust::{TrustFault, roots};
use crate::tunnel::Tunnel;

/// The application protocol of these tunnels (ALPN): a certificate of a node opens nothing else.
pub const LINK_PROTOCOL: &[u8] = b"forebay-link/1";

/// The control plane's side.
#[derive(Debug, Clone)]
pub struct LinkServer {
    config: Arc<ServerConfig>,
}

/// A node's side.
#[derive(Debug, Clone)]
pub struct LinkClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl LinkServer {
    /// One that shows `own`, and takes those who show a certificate for clients that leads to one of the PEM text `authority`.
    ///
    /// # Errors
    /// When the authority cannot be used.
    pub fn new(own: &Certificate, authority: &[u8]) -> Result<Self, TrustFault> {
        let roots = Arc::new(roots(certificates(authority)?)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        let builder = ServerConfig::builder_with_provider(provider());
        let mut config = builder
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own.key()))));
        config.alpn_protocols = vec![LINK_PROTOCOL.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// A tunnel for a node that has come.
    ///
    /// # Errors
    /// When rustls cannot begin one, for want of random bytes.
    pub fn tunnel(&self) -> Result<Tunnel, Error> {
        let connection = ServerConnection::new(Arc::clone(&self.config))?;
        Ok(Tunnel::linking(connection.into()))
    }
}

impl LinkClient {
    /// One that shows `own`, and trusts a control plane of this name or address whose certificate leads to one of the PEM text
    /// `authority`.
    ///
    /// # Errors
    /// When the authority cannot be used, or the name is none.
    pub fn new(own: &Certificate, authority: &[u8], name: &str) -> Result<Self, TrustFault> {
        let known = ServerName::try_from(name.to_owned());
        let name = known.map_err(|_| TrustFault::Name(name.to_owned()))?;
        let builder = ClientConfig::builder_with_provider(provider());
        let mut config = builder
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots(certificates(authority)?)?)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own.key()))));
        config.alpn_protocols = vec![LINK_PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    /// A tunnel over a connection just made; [`Tunnel::flush`] gives its first bytes.
    ///
    /// # Errors
    /// When rustls cannot begin one, for want of random bytes.
    pub fn tunnel(&self) -> Result<Tunnel, Error> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        Ok(Tunnel::linking(connection.into()))
    }
}
