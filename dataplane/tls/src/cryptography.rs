//! All cryptography of the tunnels: ring's.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring as chosen;
use rustls::server::ProducesTickets;

pub(crate) use chosen::sign::any_supported_type;
pub(crate) use ring_crypto::aead;

/// As rustls takes it.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(chosen::default_provider())
}

/// Seals tickets under a key of its own.
pub(crate) fn tickets() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    chosen::Ticketer::new()
}
