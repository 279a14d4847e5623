//! The certificate that is shown, and the tunnels of TLS.

use std::sync::atomic::Ordering;

use super::Page;
use crate::status::{Snapshot, Status};

/// Of the certificate that is shown; nothing if none is.
pub(super) fn certificate(page: &mut Page, status: &Status) {
    let known = status.certificate();
    let until = known.until.load(Ordering::Relaxed);
    if until == 0 {
        return;
    }
    let name = "forebay_certificate_until_seconds";
    let help = "The last second of the certificate that is shown, in unix time.";
    page.gauge(name, help, until);
    let name = "forebay_certificate_stale";
    let help = "1 when its files hold a pair that was refused.";
    let stale = u8::from(known.stale.load(Ordering::Relaxed));
    page.gauge(name, help, stale);
    let rows = [
        ("replaced", known.replaced.load(Ordering::Relaxed)),
        ("refused", known.refused.load(Ordering::Relaxed)),
    ];
    let name = "forebay_certificate_changes_total";
    let help = "Times its files changed, by what became of it.";
    page.counters(name, help, "result", &rows);
}

pub(super) fn tunnels(page: &mut Page, sum: &Snapshot) {
    let name = "forebay_tunnels_open";
    page.gauge(name, "Connections that run through TLS.", sum.tunnels);
    let counters = &sum.tunnel_counters;
    let rows = [
        ("whole", counters.handshakes - counters.resumed),
        ("resumed", counters.resumed),
        ("refused", counters.refused),
    ];
    let name = "forebay_tunnel_handshakes_total";
    let help = "Handshakes of TLS, by what became of them.";
    page.counters(name, help, "result", &rows);
    let name = "forebay_tunnel_certificates_shown_total";
    let help = "Handshakes of TLS done in which the client showed a certificate, tickets of such ones included.";
    page.counter(name, help, counters.shown);
    let name = "forebay_tunnels_broken_total";
    let help = "Tunnels ended by bytes that are no records of theirs.";
    page.counter(name, help, counters.broken);
}
