//! Receivers that take less than there is: each a thread with a connection of its own, which it leaves alone most of the time.

use super::Clock;
use super::receiving::Tap;
use crate::socket::Socket;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long one read or one pause lasts at most.
const STEP: Duration = Duration::from_millis(20);
const WRITE_TIME: Duration = Duration::from_secs(1);
/// Bytes that a message is thought to take before the first has come whole.
const MESSAGE_BYTES: f64 = 192.0;

/// One slow receiver.
pub(crate) struct Slow {
    pub(crate) tap: Tap,
    pub(crate) socket: Socket,
    pub(crate) rest: Vec<u8>,
    /// Messages per second; 0 to read nothing.
    pub(crate) per_s: f64,
    /// Bytes read: a DELIVER may hold thousands of messages, and the rate must hold inside it too.
    pub(crate) taken: u64,
    /// Seconds for which it was there.
    pub(crate) seconds: f64,
}

impl Slow {
    /// Take messages no faster than the rate, until `over` or until the connection ends.
    pub(crate) fn read(mut self, clock: Clock, over: &AtomicBool) -> Self {
        if let Err(error) = self.read_on(clock, over) {
            self.tap.fault.get_or_insert(error.to_string());
        }
        self.seconds = clock.now() as f64 / 1e9;
        self
    }

    fn read_on(&mut self, clock: Clock, over: &AtomicBool) -> std::io::Result<()> {
        self.tap
            .receive(&std::mem::take(&mut self.rest), 0, clock.unix(0));
        let mut buffer = Vec::new();
        while !over.load(Ordering::Relaxed) && self.tap.fault.is_none() {
            let now = clock.now();
            self.tap.keep_alive(now);
            let out = std::mem::take(&mut self.tap.out);
            self.socket.write_all(&out, WRITE_TIME)?;
            if self.taken as f64 >= self.due(now) {
                self.socket.pause(STEP);
                continue;
            }
            buffer.clear();
            match self.socket.read(&mut buffer, STEP) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    self.taken += bytes as u64;
                    self.tap.receive(&buffer, now, clock.unix(now));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Bytes that it may have read by now.
    fn due(&self, now: u64) -> f64 {
        let each = match self.tap.observer.read() {
            0 => MESSAGE_BYTES,
            messages => self.taken as f64 / messages as f64,
        };
        self.per_s * now as f64 / 1e9 * each
    }
}
