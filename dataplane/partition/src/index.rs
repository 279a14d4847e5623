//! The sparse index of one segment: where to start looking for an offset. Built while appending; for
//! sealed segments lazily, by hopping over headers as far as readers ask.

use crate::record::{Found, peek};
use crate::scan::{Gap, START, find};

/// Distance between two entries, at least. A look-up hops over this many bytes at most.
pub(crate) const INDEX_BYTES: u32 = 16 << 10;

/// Where records of one segment are.
#[derive(Debug)]
pub(crate) struct Index {
    base: u64,
    /// Offset and position of some records, ascending in both.
    entries: Vec<(u64, u32)>,
    /// How far the index knows the segment: position and offset of the next record.
    frontier: (u32, u64),
    /// The record before the frontier, while nothing after it has confirmed its length and count.
    previous: Option<Found>,
    gaps: Vec<Gap>,
    /// Offset and position after the last record found: where a sequential reader asks next.
    hint: (u64, u32),
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
            previous: None,
            gaps: Vec::new(),
            hint,
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
        self.gaps.iter().find(|gap| gap.from == at).copied()
    }

    fn jump(&mut self, gap: Gap) {
        self.frontier = (gap.to, gap.next);
        self.previous = None;
        self.entries.push((gap.next, gap.to));
    }

    /// Find the intact record that contains `offset`, extending the index as far as needed.
    pub(crate) fn locate(&mut self, source: Source<'_>, offset: u64) -> Result<Found, Unreadable> {
        loop {
            if offset >= self.frontier.1 {
                self.extend(source, offset);
            }
            if let Some(result) = self.hop(source, offset) {
                return result;
            }
        }
    }

    /// Hop from the nearest entry to `offset`; `None` when that taught something new about damage.
    fn hop(&mut self, source: Source<'_>, offset: u64) -> Option<Result<Found, Unreadable>> {
        let (mut next, mut at) = self.start(offset);
        while at < self.frontier.0 {
            if let Some(gap) = self.gap_at(at) {
                if offset < gap.next {
                    return Some(Err(Unreadable { next: gap.next }));
                }
                (next, at) = (gap.next, gap.to);
                continue;
            }
            match peek(source.bytes, at, source.salt).filter(|found| found.base == next) {
                Some(found) if offset >= found.next => (next, at) = (found.next, found.end),
                Some(found) if found.intact(source.bytes, source.salt) => {
                    self.hint = (found.next, found.end);
                    return Some(Ok(found));
                }
                _ => {
                    // Its header is not to be trusted either. If nothing has confirmed it yet, the
                    // frontier came from it and must be found again.
                    let gap = gap_from(source, at, next);
                    if self.previous.is_some_and(|previous| previous.at == at) {
                        self.open_gap(gap);
                        return None;
                    }
                    if offset < gap.next {
                        return Some(Err(Unreadable { next: gap.next }));
                    }
                    (next, at) = (gap.next, gap.to);
                }
            }
        }
        Some(Err(Unreadable {
            next: source.next.max(offset + 1),
        }))
    }

    fn start(&self, offset: u64) -> (u64, u32) {
        if self.hint.0 == offset && self.hint.1 <= self.frontier.0 {
            return self.hint;
        }
        let after = self.entries.partition_point(|&(first, _)| first <= offset);
        // Records of count 0 share their offset with the next one; entries may too, and any will do.
        after
            .checked_sub(1)
            .map_or((self.base, START), |entry| self.entries[entry])
    }

    /// Hop over headers until `offset` is passed or the segment ends; what does not fit is a gap.
    fn extend(&mut self, source: Source<'_>, offset: u64) {
        while self.frontier.1 <= offset && self.frontier.1 < source.next {
            let (at, next) = self.frontier;
            if let Some(gap) = self.gap_at(at) {
                self.jump(gap);
            } else if let Some(found) =
                peek(source.bytes, at, source.salt).filter(|found| found.base == next)
            {
                self.push(&found);
                self.previous = Some(found);
            } else {
                // The fault may be the length or count of the record that led here.
                let broken = self
                    .previous
                    .filter(|found| !found.intact(source.bytes, source.salt));
                let (from, first) = broken.map_or((at, next), |found| (found.at, found.base));
                self.open_gap(gap_from(source, from, first));
            }
        }
    }

    fn open_gap(&mut self, gap: Gap) {
        self.entries.retain(|&(_, at)| at < gap.from);
        self.gaps.push(gap);
        self.jump(gap);
    }
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
