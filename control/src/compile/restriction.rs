//! Conditions of grants and endpoints: addresses, hours, transports, rates, the length of a body.

use wire::ids::UnixNanos;
use wire::limits::BODY_BYTES_MAX;
use wire::route::{AddressRange, Restriction, Transport, Transports, Window};

use super::faults::{Faults, Place, did_you_mean};
use super::value::{expiry, rates};
use crate::diagnosis::{ADDRESS, VALUE};
use crate::model::{Endpoint, Grant};
use crate::quantity::Bytes;

/// Most windows of one list of hours.
pub(super) const HOURS_MAX: usize = 32;
/// Most ranges of addresses, and most origins, of one grant.
const PLACES_MAX: usize = 64;
/// Most names of transports, though they were named twice.
const TRANSPORTS_MAX: usize = 16;

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
    let list = place.key("addresses");
    let written = bounded(&grant.addresses, PLACES_MAX, &list, "addresses", faults);
    let mut addresses = Vec::with_capacity(written.len());
    for (at, text) in written.iter().enumerate() {
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
    let list = place.key("origins");
    let origins = bounded(&grant.origins, PLACES_MAX, &list, "origins", faults);
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
        origins: origins.iter().map(|text| text.as_str().into()).collect(),
        windows: hours(&grant.hours, place, faults),
        expires: expiry(grant.expires.as_ref(), place, faults),
        messages_per_second: rates.messages_per_second,
        bytes_per_second: rates.bytes_per_second,
        body_bytes_max,
    }
}

/// Windows of the week: of each day those that do not touch, however they were written, since shards look through them.
pub(super) fn hours(written: &[String], owner: &Place<'_>, faults: &mut Faults) -> Vec<Window> {
    let list = owner.key("hours");
    let written = bounded(written, HOURS_MAX, &list, "hours", faults);
    let mut windows = Vec::with_capacity(written.len());
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
    match windows.len() {
        0 => windows,
        _ => merged(&windows),
    }
}

const DAYS: usize = 7;
const DAY_MINUTES: usize = 24 * 60;

/// The same minutes of the week.
fn merged(windows: &[Window]) -> Vec<Window> {
    let mut open = [[false; DAY_MINUTES]; DAYS];
    for window in windows {
        let (from, to) = (usize::from(window.from()), usize::from(window.to()));
        for day in (0..DAYS).filter(|day| window.days() & 1 << day != 0) {
            if from < to {
                open[day][from..to].fill(true);
            } else {
                open[day][from..].fill(true);
                open[(day + 1) % DAYS][..to].fill(true);
            }
        }
    }
    let mut merged: Vec<(usize, usize, u8)> = Vec::new();
    for (day, open) in open.iter().enumerate() {
        let mut minute = 0;
        for together in open.chunk_by(|one, next| one == next) {
            let (from, to) = (minute, minute + together.len());
            minute = to;
            if !together[0] {
                continue;
            }
            match merged.iter_mut().find(|one| (one.0, one.1) == (from, to)) {
                Some((_, _, days)) => *days |= 1 << day,
                None => merged.push((from, to, 1 << day)),
            }
        }
    }
    let window = |(from, to, days)| Window::new(days, from as u16, to as u16);
    let windows = merged.into_iter().map(window);
    windows
        .map(|window| window.expect("minutes of a day"))
        .collect()
}

/// What is written, if it is no more than so many; shards look through these lists.
pub(super) fn bounded<'w, T>(
    written: &'w [T],
    most: usize,
    list: &Place<'_>,
    what: &str,
    faults: &mut Faults,
) -> &'w [T] {
    if written.len() <= most {
        return written;
    }
    faults.add(
        list,
        VALUE,
        &format!("{what} are too many"),
        written.len().to_string(),
        format!("at most {most}"),
        "join some, or leave some out",
    );
    &[]
}

/// What sessions may run over; all of it if nothing is written.
pub(super) fn transports(written: &[String], owner: &Place<'_>, faults: &mut Faults) -> Transports {
    if written.is_empty() {
        return Transports::default();
    }
    let mut transports = Transports::NONE;
    let list = owner.key("transports");
    let written = bounded(written, TRANSPORTS_MAX, &list, "transports", faults);
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
