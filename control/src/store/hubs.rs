//! How many partitions every hub has that there ever was: nodes have logs by it, and keep them when the hub is deleted.

use std::collections::BTreeMap;

use redb::{ReadableTable, TableError};
use wire::diagnosis::Diagnosis;

use super::{HUBS, Store};

impl Store {
    /// Partitions by the id of their hub.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn hubs(&self) -> Result<BTreeMap<u16, u16>, Diagnosis> {
        let read = self.read()?;
        let table = match read.open_table(HUBS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(self.failed(error)),
        };
        let entries = table.iter().map_err(|error| self.failed(error))?;
        let hubs = entries.map(|entry| entry.map(|(id, count)| (id.value(), count.value())));
        hubs.collect::<Result<_, _>>()
            .map_err(|error| self.failed(error))
    }

    /// These are there, for good.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn remember_hubs(&self, new: &[(u16, u16)]) -> Result<(), Diagnosis> {
        if new.is_empty() {
            return Ok(());
        }
        let write = self.begin()?;
        {
            let mut table = write.open_table(HUBS).map_err(|error| self.failed(error))?;
            for (id, partitions) in new {
                let inserted = table.insert(id, partitions);
                inserted.map_err(|error| self.failed(error))?;
            }
        }
        write.commit().map_err(|error| self.failed(error))
    }
}
