//! Rebuilding what is known of the senders, without reading the whole log.

use crate::index::{Index, Source};
use crate::record::{Record, RecordKind};
use crate::recover::gather::Candidate;
use crate::scan::Extent;
use crate::segment::Segment;
use crate::sender::Senders;

/// Senders from the snapshot that begins the open segment and the records since. If that snapshot is
/// damaged, segments before it are read until one has a whole one.
pub(super) fn rebuild_senders<S: Segment>(found: &mut [Candidate<S>], open_from: usize) -> Senders {
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
