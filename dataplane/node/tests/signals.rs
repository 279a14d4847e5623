//! Signals: SIGHUP reads the plan again, SIGTERM stops gracefully. One test, because signals go to the whole process.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::sync::Arc;

use node::diagnosis::Diagnosis;
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::low_level::raise;
use support::*;
use wire::ids::AckMode;
use wire::route::RouteTable;

#[test]
fn sighup_reads_the_plan_again_and_sigterm_stops_gracefully() {
    let data = tempfile::tempdir().unwrap();
    let reload = || -> Result<Arc<RouteTable>, Diagnosis> {
        let mut parts = parts(AckMode::Local, 1);
        parts.epoch = 2;
        Ok(table(parts))
    };
    let mut config = config(data.path());
    config.cpu = Some(0);
    let first = table(parts(AckMode::Local, 1));
    let node = start_logged(config, first, Box::new(reload), captured()).unwrap();
    let guard = node::signals(&node).unwrap();
    raise(SIGHUP).unwrap();
    until("the new plan is in force", || {
        metric(node.admin_addr(), "forebay_route_table_revision") == Some(2.0)
    });
    assert!(node.is_running());
    raise(SIGTERM).unwrap();
    node.join().unwrap();
    drop(guard);
}
