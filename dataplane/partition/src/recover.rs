//! Recovery: from whatever a crash left on the medium to a log that can be appended to. Work is bounded
//! by the segments that were open; sealed ones are not read.

use std::cell::RefCell;
use std::collections::VecDeque;

use wire::ids::{Offset, Position, UnixNanos};

use crate::chain::{Link, decide};
use crate::commit::Commit;
use crate::index::{Index, Source};
use crate::limits::PartitionLimits;
use crate::log::{LogId, SegmentId, SegmentRef};
use crate::partition::{Live, Partition};
use crate::record::{Record, RecordKind};
use crate::scan::{Damage, DamageKind, Extent, Headless, START, extent, headless};
use crate::segment::{SEGMENT_VERSION, Segment, SegmentHeader, live_header};
use crate::sender::Senders;
use crate::storage::{SegmentFile, Storage, StorageError};

/// What recovery found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Segments that are part of the log.
    pub segments: usize,
    /// Segments that were read in full.
    pub scanned_segments: usize,
    /// Intact records in those.
    pub scanned_records: u64,
    /// Bytes of a torn tail that were cut: written, but never known to be on disk.
    pub cut_bytes: u64,
    /// Intact records among them, which had reached the disk before those in front of them.
    pub cut_records: u64,
    /// Damage. It was left in place; what follows it is served.
    pub damage: Vec<Damage>,
    /// Why the log is sealed from the start, if it could not be synced.
    pub sealed: Option<StorageError>,
}

/// A live segment on its way into the log.
struct Candidate<S> {
    segment: S,
    link: Link,
    created: u64,
    extent: Option<Extent>,
}

impl<S: Segment> Candidate<S> {
    fn whole(&self) -> &[u8] {
        self.segment.bytes(0..self.segment.capacity())
    }

    fn read(&self) -> Extent {
        extent(self.whole(), self.link.salt, self.link.base)
    }

    fn scan(&mut self) -> &Extent {
        if self.extent.is_none() {
            self.extent = Some(self.read());
        }
        self.extent.as_ref().expect("it was filled in above")
    }
}

impl<S: Segment> Partition<S> {
    /// Open a log after whatever happened to it.
    ///
    /// The open segment is read in full, and the one before it if nothing shows that it was synced.
    /// Torn tails are overwritten with zeroes and everything kept is synced before this returns, so that
    /// nothing cut can come back and everything served stays. A new log starts with one spare.
    ///
    /// # Errors
    /// When the medium cannot be listed, opened or written. A failed sync is no error: the log is
    /// sealed, and says so. A full medium is none either.
    pub fn recover<T: Storage<Segment = S>>(
        storage: &mut T,
        log: LogId,
        limits: PartitionLimits,
        now: UnixNanos,
    ) -> Result<(Self, Recovery), StorageError> {
        assert!(limits.fit(), "limits do not fit together: {limits:?}");
        let (report, unused, spares) = (Recovery::default(), Vec::new(), Vec::new());
        let mut work = Recoverer {
            storage,
            log,
            now,
            report,
            unused,
            spares,
        };
        let mut found = work.gather()?;
        let open_from = work.settle(&mut found)?;
        let senders = rebuild_senders(&mut found, open_from);
        let (segments, commit) = work.open(found, open_from, &senders)?;
        work.report.segments = segments.len();
        let Recoverer {
            report,
            unused,
            spares,
            ..
        } = work;
        let mut partition = Self {
            log,
            limits,
            segments,
            spares,
            surplus: Vec::new(),
            commit,
            senders,
            hold: None,
            starved: false,
            requested: false,
            spare_failure: None,
            newest: now,
        };
        partition.take_spares(storage, unused)?;
        partition.first_spare(storage)?;
        partition.check();
        Ok((partition, report))
    }

    /// A spare gets a new id: a crash may have taken its live header and left records under the old one.
    /// One is kept, dropped segments included; what is too small or one too many is removed.
    fn take_spares<T: Storage<Segment = S>>(
        &mut self,
        storage: &mut T,
        unused: Vec<SegmentFile>,
    ) -> Result<(), StorageError> {
        let least = self.segment_bytes_min();
        for small in self.spares.extract_if(.., |spare| spare.capacity() < least) {
            storage.remove(self.log, small)?;
        }
        for file in unused {
            let spare = storage.open(self.log, &file)?;
            if self.spares.is_empty() && spare.capacity() >= least {
                self.spares.push(storage.renew(self.log, spare)?);
            } else {
                storage.remove(self.log, spare)?;
            }
        }
        Ok(())
    }

    /// A log without any segment would refuse its first record; it gets its spare at once.
    fn first_spare<T: Storage<Segment = S>>(
        &mut self,
        storage: &mut T,
    ) -> Result<(), StorageError> {
        if !self.segments.is_empty() || self.commit.sealed {
            return Ok(());
        }
        let Some(bytes) = self.wants_spare() else {
            return Ok(());
        };
        match storage.prepare(self.log, bytes) {
            Ok(spare) => self.offer(spare),
            Err(full @ StorageError::Full { .. }) => self.spare_failed(full),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The log's segments, oldest first, and how far they are committed.
type Opened<S> = (VecDeque<Live<S>>, Commit);

struct Recoverer<'a, T: Storage> {
    storage: &'a mut T,
    log: LogId,
    now: UnixNanos,
    report: Recovery,
    /// Spares as found; they are not touched before the log itself is safe.
    unused: Vec<SegmentFile>,
    spares: Vec<T::Segment>,
}

impl<T: Storage> Recoverer<'_, T> {
    /// Sort the files into live segments, by base offset, and spares.
    fn gather(&mut self) -> Result<Vec<Candidate<T::Segment>>, StorageError> {
        let mut found = Vec::new();
        for file in self.storage.list(self.log)? {
            match SegmentHeader::parse(&file.header, self.log, file.id, file.bytes) {
                SegmentHeader::Spare { .. } => self.unused.push(file),
                SegmentHeader::Live {
                    id,
                    capacity,
                    base,
                    previous,
                    created,
                } => {
                    let segment = self.storage.open(self.log, &file)?;
                    self.note_truncation(&segment, capacity);
                    let link = Link {
                        salt: id.0,
                        base,
                        previous: Some(previous),
                        torn: false,
                    };
                    found.push(Candidate {
                        segment,
                        link,
                        created,
                        extent: None,
                    });
                }
                SegmentHeader::Damaged { torn } => self.take_damaged(&file, torn, &mut found)?,
                SegmentHeader::Foreign { version } => {
                    let segment = SegmentRef {
                        log: self.log,
                        id: file.id,
                    };
                    return Err(StorageError::Version {
                        segment,
                        seen: version,
                        needed: SEGMENT_VERSION,
                    });
                }
            }
        }
        found.sort_by_key(|candidate| (candidate.link.base, candidate.created));
        while let Some(twin) = found
            .windows(2)
            .position(|pair| pair[0].link.base == pair[1].link.base)
        {
            let spare = found.remove(twin);
            self.report_whole(&spare.segment, DamageKind::Unreadable);
        }
        Ok(found)
    }

    /// Without a header the file's name gives the salt, and the first record under it the place.
    fn take_damaged(
        &mut self,
        file: &SegmentFile,
        torn: bool,
        found: &mut Vec<Candidate<T::Segment>>,
    ) -> Result<(), StorageError> {
        let segment = self.storage.open(self.log, file)?;
        match headless(segment.bytes(0..segment.capacity()), file.id.0, torn) {
            Headless::Live { base, damaged } => {
                if damaged {
                    self.report_header(&segment);
                }
                let link = Link {
                    salt: file.id.0,
                    base,
                    previous: None,
                    torn: !damaged,
                };
                found.push(Candidate {
                    segment,
                    link,
                    created: self.now.0,
                    extent: None,
                });
            }
            // The header was caught half written when the segment was begun; nothing followed it.
            Headless::Undone => self.unused.push(file.clone()),
            Headless::Unreadable => self.report_whole(&segment, DamageKind::Unreadable),
        }
        Ok(())
    }

    fn note_truncation(&mut self, segment: &T::Segment, capacity: u32) {
        if segment.capacity() < capacity as usize {
            let positions = Position(segment.capacity() as u32)..Position(capacity);
            self.damaged(
                segment.id(),
                DamageKind::Truncated,
                positions,
                Offset(0)..Offset(0),
            );
        }
    }

    fn report_header(&mut self, segment: &T::Segment) {
        self.damaged(
            segment.id(),
            DamageKind::Header,
            Position(0)..Position(START),
            Offset(0)..Offset(0),
        );
    }

    fn report_whole(&mut self, segment: &T::Segment, kind: DamageKind) {
        let positions = Position(0)..Position(segment.capacity() as u32);
        self.damaged(segment.id(), kind, positions, Offset(0)..Offset(0));
    }

    fn damaged(
        &mut self,
        segment: SegmentId,
        kind: DamageKind,
        positions: std::ops::Range<Position>,
        offsets: std::ops::Range<Offset>,
    ) {
        self.report.damage.push(Damage {
            log: self.log,
            segment,
            kind,
            positions,
            offsets,
        });
    }

    /// Read the segments that were open and drop those that follow a torn tail. Answers which segment is
    /// the first that was open.
    fn settle(&mut self, found: &mut Vec<Candidate<T::Segment>>) -> Result<usize, StorageError> {
        let links: Vec<Link> = found.iter().map(|candidate| candidate.link).collect();
        let spares: Vec<SegmentId> = self.unused.iter().map(|file| file.id).collect();
        let (chain, extents) = decide(&links, &spares, |number| found[number].read());
        for (candidate, extent) in found[chain.open_from..].iter_mut().zip(extents) {
            candidate.extent = Some(extent);
        }
        // Newest first: should this be cut short, what is left still follows a torn tail.
        for candidate in found.split_off(chain.keep).into_iter().rev() {
            self.drop_torn(candidate)?;
        }
        self.report_missing(found);
        for after in 1..found.len() {
            let before = found[after - 1].link.salt;
            found[after].link.previous.get_or_insert(before);
        }
        Ok(chain.open_from)
    }

    fn drop_torn(&mut self, mut candidate: Candidate<T::Segment>) -> Result<(), StorageError> {
        let extent = candidate.scan();
        self.report.cut_records += extent.records + extent.cut_records;
        self.report.cut_bytes += u64::from(extent.stale_end.max(extent.end) - START);
        let renewed = self.storage.renew(self.log, candidate.segment)?;
        if self.spares.is_empty() {
            self.spares.push(renewed);
            return Ok(());
        }
        self.storage.remove(self.log, renewed)
    }

    fn report_missing(&mut self, found: &[Candidate<T::Segment>]) {
        for pair in found.windows(2) {
            if pair[1].link.misses(&pair[0].link) {
                let after = pair[0]
                    .extent
                    .as_ref()
                    .map_or(pair[1].link.base, |extent| extent.next);
                let offsets = Offset(after)..Offset(pair[1].link.base);
                let id = SegmentId(pair[1].link.previous.unwrap_or_default());
                self.damaged(
                    id,
                    DamageKind::MissingSegment,
                    Position(0)..Position(0),
                    offsets,
                );
            }
        }
    }

    /// Cut torn tails, sync what is kept, and build the log's view of its segments.
    fn open(
        &mut self,
        found: Vec<Candidate<T::Segment>>,
        open_from: usize,
        senders: &Senders,
    ) -> Result<Opened<T::Segment>, StorageError> {
        let bases: Vec<u64> = found.iter().map(|candidate| candidate.link.base).collect();
        let count = found.len();
        let mut segments = VecDeque::with_capacity(count + 1);
        let mut unsure = None;
        for (number, candidate) in found.into_iter().enumerate() {
            let last = number + 1 == count;
            let live = if number < open_from {
                sealed(candidate, bases[number + 1])
            } else {
                let commit = candidate.extent.as_ref().map_or(0, |extent| extent.commit);
                let mut live = self.cut(candidate, last, senders);
                if unsure.is_none() {
                    unsure = Some(offset_at(&live, commit));
                }
                if let Some(&next) = bases.get(number + 1) {
                    live.next = next;
                }
                live
            };
            segments.push_back(live);
        }
        let commit = self.sync(&mut segments, open_from, unsure)?;
        Ok((segments, commit))
    }

    fn cut(
        &mut self,
        candidate: Candidate<T::Segment>,
        last: bool,
        senders: &Senders,
    ) -> Live<T::Segment> {
        let Candidate {
            mut segment,
            link,
            created,
            extent,
        } = candidate;
        let Link {
            salt,
            base,
            previous,
            torn,
        } = link;
        let extent = extent.expect("open segments have been scanned");
        self.report.scanned_segments += 1;
        self.report.scanned_records += extent.records;
        self.report.cut_records += extent.cut_records;
        self.report.cut_bytes += u64::from(extent.stale_end.saturating_sub(extent.end));
        self.report.damage.extend(
            extent
                .gaps
                .iter()
                .map(|gap| gap.damage(self.log, segment.id())),
        );
        if torn {
            let previous = previous.unwrap_or_default();
            let header = live_header(
                SegmentId(salt),
                segment.capacity(),
                self.log,
                base,
                previous,
                created,
            );
            segment.write(0, &[&header]);
        }
        // A segment that holds no message yet starts over: its snapshot may be torn.
        let empty = last && extent.next == base && extent.gaps.is_empty();
        let end = if empty { START } else { extent.end };
        zero(&mut segment, end, extent.stale_end.max(extent.end));
        let index = RefCell::new(Index::with_gaps(base, segment.capacity(), extent.gaps));
        let mut live = Live {
            segment,
            salt,
            base,
            next: base,
            created,
            end,
            synced: 0,
            index,
        };
        let source = Source {
            bytes: live.segment.bytes(0..end as usize),
            salt,
            next: extent.next,
        };
        live.index.borrow_mut().visit(source, end, |_| ());
        live.next = extent.next;
        if empty && fits(&live, senders) {
            live.put_senders(senders, self.now);
        }
        live
    }

    /// Make what was kept and what was cut durable. Until then nothing may be served as committed.
    fn sync(
        &mut self,
        segments: &mut VecDeque<Live<T::Segment>>,
        open_from: usize,
        unsure: Option<Offset>,
    ) -> Result<Commit, StorageError> {
        let appended = segments.back().map_or(Offset(0), |open| Offset(open.next));
        for live in segments.iter_mut().skip(open_from) {
            if let Err(error) = self.storage.sync(&live.reference(self.log)) {
                self.report.sealed = Some(error.clone());
                let committed = unsure.unwrap_or_default();
                let failure = Some(error);
                return Ok(Commit {
                    synced: committed,
                    committed,
                    sealed: true,
                    failure,
                    ..Commit::default()
                });
            }
            live.synced = live.end;
        }
        Ok(Commit {
            synced: appended,
            committed: appended,
            ..Commit::default()
        })
    }
}

/// A segment that was sealed before: not read until somebody asks.
fn sealed<S: Segment>(candidate: Candidate<S>, next: u64) -> Live<S> {
    let Candidate {
        segment,
        link: Link { salt, base, .. },
        created,
        ..
    } = candidate;
    let end = segment.capacity() as u32;
    let index = RefCell::new(Index::new(base, 0));
    Live {
        segment,
        salt,
        base,
        next,
        created,
        end,
        synced: end,
        index,
    }
}

fn fits<S: Segment>(live: &Live<S>, senders: &Senders) -> bool {
    let snapshot = senders.count() * crate::sender::ENTRY_BYTES
        + senders.parts() * crate::record::record_bytes(0);
    snapshot <= live.segment.capacity() - live.end as usize
}

/// Zero everything that was written under the segment's salt behind its new end.
fn zero<S: Segment>(segment: &mut S, from: u32, to: u32) {
    const ZEROES: [u8; 4096] = [0; 4096];
    let (mut at, to) = (from as usize, to as usize);
    while at < to {
        let bytes = (to - at).min(ZEROES.len());
        segment.write(at, &[&ZEROES[..bytes]]);
        at += bytes;
    }
}

/// The offset of the first record at or after `position`.
fn offset_at<S: Segment>(live: &Live<S>, position: u32) -> Offset {
    let source = live.source();
    let mut at = live.base;
    let gaps = live.index.borrow().gaps().to_vec();
    Index::with_gaps(live.base, 0, gaps).visit(source, live.end, |found| {
        if found.at < position {
            at = found.next;
        }
    });
    Offset(at)
}

/// Senders from the snapshot that begins the open segment and the records since. If that snapshot is
/// damaged, segments before it are read until one has a whole one.
fn rebuild_senders<S: Segment>(found: &mut [Candidate<S>], open_from: usize) -> Senders {
    let mut from = open_from.min(found.len().saturating_sub(1));
    while from > 0 && !has_snapshot(&mut found[from]) {
        from -= 1;
    }
    let mut senders = Senders::default();
    for candidate in &mut found[from.min(open_from)..] {
        take_senders(candidate, &mut senders);
    }
    senders
}

/// Visit the records that a scanned segment keeps.
fn visit<S: Segment>(candidate: &mut Candidate<S>, mut each: impl FnMut(Record<'_>)) {
    let Extent {
        end, next, gaps, ..
    } = candidate.scan().clone();
    let (bytes, id) = (candidate.whole(), candidate.segment.id());
    let source = Source {
        bytes,
        salt: candidate.link.salt,
        next,
    };
    Index::with_gaps(candidate.link.base, 0, gaps)
        .visit(source, end, |found| each(found.view(bytes, id)));
}

fn has_snapshot<S: Segment>(candidate: &mut Candidate<S>) -> bool {
    let (mut seen, mut parts) = (0, 1);
    visit(candidate, |record| {
        if record.kind() == RecordKind::Senders {
            seen += 1;
            parts = record.channel().0;
        }
    });
    seen == parts
}

fn take_senders<S: Segment>(candidate: &mut Candidate<S>, senders: &mut Senders) {
    visit(candidate, |record| match record.kind() {
        RecordKind::Senders => senders.restore(record.payload()),
        RecordKind::Frame => senders.append(record.endpoint(), record.sequence()),
        RecordKind::QueueJournal | RecordKind::QueueSnapshot | RecordKind::Note => {}
    });
}
