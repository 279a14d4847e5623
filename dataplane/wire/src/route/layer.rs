//! Endpoints in the form of the encoding, read where they lie: the bulk of a table, or what a change sets.

use std::fmt;
use std::ops::Range;

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::arena::Terms;
use super::bytes::TableBytes;
use super::material::Materials;
use super::rows::{Counts, EndpointRow, GrantRow, Header, KeyRow, QueueRow, RatesRow};
use super::view::EndpointView;
use super::{QueueBounds, Rates, Restriction};
use crate::ids::{EndpointId, Fingerprint};

/// Where each section begins, and where the last ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sections {
    pub(super) head: usize,
    pub(super) restrictions: usize,
    pub(super) terms: usize,
    pub(super) queues: usize,
    pub(super) rates: usize,
    pub(super) endpoints: usize,
    pub(super) keys: usize,
    pub(super) certificates: usize,
    pub(super) grants: usize,
    pub(super) gone: usize,
    pub(super) names: usize,
    pub(super) end: usize,
}

impl Sections {
    /// The sections of these lengths; `None` when no memory could hold them.
    pub(super) fn of(counts: &Counts) -> Option<Self> {
        let mut sections = Self::default();
        let mut at = size_of::<Header>();
        let steps: [(&mut usize, u32, usize); 11] = [
            (&mut sections.head, counts.head_bytes.get(), 1),
            (
                &mut sections.restrictions,
                counts.restriction_bytes.get(),
                1,
            ),
            (&mut sections.terms, counts.terms_bytes.get(), 1),
            (
                &mut sections.queues,
                counts.queues.get(),
                size_of::<QueueRow>(),
            ),
            (
                &mut sections.rates,
                counts.rates.get(),
                size_of::<RatesRow>(),
            ),
            (
                &mut sections.endpoints,
                counts.endpoints.get(),
                size_of::<EndpointRow>(),
            ),
            (&mut sections.keys, counts.keys.get(), size_of::<KeyRow>()),
            (&mut sections.certificates, counts.certificates.get(), 32),
            (
                &mut sections.grants,
                counts.grants.get(),
                size_of::<GrantRow>(),
            ),
            (&mut sections.gone, counts.gone.get(), 8),
            (&mut sections.names, counts.name_bytes.get(), 1),
        ];
        for (begin, count, bytes) in steps {
            *begin = at;
            at = at.checked_add((count as usize).checked_mul(bytes)?)?;
        }
        sections.end = at;
        Some(sections)
    }
}

/// Endpoints by rising name, each at an index of its own from 0.
pub(super) struct Layer {
    pub(super) bytes: TableBytes,
    pub(super) sections: Sections,
    pub(super) endpoints: u32,
    pub(super) restrictions: Box<[Restriction]>,
    pub(super) terms: Box<[Terms]>,
    pub(super) queues: Box<[QueueBounds]>,
    pub(super) rates: Box<[Rates]>,
    /// Of each key: made for signing, which a row is not.
    pub(super) materials: Materials,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({} endpoints)", self.endpoints)
    }
}

impl Layer {
    /// One row of the section that begins there. Sections were checked when they were made, rows are named by checked indexes.
    #[inline]
    fn row<T: FromBytes + KnownLayout + Immutable + Unaligned>(&self, begin: usize, at: u32) -> &T {
        let begin = begin + at as usize * size_of::<T>();
        let bytes = &self.bytes[begin..begin + size_of::<T>()];
        T::ref_from_bytes(bytes).expect("as many bytes as a row has")
    }

    #[inline]
    pub(super) fn endpoint_row(&self, at: u32) -> &EndpointRow {
        self.row(self.sections.endpoints, at)
    }

    #[inline]
    pub(super) fn key_row(&self, at: u32) -> &KeyRow {
        self.row(self.sections.keys, at)
    }

    #[inline]
    pub(super) fn grant_rows(&self, at: u32, count: u16) -> &[GrantRow] {
        let begin = self.sections.grants + at as usize * size_of::<GrantRow>();
        let bytes = usize::from(count) * size_of::<GrantRow>();
        let rows = <[GrantRow]>::ref_from_bytes(&self.bytes[begin..begin + bytes]);
        rows.expect("a whole number of rows")
    }

    pub(super) fn certificates(&self, at: u32, count: u16) -> &[Fingerprint] {
        let begin = self.sections.certificates + at as usize * size_of::<Fingerprint>();
        let bytes = usize::from(count) * size_of::<Fingerprint>();
        let rows = <[Fingerprint]>::ref_from_bytes(&self.bytes[begin..begin + bytes]);
        rows.expect("a whole number of fingerprints")
    }

    pub(super) fn name_bytes(&self, at: u32, bytes: u8) -> &[u8] {
        let begin = self.sections.names + at as usize;
        &self.bytes[begin..begin + usize::from(bytes)]
    }

    pub(super) fn name(&self, at: u32, bytes: u8) -> &str {
        let name = self.name_bytes(at, bytes);
        std::str::from_utf8(name).expect("names were read once")
    }

    pub(super) fn head_bytes(&self) -> Range<usize> {
        self.sections.head..self.sections.restrictions
    }

    /// Ids of endpoints that a change takes away.
    pub(super) fn gone(&self) -> impl Iterator<Item = EndpointId> {
        let bytes = &self.bytes[self.sections.gone..self.sections.names];
        let (ids, _) = bytes.as_chunks::<8>();
        ids.iter().map(|id| EndpointId(u64::from_le_bytes(*id)))
    }

    /// The epoch that the encoding names.
    pub(super) fn epoch(&self) -> u64 {
        let (header, _) = Header::ref_from_prefix(&self.bytes).expect("it begins with a header");
        header.epoch.get()
    }

    /// The id of the endpoint at this index.
    #[inline]
    pub(super) fn id(&self, at: u32) -> EndpointId {
        EndpointId(self.endpoint_row(at).id.get())
    }

    /// The endpoint at this index.
    #[inline]
    pub(super) fn endpoint(&self, at: u32) -> EndpointView<'_> {
        EndpointView::new(self, self.endpoint_row(at))
    }

    /// The index of the endpoint of this name.
    pub(super) fn by_name(&self, name: &str) -> Option<u32> {
        let (mut low, mut high) = (0, self.endpoints);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.endpoint_row(middle);
            let seen = self.name_bytes(row.name_at.get(), row.name_bytes);
            match seen.cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let ranges = |one: &Restriction| size_of_val(&*one.addresses) + size_of_val(&*one.origins);
        self.bytes.len()
            + self.materials.memory_bytes()
            + size_of_val(&*self.queues)
            + size_of_val(&*self.rates)
            + size_of_val(&*self.restrictions)
            + size_of_val(&*self.terms)
            + self.restrictions.iter().map(ranges).sum::<usize>()
    }
}
