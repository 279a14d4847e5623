//! Certificates of the link between a control plane and its nodes: an authority that is kept, and what it signs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use wire::diagnosis::Diagnosis;

use super::{BEFORE, DAY, refused, write_all};
use crate::diagnosis::{CERTIFICATE_AUTHORITY, CODES};
use crate::fault::Fault;
use crate::say::say;

/// What the authority is called, in every certificate that it signs.
const AUTHORITY: &str = "Forebay link authority";
/// How long the authority itself is good.
const AUTHORITY_LASTS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Where the authority is kept.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(folder: &Path) -> Self {
        Self {
            certificate: folder.join("ca.pem"),
            key: folder.join("ca.key.pem"),
        }
    }
}

/// `forebay cert control`.
pub(super) fn control(out: &Path, names: &[String], days: u32, replace: bool) -> Result<u8, Fault> {
    let files = Files::of(out);
    if !files.key.exists() {
        make_authority(out, &files)?;
        say!(
            "authority    {} (for both sides: ca)",
            files.certificate.display()
        );
        let key = files.key.display();
        say!("its key      {key} (mode 0600; to sign with, needed nowhere else)");
    }
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    let (certificate, key) = sign(out, out, "control", names, (usage, days), replace)?;
    let (certificate, key) = (certificate.display(), key.display());
    say!(
        "certificate  {certificate} for {}, {days} days",
        names.join(", ")
    );
    say!("key          {key} (mode 0600)\n");
    say!(
        "[control.nodes]\nlisten = \"0.0.0.0:7415\"\nnames = []  # those that `forebay cert node` is asked for\nca = \"{}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"",
        files.certificate.display()
    );
    Ok(0)
}

/// `forebay cert node`.
pub(super) fn node(
    out: &Path,
    authority: &Path,
    name: &str,
    days: u32,
    replace: bool,
) -> Result<u8, Fault> {
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let names = [name.to_owned()];
    let (certificate, key) = sign(authority, out, name, &names, (usage, days), replace)?;
    let (certificate, key) = (certificate.display(), key.display());
    say!("certificate  {certificate} for node {name}, {days} days");
    say!("key          {key} (mode 0600)\n");
    say!(
        "[link]\nname = \"{name}\"\ncontrol = \"HOST:7415\"\nca = \"{}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"",
        Files::of(authority).certificate.display()
    );
    Ok(0)
}

fn params() -> CertificateParams {
    let now = SystemTime::now();
    let mut authority = CertificateParams::default();
    authority
        .distinguished_name
        .push(DnType::CommonName, AUTHORITY);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.not_before = (now - BEFORE).into();
    authority.not_after = (now + AUTHORITY_LASTS).into();
    authority
}

fn make_authority(folder: &Path, files: &Files) -> Result<(), Diagnosis> {
    let made = KeyPair::generate().and_then(|key| Ok((params().self_signed(&key)?, key)));
    let (certificate, key) = made.map_err(|error| refused(&error, AUTHORITY))?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    write_all(
        folder,
        false,
        [
            (&files.key, &key, 0o600),
            (&files.certificate, &certificate, 0o644),
        ],
    )
}

/// Sign a certificate for these names with the authority of a folder: NAME.pem and NAME.key.pem in `out`.
fn sign(
    authority: &Path,
    out: &Path,
    name: &str,
    names: &[String],
    (usage, days): (ExtendedKeyUsagePurpose, u32),
    replace: bool,
) -> Result<(PathBuf, PathBuf), Diagnosis> {
    let issuer = issuer(&Files::of(authority))?;
    let made = signed(&issuer, names, usage, DAY * days);
    let (certificate, key) = made.map_err(|error| refused(&error, &names.join(", ")))?;
    let paths = (
        out.join(format!("{name}.pem")),
        out.join(format!("{name}.key.pem")),
    );
    write_all(
        out,
        replace,
        [(&paths.1, &key, 0o600), (&paths.0, &certificate, 0o644)],
    )?;
    Ok(paths)
}

fn issuer(files: &Files) -> Result<Issuer<'static, KeyPair>, Diagnosis> {
    let unusable = |seen: String| {
        let what = format!("authority {}", files.key.display());
        let needed = "the key that `forebay cert control` wrote";
        Diagnosis::from_table(CODES, CERTIFICATE_AUTHORITY, what, seen, needed)
    };
    let text = std::fs::read_to_string(&files.key).map_err(|error| unusable(error.to_string()))?;
    let key = KeyPair::from_pem(&text).map_err(|error| unusable(error.to_string()))?;
    Ok(Issuer::new(params(), key))
}

fn signed(
    issuer: &Issuer<'_, KeyPair>,
    names: &[String],
    usage: ExtendedKeyUsagePurpose,
    lasts: Duration,
) -> Result<(String, String), rcgen::Error> {
    let now = SystemTime::now();
    let mut params = CertificateParams::new(names.to_vec())?;
    let common = names.first().cloned().unwrap_or_default();
    params.distinguished_name.push(DnType::CommonName, common);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + lasts).into();
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
