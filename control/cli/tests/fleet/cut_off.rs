//! Nodes that do not hear from their control plane for longer than they may, since it was killed or since it says nothing: one that was told
//! to serve on, one that was told to take nothing, with sessions over every transport in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use client::{ClientError, FetchOptions, Message};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::bare::{Bare, Heard};
use super::plan::{FIRST, Plan, PlanKey, Shared, full};
use super::traffic::{Books, body, by_key, code, session};
use super::world::{Process, Way, World, until};
use super::{PATIENT, STALE, runtime};

/// Frames of a sender that wait for their answers.
const UNDER_WAY: usize = 16;
/// What everybody has to have got through between two steps.
const STEP: u64 = 100;

/// A sender and a receiver over one way to one node.
struct Pair {
    way: Way,
    acked: Arc<AtomicU64>,
    read: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    all: watch::Sender<Option<u64>>,
    pump: JoinHandle<u64>,
    desk: JoinHandle<Books>,
}

/// Keep frames under way until told to stop. However often the connection is lost, each of them is acked. How many.
async fn pumps(
    sender: client::Sender,
    channel: String,
    acked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> u64 {
    let mut tickets = std::collections::VecDeque::new();
    let mut numbers = 0;
    loop {
        if !stop.load(Ordering::Relaxed) && tickets.len() < UNDER_WAY {
            let sent = sender.send(&channel, Message::new(body(numbers))).await;
            tickets.push_back(sent.expect("it is taken in the end"));
            numbers += 1;
            continue;
        }
        let Some(oldest) = tickets.pop_front() else {
            return numbers;
        };
        oldest.await.expect("it is taken in the end");
        acked.fetch_add(1, Ordering::Relaxed);
    }
}

/// Read everything.
async fn desks(
    mut receiver: client::Receiver,
    read: Arc<AtomicU64>,
    mut all: watch::Receiver<Option<u64>>,
) -> Books {
    let mut books = Books::default();
    while all.borrow().is_none_or(|all| books.count < all) {
        let delivery = tokio::select! {
            delivery = receiver.next() => delivery.expect("open").expect("it comes back"),
            changed = all.changed() => {
                changed.expect("somebody counts");
                continue;
            }
        };
        books.note(&delivery);
        read.store(books.count, Ordering::Relaxed);
        // A connection that is lost takes its settlements along, and nothing else.
        let settled = receiver.accept_through(&delivery).await;
        settled.expect("it comes back");
    }
    books
}

impl Pair {
    async fn open(way: Way, secret: &Shared) -> Self {
        let name = way.name();
        let open = async |what: &str| {
            let credentials = by_key(&full(&format!("{what}-{name}")), FIRST, &secret.text);
            session(&way, credentials, PATIENT).await
        };
        let pump = open("pump").await.and_then(client::Connection::sender);
        let desk = open("desk").await;
        let desk = desk.and_then(|desk| desk.receiver(FetchOptions::default()));
        let (acked, read, stop) = (Arc::default(), Arc::default(), Arc::default());
        let (all, total) = watch::channel(None);
        let pump = pumps(
            pump.expect("it may"),
            full(name),
            Arc::clone(&acked),
            Arc::clone(&stop),
        );
        let desk = desks(desk.expect("it may"), Arc::clone(&read), total);
        Self {
            way,
            acked,
            read,
            stop,
            all,
            pump: tokio::spawn(pump),
            desk: tokio::spawn(desk),
        }
    }

    fn progress(&self) -> [u64; 2] {
        let tasks = [self.pump.is_finished(), self.desk.is_finished()];
        assert_eq!(tasks, [false; 2], "{}: none has failed", self.way.name());
        [&self.acked, &self.read].map(|count| count.load(Ordering::Relaxed))
    }

    /// Come to an end: all that was acked has been read, once and in order.
    fn finish(self, runtime: &Runtime) {
        self.stop.store(true, Ordering::Relaxed);
        let acked = runtime
            .block_on(self.pump)
            .expect("all is taken in the end");
        self.all.send_replace(Some(acked));
        let books = runtime.block_on(self.desk).expect("all comes in the end");
        let pump = full(&format!("pump-{}", self.way.name()));
        assert_eq!((books.of(&pump).0, books.count), (acked, acked), "{pump}");
    }
}

/// A node, and those who are there over every transport.
struct Served {
    node: Process,
    pairs: Vec<Pair>,
    /// Sessions in both directions that say nothing.
    silent: Vec<Bare>,
}

impl Served {
    fn open(
        world: &World,
        name: &str,
        when_stale: &str,
        (runtime, secret): (&Runtime, &Shared),
    ) -> Self {
        let more = format!("stale_after = \"2s\"\nwhen_stale = \"{when_stale}\"");
        let node = world.start_node_for_all(name, &more);
        let ways = world.ways(&node).into_iter();
        let pairs = ways.map(|way| runtime.block_on(Pair::open(way, secret)));
        let mut served = Self {
            node,
            pairs: pairs.collect(),
            silent: Vec::new(),
        };
        let come = served.come((runtime, secret)).into_iter();
        served.silent = come.map(|opened| opened.expect("it may")).collect();
        served
    }

    /// Wait until everybody got through so much more.
    fn goes_on(&self, what: &str) {
        let before: Vec<[u64; 2]> = self.pairs.iter().map(Pair::progress).collect();
        until(what, || {
            let mut both = self.pairs.iter().zip(&before);
            both.all(|(pair, [acked, read])| {
                let [acked_now, read_now] = pair.progress();
                acked_now >= acked + STEP && read_now >= read + STEP
            })
        });
    }

    /// Come to send and to receive, over each transport.
    fn come(&self, (runtime, secret): (&Runtime, &Shared)) -> Vec<Result<Bare, ClientError>> {
        let roles = ["rest", "wait"];
        let each = self
            .pairs
            .iter()
            .flat_map(|pair| roles.map(|role| (&pair.way, role)));
        let opened = each.map(|(way, role)| {
            let name = full(&format!("{role}-{}", way.name()));
            let credentials = by_key(&name, FIRST, &secret.text);
            runtime.block_on(Bare::open(way, &credentials))
        });
        opened.collect()
    }

    /// What those are told who come now.
    fn newcomers(&self, by: (&Runtime, &Shared)) -> Vec<Option<u16>> {
        let come = self.come(by).into_iter();
        come.map(|opened| opened.err().map(|error| code(&error)))
            .collect()
    }

    /// Whoever is there and says nothing is sent away.
    fn silent_hear(&mut self, runtime: &Runtime) {
        for bare in &mut self.silent {
            let heard = async { tokio::time::timeout(PATIENT, bare.hear()).await };
            let reason = match runtime.block_on(heard) {
                Ok(Some(Heard::Goaway(notice))) => notice.reason,
                other => panic!("they are sent away: {other:?}"),
            };
            assert_eq!(reason.code(), STALE);
        }
    }

    /// Messages appended and delivered.
    fn taken_and_given(&self) -> Vec<String> {
        let names = [
            "forebay_append_messages_total ",
            "forebay_delivered_messages_total ",
        ];
        let counts = |line: &String| names.iter().any(|name| line.starts_with(name));
        let lines: Vec<String> = self.node.metrics().into_iter().filter(counts).collect();
        assert_eq!(lines.len(), names.len(), "{lines:?}");
        lines
    }

    /// Whether it is ready, and says so in these words.
    fn says(&self, status: u16, words: &str) -> bool {
        let (seen, text) = self.node.page("/ready");
        seen == status && text.starts_with(words)
    }
}

fn plan(secret: &Shared) -> Plan {
    let transports = ["tcp", "tls", "quic"];
    let mut plan = Plan::new(&transports);
    for way in transports {
        for (what, direction, allow) in [
            ("pump", "ingress", "send"),
            ("desk", "egress", "receive"),
            ("rest", "ingress", "send"),
            ("wait", "egress", "receive"),
        ] {
            let key = PlanKey::first(direction, &secret.line, "");
            plan.endpoint(&format!("{what}-{way}"), "", &[key], (allow, way, ""));
        }
    }
    plan
}

/// Cut two nodes off and let them hear again.
fn cut_off(cut: impl Fn(&mut World), back: impl Fn(&mut World)) {
    let (runtime, secret) = (runtime(), Shared::new());
    let by = (&runtime, &secret);
    let mut world = World::of(plan(&secret).text(), &["north", "south"]);
    let keeps = Served::open(&world, "north", "keep", by);
    let mut refuses = Served::open(&world, "south", "refuse", by);
    world.until_all_are_current();
    keeps.goes_on("both are at work");
    refuses.goes_on("both are at work");
    cut(&mut world);
    until("the one says that it is stale", || {
        keeps.says(200, "ready, stale; ")
    });
    until("the other takes nothing", || {
        refuses.says(503, "stale: takes nothing; ")
    });
    refuses.silent_hear(&runtime);
    // Whoever sent or was given something before that has been sent away by the next turn of each shard.
    let silent = [refuses.taken_and_given(), refuses.taken_and_given()];
    keeps.goes_on("the one serves those who are there");
    assert_eq!(keeps.newcomers(by), [None; 6], "and those who come");
    assert_eq!(
        refuses.newcomers(by),
        [Some(STALE); 6],
        "nobody comes to the other"
    );
    assert_eq!(
        refuses.taken_and_given(),
        silent[1],
        "and nobody who was there does anything"
    );
    back(&mut world);
    for served in [&keeps, &refuses] {
        until("it is fresh again", || {
            served.says(200, "ready; control connected")
        });
        served.goes_on("all go on where they were");
        assert_eq!(served.newcomers(by), [None; 6], "everybody may come");
    }
    world.until_all_are_current();
    for pair in keeps.pairs.into_iter().chain(refuses.pairs) {
        pair.finish(&runtime);
    }
}

#[test]
fn nodes_whose_control_plane_was_killed_serve_on_or_take_nothing_as_they_were_told() {
    cut_off(World::kill_control, World::start_control);
}

#[test]
fn nodes_whose_control_plane_says_nothing_serve_on_or_take_nothing_as_they_were_told() {
    cut_off(
        |world| world.freeze_control(true),
        |world| world.freeze_control(false),
    );
}
