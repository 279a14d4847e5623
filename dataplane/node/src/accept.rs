//! Stage 1, accept: how connections of each transport reach the ring.

pub(crate) mod tcp;
pub(crate) mod tls;
