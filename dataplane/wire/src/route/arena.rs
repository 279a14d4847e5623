//! What many endpoints have alike is kept once: restrictions, bounds of queues, rates. Written as bytes, read into what they are.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::bytes::{Put, Reader, Unread};
use super::rows::{AGES, DROPS_OLDEST, OF_BYTES, OF_MESSAGES, QueueRow, RatesRow};
use super::{AddressRange, Endpoint, OnFull, QueueBounds, Rates, Restriction, Transports, Window};
use crate::ids::{NodeId, UnixNanos};

/// Different things, each at the place where it came first.
#[derive(Debug)]
pub(super) struct Arena<T> {
    places: HashMap<T, u32>,
    list: Vec<T>,
    /// The one that came last, which mostly comes again.
    last: u32,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        let (places, list) = (HashMap::new(), Vec::new());
        let last = 0;
        Self { places, list, last }
    }
}

impl<T: Clone + Eq + Hash> Arena<T> {
    /// The place of this one.
    pub(super) fn place(&mut self, one: T) -> u32 {
        if self.list.get(self.last as usize) == Some(&one) {
            return self.last;
        }
        let next = self.list.len() as u32;
        let place = *self.places.entry(one.clone()).or_insert(next);
        if place == next {
            self.list.push(one);
        }
        self.last = place;
        place
    }

    /// All of them, in order.
    pub(super) fn list(&self) -> &[T] {
        &self.list
    }
}

/// The bytes of a restriction. The order in which addresses and origins were written does not count, so it does not show.
pub(super) fn put_restriction(out: &mut Vec<u8>, restriction: &Restriction) {
    let mut addresses: Vec<[u8; 18]> = restriction.addresses.iter().map(range_bytes).collect();
    addresses.sort_unstable();
    out.put_count(addresses.len());
    addresses.iter().for_each(|range| out.put(range));
    let mut origins: Vec<&str> = restriction.origins.iter().map(|text| &**text).collect();
    origins.sort_unstable();
    out.put_count(origins.len());
    origins.into_iter().for_each(|origin| out.put_text(origin));
    put_windows(out, &restriction.windows);
    out.put_maybe(restriction.expires.map(|at| at.0));
    out.put_maybe(restriction.messages_per_second.map(u64::from));
    out.put_maybe(restriction.bytes_per_second);
    out.put_maybe(restriction.body_bytes_max.map(u64::from));
}

/// The restriction that these bytes are.
pub(super) fn read_restriction(bytes: &mut Reader<'_>) -> Result<Restriction, Unread> {
    let number = |read: Option<u64>| read.map(u32::try_from).transpose().map_err(|_| Unread);
    Ok(Restriction {
        addresses: bytes.list(read_range)?,
        origins: bytes.list(|bytes| bytes.text().map(Box::from))?,
        windows: bytes.list(read_window)?,
        expires: bytes.maybe()?.map(UnixNanos),
        messages_per_second: number(bytes.maybe()?)?,
        bytes_per_second: bytes.maybe()?,
        body_bytes_max: number(bytes.maybe()?)?,
    })
}

/// What an endpoint says of its sessions as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) transports: Transports,
    pub(super) windows: Vec<Window>,
    pub(super) expires: Option<UnixNanos>,
    pub(super) home: Option<NodeId>,
}

impl Terms {
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        Self {
            transports: endpoint.transports,
            windows: endpoint.windows.clone(),
            expires: endpoint.expires,
            home: endpoint.home,
        }
    }
}

/// The bytes of these terms; in what order windows were written does not show.
pub(super) fn put_terms(out: &mut Vec<u8>, terms: &Terms) {
    out.put_u8(terms.transports.bits());
    put_windows(out, &terms.windows);
    out.put_maybe(terms.expires.map(|at| at.0));
    out.put_maybe(terms.home.map(|node| u64::from(node.0)));
}

/// The terms that these bytes are.
pub(super) fn read_terms(bytes: &mut Reader<'_>) -> Result<Terms, Unread> {
    Ok(Terms {
        transports: Transports::from_bits(bytes.u8()?).ok_or(Unread)?,
        windows: bytes.list(read_window)?,
        expires: bytes.maybe()?.map(UnixNanos),
        home: match bytes.maybe()? {
            Some(node) => Some(NodeId(u32::try_from(node).map_err(|_| Unread)?)),
            None => None,
        },
    })
}

fn put_windows(out: &mut Vec<u8>, windows: &[Window]) {
    let mut windows = windows.to_vec();
    windows.sort_unstable();
    out.put_count(windows.len());
    for window in windows {
        out.put_u8(window.days());
        out.put_u16(window.from());
        out.put_u16(window.to());
    }
}

fn read_window(bytes: &mut Reader<'_>) -> Result<Window, Unread> {
    let (days, from, to) = (bytes.u8()?, bytes.u16()?, bytes.u16()?);
    Window::new(days, from, to).map_err(|_| Unread)
}

fn range_bytes(range: &AddressRange) -> [u8; 18] {
    let (network, prefix) = range.network();
    let mut bytes = [0; 18];
    bytes[1] = prefix;
    match network {
        IpAddr::V4(four) => {
            bytes[0] = 4;
            bytes[2..6].copy_from_slice(&four.octets());
        }
        IpAddr::V6(six) => {
            bytes[0] = 6;
            bytes[2..].copy_from_slice(&six.octets());
        }
    }
    bytes
}

fn read_range(bytes: &mut Reader<'_>) -> Result<AddressRange, Unread> {
    let ([kind, prefix], octets) = (bytes.array::<2>()?, bytes.array::<16>()?);
    let network = match (kind, octets) {
        (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) => {
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        (6, octets) => IpAddr::V6(Ipv6Addr::from(octets)),
        _ => return Err(Unread),
    };
    AddressRange::new(network, prefix).map_err(|_| Unread)
}

impl From<&QueueBounds> for QueueRow {
    fn from(bounds: &QueueBounds) -> Self {
        let age = bounds.age_max.unwrap_or_default();
        let drops = if bounds.on_full == OnFull::DropOldest {
            DROPS_OLDEST
        } else {
            0
        };
        let ages = if bounds.age_max.is_some() { AGES } else { 0 };
        Self {
            messages_max: bounds.messages_max.to_le_bytes(),
            bytes_max: bounds.bytes_max.to_le_bytes(),
            age_seconds: age.as_secs().to_le_bytes(),
            age_nanos: age.subsec_nanos().to_le_bytes(),
            lock_seconds: bounds.lock.as_secs().to_le_bytes(),
            lock_nanos: bounds.lock.subsec_nanos().to_le_bytes(),
            deliveries_max: bounds.deliveries_max.to_le_bytes(),
            flags: drops | ages,
        }
    }
}

impl TryFrom<&QueueRow> for QueueBounds {
    type Error = Unread;

    fn try_from(row: &QueueRow) -> Result<Self, Unread> {
        let age = duration(row.age_seconds, row.age_nanos)?;
        let ages = row.flags & AGES != 0;
        if row.flags & !(AGES | DROPS_OLDEST) != 0 || (!ages && !age.is_zero()) {
            return Err(Unread);
        }
        Ok(Self {
            messages_max: u64::from_le_bytes(row.messages_max),
            bytes_max: u64::from_le_bytes(row.bytes_max),
            age_max: ages.then_some(age),
            on_full: match row.flags & DROPS_OLDEST {
                0 => OnFull::Park,
                _ => OnFull::DropOldest,
            },
            lock: duration(row.lock_seconds, row.lock_nanos)?,
            deliveries_max: u16::from_le_bytes(row.deliveries_max),
        })
    }
}

fn duration(seconds: [u8; 8], nanos: [u8; 4]) -> Result<Duration, Unread> {
    let nanos = u32::from_le_bytes(nanos);
    if nanos >= 1_000_000_000 {
        return Err(Unread);
    }
    Ok(Duration::new(u64::from_le_bytes(seconds), nanos))
}

impl From<&Rates> for RatesRow {
    fn from(rates: &Rates) -> Self {
        let messages = if rates.messages_per_second.is_some() {
            OF_MESSAGES
        } else {
            0
        };
        let bytes = if rates.bytes_per_second.is_some() {
            OF_BYTES
        } else {
            0
        };
        Self {
            messages: rates.messages_per_second.unwrap_or(0).to_le_bytes(),
            bytes: rates.bytes_per_second.unwrap_or(0).to_le_bytes(),
            flags: messages | bytes,
        }
    }
}

impl TryFrom<&RatesRow> for Rates {
    type Error = Unread;

    fn try_from(row: &RatesRow) -> Result<Self, Unread> {
        let (messages, bytes) = (
            u32::from_le_bytes(row.messages),
            u64::from_le_bytes(row.bytes),
        );
        let (of_messages, of_bytes) = (row.flags & OF_MESSAGES != 0, row.flags & OF_BYTES != 0);
        let open = (!of_messages && messages != 0) || (!of_bytes && bytes != 0);
        if row.flags & !(OF_MESSAGES | OF_BYTES) != 0 || open {
            return Err(Unread);
        }
        Ok(Self {
            messages_per_second: of_messages.then_some(messages),
            bytes_per_second: of_bytes.then_some(bytes),
        })
    }
}
