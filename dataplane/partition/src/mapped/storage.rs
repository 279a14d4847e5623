//! The folders of all logs of a data folder: segments are listed, made, renewed and removed here. Maps nothing itself.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Advice, MmapMut};

use super::files::{Calls, FileName, fault, file_name, is_full, read_file};
use super::window::Window;
use super::{MappedSegment, allocate, map_writable};
use crate::log::{LogId, SegmentId, SegmentRef};
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader, spare_header};
use crate::storage::{ASIDE_BYTES_MAX, SegmentFile, Storage, StorageError};
use crate::vouch::VOUCH_BYTES;

/// Capacities are multiples of this.
const PREPARE_BYTES: usize = 64 << 10;
/// Writes that prepare a segment have at most this many bytes.
const PREPARE_WRITE_BYTES: usize = 4 * PREPARE_BYTES;
/// Open files kept per storage for syncing; older ones are opened again by name.
const FILES_MAX: usize = 16;

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
        let (window, path) = (
            Window::over(self.keep(SegmentRef { log, id }, file)),
            self.path(log, id),
        );
        Ok(MappedSegment {
            id,
            map,
            window,
            path,
        })
    }
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
                path,
            });
        }
        let bytes = u32::try_from(file.bytes).unwrap_or(u32::MAX);
        let allocated = self.calls.next().and_then(|()| allocate(&opened));
        allocated.map_err(|error| full_or(log, bytes, "allocate", &path, &error))?;
        let map = map_writable(&opened).map_err(|error| fault("map", &path, &error))?;
        let header = SegmentHeader::parse(&file.header, log, file.bytes);
        if matches!(header, SegmentHeader::Spare { .. }) {
            // Its first bytes are looked at and no others; the kernel would read megabytes ahead of them. Only a hint.
            let _ = map.advise(Advice::Random);
        }
        let window = Window::named(path.clone());
        Ok(MappedSegment {
            id: file.id,
            map,
            window,
            path,
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
        (segment.id, segment.path) = (new.id, to.clone());
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
                path,
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

fn random_id() -> Result<SegmentId, StorageError> {
    let random = getrandom::u64().map_err(|error| StorageError::Io {
        what: "draw",
        path: "a random segment id".into(),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    })?;
    // Zero means "none" where a header names its predecessor.
    Ok(SegmentId(random.max(1)))
}
