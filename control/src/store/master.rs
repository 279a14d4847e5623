//! Where the master key comes from: a credential of the service manager, the environment, or a file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use wire::diagnosis::Diagnosis;
use zeroize::Zeroizing;

use super::file;
use crate::diagnosis::{CODES, MASTER_KEY_MISSING, MASTER_KEY_OPEN};
use crate::seal::MasterKey;

/// The variable that may hold the master key.
pub const VARIABLE: &str = "FOREBAY_MASTER_KEY";
/// The credential that may hold the master key, in the folder that the service manager names.
pub const CREDENTIAL: &str = "forebay-master-key";
/// The variable in which the service manager names that folder.
pub const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// The variable that may hold the master key that is to come in the place of another.
pub const NEW_VARIABLE: &str = "FOREBAY_NEW_MASTER_KEY";
/// The credential that may hold it.
pub const NEW_CREDENTIAL: &str = "forebay-new-master-key";

/// The master key: from the credential if there is one, else from the environment, else from the file. A file that is not there
/// is made if `may_make` says so.
///
/// # Errors
/// When there is none, it is malformed, or others may read the file.
pub fn find(
    file: &Path,
    variable: impl Fn(&str) -> Option<String>,
    may_make: bool,
) -> Result<MasterKey, Diagnosis> {
    match given(CREDENTIAL, VARIABLE, variable)? {
        Some(given) => Ok(given),
        None => from_file(file, may_make),
    }
}

/// The master key that is to come in the place of another: from the file if one is named, which is made if it is not there and `may_make` says so, else from
/// its credential, else from its variable.
///
/// # Errors
/// When there is none, it is malformed, or others may read the file.
pub fn find_new(
    file: Option<&Path>,
    variable: impl Fn(&str) -> Option<String>,
    may_make: bool,
) -> Result<MasterKey, Diagnosis> {
    if let Some(file) = file {
        return from_file(file, may_make);
    }
    given(NEW_CREDENTIAL, NEW_VARIABLE, variable)?.ok_or_else(|| {
        let what = "there is no new master key";
        let seen =
            format!("no --new-key, no credential `{NEW_CREDENTIAL}`, no variable {NEW_VARIABLE}");
        let needed = "the base64 of 32 bytes in one of them";
        let remedy = "give --new-key with a file; one that is not there is made";
        Diagnosis::new(MASTER_KEY_MISSING, what, seen, needed, remedy)
    })
}

/// From the credential, else from the environment.
fn given(
    credential: &str,
    name: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<MasterKey>, Diagnosis> {
    let folder = variable(CREDENTIALS_VARIABLE).map(PathBuf::from);
    let credential = folder.map(|folder| folder.join(credential));
    if let Some(credential) = credential.filter(|path| path.exists()) {
        return parse(&read(&credential)?, &credential.display().to_string()).map(Some);
    }
    let text = variable(name).map(Zeroizing::new);
    text.map(|text| parse(&text, &format!("variable {name}")))
        .transpose()
}

fn from_file(file: &Path, may_make: bool) -> Result<MasterKey, Diagnosis> {
    let name = file.display().to_string();
    match fs::metadata(file) {
        Ok(about) if about.permissions().mode() & 0o077 != 0 => {
            let seen = format!("mode {:04o}", about.permissions().mode() & 0o7777);
            let what = format!("others may read the master key in {name}");
            Err(Diagnosis::from_table(
                CODES,
                MASTER_KEY_OPEN,
                what,
                seen,
                "mode 0600 or 0400",
            ))
        }
        Ok(about) if about.len() == 0 => Err(empty(&name)),
        Ok(_) => parse(&read(file)?, &name),
        Err(error) if may_make && error.kind() == std::io::ErrorKind::NotFound => make(file),
        Err(error) => Err(missing(&name, error.to_string())),
    }
}

/// Write a new master key to a file that only its owner may read.
fn make(path: &Path) -> Result<MasterKey, Diagnosis> {
    let text = MasterKey::new_text();
    let name = path.display().to_string();
    let line = Zeroizing::new(format!("{}\n", *text));
    let made = file::create(path, line.as_bytes());
    made.map_err(|error| missing(&name, error.to_string()))?;
    parse(&text, &name)
}

/// What a crash leaves that came while the file was made, and a disk that was full.
fn empty(place: &str) -> Diagnosis {
    let what = format!("there is no master key in {place}");
    let remedy = "put the copy of the key there that was kept elsewhere; without one, delete the file, and what was sealed under it is lost: \
                  with no store beside it, which is what a first start leaves that was cut off, nothing was, and the next start makes a new key";
    let (seen, needed) = (
        "an empty file, which is what a crash leaves that came while it was made",
        "the base64 of 32 bytes",
    );
    Diagnosis::new(MASTER_KEY_MISSING, what, seen, needed, remedy)
}

fn read(file: &Path) -> Result<Zeroizing<String>, Diagnosis> {
    let text = fs::read_to_string(file).map(Zeroizing::new);
    text.map_err(|error| missing(&file.display().to_string(), error.to_string()))
}

fn parse(text: &str, place: &str) -> Result<MasterKey, Diagnosis> {
    MasterKey::from_text(text).map_err(|seen| missing(place, seen))
}

fn missing(place: &str, seen: String) -> Diagnosis {
    let what = format!("there is no master key in {place}");
    let needed = "the base64 of 32 bytes";
    Diagnosis::from_table(CODES, MASTER_KEY_MISSING, what, seen, needed)
}
