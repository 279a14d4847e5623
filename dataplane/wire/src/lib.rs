//! Bytes to types: the Forebay protocol, version 1, as `PROTOCOL.md` beside this crate states it.
//!
//! Everything here is a pure function of its arguments. This room knows no clock, no disk, no socket
//! and no source of randomness; parsing and verifying a SEND allocates nothing.

pub mod limits;

pub mod ids;

pub mod preface;

mod frame_error;

pub mod frame;

pub mod message;

pub mod handshake;

pub mod send;

pub mod ack;

pub mod datagram;

pub mod delivery;

pub mod home;

pub mod link;

pub mod reason;

pub mod diagnosis;

pub mod signature;

pub mod token;

pub mod route;

pub use diagnosis::Diagnosis;
pub use frame::{Frame, FrameKind, ParseError, SignatureKind, frame_bytes, split};
pub use ids::*;
pub use reason::{Notice, Reason};
