//! From the model to the route table that shards follow.
//!
//! Pure: a model comes in, a table or the list of everything wrong with it comes out. Names become ids by
//! hashing; where two names meet on one id the model is refused until one of them is given an `id`.

mod change;
mod endpoint;
mod faults;
mod hubs;
mod key;
mod names;
mod nodes;
mod restriction;
mod value;

use wire::diagnosis::Diagnosis;
use wire::route::{self, Account, HeadParts, RouteTable, TableBuilder, TableError, TableParts};

use crate::diagnosis::TABLE;
use crate::model::{Endpoint, Model};
use crate::seal::MasterKey;
use faults::{Faults, Place};
use names::Names;
use value::{rates, whole};

pub use change::{Edit, change};
pub use faults::Found;
pub(crate) use faults::did_you_mean;
pub use restriction::{Terms, restriction_of, terms_of};
pub use wire::route::Digest;

/// Partitions of a hub that does not say.
pub const PARTITIONS_DEFAULT: u16 = 4;
/// Segment bytes of a hub that does not say.
pub const SEGMENT_BYTES_DEFAULT: u32 = 64 << 20;
/// Shortest segment: two of the longest records must fit, or a log could not be opened.
pub const SEGMENT_BYTES_MIN: u64 = 2 << 20;
/// Longest segment.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Queue groups of a model that does not say.
pub const QUEUE_GROUPS_DEFAULT: u16 = 4;
/// Most partitions of one hub.
pub const PARTITIONS_MAX: i64 = 1_024;
/// Most queue groups.
pub const QUEUE_GROUPS_MAX: i64 = 256;
/// Active keys per direction: a primary and a secondary.
pub const ACTIVE_KEYS_MAX: usize = 2;

/// What a model compiles to.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The table.
    pub table: RouteTable,
    /// What the table says, whatever its epoch.
    pub digest: Digest,
}

/// Compile a model as the given epoch of the route table; `master` opens its sealed secrets, if it has any.
///
/// # Errors
/// Everything that is wrong, each with its place; never an empty list.
pub fn compile(
    model: &Model,
    epoch: u64,
    master: Option<&MasterKey>,
) -> Result<Compiled, Vec<Found>> {
    let endpoints: Vec<&Endpoint> = model.endpoints.iter().collect();
    compile_with(model, &endpoints, epoch, master)
}

/// The same, with these endpoints in the place of those of the model.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    head: &Model,
    endpoints: &[&Endpoint],
    epoch: u64,
    master: Option<&MasterKey>,
) -> Result<Compiled, Vec<Found>> {
    let mut faults = Faults::default();
    let names = Names::of(head, &mut faults);
    let parts = self::head(head, &names, &mut faults);
    let (channels, nodes) = (parts.channels.clone(), parts.nodes.clone());
    let keys = endpoints.iter().map(|one| one.keys.len()).sum();
    let rising = endpoints.is_sorted_by(|a, b| a.name <= b.name);
    let mut sink = match rising {
        // Each is written down as it comes: the parts of a million take a gigabyte, and most of the time.
        true => {
            Sink::Rising(TableBuilder::begin(epoch, parts, endpoints.len(), keys).map(Box::new))
        }
        false => Sink::Any(parts, Vec::with_capacity(endpoints.len())),
    };
    let take = |one| sink.take(one);
    let known = (&channels[..], &nodes[..]);
    endpoint::endpoints(endpoints, &names, known, master, &mut faults, take);
    if !faults.is_empty() {
        return Err(faults.take());
    }
    let built = sink.end(epoch);
    built
        .map(|table| Compiled {
            digest: table.digest(),
            table,
        })
        .map_err(|error| {
            faults.whole(Diagnosis::new(
                TABLE,
                "the route table is refused",
                error.to_string(),
                "a consistent plan",
                "change what is named",
            ));
            faults.take()
        })
}

/// Where compiled endpoints go.
enum Sink {
    /// They come by rising name; or what was wrong first.
    Rising(Result<Box<TableBuilder>, TableError>),
    /// In any order.
    Any(HeadParts, Vec<route::Endpoint>),
}

impl Sink {
    fn take(&mut self, one: route::Endpoint) {
        match self {
            Self::Any(_, all) => all.push(one),
            Self::Rising(begun) => {
                let refused = begun.as_mut().map_or(Ok(()), |begun| begun.push(one));
                if let Err(error) = refused {
                    *begun = Err(error);
                }
            }
        }
    }

    fn end(self, epoch: u64) -> Result<RouteTable, TableError> {
        match self {
            Self::Rising(begun) => begun?.end(),
            Self::Any(head, endpoints) => RouteTable::build(TableParts {
                epoch,
                queue_groups: head.queue_groups,
                hubs: head.hubs,
                channels: head.channels,
                accounts: head.accounts,
                nodes: head.nodes,
                endpoints,
            }),
        }
    }
}

/// The parts that are no endpoints; what is wrong is noted and left out.
fn head(model: &Model, names: &Names<'_>, faults: &mut Faults) -> HeadParts {
    let hubs = hubs::hubs(model, names, faults);
    let channels = hubs::channels(model, names, &hubs, faults);
    let queue_groups = match model.queue_groups {
        None => QUEUE_GROUPS_DEFAULT,
        Some(groups) => {
            let place = Place::root("queue_groups");
            whole(groups, &place, "queue_groups", 1..=QUEUE_GROUPS_MAX, faults) as u16
        }
    };
    let list = Place::root("accounts");
    let accounts = model.accounts.iter().enumerate().map(|(at, account)| {
        let (messages, bytes) = (account.messages_per_second, account.bytes_per_second);
        Account {
            name: account.name.as_str().into(),
            rates: rates(messages, bytes, &list.index(at), faults),
        }
    });
    HeadParts {
        accounts: accounts.collect(),
        nodes: nodes::nodes(model, faults),
        queue_groups,
        hubs,
        channels,
    }
}
