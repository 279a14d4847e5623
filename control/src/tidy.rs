//! Keeps what changed since the base of a table little, off the threads that answer anybody: for a control plane, and for each node that
//! follows one.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use wire::route::{Delta, RouteTable};

/// Makes one of a table and what changed since its base, beside everything else, so that changes stay few.
#[derive(Debug, Default)]
pub struct Tidy {
    at_work: Option<JoinHandle<RouteTable>>,
    /// What changed since it began.
    since: Vec<Arc<Delta>>,
}

impl Tidy {
    /// The table was changed so, or replaced as a whole.
    pub fn note(&mut self, delta: Option<&Arc<Delta>>) {
        match delta {
            None => *self = Self::default(),
            Some(delta) if self.at_work.is_some() => self.since.push(Arc::clone(delta)),
            Some(_) => {}
        }
    }

    /// The same table in a better form, if one is ready. One is begun where it is worth its while.
    #[must_use]
    pub fn settle(&mut self, table: &Arc<RouteTable>) -> Arc<RouteTable> {
        if let Some(ready) = self.at_work.take_if(|thread| thread.is_finished()) {
            let since = std::mem::take(&mut self.since);
            // One that panicked leaves everything as it was.
            let made = ready.join().ok();
            let made = made.and_then(|made| {
                let mut after = since.iter();
                after.try_fold(made, |table, delta| table.after(delta).ok())
            });
            let same = |made: &RouteTable| {
                (made.epoch(), made.digest()) == (table.epoch(), table.digest())
            };
            if let Some(made) = made.filter(same) {
                return Arc::new(made);
            }
        }
        if self.at_work.is_none() && table.is_loose() {
            let loose = Arc::clone(table);
            let thread = thread::Builder::new().name("compact".into());
            // Without a thread it stays loose, and is tried again.
            self.at_work = thread.spawn(move || loose.compacted()).ok();
        }
        Arc::clone(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::ids::{EndpointId, Fingerprint};
    use wire::route::{DeltaParts, Endpoint, QueueBounds, Rates, TableParts, Transports};

    #[test]
    fn what_changed_stays_little_however_often_something_changes() {
        let mut one = Endpoint {
            id: EndpointId(1),
            name: "a/e/one".into(),
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
        };
        let table = RouteTable::build(TableParts {
            epoch: 1,
            queue_groups: 1,
            endpoints: vec![one.clone()],
            ..TableParts::default()
        });
        let (mut table, mut tidy) = (Arc::new(table.expect("one endpoint")), Tidy::default());
        let (mut loose, mut settled) = (0, 0);
        while settled < 3 {
            let before = table.is_loose();
            table = tidy.settle(&table);
            settled += usize::from(before && !table.is_loose());
            loose += usize::from(before);
            one.relay = !one.relay;
            let delta = table.change(DeltaParts {
                epoch: table.epoch() + 1,
                set: vec![one.clone()],
                ..DeltaParts::default()
            });
            let delta = Arc::new(delta.expect("a change of it"));
            table = Arc::new(table.after(&delta).expect("it fits"));
            tidy.note(Some(&delta));
            let found = table.endpoint(EndpointId(1)).expect("there");
            assert_eq!(found.relay, one.relay);
            if before {
                // Changes of nothing else come slowly.
                thread::yield_now();
            }
        }
        assert!(loose > 0);
    }
}
