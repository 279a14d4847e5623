//! The preface, ACK, REJECT and the frames of a connection's life: what is taken is what the encoders make.
#![no_main]

use framed::{bounded, framed, same};
use libfuzzer_sys::fuzz_target;
use wire::ack::{Ack, Reject};
use wire::home::Home;
use wire::link::{
    encode_bye, encode_goaway, encode_ping, encode_pong, parse_bye, parse_goaway, parse_ping,
    parse_pong,
};
use wire::preface::Preface;

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

fn check(data: &[u8]) {
    if let Ok(Some((preface, rest))) = Preface::parse(data) {
        assert_eq!([&preface.encode(), rest].concat(), data);
        assert!(preface.answer().chosen <= 1);
    }
    framed(data, |frame| {
        if let Ok(ack) = Ack::parse(frame) {
            same(frame, |out, signer| ack.encode(out, signer));
        }
        if let Ok(reject) = Reject::parse(frame) {
            same(frame, |out, signer| reject.encode(out, signer));
        }
        if let Ok(sequence) = parse_ping(frame) {
            same(frame, |out, signer| encode_ping(out, sequence, signer));
        }
        if let Ok(sequence) = parse_pong(frame) {
            same(frame, |out, signer| encode_pong(out, sequence, signer));
        }
        if let Ok(notice) = parse_bye(frame) {
            same(frame, |out, signer| encode_bye(out, notice, signer));
        }
        if let Ok(notice) = parse_goaway(frame)
            && !frame.signature().is_empty()
        {
            same(frame, |out, signer| encode_goaway(out, notice, Home::told(frame), signer));
        }
    });
}
