//! Who may do what, as the documents say it: written from `PROTOCOL.md` and `OPERATIONS.md` in plain values, one rule after the other, and
//! from no other code. It knows no table, no id and no frame.

use std::net::Ipv4Addr;

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
#[derive(Debug, Clone)]
pub(crate) struct Hours {
    pub(crate) days: [bool; 7],
    pub(crate) from: u64,
    pub(crate) to: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) id: u32,
    pub(crate) sends: bool,
    pub(crate) revoked: bool,
    pub(crate) expires: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) channel: String,
    pub(crate) sends: bool,
    pub(crate) subscribed: bool,
    pub(crate) addresses: Vec<(Ipv4Addr, u32)>,
    /// Whether any web origin is asked for.
    pub(crate) origin: bool,
    pub(crate) hours: Vec<Hours>,
    pub(crate) expires: Option<u64>,
    pub(crate) body_max: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) transports: Vec<&'static str>,
    pub(crate) certificates: Vec<u8>,
    pub(crate) hours: Vec<Hours>,
    pub(crate) expires: Option<u64>,
    pub(crate) keys: Vec<Key>,
    pub(crate) grants: Vec<Grant>,
}

/// May this endpoint, with this key, send such a body to this channel, or receive from it, so and then?
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) endpoint: usize,
    pub(crate) key: u32,
    pub(crate) sends: bool,
    pub(crate) channel: String,
    pub(crate) way: Way,
    pub(crate) certificate: Option<u8>,
    pub(crate) address: Ipv4Addr,
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) body: usize,
}

/// Why not, or nothing.
pub(crate) fn refusal(endpoint: &Endpoint, question: &Question) -> Option<&'static str> {
    let Question { at, way, .. } = *question;
    if !endpoint.enabled {
        return Some("the endpoint is off");
    }
    if has_ended(endpoint.expires, at) {
        return Some("the endpoint has ended");
    }
    if !holds_at(&endpoint.hours, at) {
        return Some("outside the endpoint's hours");
    }
    let key = endpoint.keys.iter().find(|key| key.id == question.key);
    let Some(key) = key.filter(|key| key.sends == question.sends) else {
        return Some("no such key for this direction");
    };
    if key.revoked || has_ended(key.expires, at) {
        return Some("the key is no longer good");
    }
    if !endpoint.certificates.is_empty() && !shows_one(endpoint, question) {
        return Some("no certificate that is named");
    }
    if !endpoint.transports.is_empty() && !runs_over(endpoint, way) {
        return Some("a transport that is not named");
    }
    let named = |grant: &&Grant| {
        let heard = grant.sends || grant.subscribed;
        grant.sends == question.sends && heard && !has_ended(grant.expires, at)
    };
    let in_force: Vec<&Grant> = endpoint.grants.iter().filter(named).collect();
    let asked = in_force
        .iter()
        .find(|grant| grant.channel == question.channel);
    let Some(asked) = asked else {
        return Some("no grant");
    };
    let kept = |grant: &Grant| {
        let from_here =
            |(network, prefix): &(Ipv4Addr, u32)| is_in(question.address, *network, *prefix);
        let address = grant.addresses.is_empty() || grant.addresses.iter().any(from_here);
        // No session has an origin.
        address && !grant.origin && holds_at(&grant.hours, at)
    };
    let all = match question.sends {
        true => kept(asked),
        // A queue mixes the channels of its endpoint.
        false => in_force.iter().all(|grant| kept(grant)),
    };
    if !all {
        return Some("a condition of a grant");
    }
    let too_long = asked.body_max.is_some_and(|most| question.body > most);
    (question.sends && too_long).then_some("a body that is too long")
}

fn has_ended(expires: Option<u64>, at: u64) -> bool {
    expires.is_some_and(|expires| at >= expires)
}

/// Envelopes come by another's tunnel, and so do none of those who have to show something in their own.
fn shows_one(endpoint: &Endpoint, question: &Question) -> bool {
    let tunnel = matches!(question.way, Way::Tls | Way::Quic | Way::Datagram);
    let named = |shown| endpoint.certificates.contains(&shown);
    tunnel && question.certificate.is_some_and(named)
}

fn runs_over(endpoint: &Endpoint, way: Way) -> bool {
    let named = |name| endpoint.transports.contains(&name);
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

fn is_in(address: Ipv4Addr, network: Ipv4Addr, prefix: u32) -> bool {
    let first_bits = |address: Ipv4Addr| u64::from(address.to_bits()) >> (32 - prefix);
    first_bits(address) == first_bits(network)
}
