//! Which past a store counts its versions in. A backup that is restored counts what comes after it otherwise than the store it was taken
//! from did: a version alone would be two things to a node that had both.

use redb::{ReadableTable, Table};
use wire::diagnosis::Diagnosis;

use super::fault::damaged;
use super::{META, Store};

/// Where it is in the meta data, and those that it comes from, one behind the other.
const LINEAGE: &str = "lineage";
const ANCESTORS: &str = "ancestors";
/// Of how many it is known that it comes from them.
const ANCESTORS_MAX: usize = 1_024;

/// One that no store had before.
pub(super) fn new() -> [u8; 16] {
    let mut lineage = [0; 16];
    lineage.copy_from_slice(&crate::keys::random()[..16]);
    lineage
}

impl Store {
    /// Names the past that its versions are counted in: another one after every restore.
    #[must_use]
    pub fn lineage(&self) -> [u8; 16] {
        self.lineage
    }

    /// Those of the stores that this one was restored from, one out of the other.
    #[must_use]
    pub fn ancestors(&self) -> Vec<[u8; 16]> {
        self.ancestors.clone()
    }

    /// Count what comes in a past of its own from now on.
    pub(super) fn begin_lineage(&mut self) -> Result<(), Diagnosis> {
        let (write, lineage) = (self.begin()?, new());
        let mut ancestors = self.ancestors.clone();
        ancestors.push(self.lineage);
        let first = ancestors.len().saturating_sub(ANCESTORS_MAX);
        ancestors.drain(..first);
        {
            let mut meta = write.open_table(META).map_err(|error| self.failed(error))?;
            self.write_lineage(&mut meta, lineage)?;
            let inserted = meta.insert(ANCESTORS, ancestors.as_flattened());
            inserted.map_err(|error| self.failed(error))?;
        }
        write.commit().map_err(|error| self.failed(error))?;
        (self.lineage, self.ancestors) = (lineage, ancestors);
        Ok(())
    }

    /// The one in the file; one that was made before there were any has none.
    pub(super) fn read_lineage(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Option<[u8; 16]>, Diagnosis> {
        let told = meta.get(LINEAGE).map_err(|error| self.failed(error))?;
        let told = told.map(|told| told.value().try_into());
        let unfit = |_| damaged(&self.path, format!("meta `{LINEAGE}`"));
        told.transpose().map_err(unfit)
    }

    /// What the file says of those that it comes from.
    pub(super) fn read_ancestors(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Vec<[u8; 16]>, Diagnosis> {
        let told = meta.get(ANCESTORS).map_err(|error| self.failed(error))?;
        let told = told.map_or_else(Vec::new, |told| told.value().to_vec());
        match told.as_chunks() {
            (ancestors, []) => Ok(ancestors.to_vec()),
            _ => Err(damaged(&self.path, format!("meta `{ANCESTORS}`"))),
        }
    }

    pub(super) fn write_lineage(
        &self,
        meta: &mut Table<'_, &'static str, &'static [u8]>,
        lineage: [u8; 16],
    ) -> Result<(), Diagnosis> {
        let inserted = meta.insert(LINEAGE, &lineage[..]);
        inserted.map(drop).map_err(|error| self.failed(error))
    }
}
