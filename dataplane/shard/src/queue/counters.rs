//! What a queue group counts; all since the start.

/// Counters of one queue group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Messages that joined a queue (once per endpoint).
    pub added: u64,
    /// Messages that joined a queue late, read from the log after parking.
    pub caught_up: u64,
    /// Times that a queue was full and parked.
    pub parked: u64,
    /// Messages given up because a full queue keeps the newest.
    pub dropped: u64,
    /// Messages settled by their endpoint.
    pub settled: u64,
    /// Messages that passed their age or their partition's retention.
    pub expired: u64,
    /// Messages skipped because the grant was withdrawn.
    pub withdrawn: u64,
    /// Messages skipped because their record is damaged.
    pub damaged: u64,
    /// Messages that became dead letters.
    pub buried: u64,
    /// Dead letters given up because there are too many.
    pub dead_dropped: u64,
    /// Times that delivery went back to the first unsettled message.
    pub rewinds: u64,
    /// Of those, because a lock expired.
    pub locks_expired: u64,
    /// Settlements that the journal had no room for; they hold until the next crash.
    pub unjournaled: u64,
    /// Fan-out calls refused because the journal had no room.
    pub paused: u64,
    /// Journal records written.
    pub journal_records: u64,
    /// Snapshots completed.
    pub snapshots: u64,
}
