//! Keeps what changed since the base of a table little, off the threads that answer anybody: for a control plane, and for each node that
//! follows one.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wire::route::{Delta, RouteTable};

/// Entries of changes that are put behind a new base at once; of more, whoever settles does not wait for it.
const AT_ONCE: usize = 1_000;
/// The same of entries that are copied on the way: each change copies those before it.
const COPIES_AT_ONCE: usize = 100 * AT_ONCE;
/// How often is looked whether a table that was replaced is let go of everywhere, and for how long at most.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: usize = 1_200;

/// Makes one of a table and what changed since its base, beside everything else, so that changes stay few.
#[derive(Debug, Default)]
pub struct Tidy {
    at_work: Option<JoinHandle<Option<RouteTable>>>,
    /// Whether what is at work only puts behind the new base what changed while it was made.
    catches_up: bool,
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

    /// The same table in a better form, if one is ready. One is begun where it is worth its while. To wipe a large table takes longer than
    /// to change it: whoever replaces one sees to it that it is let go of where nobody waits for that.
    #[must_use]
    pub fn settle(&mut self, table: &Arc<RouteTable>) -> Arc<RouteTable> {
        if let Some(ready) = self.at_work.take_if(|thread| thread.is_finished()) {
            let since = std::mem::take(&mut self.since);
            let caught_up = std::mem::take(&mut self.catches_up);
            let many = are_many(&since);
            // One that panicked leaves everything as it was.
            let made = ready.join().ok().flatten();
            match made {
                // Once: while much goes on changing it would never be done.
                Some(made) if many && !caught_up => {
                    self.catches_up = self.begin(move || after(made, &since));
                    return Arc::clone(table);
                }
                Some(made) => {
                    let made = after(made, &since).filter(|made| same(made, table));
                    if let Some(made) = made {
                        return Arc::new(made);
                    }
                }
                None => {}
            }
        }
        if self.at_work.is_none() && table.is_loose() {
            let loose = Arc::clone(table);
            self.begin(move || Some(loose.compacted()));
        }
        Arc::clone(table)
    }

    /// Work beside everything else. Without a thread the table stays loose, and that is tried again.
    fn begin(&mut self, work: impl FnOnce() -> Option<RouteTable> + Send + 'static) -> bool {
        let thread = thread::Builder::new().name("compact".into());
        self.at_work = thread.spawn(work).ok();
        self.at_work.is_some()
    }
}

/// Whether it takes long to put these changes behind a base. One of anything but endpoints may do so alone.
fn are_many(since: &[Arc<Delta>]) -> bool {
    let entries: usize = since.iter().map(|delta| delta.entries()).sum();
    let copies = entries.saturating_mul(since.len());
    entries > AT_ONCE || copies > COPIES_AT_ONCE || since.iter().any(|delta| delta.changes_head())
}

/// A table after these changes.
fn after(table: RouteTable, since: &[Arc<Delta>]) -> Option<RouteTable> {
    let mut since = since.iter();
    since.try_fold(table, |table, delta| table.after(delta).ok())
}

fn same(made: &RouteTable, table: &RouteTable) -> bool {
    (made.epoch(), made.digest()) == (table.epoch(), table.digest())
}

/// Hold a table that is replaced until nobody else does, and wipe it beside everything else. Not for a table that a node has: it does the
/// same, and each would wait for the other.
pub(crate) fn let_go(table: Arc<RouteTable>) {
    let thread = thread::Builder::new().name("let-go".into());
    let spawned = thread.spawn(move || {
        let others = |_: &usize| Arc::strong_count(&table) > 1;
        (0..LOOKS)
            .take_while(others)
            .for_each(|_| thread::sleep(LOOK));
    });
    // Without a thread the last who has it wipes it.
    drop(spawned);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::ids::{EndpointId, Fingerprint};
    use wire::route::{Account, DeltaParts, Endpoint, QueueBounds, Rates, TableParts, Transports};

    fn endpoint(name: &str, certificates: usize) -> Endpoint {
        Endpoint {
            id: EndpointId::of(name),
            name: name.into(),
            enabled: true,
            relay: false,
            keys: Vec::new(),
            certificates: vec![Fingerprint([7; 32]); certificates],
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

    fn table(endpoints: &[&Endpoint]) -> Arc<RouteTable> {
        let table = RouteTable::build(TableParts {
            epoch: 1,
            queue_groups: 1,
            endpoints: endpoints.iter().copied().cloned().collect(),
            ..TableParts::default()
        });
        Arc::new(table.expect("they go together"))
    }

    /// Change an endpoint, and note it.
    fn change(table: &mut Arc<RouteTable>, tidy: &mut Tidy, one: &mut Endpoint) {
        one.relay = !one.relay;
        let delta = table.change(DeltaParts {
            epoch: table.epoch() + 1,
            set: vec![one.clone()],
            ..DeltaParts::default()
        });
        let delta = Arc::new(delta.expect("a change of it"));
        *table = Arc::new(table.after(&delta).expect("it fits"));
        tidy.note(Some(&delta));
        let found = table.endpoint(one.id).expect("there");
        assert_eq!(found.relay, one.relay);
    }

    #[test]
    fn what_changed_stays_little_however_often_something_changes() {
        let mut one = endpoint("a/e/one", 1_000);
        let (mut table, mut tidy) = (table(&[&one]), Tidy::default());
        let (mut loose, mut settled) = (0, 0);
        while settled < 3 {
            let before = table.is_loose();
            table = tidy.settle(&table);
            settled += usize::from(before && !table.is_loose());
            loose += usize::from(before);
            change(&mut table, &mut tidy, &mut one);
            if before {
                // Changes of nothing else come slowly.
                thread::yield_now();
            }
        }
        assert!(loose > 0);
    }

    fn finish(tidy: &Tidy) {
        let at_work = tidy.at_work.as_ref().expect("it is under way");
        while !at_work.is_finished() {
            thread::yield_now();
        }
    }

    /// Whoever settles goes on at once: what changed is put behind the new base beside it.
    fn catches_up(tidy: &mut Tidy, table: &Arc<RouteTable>) {
        finish(tidy);
        assert!(Arc::ptr_eq(&tidy.settle(table), table), "it catches up");
    }

    /// The same table with everything in its base.
    fn settles(tidy: &mut Tidy, table: &Arc<RouteTable>) -> Arc<RouteTable> {
        finish(tidy);
        let settled = tidy.settle(table);
        assert!(!settled.is_loose() && same(&settled, table));
        settled
    }

    /// Everything but endpoints is another.
    fn change_head(table: &mut Arc<RouteTable>, tidy: &mut Tidy) {
        let mut head = table.head().clone();
        head.accounts.push(Account {
            name: format!("account-{}", table.epoch()).into(),
            rates: Rates::default(),
        });
        let delta = table.change(DeltaParts {
            epoch: table.epoch() + 1,
            head: Some(head),
            ..DeltaParts::default()
        });
        let delta = Arc::new(delta.expect("a change of it"));
        *table = Arc::new(table.after(&delta).expect("it fits"));
        tidy.note(Some(&delta));
    }

    /// A table of two whose changes of the first are about to be made one with their base.
    fn begun(small: &Endpoint) -> (Arc<RouteTable>, Tidy) {
        let mut large = endpoint("a/e/large", 1_000);
        let (mut table, mut tidy) = (table(&[&large, small]), Tidy::default());
        while !table.is_loose() {
            change(&mut table, &mut tidy, &mut large);
        }
        assert!(Arc::ptr_eq(&tidy.settle(&table), &table), "it begins");
        (table, tidy)
    }

    #[test]
    fn whoever_settles_does_not_wait_for_a_change_of_anything_but_endpoints() {
        let (mut table, mut tidy) = begun(&endpoint("a/e/small", 0));
        change_head(&mut table, &mut tidy);
        catches_up(&mut tidy, &table);
        settles(&mut tidy, &table);
    }

    #[test]
    fn whoever_settles_does_not_wait_for_many_small_changes_that_copy_each_other() {
        let mut small = endpoint("a/e/small", 0);
        let (mut table, mut tidy) = begun(&small);
        for _ in 0..AT_ONCE / 2 {
            change(&mut table, &mut tidy, &mut small);
        }
        catches_up(&mut tidy, &table);
        settles(&mut tidy, &table);
    }

    #[test]
    fn whoever_settles_does_not_wait_for_much_that_changed_meanwhile() {
        let mut small = endpoint("a/e/small", 0);
        let (mut table, mut tidy) = begun(&small);
        for _ in 0..=AT_ONCE {
            change(&mut table, &mut tidy, &mut small);
        }
        catches_up(&mut tidy, &table);
        change(&mut table, &mut tidy, &mut small);
        let settled = settles(&mut tidy, &table);
        assert_eq!(settled.encode()[..], table.encode()[..]);
        change(&mut table, &mut tidy, &mut small);
        assert!(tidy.at_work.is_none() && tidy.since.is_empty());
    }
}
