//! Segments as mapped files, `<data>/<log>/<id>.seg`. The only unsafe code of this room.
//!
//! A file is made with writes of zeroes under the name `<id>.new`, synced, renamed, and only then
//! mapped: every mapped byte is allocated, so a full disk never becomes a fault on a store. What is being
//! appended to lies in a window of memory over the mapped file and is written to the file at each commit.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

use crate::log::SegmentId;
use crate::segment::{Segment, View};
use crate::storage::StorageError;

mod files;
mod storage;
mod window;

pub use storage::MappedStorage;

pub(crate) use files::{FileName, fault, file_name, read_file};
use window::Window;

/// One mapped segment.
#[derive(Debug)]
pub struct MappedSegment {
    id: SegmentId,
    map: MmapMut,
    window: Window,
    /// Where its file is, for those who want a view of their own.
    path: PathBuf,
}

/// A mapping of a segment's file for reading only, shared by its clones.
#[derive(Debug, Clone)]
pub struct MappedView(Arc<Mmap>);

impl View for MappedView {
    fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.0[range]
    }
}

impl Segment for MappedSegment {
    type View = MappedView;

    fn id(&self) -> SegmentId {
        self.id
    }

    fn capacity(&self) -> usize {
        self.map.len()
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.map[range]
    }

    #[inline]
    fn write(&mut self, at: usize, parts: &[&[u8]]) {
        let mut end = at;
        for part in parts {
            self.map[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        self.window.stored(at..end);
    }

    #[inline]
    fn append(&mut self, at: usize, parts: &[&[u8]]) {
        let bytes = parts.iter().map(|part| part.len()).sum();
        self.window.cover(&mut self.map, at, bytes);
        self.write(at, parts);
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let flushed = self.window.flush(&self.map);
        flushed.map_err(|error| fault("write", Path::new(&format!("{}.seg", self.id)), &error))
    }

    fn settle(&mut self) {
        self.window.settle(&mut self.map);
    }

    fn view(&self) -> Result<MappedView, StorageError> {
        let mapped = File::open(&self.path).and_then(|file| map_readable(&file));
        let map = mapped.map_err(|error| fault("view", &self.path, &error))?;
        Ok(MappedView(Arc::new(map)))
    }
}

impl Drop for MappedSegment {
    /// A process that ends in order leaves in the file what it has appended, as one that stores in place does.
    fn drop(&mut self) {
        self.window.close(&mut self.map);
    }
}

/// Lay memory of its own, zero, over a part of a mapped file.
fn overlay_memory(map: &mut MmapMut, at: Range<usize>) -> io::Result<()> {
    overlay(map, at, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
}

/// Lay the file itself under a part of its mapping again.
fn overlay_file(map: &mut MmapMut, at: Range<usize>, file: &File) -> io::Result<()> {
    overlay(map, at, libc::MAP_SHARED, file.as_raw_fd())
}

fn overlay(map: &mut MmapMut, at: Range<usize>, kind: i32, file: i32) -> io::Result<()> {
    if at.is_empty() {
        return Ok(());
    }
    let offset = libc::off_t::try_from(at.start).map_err(io::Error::other)?;
    let part = &mut map[at];
    let (start, bytes) = (part.as_mut_ptr().cast(), part.len());
    let kind = kind | libc::MAP_FIXED;
    // SAFETY: the range lies in `map`, which is borrowed alone and lives on, so nobody holds a reference into
    // it and nothing but our own mapping is replaced. It stays readable and writable, and when `map` is dropped
    // its whole range is unmapped whatever lies there. A file is the one `map` was made of.
    let laid = unsafe {
        libc::mmap(
            start,
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            kind,
            file,
            offset,
        )
    };
    if laid == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Move the pages of one range of memory to another of the same length. The first one is zero then.
fn move_pages(from: &mut [u8], to: &mut [u8]) -> io::Result<()> {
    assert_eq!(
        from.len(),
        to.len(),
        "pages move between ranges of one length"
    );
    let kind = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    let (start, bytes, target) = (from.as_mut_ptr().cast(), from.len(), to.as_mut_ptr());
    // SAFETY: both ranges are borrowed alone, so they do not overlap and nobody holds a reference into them;
    // both belong to maps that live on. The first stays mapped, the second takes the place of what is there.
    let moved = unsafe { libc::mremap(start, bytes, bytes, kind, target) };
    if moved == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Bytes of a page of memory: 4 KiB on most machines, 16 or 64 on some.
fn page_bytes() -> usize {
    // SAFETY: asks for a number; touches no memory of ours.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).expect("the kernel's pages have a length")
}

/// Map a whole file for reading and writing.
fn map_writable(file: &File) -> io::Result<MmapMut> {
    // SAFETY: the map is sound while nobody else changes or shortens the file. The folder belongs to
    // this process alone (the node locks it), this storage maps each file once, and it never truncates.
    unsafe { MmapMut::map_mut(file) }
}

/// Map a whole file for reading, for `inspect` and for readers who do not own the log.
pub(crate) fn map_readable(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is sound while nobody shortens the file; nothing here ever does. A running node
    // may append meanwhile: such bytes are read as numbers and checked by their checksum, and no
    // decision that memory safety hangs on is taken from them twice.
    unsafe { Mmap::map(file) }
}

/// Make every byte of a file allocated, so that no store into its mapping meets a full disk. Files come out
/// of copy tools with holes.
fn allocate(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.blocks() * 512 >= metadata.len() {
        return Ok(());
    }
    let bytes = libc::off_t::try_from(metadata.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as `file` is borrowed, and no memory is handed over.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
