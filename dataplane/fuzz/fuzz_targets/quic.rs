//! QUIC of one shard: clients, strangers and the network do what any bytes tell; bounds hold, and in time nothing is left.
#![no_main]

use framed::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        node::fuzzing::play(&[]);
    },
    |data: &[u8]| bounded(|| {
        node::fuzzing::play(data);
    })
);
