//! Handshakes under way, in the order in which they began: how many there are of each address, and whose is the oldest.
//!
//! Knows places of connections and addresses; no packet and no clock but the moments it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// The number of a handshake, in the order in which they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// One handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    /// The place of its connection.
    pub(crate) at: usize,
    pub(crate) since: Instant,
    /// Whose share it counts into, if it counts into one.
    share: Option<IpAddr>,
}

/// All handshakes of a shard that are under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    next: u64,
    all: BTreeMap<Ticket, Begun>,
    shares: BTreeSet<(IpAddr, Ticket)>,
}

impl UnderWay {
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// One has begun.
    pub(crate) fn begin(&mut self, at: usize, share: Option<IpAddr>, since: Instant) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.all.insert(ticket, Begun { at, since, share });
        self.shares.extend(share.map(|share| (share, ticket)));
        ticket
    }

    /// One is over, well or not.
    pub(crate) fn end(&mut self, ticket: Ticket) {
        if let Some(begun) = self.all.remove(&ticket)
            && let Some(share) = begun.share
        {
            self.shares.remove(&(share, ticket));
        }
    }

    /// The oldest of all.
    pub(crate) fn oldest(&self) -> Option<Begun> {
        self.all.first_key_value().map(|(_, begun)| *begun)
    }

    /// How many count into this share, and the oldest of them. Costs as much as there are.
    pub(crate) fn of(&self, share: Option<IpAddr>) -> (usize, Option<Begun>) {
        let Some(share) = share else {
            return (0, None);
        };
        let all = (share, Ticket(0))..=(share, Ticket(u64::MAX));
        let mut theirs = self.shares.range(all);
        let oldest = theirs
            .next()
            .and_then(|(_, ticket)| self.all.get(ticket).copied());
        (usize::from(oldest.is_some()) + theirs.count(), oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_and_its_own_oldest() {
        let now = Instant::now();
        let address = |last| Some(IpAddr::from([192, 0, 2, last]));
        let mut under_way = UnderWay::default();
        let tickets: Vec<Ticket> = (0..9)
            .map(|at| under_way.begin(at, (at > 0).then(|| address(at as u8 % 3)).flatten(), now))
            .collect();
        let oldest = |begun: Option<Begun>| begun.map(|begun| begun.at);
        for (why, share, want) in [
            ("of no share", None, (0, None)),
            ("0 counts into none", address(0), (2, Some(3))),
            ("1, 4 and 7", address(1), (3, Some(1))),
            ("nobody", address(9), (0, None)),
        ] {
            let (count, first) = under_way.of(share);
            assert_eq!((count, oldest(first)), want, "{why}");
        }
        under_way.end(tickets[1]);
        under_way.end(tickets[1]);
        under_way.end(tickets[0]);
        let (count, first) = under_way.of(address(1));
        assert_eq!((count, oldest(first)), (2, Some(4)));
        assert_eq!(
            (under_way.count(), oldest(under_way.oldest())),
            (7, Some(2))
        );
        tickets.iter().for_each(|ticket| under_way.end(*ticket));
        assert_eq!((under_way.count(), under_way.shares.len()), (0, 0));
    }
}
