//! The worked conversation: three connections, every byte of them, made and taken apart again.

use wire::ack::{Ack, Reject};
use wire::datagram;
use wire::delivery::{Deliver, DeliverBuilder, Fetch, Outcome, Settle, Source};
use wire::handshake::{
    Auth, Hello, HelloFields, Welcome, WelcomeEntry, WelcomeFields, encode_hello, encode_welcome,
};
use wire::link::{encode_bye, encode_ping, encode_pong, parse_bye, parse_ping, parse_pong};
use wire::preface::Preface;
use wire::send::{Send, SendBuilder};
use wire::signature::{SessionKeys, Signer, verify_hello, verify_session};
use wire::{
    AckMode, DATAGRAM_STREAM, Direction, Frame, FrameKind, Notice, Offset, Reason, Sequence,
    UnixNanos, split,
};

use crate::accepted::{HEADERS, group};
use crate::golden::{Block, assert_same, read};
use crate::parties::*;

/// One side's frames on one connection: signs them and counts their index.
struct Line<'a> {
    connection: &'a Connection,
    client_index: u64,
    server_index: u64,
    blocks: Vec<Block>,
    number: u8,
}

impl<'a> Line<'a> {
    fn new(number: u8, connection: &'a Connection) -> Self {
        Self {
            connection,
            client_index: 0,
            server_index: 0,
            blocks: Vec::new(),
            number,
        }
    }

    fn bytes(&mut self, from: &str, what: &str, note: &str, bytes: Vec<u8>) {
        self.blocks.push(Block::new(
            format!("connection {}, {from}: {what}", self.number),
            note,
            bytes,
        ));
    }

    fn client(&mut self, what: &str, note: &str, encode: impl FnOnce(&mut Vec<u8>, Signer<'_>)) {
        let signer = Signer::Session {
            key: &self.connection.keys.client,
            frame_index: self.client_index,
        };
        let mut out = Vec::new();
        encode(&mut out, signer);
        let note = format!("frame index {}; {note}", self.client_index);
        self.client_index += 1;
        self.bytes("client", what, &note, out);
    }

    fn server(&mut self, what: &str, note: &str, encode: impl FnOnce(&mut Vec<u8>, Signer<'_>)) {
        let signer = Signer::Session {
            key: &self.connection.keys.server,
            frame_index: self.server_index,
        };
        let mut out = Vec::new();
        encode(&mut out, signer);
        let note = format!("frame index {}; {note}", self.server_index);
        self.server_index += 1;
        self.bytes("server", what, &note, out);
    }

    fn open(&mut self, fields: HelloFields<'_>, note: &str) {
        self.bytes(
            "client",
            "preface",
            "sent together with HELLO",
            Preface::CLIENT.encode().to_vec(),
        );
        let mut out = Vec::new();
        let connection = self.connection;
        encode_hello(&mut out, &fields, &connection.secret, &connection.exporter)
            .expect("within all limits");
        self.bytes("client", "HELLO", note, out);
        let answer = Preface::CLIENT.answer().encode().to_vec();
        self.bytes("server", "preface", "version 1 is chosen", answer);
    }

    /// The sender comes, with its key, and is welcome: of its one channel the server has come so far.
    fn open_sender(&mut self, note: &str, welcome: &str, last: u64) {
        let connection = self.connection;
        let fields = HelloFields {
            auth: Auth::Key(SENDER_KEY),
            name: SENDER,
            client_nonce: connection.client_nonce,
            unix_seconds: NOW,
        };
        self.open(fields, note);
        let terms = terms(connection, SENDER, Direction::Ingress);
        let entry = WelcomeEntry {
            last_sequence: Sequence(last),
            ..ingress_entry()
        };
        self.server("WELCOME", welcome, |out, signer| {
            encode_welcome(out, &terms, [entry].into_iter(), signer);
        });
    }

    /// All that was said on it.
    fn bye(mut self) -> Vec<Block> {
        let bye = Notice::new(Reason::PeerBye, 0, 0);
        self.client(
            "BYE",
            "the connection is closed by the client",
            |out, signer| encode_bye(out, bye, signer),
        );
        self.blocks
    }
}

fn send(out: &mut Vec<u8>, sequence: u64, messages: &[Content<'_>], signer: Signer<'_>) {
    let mut builder = SendBuilder::begin(out, sender(), channel(), Sequence(sequence));
    for (at, (headers, body)) in messages.iter().enumerate() {
        let timestamp = UnixNanos(UnixNanos::from_seconds(NOW).0 + at as u64);
        builder
            .message(timestamp, headers, body)
            .expect("within all limits");
    }
    builder.finish(signer).expect("at least one message");
}

const TWO: &[Content<'static>] = &[(&HEADERS, b"21.5"), (&[], b"21.6")];

fn ack() -> Ack {
    Ack {
        partition: partition(),
        sequence: Sequence(1),
        ack_mode: AckMode::Durable,
        offset: Offset(1),
        credit_frames: 64,
        credit_bytes: 8_388_608,
    }
}

fn reject() -> Reject {
    let notice = Notice::new(Reason::OutOfSequence, 3, 2);
    Reject {
        partition: partition(),
        sequence: Sequence(3),
        notice,
    }
}

/// What a node of one shard offers.
fn terms(connection: &Connection, name: &str, direction: Direction) -> WelcomeFields {
    WelcomeFields {
        shards: 1,
        home_shard: 0,
        ..connection.welcome(name, direction)
    }
}

fn first(connection: &Connection) -> Vec<Block> {
    let mut line = Line::new(1, connection);
    line.open_sender(
        "auth 1, signed with the key's text",
        "one channel to send to",
        ingress_entry().last_sequence.0,
    );
    line.client(
        "SEND 1",
        "two messages, the first with two headers",
        |out, signer| send(out, 1, TWO, signer),
    );
    line.server("ACK 1", "messages 0 and 1 are on disk", |out, signer| {
        ack().encode(out, signer)
    });
    line.client("SEND 3", "number 2 is left out", |out, signer| {
        send(out, 3, &TWO[1..], signer)
    });
    line.server("REJECT 3", "out_of_sequence, 2 is needed", |out, signer| {
        reject().encode(out, signer)
    });
    line.client("PING 7", "nothing else to say", |out, signer| {
        encode_ping(out, Sequence(7), signer)
    });
    line.server("PONG 7", "the number comes back", |out, signer| {
        encode_pong(out, Sequence(7), signer)
    });
    line.bye()
}

fn second(connection: &Connection) -> Vec<Block> {
    let mut line = Line::new(2, connection);
    let token = receiver_token();
    let fields = HelloFields {
        auth: Auth::Token(&token),
        name: RECEIVER,
        client_nonce: connection.client_nonce,
        unix_seconds: 0,
    };
    line.open(
        fields,
        "auth 2, a token without sig, signed with the sig left out",
    );
    let welcome = terms(connection, RECEIVER, Direction::Egress);
    line.server("WELCOME", "one channel to hear", |out, signer| {
        encode_welcome(out, &welcome, [egress_entry()].into_iter(), signer);
    });
    let fetch = Fetch {
        source: Source::Queue,
        messages: 100,
        bytes: 1_048_576,
    };
    line.client(
        "FETCH",
        "credit for 100 messages and 1 MiB",
        |out, signer| fetch.encode(out, signer),
    );
    let messages = stored();
    line.server(
        "DELIVER 1",
        "both messages of SEND 1, as they were sent",
        |out, signer| {
            let mut builder = DeliverBuilder::begin(out, Source::Queue);
            assert!(builder.group(&group(1, 0, 2), &messages));
            assert!(builder.finish(signer));
        },
    );
    let settle = Settle {
        source: Source::Queue,
        number: Sequence(2),
        outcome: Outcome::AcceptUpTo,
    };
    line.client("SETTLE 2", "deliveries 1 and 2 are done", |out, signer| {
        settle.encode(out, signer)
    });
    line.bye()
}

fn third(connection: &Connection) -> Vec<Block> {
    let mut line = Line::new(3, connection);
    line.open_sender(
        "auth 1, signed with the key's text for this tunnel",
        "number 2 is next",
        1,
    );
    line.bytes(
        "beside the lane",
        "DATAGRAM 9",
        "lane 0, number 9; SEND 3, as the datagram with SEND 2 was lost",
        datagram(connection),
    );
    line.server("ACK of DATAGRAM 9", "it is on disk", |out, signer| {
        loose_ack().encode(out, signer)
    });
    line.bye()
}

/// One message in a datagram of the first lane.
fn datagram(connection: &Connection) -> Vec<u8> {
    let (mut out, mut frame) = (Vec::new(), Vec::new());
    datagram::begin(&mut out, 0, 9);
    let signer = Signer::Datagram {
        key: &connection.keys.client,
        number: 9,
    };
    send(&mut frame, 3, &TWO[1..], signer);
    out.append(&mut frame);
    out
}

fn loose_ack() -> Ack {
    Ack {
        partition: DATAGRAM_STREAM,
        sequence: Sequence(9),
        offset: Offset(2),
        ..ack()
    }
}

/// The messages of SEND 1, as a log holds them.
fn stored() -> Vec<u8> {
    let connection = Connection::ingress();
    let mut out = Vec::new();
    send(
        &mut out,
        1,
        TWO,
        Signer::Session {
            key: &connection.keys.client,
            frame_index: 0,
        },
    );
    let (frame, _) = split(&out).expect("our own frame").expect("is whole");
    Send::parse(frame)
        .expect("our own frame")
        .messages_bytes()
        .to_vec()
}

pub(crate) fn blocks() -> Vec<Block> {
    [
        first(&Connection::ingress()),
        second(&Connection::egress()),
        third(&Connection::tunnelled()),
    ]
    .concat()
}

#[test]
fn the_conversation_is_made_byte_for_byte() {
    assert_same("conversation.txt", &blocks());
}

/// What one side hears of a connection, out of the file alone.
fn heard(connection: u8, from: &str) -> Vec<u8> {
    let prefix = format!("connection {connection}, {from}: ");
    let blocks = read("conversation.txt")
        .into_iter()
        .filter(|block| block.title.starts_with(&prefix));
    blocks.flat_map(|block| block.bytes).collect()
}

/// Cut off the preface, then all frames.
fn frames(bytes: &[u8]) -> (Preface, Vec<Frame<'_>>) {
    let (preface, mut rest) = Preface::parse(bytes).expect("a preface").expect("is whole");
    let mut frames = Vec::new();
    while let Some((frame, after)) = split(rest).expect("good frames") {
        frames.push(frame);
        rest = after;
    }
    assert!(rest.is_empty(), "{} bytes left over", rest.len());
    (preface, frames)
}

fn kinds(frames: &[Frame<'_>]) -> Vec<FrameKind> {
    frames.iter().map(Frame::kind).collect()
}

#[test]
fn the_server_takes_the_first_connection_as_it_stands() {
    let bytes = heard(1, "client");
    let (preface, frames) = frames(&bytes);
    assert_eq!(preface.answer().chosen, 1);
    use FrameKind as K;
    assert_eq!(
        kinds(&frames),
        [K::Hello, K::Send, K::Send, K::Ping, K::Bye]
    );
    let hello = Hello::parse(frames[0]).expect("a good HELLO");
    assert_eq!(
        (hello.fields.name, hello.fields.auth),
        (SENDER, Auth::Key(SENDER_KEY))
    );
    let secret = *sender_secret().text_bytes();
    assert!(verify_hello(&secret, &[], &frames[0]));
    let ours = Connection::ingress();
    let keys = SessionKeys::derive(
        &secret,
        &hello.fields.client_nonce,
        &ours.server_nonce,
        ours.session,
        &[],
    );
    for (index, frame) in (0..).zip(&frames[1..]) {
        assert!(verify_session(&keys.client, index, frame), "frame {index}");
        assert!(
            !verify_session(&keys.client, index + 1, frame),
            "frame {index} moved"
        );
        assert!(
            !verify_session(&keys.server, index, frame),
            "frame {index} turned round"
        );
    }
    let send = Send::parse(frames[1]).expect("a good SEND");
    assert_eq!(
        (send.endpoint(), send.channel(), send.sequence()),
        (sender(), channel(), Sequence(1))
    );
    let messages: Vec<_> = send.messages().collect();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].headers.collect::<Vec<_>>(), HEADERS);
    assert_eq!(
        (messages[0].body, messages[1].body),
        (&b"21.5"[..], &b"21.6"[..])
    );
    assert_eq!(parse_ping(frames[3]), Ok(Sequence(7)));
    assert_eq!(
        parse_bye(frames[4]).map(|notice| notice.reason),
        Ok(Reason::PeerBye)
    );
}

#[test]
fn the_client_takes_the_first_connection_as_it_stands() {
    let bytes = heard(1, "server");
    let (preface, frames) = frames(&bytes);
    assert_eq!(preface.chosen, 1);
    use FrameKind as K;
    assert_eq!(kinds(&frames), [K::Welcome, K::Ack, K::Reject, K::Pong]);
    let ours = Connection::ingress();
    let welcome = Welcome::parse(frames[0]).expect("a good WELCOME");
    assert_eq!(welcome.fields, terms(&ours, SENDER, Direction::Ingress));
    assert_eq!(welcome.entries().collect::<Vec<_>>(), [ingress_entry()]);
    let terms = welcome.fields;
    let keys = SessionKeys::derive(
        &ours.secret,
        &ours.client_nonce,
        &terms.server_nonce,
        terms.session_id,
        &[],
    );
    for (index, frame) in (0..).zip(&frames) {
        assert!(verify_session(&keys.server, index, frame), "frame {index}");
    }
    assert_eq!(Ack::parse(frames[1]), Ok(ack()));
    assert_eq!(Reject::parse(frames[2]), Ok(reject()));
    assert_eq!(parse_pong(frames[3]), Ok(Sequence(7)));
}

#[test]
fn the_second_connection_stands_on_a_token_without_its_signature() {
    let (client, server) = (heard(2, "client"), heard(2, "server"));
    let ((_, client), (_, server)) = (frames(&client), frames(&server));
    let hello = Hello::parse(client[0]).expect("a good HELLO");
    let Auth::Token(token) = hello.fields.auth else {
        panic!("{:?}", hello.fields.auth)
    };
    let token = wire::token::Token::parse(token).expect("a good token");
    assert_eq!(
        (token.key_name(), token.signature()),
        (RECEIVER_KEY_NAME, None)
    );
    let secret = token
        .check(
            receiver_secret().mac(),
            UnixNanos::from_seconds(NOW),
            hello.fields.name,
        )
        .expect("covers its endpoint");
    assert!(verify_hello(&secret, &[], &client[0]));
    let terms = Welcome::parse(server[0]).expect("a good WELCOME").fields;
    let keys = SessionKeys::derive(
        &secret,
        &hello.fields.client_nonce,
        &terms.server_nonce,
        terms.session_id,
        &[],
    );
    (0..)
        .zip(&client[1..])
        .for_each(|(index, frame)| assert!(verify_session(&keys.client, index, frame)));
    (0..)
        .zip(&server)
        .for_each(|(index, frame)| assert!(verify_session(&keys.server, index, frame)));
    let fetch = Fetch::parse(client[1]).expect("a good FETCH");
    assert_eq!(
        fetch,
        Fetch {
            source: Source::Queue,
            messages: 100,
            bytes: 1_048_576
        }
    );
    let deliver = Deliver::parse(server[1]).expect("a good DELIVER");
    let groups: Vec<_> = deliver.groups().collect();
    assert_eq!((groups.len(), groups[0].header), (1, group(1, 0, 2)));
    assert_eq!(groups[0].bytes, stored());
    let settle = Settle::parse(client[2]).expect("a good SETTLE");
    assert_eq!(
        (settle.number, settle.outcome),
        (Sequence(2), Outcome::AcceptUpTo)
    );
}

#[test]
fn the_third_connection_is_made_for_its_tunnel_and_good_nowhere_else() {
    let (client, server) = (heard(3, "client"), heard(3, "server"));
    let ((_, client), (_, server)) = (frames(&client), frames(&server));
    let ours = Connection::tunnelled();
    let hello = Hello::parse(client[0]).expect("a good HELLO");
    assert_eq!(hello.fields.auth, Auth::Key(SENDER_KEY));
    let secret = *sender_secret().text_bytes();
    assert!(verify_hello(&secret, &counting(0xE0), &client[0]));
    for (why, exporter) in [
        ("plain", &[][..]),
        ("another tunnel", &counting(0xE1)),
        ("zeros", &[0; 32]),
    ] {
        assert!(!verify_hello(&secret, exporter, &client[0]), "{why}");
        let keys = SessionKeys::derive(
            &secret,
            &ours.client_nonce,
            &ours.server_nonce,
            ours.session,
            exporter,
        );
        assert!(!verify_session(&keys.server, 0, &server[0]), "{why}");
        assert!(!verify_session(&keys.client, 0, &client[1]), "{why}");
    }
    assert!(verify_session(&ours.keys.server, 0, &server[0]));
    assert!(verify_session(&ours.keys.client, 0, &client[1]));
    let beside = heard(3, "beside the lane");
    let datagram = datagram::Datagram::parse(&beside).expect("two numbers");
    assert_eq!((datagram.lane, datagram.number), (0, 9));
    let send = datagram::whole(datagram.frame).expect("one whole SEND");
    let send = Send::parse(send).expect("a good SEND");
    assert_eq!(send.sequence(), Sequence(3));
    assert!(datagram::verify(&ours.keys.client, 9, &send));
    assert!(!datagram::verify(&ours.keys.client, 0, &send));
    assert!(!datagram::verify(&ours.keys.server, 9, &send));
    assert!(verify_session(&ours.keys.server, 1, &server[1]));
    assert_eq!(Ack::parse(server[1]), Ok(loose_ack()));
}
