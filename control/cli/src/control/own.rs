//! The pair of an API whose configuration names none: made once, beside the first token, where commands find whom to trust.
//!
//! `api.pem` is there for as long as the API is served with it, and gone when the configuration says otherwise.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use control::store::file;
use node::CertificateFiles;
use tls::{Certificate, Fingerprint};
use wire::diagnosis::Diagnosis;

use super::secure::TlsFiles;
use super::unwritten;
use crate::cert::{NAMES, to_be_pinned};
use crate::diagnosis::{API_TRUST, CODES};

/// File of the certificate, within the folder of the control plane.
const CERTIFICATE: &str = "api.pem";
/// File of its key.
const KEY: &str = "api.key.pem";
/// What the certificate calls itself.
const NAME: &str = "Forebay control plane";

/// A certificate that clients pin.
pub(super) struct Pinned {
    /// Its file.
    pub(super) path: PathBuf,
    /// What they pin.
    pub(super) fingerprint: Fingerprint,
}

/// The names of its files.
pub(super) fn names() -> [&'static str; 2] {
    [CERTIFICATE, KEY]
}

/// The pair of this folder; a new one if there is none that fits.
pub(super) fn pair(folder: &Path, address: IpAddr) -> Result<(TlsFiles, Pinned), Diagnosis> {
    let files = TlsFiles {
        certificate: folder.join(CERTIFICATE),
        key: folder.join(KEY),
    };
    let there = read(&files);
    let certificate = match there {
        Ok(certificate) => certificate,
        Err(_) => {
            make(&files, address)?;
            read(&files)?
        }
    };
    let pinned = Pinned {
        path: files.certificate.clone(),
        fingerprint: certificate.fingerprint(),
    };
    Ok((files, pinned))
}

/// Leave nothing that would have clients pin what is not shown any more.
pub(super) fn forget(folder: &Path) -> Result<(), Diagnosis> {
    for name in names() {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unwritten(&path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn read(files: &TlsFiles) -> Result<Certificate, Diagnosis> {
    let files = CertificateFiles {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
    };
    files.read()
}

/// The key first: what was cut off in between does not fit, and is made again.
fn make(files: &TlsFiles, address: IpAddr) -> Result<(), Diagnosis> {
    let mut names: Vec<String> = NAMES.map(str::to_owned).to_vec();
    let own = address.to_string();
    if !address.is_unspecified() && !names.contains(&own) {
        names.push(own);
    }
    let (certificate, key) = to_be_pinned(NAME, &names)?;
    for (path, text) in [(&files.key, key), (&files.certificate, certificate)] {
        let kept = file::replace(path, text.as_bytes());
        kept.map_err(|error| unwritten(path, &error))?;
    }
    Ok(())
}

/// The certificate beside a file of a token, if there is one: that of the control plane whose token it is.
pub(crate) fn beside(token: &Path) -> Result<Option<Fingerprint>, Diagnosis> {
    let path = token.with_file_name(CERTIFICATE);
    let refuse = |seen: String, needed: &str| {
        let what = format!("certificate {} cannot be pinned", path.display());
        Diagnosis::from_table(CODES, API_TRUST, what, seen, needed)
    };
    let (about, whose) = match (path.metadata(), token.metadata()) {
        (Ok(about), Ok(token)) => (about, token.uid()),
        _ => return Ok(None),
    };
    // Whoever else could write it would have the token sent to himself.
    if about.mode() & 0o022 != 0 || (about.uid() != whose && about.uid() != 0) {
        let seen = format!("mode {:04o} of user {}", about.mode() & 0o7777, about.uid());
        let needed = "a file that nobody but the owner of the token can write";
        return Err(refuse(seen, needed));
    }
    let needed = "a certificate as PEM";
    let text = std::fs::read(&path).map_err(|error| refuse(error.to_string(), needed))?;
    let chain = tls::certificates(&text).map_err(|fault| refuse(fault.to_string(), needed))?;
    Ok(chain.first().map(|own| Fingerprint::of(own)))
}
