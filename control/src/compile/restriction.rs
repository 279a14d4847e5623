//! Conditions of grants and endpoints: addresses, hours, transports, rates, the length of a body.

use wire::ids::UnixNanos;
use wire::limits::BODY_BYTES_MAX;
use wire::route::{AddressRange, Restriction, Transport, Transports, Window};

use super::faults::{Faults, Place, did_you_mean};
use super::value::{expiry, rates};
use crate::diagnosis::{ADDRESS, VALUE};
use crate::model::{Endpoint, Grant};
use crate::quantity::Bytes;

/// The conditions of a grant that was compiled before; what is malformed in one that was not is left out.
#[must_use]
pub fn restriction_of(grant: &Grant) -> Restriction {
    restriction(grant, &Place::root("grants"), &mut Faults::default())
}

/// What an endpoint that was compiled before says of its sessions as a whole.
#[derive(Debug)]
pub struct Terms {
    /// What they may run over.
    pub transports: Transports,
    /// When.
    pub windows: Vec<Window>,
    /// Until when.
    pub expires: Option<UnixNanos>,
}

/// As [`restriction_of`], for an endpoint.
#[must_use]
pub fn terms_of(endpoint: &Endpoint) -> Terms {
    let (place, mut faults) = (Place::root("endpoints"), Faults::default());
    Terms {
        transports: transports(&endpoint.transports, &place, &mut faults),
        windows: hours(&endpoint.hours, &place, &mut faults),
        expires: expiry(endpoint.expires.as_ref(), &place, &mut faults),
    }
}

/// The conditions of a grant.
pub(super) fn restriction(grant: &Grant, place: &Place<'_>, faults: &mut Faults) -> Restriction {
    let mut addresses = Vec::with_capacity(grant.addresses.len());
    let list = place.key("addresses");
    for (at, text) in grant.addresses.iter().enumerate() {
        match text.parse::<AddressRange>() {
            Ok(range) => addresses.push(range),
            Err(error) => faults.add(
                &list.index(at),
                ADDRESS,
                "an address restriction is malformed",
                format!("`{text}` ({error})"),
                "an address or a range in CIDR form",
                "write it like \"10.0.0.0/8\"",
            ),
        }
    }
    let longest = BODY_BYTES_MAX as u64;
    let body_bytes_max = grant.body_bytes_max.map(|Bytes(seen)| {
        if seen > longest {
            faults.add(
                &place.key("body_bytes_max"),
                VALUE,
                "body_bytes_max is out of range",
                seen.to_string(),
                format!("at most {BODY_BYTES_MAX}"),
                "lower it, or leave it out",
            );
        }
        seen.min(longest) as u32
    });
    let (messages, bytes) = (grant.messages_per_second, grant.bytes_per_second);
    let rates = rates(messages, bytes, place, faults);
    Restriction {
        addresses,
        origins: grant
            .origins
            .iter()
            .map(|text| text.as_str().into())
            .collect(),
        windows: hours(&grant.hours, place, faults),
        expires: expiry(grant.expires.as_ref(), place, faults),
        messages_per_second: rates.messages_per_second,
        bytes_per_second: rates.bytes_per_second,
        body_bytes_max,
    }
}

/// Windows of the week.
pub(super) fn hours(written: &[String], owner: &Place<'_>, faults: &mut Faults) -> Vec<Window> {
    let mut windows = Vec::with_capacity(written.len());
    let list = owner.key("hours");
    for (at, text) in written.iter().enumerate() {
        match text.parse::<Window>() {
            Ok(window) => windows.push(window),
            Err(error) => faults.add(
                &list.index(at),
                VALUE,
                "hours are malformed",
                format!("`{text}` ({error})"),
                "days and two times of day in UTC",
                "write them like \"mon-fri 08:00-17:30\", \"sat,sun 22:00-06:00\" or \"daily 00:00-24:00\"",
            ),
        }
    }
    windows
}

/// What sessions may run over; all of it if nothing is written.
pub(super) fn transports(written: &[String], owner: &Place<'_>, faults: &mut Faults) -> Transports {
    if written.is_empty() {
        return Transports::default();
    }
    let mut transports = Transports::NONE;
    let list = owner.key("transports");
    for (at, name) in written.iter().enumerate() {
        let found = Transport::ALL.into_iter().find(|one| one.name() == name);
        match found {
            Some(one) => transports = transports.with(one),
            None => faults.add(
                &list.index(at),
                VALUE,
                "a transport is not known",
                format!("`{name}`"),
                Transport::ALL.map(Transport::name).join(", "),
                did_you_mean(name, Transport::ALL.map(Transport::name), "use one of them"),
            ),
        }
    }
    if transports.has(Transport::QuicDatagram) && !transports.has(Transport::Quic) {
        faults.add(
            &list,
            VALUE,
            "datagrams need a session to belong to",
            "`quic-datagram` alone",
            "`quic` beside it",
            "add \"quic\"",
        );
    }
    transports
}
