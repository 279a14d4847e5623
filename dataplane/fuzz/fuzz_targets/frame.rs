//! Cutting a byte stream into frames: always forward, never past the end, the same for any way of arriving.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;
use wire::{frame_bytes, split};

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

fn check(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((frame, after))) = split(rest) {
        assert_eq!(frame_bytes(rest), Ok(Some(frame.bytes().len())));
        assert_eq!(frame.bytes().len() + after.len(), rest.len());
        assert!(frame.body().len() + 16 <= frame.bytes().len());
        assert_eq!(split(frame.bytes()), Ok(Some((frame, &[][..]))));
        rest = after;
    }
    if let Err(error) = split(rest) {
        assert_eq!(error.notice().reason, error.reason());
    }
}
