//! The sending side with injected times: a server that pauses shows in the latencies, in full.

use client::fake::KEY;
use client::handshake::{Opened, Opening};
use loadgen::engine::flow::{Flow, Run};
use loadgen::engine::lane::Lane;
use loadgen::engine::measured::Times;
use loadgen::engine::sending::{Port, Sending};
use loadgen::payload::Bodies;
use loadgen::schedule::{Arrival, Schedule};
use loadgen::verify::{Outcome, Source};
use loadgen::{BodySizes, PayloadSource};
use std::collections::VecDeque;
use std::time::Duration;
use wire::ack::{Ack, Reject};
use wire::frame::split;
use wire::handshake::{Hello, WelcomeEntry, WelcomeFields, encode_welcome};
use wire::ids::{
    AckMode, ChannelId, Direction, EndpointId, LogsId, Offset, PartitionId, Sequence, SessionId,
    UnixNanos,
};
use wire::preface::Preface;
use wire::reason::{Notice, Reason};
use wire::send::Send;
use wire::signature::{SessionKeys, Signer, verify_session};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const CREDIT_FRAMES: u32 = 64;
const CHANNEL: &str = "a/e/readings";

/// The server's end of one connection.
struct Server {
    keys: SessionKeys,
    received: u64,
    sent: u64,
    last: u64,
    waiting: VecDeque<Vec<u8>>,
}

impl Server {
    /// Ack everything that waits.
    fn ack(&mut self) -> Option<Vec<u8>> {
        self.waiting.front()?;
        for bytes in self.waiting.drain(..) {
            let (frame, _) = split(&bytes).expect("well formed").expect("whole");
            assert!(
                verify_session(&self.keys.client, self.received, &frame),
                "frame {}",
                self.received
            );
            self.received += 1;
            assert_eq!(
                Send::parse(frame).expect("a SEND").sequence().0,
                self.last + 1
            );
            self.last += 1;
        }
        let mut out = Vec::new();
        let ack = Ack {
            partition: PartitionId(3),
            sequence: Sequence(self.last),
            ack_mode: AckMode::Local,
            offset: Offset(self.last),
            credit_frames: CREDIT_FRAMES,
            credit_bytes: 1 << 20,
        };
        ack.encode(
            &mut out,
            Signer::Session {
                key: &self.keys.server,
                frame_index: self.sent,
            },
        );
        self.sent += 1;
        Some(out)
    }

    /// Refuse the first frame that waits, for now; what is behind it is thrown away.
    fn refuse(&mut self, retry_after_ms: u32) -> Vec<u8> {
        self.received += self.waiting.drain(..).count() as u64;
        let reject = Reject {
            partition: PartitionId(3),
            sequence: Sequence(self.last + 1),
            notice: Notice::new(Reason::Busy, 0, 0).retry_after(retry_after_ms),
        };
        let signer = Signer::Session {
            key: &self.keys.server,
            frame_index: self.sent,
        };
        let mut out = Vec::new();
        reject.encode(&mut out, signer);
        self.sent += 1;
        out
    }
}

struct Wire<'a>(&'a mut Server);

impl Port for Wire<'_> {
    fn buffer(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn send(&mut self, _: usize, bytes: Vec<u8>) {
        self.0.waiting.push_back(bytes);
    }

    fn throw(&mut self, _: usize, _: Vec<u8>) {
        unreachable!("it sends no datagrams");
    }
}

fn handshake() -> (Opened, Server) {
    let credentials = client::Credentials::key("a/e/sender", 1, KEY).expect("well formed");
    let (opening, flight) = Opening::begin(&credentials, None, [1; 32], 0, None).expect("fits");
    let (preface, rest) = Preface::parse(&flight).expect("a preface").expect("whole");
    let (frame, _) = split(rest).expect("a frame").expect("whole");
    let hello = Hello::parse(frame).expect("a HELLO");
    let session_id = SessionId([5; 16]);
    let keys = SessionKeys::derive(
        KEY.as_bytes(),
        &hello.fields.client_nonce,
        &[2; 32],
        session_id,
        &[],
    );
    let fields = WelcomeFields {
        epoch: 1,
        session_id,
        server_nonce: [2; 32],
        endpoint: EndpointId::of("a/e/sender"),
        unix_nanos: UnixNanos(0),
        frame_bytes_max: 524_288,
        body_bytes_max: 262_144,
        messages_max: 4_096,
        shards: 1,
        home_shard: 0,
        direction: Direction::Ingress,
        credit_frames: CREDIT_FRAMES,
        credit_bytes: 1 << 20,
        idle_timeout_ms: 60_000,
        linger_ms: 60_000,
        logs: LogsId(1),
    };
    let entry = WelcomeEntry {
        channel: ChannelId::of(CHANNEL),
        partition: PartitionId(3),
        last_sequence: Sequence(0),
        ack_mode: AckMode::Local,
        name: CHANNEL,
    };
    let mut answer = preface.answer().encode().to_vec();
    let signer = Signer::Session {
        key: &keys.server,
        frame_index: 0,
    };
    encode_welcome(&mut answer, &fields, [entry].into_iter(), signer);
    let (opened, _) = opening
        .read(&answer)
        .expect("a good WELCOME")
        .expect("whole");
    (
        opened,
        Server {
            keys,
            received: 0,
            sent: 1,
            last: 0,
            waiting: VecDeque::new(),
        },
    )
}

/// One sender that is to send `seconds`, 1,000 messages/s or as many as it can.
fn sending(opened: Opened, seconds: u64, saturate: bool) -> Sending {
    let source = Source {
        endpoint: EndpointId::of("a/e/sender"),
        channel: ChannelId::of(CHANNEL),
    };
    let length = Duration::from_secs(seconds);
    let flow = Flow {
        source,
        lane: 0,
        envelope: None,
        schedule: Some(Schedule::new(Arrival::Constant, 1_000.0, length, 0, 1, 1).peekable()),
        planned: VecDeque::new(),
        refused: VecDeque::new(),
        outcome: Outcome::default(),
    };
    let bodies =
        Bodies::open(&PayloadSource::Synthetic, &BodySizes::Fixed(100), 1).expect("synthetic");
    let times = Times {
        warm_up: 0,
        end: seconds * SECOND,
        deadline: (seconds + 10) * SECOND,
        saturate,
    };
    let lane = Lane::new(opened, PartitionId(3), 0, 0);
    Sending::new(
        (vec![flow], vec![lane]),
        bodies,
        Run { id: 1, began: 0 },
        times,
        (1, 512),
    )
}

/// Run `seconds` at 1,000 messages/s in steps of 1 ms; the server takes nothing during `pause`.
fn run(seconds: u64, pause: std::ops::Range<u64>) -> Sending {
    let (opened, mut server) = handshake();
    let mut sending = sending(opened, seconds, false);
    let mut now = 0;
    while !sending.finished(now) {
        if !pause.contains(&now)
            && let Some(ack) = server.ack()
        {
            sending.receive(0, now, &ack);
        }
        let mut port = Wire(&mut server);
        sending.release(now, &mut port);
        sending.submitted(now);
        sending.prepare(now, &mut port);
        now += MILLISECOND;
    }
    assert_eq!(sending.lanes[0].fault, None);
    sending
}

#[test]
fn a_server_that_never_pauses_shows_no_long_latency() {
    let sending = run(4, 0..0);
    let ack = sending.measured.ack.summary().expect("acked");
    assert_eq!(
        (ack.count, sending.totals.sent, sending.totals.acked),
        (4_000, 4_000, 4_000)
    );
    assert!(ack.max <= 2.01, "{ack:?}");
}

#[test]
fn a_pause_of_two_seconds_is_charged_to_every_message_due_meanwhile() {
    let sending = run(10, 4 * SECOND..6 * SECOND);
    let measured = &sending.measured;
    let ack = measured.ack.summary().expect("acked");
    assert_eq!(
        (ack.count, sending.totals.acked),
        (10_000, 10_000),
        "every due message was sent and acked"
    );
    assert!(ack.max >= 1_999.0 && ack.p999 >= 1_900.0, "{ack:?}");
    // A fifth of all messages were due during the pause: they wait between 0 and 2 s.
    assert!(ack.p90 > 900.0 && ack.p50 < 3.0, "{ack:?}");
    let late = measured.lateness.summary().expect("sent");
    assert!(
        late.max <= 1.01,
        "the generator itself was never late: {late:?}"
    );
    assert_eq!(
        sending.flows[0].outcome,
        Outcome {
            sent: 10_000,
            answered: 10_000,
            rejected: vec![],
            lost: vec![],
        }
    );
}

#[test]
fn a_sender_that_is_refused_for_now_waits_as_it_was_told_and_then_tries_with_one_frame() {
    let (opened, mut server) = handshake();
    let mut sending = sending(opened, 10, true);
    // Frames that go out in a step at this time.
    let mut step = |server: &mut Server, now: u64, answer: Option<Vec<u8>>| {
        if let Some(answer) = answer {
            sending.receive(0, now, &answer);
        }
        sending.prepare(now, &mut Wire(server));
        sending.release(now, &mut Wire(server));
        sending.submitted(now);
        assert_eq!(sending.lanes[0].fault, None);
        server.waiting.len()
    };
    assert_eq!(step(&mut server, 0, None), CREDIT_FRAMES as usize);
    for round in 0..3 {
        let at = round * SECOND;
        let refusal = server.refuse(50);
        assert_eq!(step(&mut server, at, Some(refusal)), 0, "round {round}");
        assert_eq!(step(&mut server, at + 49 * MILLISECOND, None), 0);
        assert_eq!(step(&mut server, at + 50 * MILLISECOND, None), 1);
        assert_eq!(step(&mut server, at + 60 * MILLISECOND, None), 1);
    }
    let ack = server.ack();
    let sent = step(&mut server, 4 * SECOND, ack);
    assert_eq!(sent, CREDIT_FRAMES as usize, "all that the ACK allows");
}

#[test]
fn a_flooding_lane_keeps_neither_to_its_credit_nor_to_the_time_it_was_told_until_it_is_calmed() {
    let (opened, mut server) = handshake();
    let mut sending = sending(opened, 10, true);
    sending.lanes[0].flood();
    let beyond = 2 * CREDIT_FRAMES as usize;
    let mut step = |server: &mut Server, now: u64, calm: bool, answer: Option<Vec<u8>>| {
        if calm {
            sending.lanes[0].calm();
        }
        if let Some(answer) = answer {
            sending.receive(0, now, &answer);
        }
        for _ in 0..2 {
            sending.prepare(now, &mut Wire(server));
            sending.release(now, &mut Wire(server));
            sending.submitted(now);
        }
        assert_eq!(sending.lanes[0].fault, None);
        server.waiting.len()
    };
    assert_eq!(step(&mut server, 0, false, None), beyond);
    let refusal = server.refuse(60_000);
    assert_eq!(
        step(&mut server, 1, false, Some(refusal)),
        beyond,
        "at once"
    );
    let ack = server.ack();
    step(&mut server, 2, true, ack);
    let refusal = server.refuse(50);
    let at = SECOND;
    assert_eq!(
        step(&mut server, at, true, Some(refusal)),
        0,
        "calmed, it waits"
    );
}

#[test]
fn a_session_opened_again_books_what_the_log_has_and_sends_the_rest_once_more() {
    let (opened, mut server) = handshake();
    let mut sending = sending(opened, 10, true);
    sending.lanes[0].flood();
    for now in 0..2 {
        sending.prepare(now, &mut Wire(&mut server));
        sending.release(now, &mut Wire(&mut server));
        sending.submitted(now);
    }
    let sent = 2 * u64::from(CREDIT_FRAMES);
    assert_eq!(sending.totals.sent, sent);
    sending.lanes[0].end("cut".to_owned());
    let (opened, mut next) = handshake();
    next.last = 7;
    sending.reopen(0, opened, Sequence(7), 3);
    assert_eq!((sending.totals.acked, sending.totals.sent), (7, sent));
    sending.release(4, &mut Wire(&mut next));
    assert_eq!(
        next.waiting.len() as u64,
        sent - 7,
        "those the log does not have"
    );
    let ack = next
        .ack()
        .expect("numbers and signatures fit the new session");
    sending.receive(0, 5, &ack);
    assert_eq!((sending.totals.acked, sending.totals.sent), (sent, sent));
    assert_eq!(sending.lanes[0].fault, None);
}
