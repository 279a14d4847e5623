//! Stage 1, accept: how connections come in. One file for each transport; what they give is bytes.

pub(crate) mod tcp;
