//! Bytes that every implementation refuses, with the reason, the value seen and the value needed.

use wire::ack::{Ack, Reject};
use wire::delivery::{Deliver, Fetch, Settle};
use wire::handshake::{Hello, Welcome, parse_refused};
use wire::link::{parse_bye, parse_goaway, parse_ping, parse_pong};
use wire::message::put_message;
use wire::preface::Preface;
use wire::send::{Relay, Send};
use wire::{ParseError, Reason, UnixNanos, split};

use crate::accepted::bytes;
use crate::golden::{Block, assert_same};
use crate::parties::Pairs;

/// Run the parser of this name over one frame.
pub(crate) fn parse(parser: &str, bytes: &[u8]) -> Result<(), ParseError> {
    if parser == "preface" {
        return Preface::parse(bytes).map(|_| ());
    }
    let Some((frame, _)) = split(bytes)? else {
        return Ok(());
    };
    match parser {
        "hello" => Hello::parse(frame).map(|_| ()),
        "welcome" => Welcome::parse(frame).map(|welcome| welcome.entries().for_each(drop)),
        "refused" => parse_refused(frame).map(|_| ()),
        "send" => Send::parse(frame).map(|send| {
            send.messages()
                .for_each(|message| message.headers.for_each(drop))
        }),
        "relay" => Relay::parse(frame).map(|relay| relay.inner().messages().for_each(drop)),
        "ack" => Ack::parse(frame).map(|_| ()),
        "reject" => Reject::parse(frame).map(|_| ()),
        "fetch" => Fetch::parse(frame).map(|_| ()),
        "settle" => Settle::parse(frame).map(|_| ()),
        "deliver" => Deliver::parse(frame).map(|deliver| {
            deliver
                .groups()
                .for_each(|group| group.messages().for_each(drop))
        }),
        "ping" => parse_ping(frame).map(|_| ()),
        "pong" => parse_pong(frame).map(|_| ()),
        "bye" => parse_bye(frame).map(|_| ()),
        "goaway" => parse_goaway(frame).map(|_| ()),
        other => panic!("no parser {other}"),
    }
}

/// How a golden frame is spoiled.
enum Spoil {
    /// These bytes at this place.
    Put(usize, Vec<u8>),
    /// Bytes slipped in before the signature, the length mended.
    Grow(Vec<u8>),
    /// So many bytes taken away before the signature, the length mended.
    Shrink(usize),
    /// The body replaced, the length mended.
    Body(Vec<u8>),
}
use Spoil::{Body, Grow, Put, Shrink};

fn spoil(mut bytes: Vec<u8>, spoil: Spoil) -> Vec<u8> {
    let signature = if bytes.len() > 5 && !bytes.starts_with(b"FBAY") {
        signature_bytes(bytes[5])
    } else {
        0
    };
    let end = bytes.len() - signature;
    match spoil {
        Put(at, put) => {
            bytes.splice(at..at + put.len(), put);
            return bytes;
        }
        Grow(more) => drop(bytes.splice(end..end, more)),
        Shrink(less) => drop(bytes.drain(end - less..end)),
        Body(body) => drop(bytes.splice(16..end, body)),
    }
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn signature_bytes(kind: u8) -> usize {
    [0, 32, 32, 64][usize::from(kind)]
}

type Row = (
    &'static str,
    &'static str,
    &'static str,
    Spoil,
    Reason,
    u64,
    u64,
);

#[rustfmt::skip]
fn headers_rows() -> Vec<Row> {
    let one = "send of one message";
    let le = |value: u32| value.to_le_bytes().to_vec();
    vec![
        ("foreign magic", "preface", "preface of a client", Put(0, b"HTTP".to_vec()), Reason::HelloMalformed, 0x5054_5448, 0x5941_4246),
        ("preface reserved byte", "preface", "preface of a client", Put(7, vec![1]), Reason::ReservedBits, 1, 0),
        ("preface version 0", "preface", "preface of a client", Put(5, vec![0]), Reason::UnsupportedVersion, 1, 1),
        ("preface upside down", "preface", "preface of a client", Put(5, vec![9, 3]), Reason::UnsupportedVersion, 3, 1),
        ("frame of 15 bytes", "send", one, Put(0, le(15)), Reason::FrameTooShort, 15, 16),
        ("frame without room for its signature", "send", one, Put(0, le(47)), Reason::FrameTooShort, 47, 48),
        ("frame longer than any", "send", one, Put(0, le(524_289)), Reason::FrameTooLong, 524_289, 524_288),
        ("kind 0", "send", one, Put(4, vec![0]), Reason::UnknownKind, 0, 0),
        ("kind 0x08", "send", one, Put(4, vec![0x08]), Reason::UnknownKind, 0x08, 0),
        ("kind 0x80", "send", one, Put(4, vec![0x80]), Reason::UnknownKind, 0x80, 0),
        ("kind 0x88", "send", one, Put(4, vec![0x88]), Reason::UnknownKind, 0x88, 0),
        ("signature kind 4", "send", one, Put(5, vec![4]), Reason::SignatureKind, 4, 0),
        ("unsigned send", "send", one, Put(5, vec![0]), Reason::SignatureKind, 0, 0),
        ("ping signed with a key", "ping", "ping", Put(5, vec![2]), Reason::SignatureKind, 2, 0),
        ("hello signed by a session", "hello", "hello with a key", Put(5, vec![1]), Reason::SignatureKind, 1, 0),
        ("refused with a signature", "refused", "refused", Put(5, vec![1]), Reason::SignatureKind, 1, 0),
        ("count in a ping", "ping", "ping", Put(6, vec![1, 0]), Reason::ReservedBits, 1, 0),
        ("count in an ack", "ack", "ack of a partition", Put(6, vec![0, 1]), Reason::ReservedBits, 256, 0),
        ("sequence in a fetch", "fetch", "fetch", Put(8, vec![3]), Reason::ReservedBits, 3, 0),
        ("sequence in a hello", "hello", "hello with a key", Put(15, vec![1]), Reason::ReservedBits, 1 << 56, 0),
        ("ack where a reject is due", "reject", "ack of a partition", Put(20, vec![2]), Reason::UnexpectedFrame, 0x83, 0),
    ]
}

#[rustfmt::skip]
fn send_rows() -> Vec<Row> {
    let (one, two) = ("send of one message", "send of two messages with headers");
    let (relay, ed) = (
        "relay of an envelope with a key",
        "relay of an envelope with ed25519",
    );
    let session = bytes(one);
    let ping = bytes("ping");
    let mut trailing = bytes("envelope with a key");
    trailing.push(0);
    let mut many = Vec::new();
    for _ in 0..65 {
        many.extend_from_slice(b"\x01\0\0\0k");
    }
    let mut headers = vec![0; 16];
    headers.extend_from_slice(&bytes(one)[16..32]);
    headers.drain(..16);
    headers.extend_from_slice(&[0, 0, 0, 0, 69, 1, 0, 0]);
    headers.extend_from_slice(&[0; 8]);
    headers.extend_from_slice(&many);
    headers[20..22].copy_from_slice(&325u16.to_le_bytes());
    vec![
        ("send without its fixed fields", "send", one, Body(vec![0; 15]), Reason::FrameTooShort, 15, 16),
        ("send with sequence 0", "send", one, Put(8, vec![0; 8]), Reason::OutOfSequence, 0, 1),
        ("send without messages", "send", one, Put(6, vec![0, 0]), Reason::NoMessages, 0, 1),
        ("send of 4097 messages", "send", one, Put(6, 4097u16.to_le_bytes().to_vec()), Reason::TooManyMessages, 4097, 4096),
        ("key id under a session signature", "send", one, Put(28, vec![1]), Reason::ReservedBits, 1, 0),
        ("more messages stated than sent", "send", one, Put(6, vec![2, 0]), Reason::MessageMalformed, 0, 16),
        ("fewer messages stated than sent", "send", two, Put(6, vec![1, 0]), Reason::MessageMalformed, 25, 0),
        ("reserved bits of a message", "send", one, Put(38, vec![0, 0x80]), Reason::ReservedBits, 0x8000, 0),
        ("body of one byte too many", "send", one, Put(32, 262_145u32.to_le_bytes().to_vec()), Reason::BodyTooLong, 262_145, 262_144),
        ("body longer than the frame", "send", one, Put(32, vec![5]), Reason::MessageMalformed, 20, 21),
        ("body that leaves a byte over", "send", one, Put(32, vec![3]), Reason::MessageMalformed, 1, 0),
        ("message cut in its fixed fields", "send", one, Shrink(5), Reason::MessageMalformed, 15, 16),
        ("headers of one byte too many", "send", one, Put(36, 8_193u16.to_le_bytes().to_vec()), Reason::HeadersTooLong, 8_193, 8_192),
        ("sixty-five headers", "send", one, Body(headers), Reason::HeadersTooLong, 65, 64),
        ("reserved byte of a header pair", "send", two, Put(49, vec![1]), Reason::ReservedBits, 1, 0),
        ("header without a key", "send", two, Put(48, vec![0]), Reason::MessageMalformed, 0, 0),
        ("header key that is not UTF-8", "send", two, Put(52, vec![0xFF]), Reason::MessageMalformed, 0, 0),
        ("header value longer than the headers", "send", two, Put(50, vec![0xFF]), Reason::MessageMalformed, 0, 0),
        ("second header cut short", "send", two, Put(84, vec![200]), Reason::MessageMalformed, 0, 1),
        ("relay number 0", "relay", relay, Put(8, vec![0]), Reason::OutOfSequence, 0, 1),
        ("relay of nothing", "relay", relay, Body(vec![]), Reason::FrameTooShort, 0, 32),
        ("relay of a body shorter than a header", "relay", relay, Body(vec![0xFF; 15]), Reason::FrameTooShort, 15, 32),
        ("relay of a session's frame", "relay", relay, Body(session), Reason::SignatureKind, 1, 0),
        ("relay of a ping", "relay", relay, Body(ping), Reason::UnexpectedFrame, 6, 0),
        ("relay with a byte over", "relay", relay, Body(trailing), Reason::FrameTooLong, 1, 0),
        ("relay of a frame cut short", "relay", ed, Shrink(1), Reason::FrameTooShort, 183, 184),
        ("relay of a broken frame", "relay", relay, Put(16, vec![15, 0, 0, 0]), Reason::FrameTooShort, 15, 16),
    ]
}

#[rustfmt::skip]
fn answer_rows() -> Vec<Row> {
    let (ack, reject) = ("ack of a partition", "reject of a send");
    let home = "refused to another node";
    vec![
        ("ack mode 0", "ack", ack, Put(20, vec![0]), Reason::ReservedBits, 0, 1),
        ("ack mode 3", "ack", ack, Put(20, vec![3]), Reason::ReservedBits, 3, 1),
        ("ack with a reserved byte", "ack", ack, Put(23, vec![1]), Reason::ReservedBits, 0x0001_0000, 0),
        ("ack one byte short", "ack", ack, Shrink(1), Reason::FrameTooShort, 23, 24),
        ("ack with a byte over", "ack", ack, Grow(vec![0]), Reason::FrameTooLong, 1, 0),
        ("reject with reserved bits", "reject", reject, Put(20, vec![1]), Reason::ReservedBits, 1, 0),
        ("reject with reserved bits in the notice", "reject", reject, Put(26, vec![1]), Reason::ReservedBits, 1, 0),
        ("reject without a reason", "reject", reject, Put(24, 0u16.to_le_bytes().to_vec()), Reason::ReservedBits, 0, 1101),
        ("reject one byte short", "reject", reject, Shrink(1), Reason::FrameTooShort, 31, 32),
        ("ping with a body", "ping", "ping", Grow(vec![0]), Reason::FrameTooLong, 1, 0),
        ("pong with a body", "pong", "pong", Grow(vec![0, 0]), Reason::FrameTooLong, 2, 0),
        ("bye without a notice", "bye", "bye", Body(vec![]), Reason::FrameTooShort, 0, 24),
        ("goaway with a byte over", "goaway", "goaway before a session", Grow(vec![0]), Reason::FrameTooLong, 1, 0),
        ("refused for reason 0", "refused", "refused", Put(16, vec![0, 0]), Reason::ReservedBits, 0, 1101),
        ("home without its lengths", "refused", home, Shrink(25), Reason::FrameTooShort, 26, 28),
        ("home cut short", "refused", home, Shrink(1), Reason::FrameTooShort, 50, 51),
        ("home with a byte over", "refused", home, Grow(vec![0]), Reason::FrameTooLong, 1, 0),
        ("home that is no name of a node", "refused", home, Put(44, vec![b'N']), Reason::ReservedBits, 5, 1),
        ("home at an address without a port", "refused", home, Put(62, vec![b'x']), Reason::ReservedBits, 18, 1),
        ("home behind another reason", "refused", home, Put(16, vec![0x50]), Reason::FrameTooLong, 27, 0),
        ("bye to another node", "bye", "bye", Grow(vec![0; 27]), Reason::FrameTooLong, 27, 0),
    ]
}

#[rustfmt::skip]
fn delivery_rows() -> Vec<Row> {
    let (fetch, settle) = ("fetch", "settle: accept one");
    let (one, two) = ("deliver of one group", "deliver of two groups");
    vec![
        ("fetch from source 2", "fetch", fetch, Put(16, vec![2]), Reason::ReservedBits, 2, 1),
        ("fetch with a reserved byte", "fetch", fetch, Put(17, vec![1]), Reason::ReservedBits, 1, 0),
        ("fetch with a byte over", "fetch", fetch, Grow(vec![0]), Reason::FrameTooLong, 1, 0),
        ("settle of source 2", "settle", settle, Put(16, vec![2]), Reason::ReservedBits, 2, 1),
        ("settle with outcome 0", "settle", settle, Put(17, vec![0]), Reason::ReservedBits, 0, 1),
        ("settle with outcome 5", "settle", settle, Put(17, vec![5]), Reason::ReservedBits, 5, 1),
        ("settle with a reserved byte", "settle", settle, Put(23, vec![1]), Reason::ReservedBits, 1 << 40, 0),
        ("deliver from source 2", "deliver", one, Put(16, vec![2]), Reason::ReservedBits, 2, 1),
        ("deliver with a reserved byte", "deliver", one, Put(18, vec![1]), Reason::ReservedBits, 256, 0),
        ("deliver without groups", "deliver", one, Put(6, vec![0]), Reason::ReservedBits, 0, 1),
        ("deliver with more groups stated than sent", "deliver", one, Put(6, vec![2]), Reason::FrameTooShort, 0, 48),
        ("deliver with fewer groups stated than sent", "deliver", two, Put(6, vec![1]), Reason::FrameTooLong, 68, 0),
        ("deliver with a wrong total", "deliver", one, Put(20, vec![3]), Reason::ReservedBits, 3, 2),
        ("deliver whose first number differs", "deliver", one, Put(24, vec![2]), Reason::ReservedBits, 2, 1),
        ("deliver whose numbers fall", "deliver", two, Put(112, vec![6]), Reason::ReservedBits, 6, 7),
        ("deliver of an empty group", "deliver", one, Put(64, vec![0]), Reason::ReservedBits, 0, 1),
        ("deliver of a group longer than the frame", "deliver", one, Put(68, vec![41]), Reason::FrameTooShort, 88, 48),
        ("deliver of a broken message", "deliver", one, Put(78, vec![1]), Reason::ReservedBits, 1, 0),
    ]
}

#[rustfmt::skip]
fn handshake_rows() -> Vec<Row> {
    let (key, token, resume) = (
        "hello with a key",
        "hello with a token that leaves sig out",
        "hello that resumes",
    );
    let (welcome, none) = (
        "welcome to send to one channel",
        "welcome without a channel",
    );
    let long = 2_049u16.to_le_bytes().to_vec();
    let mut too_long = bytes(key)[16..80].to_vec();
    too_long[0] = 2;
    too_long[1] = 5;
    too_long[2..4].copy_from_slice(&long);
    too_long[4] = 0;
    too_long.extend_from_slice(b"a/b/c");
    too_long.extend_from_slice(&[b'x'; 2_049]);
    vec![
        ("hello with auth 0", "hello", key, Put(16, vec![0]), Reason::HelloMalformed, 0, 1),
        ("hello with auth 4", "hello", key, Put(16, vec![4]), Reason::HelloMalformed, 4, 1),
        ("hello whose name is longer than it", "hello", key, Put(17, vec![17]), Reason::HelloMalformed, 16, 17),
        ("hello whose name is shorter than it", "hello", key, Put(17, vec![15]), Reason::HelloMalformed, 16, 15),
        ("hello with a name of two parts", "hello", "hello with the shortest name", Put(81, vec![b'x']), Reason::HelloMalformed, 5, 5),
        ("hello with a name of four parts", "hello", key, Put(89, vec![b'/', b'x', b'/']), Reason::HelloMalformed, 16, 5),
        ("hello with an empty part in its name", "hello", "hello with the shortest name", Put(80, vec![b'/']), Reason::HelloMalformed, 5, 5),
        ("hello with a name that is not UTF-8", "hello", key, Put(80, vec![0xC0]), Reason::HelloMalformed, 16, 5),
        ("hello with a key and a token", "hello", token, Put(16, vec![1]), Reason::ReservedBits, 101, 0),
        ("hello with a token that is not there", "hello", key, Put(16, vec![2]), Reason::HelloMalformed, 0, 2_048),
        ("hello with a token of 2049 bytes", "hello", key, Body(too_long), Reason::HelloMalformed, 2_049, 2_048),
        ("hello with a token that is not ASCII", "hello", token, Put(100, vec![0xC3, 0xA4]), Reason::HelloMalformed, 0, 0),
        ("hello with a token and a key id", "hello", token, Put(20, vec![1]), Reason::ReservedBits, 1, 0),
        ("hello with a key and a session", "hello", key, Put(64, vec![1]), Reason::ReservedBits, 1, 0),
        ("hello that resumes with a key id", "hello", resume, Put(20, vec![1]), Reason::ReservedBits, 1, 0),
        ("hello without its fixed fields", "hello", key, Body(vec![1; 63]), Reason::FrameTooShort, 63, 64),
        ("welcome with its reserved byte", "welcome", none, Put(95, vec![1]), Reason::ReservedBits, 1, 0),
        ("welcome in direction 0", "welcome", none, Put(94, vec![0]), Reason::HelloMalformed, 0, 1),
        ("welcome with ack mode 0", "welcome", welcome, Put(136, vec![0]), Reason::HelloMalformed, 39, 21),
        ("welcome with reserved bits in an entry", "welcome", welcome, Put(138, vec![1]), Reason::ReservedBits, 1, 0),
        ("welcome with a nameless channel", "welcome", welcome, Put(137, vec![0]), Reason::HelloMalformed, 39, 21),
        ("welcome with a name longer than it", "welcome", welcome, Put(137, vec![20]), Reason::HelloMalformed, 39, 21),
        ("welcome with a byte over", "welcome", none, Grow(vec![0]), Reason::FrameTooLong, 1, 0),
        ("welcome with more entries stated than sent", "welcome", none, Put(6, vec![1]), Reason::HelloMalformed, 0, 21),
        ("welcome with 1025 entries", "welcome", none, Put(6, 1_025u16.to_le_bytes().to_vec()), Reason::HelloMalformed, 1_025, 1_024),
    ]
}

/// All of them: the note names the parser and the answer.
pub(crate) fn blocks() -> Vec<Block> {
    let rows = [
        headers_rows(),
        send_rows(),
        answer_rows(),
        delivery_rows(),
        handshake_rows(),
    ];
    let rows = rows.into_iter().flatten();
    rows.map(|(title, parser, base, how, reason, seen, needed)| {
        let note = format!("{parser}: {reason}, seen {seen}, needed {needed}");
        Block::new(title, note, spoil(bytes(base), how))
    })
    .collect()
}

#[test]
fn spoiled_frames_are_refused_by_name_and_value() {
    let blocks = blocks();
    for block in &blocks {
        let (parser, want) = block.note.split_once(": ").expect("blocks() wrote it");
        let notice = parse(parser, &block.bytes).map_err(|error| error.notice());
        let got = notice.map_err(|notice| {
            format!(
                "{}, seen {}, needed {}",
                notice.reason, notice.seen, notice.needed
            )
        });
        assert_eq!(got, Err(want.to_owned()), "{}", block.title);
    }
    assert_same("refused.txt", &blocks);
}

#[test]
fn messages_that_no_parser_would_take_are_not_encoded() {
    let long_key = "k".repeat(256);
    let many: Vec<(&str, &[u8])> = vec![("k", b""); 65];
    let long_body = vec![0; 262_145];
    let long_value = vec![0; 8_192];
    let rows: [(&str, Pairs<'_>, &[u8], ParseError); 5] = [
        (
            "no key",
            &[("", b"v")],
            b"",
            ParseError::HeaderMalformed { index: 0, pair: 0 },
        ),
        (
            "long key",
            &[("a", b""), (&long_key, b"")],
            b"",
            ParseError::HeaderMalformed { index: 0, pair: 1 },
        ),
        ("many headers", &many, b"", ParseError::TooManyHeaders),
        (
            "long headers",
            &[("k", &long_value)],
            b"",
            ParseError::HeadersLong { got: 8_197 },
        ),
        (
            "long body",
            &[],
            &long_body,
            ParseError::BodyLong { got: 262_145 },
        ),
    ];
    for (why, headers, body, want) in rows {
        let mut out = vec![1, 2, 3];
        assert_eq!(
            put_message(&mut out, UnixNanos(0), headers, body),
            Err(want),
            "{why}"
        );
        assert_eq!(out, [1, 2, 3], "{why}");
    }
}
