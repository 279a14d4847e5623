//! Changes one after the other as a node takes them that follows a control plane: what changed since the base is kept little beside.

use std::sync::Arc;
use std::time::{Duration, Instant};

use control::tidy::Tidy;
use node::Tables;
use wire::route::{Delta, RouteTable, TableBytes};

use crate::change::{change, live};
use crate::model::SENDERS;
use crate::told;

/// Changes of an import, and endpoints in each.
const IMPORT: usize = 20;
const ENTRIES: usize = 10_000;
/// How long compacting takes at most.
const REST: Duration = Duration::from_secs(3);

/// An import, and changes of one behind it.
pub(crate) fn import(tables: &Tables, mut table: Arc<RouteTable>) -> Arc<RouteTable> {
    let (mut tidy, count) = (Tidy::default(), table.endpoint_count());
    let mut step = |numbers: std::ops::Range<usize>| {
        let bytes = change(&table, numbers);
        let begin = Instant::now();
        let settled = tidy.settle(&table);
        let delta = Arc::new(Delta::read(TableBytes::from(bytes)).unwrap());
        table = Arc::new(settled.after(&delta).unwrap());
        drop(settled);
        tidy.note(Some(&delta));
        live(tables, &table);
        let took = begin.elapsed();
        table = tables.current();
        took
    };
    let entries = ENTRIES.min((count - SENDERS) / IMPORT);
    let took = (0..IMPORT).map(|at| {
        let first = SENDERS + at * entries;
        step(first..first + entries)
    });
    told("a change of many in an import, live", took.collect());
    for how in ["first", "second", "third"] {
        std::thread::sleep(REST);
        let took = step(SENDERS..SENDERS + 1).as_secs_f64() * 1_000.0;
        println!("the {how} change of one behind an import, live: {took:.2} ms");
    }
    table
}
