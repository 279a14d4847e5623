//! Tunnels for HTTP/1.1: the control plane's API and who asks it. Their records are those of rustls.

use std::sync::Arc;

use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, Error, ServerConfig, ServerConnection};

use crate::cryptography::provider;
use crate::served::Served;
use crate::trust::Client;
use crate::tunnel::Tunnel;

/// The application protocol of these tunnels (ALPN). Many who speak it name none, and are taken, too; who names others alone is refused.
pub const HTTP: &[u8] = b"http/1.1";

/// The side that is asked.
#[derive(Debug, Clone)]
pub struct HttpServer {
    config: Arc<ServerConfig>,
}

impl HttpServer {
    /// One that shows this certificate. TLS 1.3 or 1.2, no tickets, no early data.
    ///
    /// # Errors
    /// When the cryptography has neither version.
    pub fn new(served: Arc<Served>) -> Result<Self, Error> {
        let builder = ServerConfig::builder_with_provider(provider());
        let mut config = builder
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shown(served)));
        config.alpn_protocols = vec![HTTP.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// A tunnel for a connection that has come.
    ///
    /// # Errors
    /// When rustls cannot begin one, for want of random bytes.
    pub fn tunnel(&self) -> Result<Tunnel, Error> {
        let connection = ServerConnection::new(Arc::clone(&self.config))?;
        Ok(Tunnel::for_http(connection.into()))
    }
}

impl Client {
    /// A tunnel for HTTP over a connection just made.
    ///
    /// # Errors
    /// When rustls cannot begin one, for want of random bytes.
    pub fn http_tunnel(&self) -> Result<Tunnel, Error> {
        let mut config = (*self.config()).clone();
        config.alpn_protocols = vec![HTTP.to_vec()];
        let connection = ClientConnection::new(Arc::new(config), self.server_name())?;
        Ok(Tunnel::for_http(connection.into()))
    }
}

/// The certificate in use, shown to clients that offer no application protocol, too.
#[derive(Debug)]
struct Shown(Arc<Served>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.0.current().key()))
    }
}
