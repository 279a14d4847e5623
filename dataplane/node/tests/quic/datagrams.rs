//! RFC 9221 datagrams: one frame each, answered only if that is asked for, dropped and counted otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::{Quic, naming, runtime};
use crate::support::*;
use crate::{own, quic_addr, with_quic};
use wire::ids::{AckMode, DATAGRAM_STREAM};
use wire::reason::Reason;

/// Wait until so many datagram frames had this result.
fn comes_to(admin: SocketAddr, result: &str, want: u64) {
    let series = format!("forebay_quic_datagram_frames_total{{result=\"{result}\"}}");
    until(&format!("{want} are {result}"), || {
        metric(admin, &series) == Some(want as f64)
    });
}

fn acked(client: &mut Client) -> u64 {
    match client.read() {
        Said::Ack(ack) if ack.partition == DATAGRAM_STREAM => ack.sequence.0,
        other => panic!("the ACK of a datagram was due, not {other:?}"),
    }
}

fn rejected(client: &mut Client) -> (u64, Reason) {
    match client.read() {
        Said::Reject(reject) if reject.partition == DATAGRAM_STREAM => {
            (reject.sequence.0, reject.notice.reason)
        }
        other => panic!("the REJECT of a datagram was due, not {other:?}"),
    }
}

#[test]
fn a_datagram_is_appended_once_in_order_and_answered_only_if_it_asks() {
    let data = tempfile::tempdir().unwrap();
    let (config, authority) = with_quic(data.path(), 1);
    let node = try_start(config, table(parts(AckMode::Durable, 2))).unwrap();
    let (admin, runtime) = (node.admin_addr(), runtime());
    let quic = Quic::connect(&runtime, quic_addr(&node), own(&authority));
    let mut client = quic.client(&sender(0));
    let mut beside = quic.client(&sender(1));
    // (datagram's number, sequence, body)
    quic.throw(client.datagram(0, (0, 1), b"one"));
    quic.throw(client.datagram(0, (7, 2), b"two"));
    assert_eq!(acked(&mut client), 7, "the first datagram is not answered");
    quic.throw(client.datagram(0, (8, 2), b"two"));
    assert_eq!(acked(&mut client), 8, "it is in the log");
    quic.throw(client.datagram(0, (0, 1), b"one"));
    quic.throw(client.datagram(0, (9, 5), b"five"));
    assert_eq!(acked(&mut client), 9, "3 and 4 are left out");
    quic.throw(client.datagram(0, (10, 4), b"four"));
    assert_eq!(
        rejected(&mut client),
        (10, Reason::OutOfSequence),
        "too late"
    );
    quic.throw(client.datagram(0, (11, 0), b"zero"));
    assert_eq!(rejected(&mut client), (11, Reason::OutOfSequence));
    // Another lane's session has other keys, and its own numbers.
    quic.throw(beside.datagram(0, (12, 1), b"beside"));
    assert_eq!(rejected(&mut client), (12, Reason::BadSignature));
    quic.throw(beside.datagram(1, (13, 1), b"beside"));
    assert_eq!(acked(&mut beside), 13);
    // The lane goes on where the datagrams are.
    client.put_send_to(CHANNEL, 6, b"six");
    client.flush();
    client.wait_acked(6);
    let mut receiver = quic.client(RECEIVER);
    receiver.fetch(10);
    let (_, mut bodies) = receiver.take(5);
    bodies.retain(|body| body != b"beside");
    assert_eq!(bodies, [&b"one"[..], b"two", b"five", b"six"]);
    for (result, want) in [
        ("appended", 4),
        ("duplicate", 2),
        ("late", 1),
        ("malformed", 1),
        ("unverified", 1),
    ] {
        comes_to(admin, result, want);
    }
    let left_out = "forebay_quic_datagram_numbers_left_out_total";
    until("two are left out", || metric(admin, left_out) == Some(2.0));
    node.stop();
    assert_eq!(node.join().unwrap().counters.append.messages, 5);
}

#[test]
fn what_is_no_frame_of_a_session_is_dropped_and_counted_and_the_connection_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let (config, authority) = with_quic(data.path(), 1);
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let (admin, runtime) = (node.admin_addr(), runtime());
    let quic = Quic::connect(&runtime, quic_addr(&node), own(&authority));
    let mut client = quic.client(&sender(0));
    // A lane that says nothing has no session.
    let mut silent = quic.lane();
    silent.write_all(b"F").unwrap();
    until("the lane is there", || {
        metric(admin, "forebay_quic_lanes") == Some(2.0)
    });
    let good = client.datagram(0, (1, 1), b"good");
    quic.throw(Vec::new());
    quic.throw(vec![0xC0]);
    quic.throw([&[9][..], &good[1..]].concat());
    quic.throw([&[1][..], &good[1..]].concat());
    quic.throw([&[0, 2][..], &good[2..good.len() - 1]].concat());
    quic.throw([&[0, 3][..], &good[2..], &[0]].concat());
    quic.throw(good);
    let mut answers = vec![rejected(&mut client), rejected(&mut client)];
    answers.sort_unstable_by_key(|(number, _)| *number);
    let short = Reason::FrameTooShort;
    assert_eq!(answers, [(2, short), (3, short)]);
    assert_eq!(acked(&mut client), 1);
    comes_to(admin, "no_lane", 3);
    comes_to(admin, "no_session", 1);
    comes_to(admin, "malformed", 2);
    client.put_send_to(CHANNEL, 2, b"on the lane");
    client.flush();
    client.wait_acked(2);
    drop(silent);
    node.stop();
    assert_eq!(node.join().unwrap().counters.append.messages, 2);
}

#[test]
fn datagrams_belong_on_the_shard_of_their_log_and_say_which_it_is() {
    const SHARDS: u64 = 4;
    let data = tempfile::tempdir().unwrap();
    let (config, authority) = with_quic(data.path(), SHARDS as u16);
    let node = try_start(config, table(parts(AckMode::Local, 1))).unwrap();
    let (addr, runtime) = (quic_addr(&node), runtime());
    let mut at_home = 0;
    for shard in 0..SHARDS {
        let quic = Quic::connect(&runtime, addr, naming(own(&authority), shard, SHARDS));
        let mut client = quic.client(&sender(0));
        let next = client.last(CHANNEL) + 1;
        quic.throw(client.datagram(0, (1, next), b"here"));
        match client.read() {
            Said::Ack(ack) => {
                assert_eq!((ack.partition, ack.sequence.0), (DATAGRAM_STREAM, 1));
                assert_eq!(u64::from(client.terms().home_shard), shard);
                at_home += 1;
            }
            Said::Reject(reject) => {
                let notice = reject.notice;
                assert_eq!(notice.reason, Reason::AnotherShard);
                let home = u64::from(client.terms().home_shard);
                assert_eq!((notice.seen, notice.needed), (SHARDS, home));
                assert_ne!(home, shard);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at_home, 1);
    comes_to(node.admin_addr(), "elsewhere", SHARDS - 1);
    node.stop();
    node.join().unwrap();
}

/// A way between a client and a node that loses, doubles and swaps datagrams of the client, by a seed.
struct Lossy {
    addr: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lossy {
    fn start(node: SocketAddr, seed: u64, bad: Arc<AtomicBool>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = socket.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || carry(&socket, node, seed, &bad, &is_over));
        Self {
            addr,
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(socket: &UdpSocket, node: SocketAddr, seed: u64, bad: &AtomicBool, over: &AtomicBool) {
    // So that the end is noticed.
    let look = Some(Duration::from_millis(20));
    socket.set_read_timeout(look).unwrap();
    let (mut client, mut held, mut state) = (None, None::<Vec<u8>>, seed);
    let mut buffer = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        let Ok((bytes, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let datagram = &buffer[..bytes];
        if from == node {
            client.map(|client| socket.send_to(datagram, client));
            continue;
        }
        client = Some(from);
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let dice = if bad.load(Ordering::Relaxed) {
            (state >> 33) % 10
        } else {
            9
        };
        let send = |datagram: &[u8]| drop(socket.send_to(datagram, node));
        match dice {
            0 | 1 => {}
            2 => (0..2).for_each(|_| send(datagram)),
            3 | 4 if held.is_none() => held = Some(datagram.to_vec()),
            _ => {
                send(datagram);
                held.take().into_iter().for_each(|late| send(&late));
            }
        }
    }
}

#[test]
fn over_a_way_that_loses_doubles_and_swaps_what_is_acked_is_there_once_and_in_order() {
    const SENT: u64 = 200;
    let seed = 20_261_121;
    let data = tempfile::tempdir().unwrap();
    let (config, authority) = with_quic(data.path(), 1);
    let node = try_start(config, table(parts(AckMode::Durable, 1))).unwrap();
    let bad = Arc::new(AtomicBool::new(false));
    let way = Lossy::start(quic_addr(&node), seed, Arc::clone(&bad));
    let runtime = runtime();
    let quic = Quic::connect(&runtime, way.addr, own(&authority));
    let mut client = quic.client(&sender(0));
    bad.store(true, Ordering::Relaxed);
    let room = quic.connection.datagram_send_buffer_space();
    let body = |number: u64| {
        let mut body = vec![0; 700];
        body[..8].copy_from_slice(&number.to_le_bytes());
        body
    };
    for number in 1..=SENT {
        quic.throw(client.datagram(0, (number, number), &body(number)));
    }
    until("they are on their way", || {
        quic.connection.datagram_send_buffer_space() == room
    });
    // One behind them: what comes after it is too late for the log.
    let (mut acked, mut late) = (BTreeSet::new(), BTreeMap::new());
    bad.store(false, Ordering::Relaxed);
    let last = SENT + 1;
    quic.throw(client.datagram(0, (last, last), &body(last)));
    while !acked.contains(&last) {
        match client.read() {
            Said::Ack(ack) => assert!(acked.insert(ack.sequence.0), "acked twice"),
            Said::Reject(reject) => {
                assert_eq!(reject.notice.reason, Reason::OutOfSequence);
                late.insert(reject.sequence.0, reject.notice);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(late.keys().all(|number| !acked.contains(number)));
    let lost = last - acked.len() as u64 - late.len() as u64;
    assert!(lost > 0, "the way loses one in five");
    let mut receiver = Client::connect(node.listen_addr(), RECEIVER);
    receiver.fetch(1_000);
    let (_, bodies) = receiver.take(acked.len());
    let number = |body: &Vec<u8>| u64::from_le_bytes(*body.first_chunk().unwrap());
    let came: Vec<u64> = bodies.iter().map(number).collect();
    assert_eq!(came, acked.iter().copied().collect::<Vec<u64>>());
    println!(
        "seed {seed}: {last} sent = {} acked + {} too late + {lost} lost; cargo test -p forebay-node --test quic loses",
        acked.len(),
        late.len()
    );
    drop(way);
    node.stop();
    let appended = node.join().unwrap().counters.append.messages;
    assert_eq!(appended, acked.len() as u64);
}
