//! Peers that anybody can be: connections whose peer has not proven who they are, connections of one address, and PINGs, each of
//! which costs a signature. Each has a bound, so that none of them takes what others need.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use wire::ids::Sequence;
use wire::reason::{Notice, Reason};

use crate::bans::{Ban, Banned, Bans, Barred, Count, Credential, NewBan};
use crate::budget::Pressure;
use crate::connection::Goodbye;
use crate::io::ConnectionId;
use crate::peers::{Peers, millis};

/// Entries of connections that are no strangers any more, beyond as many as there are strangers, before they are cleared away.
const STALE_MAX: usize = 64;
/// How many times longer than for a message the wait asked of one who is to connect again is.
const COME_BACK: u32 = 20;

/// Connections without a proven peer, and of all connections how many each address has.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    count: u32,
    /// In the order in which they came, some of them gone or known since.
    order: VecDeque<ConnectionId>,
    addresses: BTreeMap<IpAddr, u32>,
    /// Up to when time has paid for connections that came.
    paid: Duration,
    bans: Bans<IpAddr>,
    key_bans: Bans<Credential>,
}

/// What a remembered address or key takes of memory.
pub(crate) const REMEMBERED_BYTES: usize = 192;

impl Strangers {
    /// Bytes of what is remembered of addresses and keys.
    pub(crate) fn bytes(&self) -> usize {
        (self.bans.count() + self.key_bans.count() + self.addresses.len()) * REMEMBERED_BYTES
    }

    /// How many have not proven who they are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

/// Whose share a connection counts into: an IPv4 address, or the 64 bits of IPv6 that one network gives to one customer. `None`
/// for this machine itself, where it is exempt: a proxy on it speaks for many.
#[must_use]
pub fn share(peer: IpAddr, exempt: bool) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if exempt && peer.is_loopback() {
        return None;
    }
    Some(match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    })
}

/// What one who is banned is told.
fn told(reason: Reason, ban: Ban) -> Notice {
    let (left, lasts) = (millis(ban.left), millis(ban.lasts));
    let after = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    Notice::new(reason, left, lasts).retry_after(after)
}

impl Peers {
    /// A connection has come. It is turned away if its address is banned or has one too many, if memory is short, or if too many
    /// come at once. Only what is not turned away counts towards a ban: whom the node has no room for is asked to come again.
    /// One too many strangers, and the one that has been one for longest makes room: a client says HELLO at once.
    pub(crate) fn meet(&mut self, id: ConnectionId, peer: IpAddr, handed_over: bool) {
        self.strangers.count += 1;
        self.strangers.order.push_back(id);
        if self.strangers.order.len() > 2 * self.strangers.count as usize + STALE_MAX {
            let connections = &self.connections;
            let order = &mut self.strangers.order;
            order.retain(|id| connections.get(*id).is_some_and(|found| found.stranger));
        }
        let share = share(peer, self.limits.loopback_exempt);
        let count = share.map_or(0, |address| {
            let count = self.strangers.addresses.entry(address).or_default();
            *count += 1;
            *count
        });
        let found = self.connections.get(id);
        if !found.is_some_and(|connection| connection.listens()) {
            return;
        }
        // What comes from another shard has been counted there.
        let counted = share.filter(|_| !handed_over);
        let refused = counted
            .and_then(|address| self.barred(address))
            .or_else(|| self.short_of_memory())
            .or_else(|| self.crowded_address(count))
            .or_else(|| self.overrun(handed_over))
            .or_else(|| counted.and_then(|address| self.note_connection(address)));
        if let Some(notice) = refused {
            return self.goodbye(id, Goodbye::Goaway(notice));
        }
        if self.strangers.count > self.limits.strangers_max {
            self.crowd_out();
        }
    }

    /// Whether this address is banned now.
    pub(crate) fn bars(&self, peer: IpAddr) -> bool {
        let share = share(peer, self.limits.loopback_exempt);
        let ban = share.and_then(|who| self.strangers.bans.look(&who, self.now.monotonic));
        ban.is_some()
    }

    /// Why no connection of this address is let in now: it is banned.
    fn barred(&mut self, address: IpAddr) -> Option<Notice> {
        let ban = self.strangers.bans.look(&address, self.now.monotonic)?;
        self.counters.shed.banned_addresses += 1;
        Some(told(Reason::AddressBanned, ban))
    }

    /// Count a connection of this address. Why it is not let in: it is one too many, and a ban begins.
    fn note_connection(&mut self, address: IpAddr) -> Option<Notice> {
        let most = self.limits.bans.address_connections_max;
        let ban = self.note(address, Count::Connection, most)?;
        self.counters.shed.banned_addresses += 1;
        Some(told(Reason::AddressBanned, ban))
    }

    /// Count what an address does; a ban that begins is for all shards.
    fn note(&mut self, address: IpAddr, count: Count, most: u32) -> Option<Ban> {
        let (limits, now) = (&self.limits.bans, self.now.monotonic);
        let ban = self
            .strangers
            .bans
            .note(address, count, most, limits, now)?;
        if ban.new {
            self.counters.shed.address_bans += 1;
            let new = NewBan {
                address,
                until: now + ban.left,
                lasts: ban.lasts,
                bans: ban.bans,
            };
            let away = self.away.iter_mut().enumerate();
            for (_, away) in away.filter(|(to, _)| *to != usize::from(self.limits.shard)) {
                away.tell_ban(new);
            }
        }
        Some(ban)
    }

    /// Another shard has banned an address.
    pub(crate) fn hear_ban(&mut self, new: &NewBan) {
        let (limits, now) = (&self.limits.bans, self.now.monotonic);
        self.strangers.bans.hear(new.address, new, limits, now);
    }

    /// Why no connection is let in now: memory is short.
    fn short_of_memory(&mut self) -> Option<Notice> {
        if self.memory.door < Pressure::NewConnections {
            return None;
        }
        self.counters.shed.connections += 1;
        let (used, below) = (
            self.memory.used.at_the_door(),
            self.memory.ends(Pressure::NewConnections),
        );
        let notice = Notice::new(Reason::ConnectionsShed, used, below);
        Some(notice.retry_after(self.come_back_ms()))
    }

    /// Why this one is not let in: too many come at once.
    fn overrun(&mut self, handed_over: bool) -> Option<Notice> {
        if handed_over {
            return None;
        }
        let (now, most) = (self.now.monotonic, self.limits.accepts_per_second);
        let paid = self.strangers.paid.max(now) + Duration::from_secs(1) / most;
        if paid <= now + Duration::from_secs(1) {
            self.strangers.paid = paid;
            return None;
        }
        self.counters.shed.accepts += 1;
        let over = paid - now - Duration::from_secs(1);
        let owed = (paid - now).as_nanos() * u128::from(most) / 1_000_000_000;
        let owed = u64::try_from(owed).unwrap_or(u64::MAX);
        let after = u32::try_from(millis(over)).unwrap_or(u32::MAX);
        let notice = Notice::new(Reason::AcceptsLimited, owed, most.into());
        Some(notice.retry_after(after.max(self.retry_after_ms())))
    }

    /// Why this one is not let in: its address has so many.
    fn crowded_address(&mut self, count: u32) -> Option<Notice> {
        let count_max = self.limits.connections_per_address_max;
        if count <= count_max {
            return None;
        }
        self.counters.accept.addresses_crowded += 1;
        let notice = Notice::new(Reason::AddressCrowded, count.into(), count_max.into());
        Some(notice.retry_after(self.retry_after_ms()))
    }

    /// A handshake failed for good, or a peer was sent away for what it did.
    pub(crate) fn note_failure(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let Some(address) = share(connection.peer, self.limits.loopback_exempt) else {
            return;
        };
        let most = self.limits.bans.address_failures_max;
        // Whoever is banned by it is sent away already.
        let _ = self.note(address, Count::Failure, most);
    }

    /// A session is to be opened or resumed with a credential whose owner has proven to have it. Why it is not: that is banned.
    pub(crate) fn barred_key(&mut self, peer: IpAddr, who: Credential) -> Option<Notice> {
        share(peer, self.limits.loopback_exempt)?;
        let ban = self.strangers.key_bans.look(&who, self.now.monotonic)?;
        self.counters.shed.banned_keys += 1;
        Some(told(Reason::KeyBanned, ban))
    }

    /// Count a session that nothing else keeps from being opened or resumed. Why it is not: it is one too many.
    pub(crate) fn note_session(&mut self, peer: IpAddr, who: Credential) -> Option<Notice> {
        share(peer, self.limits.loopback_exempt)?;
        let (limits, now) = (&self.limits.bans, self.now.monotonic);
        let most = limits.key_sessions_max;
        let bans = &mut self.strangers.key_bans;
        let ban = bans.note(who, Count::Connection, most, limits, now)?;
        let counters = &mut self.counters.shed;
        counters.key_bans += u64::from(ban.new);
        counters.banned_keys += 1;
        Some(told(Reason::KeyBanned, ban))
    }

    /// Who is kept out now, at most so many.
    pub(crate) fn banned(&self, count_max: usize) -> Vec<Banned> {
        let now = self.now.monotonic;
        let banned = |who, ban: Ban| Banned {
            who,
            left: ban.left,
            lasts: ban.lasts,
            bans: ban.bans,
        };
        let addresses = self.strangers.bans.all(now);
        let addresses = addresses.map(|(address, ban)| banned(Barred::Address(address), ban));
        let keys = self.strangers.key_bans.all(now);
        let keys = keys.map(|(who, ban)| banned(who.barred(), ban));
        addresses.chain(keys).take(count_max).collect()
    }

    /// Memory is so short that all who have not proven who they are make room.
    pub(crate) fn shed_strangers(&mut self) {
        while let Some(id) = self.strangers.order.pop_front() {
            let found = self.connections.get(id);
            if found.is_some_and(|connection| connection.stranger) {
                let notice = self.stranger_shed();
                self.goodbye(id, Goodbye::Goaway(notice));
                self.know(id);
            }
        }
    }

    /// What one who has to make room as a stranger is told; counts it.
    pub(crate) fn stranger_shed(&mut self) -> Notice {
        self.counters.shed.strangers += 1;
        let (used, below) = (
            self.memory.used.at_the_door(),
            self.memory.ends(Pressure::Strangers),
        );
        let notice = Notice::new(Reason::StrangersShed, used, below);
        notice.retry_after(self.come_back_ms())
    }

    /// The wait asked of one who is to connect again later, in milliseconds: longer than for a message, since it costs more.
    fn come_back_ms(&self) -> u32 {
        self.retry_after_ms().saturating_mul(COME_BACK)
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
        let Some(address) = share(peer, self.limits.loopback_exempt) else {
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
            let peer = peer.parse().expect("an address");
            assert_eq!(share(peer, true), want, "{peer}");
            assert!(share(peer, false).is_some(), "{peer}");
        }
    }
}
