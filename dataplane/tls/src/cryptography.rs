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

/// What a verifier of either side's certificates says of the signatures of handshakes: whatever it takes of certificates, who shows one has
/// to prove its key, to the algorithms of `self.provider`.
macro_rules! signatures_are_verified_by_the_provider {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            let algorithms = &self.provider.signature_verification_algorithms;
            algorithms.supported_schemes()
        }
    };
}
pub(crate) use signatures_are_verified_by_the_provider;
