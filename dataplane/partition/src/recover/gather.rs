//! What lies in a log's folder: live segments, spares, and what has become unreadable.

use wire::ids::{Offset, Position};

use crate::chain::Link;
use crate::log::{SegmentId, SegmentRef};
use crate::recover::Recoverer;
use crate::scan::{Damage, DamageKind, Extent, Headers, Judged, START, extent};
use crate::segment::{SEGMENT_VERSION, Segment, SegmentHeader};
use crate::storage::{SegmentFile, Storage, StorageError};
use crate::vouch::Vouched;

/// A live segment on its way into the log.
pub(super) struct Candidate<S> {
    pub(super) segment: S,
    pub(super) link: Link,
    pub(super) created: u64,
    pub(super) extent: Option<Extent>,
    /// How far the log was on disk.
    pub(super) vouched: Option<Vouched>,
}

impl<S: Segment> Candidate<S> {
    pub(super) fn whole(&self) -> &[u8] {
        self.segment.bytes(0..self.segment.capacity())
    }

    pub(super) fn read(&self) -> Extent {
        extent(self.whole(), self.link.salt, self.link.base, self.vouched)
    }

    /// Whether it holds no message and no damage.
    fn is_empty(&self) -> bool {
        let extent = self.read();
        extent.next == self.link.base && extent.gaps.is_empty() && extent.cut_records == 0
    }

    pub(super) fn scan(&mut self) -> &Extent {
        if self.extent.is_none() {
            self.extent = Some(self.read());
        }
        self.extent.as_ref().expect("it was filled in above")
    }
}

impl<T: Storage> Recoverer<'_, T> {
    /// Sort the files into live segments, by base offset, and spares.
    pub(super) fn gather(&mut self) -> Result<Vec<Candidate<T::Segment>>, StorageError> {
        let (mut found, mut headers) = (Vec::new(), Headers::new(self.vouched));
        let files = self.storage.list(self.log)?;
        let parse = |file: &SegmentFile| SegmentHeader::parse(&file.header, self.log, file.bytes);
        let parsed: Vec<SegmentHeader> = files.iter().map(parse).collect();
        for (file, &header) in files.iter().zip(&parsed) {
            headers.add(file.id, header);
        }
        for (file, &header) in files.iter().zip(&parsed) {
            let segment = self.storage.open(self.log, file)?;
            let whole = segment.bytes(0..segment.capacity());
            let judged = headers.judge(file.id, header, whole);
            self.take(file, segment, judged, &mut found)?;
        }
        // Of two with the same base the last one stays: one with a header, if there is one.
        found.sort_by_key(|candidate| {
            let link = &candidate.link;
            (link.base, link.previous.is_some(), candidate.created)
        });
        while let Some(twin) = found
            .windows(2)
            .position(|pair| pair[0].link.base == pair[1].link.base)
        {
            // One that holds nothing was given up for a longer one.
            if let Some(empty) = (twin..twin + 2).find(|&number| found[number].is_empty()) {
                let empty = found.remove(empty);
                self.drop_torn(empty)?;
            } else {
                let spare = found.remove(twin);
                self.report_whole(&spare.segment, DamageKind::Unreadable);
            }
        }
        // Retention had given these up and could not give them back.
        while let Some(vouched) = self.vouched
            && found
                .get(1)
                .is_some_and(|next| next.link.base <= vouched.first)
        {
            let expired = found.remove(0);
            self.retire(expired.segment)?;
        }
        if let (Some(vouched), Some(oldest)) = (self.vouched, found.first_mut()) {
            vouched.begin(&mut oldest.link);
            let unreadable = |id| {
                let mut damage = self.report.damage.iter();
                damage.any(|d| d.segment.0 == id && d.kind == DamageKind::Unreadable)
            };
            let link = oldest.link;
            if let Some(offsets) = vouched.in_front(&link, unreadable) {
                self.missing(SegmentId(link.previous.unwrap_or_default()), offsets);
            }
        }
        Ok(found)
    }

    fn take(
        &mut self,
        file: &SegmentFile,
        segment: T::Segment,
        judged: Judged,
        found: &mut Vec<Candidate<T::Segment>>,
    ) -> Result<(), StorageError> {
        let (salt, now) = (file.id.0, self.now.0);
        let (link, created) = match judged {
            Judged::Spare => {
                self.unused.push(file.clone());
                return Ok(());
            }
            Judged::Unreadable => {
                self.report_whole(&segment, DamageKind::Unreadable);
                return Ok(());
            }
            Judged::Foreign { version } => {
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
            Judged::Live {
                salt,
                base,
                previous,
                created,
                capacity,
            } => {
                self.note_truncation(&segment, capacity);
                (
                    Link {
                        salt,
                        base,
                        previous: Some(previous),
                        torn: false,
                    },
                    created,
                )
            }
            // Without a header the file's name gives the salt, and the first record under it the place.
            Judged::Headless { base, damaged } => {
                if damaged {
                    self.report_header(segment.id());
                }
                (
                    Link {
                        salt,
                        base,
                        previous: None,
                        torn: !damaged,
                    },
                    now,
                )
            }
        };
        found.push(Candidate {
            segment,
            link,
            created,
            extent: None,
            vouched: self.vouched,
        });
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

    pub(super) fn report_header(&mut self, segment: SegmentId) {
        self.damaged(
            segment,
            DamageKind::Header,
            Position(0)..Position(START),
            Offset(0)..Offset(0),
        );
    }

    fn report_whole(&mut self, segment: &T::Segment, kind: DamageKind) {
        let positions = Position(0)..Position(segment.capacity() as u32);
        self.damaged(segment.id(), kind, positions, Offset(0)..Offset(0));
    }

    pub(super) fn damaged(
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
}
