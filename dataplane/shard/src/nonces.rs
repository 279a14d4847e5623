//! Nonces of HELLOs that were answered. A HELLO takes over its endpoint's streams, so one that somebody overheard
//! must open nothing a second time. Knows no credential: what is asked here has been proven before.
//!
//! Nonces do not outlive the process. A HELLO that is said again after a restart opens a session whose key only the
//! real peer can derive, so no frame fits it; it can take the streams over once, until the real peer comes back. To
//! refuse every HELLO older than the process would lock out peers whose clocks are slow, for as long as they are.

use std::collections::{BTreeMap, BTreeSet};

use wire::ids::EndpointId;

type Nonce = (EndpointId, [u8; 32]);

/// The nonces that could still be replayed, at most so many.
#[derive(Debug)]
pub(crate) struct Nonces {
    /// Unix seconds after which the HELLO's own clock refuses it.
    seen: BTreeMap<Nonce, u64>,
    by_expiry: BTreeSet<(u64, Nonce)>,
    count_max: usize,
}

impl Nonces {
    pub(crate) fn new(count_max: usize) -> Self {
        Self {
            seen: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            count_max,
        }
    }

    /// Take a nonce, to be remembered until `expiry`; false when it was taken before.
    ///
    /// When there are too many, the one that would be forgotten first makes room. HELLOs without a clock never
    /// expire by themselves, so they go last.
    pub(crate) fn take(
        &mut self,
        endpoint: EndpointId,
        nonce: [u8; 32],
        expiry: u64,
        now: u64,
    ) -> bool {
        while let Some((at, oldest)) = self.by_expiry.first().copied()
            && (at < now || self.seen.len() >= self.count_max)
        {
            self.by_expiry.remove(&(at, oldest));
            self.seen.remove(&oldest);
        }
        let nonce = (endpoint, nonce);
        if self.seen.contains_key(&nonce) {
            return false;
        }
        self.seen.insert(nonce, expiry);
        self.by_expiry.insert((expiry, nonce));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: EndpointId = EndpointId(1);

    #[test]
    fn a_nonce_passes_once_until_its_clock_would_refuse_it() {
        let mut nonces = Nonces::new(8);
        assert!(nonces.take(A, [1; 32], 310, 0));
        assert!(!nonces.take(A, [1; 32], 310, 310), "still within its time");
        assert!(
            nonces.take(EndpointId(2), [1; 32], 310, 0),
            "another endpoint's"
        );
        assert!(
            nonces.take(A, [1; 32], 700, 311),
            "the clock in it has refused it since"
        );
    }

    #[test]
    fn too_many_nonces_forget_the_one_that_expires_first() {
        let mut nonces = Nonces::new(2);
        assert!(nonces.take(A, [1; 32], u64::MAX, 0));
        assert!(nonces.take(A, [2; 32], 300, 0));
        assert!(nonces.take(A, [3; 32], 301, 0), "makes room");
        assert!(
            !nonces.take(A, [1; 32], u64::MAX, 0),
            "without a clock, kept longest"
        );
        assert_eq!(nonces.seen.len(), nonces.by_expiry.len());
        assert!(nonces.seen.len() <= 2);
    }
}
