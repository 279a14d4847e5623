//! Waking a ring's owner from another thread.
//!
//! Two eventfds. The first is registered with the ring, so the kernel writes it for completions and
//! wakers write it too: owners that sleep by awaiting it need nothing else. The second is read by an
//! operation of the ring itself, so that writing it completes and ends `Ring::wait`. Which one is
//! written, if any, the owner's state tells: an owner that waits in the ring and is not asleep is told
//! by that state alone, without a system call.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::error::RingError;
use crate::sleep::{Call, Sleep};

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
    owner: Sleep,
}

impl Waker {
    pub(crate) fn new() -> Result<Self, RingError> {
        let signals = Signals {
            completions: eventfd()?,
            waits: eventfd()?,
            owner: Sleep::default(),
        };
        Ok(Self {
            signals: Arc::new(signals),
        })
    }

    /// Let the owner look again: what was done before this call it will see before it sleeps. Wakes
    /// before it looks are folded into one. At most one system call, and none while an owner that uses
    /// `Ring::wait` is at work. Whether there was one: the owner slept, or may have.
    pub fn wake(&self) -> bool {
        match self.signals.owner.wake() {
            Call::Nobody => return false,
            Call::Completions => signal(&self.signals.completions),
            Call::Waits => signal(&self.signals.waits),
        }
        true
    }

    /// The owner wants to sleep in the ring. Whether it may.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.signals.owner.fall_asleep()
    }

    /// The owner is about to look at everything.
    pub(crate) fn get_up(&self) {
        self.signals.owner.get_up();
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
