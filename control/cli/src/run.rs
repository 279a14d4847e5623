//! `forebay run`: one node until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use wire::diagnosis::Diagnosis;
use wire::route::RouteTable;

use crate::diagnosis::{ARGUMENT, BENCH_NODE, CODES};
use crate::fault::Fault;
use crate::project::{Project, Source, read_plan};

/// Arguments of `run`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "forebay.toml")]
    config: PathBuf,
    /// Begin with an empty store of the control plane, though there was one that is lost
    #[arg(long)]
    new: bool,
    /// End when this process does, which must be the one that started the node
    #[arg(long, hide = true, value_name = "PID")]
    child_of: Option<u32>,
}

/// Run until a signal says stop.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    if let Some(parent) = args.child_of {
        end_with(parent)?;
    }
    let project = Project::read(&args.config)?;
    if args.new && !matches!(project.source, Source::Control(..)) {
        let (what, seen) = (
            "--new is about the store of a control plane",
            "no [control]",
        );
        let needed = "a configuration with [control]";
        return Err(Diagnosis::from_table(CODES, ARGUMENT, what, seen, needed).into());
    }
    match project.source {
        Source::Plan(ref plan) => {
            let table = Arc::new(project.table(1)?);
            let reload = reload(plan.clone());
            let mut node = project.node;
            node.name = Some(crate::control::HERE.into());
            node::run(node, table, reload)?;
            Ok(0)
        }
        Source::Control(files, plan) => {
            crate::control::run(project.node, &files, plan.as_deref(), args.new)
        }
        Source::Link(files) => crate::node::follow(project.node, &files),
    }
}

/// SIGTERM comes when the thread of `parent` ends that started this process. Called on the first thread, which stays until the end.
fn end_with(parent: u32) -> Result<(), Diagnosis> {
    let asked = set_parent_process_death_signal(Some(Signal::TERM));
    let now = getppid().map_or(0, |now| now.as_raw_nonzero().get().unsigned_abs());
    let seen = match asked {
        Err(error) => error.to_string(),
        // It may have ended before the kernel was asked.
        Ok(()) if now != parent => format!("a child of process {now}"),
        Ok(()) => return Ok(()),
    };
    let needed = format!("a node that ends with process {parent}");
    let remedy = "leave --child-of to the commands that start nodes of their own";
    let what = "a node would outlive the command that started it";
    Err(Diagnosis::new(BENCH_NODE, what, seen, needed, remedy))
}

/// Compiles the plan again under the next epoch; a refused plan keeps the epoch it would have had free.
pub(crate) fn reload(
    plan: PathBuf,
) -> impl Fn() -> Result<Arc<RouteTable>, Diagnosis> + Send + 'static {
    let epoch = AtomicU64::new(1);
    move || {
        let next = epoch.load(Ordering::Relaxed) + 1;
        let table = read_plan(&plan, next).map_err(|mut faults| faults.remove(0))?;
        epoch.store(next, Ordering::Relaxed);
        Ok(Arc::new(table))
    }
}
