//! `forebay backup` and `forebay restore`: the whole store in one file, and back.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use control::diagnosis::{BACKUP_EXISTS, CODES};
use serde_json::json;
use wire::diagnosis::Diagnosis;

use super::ask::ApiArgs;
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
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&args.file).map_err(unwritten)?;
    let fetched = args.api.fetch("GET", "/v1/backup", "", None);
    let written = fetched.and_then(|(bytes, _)| {
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        written.map_err(unwritten)?;
        Ok(bytes.len())
    });
    if written.is_err() {
        // Half a backup is none; what went wrong is told anyway.
        let _ = std::fs::remove_file(&args.file);
    }
    let bytes = written?;
    match args.api.json {
        true => say!("{}", json!({ "file": args.file, "bytes": bytes })),
        false => say!(
            "{} holds everything, its secrets sealed under the master key: {bytes} bytes",
            args.file.display()
        ),
    }
    Ok(0)
}

/// Make a store of a backup, after checking all of it.
pub(crate) fn restore(args: &RestoreArgs) -> Result<u8, Fault> {
    let Source::Control(files, _) = Project::read(&args.config)?.source else {
        let (what, seen) = ("there is no store to restore", "no [control]");
        let (codes, needed) = (crate::diagnosis::CODES, "a configuration with [control]");
        return Err(Diagnosis::from_table(codes, NO_PLAN, what, seen, needed).into());
    };
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
