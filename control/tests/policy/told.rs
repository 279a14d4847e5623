//! How each reason is told: by a node, in codes of `PROTOCOL.md`, section 13, and by `why`, in the names of its checks.

use std::collections::BTreeSet;

use super::reference::{Fail, Fails};
use super::support::Said;

/// The codes by which a node may tell a reason: of a session, of a frame, of an envelope.
pub(crate) fn codes(fail: Fail) -> &'static [u16] {
    match fail {
        Fail::Off => &[1114, 1306],
        Fail::Ended => &[1126],
        Fail::OutsideHours => &[1127],
        // A key of the other direction opens a session, if all is well with that one, and is then of no use.
        Fail::NoKey => &[1104, 1306, 1403, 1116, 1124, 1127, 1405],
        Fail::KeyKind => &[1104],
        Fail::KeyOver => &[1105, 1106],
        Fail::Unproven => &[1104, 1301],
        Fail::TokenOver => &[1107],
        Fail::TokenScope => &[1109],
        Fail::Certificate => &[1125, 1306],
        Fail::Transport => &[1128],
        Fail::NotHome => &[1129],
        Fail::Poses => &[1304],
        // Who hears nothing of it may have to keep the conditions of what it hears, or of all that it sends.
        Fail::NoGrant | Fail::Unsubscribed => &[1401, 1402, 1116, 1127, 1405],
        Fail::GrantEnded => &[1412],
        Fail::GrantHours => &[1413, 1127],
        Fail::Address => &[1404, 1116],
        Fail::Origin => &[1405],
        Fail::Body => &[1407],
        Fail::GrantRate => &[1406],
        Fail::GrantBytes => &[1414],
        Fail::EndpointRate => &[1408],
        Fail::EndpointBytes => &[1409],
        Fail::AccountRate => &[1410],
        Fail::AccountBytes => &[1411],
    }
}

/// The check of `why` that fails for it; nothing where `why` is not asked.
fn check(fail: Fail) -> Option<&'static str> {
    let check = match fail {
        Fail::Off => "enabled",
        Fail::Ended | Fail::GrantEnded => "expires",
        Fail::OutsideHours | Fail::GrantHours => "hours",
        Fail::NoKey | Fail::KeyKind | Fail::KeyOver => "key",
        Fail::Certificate => "certificate",
        Fail::Transport => "transport",
        Fail::NotHome => "home",
        Fail::NoGrant => "grant",
        Fail::Unsubscribed => "subscribed",
        Fail::Address => "address",
        Fail::Origin => "origin",
        Fail::Body => "body",
        // What a client proves, and what was sent a moment ago, are no part of its question.
        _ => return None,
    };
    Some(check)
}

pub(crate) fn checks(fails: &Fails) -> BTreeSet<&'static str> {
    fails.iter().filter_map(|fail| check(*fail)).collect()
}

/// The codes of everything that was refused.
pub(crate) fn refusals(said: &[Said]) -> Vec<u16> {
    let notices = said.iter().filter_map(|said| match said {
        Said::Refused(notice) | Said::Goaway(notice) => Some(notice.reason),
        Said::Reject(reject) => Some(reject.notice.reason),
        _ => None,
    });
    notices.map(|reason| reason.code()).collect()
}

/// Whether what was said names one of these reasons.
pub(crate) fn names_one(said: &[Said], fails: &Fails) -> bool {
    let told = refusals(said);
    let known = |code: &u16| fails.iter().any(|fail| codes(*fail).contains(code));
    told.is_empty() || told.iter().any(known)
}
