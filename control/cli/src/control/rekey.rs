//! `forebay store rekey`: another master key for a store that nobody has open.

use std::path::PathBuf;
use std::sync::Arc;

use control::diagnosis::MASTER_KEY_WRONG;
use control::seal::MasterKey;
use control::store::{Store, master};
use serde_json::json;
use wire::diagnosis::Diagnosis;

use super::{ControlFiles, Make, STORE, acting, compiled, open};
use crate::define::backup::files;
use crate::fault::Fault;
use crate::say::say;

/// Arguments of `store`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Seal every secret and link the audit log under another master key
    Rekey(RekeyArgs),
}

/// Arguments of `store rekey`.
#[derive(clap::Args)]
struct RekeyArgs {
    /// The configuration whose [control] names the store and the master key that it has; nobody may have it open
    #[arg(long, value_name = "FILE", default_value = "forebay.toml")]
    config: PathBuf,
    /// The file of the new master key, which is made if it is not there. Without it: credential `forebay-new-master-key`, else FOREBAY_NEW_MASTER_KEY
    #[arg(long, value_name = "FILE")]
    new_key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Do what is asked of a store.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    let Command::Rekey(args) = &args.command;
    let files = files(&args.config)?;
    let store = match open(&files, Make::Never) {
        Ok(store) => store,
        Err(fault) if fault.code == MASTER_KEY_WRONG => {
            return is_done(args, &files).map_err(|_| fault.into());
        }
        Err(fault) => return Err(fault.into()),
    };
    let digest = compiled(&store)?.digest();
    let new = Arc::new(find(args, true)?);
    let same = |under: &Store| {
        let table = compiled(under).map_err(|mut found| found.remove(0))?;
        assert_eq!(table.digest(), digest, "another key says nothing else");
        Ok(())
    };
    let done = acting("store rekey", |act| store.rekey(new, act, same))?;
    let (verdict, secrets) = (&done.verdict, done.secrets);
    let (version, lines, head) = (verdict.version, verdict.lines, &verdict.head);
    if args.json {
        let told = json!({ "rekeyed": true, "version": version, "secrets": secrets, "lines": lines, "head": head, "digest": digest.to_string() });
        say!("{told}");
    } else {
        say!(
            "the store is under the new master key, version {version}; {secrets} secrets are sealed anew, {lines} lines of the audit log are whole"
        );
        say!("head    {head}\ndigest  {digest}");
        say!("{}", next(&files));
    }
    Ok(0)
}

/// The new master key.
fn find(args: &RekeyArgs, may_make: bool) -> Result<MasterKey, Diagnosis> {
    let variable = |name: &str| std::env::var(name).ok();
    master::find_new(args.new_key.as_deref(), variable, may_make)
}

/// What is asked for once more, since nobody saw how it ended, is told to hold.
fn is_done(args: &RekeyArgs, files: &ControlFiles) -> Result<u8, Diagnosis> {
    let store = Store::open(&files.folder.join(STORE), Arc::new(find(args, false)?))?;
    let version = store.load()?.version;
    match args.json {
        true => say!("{}", json!({ "rekeyed": false, "version": version })),
        false => say!(
            "the store is under the new master key already, version {version}; nothing was changed\n{}",
            next(files)
        ),
    }
    Ok(0)
}

/// What is left to whoever keeps the keys.
fn next(files: &ControlFiles) -> String {
    format!(
        "before the next start, give the new key in the place of the old one: credential `{}`, {} or {};\nkeep the old one as long as backups that were made before",
        master::CREDENTIAL,
        master::VARIABLE,
        files.master_key.display()
    )
}
