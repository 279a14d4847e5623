//! `forebay node`: a data plane whose tables come from a control plane in another process; and the nodes that a control plane has.

pub(crate) mod section;
mod seen;
mod staleness;
pub(crate) mod tables;
pub(crate) mod telling;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use control::tidy::Tidy;
use link::diagnosis::{CODES, LINK_AUTHORITY, NO_TABLE, TABLE_UNFIT};
use link::{
    Credentials, Follow, Followed, Freshness, Kept, KeptTable, Level, Lineage, Moment, Tell,
    Version,
};
use node::NodeHandle;
use node::config::NodeConfig;
use tls::LinkClient;
use wire::diagnosis::Diagnosis;
use wire::route::RouteTable;

use crate::control::from_control;
use crate::define::ask::ApiArgs;
use crate::define::{self, ChangeArgs, Noun, WaitArgs};
use crate::diagnosis::SECTION;
use crate::fault::Fault;
use crate::looking::{Files, Looking};
use crate::project::{Project, Source};
use crate::say::say;
pub(crate) use section::LinkFiles;
use staleness::{Ask, Staleness};
use telling::Telling;

/// How far a clock may be behind the one that a table was kept by.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// Arguments of `node`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "forebay.toml",
        global = false
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// List the nodes of a control plane, and how far each is
    Ls {
        /// Print names alone
        #[arg(long)]
        names: bool,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Show one node
    Show {
        /// Its name
        name: String,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Define one: the process with a certificate for that name may connect, and endpoints may be at home on it
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Change one: `address=HOST:PORT` is where clients reach it, `enabled=false` sends its process away
    Set {
        /// Its name
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Delete one on which no endpoint is at home: its process is sent away
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        wait: WaitArgs,
        #[command(flatten)]
        api: ApiArgs,
    },
}

/// Run a node until a signal says stop, or tell of nodes and change what is defined of them.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    match &args.command {
        Some(Command::Ls { names, api }) => seen::ls(api, *names),
        Some(Command::Show { name, api }) => seen::show(api, name),
        Some(Command::Create { name, change }) => done(define::create(Noun::Node, name, change)),
        Some(Command::Set { name, change }) => done(define::set(Noun::Node, name, change)),
        Some(Command::Delete { name, wait, api }) => done(seen::delete(api, name, wait)),
        None => serve(&args.config),
    }
}

fn done(result: Result<(), Fault>) -> Result<u8, Fault> {
    result.map(|()| 0)
}

fn serve(config: &std::path::Path) -> Result<u8, Fault> {
    let project = Project::read(config)?;
    let Source::Link(files) = project.source else {
        let what = format!("{} has no control plane to follow", config.display());
        let remedy = "add [link] to the configuration, or use `forebay run`";
        return Err(Diagnosis::new(SECTION, what, "no [link]", "a table [link]", remedy).into());
    };
    follow(project.node, &files)
}

/// What a node starts with.
struct Start {
    kept: Kept,
    followed: Followed,
    table: Arc<RouteTable>,
    /// The past that the table is of.
    lineage: Lineage,
    looking: Looking,
}

/// Run a node that follows a control plane.
pub(crate) fn follow(mut node: NodeConfig, files: &LinkFiles) -> Result<u8, Fault> {
    let tell: Arc<dyn Tell> = Arc::new(Telling::new(node.log_format));
    let start = start(&node, files, &tell)?;
    let ask: Ask = Arc::new(start.followed.watch());
    node.name = Some(files.name.as_str().into());
    let refuse = node.refuse_when_stale;
    // Nobody asks it before a table holds, and there may be a revocation in one that names a new hub.
    node.takes_unopenable = true;
    node.suspended = refuse && ask().1.is_stale(Moment::now());
    let suspended = node.suspended;
    let table = Arc::clone(&start.table);
    node::run_with(node, table, from_control, |node| {
        along(node, start, ask, (refuse, suspended), tell)
    })?;
    Ok(0)
}

/// What goes along with the node.
struct Along {
    followed: Option<Followed>,
    _staleness: Staleness,
    _looking: Looking,
}

impl Drop for Along {
    fn drop(&mut self) {
        if let Some(followed) = self.followed.take() {
            followed.end();
        }
    }
}

fn along(
    node: &NodeHandle,
    start: Start,
    ask: Ask,
    refuse: (bool, bool),
    tell: Arc<dyn Tell>,
) -> Result<Along, Diagnosis> {
    let Start {
        kept,
        mut followed,
        table,
        lineage,
        looking,
    } = start;
    let held = tables::Held {
        tables: node.tables(),
        newest: table,
        tidy: Tidy::default(),
        lineage,
        handed: lineage,
    };
    let staleness = Staleness::watch(ask, node.tables(), refuse, tell)?;
    followed.give_to(held, kept)?;
    Ok(Along {
        followed: Some(followed),
        _staleness: staleness,
        _looking: looking,
    })
}

/// Begin to follow, with the table that was kept or the first that comes.
fn start(node: &NodeConfig, files: &LinkFiles, tell: &Arc<dyn Tell>) -> Result<Start, Diagnosis> {
    let paths = [&files.ca, &files.own.certificate, &files.own.key].map(Clone::clone);
    let events = ("link_certificate_replaced", "link_certificate_refused");
    let mut shown = Files::new(paths.to_vec(), events, Arc::clone(tell));
    let credentials = Credentials::new(client(files)?);
    let (mut kept, table) = kept(files, &**tell)?;
    let now = Moment::now();
    let age = table
        .as_ref()
        .map(|(_, fresh)| age(*fresh, now.day, node.stale_after));
    let has = kept.version();
    let mut followed = link::follow(Follow {
        name: files.name.clone(),
        address: files.control.clone(),
        client: credentials.clone(),
        has,
        freshness: Freshness::new(now, age.unwrap_or_default(), node.stale_after),
        folder: files.table.clone(),
        tell: Arc::clone(tell),
    })?;
    let own = files.clone();
    let looking = Looking::start(move || {
        shown.look(|differ| {
            credentials.replace(client(&own)?, differ[0]);
            Ok(())
        });
    })?;
    let (version, table) = match has.zip(table) {
        Some((version, (table, _))) => {
            let fields: [(&str, &dyn std::fmt::Display); 1] = [("version", &version)];
            tell.tell(Level::Info, "table_kept", &fields);
            (version, table)
        }
        None => {
            say!("no table yet, waiting for {}", files.control);
            let (version, bytes) = followed.first().ok_or_else(no_table)?;
            let table = tables::read(version, bytes.clone())?;
            keep(&mut kept, version, &bytes, &**tell);
            (version, table)
        }
    };
    Ok(Start {
        kept,
        followed,
        table: Arc::new(table),
        lineage: version.lineage,
        looking,
    })
}

/// How old a table is that was fresh at this moment. One of the future says that a clock was set back, and nothing of how old it is: then it
/// is older than it may be, until the control plane says otherwise.
fn age(fresh: SystemTime, now: SystemTime, stale_after: Option<Duration>) -> Duration {
    match now.duration_since(fresh) {
        Ok(age) => age,
        Err(ahead) if ahead.duration() <= AHEAD_MAX => Duration::ZERO,
        Err(_) => stale_after.unwrap_or_default() + AHEAD_MAX,
    }
}

fn keep(kept: &mut Kept, version: Version, bytes: &[u8], tell: &dyn Tell) {
    if let Err(fault) = kept.keep_snapshot(version, bytes) {
        tell.tell(Level::Error, "table_unkept", &[("fault", &fault)]);
    }
}

/// The table that was kept, and until when it was fresh. One that cannot be read is put aside, and another one waited for.
fn kept(
    files: &LinkFiles,
    tell: &dyn Tell,
) -> Result<(Kept, Option<(RouteTable, SystemTime)>), Diagnosis> {
    let opened = Kept::open(&files.table);
    let read = opened.and_then(|(kept, table)| {
        let fresh = table.as_ref().map(|table| table.fresh);
        let table = table.map(put_together).transpose()?;
        Ok((kept, table.zip(fresh)))
    });
    match read {
        Err(fault) if fault.code == TABLE_UNFIT => {
            tell.tell(Level::Error, "table_damaged", &[("fault", &fault)]);
            Kept::put_aside(&files.table)?;
            let (kept, _) = Kept::open(&files.table)?;
            Ok((kept, None))
        }
        read => read,
    }
}

/// A kept table with what changed it.
fn put_together(kept: KeptTable) -> Result<RouteTable, Diagnosis> {
    let (version, bytes) = kept.snapshot;
    let mut table = tables::read(version, bytes)?;
    for (_, becomes, bytes) in kept.deltas {
        table = tables::change(&table, becomes, &bytes)?.0;
    }
    Ok(table)
}

/// The table that a node has kept, for commands that look things up in it.
pub(crate) fn table(files: &LinkFiles) -> Result<RouteTable, Diagnosis> {
    let (_, kept) = Kept::open(&files.table)?;
    kept.map_or_else(|| Err(no_table()), put_together)
}

fn no_table() -> Diagnosis {
    let needed = "a table from the control plane";
    Diagnosis::from_table(CODES, NO_TABLE, "the node's table", "none", needed)
}

fn client(files: &LinkFiles) -> Result<LinkClient, Diagnosis> {
    let own = files.own.read()?;
    let authority = authority(&files.ca)?;
    LinkClient::new(&own, &authority, files.host()).map_err(|fault| unusable(&files.ca, &fault))
}

/// The authority of the link, as PEM.
pub(crate) fn authority(file: &std::path::Path) -> Result<Vec<u8>, Diagnosis> {
    std::fs::read(file).map_err(|error| unusable(file, &error))
}

/// It cannot be used.
pub(crate) fn unusable(file: &std::path::Path, why: &dyn std::fmt::Display) -> Diagnosis {
    let what = format!("authority {}", file.display());
    let needed = "certificates in PEM";
    Diagnosis::from_table(CODES, LINK_AUTHORITY, what, why.to_string(), needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_the_future_is_older_than_it_may_be() {
        let (fresh, bound) = (SystemTime::now(), Duration::from_secs(600));
        let second = Duration::from_secs(1);
        assert_eq!(age(fresh, fresh + 7 * second, Some(bound)), 7 * second);
        assert_eq!(age(fresh, fresh - second, Some(bound)), Duration::ZERO);
        assert!(age(fresh, fresh - 3_600 * second, Some(bound)) > bound);
    }
}
