//! What is asked, and when, drawn from a seed: good rather often, and near to where something changes.

use fastrand::Rng;

use super::plan::{BEGIN, CHANNELS, Defined, ENVIRONMENTS, ORIGINS, WEEKS, address, maybe, moment};
use super::reference::{Endpoint, Grant, Hours, Key, Proof, Question, Way};

/// Any question about this endpoint, or any one.
pub(crate) fn question(
    random: &mut Rng,
    defined: &Defined,
    at: u64,
    about: Option<usize>,
) -> Question {
    let any = random.usize(..defined.endpoints.len());
    let which = about.unwrap_or(any);
    let endpoint = &defined.endpoints[which];
    // What ends at this very second is asked about.
    let due = endpoint.grants.iter().find(|one| one.expires == Some(at));
    let sends = match due {
        Some(due) => due.sends,
        None => random.u8(..3) > 0,
    };
    let ways = [Way::Tcp, Way::Tls, Way::Quic, Way::Datagram, Way::Relayed];
    let way = ways[random.usize(..if sends { 5 } else { 3 })];
    let tunnel = matches!(way, Way::Tls | Way::Quic | Way::Datagram);
    let others = defined.endpoints.len() - 1;
    let direct = sends && matches!(way, Way::Tcp | Way::Tls | Way::Quic);
    let pose = |random: &mut Rng| (which + 1 + random.usize(..others)) % (others + 1);
    let key = key(random, endpoint, sends, at);
    Question {
        endpoint: which,
        node: defined.node,
        key,
        proof: proof(random, endpoint, way, at),
        sends,
        channel: match due {
            Some(due) => due.channel.clone(),
            None => channel(random, endpoint, sends),
        },
        way,
        certificate: (tunnel && random.u8(..3) > 0).then(|| random.u8(1..4)),
        address: address(random),
        origin: maybe(random, 3, |random| ORIGINS[random.usize(..2)]),
        at,
        bodies: bodies(random, endpoint),
        poses_as: maybe(random, 40, pose).filter(|_| direct),
    }
}

/// One of its keys, the good ones more often.
fn key(random: &mut Rng, endpoint: &Endpoint, sends: bool, at: u64) -> u32 {
    let good = |key: &&Key| {
        let over = key.revoked || key.expires.is_some_and(|end| end <= at);
        key.sends == sends && !over
    };
    let good: Vec<&Key> = endpoint.keys.iter().filter(good).collect();
    let last = endpoint.keys.iter().map(|key| key.id).max().unwrap_or(0);
    let due = endpoint.keys.iter().find(|one| one.expires == Some(at));
    match random.u8(..6) {
        0 => random.u32(1..last + 2),
        1..4 if due.is_some_and(|due| due.sends == sends) => due.map_or(0, |due| due.id),
        _ => random
            .choice(good)
            .map_or_else(|| random.u32(1..last + 1), |key| key.id),
    }
}

/// Where it has a grant, mostly, or anywhere: in another account, and where there is no channel any more.
pub(crate) fn channel(random: &mut Rng, endpoint: &Endpoint, sends: bool) -> String {
    let granted = endpoint.grants.iter().filter(|grant| grant.sends == sends);
    let granted: Vec<&Grant> = granted.collect();
    match random.u8(..8) > 0 && !granted.is_empty() {
        true => granted[random.usize(..granted.len())].channel.clone(),
        false => {
            let environment = ENVIRONMENTS[random.usize(..4)];
            format!("{environment}/{}", CHANNELS[random.usize(..3)])
        }
    }
}

fn proof(random: &mut Rng, endpoint: &Endpoint, way: Way, at: u64) -> Proof {
    if random.u8(..24) == 0 {
        return Proof::Forged;
    }
    if way == Way::Relayed || random.u8(..6) > 0 {
        return Proof::Key;
    }
    let name = &endpoint.name;
    let (parent, account) = (&name[..3], &name[..1]);
    let scope = match random.u8(..12) {
        0 => format!("sb://forebay/{parent}"),
        1 => account.to_owned(),
        2 => name.to_uppercase(),
        3 => "sb://forebay".to_owned(),
        4 => format!("/{parent}/"),
        // Of another one, of a part that ends in the middle of a name, of something within.
        5 => name.replace("X0", "X9"),
        6 => name[..5].to_owned(),
        7 => format!("{name}/more"),
        8 => ENVIRONMENTS[random.usize(..4)].to_owned(),
        _ => format!("sb://forebay/{name}"),
    };
    let expires = match random.u8(..4) {
        0 => at,
        1 => at + random.u64(1..10),
        _ => at + random.u64(1..200_000),
    };
    Proof::Token { scope, expires }
}

pub(crate) fn bodies(random: &mut Rng, endpoint: &Endpoint) -> Vec<usize> {
    let heavy = endpoint.rates.bytes.is_some()
        || endpoint
            .grants
            .iter()
            .any(|grant| grant.rates.bytes.is_some());
    let most = match heavy && random.u8(..8) == 0 {
        true => 170_000,
        false => 220,
    };
    let count = 1 + random.usize(..3) * usize::from(random.u8(..3) == 0);
    (0..count).map(|_| random.usize(..most)).collect()
}

/// The next moment, in nanoseconds: soon, later, or at the very second at which something of some endpoint changes, or just before;
/// and that endpoint.
pub(crate) fn next_moment(random: &mut Rng, defined: &Defined, now: u128) -> (u128, Option<usize>) {
    let second = |at: u64| u128::from(at) * 1_000_000_000;
    let mut about = None;
    let mut at = match random.u8(..12) {
        0..6 => now + u128::from(random.u64(..20)) * 50_000_000,
        6..9 => {
            let which = random.usize(..defined.endpoints.len());
            about = Some(which);
            let endpoint = &defined.endpoints[which];
            let seconds = u64::try_from(now / 1_000_000_000).expect("a time of this century");
            let ahead = edges(endpoint, seconds, seconds + 86_400);
            match random.choice(ahead) {
                Some(edge) => second(edge) - u128::from(random.u8(..2)) * 1_000_000,
                None => now,
            }
        }
        9 => now + second(random.u64(..60)),
        10 => now + second(random.u64(..3_600)),
        _ => now + second(random.u64(..12 * 3_600)),
    };
    at = at.max(now);
    (at.min(second(BEGIN + WEEKS)), about)
}

/// The seconds after `from`, up to and with `to`, at which something of it begins or ends.
pub(crate) fn edges(endpoint: &Endpoint, from: u64, to: u64) -> Vec<u64> {
    let keys = endpoint.keys.iter().map(|key| key.expires);
    let grants = endpoint.grants.iter().map(|grant| grant.expires);
    let ends = keys.chain(grants).chain([endpoint.expires]).flatten();
    let of_grants = endpoint.grants.iter().flat_map(|grant| &grant.hours);
    let hours: Vec<&Hours> = of_grants.chain(&endpoint.hours).collect();
    let days = from / 86_400..to / 86_400 + 1;
    let of_day = |day: u64| {
        let minutes = hours.iter().flat_map(|hours| [hours.from, hours.to]);
        let at = minutes.map(move |minute| day * 86_400 + minute * 60);
        at.collect::<Vec<u64>>()
    };
    let mut edges: Vec<u64> = ends.chain(days.flat_map(of_day)).collect();
    edges.retain(|edge| (from + 1..=to).contains(edge));
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// A key's end, soon or at any time.
pub(crate) fn end(random: &mut Rng, at: u64) -> u64 {
    match random.u8(..3) {
        0 => at + random.u64(1..30),
        1 => moment(random),
        _ => at + random.u64(1..7_200),
    }
}
