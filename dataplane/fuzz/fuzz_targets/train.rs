//! What the kernel tells beside datagrams, and how a train of them is cut: any bytes are read or left out.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bounded(|| {
    ring::fuzzing::control(data);
    ring::fuzzing::said_is_read(data);
    ring::fuzzing::train(data);
}));
