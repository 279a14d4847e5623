//! "May this endpoint send to, or receive from, this channel, and why not?" Answered from what is defined, check by check, with the
//! rules that shards apply.

use std::net::IpAddr;

use serde::Serialize;
use wire::diagnosis::Diagnosis;

use super::{Caller, Service, access, there};
use crate::compile::restriction_of;
use crate::model::{
    Allow, Direction, Endpoint, Grant, Key, Noun, Role, State, Thing, environment_of,
};

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
    /// When the caller may not look at the endpoint, or there is none.
    pub fn why(&self, caller: &Caller, question: &Question) -> Result<Reasons, Diagnosis> {
        access::may_look(caller, Noun::Endpoint, &question.endpoint, Role::Viewer)?;
        let catalog = self.catalog();
        let stored = there(&catalog, Noun::Endpoint, &question.endpoint)?;
        match &*stored.thing {
            Thing::Endpoint(endpoint) => Ok(reasons(endpoint, question, self.now())),
            other => unreachable!("{} under the name of an endpoint", other.noun()),
        }
    }
}

fn reasons(endpoint: &Endpoint, question: &Question, now: u64) -> Reasons {
    let enabled = endpoint.enabled.unwrap_or(true);
    let mut checks = vec![
        check("enabled", enabled, enabled.to_string(), "true"),
        key(endpoint, question, now),
    ];
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
            conditions(grant, question, &mut checks);
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
    let good = |key: &Key| {
        let state = matches!(key.state(now), State::Live | State::Expiring);
        key.direction == direction && state
    };
    let show = |key: &Key| {
        let state = key.state(now);
        format!("`{}`, {:?}, {state:?}", key.name, key.direction).to_lowercase()
    };
    let needed = format!("a key for {direction:?} that is good").to_lowercase();
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
fn conditions(grant: &Grant, question: &Question, checks: &mut Vec<Check>) {
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
    if !grant.addresses.is_empty() {
        let passed = (question.address).is_some_and(|address| restriction.allows_address(address));
        let seen = question
            .address
            .map_or("unknown".to_owned(), |seen| seen.to_string());
        checks.push(check("address", passed, seen, grant.addresses.join(", ")));
    }
    if !grant.origins.is_empty() {
        let passed = restriction.allows_origin(question.origin.as_deref());
        let seen = question.origin.clone().unwrap_or_else(|| "none".to_owned());
        checks.push(check("origin", passed, seen, grant.origins.join(", ")));
    }
    if let (Some(most), Some(seen)) = (restriction.body_bytes_max, question.body_bytes) {
        let needed = format!("at most {most}");
        checks.push(check(
            "body",
            seen <= u64::from(most),
            seen.to_string(),
            needed,
        ));
    }
}
