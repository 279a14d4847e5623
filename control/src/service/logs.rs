//! What nodes make their logs by, and so what may not change: partitions of a hub, and queue groups. A node that has logs otherwise refuses
//! the table and every later one, and with them each revocation.

use wire::diagnosis::Diagnosis;
use wire::route::RouteTable;

use crate::diagnosis::{CODES, LOGS_FIXED};
use crate::store::Store;

/// The hubs that are new with this table, with their partitions.
///
/// # Errors
/// When one has other partitions than it ever had, or the queue groups change that nodes have.
pub(super) fn check(
    store: &Store,
    before: &RouteTable,
    after: &RouteTable,
) -> Result<Vec<(u16, u16)>, Diagnosis> {
    let groups = (before.queue_groups(), after.queue_groups());
    // Before there is a hub there is nothing to send to, and so no node.
    if groups.0 != groups.1 && !before.hubs().is_empty() {
        let (seen, needed) = (groups.1.to_string(), format!("{}, as before", groups.0));
        return Err(fixed("queue groups".to_owned(), seen, needed));
    }
    if before.hubs() == after.hubs() {
        return Ok(Vec::new());
    }
    new(store, after)
}

/// The hubs of a table that the store has not heard of.
///
/// # Errors
/// When one has other partitions than it ever had.
pub(super) fn new(store: &Store, table: &RouteTable) -> Result<Vec<(u16, u16)>, Diagnosis> {
    let (known, mut new) = (store.hubs()?, Vec::new());
    for hub in table.hubs() {
        match known.get(&hub.id) {
            None => new.push((hub.id, hub.partitions)),
            Some(known) if *known == hub.partitions => {}
            Some(known) => {
                let seen = hub.partitions.to_string();
                let needed = format!("{known}, as it was made with");
                return Err(fixed(
                    format!("partitions of hub {}", hub.name),
                    seen,
                    needed,
                ));
            }
        }
    }
    Ok(new)
}

fn fixed(what: String, seen: String, needed: String) -> Diagnosis {
    Diagnosis::from_table(CODES, LOGS_FIXED, what, seen, needed)
}
