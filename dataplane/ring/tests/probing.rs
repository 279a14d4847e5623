//! What asking the kernel leaves behind on the thread that asked. In a process of its own: other rings leave traces, too.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ring::Features;

/// The kernel took the ring of a probe apart a tenth of a second after it was dropped.
const LOOK: Duration = Duration::from_millis(400);
const PROBES: usize = 2;

#[test]
fn a_thread_that_asks_what_the_kernel_offers_is_not_interrupted_afterwards() {
    let (mut silent, _peer) = UnixStream::pair().unwrap();
    silent.set_read_timeout(Some(LOOK)).unwrap();
    for number in 1..=PROBES {
        Features::probe().unwrap();
        let error = silent.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{number}: {error}");
    }
}
