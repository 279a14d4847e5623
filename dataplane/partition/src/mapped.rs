//! Segments as mapped files, `<data>/<log>/<id>.seg`. The only unsafe code of this room.
//!
//! A file is made with writes of zeroes under the name `<id>.new`, synced, renamed, and only then
//! mapped: every mapped byte is allocated, so a full disk never becomes a fault on a store. What is being
//! appended to lies in a window of memory over the mapped file and is written to the file at each commit.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

use crate::log::{LogId, SegmentId, SegmentRef};
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, spare_header};
use crate::storage::{ASIDE_BYTES_MAX, SegmentFile, Storage, StorageError};
use crate::vouch::VOUCH_BYTES;

mod window;

use window::Window;

/// Capacities are multiples of this.
const PREPARE_BYTES: usize = 64 << 10;
/// Writes that prepare a segment have at most this many bytes.
const PREPARE_WRITE_BYTES: usize = 4 * PREPARE_BYTES;
/// Open files kept per storage for syncing; older ones are opened again by name.
const FILES_MAX: usize = 16;

/// One mapped segment.
#[derive(Debug)]
pub struct MappedSegment {
    id: SegmentId,
    map: MmapMut,
    window: Window,
}

impl Segment for MappedSegment {
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

/// Map a whole file for reading, for `inspect`.
pub(crate) fn map_readable(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is sound while nobody shortens the file; nothing here ever does. A running node
    // may append meanwhile: such bytes are read as numbers and checked by their checksum, and no
    // decision that memory safety hangs on is taken from them twice.
    unsafe { Mmap::map(file) }
}

/// Counts calls of the file system and lets one of them fail, for tests. Costs nothing beside the calls.
#[derive(Debug, Default)]
struct Calls {
    made: Cell<u64>,
    /// Number of the call that fails, and why.
    fails: Cell<Option<(u64, i32)>>,
}

impl Calls {
    fn next(&self) -> io::Result<()> {
        self.made.set(self.made.get() + 1);
        match self.fails.get() {
            Some((number, errno)) if number == self.made.get() => {
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }

    fn sync_folder(&self, folder: &Path) -> Result<(), StorageError> {
        let opened = self.next().and_then(|()| File::open(folder));
        let synced = opened.and_then(|folder| folder.sync_all());
        synced.map_err(|error| fault("sync", folder, &error))
    }

    /// Write a whole block; one that is to fail is written by half.
    fn write(&self, file: &File, block: &[u8], at: u64) -> io::Result<()> {
        if let Err(error) = self.next() {
            file.write_all_at(&block[..block.len() / 2], at)?;
            return Err(error);
        }
        file.write_all_at(block, at)
    }
}

/// Segments in the folders of one data folder.
#[derive(Debug)]
pub struct MappedStorage {
    calls: Calls,
    data: PathBuf,
    files: VecDeque<(SegmentRef, Arc<File>)>,
}

impl MappedStorage {
    /// A storage in `data`. Nothing is touched until a log is opened.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            calls: Calls::default(),
            data: data.into(),
            files: VecDeque::new(),
        }
    }

    /// Let the `number`th call of the file system from now on fail with this error, once. For tests.
    pub fn fail_call(&self, number: u64, errno: i32) {
        self.calls
            .fails
            .set(Some((self.calls.made.get() + number, errno)));
    }

    /// Calls of the file system so far.
    pub fn calls(&self) -> u64 {
        self.calls.made.get()
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The open file of a segment, for syncing it elsewhere: fdatasync, nothing less.
    ///
    /// # Errors
    /// `Missing` if there is no such segment, `Io` if it cannot be opened.
    pub fn file(&mut self, segment: &SegmentRef) -> Result<Arc<File>, StorageError> {
        if let Some((_, file)) = self.files.iter().rev().find(|(known, _)| known == segment) {
            return Ok(Arc::clone(file));
        }
        let path = self.path(segment.log, segment.id);
        let opened = self.calls.next();
        match opened.and_then(|()| OpenOptions::new().read(true).write(true).open(&path)) {
            Ok(file) => Ok(self.keep(*segment, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StorageError::Missing { segment: *segment })
            }
            Err(error) => Err(fault("open", &path, &error)),
        }
    }

    fn keep(&mut self, segment: SegmentRef, file: File) -> Arc<File> {
        if self.files.len() >= FILES_MAX {
            self.files.pop_front();
        }
        let file = Arc::new(file);
        self.files.push_back((segment, Arc::clone(&file)));
        file
    }

    fn forget(&mut self, segment: SegmentRef) {
        self.files.retain(|(known, _)| *known != segment);
    }

    fn folder(&self, log: LogId) -> PathBuf {
        self.data.join(log.to_string())
    }

    fn path(&self, log: LogId, id: SegmentId) -> PathBuf {
        self.folder(log).join(format!("{id}.seg"))
    }

    fn make_folder(&self, log: LogId) -> Result<PathBuf, StorageError> {
        let folder = self.folder(log);
        if !folder.is_dir() {
            let made = self
                .calls
                .next()
                .and_then(|()| std::fs::create_dir_all(&folder));
            made.map_err(|error| full_or(log, 0, "create", &folder, &error))?;
            self.calls.sync_folder(&self.data)?;
        }
        Ok(folder)
    }

    /// Write, sync and name a new file. On failure nothing is left of it.
    fn prepare_file(
        &self,
        folder: &Path,
        log: LogId,
        id: SegmentId,
        capacity: usize,
    ) -> Result<File, StorageError> {
        let (young, grown) = (folder.join(format!("{id}.new")), self.path(log, id));
        let made = write_zeroes(&self.calls, &young, log, id, capacity).and_then(|file| {
            self.calls.next()?;
            std::fs::rename(&young, &grown)?;
            Ok(file)
        });
        let made = made.map_err(|error| full_or(log, capacity as u32, "prepare", &young, &error));
        made.and_then(|file| self.calls.sync_folder(folder).map(|()| file))
            .inspect_err(|_| {
                // Whichever of the two exists. What cannot be removed now is found again by listing, as an
                // unfinished file or a spare.
                for path in [&young, &grown] {
                    let _ = std::fs::remove_file(path);
                }
            })
    }

    /// What recoveries have cut off the segments of a log and set aside.
    fn cuts(&self, log: LogId) -> Result<Vec<(SegmentId, Range<u32>)>, StorageError> {
        let folder = self.folder(log);
        let list = || {
            let mut cuts = Vec::new();
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                if let Some(FileName::Cut(id, at)) = entry.file_name().to_str().map(file_name) {
                    let bytes = u32::try_from(entry.metadata()?.len()).unwrap_or(u32::MAX);
                    cuts.push((id, at..at.saturating_add(bytes)));
                }
            }
            Ok(cuts)
        };
        list().map_err(|error| fault("list", &folder, &error))
    }

    fn map(
        &mut self,
        log: LogId,
        id: SegmentId,
        file: File,
    ) -> Result<MappedSegment, StorageError> {
        let map = map_writable(&file).map_err(|error| fault("map", &self.path(log, id), &error))?;
        let window = Window::over(self.keep(SegmentRef { log, id }, file));
        Ok(MappedSegment { id, map, window })
    }
}

fn write_zeroes(
    calls: &Calls,
    path: &Path,
    log: LogId,
    id: SegmentId,
    capacity: usize,
) -> io::Result<File> {
    calls.next()?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    let mut block = vec![0; PREPARE_WRITE_BYTES.min(capacity)];
    block[..SEGMENT_HEADER_BYTES].copy_from_slice(&spare_header(id, capacity, log));
    for at in (0..capacity).step_by(PREPARE_WRITE_BYTES) {
        let bytes = block.len().min(capacity - at);
        calls.write(&file, &block[..bytes], at as u64)?;
        block[..SEGMENT_HEADER_BYTES].fill(0);
    }
    calls.next()?;
    file.sync_all()?;
    Ok(file)
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

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// `Full` if the medium has no room for `bytes`, else `Io`.
fn full_or(
    log: LogId,
    bytes: u32,
    what: &'static str,
    path: &Path,
    error: &io::Error,
) -> StorageError {
    if is_full(error) {
        StorageError::Full { log, bytes }
    } else {
        fault(what, path, error)
    }
}

pub(crate) fn fault(what: &'static str, path: &Path, error: &io::Error) -> StorageError {
    StorageError::Io {
        what,
        path: path.display().to_string(),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}

fn random_id() -> Result<SegmentId, StorageError> {
    let random = getrandom::u64().map_err(|error| StorageError::Io {
        what: "draw",
        path: "a random segment id".into(),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    })?;
    // Zero means "none" where a header names its predecessor.
    Ok(SegmentId(random.max(1)))
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

impl Storage for MappedStorage {
    type Segment = MappedSegment;

    fn list(&mut self, log: LogId) -> Result<Vec<SegmentFile>, StorageError> {
        let folder = self.folder(log);
        let entries = match self.calls.next().and_then(|()| std::fs::read_dir(&folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fault("list", &folder, &error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|error| fault("list", &folder, &error))?
                .path();
            match path
                .file_name()
                .and_then(|name| name.to_str())
                .map_or(FileName::Foreign, file_name)
            {
                FileName::Segment(id) => {
                    let opened = self.calls.next().and_then(|()| File::open(&path));
                    let file = opened.and_then(|file| read_file(id, &file));
                    files.push(file.map_err(|error| fault("read", &path, &error))?);
                }
                FileName::Unfinished(_) => {
                    std::fs::remove_file(&path).map_err(|error| fault("remove", &path, &error))?;
                }
                FileName::Cut(..) | FileName::Foreign => {}
            }
        }
        files.sort_by_key(|file| file.id);
        Ok(files)
    }

    fn open(&mut self, log: LogId, file: &SegmentFile) -> Result<MappedSegment, StorageError> {
        let opened = self.file(&SegmentRef { log, id: file.id })?;
        let path = self.path(log, file.id);
        if file.bytes == 0 {
            // The kernel maps no empty file; an anonymous page stands in, and holds nothing.
            let map = MmapMut::map_anon(SEGMENT_HEADER_BYTES)
                .map_err(|error| fault("map", &path, &error))?;
            let window = Window::none();
            return Ok(MappedSegment {
                id: file.id,
                map,
                window,
            });
        }
        let bytes = u32::try_from(file.bytes).unwrap_or(u32::MAX);
        let allocated = self.calls.next().and_then(|()| allocate(&opened));
        allocated.map_err(|error| full_or(log, bytes, "allocate", &path, &error))?;
        let map = map_writable(&opened).map_err(|error| fault("map", &path, &error))?;
        let window = Window::named(path);
        Ok(MappedSegment {
            id: file.id,
            map,
            window,
        })
    }

    fn prepare(&mut self, log: LogId, bytes: u32) -> Result<MappedSegment, StorageError> {
        let folder = self.make_folder(log)?;
        let id = random_id()?;
        let capacity = (bytes as usize).next_multiple_of(PREPARE_BYTES);
        let file = self.prepare_file(&folder, log, id, capacity)?;
        self.map(log, id, file)
    }

    fn sync(&mut self, segment: &SegmentRef) -> Result<(), StorageError> {
        let file = self.file(segment)?;
        let synced = self.calls.next().and_then(|()| file.sync_data());
        synced.map_err(|error| fault("sync", &self.path(segment.log, segment.id), &error))
    }

    fn renew(
        &mut self,
        log: LogId,
        mut segment: MappedSegment,
    ) -> Result<MappedSegment, StorageError> {
        segment.settle();
        let (old, new) = (
            SegmentRef {
                log,
                id: segment.id,
            },
            SegmentRef {
                log,
                id: random_id()?,
            },
        );
        let (from, to) = (self.path(log, old.id), self.path(log, new.id));
        let file = self.file(&old)?;
        // The name first: a live header under a new name is still the old segment, while a spare under
        // an old name would make its old records valid again.
        let renamed = self.calls.next().and_then(|()| std::fs::rename(&from, &to));
        renamed.map_err(|error| fault("rename", &from, &error))?;
        self.calls.sync_folder(&self.folder(log))?;
        self.forget(old);
        self.files.push_back((new, file));
        segment.id = new.id;
        let header = spare_header(new.id, segment.capacity(), log);
        // Written, not stored: a store makes the whole unit of the page cache dirty that the header lies in.
        let file = self.file(&new)?;
        let written = self
            .calls
            .next()
            .and_then(|()| file.write_all_at(&header, 0));
        written.map_err(|error| fault("write", &to, &error))?;
        self.sync(&new)?;
        // Mapped anew: syncing left the old mapping's pages write-protected one by one, so that appending to a
        // recycled segment took ten times the page faults of a new one.
        segment.window = Window::over(Arc::clone(&file));
        segment.map = map_writable(&file).map_err(|error| fault("map", &to, &error))?;
        Ok(segment)
    }

    fn vouch(&mut self, log: LogId) -> Result<Option<MappedSegment>, StorageError> {
        let path = self.make_folder(log)?.join("vouched");
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let made = opened.and_then(|file| {
            self.calls.next()?;
            if file.metadata()?.len() != VOUCH_BYTES as u64 {
                file.set_len(VOUCH_BYTES as u64)?;
            }
            allocate(&file)?;
            map_writable(&file)
        });
        match made {
            Ok(map) => Ok(Some(MappedSegment {
                id: SegmentId(0),
                map,
                window: Window::none(),
            })),
            Err(error) if is_full(&error) => Ok(None),
            Err(error) => Err(fault("open", &path, &error)),
        }
    }

    fn set_aside(
        &mut self,
        segment: &SegmentRef,
        at: u32,
        bytes: &[u8],
    ) -> Result<bool, StorageError> {
        let folder = self.folder(segment.log);
        let kept: u64 = self
            .cuts(segment.log)?
            .iter()
            .map(|(_, cut)| u64::from(cut.end - cut.start))
            .sum();
        if kept + bytes.len() as u64 > ASIDE_BYTES_MAX {
            return Ok(false);
        }
        let path = folder.join(format!("{}.cut-{at:08x}", segment.id));
        let written = File::create(&path).and_then(|file| {
            self.calls.write(&file, bytes, 0)?;
            self.calls.next()?;
            file.sync_all()
        });
        match written {
            Ok(()) => self.calls.sync_folder(&folder).map(|()| true),
            Err(error) if is_full(&error) => Ok(false),
            Err(error) => Err(fault("write", &path, &error)),
        }
    }

    fn set_aside_before(&mut self, segment: &SegmentRef) -> Result<Vec<Range<u32>>, StorageError> {
        let cuts = self.cuts(segment.log)?.into_iter();
        Ok(cuts
            .filter(|(id, _)| *id == segment.id)
            .map(|(_, cut)| cut)
            .collect())
    }

    fn remove(&mut self, log: LogId, segment: MappedSegment) -> Result<(), StorageError> {
        let path = self.path(log, segment.id);
        self.forget(SegmentRef {
            log,
            id: segment.id,
        });
        let removed = self.calls.next().and_then(|()| std::fs::remove_file(&path));
        removed.map_err(|error| fault("remove", &path, &error))
    }
}
