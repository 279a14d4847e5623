//! The load generator: open-loop load, read-back verification, honest reports.
//!
//! Due times are fixed before the run ([`schedule`]); latency counts from them, however late a message was sent. Every
//! message carries evidence ([`stamp`]), is read back through the receiving endpoints and booked ([`verify`]). A run
//! that missed its rate, or whose own lateness is a notable share of what it measured, is void ([`report`]).
//!
//! [`run`] is all a caller needs. The protocol's logic lives in `client`, bytes travel over `ring` or, for QUIC, over quinn; nothing here knows
//! the inside of a server.

pub mod activity;
pub mod cost;
pub mod diagnosis;
mod dial;
pub mod engine;
pub mod histogram;
pub mod host;
mod inflow;
pub mod payload;
pub mod plan;
pub mod progress;
pub mod report;
pub mod rows;
pub mod schedule;
mod socket;
pub mod stamp;
pub mod verify;

pub use activity::Activity;
pub use client::{Fingerprint, Identity, Security, Transport, Trust};
pub use engine::run;
pub use payload::{BodySizes, PayloadSource};
pub use plan::{LoadOptions, LoadPlan, Others, ReceiverCredential, SenderCredential, ServerCpu};
pub use progress::{Progress, Quiet, Snapshot, for_terminal};
pub use report::{Report, Verdict};
pub use schedule::Arrival;
