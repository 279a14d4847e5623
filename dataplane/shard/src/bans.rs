//! Who connects or fails too often in a row is kept out for a while, longer each time. Knows moments and keys of a table, no peer.
//!
//! Each shard counts for itself, so one that the kernel deals out to N shards is banned after N times as much at most. The ban then
//! holds on all of them, and so does how long the next one lasts.
//!
//! The table has a bound. When it is full, who would be forgotten first makes room: those who were seen longest ago, never those
//! who are banned before others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use wire::ids::{EndpointId, KeyId};

/// When somebody is banned, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BanLimits {
    /// The time in which the numbers below may come at most; half of it pays for half of them.
    pub window: Duration,
    /// Connections of one address.
    pub address_connections_max: u32,
    /// Handshakes of one address that fail for good: no credential, no HELLO in time, bytes that are none of the protocol.
    pub address_failures_max: u32,
    /// Sessions opened or resumed with one key, or with one token. Only who has proven to have it counts: nobody else can have it
    /// banned, nor who has a token the key that signed it.
    pub key_sessions_max: u32,
    /// How long the first ban lasts; each one soon after another lasts twice as long.
    pub first: Duration,
    /// How long one lasts at most, and how long after a ban the next one is soon.
    pub longest: Duration,
    /// Addresses, and keys, that are remembered at once.
    pub remembered_max: usize,
}

impl Default for BanLimits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            address_connections_max: 8_192,
            address_failures_max: 256,
            key_sessions_max: 200,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            remembered_max: 16_384,
        }
    }
}

/// Somebody who is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Banned {
    /// Who.
    pub who: Barred,
    /// How long still.
    pub left: Duration,
    /// How long in all.
    pub lasts: Duration,
    /// How many bans in a row this is.
    pub bans: u32,
}

/// What a ban is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// An address, or a network of 64 bits of IPv6.
    Address(IpAddr),
    /// A key of an endpoint.
    Key(EndpointId, KeyId),
    /// A token that a key of an endpoint signed.
    Token(EndpointId, KeyId),
}

/// Whose sessions count together: all that a key opens by itself, or one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Credential {
    pub(crate) endpoint: EndpointId,
    pub(crate) key: KeyId,
    /// A part of the token's signature; 0 for the key itself.
    pub(crate) token: u64,
}

impl Credential {
    pub(crate) fn barred(self) -> Barred {
        match self.token {
            0 => Barred::Key(self.endpoint, self.key),
            _ => Barred::Token(self.endpoint, self.key),
        }
    }
}

/// A ban that a shard tells the others. Their clocks began at one moment.
#[derive(Debug, Clone, Copy)]
pub struct NewBan {
    pub(crate) address: IpAddr,
    pub(crate) until: Duration,
    pub(crate) lasts: Duration,
    pub(crate) bans: u32,
}

/// How long somebody is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ban {
    pub(crate) left: Duration,
    pub(crate) lasts: Duration,
    pub(crate) bans: u32,
    /// It begins now.
    pub(crate) new: bool,
}

/// What is remembered of one.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    /// Up to when time has paid for connections, and for failures.
    paid: [Duration; 2],
    /// The end of the last ban, how long it lasted, and how many there were in a row.
    until: Duration,
    lasts: Duration,
    bans: u32,
    /// When all of this is forgotten.
    forget: Duration,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Connection = 0,
    Failure = 1,
}

/// Who was seen lately, and who is banned.
#[derive(Debug)]
pub(crate) struct Bans<K> {
    known: BTreeMap<K, Record>,
    /// By the moment at which each is forgotten.
    order: BTreeSet<(Duration, K)>,
}

impl<K> Default for Bans<K> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> Bans<K> {
    /// How many are remembered.
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    /// All who are kept out now.
    pub(crate) fn all(&self, now: Duration) -> impl Iterator<Item = (K, Ban)> + '_ {
        let banned = move |(who, record): (&K, &Record)| Some((*who, record.ban(now)?));
        self.known.iter().filter_map(banned)
    }

    /// The ban that is in force.
    pub(crate) fn look(&self, who: &K, now: Duration) -> Option<Ban> {
        self.known.get(who)?.ban(now)
    }

    /// Another shard has banned one.
    pub(crate) fn hear(&mut self, who: K, told: &NewBan, limits: &BanLimits, now: Duration) {
        if told.until <= now {
            return;
        }
        self.forget(limits, now);
        let record = self.known.entry(who).or_default();
        if told.until > record.until {
            (record.until, record.lasts) = (told.until, told.lasts);
            record.paid = [Duration::ZERO; 2];
        }
        record.bans = record.bans.max(told.bans);
        self.remember(who, limits);
    }

    /// Count something that one does, `most` of which may be in a window. The ban that is in force then, an old or a new one: what
    /// is done while banned makes it no longer.
    pub(crate) fn note(
        &mut self,
        who: K,
        count: Count,
        most: u32,
        limits: &BanLimits,
        now: Duration,
    ) -> Option<Ban> {
        self.forget(limits, now);
        let record = self.known.entry(who).or_default();
        if let Some(ban) = record.ban(now) {
            return Some(ban);
        }
        let paid = &mut record.paid[count as usize];
        *paid = now.max(*paid) + limits.window / most.max(1);
        let new = *paid > now + limits.window;
        if new {
            record.begin(limits, now);
        }
        let ban = record.ban(now);
        self.remember(who, limits);
        ban.map(|ban| Ban { new, ..ban })
    }

    /// Put one who is known where it will be forgotten.
    fn remember(&mut self, who: K, limits: &BanLimits) {
        let Some(record) = self.known.get_mut(&who) else {
            return;
        };
        let after = record.forgotten(limits);
        let before = std::mem::replace(&mut record.forget, after);
        self.order.remove(&(before, who));
        self.order.insert((after, who));
    }

    /// Make room: those whose time is over, and if that is not enough who would be next.
    fn forget(&mut self, limits: &BanLimits, now: Duration) {
        while let Some((at, who)) = self.order.first().copied()
            && (at <= now || self.known.len() >= limits.remembered_max)
        {
            self.order.pop_first();
            self.known.remove(&who);
        }
    }
}

impl Record {
    fn ban(&self, now: Duration) -> Option<Ban> {
        let left = self.until.saturating_sub(now);
        (!left.is_zero()).then_some(Ban {
            left,
            lasts: self.lasts,
            bans: self.bans,
            new: false,
        })
    }

    fn begin(&mut self, limits: &BanLimits, now: Duration) {
        let soon = self.bans > 0 && now < self.until + limits.longest;
        self.bans = match soon {
            true => self.bans.saturating_add(1),
            false => 1,
        };
        let doubled = 1_u32.checked_shl(self.bans - 1).unwrap_or(u32::MAX);
        self.lasts = limits.first.saturating_mul(doubled).min(limits.longest);
        self.until = now + self.lasts;
        self.paid = [Duration::ZERO; 2];
    }

    fn forgotten(&self, limits: &BanLimits) -> Duration {
        let remembered = match self.bans {
            0 => Duration::ZERO,
            _ => self.until + limits.longest,
        };
        self.paid[0].max(self.paid[1]).max(remembered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> BanLimits {
        BanLimits {
            window: Duration::from_secs(10),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            remembered_max: 100,
            ..BanLimits::default()
        }
    }

    fn connect(bans: &mut Bans<u32>, who: u32, now: Duration) -> Option<Ban> {
        bans.note(who, Count::Connection, 5, &limits(), now)
    }

    #[test]
    fn who_stays_within_the_window_is_never_banned() {
        let mut bans = Bans::default();
        for second in 0..500 {
            let now = Duration::from_secs(2 * second);
            assert_eq!(connect(&mut bans, 7, now), None, "every 2 s, 5 in 10 s");
        }
        let now = Duration::from_secs(2_000);
        for _ in 0..5 {
            assert_eq!(connect(&mut bans, 7, now), None, "5 at once");
        }
        assert!(connect(&mut bans, 7, now).is_some_and(|ban| ban.new));
        assert_eq!(connect(&mut bans, 8, now), None, "another one");
    }

    #[test]
    fn each_ban_soon_after_another_lasts_twice_as_long_up_to_the_longest() {
        let mut bans = Bans::default();
        let mut now = Duration::from_secs(100);
        let mut lasted = Vec::new();
        for _ in 0..9 {
            let ban = (0..6).find_map(|_| connect(&mut bans, 7, now));
            let ban = ban.expect("6 at once are too many");
            assert!(ban.new && ban.left == ban.lasts, "{ban:?}");
            lasted.push(ban.lasts.as_secs());
            // What is done while banned makes it no longer.
            let almost = now + ban.lasts - Duration::from_millis(1);
            let still = connect(&mut bans, 7, almost).expect("it is not over");
            assert_eq!((still.new, still.left.as_millis()), (false, 1));
            now += ban.lasts;
            assert_eq!(bans.all(now).count(), 0);
        }
        assert_eq!(lasted, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        now += Duration::from_secs(61);
        let ban = (0..6).find_map(|_| connect(&mut bans, 7, now));
        assert_eq!(ban.map(|ban| (ban.bans, ban.lasts.as_secs())), Some((1, 1)));
    }

    #[test]
    fn who_was_banned_has_after_a_pause_what_anybody_has_and_no_more() {
        let mut bans = Bans::default();
        let start = Duration::from_secs(100);
        let ban = (0..6).find_map(|_| connect(&mut bans, 7, start));
        assert!(ban.is_some());
        assert_eq!(connect(&mut bans, 7, start + Duration::from_secs(1)), None);
        // It is remembered still, for its ban; but time does not pay in advance.
        let late = start + Duration::from_secs(40);
        for _ in 0..5 {
            assert_eq!(connect(&mut bans, 7, late), None);
        }
        assert!(connect(&mut bans, 7, late).is_some_and(|ban| ban.bans == 2));
    }

    #[test]
    fn a_row_of_bans_ends_with_its_time_though_more_is_remembered() {
        let mut bans = Bans::default();
        let start = Duration::from_secs(100);
        let ban = (0..6).find_map(|_| connect(&mut bans, 7, start));
        let over = start + ban.expect("6 at once are too many").lasts;
        let almost = over + Duration::from_secs(59);
        for _ in 0..5 {
            assert_eq!(connect(&mut bans, 7, almost), None);
        }
        let after = over + Duration::from_millis(60_500);
        let ban = (0..2).find_map(|_| connect(&mut bans, 7, after));
        assert_eq!(ban.map(|ban| (ban.new, ban.bans)), Some((true, 1)));
    }

    #[test]
    fn the_table_has_a_bound_and_who_is_banned_is_forgotten_last() {
        let mut bans = Bans::default();
        let now = Duration::from_secs(50);
        let ban = (0..6).find_map(|_| connect(&mut bans, 1, now));
        assert!(ban.is_some());
        for who in 2..5_000 {
            assert_eq!(connect(&mut bans, who, now), None);
            assert!(bans.count() <= 100 && bans.order.len() == bans.count());
        }
        let banned: Vec<u32> = bans.all(now).map(|(who, _)| who).collect();
        assert_eq!(banned, [1]);
        let late = now + Duration::from_secs(62);
        connect(&mut bans, 9_999, late);
        assert_eq!(bans.count(), 1, "the time of all others is over");
    }

    #[test]
    fn failures_and_connections_are_counted_apart() {
        let mut bans: Bans<u32> = Bans::default();
        let (limits, now) = (limits(), Duration::from_secs(9));
        for _ in 0..5 {
            assert_eq!(bans.note(3, Count::Connection, 5, &limits, now), None);
        }
        for _ in 0..2 {
            assert_eq!(bans.note(3, Count::Failure, 2, &limits, now), None);
        }
        assert!(bans.note(3, Count::Failure, 2, &limits, now).is_some());
    }
}
