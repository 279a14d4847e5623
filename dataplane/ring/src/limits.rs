//! Bounds of a ring, and the limits of the machine they must fit into.
//!
//! Everything is checked once, before the ring is made. Knows nothing of the ring's state.

use std::time::Duration;

use crate::error::RingError;

/// Oldest supported kernel, major and minor.
pub(crate) const KERNEL_MIN: (u32, u32) = (6, 1);
/// Listeners one ring can hold.
pub(crate) const LISTENERS_MAX: u32 = 64;

/// Bounds of one ring; checked together by `Ring::new`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingLimits {
    /// Entries of the submission queue, 8 to 32768; the completion queue has four times as many.
    pub entries: u32,
    /// Receive buffers, a power of two, 1 to 32768.
    pub buffers: u16,
    /// Bytes of each receive buffer, 64 to 1 MiB.
    pub buffer_bytes: u32,
    /// Buffers of one connection lent out at once, 1 or more; a quarter of what is left to all others, but 2, if that is less.
    /// One that has so many receives no more until half of them are back; what it was receiving at that
    /// moment still comes.
    pub leases_max: u16,
    /// Connections open at once, 1 to 2^24. A connection accepted beyond is closed and counted.
    pub connections_max: u32,
    /// Descriptors the rest of the process needs while all connections are open.
    pub files_reserved: u32,
    /// Bytes that may be queued for sending on one connection; beyond, the connection is ended.
    pub sends_bytes_max: usize,
    /// Finished send buffers kept for `take_buffer`.
    pub send_buffers_max: usize,
    /// A finished send buffer with more capacity than this is freed, not kept.
    pub send_buffer_bytes_max: usize,
    /// Bytes the finished send buffers that are kept may have room for, all together.
    pub send_buffers_bytes_max: usize,
    /// Completions handled in one `poll`.
    pub completions_max: usize,
    /// How long `close` may take to send what is queued and to hear the peer finish, until it turns
    /// into `abort`. Zero: do not wait for the peer to finish, and cut queued data short at once.
    pub close_timeout: Duration,
    /// Pause after accepting failed for want of descriptors or memory.
    pub accept_retry: Duration,
    /// How long `wait` looks past the completions of the sends it submits: so much later than it happened
    /// may something be told while a peer's full window holds a send back. Zero: not at all.
    pub sends_patience: Duration,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self {
            entries: 1024,
            buffers: 1024,
            buffer_bytes: 16 * 1024,
            leases_max: 256,
            connections_max: 16 * 1024,
            files_reserved: 64,
            sends_bytes_max: 16 * 1024 * 1024,
            send_buffers_max: 1024,
            send_buffer_bytes_max: 64 * 1024,
            send_buffers_bytes_max: 16 * 1024 * 1024,
            completions_max: 1024,
            close_timeout: Duration::from_secs(5),
            accept_retry: Duration::from_millis(100),
            sends_patience: Duration::from_micros(100),
        }
    }
}

impl RingLimits {
    /// Check every bound against its range.
    ///
    /// # Errors
    /// `RingError::Limit` with the first field out of range.
    pub fn check(&self) -> Result<(), RingError> {
        let buffers = u64::from(self.buffers);
        let rules = [
            (
                "entries",
                u64::from(self.entries),
                (8..=32768).contains(&self.entries),
                "8 to 32768",
            ),
            (
                "buffers",
                buffers,
                self.buffers.is_power_of_two() && buffers <= 32768,
                "a power of two, 1 to 32768",
            ),
            (
                "buffer_bytes",
                u64::from(self.buffer_bytes),
                (64..=1 << 20).contains(&self.buffer_bytes),
                "64 to 1048576",
            ),
            (
                "leases_max",
                u64::from(self.leases_max),
                self.leases_max > 0,
                "1 or more",
            ),
            (
                "connections_max",
                u64::from(self.connections_max),
                (1..=1 << 24).contains(&self.connections_max),
                "1 to 16777216",
            ),
            (
                "sends_bytes_max",
                self.sends_bytes_max as u64,
                self.sends_bytes_max > 0,
                "1 or more",
            ),
            (
                "completions_max",
                self.completions_max as u64,
                self.completions_max > 0,
                "1 or more",
            ),
        ];
        match rules.into_iter().find(|(_, _, good, _)| !good) {
            Some((name, seen, _, needed)) => Err(RingError::Limit { name, seen, needed }),
            None => Ok(()),
        }
    }

    /// Descriptors the process needs for one ring with these limits.
    #[must_use]
    pub fn files_needed(&self) -> u64 {
        u64::from(self.connections_max) + u64::from(self.files_reserved)
    }

    /// Bytes one ring shares with the kernel, receive buffers included.
    #[must_use]
    pub fn shared_bytes(&self) -> u64 {
        let queues = u64::from(self.entries) * (64 + 4 + 4 * 16);
        queues + u64::from(self.buffers) * (16 + u64::from(self.buffer_bytes))
    }
}

/// Limits of the machine and of this process, as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Environment {
    /// Kernel version, major and minor.
    pub kernel: (u32, u32),
    /// `kernel.io_uring_disabled`; `None` when the kernel has no such setting.
    pub io_uring_disabled: Option<u32>,
    /// Soft limit `RLIMIT_MEMLOCK` in bytes; `None` for no limit.
    pub locked_memory: Option<u64>,
    /// Soft limit `RLIMIT_NOFILE`.
    pub open_files: u64,
    /// Hard limit `RLIMIT_NOFILE`.
    pub open_files_hard: u64,
}

impl Environment {
    /// Read the settings. What cannot be read counts as not limiting; the kernel then says so itself.
    #[must_use]
    pub fn read() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        let (open_files, open_files_hard) = limit(libc::RLIMIT_NOFILE);
        let (locked_memory, _) = limit(libc::RLIMIT_MEMLOCK);
        Self {
            kernel: kernel_version(&release),
            io_uring_disabled: disabled.and_then(|text| text.trim().parse().ok()),
            locked_memory: (locked_memory != libc::RLIM_INFINITY).then_some(locked_memory),
            open_files,
            open_files_hard,
        }
    }

    /// Check that the kernel is new enough and lets this process make rings.
    ///
    /// # Errors
    /// `KernelTooOld`, or `Disabled` when rings are forbidden to everyone. (Whether this user is in the
    /// group that value 1 allows, only the attempt tells.)
    pub fn check_kernel(&self) -> Result<(), RingError> {
        if self.kernel < KERNEL_MIN {
            return Err(RingError::KernelTooOld { seen: self.kernel });
        }
        match self.io_uring_disabled {
            Some(seen) if seen >= 2 => Err(RingError::Disabled { seen }),
            _ => Ok(()),
        }
    }

    /// Check that the process may open enough descriptors, and say whether its soft limit has to be
    /// raised for that.
    ///
    /// # Errors
    /// `OpenFiles` when the hard limit is too low.
    pub fn check_open_files(&self, needed: u64) -> Result<bool, RingError> {
        if self.open_files_hard < needed {
            return Err(RingError::OpenFiles {
                seen: self.open_files_hard,
                needed,
            });
        }
        Ok(self.open_files < needed)
    }

    /// Why `io_uring_setup` failed, given these settings.
    #[must_use]
    pub fn explain_setup(&self, errno: i32, shared_bytes: u64) -> RingError {
        match (errno, self.io_uring_disabled, self.locked_memory) {
            (libc::EPERM, Some(seen), _) if seen > 0 => RingError::Disabled { seen },
            (libc::EPERM | libc::ENOSYS | libc::EACCES, ..) => RingError::Blocked { errno },
            (libc::ENOMEM, _, Some(seen)) if seen < shared_bytes => RingError::LockedMemory {
                seen,
                needed: shared_bytes,
            },
            (libc::EMFILE | libc::ENFILE, ..) => RingError::OpenFiles {
                seen: self.open_files,
                needed: self.open_files + 1,
            },
            _ => RingError::Setup { errno },
        }
    }
}

/// Make sure that the process may open `needed` descriptors: raise the soft limit, as servers do, if the
/// hard limit allows it.
///
/// # Errors
/// The hard limit is lower.
pub fn ensure_open_files(needed: u64) -> Result<(), RingError> {
    let environment = Environment::read();
    if !environment.check_open_files(needed)? {
        return Ok(());
    }
    let hard = environment.open_files_hard;
    let wanted = libc::rlimit {
        rlim_cur: needed,
        rlim_max: hard,
    };
    // SAFETY: reads one `rlimit`, which lives across the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) };
    if result == 0 {
        Ok(())
    } else {
        Err(RingError::OpenFiles { seen: hard, needed })
    }
}

/// Soft and hard limit of a resource.
fn limit(resource: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: writes one `rlimit`, which lives across the call. On failure it stays "no limit".
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// Major and minor number of a release like `6.1.0-18-amd64`. Text that is none counts as newest: the
/// features are asked for anyway.
fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Environment = Environment {
        kernel: (6, 1),
        io_uring_disabled: Some(0),
        locked_memory: Some(8 << 20),
        open_files: 1024,
        open_files_hard: 4096,
    };

    #[test]
    fn kernel_releases_are_read_with_their_suffixes() {
        for (release, want) in [
            ("6.1.0-18-amd64\n", (6, 1)),
            ("5.15.167.4-microsoft-standard-WSL2", (5, 15)),
            ("6.18.44", (6, 18)),
            ("6.0", (6, 0)),
            ("", (u32::MAX, 0)),
            ("none", (u32::MAX, 0)),
        ] {
            assert_eq!(kernel_version(release), want, "{release:?}");
        }
    }

    #[test]
    fn an_old_or_locked_kernel_is_refused_by_name() {
        for (why, environment, want) in [
            ("oldest supported", GOOD, None),
            (
                "just too old",
                Environment {
                    kernel: (6, 0),
                    ..GOOD
                },
                Some(3001),
            ),
            (
                "older, with a higher minor",
                Environment {
                    kernel: (5, 19),
                    ..GOOD
                },
                Some(3001),
            ),
            (
                "forbidden to all",
                Environment {
                    io_uring_disabled: Some(2),
                    ..GOOD
                },
                Some(3002),
            ),
            (
                "a group may",
                Environment {
                    io_uring_disabled: Some(1),
                    ..GOOD
                },
                None,
            ),
            (
                "no such setting",
                Environment {
                    io_uring_disabled: None,
                    ..GOOD
                },
                None,
            ),
        ] {
            assert_eq!(
                environment.check_kernel().err().map(|e| e.code()),
                want,
                "{why}"
            );
        }
    }

    #[test]
    fn a_failed_setup_is_explained_by_the_setting_that_caused_it() {
        let group = Environment {
            io_uring_disabled: Some(1),
            ..GOOD
        };
        let unlimited = Environment {
            locked_memory: None,
            ..GOOD
        };
        for (why, environment, errno, want) in [
            ("not in the group", group, libc::EPERM, 3002),
            ("seccomp", GOOD, libc::EPERM, 3003),
            ("seccomp, other answer", GOOD, libc::ENOSYS, 3003),
            ("memlock", GOOD, libc::ENOMEM, 3004),
            ("no memlock limit", unlimited, libc::ENOMEM, 3008),
            ("descriptors", GOOD, libc::EMFILE, 3005),
            ("anything else", GOOD, libc::EINVAL, 3008),
        ] {
            assert_eq!(
                environment.explain_setup(errno, 16 << 20).code(),
                want,
                "{why}"
            );
        }
    }

    #[test]
    fn descriptors_are_checked_against_the_hard_limit() {
        for (needed, want) in [(1024, Ok(false)), (1025, Ok(true)), (4096, Ok(true))] {
            assert_eq!(GOOD.check_open_files(needed), want, "{needed}");
        }
        let error = GOOD.check_open_files(4097).expect_err("one too many");
        assert_eq!(error.code(), 3005);
        assert!(error.remedy().contains("LimitNOFILE=4097"), "{error}");
    }

    #[test]
    fn every_limit_is_checked_on_both_sides() {
        assert_eq!(RingLimits::default().check(), Ok(()));
        type Change = fn(&mut RingLimits);
        let changes: [(&str, Change); 10] = [
            ("leases_max", |limits| limits.leases_max = 0),
            ("entries", |limits| limits.entries = 7),
            ("entries", |limits| limits.entries = 32769),
            ("buffers", |limits| limits.buffers = 0),
            ("buffers", |limits| limits.buffers = 3),
            ("buffer_bytes", |limits| limits.buffer_bytes = 63),
            ("buffer_bytes", |limits| limits.buffer_bytes = (1 << 20) + 1),
            ("connections_max", |limits| limits.connections_max = 0),
            ("connections_max", |limits| {
                limits.connections_max = (1 << 24) + 1
            }),
            ("completions_max", |limits| limits.completions_max = 0),
        ];
        for (field, change) in changes {
            let mut limits = RingLimits::default();
            change(&mut limits);
            let error = limits.check().expect_err(field);
            assert!(
                matches!(error, RingError::Limit { name, .. } if name == field),
                "{error}"
            );
        }
    }

    #[test]
    fn every_error_is_one_line_with_a_number_of_its_own_and_a_remedy() {
        let errors = [
            RingError::KernelTooOld { seen: (5, 15) },
            RingError::Disabled { seen: 2 },
            RingError::Blocked { errno: libc::EPERM },
            RingError::LockedMemory {
                seen: 65536,
                needed: 1 << 20,
            },
            RingError::OpenFiles {
                seen: 1024,
                needed: 4096,
            },
            RingError::FeatureMissing { name: "accept" },
            RingError::Limit {
                name: "buffers",
                seen: 3,
                needed: "a power of two",
            },
            RingError::Setup {
                errno: libc::EINVAL,
            },
            RingError::Register {
                what: "eventfd",
                errno: libc::EBUSY,
            },
            RingError::Memory {
                bytes: 1,
                errno: libc::ENOMEM,
            },
            RingError::Enter { errno: libc::EBADF },
            RingError::Descriptor {
                call: "getpeername",
                errno: libc::ENOTCONN,
            },
            RingError::ConnectionsFull { max: 1 },
            RingError::ListenersFull { max: 1 },
        ];
        for (error, code) in errors.iter().zip(3001..) {
            assert_eq!(error.code(), code);
            let line = error.to_string();
            assert!(line.starts_with(&format!("FB-{code}: ")), "{line}");
            assert!(!line.contains('\n') && !line.contains("  "), "{line}");
            assert!(!error.remedy().is_empty(), "{line}");
        }
    }
}
