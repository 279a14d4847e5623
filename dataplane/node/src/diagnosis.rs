//! Every fault of configuration, start-up and environment that a node can name: its stable code, its title and what it means.
//!
//! A code is never given a second meaning. The numbers seen and needed are filled in where the fault is found; the text here is
//! what `forebay explain` prints. It knows nothing of how a fault came about.

pub use wire::diagnosis::Diagnosis;

/// The configuration text is not TOML.
pub const NOT_TOML: u16 = 2001;
/// A key that no setting has.
pub const UNKNOWN_KEY: u16 = 2002;
/// A value of the wrong kind.
pub const WRONG_KIND: u16 = 2003;
/// A value outside its bounds.
pub const OUT_OF_BOUNDS: u16 = 2004;
/// A listen or admin address that is not `ip:port`.
pub const ADDRESS_MALFORMED: u16 = 2005;
/// An environment variable of ours that names no setting.
pub const UNKNOWN_VARIABLE: u16 = 2006;
/// Two settings that exclude each other.
pub const SETTINGS_CONFLICT: u16 = 2007;
/// Frames without encryption would come from other machines, and nobody said that they may.
pub const PLAIN_EXPOSED: u16 = 2008;

/// The data folder cannot be made or opened.
pub const DATA_UNREACHABLE: u16 = 3101;
/// The data folder cannot be written.
pub const DATA_READ_ONLY: u16 = 3102;
/// Another process holds the data folder.
pub const DATA_LOCKED: u16 = 3103;
/// `format.toml` cannot be read or understood.
pub const FORMAT_UNREADABLE: u16 = 3104;
/// The data folder was written by a format this build does not know.
pub const FORMAT_VERSION: u16 = 3105;
/// A hub's number of partitions differs from the one it was created with.
pub const PARTITIONS_CHANGED: u16 = 3106;
/// The number of queue groups differs from the one the folder was created with.
pub const QUEUE_GROUPS_CHANGED: u16 = 3107;
/// The listen port is taken.
pub const PORT_TAKEN: u16 = 3108;
/// The admin port is taken.
pub const ADMIN_PORT_TAKEN: u16 = 3109;
/// The listen or admin address does not belong to this machine.
pub const ADDRESS_ABSENT: u16 = 3110;
/// The listen or admin port needs a privilege.
pub const PORT_PRIVILEGED: u16 = 3111;
/// A listener could not be opened for another reason.
pub const LISTEN_FAILED: u16 = 3112;
/// The executor could not be started.
pub const EXECUTOR_FAILED: u16 = 3113;
/// A log could not be recovered.
pub const RECOVERY_FAILED: u16 = 3114;
/// The kernel gives no random bytes.
pub const RANDOM_FAILED: u16 = 3115;
/// A running shard met a fault it cannot survive.
pub const SHARD_STOPPED: u16 = 3116;
/// A new plan was refused while running; the last good one stays.
pub const RELOAD_REFUSED: u16 = 3117;
/// Signals cannot be caught.
pub const SIGNALS_FAILED: u16 = 3118;
/// The processor named by `cpu` does not exist or is not allowed.
pub const CPU_ABSENT: u16 = 3119;
/// The admin thread could not be started.
pub const ADMIN_FAILED: u16 = 3120;
/// The file of the certificate or of its key cannot be read.
pub const CERTIFICATE_UNREADABLE: u16 = 3121;
/// The certificate and its key cannot be used.
pub const CERTIFICATE_REFUSED: u16 = 3122;
/// A hub has the id of another one, whose messages the data folder holds.
pub const HUB_ANOTHERS: u16 = 3123;

/// Every code of this room: number, title, explanation. Sorted by number.
pub const CODES: &[(u16, &str, &str)] = &[
    (
        NOT_TOML,
        "configuration is not TOML",
        "The configuration file breaks TOML's own grammar at the line shown, so nothing in it was read.",
    ),
    (
        UNKNOWN_KEY,
        "unknown configuration key",
        "The file is strict: a key that no setting has is refused, because a misspelt key would silently leave a default in force. The nearest known name is offered.",
    ),
    (
        WRONG_KIND,
        "configuration value of the wrong kind",
        "The setting exists, but its value is of another kind, for example a number where a duration such as \"10s\" is needed.",
    ),
    (
        OUT_OF_BOUNDS,
        "configuration value out of bounds",
        "The value is of the right kind but below the least or above the greatest value the node can work with.",
    ),
    (
        ADDRESS_MALFORMED,
        "address is malformed",
        "Addresses are written as ip:port, such as 127.0.0.1:7411 or [::1]:7411. Names are not looked up; port 0 lets the kernel choose.",
    ),
    (
        UNKNOWN_VARIABLE,
        "unknown environment variable",
        "Variables that begin with FOREBAY_NODE_ override settings of the file. One that names no setting is refused as an unknown key is.",
    ),
    (
        SETTINGS_CONFLICT,
        "settings do not fit together",
        "Each value is allowed by itself, but not with the other one named.",
    ),
    (
        PLAIN_EXPOSED,
        "plain TCP beyond this machine",
        "node.listen takes frames without encryption: they are signed, but whoever is on the path reads them. It is therefore a loopback address unless the operator says plain = \"anywhere\". Other machines come in by node.listen_tls.",
    ),
    (
        3001,
        "kernel is too old",
        "The node needs io_uring as of Linux 6.1: multishot accept and receive, provided buffers and deferred completion work.",
    ),
    (
        3002,
        "io_uring is switched off",
        "The sysctl kernel.io_uring_disabled forbids this process to make a ring.",
    ),
    (
        3003,
        "io_uring is blocked",
        "The kernel refused to make a ring although it is not switched off: most often a container's system-call filter forbids it.",
    ),
    (
        3004,
        "locked-memory limit is too small",
        "Rings and registered buffers are counted against the limit on locked memory (ulimit -l, LimitMEMLOCK= in a unit file).",
    ),
    (
        3005,
        "open-files limit is too small",
        "Every connection takes one descriptor; the hard limit (ulimit -Hn, LimitNOFILE=) must cover connections_max and the files of the logs.",
    ),
    (
        3006,
        "a needed kernel feature is missing",
        "The version is new enough but the feature is not there, as in sandboxes that emulate a kernel.",
    ),
    (
        3007,
        "ring limit out of bounds",
        "A limit of the ring is outside what the kernel or the ring can work with.",
    ),
    (
        3008,
        "ring could not be made",
        "io_uring_setup failed for the reason shown.",
    ),
    (
        3009,
        "ring registration failed",
        "A part of the ring (buffers, eventfd, its own descriptor) could not be registered with the kernel.",
    ),
    (
        3010,
        "no memory for receive buffers",
        "The receive buffers of the ring could not be mapped.",
    ),
    (
        3011,
        "ring stopped answering",
        "io_uring_enter failed on a running ring. The shard cannot go on without it.",
    ),
    (
        3012,
        "socket call failed",
        "A call on a socket or event descriptor failed for the reason shown.",
    ),
    (
        3013,
        "too many connections",
        "The ring holds as many connections as connections_max allows.",
    ),
    (
        3014,
        "too many listeners",
        "The ring holds as many listeners as it can.",
    ),
    (
        DATA_UNREACHABLE,
        "data folder cannot be opened",
        "The folder given by node.data does not exist and could not be created, or is not a folder.",
    ),
    (
        DATA_READ_ONLY,
        "data folder cannot be written",
        "A trial file could not be written in the data folder: its owner, mode or mount forbids it, or the disk is full.",
    ),
    (
        DATA_LOCKED,
        "data folder is in use",
        "Another process holds the lock on the file LOCK in the data folder. Two nodes on one folder would destroy it, so the second one stops.",
    ),
    (
        FORMAT_UNREADABLE,
        "format.toml is unreadable",
        "The file format.toml in the data folder says how the folder is laid out. Without it the node will not guess.",
    ),
    (
        FORMAT_VERSION,
        "data folder has an unknown format",
        "The folder was written by another version of the data format than this build reads.",
    ),
    (
        PARTITIONS_CHANGED,
        "partition count changed",
        "The number of partitions of a hub is fixed when the hub is created: endpoints are assigned to partitions by it, and another number would reorder their messages.",
    ),
    (
        QUEUE_GROUPS_CHANGED,
        "queue group count changed",
        "The number of queue groups is fixed when the data folder is created: queues are assigned to journals by it.",
    ),
    (
        PORT_TAKEN,
        "listen port is taken",
        "Another process listens on the address given by node.listen.",
    ),
    (
        ADMIN_PORT_TAKEN,
        "admin port is taken",
        "Another process listens on the address given by node.admin.",
    ),
    (
        ADDRESS_ABSENT,
        "address is not on this machine",
        "The address is well formed, but no network interface of this machine has it.",
    ),
    (
        PORT_PRIVILEGED,
        "port needs a privilege",
        "Ports below the system's unprivileged start (1024 unless changed) need CAP_NET_BIND_SERVICE.",
    ),
    (
        LISTEN_FAILED,
        "listener could not be opened",
        "The kernel refused the listening socket for the reason shown.",
    ),
    (
        EXECUTOR_FAILED,
        "executor could not start",
        "The executor that runs a shard could not be built for the reason shown.",
    ),
    (
        RECOVERY_FAILED,
        "log could not be recovered",
        "A log of the data folder could not be opened. Damaged records alone never cause this; unreadable files do.",
    ),
    (
        RANDOM_FAILED,
        "no random bytes",
        "The kernel's random source failed. Sessions cannot be opened without it.",
    ),
    (
        SHARD_STOPPED,
        "shard stopped by a fault",
        "A fault of the environment, such as a ring that stopped answering, ended a running shard. What was acked as durable is safe.",
    ),
    (
        RELOAD_REFUSED,
        "new plan refused",
        "The new plan could not be read or compiled, so the node goes on with the last good one and reports forebay_config_stale 1.",
    ),
    (
        SIGNALS_FAILED,
        "signals cannot be caught",
        "SIGTERM, SIGINT and SIGHUP could not be registered, so the node could not be stopped gracefully.",
    ),
    (
        CPU_ABSENT,
        "processor is not available",
        "A processor named by node.shards or node.cpu is not among those this process may use.",
    ),
    (
        ADMIN_FAILED,
        "admin thread could not start",
        "The thread that serves metrics and probes could not be started for the reason shown.",
    ),
    (
        CERTIFICATE_UNREADABLE,
        "certificate or key cannot be read",
        "The file named by node.tls.certificate or node.tls.key could not be opened. A node that runs goes on with the pair it has.",
    ),
    (
        CERTIFICATE_REFUSED,
        "certificate and key cannot be used",
        "The files could be read, but hold no certificate, no private key, or a key that is another certificate's. A node that runs goes on with the pair it has.",
    ),
    (
        HUB_ANOTHERS,
        "hub id is another hub's",
        "The logs of a hub are found by its id. One that takes the id of another hub, also of one that was deleted, would be given what is in its logs.",
    ),
];

/// The title and explanation of a code of this room.
pub fn explain(code: u16) -> Option<(&'static str, &'static str)> {
    CODES
        .iter()
        .find(|(number, _, _)| *number == code)
        .map(|(_, title, explanation)| (*title, *explanation))
}

/// Put a diagnosis together from anything that can be shown.
pub(crate) fn diagnose(
    code: u16,
    what: impl Into<String>,
    seen: impl Into<String>,
    needed: impl Into<String>,
    remedy: impl Into<String>,
) -> Diagnosis {
    debug_assert!(explain(code).is_some(), "code {code} is not in the table");
    Diagnosis {
        code,
        what: what.into(),
        seen: seen.into(),
        needed: needed.into(),
        remedy: remedy.into(),
    }
}
