//! Retention: which segments have had their time.

use wire::ids::{Offset, UnixNanos};

use crate::partition::Partition;
use crate::segment::Segment;

impl<S: Segment> Partition<S> {
    /// Keep every segment with a message at or after `offset`, whatever the limits say; `None` lifts it.
    pub fn set_hold(&mut self, offset: Option<Offset>) {
        self.hold = offset;
    }

    /// One segment that is to be retired: the oldest if it is beyond the bounds in bytes or age, or a
    /// spare that is not needed. Never the open one, never one that is held or not committed.
    /// Call again until `None`, and retire in the order given.
    pub fn expire(&mut self, now: UnixNanos) -> Option<S> {
        let beyond_bytes = self
            .limits
            .retention_bytes
            .is_some_and(|bytes_max| self.bytes() > bytes_max);
        if beyond_bytes || self.oldest_is_old(now) {
            return self.retire_oldest(self.hold).or_else(|| self.surplus.pop());
        }
        self.surplus.pop()
    }

    /// One segment that lies wholly before `offset`, or an unneeded spare, to be retired. For logs whose
    /// owner knows what it still needs.
    pub fn expire_before(&mut self, offset: Offset) -> Option<S> {
        let limit = self.hold.map_or(offset, |hold| hold.min(offset));
        self.retire_oldest(Some(limit))
            .or_else(|| self.surplus.pop())
    }

    fn oldest_is_old(&self, now: UnixNanos) -> bool {
        // Nothing in a segment is younger than the creation of the next one.
        let (Some(age), Some(next)) = (self.limits.retention_age, self.segments.get(1)) else {
            return false;
        };
        u128::from(next.created) + age.as_nanos() <= u128::from(now.0)
    }

    fn retire_oldest(&mut self, limit: Option<Offset>) -> Option<S> {
        let (oldest, follower) = (self.segments.front()?, self.segments.get(1)?);
        let next = follower.base;
        // The follower's snapshot must be on disk before the segments that it sums up may go.
        let settled =
            oldest.synced >= oldest.end && follower.synced > 0 && next <= self.commit.committed.0;
        let free = limit.is_none_or(|limit| next <= limit.0);
        if !settled || !free {
            return None;
        }
        let oldest = self.segments.pop_front()?;
        // Should giving it back fail, the next start must not take it for part of the log.
        if let Some(vouch) = &mut self.vouch {
            vouch.write_first(self.log, next);
        }
        self.returning += 1;
        Some(oldest.segment)
    }
}
