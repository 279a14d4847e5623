//! One number for what a table says: two models with the same digest compile to tables that answer every question alike.
//!
//! SHA-256 over every field in a fixed order, each preceded by its length; lists by name or id, so the order in which things
//! were written does not matter. The epoch is left out: it says when, not what.

use std::fmt;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wire::route::{Endpoint, Grant, Key, KeyMaterial, OnFull, Priority, Rates, TableParts, Window};

/// What a route table says, as 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The digest of these parts.
pub(super) fn digest(parts: &TableParts) -> Digest {
    let mut sum = Sum(Sha256::new());
    sum.number(parts.queue_groups);
    let mut hubs: Vec<_> = parts.hubs.iter().collect();
    hubs.sort_by(|a, b| a.name.cmp(&b.name));
    sum.count(hubs.len());
    for hub in &hubs {
        sum.text(&hub.name);
        sum.number(hub.id);
        sum.number(hub.partitions);
        sum.number(hub.ack as u8);
        sum.number(hub.segment_bytes);
        sum.maybe(hub.retention_bytes);
        sum.age(hub.retention_age);
    }
    let mut channels: Vec<_> = parts.channels.iter().collect();
    channels.sort_by(|a, b| a.name.cmp(&b.name));
    sum.count(channels.len());
    for channel in channels {
        sum.text(&channel.name);
        sum.number(channel.id.0);
        sum.text(&parts.hubs[usize::from(channel.hub)].name);
        sum.number(u8::from(channel.priority == Priority::Low));
    }
    let mut accounts: Vec<_> = parts.accounts.iter().collect();
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    sum.count(accounts.len());
    for account in accounts {
        sum.text(&account.name);
        sum.rates(&account.rates);
    }
    let mut endpoints: Vec<_> = parts.endpoints.iter().collect();
    endpoints.sort_by(|a, b| a.name.cmp(&b.name));
    sum.count(endpoints.len());
    endpoints
        .into_iter()
        .for_each(|endpoint| sum.endpoint(endpoint));
    Digest(sum.0.finalize().into())
}

/// Takes fields so that no two sequences of them are the same bytes.
struct Sum(Sha256);

impl Sum {
    fn number(&mut self, number: impl Into<u64>) {
        self.0.update(number.into().to_le_bytes());
    }

    fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn maybe(&mut self, number: Option<u64>) {
        self.number(u8::from(number.is_some()));
        self.number(number.unwrap_or(0));
    }

    fn age(&mut self, age: Option<Duration>) {
        self.maybe(age.map(|age| age.as_secs()));
        self.number(age.map_or(0, |age| age.subsec_nanos()));
    }

    fn rates(&mut self, rates: &Rates) {
        self.maybe(rates.messages_per_second.map(u64::from));
        self.maybe(rates.bytes_per_second);
    }

    fn endpoint(&mut self, endpoint: &Endpoint) {
        self.text(&endpoint.name);
        self.number(endpoint.id.0);
        self.number(u8::from(endpoint.enabled) | u8::from(endpoint.relay) << 1);
        self.rates(&endpoint.rates);
        let mut keys: Vec<&Key> = endpoint.keys.iter().collect();
        keys.sort_by_key(|key| key.id);
        self.count(keys.len());
        keys.into_iter().for_each(|key| self.key(key));
        let mut certificates: Vec<_> = endpoint.certificates.iter().map(|one| one.0).collect();
        certificates.sort_unstable();
        self.count(certificates.len());
        certificates.iter().for_each(|one| self.bytes(one));
        self.number(endpoint.transports.bits());
        self.windows(&endpoint.windows);
        self.maybe(endpoint.expires.map(|at| at.0));
        for grants in [&endpoint.send, &endpoint.receive] {
            self.count(grants.len());
            grants.iter().for_each(|grant| self.grant(grant));
        }
        let queue = &endpoint.queue;
        self.number(queue.messages_max);
        self.number(queue.bytes_max);
        self.age(queue.age_max);
        self.number(u8::from(queue.on_full == OnFull::DropOldest));
        self.age(Some(queue.lock));
        self.number(queue.deliveries_max);
    }

    fn key(&mut self, key: &Key) {
        self.number(key.id.0);
        self.text(&key.name);
        self.number(key.direction as u8);
        match &key.material {
            KeyMaterial::Symmetric(secret) => {
                self.number(1u8);
                self.bytes(secret.text_bytes());
            }
            KeyMaterial::Ed25519(public) => {
                self.number(2u8);
                self.bytes(public.as_bytes());
            }
        }
        self.maybe(key.expires.map(|at| at.0));
        self.number(u8::from(key.revoked));
    }

    fn grant(&mut self, grant: &Grant) {
        let restriction = &grant.restriction;
        self.number(grant.channel.0);
        let mut addresses: Vec<String> = Vec::new();
        addresses.extend(restriction.addresses.iter().map(ToString::to_string));
        let mut origins: Vec<&str> = restriction.origins.iter().map(|text| &**text).collect();
        addresses.sort_unstable();
        origins.sort_unstable();
        self.count(addresses.len());
        addresses.iter().for_each(|text| self.text(text));
        self.count(origins.len());
        origins.into_iter().for_each(|text| self.text(text));
        self.maybe(restriction.messages_per_second.map(u64::from));
        self.maybe(restriction.bytes_per_second);
        self.maybe(restriction.body_bytes_max.map(u64::from));
        self.windows(&restriction.windows);
        self.maybe(restriction.expires.map(|at| at.0));
    }

    fn windows(&mut self, windows: &[Window]) {
        let mut windows = windows.to_vec();
        windows.sort_unstable();
        self.count(windows.len());
        for window in windows {
            self.number(window.days());
            self.number(window.from());
            self.number(window.to());
        }
    }
}
