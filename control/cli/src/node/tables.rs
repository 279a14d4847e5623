//! What a table is, for the link: to it they are bytes.

use std::sync::Arc;
use std::time::Duration;

use control::tidy::Tidy;
use link::diagnosis::{CODES, TABLE_UNFIT};
use link::{AskUnopened, Bytes, Holder, Lineage, Snapshot, Unfit, Unopened, Version};
use node::{Tables, Unapplied};
use wire::diagnosis::Diagnosis;
use wire::route::{Delta, Digest, RouteTable, TableBytes};

/// Bytes of a table that are shared.
struct Shared(TableBytes);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A table, whole.
pub(crate) struct Whole(pub(crate) Arc<RouteTable>);

impl Snapshot for Whole {
    fn bytes(&self) -> Bytes {
        Arc::new(Shared(self.0.encode()))
    }
}

/// Which table of this past it is.
pub(crate) fn version(lineage: Lineage, table: &RouteTable) -> Version {
    of(lineage, table.epoch(), table.digest())
}

fn of(lineage: Lineage, epoch: u64, digest: Digest) -> Version {
    Version {
        lineage,
        epoch,
        digest: digest.0,
    }
}

/// How a table differs from the one before, for the link.
pub(crate) fn delta(lineage: Lineage, delta: &Delta) -> link::Delta {
    link::Delta {
        base: of(lineage, delta.base_epoch(), delta.base_digest()),
        becomes: of(lineage, delta.epoch(), delta.digest()),
        bytes: Arc::new(Shared(delta.encode())),
    }
}

/// Read a table that must be this one.
pub(crate) fn read(becomes: Version, bytes: Vec<u8>) -> Result<RouteTable, Diagnosis> {
    let table = RouteTable::read(TableBytes::from(bytes));
    is(
        table.map_err(|error| unfit(error.to_string(), becomes))?,
        becomes,
    )
}

/// This table, if it is that one.
fn is(table: RouteTable, becomes: Version) -> Result<RouteTable, Diagnosis> {
    let found = version(becomes.lineage, &table);
    match found == becomes {
        true => Ok(table),
        false => Err(unfit(found.to_string(), becomes)),
    }
}

/// Change a table as this says; it must be made for it and make what it says. The change, too.
pub(crate) fn change(
    table: &RouteTable,
    becomes: Version,
    bytes: &[u8],
) -> Result<(RouteTable, Delta), Diagnosis> {
    let delta = Delta::read(TableBytes::from(bytes.to_vec()));
    let delta = delta.map_err(|error| unfit(error.to_string(), becomes))?;
    let table = table.after(&delta);
    let table = is(
        table.map_err(|error| unfit(error.to_string(), becomes))?,
        becomes,
    )?;
    Ok((table, delta))
}

fn unfit(seen: String, becomes: Version) -> Diagnosis {
    let needed = format!("a table of version {becomes}");
    Diagnosis::from_table(CODES, TABLE_UNFIT, "a table that came", seen, needed)
}

/// The newest table of a node, and the way to its shards.
pub(super) struct Held {
    pub(super) tables: Tables,
    pub(super) newest: Arc<RouteTable>,
    /// Keeps what changed since the base of that little.
    pub(super) tidy: Tidy,
    /// The past that it is of, and that of the table which the shards were given last.
    pub(super) lineage: Lineage,
    pub(super) handed: Lineage,
}

impl Holder for Held {
    fn snapshot(&mut self, becomes: Version, bytes: Vec<u8>) -> Result<(), Diagnosis> {
        self.newest = Arc::new(read(becomes, bytes)?);
        self.tidy.note(None);
        self.lineage = becomes.lineage;
        Ok(())
    }

    fn delta(&mut self, base: Version, becomes: Version, bytes: &[u8]) -> Result<(), Diagnosis> {
        if version(self.lineage, &self.newest) != base {
            return Err(unfit(format!("a change of {base}"), becomes));
        }
        let table = self.tidy.settle(&self.newest);
        let (next, delta) = change(&table, becomes, bytes)?;
        self.newest = Arc::new(next);
        self.tidy.note(Some(&Arc::new(delta)));
        Ok(())
    }

    fn whole(&self) -> Arc<dyn Snapshot> {
        Arc::new(Whole(Arc::clone(&self.newest)))
    }

    fn hand_over(&mut self) -> Result<(), Unfit> {
        let table = Arc::clone(&self.newest);
        let applied = match self.lineage == self.handed {
            true => self.tables.apply(table),
            false => self.tables.apply_anew(table),
        };
        applied.map_err(|fault| match fault {
            Unapplied::Behind => Unfit::Busy,
            Unapplied::Refused(fault) => Unfit::Refused(fault),
        })?;
        self.newest = self.tables.current();
        self.handed = self.lineage;
        Ok(())
    }

    fn wait(&self, epoch: u64, within: Duration) -> Vec<u64> {
        self.tables.wait(epoch, within)
    }

    fn unopened(&self) -> AskUnopened {
        let tables = self.tables.clone();
        Arc::new(move || {
            let unopened = tables.unopened();
            Unopened {
                hubs: u16::try_from(unopened.len()).unwrap_or(u16::MAX),
                code: unopened.first().map_or(0, |(_, fault)| fault.code),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use wire::ids::{EndpointId, Fingerprint};
    use wire::route::{DeltaParts, Endpoint, QueueBounds, Rates, TableParts, Transports};

    /// One endpoint, large enough that a few of its changes make a table loose.
    fn large() -> Endpoint {
        Endpoint {
            id: EndpointId::of("a/e/large"),
            name: "a/e/large".into(),
            enabled: true,
            relay: false,
            keys: Vec::new(),
            certificates: vec![Fingerprint([7; 32]); 1_000],
            transports: Transports::default(),
            windows: Vec::new(),
            expires: None,
            home: None,
            send: Vec::new(),
            receive: Vec::new(),
            queue: QueueBounds::default(),
            rates: Rates::default(),
        }
    }

    fn held(data: &std::path::Path) -> (node::NodeHandle, Held) {
        let table = RouteTable::build(TableParts {
            epoch: 1,
            queue_groups: 1,
            endpoints: vec![large()],
            ..TableParts::default()
        });
        let table = Arc::new(table.expect("they go together"));
        let config = node::config::NodeConfig::new(data);
        let reload = || panic!("nobody asks for a reload here");
        let node = node::start(config, Arc::clone(&table), reload).expect("it starts");
        let held = Held {
            tables: node.tables(),
            newest: table,
            tidy: Tidy::default(),
            lineage: Lineage::default(),
            handed: Lineage::default(),
        };
        (node, held)
    }

    /// Change the endpoint, as control says it, in every shard.
    fn change_it(held: &mut Held) {
        let mut one = large();
        one.relay = held.newest.epoch() % 2 == 1;
        let change = held.newest.change(DeltaParts {
            epoch: held.newest.epoch() + 1,
            set: vec![one],
            ..DeltaParts::default()
        });
        let change = delta(held.lineage, &change.expect("a change of it"));
        let taken = held.delta(change.base, change.becomes, (*change.bytes).as_ref());
        taken.expect("a change of the newest");
        held.hand_over().expect("no shard is behind");
        let epoch = change.becomes.epoch;
        while held.wait(epoch, Duration::from_secs(60)) != [epoch] {}
    }

    #[test]
    fn a_table_that_was_made_one_with_its_changes_goes_when_no_shard_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (node, mut held) = held(folder.path());
        let begin = Instant::now();
        for _ in 0..2 {
            let replaced = loop {
                let (before, was_loose) = (Arc::downgrade(&held.newest), held.newest.is_loose());
                change_it(&mut held);
                if was_loose && !held.newest.is_loose() {
                    break before;
                }
            };
            while replaced.strong_count() > 0 {
                assert!(begin.elapsed() < Duration::from_secs(90), "somebody has it");
                let epoch = held.newest.epoch();
                drop(held.wait(epoch, Duration::ZERO));
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        node.stop();
        node.join().expect("it stops");
    }
}
