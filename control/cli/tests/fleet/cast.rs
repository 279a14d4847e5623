//! Who takes part while things end: for each of them an endpoint in each role, over each transport.

use std::collections::BTreeMap;

use control::quantity::show_moment;
use wire::reason::Reason;

use super::count;
use super::plan::{Pair, Plan, PlanKey, SECOND, Shared};

/// What has an end, and the reasons that are told: to who is in, and to who comes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Key,
    Endpoint,
    Token,
    Grant,
    Hours,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Endpoint => "endpoint",
            Self::Token => "token",
            Self::Grant => "grant",
            Self::Hours => "hours",
        }
    }

    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Key => Reason::KeyExpired,
            Self::Endpoint => Reason::EndpointExpired,
            Self::Token => Reason::TokenExpired,
            Self::Grant => Reason::GrantExpired,
            Self::Hours => Reason::OutsideHours,
        }
    }
}

/// All of them; hours end with a minute, so they are looked at when there is time for it.
pub(crate) fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind::Key, Kind::Endpoint, Kind::Token, Kind::Grant];
    if count("FOREBAY_EXPIRY_HOURS", 0) > 0 {
        kinds.push(Kind::Hours);
    }
    kinds
}

const TRANSPORTS: [&str; 3] = ["tcp", "tls", "quic"];
/// Those who send, who are delivered to, and who say nothing in either direction.
const ROLES: [(&str, &str); 4] = [
    ("send", "ingress"),
    ("hear", "egress"),
    ("rest", "ingress"),
    ("wait", "egress"),
];

/// Everybody's secrets, by name.
pub(crate) struct Secrets {
    shared: BTreeMap<String, Shared>,
    pub(crate) pairs: BTreeMap<String, Pair>,
}

impl Secrets {
    pub(crate) fn new() -> Self {
        let mut shared = BTreeMap::new();
        let mut pairs = BTreeMap::new();
        for way in TRANSPORTS {
            for (role, _) in ROLES {
                for kind in kinds() {
                    shared.insert(format!("{role}-{}-{way}", kind.name()), Shared::new());
                }
            }
            for name in ["pulse", "desk", "relay", "slow", "next"] {
                shared.insert(format!("{name}-{way}"), Shared::new());
            }
            pairs.insert(format!("camera-{way}"), Pair::new());
        }
        Self { shared, pairs }
    }

    fn line(&self, name: &str) -> &str {
        &self.shared[name].line
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        &self.shared[name].text
    }

    /// The plan, in which everything ends at `end`, seconds since 1970, that is to end.
    pub(crate) fn plan(&self, end: Option<u64>) -> Plan {
        let mut plan = Plan::new(&["tcp", "tls", "quic", "quiet"]);
        let ends = end.map(|end| format!("expires = {}", show_moment(end)));
        let ends = ends.as_deref().unwrap_or_default();
        let hours = end.map(hours_until).unwrap_or_default();
        for way in TRANSPORTS {
            for (role, direction) in ROLES {
                let channel = if role == "wait" || role == "rest" {
                    "quiet"
                } else {
                    way
                };
                for kind in kinds() {
                    let only = |this: Kind| if kind == this { ends } else { "" };
                    let more = if kind == Kind::Hours {
                        &hours
                    } else {
                        only(Kind::Endpoint)
                    };
                    let name = format!("{role}-{}-{way}", kind.name());
                    let mut keys =
                        vec![PlanKey::first(direction, self.line(&name), only(Kind::Key))];
                    // Another receiver of the same queue comes after the first.
                    let next = format!("next-{way}");
                    if role == "hear" && kind == Kind::Key {
                        keys.push(PlanKey {
                            id: SECOND,
                            direction,
                            material: self.line(&next),
                            ends: "",
                        });
                    }
                    let grant = (allow(direction), channel, only(Kind::Grant));
                    plan.endpoint(&name, more, &keys, grant);
                }
            }
            let mut one = |what: &str, more: &str, key: PlanKey<'_>, ends: &str| {
                let grant = (allow(key.direction), way, ends);
                plan.endpoint(&format!("{what}-{way}"), more, &[key], grant);
            };
            let first = |what: &str, direction| {
                PlanKey::first(direction, self.line(&format!("{what}-{way}")), "")
            };
            one("pulse", "", first("pulse", "ingress"), "");
            one("desk", "", first("desk", "egress"), "");
            one("relay", "relay = true", first("relay", "ingress"), "");
            one("slow", "", first("slow", "egress"), ends);
            let camera = &self.pairs[&format!("camera-{way}")];
            one(
                "camera",
                "",
                PlanKey::first("ingress", &camera.line, ends),
                "",
            );
        }
        plan
    }
}

fn allow(direction: &str) -> &'static str {
    if direction == "ingress" {
        "send"
    } else {
        "receive"
    }
}

/// The half day before this minute.
fn hours_until(end: u64) -> String {
    let time = |seconds: u64| format!("{:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60);
    format!("hours = [\"daily {}-{}\"]", time(end + 43_200), time(end))
}
