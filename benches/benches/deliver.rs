//! Stage 8: a FETCH comes, and what waits is read from the mapped log, put into DELIVER frames and signed. The
//! stage is not public, so a whole turn is timed: `turn` is one in which a PING takes the place of the FETCH.

use std::time::Duration;

use benches::{BODY_BYTES, Client, Node, ThreadCpu, criterion};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shard::Received;
use wire::delivery::{Fetch, Outcome, Settle, Source};
use wire::ids::Sequence;
use wire::link::encode_ping;

/// Messages that wait, and that are asked for.
const MESSAGES: u16 = 256;
/// Bytes of one: its header, and its body. Credit is given for exactly these, so that none is left over.
const MESSAGE_BYTES: u64 = 16 + BODY_BYTES as u64;

struct Load {
    node: Node,
    sender: Client,
    receiver: Client,
    bytes: Vec<u8>,
    delivered: u64,
}

impl Load {
    fn new() -> Self {
        let mut node = Node::new(1, 1);
        let (sender, receiver) = (node.sender(0), node.receiver(0));
        Self {
            node,
            sender,
            receiver,
            bytes: Vec::new(),
            delivered: 0,
        }
    }

    /// Send 256 messages, of which each record holds so many, and let them reach the queue.
    fn send(&mut self, messages: u16) {
        self.bytes.clear();
        for _ in 0..MESSAGES / messages {
            self.sender.put_frame(&mut self.bytes, messages);
        }
        let connection = self.sender.connection;
        self.node.turn(&[Received {
            connection,
            bytes: &self.bytes,
        }]);
    }

    /// A turn in which the receiver says one thing.
    fn say(&mut self, encode: impl FnOnce(&mut Vec<u8>, wire::signature::Signer<'_>)) -> Duration {
        self.bytes.clear();
        let bytes = &mut self.bytes;
        self.receiver.sign(|signer| encode(bytes, signer));
        let connection = self.receiver.connection;
        self.node.turn(&[Received {
            connection,
            bytes: &self.bytes,
        }])
    }

    /// Send, fetch and settle; the time of the turn that delivers.
    fn deliver(&mut self, messages: u16) -> Duration {
        self.send(messages);
        let fetch = Fetch {
            source: Source::Queue,
            messages: u32::from(MESSAGES),
            bytes: u64::from(MESSAGES) * MESSAGE_BYTES,
        };
        let took = self.say(|out, signer| fetch.encode(out, signer));
        self.delivered += u64::from(MESSAGES);
        assert_eq!(
            self.node.counters().deliver.messages,
            self.delivered,
            "{:?}",
            self.node.counters()
        );
        let number = Sequence(self.delivered);
        let settle = Settle {
            source: Source::Queue,
            outcome: Outcome::AcceptUpTo,
            number,
        };
        self.say(|out, signer| settle.encode(out, signer));
        took
    }
}

fn deliver(c: &mut Criterion<ThreadCpu>) {
    let mut group = c.benchmark_group("deliver");
    let mut load = Load::new();
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    for messages in [1, 16, 256] {
        let id = BenchmarkId::from_parameter(messages);
        group.bench_function(id, |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| load.deliver(messages)).sum());
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("turn", |b| {
        b.iter_custom(|rounds| {
            let ping =
                |load: &mut Load| load.say(|out, signer| encode_ping(out, Sequence(1), signer));
            (0..rounds).map(|_| ping(&mut load)).sum()
        });
    });
    group.finish();
}

criterion_group!(name = benches; config = criterion(); targets = deliver);
criterion_main!(benches);
