//! Values that stand on their own: numbers within a range, rates, and ids that are free.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use wire::ids::UnixNanos;
use wire::route::Rates;

use super::faults::{Faults, Place};
use crate::diagnosis::{DUPLICATE, EXPIRY, ID_COLLISION, VALUE};
use crate::model::Moment;
use crate::quantity::Bytes;

/// Fewest bytes a second of a rate.
const RATE_BYTES_MIN: u64 = 1_024;

/// A whole number within `range`; outside it the fault is noted and the lower bound stands in.
pub(super) fn whole(
    seen: i64,
    place: &Place<'_>,
    what: &str,
    range: RangeInclusive<i64>,
    faults: &mut Faults,
) -> i64 {
    if range.contains(&seen) {
        return seen;
    }
    let (low, high) = (range.start(), range.end());
    faults.add(
        place,
        VALUE,
        &format!("{what} is out of range"),
        seen.to_string(),
        format!("{low} to {high}"),
        format!("use {}", if seen < *low { low } else { high }),
    );
    *low
}

/// Messages per second: at `messages_per_second` of `owner`.
fn messages_per_second(rate: Option<i64>, owner: &Place<'_>, faults: &mut Faults) -> Option<u32> {
    let most = i64::from(u32::MAX);
    let key = "messages_per_second";
    rate.map(|rate| whole(rate, &owner.key(key), key, 1..=most, faults) as u32)
}

/// The rates of a grant, an endpoint or an account.
pub(super) fn rates(
    messages: Option<i64>,
    bytes: Option<Bytes>,
    owner: &Place<'_>,
    faults: &mut Faults,
) -> Rates {
    if let Some(Bytes(seen)) = bytes
        && seen < RATE_BYTES_MIN
    {
        faults.add(
            &owner.key("bytes_per_second"),
            VALUE,
            "bytes_per_second is out of range",
            seen.to_string(),
            format!("at least {RATE_BYTES_MIN}"),
            "raise it, or leave it out",
        );
    }
    Rates {
        messages_per_second: messages_per_second(messages, owner, faults),
        bytes_per_second: bytes.map(|bytes| bytes.0),
    }
}

/// When something ends: at `expires` of `owner`.
pub(super) fn expiry(
    written: Option<&Moment>,
    owner: &Place<'_>,
    faults: &mut Faults,
) -> Option<UnixNanos> {
    let expires = written?;
    let seconds = expires.seconds();
    if seconds.is_none() {
        faults.add(
            &owner.key("expires"),
            EXPIRY,
            "an expiry cannot be used",
            expires.text(),
            "a date and time with an offset, after 1970",
            "write it like 2027-01-31T00:00:00Z",
        );
    }
    seconds.map(UnixNanos::from_seconds)
}

/// Ids given out so far for one kind of thing.
pub(super) struct Taken<'a> {
    kind: &'static str,
    ids: HashMap<u64, &'a str>,
}

impl<'a> Taken<'a> {
    pub(super) fn new(kind: &'static str, count: usize) -> Self {
        let ids = HashMap::with_capacity(count);
        Self { kind, ids }
    }

    /// Take `id` for `name`, or note at `place` that it is not free.
    pub(super) fn take(
        &mut self,
        id: u64,
        name: &'a str,
        place: &Place<'_>,
        faults: &mut Faults,
    ) -> bool {
        let kind = self.kind;
        let Some(owner) = self.ids.get(&id) else {
            self.ids.insert(id, name);
            return true;
        };
        if *owner == name {
            faults.add(
                place,
                DUPLICATE,
                &format!("a {kind} is declared twice"),
                format!("`{name}`"),
                format!("one {kind} of that name"),
                "rename or remove one",
            );
        } else {
            let free = (id + 1) % 0xFFFF;
            faults.add(
                place,
                ID_COLLISION,
                &format!("two {kind}s have one id"),
                format!("id {id} for `{owner}` and `{name}`"),
                "an id each",
                format!("give `{name}` a free id of its own: id = {free}"),
            );
        }
        false
    }
}
