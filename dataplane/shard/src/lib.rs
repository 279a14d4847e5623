//! One core's logic: bytes of many connections in, records in partition logs, deliveries out.
//!
//! A shard reads no clock, opens nothing, awaits nothing and draws no random numbers; a sequence of
//! inputs always gives the same outputs, so a seed replays any failure. `Shard::turn` takes one
//! bounded batch through the stages in order; each stage is one file.

pub mod counters;
mod io;
mod limits;
pub mod planted;
pub mod queue;

pub use counters::Counters;
pub use io::{
    ConnectionId, Input, Now, Opened, Outgoing, Output, Received, Sent, StorageEvent,
    StorageRequest,
};
pub use limits::{Limits, LimitsError};
