//! The side that is connected to: one configuration for a whole process, so that a ticket of one shard is good on all.

use std::sync::Arc;

use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig, ServerConnection};

use crate::PROTOCOL;
use crate::asking::{Asking, AskingFault, verifier};
use crate::caught::Catch;
use crate::cryptography::{provider, tickets};
use crate::served::Served;
use crate::tunnel::Tunnel;

/// Tickets a client gets in a handshake: it comes back once before it gets the next one.
const TICKETS: usize = 1;

/// Makes tunnels for connections that come.
#[derive(Debug, Clone)]
pub struct Server {
    config: Arc<ServerConfig>,
}

impl Server {
    /// One that shows this certificate. TLS 1.3, or 1.2 with the extended master secret; no early data; tickets under a key that is made
    /// here, changes every six hours and is never stored.
    ///
    /// # Errors
    /// When there are no random bytes for that key.
    pub fn new(served: Arc<Served>) -> Result<Self, Error> {
        Self::verifying(served, None)
    }

    /// The same, and it asks its clients for certificates.
    ///
    /// # Errors
    /// As for [`Server::new`], and when the authorities of clients cannot be used.
    pub fn asking(served: Arc<Served>, asking: &Asking) -> Result<Self, AskingFault> {
        let verifier = verifier(asking)?;
        Self::verifying(served, verifier).map_err(|error| AskingFault::Random(error.to_string()))
    }

    fn verifying(
        served: Arc<Served>,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Self, Error> {
        let versions = [&TLS13, &TLS12];
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&versions)?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(served);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.ticketer = tickets()?;
        // Its records are our own once a handshake is done.
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(Catch);
        config.send_tls13_tickets = TICKETS;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Without it an exporter value of TLS 1.2 would not be bound to the tunnel (RFC 7627, section 1).
        config.require_ems = true;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// The configuration of every tunnel, for a transport that makes its own: QUIC.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// A tunnel for a connection that has come.
    ///
    /// # Errors
    /// When rustls cannot begin one, for want of random bytes.
    pub fn tunnel(&self) -> Result<Tunnel, Error> {
        ServerConnection::new(Arc::clone(&self.config)).map(Tunnel::accepting)
    }
}
