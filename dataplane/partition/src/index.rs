//! The sparse index of one segment: where to start looking for an offset. Built while appending; in segments
//! that were sealed before this process began, places are found by bisection as readers ask.

use crate::record::{Found, peek, record_bytes};
use crate::scan::{Gap, START, find, find_within};

/// Distance between two entries, at least. A look-up hops over this many bytes at most.
pub(crate) const INDEX_BYTES: u32 = 16 << 10;

/// A look at a place in a segment goes on for so many bytes: longer than any record.
const SKIM_BYTES: u32 = 513 << 10;
const _: () = assert!(record_bytes(wire::limits::FRAME_BYTES_MAX) < SKIM_BYTES as usize);

/// Where records of one segment are.
#[derive(Debug)]
pub(crate) struct Index {
    base: u64,
    /// Offset and position of some records, ascending in both.
    entries: Vec<(u64, u32)>,
    /// How far the segment was walked through: position and offset of the next record.
    frontier: (u32, u64),
    gaps: Vec<Gap>,
    /// Offset and position after the last record found: where a sequential reader asks next.
    hint: (u64, u32),
    /// Headers looked at for look-ups so far.
    pub(crate) looks: u64,
}

/// There is nothing intact at the offset; the next message after it that may be, in this segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) next: u64,
}

/// The bytes of a segment and how to read them.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) salt: u64,
    /// Offset after the segment's last message.
    pub(crate) next: u64,
}

impl Index {
    /// An index that knows nothing yet, with room for a segment of `capacity` bytes.
    pub(crate) fn new(base: u64, capacity: usize) -> Self {
        let entries = Vec::with_capacity(capacity / INDEX_BYTES as usize + 1);
        let (frontier, hint) = ((START, base), (base, START));
        Self {
            base,
            entries,
            frontier,
            gaps: Vec::new(),
            hint,
            looks: 0,
        }
    }

    /// An index for a segment whose damage is known; the records themselves are still to be visited.
    pub(crate) fn with_gaps(base: u64, capacity: usize, gaps: Vec<Gap>) -> Self {
        Self {
            gaps,
            ..Self::new(base, capacity)
        }
    }

    /// Take in the record at the frontier. Allocates nothing while the segment's capacity is kept.
    #[inline]
    pub(crate) fn push(&mut self, found: &Found) {
        debug_assert_eq!(
            (found.at, found.base),
            self.frontier,
            "records are indexed in order"
        );
        if self
            .entries
            .last()
            .is_none_or(|&(_, at)| found.at - at >= INDEX_BYTES)
        {
            self.entries.push((found.base, found.at));
        }
        self.frontier = (found.end, found.next);
    }

    /// Visit every record up to position `end`, using the known gaps; index them on the way.
    pub(crate) fn visit(&mut self, source: Source<'_>, end: u32, mut visit: impl FnMut(&Found)) {
        while self.frontier.0 < end {
            if let Some(gap) = self.gap_at(self.frontier.0) {
                self.jump(gap);
                continue;
            }
            let Some(found) = peek(source.bytes, self.frontier.0, source.salt) else {
                break;
            };
            self.push(&found);
            visit(&found);
        }
    }

    /// The damage known so far.
    pub(crate) fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    fn gap_at(&self, at: u32) -> Option<Gap> {
        // Damage is rare; most segments have none.
        let mut gaps = self.gaps.iter();
        gaps.find(|gap| gap.from == at && gap.to > at).copied()
    }

    fn jump(&mut self, gap: Gap) {
        self.frontier = (gap.to, gap.next);
        self.entries.push((gap.next, gap.to));
    }

    /// Find the intact record that contains `offset`.
    ///
    /// Costs a hop over at most [`INDEX_BYTES`] of headers, one hash, and in a segment that nobody has walked
    /// through at most a dozen looks at places in it. The first time that damage is met, a search for its end.
    pub(crate) fn locate(&mut self, source: Source<'_>, offset: u64) -> Result<Found, Unreadable> {
        let (mut next, mut at) = self.start(source, offset);
        let mut before: Option<Found> = None;
        while next < source.next && (at as usize) < source.bytes.len() {
            self.looks += 1;
            let known = self.gap_at(at);
            let here = peek(source.bytes, at, source.salt).filter(|found| found.base == next);
            let gap = match (known, here) {
                (Some(gap), _) => gap,
                (None, Some(found)) if offset >= found.next => {
                    (next, at, before) = (found.next, found.end, Some(found));
                    continue;
                }
                (None, Some(found)) if found.intact(source.bytes, source.salt) => {
                    self.hint = (found.next, found.end);
                    return Ok(found);
                }
                (None, Some(_)) => self.open_gap(gap_from(source, at, next)),
                (None, None) => {
                    // The fault may be the length or count of the record that led here.
                    let broken = before.filter(|found| !found.intact(source.bytes, source.salt));
                    let (from, first) = broken.map_or((at, next), |found| (found.at, found.base));
                    self.open_gap(gap_from(source, from, first))
                }
            };
            if offset < gap.next {
                return Err(Unreadable {
                    next: gap.next.max(offset + 1),
                });
            }
            (next, at, before) = (gap.next, gap.to, None);
        }
        Err(Unreadable {
            next: source.next.max(offset + 1),
        })
    }

    /// Where to begin hopping: offset and position of a record, or of a gap, at or before `offset`.
    fn start(&mut self, source: Source<'_>, offset: u64) -> (u64, u32) {
        if self.hint.0 == offset {
            return self.hint;
        }
        // Records of count 0 share their offset with the next one; entries may too, and any will do.
        let after = self.entries.partition_point(|&(first, _)| first <= offset);
        let below = after
            .checked_sub(1)
            .map_or((self.base, START), |entry| self.entries[entry]);
        let (frontier, known) = self.frontier;
        if offset < known {
            return below;
        }
        let below = below.max((known, frontier));
        let above = self
            .entries
            .get(after)
            .map_or(source.bytes.len() as u32, |&(_, at)| at);
        let found = bisect(source, offset, below, above);
        if found.1 - below.1 >= INDEX_BYTES {
            self.entries.insert(after, found);
        }
        found
    }

    fn open_gap(&mut self, gap: Gap) -> Gap {
        self.entries
            .retain(|&(_, at)| at < gap.from || at >= gap.to);
        self.gaps.push(gap);
        gap
    }
}

/// Halve the way between a record at or before `offset` and a place behind it until a hop is short enough.
/// Only intact records are believed. Where there are none, in damage or behind the end, the lower half is
/// taken: that is right behind the end, and in damage the hop is longer.
fn bisect(source: Source<'_>, offset: u64, below: (u64, u32), above: u32) -> (u64, u32) {
    let (mut below, mut above) = (below, above);
    while above.saturating_sub(below.1) > INDEX_BYTES {
        let middle = (below.1 + (above - below.1) / 2).next_multiple_of(8);
        let places = middle..above.min(middle.saturating_add(SKIM_BYTES));
        match find_within(source.bytes, places, source.salt, below.0) {
            Some(found) if found.base <= offset => below = (found.base, found.at),
            _ => above = middle,
        }
    }
    below
}

/// The gap that begins at `from`: up to the next intact record, or to the end of the segment.
fn gap_from(source: Source<'_>, from: u32, first: u64) -> Gap {
    let found =
        find(source.bytes, from + 8, source.salt, first).filter(|found| found.base <= source.next);
    let end = source.bytes.len() as u32;
    let (to, next) = found.map_or((end, source.next.max(first)), |found| {
        (found.at, found.base)
    });
    Gap {
        from,
        to,
        first,
        next,
    }
}
