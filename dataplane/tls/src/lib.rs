//! Tunnels: an encrypted connection as bytes in and bytes out, the certificate a node shows, and whom a client trusts.
//!
//! The only room that knows rustls. It opens no socket and knows no frame: what comes out of a [`Tunnel`] is plaintext as a plain
//! connection would bring it, and the exporter value that binds HELLO and the session's keys to it (`PROTOCOL.md`, section 4).
//! [`Served`] and the rustls configuration made of it serve every transport that speaks TLS.

mod asking;
mod caught;
mod certificate;
mod cryptography;
mod frames;
mod http;
mod link;
mod records;
mod served;
mod server;
mod shaking;
mod trust;
mod tunnel;
mod validity;

pub use asking::{Asking, AskingFault, SHOWN_BYTES_MAX, Shown, Taken};
pub use certificate::{Certificate, CertificateFault, Fingerprint, certificates};
pub use http::{HTTP, HttpServer};
pub use link::{LINK_PROTOCOL, LinkClient, LinkServer};
pub use rustls;
pub use served::Served;
pub use server::{Server, Terms, alert_of};
pub use trust::{Client, Trust, TrustFault};
pub use tunnel::{Broken, Tunnel};
pub use validity::Validity;

/// The application protocol that both sides must agree on (ALPN).
pub const PROTOCOL: &[u8] = b"forebay/1";
/// The label of the exporter value.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-forebay-session-1";
/// Bytes of an exporter value.
pub const EXPORTER_BYTES: usize = 32;
