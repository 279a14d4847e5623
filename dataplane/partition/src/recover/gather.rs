//! What lies in a log's folder: live segments, spares, and what has become unreadable.

use wire::ids::{Offset, Position};

use crate::chain::Link;
use crate::log::{SegmentId, SegmentRef};
use crate::recover::Recoverer;
use crate::scan::{Damage, DamageKind, Extent, Headless, START, extent, headless};
use crate::segment::{SEGMENT_VERSION, Segment, SegmentHeader};
use crate::storage::{SegmentFile, Storage, StorageError};

/// A live segment on its way into the log.
pub(super) struct Candidate<S> {
    pub(super) segment: S,
    pub(super) link: Link,
    pub(super) created: u64,
    pub(super) extent: Option<Extent>,
}

impl<S: Segment> Candidate<S> {
    pub(super) fn whole(&self) -> &[u8] {
        self.segment.bytes(0..self.segment.capacity())
    }

    pub(super) fn read(&self) -> Extent {
        extent(self.whole(), self.link.salt, self.link.base)
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
        let mut found = Vec::new();
        for file in self.storage.list(self.log)? {
            match SegmentHeader::parse(&file.header, self.log, file.bytes) {
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
        // Of two with the same base the last one stays: one with a header, if there is one.
        found.sort_by_key(|candidate| {
            let link = &candidate.link;
            (link.base, link.previous.is_some(), candidate.created)
        });
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
                    self.report_header(segment.id());
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
