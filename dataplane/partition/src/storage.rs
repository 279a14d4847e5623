//! Where segments come from and go to. Everything that may wait for a device is behind this trait;
//! appending and reading never are.

use std::ops::Range;

use wire::diagnosis::Diagnosis;

use crate::log::{LogId, SegmentId, SegmentRef};
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};

/// Bytes of cut tails that are kept for one log. What is there is never removed; beyond this nothing is added.
pub const ASIDE_BYTES_MAX: u64 = 16 << 20;

/// A medium that keeps segments. One owner; calls may take as long as the device does.
pub trait Storage {
    /// An open segment of this medium.
    type Segment: Segment;

    /// The segments of `log`, live, spare or unreadable, in any order. Files whose preparation a crash
    /// cut short are removed on the way: their name says that they never held anything. A log that
    /// has no folder yet is empty.
    fn list(&mut self, log: LogId) -> Result<Vec<SegmentFile>, StorageError>;

    /// Open a listed segment for reading and writing.
    fn open(&mut self, log: LogId, file: &SegmentFile) -> Result<Self::Segment, StorageError>;

    /// Make a spare of at least `bytes`: allocated, zero, with a fresh random id, durable.
    ///
    /// # Errors
    /// `Full` when the medium has no room; nothing is left behind then.
    fn prepare(&mut self, log: LogId, bytes: u32) -> Result<Self::Segment, StorageError>;

    /// Make everything written to the segment before this call durable.
    ///
    /// # Errors
    /// Any error means that it is unknown what is on the medium; the partition seals itself.
    fn sync(&mut self, segment: &SegmentRef) -> Result<(), StorageError>;

    /// Turn an open segment into a spare with a fresh random id, durably. At every moment the file is
    /// either still what it was or a spare.
    fn renew(&mut self, log: LogId, segment: Self::Segment) -> Result<Self::Segment, StorageError>;

    /// Give the segment's bytes back to the medium, for good.
    fn remove(&mut self, log: LogId, segment: Self::Segment) -> Result<(), StorageError>;

    /// The small file beside the log's segments that says how far the log is on disk, 4 KiB. Made,
    /// zero, if it is not there; never synced. `None` when the medium has no room for it.
    fn vouch(&mut self, log: LogId) -> Result<Option<Self::Segment>, StorageError>;

    /// Keep a durable copy of bytes that recovery is about to cut off a segment, under the segment's id and
    /// their position. Answers whether there was room: at most [`ASIDE_BYTES_MAX`] are kept for a log.
    fn set_aside(
        &mut self,
        segment: &SegmentRef,
        at: u32,
        bytes: &[u8],
    ) -> Result<bool, StorageError>;

    /// Where bytes of this segment were cut and set aside, by any process so far.
    fn set_aside_before(&mut self, segment: &SegmentRef) -> Result<Vec<Range<u32>>, StorageError>;

    /// What a partition hands out for retirement: a live segment is recycled into a spare, a spare that
    /// nobody needs is removed.
    fn retire(
        &mut self,
        log: LogId,
        segment: Self::Segment,
    ) -> Result<Option<Self::Segment>, StorageError> {
        if is_spare(log, &segment) {
            self.remove(log, segment)?;
            return Ok(None);
        }
        self.renew(log, segment).map(Some)
    }
}

fn is_spare<S: Segment>(log: LogId, segment: &S) -> bool {
    use crate::segment::SegmentHeader;
    let bytes = segment.bytes(0..segment.capacity().min(SEGMENT_HEADER_BYTES));
    let Ok(bytes) = <&[u8; SEGMENT_HEADER_BYTES]>::try_from(bytes) else {
        return false;
    };
    let header = SegmentHeader::parse(bytes, log, segment.capacity() as u64);
    matches!(header, SegmentHeader::Spare { .. })
}

/// A segment's file as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    /// What the file is named by.
    pub id: SegmentId,
    /// Its length.
    pub bytes: u64,
    /// Its first bytes, zero-filled if there are fewer.
    pub header: [u8; SEGMENT_HEADER_BYTES],
}

/// The medium could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// No room left, or the quota is used up.
    #[error("no room for a segment of {bytes} bytes in {log}")]
    Full {
        /// Log that wanted a segment.
        log: LogId,
        /// Bytes asked for.
        bytes: u32,
    },
    /// The operating system refused.
    #[error("{what} {path}: {}", std::io::Error::from_raw_os_error(*errno))]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// With which file or folder.
        path: String,
        /// Why not.
        errno: i32,
    },
    /// The segment is not there.
    #[error("segment {} of {} is not there", segment.id, segment.log)]
    Missing {
        /// Which one.
        segment: SegmentRef,
    },
    /// The segment was written by another version of this program.
    #[error("segment {} of {} has format {seen}, this build reads {needed}", segment.id, segment.log)]
    Version {
        /// Which one.
        segment: SegmentRef,
        /// The format it has.
        seen: u16,
        /// The format this build knows.
        needed: u16,
    },
}

impl StorageError {
    /// The error as an operator should see it.
    pub fn diagnosis(&self) -> Diagnosis {
        let (code, what, seen, needed, remedy) = match self {
            Self::Full { log, bytes } => (
                4001,
                format!("log {log} cannot grow"),
                "a full disk".into(),
                format!("{bytes} free bytes"),
                "free space or shorten retention; the log goes on by itself then",
            ),
            Self::Io { what, path, errno } => (
                4002,
                format!("cannot {what} {path}"),
                std::io::Error::from_raw_os_error(*errno).to_string(),
                "a working disk and read and write permission".into(),
                "see the kernel log and the folder's owner, then start again",
            ),
            Self::Missing { segment } => (
                4003,
                format!("segment {} of log {} is gone", segment.id, segment.log),
                "no such file".into(),
                "the file where it was".into(),
                "put the file back and start again",
            ),
            Self::Version {
                segment,
                seen,
                needed,
            } => (
                4004,
                format!(
                    "segment {} of log {} has another format",
                    segment.id, segment.log
                ),
                format!("format {seen}"),
                format!("format {needed}"),
                "use the version of forebay that wrote this data folder, or a newer one",
            ),
        };
        Diagnosis {
            code,
            what,
            seen,
            needed,
            remedy: remedy.into(),
        }
    }
}
