//! Waking a ring's owner from another thread.
//!
//! Two eventfds. The first is registered with the ring, so the kernel writes it for completions and
//! wakers write it too: owners that sleep by awaiting it need nothing else. The second is read by an
//! operation of the ring itself, so that writing it completes and ends `Ring::wait`; it is written only
//! once the owner has used `wait`. (Chaining the first behind the second would do for both, but a
//! signal raised inside a signal is put off by the kernel to its next quiet moment: milliseconds.)

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::RingError;

/// Wakes the owner of a ring out of `Ring::wait` or out of awaiting `Ring::eventfd`.
///
/// Keeps its descriptors open, also beyond the life of the ring: waking a ring that is gone does
/// nothing.
#[derive(Debug, Clone)]
pub struct Waker {
    signals: Arc<Signals>,
}

#[derive(Debug)]
struct Signals {
    completions: File,
    waits: File,
    waiting: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> Result<Self, RingError> {
        let signals = Signals {
            completions: eventfd()?,
            waits: eventfd()?,
            waiting: AtomicBool::new(false),
        };
        Ok(Self {
            signals: Arc::new(signals),
        })
    }

    /// Wake the owner. Wakes before the owner looks again are folded into one. One system call, two
    /// when the owner uses `Ring::wait`.
    pub fn wake(&self) {
        signal(&self.signals.completions);
        if self.signals.waiting.load(Ordering::SeqCst) {
            signal(&self.signals.waits);
        }
    }

    /// From now on `wake` also ends `wait`. Returns true the first time: a wake just before may have
    /// gone to the other eventfd only, so the caller must not sleep yet.
    pub(crate) fn start_waiting(&self) -> bool {
        !self.signals.waiting.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn completions(&self) -> RawFd {
        self.signals.completions.as_raw_fd()
    }

    pub(crate) fn duplicate(&self) -> std::io::Result<OwnedFd> {
        self.signals.completions.try_clone().map(OwnedFd::from)
    }

    pub(crate) fn waits(&self) -> RawFd {
        self.signals.waits.as_raw_fd()
    }
}

/// A blocking eventfd: the kernel would answer `EAGAIN` at once to operations on another.
fn eventfd() -> Result<File, RingError> {
    // SAFETY: takes two plain integers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        return Err(RingError::Descriptor {
            call: "eventfd",
            errno,
        });
    }
    // SAFETY: the kernel just gave this descriptor and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(File::from(fd))
}

fn signal(mut eventfd: &File) {
    // Writing 1 to an eventfd fails only at a count near 2^64, and then it is signalled anyway.
    let _ = eventfd.write(&1_u64.to_ne_bytes());
}
