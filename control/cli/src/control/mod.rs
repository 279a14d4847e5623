//! The control plane: its store, its API, and the ways of its tables to nodes. In the same process as a node, or alone.

mod nodes;
pub(crate) mod own;
mod push;
pub(crate) mod rekey;
pub(crate) mod section;
mod secure;
mod ways;

use std::fmt::Display;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use control::api::{Listen, Secure, Serving, serve};
use control::compile::{Found, compile};
use control::diagnosis::{STORE_FAILED, UNREADABLE};
use control::model::{Model, Noun};
use control::service::{Caller, Clock, Service, Unpublished, limits, setting};
use control::store::audit::Verdict;
use control::store::{Act, Change, Store, file, lost, master};
use link::{Fleet, Level, Tell};
use node::config::NodeConfig;
use node::diagnosis::RELOAD_REFUSED;
use wire::diagnosis::Diagnosis;
use wire::route::RouteTable;

use crate::diagnosis::{ARGUMENT, SECTION};
use crate::fault::Fault;
use crate::node::telling::Telling;
use crate::project::{Project, Source};
use crate::say::say;
pub(crate) use push::HERE;
use push::Push;
pub(crate) use section::ControlFiles;
use section::Secured;
use ways::Ways;

/// File of the store, within the control plane's folder.
const STORE: &str = "store";
/// File of the token that a new store begins with.
const FIRST_TOKEN: &str = "first-owner.token";

/// Run a node with the control plane beside it, until a signal says stop. A new store begins with the plan.
pub(crate) fn run(
    mut node: NodeConfig,
    files: &ControlFiles,
    plan: Option<&Path>,
    new: bool,
) -> Result<u8, Fault> {
    let store = open(files, Make::of(new))?;
    if let Some(plan) = plan {
        begin_with(&store, plan)?;
    }
    let table = Arc::new(compiled(&store)?);
    let tell: Arc<dyn Tell> = Arc::new(Telling::new(node.log_format));
    node.name = Some(HERE.into());
    node::run_with(node, table, from_control, |node| {
        along(Push::start(node.tables())?, store, files, tell)
    })?;
    Ok(0)
}

/// Refuses to read a plan again.
pub(crate) fn from_control() -> Result<Arc<RouteTable>, Diagnosis> {
    let (seen, needed) = ("a signal or POST /reload", "a change through the API");
    let remedy = "use `forebay apply` or another command that changes things";
    let what = "the route table comes from the control plane";
    Err(Diagnosis::new(RELOAD_REFUSED, what, seen, needed, remedy))
}

/// Arguments of `control`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "forebay.toml")]
    config: PathBuf,
    /// Begin with an empty store, though there was one that is lost
    #[arg(long)]
    new: bool,
}

/// Run a control plane without a node, until a signal says stop.
pub(crate) fn serve_alone(args: &Args) -> Result<u8, Fault> {
    let project = Project::read(&args.config)?;
    let Source::Control(files, plan) = project.source else {
        let what = format!("{} has no control plane", args.config.display());
        let remedy = "add [control] to the configuration";
        let (seen, needed) = ("no [control]", "a table [control]");
        return Err(Diagnosis::new(SECTION, what, seen, needed, remedy).into());
    };
    let store = open(&files, Make::of(args.new))?;
    if let Some(plan) = &plan {
        begin_with(&store, plan)?;
    }
    let tell: Arc<dyn Tell> = Arc::new(Telling::new(project.node.log_format));
    let along = along(None, store, &files, tell)?;
    node::until_told_to_stop()?;
    drop(along);
    Ok(0)
}

/// The table of a store that no process has open.
pub(crate) fn table(files: &ControlFiles) -> Result<RouteTable, Vec<Diagnosis>> {
    let store = open(files, Make::Never).map_err(|fault| vec![fault])?;
    compiled(&store)
}

fn compiled(store: &Store) -> Result<RouteTable, Vec<Diagnosis>> {
    let catalog = store.load().map_err(|fault| vec![fault])?;
    let compiled = compile(&catalog.model(), catalog.version, Some(store.master()));
    compiled.map(|compiled| compiled.table).map_err(faults)
}

/// Put a plan into a store that has nothing in it yet.
fn begin_with(store: &Store, plan: &Path) -> Result<(), Fault> {
    if store.load()?.version > 0 {
        return Ok(());
    }
    let (model, text) = read_model(plan)?;
    let name = plan.display().to_string();
    let good = compile(&model, 1, Some(store.master()));
    good.map_err(|found| control::plan::located(found, &text, &name))?;
    limits::check(&model).map_err(|found| control::plan::located(found, &text, &name))?;
    let mut changes: Vec<Change> = model
        .into_things()
        .map(|thing| setting(thing, Some(0)))
        .collect();
    let act = Act {
        actor: &Caller::local().name,
        at_seconds: clock()(),
        action: "import",
    };
    store.commit(&act, &mut changes)?;
    Ok(())
}

/// Read a plan as a model, and its text.
pub(crate) fn read_model(plan: &Path) -> Result<(Model, String), Diagnosis> {
    let name = plan.display().to_string();
    let text = std::fs::read_to_string(plan).map_err(|error| {
        let what = format!("document {name} cannot be read");
        let codes = control::diagnosis::CODES;
        Diagnosis::from_table(
            codes,
            UNREADABLE,
            what,
            error.to_string(),
            "a readable TOML file",
        )
    })?;
    Ok((control::plan::read(&text, &name)?, text))
}

/// The control plane of a store that no process has open, without any nodes.
pub(crate) fn offline(files: &ControlFiles) -> Result<Service, Fault> {
    let store = open(files, Make::Never)?;
    let service = Service::start(store, Box::new(Unpublished), clock());
    Ok(service.map_err(faults)?)
}

/// What runs: with a node, or alone.
struct Along {
    serving: Option<Serving>,
    push: Option<Push>,
    open: Option<nodes::Open>,
}

impl Drop for Along {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.end();
        }
        if let Some(open) = self.open.take() {
            open.listening.end();
        }
        if let Some(push) = &self.push {
            push.end();
        }
    }
}

fn along(
    push: impl Into<Option<Push>>,
    store: Store,
    files: &ControlFiles,
    tell: Arc<dyn Tell>,
) -> Result<Along, Diagnosis> {
    let push = push.into();
    let nodes = files.nodes.as_ref();
    let here = push.as_ref().map(|push| push.name().to_owned());
    let fleet = nodes.map(|nodes| {
        let names = nodes::others(nodes.names.clone(), here.as_deref())?;
        Ok(Fleet::new(names, store.ancestors()))
    });
    let fleet = fleet.transpose()?;
    let ways = Ways {
        here: push.clone(),
        fleet: fleet.clone(),
        lineage: store.lineage(),
        table_bytes_max: link::frame::PAYLOAD_BYTES_MAX,
    };
    let service = Service::start(store, Box::new(ways), clock());
    let service = Arc::new(service.map_err(first)?);
    first_token(&service, files)?;
    let api_tell = Arc::clone(&tell);
    let open = nodes.zip(fleet).map(|(nodes, fleet)| {
        let about = (files.config.as_deref(), here.as_deref());
        nodes::open(nodes, about, fleet, tell)
    });
    let open = open.transpose()?;
    if let Some(open) = &open {
        say!("nodes on {}", open.listening.address());
    }
    let (secure, pinned) = secured(files)?;
    let scheme = if secure.is_some() { "https" } else { "http" };
    let address = files.listen;
    let tell: control::api::Tell = Arc::new(
        move |event: &'static str, fields: &[(&str, &dyn Display)]| {
            api_tell.tell(Level::Warning, event, fields);
        },
    );
    let listen = Listen {
        address,
        secure,
        tell: Some(tell),
    };
    let serving = serve(listen, service)?;
    say!("api on {scheme}://{}", serving.address());
    if let Some(own::Pinned { path, fingerprint }) = pinned {
        say!(
            "its certificate is {}, to be pinned: {fingerprint}",
            path.display()
        );
    }
    Ok(Along {
        serving: Some(serving),
        push,
        open,
    })
}

/// What makes the tunnels of the API, if it has any; and the certificate, if it is one that clients pin.
fn secured(files: &ControlFiles) -> Result<(Option<Secure>, Option<own::Pinned>), Diagnosis> {
    let given = match &files.secured {
        Secured::Own => {
            let (pair, pinned) = own::pair(&files.folder, files.listen.ip())?;
            return Ok((Some(secure::secure(&pair)?), Some(pinned)));
        }
        Secured::Given(pair) => Some(secure::secure(pair)?),
        Secured::Plain => None,
    };
    own::forget(&files.folder)?;
    Ok((given, None))
}

/// Give a store that has no token one, in its file before it opens anything.
fn first_token(service: &Service, files: &ControlFiles) -> Result<(), Diagnosis> {
    let path = files.folder.join(FIRST_TOKEN);
    let keep = |text: &str| {
        let kept = file::replace(&path, text.as_bytes());
        kept.map_err(|error| unwritten(&path, &error))
    };
    if service.first_token(keep).map_err(first)? {
        say!("the first token, of an owner, is in {}", path.display());
    }
    Ok(())
}

/// When a store is made that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    /// Never: it must have been made before.
    Never,
    /// When there never was one, as far as can be seen.
    First,
    /// When there is none, whatever there was.
    Anew,
}

impl Make {
    const fn of(new: bool) -> Self {
        if new { Self::Anew } else { Self::First }
    }
}

/// Open the store of these files.
pub(crate) fn open(files: &ControlFiles, make: Make) -> Result<Store, Diagnosis> {
    if make != Make::Never {
        make_folder(files)?;
    }
    let path = files.folder.join(STORE);
    // A master key that is lost is not replaced by a new one, which would open nothing.
    let new = absent(files, &path, make)?;
    let variable = |name: &str| std::env::var(name).ok();
    let master = master::find(&files.master_key, variable, new)?;
    Store::open(&path, Arc::new(master))
}

/// Whether a store is to be made; refused where it may not be.
fn absent(files: &ControlFiles, path: &Path, make: Make) -> Result<bool, Diagnosis> {
    let there = match std::fs::metadata(path) {
        Ok(about) => Some(about),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(unwritten(path, &error)),
    };
    match (there, make) {
        (Some(about), Make::Anew) if about.len() == 0 => {
            std::fs::remove_file(path).map_err(|error| unwritten(path, &error))?;
            Ok(true)
        }
        (Some(_), Make::Anew) => {
            let what = "--new makes a store where there is none";
            let (seen, needed) = (path.display().to_string(), "no file of that name");
            let remedy = "leave --new out; it is for one start alone";
            Err(Diagnosis::new(ARGUMENT, what, seen, needed, remedy))
        }
        (Some(about), _) if about.permissions().mode() & 0o077 != 0 => {
            let mode = about.permissions().mode() & 0o7777;
            let what = format!("others may look into store {}", path.display());
            let (seen, needed) = (format!("mode {mode:04o}"), "mode 0600");
            let remedy = "chmod 0600 the file";
            Err(Diagnosis::new(STORE_FAILED, what, seen, needed, remedy))
        }
        (Some(_), _) => Ok(false),
        (None, Make::Anew) => Ok(true),
        (None, Make::First) => match trace(files) {
            Some(trace) => Err(lost(path, &format!("no file, and {}", trace.display()))),
            None => Ok(true),
        },
        (None, Make::Never) => {
            let what = format!("there is no store at {}", path.display());
            let (seen, needed) = ("no file", "the store of a control plane that ran before");
            let remedy = "start `forebay run` once, or correct `folder` under [control]";
            Err(Diagnosis::new(STORE_FAILED, what, seen, needed, remedy))
        }
    }
}

/// What a store leaves beside it. A master key that is kept elsewhere may be there before the first store.
fn trace(files: &ControlFiles) -> Option<PathBuf> {
    let mut traces = vec![files.folder.join(FIRST_TOKEN)];
    traces.extend(own::names().map(|name| files.folder.join(name)));
    if files.master_key.starts_with(&files.folder) {
        traces.push(files.master_key.clone());
    }
    traces.into_iter().find(|trace| trace.exists())
}

/// Make the store of these files from a backup, and note that in it. There must be none yet, and the master key must be there.
pub(crate) fn restore(files: &ControlFiles, backup: &Path) -> Result<Verdict, Diagnosis> {
    make_folder(files)?;
    let variable = |name: &str| std::env::var(name).ok();
    let master = Arc::new(master::find(&files.master_key, variable, false)?);
    let path = files.folder.join(STORE);
    control::store::restore(backup, &path, Arc::clone(&master))?;
    let store = Store::open(&path, master)?;
    acting("restore", |act| store.note(act, Noun::Settings, ""))?;
    store.verify_audit()
}

/// Do what whoever is at this machine does.
fn acting<T>(action: &str, work: impl FnOnce(&Act<'_>) -> T) -> T {
    work(&Act {
        actor: &Caller::local().name,
        at_seconds: clock()(),
        action,
    })
}

/// The clock of this machine.
pub(crate) fn clock() -> Clock {
    Box::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    })
}

/// The faults without their places, which their texts name.
pub(crate) fn faults(found: Vec<Found>) -> Vec<Diagnosis> {
    found.into_iter().map(|found| found.fault).collect()
}

fn first(found: Vec<Found>) -> Diagnosis {
    let mut faults = faults(found);
    faults.truncate(1);
    faults.pop().expect("a refusal names a fault")
}

fn make_folder(files: &ControlFiles) -> Result<(), Diagnosis> {
    let made = file::make_folder(&files.folder);
    made.map_err(|error| unwritten(&files.folder, &error))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Diagnosis {
    let what = format!("{} cannot be made", path.display());
    let needed = "a folder of the user who runs Forebay";
    let codes = control::diagnosis::CODES;
    Diagnosis::from_table(codes, STORE_FAILED, what, error.to_string(), needed)
}
