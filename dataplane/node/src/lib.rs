//! One process of the data plane: configuration, data folder, sockets, files, executor and admin port around one shard.
//!
//! The only room that knows glommio. It decides nothing about messages: it brings bytes, time and finished I/O to the shard and
//! carries out what the shard asks for.

pub mod config;
pub mod diagnosis;
