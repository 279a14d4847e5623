//! HELLO: what is taken is what the encoder makes.
#![no_main]

use framed::{bounded, framed};
use libfuzzer_sys::fuzz_target;
use wire::handshake::{Hello, encode_hello};

fuzz_target!(|data: &[u8]| bounded(|| check(data)));

fn check(data: &[u8]) {
    framed(data, |frame| {
        let Ok(hello) = Hello::parse(frame) else {
            return;
        };
        let mut out = Vec::new();
        encode_hello(&mut out, &hello.fields, b"secret", &[])
            .expect("what is parsed can be encoded");
        assert_eq!(&out[..out.len() - 32], frame.signed());
    });
}
