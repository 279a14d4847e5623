//! What waits for whom: a message comes to every endpoint that hears its channel when it is sent, and to nobody else.

use std::collections::HashMap;

use wire::ids::{ChannelId, EndpointId};

use super::reference::{Endpoint, has_ended, hears};
use super::support::Delivered;

/// A message, as far as its receiver sees it.
type Message = (ChannelId, EndpointId, usize);

#[derive(Debug)]
struct Waiting {
    message: Message,
    channel: String,
    /// Where its channel was.
    hub: &'static str,
    /// Its channel was heard all the time: it has to come.
    surely: bool,
}

/// By endpoint.
#[derive(Debug, Default)]
pub(crate) struct Queues(HashMap<usize, Vec<Waiting>>);

fn heard(endpoint: &Endpoint, channel: &str, at: u64) -> bool {
    let mut grants = endpoint.grants.iter();
    // Nothing of an endpoint that has ended is good any more.
    !has_ended(endpoint.expires, at)
        && grants.any(|grant| grant.channel == channel && hears(grant, at))
}

impl Queues {
    /// Bodies of these lengths were taken.
    pub(crate) fn note(
        &mut self,
        endpoints: &[Endpoint],
        (channel, id, hub): (&str, ChannelId, &'static str),
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
                hub,
                surely: true,
            }));
        }
    }

    /// Time has passed, or something has changed: what is not heard now need not come any more, nor what was sent to a channel that
    /// has another id, or another hub, since.
    pub(crate) fn look(
        &mut self,
        endpoints: &[Endpoint],
        places: impl Fn(&str) -> Option<(ChannelId, &'static str)>,
        at: u64,
    ) {
        for (which, waiting) in &mut self.0 {
            for one in waiting {
                let same = places(&one.channel) == Some((one.message.0, one.hub));
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
