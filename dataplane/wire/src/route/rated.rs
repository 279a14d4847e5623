//! The allowances of a table: which of them a message is taken out of. Those of an account are shared by its endpoints.

use std::sync::Arc;

use super::allowance::{Allowance, Holder, Rates, Unit};
use super::head::Head;
use super::index::IdMap;
use super::layer::Layer;
use super::view::EndpointView;
use super::{Account, RouteTable};
use crate::ids::ChannelId;

/// What an endpoint's messages are taken out of.
#[derive(Debug, Clone, Default)]
struct Held {
    /// Whatever the channel: the endpoint's own, then its account's.
    whole: Vec<Allowance>,
    /// Of grants, by rising channel; a channel with two rates is there twice.
    grants: Vec<(ChannelId, Allowance)>,
}

/// All allowances; most tables have few.
#[derive(Debug, Clone, Default)]
pub(super) struct Rated {
    /// By name.
    accounts: Arc<Vec<(Box<str>, Vec<Allowance>)>>,
    /// Of endpoints as the base has them, by index.
    of_base: Arc<IdMap<u32, Held>>,
    /// Of those that changed since, if they have any.
    changed: Arc<IdMap<u32, Option<Held>>>,
}

impl Rated {
    /// Full allowances, as a head and a base say.
    pub(super) fn new(head: &Head, base: &Layer) -> Self {
        let account = |account: &Account| {
            let name = account.name.clone();
            (name, allowances(Holder::Account, account.rates))
        };
        let mut rated = Self {
            accounts: Arc::new(head.parts.accounts.iter().map(account).collect()),
            ..Self::default()
        };
        if rated.has_accounts() || has_rates(base) {
            let held = |at| Some((at, rated.hold(&base.endpoint(at))?));
            let of_base = (0..base.endpoints).filter_map(held).collect();
            rated.of_base = Arc::new(of_base);
        }
        rated
    }

    fn has_accounts(&self) -> bool {
        self.accounts.iter().any(|(_, all)| !all.is_empty())
    }

    /// Whether nobody has any, and nobody whom this layer sets will have.
    pub(super) fn is_nobodys(&self, set: &Layer) -> bool {
        let held = !(self.of_base.is_empty() && self.changed.is_empty());
        !held && !self.has_accounts() && !has_rates(set)
    }

    fn hold(&self, endpoint: &EndpointView<'_>) -> Option<Held> {
        let mut whole = allowances(Holder::Endpoint, endpoint.rates());
        if !self.accounts.is_empty() {
            whole.extend_from_slice(self.account(endpoint.account()));
        }
        let grants = endpoint.send.iter().flat_map(|grant| {
            let own = allowances(Holder::Grant, grant.restriction.rates()).into_iter();
            own.map(move |allowance| (grant.channel, allowance))
        });
        let grants: Vec<_> = grants.collect();
        let any = !(whole.is_empty() && grants.is_empty());
        any.then_some(Held { whole, grants })
    }

    fn account(&self, name: &str) -> &[Allowance] {
        let at = (self.accounts).binary_search_by(|(account, _)| (**account).cmp(name));
        at.map_or(&[], |at| &self.accounts[at].1)
    }

    fn held(&self, endpoint: u32) -> Option<&Held> {
        match self.changed.get(&endpoint) {
            Some(held) => held.as_ref(),
            None => self.of_base.get(&endpoint),
        }
    }

    #[inline]
    pub(super) fn of(
        &self,
        endpoint: u32,
        channel: ChannelId,
    ) -> impl Iterator<Item = &Allowance> + Clone {
        let held = self.held(endpoint);
        let whole = held.map_or(&[][..], |held| &held.whole);
        let grant = held.map_or(&[][..], |held| held.grant(channel));
        whole
            .iter()
            .chain(grant.iter().map(|(_, allowance)| allowance))
    }

    pub(super) fn is_whole(&self, endpoint: u32) -> bool {
        self.held(endpoint)
            .is_some_and(|held| !held.whole.is_empty())
    }

    /// The allowances when these endpoints are what they are now, or gone, and all others what they were. What was taken of one
    /// stays taken.
    pub(super) fn after<'t>(
        &self,
        changed: impl Iterator<Item = (u32, Option<EndpointView<'t>>)>,
    ) -> Self {
        let mut after = self.clone();
        for (index, endpoint) in changed {
            let (old, new) = (self.held(index), endpoint.and_then(|now| self.hold(&now)));
            if old.is_none() && new.is_none() {
                continue;
            }
            let held = new.map(|held| held.going_on_from(old));
            Arc::make_mut(&mut after.changed).insert(index, held);
        }
        after
    }

    /// See [`RouteTable::go_on_from`].
    pub(super) fn go_on_from(&mut self, table: &RouteTable, before: &RouteTable) {
        let old = &before.rated;
        if table.has_base_of(before) {
            // Of what did not change since, everything is there already.
            self.accounts = Arc::clone(&old.accounts);
            self.of_base = Arc::clone(&old.of_base);
            if self.changed.is_empty() {
                return;
            }
            let changed = self.changed.iter().map(|(index, held)| {
                let own = held.clone().map(|held| {
                    let account = old.account(table.endpoint_at(*index).account());
                    held.going_on_from(old.held(*index)).sharing(account)
                });
                (*index, own)
            });
            self.changed = Arc::new(changed.collect());
            return;
        }
        for (name, allowances) in Arc::make_mut(&mut self.accounts) {
            go_on(allowances, old.account(name));
        }
        let accounts = Arc::clone(&self.accounts);
        let account = |name: &str| {
            let at = accounts.binary_search_by(|(account, _)| (**account).cmp(name));
            at.map_or(&[][..], |at| &accounts[at].1)
        };
        let again = |index: u32, held: Held| {
            let endpoint = table.endpoint_at(index);
            let index = before.endpoint_index(endpoint.id);
            let own = index.and_then(|index| old.held(index));
            // Whatever the endpoint's account was before: what an account has is one for all its endpoints.
            held.going_on_from(own).sharing(account(endpoint.account()))
        };
        for (index, held) in Arc::make_mut(&mut self.of_base) {
            *held = again(*index, std::mem::take(held));
        }
        for (index, held) in Arc::make_mut(&mut self.changed) {
            *held = held.take().map(|held| again(*index, held));
        }
    }
}

/// Whether anything in a layer has a rate.
fn has_rates(layer: &Layer) -> bool {
    let none = Rates::default();
    let mut of_grants = layer.restrictions.iter();
    layer.rates.iter().any(|rates| *rates != none) || of_grants.any(|one| one.rates() != none)
}

/// Let each go on from the one before it of the same kind.
fn go_on(allowances: &mut [Allowance], before: &[Allowance]) {
    for allowance in allowances {
        go_on_one(allowance, before.iter());
    }
}

fn go_on_one<'a>(allowance: &mut Allowance, mut before: impl Iterator<Item = &'a Allowance>) {
    let kind = allowance.kind();
    if let Some(before) = before.find(|before| before.kind() == kind) {
        allowance.go_on_from(before);
    }
}

impl Held {
    fn grant(&self, channel: ChannelId) -> &[(ChannelId, Allowance)] {
        let from = self.grants.partition_point(|(id, _)| *id < channel);
        let count = self.grants[from..].iter();
        let count = count.take_while(|(id, _)| *id == channel).count();
        &self.grants[from..from + count]
    }

    fn going_on_from(mut self, before: Option<&Self>) -> Self {
        let Some(before) = before else {
            return self;
        };
        let of_account = |allowance: &Allowance| allowance.kind().0 == Holder::Account;
        let own = self.whole.iter_mut().filter(|one| !of_account(one));
        for allowance in own {
            go_on(std::slice::from_mut(allowance), &before.whole);
        }
        for (channel, allowance) in &mut self.grants {
            let before = before.grant(*channel).iter();
            go_on_one(allowance, before.map(|(_, allowance)| allowance));
        }
        self
    }

    /// Take out of what its account has, which is one for all its endpoints.
    fn sharing(mut self, account: &[Allowance]) -> Self {
        go_on(&mut self.whole, account);
        self
    }
}

fn allowances(holder: Holder, rates: Rates) -> Vec<Allowance> {
    let units = [
        (Unit::Messages, rates.messages_per_second.map(u64::from)),
        (Unit::Bytes, rates.bytes_per_second),
    ];
    let allowance = |(unit, per_second): (_, Option<u64>)| {
        per_second.map(|per_second| Allowance::new(holder, unit, per_second))
    };
    units.into_iter().filter_map(allowance).collect()
}

#[cfg(test)]
#[cfg(not(feature = "interleavings"))]
mod tests {
    use super::*;
    use crate::ids::EndpointId;
    use crate::reason::Reason;
    use crate::route::{Endpoint, Grant, QueueBounds, Restriction, TableParts, take};

    const CHANNEL: ChannelId = ChannelId(3);

    /// A table of these endpoints of one account, with rates of a grant, an endpoint and the account.
    fn table(names: &[&str], rates: [Option<u32>; 3]) -> RouteTable {
        let [grant, endpoint, account] = rates;
        let rates = |messages_per_second| Rates {
            messages_per_second,
            bytes_per_second: None,
        };
        let endpoint = |name: &&str| Endpoint {
            id: EndpointId::of(name),
            name: (*name).into(),
            enabled: true,
            relay: false,
            keys: Vec::new(),
            certificates: Vec::new(),
            transports: Default::default(),
            windows: Vec::new(),
            expires: None,
            home: None,
            send: vec![Grant {
                channel: CHANNEL,
                restriction: Restriction {
                    messages_per_second: grant,
                    ..Restriction::default()
                },
            }],
            receive: Vec::new(),
            queue: QueueBounds::default(),
            rates: rates(endpoint),
        };
        let parts = TableParts {
            epoch: 1,
            queue_groups: 1,
            nodes: Vec::new(),
            hubs: vec![super::super::Hub {
                id: 1,
                name: "acme/prod/main".into(),
                partitions: 1,
                ack: crate::ids::AckMode::Durable,
                segment_bytes: 1 << 20,
                retention_bytes: None,
                retention_age: None,
            }],
            channels: vec![super::super::ChannelParts {
                id: CHANNEL,
                name: "acme/prod/telemetry".into(),
                hub: 0,
                priority: Default::default(),
            }],
            endpoints: names.iter().map(endpoint).collect(),
            accounts: vec![Account {
                name: "acme".into(),
                rates: rates(account),
            }],
        };
        RouteTable::build(parts).expect("nothing is wrong in it")
    }

    /// Why an endpoint cannot send so many messages, if so.
    fn refused(table: &RouteTable, name: &str, messages: u32) -> Option<Reason> {
        let endpoint = table.endpoint_index(EndpointId::of(name));
        let allowances = table.allowances(endpoint.expect("it is there"), CHANNEL);
        let told = take(allowances, messages, 0, 5_000_000_000);
        told.err().map(|overdrawn| overdrawn.reason)
    }

    #[test]
    fn a_new_table_goes_on_from_what_was_taken_out_of_each_allowance_of_the_old_one() {
        let (pump, valve) = ("acme/prod/pump", "acme/prod/valve");
        for (at, reason) in [
            Reason::RestrictedRate,
            Reason::EndpointRate,
            Reason::AccountRate,
        ]
        .into_iter()
        .enumerate()
        {
            let mut rates = [None; 3];
            rates[at] = Some(3);
            let old = table(&[pump], rates);
            assert_eq!(refused(&old, pump, 3), None);
            assert_eq!(refused(&old, pump, 1), Some(reason));
            let mut new = table(&[valve, pump], rates);
            new.go_on_from(&old);
            assert_eq!(
                refused(&new, pump, 1),
                Some(reason),
                "nothing is there anew"
            );
            // Who was not there before has what is its own, and shares what is its account's.
            let own = (reason == Reason::AccountRate).then_some(reason);
            assert_eq!(refused(&new, valve, 3), own);
        }
    }
}
