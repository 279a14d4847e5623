//! The folder that quickstart makes: configuration, plan with fresh keys, certificates, logs.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use control::keys::new_secret;
use control::render::{NewEndpoint, NewPlan, render};
use node::CertificateFiles;
use wire::diagnosis::Diagnosis;

use crate::cert;
use crate::diagnosis::{CANNOT_WRITE, FOREIGN_FOLDER};

/// Account and environment of everything made here.
pub(super) const ENVIRONMENT: &str = "demo/quickstart";
/// The channel.
pub(super) const CHANNEL: &str = "telemetry";
/// The endpoints that send: this machine first, then the synthetic ones.
pub(super) const SENDERS: [&str; 5] = ["host", "pump-1", "pump-2", "pump-3", "pump-4"];
/// The endpoint that receives.
pub(super) const RECEIVER: &str = "office";

/// The folder of certificates in the folder.
const CERTIFICATES: &str = "certificates";
const CERTIFICATE_LASTS: Duration = Duration::from_secs(30 * 86_400);
/// One that is not good for so long is replaced.
const CERTIFICATE_LEFT: Duration = Duration::from_secs(86_400);

/// How a configuration of ours begins; the mark of a folder that may be used again.
const MARK: &str = "# Made by `forebay quickstart`.";

/// What was made, or found from an earlier run.
pub(super) struct Made {
    pub(super) folder: PathBuf,
    pub(super) config: PathBuf,
    pub(super) plan: PathBuf,
    /// The authority that clients trust.
    pub(super) ca: PathBuf,
    /// What the node shows.
    pub(super) certificate: CertificateFiles,
}

/// Make the files, or take those of an earlier quickstart.
pub(super) fn prepare(folder: &Path) -> Result<Made, Diagnosis> {
    let pair = cert::Files::of(&folder.join(CERTIFICATES));
    let made = Made {
        folder: folder.to_owned(),
        config: folder.join("forebay.toml"),
        plan: folder.join("plan.toml"),
        ca: pair.ca,
        certificate: CertificateFiles {
            certificate: pair.certificate,
            key: pair.key,
        },
    };
    if is_ours(&made) {
        renew(&made)?;
        return Ok(made);
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries.count(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(cannot("folder", folder, &error)),
    };
    if entries > 0 {
        let what = format!("{} belongs to something else", folder.display());
        return Err(Diagnosis::new(
            FOREIGN_FOLDER,
            what,
            format!("{entries} entries"),
            "an empty folder or none",
            "give another with --data",
        ));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| cannot("folder", folder, &error))?;
    write(&made.plan, &render(&new_plan()))?;
    renew(&made)?;
    write(&made.config, &configuration())?;
    Ok(made)
}

/// Make a certificate unless there is one that is good for a while.
fn renew(made: &Made) -> Result<(), Diagnosis> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let soon = now.unwrap_or_default() + CERTIFICATE_LEFT;
    let soon = i64::try_from(soon.as_secs()).unwrap_or(i64::MAX);
    let there = made.certificate.read();
    if !there.is_ok_and(|there| there.validity().until > soon) {
        let folder = made.folder.join(CERTIFICATES);
        cert::make(&folder, &cert::NAMES, CERTIFICATE_LASTS, true)?;
    }
    Ok(())
}

/// The file that takes the node's log lines, so that they do not stand between those of the report.
pub(super) fn node_log(made: &Made) -> Result<File, Diagnosis> {
    let path = made.folder.join("node.log");
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path);
    opened.map_err(|error| cannot("file", &path, &error))
}

/// Both files are there and the configuration bears the mark.
fn is_ours(made: &Made) -> bool {
    let marked = std::fs::read_to_string(&made.config).is_ok_and(|text| text.starts_with(MARK));
    marked && made.plan.is_file()
}

fn new_plan() -> NewPlan {
    let secret = || Some(new_secret().text().to_owned());
    let channel = || vec![CHANNEL.to_owned()];
    let sender = |name: &&str| NewEndpoint {
        name: (*name).to_owned(),
        ingress: secret(),
        send: channel(),
        ..NewEndpoint::default()
    };
    let mut endpoints: Vec<NewEndpoint> = SENDERS.iter().map(sender).collect();
    endpoints.push(NewEndpoint {
        name: RECEIVER.to_owned(),
        egress: secret(),
        receive: channel(),
        ..NewEndpoint::default()
    });
    NewPlan {
        environment: ENVIRONMENT.to_owned(),
        partitions: 4,
        ack: "durable".to_owned(),
        channels: channel(),
        endpoints,
    }
}

fn configuration() -> String {
    format!(
        "{MARK} Paths are relative to this file; `forebay config show` lists every setting.\n\
         [node]\ndata = \"logs\"\nlisten = \"127.0.0.1:7411\"\nadmin = \"127.0.0.1:7412\"\nlisten_tls = \"127.0.0.1:7413\"\nlisten_quic = \"127.0.0.1:7413\"\n\n\
         [node.tls]\ncertificate = \"{CERTIFICATES}/cert.pem\"\nkey = \"{CERTIFICATES}/key.pem\"\n\n\
         [plan]\nfile = \"plan.toml\"\n"
    )
}

/// Write a new file that only its owner may read.
fn write(path: &Path, text: &str) -> Result<(), Diagnosis> {
    let mut options = OpenOptions::new();
    let written = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
    written.map_err(|error| cannot("file", path, &error))
}

/// A file that was made and cannot be read.
pub(super) fn unreadable(path: &Path, error: &Error) -> Diagnosis {
    cannot("file", path, error)
}

fn cannot(kind: &str, path: &Path, error: &Error) -> Diagnosis {
    let what = format!("{kind} {} cannot be made", path.display());
    Diagnosis::new(
        CANNOT_WRITE,
        what,
        error.to_string(),
        "a folder that may be written",
        "give another with --data",
    )
}
