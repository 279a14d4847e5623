//! One process of the data plane: configuration, data folder, sockets, files, executor and admin port around one shard.
//!
//! The only room that knows glommio. It decides nothing about messages: it brings bytes, time and finished I/O to the shard and
//! carries out what the shard asks for.
//!
//! [`start`] gives a [`NodeHandle`]; [`run`] is the same with signals, until one says stop. A shard's thread holds the executor, the
//! ring and the loop; an admin thread serves metrics and probes; another one prepares segments.

use std::io::Write;

pub mod config;
pub mod diagnosis;

mod bounds;
mod certificates;
mod folder;
mod hubs;
pub use certificates::{Ask, CertificateFiles, ClientCertificates};

mod ending;
mod start;
pub use start::{NodeHandle, Reload, Summary, Tables, Unapplied, start, start_logged};
mod signals;
pub use signals::{SignalGuard, signals, until_told_to_stop};
mod shard_thread;

mod recover;
pub use recover::RecoverySummary;

mod accept;
mod random;

pub mod mesh;

mod between;
mod distribution;
mod durations;
mod epochs;
mod fair;
mod meeting;
#[cfg(feature = "planted-bugs")]
mod planted;
mod run;

mod files;
mod flush;
pub mod placement;
mod prepare;

pub mod log;
mod status;
mod supply;
mod watch;
pub use status::Phase;
pub use supply::{AskSupply, Supply};
mod admin;
pub use admin::view;

/// What strangers may do to QUIC, as any bytes tell it: for the fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
pub use accept::quic::script as fuzzing;

/// A read-only view of a data folder, for tools.
pub use partition::inspect;

use std::sync::Arc;

use config::NodeConfig;
use diagnosis::Diagnosis;
use wire::route::RouteTable;

/// Run a node until SIGTERM or SIGINT; SIGHUP reads the plan again. Prints the bound addresses to standard output.
///
/// # Errors
/// Why it could not start, or the fault that ended it.
pub fn run(
    config: NodeConfig,
    table: Arc<RouteTable>,
    reload: impl Fn() -> Result<Arc<RouteTable>, Diagnosis> + Send + 'static,
) -> Result<Summary, Diagnosis> {
    run_with(config, table, reload, |_| Ok(()))
}

/// [`run`], with something that goes along with the node: `along` makes it once the node serves, and it is dropped when the node
/// has stopped.
///
/// # Errors
/// As [`run`], and what `along` says: the node is stopped then.
pub fn run_with<T>(
    config: NodeConfig,
    table: Arc<RouteTable>,
    reload: impl Fn() -> Result<Arc<RouteTable>, Diagnosis> + Send + 'static,
    along: impl FnOnce(&NodeHandle) -> Result<T, Diagnosis>,
) -> Result<Summary, Diagnosis> {
    let node = start(config, table, reload)?;
    let _guard = signals(&node)?;
    let companion = match along(&node) {
        Ok(companion) => companion,
        Err(fault) => {
            node.stop();
            // The first fault is the one to tell.
            let _ = node.join();
            return Err(fault);
        }
    };
    announce(&node);
    let summary = node.join();
    drop(companion);
    summary
}

/// Say where the node is reached. Whoever started it may have stopped listening: that is no reason to end.
fn announce(node: &NodeHandle) {
    let mut out = std::io::stdout().lock();
    let mut said = writeln!(out, "listening on {}", node.listen_addr());
    if let Some(address) = node.listen_tls_addr() {
        said = said.and_then(|()| writeln!(out, "listening with TLS on {address}"));
    }
    if let Some(address) = node.listen_quic_addr() {
        said = said.and_then(|()| writeln!(out, "listening with QUIC on {address}"));
    }
    let said = said.and_then(|()| writeln!(out, "admin on {}", node.admin_addr()));
    let _ = said.and_then(|()| out.flush());
}
