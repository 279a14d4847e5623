//! Golden bytes, spoiled at random: no parser may panic, loop or read outside. The fuzz targets do the
//! same without an end; this runs everywhere.

use wire::split;

use crate::golden::read;
use crate::refused::parse;

const PARSERS: [&str; 14] = [
    "preface", "hello", "welcome", "refused", "send", "relay", "ack", "reject", "fetch", "settle",
    "deliver", "ping", "bye", "goaway",
];

/// Change a few bytes, cut, grow or splice; often mend the length so that the body is reached.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..random.usize(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..6) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => {
                bytes[at] = *random
                    .choice([0, 1, 0x7F, 0x80, 0xFF].iter())
                    .expect("five of them")
            }
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.u8(..)),
            4 => bytes.extend_from_slice(&other[..random.usize(..=other.len())]),
            _ => bytes
                .splice(at.., other.iter().skip(at).copied())
                .for_each(drop),
        }
    }
    if bytes.len() >= 4 && random.u8(..4) > 0 {
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
    }
}

#[test]
fn a_hundred_thousand_spoiled_frames_panic_nowhere() {
    let blocks = [
        read("accepted.txt"),
        read("refused.txt"),
        read("conversation.txt"),
    ]
    .concat();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut whole, mut good) = (0u32, 0u32);
    for turn in 0..100_000 {
        let block = &blocks[turn % blocks.len()];
        let other = &blocks[random.usize(..blocks.len())].bytes;
        let mut bytes = block.bytes.clone();
        mutate(&mut random, &mut bytes, other);
        whole += u32::from(matches!(split(&bytes), Ok(Some(_))));
        for parser in PARSERS {
            good += u32::from(parse(parser, &bytes).is_ok());
        }
    }
    assert!(
        whole > 20_000,
        "only {whole} mutants reached a body: the test has lost its teeth"
    );
    assert!(good > 10_000, "only {good} mutants passed a parser");
}

#[test]
fn spoiled_messages_and_tokens_panic_nowhere() {
    let mut random = fastrand::Rng::with_seed(8);
    let mut messages = Vec::new();
    for body in [&b""[..], b"21.5"] {
        let headers: [(&str, &[u8]); 2] = [("unit", b"C"), ("k", b"")];
        wire::message::put_message(&mut messages, wire::UnixNanos(1), &headers, body)
            .expect("within limits");
    }
    let token = b"SharedAccessSignature sr=sb%3A%2F%2Fh%2Fa%2Fb&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D&se=99&skn=k";
    let mut read_messages = 0;
    for _ in 0..50_000 {
        let mut bytes = messages.clone();
        mutate(&mut random, &mut bytes, token);
        read_messages += usize::from(wire::message::validate(&bytes, 2).is_ok());
        let taken = wire::message::Messages::trusted(&bytes)
            .map(|message| message.headers.count())
            .sum::<usize>();
        assert!(taken <= bytes.len());
        let length = wire::message::message_bytes(&bytes).unwrap_or_default();
        assert!(length <= bytes.len());
        let mut bytes = token.to_vec();
        mutate(&mut random, &mut bytes, &messages);
        let text = String::from_utf8_lossy(&bytes[bytes.len().min(4)..]);
        let text = format!("Shar{text}");
        if let Ok(token) = wire::token::Token::parse(&text) {
            let _ = token.covers("a/b");
        }
    }
    assert!(
        read_messages > 100,
        "only {read_messages} mutants were still good"
    );
}
