//! The other end of a connection: sends what it can be known by, and ends in its own manner.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use ring::CloseCause;

use crate::shard::{Name, Outcome};
use crate::{PATIENCE, Plan};

/// How a peer ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// Sends all, finishes, reads the answer.
    Finishes,
    /// Closes when it sent this many bytes.
    GoesAt(usize),
    /// Resets when it sent this many bytes.
    ResetsAt(usize),
}

/// One peer.
pub(crate) struct Peer {
    stream: Option<TcpStream>,
    pub(crate) name: Name,
    bytes: Vec<u8>,
    sent: usize,
    manner: Manner,
}

impl Peer {
    pub(crate) fn new(
        address: SocketAddr,
        number: u64,
        plan: &Plan,
        random: &mut fastrand::Rng,
    ) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut content = fastrand::Rng::with_seed(plan.seed ^ number << 32);
        let bytes: Vec<u8> = (0..plan.bytes_max).map(|_| content.u8(..)).collect();
        let manner = match random.u8(..4) {
            0 if plan.unkind => Manner::GoesAt(random.usize(..=bytes.len())),
            1 if plan.unkind => Manner::ResetsAt(random.usize(..=bytes.len())),
            _ => Manner::Finishes,
        };
        Self {
            name: (address, stream.local_addr().unwrap()),
            stream: Some(stream),
            bytes,
            sent: 0,
            manner,
        }
    }

    /// Send a piece, or end. Returns whether there is more to do.
    pub(crate) fn step(&mut self, random: &mut fastrand::Rng) -> bool {
        let end = match self.manner {
            Manner::Finishes => self.bytes.len(),
            Manner::GoesAt(end) | Manner::ResetsAt(end) => end,
        };
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let piece = random.usize(1..=600).min(end - self.sent);
        // An owner that closed or aborted shows here, and in its outcome.
        let written = stream.write_all(&self.bytes[self.sent..self.sent + piece]);
        self.sent += piece;
        if written.is_ok() && self.sent < end {
            return true;
        }
        match self.manner {
            Manner::Finishes => {
                let _ = stream.shutdown(Shutdown::Write);
            }
            Manner::GoesAt(_) => self.stream = None,
            Manner::ResetsAt(_) => {
                reset_on_close(stream);
                self.stream = None;
            }
        }
        false
    }

    /// What the connection's end must have been.
    pub(crate) fn judge(&mut self, outcome: Option<&Outcome>, why: &str) {
        let Some(outcome) = outcome else {
            let reset = matches!(self.manner, Manner::ResetsAt(_));
            return assert!(reset, "{:?} has no end; {why}", self.name);
        };
        let got = outcome.received.len();
        assert!(
            got <= self.sent && outcome.received == self.bytes[..got],
            "{got} bytes, not those sent; {why}"
        );
        if outcome.cut || self.manner != Manner::Finishes {
            return;
        }
        assert_eq!(got, self.bytes.len(), "of a peer that finished; {why}");
        assert_eq!(outcome.cause, CloseCause::Peer, "{why}");
        let mut answer = Vec::new();
        let stream = self.stream.as_mut().unwrap();
        stream.read_to_end(&mut answer).unwrap();
        // What was queued when it left comes before.
        let last = answer.len() - 8;
        assert_eq!(answer[last..], (got as u64).to_le_bytes(), "{why}");
        assert!(answer[..last].iter().all(|byte| *byte == 0), "{why}");
    }
}

/// Closing sends a reset.
fn reset_on_close(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let bytes = size_of::<libc::linger>() as libc::socklen_t;
    let value = std::ptr::from_ref(&linger).cast();
    let (fd, level) = (stream.as_raw_fd(), libc::SOL_SOCKET);
    #[expect(unsafe_code, reason = "the standard library cannot set this option")]
    // SAFETY: the socket is open, `value` names `bytes` bytes of a live `linger`.
    let result = unsafe { libc::setsockopt(fd, level, libc::SO_LINGER, value, bytes) };
    assert_eq!(result, 0);
}
