//! What is defined and what is asked, drawn from a seed; and the plan in which it is written.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use fastrand::Rng;

use super::reference::{Endpoint, Grant, Hours, Key, Question, Way};

/// Monday, 2027-01-04, 00:00 UTC: questions are asked in the two weeks from here.
const BEGIN: u64 = 1_799_020_800;
const WEEKS: u64 = 14 * 86_400;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const ENVIRONMENTS: [&str; 4] = ["a/e", "a/f", "b/e", "b/f"];
const CHANNELS: [&str; 2] = ["readings", "orders"];
/// Endpoints of each environment.
const ENDPOINTS: usize = 2;
/// Relays everything, and is restricted by nothing.
pub(crate) const RELAY: &str = "a/e/relay";
/// The number of its secret.
pub(crate) const RELAY_SECRET: u8 = 200;

/// The number of the secret of a key.
pub(crate) fn secret_of(endpoint: usize, key: u32) -> u8 {
    u8::try_from(endpoint * 10).expect("there are few") + u8::try_from(key).expect("they are few")
}

/// A moment, on the whole minute more often than not.
fn moment(random: &mut Rng) -> u64 {
    let at = BEGIN + random.u64(..WEEKS);
    match random.u8(..3) {
        0 => at,
        _ => at - at % 60,
    }
}

fn maybe<T>(random: &mut Rng, of: u8, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    (random.u8(..of) == 0).then(|| make(random))
}

fn hours(random: &mut Rng) -> Vec<Hours> {
    let count = random.usize(..3) * usize::from(random.u8(..4) == 0);
    let one = |random: &mut Rng| {
        let mut days = [(); 7].map(|()| random.u8(..4) > 0);
        days[random.usize(..7)] = true;
        let from = random.u64(..1_440);
        let to = 1 + (from + random.u64(..1_439)) % 1_440;
        let to = if to == from { to % 1_440 + 1 } else { to };
        Hours { days, from, to }
    };
    (0..count).map(|_| one(random)).collect()
}

fn grant(random: &mut Rng, channel: String, sends: bool) -> Grant {
    let network = |random: &mut Rng| {
        let prefix = [0, 8, 9, 16, 24, 31, 32][random.usize(..7)];
        let bits = u64::from(address(random).to_bits()) >> (32 - prefix) << (32 - prefix);
        (Ipv4Addr::from_bits(bits as u32), prefix)
    };
    let addresses = maybe(random, 3, |random| [(); 2].map(|()| network(random)));
    Grant {
        channel,
        sends,
        subscribed: sends || random.u8(..6) > 0,
        addresses: addresses.map_or_else(Vec::new, Vec::from),
        origin: random.u8(..20) == 0,
        hours: hours(random),
        expires: maybe(random, 4, moment),
        body_max: maybe(random, 3, |random| random.usize(1..200)),
    }
}

/// Loopback addresses: those have no bounds of their own.
fn address(random: &mut Rng) -> Ipv4Addr {
    Ipv4Addr::new(127, random.u8(..3), random.u8(..3), random.u8(1..4))
}

/// Everything that is defined, by this seed.
pub(crate) fn endpoints(random: &mut Rng) -> Vec<Endpoint> {
    let of =
        |environment: &'static str| (0..ENDPOINTS).map(move |at| format!("{environment}/x{at}"));
    let names: Vec<String> = ENVIRONMENTS.iter().copied().flat_map(of).collect();
    names
        .into_iter()
        .map(|name| endpoint(random, name))
        .collect()
}

fn endpoint(random: &mut Rng, name: String) -> Endpoint {
    let account = &name[..1];
    let own = ENVIRONMENTS.iter().filter(|one| one.starts_with(account));
    let channels =
        own.flat_map(|environment| CHANNELS.map(|channel| format!("{environment}/{channel}")));
    let ways = channels.flat_map(|channel| [(channel.clone(), true), (channel, false)]);
    let ways: Vec<(String, bool)> = ways.collect();
    let mut grants = Vec::new();
    for (channel, sends) in ways {
        if random.u8(..5) > 1 {
            grants.push(grant(random, channel, sends));
        }
    }
    let key = |id: u32, random: &mut Rng| Key {
        id,
        sends: id <= 2,
        revoked: random.u8(..8) == 0,
        expires: maybe(random, 3, moment),
    };
    let keys = (1..=4).map(|id| key(id, random)).collect();
    let transports = maybe(random, 5, |random| {
        let mut named: Vec<_> = ["tcp", "tls", "quic"]
            .into_iter()
            .filter(|_| random.bool())
            .collect();
        if named.contains(&"quic") && random.bool() {
            named.push("quic-datagram");
        }
        named
    });
    let certificates = maybe(random, 8, |random| vec![random.u8(1..4); 1]);
    Endpoint {
        name,
        enabled: random.u8(..12) > 0,
        transports: transports.unwrap_or_default(),
        certificates: certificates.unwrap_or_default(),
        hours: hours(random),
        expires: maybe(random, 5, moment),
        keys,
        grants,
    }
}

/// A question that is good rather often.
pub(crate) fn question(random: &mut Rng, endpoints: &[Endpoint]) -> Question {
    let at = random.usize(..endpoints.len());
    let endpoint = &endpoints[at];
    let sends = random.u8(..3) > 0;
    let granted = endpoint.grants.iter().filter(|grant| grant.sends == sends);
    let granted: Vec<&Grant> = granted.collect();
    let channel = match random.u8(..8) > 0 && !granted.is_empty() {
        true => granted[random.usize(..granted.len())].channel.clone(),
        false => {
            let environment = ENVIRONMENTS[random.usize(..4)];
            format!("{environment}/{}", CHANNELS[random.usize(..2)])
        }
    };
    let key = match (random.u8(..8), sends) {
        (0, _) => random.u32(1..6),
        (_, true) => random.u32(1..3),
        (_, false) => random.u32(3..5),
    };
    let ways = [Way::Tcp, Way::Tls, Way::Quic, Way::Datagram, Way::Relayed];
    let way = ways[random.usize(..if sends { 5 } else { 3 })];
    let tunnel = matches!(way, Way::Tls | Way::Quic | Way::Datagram);
    let certificate = (tunnel && random.u8(..3) > 0).then(|| random.u8(1..4));
    Question {
        endpoint: at,
        key,
        sends,
        channel,
        way,
        certificate,
        address: address(random),
        at: edge(random, endpoint).unwrap_or_else(|| moment(random)),
        body: random.usize(..220),
    }
}

/// The very second at which something of the endpoint changes, or the one before.
fn edge(random: &mut Rng, endpoint: &Endpoint) -> Option<u64> {
    let keys = endpoint.keys.iter().map(|key| key.expires);
    let grants = endpoint.grants.iter().map(|grant| grant.expires);
    let ends = keys.chain(grants).chain([endpoint.expires]).flatten();
    let of_grants = endpoint.grants.iter().flat_map(|grant| &grant.hours);
    let hours = of_grants.chain(&endpoint.hours);
    let day = BEGIN + random.u64(..14) * 86_400;
    let hours = hours
        .flat_map(|hours| [hours.from, hours.to])
        .map(|minute| day + minute * 60);
    let edges: Vec<u64> = ends.chain(hours).collect();
    let one = maybe(random, 3, |random| random.choice(edges))?;
    Some(one? - u64::from(random.bool()))
}

/// The plan in which all of it is written.
pub(crate) fn written(endpoints: &[Endpoint], secret: impl Fn(u8) -> String) -> String {
    let mut text = String::from("queue_groups = 2\n");
    for account in ["a", "b"] {
        let _ = writeln!(text, "[[accounts]]\nname = \"{account}\"");
    }
    for environment in ENVIRONMENTS {
        let _ = writeln!(text, "[[environments]]\nname = \"{environment}\"");
        let _ = writeln!(
            text,
            "[[hubs]]\nname = \"{environment}/default\"\npartitions = 2\nack = \"local\"\nsegment_bytes = \"2MiB\""
        );
        for channel in CHANNELS {
            let _ = writeln!(text, "[[channels]]\nname = \"{environment}/{channel}\"");
        }
    }
    for (at, endpoint) in endpoints.iter().enumerate() {
        write_endpoint(&mut text, at, endpoint, &secret);
    }
    let _ = writeln!(text, "[[endpoints]]\nname = \"{RELAY}\"\nrelay = true");
    write_key(&mut text, (1, true), &secret(RELAY_SECRET));
    text
}

fn write_endpoint(
    text: &mut String,
    at: usize,
    endpoint: &Endpoint,
    secret: &impl Fn(u8) -> String,
) {
    let _ = writeln!(
        text,
        "[[endpoints]]\nname = \"{}\"\nenabled = {}",
        endpoint.name, endpoint.enabled
    );
    let certificates = endpoint
        .certificates
        .iter()
        .map(|one| format!("{one:02x}").repeat(32));
    let certificates: Vec<String> = certificates.collect();
    let _ = writeln!(
        text,
        "transports = {:?}\ncertificates = {certificates:?}",
        endpoint.transports
    );
    write_times(text, &endpoint.hours, endpoint.expires);
    for key in &endpoint.keys {
        write_key(text, (key.id, key.sends), &secret(secret_of(at, key.id)));
        let _ = writeln!(text, "revoked = {}", key.revoked);
        write_times(text, &[], key.expires);
    }
    for grant in &endpoint.grants {
        let allow = if grant.sends { "send" } else { "receive" };
        let _ = writeln!(
            text,
            "[[endpoints.grants]]\nchannel = \"{}\"\nallow = \"{allow}\"",
            grant.channel
        );
        if !grant.subscribed {
            text.push_str("subscribed = false\n");
        }
        let ranges = grant
            .addresses
            .iter()
            .map(|(network, prefix)| format!("{network}/{prefix}"));
        let _ = writeln!(text, "addresses = {:?}", ranges.collect::<Vec<_>>());
        if grant.origin {
            text.push_str("origins = [\"https://a.example\"]\n");
        }
        if let Some(most) = grant.body_max {
            let _ = writeln!(text, "body_bytes_max = {most}");
        }
        write_times(text, &grant.hours, grant.expires);
    }
}

fn write_key(text: &mut String, (id, sends): (u32, bool), secret: &str) {
    let direction = if sends { "ingress" } else { "egress" };
    let _ = writeln!(
        text,
        "[[endpoints.keys]]\nid = {id}\nname = \"k{id}\"\ndirection = \"{direction}\"\nsecret = \"{secret}\""
    );
}

fn write_times(text: &mut String, hours: &[Hours], expires: Option<u64>) {
    if !hours.is_empty() {
        let hours: Vec<String> = hours.iter().map(write_hours).collect();
        let _ = writeln!(text, "hours = {hours:?}");
    }
    if let Some(expires) = expires {
        let (days, seconds) = ((expires - BEGIN) / 86_400, expires % 86_400);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let day = 4 + days;
        let _ = writeln!(
            text,
            "expires = 2027-01-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        );
    }
}

fn write_hours(hours: &Hours) -> String {
    let days = (0..7).filter(|day| hours.days[*day]).map(|day| DAYS[day]);
    let days = days.collect::<Vec<_>>().join(",");
    let clock = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{days} {}-{}", clock(hours.from), clock(hours.to))
}
