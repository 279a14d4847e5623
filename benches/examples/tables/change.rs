//! Changes of a table, and how they come into force.

use std::sync::Arc;
use std::time::{Duration, Instant};

use node::Tables;
use wire::ids::EndpointId;
use wire::route::{DeltaParts, RouteTable, TableBytes};

use crate::PATIENCE;
use crate::model::name;

/// Hand a table over and wait until it is live; how long that took.
pub(crate) fn live(tables: &Tables, table: &Arc<RouteTable>) -> Duration {
    let begin = Instant::now();
    tables.apply(Arc::clone(table)).unwrap();
    let epochs = tables.wait(table.epoch(), PATIENCE);
    assert!(epochs.iter().all(|epoch| *epoch >= table.epoch()));
    begin.elapsed()
}

/// So many endpoints, each with something else about it than before.
fn altered(table: &RouteTable, numbers: std::ops::Range<usize>) -> Vec<wire::route::Endpoint> {
    let of = |number| {
        let mut parts = table
            .endpoint(EndpointId::of(&name(number)))
            .unwrap()
            .to_parts();
        parts.queue.messages_max ^= 1;
        parts
    };
    numbers.map(of).collect()
}

/// The change of so many endpoints, encoded.
pub(crate) fn change(table: &RouteTable, numbers: std::ops::Range<usize>) -> Vec<u8> {
    let parts = DeltaParts {
        epoch: table.epoch() + 1,
        set: altered(table, numbers),
        ..DeltaParts::default()
    };
    table.change(parts).unwrap().encode().to_vec()
}

/// The table after a change that came as bytes.
pub(crate) fn taken(table: &RouteTable, bytes: Vec<u8>) -> Arc<RouteTable> {
    let delta = wire::route::Delta::read(TableBytes::from(bytes)).unwrap();
    Arc::new(table.after(&delta).unwrap())
}

pub(crate) fn after(
    table: &RouteTable,
    numbers: std::ops::Range<usize>,
) -> (Arc<RouteTable>, Duration) {
    let begin = Instant::now();
    let next = taken(table, change(table, numbers));
    (next, begin.elapsed())
}
