//! Which shard a datagram comes to: the kernel's program and the shards agree about any datagram.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bounded(|| node::fuzzing::steering(data)));
