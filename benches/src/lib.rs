//! What the benches share: a clock, frames and a route table of production size made from fixed numbers,
//! and a shard with a disk beneath it. Knows no stage; each has its own file under `benches/`.

mod clock;
mod fixtures;
mod log;
mod node;

pub use clock::{ThreadCpu, criterion, minor_faults, thread_cpu, timed};
pub use fixtures::{
    BODY_BYTES, CHANNEL, HUB, MESSAGES_PER_FRAME, SENDER, put_frame, receiver, secret, sender,
    session_keys, table, wide_table,
};
pub use log::Disk;
pub use node::{Client, Node};
