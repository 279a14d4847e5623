//! The link between a control plane and its nodes: how route tables come to processes that are not the control plane's own.
//!
//! Nodes connect; both sides show certificates of one authority ([`tls::LinkServer`], [`tls::LinkClient`]); then frames go both ways, as
//! [`frame`] draws them. A [`Fleet`] is control's side: it knows which table each node has, and sends each what it lacks, as deltas where
//! it still has them, as a snapshot otherwise. A link that one [`follow()`]s is a node's side: whatever comes is given to a [`Holder`], which knows
//! what a table is and hands it to shards. This room does not: to it a snapshot and a delta are bytes with a version before and after.
//!
//! ```text
//! node                                              control
//!  HELLO {version, name, shards, has} ------------>  is the name known, and the certificate's?
//!                 <------------ WELCOME {heartbeat}   or REFUSED {code, text}
//!                 <-- BEGIN {snapshot | delta, base, becomes, bytes}, CHUNK ...
//!  APPLIED {has, kept, refused, shards} ---------->  and again at every heartbeat
//!                 <------------ PING {newest, answers} at every heartbeat
//!  RESYNC {code} --------------------------------->  a gap or a wrong digest: a snapshot follows
//! ```
//!
//! Whoever hears nothing for [`frame::SILENT_HEARTBEATS`] heartbeats gives the connection up; the node connects again.

pub mod diagnosis;
pub mod frame;

mod answered;
mod assembly;
mod credentials;
mod fleet;
mod follow;
mod freshness;
mod history;
mod keeper;
mod kept;
mod listen;
mod pipe;
mod reader;
mod strangers;
mod tell;
#[cfg(test)]
mod tests;
mod worker;
mod written;

pub use credentials::Credentials;
pub use fleet::{Fleet, NodeProgress, NodeSeen};
pub use follow::{Follow, Followed, follow};
pub use frame::{Lineage, Unopened, Version};
pub use freshness::{Freshness, Moment};
pub use history::{Bytes, Delta, Newest, Snapshot};
pub use kept::{Kept, KeptTable};
pub use listen::{Listening, listen};
pub use tell::{Level, Tell};
pub use worker::{AskUnopened, Holder, Unfit};
