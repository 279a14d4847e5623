//! Stage 1, accept: how connections of each transport reach the ring.

pub(crate) mod quic;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod udp;
