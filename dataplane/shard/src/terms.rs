//! How long a session may go on: as long as its key, its token, its certificate and its endpoint are good, and in the hours of its endpoint. One
//! that receives keeps the hours of all grants that it hears something by, since a queue mixes the channels of its endpoint.

use wire::ids::{Direction, UnixNanos};
use wire::reason::{Notice, Reason};
use wire::route::{EndpointView, Window};

use crate::handshake::HandshakeError;
use crate::io::Shown;
use crate::session::{NEVER, Session};

/// What ends first of what a session needs in a tunnel in which this was shown: when, and why it is said to end then. Nothing if it
/// never has to end.
pub(crate) fn first_end(
    session: &Session,
    shown: Option<Shown>,
    endpoint: &EndpointView<'_>,
    now: UnixNanos,
) -> Option<(UnixNanos, Reason)> {
    let token = session.token().map(|token| token.expires);
    let key = (endpoint.key(session.key)).and_then(|key| key.expires);
    let ends = [
        (token, Reason::TokenExpired),
        (key, Reason::KeyExpired),
        (endpoint.expires(), Reason::EndpointExpired),
        (
            certificate_end(shown, endpoint),
            Reason::CertificateRequired,
        ),
        (
            hours_end(endpoint, session.direction, now),
            Reason::OutsideHours,
        ),
    ];
    let ends = ends.into_iter();
    let ends = ends.filter_map(|(at, reason)| Some((at?, reason)));
    let first = ends.min_by_key(|(at, _)| *at);
    first.filter(|(at, _)| *at < NEVER)
}

/// What is said when this was the reason at this moment.
pub(crate) fn ended(
    (at, reason): (UnixNanos, Reason),
    endpoint: &EndpointView<'_>,
    direction: Direction,
    now: UnixNanos,
) -> Notice {
    match reason {
        Reason::OutsideHours => outside_hours(reason, hours_begin(endpoint, direction, now), now),
        Reason::CertificateRequired => certificate_ended(endpoint),
        _ => Notice::new(reason, now.seconds(), at.seconds()),
    }
}

/// When the certificate that was shown ends, for an endpoint that names any. To others it is nothing.
pub(crate) fn certificate_end(
    shown: Option<Shown>,
    endpoint: &EndpointView<'_>,
) -> Option<UnixNanos> {
    let named = !endpoint.certificates().is_empty();
    shown?.ends.filter(|_| named)
}

/// What is said when it has ended.
pub(crate) fn certificate_ended(endpoint: &EndpointView<'_>) -> Notice {
    let named = endpoint.certificates().len() as u64;
    Notice::new(Reason::CertificateRequired, 2, named)
}

/// Whether an endpoint may have a session for this direction at this moment.
pub(crate) fn check_terms(
    endpoint: &EndpointView<'_>,
    direction: Direction,
    now: UnixNanos,
) -> Result<(), HandshakeError> {
    if let Some(expires) = endpoint.expires().filter(|_| endpoint.is_over(now)) {
        let (now, expires) = (now.seconds(), expires.seconds());
        let notice = Notice::new(Reason::EndpointExpired, now, expires);
        return Err(HandshakeError(notice));
    }
    let begin = hours_begin(endpoint, direction, now);
    if begin > now {
        let notice = outside_hours(Reason::OutsideHours, begin, now);
        return Err(HandshakeError(notice));
    }
    Ok(())
}

/// A notice that tells when hours begin that now are not.
pub(crate) fn outside_hours(reason: Reason, begin: UnixNanos, now: UnixNanos) -> Notice {
    let wait = begin.0.saturating_sub(now.0).div_ceil(1_000_000);
    let wait = u32::try_from(wait).unwrap_or(u32::MAX);
    Notice::new(reason, now.seconds(), begin.seconds()).retry_after(wait)
}

/// The hours that a session for this direction keeps: its endpoint's, and those of what it hears.
fn hours<'t>(
    endpoint: &EndpointView<'t>,
    direction: Direction,
    now: UnixNanos,
) -> impl Iterator<Item = &'t [Window]> + use<'t> {
    let heard = (direction == Direction::Egress).then(|| endpoint.heard(now));
    let heard = heard.into_iter().flatten();
    let heard = heard.map(|grant| &grant.restriction.windows[..]);
    std::iter::once(endpoint.windows()).chain(heard)
}

/// When the first of these hours end.
fn hours_end(
    endpoint: &EndpointView<'_>,
    direction: Direction,
    now: UnixNanos,
) -> Option<UnixNanos> {
    let ends = hours(endpoint, direction, now);
    ends.filter_map(|windows| Window::all_close_at(windows, now))
        .min()
}

/// When the last of these hours begin: `now` in all of them. They may not all be then.
fn hours_begin(endpoint: &EndpointView<'_>, direction: Direction, now: UnixNanos) -> UnixNanos {
    let begin = hours(endpoint, direction, now);
    let begin = begin.map(|windows| Window::next_opening(windows, now));
    begin.max().unwrap_or(now)
}
