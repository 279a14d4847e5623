//! WELCOME and REFUSED: what is taken is what the encoder makes.
#![no_main]

use framed::{bounded, framed, same};
use libfuzzer_sys::fuzz_target;
use wire::home::Home;
use wire::handshake::{Welcome, encode_refused, encode_welcome, parse_refused};

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

fn check(data: &[u8]) {
    framed(data, |frame| {
        if let Ok(welcome) = Welcome::parse(frame) {
            let entries: Vec<_> = welcome.entries().collect();
            assert_eq!(entries.len(), usize::from(frame.count()));
            same(frame, |out, signer| {
                encode_welcome(out, &welcome.fields, entries.into_iter(), signer)
            });
        }
        if let Ok(notice) = parse_refused(frame) {
            let mut out = Vec::new();
            encode_refused(&mut out, notice, Home::told(frame));
            assert_eq!(out, frame.bytes());
        }
    });
}
