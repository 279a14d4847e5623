//! The codes of the command line itself: 2201 to 2299 use and configuration, 4501 to 4599 the log tool,
//! 4601 to 4699 looking at a running node, 4801 to 4849 certificates, 4901 to 4949 quickstart, 4951 to 4999 measurements with nodes of their own.

/// Arguments that cannot be understood.
pub(crate) const USAGE: u16 = 2201;
/// A configuration file that cannot be read.
pub(crate) const CONFIG_UNREADABLE: u16 = 2202;
/// A configuration file without a plan.
pub(crate) const NO_PLAN: u16 = 2203;
/// An endpoint, key or channel named on the command line is not in the plan.
pub(crate) const NOT_IN_PLAN: u16 = 2204;
/// A value on the command line cannot be read.
pub(crate) const ARGUMENT: u16 = 2205;
/// `explain` was asked for a code that does not exist.
pub(crate) const UNKNOWN_CODE: u16 = 2206;
/// Standard output is closed or full.
pub(crate) const OUTPUT: u16 = 2207;
/// `[plan]` or `[client]` has a key that is not known.
pub(crate) const SECTION: u16 = 2208;
/// A key of the plan is not fit for what is asked.
pub(crate) const KEY_UNFIT: u16 = 2209;
/// A `--sweep` cannot be read.
pub(crate) const SWEEP: u16 = 2210;

/// A folder without logs.
pub(crate) const NO_LOGS: u16 = 4501;
/// A log was named that the folder does not have.
pub(crate) const NO_SUCH_LOG: u16 = 4502;
/// `log verify` found damage.
pub(crate) const DAMAGED: u16 = 4503;
/// `log verify` found envelopes whose signature does not check.
pub(crate) const SIGNATURES: u16 = 4504;

/// Nothing answers where a node was to be looked at.
pub(crate) const NODE_SILENT: u16 = 4601;
/// Something answers there that is no admin port of a node.
pub(crate) const NOT_A_NODE: u16 = 4602;
/// A node went away while it was looked at.
pub(crate) const NODE_GONE: u16 = 4603;
/// A node does not serve, so its shards have no numbers.
pub(crate) const NOT_SERVING: u16 = 4604;

/// Nothing answers where a control plane was to be asked.
pub(crate) const API_SILENT: u16 = 4611;
/// Something answers there that is no control plane.
pub(crate) const API_STRANGE: u16 = 4612;
/// The audit log was altered.
pub(crate) const AUDIT_FAULTS: u16 = 4613;
/// A change that was waited for and has not come to every node.
pub(crate) const NOT_APPLIED: u16 = 4615;
/// No token for the API.
pub(crate) const NO_TOKEN: u16 = 2212;

/// An address of the API that cannot be read, or would have tokens sent in the clear.
pub(crate) const API_ADDRESS: u16 = 2213;
/// A context that is not there.
pub(crate) const CONTEXT_UNKNOWN: u16 = 2214;
/// A file of contexts that cannot be used.
pub(crate) const CONTEXT_FILE: u16 = 2215;
/// Whom to trust cannot be read.
pub(crate) const API_TRUST: u16 = 2216;
/// A file of endpoints, or a report, that cannot be used.
pub(crate) const BULK_FILE: u16 = 2217;
/// An API whose certificate is not to be trusted.
pub(crate) const API_UNTRUSTED: u16 = 4614;

/// A certificate cannot be made for the names given.
pub(crate) const CERTIFICATE_NAMES: u16 = 2211;
/// A certificate that was made cannot be written.
pub(crate) const CERTIFICATE_UNWRITTEN: u16 = 4801;

/// The authority of the link cannot be used to sign with.
pub(crate) const CERTIFICATE_AUTHORITY: u16 = 4802;

/// Quickstart was pointed at a folder that holds something else.
pub(crate) const FOREIGN_FOLDER: u16 = 4901;
/// Quickstart cannot write its files.
pub(crate) const CANNOT_WRITE: u16 = 4902;
/// Quickstart did not read back everything it sent.
pub(crate) const NOT_READ_BACK: u16 = 4903;

/// No folder for a measurement.
pub(crate) const BENCH_FOLDER: u16 = 4951;
/// The node of a measurement does not start.
pub(crate) const BENCH_NODE: u16 = 4952;
/// The load of a measurement was not accounted for.
pub(crate) const BENCH_LOAD: u16 = 4953;
/// Other processes keep the machine busy.
pub(crate) const BENCH_BUSY: u16 = 4954;
/// The disk has no room for a measurement.
pub(crate) const BENCH_ROOM: u16 = 4955;
/// The measurement does not fit into the time allowed.
pub(crate) const BENCH_TIME: u16 = 4956;

/// Every code of the command line: number, name, meaning, remedy.
pub(crate) const CODES: &[(u16, &str, &str, &str)] = &[
    (
        USAGE,
        "usage",
        "The command line has an argument or a subcommand that Forebay does not know, or lacks one that it needs.",
        "see `forebay help`, or `--help` behind the subcommand",
    ),
    (
        CONFIG_UNREADABLE,
        "config_unreadable",
        "The configuration file cannot be read.",
        "check the path given with --config; `forebay quickstart` makes one",
    ),
    (
        NO_PLAN,
        "config_no_plan",
        "The configuration names neither a plan nor a control plane, so nobody could send or receive anything.",
        "add `[plan]` with `file = \"plan.toml\"`, or `[control]`, or `[link]`",
    ),
    (
        NOT_IN_PLAN,
        "not_in_plan",
        "An endpoint, key or channel was named that the plan does not declare.",
        "use the nearest name in the message, or add it to the plan",
    ),
    (
        ARGUMENT,
        "argument",
        "A value on the command line cannot be read.",
        "write it in the form shown",
    ),
    (
        UNKNOWN_CODE,
        "unknown_code",
        "There is no such code.",
        "use one of the nearest codes; `forebay explain --all` lists every one",
    ),
    (
        OUTPUT,
        "output",
        "Standard output could not be written.",
        "check the disk or the pipe that takes the output",
    ),
    (
        SECTION,
        "config_section",
        "A table of the configuration has a key or a value that is not known.",
        "`[plan]` has `file`; `[control]` has `folder`, `listen`, `plain`, `master_key`, `[control.tls]` and `[control.nodes]`; `[link]` has `name`, `control`, `ca`, `certificate`, `key` and `table`",
    ),
    (
        API_SILENT,
        "api_silent",
        "Nothing answers where the API of a control plane was to be asked.",
        "start `forebay run` with [control] in its configuration, or give --api with the address it prints behind `api on`",
    ),
    (
        API_STRANGE,
        "api_strange",
        "What answers is not the API of a control plane of this version.",
        "give --api with the address that `forebay run` prints behind `api on`",
    ),
    (
        AUDIT_FAULTS,
        "audit_faults",
        "The chain of the audit log is broken: a line was altered, left out or put in, or a thing was changed without one.",
        "keep the store as it is, find out who had access, restore the last good backup",
    ),
    (
        NOT_APPLIED,
        "not_applied",
        "A change is in the store and on its way, and a node that was to be waited for has not got it on every shard and its disk.",
        "look at that node with `forebay node show`; wait longer with --wait 60s; until it has a revocation it takes what the key signs",
    ),
    (
        NO_TOKEN,
        "no_token",
        "The API takes no strangers, and there is no token.",
        "give --token-file; a new store writes its first token to `first-owner.token` in its folder, and `forebay tokens create --offline` makes one while nothing runs",
    ),
    (
        API_ADDRESS,
        "api_address",
        "The address of the API cannot be read, or a token would be sent to another machine in the clear.",
        "write it like https://control.example:7414, or http://127.0.0.1:7414 for one on the same machine with `plain = \"loopback\"`",
    ),
    (
        CONTEXT_UNKNOWN,
        "context_unknown",
        "There is no context of that name.",
        "list them with `forebay context ls`, or make it with `forebay context set`",
    ),
    (
        CONTEXT_FILE,
        "context_file",
        "The file of contexts cannot be read or written, or others than its owner may write it.",
        "chmod 0600 the file, or name another in FOREBAY_CONTEXTS",
    ),
    (
        API_TRUST,
        "api_trust",
        "Whom to trust as the API cannot be read.",
        "give authorities as PEM with --ca, or the fingerprint that `forebay cert dev` prints with --pin",
    ),
    (
        BULK_FILE,
        "bulk_file",
        "A file of endpoints, its template or its report cannot be used.",
        "correct the line named; an import goes on from its own report alone",
    ),
    (
        API_UNTRUSTED,
        "api_untrusted",
        "There is no tunnel to the API, or its certificate is not to be trusted. Nothing was sent.",
        "give --ca with the authority that signed it, or --pin with its fingerprint: a control plane that made its own certificate prints that when it starts, and has it in `api.pem` beside its first token; check the address",
    ),
    (
        KEY_UNFIT,
        "key_unfit",
        "A key of the plan cannot do what was asked: it is revoked, of the other direction or of the wrong kind.",
        "name an active key of the direction needed",
    ),
    (
        SWEEP,
        "sweep",
        "A `--sweep` names no dimension that can be swept, or a value that the dimension cannot have.",
        "write --sweep shards=1,2,4 or --sweep batch=1,16,256; shards, batch, connections, window, rate, size, flooders and storm can be swept",
    ),
    (
        CERTIFICATE_NAMES,
        "certificate_names",
        "A certificate cannot be made for the names given: one of them is neither a host name nor an address.",
        "use names such as `localhost` or `127.0.0.1`",
    ),
    (
        CERTIFICATE_UNWRITTEN,
        "certificate_unwritten",
        "A certificate was made, but the folder does not take it, or has files of these names already.",
        "give another folder with --out, or --replace what is there",
    ),
    (
        CERTIFICATE_AUTHORITY,
        "certificate_authority",
        "The key of the authority that signs the certificates of control plane and nodes is not there, or is none.",
        "name its folder with --authority; `forebay cert control` makes one",
    ),
    (
        NO_LOGS,
        "log_none",
        "The folder holds no logs: it is not a data folder, or no message was ever stored.",
        "give the folder named `data` in the configuration",
    ),
    (
        NO_SUCH_LOG,
        "log_unknown",
        "A log was named that the folder does not have.",
        "use one of the names that `forebay log ls` prints",
    ),
    (
        DAMAGED,
        "log_damaged",
        "Bytes that were once on disk no longer hold what was written. Everything outside the ranges named is intact and still served.",
        "restore the files from a copy, and check the disk; never delete the segment",
    ),
    (
        SIGNATURES,
        "log_signatures",
        "Stored envelopes do not carry a good signature of the key that the plan has now.",
        "compare the plan with the one in force when they were stored; if the keys are the same, treat the folder as tampered with",
    ),
    (
        NODE_SILENT,
        "node_silent",
        "Nothing answers at the admin address, so there is no node to look at, or it cannot be reached from here.",
        "start it with `forebay run`, or give --admin with the address that it prints behind `admin on`",
    ),
    (
        NOT_A_NODE,
        "node_strange",
        "What answers at the admin address does not tell the numbers of shards: it is another program, the port for frames, or another version.",
        "give the address that `forebay run` prints behind `admin on`; use the forebay that runs there",
    ),
    (
        NODE_GONE,
        "node_gone",
        "The node answered before and does not any more: it has stopped, or its machine is too busy to answer.",
        "see what it logged last; start it again with `forebay run`",
    ),
    (
        NOT_SERVING,
        "node_not_serving",
        "The node is opening its logs or stopping, and its shards have no numbers to show.",
        "wait until it is ready, or look without --once, which waits",
    ),
    (
        FOREIGN_FOLDER,
        "quickstart_foreign_folder",
        "Quickstart only works in an empty folder or in one that it made itself, so that it never mixes with other files.",
        "give another folder with --data",
    ),
    (
        CANNOT_WRITE,
        "quickstart_cannot_write",
        "Quickstart cannot make its folder or write its configuration and plan.",
        "give a folder that you may write with --data",
    ),
    (
        NOT_READ_BACK,
        "quickstart_not_read_back",
        "Not every message that was sent was acked and read back exactly once, in order and unchanged.",
        "run `forebay log verify` on the folder, and report what it says together with the JSON report",
    ),
    (
        BENCH_FOLDER,
        "bench_folder",
        "A measurement with a node of its own makes a temporary folder on the disk of the data folder, beside it or in it where it is a mount, and cannot.",
        "let the user write beside the data folder, or name another configuration with --config",
    ),
    (
        BENCH_NODE,
        "bench_node",
        "The node of a measurement did not start, or ended at once.",
        "mend what its last line says; `forebay run` with the same configuration says more",
    ),
    (
        BENCH_LOAD,
        "bench_load",
        "The load of a measurement was not accounted for: messages lost or connections ended.",
        "run it again; if it stays so, run `forebay load` against a node and read its reasons",
    ),
    (
        BENCH_BUSY,
        "bench_busy",
        "Other processes use so much of the processors that a measurement would say more about them.",
        "wait, stop them, or measure all the same with --even-if-busy",
    ),
    (
        BENCH_ROOM,
        "bench_room",
        "The load steps write segments beside the data folder and remove them; the disk has no room for them.",
        "free space, or measure fewer shards with --shards-max",
    ),
    (
        BENCH_TIME,
        "bench_time",
        "The counts of shards cannot be measured, each at least twice, in the time allowed.",
        "allow more with --within, or measure fewer shards with --shards-max",
    ),
];

/// Codes of the storage layer, which has no table of its own.
pub(crate) const STORAGE_CODES: &[(u16, &str, &str, &str)] = &[
    (
        4001,
        "disk_full",
        "A log cannot grow because the disk is full. New frames are rejected with FB-1502; what is stored is still served.",
        "free space or shorten retention; the log goes on by itself then",
    ),
    (
        4002,
        "storage_refused",
        "The operating system refused to read or write a file of the data folder.",
        "see the kernel log and the folder's owner, then start again",
    ),
    (
        4003,
        "segment_missing",
        "A segment file that belongs to a log is gone.",
        "put the file back and start again",
    ),
    (
        4004,
        "segment_version",
        "A segment was written in a format that this build does not read.",
        "use the version of forebay that wrote this data folder, or a newer one",
    ),
];
