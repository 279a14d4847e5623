//! Private per-endpoint queues of deliveries, and the journal that makes them survive.
//!
//! A queue is an ordered list of runs (partition, first offset, count); payloads stay in the
//! partitions. The queues of endpoints whose id falls on the same group share one journal log. A
//! queue knows numbers and places; it must never know sessions, frames or signatures.
//!
//! Rules, in one place:
//! - Everything that changes a queue is an operation (`op`); the same code applies it live and when
//!   a journal is replayed.
//! - One journal transaction holds the runs that a batch of committed records added **and** the
//!   watermarks behind them, so a crash loses no message and adds none twice.
//! - A number is delivered only when its run is as safe as the group's ack mode asks, so no number is
//!   ever given to two messages.
//! - A queue that is full parks: it remembers its place in the log and reads on from there when it
//!   has room, filtered by the grants its endpoint has then. Order per sender holds, because from the
//!   moment of parking everything of that partition waits behind that place.

mod backlog;
mod bounds;
mod catch_up;
mod counters;
mod endpoint;
mod expire;
mod fan_out;
mod group;
mod journal;
mod limits;
mod op;
mod queues;
mod recover;
mod run;
mod settle;
mod settled;
mod snapshot;
mod weight;

pub use backlog::Piece;
pub use counters::QueueCounters;
pub use expire::SkipReason;
pub use fan_out::{FanOut, Span};
pub use group::{Depth, QueueGroup};
pub use limits::QueueLimits;
pub use op::Source;
pub use recover::{LogEnd, QueueRecovery};
pub use run::Run;
pub use settle::{Expired, Rewind, SettleError};

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod recover_tests;
#[cfg(test)]
mod test_plan;
