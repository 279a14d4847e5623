//! From a plan's text to the route table that shards follow.
//!
//! Pure: the text comes in, a table or the list of everything wrong with it comes out. Names become ids by
//! hashing; where two names meet on one id the plan is refused until one of them is given an `id`.

mod endpoint;
mod faults;
mod names;
mod syntax;

use std::collections::BTreeMap;
use std::ops::Range;

use wire::diagnosis::Diagnosis;
use wire::ids::{AckMode, ChannelId, HUB_ID_RESERVED, hub_id_of};
use wire::route::{Account, ChannelParts, Hub, Priority, Rates, RouteTable, TableParts};

use crate::diagnosis::{DUPLICATE, ID_COLLISION, TABLE, UNKNOWN_NAME, VALUE};
use crate::plan::{AckText, ChannelText, HubText, Plan, PriorityText};
use crate::quantity::Bytes;
use endpoint::endpoints;
use faults::{Faults, did_you_mean};
use names::{Names, environment_of};

/// Partitions of a hub that does not say.
pub const PARTITIONS_DEFAULT: u16 = 4;
/// Segment bytes of a hub that does not say.
pub const SEGMENT_BYTES_DEFAULT: u32 = 64 << 20;
/// Shortest segment: two of the longest records must fit, or a log could not be opened.
pub const SEGMENT_BYTES_MIN: u64 = 2 << 20;
/// Longest segment.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Queue groups of a plan that does not say.
pub const QUEUE_GROUPS_DEFAULT: u16 = 4;
/// Most partitions of one hub.
pub const PARTITIONS_MAX: i64 = 1_024;
/// Most queue groups.
pub const QUEUE_GROUPS_MAX: i64 = 256;

/// Compile the text of a plan as epoch 1; `file` is the name that messages give it.
///
/// # Errors
/// Everything that is wrong, in the order of the file; never an empty list.
pub fn compile(text: &str, file: &str) -> Result<RouteTable, Vec<Diagnosis>> {
    compile_epoch(text, file, 1)
}

/// Compile the text of a plan as the given epoch of the route table.
///
/// # Errors
/// Everything that is wrong, in the order of the file; never an empty list.
pub fn compile_epoch(text: &str, file: &str, epoch: u64) -> Result<RouteTable, Vec<Diagnosis>> {
    let mut faults = Faults::new(text, file);
    let plan: Plan = match toml::from_str(text) {
        Ok(plan) => plan,
        Err(error) => {
            syntax::note(&error, text, &mut faults);
            return Err(faults.take());
        }
    };
    let parts = parts(&plan, epoch, &mut faults);
    if !faults.is_empty() {
        return Err(faults.take());
    }
    RouteTable::build(parts).map_err(|error| {
        faults.whole(
            TABLE,
            "the route table is refused",
            error.to_string(),
            "a consistent plan",
            "change what is named",
        );
        faults.take()
    })
}

/// The parts of the table; what is wrong is noted and left out.
fn parts(plan: &Plan, epoch: u64, faults: &mut Faults<'_>) -> TableParts {
    let names = Names::of(plan, faults);
    let hubs = hubs(plan, &names, faults);
    let channels = channels(plan, &names, &hubs, faults);
    let queue_groups = match &plan.queue_groups {
        None => QUEUE_GROUPS_DEFAULT,
        Some(groups) => whole(groups, "queue_groups", 1..=QUEUE_GROUPS_MAX, faults) as u16,
    };
    let endpoints = endpoints(plan, &names, &channels, faults);
    let accounts = plan.accounts.iter().map(|text| Account {
        name: text.name.get_ref().as_str().into(),
        rates: rates(&text.messages_per_second, &text.bytes_per_second, faults),
    });
    let accounts = accounts.collect();
    TableParts {
        accounts,
        epoch,
        hubs,
        channels,
        endpoints,
        queue_groups,
    }
}

/// The written hubs, then a `default` for every environment that has none.
fn hubs(plan: &Plan, names: &Names<'_>, faults: &mut Faults<'_>) -> Vec<Hub> {
    let mut hubs: Vec<Hub> = Vec::new();
    let mut taken = Taken::new("hub");
    for text in &plan.hubs {
        if !names.check_full(&text.name, "hub", faults) {
            continue;
        }
        let hub = hub(text, faults);
        if taken.take(u64::from(hub.id), &hub.name, text.name.span(), faults) {
            hubs.push(hub);
        }
    }
    for environment in names.environments() {
        let name = format!("{environment}/default");
        if hubs.iter().any(|hub| *hub.name == *name) {
            continue;
        }
        let hub = Hub {
            id: hub_id_of(&name),
            name: name.into(),
            partitions: PARTITIONS_DEFAULT,
            ack: AckMode::Durable,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            retention_bytes: None,
            retention_age: None,
        };
        let span = names.span_of(environment);
        if taken.take(u64::from(hub.id), &hub.name, span, faults) {
            hubs.push(hub);
        }
    }
    hubs
}

fn hub(text: &HubText, faults: &mut Faults<'_>) -> Hub {
    let name = text.name.get_ref();
    let derived = match hub_id_of(name) {
        HUB_ID_RESERVED => 0,
        id => id,
    };
    let id = text.id.as_ref().map_or(derived, |id| {
        whole(
            id,
            "id of a hub",
            0..=i64::from(HUB_ID_RESERVED) - 1,
            faults,
        ) as u16
    });
    let partitions = text
        .partitions
        .as_ref()
        .map_or(PARTITIONS_DEFAULT, |count| {
            whole(count, "partitions", 1..=PARTITIONS_MAX, faults) as u16
        });
    let segment_bytes = text
        .segment_bytes
        .as_ref()
        .map_or(SEGMENT_BYTES_DEFAULT, |bytes| {
            let value = bytes.get_ref().0;
            if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&value) || value % 65_536 != 0 {
                let needed = "2 MiB to 1 GiB, a multiple of 64 KiB";
                faults.add(
                    bytes.span(),
                    VALUE,
                    "segment_bytes is out of range",
                    value.to_string(),
                    needed,
                    "use \"64MiB\"",
                );
            }
            u32::try_from(value).unwrap_or(SEGMENT_BYTES_DEFAULT)
        });
    if let Some(bytes) = &text.retention_bytes
        && bytes.get_ref().0 < u64::from(segment_bytes)
    {
        let seen = bytes.get_ref().0.to_string();
        let needed = format!("at least one segment, {segment_bytes} bytes");
        faults.add(
            bytes.span(),
            VALUE,
            "retention_bytes is below segment_bytes",
            seen,
            needed,
            "raise it, or lower segment_bytes",
        );
    }
    Hub {
        id,
        name: name.as_str().into(),
        partitions,
        ack: if text.ack == Some(AckText::Local) {
            AckMode::Local
        } else {
            AckMode::Durable
        },
        segment_bytes,
        retention_bytes: text.retention_bytes.as_ref().map(|bytes| bytes.get_ref().0),
        retention_age: text.retention_age.map(|age| age.0),
    }
}

fn channels(
    plan: &Plan,
    names: &Names<'_>,
    hubs: &[Hub],
    faults: &mut Faults<'_>,
) -> Vec<ChannelParts> {
    let mut taken = Taken::new("channel");
    let mut channels = Vec::new();
    for text in &plan.channels {
        if !names.check_full(&text.name, "channel", faults) {
            continue;
        }
        let name = text.name.get_ref();
        let id = text.id.as_ref().map_or(ChannelId::of(name), |id| {
            ChannelId(whole(id, "id of a channel", 0..=i64::from(u32::MAX), faults) as u32)
        });
        let hub = hub_of(text, hubs, faults);
        if taken.take(u64::from(id.0), name, text.name.span(), faults) {
            channels.push(ChannelParts {
                id,
                name: name.as_str().into(),
                hub,
                priority: match text.priority {
                    Some(PriorityText::Low) => Priority::Low,
                    Some(PriorityText::Normal) | None => Priority::Normal,
                },
            });
        }
    }
    channels
}

/// Index of the hub a channel names, or of its environment's `default`.
fn hub_of(text: &ChannelText, hubs: &[Hub], faults: &mut Faults<'_>) -> u16 {
    let environment = environment_of(text.name.get_ref());
    let short = text
        .hub
        .as_ref()
        .map_or("default", |hub| hub.get_ref().as_str());
    let full = if short.contains('/') {
        short.to_owned()
    } else {
        format!("{environment}/{short}")
    };
    if let Some(index) = hubs.iter().position(|hub| *hub.name == *full) {
        return index as u16;
    }
    let span = text.hub.as_ref().map_or(text.name.span(), |hub| hub.span());
    let known = hubs
        .iter()
        .filter_map(|hub| hub.name.strip_prefix(environment)?.strip_prefix('/'));
    let remedy = did_you_mean(short, known, "declare it under [[hubs]]");
    faults.add(
        span,
        UNKNOWN_NAME,
        "a channel names an unknown hub",
        format!("`{short}`"),
        format!("a hub of {environment}"),
        remedy,
    );
    0
}

/// Ids given out so far for one kind of thing.
struct Taken {
    kind: &'static str,
    ids: BTreeMap<u64, String>,
}

impl Taken {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            ids: BTreeMap::new(),
        }
    }

    /// Take `id` for `name`, or note that it is not free.
    fn take(&mut self, id: u64, name: &str, span: Range<usize>, faults: &mut Faults<'_>) -> bool {
        let kind = self.kind;
        let Some(owner) = self.ids.get(&id) else {
            self.ids.insert(id, name.to_owned());
            return true;
        };
        if owner == name {
            let needed = format!("one {kind} of that name");
            faults.add(
                span,
                DUPLICATE,
                &format!("a {kind} is declared twice"),
                format!("`{name}`"),
                needed,
                "rename or remove one",
            );
        } else {
            let seen = format!("id {id} for `{owner}` and `{name}`");
            let remedy = format!(
                "give `{name}` a free id of its own: id = {}",
                (id + 1) % 0xFFFF
            );
            faults.add(
                span,
                ID_COLLISION,
                &format!("two {kind}s have one id"),
                seen,
                "an id each",
                remedy,
            );
        }
        false
    }
}

/// Fewest bytes a second of a rate.
const RATE_BYTES_MIN: u64 = 1_024;

/// The rates of an endpoint or an account.
fn rates(
    messages: &Option<toml::Spanned<i64>>,
    bytes: &Option<toml::Spanned<Bytes>>,
    faults: &mut Faults<'_>,
) -> Rates {
    let most = i64::from(u32::MAX);
    let messages_per_second =
        (messages.as_ref()).map(|rate| whole(rate, "messages_per_second", 1..=most, faults) as u32);
    let bytes_per_second = bytes.as_ref().map(|bytes| {
        let value = bytes.get_ref().0;
        if value < RATE_BYTES_MIN {
            let needed = format!("at least {RATE_BYTES_MIN}");
            faults.add(
                bytes.span(),
                VALUE,
                "bytes_per_second is out of range",
                value.to_string(),
                needed,
                "raise it, or leave it out",
            );
        }
        value
    });
    Rates {
        messages_per_second,
        bytes_per_second,
    }
}

/// A whole number within `range`; outside it the fault is noted and the lower bound stands in.
fn whole(
    value: &toml::Spanned<i64>,
    what: &str,
    range: std::ops::RangeInclusive<i64>,
    faults: &mut Faults<'_>,
) -> i64 {
    let seen = *value.get_ref();
    if range.contains(&seen) {
        return seen;
    }
    let (low, high) = (range.start(), range.end());
    let remedy = format!("use {}", if seen < *low { low } else { high });
    faults.add(
        value.span(),
        VALUE,
        &format!("{what} is out of range"),
        seen.to_string(),
        format!("{low} to {high}"),
        remedy,
    );
    *low
}
