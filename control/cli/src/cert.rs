//! `forebay cert dev`: a certificate, its key and the authority that signed it, for tests and for one's own machine. And one for a client.

mod link;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{CERTIFICATE_NAMES, CERTIFICATE_UNWRITTEN};
use crate::fault::Fault;
use crate::say::say;

/// Arguments of `cert`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a certificate for tests: ca.pem for clients, cert.pem and key.pem for the node
    Dev {
        /// Folder for the three files; made if it does not exist
        #[arg(long, value_name = "FOLDER", default_value = "certificates")]
        out: PathBuf,
        /// Name or address that clients connect to; repeat for several
        #[arg(long, value_name = "NAME", default_values_t = NAMES.map(String::from))]
        name: Vec<String>,
        /// Days that it is good for
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Replace files that are there; a node that runs takes the new ones by itself
        #[arg(long)]
        replace: bool,
    },
    /// Make the authority of the link between control plane and nodes, and the control plane's certificate: ca.pem, ca.key.pem, control.pem
    Control {
        /// Folder for the files; made if it does not exist, and an authority that is there is used
        #[arg(long, value_name = "FOLDER", default_value = "link")]
        out: PathBuf,
        /// Name or address that nodes connect to; repeat for several
        #[arg(long, value_name = "NAME", default_values_t = NAMES.map(String::from))]
        name: Vec<String>,
        /// Days that it is good for
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Replace the certificate that is there; never the authority
        #[arg(long)]
        replace: bool,
    },
    /// Make a certificate for a node to show to its control plane: NAME.pem and NAME.key.pem
    Node {
        /// Folder for the two files; made if it does not exist
        #[arg(long, value_name = "FOLDER", default_value = "link")]
        out: PathBuf,
        /// Folder of the authority that `forebay cert control` made
        #[arg(long, value_name = "FOLDER", default_value = "link")]
        authority: PathBuf,
        /// The node's name
        #[arg(long, value_name = "NAME", value_parser = node_name)]
        name: String,
        /// Days that it is good for
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Replace files that are there
        #[arg(long)]
        replace: bool,
    },
    /// Make a certificate for a client to show: NAME.pem and NAME.key.pem
    Client {
        /// Folder for the two files; made if it does not exist
        #[arg(long, value_name = "FOLDER", default_value = "certificates")]
        out: PathBuf,
        /// Whose it is; a label, the files are named after it
        #[arg(long, value_name = "NAME", default_value = "client", value_parser = label)]
        name: String,
        /// Days that it is good for
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Replace files that are there
        #[arg(long)]
        replace: bool,
    },
}

/// What a client on the same machine may call it.
pub(crate) const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Clocks differ: it is good from a little before it was made.
const BEFORE: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Who pins a certificate trusts it and not its dates.
const PINNED_LASTS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The three files of a pair for tests.
pub(crate) struct Files {
    /// The authority, for clients. Its key is thrown away: it will never sign anything else.
    pub(crate) ca: PathBuf,
    /// The certificate.
    pub(crate) certificate: PathBuf,
    /// Its key, which only its owner may read.
    pub(crate) key: PathBuf,
}

impl Files {
    /// Those of a folder, whether they are there or not.
    pub(crate) fn of(folder: &Path) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            certificate: folder.join("cert.pem"),
            key: folder.join("key.pem"),
        }
    }
}

/// Make the files and say how they are used.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    match &args.command {
        Command::Dev {
            out,
            name,
            days,
            replace,
        } => run_dev(out, name, *days, *replace),
        Command::Control {
            out,
            name,
            days,
            replace,
        } => link::control(out, name, *days, *replace),
        Command::Node {
            out,
            authority,
            name,
            days,
            replace,
        } => link::node(out, authority, name, *days, *replace),
        Command::Client {
            out,
            name,
            days,
            replace,
        } => run_client(out, name, *days, *replace),
    }
}

/// What may be the name of a node.
fn node_name(text: &str) -> Result<String, String> {
    match ::link::frame::is_name(text) && text != "control" && text != "ca" {
        true => Ok(text.to_owned()),
        false => Err("small letters, digits and '-', at most 63, a letter among them, and neither `control` nor `ca`".to_owned()),
    }
}

/// What may be the name of a file everywhere.
fn label(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(good);
    match fits {
        true => Ok(text.to_owned()),
        false => Err("letters, digits, '-', '_' and '.', at most 64 of them".to_owned()),
    }
}

/// A certificate that signs itself: its fingerprint is what an endpoint names.
fn run_client(out: &Path, name: &str, days: u32, replace: bool) -> Result<u8, Fault> {
    let files = node::CertificateFiles {
        certificate: out.join(format!("{name}.pem")),
        key: out.join(format!("{name}.key.pem")),
    };
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let made = signed_by_itself(name, &[], usage, DAY * days);
    let (text, key) = made.map_err(|error| refused(&error, name))?;
    write_all(
        out,
        replace,
        [
            (&files.key, &key, 0o600),
            (&files.certificate, &text, 0o644),
        ],
    )?;
    let print = files.read()?.fingerprint();
    let (certificate, key) = (files.certificate.display(), files.key.display());
    say!("certificate  {certificate}, {days} days (for load: --client-cert)");
    say!("key          {key} (mode 0600; for load: --client-key)");
    say!("fingerprint  {print}\n");
    say!("[node.tls]\nclient_certificates = \"asked\"\n");
    say!("and in the plan, for an endpoint that has to show it:\ncertificates = [\"{print}\"]");
    Ok(0)
}

fn run_dev(out: &Path, names: &[String], days: u32, replace: bool) -> Result<u8, Fault> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let files = make(out, &names, DAY * days, replace)?;
    let made = read(&files)?;
    let (certificate, key) = (files.certificate.display(), files.key.display());
    say!("authority    {} (for clients: --ca)", files.ca.display());
    say!(
        "certificate  {certificate} for {}, {days} days",
        names.join(", ")
    );
    say!("key          {key} (mode 0600)");
    say!("fingerprint  {} (for clients: --pin)\n", made.fingerprint());
    say!(
        "[node]\nlisten_tls = \"0.0.0.0:7413\"\n[node.tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\""
    );
    Ok(0)
}

/// The pair in these files.
fn read(files: &Files) -> Result<tls::Certificate, Diagnosis> {
    let pair = node::CertificateFiles {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
    };
    pair.read()
}

/// Make an authority and a certificate of these names, good for so long from now, and write them.
pub(crate) fn make(
    folder: &Path,
    names: &[&str],
    lasts: Duration,
    replace: bool,
) -> Result<Files, Diagnosis> {
    let files = Files::of(folder);
    let made = signed(names, lasts).map_err(|error| refused(&error, &names.join(", ")));
    let (ca, certificate, key) = made?;
    // The key first: a node that looks in between finds a pair that does not fit, says so, and looks again.
    write_all(
        folder,
        replace,
        [
            (&files.key, &key, 0o600),
            (&files.certificate, &certificate, 0o644),
            (&files.ca, &ca, 0o644),
        ],
    )?;
    Ok(files)
}

fn refused(error: &rcgen::Error, names: &str) -> Diagnosis {
    Diagnosis::new(
        CERTIFICATE_NAMES,
        "a certificate cannot be made",
        format!("{error} for {names}"),
        "host names and addresses",
        "use --name localhost --name 127.0.0.1",
    )
}

/// Write files into a folder, which is made if it does not exist: path, text and mode of each.
fn write_all<const FILES: usize>(
    folder: &Path,
    replace: bool,
    files: [(&PathBuf, &String, u32); FILES],
) -> Result<(), Diagnosis> {
    std::fs::create_dir_all(folder).map_err(|error| unwritten(folder, &error))?;
    for (path, text, mode) in files {
        write(path, text, mode, replace).map_err(|error| unwritten(path, &error))?;
    }
    Ok(())
}

/// PEM of a certificate for a server of these names that clients trust by its fingerprint, and of its key.
pub(crate) fn to_be_pinned(name: &str, names: &[String]) -> Result<(String, String), Diagnosis> {
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    let made = signed_by_itself(name, names, usage, PINNED_LASTS);
    made.map_err(|error| refused(&error, &names.join(", ")))
}

/// PEM of a certificate that no other vouches for, and of its key.
fn signed_by_itself(
    name: &str,
    names: &[String],
    usage: ExtendedKeyUsagePurpose,
    lasts: Duration,
) -> Result<(String, String), rcgen::Error> {
    let now = SystemTime::now();
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + lasts).into();
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// PEM of an authority, of a certificate that it signed, and of that one's key.
fn signed(names: &[&str], lasts: Duration) -> Result<(String, String, String), rcgen::Error> {
    let now = SystemTime::now();
    let mut authority = CertificateParams::default();
    let common = "Forebay development authority";
    authority
        .distinguished_name
        .push(DnType::CommonName, common);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.not_before = (now - BEFORE).into();
    authority.not_after = (now + lasts).into();
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let common = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + lasts).into();
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((ca.pem(), certificate.pem(), key.serialize_pem()))
}

/// Write a file whole or not at all; another one is replaced only if that was asked for.
fn write(path: &Path, text: &str, mode: u32, replace: bool) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).mode(mode);
    let target = match replace {
        true => options.create(true).truncate(true).open(&new),
        false => options.create_new(true).open(path),
    };
    let mut file = target?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match replace {
        true => std::fs::rename(&new, path),
        false => Ok(()),
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Diagnosis {
    Diagnosis::new(
        CERTIFICATE_UNWRITTEN,
        format!("{} cannot be written", path.display()),
        error.to_string(),
        "a folder that may be written, without files of these names",
        "give another with --out, or --replace those that are there",
    )
}
