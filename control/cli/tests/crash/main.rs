//! Acknowledged messages survive `kill -9`: the real process is killed at random moments under load, also while it
//! recovers, and every byte that was acknowledged is read back through the receiving endpoints.
//!
//! `FOREBAY_CRASH_CYCLES` sets the kills per acknowledgement mode, `FOREBAY_CRASH_SEED` replays their moments.

mod books;
mod supervisor;

use books::{Seen, body};
use client::{Credentials, FetchOptions, Message, Options, Sender};
use control::keys::new_secret;
use control::render::{EGRESS_KEY_ID, INGRESS_KEY_ID, NewEndpoint, NewPlan, render};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use supervisor::Supervisor;

const ENVIRONMENT: &str = "acme/test";
/// Senders and the channel of each.
const SENDERS: [&str; 3] = ["one", "one", "two"];
/// Receivers and the senders each hears.
const RECEIVERS: [(&str, &[&str], &[usize]); 2] = [
    ("hears-one", &["one"], &[0, 1]),
    ("hears-both", &["one", "two"], &[0, 1, 2]),
];

struct World {
    senders: Vec<Credentials>,
    receivers: Vec<Credentials>,
    plan: String,
}

fn world(ack: &str) -> World {
    let channels = |names: &[&str]| {
        names
            .iter()
            .map(|name| format!("{ENVIRONMENT}/{name}"))
            .collect()
    };
    let mut plan = NewPlan {
        environment: ENVIRONMENT.to_owned(),
        partitions: 2,
        ack: ack.to_owned(),
        channels: vec!["one".to_owned(), "two".to_owned()],
        endpoints: Vec::new(),
    };
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for (at, channel) in SENDERS.iter().enumerate() {
        let (name, secret) = (format!("sender-{at}"), new_secret().text().to_owned());
        let credentials =
            Credentials::key(&format!("{ENVIRONMENT}/{name}"), INGRESS_KEY_ID, &secret);
        senders.push(credentials.expect("a fresh key is well formed"));
        plan.endpoints.push(NewEndpoint {
            name,
            ingress: Some(secret),
            send: channels(&[channel]),
            ..NewEndpoint::default()
        });
    }
    for (name, hears, _) in RECEIVERS {
        let secret = new_secret().text().to_owned();
        let credentials =
            Credentials::key(&format!("{ENVIRONMENT}/{name}"), EGRESS_KEY_ID, &secret);
        receivers.push(credentials.expect("a fresh key is well formed"));
        plan.endpoints.push(NewEndpoint {
            name: name.to_owned(),
            egress: Some(secret),
            receive: channels(hears),
            ..NewEndpoint::default()
        });
    }
    World {
        senders,
        receivers,
        plan: render(&plan),
    }
}

/// Send without pause until told to stop; every ticket must be answered. Returns how many messages were acknowledged.
async fn load(sender: Sender, at: usize, stop: Arc<AtomicBool>) -> u64 {
    let channel = format!("{ENVIRONMENT}/{}", SENDERS[at]);
    let mut tickets = std::collections::VecDeque::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let count = 1 + number % 7;
        let batch = (number..number + count)
            .map(|n| Message::new(body(at, n)))
            .collect::<Vec<_>>();
        tickets.push_back(
            sender
                .send_batch(&channel, &batch)
                .await
                .expect("the session outlives every crash"),
        );
        number += count;
        if tickets.len() == 64 {
            let ticket = tickets.pop_front().expect("just counted");
            ticket
                .await
                .expect("acknowledged in the end, whatever happens in between");
        }
    }
    for ticket in tickets {
        ticket
            .await
            .expect("acknowledged in the end, whatever happens in between");
    }
    number
}

/// Receive and settle until `upto` of every sender has come, once it is known.
async fn receive(
    address: String,
    credentials: Credentials,
    hears: &'static [usize],
    upto: Arc<Mutex<Option<Vec<u64>>>>,
) -> Seen {
    let connection = client::connect(&address, credentials)
        .await
        .expect("the node is ready");
    let mut receiver = connection
        .receiver(FetchOptions::default())
        .expect("an egress key opens the queue");
    let mut seen = Seen::default();
    loop {
        let done = |acked: &Vec<u64>| {
            hears
                .iter()
                .all(|&sender| seen.last(sender) == acked[sender].checked_sub(1))
        };
        if upto
            .lock()
            .expect("no holder panics")
            .as_ref()
            .is_some_and(done)
        {
            break;
        }
        let next = tokio::time::timeout(Duration::from_millis(50), receiver.next()).await;
        if let Ok(delivery) = next {
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
async fn settled_stays_settled(address: &str, world: &World) {
    for (at, credentials) in world.senders.iter().enumerate() {
        let connection = client::connect(address, credentials.clone())
            .await
            .expect("the node is ready");
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
        let connection = client::connect(address, credentials.clone())
            .await
            .expect("the node is ready");
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

async fn cycles(ack: &str, kills: u64, random: &mut fastrand::Rng) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let world = world(ack);
    let mut node = Supervisor::new(folder.path(), &world.plan);
    node.spawn();
    let address = node.ready();
    let stop = Arc::new(AtomicBool::new(false));
    let upto = Arc::new(Mutex::new(None));
    let mut loads = Vec::new();
    for (at, credentials) in world.senders.iter().enumerate() {
        let options = Options::default();
        let connection = client::connect_with(&address, credentials.clone(), options)
            .await
            .expect("the node is ready");
        loads.push(tokio::spawn(load(
            connection.sender().expect("an ingress key sends"),
            at,
            Arc::clone(&stop),
        )));
    }
    let receivers: Vec<_> = RECEIVERS
        .iter()
        .zip(&world.receivers)
        .map(|((_, _, hears), credentials)| {
            tokio::spawn(receive(
                address.clone(),
                credentials.clone(),
                hears,
                Arc::clone(&upto),
            ))
        })
        .collect();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(random.u64(1..400))).await;
        node.kill();
        node.spawn();
        while random.u8(..4) == 0 {
            tokio::time::sleep(Duration::from_micros(random.u64(..30_000))).await;
            node.kill();
            node.spawn();
        }
        node.ready();
    }
    stop.store(true, Ordering::Relaxed);
    let mut acked = Vec::new();
    for load in loads {
        acked.push(load.await.expect("the load does not panic"));
    }
    *upto.lock().expect("no holder panics") = Some(acked.clone());
    for ((name, _, hears), seen) in RECEIVERS.iter().zip(receivers) {
        seen.await
            .expect("the receiver does not panic")
            .check(name, &acked, hears);
    }
    settled_stays_settled(&address, &world).await;
    println!(
        "{ack}: {kills} kills, {} messages acknowledged, all read back",
        acked.iter().sum::<u64>()
    );
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_messages_survive_kill_9_in_both_modes() {
    let kills = setting("FOREBAY_CRASH_CYCLES", 2);
    let seed = setting("FOREBAY_CRASH_SEED", fastrand::u64(..));
    println!("FOREBAY_CRASH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for ack in ["durable", "local"] {
        cycles(ack, kills, &mut random).await;
    }
}
