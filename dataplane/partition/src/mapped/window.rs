//! The window of a segment: the part that is being appended to lies in memory of its own, over the mapped file,
//! and is written to the file at each commit.
//!
//! A store into a mapped file makes a whole unit of the page cache dirty, 64 KiB here, so a commit of 4 KiB gave
//! the device sixteen times its bytes, and after every sync each unit costs a fault again. What is written to the
//! file makes dirty only the pages it touches and faults never. Readers see one row of bytes either way.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use memmap2::MmapMut;

use super::{move_pages, overlay_file, overlay_memory};
use crate::record::RECORD_HEADER_BYTES;

/// Bytes of a window: twice the longest record, so that it moves seldom.
const WINDOW_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    /// Absent where stores go into the mapped file.
    file: Option<Arc<File>>,
    /// Bytes of the segment that lie in memory of their own; empty before the first append.
    at: Range<usize>,
    /// Those of them that the file does not have yet.
    dirty: Range<usize>,
    /// Where pages wait while the window moves.
    scratch: Option<MmapMut>,
    /// A write to the file that failed; the next flush tells.
    failure: Option<io::Error>,
}

impl Window {
    /// For a segment that is only read, or stored to in place.
    pub(super) const fn none() -> Self {
        Self {
            file: None,
            at: 0..0,
            dirty: 0..0,
            scratch: None,
            failure: None,
        }
    }

    /// For a segment in this file.
    pub(super) fn over(file: Arc<File>) -> Self {
        Self {
            file: Some(file),
            ..Self::none()
        }
    }

    /// Make the window cover `bytes` bytes at `at`, which are appended next.
    #[inline]
    pub(super) fn cover(&mut self, map: &mut MmapMut, at: usize, bytes: usize) {
        let covered = at >= self.at.start && at + bytes <= self.at.end;
        // What is behind the window's start was appended before; a store in place is right for it.
        let behind = !self.at.is_empty() && at < self.at.start;
        if covered || behind || self.file.is_none() {
            return;
        }
        self.advance(map, at, bytes);
    }

    /// Take in that these bytes were stored.
    #[inline]
    pub(super) fn stored(&mut self, bytes: Range<usize>) {
        let (from, to) = (bytes.start.max(self.at.start), bytes.end.min(self.at.end));
        if from < to && self.dirty.is_empty() {
            self.dirty = from..to;
        } else if from < to {
            self.dirty = self.dirty.start.min(from)..self.dirty.end.max(to);
        }
    }

    #[cold]
    fn advance(&mut self, map: &mut MmapMut, at: usize, bytes: usize) {
        self.write(map);
        // A record's payload is stored before its header.
        let start = at.saturating_sub(RECORD_HEADER_BYTES) / PAGE_BYTES * PAGE_BYTES;
        let end = (start + WINDOW_BYTES).min(map.len());
        if at + bytes > end || !map.len().is_multiple_of(PAGE_BYTES) {
            self.close(map);
            return;
        }
        let mut begun = [0; 2 * PAGE_BYTES];
        begun[..at - start].copy_from_slice(&map[start..at]);
        let old = std::mem::replace(&mut self.at, 0..0);
        let moved = match &mut self.scratch {
            Some(scratch) if !old.is_empty() => {
                let file = self.file.as_deref().expect("a window has a file");
                move_window(map, scratch, file, old.clone(), start..end)
            }
            _ => MmapMut::map_anon(WINDOW_BYTES).and_then(|scratch| {
                self.scratch = Some(scratch);
                overlay_memory(map, start..end)
            }),
        };
        if moved.is_ok() {
            map[start..at].copy_from_slice(&begun[..at - start]);
            self.at = start..end;
            return;
        }
        // No memory for it: from here on stores go in place, slower and just as good.
        if let Some(file) = self.file.take() {
            for part in [old, start..end] {
                overlay_file(map, part, &file).expect("a mapping takes the place of a mapping");
            }
        }
    }

    /// Hand what was stored to the file.
    fn write(&mut self, map: &MmapMut) {
        let dirty = std::mem::replace(&mut self.dirty, 0..0);
        if let (Some(file), false) = (&self.file, dirty.is_empty()) {
            let written = file.write_all_at(&map[dirty.clone()], dirty.start as u64);
            if let Err(error) = written {
                self.failure.get_or_insert(error);
            }
        }
    }

    /// Hand what was stored to the file, so that a sync of it makes all of it durable.
    ///
    /// # Errors
    /// The first failure since the window began: what the file holds is unknown then.
    pub(super) fn flush(&mut self, map: &MmapMut) -> io::Result<()> {
        self.write(map);
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Lay the file under the window again; stores go in place until the next append.
    pub(super) fn close(&mut self, map: &mut MmapMut) {
        self.write(map);
        self.scratch = None;
        let at = std::mem::replace(&mut self.at, 0..0);
        if let (Some(file), false) = (&self.file, at.is_empty()) {
            overlay_file(map, at, file).expect("a mapping takes the place of a mapping");
        }
    }
}

/// Move the window's pages from `old` to `new` by way of `scratch`; the file lies under `old` then.
fn move_window(
    map: &mut MmapMut,
    scratch: &mut MmapMut,
    file: &File,
    old: Range<usize>,
    new: Range<usize>,
) -> io::Result<()> {
    let bytes = new.len().min(old.len());
    move_pages(&mut map[old.clone()], &mut scratch[..old.len()])?;
    overlay_file(map, old, file).expect("a mapping takes the place of a mapping");
    overlay_memory(map, new.start + bytes..new.end)?;
    move_pages(
        &mut scratch[..bytes],
        &mut map[new.start..new.start + bytes],
    )
}
