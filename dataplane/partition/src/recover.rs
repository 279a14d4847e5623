//! Recovery: from whatever a crash left on the medium to a log that can be appended to. Work is bounded
//! by the segments that were open; sealed ones are not read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;

use wire::ids::{Offset, Position, UnixNanos};

use crate::chain::{Link, decide};
use crate::commit::Commit;
use crate::index::{Index, Source};
use crate::limits::PartitionLimits;
use crate::log::{LogId, SegmentId, SegmentRef};
use crate::partition::{Live, Partition};
use crate::record::{RECORD_HEADER_BYTES, record_bytes};
use crate::scan::{Damage, DamageKind, START};
use crate::segment::{Segment, live_header};
use crate::sender::{ENTRY_BYTES, Senders};
use crate::storage::{SegmentFile, Storage, StorageError};
use crate::vouch::{Vouch, Vouched};

mod gather;
mod ready;
mod senders;

use gather::Candidate;
use senders::rebuild_senders;

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
    /// Where they were cut off.
    pub cuts: Vec<Cut>,
    /// Damage. It was left in place; what follows it is served.
    pub damage: Vec<Damage>,
    /// Why the log is sealed from the start, if it could not be synced.
    pub sealed: Option<StorageError>,
}

/// Bytes that were overwritten with zeroes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Segment they were cut off.
    pub segment: SegmentId,
    /// Where in it.
    pub positions: Range<Position>,
    /// Whether a copy was set aside; there may be no room for one.
    pub kept: bool,
}

impl<S: Segment> Partition<S> {
    /// Open a log after whatever happened to it.
    ///
    /// The open segment is read in full, and the one before it if nothing shows that it was synced.
    /// Torn tails are overwritten with zeroes, and everything kept that is not known to be on disk is
    /// written again and synced before this returns, so that nothing cut can come back and everything
    /// served stays. A new log starts with one spare.
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
        let vouch = storage.vouch(log)?.map(Vouch::new);
        let vouched = vouch.as_ref().and_then(|vouch| vouch.read(log));
        let mut work = Recoverer {
            storage,
            log,
            now,
            vouched,
            report,
            unused,
            spares,
        };
        let mut found = work.gather()?;
        let open_from = work.settle(&mut found)?;
        let senders = rebuild_senders(&mut found, open_from);
        let (segments, commit) = work.open(found, open_from, &senders)?;
        let lost = work.lost(&segments);
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
            spares_wanted: 1,
            surplus: Vec::new(),
            commit,
            vouch,
            senders,
            hold: None,
            starved: false,
            requested: false,
            returning: 0,
            spare_failure: None,
            newest: now,
        };
        partition.take_spares(storage, unused)?;
        partition.first_spare(storage)?;
        if let Some(vouched) = lost {
            partition.begin_behind(storage, vouched)?;
        }
        partition.vouch_for_all();
        partition.check();
        Ok((partition, report))
    }
}

/// The log's segments, oldest first, and how far they are committed.
type Opened<S> = (VecDeque<Live<S>>, Commit);

struct Recoverer<'a, T: Storage> {
    storage: &'a mut T,
    log: LogId,
    now: UnixNanos,
    /// How far the log was on disk by the word of the file beside its segments.
    vouched: Option<Vouched>,
    report: Recovery,
    /// Spares as found; they are not touched before the log itself is safe.
    unused: Vec<SegmentFile>,
    spares: Vec<T::Segment>,
}

impl<T: Storage> Recoverer<'_, T> {
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
        let sealed = found.iter().take(chain.open_from);
        let torn = sealed.filter(|candidate| candidate.link.torn);
        let torn: Vec<SegmentId> = torn.map(|candidate| candidate.segment.id()).collect();
        // What comes before a commit was on disk whole: no crash has done this.
        torn.into_iter().for_each(|id| self.report_header(id));
        self.report_missing(found);
        for after in 1..found.len() {
            let before = found[after - 1].link.salt;
            found[after].link.previous.get_or_insert(before);
        }
        Ok(chain.open_from)
    }

    pub(super) fn drop_torn(
        &mut self,
        mut candidate: Candidate<T::Segment>,
    ) -> Result<(), StorageError> {
        let extent = candidate.scan();
        let to = extent.stale_end.max(extent.end);
        self.report.cut_records += extent.records + extent.cut_records;
        self.report.cut_bytes += u64::from(to - START);
        self.set_aside(&candidate.segment, START..to);
        self.retire(candidate.segment)
    }

    /// Make a segment that is no longer part of the log a spare, or remove it if there is one.
    pub(super) fn retire(&mut self, segment: T::Segment) -> Result<(), StorageError> {
        let renewed = self.storage.renew(self.log, segment)?;
        if self.spares.is_empty() {
            self.spares.push(renewed);
            return Ok(());
        }
        self.storage.remove(self.log, renewed)
    }

    /// Keep a copy of what is about to be cut.
    fn set_aside(&mut self, segment: &T::Segment, cut: Range<u32>) {
        if cut.is_empty() {
            return;
        }
        let (log, id) = (self.log, segment.id());
        let bytes = segment.bytes(cut.start as usize..cut.end as usize);
        let kept = self
            .storage
            .set_aside(&SegmentRef { log, id }, cut.start, bytes);
        self.report.cuts.push(Cut {
            segment: id,
            positions: Position(cut.start)..Position(cut.end),
            // A copy is a help, not a duty: these bytes were never known to be on disk.
            kept: kept.unwrap_or(false),
        });
    }

    /// The open segment, if it was on disk and is not among those that were found.
    fn lost(&mut self, segments: &VecDeque<Live<T::Segment>>) -> Option<Vouched> {
        let next = segments.back().map_or(0, |open| open.next);
        let vouched = self.vouched.filter(|vouched| vouched.next > next)?;
        self.missing(SegmentId(vouched.segment), next..vouched.next);
        Some(vouched)
    }

    /// Messages of a segment that is not there, or is there and cannot be read.
    pub(super) fn missing(&mut self, id: SegmentId, offsets: Range<u64>) {
        let offsets = Offset(offsets.start)..Offset(offsets.end);
        let mut known = self.report.damage.iter_mut();
        match known.find(|damage| damage.segment == id) {
            Some(known) => known.offsets = offsets,
            None => {
                let nowhere = Position(0)..Position(0);
                self.damaged(id, DamageKind::MissingSegment, nowhere, offsets);
            }
        }
    }

    fn report_missing(&mut self, found: &mut [Candidate<T::Segment>]) {
        for number in 1..found.len() {
            let link = found[number].link;
            if link.misses(&found[number - 1].link) {
                // Reads the segment before in full, even if it is sealed: the offsets are to be exact.
                let end = found[number - 1].scan().next.min(link.base);
                let id = SegmentId(link.previous.unwrap_or_default());
                self.missing(id, end..link.base);
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
        let (mut unsure, mut noted) = (None, true);
        for (number, candidate) in found.into_iter().enumerate() {
            let last = number + 1 == count;
            let live = if number < open_from {
                sealed(candidate, bases[number + 1])
            } else {
                let (commit, end) = candidate
                    .extent
                    .as_ref()
                    .map_or((0, 0), |extent| (extent.commit, extent.end));
                noted = commit as usize + RECORD_HEADER_BYTES >= end as usize;
                let mut live = self.cut(candidate, last, senders)?;
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
        let commit = self.sync(&mut segments, open_from, unsure);
        let open = segments
            .back_mut()
            .filter(|open| !commit.sealed && !noted && open.next > open.base);
        if let Some(open) = open {
            // The tail is on disk now, but nothing in the segment says so yet.
            open.put_note(self.now);
        }
        Ok((segments, commit))
    }

    fn cut(
        &mut self,
        candidate: Candidate<T::Segment>,
        last: bool,
        senders: &Senders,
    ) -> Result<Live<T::Segment>, StorageError> {
        let Candidate {
            mut segment,
            link,
            created,
            extent,
            ..
        } = candidate;
        let Link {
            salt,
            base,
            previous,
            torn,
        } = link;
        let extent = extent.expect("open segments have been scanned");
        let capacity = segment.capacity() as u32;
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
        let (log, id) = (self.log, segment.id());
        self.set_aside(&segment, extent.end..extent.stale_end);
        let cuts = self.storage.set_aside_before(&SegmentRef { log, id })?;
        let stale_end = cuts
            .iter()
            .map(|cut| cut.end)
            .max()
            .unwrap_or(0)
            .max(extent.stale_end);
        write_again(&mut segment, extent.commit, extent.end);
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
        // What an earlier process cut is zeroed once more: its sync may have failed, and then the kernel shows
        // zeroes that the medium does not have.
        zero(&mut segment, end, stale_end.max(extent.end).min(capacity));
        let index = RefCell::new(Index::with_gaps(base, segment.capacity(), extent.gaps));
        let mut live = Live {
            segment,
            salt,
            base,
            next: base,
            created,
            end,
            synced: 0,
            vouched: extent.commit,
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
        Ok(live)
    }

    /// Make what was kept and what was cut durable. Until then nothing may be served as committed.
    fn sync(
        &mut self,
        segments: &mut VecDeque<Live<T::Segment>>,
        open_from: usize,
        unsure: Option<Offset>,
    ) -> Commit {
        let appended = segments.back().map_or(Offset(0), |open| Offset(open.next));
        for live in segments.iter_mut().skip(open_from) {
            let flushed = live.segment.flush();
            let synced = flushed.and_then(|()| self.storage.sync(&live.reference(self.log)));
            if let Err(error) = synced {
                self.report.sealed = Some(error.clone());
                let committed = unsure.unwrap_or_default();
                let failure = Some(error);
                return Commit {
                    synced: committed,
                    committed,
                    sealed: true,
                    failure,
                    ..Commit::default()
                };
            }
            live.synced = live.end;
        }
        Commit {
            synced: appended,
            committed: appended,
            ..Commit::default()
        }
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
        vouched: end,
        index,
    }
}

fn fits<S: Segment>(live: &Live<S>, senders: &Senders) -> bool {
    let snapshot = senders.count() * ENTRY_BYTES + senders.parts() * record_bytes(0);
    snapshot <= live.segment.capacity() - live.end as usize
}

/// Write what is kept once more, from where it is known to be on disk. A sync that failed in an earlier
/// process left bytes that this one sees and that no further sync would write: the kernel takes them
/// for written. Costs a copy of what came after the last commit but one, or of a whole new segment.
fn write_again<S: Segment>(segment: &mut S, from: u32, to: u32) {
    let (mut at, to) = (from as usize, to as usize);
    while at < to {
        let end = to.min(at + 4096);
        let bytes = segment.bytes(at..end).to_vec();
        segment.write(at, &[&bytes]);
        at = end;
    }
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
