//! Conditions on a grant. Where a condition cannot be checked it fails.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{Rates, Window};
use crate::ids::UnixNanos;

/// Conditions on a grant; the default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restriction {
    /// Addresses it holds for; none listed: all.
    pub addresses: Vec<AddressRange>,
    /// Web origins it holds for; none listed: all. A session that has no origin fails a list.
    pub origins: Vec<Box<str>>,
    /// When it holds; none listed: always.
    pub windows: Vec<Window>,
    /// When it ends for good: it is as if it had been taken away then.
    pub expires: Option<UnixNanos>,
    /// Messages per second.
    pub messages_per_second: Option<u32>,
    /// Bytes of whole frames per second.
    pub bytes_per_second: Option<u64>,
    /// Bytes of one body.
    pub body_bytes_max: Option<u32>,
}

impl Restriction {
    /// Whether there is no condition at all.
    pub fn is_none(&self) -> bool {
        self.addresses.is_empty()
            && self.origins.is_empty()
            && self.windows.is_empty()
            && self.expires.is_none()
            && self.messages_per_second.is_none()
            && self.bytes_per_second.is_none()
            && self.body_bytes_max.is_none()
    }

    /// Its rates.
    pub(super) fn rates(&self) -> Rates {
        Rates {
            messages_per_second: self.messages_per_second,
            bytes_per_second: self.bytes_per_second,
        }
    }

    /// Whether it has ended at this moment.
    #[inline]
    pub fn is_over(&self, now: UnixNanos) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether it holds for this address.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.iter().any(|range| range.contains(address))
    }

    /// Whether it holds for this origin; `None` is a session without one.
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        self.origins.is_empty()
            || origin.is_some_and(|origin| self.origins.iter().any(|listed| **listed == *origin))
    }
}

/// A range of addresses: `10.1.0.0/16`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    network: IpAddr,
    prefix: u8,
}

/// Bits in front of the IPv4 address inside an IPv6 one.
const MAPPED_BITS: u8 = 96;

/// A text that is no range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressRangeError {
    /// Not an address, or not one followed by `/` and a number.
    #[error("not an address or address/prefix")]
    Malformed,
    /// A prefix longer than the address.
    #[error("prefix {0} is longer than the address")]
    Prefix(u8),
    /// An address with bits behind its prefix: most likely a slip.
    #[error("the address has bits set behind its prefix")]
    HostBits,
}

impl AddressRange {
    /// The range of all addresses that begin with the first `prefix` bits of `network`. One of IPv4 addresses inside IPv6 ones is the
    /// range of those, as an address of that form counts as the IPv4 one in it.
    ///
    /// # Errors
    /// When the prefix is too long, or `network` has bits set behind it.
    pub fn new(network: IpAddr, prefix: u8) -> Result<Self, AddressRangeError> {
        let (bits, width) = bits(network);
        if prefix > width {
            return Err(AddressRangeError::Prefix(prefix));
        }
        if bits & !mask(prefix, width) != 0 {
            return Err(AddressRangeError::HostBits);
        }
        match (network.to_canonical(), prefix.checked_sub(MAPPED_BITS)) {
            (four @ IpAddr::V4(_), Some(prefix)) if width == 128 => Ok(Self {
                network: four,
                prefix,
            }),
            _ => Ok(Self { network, prefix }),
        }
    }

    /// The first address, and how many bits of it count.
    pub(super) fn network(&self) -> (IpAddr, u8) {
        (self.network, self.prefix)
    }

    /// Whether the address is in the range. An IPv4 address inside an IPv6 one counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let ((network, width), (address, other)) =
            (bits(self.network), bits(address.to_canonical()));
        width == other && network == address & mask(self.prefix, width)
    }
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(four) => (u128::from(four.to_bits()), 32),
        IpAddr::V6(six) => (six.to_bits(), 128),
    }
}

fn mask(prefix: u8, width: u8) -> u128 {
    let ones = if width == 128 {
        u128::MAX
    } else {
        (1 << width) - 1
    };
    ones & !ones.checked_shr(u32::from(prefix)).unwrap_or(0)
}

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| AddressRangeError::Malformed)?;
        let whole = bits(address).1;
        let prefix = prefix.map_or(Ok(whole), |prefix| {
            prefix.parse().map_err(|_| AddressRangeError::Malformed)
        })?;
        Self::new(address, prefix)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("the test writes addresses")
    }

    #[test]
    fn ranges_hold_exactly_their_addresses() {
        for (range, inside, outside) in [
            ("10.1.0.0/16", "10.1.255.255", "10.2.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "203.0.113.1", "::1"),
            ("::/0", "::1", "203.0.113.1"),
            ("2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"),
            ("10.0.0.0/8", "::ffff:10.9.9.9", "::ffff:11.0.0.0"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
            ("::ffff:0.0.0.0/96", "203.0.113.1", "::1"),
            ("::ffff:192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"),
        ] {
            let range: AddressRange = range.parse().expect("a range");
            assert!(range.contains(address(inside)), "{range} {inside}");
            assert!(!range.contains(address(outside)), "{range} {outside}");
        }
    }

    #[test]
    fn texts_that_are_no_range_are_refused() {
        for (text, want) in [
            ("", AddressRangeError::Malformed),
            ("10.0.0.0/", AddressRangeError::Malformed),
            ("10.0.0.0/x", AddressRangeError::Malformed),
            ("10.0.0.0/33", AddressRangeError::Prefix(33)),
            ("::/129", AddressRangeError::Prefix(129)),
            ("10.0.0.1/8", AddressRangeError::HostBits),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(want), "{text}");
        }
    }

    #[test]
    fn a_session_without_origin_fails_a_list_of_origins() {
        let any = Restriction::default();
        let listed = Restriction {
            origins: vec!["https://a.example".into()],
            ..Restriction::default()
        };
        assert!(any.is_none() && any.allows_origin(None) && any.allows_address(address("::1")));
        assert!(!listed.is_none() && !listed.allows_origin(None));
        assert!(listed.allows_origin(Some("https://a.example")));
        assert!(!listed.allows_origin(Some("https://a.example.org")));
    }
}
