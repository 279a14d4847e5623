//! Accepting with all descriptors spent. In a process of its own: the limit is the process's.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ring::{Event, Features, Ring, RingLimits};

const PATIENCE: Duration = Duration::from_secs(30);

/// Set the soft limit of open files.
fn limit_files(files: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    #[expect(unsafe_code, reason = "the standard library has no limits")]
    // SAFETY: writes one `rlimit`, which lives across the call.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = files;
    #[expect(unsafe_code, reason = "the standard library has no limits")]
    // SAFETY: reads one `rlimit`, which lives across the call.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!((got, set), (0, 0));
}

/// Open files until there are no descriptors left.
fn spend_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// Poll and sleep until an event fits.
fn until(ring: &mut Ring, fits: impl Fn(&Event) -> bool) {
    let (mut events, start) = (Vec::new(), Instant::now());
    while start.elapsed() < PATIENCE {
        if ring.poll(&mut events).unwrap() == 0 {
            ring.wait(PATIENCE).unwrap();
        }
        if events.drain(..).any(|event| fits(&event)) {
            return;
        }
    }
    panic!("nothing more happens: {ring:?}");
}

#[test]
fn without_descriptors_accepting_pauses_and_goes_on_when_some_return() {
    for (accept_retry, why) in [
        (PATIENCE * 100, "a closed connection"),
        (PATIENCE / 3000, "time"),
    ] {
        let limits = RingLimits {
            buffers: 4,
            buffer_bytes: 64,
            connections_max: 64,
            accept_retry,
            ..RingLimits::default()
        };
        limit_files(200);
        let mut ring = Ring::new(limits, Features::probe().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        ring.listen(listener).unwrap();
        let mut peers = vec![TcpStream::connect(address).unwrap()];
        until(&mut ring, |event| matches!(event, Event::Accepted { .. }));

        // One descriptor for the client's end, none for the ring's.
        let mut spent = spend_all();
        spent.pop();
        peers.push(TcpStream::connect(address).unwrap());
        until(&mut ring, |event| {
            matches!(
                event,
                Event::AcceptFailed {
                    errno: libc::EMFILE,
                    ..
                }
            )
        });
        let failed = ring.counters().accepts_failed;
        for _ in 0..20 {
            ring.poll(&mut Vec::new()).unwrap();
        }
        let again = ring.counters().accepts_failed - failed;
        assert!(again < 10, "{again} attempts in 20 polls: a busy loop");

        if why == "time" {
            spent.clear();
        } else {
            // The first peer goes; its connection's descriptor serves the second.
            peers.remove(0);
            let mut finished = None;
            let mut events = Vec::new();
            while finished.is_none() {
                ring.poll(&mut events).unwrap();
                finished = events.drain(..).find_map(|event| match event {
                    Event::Finished { connection } => Some(connection),
                    _ => None,
                });
            }
            // The client's descriptor must not serve: take it back.
            spent.extend(spend_all());
            ring.close(finished.unwrap());
        }
        until(&mut ring, |event| matches!(event, Event::Accepted { .. }));
        drop(ring);
        let mut peer = peers.pop().unwrap();
        assert_eq!(
            peer.read(&mut [0]).unwrap(),
            0,
            "accepted, then closed with the ring: {why}"
        );
    }
}
