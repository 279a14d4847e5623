//! The window of a segment: the part that is being appended to lies in memory of its own, over the mapped file,
//! and is written to the file at each commit.
//!
//! A store into a mapped file makes a whole unit of the page cache dirty, 64 KiB here, so a commit of 4 KiB gave
//! the device sixteen times its bytes, and after every sync each unit costs a fault again. What is written to the
//! file makes dirty only the pages it touches and faults never. Readers see one row of bytes either way.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use memmap2::MmapMut;

use super::{move_pages, overlay_file, overlay_memory, page_bytes};
use crate::record::RECORD_HEADER_BYTES;

/// Bytes of a window: twice the longest record, so that it moves seldom. Whole pages of any machine: of 4, 16 or 64 KiB.
const WINDOW_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    /// Absent where stores go into the mapped file, and where it has not been opened yet.
    file: Option<Arc<File>>,
    /// What to open when something is appended: a log has thousands of segments and appends to one.
    path: Option<PathBuf>,
    /// Bytes of this machine's pages: what a window's ends are multiples of.
    page_bytes: usize,
    /// Bytes of the segment that lie in memory of their own; empty before the first append.
    at: Range<usize>,
    /// It stays where it is: there is no mapping left to move it by. What comes behind it is stored in place.
    stays: bool,
    /// Those of them that the file does not have yet.
    dirty: Range<usize>,
    /// Where pages wait while the window moves.
    scratch: Option<MmapMut>,
    /// The end of the old window that the new one begins with.
    begun: Vec<u8>,
    /// A write to the file that failed; the next flush tells.
    failure: Option<io::Error>,
}

impl Window {
    /// For a segment that is only read, or stored to in place.
    pub(super) const fn none() -> Self {
        Self {
            file: None,
            path: None,
            page_bytes: 1,
            at: 0..0,
            stays: false,
            dirty: 0..0,
            scratch: None,
            begun: Vec::new(),
            failure: None,
        }
    }

    /// For a segment in this file.
    pub(super) fn over(file: Arc<File>) -> Self {
        Self::with_pages(file, page_bytes())
    }

    /// For a segment in the file of this name, which is opened by the first append.
    pub(super) fn named(path: PathBuf) -> Self {
        Self {
            path: Some(path),
            page_bytes: page_bytes(),
            ..Self::none()
        }
    }

    fn with_pages(file: Arc<File>, page_bytes: usize) -> Self {
        Self {
            file: Some(file),
            page_bytes,
            ..Self::none()
        }
    }

    /// Make the window cover `bytes` bytes at `at`, which are appended next.
    #[inline]
    pub(super) fn cover(&mut self, map: &mut MmapMut, at: usize, bytes: usize) {
        let covered = at >= self.at.start && at + bytes <= self.at.end;
        // What is behind the window's start was appended before; a store in place is right for it.
        let behind = !self.at.is_empty() && at < self.at.start;
        let file = self.file.is_some() || self.path.is_some();
        if covered || behind || self.stays || !file {
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
        if let Some(path) = self.path.take() {
            let opened = OpenOptions::new().read(true).write(true).open(path);
            match opened {
                Ok(file) => self.file = Some(Arc::new(file)),
                // As without a mapping: stores go in place.
                Err(_) => return self.stay(),
            }
        }
        self.write(map);
        // A record's payload is stored before its header.
        let start = at.saturating_sub(RECORD_HEADER_BYTES) / self.page_bytes * self.page_bytes;
        let end = (start + WINDOW_BYTES).min(map.len());
        if at + bytes > end || !map.len().is_multiple_of(self.page_bytes) {
            self.close(map);
            return;
        }
        self.begun.clear();
        self.begun.extend_from_slice(&map[start..at]);
        let laid;
        if let Some(scratch) = self.scratch.as_mut().filter(|_| !self.at.is_empty()) {
            let (old, file) = (self.at.clone(), self.file.as_deref());
            if move_pages(&mut map[old.clone()], &mut scratch[..old.len()]).is_err() {
                return self.stay();
            }
            self.at = 0..0;
            let file = file.expect("a window has a file");
            laid = move_on(map, scratch, file, old, start..end);
        } else {
            laid = MmapMut::map_anon(WINDOW_BYTES).and_then(|scratch| {
                self.scratch = Some(scratch);
                overlay_memory(map, start..end)
            });
        }
        if laid.is_ok() {
            map[start..at].copy_from_slice(&self.begun);
            self.at = start..end;
            return;
        }
        // No memory for it, or no more mappings: from here on stores go in place, slower and just as good. What failed
        // left the file there, or nothing at all; and where nothing lies, there is nothing to split.
        if let Some(file) = self.file.take() {
            let _ = overlay_file(map, start..end, &file);
        }
        self.stay();
    }

    fn stay(&mut self) {
        self.stays = true;
        // Where pages failed to arrive something else may lie by now, which is not ours to unmap.
        if let Some(scratch) = self.scratch.take() {
            std::mem::forget(scratch);
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

    /// As `close`, for a segment that nothing more is appended to: its file is closed, and should something be appended
    /// after all, it goes in place.
    pub(super) fn settle(&mut self, map: &mut MmapMut) {
        self.close(map);
        if self.at.is_empty() {
            (self.file, self.path) = (None, None);
        }
    }

    /// Lay the file under the window again; stores go in place until the next append. Where that finds no mapping the
    /// window stays, which readers do not see.
    pub(super) fn close(&mut self, map: &mut MmapMut) {
        self.write(map);
        if let Some(file) = &self.file
            && overlay_file(map, self.at.clone(), file).is_ok()
        {
            self.at = 0..0;
            self.scratch = None;
        }
    }
}

/// The window's pages have left `old` for `scratch`: let them arrive at `new`. Where this fails no memory of the window
/// is left over the file.
fn move_on(
    map: &mut MmapMut,
    scratch: &mut MmapMut,
    file: &File,
    old: Range<usize>,
    new: Range<usize>,
) -> io::Result<()> {
    let bytes = new.len().min(old.len());
    let (moved, grown) = (new.start..new.start + bytes, new.start + bytes..new.end);
    // Moving began with more mappings to spare than this takes.
    overlay_file(map, old, file).expect("the file takes the place that the pages have left");
    overlay_memory(map, grown.clone())?;
    let arrived = move_pages(&mut scratch[..bytes], &mut map[moved]);
    if arrived.is_err() {
        overlay_file(map, grown, file).expect("the file takes the place of memory laid just now");
    }
    arrived
}

#[cfg(test)]
mod tests {
    use super::super::map_writable;
    use super::*;

    #[test]
    fn a_window_begins_and_ends_with_a_page_on_machines_of_any_page() {
        for page_bytes in [4 << 10, 16 << 10, 64 << 10] {
            let file = tempfile::tempfile().expect("a temporary file");
            file.set_len(3 << 20).expect("a temporary folder has room");
            let mut map = map_writable(&file).expect("a file can be mapped");
            let file = Arc::new(file);
            let mut window = Window::with_pages(Arc::clone(&file), page_bytes);
            let (mut at, mut moves) = (0, 0);
            let mut want = vec![0; 3 << 20];
            while at + 5_000 <= want.len() {
                let before = window.at.clone();
                window.cover(&mut map, at, 5_000);
                moves += usize::from(window.at != before);
                let ends = [window.at.start, window.at.end];
                let whole = ends.iter().all(|end| end.is_multiple_of(page_bytes));
                assert!(whole && !window.at.is_empty(), "{ends:?} of {page_bytes}");
                let fill = moves as u8 + (at % 251) as u8;
                map[at..at + 5_000].fill(fill);
                want[at..at + 5_000].fill(fill);
                window.stored(at..at + 5_000);
                at += 5_000;
            }
            assert!(moves > 2, "{moves} moves");
            window.flush(&map).expect("a temporary file takes bytes");
            let mut written = vec![0; want.len()];
            let read = file.read_exact_at(&mut written, 0);
            read.expect("what was written can be read");
            let same = written == want && map[..at] == want[..at];
            assert!(same, "pages of {page_bytes} bytes");
        }
    }
}
