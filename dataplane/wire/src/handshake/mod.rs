//! The handshake: HELLO from the client, WELCOME or REFUSED from the server. One round trip.

mod hello;
mod welcome;

pub use hello::{Auth, HELLO_BYTES_MAX, Hello, HelloFields, encode_hello};
pub use welcome::{
    Entries, Welcome, WelcomeEntry, WelcomeFields, encode_refused, encode_welcome, parse_refused,
};
