//! What receiving and sending a datagram costs in processor time: alone by recvmsg and sendmsg, and in trains through the ring.
//!
//! `cargo bench -p forebay-ring --bench datagrams`. Prints one JSON object a line: `{"what","value","unit"}`. Datagrams of 150 bytes
//! wait in the socket before the clock runs, so only taking them out is measured; the two ways take turns, and the middle of the
//! rounds is told. Nothing here asserts on a figure.
#![allow(
    clippy::unwrap_used,
    unsafe_code,
    reason = "a measurement that cannot go on shall say where, and asks the kernel for its thread's time"
)]

use std::net::UdpSocket;
use std::time::Duration;

use ring::{DatagramLimits, Event, Features, Ring, RingLimits, Route};

const DATAGRAM_BYTES: usize = 150;
/// Datagrams in a train, trains in a round, rounds.
const TRAIN: usize = 64;
const TRAINS: usize = 64;
const ROUNDS: usize = 101;

fn tell(what: &str, value: f64, unit: &str) {
    println!("{{\"what\":\"{what}\",\"value\":{value:.4},\"unit\":\"{unit}\"}}");
}

fn thread_nanos() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live timespec, which the call fills in.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn ring() -> Ring {
    let limits = RingLimits {
        buffers: 4,
        connections_max: 16,
        ..RingLimits::default()
    };
    Ring::new(limits, Features::probe().unwrap()).unwrap()
}

/// The time that `work` takes of this thread, for each datagram.
fn each(work: impl FnOnce()) -> f64 {
    let before = thread_nanos();
    work();
    (thread_nanos() - before) / (TRAIN * TRAINS) as f64
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Take datagrams out of the ring until so many have come. Their bytes are looked at once, as whoever takes them would.
fn drain(ring: &mut Ring, count: usize) {
    let (mut events, mut came, mut sum) = (Vec::new(), 0, 0_u64);
    while came < count {
        if ring.poll(&mut events).unwrap() == 0 {
            ring.wait(Duration::from_secs(1)).unwrap();
        }
        for event in events.drain(..) {
            if let Event::Datagrams(train) = event {
                let held = ring.datagrams(&train);
                came += held.count();
                let datagrams = held.bytes.chunks(held.segment_bytes);
                sum += datagrams
                    .map(|datagram| u64::from(datagram[0]))
                    .sum::<u64>();
                ring.release_datagrams(train);
            }
        }
    }
    std::hint::black_box(sum);
}

fn main() {
    if !std::env::args().any(|word| word == "--bench") {
        return;
    }
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    plain.set_nonblocking(true).unwrap();
    // Room for a round, as the ring's socket gets it.
    let (mut receiver, mut sender) = (ring(), ring());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = socket.local_addr().unwrap();
    receiver
        .bind_datagrams(socket, DatagramLimits::default())
        .unwrap();
    let source = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender
        .bind_datagrams(source, DatagramLimits::default())
        .unwrap();
    socket2::SockRef::from(&plain)
        .set_recv_buffer_size(8 << 20)
        .unwrap();
    let route = |to, segment_bytes| Route {
        to,
        from: None,
        ecn: 0,
        segment_bytes,
    };
    let mut figures: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let trains = |sender: &mut Ring, to, train: usize| {
            for _ in 0..TRAINS * TRAIN / train {
                let mut bytes = sender.take_buffer();
                bytes.resize(DATAGRAM_BYTES * train, 7);
                let segment = (train > 1).then_some(DATAGRAM_BYTES as u16);
                while let Err(back) = sender.send_datagrams(&route(to, segment), bytes) {
                    bytes = back;
                    sender.poll(&mut Vec::new()).unwrap();
                }
            }
            sender.poll(&mut Vec::new()).unwrap();
        };
        figures[0].push(each(|| trains(&mut sender, to, TRAIN)));
        figures[1].push(each(|| drain(&mut receiver, TRAIN * TRAINS)));
        figures[2].push(each(|| trains(&mut sender, to, 1)));
        figures[3].push(each(|| drain(&mut receiver, TRAIN * TRAINS)));
        trains(&mut sender, plain.local_addr().unwrap(), TRAIN);
        let mut buffer = [0; 2048];
        figures[4].push(each(|| {
            for _ in 0..TRAIN * TRAINS {
                std::hint::black_box(plain.recv_from(&mut buffer).unwrap());
            }
        }));
    }
    let [sent, received, sent_alone, received_alone, recvmsg] = figures.map(middle);
    tell("receive: recvmsg a datagram", recvmsg, "ns");
    tell("receive: ring, no trains", received_alone, "ns");
    tell("receive: ring, trains of 64", received, "ns");
    tell("receive: recvmsg against trains", recvmsg / received, "x");
    tell("send: ring, one a send", sent_alone, "ns");
    tell("send: ring, trains of 64", sent, "ns");
    tell("send: one against trains", sent_alone / sent, "x");
}
