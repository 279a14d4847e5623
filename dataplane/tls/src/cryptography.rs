//! All cryptography of the tunnels: ring's, or that of AWS-LC with the feature `aws-lc-rs`.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
pub(crate) use rustls::crypto::aws_lc_rs as chosen;
#[cfg(not(feature = "aws-lc-rs"))]
pub(crate) use rustls::crypto::ring as chosen;
use rustls::server::ProducesTickets;

#[cfg(feature = "aws-lc-rs")]
pub(crate) use aws_lc_rs::aead;
pub(crate) use chosen::sign::any_supported_type;
#[cfg(not(feature = "aws-lc-rs"))]
pub(crate) use ring_crypto::aead;

/// As rustls takes it.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(chosen::default_provider())
}

/// Seals tickets under a key of its own.
pub(crate) fn tickets() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    chosen::Ticketer::new()
}
