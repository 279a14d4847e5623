//! `forebay run`: one node until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wire::diagnosis::Diagnosis;
use wire::route::RouteTable;

use crate::fault::Fault;
use crate::project::{Project, read_plan};

/// Arguments of `run`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "forebay.toml")]
    config: PathBuf,
}

/// Run until a signal says stop.
pub(crate) fn run(args: &Args) -> Result<u8, Fault> {
    let project = Project::read(&args.config)?;
    let table = Arc::new(project.table(1)?);
    node::run(project.node, table, reload(project.plan))?;
    Ok(0)
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
