//! For tests of what is inside: a shard's peers, and a table with nothing in it.

use std::sync::Arc;
use std::time::Duration;

use wire::ids::UnixNanos;
use wire::route::{RouteTable, TableParts};

use crate::io::Now;
use crate::limits::Limits;
use crate::peers::Peers;

/// A table of nobody.
pub(crate) fn table() -> Arc<RouteTable> {
    let table = RouteTable::build(TableParts {
        epoch: 1,
        queue_groups: 1,
        ..TableParts::default()
    });
    Arc::new(table.expect("nothing is wrong in an empty table"))
}

/// Of one of so many shards, a second after the start.
pub(crate) fn peers(shards: u16) -> Peers {
    let limits = Limits {
        shards,
        ..Limits::default()
    };
    let now = Now {
        monotonic: Duration::from_secs(1),
        unix: UnixNanos(0),
    };
    let table = table();
    let ownership = crate::Ownership::new(&table, shards);
    Peers::new(limits, table, ownership, now)
}
