//! Whether a server asks its clients for certificates, and which of them it takes.
//!
//! Whoever shows a certificate proves in the handshake to have its key. Without an authority any certificate is taken that far: it is known by its
//! fingerprint, and who names fingerprints decides what it is good for.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DistinguishedName, Error};

use crate::certificate::{CertificateFault, Fingerprint, certificates};
use crate::cryptography::{provider, signatures_are_verified_by_the_provider};
use crate::trust::{TrustFault, roots};
use crate::validity::Validity;

/// Bytes of all certificates that a client may show: they are kept for as long as its tunnel stands.
pub const SHOWN_BYTES_MAX: usize = 8 << 10;

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asking {
    /// They are not.
    Off,
    /// They are, and may come without.
    Asked(Taken),
    /// They are, and who shows none gets no tunnel.
    Required(Taken),
}

/// Which certificates of clients are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Any, whatever it says of itself.
    Any,
    /// Those that lead to one of the certificates of this PEM text, and are good now.
    Roots(Vec<u8>),
}

/// Why clients cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskingFault {
    /// The authorities cannot be read.
    #[error("{0}")]
    Roots(#[from] CertificateFault),
    /// They cannot be roots.
    #[error("{0}")]
    Tls(String),
    /// There are no random bytes for the key of tickets.
    #[error("{0}")]
    Random(String),
}

impl From<TrustFault> for AskingFault {
    fn from(fault: TrustFault) -> Self {
        match fault {
            TrustFault::Roots(fault) => Self::Roots(fault),
            other => Self::Tls(other.to_string()),
        }
    }
}

/// A certificate that a peer showed, and proved to have the key of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Which one.
    pub fingerprint: Fingerprint,
    /// Its last second, in unix seconds, if an authority was asked about it: what it says of itself counts for nothing otherwise. That of
    /// 1970 if it cannot be read.
    pub until: Option<i64>,
}

impl Shown {
    /// By a peer with these certificates: its own comes first.
    pub(crate) fn of(chain: &[CertificateDer<'_>], judged: bool) -> Option<Self> {
        let own = chain.first()?;
        let until = || Validity::of(own).map_or(0, |validity| validity.until);
        Some(Self {
            fingerprint: Fingerprint::of(own),
            until: judged.then(until),
        })
    }
}

/// What asks, if anything does.
pub(crate) fn verifier(
    asking: &Asking,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, AskingFault> {
    let (taken, required) = match asking {
        Asking::Off => return Ok(None),
        Asking::Asked(taken) => (taken, false),
        Asking::Required(taken) => (taken, true),
    };
    let provider = provider();
    let authority = match taken {
        Taken::Any => None,
        Taken::Roots(pem) => {
            let roots = Arc::new(roots(certificates(pem)?)?);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            Some(verifier.map_err(|error| AskingFault::Tls(error.to_string()))?)
        }
    };
    Ok(Some(Arc::new(Asks {
        required,
        authority,
        provider,
    })))
}

#[derive(Debug)]
struct Asks {
    required: bool,
    authority: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Asks {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        let authority = self.authority.as_ref();
        authority.map_or(&[], |authority| authority.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bytes = own.len() + others.iter().map(|other| other.len()).sum::<usize>();
        if bytes > SHOWN_BYTES_MAX {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        match &self.authority {
            Some(authority) => authority.verify_client_cert(own, others, now),
            None => Ok(ClientCertVerified::assertion()),
        }
    }

    signatures_are_verified_by_the_provider!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judged_certificate_whose_end_cannot_be_read_has_ended() {
        let chain = [CertificateDer::from(b"no certificate".to_vec())];
        let until = |judged| Shown::of(&chain, judged).map(|shown| shown.until);
        assert_eq!(until(true), Some(Some(0)));
        assert_eq!(until(false), Some(None), "nobody asked");
    }
}
