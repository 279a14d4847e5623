//! `forebay log ls|dump|verify`: a data folder, looked at offline. Opens files for reading only.

mod dump;
mod ls;
mod verify;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use node::inspect::{LogView, logs};
use wire::diagnosis::Diagnosis;
use wire::route::RouteTable;

use crate::diagnosis::{NO_LOGS, NO_SUCH_LOG};
use crate::fault::Fault;
use crate::project::read_plan;

/// Arguments of `log`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List logs and segments with their offsets and bytes
    Ls(ls::LsArgs),
    /// Print messages with offset, time, sender, channel, sequence and body
    Dump(dump::DumpArgs),
    /// Check every checksum, gap and stored envelope signature; report damage with exact offsets
    Verify(verify::VerifyArgs),
}

/// What every log command takes.
#[derive(clap::Args)]
pub(crate) struct Folder {
    /// The data folder
    data: PathBuf,
    /// Only this log, such as p-0001f3a2 or q-0000
    #[arg(long)]
    log: Option<String>,
    /// Plan that gives ids their names and envelopes their keys
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Run one of them.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    match &args.command {
        Command::Ls(args) => ls::run(args),
        Command::Dump(args) => dump::run(args),
        Command::Verify(args) => verify::run(args),
    }
}

impl Folder {
    /// The logs asked for, opened for looking.
    fn views(&self) -> Result<Vec<LogView>, Fault> {
        let all = match self.data.is_dir() {
            true => logs(&self.data).map_err(|error| error.diagnosis())?,
            false => Vec::new(),
        };
        if all.is_empty() {
            let seen = match self.data.is_dir() {
                true => "0 logs",
                false => "no such folder",
            };
            return Err(no_logs(&self.data, seen).into());
        }
        let chosen: Vec<_> = all
            .iter()
            .filter(|log| {
                self.log
                    .as_ref()
                    .is_none_or(|name| *name == log.to_string())
            })
            .collect();
        if chosen.is_empty() {
            let names: Vec<String> = all.iter().map(ToString::to_string).collect();
            let seen = self.log.clone().unwrap_or_default();
            let remedy = match control::nearest::nearest(&seen, names.iter().map(String::as_str)) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "`forebay log ls` lists them".to_owned(),
            };
            return Err(Diagnosis::new(
                NO_SUCH_LOG,
                "the folder has no such log",
                format!("`{seen}`"),
                names.join(", "),
                remedy,
            )
            .into());
        }
        let open = |log: &&_| {
            LogView::open(&self.data, **log).map_err(|error| Fault::from(error.diagnosis()))
        };
        chosen.iter().map(open).collect()
    }

    /// The plan's table, when a plan is given.
    fn table(&self) -> Result<Option<RouteTable>, Fault> {
        match &self.plan {
            Some(plan) => Ok(Some(read_plan(plan, 1)?)),
            None => Ok(None),
        }
    }
}

fn no_logs(data: &Path, seen: &str) -> Diagnosis {
    let what = format!("{} holds no logs", data.display());
    Diagnosis::new(
        NO_LOGS,
        what,
        seen,
        "a data folder of Forebay",
        "give the folder named `data` in the configuration",
    )
}
