//! Control: who may do what, written as a plan file and compiled into the route table shards follow.
//!
//! A plan names accounts, environments, hubs, channels, endpoints, keys, grants and restrictions. It is read
//! strictly: a name that is not known is refused with its line and the nearest name that is. Nothing here
//! opens a socket or a log; reading a file is the caller's business.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "serve")]
pub mod api;
pub mod compile;
pub mod diagnosis;
pub mod keys;
pub mod model;
pub mod nearest;
pub mod plan;
pub mod quantity;
pub mod render;
pub mod seal;
#[cfg(feature = "serve")]
pub mod service;
#[cfg(feature = "serve")]
pub mod store;
pub mod tidy;
pub mod token;

pub use plan::{compile, compile_epoch};
