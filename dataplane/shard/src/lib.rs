//! One core's logic: bytes of many connections in, records in partition logs, deliveries out.
//!
//! A shard reads no clock, opens nothing, awaits nothing and draws no random numbers; a sequence of
//! inputs always gives the same outputs, so a seed replays any failure. [`Shard::turn`] takes one
//! bounded batch through the stages in order; each stage is one file.

/// An empty vector in the memory of another one, whose elements borrowed for a shorter time.
macro_rules! recycled {
    ($vector:expr) => {{
        let mut vector = $vector;
        vector.clear();
        vector
            .into_iter()
            .map(|_| unreachable!("it was just emptied"))
            .collect()
    }};
}

mod bans;
mod budget;
pub mod counters;
mod cycles;
#[cfg(test)]
mod empty;
mod hashed;
mod hottest;
mod hubs;
mod io;
mod limits;
pub mod planted;

mod connection;
mod hand_over;
mod handshake;
mod log;
mod mesh;
mod nonces;
mod peers;
mod places;
mod relief;
mod session;
mod sign;
mod strangers;
mod terms;
mod timers;
mod welcome;

mod assemble;
mod assembly;
mod parse;
mod verify;

mod route;

mod across;
mod append;
mod away;
mod datagram;
mod guest;
mod waiting;

mod acknowledge;
mod commit;

mod fanout;
mod reading;

mod consume;
mod deliver;

pub mod queue;

mod ownership;

mod tables;
mod turn;

pub use append::AppendError;
pub use away::{Answered, Batch};
pub use bans::{BanLimits, Banned, Barred, NewBan};
pub use budget::{Memory, MemoryStatus, Pressure};
pub use commit::Committed;
pub use consume::DeliverError;
pub use counters::Counters;
pub use cycles::Stage;
#[cfg(feature = "cycles")]
pub use cycles::StageCycles;
pub use handshake::HandshakeError;
pub use hashed::HashSeed;
pub use hottest::{HALF_LIFE, Hot, Hottest, PLACES, Ranking};
pub use hubs::{NewHubs, end_of};
pub use io::{
    ConnectionId, Datagram, HandOver, Input, Now, Opened, Outgoing, Output, Received, Sent, Shown,
    StorageEvent, StorageRequest, Tunnel,
};
pub use limits::{Limits, LimitsError};
pub use mesh::Peer;
pub use ownership::Ownership;
pub use parse::ParseError;
pub use reading::LogReader;
pub use relief::Reading;
pub use route::RouteError;
pub use strangers::share;
pub use turn::Shard;
pub use verify::VerifyError;
