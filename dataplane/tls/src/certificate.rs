//! A certificate with its key, read from PEM and proven to belong together before anybody is shown it.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use sha2::{Digest, Sha256};

use crate::cryptography::any_supported_type;
use crate::validity::Validity;

/// Why a certificate and a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// The text holds no certificate.
    #[error("no certificate between -----BEGIN CERTIFICATE----- lines")]
    NoCertificate,
    /// A certificate cannot be read.
    #[error("a certificate that cannot be read: {0}")]
    Certificate(String),
    /// The text holds no private key that can be read.
    #[error("no private key: {0}")]
    NoKey(String),
    /// The key is of a kind that cannot sign.
    #[error("a key of an unknown kind: {0}")]
    KeyKind(String),
    /// The key is another certificate's.
    #[error("a key that is not the certificate's")]
    Mismatch,
}

/// SHA-256 of a certificate's DER: what a client may pin.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// 64 hexadecimal digits, with or without colons between the bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A certificate, those that lead from it to its root, and its private key. `Debug` does not show the key.
#[derive(Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    validity: Validity,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.fingerprint)
    }
}

impl Certificate {
    /// Of the PEM texts of a chain, its own certificate first, and of a private key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// What is wrong with either, and when they do not belong together. One that has ended, or has not begun, is taken: who reads the
    /// clock says so.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateFault> {
        let chain = certificates(chain)?;
        let own = chain.first().ok_or(CertificateFault::NoCertificate)?;
        let fault = |what: &str| CertificateFault::Certificate(what.to_owned());
        let validity = Validity::of(own).ok_or_else(|| fault("no validity where it should be"))?;
        let fingerprint = Fingerprint::of(own);
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| CertificateFault::NoKey(error.to_string()))?;
        let signer = any_supported_type(&key)
            .map_err(|error| CertificateFault::KeyKind(error.to_string()))?;
        let key = CertifiedKey::new(chain, signer);
        match key.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(CertificateFault::Mismatch);
            }
            Err(error) => return Err(fault(&error.to_string())),
        }
        Ok(Self {
            key: Arc::new(key),
            validity,
            fingerprint,
        })
    }

    /// From when until when it is good.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// What a client may pin.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// It and those that lead from it to its root, in DER, as they are shown.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

/// All certificates of a PEM text, in order; at least one.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| CertificateFault::Certificate(error.to_string()))?;
    match all.is_empty() {
        true => Err(CertificateFault::NoCertificate),
        false => Ok(all),
    }
}
