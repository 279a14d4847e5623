//! Senders at work: everything they write is signed beforehand, so that the driver keeps ahead of the node.

use std::io::Write;
use std::time::Instant;

use wire::ids::AckMode;

use crate::measure::{Calls, Usage, first, one_of_many, pin};
use crate::measured::node::{Served, Setup};
use crate::measured::tell;
use crate::support::{Client, sender, trusting};

const CONNECTIONS: usize = 64;
const NODE_CPU: usize = 0;
const DRIVER_CPU: usize = 1;
const BODY: [u8; 100] = [7; 100];

fn setup(ack: AckMode, senders: usize) -> Setup {
    Setup {
        ack,
        senders,
        partitions: 1,
        quic: false,
        cpu: Some(NODE_CPU),
    }
}

fn connect(node: &Served, count: usize) -> Vec<Client> {
    (0..count)
        .map(|number| Client::connect(node.plain, &sender(number)))
        .collect()
}

fn mode(ack: AckMode) -> &'static str {
    match ack {
        AckMode::Local => "local",
        AckMode::Durable => "durable",
    }
}

/// Frames signed ahead: for each round and connection, the bytes and the last number in them.
struct Script {
    rounds: Vec<Vec<(Vec<u8>, u64)>>,
}

impl Script {
    fn write(clients: &mut [Client], rounds: usize, frames: usize, messages: usize) -> Self {
        let bodies = vec![&BODY[..]; messages];
        let mut piece = |client: &mut Client| {
            (0..frames).for_each(|_| client.put_send(&bodies));
            let bytes = client.take_out();
            (client.seal(bytes), client.sequence - 1)
        };
        let rounds = (0..rounds)
            .map(|_| clients.iter_mut().map(&mut piece).collect())
            .collect();
        Self { rounds }
    }
}

/// Write one round to every connection, then read until all of it is acked.
fn play(clients: &mut [Client], round: &[(Vec<u8>, u64)]) {
    for (client, (bytes, _)) in clients.iter_mut().zip(round) {
        client.stream.write_all(bytes).unwrap();
    }
    settle(clients, round);
}

fn settle(clients: &mut [Client], round: &[(Vec<u8>, u64)]) {
    for (client, (_, number)) in clients.iter_mut().zip(round) {
        client.wait_acked(*number);
    }
}

/// Run `work` and tell what each of its messages cost the node.
fn measured(name: &str, node: &Served, work: impl FnOnce()) {
    let calls = Calls::begin(node);
    let (before, began) = (Usage::of(node), Instant::now());
    work();
    let (took, used) = (began.elapsed(), Usage::of(node).since(before));
    let messages = used.messages as f64;
    let each = |what: &str, total: u64, unit: &str| {
        tell(&format!("{name}/{what}"), total as f64 / messages, unit);
    };
    if let Some(calls) = calls.and_then(Calls::end) {
        each("syscalls", calls, "calls/message");
    }
    each("enters", used.enters, "calls/message");
    each("shard-cpu", used.shard_nanos, "ns/message");
    each("cpu", used.all_nanos, "ns/message");
    each("faults", used.shard_faults, "faults/message");
    tell(
        &format!("{name}/messages-a-turn"),
        messages / used.turns as f64,
        "messages",
    );
    tell(
        &format!("{name}/enters-a-turn"),
        used.enters as f64 / used.turns as f64,
        "calls",
    );
    tell(
        &format!("{name}/sleeps-a-turn"),
        used.sleeps as f64 / used.turns as f64,
        "sleeps",
    );
    if used.syncs > 0 {
        tell(
            &format!("{name}/messages-a-sync"),
            messages / used.syncs as f64,
            "messages",
        );
    }
    tell(
        &format!("{name}/rate"),
        messages / took.as_secs_f64(),
        "messages/s",
    );
}

/// 64 connections, all of them ready before the node looks: both run on one processor, and the node does not interrupt the driver.
pub(crate) fn ready() {
    for ack in [AckMode::Local, AckMode::Durable] {
        for (frames, rounds) in [(1, 1500), (16, 200), (256, 32)] {
            one_of_many();
            let node = Served::start(setup(ack, CONNECTIONS));
            let mut clients = connect(&node, CONNECTIONS);
            pin(std::process::id(), true, NODE_CPU);
            first(node.pid());
            let script = Script::write(&mut clients, rounds, frames, 1);
            // By then every receive buffer has been touched, which costs its pages a fault each, once.
            let (warm, timed) = script.rounds.split_at(rounds / 3);
            warm.iter().for_each(|round| play(&mut clients, round));
            measured(&format!("ready/{}/{frames}", mode(ack)), &node, || {
                timed.iter().for_each(|round| play(&mut clients, round));
            });
        }
    }
    one_of_many();
    pin(std::process::id(), true, DRIVER_CPU);
}

/// 64 plain connections and 64 through TLS, in turn, to one node: 16 messages a frame, and 1, 4 or 16 such frames a record or as many as it takes.
pub(crate) fn tunnel() {
    const TURNS: usize = 9;
    const ROUNDS: usize = 32;
    for (ack, frames) in [AckMode::Local, AckMode::Durable]
        .into_iter()
        .flat_map(|ack| [1, 4, 16].map(|frames| (ack, frames)))
    {
        one_of_many();
        let node = Served::start(setup(ack, 2 * CONNECTIONS));
        let mut plain = connect(&node, CONNECTIONS);
        let trusts = trusting(&node.authority());
        let mut tunnelled: Vec<Client> = (CONNECTIONS..2 * CONNECTIONS)
            .map(|number| Client::connect_tls(node.secure, &trusts, &sender(number)))
            .collect();
        pin(std::process::id(), true, NODE_CPU);
        first(node.pid());
        let mut spent = [Vec::new(), Vec::new()];
        for turn in 0..=TURNS {
            for (clients, spent) in [&mut plain, &mut tunnelled].into_iter().zip(&mut spent) {
                let script = Script::write(clients, ROUNDS / frames + 1, frames, 16);
                let before = Usage::of(&node);
                script.rounds.iter().for_each(|round| play(clients, round));
                let used = Usage::of(&node).since(before);
                if turn > 0 {
                    spent.push(used.shard_nanos as f64 / used.messages as f64);
                }
            }
        }
        let [plain, tls] = spent.map(|mut all| {
            all.sort_unstable_by(f64::total_cmp);
            all[all.len() / 2]
        });
        let name = format!("tunnel/{}/{frames}x16", mode(ack));
        tell(&format!("{name}/plain/shard-cpu"), plain, "ns/message");
        tell(&format!("{name}/tls/shard-cpu"), tls, "ns/message");
        tell(&format!("{name}/ratio"), tls / plain, "");
    }
    one_of_many();
    pin(std::process::id(), true, DRIVER_CPU);
}

/// 16 connections, one message each, the next one when it is acked.
pub(crate) fn lockstep() {
    const ROUNDS: usize = 5_000;
    pin(std::process::id(), true, DRIVER_CPU);
    for ack in [AckMode::Local, AckMode::Durable] {
        let rounds = if ack == AckMode::Local {
            ROUNDS
        } else {
            ROUNDS / 5
        };
        let node = Served::start(setup(ack, 16));
        let mut clients = connect(&node, 16);
        let script = Script::write(&mut clients, rounds, 1, 1);
        let (warm, timed) = script.rounds.split_at(rounds / 5);
        step(&mut clients, warm);
        measured(&format!("lockstep/{}", mode(ack)), &node, || {
            step(&mut clients, timed)
        });
    }
}

/// Each connection writes its next message as soon as the one before is acked.
fn step(clients: &mut [Client], rounds: &[Vec<(Vec<u8>, u64)>]) {
    for (client, (bytes, _)) in clients.iter_mut().zip(&rounds[0]) {
        client.stream.write_all(bytes).unwrap();
    }
    for pair in rounds.windows(2) {
        for (client, ((_, number), (bytes, _))) in
            clients.iter_mut().zip(pair[0].iter().zip(&pair[1]))
        {
            client.wait_acked(*number);
            client.stream.write_all(bytes).unwrap();
        }
    }
    settle(clients, &rounds[rounds.len() - 1]);
}

/// 64 connections that always have more on the way than was acked.
pub(crate) fn pipelined() {
    pin(std::process::id(), true, DRIVER_CPU);
    for ack in [AckMode::Local, AckMode::Durable] {
        for (frames, messages, rounds) in [(64, 1, 80), (16, 16, 30), (1, 1000, 12)] {
            let node = Served::start(setup(ack, CONNECTIONS));
            let mut clients = connect(&node, CONNECTIONS);
            let script = Script::write(&mut clients, rounds, frames, messages);
            let (warm, timed) = script.rounds.split_at(rounds / 5);
            flow(&mut clients, warm);
            measured(
                &format!("pipelined/{}/{messages}", mode(ack)),
                &node,
                || flow(&mut clients, timed),
            );
        }
    }
}

/// Two rounds of every connection are on their way at any time.
fn flow(clients: &mut [Client], rounds: &[Vec<(Vec<u8>, u64)>]) {
    for (place, round) in rounds.iter().enumerate() {
        for (at, (client, (bytes, _))) in clients.iter_mut().zip(round).enumerate() {
            if let Some(before) = place.checked_sub(2) {
                client.wait_acked(rounds[before][at].1);
            }
            client.stream.write_all(bytes).unwrap();
        }
    }
    settle(clients, &rounds[rounds.len() - 1]);
}
