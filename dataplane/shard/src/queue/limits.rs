//! The bounds of a queue group.

use wire::ids::AckMode;

use crate::hashed::HashSeed;

/// Bounds on memory and on the work of one call.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Runs that one list holds in memory (40 bytes each); more park, or drop the oldest.
    pub runs_max: usize,
    /// Intervals settled ahead of the first unsettled message of one list.
    pub settled_max: usize,
    /// Messages of one list whose failed deliveries are counted apart.
    pub charges_max: usize,
    /// Operations that may wait for the journal (56 bytes each).
    pub pending_max: usize,
    /// Operations in one journal record.
    pub record_ops_max: usize,
    /// Operations after which a fan-out call stops; it always takes at least one span.
    pub batch_ops_max: usize,
    /// Dead letters kept for one endpoint; more drop the oldest.
    pub dead_letters_max: u64,
    /// Records that one catch-up call reads.
    pub catch_up_records_max: usize,
    /// Queues that one expiry call looks at.
    pub sweep_queues_max: usize,
    /// Journal bytes after which a new snapshot of the queues is begun.
    pub snapshot_every_bytes: u64,
    /// Operations of a snapshot that one call writes; it always writes at least one queue.
    pub snapshot_ops_max: usize,
    /// `Durable`: a message is delivered when its run is synced. `Local`: when it is in the journal;
    /// a power cut may then give a number to another message.
    pub ack: AckMode,
    /// Memory is short: a list parks with 64 runs, also one that otherwise drops what is oldest. Nothing is lost by it.
    pub tight: bool,
    /// As [`Limits::hash_seed`](crate::Limits).
    pub hash_seed: HashSeed,
}

/// Runs of a list that parks, while memory is short.
pub(super) const TIGHT_RUNS_MAX: usize = 64;

impl QueueLimits {
    /// Runs of a list beyond which it parks.
    pub(crate) fn park_runs_max(&self) -> usize {
        match self.tight {
            true => self.runs_max.min(TIGHT_RUNS_MAX),
            false => self.runs_max,
        }
    }
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            runs_max: 4_096,
            settled_max: 4_096,
            charges_max: 64,
            pending_max: 16_384,
            record_ops_max: 1_024,
            batch_ops_max: 4_096,
            dead_letters_max: 10_000,
            catch_up_records_max: 1_024,
            sweep_queues_max: 64,
            snapshot_every_bytes: 8 * 1024 * 1024,
            snapshot_ops_max: 1_024,
            ack: AckMode::Durable,
            tight: false,
            hash_seed: HashSeed::default(),
        }
    }
}
