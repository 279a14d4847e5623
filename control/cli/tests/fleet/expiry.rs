//! What ends at a moment of the clock ends the open sessions that need it, over every transport, whether they send, receive or say nothing.
//!
//! The node's own record judges: each message says when the node took it, and a message that it took later than it may have come from a
//! sender, or have gone to a receiver, is a breach. Where nothing is recorded, the newest message that somebody else has read by then
//! tells the time: whoever is held up on a busy machine is so together with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::{Credentials, FetchOptions, Message};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::signature::SecretKey;

use super::bare::{Bare, Heard, envelope};
use super::cast::{Kind, Secrets, kinds};
use super::plan::{FIRST, SECOND, full, served};
use super::traffic::{Books, body, by_key, code, now, session};
use super::world::{Way, until};
use super::{count, runtime};

/// How long after the moment something may still be taken or given.
const LATEST: u64 = 5_000_000_000;
/// Between two messages of one sender: many that are seldom heard, not few that are loud.
const PACE: Duration = Duration::from_millis(20);
/// Deliveries that a receiver holds unsettled when it ends.
const HELD: usize = 5;
const SECOND_NANOS: u64 = 1_000_000_000;

/// What all who take part know.
#[derive(Clone)]
struct Stage {
    way: Way,
    /// When the node took the newest message that has been read from there.
    newest: Arc<AtomicU64>,
    stop: watch::Receiver<bool>,
}

impl Stage {
    fn name(&self, role: &str, kind: Kind) -> String {
        format!("{role}-{}-{}", kind.name(), self.way.name())
    }

    fn own(&self, what: &str) -> String {
        format!("{what}-{}", self.way.name())
    }

    fn channel(&self) -> String {
        full(self.way.name())
    }

    fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    async fn until_stop(&mut self) {
        // Whoever could say so may be gone, and with it the test.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}

/// How somebody's session came to its end.
#[derive(Debug)]
struct Ended {
    code: u16,
    /// The newest message of all by then.
    newest: u64,
}

async fn sender(stage: &Stage, credentials: Credentials) -> client::Sender {
    let opened = session(&stage.way, credentials, Duration::ZERO).await;
    let sender = opened.and_then(client::Connection::sender);
    sender.expect("it may")
}

/// Send one message after another until that ends. None if it never does.
async fn sends(stage: Stage, sender: client::Sender) -> Option<Ended> {
    let mut pace = tokio::time::interval(PACE);
    for number in 0.. {
        pace.tick().await;
        if stage.stopped() {
            return None;
        }
        let message = Message::new(body(number));
        let sent = match sender.send(&stage.channel(), message).await {
            Ok(ticket) => ticket.await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            return Some(Ended {
                code: code(&error),
                newest: stage.newest(),
            });
        }
    }
    None
}

/// What a receiver was given: all of it, in order; and what it left unsettled, by sender and offset.
struct Given {
    ended: Option<Ended>,
    books: Books,
    settled: Vec<client::Delivery>,
    held: Vec<client::Delivery>,
}

async fn receiver(stage: &Stage, credentials: Credentials, messages_max: u32) -> client::Receiver {
    let opened = session(&stage.way, credentials, Duration::ZERO).await;
    let options = FetchOptions {
        messages_max,
        ..FetchOptions::default()
    };
    let opened = opened.and_then(|connection| connection.receiver(options));
    opened.expect("it may")
}

/// Read until that ends, and leave the last messages unsettled.
async fn hears(mut stage: Stage, mut receiver: client::Receiver) -> Given {
    let (mut books, mut ended) = (Books::default(), None);
    let (mut held, mut settled) = (std::collections::VecDeque::new(), Vec::new());
    loop {
        let delivery = tokio::select! {
            delivery = receiver.next() => delivery.expect("it goes on, or says why not"),
            () = stage.until_stop() => break,
        };
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(error) => {
                ended = Some(Ended {
                    code: code(&error),
                    newest: stage.newest(),
                });
                break;
            }
        };
        books.note(&delivery);
        held.push_back(delivery);
        if held.len() > HELD {
            let oldest = held.pop_front().expect("there are some");
            // It may have ended by now, which the next delivery tells.
            let _ = receiver.accept_through(&oldest).await;
            settled.push(oldest);
        }
    }
    Given {
        ended,
        books,
        settled,
        held: held.into(),
    }
}

/// Say nothing until the node does.
async fn rests(mut stage: Stage, mut bare: Bare) -> Option<Ended> {
    let heard = tokio::select! {
        heard = bare.hear() => heard,
        () = stage.until_stop() => return None,
    };
    let newest = stage.newest();
    match heard {
        Some(Heard::Goaway(notice)) => Some(Ended {
            code: notice.reason.code(),
            newest,
        }),
        other => panic!("{other:?}"),
    }
}

/// Pass envelopes on until they are refused: their endpoint's key ends, and not the session.
async fn relays(
    stage: Stage,
    mut relay: Bare,
    camera: (String, wire::signature::SigningKey),
) -> Option<Ended> {
    let (channel, mut pace) = (stage.channel(), tokio::time::interval(PACE));
    for number in 0.. {
        pace.tick().await;
        if stage.stopped() {
            return None;
        }
        let from = (&full(&camera.0)[..], &channel[..]);
        let put = envelope(from, (FIRST, &camera.1), number + 1, &body(number));
        relay.relay(&put).await;
        match relay.hear().await {
            Some(Heard::Ack(_)) => {}
            Some(Heard::Reject(reject)) => {
                return Some(Ended {
                    code: reject.notice.reason.code(),
                    newest: stage.newest(),
                });
            }
            other => panic!("{other:?}"),
        }
    }
    None
}

/// Read everything, and tell the others how far that is.
async fn observes(
    mut stage: Stage,
    mut receiver: client::Receiver,
) -> (Books, Vec<client::Delivery>) {
    let (mut books, mut all) = (Books::default(), Vec::new());
    loop {
        let delivery = tokio::select! {
            delivery = receiver.next() => delivery,
            () = stage.until_stop() => return (books, all),
        };
        let delivery = delivery.expect("open").expect("it may for ever");
        books.note(&delivery);
        stage
            .newest
            .store(delivery.append_time.0, Ordering::Relaxed);
        // Only errors would be told.
        let _ = receiver.accept_through(&delivery).await;
        all.push(delivery);
    }
}

/// Take one delivery, and keep it beyond the end of the grant. Nothing comes after it, however much is sent.
async fn holds(mut stage: Stage, mut receiver: client::Receiver, mut over: watch::Receiver<bool>) {
    let first = receiver.next().await.expect("open").expect("it may");
    over.wait_for(|over| *over).await.expect("it is told");
    let settled = receiver.accept_through(&first).await;
    settled.expect("what was delivered can be settled");
    tokio::select! {
        given = receiver.next() => panic!("what ended is given no more: {given:?}"),
        () = stage.until_stop() => {}
    }
}

/// Everybody of one transport, at work.
struct AtWork {
    stage: Stage,
    /// Who sends or says nothing, by name, and why it shall end.
    ends: Vec<(String, Kind, JoinHandle<Option<Ended>>)>,
    hears: Vec<(Kind, JoinHandle<Given>)>,
    desk: JoinHandle<(Books, Vec<client::Delivery>)>,
    pulse: JoinHandle<Option<Ended>>,
    slow: JoinHandle<()>,
}

impl AtWork {
    /// Open all sessions but those of tokens.
    async fn new(stage: Stage, secrets: &Secrets, over: watch::Receiver<bool>) -> Self {
        let own = |what: &str| {
            let name = stage.own(what);
            by_key(&full(&name), FIRST, secrets.text(&name))
        };
        let desk = receiver(&stage, own("desk"), 4_096).await;
        let desk = tokio::spawn(observes(stage.clone(), desk));
        let pulse = sender(&stage, own("pulse")).await;
        let pulse = tokio::spawn(sends(stage.clone(), pulse));
        let slow = receiver(&stage, own("slow"), 1).await;
        let slow = tokio::spawn(holds(stage.clone(), slow, over));
        let relay = Bare::open(&stage.way, &own("relay")).await.expect("it may");
        let camera = stage.own("camera");
        let pair = secrets.pairs[&camera].key.clone();
        let relay = relays(stage.clone(), relay, (camera.clone(), pair));
        let mut work = Self {
            stage,
            ends: vec![(camera, Kind::Key, tokio::spawn(relay))],
            hears: Vec::new(),
            desk,
            pulse,
            slow,
        };
        for kind in kinds().into_iter().filter(|kind| *kind != Kind::Token) {
            let by = |name: &str| by_key(&full(name), FIRST, secrets.text(name));
            work.open(kind, by).await;
        }
        work
    }

    /// Open a session of each role.
    async fn open(&mut self, kind: Kind, by: impl Fn(&str) -> Credentials) {
        let stage = &self.stage;
        let name = stage.name("send", kind);
        let sending = sender(stage, by(&name)).await;
        self.ends
            .push((name, kind, tokio::spawn(sends(stage.clone(), sending))));
        let hearing = receiver(stage, by(&stage.name("hear", kind)), 4_096).await;
        self.hears
            .push((kind, tokio::spawn(hears(stage.clone(), hearing))));
        // A session does not need its grants.
        for role in ["rest", "wait"].into_iter().filter(|_| kind != Kind::Grant) {
            let name = stage.name(role, kind);
            let bare = Bare::open(&stage.way, &by(&name)).await.expect("it may");
            self.ends
                .push((name, kind, tokio::spawn(rests(stage.clone(), bare))));
        }
    }

    /// Look at how everybody ended, who had to at this moment.
    async fn judge(self, moment: u64, secrets: &Secrets) {
        let latest = moment + LATEST;
        let way = self.stage.way.name();
        let (books, all) = self.desk.await.expect("it reads on");
        assert!(
            self.pulse.await.expect("it sends on").is_none(),
            "{way}: it has no end"
        );
        self.slow.await.expect("it is given no more");
        assert!(self.stage.newest() > latest, "{way}: others go on");
        for (name, kind, task) in self.ends {
            let ended = task.await.expect("it does not panic");
            let ended = ended.unwrap_or_else(|| panic!("{name} goes on"));
            assert_eq!(ended.code, kind.reason().code(), "{name}");
            assert!(
                ended.newest <= latest,
                "{name} is told late: {ended:?}, {latest}"
            );
            let (count, last) = books.of(&full(&name));
            let sends = name.starts_with("send") || name.starts_with("camera");
            assert_eq!(sends, count > 0, "{name} sent {count}");
            assert!(
                last <= latest,
                "{name} sent at {last}, not later than {latest}"
            );
        }
        for (kind, task) in self.hears {
            let given = task.await.expect("it does not panic");
            let name = format!("hear-{}-{way}", kind.name());
            assert!(given.books.count > 0, "{name} was given something");
            let last = given.books.senders.values().map(|(_, last)| *last).max();
            assert!(
                last <= Some(latest),
                "{name} was given {last:?}, not later than {latest}"
            );
            let told = given
                .ended
                .as_ref()
                .map(|ended| (ended.code, ended.newest <= latest));
            // Who may hear nothing any more may stay.
            let want = (kind != Kind::Grant).then_some((kind.reason().code(), true));
            assert_eq!(told, want, "{name}");
            if kind == Kind::Key {
                succeed(&self.stage, secrets, &given, &books).await;
            }
        }
        drop(all);
    }
}

/// With another key of the same endpoint everything comes that was not settled, in order, and nothing is left out.
async fn succeed(stage: &Stage, secrets: &Secrets, given: &Given, all: &Books) {
    let name = stage.name("hear", Kind::Key);
    let credentials = by_key(&full(&name), SECOND, secrets.text(&stage.own("next")));
    let mut receiver = receiver(stage, credentials, 4_096).await;
    let mut next = BTreeMap::new();
    for delivery in &given.settled {
        *next.entry(delivery.sender).or_insert(0) += 1;
    }
    let mut seen = BTreeMap::new();
    let short = |seen: &BTreeMap<_, u64>| {
        let mut all = all.senders.iter();
        // Of one who ended a moment before the receiver everything may have been settled.
        let had = |sender| seen.get(sender).or(next.get(sender)).copied();
        all.any(|(sender, (count, _))| had(sender).unwrap_or(0) < *count)
    };
    while short(&seen) {
        let delivery = receiver.next().await.expect("open").expect("a good key");
        let number = delivery.body[..8].try_into().map(u64::from_le_bytes);
        let number = number.expect("8 bytes");
        let first = next.get(&delivery.sender).copied().unwrap_or(0);
        let next = seen.entry(delivery.sender).or_insert(first.min(number));
        assert_eq!(
            number, *next,
            "{name}: {} goes on where it was settled",
            delivery.sender
        );
        *next += 1;
        let settled = receiver.accept_through(&delivery).await;
        settled.expect("it was delivered");
    }
    assert!(!given.held.is_empty(), "{name} held some");
}

/// Nobody gets in any more whose credential, endpoint or hours are over.
async fn nobody_comes(stage: &Stage, by: impl Fn(Kind, &str) -> Credentials) {
    for kind in kinds().into_iter().filter(|kind| *kind != Kind::Grant) {
        for role in ["rest", "wait"] {
            let name = stage.name(role, kind);
            let opened = Bare::open(&stage.way, &by(kind, &name)).await;
            let told = opened.err().map(|error| code(&error));
            assert_eq!(told, Some(kind.reason().code()), "{name}");
        }
    }
}

/// What the key of an endpoint opens until this second.
fn by_token(name: &str, secret: &str, end: u64) -> Credentials {
    let key = SecretKey::from_base64(secret).expect("a key");
    let token = wire::token::mint(key.mac(), &full(name), end, "first");
    Credentials::token(&full(name), &token).expect("a token")
}

/// A moment that is far enough for what has to be done before it: `takes` a few times.
fn moment(takes: Duration) -> u64 {
    let end = now() / SECOND_NANOS + 3 + 4 * takes.as_secs() + 1;
    match count("FOREBAY_EXPIRY_HOURS", 0) {
        0 => end,
        _ => end.next_multiple_of(60),
    }
}

#[test]
fn what_ends_by_the_clock_ends_open_sessions_within_its_bound_over_every_transport() {
    let secrets = Secrets::new();
    // Nobody is to be sent away for silence.
    let (world, _node, ways) = served(&secrets.plan(None), "timeouts.idle = \"10m\"");
    let runtime = runtime();
    let ((stop, stopping), (over, overs)) = (watch::channel(false), watch::channel(false));
    let mut all: Vec<AtWork> = ways
        .into_iter()
        .map(|way| {
            let stage = Stage {
                way,
                newest: Arc::default(),
                stop: stopping.clone(),
            };
            runtime.block_on(AtWork::new(stage, &secrets, overs.clone()))
        })
        .collect();
    let file = world.path("plan.toml");
    let file = file.to_str().expect("UTF-8");
    let began = Instant::now();
    world.good(&["apply", "-f", file, "--dry-run"]);
    let end = moment(began.elapsed());
    for work in &mut all {
        let by = |name: &str| by_token(name, secrets.text(name), end);
        runtime.block_on(work.open(Kind::Token, by));
    }
    std::fs::write(world.path("plan.toml"), secrets.plan(Some(end)).text()).expect("written");
    world.good(&["apply", "-f", file, "--wait"]);
    // On a machine that is busy beyond all measure the moment has passed before anybody was told of it.
    let moment = now().max(end * SECOND_NANOS);
    let stages: Vec<Stage> = all.iter().map(|work| work.stage.clone()).collect();
    let all_have = |at: u64| stages.iter().all(|stage| stage.newest() > at);
    until("others go on for longer than anybody may", || {
        all_have(moment + LATEST)
    });
    over.send_replace(true);
    let later = moment + LATEST + SECOND_NANOS;
    until("they go on when the last one has settled", || {
        all_have(later)
    });
    stop.send_replace(true);
    for work in all {
        runtime.block_on(work.judge(moment, &secrets));
    }
    for stage in &stages {
        let by = |kind: Kind, name: &str| match kind {
            Kind::Token => by_token(name, secrets.text(name), end),
            _ => by_key(&full(name), FIRST, secrets.text(name)),
        };
        runtime.block_on(nobody_comes(stage, by));
    }
}
