//! Rates, as the documents say them: what may be sent in a second fills up evenly, and holds one second's worth, of bytes one of the
//! longest frames at least. A frame is taken out of all that hold for it or of none.

use std::collections::HashMap;

use super::reference::{Endpoint, Fail, Fails, Grant, Rates};

/// Bytes of the longest frame.
const FRAME_MAX: u64 = 524_288;
const SECOND: u128 = 1_000_000_000;
/// Nanoseconds by which rounding may be in a sender's favour.
const ROUNDING: u128 = 1_000_100;

/// Whose, and of what.
type Name = (String, Fail);

/// One rate, and what there is: units times nanoseconds of a second.
#[derive(Debug, Clone)]
struct Bucket {
    per_second: u64,
    level: u128,
    at: u128,
    /// Since the rate became another one, what was owed by the old one counts in some way.
    unsure_until: u128,
}

impl Bucket {
    fn holds(per_second: u64, bytes: bool) -> u128 {
        let units = match bytes {
            true => per_second.max(FRAME_MAX),
            false => per_second,
        };
        u128::from(units) * SECOND
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Allowances(HashMap<Name, Bucket>);

/// Whether a frame is let in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Admitted {
    Yes,
    /// These have not enough.
    No(Fails),
    /// So near that rounding decides.
    Unsure,
}

/// Of this many messages and bytes, at this moment in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) at: u128,
}

/// What holds for a frame: name, rate, and how much of it the frame is.
fn held(
    endpoint: &Endpoint,
    grant: &Grant,
    account: &Rates,
    frame: &Frame,
) -> Vec<(Name, u64, u64)> {
    let owner = endpoint.name.split('/').next().unwrap_or_default();
    let of_grant = format!("{} to {}", endpoint.name, grant.channel);
    let all = [
        (of_grant, grant.rates, Fail::GrantRate, Fail::GrantBytes),
        (
            endpoint.name.clone(),
            endpoint.rates,
            Fail::EndpointRate,
            Fail::EndpointBytes,
        ),
        (
            owner.to_owned(),
            *account,
            Fail::AccountRate,
            Fail::AccountBytes,
        ),
    ];
    let mut held = Vec::new();
    for (name, rates, messages, bytes) in all {
        held.extend(
            rates
                .messages
                .map(|rate| ((name.clone(), messages), rate, frame.messages)),
        );
        held.extend(
            rates
                .bytes
                .map(|rate| ((name.clone(), bytes), rate, frame.bytes)),
        );
    }
    held
}

fn of_bytes(fail: Fail) -> bool {
    matches!(
        fail,
        Fail::GrantBytes | Fail::EndpointBytes | Fail::AccountBytes
    )
}

impl Allowances {
    /// What there is now of one.
    fn bucket(&mut self, name: &Name, per_second: u64, at: u128) -> &mut Bucket {
        let most = Bucket::holds(per_second, of_bytes(name.1));
        let full = || Bucket {
            per_second,
            level: most,
            at,
            unsure_until: 0,
        };
        let bucket = self.0.entry(name.clone()).or_insert_with(full);
        if bucket.per_second != per_second {
            // It is full again at the latest when the slower of both would be.
            let slower = u128::from(bucket.per_second.min(per_second).max(1));
            let longest = Bucket::holds(bucket.per_second, of_bytes(name.1)).max(most) / slower;
            *bucket = Bucket {
                unsure_until: at + longest + 2 * SECOND,
                ..full()
            };
        }
        let grown = (at - bucket.at) * u128::from(per_second);
        bucket.level = most.min(bucket.level + grown);
        bucket.at = at;
        bucket
    }

    /// Whether a frame would be let in; nothing is taken.
    pub(crate) fn admits(
        &mut self,
        endpoint: &Endpoint,
        grant: &Grant,
        account: &Rates,
        frame: &Frame,
    ) -> Admitted {
        let (mut short, mut unsure) = (Fails::new(), false);
        for (name, rate, count) in held(endpoint, grant, account, frame) {
            let bucket = self.bucket(&name, rate, frame.at);
            let needed = u128::from(count) * SECOND;
            let never = needed > Bucket::holds(rate, of_bytes(name.1));
            let missing = needed.saturating_sub(bucket.level) / u128::from(rate);
            unsure |= bucket.unsure_until > frame.at && !never;
            unsure |= missing > 0 && missing <= ROUNDING && !never;
            if never || missing > ROUNDING {
                short.insert(name.1);
            }
        }
        match (short.is_empty(), unsure) {
            (_, true) => Admitted::Unsure,
            (false, false) => Admitted::No(short),
            (true, false) => Admitted::Yes,
        }
    }

    /// A frame was let in.
    pub(crate) fn take(
        &mut self,
        endpoint: &Endpoint,
        grant: &Grant,
        account: &Rates,
        frame: &Frame,
    ) {
        for (name, rate, count) in held(endpoint, grant, account, frame) {
            let bucket = self.bucket(&name, rate, frame.at);
            bucket.level = bucket.level.saturating_sub(u128::from(count) * SECOND);
        }
    }

    /// There is another channel of this name.
    pub(crate) fn forget(&mut self, channel: &str) {
        let of_channel = |name: &str| name.ends_with(&format!(" to {channel}"));
        self.0.retain(|(name, _), _| !of_channel(name));
    }

    /// What is not there any more is forgotten: who has a rate anew has all of it.
    pub(crate) fn keep(&mut self, endpoints: &[Endpoint], accounts: &HashMap<&str, Rates>) {
        let endpoint = |name: &str| endpoints.iter().find(|endpoint| endpoint.name == name);
        let granted = |(name, channel): (&str, &str)| {
            let mut grants = endpoint(name)?.grants.iter();
            let found = grants.find(|grant| grant.sends && grant.channel == channel)?;
            Some(found.rates)
        };
        self.0.retain(|(name, fail), _| {
            let rates = match fail {
                Fail::GrantRate | Fail::GrantBytes => name.split_once(" to ").and_then(granted),
                Fail::AccountRate | Fail::AccountBytes => accounts.get(name.as_str()).copied(),
                _ => endpoint(name).map(|endpoint| endpoint.rates),
            };
            let rates = rates.unwrap_or_default();
            match of_bytes(*fail) {
                true => rates.bytes.is_some(),
                false => rates.messages.is_some(),
            }
        });
    }
}
