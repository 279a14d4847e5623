//! Finding out what a segment holds from its bytes alone: which records are intact, what is damage,
//! and where a torn tail begins. Knows no files; the same code serves recovery and `inspect`.

use std::ops::Range;

use wire::ids::{Offset, Position};

use crate::log::{LogId, SegmentId};
use crate::record::{Found, OFFSET_MAX, RECORD_HEADER_BYTES, peek};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::vouch::Vouched;

/// Position of a segment's first record.
pub(crate) const START: u32 = SEGMENT_HEADER_BYTES as u32;

/// What kind of damage was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    /// Bytes that were once on disk no longer hold the records they held.
    Records,
    /// The segment's header is unreadable; its place was found from its records.
    Header,
    /// The file is shorter than its header says.
    Truncated,
    /// A segment that the next one names as its predecessor is not there.
    MissingSegment,
    /// Neither header nor any record can be read; the file is left where it is and not used.
    Unreadable,
}

/// One damaged range. It is reported and left in place; what follows it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// In which log.
    pub log: LogId,
    /// In which segment; for a missing one, its id.
    pub segment: SegmentId,
    /// What happened.
    pub kind: DamageKind,
    /// Bytes of the segment that cannot be read.
    pub positions: Range<Position>,
    /// Messages that cannot be read. Empty when no message is affected.
    pub offsets: Range<Offset>,
}

/// Unreadable bytes between two intact records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) first: u64,
    pub(crate) next: u64,
}

impl Gap {
    pub(crate) fn damage(&self, log: LogId, segment: SegmentId) -> Damage {
        Damage {
            log,
            segment,
            kind: DamageKind::Records,
            positions: Position(self.from)..Position(self.to),
            offsets: Offset(self.first)..Offset(self.next),
        }
    }
}

/// The first intact record at or after `from` whose offset is at least `base`.
///
/// Looks at every multiple of 8. Hashes only where the masked offset is in range, which foreign bytes
/// reach with a chance of about 2^-28, so the cost is one pass over the bytes.
pub(crate) fn find(bytes: &[u8], from: u32, salt: u64, base: u64) -> Option<Found> {
    shaped(bytes, from, salt, base).find(|found| found.intact(bytes, salt))
}

/// Like [`find`], for a record that starts in a range of positions.
pub(crate) fn find_within(bytes: &[u8], within: Range<u32>, salt: u64, base: u64) -> Option<Found> {
    let (from, to) = (within.start, within.end as usize);
    let ahead = &bytes[..bytes.len().min(to.saturating_add(RECORD_HEADER_BYTES - 1))];
    places(ahead, from)
        .filter_map(|at| peek(bytes, at, salt))
        .filter(|found| found.base >= base)
        .find(|found| found.intact(bytes, salt))
}

/// Like [`find`] for a segment whose base is not known.
fn find_any(bytes: &[u8], salt: u64) -> Option<Found> {
    places(bytes, START)
        .filter_map(|at| peek(bytes, at, salt))
        .find(|found| found.intact(bytes, salt))
}

fn places(bytes: &[u8], from: u32) -> impl Iterator<Item = u32> {
    let last = bytes.len().saturating_sub(RECORD_HEADER_BYTES);
    (from as usize..=last)
        .step_by(8)
        .map(|at| at as u32)
        .filter(|&at| {
            // The kind's byte is zero in unused space and above 5 in most others.
            matches!(bytes[at as usize + 4], 1..=5)
        })
}

/// Places with the shape of a record of this segment, whole or not.
fn shaped(bytes: &[u8], from: u32, salt: u64, base: u64) -> impl Iterator<Item = Found> {
    let records = bytes.len() as u64 / RECORD_HEADER_BYTES as u64;
    let limit = (base + records * u64::from(u16::MAX)).min(OFFSET_MAX);
    places(bytes, from)
        .filter_map(move |at| peek(bytes, at, salt))
        .filter(move |found| (base..=limit).contains(&found.base))
}

/// Intact records without anything between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    start: u32,
    end: u32,
    first: u64,
    next: u64,
    records: u64,
}

/// What a segment holds, once it is decided where it ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    /// Where the next record goes.
    pub(crate) end: u32,
    /// Which offset it gets.
    pub(crate) next: u64,
    /// Damage before `end`.
    pub(crate) gaps: Vec<Gap>,
    /// Highest recorded commit position; 0 if nothing shows that any record was ever synced.
    pub(crate) commit: u32,
    /// Intact records before `end`.
    pub(crate) records: u64,
    /// Intact records after `end`: parts of a torn tail that reached the disk out of order.
    pub(crate) cut_records: u64,
    /// End of everything behind `end` that was written under this salt.
    pub(crate) stale_end: u32,
}

/// Read a whole segment and decide where it ends.
///
/// Everything behind the highest recorded commit position had been synced, so what is not intact there
/// is damage and what follows is kept. Past it, the first byte that is not part of a contiguous record
/// starts the torn tail. Cost: one hash of the records and one pass over the rest.
pub(crate) fn extent(bytes: &[u8], salt: u64, base: u64, vouched: Option<Vouched>) -> Extent {
    let (runs, commit) = runs(bytes, salt, base);
    // A segment before the one that was open was on disk whole.
    let sealed = vouched.is_some_and(|vouched| vouched.segment != salt && base < vouched.next);
    let last = runs.last().filter(|_| sealed);
    let commit = last.map_or(commit, |last| commit.max(last.end));
    // The file may have become shorter than what was on disk.
    let vouched = vouched
        .filter(|vouched| vouched.segment == salt && vouched.position >= START)
        .map(|vouched| Vouched {
            position: vouched.position.min(bytes.len() as u32),
            ..vouched
        });
    let commit = vouched.map_or(commit, |vouched| commit.max(vouched.position));
    let mut extent = Extent {
        end: START,
        next: base,
        commit,
        ..Extent::default()
    };
    let mut kept = 0;
    for run in &runs {
        let contiguous = run.start == extent.end && run.first == extent.next;
        if !contiguous {
            if extent.end >= commit {
                break;
            }
            let to = run.start.min(commit);
            extent.gaps.push(Gap {
                from: extent.end,
                to,
                first: extent.next,
                next: run.first,
            });
            (extent.end, extent.next) = (to, run.first);
            if run.start > commit {
                // What lies between was never known to be on disk, so neither is this run.
                break;
            }
        }
        (extent.end, extent.next) = (run.end, run.next);
        extent.records += run.records;
        kept += 1;
    }
    if let Some(vouched) =
        vouched.filter(|vouched| extent.end < vouched.position || extent.next < vouched.next)
    {
        // Nothing behind the damage is left to say where it ends.
        let to = vouched.position.max(extent.end);
        let next = vouched.next.max(extent.next);
        extent.gaps.push(Gap {
            from: extent.end,
            to,
            first: extent.next,
            next,
        });
        (extent.end, extent.next) = (to, next);
    }
    extent.cut_records = runs[kept..].iter().map(|run| run.records).sum();
    extent.stale_end = shaped(bytes, extent.end, salt, base)
        .map(|found| found.end)
        .max()
        .unwrap_or(extent.end)
        .max(trace(bytes, extent.end, salt, extent.next));
    extent
}

/// The end of a header at `at` that was written here but no longer has the shape of one: its masked offset
/// is the next one but for a few bits, which bytes of an earlier life are not.
fn trace(bytes: &[u8], at: u32, salt: u64, next: u64) -> u32 {
    let end = at as usize + RECORD_HEADER_BYTES;
    let masked = bytes.get(at as usize + 16..at as usize + 24);
    let masked = masked
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_le_bytes);
    match masked {
        Some(masked) if end <= bytes.len() && (masked ^ salt ^ next).count_ones() <= 8 => {
            end as u32
        }
        _ => at,
    }
}

fn runs(bytes: &[u8], salt: u64, base: u64) -> (Vec<Run>, u32) {
    let mut runs = Vec::new();
    let mut run = Run {
        start: START,
        end: START,
        first: base,
        next: base,
        records: 0,
    };
    let mut commit = 0;
    loop {
        let contiguous = peek(bytes, run.end, salt)
            .filter(|found| found.base == run.next && found.intact(bytes, salt));
        if let Some(found) = contiguous {
            commit = commit.max(found.commit_position);
            run = Run {
                end: found.end,
                next: found.next,
                records: run.records + 1,
                ..run
            };
            continue;
        }
        if run.records > 0 {
            runs.push(run);
        }
        // The next one cannot start before the bytes behind the last one.
        let Some(found) = find(bytes, run.end + 8, salt, run.next) else {
            return (runs, commit);
        };
        run = Run {
            start: found.at,
            end: found.at,
            first: found.base,
            next: found.base,
            records: 0,
        };
    }
}

/// What the file of a segment is, told by its header and, where that cannot be trusted, its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Prepared, or begun by a process that crashed before it held anything.
    Spare,
    /// Part of the log, as its header says.
    Live {
        salt: u64,
        base: u64,
        previous: u64,
        created: u64,
        capacity: u32,
    },
    /// Part of the log by the records under its file's name; the first intact one has this offset. It is
    /// damaged unless a crash alone can have left it so, which the segments behind it decide.
    Headless { base: u64, damaged: bool },
    /// Neither header nor any record can be read.
    Unreadable,
    /// Written by another version of this program.
    Foreign { version: u16 },
}

/// Bytes at the start of a spare that are searched for records. A segment whose live header was lost on
/// its way to the medium still has records behind it; more is searched if another segment names it.
const SPARE_SEARCH_BYTES: usize = 64 << 10;

/// What the headers of a log's files say together.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    vouched: Option<Vouched>,
    names: Vec<SegmentId>,
    predecessors: Vec<u64>,
}

impl Headers {
    /// For a log that was on disk up to `vouched`.
    pub(crate) fn new(vouched: Option<Vouched>) -> Self {
        Self {
            vouched,
            ..Self::default()
        }
    }

    /// Take in one file of the log.
    pub(crate) fn add(&mut self, file: SegmentId, header: SegmentHeader) {
        self.names.push(file);
        if let SegmentHeader::Live { previous, .. } = header {
            self.predecessors.push(previous);
        }
    }

    /// Judge one file by its header and its bytes.
    ///
    /// A header with another id than its file's is that of an earlier life, which a crash left behind in
    /// the middle of renewing. It is misplaced if a file of that id exists or if records were written
    /// under this one.
    pub(crate) fn judge(&self, file: SegmentId, header: SegmentHeader, bytes: &[u8]) -> Judged {
        match header {
            SegmentHeader::Spare { .. } => {
                let named = self.predecessors.contains(&file.0);
                let searched = bytes.len().min(if named {
                    usize::MAX
                } else {
                    SPARE_SEARCH_BYTES
                });
                match find_any(&bytes[..searched], file.0) {
                    // The crash took its live header, or the medium did.
                    Some(_) => headless(bytes, file.0, true, self.vouched),
                    None if self
                        .vouched
                        .is_some_and(|vouched| vouched.segment == file.0) =>
                    {
                        Judged::Unreadable
                    }
                    None => Judged::Spare,
                }
            }
            SegmentHeader::Live {
                id,
                base,
                previous,
                created,
                capacity,
            } => {
                if id == file {
                    return Judged::Live {
                        salt: id.0,
                        base,
                        previous,
                        created,
                        capacity,
                    };
                }
                // Renewing gives a retired segment its new name before its new header; nothing is
                // written under the new name until both are there.
                let ours = find_any(bytes, file.0).is_some();
                if ours || self.names.contains(&id) {
                    headless(bytes, file.0, false, self.vouched)
                } else {
                    Judged::Spare
                }
            }
            SegmentHeader::Damaged { torn } => headless(bytes, file.0, torn, self.vouched),
            SegmentHeader::Foreign { version } => Judged::Foreign { version },
        }
    }
}

/// Judge a segment without a readable header; `torn` if the header may have been caught half written.
fn headless(bytes: &[u8], salt: u64, torn: bool, vouched: Option<Vouched>) -> Judged {
    let committed = vouched.is_some_and(|vouched| vouched.segment == salt);
    match find_any(bytes, salt) {
        None if torn && !committed => Judged::Spare,
        None => Judged::Unreadable,
        Some(first) => {
            let committed = extent(bytes, salt, first.base, vouched).commit > 0;
            Judged::Headless {
                base: first.base,
                damaged: committed || !torn,
            }
        }
    }
}
