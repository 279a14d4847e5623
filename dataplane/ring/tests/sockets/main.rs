//! The ring against real sockets of this machine.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod accepting;
mod backpressure;
mod batching;
mod datagrams;
mod echo;
mod endings;
mod handing_over;
mod support;
mod syncing;
mod waking;
