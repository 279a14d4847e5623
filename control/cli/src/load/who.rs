//! Who sends, who receives, and who else is there, as the plan and the arguments name them.

use loadgen::{Others, ReceiverCredential, SenderCredential};
use wire::diagnosis::Diagnosis;
use wire::ids::Direction;
use wire::route::{EndpointView, RouteTable};

use super::Args;
use crate::project::{endpoint, key, not_in_plan};

/// Everybody who takes part.
pub(super) struct Who {
    pub(super) senders: Vec<SenderCredential>,
    pub(super) receivers: Vec<ReceiverCredential>,
    pub(super) others: Others,
}

/// The last senders flood and the last receivers are slow, as many as were asked for.
pub(super) fn who(args: &Args, table: &RouteTable) -> Result<Who, Diagnosis> {
    let mut senders = senders(args, table)?;
    let mut receivers = match args.no_read_back && args.slow_receivers == 0 {
        true => Vec::new(),
        false => receivers(args, table, &senders)?,
    };
    let flooders = last(
        &mut senders,
        ("flooders", args.flooders),
        "senders, at least one of which does not flood",
        1,
    )?;
    let slow_receivers = last(
        &mut receivers,
        ("slow receivers", args.slow_receivers),
        "receivers that hear the channel",
        0,
    )?;
    if args.no_read_back {
        receivers.clear();
    }
    let storm_per_s = super::per_second(args.storm.as_deref())?;
    let storm = match storm_per_s > 0.0 {
        true => stormers(table),
        false => Vec::new(),
    };
    Ok(Who {
        senders,
        receivers,
        others: Others {
            flooders,
            slow_receivers,
            slow_per_s: args.slow_rate,
            storm,
            storm_per_s,
        },
    })
}

/// Take so many from the end, and leave at least `rest`.
fn last<T>(
    from: &mut Vec<T>,
    (what, count): (&str, usize),
    of: &str,
    rest: usize,
) -> Result<Vec<T>, Diagnosis> {
    match from.len().checked_sub(count) {
        Some(at) if at >= rest || count == 0 => Ok(from.split_off(at)),
        _ => {
            let needed = format!("more {of}, or fewer {what}");
            let seen = format!("{count} of {}", from.len());
            Err(loadgen::diagnosis::plan(what, seen, &needed))
        }
    }
}

/// Everybody with a queue: opening a session does not take it from whoever reads it.
fn stormers(table: &RouteTable) -> Vec<ReceiverCredential> {
    let enabled = table.endpoints().filter(|endpoint| endpoint.enabled);
    enabled
        .filter_map(|endpoint| receiver(&endpoint).ok())
        .collect()
}

fn receiver(endpoint: &EndpointView<'_>) -> Result<ReceiverCredential, Diagnosis> {
    let (key, secret) = key(endpoint, None, Direction::Egress)?;
    Ok(ReceiverCredential {
        endpoint: endpoint.name().to_owned(),
        key_id: key.id.0,
        key: secret.text().to_owned(),
    })
}

fn senders(args: &Args, table: &RouteTable) -> Result<Vec<SenderCredential>, Diagnosis> {
    let chosen: Vec<EndpointView<'_>> = if args.sender.is_empty() {
        table
            .endpoints()
            .filter(|endpoint| endpoint.enabled && !endpoint.send.is_empty())
            .collect()
    } else {
        args.sender
            .iter()
            .map(|name| endpoint(table, name))
            .collect::<Result<_, _>>()?
    };
    chosen
        .iter()
        .map(|endpoint| sender(args, table, endpoint))
        .collect()
}

fn sender(
    args: &Args,
    table: &RouteTable,
    endpoint: &EndpointView<'_>,
) -> Result<SenderCredential, Diagnosis> {
    let (key, secret) = key(endpoint, None, Direction::Ingress)?;
    let names = table.channels().iter().map(|channel| &*channel.name);
    let channel = match &args.channel {
        Some(name) => {
            let suffix = format!("/{name}");
            let found = names
                .clone()
                .find(|channel| channel == name || channel.ends_with(&suffix));
            found
                .ok_or_else(|| not_in_plan("channel", name, names))?
                .to_owned()
        }
        None => {
            let first = endpoint
                .send
                .iter()
                .next()
                .and_then(|grant| table.channel(grant.channel));
            first
                .map(|channel| channel.name.to_string())
                .ok_or_else(|| {
                    let what = format!("{} may not send anywhere", endpoint.name());
                    Diagnosis::new(
                        crate::diagnosis::KEY_UNFIT,
                        what,
                        "0 grants to send",
                        "1 or more",
                        "grant it a channel in the plan",
                    )
                })?
        }
    };
    Ok(SenderCredential {
        endpoint: endpoint.name().to_owned(),
        key_id: key.id.0,
        key: secret.text().to_owned(),
        channel,
    })
}

/// The receivers named, or every enabled endpoint that hears a channel sent to.
fn receivers(
    args: &Args,
    table: &RouteTable,
    senders: &[SenderCredential],
) -> Result<Vec<ReceiverCredential>, Diagnosis> {
    let chosen: Vec<EndpointView<'_>> = if args.receiver.is_empty() {
        let hears = |endpoint: &EndpointView<'_>| {
            endpoint
                .receive
                .iter()
                .filter_map(|grant| table.channel(grant.channel))
                .any(|channel| {
                    senders
                        .iter()
                        .any(|sender| *sender.channel == *channel.name)
                })
        };
        table
            .endpoints()
            .filter(|endpoint| endpoint.enabled)
            .filter(hears)
            .collect()
    } else {
        args.receiver
            .iter()
            .map(|name| endpoint(table, name))
            .collect::<Result<_, _>>()?
    };
    chosen.iter().map(receiver).collect()
}
