//! The codes of the link: 4701 to 4749. The same ones travel in REFUSED and RESYNC, stand in the logs of both sides, and are explained.

use wire::diagnosis::Diagnosis;

/// The listener for nodes cannot be opened, or its thread.
pub const LINK_FAILED: u16 = 4701;
/// The other side cannot be reached, or went away.
pub const LINK_LOST: u16 = 4702;
/// The other side's certificate is not trusted, or ours is not.
pub const LINK_UNTRUSTED: u16 = 4703;
/// The other side speaks another version of the protocol.
pub const LINK_VERSION: u16 = 4704;
/// A node that the control plane does not know.
pub const LINK_UNKNOWN_NODE: u16 = 4705;
/// A certificate that is not for the name that was said.
pub const LINK_WRONG_NAME: u16 = 4706;
/// Bytes that are no frame, or a frame out of place.
pub const LINK_MALFORMED: u16 = 4707;
/// Nothing was heard for too long.
pub const LINK_SILENT: u16 = 4708;
/// Another connection of the same name took its place.
pub const LINK_REPLACED: u16 = 4709;
/// A table that cannot be taken: damaged, not made for the one that is there, or not what its digest says.
pub const TABLE_UNFIT: u16 = 4710;
/// A table cannot be kept on disk.
pub const TABLE_UNKEPT: u16 = 4711;
/// The authority or a certificate of the link cannot be used.
pub const LINK_AUTHORITY: u16 = 4712;
/// A node without a table waits for the control plane.
pub const NO_TABLE: u16 = 4713;

/// A node has a table of a past that the control plane's store does not come from.
pub const LINK_OTHER_PAST: u16 = 4714;

/// A table that is longer than the link carries.
pub const TABLE_TOO_LONG: u16 = 4715;

/// What is said of a table of so many bytes, where the link carries `most`.
#[must_use]
pub fn table_too_long(bytes: u64, most: u64) -> Diagnosis {
    let (seen, needed) = (format!("{bytes} bytes"), format!("at most {most} bytes"));
    Diagnosis::from_table(CODES, TABLE_TOO_LONG, "the route table", seen, needed)
}

/// Every code of this room: number, name, meaning, remedy.
pub const CODES: &[(u16, &str, &str, &str)] = &[
    (
        LINK_FAILED,
        "link_failed",
        "The place where nodes connect to the control plane cannot be opened, or a thread for the link cannot be had.",
        "choose another `listen` under [control.nodes], stop what has it, or raise `ulimit -u`",
    ),
    (
        LINK_LOST,
        "link_lost",
        "The connection between control plane and node cannot be made, or has ended. The node goes on with its last table and connects again by itself.",
        "see that `forebay control` runs, and that `address` under [link] leads there",
    ),
    (
        LINK_UNTRUSTED,
        "link_untrusted",
        "One of the two sides of the link does not trust the certificate of the other: of another authority, ended, or made for another use.",
        "give both sides certificates of one authority: `forebay cert control`, `forebay cert node`; compare the clocks",
    ),
    (
        LINK_VERSION,
        "link_version",
        "Control plane and node speak different versions of the link.",
        "run the same version of forebay on both; nodes keep serving meanwhile",
    ),
    (
        LINK_UNKNOWN_NODE,
        "link_unknown_node",
        "No node of this name is defined and enabled at the control plane, nor listed by its configuration, so it gets no table.",
        "define it with `forebay node create`, or enable it with `forebay node set NAME enabled=true`; or correct `name` under [link]",
    ),
    (
        LINK_WRONG_NAME,
        "link_wrong_name",
        "A node said a name that its certificate is not for.",
        "make a certificate for that name: `forebay cert node --name NAME`",
    ),
    (
        LINK_MALFORMED,
        "link_malformed",
        "What came over the link is no frame of it, or has no place there.",
        "see that both sides are forebay of the same version; report it if they are",
    ),
    (
        LINK_SILENT,
        "link_silent",
        "Nothing was heard from the other side of the link for too long.",
        "see whether it runs and the network between; the node connects again by itself",
    ),
    (
        LINK_REPLACED,
        "link_replaced",
        "A node connected under a name that was connected; the later connection counts.",
        "give every node a name and a certificate of its own",
    ),
    (
        TABLE_UNFIT,
        "table_unfit",
        "A table that came, or that was kept, cannot be taken: damaged, made for another one than is there, or not what its digest says. The node asks for the whole table.",
        "nothing, if it is told once; otherwise report it",
    ),
    (
        TABLE_UNKEPT,
        "table_unkept",
        "The node follows a table that it cannot keep on disk; if it ends now, it starts again from an older one.",
        "free space, or mend the permissions of the folder named by `table` under [link]",
    ),
    (
        LINK_AUTHORITY,
        "link_authority",
        "The certificates of the link's authority cannot be read or used.",
        "name the file that `forebay cert control` wrote, in PEM",
    ),
    (
        NO_TABLE,
        "no_table",
        "The node has no table yet: it never had one, and the control plane has not answered.",
        "start the control plane; the node starts to serve when it has its first table",
    ),
    (
        LINK_OTHER_PAST,
        "link_other_past",
        "A node has a table of another store than the control plane's, and not of one that this was restored from: a store that is new, or empty, takes nobody's keys away. The node serves on with what it has.",
        "restore the newest backup of the store that the node followed; to have it follow this one all the same, stop the node, move the folder named by `table` under [link] away, and start it",
    ),
    (
        TABLE_TOO_LONG,
        "table_too_long",
        "The route table is longer than what the link carries to a node. A change that would make it so is not made; of a store that has one already, no node gets the whole.",
        "take away endpoints, keys or grants that nobody uses, or keep some of them at another control plane with nodes of its own",
    ),
];
