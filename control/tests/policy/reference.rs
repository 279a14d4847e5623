//! Who may do what, as the documents say it: written from `PROTOCOL.md` and `OPERATIONS.md` in plain values, one rule after the other, and
//! from no other code. It knows no table, no id and no frame.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Over what a question comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Tcp,
    Tls,
    Quic,
    /// In a datagram of a session over QUIC.
    Datagram,
    /// In an envelope, by a relay.
    Relayed,
}

/// `mon,tue 08:00-17:30`: days from Monday, minutes of the day.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hours {
    pub(crate) days: [bool; 7],
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// What may be sent in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) messages: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) sends: bool,
    /// A pair of Ed25519: it signs envelopes, and opens nothing.
    pub(crate) pair: bool,
    /// Which secret it is.
    pub(crate) secret: usize,
    pub(crate) revoked: bool,
    pub(crate) expires: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grant {
    pub(crate) channel: String,
    pub(crate) sends: bool,
    pub(crate) subscribed: bool,
    pub(crate) addresses: Vec<(IpAddr, u32)>,
    pub(crate) origins: Vec<&'static str>,
    pub(crate) hours: Vec<Hours>,
    pub(crate) expires: Option<u64>,
    pub(crate) body_max: Option<usize>,
    pub(crate) rates: Rates,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) id: Option<u64>,
    pub(crate) enabled: bool,
    pub(crate) home: Option<&'static str>,
    pub(crate) transports: Vec<&'static str>,
    pub(crate) certificates: Vec<u8>,
    pub(crate) hours: Vec<Hours>,
    pub(crate) expires: Option<u64>,
    pub(crate) rates: Rates,
    pub(crate) keys: Vec<Key>,
    pub(crate) grants: Vec<Grant>,
}

/// What a client proves that it may use a key by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Proof {
    /// The key.
    Key,
    /// Another key's secret.
    Forged,
    /// A token that the key signed, for this and until then.
    Token { scope: String, expires: u64 },
}

/// May this endpoint, with this key, send such bodies to this channel, or receive from it, so and then?
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) endpoint: usize,
    /// The node that is asked.
    pub(crate) node: &'static str,
    pub(crate) key: u32,
    pub(crate) proof: Proof,
    pub(crate) sends: bool,
    pub(crate) channel: String,
    pub(crate) way: Way,
    pub(crate) certificate: Option<u8>,
    pub(crate) address: IpAddr,
    /// The page that would ask, which no transport tells.
    pub(crate) origin: Option<&'static str>,
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) bodies: Vec<usize>,
    /// In the name of another endpoint.
    pub(crate) poses_as: Option<usize>,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fail {
    Off,
    Ended,
    OutsideHours,
    NoKey,
    KeyKind,
    KeyOver,
    Unproven,
    TokenOver,
    TokenScope,
    Certificate,
    Transport,
    NotHome,
    Poses,
    NoGrant,
    Unsubscribed,
    GrantEnded,
    GrantHours,
    Address,
    Origin,
    Body,
    GrantRate,
    GrantBytes,
    EndpointRate,
    EndpointBytes,
    AccountRate,
    AccountBytes,
}

pub(crate) type Fails = BTreeSet<Fail>;

/// Everything that speaks against it; nothing: it may, as far as rates let it.
pub(crate) fn fails(endpoint: &Endpoint, question: &Question) -> Fails {
    let mut fails = of_session(endpoint, question);
    let at = question.at;
    if question.poses_as.is_some() {
        fails.insert(Fail::Poses);
    }
    let asked = endpoint
        .grants
        .iter()
        .find(|grant| grant.sends == question.sends && grant.channel == question.channel);
    let Some(asked) = asked else {
        fails.insert(Fail::NoGrant);
        return fails;
    };
    let mut note = |fail: Fail, so: bool| {
        if so {
            fails.insert(fail);
        }
    };
    note(Fail::Unsubscribed, !asked.sends && !asked.subscribed);
    note(Fail::GrantEnded, has_ended(asked.expires, at));
    let longest = question.bodies.iter().max().copied().unwrap_or(0);
    let most = asked.body_max.filter(|_| asked.sends);
    note(Fail::Body, most.is_some_and(|most| longest > most));
    fails.extend(of_place(asked, question.address, at));
    if !question.sends {
        fails.extend(of_queue(endpoint, question.address, at));
    }
    fails
}

/// What speaks against a session of its own, whatever it is for.
pub(crate) fn of_session(endpoint: &Endpoint, question: &Question) -> Fails {
    let (at, way) = (question.at, question.way);
    let mut fails = of_endpoint(endpoint, at);
    let mut note = |fail: Fail, so: bool| {
        if so {
            fails.insert(fail);
        }
    };
    let key = endpoint.keys.iter().find(|key| key.id == question.key);
    match key {
        None => note(Fail::NoKey, true),
        Some(key) => {
            // Neither direction's key does the other's work.
            note(Fail::NoKey, key.sends != question.sends);
            note(Fail::KeyOver, key.revoked || has_ended(key.expires, at));
            note(Fail::KeyKind, key.pair && way != Way::Relayed);
        }
    }
    match &question.proof {
        Proof::Key => {}
        Proof::Forged => note(Fail::Unproven, true),
        Proof::Token { scope, expires } => {
            note(Fail::TokenOver, at >= *expires);
            note(Fail::TokenScope, !covers(scope, &endpoint.name));
        }
    }
    let shows = shows_one(endpoint, way, question.certificate);
    note(Fail::Certificate, !shows);
    note(Fail::Transport, !runs_over(endpoint, way));
    let at_home = endpoint.home.is_none_or(|home| home == question.node);
    note(Fail::NotHome, !at_home);
    fails
}

/// What speaks against anything of this endpoint.
pub(crate) fn of_endpoint(endpoint: &Endpoint, at: u64) -> Fails {
    let found = [
        (Fail::Off, !endpoint.enabled),
        (Fail::Ended, has_ended(endpoint.expires, at)),
        (Fail::OutsideHours, !holds_at(&endpoint.hours, at)),
    ];
    let found = found.into_iter().filter(|(_, so)| *so);
    found.map(|(fail, _)| fail).collect()
}

/// A queue mixes the channels of its endpoint: who receives keeps the conditions of all by which something comes to it.
pub(crate) fn of_queue(endpoint: &Endpoint, address: IpAddr, at: u64) -> Fails {
    let heard = endpoint.grants.iter().filter(|grant| hears(grant, at));
    heard
        .flat_map(|grant| of_place(grant, address, at))
        .collect()
}

/// Whether anything comes by this grant.
pub(crate) fn hears(grant: &Grant, at: u64) -> bool {
    !grant.sends && grant.subscribed && !has_ended(grant.expires, at)
}

/// From where, and when.
fn of_place(grant: &Grant, address: IpAddr, at: u64) -> Fails {
    let from_here = |(network, prefix): &(IpAddr, u32)| is_in(address, *network, *prefix);
    let placed = grant.addresses.is_empty() || grant.addresses.iter().any(from_here);
    let found = [
        (Fail::Address, !placed),
        // No session has an origin.
        (Fail::Origin, !grant.origins.is_empty()),
        (Fail::GrantHours, !holds_at(&grant.hours, at)),
    ];
    let found = found.into_iter().filter(|(_, so)| *so);
    found.map(|(fail, _)| fail).collect()
}

pub(crate) fn has_ended(expires: Option<u64>, at: u64) -> bool {
    expires.is_some_and(|expires| at >= expires)
}

/// What a token is for: a path, or the first parts of one, with a host in front or without; case counts for nothing.
fn covers(scope: &str, name: &str) -> bool {
    let path = scope.strip_prefix("sb://forebay").unwrap_or(scope);
    let wanted: Vec<String> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(str::to_lowercase)
        .collect();
    let parts = name.split('/').map(str::to_lowercase);
    let given: Vec<String> = parts.take(wanted.len()).collect();
    given == wanted && (!wanted.is_empty() || path.len() < scope.len())
}

/// Envelopes come by another's tunnel, and so do none of those who have to show something in their own.
fn shows_one(endpoint: &Endpoint, way: Way, certificate: Option<u8>) -> bool {
    let tunnel = matches!(way, Way::Tls | Way::Quic | Way::Datagram);
    let named = |shown| endpoint.certificates.contains(&shown);
    endpoint.certificates.is_empty() || (tunnel && certificate.is_some_and(named))
}

fn runs_over(endpoint: &Endpoint, way: Way) -> bool {
    let named = |name| endpoint.transports.is_empty() || endpoint.transports.contains(&name);
    match way {
        Way::Tcp => named("tcp"),
        Way::Tls => named("tls"),
        Way::Quic => named("quic"),
        Way::Datagram => named("quic") && named("quic-datagram"),
        Way::Relayed => true,
    }
}

/// In any of these hours; none written: always.
fn holds_at(hours: &[Hours], at: u64) -> bool {
    // 1970 began on a Thursday.
    let (day, minute) = ((at / 86_400 + 3) % 7, at % 86_400 / 60);
    let yesterday = (day + 6) % 7;
    hours.is_empty()
        || hours.iter().any(|hours| {
            let today = hours.days[day as usize];
            if hours.from < hours.to {
                return today && (hours.from..hours.to).contains(&minute);
            }
            // Over midnight.
            (today && minute >= hours.from) || (hours.days[yesterday as usize] && minute < hours.to)
        })
}

/// An IPv4 address inside an IPv6 one counts as IPv4, in what is written as in what is seen.
fn is_in(address: IpAddr, network: IpAddr, prefix: u32) -> bool {
    let bits = |address: IpAddr| -> Vec<bool> {
        let octets = match plain(address) {
            IpAddr::V4(four) => four.octets().to_vec(),
            IpAddr::V6(six) => six.octets().to_vec(),
        };
        let of = |octet: u8| (0..8).rev().map(move |at| octet >> at & 1 == 1);
        octets.into_iter().flat_map(of).collect()
    };
    let (address, written) = (bits(address), bits(network));
    let first = match network {
        IpAddr::V6(_) if written.len() == 32 => prefix as usize - 96,
        _ => prefix as usize,
    };
    address.len() == written.len() && address[..first] == written[..first]
}

fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else {
        return address;
    };
    match six.octets() {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        _ => address,
    }
}
