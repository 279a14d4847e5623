//! The files of a log's folder: their names and beginnings, calls that tests let fail, errors by name.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::log::SegmentId;
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::storage::{SegmentFile, StorageError};

/// Counts calls of the file system and lets one of them fail, for tests. Costs nothing beside the calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) made: Cell<u64>,
    /// Number of the call that fails, and why.
    pub(super) fails: Cell<Option<(u64, i32)>>,
}

impl Calls {
    pub(super) fn next(&self) -> io::Result<()> {
        self.made.set(self.made.get() + 1);
        match self.fails.get() {
            Some((number, errno)) if number == self.made.get() => {
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn sync_folder(&self, folder: &Path) -> Result<(), StorageError> {
        let opened = self.next().and_then(|()| File::open(folder));
        let synced = opened.and_then(|folder| folder.sync_all());
        synced.map_err(|error| fault("sync", folder, &error))
    }

    /// Write a whole block; one that is to fail is written by half.
    pub(super) fn write(&self, file: &File, block: &[u8], at: u64) -> io::Result<()> {
        if let Err(error) = self.next() {
            file.write_all_at(&block[..block.len() / 2], at)?;
            return Err(error);
        }
        file.write_all_at(block, at)
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

pub(crate) fn fault(what: &'static str, path: &Path, error: &io::Error) -> StorageError {
    StorageError::Io {
        what,
        path: path.display().to_string(),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// What a file in a log's folder is, by its name.
pub(crate) enum FileName {
    /// A prepared or live segment.
    Segment(SegmentId),
    /// A segment whose preparation did not finish.
    Unfinished(SegmentId),
    /// Bytes that recovery cut off this segment at this position.
    Cut(SegmentId, u32),
    /// Nothing of ours.
    Foreign,
}

/// Read a file's name: 16 lower-case hexadecimal digits and `.seg`, `.new` or `.cut-` and a position.
pub(crate) fn file_name(name: &str) -> FileName {
    let Some((digits, kind)) = name.split_once('.') else {
        return FileName::Foreign;
    };
    let id = match u64::from_str_radix(digits, 16) {
        Ok(id) if SegmentId(id).to_string() == digits => SegmentId(id),
        _ => return FileName::Foreign,
    };
    match kind {
        "seg" => FileName::Segment(id),
        "new" => FileName::Unfinished(id),
        _ => match kind
            .strip_prefix("cut-")
            .map(|at| (at.len(), u32::from_str_radix(at, 16)))
        {
            Some((8, Ok(at))) => FileName::Cut(id, at),
            _ => FileName::Foreign,
        },
    }
}

/// Read what listing needs of one segment's file.
pub(crate) fn read_file(id: SegmentId, file: &File) -> io::Result<SegmentFile> {
    let bytes = file.metadata()?.len();
    let mut header = [0; SEGMENT_HEADER_BYTES];
    let mut filled = 0;
    while filled < header.len() {
        match file.read_at(&mut header[filled..], filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(SegmentFile { id, bytes, header })
}
