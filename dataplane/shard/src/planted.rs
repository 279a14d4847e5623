//! Bugs planted on purpose, for the simulator to find. Without the feature `planted-bugs` every switch
//! is the constant `false` and costs nothing; no product build has the feature.

/// One planted bug each; at most one is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A durable append is acknowledged before its sync ended.
    AckBeforeSync,
    /// Every signature of a SEND is taken as good.
    SkipSignature,
    /// A journal transaction lacks the watermark of its partition.
    ForgetWatermark,
    /// A refused frame does not stop the frames after it, so the cumulative ack covers it.
    AckCoversRejected,
    /// A cumulative settlement covers one message too many.
    SettleOffByOne,
    /// A withdrawn grant does not stop deliveries.
    IgnoreGrants,
    /// A frame that was sent again after a reconnect is appended again.
    SkipDuplicateCheck,
    /// A receiver that comes back does not get again what was in flight.
    ResumeKeepsCursor,
    /// Locks never expire.
    IgnoreLocks,
    /// A queue keeps pointing at the lost tail of a partition.
    ForgetClamp,
    /// A snapshot of the queues leaves out where they are parked.
    SnapshotForgetsParked,
    /// A message is delivered before its queue number is durable.
    DeliverBeforeJournal,
    /// An envelope that was seen is appended again.
    SkipReplayWindow,
    /// A segment is given back to be written over while other shards may still look at it.
    RetireUnderReaders,
    /// News that find the way to another shard full are not told later.
    NewsLostWhenFull,
    /// Retention does not wait for one of the other shards.
    HoldForgetsPeer,
    /// A connection that is handed over loses what came of its HELLO in an earlier turn.
    HandOverForgetsStart,
    /// An envelope for another shard is acknowledged as soon as it is on its way.
    AckOnTheWay,
    /// A frame of another shard's session is acknowledged when it is appended, whatever its hub promises.
    AckOnArrival,
    /// A frame of another shard's session that is sent again after a reconnect is appended again.
    CrossesTwice,
    /// The owner of a log names numbers that are not committed yet to a session of another shard.
    WelcomeBeforeCommit,
    /// A session is resumed without the tunnel that it was begun in.
    SessionLeavesTunnel,
    /// A lane is handed over like a socket.
    LaneIsHandedOver,
}

impl Bug {
    /// Those that a node of one shard can have.
    pub const ALL: [Self; 14] = [
        Self::AckBeforeSync,
        Self::SkipSignature,
        Self::ForgetWatermark,
        Self::AckCoversRejected,
        Self::SettleOffByOne,
        Self::IgnoreGrants,
        Self::SkipDuplicateCheck,
        Self::ResumeKeepsCursor,
        Self::IgnoreLocks,
        Self::ForgetClamp,
        Self::SnapshotForgetsParked,
        Self::DeliverBeforeJournal,
        Self::SkipReplayWindow,
        Self::SessionLeavesTunnel,
    ];

    /// Those that only a node of several shards can have.
    pub const OF_SHARDS: [Self; 9] = [
        Self::RetireUnderReaders,
        Self::NewsLostWhenFull,
        Self::HoldForgetsPeer,
        Self::HandOverForgetsStart,
        Self::AckOnTheWay,
        Self::AckOnArrival,
        Self::CrossesTwice,
        Self::WelcomeBeforeCommit,
        Self::LaneIsHandedOver,
    ];
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static ACTIVE: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plant `bug` in this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        ACTIVE.set(bug);
    }

    /// Whether `bug` is planted.
    pub(crate) fn active(bug: Bug) -> bool {
        ACTIVE.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) use switch::active;
#[cfg(feature = "planted-bugs")]
pub use switch::plant;

/// Never, in this build.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub(crate) const fn active(_: Bug) -> bool {
    false
}
