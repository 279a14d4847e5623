//! The allowances of a table: which of them a message is taken out of. Those of an account are shared by its endpoints.

use super::allowance::{Allowance, Holder, Rates, Unit};
use super::{Account, Endpoint, RouteTable};
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
    accounts: Vec<(Box<str>, Vec<Allowance>)>,
    /// By index.
    endpoints: Vec<Option<Box<Held>>>,
}

impl Rated {
    /// Full allowances, as these say. Accounts are sorted by name, endpoints too, and grants by channel.
    pub(super) fn new(accounts: &[Account], endpoints: &[Endpoint]) -> Self {
        let account = |account: &Account| {
            let name = account.name.clone();
            (name, allowances(Holder::Account, account.rates))
        };
        let mut rated = Self {
            accounts: accounts.iter().map(account).collect(),
            endpoints: Vec::new(),
        };
        let held = endpoints.iter().map(|endpoint| rated.hold(endpoint));
        rated.endpoints = held.collect();
        rated
    }

    fn hold(&self, endpoint: &Endpoint) -> Option<Box<Held>> {
        let mut whole = allowances(Holder::Endpoint, endpoint.rates);
        whole.extend_from_slice(self.account(endpoint.account()));
        let grants = endpoint.send.iter().flat_map(|grant| {
            let rates = Rates {
                messages_per_second: grant.restriction.messages_per_second,
                bytes_per_second: grant.restriction.bytes_per_second,
            };
            let own = allowances(Holder::Grant, rates).into_iter();
            own.map(|allowance| (grant.channel, allowance))
        });
        let grants: Vec<_> = grants.collect();
        let any = !(whole.is_empty() && grants.is_empty());
        any.then(|| Box::new(Held { whole, grants }))
    }

    fn account(&self, name: &str) -> &[Allowance] {
        let at = (self.accounts).binary_search_by(|(account, _)| (**account).cmp(name));
        at.map_or(&[], |at| &self.accounts[at].1)
    }

    fn held(&self, endpoint: u32) -> Option<&Held> {
        self.endpoints.get(endpoint as usize)?.as_deref()
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

    /// See [`RouteTable::go_on_from`].
    pub(super) fn go_on_from(&mut self, endpoints: &[Endpoint], before: &RouteTable) {
        for (name, allowances) in &mut self.accounts {
            go_on(allowances, before.rated.account(name));
        }
        for (at, endpoint) in endpoints.iter().enumerate() {
            let Some(mut held) = self.endpoints[at].take() else {
                continue;
            };
            let index = before.endpoint_index(endpoint.id);
            if let Some(own) = index.and_then(|index| before.rated.held(index)) {
                go_on(&mut held.whole, &own.whole);
                for (channel, allowance) in &mut held.grants {
                    let before = own.grant(*channel).iter();
                    let before = before.map(|(_, allowance)| allowance);
                    go_on_one(allowance, before);
                }
            }
            // Whatever the endpoint's account was before: what an account has is one for all its endpoints.
            go_on(&mut held.whole, self.account(endpoint.account()));
            self.endpoints[at] = Some(held);
        }
    }
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
    use crate::route::{Grant, QueueBounds, Restriction, TableParts, take};

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
