//! How segments follow each other: which of them may have been open, and where the log ends.

use crate::log::SegmentId;
use crate::scan::Extent;

/// What one segment says of its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) salt: u64,
    pub(crate) base: u64,
    /// Salt of the segment before; `None` when the header is unreadable.
    pub(crate) previous: Option<u64>,
    /// The header may have been caught half written.
    pub(crate) torn: bool,
}

impl Link {
    /// Whether `before` is not the segment this one was begun after.
    pub(crate) fn misses(&self, before: &Self) -> bool {
        self.previous
            .is_some_and(|previous| previous != before.salt)
    }
}

/// What recovery must look at and keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The first segment that may not have been synced whole; those before it are sealed.
    pub(crate) open_from: usize,
    /// Segments that are part of the log; those after it follow a torn tail and never held anything
    /// that was committed.
    pub(crate) keep: usize,
}

/// Decide over segments sorted by base. `spares` are the ids of files that are spares now: a segment that
/// names one of them as its predecessor follows one whose header the crash has taken. `scan` reads a
/// segment in full and is asked for open ones only.
pub(crate) fn decide(
    links: &[Link],
    spares: &[SegmentId],
    mut scan: impl FnMut(usize) -> Extent,
) -> (Chain, Vec<Extent>) {
    let mut extents = Vec::new();
    let mut open_from = links.len();
    while open_from > 0 {
        open_from -= 1;
        let extent = scan(open_from);
        let synced = extent.commit > 0;
        extents.push(extent);
        if synced {
            // A commit that covered any byte of this segment covered all segments before it.
            break;
        }
    }
    extents.reverse();
    let undone = |link: &Link| {
        link.previous
            .is_some_and(|previous| spares.contains(&SegmentId(previous)))
    };
    // Even the oldest may follow one that the crash has undone, if it was never synced itself.
    let adrift = extents.first().is_some_and(|oldest| {
        let link = &links[open_from];
        oldest.commit == 0 && (undone(link) || link.torn && link.base > 0)
    });
    let mut keep = if adrift {
        open_from
    } else {
        (open_from + 1).min(links.len())
    };
    while !adrift && keep < links.len() {
        let (before, this) = (&links[keep - 1], &links[keep]);
        let next = extents[keep - 1 - open_from].next;
        // A missing file is not a torn tail: what follows it stays.
        let missing = this.misses(before) && !undone(this) && this.base > next;
        if next != this.base && !missing {
            break;
        }
        keep += 1;
    }
    (Chain { open_from, keep }, extents)
}
