//! The good peers: senders that are due every few milliseconds, and one receiver that reads everything back.

use client::{Credentials, FetchOptions, Message};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// Frames that a sender has unanswered when it sends as fast as it can.
const WINDOW: usize = 32;
/// For every wait; none is meant to come near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the good senders did in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goodput {
    /// Messages acknowledged.
    pub(crate) acked: u64,
    /// From the first that was due to the last acknowledgement.
    pub(crate) took: Duration,
    /// From due to acknowledged, for 99 of 100.
    pub(crate) p99: Duration,
}

impl Goodput {
    /// Acknowledged messages a second.
    pub(crate) fn rate(&self) -> f64 {
        self.acked as f64 / self.took.as_secs_f64()
    }
}

/// The sessions of the good senders; they stay open over all rounds.
pub(crate) struct Good {
    senders: Vec<client::Sender>,
    channel: String,
    sent: Vec<u64>,
    received: JoinHandle<Result<BTreeMap<usize, u64>, String>>,
    expect: tokio::sync::watch::Sender<Option<u64>>,
}

impl Good {
    pub(crate) async fn open(
        address: &str,
        channel: &str,
        senders: &[Credentials],
        receiver: &Credentials,
    ) -> Self {
        let (expect, expected) = tokio::sync::watch::channel(None);
        let connection = client::connect(address, receiver.clone())
            .await
            .expect("the node is ready");
        let receiver = connection
            .receiver(FetchOptions::default())
            .expect("an egress key opens the queue");
        let mut open = Vec::new();
        for credentials in senders {
            let connection = client::connect(address, credentials.clone())
                .await
                .expect("the node is ready");
            open.push(connection.sender().expect("an ingress key sends"));
        }
        Self {
            sent: vec![0; open.len()],
            senders: open,
            channel: channel.to_owned(),
            received: tokio::spawn(read_back(receiver, expected)),
            expect,
        }
    }

    /// Send for so long, one message of each sender every so often; every one must be acknowledged.
    pub(crate) async fn round(&mut self, period: Duration, due_every: Duration) -> Goodput {
        let began = Instant::now();
        let count = u64::try_from(period.as_nanos() / due_every.as_nanos()).expect("a short time");
        let mut tasks = Vec::new();
        for (at, sender) in self.senders.iter().enumerate() {
            let first = self.sent[at];
            self.sent[at] += count;
            let numbers = first..self.sent[at];
            tasks.push(send(
                sender.clone(),
                self.channel.clone(),
                at,
                numbers,
                (began, due_every),
            ));
        }
        let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
        let mut waits = Vec::new();
        for task in tasks {
            waits.extend(task.await.expect("a good sender does not panic"));
        }
        waits.sort_unstable();
        Goodput {
            acked: waits.len() as u64,
            took: began.elapsed(),
            p99: waits[waits.len() * 99 / 100],
        }
    }

    /// Send for so long as fast as acknowledgements come; returns messages a second.
    pub(crate) async fn peak(&mut self, period: Duration) -> f64 {
        let began = Instant::now();
        let mut tasks = Vec::new();
        for (at, sender) in self.senders.iter().enumerate() {
            let (sender, channel, first) = (sender.clone(), self.channel.clone(), self.sent[at]);
            tasks.push(tokio::spawn(async move {
                let (mut number, mut tickets) = (first, VecDeque::new());
                while began.elapsed() < period || !tickets.is_empty() {
                    if tickets.len() == WINDOW || began.elapsed() >= period {
                        let ticket: Option<client::Ticket> = tickets.pop_front();
                        let answer = ticket.expect("one is left").await;
                        answer.expect("a good message is acknowledged");
                        continue;
                    }
                    let ticket = sender.send(&channel, Message::new(body(at, number))).await;
                    tickets.push_back(ticket.expect("the session lives"));
                    number += 1;
                }
                number - first
            }));
        }
        let mut all = 0;
        for (at, task) in tasks.into_iter().enumerate() {
            let count = task.await.expect("a good sender does not panic");
            self.sent[at] += count;
            all += count;
        }
        all as f64 / began.elapsed().as_secs_f64()
    }

    /// Everything that was acknowledged came once and in order; returns how many messages that were.
    pub(crate) async fn read_back(self) -> u64 {
        let all = self.sent.iter().sum();
        self.expect.send_replace(Some(all));
        let received = timeout(PATIENCE, self.received).await;
        let counts = received
            .expect("everything comes")
            .expect("the receiver does not panic")
            .expect("nothing is altered, lost or out of order");
        let want: BTreeMap<usize, u64> = self.sent.iter().copied().enumerate().collect();
        assert_eq!(counts, want, "messages of each good sender");
        for sender in self.senders {
            sender.close().await.expect("nothing is unanswered");
        }
        all
    }
}

async fn send(
    sender: client::Sender,
    channel: String,
    at: usize,
    numbers: std::ops::Range<u64>,
    (began, due_every): (Instant, Duration),
) -> Vec<Duration> {
    let (tickets, mut answers) = mpsc::unbounded_channel::<(Instant, client::Ticket)>();
    let waits = tokio::spawn(async move {
        let mut waits = Vec::new();
        while let Some((due, ticket)) = answers.recv().await {
            let answer = timeout(PATIENCE, ticket).await;
            answer
                .expect("there is an answer")
                .expect("a good message is acknowledged");
            waits.push(due.elapsed());
        }
        waits
    });
    for (step, number) in numbers.enumerate() {
        // Senders are spread over the time between two messages, as they would be outside.
        let offset = due_every * u32::try_from(at % 16).expect("small") / 16;
        let due = began + offset + due_every * u32::try_from(step).expect("small");
        sleep_until(due).await;
        let ticket = sender.send(&channel, Message::new(body(at, number))).await;
        let ticket = ticket.expect("the session lives");
        tickets.send((due, ticket)).expect("it is awaited");
    }
    drop(tickets);
    waits.await.expect("nothing panics")
}

fn body(sender: usize, number: u64) -> Vec<u8> {
    let mut bytes = format!("{sender}/{number}/").into_bytes();
    bytes.resize(100, b'.');
    bytes
}

async fn read_back(
    mut receiver: client::Receiver,
    mut expected: tokio::sync::watch::Receiver<Option<u64>>,
) -> Result<BTreeMap<usize, u64>, String> {
    let mut next: BTreeMap<usize, u64> = BTreeMap::new();
    let mut total = 0;
    loop {
        if *expected.borrow_and_update() == Some(total) {
            receiver.close().await.map_err(|error| error.to_string())?;
            return Ok(next);
        }
        let delivery = tokio::select! {
            delivery = receiver.next() => delivery,
            _ = expected.changed() => continue,
        };
        let delivery = delivery.ok_or("the receiver was closed")?;
        let delivery = delivery.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&delivery.body);
        let mut parts = text.split('/');
        let sender = parts.next().and_then(|text| text.parse().ok());
        let sender: usize = sender.ok_or_else(|| format!("altered: {text}"))?;
        let number = next.entry(sender).or_default();
        if delivery.body != body(sender, *number) {
            return Err(format!("{text} instead of {sender}/{number}"));
        }
        (*number, total) = (*number + 1, total + 1);
        receiver
            .accept_through(&delivery)
            .await
            .map_err(|error| error.to_string())?;
    }
}
