//! The certificate of the API, read again from its files when they change: whoever connects a moment later is shown the new one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use control::api::{Secure, Tunnel};
use control::diagnosis::{API_CERTIFICATE, CODES};
use node::CertificateFiles;
use tls::{Certificate, HttpServer, Served};
use wire::diagnosis::Diagnosis;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(500);

/// `[control.tls]`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    /// The certificate, followed by those that lead from it to its root; PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key; PEM.
    pub(crate) key: PathBuf,
}

/// What was seen of the files last.
struct Looked {
    at: Instant,
    /// What is wrong with them, which was told.
    told: Option<String>,
}

/// What makes the tunnels of the API.
///
/// # Errors
/// When the files cannot be read, or are no pair.
pub(super) fn secure(files: &TlsFiles) -> Result<Secure, Diagnosis> {
    let files = CertificateFiles {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
    };
    let served = Served::new(read(&files)?);
    let server = HttpServer::new(Arc::clone(&served)).map_err(|error| {
        let what = "the API cannot make tunnels";
        let needed = "random bytes from the kernel";
        Diagnosis::from_table(CODES, API_CERTIFICATE, what, error.to_string(), needed)
    })?;
    let looked = Mutex::new(Looked {
        at: Instant::now(),
        told: None,
    });
    Ok(Arc::new(move || {
        look(&files, &served, &looked);
        let tunnel = server.tunnel().map_err(|error| error.to_string())?;
        Ok(Box::new(Side(tunnel)) as Box<dyn Tunnel>)
    }))
}

/// Show what the files hold now; a pair that does not fit is named once, and the one in use stays.
fn look(files: &CertificateFiles, served: &Served, looked: &Mutex<Looked>) {
    // Whoever panicked with it had looked.
    let mut looked = looked.lock().unwrap_or_else(PoisonError::into_inner);
    if looked.at.elapsed() < LOOK {
        return;
    }
    looked.at = Instant::now();
    looked.told = match read(files) {
        Ok(new) => {
            if new.chain() != served.current().chain() {
                served.replace(new);
            }
            None
        }
        Err(fault) => {
            let fault = fault.to_string();
            if looked.told.as_ref() != Some(&fault) {
                eprintln!("forebay: {fault}; the certificate in use stays");
            }
            Some(fault)
        }
    };
}

/// The pair, or what is wrong with it, by the names that the settings have here.
fn read(files: &CertificateFiles) -> Result<Certificate, Diagnosis> {
    files.read().map_err(|fault| {
        let here = |text: &str| text.replace("node.tls.", "control.tls.");
        let (what, remedy) = (here(&fault.what), here(&fault.remedy));
        Diagnosis::new(API_CERTIFICATE, what, fault.seen, fault.needed, remedy)
    })
}

/// A tunnel as the API takes it.
struct Side(tls::Tunnel);

impl Tunnel for Side {
    fn receive(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), String> {
        let received = self.0.receive(ciphertext, plaintext);
        received.map_err(|broken| broken.to_string())
    }

    fn send(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        self.0.send(plaintext, out);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        self.0.flush(out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.0.finish(out);
    }

    fn stands(&self) -> bool {
        self.0.stands()
    }

    fn peer_finished(&self) -> bool {
        self.0.peer_finished()
    }
}
