//! What a table is, for the link: to it they are bytes.

use std::sync::Arc;
use std::time::Duration;

use link::diagnosis::{CODES, TABLE_UNFIT};
use link::{Bytes, Holder, Unfit, Version};
use node::Tables;
use wire::diagnosis::Diagnosis;
use wire::route::{Delta, Digest, RouteTable, TableBytes};

/// Bytes of a table that are shared.
struct Shared(TableBytes);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A table, whole.
pub(crate) struct Whole(pub(crate) Arc<RouteTable>);

impl link::Snapshot for Whole {
    fn bytes(&self) -> Bytes {
        Arc::new(Shared(self.0.encode()))
    }
}

/// Which table it is.
pub(crate) fn version(table: &RouteTable) -> Version {
    of(table.epoch(), table.digest())
}

fn of(epoch: u64, digest: Digest) -> Version {
    Version {
        epoch,
        digest: digest.0,
    }
}

/// How a table differs from the one before, for the link.
pub(crate) fn delta(delta: &Delta) -> link::Delta {
    link::Delta {
        base: of(delta.base_epoch(), delta.base_digest()),
        becomes: of(delta.epoch(), delta.digest()),
        bytes: Arc::new(Shared(delta.encode())),
    }
}

/// Read a table that must be this one.
pub(crate) fn read(becomes: Version, bytes: Vec<u8>) -> Result<RouteTable, Diagnosis> {
    let table = RouteTable::read(TableBytes::from(bytes));
    let table = table.map_err(|error| unfit(error.to_string(), becomes))?;
    match version(&table) == becomes {
        true => Ok(table),
        false => Err(unfit(version(&table).to_string(), becomes)),
    }
}

/// Change a table as this says; it must be made for it and make what it says.
pub(crate) fn change(
    table: &RouteTable,
    becomes: Version,
    bytes: &[u8],
) -> Result<RouteTable, Diagnosis> {
    let delta = Delta::read(TableBytes::from(bytes.to_vec()));
    let delta = delta.map_err(|error| unfit(error.to_string(), becomes))?;
    let table = table.after(&delta);
    let table = table.map_err(|error| unfit(error.to_string(), becomes))?;
    match version(&table) == becomes {
        true => Ok(table),
        false => Err(unfit(version(&table).to_string(), becomes)),
    }
}

fn unfit(seen: String, becomes: Version) -> Diagnosis {
    let needed = format!("a table of version {becomes}");
    Diagnosis::from_table(CODES, TABLE_UNFIT, "a table that came", seen, needed)
}

/// The newest table of a node, and the way to its shards.
pub(super) struct Held {
    pub(super) tables: Tables,
    pub(super) newest: Arc<RouteTable>,
}

impl Holder for Held {
    fn snapshot(&mut self, becomes: Version, bytes: Vec<u8>) -> Result<(), Diagnosis> {
        self.newest = Arc::new(read(becomes, bytes)?);
        Ok(())
    }

    fn delta(&mut self, base: Version, becomes: Version, bytes: &[u8]) -> Result<(), Diagnosis> {
        if version(&self.newest) != base {
            return Err(unfit(format!("a change of {base}"), becomes));
        }
        self.newest = Arc::new(change(&self.newest, becomes, bytes)?);
        Ok(())
    }

    fn whole(&self) -> Bytes {
        Arc::new(Shared(self.newest.encode()))
    }

    fn hand_over(&mut self) -> Result<(), Unfit> {
        self.tables.check(&self.newest).map_err(Unfit::Refused)?;
        let applied = self.tables.apply(Arc::clone(&self.newest));
        applied.map_err(|_| Unfit::Busy)?;
        self.newest = self.tables.current();
        Ok(())
    }

    fn wait(&self, epoch: u64, within: Duration) -> Vec<u64> {
        self.tables.wait(epoch, within)
    }
}
