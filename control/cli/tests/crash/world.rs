//! Who sends and who receives in the crash test: three senders and a receiver by the SDK, one receiver by hand.

use crate::books::{Seen, body};
use client::{
    ClientError, Connection, Credentials, FetchOptions, Message, Options, Security, Sender,
    Transport,
};
use control::keys::new_secret;
use control::render::{EGRESS_KEY_ID, INGRESS_KEY_ID, NewEndpoint, NewPlan, render};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::timeout;

pub(crate) const ENVIRONMENT: &str = "acme/test";
/// Senders and the channel of each.
pub(crate) const SENDERS: [&str; 3] = ["one", "one", "two"];
/// Receivers and the senders each hears. The first one uses the SDK, the second one settles by hand.
pub(crate) const RECEIVERS: [(&str, &[&str], &[usize]); 2] = [
    ("hears-one", &["one"], &[0, 1]),
    ("hears-both", &["one", "two"], &[0, 1, 2]),
];
/// Bytes of a segment, few, so that logs change segments under fire.
const SEGMENT_BYTES: u32 = 4 << 20;
/// Frames that a sender has unanswered at most.
const IN_FLIGHT: usize = 64;
/// For every wait; none is meant to come near it. Over QUIC a dead port is known only when the time of a handshake, 10 s, is over.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How many messages of each sender were acknowledged in all, once that is known.
pub(crate) type Upto = Mutex<Option<Vec<u64>>>;

/// How the SDK reaches the node.
#[derive(Clone)]
pub(crate) struct Reach {
    address: String,
    options: Options,
}

impl Reach {
    pub(crate) fn plain(address: String) -> Self {
        let options = Options::default();
        Self { address, options }
    }

    /// Through tunnels of this kind, to a node whose certificate is of this authority.
    pub(crate) fn through(kind: fn(Security) -> Transport, ca: &Path, address: String) -> Self {
        let ca = std::fs::read(ca).expect("it was made with the folder");
        let options = Options {
            transport: kind(Security::authority(ca)),
            ..Options::default()
        };
        Self { address, options }
    }

    pub(crate) async fn connect(&self, who: &Credentials) -> Result<Connection, ClientError> {
        let (address, options) = (self.address.clone(), self.options.clone());
        client::connect_with(address, who.clone(), options).await
    }
}

/// The plan and everybody's credentials.
pub(crate) struct World {
    pub(crate) senders: Vec<Credentials>,
    pub(crate) receivers: Vec<Credentials>,
    pub(crate) plan: String,
}

/// Shared by the senders and whoever kills the node.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) stop: AtomicBool,
    /// Frames acknowledged so far.
    pub(crate) acked: AtomicU64,
}

fn credentials(name: &str, id: u32, secret: &str) -> Credentials {
    Credentials::key(&format!("{ENVIRONMENT}/{name}"), id, secret)
        .expect("a fresh key is well formed")
}

/// Partitions of the hub and queue groups: enough for every one of three shards to have some of both.
const PARTITIONS: u16 = 5;
const QUEUE_GROUPS: u16 = 3;

/// A plan of several partitions with small segments.
pub(crate) fn world(ack: &str) -> World {
    let full = |name: &&str| format!("{ENVIRONMENT}/{name}");
    let mut plan = NewPlan {
        environment: ENVIRONMENT.to_owned(),
        partitions: PARTITIONS,
        ack: ack.to_owned(),
        channels: vec!["one".to_owned(), "two".to_owned()],
        endpoints: Vec::new(),
    };
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for (at, channel) in SENDERS.iter().enumerate() {
        let (name, secret) = (format!("sender-{at}"), new_secret().text().to_owned());
        senders.push(credentials(&name, INGRESS_KEY_ID, &secret));
        plan.endpoints.push(NewEndpoint {
            name,
            ingress: Some(secret),
            send: vec![full(channel)],
            ..NewEndpoint::default()
        });
    }
    for (name, hears, _) in RECEIVERS {
        let secret = new_secret().text().to_owned();
        receivers.push(credentials(name, EGRESS_KEY_ID, &secret));
        plan.endpoints.push(NewEndpoint {
            name: name.to_owned(),
            egress: Some(secret),
            receive: hears.iter().map(full).collect(),
            ..NewEndpoint::default()
        });
    }
    let hub = format!("partitions = {PARTITIONS}\n");
    let plan = render(&plan);
    assert!(plan.contains(&hub), "{plan}");
    let small = format!("{hub}segment_bytes = {SEGMENT_BYTES}\n");
    World {
        senders,
        receivers,
        plan: format!(
            "queue_groups = {QUEUE_GROUPS}\n{}",
            plan.replacen(&hub, &small, 1)
        ),
    }
}

/// Send without pause until told to stop; every ticket must be answered. Returns how many messages were acknowledged.
pub(crate) async fn load(sender: Sender, at: usize, progress: Arc<Progress>) -> u64 {
    let channel = format!("{ENVIRONMENT}/{}", SENDERS[at]);
    let mut tickets = VecDeque::new();
    let mut number = 0;
    loop {
        let stopped = progress.stop.load(Ordering::Relaxed);
        if tickets.len() == IN_FLIGHT || stopped {
            let Some(ticket) = tickets.pop_front() else {
                return number;
            };
            let answer = timeout::<client::Ticket>(PATIENCE, ticket).await;
            answer
                .expect("there is an answer in the end")
                .expect("acknowledged in the end, whatever happens in between");
            progress.acked.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let count = 1 + number % 7;
        let batch: Vec<Message> = (number..number + count)
            .map(|n| Message::new(body(at, n)))
            .collect();
        let ticket = sender.send_batch(&channel, &batch).await;
        tickets.push_back(ticket.expect("the session outlives every crash"));
        number += count;
    }
}

/// Receive and settle by the SDK until `upto` of every sender has come, once it is known.
pub(crate) async fn receive(
    reach: Reach,
    credentials: Credentials,
    hears: &'static [usize],
    upto: Arc<Upto>,
) -> Seen {
    // The node may be killed in the middle of this very handshake; its successor takes the next one.
    let began = Instant::now();
    let connection = loop {
        match reach.connect(&credentials).await {
            Ok(connection) => break connection,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error}"),
        }
        tokio::task::yield_now().await;
    };
    let mut receiver = connection
        .receiver(FetchOptions::default())
        .expect("an egress key opens the queue");
    let (mut seen, mut heard) = (Seen::default(), Instant::now());
    loop {
        let done = |acked: &Vec<u64>| {
            let came = |&sender: &usize| seen.last(sender) == acked[sender].checked_sub(1);
            hears.iter().all(came)
        };
        let acked = upto.lock().expect("no holder panics").clone();
        // When nothing comes any more, what is missing is for the books to tell.
        if acked.as_ref().is_some_and(done) || heard.elapsed() > PATIENCE {
            break;
        }
        let next = timeout(Duration::from_millis(50), receiver.next()).await;
        if let Ok(delivery) = next {
            heard = Instant::now();
            let delivery = delivery
                .expect("it is not closed")
                .expect("the session outlives every crash");
            seen.note(&delivery.body, hears);
            receiver
                .accept_through(&delivery)
                .await
                .expect("the session outlives every crash");
        }
    }
    receiver
        .close()
        .await
        .expect("the settlements leave before the farewell");
    seen
}

/// Everything was settled: what a new receiver gets first is what is sent now.
pub(crate) async fn settled_stays_settled(reach: &Reach, world: &World) {
    for (at, credentials) in world.senders.iter().enumerate() {
        let connection = reach.connect(credentials).await.expect("the node is ready");
        let sender = connection.sender().expect("an ingress key sends");
        let channel = format!("{ENVIRONMENT}/{}", SENDERS[at]);
        let ticket = sender
            .send(&channel, Message::new("marker"))
            .await
            .expect("the node is ready");
        ticket.await.expect("it is acknowledged");
        sender.close().await.expect("nothing is unanswered");
    }
    for ((name, _, hears), credentials) in RECEIVERS.iter().zip(&world.receivers) {
        let connection = reach.connect(credentials).await.expect("the node is ready");
        let mut receiver = connection
            .receiver(FetchOptions::default())
            .expect("an egress key opens the queue");
        for _ in *hears {
            let delivery = receiver
                .next()
                .await
                .expect("it is not closed")
                .expect("it is delivered");
            assert_eq!(
                delivery.body, b"marker",
                "{name}: a settled message came again"
            );
        }
        receiver.close().await.expect("the node is ready");
    }
}
