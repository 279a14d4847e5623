//! A change of a table: what it sets and takes away, made for one table and no other.

use std::sync::Arc;

use super::build::write;
use super::bytes::TableBytes;
use super::digest::{Digest, Sum, of_endpoint, of_head};
use super::head::{Head, HeadParts, put_head};
use super::layer::Layer;
use super::read::{ReadError, read};
use super::rows::Kind;
use super::write::Title;
use super::{Endpoint, RouteTable, TableError};
use crate::ids::EndpointId;

/// What is to change.
#[derive(Debug, Clone, Default)]
pub struct DeltaParts {
    /// The version number from then on.
    pub epoch: u64,
    /// Everything but endpoints, if any of it changes.
    pub head: Option<HeadParts>,
    /// Endpoints that are new or otherwise.
    pub set: Vec<Endpoint>,
    /// Endpoints that are no more; they go before others come.
    pub gone: Vec<EndpointId>,
}

/// A change of one table into another.
#[derive(Debug, Clone)]
pub struct Delta {
    title: Title,
    head: Option<Arc<Head>>,
    layer: Arc<Layer>,
}

/// A change that is not one of this table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It was made for another table: the whole of the new one is needed.
    #[error("the change is of epoch {needed}, the table is epoch {seen}, or says something else")]
    Base {
        /// The epoch of the table.
        seen: u64,
        /// The epoch that the change is made for.
        needed: u64,
    },
    /// It leads back.
    #[error("the change makes epoch {made} of epoch {seen}, which is not older")]
    Epoch {
        /// The epoch of the table.
        seen: u64,
        /// The epoch that the change makes.
        made: u64,
    },
    /// It takes away what is not there.
    #[error("the change takes endpoint {0} away, which is not there")]
    NotThere(EndpointId),
    /// What would come of it contradicts itself.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl Delta {
    /// The epoch of the table it is made for.
    pub fn base_epoch(&self) -> u64 {
        self.title.base.0
    }

    /// The digest of the table it is made for.
    pub fn base_digest(&self) -> Digest {
        self.title.base.1
    }

    /// The epoch of the table it makes.
    pub fn epoch(&self) -> u64 {
        self.title.epoch
    }

    /// The digest of the table it makes.
    pub fn digest(&self) -> Digest {
        self.title.digest
    }

    /// How many endpoints it sets or takes away.
    pub fn entries(&self) -> usize {
        self.layer.endpoints as usize + self.layer.gone().count()
    }

    /// Whether it changes anything but endpoints: then it may take as long to apply as the table is large.
    pub fn changes_head(&self) -> bool {
        self.head.is_some()
    }

    /// Its bytes, to be sent or kept. Secrets are among them.
    pub fn encode(&self) -> TableBytes {
        self.layer.bytes.clone()
    }

    /// The change that these bytes are.
    ///
    /// # Errors
    /// When they are none. Whether it is one of a certain table shows when it is applied to it.
    pub fn read(bytes: TableBytes) -> Result<Self, ReadError> {
        let parts = read(bytes, Kind::Delta)?;
        let head = parts.head.map(Head::new).transpose()?;
        Ok(Self {
            title: parts.title,
            head: head.map(Arc::new),
            layer: Arc::new(parts.layer),
        })
    }

    /// The change of `table` that these parts are.
    pub(super) fn of(table: &RouteTable, parts: DeltaParts) -> Result<Self, DeltaError> {
        let DeltaParts {
            epoch,
            head,
            set,
            mut gone,
        } = parts;
        gone.sort_unstable();
        gone.dedup();
        let digest = digest(table, head.as_ref(), &set, &gone)?;
        let (mut bytes, mut checked) = (Vec::new(), None);
        let mut sum = Sum::from(digest);
        if let Some(head) = head {
            let head = Head::new(head)?;
            sum.add(of_head(&head.parts));
            put_head(&mut bytes, &head.parts);
            checked = Some(Arc::new(head));
        }
        let writer = write(set)?;
        sum.add(writer.sum());
        let title = Title {
            kind: Kind::Delta,
            epoch,
            digest: sum.into(),
            base: (table.epoch(), table.digest()),
        };
        let layer = writer.finish(&title, &bytes, &gone)?;
        Ok(Self {
            title,
            head: checked,
            layer: Arc::new(layer),
        })
    }

    pub(super) fn head(&self) -> Option<&Arc<Head>> {
        self.head.as_ref()
    }

    pub(super) fn layer(&self) -> &Arc<Layer> {
        &self.layer
    }
}

/// What of the table stays, without what comes.
fn digest(
    table: &RouteTable,
    head: Option<&HeadParts>,
    set: &[Endpoint],
    gone: &[EndpointId],
) -> Result<Digest, DeltaError> {
    let (mut sum, mut scratch) = (Sum::from(table.digest()), Vec::new());
    if head.is_some() {
        sum.take(of_head(table.head()));
    }
    for id in gone {
        let old = table.endpoint(*id).ok_or(DeltaError::NotThere(*id))?;
        sum.take(of_endpoint(&old.to_parts(), &mut scratch));
    }
    for new in set {
        let goes = gone.binary_search(&new.id).is_ok();
        if let Some(old) = table.endpoint(new.id).filter(|_| !goes) {
            sum.take(of_endpoint(&old.to_parts(), &mut scratch));
        }
    }
    Ok(sum.into())
}
