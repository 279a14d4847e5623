//! Nonces of HELLOs that were answered. A HELLO takes over its endpoint's streams, so one that somebody overheard
//! must open nothing a second time. Knows no credential: what is asked here has been proven before.
//!
//! Nonces do not outlive the process, and no other node hears of them. A HELLO that is said again after a restart, or to
//! another node, opens a session whose key only the real peer can derive, so no frame fits it; it can take the streams
//! over once, until the real peer comes back. To refuse every HELLO older than the process would lock out peers whose
//! clocks are slow, for as long as they are.

use std::collections::BTreeSet;

use wire::ids::EndpointId;

/// When the HELLO's own clock refuses it, in Unix seconds; whose it was; its nonce, the halves on top of each other. The expiry
/// is part of the name: the proof covers the clock, so whoever says a HELLO again says it with the same one.
type Seen = (u64, EndpointId, [u8; 16]);

/// The nonces that could still be replayed, at most so many.
#[derive(Debug)]
pub(crate) struct Nonces {
    seen: BTreeSet<Seen>,
    count_max: usize,
}

impl Nonces {
    pub(crate) fn new(count_max: usize) -> Self {
        Self {
            seen: BTreeSet::new(),
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
        while let Some((at, _, _)) = self.seen.first()
            && (*at < now || self.seen.len() >= self.count_max)
        {
            self.seen.pop_first();
        }
        self.seen.insert((expiry, endpoint, folded(&nonce)))
    }
}

/// Half as long, and as hard to meet by chance: 128 bits, whichever of the 256 a peer has drawn or counts.
fn folded(nonce: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|at| nonce[at] ^ nonce[at + 16])
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: EndpointId = EndpointId(1);

    fn nonce(number: u8) -> [u8; 32] {
        let mut nonce = [7; 32];
        nonce[31] = number;
        nonce
    }

    #[test]
    fn a_nonce_passes_once_until_its_clock_would_refuse_it() {
        let mut nonces = Nonces::new(8);
        assert!(nonces.take(A, nonce(1), 310, 0));
        assert!(!nonces.take(A, nonce(1), 310, 310), "still within its time");
        assert!(
            nonces.take(EndpointId(2), nonce(1), 310, 0),
            "another endpoint's"
        );
        assert!(
            nonces.take(A, nonce(1), 700, 311),
            "the clock in it has refused it since"
        );
    }

    #[test]
    fn too_many_nonces_forget_the_one_that_expires_first() {
        let mut nonces = Nonces::new(2);
        assert!(nonces.take(A, nonce(1), u64::MAX, 0));
        assert!(nonces.take(A, nonce(2), 300, 0));
        assert!(nonces.take(A, nonce(3), 301, 0), "makes room");
        assert!(
            !nonces.take(A, nonce(1), u64::MAX, 0),
            "without a clock, kept longest"
        );
        assert!(nonces.seen.len() <= 2);
    }
}
