//! Endpoints looked up many at a time. In a large table each step to one leads to memory that no cache holds, and a step waits for the
//! one before it; but those of different endpoints do not wait for each other. So all take their first step, then all the second:
//! a processor has a dozen such reads under way at once.

use std::hint::black_box;

use super::RouteTable;
use super::index::Look;
use super::layer::Layer;
use super::rows::{EndpointRow, GrantRow, KeyRow};
use crate::ids::EndpointId;

/// Endpoints whose steps are taken together: what is read for them stays in the nearest cache until it is asked for.
pub const TOGETHER: usize = 64;

impl RouteTable {
    /// The index of the endpoint with each of these ids, at most [`TOGETHER`] of them, as
    /// [`endpoint_index`](Self::endpoint_index) tells it, and `None` in the places behind. What is asked of their rows and grants next
    /// is in the nearest cache.
    ///
    /// # Panics
    /// When there are more ids than that.
    pub fn endpoint_indexes(&self, ids: &[EndpointId]) -> [Option<u32>; TOGETHER] {
        assert!(ids.len() <= TOGETHER, "{} ids", ids.len());
        let (layer, mut read) = (&self.base.layer, 0);
        let mut looks = [Look::default(); TOGETHER];
        for (look, id) in looks.iter_mut().zip(ids) {
            *look = self.base.look(*id);
        }
        let mut likely = [0; TOGETHER];
        for ((likely, look), id) in likely.iter_mut().zip(&looks).zip(ids) {
            *likely = self.base.likely(*id, *look).unwrap_or(0);
            read ^= layer.touch_endpoint(*likely);
        }
        let mut found = [None; TOGETHER];
        for ((found, id), at) in found.iter_mut().zip(ids).zip(likely) {
            let right = self.overlay.is_empty() && at < layer.endpoints && layer.id(at) == *id;
            *found = match right {
                true => Some(at),
                false => self.endpoint_index(*id),
            };
            read ^= layer.touch_grants(at);
        }
        // Nobody needs it, but it has to be read.
        black_box(read);
        found
    }

    /// Have the keys of these endpoints in the nearest cache, as [`endpoint_indexes`](Self::endpoint_indexes) has their rows.
    pub fn touch_keys(&self, endpoints: impl Iterator<Item = u32>) {
        let layer = &self.base.layer;
        let of_base = endpoints.filter(|at| *at < layer.endpoints);
        black_box(of_base.fold(0, |read, at| read ^ layer.touch_keys(at)));
    }
}

impl Layer {
    /// Read the row of an endpoint.
    #[inline]
    fn touch_endpoint(&self, at: u32) -> u64 {
        let bytes = size_of::<EndpointRow>();
        self.touch(self.sections.endpoints + at as usize * bytes, bytes)
    }

    /// Read the grants of an endpoint whose row is near.
    #[inline]
    fn touch_grants(&self, at: u32) -> u64 {
        if at >= self.endpoints {
            return 0;
        }
        let row = self.endpoint_row(at);
        let (from, bytes) = (row.grants_at.get() as usize, size_of::<GrantRow>());
        let count = usize::from(row.send.get()) + usize::from(row.receive.get());
        self.touch(self.sections.grants + from * bytes, count * bytes)
    }

    /// Read the keys of an endpoint whose row is near.
    #[inline]
    fn touch_keys(&self, at: u32) -> u64 {
        let row = self.endpoint_row(at);
        let (from, count) = (row.keys_at.get(), usize::from(row.keys.get()));
        let bytes = size_of::<KeyRow>();
        let rows = self.sections.keys + from as usize * bytes;
        self.touch(rows, count * bytes) ^ self.materials.touch(from)
    }

    /// Read both ends of these bytes. Rows of one endpoint lie in a line of the cache or two, unless it has many.
    #[inline]
    fn touch(&self, from: usize, bytes: usize) -> u64 {
        let byte = |at: usize| self.bytes.get(at).copied().unwrap_or(0);
        u64::from(byte(from) ^ byte(from + bytes.max(1) - 1))
    }
}
