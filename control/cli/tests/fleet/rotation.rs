//! Keys are rotated while their endpoints send and receive as fast as they can, over every transport: nothing is refused and nothing lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use client::{FetchOptions, Message, Receiver, Sender, Source};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::reason::Reason;

use super::bare::{Bare, Heard, envelope};
use super::plan::{FIRST, Pair, Plan, PlanKey, SECOND, Shared, full, served};
use super::traffic::{Books, body, by_key, code, session};
use super::world::{Process, Way, World, until};
use super::{WITHDRAWN, count, runtime};

/// Frames of the SDK that wait for their answers, and envelopes.
const UNDER_WAY: usize = 256;
const ENVELOPES_UNDER_WAY: u64 = 64;
/// Messages that a receiver leaves unsettled meanwhile.
const UNSETTLED: u64 = 64;
/// What everybody who takes part has to have got through between two steps.
const STEP: u64 = 300;

/// What those of one transport use.
struct Party {
    way: Way,
    pump: Shared,
    desk: Shared,
    relay: Shared,
    first: Pair,
    second: Pair,
}

impl Party {
    fn name(&self, what: &str) -> String {
        full(&format!("{what}-{}", self.way.name()))
    }

    fn channel(&self) -> String {
        full(self.way.name())
    }
}

/// The plan, and everything that it names but the ways.
fn plan() -> (Plan, Vec<[Shared; 3]>, Vec<[Pair; 2]>) {
    let transports = ["tcp", "tls", "quic"];
    let mut plan = Plan::new(&transports);
    let (mut secrets, mut pairs) = (Vec::new(), Vec::new());
    for channel in transports {
        let shared = [(); 3].map(|()| Shared::new());
        let pair = [(); 2].map(|()| Pair::new());
        for (name, more, direction, material) in [
            ("pump", "", "ingress", &shared[0].line),
            ("desk", "", "egress", &shared[1].line),
            ("relay", "relay = true", "ingress", &shared[2].line),
            ("camera", "", "ingress", &pair[0].line),
        ] {
            let allow = if direction == "ingress" {
                "send"
            } else {
                "receive"
            };
            let key = PlanKey::first(direction, material, "");
            plan.endpoint(
                &format!("{name}-{channel}"),
                more,
                &[key],
                (allow, channel, ""),
            );
        }
        secrets.push(shared);
        pairs.push(pair);
    }
    (plan, secrets, pairs)
}

/// Where everybody is: 0 with the first key, 1 with the second, 2 at the end.
#[derive(Clone, Default)]
struct Stage {
    number: u8,
    /// The second secrets, once they are made.
    pump: String,
    desk: String,
}

type Turn = watch::Receiver<Stage>;

fn at(turn: &Turn) -> u8 {
    turn.borrow().number
}

/// How much somebody got through with each key.
#[derive(Default)]
struct Progress([AtomicU64; 2]);

impl Progress {
    fn note(&self, key: usize, more: u64) {
        self.0[key].fetch_add(more, Ordering::Relaxed);
    }

    fn of(&self, key: usize) -> u64 {
        self.0[key].load(Ordering::Relaxed)
    }
}

/// Send as fast as answers come until it is another's turn; not one may be a refusal. The session stays.
async fn pump(
    (party, secret, id): (&Party, &str, u32),
    (turn, mine): (&Turn, u8),
    numbers: &mut u64,
    progress: &Progress,
) -> Sender {
    let credentials = by_key(&party.name("pump"), id, secret);
    let opened = session(&party.way, credentials, Duration::ZERO).await;
    let sender = opened.and_then(client::Connection::sender);
    let sender = sender.expect("a good key");
    let mut tickets = std::collections::VecDeque::new();
    loop {
        if at(turn) == mine {
            let sent = sender
                .send(&party.channel(), Message::new(body(*numbers)))
                .await;
            tickets.push_back(sent.expect("it is taken"));
            *numbers += 1;
            if tickets.len() < UNDER_WAY {
                continue;
            }
        }
        let Some(oldest) = tickets.pop_front() else {
            return sender;
        };
        oldest.await.expect("not one is refused");
        progress.note(usize::from(mine), 1);
    }
}

/// One endpoint that sends, with the one key and then with the other, whose session of before stays open. How many were acked.
async fn pumps(party: Arc<Party>, turn: Turn, progress: Arc<Progress>) -> u64 {
    let mut numbers = 0;
    let secret = &party.pump.text;
    let old = pump((&party, secret, FIRST), (&turn, 0), &mut numbers, &progress).await;
    let secret = turn.borrow().pump.clone();
    let _new = pump(
        (&party, &secret, SECOND),
        (&turn, 1),
        &mut numbers,
        &progress,
    )
    .await;
    let told = old
        .send(&party.channel(), Message::new(body(u64::MAX)))
        .await;
    let told = match told {
        Ok(ticket) => ticket.await.map(drop),
        Err(error) => Err(error),
    };
    let told = told.map_err(|error| code(&error));
    assert!(
        told.is_err_and(|told| WITHDRAWN.contains(&told)),
        "{told:?}"
    );
    numbers
}

/// One endpoint whose envelopes are relayed, signed with the one key and then with the other. How many were acked.
async fn cameras(party: Arc<Party>, turn: Turn, progress: Arc<Progress>) -> u64 {
    let credentials = by_key(&party.name("relay"), FIRST, &party.relay.text);
    let mut relay = Bare::open(&party.way, &credentials).await.expect("it may");
    let (camera, channel) = (party.name("camera"), party.channel());
    let from = (&camera[..], &channel[..]);
    let (mut numbers, mut answered) = (0, 0);
    loop {
        let stage = at(&turn);
        let second = stage > 0;
        let key = match second {
            false => (FIRST, &party.first.key),
            true => (SECOND, &party.second.key),
        };
        if stage < 2 && numbers - answered < ENVELOPES_UNDER_WAY {
            let put = relay
                .relay(&envelope(from, key, numbers + 1, &body(numbers)))
                .await;
            numbers += 1;
            assert_eq!(put, numbers);
            continue;
        }
        if answered == numbers {
            break;
        }
        let before = answered;
        match relay.hear().await {
            Some(Heard::Ack(ack)) => answered = ack.sequence.0,
            other => panic!("not one is refused: {other:?}"),
        }
        progress.note(usize::from(second), answered - before);
    }
    // What the old one signs is refused, and the new one goes on.
    let old = envelope(from, (FIRST, &party.first.key), numbers + 1, &body(numbers));
    let put = relay.relay(&old).await;
    let refused = match relay.hear().await {
        Some(Heard::Reject(reject)) => (reject.sequence.0, reject.notice.reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused, (put, Reason::KeyRevoked));
    let new = envelope(
        from,
        (SECOND, &party.second.key),
        numbers + 1,
        &body(numbers),
    );
    let put = relay.relay(&new).await;
    let mut acked = 0;
    while acked < put {
        // The refusal has its place among the answers.
        acked = match relay.hear().await {
            Some(Heard::Ack(ack)) => ack.sequence.0,
            other => panic!("{other:?}"),
        };
    }
    numbers + 1
}

async fn receiver(party: &Party, id: u32, secret: &str, source: Source) -> Receiver {
    let credentials = by_key(&party.name("desk"), id, secret);
    let opened = session(&party.way, credentials, Duration::ZERO).await;
    let options = FetchOptions {
        source,
        ..FetchOptions::default()
    };
    let opened = opened.and_then(|connection| connection.receiver(options));
    opened.expect("a good key")
}

/// Read what is sent, with the one key and then with the other, until all of it was read.
async fn desks(
    party: Arc<Party>,
    turn: Turn,
    mut all: watch::Receiver<Option<u64>>,
    progress: Arc<Progress>,
) -> Books {
    let mut books = Books::default();
    let old = &party.desk.text;
    let mut first = receiver(&party, FIRST, old, Source::Queue).await;
    // A session of the old key that stays.
    let mut stays = receiver(&party, FIRST, old, Source::DeadLetters).await;
    let mut last = None;
    while at(&turn) == 0 {
        let delivery = first
            .next()
            .await
            .expect("open")
            .expect("not one is refused");
        books.note(&delivery);
        progress.note(0, 1);
        // What is not settled is not given to the next one either: it has been read.
        if books.count % UNSETTLED == 0 {
            let settled = first.accept_through(&delivery).await;
            settled.expect("they were delivered");
        }
        last = Some(delivery);
    }
    if let Some(last) = last {
        let settled = first.accept_through(&last).await;
        settled.expect("they were delivered");
    }
    first.close().await.expect("it ends well");
    let secret = turn.borrow().desk.clone();
    let mut second = receiver(&party, SECOND, &secret, Source::Queue).await;
    while all.borrow().is_none_or(|all| books.count < all) {
        let delivery = tokio::select! {
            delivery = second.next() => delivery.expect("open").expect("not one is refused"),
            changed = all.changed() => {
                changed.expect("somebody counts");
                continue;
            }
        };
        books.note(&delivery);
        progress.note(1, 1);
        if books.count % UNSETTLED == 0 {
            let settled = second.accept_through(&delivery).await;
            settled.expect("they were delivered");
        }
    }
    let told = stays
        .next()
        .await
        .expect("a fault")
        .map_err(|error| code(&error));
    assert!(
        told.as_ref().is_err_and(|told| WITHDRAWN.contains(told)),
        "{told:?}"
    );
    books
}

/// A new key beside the old one. Its secret.
fn rotated(world: &World, party: &Party, who: &str, direction: &str) -> String {
    let body = json!({ "direction": direction, "overlap": "1h", "name": "second" });
    let made = world.tell(
        "POST",
        &format!("{}/rotate?wait=60s", path(party, who)),
        &body.to_string(),
    );
    assert_eq!(made["key"]["id"], SECOND, "{made}");
    made["secret"].as_str().expect("shown once").to_owned()
}

fn path(party: &Party, who: &str) -> String {
    let name = party.way.name();
    format!("/v1/accounts/acme/environments/prod/endpoints/{who}-{name}")
}

/// A second pair beside the first one.
fn paired(world: &World, party: &Party) {
    let body = json!({ "direction": "ingress", "public": party.second.public, "name": "second" });
    let path = format!("{}/keys?wait=60s", path(party, "camera"));
    let made = world.tell("POST", &path, &body.to_string());
    assert_eq!(made["key"]["id"], SECOND, "{made}");
}

/// What was refused but for these reasons.
fn refused(node: &Process, but: &[Reason]) -> Vec<String> {
    let of =
        |line: &String, reason: &Reason| line.contains(&format!("reason=\"{}\"", reason.name()));
    let lines = node.metrics().into_iter();
    let rejects = lines.filter(|line| line.starts_with("forebay_rejects_total{"));
    rejects
        .filter(|line| !but.iter().any(|reason| of(line, reason)))
        .collect()
}

/// Those of one transport, at work.
struct AtWork {
    party: Arc<Party>,
    turn: watch::Sender<Stage>,
    all: watch::Sender<Option<u64>>,
    progress: [Arc<Progress>; 3],
    pump: JoinHandle<u64>,
    camera: JoinHandle<u64>,
    desk: JoinHandle<Books>,
}

impl AtWork {
    fn new(runtime: &Runtime, party: Party) -> Self {
        let party = Arc::new(party);
        let ((turn, turns), (all, total)) =
            (watch::channel(Stage::default()), watch::channel(None));
        let progress = [(); 3].map(|()| Arc::new(Progress::default()));
        let own = |at: usize| (Arc::clone(&party), turns.clone(), Arc::clone(&progress[at]));
        let (mine, turns, noted) = own(0);
        let pump = runtime.spawn(pumps(mine, turns, noted));
        let (mine, turns, noted) = own(1);
        let camera = runtime.spawn(cameras(mine, turns, noted));
        let (mine, turns, noted) = own(2);
        let desk = runtime.spawn(desks(mine, turns, total, noted));
        Self {
            party,
            turn,
            all,
            progress,
            pump,
            camera,
            desk,
        }
    }

    /// The least that anybody got through with this key.
    fn least(&self, key: usize) -> u64 {
        let tasks = [
            self.pump.is_finished(),
            self.camera.is_finished(),
            self.desk.is_finished(),
        ];
        assert_eq!(
            tasks,
            [false; 3],
            "{}: none has failed",
            self.party.way.name()
        );
        let all = self.progress.iter().map(|progress| progress.of(key));
        all.min().unwrap_or(0)
    }

    /// Let all of them come to their end, and look at what was read.
    fn finish(self, runtime: &Runtime) -> u64 {
        self.turn.send_modify(|stage| stage.number = 2);
        let party = &self.party;
        let pumped = runtime.block_on(self.pump).expect("not one is refused");
        let seen = runtime.block_on(self.camera).expect("not one is refused");
        self.all.send_replace(Some(pumped + seen));
        let books = runtime.block_on(self.desk).expect("not one is refused");
        let read = [
            books.of(&party.name("pump")).0,
            books.of(&party.name("camera")).0,
        ];
        assert_eq!(
            read,
            [pumped, seen],
            "{}: all of it, once",
            party.way.name()
        );
        assert_eq!(books.count, pumped + seen, "and nothing else");
        pumped + seen
    }
}

/// Wait until everybody got through so much more with this key.
fn goes_on(what: &str, all: &[AtWork], key: usize, more: u64) {
    let before: Vec<u64> = all.iter().map(|work| work.least(key)).collect();
    until(what, || {
        let mut both = all.iter().zip(&before);
        both.all(|(work, before)| work.least(key) >= before + more)
    });
}

#[test]
fn keys_are_rotated_under_load_over_every_transport_and_nothing_is_refused_or_lost() {
    let (plan, secrets, pairs) = plan();
    let (world, node, ways) = served(&plan, "");
    let runtime = runtime();
    let everybody = ways.into_iter().zip(secrets).zip(pairs);
    let all: Vec<AtWork> = everybody
        .map(|((way, [pump, desk, relay]), [first, second])| {
            let party = Party {
                way,
                pump,
                desk,
                relay,
                first,
                second,
            };
            AtWork::new(&runtime, party)
        })
        .collect();
    let step = count("FOREBAY_ROTATION_STEP", STEP as usize) as u64;
    goes_on("all are at work", &all, 0, step);
    let mut stages = Vec::new();
    for work in &all {
        paired(&world, &work.party);
        stages.push(Stage {
            number: 1,
            pump: rotated(&world, &work.party, "pump", "ingress"),
            desk: rotated(&world, &work.party, "desk", "egress"),
        });
    }
    goes_on("both keys are good, the old ones are used", &all, 0, step);
    for (work, stage) in all.iter().zip(stages) {
        work.turn.send_replace(stage);
    }
    goes_on("both keys are good, the new ones are used", &all, 1, step);
    // A receiver that comes to another shard than its queue's is told where that is.
    assert_eq!(refused(&node, &[Reason::AnotherShard]), [""; 0]);
    for work in &all {
        for who in ["pump", "desk", "camera"] {
            let path = format!("{}/keys/first/revoke?wait=60s", path(&work.party, who));
            let done = world.api("POST", &path);
            assert_eq!(done["progress"]["complete"], true, "{done}");
        }
    }
    goes_on(
        "the old ones are revoked, the new ones are used",
        &all,
        1,
        step,
    );
    let messages: u64 = all.into_iter().map(|work| work.finish(&runtime)).sum();
    println!("{messages} messages, each read once and in order");
    // What the sessions of the old keys heard, and who came back with them.
    let expected = [
        Reason::AnotherShard,
        Reason::CredentialWithdrawn,
        Reason::SessionUnknown,
        Reason::KeyRevoked,
    ];
    assert_eq!(refused(&node, &expected), [""; 0]);
}
