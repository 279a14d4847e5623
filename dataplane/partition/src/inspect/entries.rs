//! Every record of a log in order, and damage where it lies, for those who only look.

use wire::ids::{Offset, Position};

use super::{Entry, LogView, Part};
use crate::record::peek;
use crate::scan::{Damage, DamageKind, START, find};

/// See [`LogView::entries`].
pub struct Entries<'a> {
    pub(super) view: &'a LogView,
    pub(super) part: usize,
    /// Position and offset in the current part; `None` at its start.
    pub(super) cursor: Option<(u32, u64)>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        while self.part < self.view.live {
            let part = &self.view.parts[self.part];
            let (at, next) = self.cursor.unwrap_or((START, part.link.base));
            if let Some((entry, cursor)) = self.step(part, at, next) {
                self.cursor = Some(cursor);
                return Some(entry);
            }
            (self.part, self.cursor) = (self.part + 1, None);
        }
        None
    }
}

impl<'a> Entries<'a> {
    fn step(&self, part: &'a Part, at: u32, next: u64) -> Option<(Entry<'a>, (u32, u64))> {
        let (bytes, salt) = (part.bytes(), part.link.salt);
        let (end, last) = match &part.extent {
            Some(extent) => (extent.end, extent.next),
            None => (bytes.len() as u32, part.info.offsets.end.0),
        };
        let sealed = part.extent.is_none();
        if at >= end && next >= last {
            return None;
        }
        let here = peek(bytes, at, salt).filter(|found| found.base == next && found.end <= end);
        if let Some(found) = here.filter(|found| found.intact(bytes, salt)) {
            return Some((
                Entry::Record(found.view(bytes, part.info.id)),
                (found.end, found.next),
            ));
        }
        if sealed && next >= last {
            // Behind the last message of a sealed segment there is only unused space.
            return None;
        }
        let found = find(bytes, at + 8, salt, next).filter(|found| found.at < end);
        let (to, base) = found.map_or((end, last), |found| (found.at, found.base));
        let damage = Damage {
            log: self.view.log,
            segment: part.info.id,
            kind: DamageKind::Records,
            positions: Position(at.min(to))..Position(to),
            offsets: Offset(next)..Offset(base),
        };
        Some((Entry::Damage(damage), (to, base)))
    }
}
