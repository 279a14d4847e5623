//! Endpoints: grants, certificates and the bounds of a queue.

use std::borrow::Borrow;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use wire::ids::{ChannelId, EndpointId, Fingerprint};
use wire::limits::BODY_BYTES_MAX;
use wire::route::{self, ChannelParts, QueueBounds};

use super::faults::{Faults, Place};
use super::key::keys;
use super::names::Names;
use super::nodes::Homes;
use super::restriction::{bounded, hours, restriction, transports};
use super::value::{Taken, expiry, rates, whole};
use crate::diagnosis::{DUPLICATE, FOREIGN, UNKNOWN_NAME, VALUE};
use crate::model::{Allow, Endpoint, Grant, OnFull, Queue, account_of, environment_of};
use crate::quantity::Bytes;
use crate::seal::MasterKey;

/// Most certificates of an endpoint.
const CERTIFICATES_MAX: usize = 8;

/// Channels by full name.
struct Channels<'a> {
    ids: HashMap<&'a str, ChannelId>,
    /// Their names in order, once a hint asks for them.
    sorted: OnceCell<Vec<&'a str>>,
}

impl<'a> Channels<'a> {
    fn of(channels: &'a [ChannelParts]) -> Self {
        let ids = channels.iter();
        Self {
            ids: ids.map(|channel| (&*channel.name, channel.id)).collect(),
            sorted: OnceCell::new(),
        }
    }

    /// Those whose names begin so, in order.
    fn within(&self, prefix: &str) -> impl Iterator<Item = &'a str> {
        let sorted = self.sorted.get_or_init(|| {
            let mut names: Vec<&str> = self.ids.keys().copied().collect();
            names.sort_unstable();
            names
        });
        let first = sorted.partition_point(|name| *name < prefix);
        let names = sorted[first..].iter().copied();
        names.take_while(move |name| name.starts_with(prefix))
    }
}

/// Compile endpoints one by one, and hand over each that is well formed.
pub(super) fn endpoints<E: Borrow<Endpoint>>(
    written: &[E],
    names: &Names<'_>,
    (channels, nodes): (&[ChannelParts], &[route::Node]),
    master: Option<&MasterKey>,
    faults: &mut Faults,
    mut take: impl FnMut(route::Endpoint),
) {
    let channels = Channels::of(channels);
    let homes = Homes::of(nodes);
    let mut taken = Taken::new("endpoint", written.len());
    let list = Place::root("endpoints");
    for (at, written) in written.iter().map(Borrow::borrow).enumerate() {
        let element = list.index(at);
        let place = element.key("name");
        if !names.check_full(&written.name, &place, "endpoint", faults) {
            continue;
        }
        let id = written.id.map_or(EndpointId::of(&written.name), |id| {
            let place = element.key("id");
            EndpointId(whole(id, &place, "id of an endpoint", 1..=i64::MAX, faults) as u64)
        });
        if !taken.take(id.0, &written.name, &place, faults) {
            continue;
        }
        let (send, receive) = grants(written, &element, &channels, faults);
        let (messages, bytes) = (written.messages_per_second, written.bytes_per_second);
        take(route::Endpoint {
            id,
            name: written.name.as_str().into(),
            enabled: written.enabled.unwrap_or(true),
            relay: written.relay.unwrap_or(false),
            keys: keys(written, &element, master, faults),
            certificates: certificates(written, &element, faults),
            transports: transports(&written.transports, &element, faults),
            windows: hours(&written.hours, &element, faults),
            expires: expiry(written.expires.as_ref(), &element, faults),
            home: homes.home(written, &element, faults),
            rates: rates(messages, bytes, &element, faults),
            send,
            receive,
            queue: (written.queue.as_ref()).map_or_else(QueueBounds::default, |queue| {
                bounds(queue, &element.key("queue"), faults)
            }),
        });
    }
}

/// What it must show; one that is named twice is named.
fn certificates(endpoint: &Endpoint, place: &Place<'_>, faults: &mut Faults) -> Vec<Fingerprint> {
    let mut certificates = Vec::new();
    let list = place.key("certificates");
    let written = &endpoint.certificates;
    let written = bounded(written, CERTIFICATES_MAX, &list, "certificates", faults);
    for (at, shown) in written.iter().enumerate() {
        match Fingerprint::parse(shown) {
            Some(one) if certificates.contains(&one) => {}
            Some(one) => certificates.push(one),
            None => faults.add(
                &list.index(at),
                VALUE,
                "a certificate is named by no fingerprint",
                format!("`{shown}`"),
                "its SHA-256: 64 hexadecimal digits, with or without colons",
                "see `openssl x509 -in FILE -noout -fingerprint -sha256`",
            ),
        }
    }
    certificates
}

/// Grants to send and to receive, each sorted by channel.
fn grants(
    endpoint: &Endpoint,
    place: &Place<'_>,
    channels: &Channels<'_>,
    faults: &mut Faults,
) -> (Vec<route::Grant>, Vec<route::Grant>) {
    let (mut send, mut receive) = (Vec::new(), Vec::new());
    let mut granted = HashSet::with_capacity(endpoint.grants.len());
    let list = place.key("grants");
    for (at, grant) in endpoint.grants.iter().enumerate() {
        let element = list.index(at);
        let place = element.key("channel");
        let Some(channel) = channel_of(grant, &endpoint.name, &place, channels, faults) else {
            continue;
        };
        if !granted.insert((channel, grant.allow == Allow::Send)) {
            faults.add(
                &place,
                DUPLICATE,
                "a channel is granted twice",
                format!("`{}`", grant.channel),
                "one grant each way",
                "merge the two",
            );
            continue;
        }
        check_received(grant, &element, faults);
        let restriction = restriction(grant, &element, faults);
        let compiled = route::Grant {
            channel,
            restriction,
        };
        match (grant.allow, grant.subscribed) {
            (Allow::Send, None) => send.push(compiled),
            (Allow::Send, Some(_)) => faults.add(
                &element.key("subscribed"),
                VALUE,
                "a grant to send cannot be subscribed",
                "`subscribed`",
                "it on a grant to receive",
                "remove it",
            ),
            (Allow::Receive, Some(false)) => {}
            (Allow::Receive, Some(true) | None) => receive.push(compiled),
        }
    }
    send.sort_by_key(|grant| grant.channel);
    receive.sort_by_key(|grant| grant.channel);
    (send, receive)
}

/// What is received was sent under another grant, which bounds it: a rate or a length here would hold for nothing.
fn check_received(grant: &Grant, place: &Place<'_>, faults: &mut Faults) {
    let bounds = [
        ("messages_per_second", grant.messages_per_second.is_some()),
        ("bytes_per_second", grant.bytes_per_second.is_some()),
        ("body_bytes_max", grant.body_bytes_max.is_some()),
    ];
    let written = bounds.iter().filter(|(_, written)| *written);
    for (name, _) in written.filter(|_| grant.allow == Allow::Receive) {
        faults.add(
            &place.key(name),
            VALUE,
            &format!("a grant to receive has no {name}"),
            format!("`{name}`"),
            "it on the grants of those who send",
            "remove it",
        );
    }
}

fn channel_of(
    grant: &Grant,
    owner: &str,
    place: &Place<'_>,
    channels: &Channels<'_>,
    faults: &mut Faults,
) -> Option<ChannelId> {
    let name = &grant.channel;
    let environment = environment_of(owner);
    let (whole, account) = (name.contains('/'), account_of(owner));
    let foreign = whole && account_of(name) != account;
    let found = match whole {
        true => channels.ids.get(name.as_str()),
        false => channels.ids.get([environment, "/", name].concat().as_str()),
    };
    if let Some(channel) = found.filter(|_| !foreign) {
        return Some(*channel);
    }
    let what = match foreign {
        true => format!("a grant of {owner} leads into another account"),
        false => format!("a grant of {owner} names an unknown channel"),
    };
    if foreign {
        // Whether there is such a channel is nobody's business there.
        let (seen, needed) = (format!("`{name}`"), format!("a channel of {account}"));
        let remedy = "grant a channel of its own account";
        faults.add(place, FOREIGN, &what, seen, needed, remedy);
        return None;
    }
    let own = format!("{account}/");
    let prefix = format!("{environment}/");
    let known = channels.within(&own).map(|known| match whole {
        true => known,
        false => known.strip_prefix(&prefix).unwrap_or(known),
    });
    let remedy = faults.did_you_mean(name, known, "declare it under [[channels]]");
    faults.add(
        place,
        UNKNOWN_NAME,
        &what,
        format!("`{name}`"),
        "a declared channel",
        remedy,
    );
    None
}

fn bounds(queue: &Queue, place: &Place<'_>, faults: &mut Faults) -> QueueBounds {
    let mut bounds = QueueBounds::default();
    if let Some(messages) = queue.messages_max {
        let place = place.key("messages_max");
        bounds.messages_max = whole(messages, &place, "messages_max", 1..=i64::MAX, faults) as u64;
    }
    if let Some(Bytes(bytes)) = queue.bytes_max {
        bounds.bytes_max = bytes;
        if bytes < BODY_BYTES_MAX as u64 {
            faults.add(
                &place.key("bytes_max"),
                VALUE,
                "bytes_max is out of range",
                bytes.to_string(),
                format!("at least one body of {BODY_BYTES_MAX}"),
                "raise it",
            );
        }
    }
    if let Some(deliveries) = queue.deliveries_max {
        let (place, most) = (place.key("deliveries_max"), i64::from(u16::MAX));
        bounds.deliveries_max =
            whole(deliveries, &place, "deliveries_max", 0..=most, faults) as u16;
    }
    bounds.age_max = queue.age_max.map(|age| age.0);
    if queue.on_full == Some(OnFull::DropOldest) {
        bounds.on_full = route::OnFull::DropOldest;
    }
    if let Some(lock) = queue.lock {
        bounds.lock = lock.0;
    }
    bounds
}
