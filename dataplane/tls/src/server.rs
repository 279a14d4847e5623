//! The side that is connected to: one configuration for a whole process, so that a ticket of one shard is good on all.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::{TLS12, TLS13};
use rustls::{CommonState, Error, HandshakeKind, ServerConfig, ServerConnection};

use crate::PROTOCOL;
use crate::asking::{Asking, AskingFault, Shown, Taken, verifier};
use crate::caught::Catch;
use crate::cryptography::{provider, tickets};
use crate::served::Served;
use crate::tunnel::Tunnel;

/// Tickets a client gets in a handshake: it comes back once before it gets the next one.
const TICKETS: usize = 1;

/// Makes tunnels for connections that come. Its clones are one server.
#[derive(Debug, Clone)]
pub struct Server {
    terms: Arc<RwLock<Terms>>,
}

/// What handshakes go by that begin now.
#[derive(Debug, Clone)]
pub struct Terms {
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// An authority is asked about what clients show.
    judged: bool,
}

impl Server {
    /// One that shows this certificate. TLS 1.3, or 1.2 with the extended master secret; no early data; tickets under a key that is made
    /// here, changes every six hours and is never stored.
    ///
    /// # Errors
    /// When there are no random bytes for that key.
    pub fn new(served: Arc<Served>) -> Result<Self, Error> {
        let terms = Terms::new(served, None, Arc::new(DefaultTimeProvider))?;
        Ok(Self::of(terms))
    }

    /// The same, and it asks its clients for certificates.
    ///
    /// # Errors
    /// As for [`Server::new`], and when the authorities of clients cannot be used.
    pub fn asking(served: Arc<Served>, asking: &Asking) -> Result<Self, AskingFault> {
        Self::asking_at(served, asking, Arc::new(DefaultTimeProvider))
    }

    /// The same by another clock than the machine's.
    ///
    /// # Errors
    /// As for [`Server::asking`].
    pub fn asking_at(
        served: Arc<Served>,
        asking: &Asking,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, AskingFault> {
        Terms::asking(served, asking, clock).map(Self::of)
    }

    fn of(terms: Terms) -> Self {
        Self {
            terms: Arc::new(RwLock::new(terms)),
        }
    }

    /// Ask clients in another way from now on. Tunnels that stand go on; tickets of before are good no more, so that each client shows
    /// what it has to these authorities.
    ///
    /// # Errors
    /// As for [`Server::asking`]; then nothing has changed.
    pub fn ask_anew(&self, asking: &Asking) -> Result<(), AskingFault> {
        let config = self.config();
        let served = Arc::clone(&config.cert_resolver);
        let terms = Terms::asking(served, asking, Arc::clone(&config.time_provider))?;
        *self.terms.write().unwrap_or_else(PoisonError::into_inner) = terms;
        Ok(())
    }

    /// What handshakes that begin now go by, for a transport that makes its own: QUIC.
    pub fn terms(&self) -> Terms {
        // Whoever panicked while it held the lock had only whole terms to put in.
        let terms = self.terms.read().unwrap_or_else(PoisonError::into_inner);
        terms.clone()
    }

    /// The configuration in them.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.terms().config
    }

    /// A tunnel for a connection that has come.
    ///
    /// # Errors
    /// When rustls cannot begin one, for want of random bytes.
    pub fn tunnel(&self) -> Result<Tunnel, Error> {
        let terms = self.terms();
        let connection = ServerConnection::new(Arc::clone(&terms.config))?;
        Ok(Tunnel::accepting(connection, terms))
    }
}

impl From<Arc<ServerConfig>> for Server {
    /// One that goes by a configuration that was made elsewhere and asks nobody.
    fn from(config: Arc<ServerConfig>) -> Self {
        Self::of(Terms {
            config,
            verifier: None,
            judged: false,
        })
    }
}

impl Terms {
    fn asking(
        served: Arc<dyn rustls::server::ResolvesServerCert>,
        asking: &Asking,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, AskingFault> {
        let verifier = verifier(asking)?;
        let terms = Self::new(served, verifier, clock);
        let terms = terms.map_err(|error| AskingFault::Random(error.to_string()))?;
        let judged = matches!(
            asking,
            Asking::Asked(Taken::Roots(_)) | Asking::Required(Taken::Roots(_))
        );
        Ok(Self { judged, ..terms })
    }

    fn new(
        served: Arc<dyn rustls::server::ResolvesServerCert>,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, Error> {
        let versions = [&TLS13, &TLS12];
        let builder = ServerConfig::builder_with_details(provider(), clock);
        let builder = builder.with_protocol_versions(&versions)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
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
        let config = Arc::new(config);
        Ok(Self {
            config,
            verifier,
            judged: false,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// What a client showed in a handshake that is over, or in the one whose ticket it used.
    pub fn shown(&self, shaken: &CommonState) -> Option<Shown> {
        Shown::of(shaken.peer_certificates()?, self.judged)
    }

    /// Whether the certificate that a ticket carries would be taken if it were shown now: it may have ended since it was. Asked at the end
    /// of a handshake; one without a ticket has shown its own.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn still_take(&self, shaken: &CommonState) -> Result<(), Error> {
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        if shaken.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let chain = shaken.peer_certificates().unwrap_or_default();
        match chain.split_first() {
            Some((own, others)) => {
                let now: Option<UnixTime> = self.config.time_provider.current_time();
                let now = now.ok_or(Error::FailedToGetCurrentTime)?;
                verifier.verify_client_cert(own, others, now).map(|_| ())
            }
            None if verifier.client_auth_mandatory() => Err(Error::NoCertificatesPresented),
            None => Ok(()),
        }
    }
}

/// What a peer is told when its certificate is not taken.
pub fn alert_of(error: &Error) -> rustls::AlertDescription {
    match error {
        Error::InvalidCertificate(fault) => fault.clone().into(),
        Error::NoCertificatesPresented => rustls::AlertDescription::CertificateRequired,
        _ => rustls::AlertDescription::InternalError,
    }
}
