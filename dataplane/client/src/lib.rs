//! The Rust SDK of Forebay: send signed messages and take deliveries from an endpoint's queue.
//!
//! [`connect`] proves who the endpoint is and opens a session. An ingress credential gives a [`Sender`], an egress
//! credential a [`Receiver`]; both keep their session over dropped connections: what was not acked is sent again from
//! where the server stopped, and what the application already holds is not handed out twice.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use client::{Credentials, Message};
//! let credentials = Credentials::key("acme/prod/sensor-7", 1, &std::env::var("FOREBAY_KEY")?)?;
//! let sender = client::connect("127.0.0.1:7420", credentials).await?.sender()?;
//! let ticket = sender.send("acme/prod/readings", Message::new("21.5")).await?;
//! println!("{}", ticket.await?);
//! sender.close().await?;
//! # Ok(()) }
//! ```
//!
//! Over networks that others share, say so in [`Options::transport`]: the session then runs through TLS, or through QUIC with the
//! feature `quic`, to a server that shows a certificate which is trusted: by an authority, by its fingerprint, or by the roots of
//! the machine.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use client::{Credentials, Options, Security, Transport};
//! let trust = Security::authority(std::fs::read("ca.pem")?);
//! let options = Options { transport: Transport::Tls(trust), ..Options::default() };
//! let credentials = Credentials::key("acme/prod/sensor-7", 1, &std::env::var("FOREBAY_KEY")?)?;
//! let sender = client::connect_with("node.example:7413", credentials, options).await?.sender()?;
//! # Ok(()) }
//! ```
//!
//! Sessions of several endpoints share a QUIC connection when each is opened by [`Connection::another`]; where losing a message is better than
//! waiting for it, [`Connection::datagrams`] sends in datagrams.
//!
//! [`handshake`], [`outbox`] and [`inbox`] hold the protocol without socket or clock; the rest carries their bytes over
//! tokio. This crate knows the wire format only through `wire`, TLS only through
//! `tls` and quinn, and nothing of the server.

pub mod credentials;
#[cfg(feature = "quic")]
mod datagrams;
pub mod diagnosis;
#[cfg(feature = "fake")]
pub mod fake;
pub mod handshake;
pub mod inbox;
mod link;
mod message;
pub mod outbox;
mod receiver;
mod sender;
pub mod transport;

pub use credentials::Credentials;
#[cfg(feature = "quic")]
pub use datagrams::{Asked, Datagrams};
pub use diagnosis::ClientError;
pub use inbox::Settlement;
pub use link::{Connection, Options, connect, connect_with};
pub use message::{Delivery, Message};
pub use outbox::{Receipt, Rejected};
pub use receiver::{FetchOptions, Receiver};
pub use sender::{Sender, Ticket};
pub use tls::{Fingerprint, Trust};
pub use transport::{Home, Identity, Security, Transport};
pub use wire::delivery::Source;
