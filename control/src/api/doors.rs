//! How many connections one address may have to the API, and how quickly it may make more. Whoever comes from this machine is let in as ever.
//!
//! Knows no socket and no clock: whoever accepts asks with an address and a time. An address of IPv6 counts by its network of 64 bits, which is what
//! one host has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections of one address at once: an eighth of all.
const OPEN_MAX: u32 = 32;
/// New connections, each with its handshake, that an address may make at once after a rest.
const BURST: f64 = 64.0;
/// New connections a second that it may make in the long run.
const PER_SECOND: f64 = 16.0;
/// Addresses that are remembered. One that was never seen is let in when as many others came of late.
const ADDRESSES_MAX: usize = 4_096;

/// Who is in, and how often each came of late.
#[derive(Default, Clone)]
pub(super) struct Doors(Arc<Mutex<HashMap<IpAddr, Visitor>>>);

struct Visitor {
    open: u32,
    /// Connections that it may make.
    left: f64,
    /// When that was.
    at: Instant,
}

/// One that is in; it leaves when this is dropped.
pub(super) struct Inside {
    doors: Doors,
    /// None for this machine.
    network: Option<IpAddr>,
}

impl Doors {
    /// Let somebody in, or not: then its connection is closed without a word.
    pub(super) fn enter(&self, address: IpAddr, now: Instant) -> Option<Inside> {
        let doors = self.clone();
        let address = address.to_canonical();
        if address.is_loopback() {
            let network = None;
            return Some(Inside { doors, network });
        }
        let network = network_of(address);
        let mut visitors = self.visitors();
        if visitors.len() >= ADDRESSES_MAX && !visitors.contains_key(&network) {
            visitors.retain(|_, visitor| visitor.open > 0 || visitor.left_at(now) < BURST);
            if visitors.len() >= ADDRESSES_MAX {
                let network = None;
                return Some(Inside { doors, network });
            }
        }
        let visitor = visitors.entry(network).or_insert(Visitor {
            open: 0,
            left: BURST,
            at: now,
        });
        (visitor.left, visitor.at) = (visitor.left_at(now), now);
        if visitor.open >= OPEN_MAX || visitor.left < 1.0 {
            return None;
        }
        visitor.open += 1;
        visitor.left -= 1.0;
        let network = Some(network);
        Some(Inside { doors, network })
    }

    fn visitors(&self) -> MutexGuard<'_, HashMap<IpAddr, Visitor>> {
        // Counts are whole after every step, whoever panicked beside them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor {
    fn left_at(&self, now: Instant) -> f64 {
        let since: Duration = now.saturating_duration_since(self.at);
        (self.left + since.as_secs_f64() * PER_SECOND).min(BURST)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        if let Some(visitor) = self.doors.visitors().get_mut(&network) {
            visitor.open -= 1;
        }
    }
}

/// What counts as one: an address of IPv4, a network of 64 bits of IPv6.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(long) => {
            let network = long.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_so_many_connections_and_others_have_theirs() {
        for (one, same, another) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8:1:1::1", "2001:db8:1:1:ffff::1", "2001:db8:1:2::1"),
        ] {
            let (doors, now) = (Doors::default(), Instant::now());
            let enter = |text: &str| doors.enter(address(text), now);
            let mut inside: Vec<_> = (0..OPEN_MAX).filter_map(|_| enter(one)).collect();
            assert_eq!(inside.len(), OPEN_MAX as usize);
            assert!(enter(one).is_none() && enter(same).is_none());
            assert!(enter(another).is_some());
            inside.pop();
            assert!(enter(same).is_some(), "one has left");
        }
    }

    #[test]
    fn whoever_comes_and_goes_is_let_in_so_often() {
        let (doors, mut now) = (Doors::default(), Instant::now());
        let one = address("192.0.2.1");
        let come = |now| {
            let tries = (0..1_000).map(|_| doors.enter(one, now));
            tries.filter(Option::is_some).count()
        };
        assert_eq!(come(now), BURST as usize);
        now += Duration::from_secs(2);
        assert_eq!(come(now), 2 * PER_SECOND as usize);
        now += Duration::from_secs(3_600);
        assert_eq!(come(now), BURST as usize, "no more after a rest");
    }

    #[test]
    fn this_machine_comes_as_it_likes_and_what_is_remembered_is_bounded() {
        let (doors, now) = (Doors::default(), Instant::now());
        for own in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let inside: Vec<_> = (0..1_000).map(|_| doors.enter(address(own), now)).collect();
            assert!(inside.iter().all(Option::is_some), "{own}");
        }
        assert!(doors.visitors().is_empty());
        for host in 0..ADDRESSES_MAX as u32 + 100 {
            let entered = doors.enter(IpAddr::V4((0x0A00_0000 + host).into()), now);
            assert!(entered.is_some(), "{host}");
        }
        assert_eq!(doors.visitors().len(), ADDRESSES_MAX);
        // Those that rested are forgotten for those that come.
        let later = now + Duration::from_secs(60);
        assert!(doors.enter(address("192.0.2.1"), later).is_some());
        assert_eq!(doors.visitors().len(), 1);
    }
}
