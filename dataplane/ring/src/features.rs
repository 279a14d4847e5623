//! What the running kernel offers, found out once, before a ring is made.

use crate::error::RingError;

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
}

impl Features {
    /// Ask the kernel.
    ///
    /// # Errors
    /// `KernelTooOld`, `Disabled`, `Blocked`, `LockedMemory`, `FeatureMissing` or `Setup`.
    pub fn probe() -> Result<Self, RingError> {
        unimplemented!()
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
            }
        }
        self
    }
}
