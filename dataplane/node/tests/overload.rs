//! A node that is offered more than its memory holds: it sheds in the order that it promises, says so to everyone whom it refuses,
//! and in the end everything that was sent has one answer, and what was acknowledged is there, once and in order.
//!
//! Memory is filled by long frames of which the rest does not come, one at a time, so each step is reached and none is passed over,
//! however fast the machine is.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say where"
)]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::*;
use wire::ids::{AckMode, ChannelId};
use wire::preface::Preface;
use wire::reason::Reason;
use wire::route::{ChannelParts, Grant, Priority};

/// A little more than there must be.
const BUDGET: u64 = 12 << 20;
const LOW: &str = "acme/prod/low";
/// Those that hold memory with frames that are half there, and how much of one is sent at first. Less than a sixteenth of the budget,
/// also when the buffer it is put together in is twice as long.
const HOLDERS: usize = 64;
const HELD_BYTES: usize = 250_000;
/// Those that send without end, what they send and how much of it is unanswered at once: more together than there are receive
/// buffers.
const FLOODERS: usize = 16;
const BODY: [u8; 4_000] = [7; 4_000];
const WINDOW: usize = 64;
/// What each sends after the frames that held the memory are whole.
const AFTER: u64 = 20;

/// What became of what one sender sent.
#[derive(Debug, Default)]
struct Books {
    sent: u64,
    /// By the number that the sender gave each message in its body.
    acked: Vec<u64>,
    rejected: BTreeMap<Reason, u64>,
    lost: u64,
}

impl Books {
    fn check(&self, who: &str) {
        let rejected: u64 = self.rejected.values().sum();
        let known = self.acked.len() as u64 + rejected + self.lost;
        assert_eq!(self.sent, known, "{who}: {self:?}");
    }
}

/// A sender that keeps to the protocol: a message that was refused it gives up, those behind it go again under new numbers.
struct Sender {
    number: u64,
    client: Client,
    channel: &'static str,
    next: u64,
    /// Messages without an answer.
    open: VecDeque<u64>,
    books: Books,
}

impl Sender {
    fn connect(addr: SocketAddr, number: usize, channel: &'static str) -> Self {
        let client = Client::connect(addr, &sender(number));
        Self {
            number: number as u64,
            next: client.last(channel) + 1,
            client,
            channel,
            open: VecDeque::new(),
            books: Books::default(),
        }
    }

    fn put(&mut self, number: u64, message: u64) {
        let marks = [self.number.to_le_bytes(), message.to_le_bytes()];
        let body = [&marks.concat()[..], &BODY].concat();
        self.client.put_send_to(self.channel, number, &body);
    }

    fn send(&mut self) {
        let message = self.books.sent;
        self.put(self.next, message);
        self.client.flush();
        self.open.push_back(message);
        self.next += 1;
        self.books.sent += 1;
    }

    /// Wait for the next answer, and do what it asks for. The reason, if it is a refusal. False at the end of the connection.
    fn hear(&mut self) -> bool {
        let first = self.next - self.open.len() as u64;
        match self.client.read() {
            Said::Ack(ack) => {
                let done = (ack.sequence.0 + 1).saturating_sub(first) as usize;
                self.books.acked.extend(self.open.drain(..done));
            }
            Said::Reject(reject) => {
                let at = (reject.sequence.0 - first) as usize;
                self.open.remove(at).unwrap();
                self.next -= 1;
                *self.books.rejected.entry(reject.notice.reason).or_default() += 1;
                for at in at..self.open.len() {
                    self.put(first + at as u64, self.open[at]);
                }
                self.client.flush();
            }
            Said::End => {
                self.books.lost += self.open.len() as u64;
                self.open.clear();
                return false;
            }
            other => panic!("{other:?} to a sender"),
        }
        true
    }

    /// One message, and its answer: whether it was acknowledged, or why not.
    fn ask(&mut self) -> Result<(), Reason> {
        let before = self.books.rejected.clone();
        self.send();
        while !self.open.is_empty() {
            assert!(self.hear(), "{:?}", self.books);
        }
        let new =
            |(reason, count): (&Reason, &u64)| before.get(reason) != Some(count) && *count > 0;
        match self
            .books
            .rejected
            .iter()
            .find(|(reason, count)| new((reason, count)))
        {
            None => Ok(()),
            Some((reason, _)) => Err(*reason),
        }
    }

    /// As much as may be unanswered, until told to stop; then a few more. What became of it all.
    fn flood(mut self, stop: &AtomicBool) -> Books {
        let mut left = AFTER;
        loop {
            let stopping = stop.load(Ordering::Acquire);
            while self.open.len() < WINDOW && left > 0 {
                left -= u64::from(stopping);
                self.send();
            }
            if self.open.is_empty() || !self.hear() {
                return self.books;
            }
        }
    }
}

/// What a connection without a session is told before it ends.
fn goodbye(stream: &mut TcpStream) -> Reason {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = Vec::new();
    // It may end by a reset behind the last word, as what was sent to it was not read.
    let _ = stream.read_to_end(&mut said);
    let (frame, _) = wire::frame::split(&said[8..]).unwrap().unwrap();
    wire::link::parse_goaway(frame).unwrap().reason
}

/// A node with little memory, whose channel `LOW` is of low priority.
fn node(data: &std::path::Path) -> node::NodeHandle {
    let mut parts = parts(AckMode::Durable, HOLDERS + FLOODERS + 2);
    parts.channels.push(ChannelParts {
        id: ChannelId::of(LOW),
        name: LOW.into(),
        hub: 0,
        priority: Priority::Low,
    });
    let low = Grant {
        channel: ChannelId::of(LOW),
        restriction: Default::default(),
    };
    for endpoint in &mut parts.endpoints {
        let grants = match endpoint.send.is_empty() {
            true => &mut endpoint.receive,
            false => &mut endpoint.send,
        };
        grants.push(low.clone());
    }
    let mut config = config(data);
    (config.ring.buffers, config.ring.buffer_bytes) = (64, 16 << 10);
    config.shard.memory_bytes = Some(BUDGET);
    try_start(config, table(parts)).unwrap()
}

/// Sessions that hold memory, one after the other.
struct Holders {
    admin: SocketAddr,
    waiting: VecDeque<Client>,
    /// With the rest of its frame.
    holding: Vec<(Client, Vec<u8>)>,
}

impl Holders {
    fn metric(&self, series: &str) -> f64 {
        metric(self.admin, series).unwrap()
    }

    /// Hold more and more, until the node sheds this.
    fn until_shed(&mut self, step: f64) {
        let pressure = "forebay_shard_pressure{shard=\"0\"} ";
        while self.metric(pressure) < step {
            let held = "forebay_memory_bytes{kind=\"assembly\"} ";
            let before = self.metric(held);
            let mut holder = self.waiting.pop_front().expect("there are enough");
            holder.put_send(&[&[1; 200_000], &[2; 200_000]]);
            let mut frame = holder.take_out();
            let rest = frame.split_off(HELD_BYTES);
            holder.stream.write_all(&frame).unwrap();
            self.holding.push((holder, rest));
            let admin = self.admin;
            until("the start of a frame is taken", || {
                metric(admin, held).unwrap() >= before + HELD_BYTES as f64
            });
        }
        assert_eq!(self.metric(pressure), step, "no step is passed over");
    }

    /// Send the rest. How many frames were acknowledged and how many refused.
    fn release(&mut self) -> (u64, u64) {
        let mut answers = (0, 0);
        for (mut holder, rest) in self.holding.drain(..) {
            holder.stream.write_all(&rest).unwrap();
            match holder.read() {
                Said::Ack(_) => answers.0 += 1,
                Said::Reject(reject) if reject.notice.reason == Reason::Busy => answers.1 += 1,
                other => panic!("{other:?} to a frame that is whole"),
            }
        }
        answers
    }
}

#[test]
fn what_is_too_much_is_shed_in_order_and_told_and_everything_sent_has_one_answer() {
    let data = tempfile::tempdir().unwrap();
    let node = node(data.path());
    let (addr, admin) = (node.listen_addr(), node.admin_addr());
    let mut receiver = Client::connect(addr, RECEIVER);
    let mut holders = Holders {
        admin,
        waiting: (0..HOLDERS)
            .map(|at| Client::connect(addr, &sender(at)))
            .collect(),
        holding: Vec::new(),
    };
    let flooders: Vec<_> = (HOLDERS..HOLDERS + FLOODERS)
        .map(|at| Sender::connect(addr, at, CHANNEL))
        .collect();
    let mut normal = Sender::connect(addr, HOLDERS + FLOODERS, CHANNEL);
    let mut low = Sender::connect(addr, HOLDERS + FLOODERS + 1, LOW);
    let mut stranger = TcpStream::connect(addr).unwrap();
    stranger.write_all(&Preface::CLIENT.encode()).unwrap();
    assert_eq!((normal.ask(), low.ask()), (Ok(()), Ok(())));

    holders.until_shed(1.0);
    let mut late = TcpStream::connect(addr).unwrap();
    assert_eq!(goodbye(&mut late), Reason::ConnectionsShed);
    assert_eq!(
        holders.metric("forebay_strangers "),
        1.0,
        "who was there stays"
    );
    assert_eq!((normal.ask(), low.ask()), (Ok(()), Ok(())));
    holders.until_shed(2.0);
    assert_eq!(goodbye(&mut stranger), Reason::StrangersShed);
    assert_eq!((normal.ask(), low.ask()), (Ok(()), Ok(())));
    holders.until_shed(3.0);
    assert_eq!(normal.ask(), Ok(()));
    assert_eq!(low.ask(), Err(Reason::LowPriorityShed));
    holders.until_shed(4.0);

    let stop = Arc::new(AtomicBool::new(false));
    let flood = |flooder: Sender| {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || flooder.flood(&stop))
    };
    let floods: Vec<_> = flooders.into_iter().map(flood).collect();
    until("frames are refused", || {
        metric(admin, "forebay_shed_total{what=\"normal_frames\"} ").unwrap() > 0.0
    });
    let (held, held_refused) = holders.release();
    stop.store(true, Ordering::Release);
    let flooded: Vec<Books> = floods
        .into_iter()
        .map(|flood| flood.join().unwrap())
        .collect();
    until("there is memory again", || {
        metric(admin, "forebay_shard_pressure{shard=\"0\"} ").unwrap() == 0.0
    });
    assert_eq!((normal.ask(), low.ask()), (Ok(()), Ok(())));

    // The books of all senders, against each other and against the node's.
    let mut busy = held_refused;
    let mut acked = (normal.books.acked.len() + low.books.acked.len()) as u64 + 2 * held;
    for (at, books) in flooded.iter().enumerate() {
        books.check(&format!("flooder {at}"));
        assert_eq!(books.lost, 0, "no session ends because memory is short");
        let reasons: Vec<_> = books.rejected.keys().collect();
        assert!(matches!(reasons[..], [] | [Reason::Busy]), "{reasons:?}");
        busy += books.rejected.get(&Reason::Busy).copied().unwrap_or(0);
        acked += books.acked.len() as u64;
    }
    assert!(busy > 0, "{flooded:?}");
    normal.books.check("normal");
    low.books.check("low");
    for (series, want) in [
        (
            "forebay_rejects_total{code=\"FB-1501\",reason=\"busy\"} ",
            busy,
        ),
        ("forebay_append_messages_total ", acked),
        ("forebay_shed_total{what=\"connections\"} ", 1),
        ("forebay_shed_total{what=\"strangers\"} ", 1),
        ("forebay_shed_total{what=\"low_priority_frames\"} ", 1),
    ] {
        assert_eq!(metric(admin, series), Some(want as f64), "{series}");
    }
    // And against what comes out: every acknowledged message once, those of a sender in order.
    receiver.fetch_bytes(10_000, 32 << 20);
    let (mut there, mut seen) = (0, BTreeMap::<u64, Vec<u64>>::new());
    while there < acked {
        let (last, bodies) = receiver.take(1);
        there += bodies.len() as u64;
        let bytes: usize = bodies.iter().map(|body| body.len() + 64).sum();
        receiver.fetch_bytes(bodies.len() as u32, bytes as u64);
        for body in bodies.iter().filter(|body| body.len() == 16 + BODY.len()) {
            let [who, message] =
                [0, 8].map(|at| u64::from_le_bytes(*body[at..].first_chunk().unwrap()));
            seen.entry(who).or_default().push(message);
        }
        receiver.settle(last);
    }
    for (at, books) in flooded
        .iter()
        .chain([&normal.books, &low.books])
        .enumerate()
    {
        let who = (HOLDERS + at) as u64;
        assert_eq!(seen.get(&who), Some(&books.acked), "sender {who}");
    }
    let offered: u64 = flooded.iter().map(|books| books.sent).sum();
    println!(
        "{offered} messages offered by {FLOODERS} flooders, {busy} refused as busy, {acked} messages acknowledged in all, 0 lost; again \
         with `cargo test -p forebay-node --test overload`"
    );
    node.stop();
    node.join().unwrap();
}
