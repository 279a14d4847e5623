//! The ring: submit, take completions, hand each to the file that understands it.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{FromRawFd, IntoRawFd, RawFd};
use std::time::Duration;

use io_uring::types::Timespec;
use io_uring::{cqueue, opcode, types};

use crate::accept::Listener;
use crate::buffers::{Buffers, Lease};
use crate::connection::Connection;
use crate::counters::Counters;
use crate::datagrams::DatagramSocket;
use crate::error::RingError;
use crate::event::Event;
use crate::features::Features;
use crate::kernel::{BUFFER_GROUP, Kernel};
use crate::limits::{self, LISTENERS_MAX, RingLimits};
use crate::send::Pool;
use crate::slab::Slab;
use crate::sync::{SYNCS_MAX, Sync};
use crate::token::{self, Key, Kind};
use crate::waiting::Waiting;
use crate::waker::Waker;

/// Times a poll goes round for completions that make no event, before it lets the owner go on.
const ROUNDS_MAX: usize = 16;
/// Rounds, and time of each, in which a dropped ring waits for its operations.
const DROP_ROUNDS_MAX: usize = 200;
const DROP_ROUND: Duration = Duration::from_millis(10);
/// Key of the ring's own operations, which belong to no slot.
const OWN_KEY: Key = 0;

/// One io_uring of one thread, with its listeners, connections and buffers.
///
/// Made, used and dropped on one thread: neither `Send` nor `Sync`. Dropping it closes every
/// connection and listener and waits for the kernel to let go of their memory. The kernel takes the rest apart up to some tenths
/// of a second later, and then a blocking call of this thread may fail with `EINTR`.
pub struct Ring {
    pub(crate) kernel: Kernel,
    pub(crate) limits: RingLimits,
    pub(crate) features: Features,
    pub(crate) counters: Counters,
    pub(crate) buffers: Buffers,
    pub(crate) pool: Pool,
    pub(crate) connections: Slab<Connection>,
    pub(crate) listeners: Slab<Listener>,
    pub(crate) syncs: Slab<Sync>,
    /// Declared behind `kernel`, as `buffers` is.
    pub(crate) datagrams: Option<DatagramSocket>,
    /// Connections to look at before the next enter.
    pub(crate) touched: Vec<Key>,
    /// Connections that wait for receive buffers.
    pub(crate) waiting: Waiting,
    pub(crate) out_of_buffers: bool,
    pub(crate) clocks: Box<Clocks>,
    waker: Waker,
    wake: Wake,
    /// The owner has called `wait`.
    waits: bool,
    /// Completions taken and not yet handled; empty between calls.
    taken: Vec<cqueue::Entry>,
    _thread: PhantomData<*mut ()>,
}

/// Times the kernel reads while it takes a timer.
pub(crate) struct Clocks {
    pub(crate) close: Timespec,
    pub(crate) accept_retry: Timespec,
}

/// The read that lets a waker end `wait`.
struct Wake {
    armed: bool,
    /// Where the kernel writes the eventfd's count.
    count: Box<UnsafeCell<u64>>,
}

impl Ring {
    /// Make a ring on the thread that will use it.
    ///
    /// Raises the process's soft limit of open files when `connections_max` needs it and the hard limit
    /// allows it. Receive memory is mapped now and touched when used.
    ///
    /// # Errors
    /// Any fault of limits or environment, with its remedy.
    pub fn new(limits: RingLimits, mut features: Features) -> Result<Self, RingError> {
        limits.check()?;
        if !features.buffer_ring {
            return Err(RingError::FeatureMissing {
                name: "io_uring provided-buffer rings",
            });
        }
        limits::ensure_open_files(limits.files_needed())?;
        let waker = Waker::new()?;
        let buffers = Buffers::new(limits.buffers, limits.buffer_bytes)?;
        let kernel = Kernel::new(&limits, &features)?;
        features.registered_ring = kernel.is_registered();
        kernel.register_eventfd(waker.completions())?;
        let (address, entries) = buffers.shared();
        // SAFETY: the buffer ring is mapped, page aligned and has `entries` entries. It outlives the kernel's
        // ring: fields are dropped in order, and `kernel` comes before `buffers`.
        unsafe { kernel.register_buffers(address, entries, BUFFER_GROUP)? };
        let clocks = Clocks {
            close: Timespec::from(limits.close_timeout),
            accept_retry: Timespec::from(limits.accept_retry),
        };
        Ok(Self {
            kernel,
            features,
            counters: Counters::default(),
            buffers,
            pool: Pool::new(&limits),
            connections: Slab::new(limits.connections_max),
            listeners: Slab::new(LISTENERS_MAX),
            syncs: Slab::new(SYNCS_MAX),
            datagrams: None,
            touched: Vec::new(),
            waiting: Waiting::default(),
            out_of_buffers: false,
            clocks: Box::new(clocks),
            waker,
            wake: Wake {
                armed: false,
                count: Box::new(UnsafeCell::new(0)),
            },
            waits: false,
            taken: Vec::with_capacity(limits.completions_max),
            limits,
            _thread: PhantomData,
        })
    }

    /// Features in use.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Bounds in use.
    #[must_use]
    pub fn limits(&self) -> &RingLimits {
        &self.limits
    }

    /// A handle that wakes this ring's owner from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Descriptor that becomes readable (8 bytes) when there may be completions or after a wake.
    ///
    /// For owners that sleep asynchronously: once `poll` returned 0, read it, then poll again. A hint: it
    /// may be readable for nothing. The ring keeps owning it: give a duplicate to whatever closes it.
    /// Not for owners that call `wait`.
    #[must_use]
    pub fn eventfd(&self) -> RawFd {
        self.waker.completions()
    }

    /// A duplicate of [`Ring::eventfd`] as the file type of the owner's runtime, which closes it.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn eventfd_as<F: FromRawFd>(&self) -> std::io::Result<F> {
        let duplicate = self.waker.duplicate()?.into_raw_fd();
        // SAFETY: the descriptor was opened by the line above and is owned by nobody else, which is all that
        // `from_raw_fd` asks for: `F` takes over an open descriptor and closes it.
        Ok(unsafe { F::from_raw_fd(duplicate) })
    }

    /// Submit what is prepared, take completions, append what happened to `events`. Returns how many
    /// events were appended, a little over `RingLimits::completions_max` at most.
    ///
    /// Enters the kernel only if there is something to submit or nothing to take. When it returns 0,
    /// everything was submitted and the owner may sleep; otherwise handle the events and poll again.
    ///
    /// # Errors
    /// `Enter` for a reason that does not pass: the ring is of no more use.
    pub fn poll(&mut self, events: &mut Vec<Event>) -> Result<usize, RingError> {
        let before = events.len();
        for _ in 0..ROUNDS_MAX {
            self.prepare(events);
            if self.kernel.is_empty() || self.kernel.pending() > 0 {
                self.submit_and_reap()?;
            }
            let taken = self.dispatch(events);
            self.prepare(events);
            if std::mem::take(&mut self.out_of_buffers) {
                events.push(Event::OutOfBuffers);
            }
            self.check_counts();
            let told = events.len() - before;
            if told > 0 || (taken == 0 && self.kernel.pending() == 0) {
                return Ok(told);
            }
        }
        // Work is left that made no events: bring the owner back instead of letting it sleep.
        self.waker.wake();
        Ok(0)
    }

    /// As `poll`, but without entering the kernel when there is nothing to take: what is prepared stays
    /// prepared for `wait`, which submits it and sleeps in one system call.
    ///
    /// # Errors
    /// As `poll`.
    pub fn take(&mut self, events: &mut Vec<Event>) -> Result<usize, RingError> {
        self.start_prepared();
        let nothing = self.touched.is_empty() && self.kernel.is_empty() && !self.out_of_buffers;
        match nothing {
            true => Ok(0),
            false => self.poll(events),
        }
    }

    /// Submit, then sleep until there is a completion, a wake, a signal, or the timeout has passed. Then
    /// `take` or `poll`. May return for nothing. Completions of the sends it submits do not end it where
    /// the kernel can look past them. For plain threads; asynchronous owners await `eventfd`.
    ///
    /// # Errors
    /// `Enter` for a reason that does not pass.
    pub fn wait(&mut self, timeout: Duration) -> Result<(), RingError> {
        self.start_prepared();
        self.arm_wake();
        if !std::mem::replace(&mut self.waits, true) {
            self.kernel.silence_eventfd();
        }
        let sleeps = self.touched.is_empty() && self.kernel.is_empty() && self.waker.fall_asleep();
        let done = match sleeps {
            true => {
                self.stock();
                self.kernel.wait(timeout, &mut self.counters)
            }
            false => self.submit(),
        };
        self.waker.get_up();
        done
    }

    /// Hand prepared operations to the kernel now, instead of at the next `poll` or `wait`.
    ///
    /// # Errors
    /// `Enter` for a reason that does not pass.
    pub fn submit(&mut self) -> Result<(), RingError> {
        self.start_prepared();
        if self.kernel.pending() > 0 {
            self.submit_and_reap()?;
        }
        Ok(())
    }

    /// The bytes of a lease. Panics on a lease of another ring.
    #[must_use]
    pub fn bytes(&self, lease: &Lease) -> &[u8] {
        self.buffers.bytes(lease)
    }

    /// Give a buffer back to the kernel. Panics on a lease of another ring.
    pub fn release(&mut self, lease: Lease) {
        let connection = self.buffers.release(lease);
        self.count_release(connection);
    }

    /// Receive buffers not lent out.
    #[must_use]
    pub fn buffers_free(&self) -> usize {
        self.buffers.free()
    }

    /// Totals since the ring was made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Check every invariant (in debug builds), among them that no lease was dropped instead of released.
    /// Costs a look at every connection and buffer.
    pub fn check(&self) {
        self.check_counts();
        self.buffers.check();
        debug_assert!(
            self.counters.leases_dropped == 0,
            "{} leases were dropped, not released",
            self.counters.leases_dropped
        );
        let connections = self
            .connections
            .iter()
            .map(|(_, c)| c.operations())
            .sum::<usize>();
        let listeners = self
            .listeners
            .iter()
            .map(|(_, l)| l.operations())
            .sum::<usize>();
        let datagrams = (self.datagrams.as_ref()).map_or(0, DatagramSocket::operations);
        let known =
            connections + listeners + datagrams + self.syncs.len() + usize::from(self.wake.armed);
        let in_flight = self.kernel.in_flight();
        debug_assert!(
            known == in_flight,
            "{known} operations known, {in_flight} in flight"
        );
    }

    fn check_counts(&self) {
        let connections = self.connections.len();
        let max = self.limits.connections_max as usize;
        debug_assert!(
            connections <= max,
            "{connections} connections, at most {max}"
        );
        debug_assert!(
            self.taken.is_empty(),
            "{} completions not handled",
            self.taken.len()
        );
        debug_assert!(
            self.waiting.len() <= connections,
            "{} of {connections} connections wait for buffers",
            self.waiting.len()
        );
        let open = self.counters.received_bytes;
        let bound = self
            .counters
            .received
            .saturating_mul(u64::from(self.limits.buffer_bytes));
        debug_assert!(open <= bound, "{open} bytes in buffers that hold {bound}");
    }

    /// Turn what was queued since the last enter into operations.
    fn start_prepared(&mut self) {
        while let Some(connection) = self.buffers.collect_dropped() {
            self.counters.leases_dropped += 1;
            self.count_release(connection);
        }
        self.start_waiting();
        self.start_touched();
        self.start_datagrams();
    }

    /// Give the kernel the buffers that the receives of one enter are likely to need.
    fn stock(&mut self) {
        self.buffers.stock();
        if let Some(socket) = &mut self.datagrams {
            socket.stock();
        }
    }

    fn prepare(&mut self, events: &mut Vec<Event>) {
        self.start_prepared();
        self.settle_touched(events);
    }

    fn submit_and_reap(&mut self) -> Result<(), RingError> {
        self.stock();
        self.kernel.submit_and_reap(&mut self.counters)?;
        if self.kernel.overflowed() {
            self.counters.completion_overflows += 1;
        }
        Ok(())
    }

    /// Take and handle completions, a bounded number. Returns how many.
    fn dispatch(&mut self, events: &mut Vec<Event>) -> usize {
        let mut taken = std::mem::take(&mut self.taken);
        self.kernel.take(self.limits.completions_max, &mut taken);
        let count = taken.len();
        self.counters.completions += count as u64;
        for entry in taken.drain(..) {
            let (kind, key) = token::unpack(entry.user_data())
                .expect("completions carry what was submitted, and nobody else submits");
            self.handle(kind, key, &entry, events);
        }
        self.taken = taken;
        count
    }

    fn handle(&mut self, kind: Kind, key: Key, entry: &cqueue::Entry, events: &mut Vec<Event>) {
        match kind {
            Kind::Accept => self.on_accept(key, entry, events),
            Kind::AcceptTimer => self.on_accept_timer(key),
            Kind::AcceptCancel => self.on_accept_cancel(key),
            Kind::Receive => self.on_receive(key, entry, events),
            Kind::Send => self.on_send(key, entry, events),
            Kind::CloseTimer => self.on_close_timer(key, entry),
            Kind::CloseCancel => self.on_close_cancel(key, entry),
            Kind::Wake => {
                self.wake.armed = false;
                self.counters.wakes += u64::from(entry.result() > 0);
            }
            Kind::WakeCancel => {}
            Kind::Sync => self.on_sync(key, entry, events),
            Kind::ReceiveCancel => self.on_receive_cancel(key, entry),
            Kind::DatagramReceive => self.on_datagrams(entry, events),
            Kind::DatagramCancel => self.on_datagram_cancel(),
            Kind::DatagramSend => self.on_datagram_send(key, entry),
        }
    }

    /// Start reading the waker's eventfd, so that a wake is a completion.
    fn arm_wake(&mut self) {
        if self.wake.armed {
            return;
        }
        self.wake.armed = true;
        let fd = types::Fd(self.waker.waits());
        let count = self.wake.count.get().cast();
        let entry = opcode::Read::new(fd, count, size_of::<u64>() as u32).build();
        let entry = entry.user_data(token::pack(Kind::Wake, OWN_KEY));
        // SAFETY: the eventfd and the boxed count live as long as the ring, which when dropped waits for
        // this operation or leaks the count.
        unsafe { self.kernel.push(entry, &mut self.counters) };
    }

    fn disarm_wake(&mut self) {
        if self.wake.armed {
            let entry = opcode::AsyncCancel::new(token::pack(Kind::Wake, OWN_KEY)).build();
            let entry = entry.user_data(token::pack(Kind::WakeCancel, OWN_KEY));
            // SAFETY: names no descriptor and no memory.
            unsafe { self.kernel.push(entry, &mut self.counters) };
        }
    }
}

impl Drop for Ring {
    /// End every operation and wait for its completion. If the kernel does not let go in time, the memory
    /// it may still use is leaked, not freed.
    fn drop(&mut self) {
        let mut events = Vec::new();
        self.stop_all();
        self.end_all();
        self.disarm_wake();
        self.stop_datagrams();
        for _ in 0..DROP_ROUNDS_MAX {
            self.prepare(&mut events);
            if self.kernel.in_flight() == 0 {
                return;
            }
            if self.kernel.is_empty() && self.kernel.wait(DROP_ROUND, &mut self.counters).is_err() {
                break;
            }
            self.dispatch(&mut events);
            events.clear();
        }
        if self.kernel.in_flight() > 0 {
            self.buffers.leak();
            if let Some(mut socket) = self.datagrams.take() {
                socket.leak();
                std::mem::forget(socket);
            }
            std::mem::forget(std::mem::replace(&mut self.connections, Slab::new(1)));
            std::mem::forget(std::mem::replace(&mut self.listeners, Slab::new(1)));
            std::mem::forget(std::mem::take(&mut self.wake.count));
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("connections", &self.connections.len())
            .field("listeners", &self.listeners.len())
            .field("in_flight", &self.kernel.in_flight())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
