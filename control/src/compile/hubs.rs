//! Hubs, and the channels in them.

use std::collections::{HashMap, HashSet};

use wire::ids::{AckMode, ChannelId, HUB_ID_RESERVED};
use wire::route::{self, ChannelParts};

use super::faults::{Faults, Place};
use super::names::Names;
use super::value::{Taken, whole};
use super::{
    PARTITIONS_DEFAULT, PARTITIONS_MAX, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
use crate::diagnosis::{UNKNOWN_NAME, VALUE};
use crate::model::{Ack, Channel, Hub, Model, Priority, environment_of, hub_hash};
use crate::quantity::Bytes;

/// Hubs by full name: their places in the table.
type HubPlaces = HashMap<Box<str>, u16>;

/// The written hubs, then a `default` for every environment that has none.
pub(super) fn hubs(model: &Model, names: &Names<'_>, faults: &mut Faults) -> Vec<route::Hub> {
    let defaults: Vec<(String, usize)> = names
        .environments()
        .map(|(environment, at)| (format!("{environment}/default"), at))
        .collect();
    let mut hubs: Vec<route::Hub> = Vec::new();
    let mut taken = Taken::new("hub", model.hubs.len());
    let list = Place::root("hubs");
    for (at, written) in model.hubs.iter().enumerate() {
        let element = list.index(at);
        let place = element.key("name");
        if !names.check_full(&written.name, &place, "hub", faults) {
            continue;
        }
        let hub = hub(written, &element, faults);
        if taken.take(u64::from(hub.id), &written.name, &place, faults) {
            hubs.push(hub);
        }
    }
    let list = Place::root("environments");
    let written: HashSet<&str> = model.hubs.iter().map(|hub| hub.name.as_str()).collect();
    for (name, at) in &defaults {
        if written.contains(name.as_str()) {
            continue;
        }
        let hub = default_hub(name);
        let element = list.index(*at);
        if taken.take(u64::from(hub.id), name, &element.key("name"), faults) {
            hubs.push(hub);
        }
    }
    hubs
}

fn default_hub(name: &str) -> route::Hub {
    route::Hub {
        id: hub_hash(name),
        name: name.into(),
        partitions: PARTITIONS_DEFAULT,
        ack: AckMode::Durable,
        segment_bytes: SEGMENT_BYTES_DEFAULT,
        retention_bytes: None,
        retention_age: None,
    }
}

fn hub(written: &Hub, place: &Place<'_>, faults: &mut Faults) -> route::Hub {
    let derived = hub_hash(&written.name);
    let most = i64::from(HUB_ID_RESERVED) - 1;
    let id = written.id.map_or(derived, |id| {
        whole(id, &place.key("id"), "id of a hub", 0..=most, faults) as u16
    });
    let partitions = written.partitions.map_or(PARTITIONS_DEFAULT, |count| {
        let place = place.key("partitions");
        whole(count, &place, "partitions", 1..=PARTITIONS_MAX, faults) as u16
    });
    let segment_bytes = written
        .segment_bytes
        .map_or(SEGMENT_BYTES_DEFAULT, |bytes| {
            segment_bytes(bytes, &place.key("segment_bytes"), faults)
        });
    if let Some(Bytes(seen)) = written.retention_bytes
        && seen < u64::from(segment_bytes)
    {
        faults.add(
            &place.key("retention_bytes"),
            VALUE,
            "retention_bytes is below segment_bytes",
            seen.to_string(),
            format!("at least one segment, {segment_bytes} bytes"),
            "raise it, or lower segment_bytes",
        );
    }
    route::Hub {
        id,
        name: written.name.as_str().into(),
        partitions,
        ack: match written.ack {
            Some(Ack::Local) => AckMode::Local,
            Some(Ack::Durable) | None => AckMode::Durable,
        },
        segment_bytes,
        retention_bytes: written.retention_bytes.map(|bytes| bytes.0),
        retention_age: written.retention_age.map(|age| age.0),
    }
}

fn segment_bytes(Bytes(value): Bytes, place: &Place<'_>, faults: &mut Faults) -> u32 {
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&value) || value % 65_536 != 0 {
        faults.add(
            place,
            VALUE,
            "segment_bytes is out of range",
            value.to_string(),
            "2 MiB to 1 GiB, a multiple of 64 KiB",
            "use \"64MiB\"",
        );
    }
    u32::try_from(value).unwrap_or(SEGMENT_BYTES_DEFAULT)
}

/// The channels, each in its hub.
pub(super) fn channels(
    model: &Model,
    names: &Names<'_>,
    hubs: &[route::Hub],
    faults: &mut Faults,
) -> Vec<ChannelParts> {
    let places: HubPlaces = hubs
        .iter()
        .zip(0..)
        .map(|(hub, at)| (hub.name.clone(), at))
        .collect();
    let mut taken = Taken::new("channel", model.channels.len());
    let mut channels = Vec::with_capacity(model.channels.len());
    let list = Place::root("channels");
    for (at, written) in model.channels.iter().enumerate() {
        let element = list.index(at);
        let place = element.key("name");
        if !names.check_full(&written.name, &place, "channel", faults) {
            continue;
        }
        let most = i64::from(u32::MAX);
        let id = written.id.map_or(ChannelId::of(&written.name), |id| {
            let place = element.key("id");
            ChannelId(whole(id, &place, "id of a channel", 0..=most, faults) as u32)
        });
        let hub = hub_of(written, &element, &places, hubs, faults);
        if taken.take(u64::from(id.0), &written.name, &place, faults) {
            channels.push(ChannelParts {
                id,
                name: written.name.as_str().into(),
                hub,
                priority: match written.priority {
                    Some(Priority::Low) => route::Priority::Low,
                    Some(Priority::Normal) | None => route::Priority::Normal,
                },
            });
        }
    }
    channels
}

/// Index of the hub a channel names, or of its environment's `default`.
fn hub_of(
    channel: &Channel,
    place: &Place<'_>,
    places: &HubPlaces,
    hubs: &[route::Hub],
    faults: &mut Faults,
) -> u16 {
    let environment = environment_of(&channel.name);
    let short = channel.hub.as_deref().unwrap_or("default");
    let full = match short.contains('/') {
        true => short.to_owned(),
        false => format!("{environment}/{short}"),
    };
    let same = environment_of(&full) == environment;
    if let Some(at) = places.get(full.as_str()).filter(|_| same) {
        return *at;
    }
    let known = hubs
        .iter()
        .filter_map(|hub| hub.name.strip_prefix(environment)?.strip_prefix('/'));
    let remedy = faults.did_you_mean(short, known, "declare it under [[hubs]]");
    let place = match channel.hub {
        Some(_) => place.key("hub"),
        None => place.key("name"),
    };
    faults.add(
        &place,
        UNKNOWN_NAME,
        "a channel names an unknown hub",
        format!("`{short}`"),
        format!("a hub of {environment}"),
        remedy,
    );
    0
}
