//! How many partitions every hub has that there ever was: nodes have logs by it, and keep them when the hub is deleted.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use wire::diagnosis::Diagnosis;

use super::rows::{self, Rows};
use super::{AUDIT, HUBS, META, Store, audit};

impl Store {
    /// Partitions by the id of their hub.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn hubs(&self) -> Result<BTreeMap<u16, u16>, Diagnosis> {
        self.hubs_of(&self.read()?)
    }

    /// The same, as this transaction sees them.
    pub(super) fn hubs_of(&self, read: &ReadTransaction) -> Result<BTreeMap<u16, u16>, Diagnosis> {
        let table = read.open_table(HUBS).map_err(|error| self.failed(error))?;
        let entries = table.iter().map_err(|error| self.failed(error))?;
        let hubs = entries.map(|entry| entry.map(|(id, count)| (id.value(), count.value())));
        hubs.collect::<Result<_, _>>()
            .map_err(|error| self.failed(error))
    }

    /// What they count as.
    pub(super) fn count_hubs(
        &self,
        read: &ReadTransaction,
        rows: &mut Rows,
    ) -> Result<(), Diagnosis> {
        let hubs = self.hubs_of(read)?.into_iter();
        hubs.for_each(|hub| self.count_hub(rows, hub));
        Ok(())
    }

    /// What one counts as.
    pub(super) fn count_hub(&self, rows: &mut Rows, (id, partitions): (u16, u16)) {
        rows.add(
            &self.master,
            (rows::HUB, ""),
            u64::from(id),
            &partitions.to_le_bytes(),
        );
    }

    /// These are there, for good, though no change made them: what a store was begun with.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn remember_hubs(&self, new: &[(u16, u16)]) -> Result<(), Diagnosis> {
        if new.is_empty() {
            return Ok(());
        }
        let write = self.begin()?;
        {
            let mut meta = write.open_table(META).map_err(|error| self.failed(error))?;
            let lines = write.open_table(AUDIT);
            let lines = lines.map_err(|error| self.failed(error))?;
            let mut chain = audit::Chain::as_it_is(self, &meta, lines)?;
            self.keep_hubs(&write, &mut chain, new)?;
            self.keep_end(&mut meta, &chain)?;
        }
        write.commit().map_err(|error| self.failed(error))
    }

    /// Write down hubs that were not there before.
    pub(super) fn keep_hubs(
        &self,
        write: &WriteTransaction,
        chain: &mut audit::Chain<'_, '_>,
        new: &[(u16, u16)],
    ) -> Result<(), Diagnosis> {
        let mut table = write.open_table(HUBS).map_err(|error| self.failed(error))?;
        for (id, partitions) in new {
            let before = table.insert(id, partitions);
            let before = before.map_err(|error| self.failed(error))?;
            assert!(before.is_none(), "hub {id} was remembered before");
            self.count_hub(chain.rows(), (*id, *partitions));
        }
        Ok(())
    }
}
