//! What waits for whom: a message comes to every endpoint that hears its channel when it is sent, and to nobody else.

use std::collections::HashMap;

use wire::ids::{ChannelId, EndpointId};

use super::reference::{Endpoint, hears};
use super::support::Delivered;

/// A message, as far as its receiver sees it.
type Message = (ChannelId, EndpointId, usize);

#[derive(Debug)]
struct Waiting {
    message: Message,
    channel: String,
    /// Its channel was heard all the time: it has to come.
    surely: bool,
}

/// By endpoint.
#[derive(Debug, Default)]
pub(crate) struct Queues(HashMap<usize, Vec<Waiting>>);

fn heard(endpoint: &Endpoint, channel: &str, at: u64) -> bool {
    let mut grants = endpoint.grants.iter();
    grants.any(|grant| grant.channel == channel && hears(grant, at))
}

impl Queues {
    /// Bodies of these lengths were taken.
    pub(crate) fn note(
        &mut self,
        endpoints: &[Endpoint],
        (channel, id): (&str, ChannelId),
        sender: EndpointId,
        bodies: &[usize],
        at: u64,
    ) {
        for (which, endpoint) in endpoints.iter().enumerate() {
            if !heard(endpoint, channel, at) {
                continue;
            }
            let of_one = self.0.entry(which).or_default();
            of_one.extend(bodies.iter().map(|body| Waiting {
                message: (id, sender, *body),
                channel: channel.to_owned(),
                surely: true,
            }));
        }
    }

    /// Time has passed, or something has changed: what is not heard now need not come any more.
    pub(crate) fn look(
        &mut self,
        endpoints: &[Endpoint],
        ids: impl Fn(&str) -> ChannelId,
        at: u64,
    ) {
        for (which, waiting) in &mut self.0 {
            for one in waiting {
                let same = ids(&one.channel) == one.message.0;
                one.surely &= same && heard(&endpoints[*which], &one.channel, at);
            }
        }
    }

    /// These came to somebody.
    pub(crate) fn take(
        &mut self,
        endpoints: &[Endpoint],
        which: usize,
        delivered: &[Delivered],
        at: u64,
    ) -> Result<(), String> {
        let waiting = self.0.entry(which).or_default();
        for one in delivered {
            let message = (one.header.channel, one.header.sender, one.body.len());
            let found = waiting.iter().position(|one| one.message == message);
            let Some(found) = found else {
                return Err(format!("{message:?} was never meant for it"));
            };
            let found = waiting.remove(found);
            if !heard(&endpoints[which], &found.channel, at) {
                return Err(format!("{message:?} is not heard any more"));
            }
        }
        Ok(())
    }

    /// How many should have come to somebody who asked for everything.
    pub(crate) fn missing(&self, which: usize) -> usize {
        let waiting = self.0.get(&which);
        waiting.map_or(0, |all| all.iter().filter(|one| one.surely).count())
    }
}
