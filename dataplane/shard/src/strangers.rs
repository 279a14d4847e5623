//! Peers that anybody can be: connections whose peer has not proven who they are, connections of one address, and PINGs, each of
//! which costs a signature. Each has a bound, so that none of them takes what others need.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use wire::ids::Sequence;
use wire::reason::{Notice, Reason};

use crate::connection::Goodbye;
use crate::io::ConnectionId;
use crate::peers::{Peers, millis};

/// Entries of connections that are no strangers any more, beyond as many as there are strangers, before they are cleared away.
const STALE_MAX: usize = 64;

/// Connections without a proven peer, and of all connections how many each address has.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    count: u32,
    /// In the order in which they came, some of them gone or known since.
    order: VecDeque<ConnectionId>,
    addresses: BTreeMap<IpAddr, u32>,
}

impl Strangers {
    /// How many have not proven who they are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

/// Whose share a connection counts into: an IPv4 address, or the 64 bits of IPv6 that one network gives to one customer. `None`
/// for this machine itself: a proxy on it speaks for many.
fn share(peer: IpAddr) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if peer.is_loopback() {
        return None;
    }
    Some(match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    })
}

impl Peers {
    /// A connection has come. One too many from its address is turned away; one too many strangers, and the one that has been
    /// one for longest makes room: a client says HELLO at once.
    pub(crate) fn meet(&mut self, id: ConnectionId, peer: IpAddr) {
        let limits = &self.limits;
        self.strangers.count += 1;
        self.strangers.order.push_back(id);
        if self.strangers.order.len() > 2 * self.strangers.count as usize + STALE_MAX {
            let connections = &self.connections;
            let order = &mut self.strangers.order;
            order.retain(|id| connections.get(*id).is_some_and(|found| found.stranger));
        }
        if let Some(address) = share(peer) {
            let count = self.strangers.addresses.entry(address).or_default();
            *count += 1;
            let (count, count_max) = (*count, limits.connections_per_address_max);
            if count > count_max {
                self.counters.accept.addresses_crowded += 1;
                let notice = Notice::new(Reason::AddressCrowded, count.into(), count_max.into());
                let notice = notice.retry_after(self.retry_after_ms());
                return self.goodbye(id, Goodbye::Goaway(notice));
            }
        }
        if self.strangers.count > limits.strangers_max {
            self.crowd_out();
        }
    }

    /// The stranger who came first goes.
    fn crowd_out(&mut self) {
        let now = self.now.monotonic;
        while let Some(id) = self.strangers.order.pop_front() {
            let found = self.connections.get(id);
            if let Some(connection) = found.filter(|connection| connection.stranger) {
                let waited = millis(now.saturating_sub(connection.since));
                self.counters.accept.strangers_crowded_out += 1;
                self.goaway(id, Reason::HandshakeTimeout, waited, 0);
                return self.know(id);
            }
        }
    }

    /// A connection is no stranger any more: its peer has proven who they are, or it ends.
    pub(crate) fn know(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && std::mem::take(&mut connection.stranger)
        {
            self.strangers.count -= 1;
        }
    }

    /// A connection from this address is gone.
    pub(crate) fn part_from(&mut self, peer: IpAddr) {
        let Some(address) = share(peer) else {
            return;
        };
        if let Some(count) = self.strangers.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.strangers.addresses.remove(&address);
            }
        }
    }

    /// Answer a PING. Each is paid for by time; who asks for more than `pings_per_second`, after so many at once, is sent away.
    pub(crate) fn answer_ping(&mut self, id: ConnectionId, number: Sequence) {
        let (now, pings_max) = (self.now.monotonic, self.limits.pings_per_second);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let paid = connection.since.max(now) + Duration::from_secs(1) / pings_max;
        if paid > now + Duration::from_secs(1) {
            let owed = (paid - now).as_nanos() * u128::from(pings_max) / 1_000_000_000;
            let owed = u64::try_from(owed).unwrap_or(u64::MAX);
            return self.goaway(id, Reason::TooManyPings, owed, pings_max.into());
        }
        connection.since = paid;
        self.say(id, |out, signer| {
            wire::link::encode_pong(out, number, signer)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shares_with_its_network_and_this_machine_with_nobody() {
        for (peer, want) in [
            ("10.1.2.3", Some("10.1.2.3")),
            ("::ffff:10.1.2.3", Some("10.1.2.3")),
            ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::")),
            ("127.0.0.9", None),
            ("::1", None),
            ("::ffff:127.0.0.1", None),
        ] {
            let want = want.map(|text| text.parse().expect("an address"));
            assert_eq!(share(peer.parse().expect("an address")), want, "{peer}");
        }
    }
}
