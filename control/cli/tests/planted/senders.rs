//! Senders that see every answer, one message a frame, and who reads everything back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use client::{Credentials, FetchOptions};
use control::keys::new_secret;
use control::render::{EGRESS_KEY_ID, INGRESS_KEY_ID, NewEndpoint, NewPlan, render};
use wire::ack::Reject;
use wire::frame::FrameKind;
use wire::ids::{EndpointId, Sequence, UnixNanos};
use wire::reason::Reason;
use wire::send::SendBuilder;

use crate::node::PATIENCE;
use crate::peer::Peer;

/// As many as to have some on each of three shards.
pub(crate) const SENDERS: usize = 12;
const ENVIRONMENT: &str = "acme/test";
/// Frames that a sender has unanswered at most.
const WINDOW: u64 = 32;

/// The plan and everybody's credentials.
pub(crate) struct World {
    pub(crate) senders: Vec<Credentials>,
    receiver: Credentials,
    pub(crate) plan: String,
}

fn credentials(name: &str, id: u32, secret: &str) -> Credentials {
    Credentials::key(&format!("{ENVIRONMENT}/{name}"), id, secret)
        .expect("a fresh key is well formed")
}

/// Six partitions and three queue groups, so that every shard has some of both.
pub(crate) fn world(ack: &str) -> World {
    let channel = || vec![format!("{ENVIRONMENT}/one")];
    let mut plan = NewPlan {
        environment: ENVIRONMENT.to_owned(),
        partitions: 6,
        ack: ack.to_owned(),
        channels: vec!["one".to_owned()],
        endpoints: Vec::new(),
    };
    let mut senders = Vec::new();
    for at in 0..SENDERS {
        let (name, secret) = (format!("sender-{at}"), new_secret().text().to_owned());
        senders.push(credentials(&name, INGRESS_KEY_ID, &secret));
        plan.endpoints.push(NewEndpoint {
            name,
            ingress: Some(secret),
            send: channel(),
            ..NewEndpoint::default()
        });
    }
    let secret = new_secret().text().to_owned();
    let receiver = credentials("office", EGRESS_KEY_ID, &secret);
    plan.endpoints.push(NewEndpoint {
        name: "office".to_owned(),
        egress: Some(secret),
        receive: channel(),
        ..NewEndpoint::default()
    });
    let hub = "partitions = 6\n";
    let text = render(&plan);
    assert!(text.contains(hub), "{text}");
    let small = format!("{hub}segment_bytes = \"8MiB\"\n");
    let plan = format!("queue_groups = 3\n{}", text.replacen(hub, &small, 1));
    World {
        senders,
        receiver,
        plan,
    }
}

/// What became of one sender's frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    /// Whether the node said goodbye before it ended the connection.
    pub(crate) goaway: bool,
}

enum Answer {
    Acked(u64),
    Draining,
    Busy,
    Goaway,
}

/// Send without pause until the connection ends, or until nothing comes any more after `stop`.
pub(crate) fn load(
    address: &str,
    credentials: &Credentials,
    at: usize,
    acked: &AtomicU64,
    stop: &AtomicBool,
) -> Sent {
    let mut peer = Peer::open(address, credentials, &mut fastrand::Rng::new()).expect("it serves");
    let (mut told, mut may_send) = (Sent::default(), true);
    loop {
        while may_send && told.sent < told.acked + WINDOW && !told.goaway {
            told.sent += 1;
            // What ended the connection is told by reading.
            may_send = say(&mut peer, credentials, at, told.sent).is_ok();
        }
        let answer = peer.next(Duration::from_millis(100), |frame| match frame.kind() {
            FrameKind::Ack => Answer::Acked(frame.sequence().0),
            FrameKind::Goaway => Answer::Goaway,
            FrameKind::Reject => match Reject::parse(frame).expect("well formed").notice.reason {
                Reason::Draining => Answer::Draining,
                Reason::Busy => Answer::Busy,
                other => panic!("sender {at}: {other:?}"),
            },
            other => panic!("sender {at}: {other:?}"),
        });
        match answer {
            Ok(Some(Answer::Acked(number))) => told.acked = number,
            Ok(Some(Answer::Draining | Answer::Busy)) => may_send = false,
            Ok(Some(Answer::Goaway)) => told.goaway = true,
            Ok(None) if !stop.load(Ordering::Relaxed) => {}
            Ok(None) | Err(_) => return told,
        }
        acked.store(told.acked, Ordering::Relaxed);
    }
}

fn say(peer: &mut Peer, credentials: &Credentials, at: usize, number: u64) -> std::io::Result<()> {
    let (endpoint, channel) = (EndpointId::of(credentials.endpoint()), peer.channels[0].id);
    let body = format!("{at}/{number}");
    peer.say(|out, signer| {
        let mut send = SendBuilder::begin(out, endpoint, channel, Sequence(number));
        let fits = send.message(UnixNanos(0), &[], body.as_bytes());
        fits.expect("a short body fits");
        send.finish(signer).expect("one message fits a frame");
    })
}

/// What is in the logs of each sender, by what the node says and by what comes out: the same, once each and in order.
pub(crate) fn read_back(address: &str, world: &World) -> Vec<u64> {
    let mut random = fastrand::Rng::new();
    let logged: Vec<u64> = (world.senders.iter())
        .map(|credentials| {
            let peer = Peer::open(address, credentials, &mut random).expect("it serves");
            peer.channels[0].last_sequence.0
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let came = runtime.block_on(receive(address, world, logged.iter().sum()));
    for (at, logged) in logged.iter().enumerate() {
        let came = came.get(&at).copied().unwrap_or_default();
        assert_eq!(came, *logged, "messages of sender {at}");
    }
    logged
}

async fn receive(address: &str, world: &World, all: u64) -> BTreeMap<usize, u64> {
    let connection = client::connect(address, world.receiver.clone());
    let connection = connection.await.expect("the node is ready");
    let receiver = connection.receiver(FetchOptions::default());
    let mut receiver = receiver.expect("an egress key opens the queue");
    let mut came: BTreeMap<usize, u64> = BTreeMap::new();
    for _ in 0..all {
        let delivery = tokio::time::timeout(PATIENCE, receiver.next()).await;
        let delivery = delivery.expect("everything comes");
        let delivery = delivery.expect("it is not closed").expect("no fault");
        let text = std::str::from_utf8(&delivery.body).expect("text");
        let (at, number) = text.split_once('/').expect("sender and number");
        let last = came.entry(at.parse().expect("a number")).or_default();
        let number: u64 = number.parse().expect("a number");
        assert_eq!(number, *last + 1, "in order, sender {at}");
        *last = number;
        let accepted = receiver.accept_through(&delivery).await;
        accepted.expect("the node is ready");
    }
    let next = tokio::time::timeout(Duration::from_millis(100), receiver.next()).await;
    assert!(next.is_err(), "nothing comes twice: {next:?}");
    came
}
