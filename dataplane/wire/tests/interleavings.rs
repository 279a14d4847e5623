//! Allowances that shards of one node share, in every order that threads can come in. loom runs them:
//! `cargo test -p forebay-wire --features interleavings --test interleavings`, exhaustively up to `FOREBAY_PREEMPTIONS` (2)
//! switches of a thread that could have gone on. What is wrong on purpose must be found.

use std::sync::Arc as Shared;
use std::sync::atomic::AtomicU64 as Count;
use std::sync::atomic::Ordering::Relaxed as Counting;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use wire::ids::{AckMode, ChannelId, EndpointId};
use wire::route::{
    Allowance, ChannelParts, Endpoint, Grant, Holder, Hub, QueueBounds, Rates, Restriction,
    RouteTable, TableParts, Unit, take,
};

const SECOND: u64 = 1_000_000_000;

/// Run through all orders, and say how many there were.
fn explore(what: &str, model: impl Fn() + Send + Sync + 'static) {
    let told = std::env::var("FOREBAY_PREEMPTIONS");
    let preemptions = told.map_or(2, |told| told.parse().expect("a number of preemptions"));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let orders = Shared::new(Count::new(0));
    let counted = Shared::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Counting);
        model();
    });
    let orders = orders.load(Counting);
    println!("{what}: {orders} orders, all with at most {preemptions} preemptions");
}

fn messages(holder: Holder, per_second: u64) -> Allowance {
    Allowance::new(holder, Unit::Messages, per_second)
}

/// Two threads that do the same; how often it succeeded.
fn both(work: impl Fn(u64) -> u64 + Send + Sync + 'static) -> u64 {
    let work = Arc::new(work);
    let other = Arc::clone(&work);
    let thread = thread::spawn(move || other(1));
    work(0) + thread.join().expect("nobody panics")
}

#[test]
fn of_two_shards_that_take_what_only_one_can_have_one_is_refused() {
    explore("2 of 3 messages, twice", || {
        let allowance = messages(Holder::Grant, 3);
        let given = both(move |_| u64::from(take([&allowance].into_iter(), 2, 0, SECOND).is_ok()));
        assert_eq!(given, 1);
    });
}

#[test]
fn a_second_s_worth_is_given_whoever_takes_it_and_no_more() {
    explore("3 messages one by one, 2 each", || {
        let allowance = messages(Holder::Grant, 3);
        let left = allowance.clone();
        let one = |allowance: &Allowance, now| {
            u64::from(take([allowance].into_iter(), 1, 0, now).is_ok())
        };
        // The clock of a shard is that of its turn: one may be a little behind.
        let given = both(move |shard| {
            let now = SECOND + shard;
            one(&allowance, now) + one(&allowance, now)
        });
        assert_eq!(given, 3);
        assert_eq!(one(&left, SECOND), 0);
    });
}

#[test]
fn who_is_refused_by_one_allowance_gives_back_what_another_gave() {
    explore("1 of an endpoint's 2 and of an account's 1", || {
        let (own, shared) = (messages(Holder::Endpoint, 2), messages(Holder::Account, 1));
        let left = own.clone();
        let given =
            both(move |_| u64::from(take([&own, &shared].into_iter(), 1, 0, SECOND).is_ok()));
        assert_eq!(given, 1);
        assert!(take([&left].into_iter(), 1, 0, SECOND).is_ok());
        assert!(take([&left].into_iter(), 1, 0, SECOND).is_err());
    });
}

const ENDPOINT: EndpointId = EndpointId(7);
const CHANNEL: ChannelId = ChannelId(9);

fn table(epoch: u64) -> RouteTable {
    let endpoint = Endpoint {
        id: ENDPOINT,
        name: "a/b/pump".into(),
        enabled: true,
        relay: false,
        keys: Vec::new(),
        certificates: Vec::new(),
        transports: Default::default(),
        windows: Vec::new(),
        expires: None,
        home: None,
        send: vec![Grant {
            channel: CHANNEL,
            restriction: Restriction::default(),
        }],
        receive: Vec::new(),
        queue: QueueBounds::default(),
        rates: Rates {
            messages_per_second: Some(1),
            bytes_per_second: None,
        },
    };
    let hub = Hub {
        id: 1,
        name: "a/b/main".into(),
        partitions: 1,
        ack: AckMode::Local,
        segment_bytes: 1 << 21,
        retention_bytes: None,
        retention_age: None,
    };
    let channel = ChannelParts {
        id: CHANNEL,
        name: "a/b/readings".into(),
        hub: 0,
        priority: Default::default(),
    };
    let parts = TableParts {
        epoch,
        queue_groups: 1,
        hubs: vec![hub],
        channels: vec![channel],
        endpoints: vec![endpoint],
        accounts: Vec::new(),
        nodes: Vec::new(),
    };
    RouteTable::build(parts).expect("the parts fit together")
}

#[test]
fn a_shard_with_the_new_table_and_one_with_the_old_take_from_the_same_allowance() {
    explore("1 message under two tables", || {
        let old = table(1);
        let mut new = table(2);
        new.go_on_from(&old);
        let tables = [old, new];
        let given = both(move |shard| {
            let table = &tables[shard as usize];
            u64::from(take(table.allowances(0, CHANNEL), 1, 0, SECOND).is_ok())
        });
        assert_eq!(given, 1);
    });
}

#[test]
#[should_panic(expected = "2 were given")]
fn an_allowance_that_is_read_and_then_written_is_found_out() {
    explore("read, then written", || {
        let paid = AtomicU64::new(0);
        let given = both(move |_| {
            let owed = paid.load(Ordering::SeqCst);
            if owed > 0 {
                return 0;
            }
            paid.store(owed + SECOND, Ordering::SeqCst);
            1
        });
        assert_eq!(given, 1, "{given} were given");
    });
}

#[test]
#[should_panic(expected = "2 were given")]
fn a_table_that_begins_anew_is_found_out() {
    explore("full allowances with every table", || {
        let tables = [table(1), table(2)];
        let given = both(move |shard| {
            let table = &tables[shard as usize];
            u64::from(take(table.allowances(0, CHANNEL), 1, 0, SECOND).is_ok())
        });
        assert_eq!(given, 1, "{given} were given");
    });
}
