//! What large changes do to those who send meanwhile, and what other work of as much processor would do to them in their place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use node::Tables;
use wire::route::RouteTable;

use crate::change::{change, live, taken};
use crate::load::{Load, Seen, load};
use crate::model::SENDERS;
use crate::{asked, told};

/// Of each kind of window, so many and so long make one side of a pair. They come in turn, since a machine is not the same from one
/// second to the next.
const WINDOWS: usize = 4;
const WINDOW: Duration = Duration::from_secs(1);
/// How long a thread only turns, and bytes that are copied, in the place of a change.
const TURNS: Duration = Duration::from_millis(100);
const COPIED_BYTES: usize = 130 << 20;

/// What goes on beside those who send. The first is what the others are held against; the second tells how far two of a kind differ.
const BESIDE: [Beside; 6] = [
    Beside::Nothing,
    Beside::Nothing,
    Beside::Change,
    Beside::Turning,
    Beside::Copying,
    Beside::Compacting,
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    /// A change read, applied and live, and the table before it let go of with its base.
    Change,
    Turning,
    Copying,
    /// A table and what changed since its base made one, as happens some time after a large change.
    Compacting,
}

struct Ingest<'t> {
    tables: &'t Tables,
    table: Arc<RouteTable>,
    entries: usize,
    load: Load,
    /// How long each change took.
    took: Vec<Duration>,
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Ingest<'_> {
    /// A change, and the table that it is of. Made before, as a control plane elsewhere does: what is measured is what a node does.
    fn next(&mut self) -> (Arc<RouteTable>, Vec<u8>) {
        let bytes = change(&self.table, SENDERS..SENDERS + self.entries);
        let base = Arc::clone(&self.table);
        self.table = Arc::new(taken(&self.table, bytes.clone()).compacted());
        (base, bytes)
    }

    /// What was acknowledged in a window.
    fn window(&mut self, beside: Beside) -> Vec<Duration> {
        let next = (beside == Beside::Change).then(|| self.next());
        std::thread::sleep(WINDOW / 5);
        let Self {
            tables,
            table,
            took,
            from,
            to,
            ..
        } = self;
        self.load.during(|| {
            let begin = Instant::now();
            match beside {
                Beside::Nothing => {}
                Beside::Change => {
                    let (base, bytes) = next.unwrap();
                    live(tables, &taken(&base, bytes));
                    drop(base);
                    took.push(begin.elapsed());
                }
                Beside::Turning => while begin.elapsed() < TURNS {},
                Beside::Copying => to.copy_from_slice(from),
                Beside::Compacting => drop(table.compacted()),
            }
            std::thread::sleep(WINDOW.saturating_sub(begin.elapsed()));
        })
    }

    /// Each kind of window, as often as makes a pair. The p99 of each window goes to those of its kind.
    fn pair(&mut self, number: usize, of_windows: &mut [Vec<f64>]) -> Vec<Seen> {
        let mut seen = BESIDE.map(|_| Vec::new());
        for round in 0..WINDOWS {
            for step in 0..BESIDE.len() {
                let at = (number + round + step) % BESIDE.len();
                let window = self.window(BESIDE[at]);
                seen[at].extend_from_slice(&window);
                of_windows[at].push(Seen::of(window).p99());
            }
        }
        seen.into_iter().map(Seen::of).collect()
    }
}

/// Large changes beside those who send.
pub(crate) fn ingest(
    tables: &Tables,
    address: std::net::SocketAddr,
    table: Arc<RouteTable>,
    entries: usize,
) {
    let pairs = asked("FOREBAY_TABLE_PAIRS", 8);
    if pairs == 0 {
        return;
    }
    let mut ingest = Ingest {
        tables,
        entries: entries.min(table.endpoint_count() - SENDERS),
        table,
        load: load(address, 0),
        took: Vec::new(),
        from: vec![1; COPIED_BYTES],
        to: vec![2; COPIED_BYTES],
    };
    std::thread::sleep(Duration::from_secs(2));
    let (mut ratios, mut of_windows) = (BESIDE.map(|_| Vec::new()), BESIDE.map(|_| Vec::new()));
    for number in 0..pairs {
        let seen = ingest.pair(number, &mut of_windows);
        for (at, beside) in BESIDE.iter().enumerate() {
            println!("{number}: beside {beside:?}: {}", seen[at]);
            ratios[at].push(seen[at].p99() / seen[0].p99());
        }
    }
    let Ingest { load, took, .. } = ingest;
    load.end();
    for ((beside, ratios), of_windows) in BESIDE.iter().zip(ratios).zip(of_windows) {
        let windows = of_windows.len();
        println!(
            "p99 beside {beside:?}: {:.0} us, the median of {windows} windows; in pairs against nothing {:.3}: {ratios:.2?}",
            median(of_windows),
            median(ratios.clone()),
        );
    }
    told("a change beside them read, applied and live", took);
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
