//! Faults of the environment, each with a number, what was seen, what is needed and the remedy.
//!
//! Faults of a peer are no errors here: they are events.

/// Why a ring could not be made or used.
///
/// The numbers are 30xx and stay what they are; [`RingError::code`] gives them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("FB-{}: {}: saw {}, need {}; {}", self.code(), self.what(), self.seen(), self.needed(), self.remedy())]
pub enum RingError {
    /// The kernel is older than the oldest supported one.
    KernelTooOld {
        /// Version found, major and minor.
        seen: (u32, u32),
    },
    /// `kernel.io_uring_disabled` forbids rings.
    Disabled {
        /// Value of the setting.
        seen: u32,
    },
    /// The kernel refuses rings though the setting allows them: a sandbox filters the calls.
    Blocked {
        /// Error number of `io_uring_setup`.
        errno: i32,
    },
    /// The kernel ran out of memory it may lock for this user.
    LockedMemory {
        /// `RLIMIT_MEMLOCK` in bytes.
        seen: u64,
        /// Bytes the ring shares with the kernel.
        needed: u64,
    },
    /// The limit of open files is too low for `connections_max`.
    OpenFiles {
        /// Hard limit `RLIMIT_NOFILE`.
        seen: u64,
        /// Descriptors needed.
        needed: u64,
    },
    /// The kernel lacks an operation or a feature that has no substitute.
    FeatureMissing {
        /// Name of the operation or feature.
        name: &'static str,
    },
    /// A value of `RingLimits` is out of range.
    Limit {
        /// Name of the field.
        name: &'static str,
        /// Its value.
        seen: u64,
        /// The range, in words.
        needed: &'static str,
    },
    /// `io_uring_setup` failed for a reason not named above.
    Setup {
        /// Error number.
        errno: i32,
    },
    /// Registering something with the ring failed.
    Register {
        /// What was registered.
        what: &'static str,
        /// Error number.
        errno: i32,
    },
    /// Mapping memory for the buffers failed.
    Memory {
        /// Bytes asked for.
        bytes: u64,
        /// Error number.
        errno: i32,
    },
    /// `io_uring_enter` failed for a reason that does not pass.
    Enter {
        /// Error number.
        errno: i32,
    },
    /// A call on a socket or an eventfd of the owner failed.
    Descriptor {
        /// The call.
        call: &'static str,
        /// Error number.
        errno: i32,
    },
    /// `connections_max` connections are open.
    ConnectionsFull {
        /// The limit.
        max: u32,
    },
    /// `LISTENERS_MAX` listeners are open.
    ListenersFull {
        /// The limit.
        max: u32,
    },
}

impl RingError {
    /// Number of the fault, 3001 to 3099.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::KernelTooOld { .. } => 3001,
            Self::Disabled { .. } => 3002,
            Self::Blocked { .. } => 3003,
            Self::LockedMemory { .. } => 3004,
            Self::OpenFiles { .. } => 3005,
            Self::FeatureMissing { .. } => 3006,
            Self::Limit { .. } => 3007,
            Self::Setup { .. } => 3008,
            Self::Register { .. } => 3009,
            Self::Memory { .. } => 3010,
            Self::Enter { .. } => 3011,
            Self::Descriptor { .. } => 3012,
            Self::ConnectionsFull { .. } => 3013,
            Self::ListenersFull { .. } => 3014,
        }
    }

    /// What was looked at.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::KernelTooOld { .. } => "kernel version".into(),
            Self::Disabled { .. } => "sysctl kernel.io_uring_disabled".into(),
            Self::Blocked { .. } | Self::Setup { .. } => "io_uring_setup".into(),
            Self::LockedMemory { .. } => "locked memory limit (RLIMIT_MEMLOCK)".into(),
            Self::OpenFiles { .. } => "hard limit of open files (RLIMIT_NOFILE)".into(),
            Self::FeatureMissing { name } => format!("kernel feature {name}"),
            Self::Limit { name, .. } => format!("ring limit {name}"),
            Self::Register { what, .. } => format!("registering the {what} with io_uring"),
            Self::Memory { .. } => "memory for receive buffers".into(),
            Self::Enter { .. } => "io_uring_enter".into(),
            Self::Descriptor { call, .. } => (*call).into(),
            Self::ConnectionsFull { .. } => "open connections of this ring".into(),
            Self::ListenersFull { .. } => "listeners of this ring".into(),
        }
    }

    /// The value found.
    #[must_use]
    pub fn seen(&self) -> String {
        match self {
            Self::KernelTooOld { seen } => format!("{}.{}", seen.0, seen.1),
            Self::Disabled { seen } => seen.to_string(),
            Self::LockedMemory { seen, .. } => format!("{seen} bytes"),
            Self::OpenFiles { seen, .. } | Self::Limit { seen, .. } => seen.to_string(),
            Self::FeatureMissing { .. } => "not supported".into(),
            Self::Blocked { errno }
            | Self::Setup { errno }
            | Self::Register { errno, .. }
            | Self::Enter { errno }
            | Self::Descriptor { errno, .. } => errno_text(*errno),
            Self::Memory { errno, .. } => errno_text(*errno),
            Self::ConnectionsFull { max } | Self::ListenersFull { max } => max.to_string(),
        }
    }

    /// The value needed.
    #[must_use]
    pub fn needed(&self) -> String {
        match self {
            Self::KernelTooOld { .. } => {
                let (major, minor) = crate::limits::KERNEL_MIN;
                format!("{major}.{minor} or newer")
            }
            Self::Disabled { .. } => "0, or 1 with this user in kernel.io_uring_group".into(),
            Self::LockedMemory { needed, .. } => format!("{needed} bytes"),
            Self::OpenFiles { needed, .. } => needed.to_string(),
            Self::FeatureMissing { .. } => "supported".into(),
            Self::Limit { needed, .. } => (*needed).into(),
            Self::Memory { bytes, .. } => format!("{bytes} bytes"),
            Self::ConnectionsFull { max } | Self::ListenersFull { max } => {
                format!("fewer than {max}")
            }
            Self::Blocked { .. }
            | Self::Setup { .. }
            | Self::Register { .. }
            | Self::Enter { .. }
            | Self::Descriptor { .. } => "success".into(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::KernelTooOld { .. } => {
                "boot a newer kernel (Debian 12, Ubuntu 24.04 and RHEL 10 have one)".into()
            }
            Self::Disabled { .. } => {
                "run `sysctl -w kernel.io_uring_disabled=0`, and put it into /etc/sysctl.d".into()
            }
            Self::Blocked { .. } => {
                "allow io_uring_setup, io_uring_enter and io_uring_register in \
                 the container's seccomp profile (or the service's SystemCallFilter=)"
                    .into()
            }
            Self::LockedMemory { needed, .. } => {
                let kib = needed.div_ceil(1024);
                format!(
                    "run `ulimit -l {kib}` before starting, or put `LimitMEMLOCK={needed}` into the \
                     service's unit file"
                )
            }
            Self::OpenFiles { needed, .. } => format!(
                "run `ulimit -Hn {needed}` as root before starting, put `LimitNOFILE={needed}` into \
                 the service's unit file, or lower connections_max"
            ),
            Self::FeatureMissing { .. } => {
                "boot a newer kernel, or leave the sandbox that emulates this one".into()
            }
            Self::Limit { name, .. } => format!("change {name}"),
            Self::Setup { .. } | Self::Register { .. } | Self::Enter { .. } => {
                "see the kernel log; report this line with `uname -r` if nothing explains it".into()
            }
            Self::Memory { .. } => "lower the number of receive buffers, or add memory".into(),
            Self::Descriptor { .. } => "check that the socket is open and of the right kind".into(),
            Self::ConnectionsFull { .. } => "raise connections_max, or close connections".into(),
            Self::ListenersFull { .. } => "stop listeners that are no longer needed".into(),
        }
    }
}

fn errno_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}
