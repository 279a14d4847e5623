//! The certificate of this node: read from its two files, proven to be a pair, and shown by every transport that speaks TLS. And whose
//! certificates it takes of clients.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tls::{Asking, AskingFault, Certificate, CertificateFault, Taken};

use crate::diagnosis::{CERTIFICATE_REFUSED, CERTIFICATE_UNREADABLE, Diagnosis, diagnose};

/// Where the certificate and its key are kept, both as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by those that lead from it to its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Whether clients are asked for certificates of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Whether they are.
    pub ask: Ask,
    /// The file of the authorities that may sign them, as PEM. Without it any is taken, and known by its fingerprint.
    pub authority: Option<PathBuf>,
}

/// `tls.client_certificates`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ask {
    /// Clients are not asked.
    #[default]
    Off,
    /// They are asked, and may come without.
    Asked,
    /// Who shows none is not let in.
    Required,
}

impl ClientCertificates {
    /// As the tunnels take it, with the authorities read.
    ///
    /// # Errors
    /// `FB-3121` when their file cannot be read.
    pub(crate) fn asking(&self) -> Result<Asking, Diagnosis> {
        let taken = match &self.authority {
            Some(path) => Taken::Roots(read("node.tls.client_ca", path)?),
            None => Taken::Any,
        };
        Ok(match self.ask {
            Ask::Off => Asking::Off,
            Ask::Asked => Asking::Asked(taken),
            Ask::Required => Asking::Required(taken),
        })
    }

    /// What the file of the authorities is known by now, if there is one.
    pub(crate) fn stamp(&self) -> Stamp {
        self.authority.as_deref().and_then(stamp)
    }

    /// Why tunnels cannot be made.
    pub(crate) fn refuse(&self, fault: &AskingFault) -> Diagnosis {
        let file = self.authority.as_deref().unwrap_or(Path::new(""));
        diagnose(
            CERTIFICATE_REFUSED,
            format!("node.tls.client_ca {}", file.display()),
            fault.to_string(),
            "certificates of authorities, as PEM",
            format!("see `openssl x509 -in {} -noout -text`", file.display()),
        )
    }
}

/// What a file is known by: when it was written, its length, and which one it is.
pub(crate) type Stamp = Option<(i64, i64, u64, u64)>;
/// Those of the certificate and of its key.
pub(crate) type Stamps = [Stamp; 2];

fn stamp(path: &Path) -> Stamp {
    let found = path.metadata().ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

impl CertificateFiles {
    /// What both files are known by now.
    pub(crate) fn stamps(&self) -> Stamps {
        [&self.certificate, &self.key].map(|path| stamp(path))
    }

    /// Read both, and what they were known by before that: who looks again later misses no change.
    pub(crate) fn read_stamped(&self) -> (Stamps, Result<Certificate, Diagnosis>) {
        (self.stamps(), self.read())
    }

    /// Read both.
    ///
    /// # Errors
    /// `FB-3121` when a file cannot be read, `FB-3122` when they are no pair that can be used.
    pub fn read(&self) -> Result<Certificate, Diagnosis> {
        let chain = read("node.tls.certificate", &self.certificate)?;
        let key = read("node.tls.key", &self.key)?;
        Certificate::from_pem(&chain, &key).map_err(|fault| self.refuse(&fault))
    }

    /// What only this node and whoever has its key knows: the bytes of the key's file.
    ///
    /// # Errors
    /// `FB-3121` when it cannot be read.
    pub(crate) fn secret(&self) -> Result<Vec<u8>, Diagnosis> {
        read("node.tls.key", &self.key)
    }

    fn refuse(&self, fault: &CertificateFault) -> Diagnosis {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let (what, remedy) = match fault {
            CertificateFault::NoCertificate | CertificateFault::Certificate(_) => (
                format!("node.tls.certificate {certificate}"),
                format!("see `openssl x509 -in {certificate} -noout -text`"),
            ),
            CertificateFault::NoKey(_) | CertificateFault::KeyKind(_) => (
                format!("node.tls.key {key}"),
                format!("see `openssl pkey -in {key} -noout -text`; encrypted keys cannot be read"),
            ),
            CertificateFault::Mismatch => (
                format!("node.tls.key {key}"),
                format!(
                    "use the key that {certificate} was made for; `openssl x509 -pubkey` and `openssl pkey -pubout` show one public key for a pair"
                ),
            ),
        };
        let needed = "a certificate and its private key, both as PEM";
        diagnose(CERTIFICATE_REFUSED, what, fault.to_string(), needed, remedy)
    }
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, Diagnosis> {
    std::fs::read(path).map_err(|error| {
        diagnose(
            CERTIFICATE_UNREADABLE,
            format!("{setting} {}", path.display()),
            error.to_string(),
            "a file that this process may read",
            format!("change {setting}, or the owner or mode of the file"),
        )
    })
}
