//! Who is good and who is hostile, as one plan. Each attacker is an endpoint of its own, good keys and all: the worst
//! attackers are those who may come in.

use client::Credentials;
use control::keys::new_secret;
use control::render::{EGRESS_KEY_ID, INGRESS_KEY_ID, NewEndpoint, NewPlan, render};
use std::fmt::Write;

const ENVIRONMENT: &str = "acme/test";
/// What the good senders send to.
pub(crate) const GOOD: &str = "acme/test/good";
/// What hostile senders may send to; nobody hears it.
pub(crate) const TRASH: &str = "acme/test/trash";
/// What hostile receivers hear.
pub(crate) const BAIT: &str = "acme/test/bait";

/// Keys of an attacker, one for each direction.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) ingress: Credentials,
    pub(crate) egress: Credentials,
}

/// The plan and everybody's credentials.
pub(crate) struct World {
    pub(crate) plan: String,
    pub(crate) senders: Vec<Credentials>,
    pub(crate) receiver: Credentials,
    /// Hears what the receiver hears, and comes and goes.
    pub(crate) visitor: Credentials,
    pub(crate) baiter: Credentials,
    pub(crate) hostile: Vec<Keys>,
}

struct Maker {
    plan: NewPlan,
}

impl Maker {
    fn endpoint(&mut self, name: &str, send: &[&str], receive: &[&str]) -> Keys {
        let (ingress, egress) = (new_secret(), new_secret());
        let key = |id, secret: &str| {
            Credentials::key(&format!("{ENVIRONMENT}/{name}"), id, secret)
                .expect("a fresh key is well formed")
        };
        let keys = Keys {
            ingress: key(INGRESS_KEY_ID, ingress.text()),
            egress: key(EGRESS_KEY_ID, egress.text()),
        };
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.plan.endpoints.push(NewEndpoint {
            name: name.to_owned(),
            ingress: Some(ingress.text().to_owned()),
            egress: Some(egress.text().to_owned()),
            send: owned(send),
            receive: owned(receive),
            ..NewEndpoint::default()
        });
        keys
    }
}

/// A plan for so many good senders, and attackers of which those that `hears` says hear the bait.
pub(crate) fn world(good: usize, hostile: usize, hears: impl Fn(usize) -> bool) -> World {
    let channels = ["good", "trash", "bait"].map(str::to_owned).to_vec();
    let mut maker = Maker {
        plan: NewPlan {
            environment: ENVIRONMENT.to_owned(),
            partitions: 4,
            ack: std::env::var("FOREBAY_HOSTILE_ACK").unwrap_or_else(|_| "durable".to_owned()),
            channels,
            endpoints: Vec::new(),
        },
    };
    let senders = (0..good).map(|at| maker.endpoint(&format!("good-{at}"), &[GOOD], &[]));
    let senders: Vec<Credentials> = senders.map(|keys| keys.ingress).collect();
    let receiver = maker.endpoint("office", &[], &[GOOD]).egress;
    let visitor = maker.endpoint("visitor", &[], &[GOOD]).egress;
    let baiter = maker.endpoint("baiter", &[BAIT], &[]).ingress;
    let hostile = (0..hostile)
        .map(|at| {
            let bait: &[&str] = if hears(at) { &[BAIT] } else { &[] };
            maker.endpoint(&format!("hostile-{at}"), &[TRASH], bait)
        })
        .collect();
    World {
        plan: small(&never_bury(&render(&maker.plan))),
        senders,
        receiver,
        visitor,
        baiter,
        hostile,
    }
}

/// Few and small segments, so that a long run goes through all of them many times.
fn small(plan: &str) -> String {
    let hub = "partitions = 4\n";
    assert!(plan.contains(hub), "{plan}");
    let limits = format!("{hub}segment_bytes = \"8MiB\"\nretention_bytes = \"64MiB\"\n");
    plan.replacen(hub, &limits, 1)
}

/// Let hostile receivers be given the same messages for ever: in every table of an endpoint but the first, deliveries have
/// no end.
fn never_bury(plan: &str) -> String {
    let mut out = String::with_capacity(plan.len() * 2);
    let mut tables = plan.split("[[endpoints]]");
    out.push_str(tables.next().unwrap_or_default());
    for table in tables {
        write!(
            out,
            "[[endpoints]]{table}\n[endpoints.queue]\ndeliveries_max = 0\n\n"
        )
        .expect("writing to a String cannot fail");
    }
    out
}
