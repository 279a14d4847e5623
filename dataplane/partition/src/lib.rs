//! One append-only, memory-mapped log: append, commit, read, recover.
//!
//! A log is a row of segments, files of fixed capacity that are prepared ahead: allocated, zeroed and
//! synced before they are mapped. Appending copies a record into the open segment and never waits; a
//! commit is a value for the caller to carry out, and vouches for what was appended before it began.
//! After a crash, [`Partition::recover`] keeps everything that was committed, cuts torn tails, and
//! reports damage with exact positions and offsets without deleting anything.
//!
//! This room knows no frame, no endpoint's name, no clock and no thread. `mapped` is its only unsafe
//! part, [`memory`] its double for simulation, [`inspect`] a read-only view for tools.

pub mod log;

pub mod limits;

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
pub use limits::PartitionLimits;
pub use log::{LogId, LogNameError, SegmentId, SegmentRef};
pub use mapped::{MappedSegment, MappedStorage};
pub use partition::{AppendError, Appended, LogState, Mark, Partition};
pub use read::{ReadError, Records};
pub use record::{NewRecord, RECORD_HEADER_BYTES, Record, RecordKind, record_bytes};
pub use recover::Cut;
pub use recover::Recovery;
pub use scan::{Damage, DamageKind};
pub use segment::{SEGMENT_HEADER_BYTES, Segment};
pub use sender::{Place, SenderState, WINDOW};
pub use storage::{SegmentFile, Storage, StorageError};
