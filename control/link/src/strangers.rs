//! Who has connected and not shown yet who it is: how many at once, how many of one address, how many in a second. Pure.
//!
//! A handshake costs control a signature before it knows with whom. So an address has so many handshakes a second, and so many at once: the
//! oldest of its own goes first. When all of them together are too many, the oldest goes of the address that has most.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Strangers at once.
pub(crate) const AT_ONCE_MAX: usize = 256;
/// Of one address.
pub(crate) const OF_ADDRESS_MAX: usize = 64;
/// How many may come of one address before it has to wait, and how long until it may come once more.
const BURST: u32 = 64;
const ONE_MORE: Duration = Duration::from_millis(50);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4_096;

/// An address; of IPv6 the network that one party has.
type Of = [u8; 8];

fn of(address: IpAddr) -> Of {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0, 0, 0, 0, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

/// When the allowance of an address is whole again.
type Whole = Instant;

/// Strangers, each with what ends its connection when it is dropped.
pub(crate) struct Strangers<E> {
    /// The oldest first.
    there: VecDeque<(u64, Of, E)>,
    came: HashMap<Of, Whole>,
    number: u64,
    /// Turned away since that was told last.
    turned_away: u64,
}

impl<E> Strangers<E> {
    pub(crate) fn new() -> Self {
        Self {
            there: VecDeque::new(),
            came: HashMap::new(),
            number: 0,
            turned_away: 0,
        }
    }

    /// One comes from this address; its number, unless it is turned away.
    pub(crate) fn come(&mut self, now: Instant, address: IpAddr, end: E) -> Option<u64> {
        let of = of(address);
        if !self.may(now, of) {
            self.turned_away += 1;
            return None;
        }
        if self.count(of) >= OF_ADDRESS_MAX {
            self.let_go(|one| one == of);
        } else if self.there.len() >= AT_ONCE_MAX {
            let most = self.most();
            self.let_go(|one| Some(one) == most);
        }
        self.number += 1;
        self.there.push_back((self.number, of, end));
        debug_assert!(self.there.len() <= AT_ONCE_MAX, "{}", self.there.len());
        Some(self.number)
    }

    /// This one is a stranger no more: it has gone, or has shown who it is. Who has shown that is not counted for it.
    pub(crate) fn gone(&mut self, number: u64, known: bool) {
        let at = self.there.iter().position(|(one, ..)| *one == number);
        if let Some((_, of, _)) = at.and_then(|at| self.there.remove(at))
            && known
            && let Some(whole) = self.came.get_mut(&of)
        {
            *whole = whole.checked_sub(ONE_MORE).unwrap_or(*whole);
        }
    }

    /// How many were turned away since this was asked last.
    pub(crate) fn turned_away(&mut self) -> u64 {
        std::mem::take(&mut self.turned_away)
    }

    fn count(&self, of: Of) -> usize {
        self.there.iter().filter(|(_, one, _)| *one == of).count()
    }

    /// Whether one more may come of this address now; it is counted.
    fn may(&mut self, now: Instant, of: Of) -> bool {
        if self.came.len() >= ADDRESSES_MAX && !self.came.contains_key(&of) {
            self.came.retain(|_, whole| *whole > now);
            if self.came.len() >= ADDRESSES_MAX {
                // Who has so many addresses has no need of many handshakes of each.
                self.came.clear();
            }
        }
        let whole = self.came.entry(of).or_insert(now);
        let next = (*whole).max(now) + ONE_MORE;
        let may = next.saturating_duration_since(now) <= ONE_MORE * BURST;
        if may {
            *whole = next;
        }
        may
    }

    /// The address that has most.
    fn most(&self) -> Option<Of> {
        let mut counts = HashMap::new();
        for (_, of, _) in &self.there {
            *counts.entry(*of).or_insert(0) += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.map(|(of, _)| of)
    }

    /// Let the oldest of these go: whoever is good is done in a moment.
    fn let_go(&mut self, whose: impl Fn(Of) -> bool) {
        let oldest = self.there.iter().position(|(_, of, _)| whose(*of));
        if oldest.and_then(|at| self.there.remove(at)).is_some() {
            self.turned_away += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(number))
    }

    #[test]
    fn one_address_has_so_many_at_once_and_does_not_keep_others_out() {
        let (mut strangers, now) = (Strangers::new(), Instant::now());
        let late = now + 600 * ONE_MORE;
        for at in [now, late] {
            for _ in 0..100 {
                strangers.come(at, address(1), ());
            }
        }
        assert_eq!(strangers.there.len(), OF_ADDRESS_MAX);
        assert_eq!(strangers.turned_away(), 200 - OF_ADDRESS_MAX as u64);
        assert_eq!(
            strangers.there.back().map(|(number, ..)| *number),
            Some(128)
        );
        for number in 2..6 {
            for _ in 0..OF_ADDRESS_MAX {
                strangers.come(now, address(number), ());
            }
        }
        assert_eq!(strangers.there.len(), AT_ONCE_MAX);
        let good = strangers.come(now, address(9), ()).expect("there is room");
        for _ in 0..1_000 {
            strangers.come(now, address(1), ());
            strangers.come(now, address(7), ());
        }
        let stays = strangers.there.iter().any(|(number, ..)| *number == good);
        assert!(stays, "who is alone at its address is not the one to go");
        assert_eq!(strangers.there.len(), AT_ONCE_MAX);
    }

    #[test]
    fn one_address_has_so_many_in_a_second_unless_they_show_who_they_are() {
        let (mut strangers, now) = (Strangers::new(), Instant::now());
        let come = |strangers: &mut Strangers<()>, now, known| {
            let number = strangers.come(now, address(1), ());
            number.map(|number| strangers.gone(number, known)).is_some()
        };
        let all = (0..1_000).all(|_| come(&mut strangers, now, true));
        assert!(all, "nodes come back as often as they must");
        let came = (0..1_000).filter(|_| come(&mut strangers, now, false));
        assert_eq!(came.count() as u32, BURST);
        assert!(!come(&mut strangers, now, true));
        let later = now + 10 * ONE_MORE;
        let came = (0..1_000).filter(|_| come(&mut strangers, later, false));
        assert_eq!(came.count(), 10);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_the_memory_of_addresses_is_bounded() {
        let (mut strangers, now) = (Strangers::new(), Instant::now());
        let mut came = 0;
        for number in 0..1_000_u128 {
            let one = IpAddr::V6(std::net::Ipv6Addr::from_bits((0x2001 << 112) | number));
            came += u32::from(strangers.come(now, one, ()).is_some());
        }
        assert_eq!(came, BURST);
        for number in 0..50_000 {
            strangers.come(now, address(number), ());
            assert!(strangers.came.len() <= ADDRESSES_MAX);
        }
        assert_eq!(strangers.there.len(), AT_ONCE_MAX);
    }
}
