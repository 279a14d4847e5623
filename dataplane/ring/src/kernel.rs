//! The queues shared with the kernel: push operations, enter, take completions. Knows no sockets.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};

use crate::counters::Counters;
use crate::error::RingError;
use crate::features::Features;
use crate::limits::{Environment, RingLimits};

/// Group of the provided-buffer ring for connections.
pub(crate) const BUFFER_GROUP: u16 = 0;
/// Group of the one for datagrams.
pub(crate) const DATAGRAM_GROUP: u16 = 1;

const REGISTER_RING_FDS: libc::c_long = 20;
const UNREGISTER_RING_FDS: libc::c_long = 21;

/// One io_uring, entered by one thread.
pub(crate) struct Kernel {
    /// Declared before the ring, because it must be undone before the ring is closed.
    registered: Option<RegisteredRing>,
    ring: IoUring,
    /// Operations that found the submission queue full, in order.
    backlog: VecDeque<squeue::Entry>,
    /// Operations whose last completion has not been taken.
    in_flight: usize,
    /// Sends prepared since the last enter.
    sends: u32,
    /// How long a wait looks past the completions of the sends it submits; 0 where the kernel cannot.
    patience_micros: u32,
}

impl Kernel {
    pub(crate) fn new(limits: &RingLimits, features: &Features) -> Result<Self, RingError> {
        let ring = build(limits.entries, features).map_err(|error| {
            Environment::read().explain_setup(errno(&error), limits.shared_bytes())
        })?;
        let registered = match features.registered_ring {
            true => RegisteredRing::new(ring.as_raw_fd()).ok(),
            false => None,
        };
        Ok(Self {
            registered,
            ring,
            backlog: VecDeque::new(),
            in_flight: 0,
            sends: 0,
            patience_micros: match features.minimum_wait {
                true => u32::try_from(limits.sends_patience.as_micros()).unwrap_or(u32::MAX),
                false => 0,
            },
        })
    }

    pub(crate) fn register_eventfd(&self, eventfd: RawFd) -> Result<(), RingError> {
        let registered = self.ring.submitter().register_eventfd(eventfd);
        registered.map_err(|e| RingError::Register {
            what: "eventfd",
            errno: errno(&e),
        })
    }

    /// Whether entering is by the registered descriptor. A thread has few such registrations.
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.is_some()
    }

    /// # Safety
    /// `address` must be a mapped, page-aligned ring of `entries` entries that outlives this ring.
    pub(crate) unsafe fn register_buffers(
        &self,
        address: u64,
        entries: u16,
        group: u16,
    ) -> Result<(), RingError> {
        let submitter = self.ring.submitter();
        // SAFETY: the caller promises what the call demands.
        let registered =
            unsafe { submitter.register_buf_ring_with_flags(address, entries, group, 0) };
        registered.map_err(|e| RingError::Register {
            what: "buffer ring",
            errno: errno(&e),
        })
    }

    /// Operations whose last completion has not been taken.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Hand an operation to the kernel at the next enter. Never fails: with the submission queue full it
    /// submits, and if that does not help, the operation waits in memory.
    ///
    /// # Safety
    /// Descriptor and memory named by the entry must stay valid until the operation's last completion
    /// was taken.
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry, counters: &mut Counters) {
        self.in_flight += 1;
        counters.submissions += 1;
        if self.backlog.is_empty() {
            if self.push_now(&entry) {
                return;
            }
            // An error that lasts shows again at the next enter, which reports it.
            let _ = self.enter(0, EnterFlags::empty(), None, counters);
            if self.push_now(&entry) {
                return;
            }
        }
        counters.submissions_delayed += 1;
        self.backlog.push_back(entry);
    }

    /// The operation just pushed is a send: its completion is no reason to end a wait.
    pub(crate) fn pushed_send(&mut self) {
        self.sends += 1;
    }

    /// From now on completions do not write the registered eventfd.
    pub(crate) fn silence_eventfd(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    fn push_now(&mut self, entry: &squeue::Entry) -> bool {
        let mut queue = self.ring.submission();
        // SAFETY: the entry was pushed by `push`, whose caller promises that what it names stays valid.
        unsafe { queue.push(entry) }.is_ok()
    }

    /// Operations the kernel has not been handed yet.
    pub(crate) fn pending(&mut self) -> usize {
        self.ring.submission().len() + self.backlog.len()
    }

    /// Whether there are no completions to take without entering.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.ring.completion().is_empty()
    }

    /// Whether the kernel keeps completions aside that found the completion queue full.
    pub(crate) fn overflowed(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Submit everything without waiting, and run deferred work so that its completions appear.
    pub(crate) fn submit_and_reap(&mut self, counters: &mut Counters) -> Result<(), RingError> {
        loop {
            let waiting = self.backlog.len();
            self.refill();
            self.enter(0, EnterFlags::GETEVENTS, None, counters)?;
            if self.backlog.is_empty() || self.backlog.len() == waiting {
                return Ok(());
            }
        }
    }

    /// Submit, then sleep until there is a completion of anything but the sends just submitted, a signal
    /// arrives or the timeout has passed. May also return for nothing.
    pub(crate) fn wait(
        &mut self,
        timeout: Duration,
        counters: &mut Counters,
    ) -> Result<(), RingError> {
        self.refill();
        if !self.backlog.is_empty() {
            return self.submit_and_reap(counters);
        }
        counters.waits += 1;
        // Nearly every send completes while it is submitted: one completion more than sends is news. Should a
        // send not complete, the kernel settles for any completion when its patience ends.
        let past = if self.patience_micros > 0 {
            self.sends
        } else {
            0
        };
        self.enter(1 + past, EnterFlags::GETEVENTS, Some(timeout), counters)
    }

    fn refill(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.push_now(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    fn enter(
        &mut self,
        completions_min: u32,
        flags: EnterFlags,
        timeout: Option<Duration>,
        counters: &mut Counters,
    ) -> Result<(), RingError> {
        counters.enters += 1;
        self.sends = 0;
        let submissions = self.ring.submission().len() as u32;
        let (fd, mut flags) = match &self.registered {
            Some(registered) => (
                registered.index as RawFd,
                flags | EnterFlags::REGISTERED_RING,
            ),
            None => (self.ring.as_raw_fd(), flags),
        };
        let time = timeout.map(Timespec::from).unwrap_or_default();
        let patience = if completions_min > 1 {
            self.patience_micros
        } else {
            0
        };
        let arguments = SubmitArgs::new().timespec(&time).min_wait_usec(patience);
        let (pointer, bytes) = match timeout {
            Some(_) => (
                std::ptr::from_ref(&arguments).cast(),
                size_of::<SubmitArgs<'_, '_>>(),
            ),
            None => (std::ptr::null::<libc::c_void>(), 0),
        };
        flags.set(EnterFlags::EXT_ARG, timeout.is_some());
        // SAFETY: `pointer` is null or names `bytes` bytes of arguments, which with the time they name
        // live across the call. What the submitted entries name stays valid, as `push` demands.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                submissions,
                completions_min,
                flags.bits(),
                pointer,
                bytes,
            )
        };
        if result >= 0 {
            return Ok(());
        }
        match errno(&std::io::Error::last_os_error()) {
            // A signal, the timeout, or a want of memory that passes when completions are taken.
            libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY => Ok(()),
            errno => Err(RingError::Enter { errno }),
        }
    }

    /// Take up to `max` completions that are there.
    pub(crate) fn take(&mut self, max: usize, taken: &mut Vec<cqueue::Entry>) {
        let before = taken.len();
        taken.extend(self.ring.completion().take(max));
        let last = taken[before..]
            .iter()
            .filter(|entry| !cqueue::more(entry.flags()));
        self.in_flight -= last.count();
    }
}

/// Make a ring with the flags the features allow.
pub(crate) fn build(entries: u32, features: &Features) -> std::io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_clamp()
        .setup_submit_all()
        .setup_cqsize(entries * 4);
    if features.defer_taskrun {
        builder.setup_single_issuer().setup_defer_taskrun();
    } else if features.cooperative_taskrun {
        builder.setup_coop_taskrun().setup_taskrun_flag();
    }
    builder.build(entries)
}

pub(crate) fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// A ring's descriptor registered with this thread, which saves its look-up at each enter.
///
/// The registration keeps the ring alive, so it must be undone before the ring is closed.
pub(crate) struct RegisteredRing {
    ring: RawFd,
    index: u32,
}

/// `struct io_uring_rsrc_update` of the kernel's interface.
#[repr(C)]
struct Update {
    offset: u32,
    reserved: u32,
    data: u64,
}

impl RegisteredRing {
    pub(crate) fn new(ring: RawFd) -> std::io::Result<Self> {
        // Offset -1 lets the kernel choose the index and write it back.
        let mut update = Update {
            offset: u32::MAX,
            reserved: 0,
            data: ring as u64,
        };
        register(ring, REGISTER_RING_FDS, &mut update)?;
        Ok(Self {
            ring,
            index: update.offset,
        })
    }
}

impl Drop for RegisteredRing {
    fn drop(&mut self) {
        let mut update = Update {
            offset: self.index,
            reserved: 0,
            data: 0,
        };
        // Failing means that it is not registered, which is what is wanted.
        let _ = register(self.ring, UNREGISTER_RING_FDS, &mut update);
    }
}

fn register(ring: RawFd, what: libc::c_long, update: &mut Update) -> std::io::Result<()> {
    let update = std::ptr::from_mut(update);
    // SAFETY: both registrations take an array of updates, here one, which lives across the call.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, what, update, 1) };
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use io_uring::opcode;

    use super::*;

    #[test]
    fn operations_that_found_the_queue_full_are_submitted_in_order() {
        let limits = RingLimits {
            entries: 8,
            ..RingLimits::default()
        };
        let features = Features::probe().expect("this machine runs rings");
        let mut kernel = Kernel::new(&limits, &features).expect("this machine runs rings");
        let mut counters = Counters::default();
        // As `push` leaves them when submitting does not help.
        let entry = |number| opcode::Nop::new().build().user_data(number);
        kernel.backlog.extend((0..100).map(entry));
        kernel.in_flight += 100;
        // SAFETY: names no descriptor and no memory.
        unsafe { kernel.push(entry(100), &mut counters) };
        assert_eq!((kernel.pending(), counters.submissions_delayed), (101, 1));
        let mut numbers = Vec::new();
        while kernel.in_flight() > 0 {
            let mut taken = Vec::new();
            kernel
                .submit_and_reap(&mut counters)
                .expect("the kernel takes part");
            kernel.take(1000, &mut taken);
            numbers.extend(taken.iter().map(cqueue::Entry::user_data));
        }
        assert_eq!(numbers, (0..=100).collect::<Vec<u64>>());
    }
}
