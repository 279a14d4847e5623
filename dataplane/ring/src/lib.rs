//! io_uring sockets behind a safe face: multishot accept and receive, buffer leases, ordered sends.
//!
//! One [`Ring`] belongs to one thread. It knows sockets, buffers and completions; it must never know
//! frames, sessions or partitions, and it owns no executor: the owner of the thread decides when to
//! [`Ring::poll`] and how to sleep.
//!
//! # Rules that keep it sound
//! - Memory the kernel may touch belongs to the ring or to a connection's slot and is freed only after
//!   the completion of the operation that used it. Cancelling is a request; only the completion frees.
//! - A received buffer is lent as a [`Lease`], which cannot be cloned. It returns to the kernel only
//!   through `&mut Ring`, so no slice of it can still be borrowed then.
//! - [`Event::Closed`] or [`Event::Detached`] comes last and once for each connection, after every completion
//!   of it; the slot is used again only afterwards, with a new generation.
//!
//! # Hand-over
//! A connection may leave one ring and join another, on whatever thread: [`Ring::detach`], then
//! [`Event::Detached`] with a [`Socket`], which is `Send`, then [`Ring::adopt`]. Bytes are told by the ring
//! that received them, each once; the connection's order is that of the first ring's events, then the
//! second's. What is in the kernel's buffer meanwhile waits there.
//!
//! # Sleeping
//! Under `DEFER_TASKRUN` completions appear only after the ring was entered, and the ring's own
//! descriptor must never be polled. Asynchronous owners [`Ring::poll`] until it returns 0, then await
//! [`Ring::eventfd`]. Plain threads alternate [`Ring::take`] and [`Ring::wait`], which submits what was
//! prepared and sleeps in one system call. Both are woken by completions and by a [`Waker`]; both may
//! wake for nothing, so look again and tolerate 0. An owner does one or the other: once it has called
//! `wait`, completions no longer write the eventfd.
#![allow(
    unsafe_code,
    reason = "the ring shares memory with the kernel; every block states why it is sound"
)]

mod accept;
mod buffers;
mod connection;
mod counters;
mod cycles;
mod datagrams;
mod error;
mod event;
mod features;
mod handover;
mod kernel;
mod ledger;
mod limits;
mod receive;
mod ring;
mod send;
mod slab;
pub mod sleep;
mod socket;
mod sync;
mod token;
mod waiting;
mod waker;

pub use buffers::Lease;
pub use counters::Counters;
pub use cycles::cycles;
#[cfg(any(test, feature = "fuzzing"))]
pub use datagrams::fuzzing;
pub use datagrams::{DatagramLimits, Datagrams, Route, Train, steer_by_connection_id};
pub use error::RingError;
pub use event::{CloseCause, ConnectionId, Event, ListenerId};
pub use features::{Feature, Features};
pub use handover::Socket;
pub use limits::{Environment, RingLimits, ensure_open_files};
pub use ring::Ring;
pub use waker::Waker;
