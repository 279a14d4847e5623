//! "May this endpoint send to, or receive from, this channel, and why not?" Answered from what is defined, check by check, with the
//! rules that shards apply.

use std::net::IpAddr;

use serde::Serialize;
use wire::diagnosis::Diagnosis;
use wire::ids::{Fingerprint, UnixNanos};
use wire::route::{Restriction, Transport, Transports, Window};

use super::{Caller, Service, access, there};
use crate::compile::{restriction_of, terms_of};
use crate::model::{
    Allow, Direction, Endpoint, Grant, Key, Kind, Moment, Noun, Role, State, Thing, environment_of,
};
use crate::quantity::show_moment;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The endpoint's full name.
    pub endpoint: String,
    /// Send or receive.
    pub allow: Allow,
    /// The channel: full name, or the last part of one in the endpoint's own environment.
    pub channel: String,
    /// With this key; any good one will do unless it is named.
    pub key: Option<String>,
    /// From this address.
    pub address: Option<IpAddr>,
    /// From a page of this origin.
    pub origin: Option<String>,
    /// A body so long.
    pub body_bytes: Option<u64>,
    /// At this second since 1970; now unless it is said.
    pub at: Option<u64>,
    /// Over this transport.
    pub transport: Option<Transport>,
    /// By a tunnel in which this certificate was shown.
    pub certificate: Option<Fingerprint>,
    /// On the node of this name; on its home, or any, unless it is said.
    pub node: Option<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is looked at.
    pub check: &'static str,
    /// Whether it is passed.
    pub passed: bool,
    /// What is there.
    pub seen: String,
    /// What is needed.
    pub needed: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reasons {
    /// Whether every check is passed.
    pub allowed: bool,
    /// The checks, in the order in which a node makes them; none behind the first that fails for want of what it would look at.
    pub checks: Vec<Check>,
}

impl Service {
    /// Whether it is allowed, and why.
    ///
    /// # Errors
    /// When the caller may not look at the endpoint, or there is none; when there is no such node.
    pub fn why(&self, caller: &Caller, question: &Question) -> Result<Reasons, Diagnosis> {
        access::may_look(caller, Noun::Endpoint, &question.endpoint, Role::Viewer)?;
        let catalog = self.catalog();
        let stored = there(&catalog, Noun::Endpoint, &question.endpoint)?;
        if let Some(node) = &question.node {
            self.node(caller, node)?;
        }
        match &*stored.thing {
            Thing::Endpoint(endpoint) => Ok(reasons(endpoint, question, self.now())),
            other => unreachable!("{} under the name of an endpoint", other.noun()),
        }
    }
}

fn reasons(endpoint: &Endpoint, question: &Question, now: u64) -> Reasons {
    let now = question.at.unwrap_or(now);
    let at = UnixNanos::from_seconds(now);
    let enabled = endpoint.enabled.unwrap_or(true);
    let mut checks = vec![
        check("enabled", enabled, enabled.to_string(), "true"),
        key(endpoint, question, now),
    ];
    let terms = terms_of(endpoint);
    expires(endpoint.expires.as_ref(), terms.expires, at, &mut checks);
    hours(&endpoint.hours, &terms.windows, at, "", &mut checks);
    tunnel(endpoint, terms.transports, question, &mut checks);
    home(endpoint, question, &mut checks);
    match grant_of(endpoint, question) {
        None => checks.push(check(
            "grant",
            false,
            "none".into(),
            "a grant for the channel",
        )),
        Some(grant) => {
            checks.push(check(
                "grant",
                true,
                grant.channel.clone(),
                "a grant for the channel",
            ));
            conditions(grant, question, at, &mut checks);
            others(endpoint, grant, question, at, &mut checks);
        }
    }
    Reasons {
        allowed: checks.iter().all(|check| check.passed),
        checks,
    }
}

fn check(check: &'static str, passed: bool, seen: String, needed: impl Into<String>) -> Check {
    let needed = needed.into();
    Check {
        check,
        passed,
        seen,
        needed,
    }
}

/// The key that is named, or one that is good.
fn key(endpoint: &Endpoint, question: &Question, now: u64) -> Check {
    let direction = match question.allow {
        Allow::Send => Direction::Ingress,
        Allow::Receive => Direction::Egress,
    };
    // A pair signs envelopes, which a relay brings, and opens no session over anything.
    let session = question.transport.is_some();
    let pair = |key: &Key| key.kind == Some(Kind::Ed25519) || key.public.is_some();
    let good = |key: &Key| {
        let state = matches!(key.state(now), State::Live | State::Expiring);
        key.direction == direction && state && !(session && pair(key))
    };
    let show = |key: &Key| {
        let (state, kind) = (key.state(now), if pair(key) { ", ed25519" } else { "" });
        format!("`{}`, {:?}, {state:?}{kind}", key.name, key.direction).to_lowercase()
    };
    let opens = if session { " and opens sessions" } else { "" };
    let needed = format!("a key for {direction:?} that is good{opens}").to_lowercase();
    let of_way = |key: &&Key| key.direction == direction;
    let found = match &question.key {
        Some(name) => endpoint.key(name),
        None => (endpoint.keys.iter().find(|key| good(key)))
            .or_else(|| endpoint.keys.iter().find(of_way)),
    };
    match found {
        None => check("key", false, "none".into(), needed),
        Some(key) => check("key", good(key), show(key), needed),
    }
}

/// Who is at home on a node is served by no other.
fn home(endpoint: &Endpoint, question: &Question, checks: &mut Vec<Check>) {
    if let (Some(home), Some(node)) = (&endpoint.home, &question.node) {
        let needed = format!("node `{home}`, its home");
        checks.push(check(
            "home",
            home == node,
            format!("node `{node}`"),
            needed,
        ));
    }
}

fn grant_of<'a>(endpoint: &'a Endpoint, question: &Question) -> Option<&'a Grant> {
    let environment = environment_of(&endpoint.name);
    let full = |channel: &str| match channel.contains('/') {
        true => channel.to_owned(),
        false => format!("{environment}/{channel}"),
    };
    let wanted = full(&question.channel);
    let same = |grant: &&Grant| grant.allow == question.allow && full(&grant.channel) == wanted;
    endpoint.grants.iter().find(same)
}

/// The conditions of a grant, as a shard checks them.
fn conditions(grant: &Grant, question: &Question, at: UnixNanos, checks: &mut Vec<Check>) {
    if grant.allow == Allow::Receive {
        let subscribed = grant.subscribed.unwrap_or(true);
        checks.push(check(
            "subscribed",
            subscribed,
            subscribed.to_string(),
            "true",
        ));
    }
    let restriction = restriction_of(grant);
    expires(grant.expires.as_ref(), restriction.expires, at, checks);
    place(grant, &restriction, question, at, "", checks);
    // What is received was sent under another grant.
    let longest = restriction.body_bytes_max;
    let longest = longest.filter(|_| grant.allow == Allow::Send);
    if let (Some(most), Some(seen)) = (longest, question.body_bytes) {
        let needed = format!("at most {most}");
        checks.push(check(
            "body",
            seen <= u64::from(most),
            seen.to_string(),
            needed,
        ));
    }
}

/// A queue mixes the channels of its endpoint: who receives keeps the conditions of all grants by which something comes to it.
fn others(
    endpoint: &Endpoint,
    asked: &Grant,
    question: &Question,
    at: UnixNanos,
    checks: &mut Vec<Check>,
) {
    let heard = |grant: &&Grant| {
        grant.allow == Allow::Receive && grant.subscribed != Some(false) && *grant != asked
    };
    if asked.allow == Allow::Send {
        return;
    }
    for grant in endpoint.grants.iter().filter(heard) {
        let restriction = restriction_of(grant);
        if !restriction.is_over(at) {
            let whose = format!(", for {}", grant.channel);
            place(grant, &restriction, question, at, &whose, checks);
        }
    }
}

/// From where, and when.
fn place(
    grant: &Grant,
    restriction: &Restriction,
    question: &Question,
    at: UnixNanos,
    whose: &str,
    checks: &mut Vec<Check>,
) {
    hours(&grant.hours, &restriction.windows, at, whose, checks);
    if !grant.addresses.is_empty() {
        let passed = (question.address).is_some_and(|address| restriction.allows_address(address));
        let seen = question
            .address
            .map_or("unknown".to_owned(), |seen| seen.to_string());
        let needed = grant.addresses.join(", ") + whose;
        checks.push(check("address", passed, seen, needed));
    }
    if !grant.origins.is_empty() {
        // As shards judge it: whatever page it is, no transport tells them.
        let passed = restriction.allows_origin(None);
        let seen = match &question.origin {
            Some(origin) => format!("{origin}, which no transport tells a node yet"),
            None => "none".to_owned(),
        };
        let needed = grant.origins.join(", ") + whose;
        checks.push(check("origin", passed, seen, needed));
    }
}

fn expires(
    written: Option<&Moment>,
    end: Option<UnixNanos>,
    at: UnixNanos,
    checks: &mut Vec<Check>,
) {
    if let (Some(written), Some(end)) = (written, end) {
        let needed = format!("a time before {}", written.text());
        checks.push(check(
            "expires",
            at < end,
            show_moment(at.seconds()),
            needed,
        ));
    }
}

fn hours(
    written: &[String],
    windows: &[Window],
    at: UnixNanos,
    whose: &str,
    checks: &mut Vec<Check>,
) {
    if !written.is_empty() {
        let passed = Window::any_open(windows, at);
        let needed = written.join(", ") + whose;
        checks.push(check("hours", passed, show_moment(at.seconds()), needed));
    }
}

/// What its session runs over, and the certificate that was shown there.
fn tunnel(
    endpoint: &Endpoint,
    transports: Transports,
    question: &Question,
    checks: &mut Vec<Check>,
) {
    if let Some(transport) = question
        .transport
        .filter(|_| !endpoint.transports.is_empty())
    {
        let passed = transports.has(transport);
        let needed = endpoint.transports.join(", ");
        checks.push(check("transport", passed, transport.name().into(), needed));
    }
    if !endpoint.certificates.is_empty() {
        let named = |shown| {
            let mut named = endpoint.certificates.iter();
            named.any(|one| Fingerprint::parse(one) == Some(shown))
        };
        let passed = question.certificate.is_some_and(named);
        let seen = question.certificate;
        let seen = seen.map_or("none".to_owned(), |seen| seen.to_string());
        let needed = endpoint.certificates.join(", ");
        checks.push(check("certificate", passed, seen, needed));
    }
}
