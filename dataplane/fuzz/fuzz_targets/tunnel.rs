//! The server's end of a tunnel: whatever comes, in whatever pieces, nothing comes out but what its client said.
#![no_main]

#[path = "../../tls/tests/scripts/tunnel.rs"]
mod tunnel;

use framed::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        tunnel::Pair::get();
    },
    |data: &[u8]| bounded(|| {
        tunnel::play(tunnel::Pair::get(), data);
    })
);
