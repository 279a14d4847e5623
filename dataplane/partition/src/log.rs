//! The names of logs and segments. A log's name is its folder's name, a segment's id its file's name.

use std::fmt;
use std::str::FromStr;

use wire::ids::PartitionId;

/// Which log: a partition of a hub, or the journal of a queue group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogId {
    /// The messages of one partition; shown as `p-0001f3a2`.
    Partition(PartitionId),
    /// The journal of one queue group; shown as `q-0000`.
    Queue(u16),
}

impl LogId {
    /// The log of partition `id`.
    pub const fn partition(id: PartitionId) -> Self {
        Self::Partition(id)
    }

    /// The journal of queue group `group`.
    pub const fn queue(group: u16) -> Self {
        Self::Queue(group)
    }

    /// The number that segment headers carry: the kind in the high half (1 partition, 2 queue).
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::Partition(id) => 1 << 32 | id.0 as u64,
            Self::Queue(group) => 2 << 32 | group as u64,
        }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(id) => write!(f, "p-{:08x}", id.0),
            Self::Queue(group) => write!(f, "q-{group:04x}"),
        }
    }
}

/// The text is not the name of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a log name: want p- and 8 or q- and 4 lower-case hexadecimal digits")]
pub struct LogNameError;

impl FromStr for LogId {
    type Err = LogNameError;

    fn from_str(name: &str) -> Result<Self, LogNameError> {
        let (kind, digits) = name.split_at_checked(2).ok_or(LogNameError)?;
        let log = match (kind, digits.len()) {
            ("p-", 8) => Self::Partition(PartitionId(
                u32::from_str_radix(digits, 16).map_err(|_| LogNameError)?,
            )),
            ("q-", 4) => Self::Queue(u16::from_str_radix(digits, 16).map_err(|_| LogNameError)?),
            _ => return Err(LogNameError),
        };
        // One spelling each: capitals and signs parse as numbers, yet name no folder of ours.
        if log.to_string() == name {
            Ok(log)
        } else {
            Err(LogNameError)
        }
    }
}

/// A segment's random id. It names the file and salts every checksum in it, so bytes of an earlier
/// life of the same file never look valid. An id is used for one life only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentId({:016x})", self.0)
    }
}

/// Names one segment of one log to the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentRef {
    /// The log it belongs to.
    pub log: LogId,
    /// The segment's file.
    pub id: SegmentId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_name_reads_back_and_has_one_spelling() {
        for (log, name) in [
            (LogId::partition(PartitionId(0x0001_f3a2)), "p-0001f3a2"),
            (LogId::queue(0), "q-0000"),
            (LogId::queue(u16::MAX), "q-ffff"),
        ] {
            assert_eq!(log.to_string(), name);
            assert_eq!(name.parse(), Ok(log));
        }
        for name in [
            "",
            "p",
            "p-",
            "p-1",
            "p-0001F3A2",
            "q-+123",
            "x-0000",
            "p-0001f3a2 ",
            "äö",
        ] {
            assert_eq!(name.parse::<LogId>(), Err(LogNameError), "{name:?}");
        }
    }
}
