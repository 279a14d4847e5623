//! The certificate that a process shows, for all its shards and transports; another one can take its place at any time.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate::Certificate;

/// The certificate in use. Handshakes that begin after [`Served::replace`] are shown the new one; tunnels that stand go on.
#[derive(Debug)]
pub struct Served {
    current: RwLock<Certificate>,
}

impl Served {
    /// This one, for now.
    pub fn new(certificate: Certificate) -> Arc<Self> {
        Arc::new(Self {
            current: RwLock::new(certificate),
        })
    }

    /// The one in use.
    pub fn current(&self) -> Certificate {
        // Whoever panicked while it held the lock had only one whole certificate to put in.
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Use another one from now on.
    pub fn replace(&self, certificate: Certificate) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = certificate;
    }
}

impl ResolvesServerCert for Served {
    /// A client that offers no application protocol at all is refused before anything is signed for it. One that offers only others
    /// gets the alert made for that, from rustls.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = || {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(current.key())
        };
        hello.alpn().map(|_| key())
    }
}
