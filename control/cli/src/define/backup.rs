//! `forebay backup` and `forebay restore`: the whole store in one file, and back.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use control::diagnosis::{BACKUP_EXISTS, CODES};
use control::store::file;
use serde_json::json;
use wire::diagnosis::Diagnosis;

use super::ask::ApiArgs;
use crate::control::ControlFiles;
use crate::diagnosis::NO_PLAN;
use crate::fault::Fault;
use crate::project::{Project, Source};
use crate::say::say;

/// Arguments of `backup`.
#[derive(clap::Args)]
pub(crate) struct BackupArgs {
    /// The file to write, which is not there yet
    file: PathBuf,
    #[command(flatten)]
    api: ApiArgs,
}

/// Arguments of `restore`.
#[derive(clap::Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// The configuration whose [control] names the folder of the store, which has none yet
    #[arg(long, value_name = "FILE", default_value = "forebay.toml")]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Fetch a copy of the store as it is now, and write it to a file of its owner.
pub(crate) fn backup(args: &BackupArgs) -> Result<u8, Fault> {
    let unwritten = |error: std::io::Error| {
        let what = format!("{} cannot be written", args.file.display());
        let needed = "a name that is free, in a folder that can be written";
        Diagnosis::from_table(CODES, BACKUP_EXISTS, what, error.to_string(), needed)
    };
    // What is there is told before everything is fetched; it is not overwritten in any case.
    if args.file.exists() {
        return Err(unwritten(ErrorKind::AlreadyExists.into()).into());
    }
    let fetched = args.api.fetch("GET", "/v1/backup", "", None)?.body;
    // Half a backup never has the name of one.
    file::create(&args.file, &fetched).map_err(unwritten)?;
    let bytes = fetched.len();
    match args.api.json {
        true => say!("{}", json!({ "file": args.file, "bytes": bytes })),
        false => say!(
            "{} holds everything, its secrets sealed under the master key: {bytes} bytes",
            args.file.display()
        ),
    }
    Ok(0)
}

/// The files of the control plane that a configuration names.
pub(crate) fn files(config: &Path) -> Result<ControlFiles, Fault> {
    let Source::Control(files, _) = Project::read(config)?.source else {
        let (what, seen) = ("there is no store to work on", "no [control]");
        let (codes, needed) = (crate::diagnosis::CODES, "a configuration with [control]");
        return Err(Diagnosis::from_table(codes, NO_PLAN, what, seen, needed).into());
    };
    Ok(files)
}

/// Make a store of a backup, after checking all of it.
pub(crate) fn restore(args: &RestoreArgs) -> Result<u8, Fault> {
    let files = files(&args.config)?;
    let verdict = crate::control::restore(&files, Path::new(&args.file))?;
    let digest = crate::control::offline(&files)?.digest();
    if args.json {
        let head = &verdict.head;
        let version = verdict.version;
        let told = json!({ "version": version, "lines": verdict.lines, "head": head, "digest": digest.to_string() });
        say!("{told}");
    } else {
        let (version, lines) = (verdict.version, verdict.lines);
        say!("restored version {version}; {lines} lines of the audit log are whole");
        say!("head    {}\ndigest  {digest}", verdict.head);
    }
    Ok(0)
}
