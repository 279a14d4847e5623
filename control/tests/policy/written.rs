//! The document in which what is defined is written, in all the forms that people write it.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::plan::{BEGIN, Channel, Defined, ENVIRONMENTS, HUBS, NODES, RELAY, RELAY_SECRET};
use super::reference::{Endpoint, Grant, Hours, Key, Rates};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What a key is made of, as a line of a document.
pub(crate) type Material<'m> = &'m dyn Fn(&Key) -> String;

/// Everything.
pub(crate) fn everything(defined: &Defined, material: Material<'_>) -> String {
    let mut text = String::from("queue_groups = 3\n");
    for name in NODES {
        let _ = writeln!(text, "[[nodes]]\nname = \"{name}\"");
    }
    for (name, rates) in &defined.accounts {
        account(&mut text, name, rates);
    }
    for environment in ENVIRONMENTS {
        let _ = writeln!(text, "[[environments]]\nname = \"{environment}\"");
        for (hub, partitions) in HUBS {
            let _ = writeln!(
                text,
                "[[hubs]]\nname = \"{environment}/{hub}\"\npartitions = {partitions}\nack = \"local\"\nsegment_bytes = \"2MiB\""
            );
        }
    }
    for (name, one) in &defined.channels {
        channel(&mut text, name, one);
    }
    for one in &defined.endpoints {
        endpoint(&mut text, one, material);
    }
    let _ = writeln!(text, "[[endpoints]]\nname = \"{RELAY}\"\nrelay = true");
    let relays = Key {
        id: 1,
        name: "k1".to_owned(),
        sends: true,
        pair: false,
        secret: RELAY_SECRET,
        revoked: false,
        expires: None,
    };
    key(&mut text, &relays, material);
    text
}

pub(crate) fn account(text: &mut String, name: &str, account: &Rates) {
    let _ = writeln!(text, "[[accounts]]\nname = \"{name}\"");
    rates(text, account);
}

pub(crate) fn channel(text: &mut String, name: &str, channel: &Channel) {
    let _ = writeln!(text, "[[channels]]\nname = \"{name}\"");
    if let Some(id) = channel.id {
        let _ = writeln!(text, "id = {id}");
    }
    if channel.hub != "default" {
        let _ = writeln!(text, "hub = \"{}\"", channel.hub);
    }
}

pub(crate) fn endpoint(text: &mut String, endpoint: &Endpoint, material: Material<'_>) {
    let Endpoint { name, enabled, .. } = endpoint;
    let _ = writeln!(
        text,
        "[[endpoints]]\nname = \"{name}\"\nenabled = {enabled}"
    );
    if let Some(id) = endpoint.id {
        let _ = writeln!(text, "id = {id}");
    }
    if let Some(home) = endpoint.home {
        let _ = writeln!(text, "home = \"{home}\"");
    }
    let certificates = endpoint.certificates.iter();
    let certificates = certificates.map(|one| format!("{one:02x}").repeat(32));
    let certificates: Vec<String> = certificates.collect();
    let _ = writeln!(
        text,
        "transports = {:?}\ncertificates = {certificates:?}",
        endpoint.transports
    );
    rates(text, &endpoint.rates);
    times(text, &endpoint.hours, endpoint.expires);
    for one in &endpoint.keys {
        key(text, one, material);
    }
    for one in &endpoint.grants {
        grant(text, endpoint, one);
    }
}

fn key(text: &mut String, key: &Key, material: Material<'_>) {
    let direction = if key.sends { "ingress" } else { "egress" };
    let _ = writeln!(
        text,
        "[[endpoints.keys]]\nid = {}\nname = \"{}\"\ndirection = \"{direction}\"\n{}\nrevoked = {}",
        key.id,
        key.name,
        material(key),
        key.revoked
    );
    times(text, &[], key.expires);
}

fn grant(text: &mut String, owner: &Endpoint, grant: &Grant) {
    let allow = if grant.sends { "send" } else { "receive" };
    let own = owner.name.rsplit_once('/').map_or("", |(own, _)| own);
    let of_own = grant.channel.strip_prefix(&format!("{own}/"));
    // The last part is enough in its own environment.
    let short = of_own.filter(|_| grant.channel.len().is_multiple_of(2));
    let channel = short.unwrap_or(&grant.channel);
    let _ = writeln!(
        text,
        "[[endpoints.grants]]\nchannel = \"{channel}\"\nallow = \"{allow}\""
    );
    if !grant.subscribed {
        text.push_str("subscribed = false\n");
    }
    let ranges = grant.addresses.iter();
    let ranges = ranges.map(|(network, prefix)| match (network.is_ipv4(), prefix) {
        (true, 32) | (false, 128) => network.to_string(),
        _ => format!("{network}/{prefix}"),
    });
    let _ = writeln!(
        text,
        "addresses = {:?}\norigins = {:?}",
        ranges.collect::<Vec<_>>(),
        grant.origins
    );
    if let Some(most) = grant.body_max {
        let _ = writeln!(text, "body_bytes_max = {most}");
    }
    rates(text, &grant.rates);
    times(text, &grant.hours, grant.expires);
}

fn rates(text: &mut String, rates: &Rates) {
    if let Some(rate) = rates.messages {
        let _ = writeln!(text, "messages_per_second = {rate}");
    }
    if let Some(rate) = rates.bytes {
        let _ = writeln!(text, "bytes_per_second = {rate}");
    }
}

fn times(text: &mut String, hours: &[Hours], expires: Option<u64>) {
    if !hours.is_empty() {
        let hours: Vec<String> = hours.iter().map(written).collect();
        let _ = writeln!(text, "hours = {hours:?}");
    }
    if let Some(expires) = expires {
        let _ = writeln!(text, "expires = {}", moment(expires));
    }
}

/// With the offset of some place of the earth.
pub(crate) fn moment(at: u64) -> String {
    let (shift, offset) = match at / 60 % 4 {
        0 => (2 * 3_600, "+02:00"),
        1 => (5 * 3_600 + 1_800, "+05:30"),
        _ => (0, "Z"),
    };
    let (days, seconds) = ((at + shift - BEGIN) / 86_400, (at + shift) % 86_400);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let day = 4 + days;
    format!("2027-01-{day:02}T{hour:02}:{minute:02}:{second:02}{offset}")
}

fn written(hours: &Hours) -> String {
    let clock = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
    let days = days(&hours.days);
    format!("{days} {}-{}", clock(hours.from), clock(hours.to))
}

/// `daily`, days in a row as `fri-mon`, or one after the other.
fn days(days: &[bool; 7]) -> String {
    let on: HashSet<usize> = (0..7).filter(|day| days[*day]).collect();
    if on.len() == 7 {
        return "daily".to_owned();
    }
    let mut parts = Vec::new();
    for first in 0..7 {
        let begins = days[first] && !days[(first + 6) % 7];
        if begins {
            let count = (0..7).take_while(|at| days[(first + at) % 7]).count();
            let last = (first + count - 1) % 7;
            parts.push(match count {
                1 => DAYS[first].to_owned(),
                _ => format!("{}-{}", DAYS[first], DAYS[last]),
            });
        }
    }
    parts.join(",")
}
