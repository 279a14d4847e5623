//! What is defined, drawn from a seed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

use super::reference::{Endpoint, Grant, Hours, Key, Rates};

/// Monday, 2027-01-04, 00:00 UTC: questions are asked in the two weeks from here.
pub(crate) const BEGIN: u64 = 1_799_020_800;
pub(crate) const WEEKS: u64 = 14 * 86_400;
pub(crate) const ACCOUNTS: [&str; 2] = ["a", "b"];
pub(crate) const ENVIRONMENTS: [&str; 4] = ["a/e", "a/f", "b/e", "b/f"];
pub(crate) const CHANNELS: [&str; 3] = ["readings", "orders", "alarms"];
/// Hubs of each environment, and their partitions: no number of shards deals both out evenly.
pub(crate) const HUBS: [(&str, u64); 2] = [("default", 2), ("side", 3)];
pub(crate) const ORIGINS: [&str; 2] = ["https://a.example", "https://b.example"];
/// Nodes that are defined, and one that is not.
pub(crate) const NODES: [&str; 2] = ["north", "south"];
const UNDEFINED: &str = "west";
/// Endpoints of each environment.
const ENDPOINTS: usize = 2;
/// Relays everything, and is restricted by nothing.
pub(crate) const RELAY: &str = "a/e/relay";
/// Its secret.
pub(crate) const RELAY_SECRET: usize = 0;

/// A channel that there is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Channel {
    pub(crate) id: Option<u32>,
    pub(crate) hub: &'static str,
}

/// All that is defined.
#[derive(Debug, Clone)]
pub(crate) struct Defined {
    /// What the node is called that is asked.
    pub(crate) node: &'static str,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) channels: HashMap<String, Channel>,
    pub(crate) accounts: HashMap<&'static str, Rates>,
    /// How many secrets there are.
    pub(crate) secrets: usize,
}

/// Everything that is defined, by this seed.
pub(crate) fn defined(random: &mut Rng) -> Defined {
    let mut defined = Defined {
        node: [NODES[0], NODES[1], UNDEFINED][random.usize(..3)],
        endpoints: Vec::new(),
        channels: HashMap::new(),
        accounts: HashMap::new(),
        secrets: RELAY_SECRET + 1,
    };
    for account in ACCOUNTS {
        defined.accounts.insert(account, account_rates(random));
    }
    for environment in ENVIRONMENTS {
        for name in CHANNELS {
            let channel = channel(random, defined.channels.len());
            let name = format!("{environment}/{name}");
            defined.channels.insert(name, channel);
        }
        for at in 0..ENDPOINTS {
            let name = format!("{environment}/X{at}");
            let endpoint = endpoint(random, name, &mut defined);
            defined.endpoints.push(endpoint);
        }
    }
    defined
}

fn channel(random: &mut Rng, number: usize) -> Channel {
    let id = maybe(random, 4, |_| 1_000 + number as u32);
    let hub = random.usize(..3) / 2;
    let hub = HUBS[hub].0;
    Channel { id, hub }
}

pub(crate) fn account_rates(random: &mut Rng) -> Rates {
    Rates {
        messages: maybe(random, 2, |random| random.u64(2..16)),
        bytes: maybe(random, 4, |random| random.u64(1_024..60_000)),
    }
}

/// A moment, on the whole minute more often than not.
pub(crate) fn moment(random: &mut Rng) -> u64 {
    let at = BEGIN + random.u64(..WEEKS);
    match random.u8(..3) {
        0 => at,
        _ => at - at % 60,
    }
}

pub(crate) fn maybe<T>(random: &mut Rng, of: u8, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    (random.u8(..of) == 0).then(|| make(random))
}

pub(crate) fn hours(random: &mut Rng) -> Vec<Hours> {
    let count = random.usize(..3) * usize::from(random.u8(..4) == 0);
    let one = |random: &mut Rng| {
        let mut days = [(); 7].map(|()| random.u8(..4) > 0);
        days[random.usize(..7)] = true;
        if random.u8(..4) == 0 {
            days = [true; 7];
        }
        let from = random.u64(..1_440);
        let to = 1 + (from + random.u64(..1_439)) % 1_440;
        let to = if to == from { to % 1_440 + 1 } else { to };
        // Midnight is the end of one day and the begin of the next.
        let (from, to) = match random.u8(..8) {
            0 if to != 0 => (0, to),
            1 => (from, 1_440),
            _ => (from, to),
        };
        Hours { days, from, to }
    };
    (0..count).map(|_| one(random)).collect()
}

pub(crate) fn rates(random: &mut Rng, of: u8) -> Rates {
    Rates {
        messages: maybe(random, of, |random| random.u64(1..12)),
        bytes: maybe(random, of * 2, |random| random.u64(1_024..30_000)),
    }
}

pub(crate) fn grant(random: &mut Rng, channel: String, sends: bool) -> Grant {
    let addresses = maybe(random, 3, |random| [(); 2].map(|()| network(random)));
    let origins = maybe(random, 20, |random| vec![ORIGINS[random.usize(..2)]]);
    Grant {
        channel,
        sends,
        subscribed: sends || random.u8(..6) > 0,
        addresses: addresses.map_or_else(Vec::new, Vec::from),
        origins: origins.unwrap_or_default(),
        hours: hours(random),
        expires: maybe(random, 4, moment),
        // What is received was sent under another grant.
        body_max: maybe(random, 3, |random| match random.u8(..6) {
            0 => 0,
            _ => random.usize(1..200),
        })
        .filter(|_| sends),
        rates: match sends {
            true => rates(random, 4),
            false => Rates::default(),
        },
    }
}

/// Few enough that ranges meet them, at either edge.
pub(crate) fn address(random: &mut Rng) -> IpAddr {
    let four = Ipv4Addr::new(
        [10, 127, 255][random.usize(..3)],
        [0, 255][random.usize(..2)],
        random.u8(..3),
        random.u8(..4),
    );
    let low = u16::from(random.u8(..3)) << 14 | u16::from(random.u8(..2));
    match random.u8(..4) {
        0 => Ipv6Addr::new(0x2001, 0xDB8, low, 0, 0, 0, 0, u16::from(random.u8(..3))).into(),
        1 => four.to_ipv6_mapped().into(),
        _ => four.into(),
    }
}

/// One that some of them are in, in the forms in which people write it.
fn network(random: &mut Rng) -> (IpAddr, u32) {
    match address(random) {
        IpAddr::V4(four) => {
            let prefix = [0, 7, 8, 9, 16, 22, 24, 30, 31, 32][random.usize(..10)];
            let bits = u64::from(four.to_bits()) >> (32 - prefix) << (32 - prefix);
            (Ipv4Addr::from_bits(bits as u32).into(), prefix)
        }
        IpAddr::V6(six) => {
            let mapped = six.to_ipv4_mapped().is_some();
            let prefix = match mapped {
                true => [96, 103, 104, 105, 126, 127, 128][random.usize(..7)],
                false => [0, 1, 32, 33, 34, 64, 127, 128][random.usize(..8)],
            };
            let bits = six.to_bits().checked_shr(128 - prefix).unwrap_or(0);
            let bits = bits.checked_shl(128 - prefix).unwrap_or(0);
            (Ipv6Addr::from_bits(bits).into(), prefix)
        }
    }
}

fn endpoint(random: &mut Rng, name: String, defined: &mut Defined) -> Endpoint {
    let account = &name[..1];
    let own = ENVIRONMENTS.iter().filter(|one| one.starts_with(account));
    let channels =
        own.flat_map(|environment| CHANNELS.map(|channel| format!("{environment}/{channel}")));
    let ways = channels.flat_map(|channel| [(channel.clone(), true), (channel, false)]);
    let ways: Vec<(String, bool)> = ways.collect();
    let mut grants = Vec::new();
    for (channel, sends) in ways {
        if random.u8(..2) > 0 {
            grants.push(grant(random, channel, sends));
        }
    }
    let keys = (1..=4)
        .map(|id| key(random, id, id <= 2, defined))
        .collect();
    Endpoint {
        name,
        id: maybe(random, 4, |_| 5_000 + defined.endpoints.len() as u64),
        enabled: random.u8(..12) > 0,
        home: home(random),
        transports: transports(random),
        certificates: certificates(random),
        hours: hours(random),
        expires: maybe(random, 5, moment),
        rates: rates(random, 5),
        keys,
        grants,
    }
}

pub(crate) fn key(random: &mut Rng, id: u32, sends: bool, defined: &mut Defined) -> Key {
    defined.secrets += 1;
    Key {
        id,
        name: format!("k{id}"),
        sends,
        pair: sends && random.u8(..6) == 0,
        secret: defined.secrets - 1,
        revoked: random.u8(..8) == 0,
        expires: maybe(random, 3, moment),
    }
}

pub(crate) fn home(random: &mut Rng) -> Option<&'static str> {
    maybe(random, 4, |random| NODES[random.usize(..2)])
}

pub(crate) fn transports(random: &mut Rng) -> Vec<&'static str> {
    let named = maybe(random, 5, |random| {
        let mut named: Vec<_> = ["tcp", "tls", "quic"]
            .into_iter()
            .filter(|_| random.bool())
            .collect();
        if named.contains(&"quic") && random.bool() {
            named.push("quic-datagram");
        }
        named
    });
    named.unwrap_or_default()
}

pub(crate) fn certificates(random: &mut Rng) -> Vec<u8> {
    let named = maybe(random, 8, |random| vec![random.u8(1..4); 1]);
    named.unwrap_or_default()
}
