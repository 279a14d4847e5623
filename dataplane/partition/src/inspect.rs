//! A read-only look at the logs of a data folder, for tools: what there is, every record, every fault.
//!
//! Files are mapped for reading and never changed, so this is safe beside a running node; what a node
//! appends meanwhile may or may not be seen. What recovery would cut is not shown as part of the log.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use wire::ids::{Offset, Position, UnixNanos};

use crate::chain::{Link, decide};
use crate::log::{LogId, SegmentId, SegmentRef};
use crate::mapped::{FileName, fault, file_name, map_readable, read_file};
use crate::record::Record;
use crate::scan::{Damage, DamageKind, Extent, Headers, Judged, START, extent};
use crate::segment::{SEGMENT_VERSION, SegmentHeader};
use crate::storage::StorageError;
use crate::vouch::Vouched;

mod entries;

pub use entries::Entries;

/// The logs in a data folder, partitions first, each kind by number.
///
/// # Errors
/// `Io` when the folder cannot be read.
pub fn logs(data: &Path) -> Result<Vec<LogId>, StorageError> {
    let entries = std::fs::read_dir(data).map_err(|error| fault("list", data, &error))?;
    let mut logs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| fault("list", data, &error))?;
        logs.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<LogId>().ok()),
        );
    }
    logs.sort();
    Ok(logs)
}

/// What a segment's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentUse {
    /// Part of the log.
    Live,
    /// Given up by retention and not given back yet; the next start does.
    Expired,
    /// Prepared for later.
    Spare,
    /// A torn tail that recovery cut off the segment of this id and set aside.
    SetAside,
    /// Being prepared, or left so by a crash.
    Unfinished,
    /// Begun behind a torn tail; the next start recycles it. It holds nothing that was committed.
    Torn,
    /// Neither header nor records can be read; it is left alone.
    Unreadable,
}

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its id; the file's name without the ending.
    pub id: SegmentId,
    /// Where it is.
    pub path: PathBuf,
    /// What it is used for.
    pub usage: SegmentUse,
    /// Length of the file.
    pub bytes: u64,
    /// Messages in it, by the segments' headers: damage is not subtracted. Empty unless it is live.
    pub offsets: std::ops::Range<Offset>,
    /// When it became live, if it says so.
    pub created: Option<UnixNanos>,
}

/// One step of a walk through a log.
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    /// An intact record of any kind.
    Record(Record<'a>),
    /// Bytes that should hold records and do not.
    Damage(Damage),
}

/// What reading a whole log has shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Intact records, the log's own bookkeeping included.
    pub records: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Everything that is damaged.
    pub damage: Vec<Damage>,
    /// Bytes of a torn tail that the next start cuts. Not damage: they were never committed.
    pub torn_bytes: u64,
}

struct Part {
    info: SegmentInfo,
    map: Option<Mmap>,
    link: Link,
    /// For segments that may have been open.
    extent: Option<Extent>,
}

impl Part {
    fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}

/// One log, opened for looking only.
pub struct LogView {
    log: LogId,
    /// Live ones by base, then the others by id.
    parts: Vec<Part>,
    live: usize,
    damage: Vec<Damage>,
    vouched: Option<Vouched>,
    expired: Vec<Part>,
}

/// How far the log was on disk by the word of the file beside its segments.
fn read_vouched(folder: &Path, log: LogId) -> Result<Option<Vouched>, StorageError> {
    let path = folder.join("vouched");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Vouched::read(&bytes, log)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault("read", &path, &error)),
    }
}

impl LogView {
    /// Look at `log` in the folder `data`. Reads the headers of all segments and the open one in full.
    ///
    /// # Errors
    /// `Io` when a file cannot be read, `Version` when another program version has written it.
    pub fn open(data: &Path, log: LogId) -> Result<Self, StorageError> {
        let folder = data.join(log.to_string());
        let mut view = Self {
            log,
            parts: Vec::new(),
            live: 0,
            damage: Vec::new(),
            vouched: None,
            expired: Vec::new(),
        };
        let vouched = read_vouched(&folder, log)?;
        view.vouched = vouched;
        let (mut taken, mut headers) = (Vec::new(), Headers::new(vouched));
        for entry in std::fs::read_dir(&folder).map_err(|error| fault("list", &folder, &error))? {
            let path = entry
                .map_err(|error| fault("list", &folder, &error))?
                .path();
            if let Some((part, header)) = view.take_file(path)? {
                if let Some(header) = header {
                    headers.add(part.info.id, header);
                }
                taken.push((part, header));
            }
        }
        let mut others = Vec::new();
        for (mut part, header) in taken {
            if let Some(header) = header {
                let judged = headers.judge(part.info.id, header, part.bytes());
                view.judge(&mut part, judged)?;
            }
            match part.info.usage {
                SegmentUse::Live => view.parts.push(part),
                _ => others.push(part),
            }
        }
        view.parts
            .sort_by_key(|part| (part.link.base, part.info.created));
        let unused = others
            .iter()
            .filter(|part: &&Part| part.info.usage == SegmentUse::Spare);
        let spares: Vec<SegmentId> = unused.map(|part| part.info.id).collect();
        view.place(&spares);
        others.append(&mut view.expired);
        others.sort_by_key(|part| part.info.id);
        view.parts.extend(others);
        Ok(view)
    }

    /// One file and, if it is finished, what its header says.
    fn take_file(
        &self,
        path: PathBuf,
    ) -> Result<Option<(Part, Option<SegmentHeader>)>, StorageError> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .map_or(FileName::Foreign, file_name);
        let aside = matches!(name, FileName::Cut(..));
        let (id, finished) = match name {
            FileName::Segment(id) => (id, true),
            FileName::Unfinished(id) | FileName::Cut(id, _) => (id, false),
            FileName::Foreign => return Ok(None),
        };
        let file = File::open(&path).map_err(|error| fault("open", &path, &error))?;
        let listed = read_file(id, &file).map_err(|error| fault("read", &path, &error))?;
        let header = SegmentHeader::parse(&listed.header, self.log, listed.bytes);
        let map = match (listed.bytes, finished) {
            // The kernel maps no empty file.
            (0, _) | (_, false) => None,
            _ => Some(map_readable(&file).map_err(|error| fault("map", &path, &error))?),
        };
        let usage = if finished {
            SegmentUse::Live
        } else if aside {
            SegmentUse::SetAside
        } else {
            SegmentUse::Unfinished
        };
        let offsets = Offset(0)..Offset(0);
        let info = SegmentInfo {
            id,
            path,
            usage,
            bytes: listed.bytes,
            offsets,
            created: None,
        };
        let part = Part {
            info,
            map,
            link: Link {
                salt: id.0,
                base: 0,
                previous: None,
                torn: false,
            },
            extent: None,
        };
        Ok(Some((part, finished.then_some(header))))
    }

    fn judge(&mut self, part: &mut Part, judged: Judged) -> Result<(), StorageError> {
        let id = part.info.id;
        match judged {
            Judged::Spare => part.info.usage = SegmentUse::Spare,
            Judged::Unreadable => {
                part.info.usage = SegmentUse::Unreadable;
                self.report(id, DamageKind::Unreadable, 0..part.info.bytes as u32, 0..0);
            }
            Judged::Live {
                salt,
                capacity,
                base,
                previous,
                created,
            } => {
                part.link = Link {
                    salt,
                    base,
                    previous: Some(previous),
                    torn: false,
                };
                part.info.created = Some(UnixNanos(created));
                if part.info.bytes < u64::from(capacity) {
                    let cut = part.info.bytes as u32..capacity;
                    self.report(id, DamageKind::Truncated, cut, 0..0);
                }
            }
            Judged::Headless { base, damaged } => {
                (part.link.base, part.link.torn) = (base, !damaged);
                if damaged {
                    self.report(id, DamageKind::Header, 0..START, 0..0);
                }
            }
            Judged::Foreign { version } => {
                return Err(StorageError::Version {
                    segment: SegmentRef { log: self.log, id },
                    seen: version,
                    needed: SEGMENT_VERSION,
                });
            }
        }
        Ok(())
    }

    /// Decide where the log ends, exactly as recovery would.
    fn place(&mut self, spares: &[SegmentId]) {
        while let Some(vouched) = self.vouched
            && self
                .parts
                .get(1)
                .is_some_and(|next| next.link.base <= vouched.first)
        {
            let mut expired = self.parts.remove(0);
            expired.info.usage = SegmentUse::Expired;
            self.expired.push(expired);
        }
        if let (Some(vouched), Some(oldest)) = (self.vouched, self.parts.first_mut()) {
            vouched.begin(&mut oldest.link);
            let link = oldest.link;
            let unreadable = |id| {
                let mut damage = self.damage.iter();
                damage.any(|d| d.segment.0 == id && d.kind == DamageKind::Unreadable)
            };
            if let Some(offsets) = vouched.in_front(&link, unreadable) {
                self.missing(SegmentId(link.previous.unwrap_or_default()), offsets);
            }
        }
        let links: Vec<Link> = self.parts.iter().map(|part| part.link).collect();
        let scan = |number: usize| {
            extent(
                self.parts[number].bytes(),
                links[number].salt,
                links[number].base,
                self.vouched,
            )
        };
        let (chain, extents) = decide(&links, spares, scan);
        for (part, extent) in self.parts[chain.open_from..].iter_mut().zip(extents) {
            part.extent = Some(extent);
        }
        self.live = chain.keep;
        let sealed = links.iter().zip(&self.parts).take(chain.open_from);
        let torn = sealed.filter(|(link, _)| link.torn);
        let torn: Vec<SegmentId> = torn.map(|(_, part)| part.info.id).collect();
        for id in torn {
            self.report(id, DamageKind::Header, 0..START, 0..0);
        }
        for (number, part) in self.parts.iter_mut().enumerate() {
            let end = part
                .extent
                .as_ref()
                .map_or(part.link.base, |extent| extent.next);
            let next = links
                .get(number + 1)
                .filter(|_| number + 1 < chain.keep)
                .map_or(end, |next| next.base);
            if number < chain.keep {
                part.info.offsets = Offset(part.link.base)..Offset(next);
            } else {
                part.info.usage = SegmentUse::Torn;
            }
        }
        for number in 1..chain.keep {
            let (before, this) = (links[number - 1], links[number]);
            if this.misses(&before) {
                let known = extent(
                    self.parts[number - 1].bytes(),
                    before.salt,
                    before.base,
                    None,
                );
                let id = SegmentId(this.previous.unwrap_or_default());
                self.missing(id, known.next.min(this.base)..this.base);
            }
        }
        let end = self.offsets().end.0;
        if let Some(vouched) = self.vouched.filter(|vouched| vouched.next > end) {
            self.missing(SegmentId(vouched.segment), end..vouched.next);
        }
    }

    /// Messages of a segment that is not there, or is there and cannot be read.
    fn missing(&mut self, id: SegmentId, offsets: std::ops::Range<u64>) {
        match self.damage.iter_mut().find(|damage| damage.segment == id) {
            Some(known) => known.offsets = Offset(offsets.start)..Offset(offsets.end),
            None => self.report(id, DamageKind::MissingSegment, 0..0, offsets),
        }
    }

    fn report(
        &mut self,
        segment: SegmentId,
        kind: DamageKind,
        positions: std::ops::Range<u32>,
        offsets: std::ops::Range<u64>,
    ) {
        self.damage.push(Damage {
            log: self.log,
            segment,
            kind,
            positions: Position(positions.start)..Position(positions.end),
            offsets: Offset(offsets.start)..Offset(offsets.end),
        });
    }

    /// Which log this is.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// All its files: live segments in order, then the others.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentInfo> {
        self.parts.iter().map(|part| &part.info)
    }

    /// The messages it holds: the oldest kept, and the next to come.
    pub fn offsets(&self) -> std::ops::Range<Offset> {
        let live = &self.parts[..self.live];
        match (live.first(), live.last()) {
            (Some(first), Some(last)) => first.info.offsets.start..last.info.offsets.end,
            _ => Offset(0)..Offset(0),
        }
    }

    /// Every record in order, and damage where it lies. Each record's checksum is verified.
    pub fn entries(&self) -> Entries<'_> {
        self.entries_from(Offset(0))
    }

    /// Like [`LogView::entries`], from the segment that contains `offset` on.
    pub fn entries_from(&self, offset: Offset) -> Entries<'_> {
        let before =
            self.parts[..self.live].partition_point(|part| part.info.offsets.end <= offset);
        Entries {
            view: self,
            part: before,
            cursor: None,
        }
    }

    /// Read the whole log.
    pub fn verify(&self) -> Verdict {
        let mut verdict = Verdict {
            damage: self.damage.clone(),
            ..Verdict::default()
        };
        for entry in self.entries() {
            match entry {
                Entry::Record(record) => {
                    verdict.records += 1;
                    verdict.messages += u64::from(record.count());
                    verdict.payload_bytes += record.payload().len() as u64;
                }
                Entry::Damage(damage) => verdict.damage.push(damage),
            }
        }
        for (number, extent) in self
            .parts
            .iter()
            .enumerate()
            .filter_map(|(n, part)| Some((n, part.extent.as_ref()?)))
        {
            let from = if number < self.live {
                extent.end
            } else {
                START
            };
            verdict.torn_bytes += u64::from(extent.stale_end.max(extent.end) - from);
        }
        verdict
    }
}
