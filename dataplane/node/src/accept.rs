//! Stage 1, accept: how connections of each transport reach the ring.

pub(crate) mod quic;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod udp;

use wire::ids::{Fingerprint, UnixNanos};

/// What a client showed in its handshake, as the shard is told of it. A certificate is good up to the end of its last second.
pub(crate) fn as_shown(shown: ::tls::Shown) -> shard::Shown {
    let ends = |until: i64| {
        let last = u64::try_from(until).ok();
        UnixNanos::from_seconds(last.map_or(0, |last| last.saturating_add(1)))
    };
    shard::Shown {
        certificate: Fingerprint(shown.fingerprint.0),
        ends: shown.until.map(ends),
    }
}
