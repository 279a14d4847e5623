//! What the running kernel offers, found out once, before a ring is made.

use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::thread::Builder;

use io_uring::types::IOU_PBUF_RING_INC;
use io_uring::{IoUring, Probe, opcode};

use crate::buffers::Buffers;
use crate::error::RingError;
use crate::kernel::{self, BUFFER_GROUP, RegisteredRing};
use crate::limits::Environment;

const PROBE_ENTRIES: u32 = 8;
/// Bytes the probe's ring shares with the kernel, generously.
const PROBE_BYTES: u64 = 64 * 1024;
const PROBE_BUFFERS: u16 = 1;
const PROBE_BUFFER_BYTES: u32 = 4096;

/// Features of the kernel that decide how a ring works. `false` selects the fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Kernel version, major and minor.
    pub kernel: (u32, u32),
    /// One accept operation yields many connections; else each accept is started anew.
    pub multishot_accept: bool,
    /// One receive operation yields many buffers; else each receive is started anew.
    pub multishot_receive: bool,
    /// Buffers are provided through a ring shared with the kernel. Has no fallback.
    pub buffer_ring: bool,
    /// One receive fills several buffers. Known, not used.
    pub receive_bundle: bool,
    /// One buffer is filled by several receives. Known, not used.
    pub incremental_buffers: bool,
    /// `SINGLE_ISSUER | DEFER_TASKRUN`; else `cooperative_taskrun`.
    pub defer_taskrun: bool,
    /// `COOP_TASKRUN | TASKRUN_FLAG`; else none.
    pub cooperative_taskrun: bool,
    /// The ring's descriptor is registered with its thread, which makes entering cheaper.
    pub registered_ring: bool,
    /// A wait can look past the completions of the sends it submits; else they end it.
    pub minimum_wait: bool,
}

/// A feature that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// `Features::multishot_accept`.
    MultishotAccept,
    /// `Features::multishot_receive`.
    MultishotReceive,
    /// `Features::defer_taskrun`.
    DeferTaskrun,
    /// `Features::cooperative_taskrun`.
    CooperativeTaskrun,
    /// `Features::registered_ring`.
    RegisteredRing,
    /// `Features::minimum_wait`.
    MinimumWait,
}

impl Features {
    /// Ask the kernel, with a small ring of its own, on a thread of its own: whoever calls goes on without a ring's traces.
    ///
    /// The kernel takes a ring apart some time after it was dropped, and then interrupts the thread that made it if that still
    /// lives: a blocking call of it would fail with `EINTR` that nobody expects, a read with a time limit for one.
    ///
    /// # Errors
    /// `KernelTooOld`, `Disabled`, `Blocked`, `LockedMemory`, `OpenFiles`, `FeatureMissing` or `Setup`.
    pub fn probe() -> Result<Self, RingError> {
        std::thread::scope(|scope| {
            match Builder::new().spawn_scoped(scope, Self::probe_here) {
                Ok(thread) => thread.join().unwrap_or_else(|fault| resume_unwind(fault)),
                // Without a thread to spare, an interruption is the lesser evil.
                Err(_) => Self::probe_here(),
            }
        })
    }

    fn probe_here() -> Result<Self, RingError> {
        let environment = Environment::read();
        environment.check_kernel()?;
        let mut features = Self::of_kernel(environment.kernel);
        let ring = loop {
            match kernel::build(PROBE_ENTRIES, &features) {
                Ok(ring) => break ring,
                Err(error) if kernel::errno(&error) == libc::EINVAL && features.give_way() => {}
                Err(error) => {
                    return Err(environment.explain_setup(kernel::errno(&error), PROBE_BYTES));
                }
            }
        };
        require_operations(&ring)?;
        features.minimum_wait = ring.params().is_feature_min_timeout();
        features.receive_bundle = ring.params().is_feature_recvsend_bundle();
        features.incremental_buffers = probe_buffer_ring(&ring)?;
        features.registered_ring = RegisteredRing::new(ring.as_raw_fd()).is_ok();
        Ok(features)
    }

    /// What a kernel of this version offers, before it is asked.
    fn of_kernel(kernel: (u32, u32)) -> Self {
        Self {
            kernel,
            multishot_accept: kernel >= (5, 19),
            multishot_receive: kernel >= (6, 0),
            buffer_ring: true,
            receive_bundle: false,
            incremental_buffers: false,
            defer_taskrun: kernel >= (6, 1),
            cooperative_taskrun: kernel >= (5, 19),
            registered_ring: false,
            minimum_wait: false,
        }
    }

    /// Do without the most demanding way to run deferred work. False when none is left.
    fn give_way(&mut self) -> bool {
        let best = [&mut self.defer_taskrun, &mut self.cooperative_taskrun];
        match best.into_iter().find(|wanted| **wanted) {
            Some(wanted) => {
                *wanted = false;
                true
            }
            None => false,
        }
    }

    /// The same features with some switched off: tests reach every fallback with this, and an
    /// operator can avoid one that misbehaves.
    #[must_use]
    pub fn with_forced(mut self, off: &[Feature]) -> Self {
        for feature in off {
            match feature {
                Feature::MultishotAccept => self.multishot_accept = false,
                Feature::MultishotReceive => self.multishot_receive = false,
                Feature::DeferTaskrun => self.defer_taskrun = false,
                Feature::CooperativeTaskrun => self.cooperative_taskrun = false,
                Feature::RegisteredRing => self.registered_ring = false,
                Feature::MinimumWait => self.minimum_wait = false,
            }
        }
        self
    }
}

/// Operations without a substitute.
const OPERATIONS: [(u8, &str); 10] = [
    (opcode::Accept::CODE, "io_uring accept"),
    (opcode::Recv::CODE, "io_uring recv"),
    (opcode::Send::CODE, "io_uring send"),
    (opcode::SendMsg::CODE, "io_uring sendmsg"),
    (opcode::RecvMsg::CODE, "io_uring recvmsg"),
    (opcode::AsyncCancel::CODE, "io_uring async cancel"),
    (opcode::Timeout::CODE, "io_uring timeout"),
    (opcode::Read::CODE, "io_uring read"),
    (opcode::Fsync::CODE, "io_uring fsync"),
    (opcode::Nop::CODE, "io_uring nop"),
];

fn require_operations(ring: &IoUring) -> Result<(), RingError> {
    let mut probe = Probe::new();
    let asked = ring.submitter().register_probe(&mut probe);
    asked.map_err(|e| RingError::Register {
        what: "probe",
        errno: kernel::errno(&e),
    })?;
    missing(|code| probe.is_supported(code))
        .map_or(Ok(()), |name| Err(RingError::FeatureMissing { name }))?;
    match (
        ring.params().is_feature_ext_arg(),
        ring.params().is_feature_nodrop(),
    ) {
        (true, true) => Ok(()),
        (false, _) => Err(RingError::FeatureMissing {
            name: "io_uring timed waits",
        }),
        (_, false) => Err(RingError::FeatureMissing {
            name: "io_uring lossless completions",
        }),
    }
}

/// First operation that is not supported.
fn missing(is_supported: impl Fn(u8) -> bool) -> Option<&'static str> {
    OPERATIONS
        .iter()
        .find(|(code, _)| !is_supported(*code))
        .map(|(_, name)| *name)
}

/// Register a provided-buffer ring, plain and incremental. Says whether the second works.
fn probe_buffer_ring(ring: &IoUring) -> Result<bool, RingError> {
    let buffers = Buffers::new(PROBE_BUFFERS, PROBE_BUFFER_BYTES)?;
    let (address, entries) = buffers.shared();
    let submitter = ring.submitter();
    let register = |flags| {
        // SAFETY: the buffer ring is mapped, page aligned, has `entries` entries, and is unregistered
        // below before `buffers` is dropped.
        unsafe { submitter.register_buf_ring_with_flags(address, entries, BUFFER_GROUP, flags) }
    };
    register(0).map_err(|_| RingError::FeatureMissing {
        name: "io_uring provided-buffer rings",
    })?;
    let unregister = |what| {
        let done = submitter.unregister_buf_ring(BUFFER_GROUP);
        done.map_err(|e| RingError::Register {
            what,
            errno: kernel::errno(&e),
        })
    };
    unregister("end of the buffer ring")?;
    let incremental = register(IOU_PBUF_RING_INC as u16).is_ok();
    if incremental {
        unregister("end of the incremental buffer ring")?;
    }
    Ok(incremental)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_operation_is_named() {
        assert_eq!(missing(|_| true), None);
        assert_eq!(
            missing(|code| code != opcode::SendMsg::CODE),
            Some("io_uring sendmsg")
        );
    }

    #[test]
    fn deferred_work_falls_back_step_by_step() {
        let mut features = Features::of_kernel((6, 1));
        assert!(features.defer_taskrun && features.cooperative_taskrun);
        assert!(features.give_way());
        assert!(!features.defer_taskrun && features.cooperative_taskrun);
        assert!(features.give_way());
        assert!(!features.give_way(), "nothing left to do without");
    }

    #[test]
    fn the_running_kernel_has_what_the_ring_needs() {
        let features = Features::probe().expect("this machine runs rings");
        assert!(features.buffer_ring && features.kernel >= crate::limits::KERNEL_MIN);
    }
}
