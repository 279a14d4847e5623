//! One append-only, memory-mapped log: append, commit, read, recover.
//!
//! A log is a row of segments, files of fixed capacity that are prepared ahead: allocated, zeroed and
//! synced before they are mapped. Appending copies a record into the open segment and never waits; a
//! commit is a value for the caller to carry out, and vouches for what was appended before it began.
//! After a crash, [`Partition::recover`] keeps everything that was committed, cuts torn tails, and
//! reports damage with exact positions and offsets without deleting anything.
//!
//! Damage is told from a torn tail by evidence: every record says how far its segment was on disk when it
//! was written, a note follows the last commit before a pause, and a small file beside the segments, never
//! synced, says it once more. What no evidence can tell is damage to the very last commit of a log when the
//! power fails before the kernel has written any of that back (some 35 s as kernels are set up): that a sync
//! has ended can only be made durable by a later one. Such a tail is cut like any other, and told as cut.
//! What is cut is first copied to `<segment>.cut-<position>`, as long as all copies of a log fit in 16 MiB,
//! and then overwritten with zeroes, so that it never comes back behind new records.
//!
//! This room knows no frame, no endpoint's name, no clock and no thread. `mapped` is its only unsafe
//! part, [`memory`] its double for simulation, [`inspect`] a read-only view for tools.

pub mod log;

pub mod limits;

mod checksum;

pub mod record;

pub mod segment;

pub mod storage;

pub mod sender;

mod scan;

mod vouch;

mod chain;

mod index;

pub mod partition;

pub mod commit;

pub mod read;

pub mod follow;

mod retain;

pub mod recover;

#[allow(
    unsafe_code,
    reason = "maps files; the only unsafe of this room, reasoned at each block"
)]
pub mod mapped;

pub mod memory;

pub mod inspect;

pub use commit::{CommitTicket, Sealed};
pub use follow::{Feed, Follower, News};
pub use limits::PartitionLimits;
pub use log::{LogId, LogNameError, SegmentId, SegmentRef};
pub use mapped::{MappedSegment, MappedStorage, MappedView};
pub use partition::{AppendError, Appended, LogState, Mark, Partition};
pub use read::{ReadError, Records};
pub use record::{NewRecord, RECORD_HEADER_BYTES, Record, RecordKind, record_bytes};
pub use recover::Cut;
pub use recover::Recovery;
pub use scan::{Damage, DamageKind};
pub use segment::{SEGMENT_HEADER_BYTES, Segment, View};
pub use sender::{Place, SenderState, WINDOW};
pub use storage::{SegmentFile, Storage, StorageError};
